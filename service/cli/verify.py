"""Owns `mfalcon verify`."""

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.cli.output import Output, print_json, print_table, progress, say, where
from service.settings import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from model.checkpoint import Checkpoint
    from service.verification.run import Finding


def verify(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder")] = DEMO_CHECKPOINT,
    users: Annotated[int, typer.Option(min=1, help="users to sample")] = 50,
    candidates: Annotated[int, typer.Option(min=1, help="candidates per user")] = 70,
    store: Annotated[
        str | None, typer.Option(help="URL of a Redis or Valkey; left out: an embedded Valkey")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes a GPU if there is one")
    ] = "auto",
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Compare the serving path with the oracle, the plain full forward; exit 1 if they differ.

    Over microbatch sizes, batches of users, slates, every way of cutting a history into prefill
    and extends, the in-process store, a real Redis or Valkey, and a service killed and restarted.
    States stored as bfloat16 or int8 have a bound of their own, a share of the largest logit.
    """
    import torch

    from model.checkpoint import load
    from service.embedded import EmbeddedValkey
    from service.served_model import pick_device
    from service.verification.run import Plan
    from service.verification.run import verify as run

    torch.set_num_threads(1)  # as the service runs, and beside it
    loaded = load(checkpoint)
    with contextlib.ExitStack() as stack:
        if store is None:
            store = stack.enter_context(EmbeddedValkey(512 << 20)).url
        bar = stack.enter_context(progress())
        task = bar.add_task("verify", total=None)
        plan = Plan(
            folder=checkpoint,
            num_users=users,
            num_candidates=candidates,
            store=store,
            seed=seed,
            device=pick_device(device),
        )
        findings = run(
            loaded,
            plan,
            lambda name, done, total: bar.update(
                task, description=name, completed=done, total=total or None
            ),
        )
    result = _result(loaded, users, findings)
    if output == "json":
        print_json(result | where())
    else:
        _print(result, findings)
    if not result["passed"]:
        raise typer.Exit(1)


def _result(checkpoint: "Checkpoint", users: int, findings: "list[Finding]") -> dict[str, Any]:
    from service.exactness import TOLERANCE
    from service.verification.run import worst

    return {
        "checkpoint": checkpoint.name,
        "fingerprint": checkpoint.digests().fingerprint.hex(),
        "cacheability": checkpoint.cacheability.exactness,
        "users": users,
        "max_abs_diff": worst([f.difference for f in findings if f.unit == "logits"]),
        "tolerance": TOLERANCE,
        "passed": all(finding.passed for finding in findings),
        "cases": [asdict(finding) for finding in findings],
    }


def _print(result: dict[str, Any], findings: "list[Finding]") -> None:
    rows = [
        [f.case, str(f.comparisons), f"{f.difference:.1e}", f"{f.allowed:.1e}", f.unit]
        for f in findings
    ]
    print_table(
        f"{result['checkpoint']} ({result['cacheability']}), {result['users']} users",
        ["case", "comparisons", "largest difference", "allowed", "of"],
        rows,
    )
    verdict = "equal to the oracle" if result["passed"] else "NOT equal to the oracle"
    found, allowed = result["max_abs_diff"], result["tolerance"]
    say(f"{verdict}: largest difference {found:.1e}, allowed {allowed:.0e}")
