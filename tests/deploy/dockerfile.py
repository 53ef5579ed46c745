"""Owns reading the Dockerfile: its instructions, in which stage they stand."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FINAL = ""
"""The stage without a name, which becomes the image."""


@dataclass(frozen=True, slots=True)
class Instruction:
    stage: str
    name: str
    text: str

    def words(self) -> list[str]:
        """Of an exec form, or of a shell's line."""
        _, bracket, rest = self.text.partition("[")
        return list(json.loads(bracket + rest)) if bracket else shlex.split(self.text)


def instructions() -> list[Instruction]:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found, stage = [], FINAL
    for line in lines:
        name, _, text = line.strip().partition(" ")
        if not name or name.startswith("#"):
            continue
        if name == "FROM":
            _, _, stage = text.partition(" AS ")
        found.append(Instruction(stage, name, text.strip()))
    return found


def of(stage: str, name: str) -> list[Instruction]:
    return [each for each in instructions() if (each.stage, each.name) == (stage, name)]


def environment() -> dict[str, str]:
    """What the image's ENV lines set."""
    pairs = [word.partition("=") for each in of(FINAL, "ENV") for word in shlex.split(each.text)]
    return {name: value for name, _, value in pairs}
