"""Owns the archives and the interactions that the training tests use."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from model.data.interactions import Interactions
from model.history import Event
from model.items import Items

MEMBERS_1M = {
    "ml-1m/ratings.dat": "1::20::5::100\n1::10::3::100\n1::30::2::50\n2::20::1::7\n",
    "ml-1m/movies.dat": "10::A (1990)::Drama\n20::B::Crime|War\n30::C::Drama\n40::D::War\n",
}
MEMBERS_LATEST = {
    "ml-latest/ratings.csv": "userId,movieId,rating,timestamp\n"
    "1,20,5.0,100\n1,10,3.0,100\n1,30,2.0,50\n2,20,1.0,7\n",
    "ml-latest/movies.csv": "movieId,title,genres\n"
    "10,A (1990),Drama\n20,B,Crime|War\n30,C,Drama\n40,D,War\n",
}


def archive_of(path: Path, members: Mapping[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def interactions_of(users: Sequence[Sequence[Event]], num_items: int) -> Interactions:
    events = [event for user in users for event in user]
    columns = torch.tensor(events, dtype=torch.int64).reshape(-1, 3).T.contiguous()
    offsets = torch.tensor([0, *(len(user) for user in users)]).cumsum(0)
    items = Items([{"item_id": f"i{n}", "title": f"film {n}"} for n in range(num_items)])
    user_ids = [f"u{n}" for n in range(len(users))]
    return Interactions(items, user_ids, offsets, *columns)


def cycling_users(count: int, length: int, num_items: int) -> list[list[Event]]:
    """What a model can learn: each item is followed by the next, and its action is its own."""
    return [
        [
            Event(item % num_items, 1 + item % num_items % 3, 1_000 * user + 60 * place)
            for place, item in enumerate(range(user, user + length))
        ]
        for user in range(count)
    ]
