"""Owns a made-up archive of the layout of MovieLens 1M."""

import zipfile
from pathlib import Path
from random import Random

NUM_MOVIES = 40
FIRST_S = 950_000_000


def write_archive(path: Path, *, num_users: int = 12, seed: int = 0) -> Path:
    """Users of 4 to 11 ratings of different movies, some of the same second, rows in no order."""
    rng = Random(seed)
    rows = []
    for user in range(1, num_users + 1):
        second = FIRST_S + rng.randrange(10_000)
        for movie in rng.sample(range(1, NUM_MOVIES + 1), rng.randint(4, 11)):
            second += rng.choice((0, 0, 7, 600))
            rows.append(f"{user}::{movie}::{rng.randint(1, 5)}::{second}")
    rng.shuffle(rows)
    titles = "".join(
        f"{movie}::Caf\xe9 {movie} (1999)::Drama\n" for movie in range(1, NUM_MOVIES + 1)
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml-1m/ratings.dat", "".join(f"{row}\n" for row in rows))
        archive.writestr("ml-1m/movies.dat", titles.encode("latin-1"))
    return path
