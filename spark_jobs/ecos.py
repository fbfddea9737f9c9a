"""ECOS, the statistics of the Bank of Korea. Today's values only: it tells of no vintages.

Documentation: StatisticSearch and its messages https://ecos.bok.or.kr/api/#/DevGuide/StatisticalCodeSearch. The key and all
that is asked for stand in the path; messages come with HTTP status 200, as JSON or as XML. The client libraries
(PublicDataReader, ecos-reader) hand on data frames, not the answers, and so are not used.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

from conf.settings import Settings
from spark_jobs.fetching import Answer, Busy, FetchRefused, Service, refuse_web_page
from spark_jobs.landed_answers import SERIES_COLUMNS, LandedAnswers, read_csv, write_csv

_MAX_ROWS = 1000
_NO_DATA = "INFO-200"
# Time-outs, errors of the server or its database, and too many requests within a short while.
_PASSING = frozenset({"ERROR-400", "ERROR-500", "ERROR-600", "ERROR-601", "ERROR-602"})
_MESSAGE = re.compile(rb'"CODE"\s*:\s*"([A-Z]+-\d+)"|<CODE>([A-Z]+-\d+)</CODE>')


class Ecos:
    """What ECOS knows of the series that the settings name, landed."""

    def __init__(self, service: Service, key: str, settings: Settings) -> None:
        self._service, self._key, self._settings = service, key, settings
        self._answers = LandedAnswers(settings.indicator_landing, "ecos")

    def fetch(self, as_of_date: date) -> None:
        """Land each series as it stands, whole, as its revisions are told nowhere else; once for a day.

        Raises FetchRefused and FetchUnavailable.
        """
        self._answers.open_day(as_of_date)
        for series, asked in self._settings.fetching.ecos_series.items():
            if self._answers.watermark(series).get("until", "") >= as_of_date.isoformat():
                continue
            table, cycle, item = asked.split("/")
            start, end = (_period(day, cycle) for day in (self._settings.fetching.observed_from, as_of_date))
            first, count = 1, 1
            while first <= count:
                path = f"json/kr/{first}/{first + _MAX_ROWS - 1}/{table}/{cycle}/{start}/{end}/{item}"
                answer = self._service.get(f"StatisticSearch/{self._key}/{path}", shown=f"StatisticSearch {path}", judge=_judge)
                if _message(answer) == _NO_DATA:
                    break
                self._answers.land(as_of_date, f"{series}/{first:07d}.json", answer.content)
                count = int(json.loads(answer.content)["StatisticSearch"]["list_total_count"])
                first += _MAX_ROWS
            self._answers.set_watermark(series, {"until": as_of_date.isoformat()})


def _message(answer: Answer) -> str | None:
    found = _MESSAGE.search(answer.content)
    return (found[1] or found[2]).decode() if found else None


def _judge(answer: Answer) -> None:
    refuse_web_page(answer)
    message = _message(answer)
    if message in _PASSING:
        raise Busy(message)
    if message not in (None, _NO_DATA):
        raise FetchRefused(f"{message}{' (MOSAIC_KEYS__ECOS)' if message == 'INFO-100' else ''}")
    if answer.status != 200:
        raise FetchRefused(f"HTTP {answer.status}")
    if message is None and b'"StatisticSearch"' not in answer.content:
        raise Busy("neither data nor a message")


def _period(day: date, cycle: str) -> str:
    """The period of a day as ECOS writes it: years, quarters, months."""
    return {"A": f"{day:%Y}", "Q": f"{day.year}Q{(day.month + 2) // 3}", "M": f"{day:%Y%m}"}[cycle]


def _first_day(period: str) -> str:
    """The first day of a period that ECOS names, ISO."""
    year, quarter, month = re.fullmatch(r"(\d{4})(?:Q(\d)|(\d{2}))?", period).groups()
    return date(int(year), (int(quarter) - 1) * 3 + 1 if quarter else int(month or 1), 1).isoformat()


def write_series(settings: Settings, path: Path) -> int:
    """Bring a CSV file of values to all that has landed; returns its rows. No known_from: ingest tells it from the series."""
    answers = LandedAnswers(settings.indicator_landing, "ecos")
    days = answers.open_days()
    values = {(row["series_id"], row["observed_on"]): row["value"] for row in read_csv(path)}
    for day in days:
        for name, content in answers.of_day(day, "*/*.json"):
            for row in json.loads(content)["StatisticSearch"]["row"]:
                values[name.split("/")[0], _first_day(row["TIME"])] = row["DATA_VALUE"]
    count = write_csv(path, SERIES_COLUMNS, (
        {"series_id": series, "observed_on": observed_on, "value": value} for (series, observed_on), value in sorted(values.items())
    ))
    for day in days:
        answers.close_day(day)
    return count
