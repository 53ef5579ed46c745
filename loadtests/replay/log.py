"""A MovieLens archive of the layout of 1M, as the service sees its events.

Owns reading the archive, choosing users, and writing an archive of those alone. Never sends
anything.
"""

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Self

from loadtests.person import Event

RATINGS: Final = "ml-1m/ratings.dat"
MOVIES: Final = "ml-1m/movies.dat"
ACTIONS: Final[Mapping[str, str]] = {
    "1": "negative",
    "2": "negative",
    "3": "neutral",
    "4": "positive",
    "5": "positive",
}
"""What the checkpoints that are trained on it call a rating."""


class LogError(ValueError):
    """An archive is not what it should be; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Step:
    """An event to ask before and to tell after. Users are numbered."""

    user: int
    num_past: int  # events of the user before it
    event: Event


@dataclass(frozen=True, slots=True)
class Log:
    """Each user's events in order of time, tied ones as the archive lists them."""

    users: tuple[str, ...]  # their names in the archive
    histories: tuple[tuple[Event, ...], ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            LogError: missing, or of another layout.
        """
        found: dict[str, list[Event]] = {}
        try:
            with zipfile.ZipFile(path) as archive:
                lines = archive.read(RATINGS).decode("ascii").splitlines()
            for line in lines:
                user, item_id, rating, timestamp = line.split("::")
                event = Event(item_id=item_id, action=ACTIONS[rating], timestamp=int(timestamp))
                found.setdefault(user, []).append(event)
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise LogError(
                f"{path} is not a MovieLens 1M archive ({error}); get ml-1m.zip from "
                "grouplens.org/datasets/movielens and pass its path"
            ) from error
        histories = (sorted(each, key=lambda event: event["timestamp"]) for each in found.values())
        return cls(tuple(found), tuple(tuple(each) for each in histories))

    def of(self, num_users: int, seed: int) -> Self:
        """As many users, chosen by the seed; all of them where there are not more."""
        count = min(num_users, len(self.users))
        chosen = sorted(Random(f"{seed}:replay").sample(range(len(self.users)), count))
        return type(self)(
            tuple(self.users[user] for user in chosen),
            tuple(self.histories[user] for user in chosen),
        )

    def past(self, user: int, num_last: int) -> tuple[Event, ...]:
        """What lies before the events of `steps`."""
        history = self.histories[user]
        return history[: max(1, len(history) - num_last)]

    def steps(self, num_last: int) -> list[Step]:
        """The last events of all users in order of time, of those that have any before."""
        found = [
            Step(user, place, history[place])
            for user, history in enumerate(self.histories)
            for place in range(max(1, len(history) - num_last), len(history))
        ]
        return sorted(found, key=lambda step: step.event["timestamp"])


def write_subset(source: Path, users: Iterable[str], target: Path) -> None:
    """An archive of the same layout with the ratings of these users alone, and all movies."""
    kept = {f"{user}::".encode() for user in users}
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as part:
        ratings = whole.read(RATINGS).splitlines(keepends=True)
        rows = (line for line in ratings if line[: line.index(b"::") + 2] in kept)
        part.writestr(RATINGS, b"".join(rows))
        part.writestr(MOVIES, whole.read(MOVIES))
