"""Kinds of flags that several verbs have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

Out = Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
Sources = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[COHORT=]PATH")]
