"""Which of a source's files have not landed yet. Looks at names only."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from conf.source import Source


def missing_files(source: Source, data_folder: Path, as_of_date: date) -> list[str]:
    """What the mapping awaits and is not there, in words: a required kind without any file knowable by the as-of
    date, or a daily kind without a file of that very day."""
    missing = []
    for name, file in source.files.items():
        days = [file.day(path) for path in file.landed_in(data_folder)]
        wanted = f"{name} ({' or '.join(file.path)})"
        if file.daily and as_of_date not in days:
            missing.append(f"{wanted} of {as_of_date}")
        elif file.required and not any(day is None or day <= as_of_date for day in days):
            missing.append(wanted)
    return missing

