"""encode: cases + frozen encoder -> features. The artefact is a features folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from braindino import catalog
from braindino.pipeline.leakage import read_seen, write_seen
from braindino.progress import progress
from braindino.record import read_record, read_table, write_array, write_record, write_table
from braindino.types import Case, Encoder, Features, Pooling, Scan, Tokens
from braindino.volume.io import read_case

CASE_COLUMNS = ("case", "subject", "session", "site", "status")


def load_encoder(name: str, weights: Path, seed: int = 0) -> Encoder:
    """An encoder by its plug-in name (see `braindino list encoders`), strictly loaded from `weights`.

    Raises:
        ValueError: unknown name, or weights that are missing, damaged or foreign.
    """
    encoder: Encoder = catalog.load("encoders", name).load(Path(weights), seed=seed)
    return encoder


def encode(
    cases: Sequence[Case],
    encoder: Encoder,
    contrasts: Sequence[str] | None = None,
    *,
    pooling: Pooling = "cls",
    assume_orientation: str | None = None,
) -> Features:
    """One vector per case and view; a case that cannot be read or lacks a contrast keeps a row with its reason.

    Args:
        cases: what to encode.
        encoder: frozen.
        contrasts: which contrasts of each case, in this order; default: those of the first case.
        pooling: `cls` takes the CLS token of a view (as the paper does), `mean_patch` the mean of its patch tokens.
        assume_orientation: axis codes for files whose orientation codes are both 0.

    Raises:
        ValueError: no cases, the same case twice, or not a single case could be encoded.
    """
    if not cases:
        raise ValueError("no cases to encode")
    names = [case.name for case in cases]
    if len(set(names)) < len(names):
        raise ValueError(f"case {next(n for n in names if names.count(n) > 1)!r} appears twice")
    wanted = tuple(contrasts or (scan.contrast for scan in cases[0].scans))
    values: list[np.ndarray | None] = []
    positions: list[np.ndarray] = []
    statuses: list[str] = []
    views: tuple[str, ...] = ()
    with progress(f"encode {encoder.name}", len(cases)) as advance:
        for case in cases:
            try:
                volume = read_case(_scans(case, wanted), assume_orientation=assume_orientation)
                tokens = encoder.tokens(volume, patches=pooling == "mean_patch")
                values.append(_pooled(tokens, pooling).astype(np.float16))
                positions.append(tokens.position_mm)
                views = tokens.contrasts
                statuses.append("ok")
            except (ValueError, OSError) as error:
                values.append(None)
                positions.append(np.zeros(0, np.float32))
                statuses.append(str(error))
            advance()
    if not views:
        raise ValueError(f"none of the {len(cases)} cases could be encoded; the first one: {statuses[0]}")
    return Features(
        values=np.stack([np.full((len(views), encoder.dim), np.nan, np.float16) if v is None else v for v in values]),
        position_mm=np.stack([p if len(p) else np.full(len(views), np.nan, np.float32) for p in positions]),
        cases=_case_table(cases, statuses),
        encoder=encoder.name,
        encoder_digest=encoder.digest(),
        recipe=encoder.recipe.hash(),
        contrasts=views,
        pooling=pooling,
        seen=getattr(encoder, "seen", None),
    )


def _pooled(tokens: Tokens, pooling: Pooling) -> Float32[np.ndarray, "view dim"]:
    """One vector per view.

    Raises:
        ValueError: the encoder gives no patch tokens to average.
    """
    if pooling == "cls":
        return tokens.cls
    if tokens.patch is None:
        raise ValueError("this encoder gives no patch tokens; use --pooling cls")
    return np.asarray(tokens.patch.mean(axis=1), np.float32)


def write_features(features: Features, out: Path, parents: Mapping[str, str] | None = None) -> None:
    """Write `values.npy`, `position_mm.npy`, `cases.tsv`, `seen.json` where the encoder tells it, and the record."""
    out = Path(out)
    for name, array in (("values", features.values), ("position_mm", features.position_mm)):
        write_array(out / f"{name}.npy", array)
    write_table(out / "cases.tsv", features.cases)
    write_seen(features.seen, out)
    write_record(out, "encode", features_config(features), parents=parents, facts={"failed": _failed(features)})


def features_config(features: Features) -> dict[str, object]:
    """What a features folder says of itself in its record."""
    names = ("encoder", "encoder_digest", "recipe", "pooling", "perturbation", "severity")
    return {name: getattr(features, name) for name in names} | {"contrasts": list(features.contrasts)}


def read_features(folder: Path) -> Features:
    """Read a features folder, verified.

    Raises:
        ValueError: not a finished features folder, or a changed file.
    """
    folder = Path(folder)
    config = read_record(folder, "encode")["config"]
    return Features(
        values=np.load(folder / "values.npy", allow_pickle=False),
        position_mm=np.load(folder / "position_mm.npy", allow_pickle=False),
        cases=read_table(folder / "cases.tsv", text=CASE_COLUMNS),
        seen=read_seen(folder),
        **{**config, "contrasts": tuple(config["contrasts"])},
    )


def _scans(case: Case, contrasts: Sequence[str]) -> list[Scan]:
    by_contrast = {scan.contrast: scan for scan in case.scans}
    if missing := [contrast for contrast in contrasts if contrast not in by_contrast]:
        raise ValueError(f"{case.name} has no {', '.join(missing)}")
    return [by_contrast[contrast] for contrast in contrasts]


def _case_table(cases: Sequence[Case], statuses: Sequence[str]):  # type: ignore[no-untyped-def]
    import pandas as pd

    rows = [(c.name, c.subject, c.session, c.site, s) for c, s in zip(cases, statuses, strict=True)]
    return pd.DataFrame(rows, columns=list(CASE_COLUMNS))


def _failed(features: Features) -> int:
    return int((features.cases["status"] != "ok").sum())
