"""Where a run was made: the machine and the commit.

Owns telling them, for the record. Never fails: what can not be told is left empty.
"""

import os
import platform
import subprocess
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def machine() -> str:
    """The processor, and how many threads of it there are."""
    names = []
    if _CPU_INFO.exists():
        lines = _CPU_INFO.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name}, {os.cpu_count()} threads"


def commit() -> str:
    """The commit that is checked out, with a plus sign where files differ from it."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return told.stdout.strip()
