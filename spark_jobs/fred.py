"""FRED: series of the Federal Reserve Bank of St. Louis with their vintages, so that each value has the day it was told.

Documentation: observations https://fred.stlouisfed.org/docs/api/fred/series_observations.html, real-time periods
https://fred.stlouisfed.org/docs/api/fred/realtime_period.html, errors https://fred.stlouisfed.org/docs/api/fred/errors.html
(HTTP status, and error_code and error_message in the body). One answer holds at most 100,000 observations of at most 2,000
vintages. The client library (fredapi) hands on data frames, not the answers, and so is not used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

from conf.settings import Settings
from spark_jobs.fetching import Answer, FetchRefused, Service, parsed_json, refuse_web_page
from spark_jobs.landed_answers import SERIES_COLUMNS, LandedAnswers, read_csv, write_csv

# The first day of the service's archive.
_FIRST_DAY = date(1776, 7, 4)
_MAX_ROWS = 100_000
_TOO_MANY_VINTAGES = "maximum number of vintage dates"
_NO_VINTAGES = "does not exist in ALFRED"
_NO_VALUE = "."


class TooManyVintages(Exception):
    """The real-time period holds more vintages than one answer may."""


class NoVintages(FetchRefused):
    """The real-time period lies before the first vintage of the series, or there are none of it at all."""


class Fred:
    """What FRED knows of the series that the settings name, landed."""

    def __init__(self, service: Service, key: str, settings: Settings) -> None:
        self._service, self._key, self._settings = service, key, settings
        self._answers = LandedAnswers(settings.indicator_landing, "fred")

    def fetch(self, as_of_date: date) -> None:
        """Land what was told until as_of_date and is not here yet, by series.

        Raises FetchRefused, also for a series that FRED does not know or has no vintages of, and FetchUnavailable.
        """
        self._answers.open_day(as_of_date)
        for series in self._settings.fetching.fred_series:
            until = self._answers.watermark(series).get("until")
            # The last day once more: it had not ended everywhere when it was fetched.
            self._land(as_of_date, series, date.fromisoformat(until) if until else _FIRST_DAY, as_of_date)
            self._answers.set_watermark(series, {"until": max(until or "", as_of_date.isoformat())})

    def _land(self, day: date, series: str, told_from: date, told_until: date) -> None:
        """Land one real-time period; one with too many vintages in halves."""
        if told_from > told_until:
            return
        try:
            offset, count = 0, 1
            while offset < count:
                answer = self._service.get(
                    "series/observations",
                    {
                        "api_key": self._key, "file_type": "json", "series_id": series, "output_type": 1, "limit": _MAX_ROWS,
                        "offset": offset, "realtime_start": told_from.isoformat(), "realtime_end": told_until.isoformat(),
                        "observation_start": self._settings.fetching.observed_from.isoformat(),
                    },
                    shown=f"series/observations {series} {told_from} to {told_until}",
                    judge=_judge,
                )
                self._answers.land(day, f"{series}/{told_from}_{told_until}_{offset:07d}.json", answer.content)
                count = json.loads(answer.content)["count"]
                offset += _MAX_ROWS
        except TooManyVintages:
            middle = told_from + (told_until - told_from) // 2
            with suppress(NoVintages):
                self._land(day, series, told_from, middle)
            self._land(day, series, middle + timedelta(days=1), told_until)


def _judge(answer: Answer) -> None:
    refuse_web_page(answer)
    found = parsed_json(answer)
    if answer.status == 200:
        return
    message = found.get("error_message", "")
    if _TOO_MANY_VINTAGES in message:
        raise TooManyVintages
    if _NO_VINTAGES in message:
        raise NoVintages(message)
    raise FetchRefused(f"HTTP {answer.status}: {message}{' (MOSAIC_KEYS__FRED)' if 'api_key' in message else ''}")


def write_series(settings: Settings, path: Path) -> int:
    """Bring a CSV file of values and the days on which they were told to all that has landed; returns its rows.

    Of each observation every value is a row, known from the first day on which it was told. A row that repeats the value
    before it, as the first of a real-time period does, tells nothing new. Raises FetchRefused for a series that has several
    observations in a month: indicators are monthly at most.
    """
    answers = LandedAnswers(settings.indicator_landing, "fred")
    days = answers.open_days()
    told = {(row["series_id"], row["observed_on"], row["known_from"]): row["value"] for row in read_csv(path)}
    for day in days:
        for name, content in answers.of_day(day, "*/*.json"):
            for row in json.loads(content)["observations"]:
                if row["value"] != _NO_VALUE:
                    told[name.split("/")[0], row["date"], row["realtime_start"]] = row["value"]
    rows = list(_changes(told))
    months: dict[tuple[str, str], str] = {}
    for row in rows:
        if months.setdefault((row["series_id"], row["observed_on"][:7]), row["observed_on"]) != row["observed_on"]:
            raise FetchRefused(f"fred: {row['series_id']} has several values in {row['observed_on'][:7]}: name a monthly series")
    count = write_csv(path, SERIES_COLUMNS, rows)
    for day in days:
        answers.close_day(day)
    return count


def _changes(told: dict[tuple[str, str, str], str]) -> Iterator[dict[str, str]]:
    """The values that differ from what was told of the same observation before."""
    before: tuple[str, str, str] | None = None
    for series, observed_on, known_from in sorted(told):
        value = told[series, observed_on, known_from]
        if before != (series, observed_on, value):
            yield {"series_id": series, "observed_on": observed_on, "known_from": known_from, "value": value}
        before = (series, observed_on, value)
