"""Owns the lines of a text file: its first line, and the place of what is wrong in it.

Never builds columns. Slow scans run only once something is known to be wrong.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from model.data.errors import DataError

_MAX_LINE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Text:
    """A UTF-8 file, or what a packed file unpacked to."""

    path: Path
    content: bytes | None = None

    @property
    def source(self) -> Path | bytes:
        return self.path if self.content is None else self.content

    def open(self) -> BinaryIO:
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    def first_line(self) -> str:
        """
        Raises:
            DataError: not UTF-8, or only blank.
        """
        with self.open() as file:
            line = file.readline(_MAX_LINE_BYTES)
        try:
            text = line.decode("utf-8-sig").strip("\r\n")
        except UnicodeDecodeError as error:
            raise self._not_utf8(1, error) from error
        if not text.strip():
            raise DataError(f"{self.path}: line 1 is blank; the file needs a header and rows")
        return text

    def records(self, separator: str) -> Iterator[tuple[int, list[str]]]:
        """The line where each record ends, and its fields; blank lines have none."""
        with io.TextIOWrapper(self.open(), "utf-8-sig", errors="replace", newline="") as lines:
            reader = csv.reader(lines, delimiter=separator)
            for fields in reader:
                yield reader.line_num, fields

    def json_lines(self) -> Iterator[tuple[int, bytes]]:
        """The number of each line that is not blank, and the line."""
        with self.open() as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line

    def check_utf8(self) -> None:
        """
        Raises:
            DataError: a line is not UTF-8; names the first.
        """
        with self.open() as file:
            for number, line in enumerate(file, start=1):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    raise self._not_utf8(number, error) from error

    def check_widths(self, separator: str) -> None:
        """
        Raises:
            DataError: a record has more or fewer fields than the first, or only empty ones;
                names it.
        """
        width = 0
        try:
            for line, fields in self.records(separator):
                width = width or len(fields)
                if fields and len(fields) != width:
                    raise DataError(
                        f"{self.path}: line {line} has {len(fields)} fields instead of {width}; "
                        "correct or remove it (a field that holds the separator needs quotes)"
                    )
                if fields and not any(fields):
                    raise DataError(f"{self.path}: line {line} has only empty fields; remove it")
        except csv.Error as error:
            raise DataError(f"{self.path} is not a readable table: {error}") from error

    def check_json(self) -> None:
        """
        Raises:
            DataError: a line is not a JSON object; names the first.
        """
        for number, line in self.json_lines():
            try:
                whole = isinstance(json.loads(line), dict)
            except ValueError:
                whole = False
            if not whole:
                raise DataError(
                    f"{self.path}: line {number} is not a JSON object; each line needs to be one"
                )

    def _not_utf8(self, line: int, error: UnicodeDecodeError) -> DataError:
        return DataError(
            f"{self.path}: line {line} is not UTF-8 ({error.reason}); convert the file to UTF-8"
        )
