"""The house style: colours, sizes, and pictures as text that follows the reader's theme.

Owns how every chart looks. Never knows what is drawn.

Charts are drawn once, in the colours of a light page. In the page each colour is a CSS variable of
its name, which a dark theme gives another value.
"""

import io
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS: Final = {
    "ink": ("#1f2328", "#e6edf3"),
    "quiet": ("#59636e", "#9aa4af"),
    "grid": ("#d8dee5", "#30363d"),
    "paper": ("#ffffff", "#0d1117"),
    "blue": ("#0a5fa3", "#58a6ff"),
    "orange": ("#c4570c", "#f0883e"),
    "green": ("#1b7f5b", "#3fb98a"),
    "purple": ("#7d4fa3", "#b392f0"),
    "red": ("#bf2b3c", "#ff7b84"),
    "sky": ("#58a9d6", "#9bd1f5"),
    "sand": ("#c9a227", "#e3c565"),
    "grey": ("#8b949e", "#6e7781"),
}
"""By name: on a light page, on a dark one. They differ in lightness too, for those who do not tell
red from green."""

INK, QUIET, GRID, PAPER = (COLOURS[name][0] for name in ("ink", "quiet", "grid", "paper"))
BLUE, ORANGE, GREEN, PURPLE = (COLOURS[n][0] for n in ("blue", "orange", "green", "purple"))
RED, SKY, SAND, GREY = (COLOURS[name][0] for name in ("red", "sky", "sand", "grey"))
SERIES: Final = (BLUE, ORANGE, GREEN, PURPLE, RED, SKY, SAND, GREY)
DASHES: Final = ("-", "--", "-.", ":")

WIDTH_IN: Final = 9.0
_PNG_DPI: Final = 150

_LEGEND_LINE_IN: Final = 0.18
_STYLE: Final[dict[Any, Any]] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": GREY,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "figure.facecolor": PAPER,
}


def applied() -> AbstractContextManager[None]:
    """Within it, whatever is drawn and written has the house style."""
    return rc_context(_STYLE)


def figure(height_in: float) -> Figure:
    """An empty one of the page's width."""
    return Figure(figsize=(WIDTH_IN, height_in), layout="constrained")


def panels(made: Figure, rows: int = 1, columns: int = 1, **options: object) -> list[Axes]:
    """Its axes, row by row; options as `Figure.subplots` takes them."""
    found = made.subplots(rows, columns, squeeze=False, **options)  # type: ignore[call-overload]
    return [axes for row in found for axes in row]


def plain_ticks(axes: Axes, *, x: bool = False, y: bool = False) -> None:
    """Write 10 and 200 on a logarithmic axis, rather than powers."""
    for axis, chosen in ((axes.xaxis, x), (axes.yaxis, y)):
        if chosen:
            axis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            axis.set_minor_formatter(lambda value, _: _minor(value))
            axis.set_tick_params(which="minor", labelsize=7.5)


def _minor(value: float) -> str:
    """Of the ticks between powers of ten, 2 and 5 are labelled."""
    return f"{value:,.10g}" if f"{value:e}"[0] in "25" else ""


def legend_above(axes: Axes, columns: int = 6) -> None:
    """In one line above the panel, where it hides nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=1.6,
        columnspacing=1.4,
    )


def legend_over_all(made: Figure, axes: Axes, columns: int = 6) -> None:
    """Of one panel, for all of them. The figure grows by what it takes beyond one line."""
    handles, labels = axes.get_legend_handles_labels()
    more_lines = (len(labels) - 1) // columns
    made.set_figheight(made.get_figheight() + _LEGEND_LINE_IN * more_lines)
    made.legend(handles, labels, loc="outside upper left", ncols=columns)


def write_png(made: Figure, path: Path) -> None:
    """Raises OSError."""
    made.savefig(path, dpi=_PNG_DPI)


def to_svg(made: Figure, name: str) -> str:
    """An <svg> element that scales, its colours CSS variables and its ids its own."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        made.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # of groups, the same in every picture
    svg = re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'^(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", '<svg role="img" aria-hidden="true"', 1)
    for colour, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{colour})")
    return svg.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana")


def css_variables(theme: int) -> str:
    """Of the light theme, 0, or the dark one, 1."""
    return " ".join(f"--{name}: {pair[theme]};" for name, pair in COLOURS.items())
