"""One self-contained page: sections of paragraphs, tables and figures through one template that escapes everything."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from braindino.reporting.figures import Figure


ROUNDING = 1e-12
"""Smaller numbers are what rounding leaves of 0."""
MOST_ROWS = 30
"""Tables of results with more rows than this are folded."""


@dataclass(frozen=True)
class Text:
    """One paragraph, a block kept as typed (`code`), or the heading of a part of a section."""

    words: str
    look: Literal["plain", "note", "code", "heading"] = "plain"
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """Cells as text; `folded` tables wait behind their caption until opened."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False
    kind: str = "table"


@dataclass(frozen=True)
class Section:
    """A numbered part of the page. Without blocks it vanishes."""

    title: str
    blocks: tuple[Text | Table | Figure, ...]
    synthetic: bool = False
    """Shown as a badge: what stands here was computed on synthetic subjects."""

    @property
    def anchor(self) -> str:
        """Fragment that the table of contents points to."""
        return self.title.lower().replace(" ", "-")


def render(title: str, sections: Sequence[Section], *, synthetic: bool) -> str:
    """The page as HTML5. It loads nothing: styles and images are inside, and its content policy forbids the rest.

    Every string is escaped; only the SVG that matplotlib drew (which escapes its own texts) goes in as markup.
    """
    import jinja2

    source = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    shown = [section for section in sections if section.blocks]
    return environment.from_string(source).render(title=title, sections=shown, synthetic=synthetic)


def table_of(frame: pd.DataFrame, caption: str, *, folded: bool = False) -> Table:
    """A table of a data frame, numbers to three significant digits, underscores in headings as spaces."""
    columns = tuple(str(column).replace("_", " ") for column in frame.columns)
    rows = tuple(tuple(cell(value) for value in row) for row in frame.itertuples(index=False, name=None))
    return Table(caption, columns, rows, folded)


def cell(value: Any) -> str:
    """A table cell: numbers by `number`, whole numbers in full, everything else as it is."""
    if isinstance(value, float) or hasattr(value, "dtype"):
        as_float = float(value)
        return f"{int(as_float)}" if as_float.is_integer() and abs(as_float) < 1e9 else number(as_float)
    return str(value)


def number(value: float) -> str:
    """Three significant digits with a true minus sign; NaN reads "not defined", what is below rounding reads 0."""
    if not math.isfinite(value):
        return "not defined" if math.isnan(value) else ("∞" if value > 0 else "−∞")
    digits = f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "0" if abs(value) < ROUNDING else digits.replace("-", "−")


def with_interval(value: float, low: float, high: float) -> str:
    """`value [low, high]`, the 95 % interval; without bounds it says so."""
    if math.isnan(value):
        return number(value)
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{number(value)} [interval not defined]"
    return f"{number(value)} [{number(low)},\N{NO-BREAK SPACE}{number(high)}]"


def counted(count: int, noun: str) -> str:
    """`1 scan`, `2 scans`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def without_folders(text: str) -> str:
    """A message without the folders of the machine that it was raised on: of a path only its last part stays."""
    return re.sub(r"(?<![\w.])/(?:[^\s/:;,]+/)+", "", text)


def p_value(p: float) -> str:
    """`p = 0.012`, `p < 0.001`, or that it is not defined."""
    if math.isnan(p):
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
