"""Owns `mfalcon info`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from service.cli.output import Output, print_json, print_table, say
from service.settings import DEMO_CHECKPOINT


def info(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder")] = DEMO_CHECKPOINT,
    output: Output = "table",
) -> None:
    """Say what a checkpoint is: its sizes, its formulation, and what of a state can be reused.

    `exact across requests`: K and V of past events are cached and every score still equals the
    plain full forward. `exact within a request only`: scores are as exact, but every request
    encodes the history anew; the reasons say which part of the formulation asks for it.
    """
    from model.checkpoint import load

    loaded = load(checkpoint)
    config, found = loaded.config, loaded.cacheability
    fields = config.model_dump(mode="json")
    result: dict[str, Any] = {
        "name": loaded.name,
        "fingerprint": loaded.digests().fingerprint.hex(),
        "items": len(loaded.items),
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "exactness": found.exactness,
        "reasons": list(found.reasons),
        "calibration": loaded.calibration.model_dump() if loaded.calibration else None,
        "model": fields,
        "training": loaded.training,
    }
    if output == "json":
        print_json(result)
        return
    rows = [[name, str(result[name])] for name in ("fingerprint", "items", "parameters")]
    rows += [[name, _brief(value)] for name, value in fields.items() if name != "num_items"]
    if config.tasks:
        rows.append(["calibration", _brief(result["calibration"])])
    print_table(loaded.name, ["", "value"], rows)
    say(found.exactness, style="bold")
    for reason in found.reasons:
        say(f"  - {reason}")


def _brief(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_brief(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(_brief(inner) for inner in value)
    return "-" if value is None else str(value)
