"""Which earlier nights count as bought: the one that readers read, and those that it was built on.

Each night's manifest names the night that it tops up: the newest earlier one of this chain when it was opened. So a night
that was refused at a gate or never published counts for nothing, as nobody was told of it; nor does a backfill, as readers
never went over to it and the nights behind it did not build on it. A rollback takes back the nights after the batch that it
goes back to, and going forward again brings them back. A night that is run again builds on what it built on before, unless
the pointer was moved to another chain since. Nights published before there were holdings do not count: each of them
spread every order anew.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import date

from conf.settings import Settings
from spark_jobs.database import connect

_CHAIN = """
WITH RECURSIVE published AS (
    SELECT DISTINCT ON (batch_id) batch_id, manifest FROM publication.publication_log
    WHERE product = %(product)s AND manifest ? 'allocation_version' ORDER BY batch_id, entry DESC
), counted AS (
    SELECT batch_id, manifest FROM published WHERE batch_id = coalesce(
        %(newest)s, (SELECT batch_id FROM publication.current_batch WHERE product = %(product)s))
    UNION ALL
    SELECT published.batch_id, published.manifest FROM published
    JOIN counted ON published.batch_id = counted.manifest ->> 'tops_up'
)
SELECT batch_id, (manifest ->> 'as_of_date')::date AS as_of_date, (manifest ->> 'allocation_version')::bigint FROM counted
WHERE (manifest ->> 'as_of_date')::date < %(as_of_date)s ORDER BY as_of_date
"""


@dataclass(frozen=True)
class CountedNight:
    """A published night whose allocations were bought. allocation_version: of the Delta table, that holds them."""

    batch_id: str
    as_of_date: date
    allocation_version: int


def counted_nights(settings: Settings, as_of_date: date, newest: str | None = None) -> list[CountedNight]:
    """The nights before the as-of date that count, by date: the batch called newest, by default the one that readers read,
    and those that it was built on."""
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(_CHAIN, {"product": settings.product, "newest": newest, "as_of_date": as_of_date})
        return [CountedNight(*row) for row in cursor.fetchall()]
