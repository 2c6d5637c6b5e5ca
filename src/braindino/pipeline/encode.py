"""encode: cases + frozen encoder -> features. The artefact is a features folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from braindino.config import to_dict
from braindino.pipeline.encode_jobs import encode_parts
from braindino.pipeline.encoding import OK, How, Row, rows
from braindino.pipeline.features import case_table, identity, read_features, read_patches, views_of, write_features
from braindino.pipeline.leakage import write_seen
from braindino.pipeline.loading import EncoderChoice, load_encoder
from braindino.pipeline.parts import PATCH, agreed, drop_parts, merge_parts, read_part
from braindino.progress import progress
from braindino.record import claimed_for, digest, read_record, write_record, write_table
from braindino.types import Case, Encoder, Features, Pooling

__all__ = [
    "EncoderChoice",
    "How",
    "encode",
    "encode_folder",
    "load_encoder",
    "read_features",
    "read_patches",
    "write_features",
]


def encode(
    cases: Sequence[Case],
    encoder: Encoder,
    contrasts: Sequence[str] | None = None,
    *,
    pooling: Pooling = "cls",
    assume_orientation: str | None = None,
    any_contrast: bool = False,
    perturbation: str = "none",
    severity: int = 0,
    seed: int = 0,
) -> Features:
    """One vector per case and view; a case that cannot be read or lacks a contrast keeps a row with its reason.

    Args:
        cases: what to encode.
        encoder: frozen.
        contrasts: which contrasts of each case, in this order; default: those of the first case.
        pooling: `cls` takes the CLS token of a view (as the paper does), `mean_patch` the mean of its patch tokens.
        assume_orientation: axis codes for files whose orientation codes are both 0.
        any_contrast: encode a case that lacks some contrasts with those it has; the views of the others are NaN.
        perturbation: plug-in that changes each volume before preprocessing.
        severity: how much, 0 (not at all) to 5.
        seed: of the perturbation.

    Raises:
        ValueError: no cases, the same case twice, an unknown perturbation, or not a single case could be encoded.
    """
    how = How(
        tuple(contrasts or _contrasts(cases)),
        pooling,
        any_contrast=any_contrast,
        perturbation=perturbation,
        severity=severity,
        seed=seed,
        assume_orientation=assume_orientation,
    )
    _check(cases)
    found: list[Row] = []
    with progress(f"encode {encoder.name}", len(cases)) as advance:
        for one in rows(cases, encoder, how):
            found.append(one)
            advance()
    found = agreed(found)
    views = views_of(found)
    nothing, nowhere = np.full((len(views), encoder.dim), np.nan, np.float16), np.full(len(views), np.nan, np.float32)
    return Features(
        values=np.stack([nothing if r.values is None else r.values for r in found]),
        position_mm=np.stack([nowhere if r.position_mm is None else r.position_mm for r in found]),
        cases=case_table(cases, found),
        contrasts=views,
        seen=getattr(encoder, "seen", None),
        **identity(encoder, how),
    )


def encode_folder(
    cases: Sequence[Case],
    choice: EncoderChoice,
    out: Path,
    how: How,
    *,
    workers: int = 0,
    cluster: str | None = None,
    parents: Mapping[str, str] | None = None,
) -> Features:
    """`encode` into a folder: resumable, in parallel, with patch tokens where `how.level` asks for them.

    Every encoded case is kept on disk as soon as it is finished; after a kill the same command goes on and ends with
    the same bytes. A second call with the same input only opens the folder.

    Args:
        cases: what to encode.
        choice: the encoder; every worker loads it once.
        out: the features folder.
        how: what is done with each case.
        workers: local processes of one thread each; 0 or 1: this process, with as many threads as torch takes, reading
            one case while another is computed.
        cluster: address of a Dask scheduler whose workers see the same folders; instead of local processes.
        parents: role to fingerprint of what the cases came from.

    Raises:
        ValueError: as `encode`; also a folder that holds other features or is being written, patch tokens for which
            the disk is too small, and as `run_jobs`.
    """
    _check(cases)
    out, encoder = Path(out), choice.load()
    known = [[c.name, [[s.contrast, s.path.name] for s in c.scans]] for c in cases]
    config = to_dict(how) | identity(encoder, how) | {"wanted": list(how.contrasts), "cases": digest(known)}
    config.pop("contrasts")
    if _is_done(out, config, parents):
        return read_features(out)
    with claimed_for(out, [config, dict(parents or {})], "other features (other scans, encoder or settings)"):
        encode_parts(cases, choice, encoder, out, how, workers, cluster)
        told = agreed([read_part(out, number, values=False) for number in range(len(cases))])
        views = views_of(told)
        merge_parts(out, told, encoder.dim)
        write_table(out / "cases.tsv", case_table(cases, told))
        seen = [path.name for path in (write_seen(getattr(encoder, "seen", None), out),) if path]
        patches = [f"{PATCH}/{path.name}" for path in sorted((out / PATCH).glob("*.npy"))]
        files = ["values.npy", "position_mm.npy", "cases.tsv", *seen, *patches]
        facts = {"failed": sum(r.status != OK for r in told), "recipe": to_dict(encoder.recipe)}
        write_record(out, "encode", config | {"contrasts": list(views)}, parents=parents, files=files, facts=facts)
        drop_parts(out)
    return read_features(out)


def _is_done(out: Path, config: Mapping[str, Any], parents: Mapping[str, str] | None) -> bool:
    """True where `out` holds these very features, finished and intact."""
    try:
        record = read_record(out, "encode")
    except ValueError:
        return False
    same = all(record["config"].get(name) == value for name, value in config.items())
    return same and record["parents"] == dict(parents or {})


def _check(cases: Sequence[Case]) -> None:
    if not cases:
        raise ValueError("no cases to encode")
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise ValueError(f"case {next(n for n in names if names.count(n) > 1)!r} appears twice")


def _contrasts(cases: Sequence[Case]) -> tuple[str, ...]:
    """Those of the first case."""
    return tuple(scan.contrast for scan in cases[0].scans) if cases else ()
