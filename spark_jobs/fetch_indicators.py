"""fetch_indicators: outside indicators from FRED and ECOS to files that ingest_market_indicators takes in. Starts no JVM."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import date

from conf.settings import Settings
from spark_jobs import ecos, fred
from spark_jobs.fetching import Service
from spark_jobs.skipped import skip


def run(settings: Settings, as_of_date: date, wait: Callable[[float], None] = time.sleep) -> None:
    """Land what was told until as_of_date by each service that there is a key for, and make its CSV file.

    Without any key the process ends with SKIPPED; so it does for the simulated market, which draws its own economy. Raises
    FetchRefused and FetchUnavailable; what landed before stays.
    """
    if settings.source == "simulated":
        skip("fetch_indicators is skipped: the simulated market has an economy of its own")
    keys, fetching = settings.keys, settings.fetching
    if keys.fred is None and keys.ecos is None:
        skip("fetch_indicators is skipped: set MOSAIC_KEYS__FRED or MOSAIC_KEYS__ECOS (each service gives keys on its site)")
    for name, key, url, client, write_series, file in (
        ("fred", keys.fred, fetching.fred_url, fred.Fred, fred.write_series, "fred_vintages.csv"),
        ("ecos", keys.ecos, fetching.ecos_url, ecos.Ecos, ecos.write_series, "ecos_series.csv"),
    ):
        if key is None:
            continue
        with closing(Service(name, url, fetching, {}, wait)) as service:
            client(service, key.get_secret_value(), settings).fetch(as_of_date)
        print(f"{write_series(settings, settings.indicator_landing / file)} values of {name.upper()}")
