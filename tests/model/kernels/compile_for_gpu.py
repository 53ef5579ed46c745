"""Compiles what a request launches for an H100, down to machine code; needs no GPU.

Run as `python tests/model/kernels/compile_for_gpu.py HEAD DTYPE`, not interpreted: prints a
line of JSON for each kernel. It shows what the interpreter can not: that a GPU takes the types
and shapes, and that its registers hold them.
"""

import json
import re
import subprocess
import sys
import tempfile
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from model.config import Window
from model.engine.engine import Engine
from model.kernels import pages
from model.kernels.triton.stack import TritonStack
from tests.model.builders import encode, later, make_network, random_history, served, tiny_config


class Hopper:
    """Stands in for the driver of a GPU, as far as compiling asks for one."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return device

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def main(head: int, dtype: torch.dtype) -> None:
    launched: dict[str, Any] = {}
    run = JITFunction.run

    def compiled(self: Any, *args: Any, **kwargs: Any) -> None:
        kernel = run(self, *args, **(kwargs | {"warmup": True}))
        launched[kernel.hash] = kernel

    triton.runtime.driver.set_active(Hopper())
    JITFunction.run = compiled
    pages.numbers_per_word = lambda *_: 1  # as on a GPU
    config = tiny_config(
        num_layers=2, qk_dim=head, v_dim=head, window=Window(capacity=128, keep=96)
    )
    engine = Engine(make_network(config), dtype=dtype, stack=TritonStack)
    history = random_history(70)
    state = encode(engine, history.cut(0, 60)).state
    encoded = encode(engine, history, later(history), state)
    served(engine, encoded, range(19))
    served(engine, encoded, range(3))
    for kernel in launched.values():
        print(json.dumps(_use_of(kernel)), flush=True)  # noqa: T201


def _use_of(kernel: Any) -> dict[str, object]:
    dump = triton.knobs.nvidia.cuobjdump.path
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.kernel)
        file.flush()
        usage, code = (
            subprocess.run([dump, flag, file.name], check=True, capture_output=True, text=True)
            for flag in ("-res-usage", "-sass")
        )
    registers, stack = re.findall(r"REG:(\d+) STACK:(\d+)", usage.stdout)[0]
    return {
        "kernel": kernel.name,
        "registers": int(registers),
        "spilled_bytes": int(stack),
        "shared_bytes": kernel.metadata.shared,
        "tensor_core_products": len(re.findall(r"\bH?G?MMA\.", code.stdout)),
        "wide_copies": len(re.findall(r"\bLDGSTS\.E\.BYPASS\.128", code.stdout)),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), getattr(torch, sys.argv[2]))
