"""pretrain: shards -> crops -> student and teacher -> losses -> weights. The artefact is a run folder.

Stage 1 and stage 2 are this verb with two files: the diff of the files describes stage 2.
"""

from __future__ import annotations

from pathlib import Path

from braindino.config import from_dict, to_dict
from braindino.corpus.shards import Corpus, open_corpus
from braindino.pretraining.config import PretrainConfig
from braindino.progress import progress
from braindino.record import claimed, fingerprint, is_done, read_record, write_bytes, write_record


def pretrain(config: PretrainConfig, out: Path) -> Path:
    """Train by self-distillation and write `encoder.safetensors` (EMA teacher with its input recipe).

    Also written: `teacher.safetensors` (with the projection heads, for a next stage), `log.jsonl`, `checkpoints/`.
    A killed run goes on from its newest intact checkpoint to the same result; a finished one is not repeated.

    Raises:
        ValueError: no corpus, an `initial` run that does not fit, another run in `out` or a process
            that is writing there, a loss that is not finite.
    """
    import torch

    from braindino.model.weights import save_encoder
    from braindino.pretraining.batches import Batches, training_subjects
    from braindino.pretraining.loop import train

    out = Path(out)
    corpus = open_corpus(config.corpus)
    parents = {"corpus": corpus.fingerprint}
    if config.initial is not None:
        parents["initial"] = fingerprint(read_record(config.initial, "pretrain"))
    if is_done(out, "pretrain", to_dict(config), parents):
        return out / "encoder.safetensors"
    _check_size(config, corpus)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batches = Batches(corpus, config, training_subjects(corpus, config))
    start = _initial(config) if config.initial is not None else None
    with claimed(out):
        with progress(f"pretrain {out.name}", config.steps) as advance:
            teacher = train(config, batches, out, start, device, advance)
        source = {"corpus": corpus.fingerprint, "steps": config.steps, "excluded": list(config.exclude)}
        save_encoder(out / "encoder.safetensors", teacher.backbone.cpu(), to_dict(corpus.recipe), source)
        write_bytes(out / "teacher.safetensors", _network_bytes(teacher))
        files = ["encoder.safetensors", "teacher.safetensors", "log.jsonl"]
        write_record(out, "pretrain", to_dict(config), parents=parents, files=files)
    return out / "encoder.safetensors"


def _network_bytes(network) -> bytes:  # type: ignore[no-untyped-def]
    from safetensors.torch import save

    return bytes(save({name: value.contiguous().cpu() for name, value in network.state_dict().items()}))


def _check_size(config: PretrainConfig, corpus: Corpus) -> None:
    side = corpus.recipe.size_px
    if config.model.in_channels != 1:
        raise ValueError(f"model.in_channels is {config.model.in_channels}; this corpus has slices of one channel")
    if side % config.model.patch_size:
        raise ValueError(
            f"the corpus has slices of {side} px, no multiple of model.patch_size {config.model.patch_size}"
        )


def _initial(config: PretrainConfig):  # type: ignore[no-untyped-def]
    """The teacher of the run before, with its heads, strictly loaded."""
    from safetensors.torch import load_file

    from braindino.pretraining.networks import Network

    assert config.initial is not None
    before = from_dict(read_record(config.initial, "pretrain")["config"], PretrainConfig)
    for name in ("model", "dino_head", "ibot_head"):
        if getattr(before, name) != getattr(config, name):
            raise ValueError(f"[{name}] differs from that of the initial run {config.initial}; make them equal")
    network = Network(config)
    network.load_state_dict(load_file(config.initial / "teacher.safetensors"))
    return network
