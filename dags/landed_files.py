"""Which of a source's files have not landed yet. Looks at names only."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from conf.source import Source


def missing_files(source: Source, data_folder: Path, as_of_date: date) -> list[str]:
    """What the mapping awaits and is not there, in words: a required kind without any file knowable by the as-of
    date, or a daily kind without a file of that very day; each with the folder in which it is looked for."""
    missing = []
    for name, file in source.files.items():
        days = [file.day(path) for path in file.landed_in(data_folder)]
        here = f"{' or '.join(file.path)} in {file.folder_in(data_folder)}"
        if file.daily and as_of_date not in days:
            missing.append(f"{name} of {as_of_date} ({here})")
        elif file.required and not any(day is None or day <= as_of_date for day in days):
            missing.append(f"{name} ({here})")
    return missing

