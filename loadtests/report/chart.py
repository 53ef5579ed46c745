"""What a part of the report is: a picture, what it shows, and its figures as a table.

Owns nothing else. Never draws and never writes.
"""

from dataclasses import dataclass
from math import isnan

from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells as they are read; the first column names the row."""

    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    name: str  # of the PNG, and of the place in the page
    title: str
    says: str  # how to read it, and what it does not show
    figure: Figure
    table: Table


def ms(value: float | None) -> str:
    return "-" if value is None or isnan(value) else f"{value:,.1f}"


def share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def count(value: float) -> str:
    return f"{value:,.0f}"


def rate(value: float) -> str:
    return "-" if isnan(value) else f"{value:,.1f}"
