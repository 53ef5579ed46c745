"""The report: which charts there are of the runs, as a page that needs nothing else, and as PNG.

Owns the page's order and its HTML. Never draws and never reads a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from loadtests.report import style
from loadtests.report.cache import cached, rows, tiers
from loadtests.report.chart import Chart, Table, count, ms, share
from loadtests.report.failures import failures
from loadtests.report.latency import distribution, over_time
from loadtests.report.measured import Measured, is_answer, percentile
from loadtests.report.processes import processes
from loadtests.report.rates import goodput, rate_against_p99
from loadtests.report.recompute import recompute
from loadtests.report.stages import stages

_TEMPLATE = Path(__file__).with_name("page.html")
_OF_ALL = (distribution, rate_against_p99, goodput, cached)
_OF_EACH = (over_time, stages, tiers, rows, processes, failures)


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with its charts; `run` is the one it is of, if it is of one."""

    title: str
    charts: list[Chart]
    run: Measured | None = None


def write(runs: Sequence[Measured], contest: dict[str, Any] | None, folder: Path) -> list[Path]:
    """The page and the pictures, in a folder that is made if need be; what was written.

    Raises:
        OSError: it can not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "report.html"]
    with style.applied():
        sections = _sections(runs, contest)
        written[0].write_text(_page(runs, sections), encoding="utf-8")
        for number, section in enumerate(sections):
            for chart in section.charts:
                path = folder / f"{_name(chart, section, number, len(runs))}.png"
                style.write_png(chart.figure, path)
                written.append(path)
    return written


def _sections(runs: Sequence[Measured], contest: dict[str, Any] | None) -> list[Section]:
    """Charts without data are left out."""
    found = [Section("In short", [chart for make in _OF_ALL if (chart := make(runs))])]
    for run in runs:
        charts = [chart for make in _OF_EACH if (chart := make(run))]
        found.append(Section(run.label, charts, run))
    if contest is not None:
        found.append(Section("A service without states", [recompute(contest)]))
    return found


def summary_table(runs: Sequence[Measured]) -> Table:
    columns = ["", "requests", "answered", "in time", "whole, in time", "p50 ms", "p99 ms", "hits"]
    return Table(columns=columns, rows=[_summary_row(run) for run in runs])


def _summary_row(run: Measured) -> list[str]:
    answered, num = run.latency_ms[run.answered], len(run.samples)
    told = [s.cache_status for s in run.samples if is_answer(s) and s.cache_status]
    return [
        run.label,
        count(num),
        *(share(int(chosen.sum()), num) for chosen in (run.answered, run.in_time, run.whole)),
        *(ms(percentile(answered, percent)) for percent in (50, 99)),
        share(told.count("hit"), len(told)),
    ]


def _name(chart: Chart, section: Section, number: int, num_runs: int) -> str:
    return f"{chart.name}-{number}" if section.run is not None and num_runs > 1 else chart.name


def _page(runs: Sequence[Measured], sections: Sequence[Section]) -> str:
    title = runs[0].label if len(runs) == 1 else f"{len(runs)} load runs"
    parts = [_table(summary_table(runs)), _contents(sections)]
    parts += [_section(section, number) for number, section in enumerate(sections)]
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        light=style.css_variables(0),
        dark=style.css_variables(1),
        body="\n".join(parts),
    )


def _contents(sections: Sequence[Section]) -> str:
    links = [
        f'<li><a href="#{_anchor(chart, number)}">{escape(chart.title)}</a></li>'
        for number, section in enumerate(sections)
        for chart in section.charts
        if section.run is None or len(sections) <= 3
    ]
    if len(sections) > 3:
        links += [
            f'<li><a href="#section-{number}">{escape(section.title)}</a></li>'
            for number, section in enumerate(sections)
            if section.run is not None
        ]
    return f'<nav aria-label="parts"><ul>{"".join(links)}</ul></nav>'


def _section(section: Section, number: int) -> str:
    head = f'<h2 id="section-{number}">{escape(section.title)}</h2>'
    facts = "" if section.run is None else _facts(section.run)
    return "\n".join([head, facts, *(_figure(chart, number) for chart in section.charts)])


def _facts(run: Measured) -> str:
    told = run.record.run
    began = datetime.fromtimestamp(told.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    budget = "" if told.budget_ms is None else f"{told.budget_ms:g} ms"
    facts = {
        "began": f"{began}, for {run.length_s:.0f} s",
        "command": told.command,
        "budget": budget,
        "machine": told.machine,
        "commit": told.commit,
    }
    items = (f"<dt>{k}</dt><dd>{escape(v)}</dd>" for k, v in facts.items() if v)
    return f"<dl>{''.join(items)}</dl>"


def _figure(chart: Chart, number: int) -> str:
    anchor = _anchor(chart, number)
    return (
        f'<h3 id="{anchor}">{escape(chart.title)}</h3>\n'
        f'<figure aria-labelledby="{anchor}">{style.to_svg(chart.figure, anchor)}'
        f"<figcaption>{escape(chart.says)}</figcaption>\n"
        f"<details><summary>the figures</summary>{_table(chart.table)}</details></figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in table.rows)
    return (
        f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cells(row: Sequence[str]) -> str:
    first, *rest = (escape(cell) for cell in row)
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest)


def _anchor(chart: Chart, number: int) -> str:
    return f"{chart.name}-{number}"
