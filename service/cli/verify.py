"""Owns `mfalcon verify`."""

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.output import Output, print_json, print_table, progress, say, where
from service.settings import DEMO_CHECKPOINT

if TYPE_CHECKING:
    from service.verification.run import Finding


def verify(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint folder")] = DEMO_CHECKPOINT,
    users: Annotated[int, typer.Option(min=1, help="users to sample")] = 50,
    candidates: Annotated[int, typer.Option(min=1, help="candidates per user")] = 70,
    store: Annotated[
        str | None, typer.Option(help="URL of a Redis or Valkey; left out: an embedded Valkey")
    ] = None,
    seed: int = 0,
    output: Output = "table",
) -> None:
    """Compare the serving path with the oracle, the plain full forward; exit 1 if they differ.

    Over microbatch sizes, batches of users, every way of cutting a history into prefill and
    extends, the in-process store, a real Redis or Valkey, and a service killed and restarted.
    States stored as bfloat16 or int8 have a bound of their own, a share of the largest logit.
    """
    import torch

    from model.checkpoint import load
    from service.embedded import EmbeddedValkey
    from service.verification.run import TOLERANCE, Plan, worst
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
        )
        findings = run(
            loaded,
            plan,
            lambda name, done, total: bar.update(
                task, description=name, completed=done, total=total or None
            ),
        )
    passed = all(finding.passed for finding in findings)
    exact = [finding.difference for finding in findings if finding.unit == "logits"]
    if output == "json":
        result = {
            "checkpoint": loaded.name,
            "fingerprint": loaded.digests().fingerprint.hex(),
            "cacheability": loaded.cacheability.exactness,
            "users": users,
            "max_abs_diff": worst(exact),
            "tolerance": TOLERANCE,
            "passed": passed,
            "cases": [asdict(finding) for finding in findings],
        }
        print_json(result | where())
    else:
        _print(loaded.name, loaded.cacheability.exactness, users, findings)
        verdict = "equal to the oracle" if passed else "NOT equal to the oracle"
        say(f"{verdict}: largest difference {worst(exact):.1e}, allowed {TOLERANCE:.0e}")
    if not passed:
        raise typer.Exit(1)


def _print(name: str, exactness: str, users: int, findings: "list[Finding]") -> None:
    rows = [
        [f.case, str(f.comparisons), f"{f.difference:.1e}", f"{f.allowed:.1e}", f.unit]
        for f in findings
    ]
    print_table(
        f"{name} ({exactness}), {users} users",
        ["case", "comparisons", "largest difference", "allowed", "of"],
        rows,
    )
