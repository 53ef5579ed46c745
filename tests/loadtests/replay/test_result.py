import pytest

from loadtests.replay.offline import Offline
from loadtests.replay.outcome import Outcome
from loadtests.replay.result import Result

HIT = Outcome(rank=3, place=12, action="a", probabilities={"a": 0.75, "b": 0.25})
MISS = Outcome(rank=None, place=None, action="b", probabilities=None)
OUTCOMES = [HIT] * 36 + [MISS] * 64  # a standard error of 0.048


def result(**changes: object) -> Result:
    told = {
        "fingerprint": "f",
        "hit_rate": 0.4,
        "gain": 0.2,
        "num_targets": 100,
        "calibration_error": {"a": 0.1, "b": 0.2},
    }
    offline = Offline(**told | changes)  # type: ignore[arg-type]
    return Result.of(OUTCOMES, fingerprint="f", offline=offline)


def test_figures_are_of_the_rank_and_of_the_list_as_shown() -> None:
    found = result()
    assert found.hit_rate.value == 0.36
    assert found.shown_hit_rate.value == 0
    assert found.actions["a"].share == 1.0


@pytest.mark.parametrize(("hit_rate", "agrees"), [(0.4, True), (0.32, True), (0.42, False)])
def test_one_standard_error_is_allowed(hit_rate: float, agrees: bool) -> None:
    found = result(hit_rate=hit_rate)
    assert found.as_json()["agrees"] is agrees
    if not agrees:
        assert "by 0.0600, more than one standard error (0.0480)" in (found.problem() or "")


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"num_targets": 99}, "100 events were played, 99"), ({"fingerprint": "g"}, "another")],
)
def test_what_can_not_be_compared_is_named(changes: dict[str, object], named: str) -> None:
    assert named in (result(**changes).problem() or "")


def test_without_an_offline_evaluation_there_is_nothing_to_agree_with() -> None:
    found = Result.of(OUTCOMES, fingerprint="f", offline=None)
    assert found.problem() is None
    assert found.as_json()["agrees"] is None
