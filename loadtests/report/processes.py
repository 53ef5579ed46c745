"""What the run did to the processes: memory, processor, files, threads.

Owns this chart. Never says what is too much.
"""

from itertools import pairwise

from matplotlib.axes import Axes

from loadtests.record import Reading
from loadtests.report import style
from loadtests.report.chart import Chart, Table, count, rate
from loadtests.report.marks import shade
from loadtests.report.measured import Measured

_MEMORY = ("MiB at first", "MiB at last", "growth once settled", "most MiB")
_SETTLED = 1 / 6
"""Of the run: growth counts from then on. Of an hour, the first ten minutes do not count."""


def processes(run: Measured) -> Chart | None:
    """None unless a process was read twice."""
    by_process: dict[str, list[Reading]] = {}
    for reading in run.record.readings:
        by_process.setdefault(reading.process, []).append(reading)
    by_process = {name: each for name, each in by_process.items() if len(each) > 1}
    if not by_process:
        return None
    made = style.figure(4.6)
    memory, cores, files, threads = style.panels(made, 2, 2, sharex=True)
    for place, (name, readings) in enumerate(by_process.items()):
        at_s = [reading.at_s for reading in readings]
        colour = style.SERIES[place % len(style.SERIES)]
        dash = style.DASHES[place % len(style.DASHES)]
        lines = (
            *memory.plot(at_s, [reading.resident_bytes / 2**20 for reading in readings]),
            *cores.plot(at_s[1:], _cores(readings)),
            *files.plot(at_s, [reading.num_files for reading in readings]),
            *threads.plot(at_s, [reading.num_threads for reading in readings]),
        )
        for line in lines:
            line.set(color=colour, linestyle=dash, label=name)
    titles = ("resident memory, MiB", "processor cores in use", "open files", "threads")
    for axes, title in zip((memory, cores, files, threads), titles, strict=True):
        _finish(axes, run, title)
    for axes in (files, threads):
        axes.set_xlabel("seconds since the run began")
    style.legend_over_all(made, memory)
    return Chart(
        name="processes",
        title="Processes",
        says="Read from the system once a second. Files and threads that only rise leak. Memory "
        "grows until caches are full; the table tells the growth after the first sixth of the run.",
        figure=made,
        table=Table(
            columns=["", *_MEMORY, "most files", "most threads", "cores, mean"],
            rows=[_row(name, readings) for name, readings in by_process.items()],
        ),
    )


def _finish(axes: Axes, run: Measured, title: str) -> None:
    axes.set(title=title, ylim=(0, 1.08 * max(axes.get_ylim()[1], 1e-3)), xlim=(0, run.length_s))
    shade(axes, run)


def _cores(readings: list[Reading]) -> list[float]:
    """A process that was started anew begins at nothing."""
    return [
        max(after.cpu_s - before.cpu_s, 0.0) / max(after.at_s - before.at_s, 1e-9)
        for before, after in pairwise(readings)
    ]


def _row(name: str, readings: list[Reading]) -> list[str]:
    resident = [reading.resident_bytes / 2**20 for reading in readings]
    settled_s = readings[0].at_s + _SETTLED * (readings[-1].at_s - readings[0].at_s)
    settled = next(r for r in readings if r.at_s >= settled_s).resident_bytes / 2**20
    cores = _cores(readings)
    return [
        name,
        *(rate(value) for value in (resident[0], resident[-1])),
        f"{resident[-1] / settled - 1:+.2%}" if settled else "-",
        rate(max(resident)),
        *(count(max(values)) for values in _most(readings)),
        f"{sum(cores) / len(cores):.2f}",
    ]


def _most(readings: list[Reading]) -> tuple[list[int], list[int]]:
    return [r.num_files for r in readings], [r.num_threads for r in readings]
