"""A run on disk: what was asked and answered, when, and how the service's process did meanwhile.

Owns the folder's files and their fields. Never sends anything and never draws.

    run.json           what was run, where, and from when: `Run`
    samples-*.jsonl    one line a request, a file per process that sends: `Sample`
    marks.jsonl        faults, and the phases of a load: `Mark`
    readings.jsonl     memory, files and threads of the processes, once a second: `Reading`

Lines are appended as things happen, so that a run that was cut off can be read as far as it came:
a last line without an end is left out. Times are seconds since the run's beginning.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, Final, Self, TypeVar

EVERY_S: Final = 1.0
"""Between readings."""

_BUFFER_BYTES = 1 << 16


class RecordError(ValueError):
    """A folder holds no run, or one that this version can not read; the message says which file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run was."""

    title: str
    command: str
    began: float  # Unix seconds
    budget_ms: float | None = None
    machine: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One request and its answer."""

    at_s: float  # when it was to be sent
    waited_ms: float  # after that, until it was sent
    latency_ms: float  # from when it was to be sent until the last byte of the answer
    kind: str  # recommend, events, batch
    user: str  # what sent it: returning, new, ranker, ...
    status: int  # 0: no whole answer
    code: str = ""  # of the problem; where there was no answer, the error's name
    complete: bool = False
    degraded: list[str] = field(default_factory=list)
    cache_status: str = ""
    tier: str | None = None
    reused_events: int = 0
    encoded_events: int = 0
    timing_ms: dict[str, float] = field(default_factory=dict)  # as the service told, by stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that lasted from `at_s` until `until_s`."""

    at_s: float
    until_s: float
    name: str
    is_fault: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the system says of one process."""

    at_s: float
    process: str  # service, redis, ...
    resident_bytes: int
    num_files: int
    num_threads: int
    cpu_s: float  # spent since the process began


_Line = TypeVar("_Line", Sample, Mark, Reading)


class Recorder:
    """Writes a run's lines; one per process, named by `part`."""

    def __init__(self, folder: Path, part: str = "0") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._part = folder, part
        self._files: dict[str, IO[str]] = {}

    @classmethod
    def begin(cls, folder: Path, run: Run) -> Self:
        """Say what is run, in an empty folder.

        Raises:
            RecordError: the folder holds a run.
        """
        if (folder / "run.json").exists():
            raise RecordError(f"{folder} holds a run already; name another folder")
        made = cls(folder)
        (folder / "run.json").write_text(json.dumps(asdict(run), indent=2) + "\n")
        return made

    def sample(self, sample: Sample) -> None:
        self._append(f"samples-{self._part}.jsonl", sample)

    def mark(self, mark: Mark) -> None:
        self._append("marks.jsonl", mark)

    def reading(self, reading: Reading) -> None:
        self._append("readings.jsonl", reading)

    def close(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _append(self, name: str, line: Sample | Mark | Reading) -> None:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("a", buffering=_BUFFER_BYTES)
        self._files[name].write(json.dumps(asdict(line)) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A run as it was recorded, each list in order of time."""

    run: Run
    samples: list[Sample]
    marks: list[Mark]
    readings: list[Reading]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """
        Raises:
            RecordError: no run is there, or one with other fields.
        """
        path = folder / "run.json"
        try:
            run = Run(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise RecordError(f"{path}: {error}; is this the folder of a run?") from error
        return cls(
            run=run,
            samples=_sorted(Sample, sorted(folder.glob("samples-*.jsonl"))),
            marks=_sorted(Mark, [folder / "marks.jsonl"]),
            readings=_sorted(Reading, [folder / "readings.jsonl"]),
        )


def _sorted(kind: type[_Line], paths: list[Path]) -> list[_Line]:
    lines = [line for path in paths if path.exists() for line in _read(kind, path)]
    return sorted(lines, key=lambda line: line.at_s)


def _read(kind: type[_Line], path: Path) -> Iterator[_Line]:
    known = {each.name for each in fields(kind)}
    with path.open() as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith("\n"):
                return  # the process was killed while it wrote
            try:
                values: dict[str, Any] = json.loads(text)
                if unknown := values.keys() - known:
                    raise ValueError(f"unknown fields {sorted(unknown)}")
                yield kind(**values)
            except (ValueError, TypeError, AttributeError) as error:
                raise RecordError(f"{path}:{number}: {error}") from error
