"""Features on disk: what `encode` writes and everything after it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16

from braindino.pipeline.encoding import OK, How, Row
from braindino.pipeline.leakage import read_seen, write_seen
from braindino.pipeline.parts import PATCH, patch_file
from braindino.record import read_record, read_table, write_array, write_record, write_table
from braindino.types import Case, Encoder, Features

CASE_COLUMNS = ("case", "subject", "session", "site", "status", "missing")
IDENTITY = ("encoder", "encoder_digest", "recipe", "variant", "pooling", "perturbation", "severity", "seed")


def write_features(features: Features, out: Path, parents: Mapping[str, str] | None = None) -> None:
    """Write `values.npy`, `position_mm.npy`, `cases.tsv`, `seen.json` where the encoder tells it, and the record."""
    out = Path(out)
    for name, array in (("values", features.values), ("position_mm", features.position_mm)):
        write_array(out / f"{name}.npy", array)
    write_table(out / "cases.tsv", features.cases)
    write_seen(features.seen, out)
    config = {name: getattr(features, name) for name in IDENTITY} | {"contrasts": list(features.contrasts)}
    failed = int((features.cases["status"] != OK).sum())
    write_record(out, "encode", config, parents=parents, facts={"failed": failed})


def read_features(folder: Path) -> Features:
    """Read a features folder, verified; the vectors are read from disk when they are used.

    Raises:
        ValueError: not a finished features folder, or a changed file.
    """
    folder = Path(folder)
    config = read_record(folder, "encode")["config"]
    return Features(
        values=np.load(folder / "values.npy", mmap_mode="r", allow_pickle=False),
        position_mm=np.load(folder / "position_mm.npy", allow_pickle=False),
        cases=read_table(folder / "cases.tsv", text=CASE_COLUMNS),
        contrasts=tuple(config["contrasts"]),
        seen=read_seen(folder),
        patch=folder / PATCH if config.get("level") == "patch" else None,
        **{name: config[name] for name in IDENTITY if name in config},
    )


def read_patches(features: Features, case: str) -> Float16[np.ndarray, "view patch dim"]:
    """Patch tokens (view, patch, dim) of one case as float16, read from disk when they are used.

    Raises:
        ValueError: features without patch tokens, or without this case.
    """
    if features.patch is None:
        raise ValueError("these features hold no patch tokens; encode with --level patch")
    good = features.cases["status"] == OK
    found = np.flatnonzero((features.cases["case"] == case) & good)
    if not len(found):
        raise ValueError(f"these features hold no case {case!r} that could be encoded")
    return np.asarray(np.load(patch_file(features.patch.parent, int(found[0])), mmap_mode="r", allow_pickle=False))


def identity(encoder: Encoder, how: How) -> dict[str, Any]:
    """What features say of themselves in their record."""
    return {
        "encoder": encoder.name,
        "encoder_digest": encoder.digest(),
        "recipe": encoder.recipe.hash(),
        "variant": getattr(encoder, "variant", ""),
        "pooling": how.pooling,
        "perturbation": how.perturbation,
        "severity": how.severity,
        "seed": how.seed,
    }


def views_of(told: Sequence[Row]) -> tuple[str, ...]:
    """Contrast of each view.

    Raises:
        ValueError: no case was encoded.
    """
    views = next((row.contrasts for row in told if row.status == OK), ())
    if not views:
        raise ValueError(f"none of the {len(told)} cases could be encoded; the first one: {told[0].status}")
    return views


def case_table(cases: Sequence[Case], told: Sequence[Row]) -> Any:
    """The row of `cases.tsv` of each case."""
    import pandas as pd

    pairs = zip(cases, told, strict=True)
    table = [(c.name, c.subject, c.session, c.site, r.status, " ".join(r.missing)) for c, r in pairs]
    return pd.DataFrame(table, columns=list(CASE_COLUMNS))
