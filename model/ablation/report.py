"""Owns the files of an ablation: what was found so far, for programs and as a picture.

Never trains. Written anew after each run, so that a command that was stopped leaves what it found.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.ablation.grid import Grid
from model.ablation.outcome import MEASURE, Outcome
from model.ablation.picture import draw_differences, draw_scaling
from model.ablation.power_law import PowerLaw, fit
from model.ablation.runner import Failure
from model.ablation.summary import Row, summarise
from model.training.run_folder import STATE

RESULT = "ablation.json"


@dataclass(frozen=True, slots=True)
class Report:
    question: str
    measure: str  # of the validation event; what the difference is of
    num_tried: int  # runs in the folder, those of earlier grids, failed and unfinished ones too
    rows: list[Row]
    laws: dict[str, PowerLaw]  # by what they are over; only of a scaling grid
    outcomes: list[Outcome]
    failures: list[Failure]


def write(
    grid: Grid, found: Sequence[Outcome | Failure], out: Path, where: dict[str, Any]
) -> Report:
    """`where` goes into the file: the machine and the code.

    Raises:
        OSError: `out` can not be written.
    """
    outcomes = [each for each in found if isinstance(each, Outcome)]
    rows = summarise(outcomes)
    sizes: dict[str, list[float]] = {
        "operations": [row.num_operations for row in rows],
        "parameters": [row.num_parameters for row in rows],
    }
    laws = {}
    if rows and grid.picture == "scaling":
        qualities = [row.figures[MEASURE].mean for row in rows]
        fitted = {name: fit(values, qualities) for name, values in sizes.items()}
        laws = {name: law for name, law in fitted.items() if law is not None}
        draw_scaling(rows, sizes, laws, out / "scaling.png")
    elif rows:
        draw_differences(rows, out / "differences.png")
    report = Report(
        question=grid.question,
        measure=MEASURE,
        num_tried=len(list(out.glob(f"*/seed-*/{STATE}"))),
        rows=rows,
        laws=laws,
        outcomes=outcomes,
        failures=[each for each in found if isinstance(each, Failure)],
    )
    new = out / f"{RESULT}.new"
    new.write_text(json.dumps(asdict(report) | where, indent=1) + "\n", encoding="utf-8")
    new.rename(out / RESULT)
    return report
