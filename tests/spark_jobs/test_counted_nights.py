"""Which nights count as bought, on a real server."""

from __future__ import annotations

from datetime import date, timedelta

from spark_jobs.counted_nights import CountedNight, counted_nights
from spark_jobs.publication import Batch, rollback
from tests.published_night import publish

FIRST = date(2020, 1, 1)


def test_nights_that_readers_read_count_and_what_they_were_built_on(empty_market):
    def night(number: int, run: str = "a", day: int | None = None) -> Batch:
        """What open_night and publish do: build on what counts, and tell the version that was published."""
        as_of_date = FIRST + timedelta(days=day or number)
        before = counted_nights(empty_market, as_of_date)
        manifest = {
            "as_of_date": as_of_date.isoformat(), "tops_up": before[-1].batch_id if before else None, "allocation_version": number,
        }
        return Batch(f"{as_of_date}-{run}", as_of_date, "1.0", manifest)

    def counted(day: int) -> list[int]:
        return [one.allocation_version for one in counted_nights(empty_market, FIRST + timedelta(days=day))]

    old = night(1)
    publish(empty_market, Batch(old.batch_id, old.as_of_date, "1.0", {"as_of_date": str(old.as_of_date)}))
    assert counted(9) == [], "from before there were holdings"
    nights = {}
    for number in (2, 4, 5):
        nights[number] = night(number)
        publish(empty_market, nights[number])
    assert counted_nights(empty_market, FIRST + timedelta(days=3)) == [CountedNight(nights[2].batch_id, nights[2].as_of_date, 2)]
    # A night that is opened and never published counts for nothing.
    assert night(6).manifest["tops_up"] == nights[5].batch_id and counted(9) == [2, 4, 5]
    # A night that was left out comes later: 4 and 5 did not build on it, and what they bought would be bought twice.
    assert publish(empty_market, night(3)) == "backfilled"
    assert counted(9) == [2, 4, 5]
    # The newest night from other inputs replaces itself, and builds on the same.
    again = night(50, "b", day=5)
    assert again.manifest["tops_up"] == nights[4].batch_id
    publish(empty_market, again)
    assert counted(9) == [2, 4, 50]
    # Back, and forward again.
    rollback(empty_market, nights[2].batch_id)
    assert counted(9) == [2]
    rollback(empty_market, again.batch_id)
    assert counted(9) == [2, 4, 50]
    # A night builds on the batch that it was opened with, wherever the pointer stands since.
    rollback(empty_market, nights[2].batch_id)
    newest = nights[4].batch_id
    assert [one.allocation_version for one in counted_nights(empty_market, FIRST + timedelta(days=5), newest)] == [2, 4]
