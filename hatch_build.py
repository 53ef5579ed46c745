"""Owns what an installation builds: the compiled stack, where there is a compiler."""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledStack(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles beside the sources; the wheel is then one for this platform."""
        native = Path(self.root, "model", "kernels", "native")
        subprocess.run([sys.executable, str(native / "build.py")], check=True)
        if any(native.glob("*.so")) and version != "editable":
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"
