"""The first task of a night: whether there is a model to score with."""

from __future__ import annotations

from datetime import date

from conf.settings import Settings
from models.registry import champion_version


def run(settings: Settings, as_of_date: date) -> None:
    """Print the champion's version.

    Raises NoChampion, whose text says which DAG to run.
    """
    print(f"scoring {as_of_date} with model version {champion_version(settings)}")
