"""Owns the public data sets: where they are published, what they must be, where they are kept.

Never fetches.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_MOVIELENS = "https://files.grouplens.org/datasets/movielens/"
_AMAZON = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"


@dataclass(frozen=True, slots=True)
class PublicFile:
    """A file that its owners publish; without a checksum it has to be fetched by hand."""

    address: str
    sha256: str | None
    max_bytes: int

    @property
    def file_name(self) -> str:
        return self.address.rpartition("/")[2]


PUBLIC = {
    "ml-1m": PublicFile(
        f"{_MOVIELENS}ml-1m.zip",
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        8 << 20,
    ),
    "ml-20m": PublicFile(
        f"{_MOVIELENS}ml-20m.zip",
        "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        256 << 20,
    ),
    "ml-latest-small": PublicFile(
        f"{_MOVIELENS}ml-latest-small.zip",
        "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        8 << 20,
    ),
    "amazon-beauty": PublicFile(f"{_AMAZON}reviews_Beauty_5.json.gz", None, 256 << 20),
}
"""Public sets by name. Its owners publish no checksum of Amazon Beauty."""


def cache_folder() -> Path:
    """`mfalcon/data` in the user's cache folder, as the XDG base directories have it."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "mfalcon" / "data"
