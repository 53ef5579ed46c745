"""Owns `mfalcon ablate`. What is tried is said in the grid file, and nowhere else."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model.spread import short
from service.cli.data import open_interactions
from service.cli.output import (
    Output,
    machine_line,
    print_json,
    print_report,
    progress,
    table,
    where,
    write_report,
)

if TYPE_CHECKING:
    from rich.table import Table

    from model.ablation.power_law import PowerLaw
    from model.ablation.report import Report


def ablate(
    grid: Annotated[Path, typer.Argument(help="a TOML file, such as those in grids/")],
    data: Annotated[str, typer.Option(help="a file, or the name of a public set")],
    out: Annotated[Path, typer.Option(help="folder of the runs, the table and the picture")],
    jobs: Annotated[int, typer.Option(min=1, help="runs at a time; they share the threads")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU if there is one")] = "auto",
    output: Output = "table",
) -> None:
    """Train each variant of a grid with each seed, and compare them on the validation event.

    The test event is never asked for. Stopped: run the same command again; runs that are done are
    not begun anew, the others go on after their last whole epoch. Exit code 1 if a run failed.
    """
    from model.ablation.grid import read
    from model.ablation.report import write
    from model.ablation.runner import Failure, check, run_all

    asked = read(grid)
    runs = asked.runs()
    interactions = open_interactions(data)
    check(runs, interactions)
    out.mkdir(parents=True, exist_ok=True)
    found, made = [], where() | {"grid": grid.name, "data": Path(data).name}
    with progress() as bar:
        task = bar.add_task("runs", total=len(runs))
        for done in run_all(runs, interactions, out, jobs=jobs, device=device):
            found.append(done)
            bar.update(task, completed=len(found))
            how = "failed" if isinstance(done, Failure) else "done"
            bar.console.print(f"{done.variant}, seed {done.seed}: {how}", highlight=False)
            report = write(asked, found, out, made)
            write_report(_parts(report), out / "table.txt")
    if output == "json":
        print_json(asdict(report) | made)
    else:
        print_report(_parts(report))
    if any(isinstance(each, Failure) for each in found):
        raise typer.Exit(1)


def _parts(report: "Report") -> "list[Table | str]":
    figures = list(report.rows[0].figures) if report.rows else []
    rows = []
    for row in report.rows:
        difference = "" if row.difference is None else f"{row.difference:+.4f}"
        error = "" if row.standard_error is None else f" ({short(row.standard_error)})"
        rows.append(
            [
                row.variant,
                str(len(row.seeds)),
                *(str(row.figures[name]) for name in figures),
                difference + error,
                f"{row.best_epoch:.0f}",
                f"{row.num_parameters / 1e6:.2f}",
                f"{row.num_operations / 1e12:.3g}",
            ]
        )
    columns = ["variant", "seeds", *figures, "to base", "epoch", "1e6 weights", "1e12 ops"]
    lines = [
        f"mean ± sd over seeds on each user's validation event, {report.measure} to the base with "
        f"its standard error over seeds; {report.num_tried} runs were tried in this folder",
        *(_law(name, law) for name, law in report.laws.items()),
        *(f"{each.variant}, seed {each.seed}: failed: {each.why}" for each in report.failures),
        machine_line(),
    ]
    return [table(report.question, columns, rows), *lines]


def _law(name: str, law: "PowerLaw") -> str:
    residuals = ", ".join(f"{each:+.1%}" for each in law.residuals)
    first, last = law.exponents
    verdict = "it bends down" if law.bends else "it does not bend down"
    return (
        f"quality = {law.factor:.3g} * {name} ** {law.exponent:.3f}, fitted to the "
        f"{law.num_fitted} smallest (scatter {law.scatter:.1%}); the largest are off by "
        f"{residuals}. Over all sizes {verdict}: the exponent goes from {first:.3f} to {last:.3f}"
    )
