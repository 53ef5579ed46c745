"""Every operation of the OpenAPI document, with sound and unsound requests by Schemathesis.

MFALCON_FUZZ_CASES says how many at least; `make fuzz` asks for 10,000.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.integration.conftest import Serve
from tests.integration.process import ROOT, clean_environment

NUM_CASES = int(os.environ.get("MFALCON_FUZZ_CASES", "300"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "no_internals",
)
PER_OPERATION = 500
"""Cases of each operation in one run, at most: a run keeps all of its own in memory."""
TIMEOUT_S = 1200.0


def test_no_answer_is_a_5xx_or_undocumented_or_shows_internals(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve("memory", "--max-queue", "1000")
    url = f"http://127.0.0.1:{service.port}"
    num_cases = seed = 0
    while num_cases < NUM_CASES:
        seed += 1
        num_cases += fuzz(url, seed, NUM_CASES - num_cases, tmp_path / f"{seed}.json")
        sys.stderr.write(f"seed {seed}: {num_cases} of {NUM_CASES} cases without a failure\n")
    assert "Traceback" not in service.log


def fuzz(url: str, seed: int, num_wanted: int, report: Path) -> int:
    """How many cases a run tried; it must not find anything."""
    per_operation = max(1, min(num_wanted // 4, PER_OPERATION))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--max-examples", str(per_operation)),
            *("--seed", str(seed), "--generation-database", "none", "--warnings", "off"),
            *("--no-color", "--report-json-path", str(report)),
        ],
        cwd=ROOT,
        # The proxies of the environment would answer for the service.
        env=clean_environment() | {"SCHEMATHESIS_HOOKS": "tests.fuzz.checks", "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return int(json.loads(report.read_text())["test_cases"]["generated"])
