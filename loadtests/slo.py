"""The service level objectives: bounds that a run's figures must keep.

Owns reading bounds and comparing them. Never computes a figure (summary, stability).

What was asked and answered tells nothing of the service where the load test itself stood still: it
sent late, and read answers late. A bound that is broken then is void: neither kept nor failed.

    must_measure = ["run.memory_growth"]   # not measured is a failure; elsewhere it is only told

    [recommend]                            # all, recommend, events, batch, or faults: sent in one
    p99_ms = "<= 50"

    [run]
    memory_growth = "<= 0.01"
"""

import operator
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, Self

from loadtests.record import Record
from loadtests.stability import GROWTH, Stability, stood_still_s
from loadtests.summary import ALL, FAULTS, Figures, Summary

DEFAULT: Final = Path(__file__).with_name("slo.toml")

_RUN = "run"
_MUST_MEASURE = "must_measure"
_MAY_STAND_STILL_S = 0.5
"""Longer breaks a budget by itself, and not once."""
_KNOWN: Final[Mapping[str, frozenset[str]]] = {
    **{
        scope: frozenset(each.name for each in fields(Figures))
        for scope in (ALL, "recommend", "events", "batch", FAULTS)
    },
    _RUN: frozenset(each.name for each in fields(Stability)),
}
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
}


class SloError(ValueError):
    """A file of objectives is not understood; the message says where."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One objective."""

    name: str  # scope.figure
    sign: Literal["<=", ">="]
    limit: float
    must_measure: bool = False

    @classmethod
    def parse(cls, name: str, text: object, *, must_measure: bool) -> Self:
        match str(text).split():
            case [("<=" | ">=") as sign, limit]:
                try:
                    return cls(name, sign, float(limit), must_measure)
                except ValueError:
                    pass
        raise SloError(f'{name}: {text!r} is not a bound like "<= 50" or ">= 0.99"')


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a run says to a bound; `value` is None where it was not measured.

    `stood_still_s`: how long the load test did, if that can have broken it.
    """

    bound: Bound
    value: float | None
    stood_still_s: float = 0.0

    @property
    def passed(self) -> bool:
        if self.value is None:
            return not self.bound.must_measure
        return _COMPARE[self.bound.sign](self.value, self.bound.limit)

    @property
    def is_void(self) -> bool:
        return not self.passed and self.stood_still_s > _MAY_STAND_STILL_S

    def __str__(self) -> str:
        bound = self.bound
        word = "skip" if self.value is None and self.passed else "pass" if self.passed else "FAIL"
        value = "not measured" if self.value is None else f"{self.value:.4g}"
        told = f"{bound.name}: {value}, wanted {bound.sign} {bound.limit:g}"
        if self.is_void:
            return f"void  {told}; the load test itself stood still for {self.stood_still_s:.1f} s"
        return f"{word}  {told}"


def load(path: Path) -> list[Bound]:
    """
    Raises:
        SloError: the file can not be read, or says what is not known here.
    """
    try:
        told: dict[str, Any] = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise SloError(f"{path}: {error}") from error
    required = told.pop(_MUST_MEASURE, [])
    bounds = []
    try:
        for scope, table in told.items():
            if scope not in _KNOWN or not isinstance(table, dict):
                raise SloError(f"{scope}: there are {', '.join(_KNOWN)}")
            for figure, text in table.items():
                if figure not in _KNOWN[scope]:
                    known = ", ".join(sorted(_KNOWN[scope]))
                    raise SloError(f"{scope}.{figure}: there are {known}")
                name = f"{scope}.{figure}"
                bounds.append(Bound.parse(name, text, must_measure=name in required))
        if unbound := set(required) - {bound.name for bound in bounds}:
            raise SloError(f"{_MUST_MEASURE}: no bound is set for {', '.join(sorted(unbound))}")
    except SloError as error:
        raise SloError(f"{path}: {error}") from None
    return bounds


def judge(record: Record, bounds: Sequence[Bound]) -> list[Verdict]:
    """A verdict for each bound, and one on whether anything was sent at all."""
    measured: dict[str, float | None] = {
        f"{scope}.{name}": value
        for scope, figures in Summary.of(record).figures.items()
        for name, value in asdict(figures).items()
    }
    for name, value in asdict(Stability.of(record)).items():
        measured[f"{_RUN}.{name}"] = value
    still_s, something = stood_still_s(record), Bound(f"{ALL}.requests", ">=", 1)
    unmoved = {f"{_RUN}.{name}" for name in GROWTH}
    return [
        Verdict(bound, measured.get(bound.name), 0.0 if bound.name in unmoved else still_s)
        for bound in (something, *bounds)
    ]
