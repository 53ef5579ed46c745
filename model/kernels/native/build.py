"""Owns compiling the stack, once for each instruction set that a machine may have.

Run as a script when the package is installed; imports nothing that is not yet there. Without a
compiler it says so and leaves nothing: the plain tensor stack runs instead.
"""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "stack.cpp"

FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared"]
MACHINES = {
    "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    "avx2": ["-march=x86-64-v3"],
    "generic": [],
}
"""Instruction sets by name, with what asks the compiler for them."""


def library(machine: str) -> Path:
    return HERE / f"stack-{machine}.so"


def digest() -> str:
    """Of the sources. A library tells what it was made of; one of others would compute other scores
    without an error."""
    sources = sorted((*HERE.glob("*.h"), *HERE.glob("*.cpp")))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def build(machine: str) -> bool:
    """Compile for one instruction set; with OpenMP where the compiler has it."""
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    target = library(machine)
    unfinished = target.with_suffix(".tmp")
    for threads in (["-fopenmp"], ["-Wno-unknown-pragmas"]):
        made_of = f'-DMFALCON_SOURCES="{digest()}"'
        command = [*compiler, *FLAGS, *MACHINES[machine], *threads, made_of, str(SOURCE)]
        try:
            done = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True)
        except OSError as error:
            _say(f"no compiled stack: {compiler[0]}: {error.strerror}")
            return False
        if done.returncode == 0:
            unfinished.replace(target)
            return True
    _say(f"no compiled stack for {machine}:\n{done.stderr}")
    return False


def main() -> None:
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    built = [name for name in MACHINES if (is_x86 or name == "generic") and build(name)]
    _say(f"compiled stacks: {', '.join(built) or 'none'}")


def _say(text: str) -> None:
    sys.stderr.write(f"mfalcon: {text}\n")


if __name__ == "__main__":
    main()
