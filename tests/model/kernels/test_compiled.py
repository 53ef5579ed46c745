"""The Triton kernels compile for a GPU that is not here, and fit into its registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton has no build for this platform")

_SCRIPT = Path(__file__).with_name("compile_for_gpu.py")
_ROOT = Path(__file__).parents[3]

FEW_BYTES = 64
"""Kept outside of registers: an index or two, not the operands of a product."""


@pytest.mark.parametrize(("head", "dtype"), [(25, "float32"), (128, "bfloat16")])
def test_what_a_request_launches_compiles_and_fits(head: int, dtype: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(_ROOT), *sys.path])
    set_for = {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": path}
    command = [sys.executable, str(_SCRIPT), str(head), dtype]
    done = subprocess.run(
        command, cwd=_ROOT, env=os.environ | set_for, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kernels = [json.loads(line) for line in done.stdout.splitlines()]
    names = {kernel["kernel"] for kernel in kernels}
    assert names == {"find_buckets", "write_rows", "attend_events", "attend_candidates"}
    for kernel in kernels:
        assert kernel["spilled_bytes"] <= FEW_BYTES, kernel
        if kernel["kernel"].startswith("attend"):
            assert kernel["wide_copies"], kernel  # pages come 16 bytes at a time
            assert bool(kernel["tensor_core_products"]) == (dtype == "bfloat16"), kernel
