import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.answer import Answer
from loadtests.catalogue import Catalogue
from loadtests.person import Event
from loadtests.record import Record, Recorder, Run
from loadtests.replay.client import Client
from loadtests.replay.log import Log
from loadtests.replay.outcome import Outcome
from loadtests.replay.player import Pace, Player, PlayError
from loadtests.traffic import Visit

pytestmark = pytest.mark.anyio

CATALOGUE = Catalogue(item_ids=("1",), actions=("positive",), max_events=2)
PACE = Pace(speed_up=None, users_at_once=1)
HISTORY = tuple(Event(item_id=f"{n}", action="positive", timestamp=n) for n in range(6))
LOG = Log(("u",), (HISTORY,))


class ForgetfulService(Client):
    """Holds a history; loses it before the request of a number, and refuses events on demand."""

    def __init__(self, recorder: Recorder, *, loses_at: int = -1, refuses: int = 0) -> None:
        super().__init__("http://127.0.0.1:9", recorder, budget_ms=None, began_s=0.0)
        self.held: list[Any] = []
        self.asked_of: list[int] = []  # events held when an item list was made
        self._loses_at, self._refuses, self._num_sent = loses_at, refuses, 0

    async def send(self, visit: Visit) -> tuple[Answer, dict[str, Any]]:
        self._num_sent += 1
        if self._num_sent == self._loses_at:
            self.held = []
        body = visit.body
        if visit.kind == "events":
            if self._refuses:
                self._refuses -= 1
                return Answer(status=429, code="overloaded"), {}
            kept = [] if body["history_mode"] == "replace" else self.held
            self.held = kept + body["events"]
            return Answer(status=200, complete=True), {"stored": True}
        degraded = ["history_incomplete"] if len(self.held) < body["history_size"] else []
        if not degraded:
            self.asked_of.append(len(self.held))
        item = {"item_id": "5", "retrieval_score": 1.0, "actions": {"positive": 0.5}}
        return Answer(status=200, complete=not degraded, degraded=degraded), {"items": [item]}


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder.begin(tmp_path, Run(title="", command="", began=time.time()))
    yield made
    made.close()


async def played(service: ForgetfulService, num_told_again: int = 0) -> list[Outcome]:
    outcomes: list[Outcome] = []
    player = Player(service, CATALOGUE, LOG, "run")
    async with service:
        await player.tell_past(2, 1)
        await player.play(LOG.steps(2), PACE, outcomes.append)
    assert player.num_told_again == num_told_again
    return outcomes


async def test_each_event_is_asked_for_before_it_is_told(
    recorder: Recorder, tmp_path: Path
) -> None:
    service = ForgetfulService(recorder)
    outcomes = await played(service)
    assert service.asked_of == [4, 4, 5, 5]  # the list, then the item by itself
    assert service.held == list(HISTORY)
    assert [outcome.rank for outcome in outcomes] == [None, 0]
    recorder.close()
    samples = Record.load(tmp_path).samples
    assert [sample.kind for sample in samples] == ["recommend", "recommend", "events"] * 2


@pytest.mark.parametrize("loses_at", range(3, 9))
async def test_what_the_service_has_lost_is_told_again(recorder: Recorder, loses_at: int) -> None:
    service = ForgetfulService(recorder, loses_at=loses_at)
    await played(service, num_told_again=int(loses_at < 8))  # the last is the last event
    assert set(service.asked_of) == {4, 5}
    assert len(service.asked_of) == 4


async def test_events_are_sent_until_they_are_taken(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadtests.replay.player._PAUSE_S", 0)
    service = ForgetfulService(recorder, refuses=3)
    await played(service)
    assert service.held == list(HISTORY)
    with pytest.raises(ExceptionGroup) as raised:
        await played(ForgetfulService(recorder, refuses=99))
    assert raised.group_contains(PlayError, match="429 overloaded")
