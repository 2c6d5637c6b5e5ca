"""pretrain: shards -> crops -> student and teacher -> losses -> weights. The artefact is a run folder.

Stage 1 and stage 2 are this verb with two files: the diff of the files describes stage 2.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from braindino.config import to_dict
from braindino.corpus.audit import name_digest
from braindino.corpus.shards import Corpus, open_corpus
from braindino.pretraining.config import PretrainConfig
from braindino.progress import progress
from braindino.record import claimed, digest, is_done, read_record, write_bytes, write_record


def pretrain(config: PretrainConfig, out: Path) -> Path:
    """Train by self-distillation and write `encoder.safetensors` (EMA teacher with its input recipe).

    Also written: `teacher.safetensors` (with the projection heads, for a next stage), `log.jsonl`, `checkpoints/`.
    A killed run goes on from its newest intact checkpoint to the same result; a finished one is not repeated. Under
    torchrun every process calls this, and the first one writes.

    Raises:
        ValueError: no corpus, a model, `initial` or `gram_initial` that does not fit, another run in `out` or a
            process that is writing there, a loss that is not finite.
    """
    import torch
    from safetensors.torch import save

    from braindino.model.weights import save_encoder
    from braindino.pretraining.batches import Batches, held_out_subjects, training_subjects
    from braindino.pretraining.initial import gram_teacher, initial_network, seen_before, seen_by_gram_teacher
    from braindino.pretraining.loop import identity_of, train
    from braindino.pretraining.ranks import join

    out = Path(out)
    corpus = open_corpus(config.corpus)
    identity = identity_of(config, corpus)
    parents = {name: identity[name] for name in ("corpus", "initial", "gram_initial") if identity.get(name)}
    if is_done(out, "pretrain", None, parents) and read_record(out)["facts"].get("identity") == digest(identity):
        return out / "encoder.safetensors"
    _check_size(config, corpus)
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)
    with join() as ranks, claimed(out) if ranks.first else nullcontext():
        batches = Batches(corpus, config, training_subjects(corpus, config), ranks.rank, ranks.count)
        start, anchor = initial_network(config), gram_teacher(config)
        shown: Any = progress(f"pretrain {out.name}", config.steps) if ranks.first else nullcontext(lambda *_: None)
        with shown as advance:
            teacher = train(config, batches, out, start, ranks, advance, anchor)
        if ranks.first:
            source = {"corpus": corpus.fingerprint, "steps": config.steps, "excluded": list(config.exclude)}
            unseen = {"held_out": list(held_out_subjects(corpus, config))}
            before, anchored, seen = seen_before(config.initial), seen_by_gram_teacher(config), {}
            if before is not None and anchored is not None:
                seen["seen"] = sorted({*before, *anchored, *map(name_digest, training_subjects(corpus, config))})
            backbone = _backbone(config, teacher)
            save_encoder(out / "encoder.safetensors", backbone, to_dict(corpus.recipe), source | unseen | seen)
            write_bytes(out / "teacher.safetensors", save(teacher))
            files = ["encoder.safetensors", "teacher.safetensors", "log.jsonl"]
            told = {name: value for name, value in to_dict(config).items() if name != "compute"}
            facts = unseen | {"identity": digest(identity)}
            write_record(out, "pretrain", told, parents=parents, files=files, facts=facts)
        ranks.wait()
    return out / "encoder.safetensors"


def _backbone(config: PretrainConfig, teacher):  # type: ignore[no-untyped-def]
    """The vision transformer of a network's weights."""
    from braindino.model.vit import VisionTransformer

    model = VisionTransformer(config.model)
    prefix = "backbone."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in teacher.items() if k.startswith(prefix)})
    return model


def _check_size(config: PretrainConfig, corpus: Corpus) -> None:
    side = corpus.recipe.size_px
    if config.model.in_channels != corpus.recipe.channels:
        raise ValueError(
            f"model.in_channels is {config.model.in_channels}, but the corpus was made with recipe.neighbours "
            f"{corpus.recipe.neighbours}: set model.in_channels = {corpus.recipe.channels}"
        )
    if side % config.model.patch_size:
        raise ValueError(
            f"the corpus has slices of {side} px, no multiple of model.patch_size {config.model.patch_size}"
        )
