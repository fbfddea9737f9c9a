"""fetch_filings: statements of companies from a public service to files that ingest takes in. Starts no JVM.

The source says which service: opendart or edgar. Answers land as received under ``raw``; the CSV files beside them are what
the source's mapping reads. CSV and not JSON, because ingest's reader then stays the only one: an answer is a few megabytes of
nested JSON, which is taken apart here once, by plain code that is tested without Spark.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import date

from conf.settings import Settings
from spark_jobs import edgar, opendart
from spark_jobs.fetching import LimitReached, Service
from spark_jobs.skipped import skip

logger = logging.getLogger(__name__)


def run(settings: Settings, as_of_date: date, wait: Callable[[float], None] = time.sleep) -> None:
    """Land what was filed until as_of_date and is not here yet, and make its CSV files.

    A limit of the service ends a run early and well: the next one goes on from there. Without a key or contact the process
    ends with SKIPPED. Raises FetchRefused and FetchUnavailable; what landed before stays, and gets its files too.
    """
    fetching = settings.fetching
    if settings.source == "opendart":
        if settings.keys.dart is None:
            skip("fetch_filings is skipped: set MOSAIC_KEYS__DART (https://opendart.fss.or.kr gives keys)")
        service = Service("dart", fetching.dart_url, fetching, {}, wait)
        fetch = opendart.OpenDart(service, settings.keys.dart.get_secret_value(), settings).fetch
        write = opendart.write_statements
    elif settings.source == "edgar":
        if fetching.contact is None:
            skip("fetch_filings is skipped: set MOSAIC_FETCHING__CONTACT to a name and an address, which EDGAR asks for")
        if not fetching.edgar_companies:
            skip("fetch_filings is skipped: set MOSAIC_FETCHING__EDGAR_COMPANIES to central index keys")
        service = Service("edgar", fetching.edgar_url, fetching, {"User-Agent": fetching.contact}, wait)
        fetch = edgar.Edgar(service, settings).fetch
        write = edgar.write_statements
    else:
        skip(f"fetch_filings is skipped: the files of source {settings.source} are not fetched")
    try:
        fetch(as_of_date)
    except LimitReached as limit:
        logger.warning("%s: the next run goes on from here", limit)
    finally:
        service.close()
        print(f"{write(settings)} filings landed in {settings.data_folder}")
