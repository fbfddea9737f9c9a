"""Answers of services as they land: raw bytes by day under ``raw``, watermarks beside them, and CSV files out of them.

The raw files are the record. CSV files, which landing and ingest read, are made of them at a run's end; a day whose run was
killed before that is open, and the next run makes its files. Everything is written whole or not at all, and reaches the disk
before a watermark that stands on it.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

# The CSV layout of series; known_from is empty where the service does not tell it.
SERIES_COLUMNS = ("series_id", "observed_on", "known_from", "value")


@dataclass(frozen=True)
class LandedAnswers:
    """The folder of one service's answers: raw/<service>/<day>/<name>."""

    landing: Path
    service: str

    @property
    def folder(self) -> Path:
        """Where the answers of this service lie."""
        return self.landing / "raw" / self.service

    def open_day(self, day: date) -> None:
        """Say that answers of a day are about to land, of which no CSV file has been made yet."""
        replace_file(self.folder / f"{day}.open", b"")

    def open_days(self) -> list[date]:
        """The days whose answers no CSV file has been made of, the oldest first."""
        return sorted(date.fromisoformat(path.stem) for path in self.folder.glob("*.open"))

    def close_day(self, day: date) -> None:
        """Say that the CSV files of a day are there."""
        (self.folder / f"{day}.open").unlink()

    def land(self, day: date, name: str, content: bytes) -> None:
        """Write an answer, as received."""
        replace_file(self.folder / day.isoformat() / name, content)

    def has(self, name: str) -> bool:
        """Whether an answer of this name has landed, on whatever day."""
        return next(self.folder.glob(f"????-??-??/{name}"), None) is not None

    def of_day(self, day: date, pattern: str) -> Iterator[tuple[str, bytes]]:
        """Names and contents of a day's answers, in the order of their names."""
        folder = self.folder / day.isoformat()
        for path in sorted(folder.glob(pattern)):
            yield str(path.relative_to(folder)), path.read_bytes()

    def newest(self, name: str) -> bytes | None:
        """The content of the last answer of this name; None where none has landed."""
        paths = sorted(self.folder.glob(f"????-??-??/{name}"))
        return paths[-1].read_bytes() if paths else None

    def watermark(self, of: str) -> dict[str, str]:
        """How far a series or company has been fetched; empty where nothing was."""
        path = self.folder / "watermarks" / f"{of}.json"
        return json.loads(path.read_bytes()) if path.exists() else {}

    def set_watermark(self, of: str, values: Mapping[str, str]) -> None:
        """Write down how far; only after all that it says has landed."""
        replace_file(self.folder / "watermarks" / f"{of}.json", json.dumps(values, sort_keys=True).encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; it has reached the disk, and its name too, when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> int:
    """Write rows as CSV with a header, empty where a row lacks a column; returns how many. Without a row there is no file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    count = 0
    for row in rows:
        # A line break within a field would cost the readers their speed; no name or label needs one.
        writer.writerow({name: "" if row.get(name) is None else " ".join(str(row[name]).split()) for name in columns})
        count += 1
    if count:
        replace_file(path, text.getvalue().encode())
    return count


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a file that write_csv has written; none where it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
