"""First task of a night: checks that a champion exists and writes the run manifest. Starts no JVM."""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from conf.database import NO_MODEL
from conf.settings import Settings
from conf.source import load_source
from spark_jobs.counted_nights import counted_nights
from spark_jobs.landing import landed_files
from spark_jobs.manifest import build_manifest, macro_files, newest_company_batch, open_manifest, orders_digest
from spark_jobs.orders import day_end

# Its days are drawn, not awaited.
SIMULATED = "simulated"


class FutureNight(ValueError):
    """A night was asked for that has not begun."""


def run(settings: Settings, as_of_date: date, training: bool = False) -> None:
    """Open the night of the as-of date; training opens one that needs no champion.

    Raises models.registry.NoChampion, which says what to run, and FutureNight for a day that has not begun.
    """
    source = load_source(settings.source).of_product(settings.product)
    refuse_future(settings, as_of_date)
    model_version = NO_MODEL if training else _champion_version(settings, as_of_date)
    files = landed_files(settings, source, as_of_date)
    # No order has a part in what companies are scored by.
    orders = orders_digest(settings, day_end(as_of_date, source.timezone)) if settings.product == "lending" else ""
    # Training neither buys nor owns anything.
    before = [] if training else counted_nights(settings, as_of_date)
    tops_up = before[-1].batch_id if before else None
    borrows = settings.product == "lending" and not training
    companies = newest_company_batch(settings, as_of_date) if borrows else None
    manifest = build_manifest(settings, as_of_date, files, model_version, macro_files(settings), orders, tops_up, companies)
    night = open_manifest(settings, manifest)
    print(f"night {night.batch_id}: {len(files)} landed files, model version {model_version}")


def refuse_future(settings: Settings, as_of_date: date) -> None:
    """Raise FutureNight for a day that has not begun.

    What is told of a day never gives way to an older day by itself, so that a mistyped year would stay for good.
    """
    today = datetime.now(ZoneInfo(settings.night.timezone)).date()
    if as_of_date > today and settings.source != SIMULATED:
        raise FutureNight(f"{as_of_date} lies ahead, today is {today}: correct AS_OF= or the parameter as_of_date")


def _champion_version(settings: Settings, as_of_date: date) -> str:
    # Importing the registry takes seconds, and a night opened for training needs none.
    from models.registry import champion_version, trained_on

    version = champion_version(settings)
    learned = trained_on(settings, version)
    if learned > as_of_date:
        print(f"model version {version} was trained on {learned}: its scores of {as_of_date} know more than was known then")
    return version
