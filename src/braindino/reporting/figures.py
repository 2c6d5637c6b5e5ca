"""What all figures share: one look, drawing without a window, and the step from matplotlib to page and file."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7B6FD0")
"""Six colours of Okabe and Ito, told apart with every common colour vision and readable on white and on black; behind
them a brown and a violet, for which markers and line styles must help."""
LONGEST = 44
"""Characters of a line of text in a figure."""
GREY = "#808080"
INK, GRID = "#1b1d21", "#d5d9de"
"""Text and axes, grid lines: on the page they follow the reader's light or dark theme."""
DARK, LIGHT = "#000000", "#e8e8e8"
"""Ground and text of images of scans."""
SCREEN_DPI, FILE_DPI = 96, 160
STAMP, STAMP_INCHES = "synthetic subjects", 0.27
DASHES: tuple[Any, ...] = (
    *("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 2, 1.5, 2)), (0, (8, 3)), (0, (3, 1))),
    (0, (8, 2, 1.5, 2, 1.5, 2)),
)
"""Line styles beside the colours, for readers and printers without colour; one less than there are colours, as are
`MARKERS`, so that no two of 56 models look the same."""
MARKERS = "osD^vP*"


@dataclass(frozen=True)
class Figure:
    """A finished figure: on the page as SVG (curves) or PNG (scans), beside the page as PNG."""

    name: str
    """File name without ending."""
    headline: str
    """What it shows, in a few words."""
    caption: str
    """How to read it."""
    alt: str
    png: bytes
    svg: str
    """"" for images of scans."""
    width_px: int
    height_px: int
    kind: str = "figure"

    @property
    def base64(self) -> str:
        """The PNG for a data address."""
        return base64.b64encode(self.png).decode()


@contextlib.contextmanager
def style(*, dark: bool = False) -> Iterator[None]:
    """The look of every figure; `$` in a name is a dollar, no formula."""
    from cycler import cycler
    from matplotlib import rc_context

    ink, ground = (LIGHT, DARK) if dark else (INK, "#ffffff")
    look: Any = {
        "figure.facecolor": ground, "axes.facecolor": ground, "savefig.facecolor": ground,
        "text.color": ink, "axes.labelcolor": ink, "axes.edgecolor": ink, "axes.titlecolor": ink,
        "xtick.color": ink, "ytick.color": ink, "grid.color": GRID, "grid.linewidth": 0.7,
        "font.size": 9.5, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": not dark, "axes.axisbelow": True,
        "axes.linewidth": 0.8, "lines.linewidth": 1.6, "legend.frameon": False, "legend.fontsize": 9,
        "font.family": "DejaVu Sans", "svg.fonttype": "none", "svg.hashsalt": "report", "text.parse_math": False,
        "axes.unicode_minus": True, "image.interpolation": "nearest", "axes.prop_cycle": cycler(color=PALETTE),
    }  # fmt: skip
    with rc_context(look):
        yield


def canvas(width: float, height: float, *, synthetic: bool = False) -> Canvas:
    """An empty figure of a size in inches, drawn by Agg: no window, no global state.

    `synthetic` puts the words "synthetic subjects" under it, where they stay when the file is copied elsewhere.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as MplFigure

    strip = STAMP_INCHES / height if synthetic else 0.0
    drawn = MplFigure(figsize=(width, height), layout="constrained")
    drawn.set_layout_engine("constrained", rect=(0, strip, 1, 1 - strip))
    if synthetic:
        drawn.text(1 - 0.06 / width, 0.05 / height, STAMP, ha="right", va="bottom", fontsize=8, style="italic")
    FigureCanvasAgg(drawn)
    return drawn


def curves(drawn: Canvas, name: str, headline: str, caption: str, alt: str) -> Figure:
    """A figure of lines and points: SVG on the page, with text as text and colours that follow the theme."""
    _shorten_texts(drawn)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    drawn.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = _inline(buffer.getvalue(), name, alt)
    return Figure(name, headline, caption, alt, _png(drawn, FILE_DPI), svg, *_size(drawn))


def scans(drawn: Canvas, name: str, headline: str, caption: str, alt: str) -> Figure:
    """A figure of pictures: PNG on the page and in the file."""
    _shorten_texts(drawn)
    return Figure(name, headline, caption, alt, _png(drawn, FILE_DPI), "", *_size(drawn))


def shortened(text: str, most: int = 14) -> str:
    """The beginning of a text that would not fit."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _shorten_texts(drawn: Canvas) -> None:
    """Cut every line of every text at `LONGEST`, so that one long name leaves room for the data."""
    from matplotlib.text import Text

    for found in drawn.findobj(Text):
        assert isinstance(found, Text)
        found.set_text("\n".join(shortened(line, LONGEST) for line in found.get_text().split("\n")))


def slug(text: str) -> str:
    """A file name from any text: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def display_range(image: Any) -> tuple[float, float]:
    """Grey window of a picture: 1st to 99.5th percentile of what differs from its darkest value."""
    values = np.asarray(image)[np.asarray(image) > np.min(image)]
    if not values.size:
        return float(np.min(image)), float(np.min(image)) + 1
    low, high = np.percentile(values, (0.5, 99.5))
    return min(float(low), float(np.min(image))), float(high)


def _png(drawn: Canvas, dpi: int) -> bytes:
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _size(drawn: Canvas) -> tuple[int, int]:
    width, height = drawn.get_size_inches()
    return round(width * SCREEN_DPI), round(height * SCREEN_DPI)


def _inline(svg: str, name: str, alt: str) -> str:
    """An SVG file as an element of a page that holds others: own ids, themed ink, described, no outer addresses."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href=", "href=")
    hashed = re.findall(r'\bid="([a-z]*[0-9a-f]{10})"', svg)  # of places, whose last digits vary from run to run
    for number, known in enumerate(dict.fromkeys(hashed)):
        svg = svg.replace(known, f"part{number}")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--line)")
    label = html.escape(alt, quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()
