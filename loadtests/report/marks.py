"""Faults and phases above a chart over time, and the faults' shade across its panels.

Owns where they are drawn. Never draws figures.
"""

from matplotlib.axes import Axes

from loadtests.record import Mark
from loadtests.report import style
from loadtests.report.measured import Measured

_POINTS_PER_LETTER = 4.6
_FONT_SIZE = 7.5


def num_lanes(run: Measured) -> int:
    """Of bars that do not overlap."""
    return len(_lanes(run))


def draw_strip(axes: Axes, run: Measured) -> None:
    """A bar for each mark, with as much of its name as it holds."""
    for lane, marks in enumerate(_lanes(run)):
        for mark in marks:
            width_s = mark.until_s - mark.at_s
            fill = style.RED if mark.is_fault else style.GREY
            axes.barh(-lane, width_s, left=mark.at_s, height=0.86, color=fill, alpha=0.28)
            room = width_s / run.length_s * style.WIDTH_IN * 72 * 0.9 / _POINTS_PER_LETTER
            if room >= 3:
                name = mark.name if len(mark.name) <= room else f"{mark.name[: int(room) - 1]}…"
                middle = mark.at_s + width_s / 2
                axes.text(middle, -lane, name, ha="center", va="center", fontsize=_FONT_SIZE)
    axes.set_axis_off()


def shade(axes: Axes, run: Measured) -> None:
    for fault in run.faults:
        axes.axvspan(fault.at_s, fault.until_s, color=style.RED, alpha=0.12, linewidth=0)


def _lanes(run: Measured) -> list[list[Mark]]:
    """Phases first, then faults; in a lane nothing overlaps."""
    lanes: list[list[Mark]] = []
    for group in (run.phases, run.faults):
        own: list[list[Mark]] = []
        for mark in group:
            lane = next((each for each in own if each[-1].until_s <= mark.at_s), None)
            if lane is None:
                own.append([mark])
            else:
                lane.append(mark)
        lanes += own
    return lanes
