"""Statements of companies as rows, whatever service they come from: three kinds of CSV file, one of each a day."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path

from spark_jobs.landed_answers import read_csv, write_csv

COMPANY_COLUMNS = ("company_id", "name", "industry", "known_from")
FILING_COLUMNS = (
    "filing_id", "company_id", "period_end", "fiscal_year", "filed_on", "form", "restates", "is_consolidated", "currency",
)
ITEM_COLUMNS = ("filing_id", "company_id", "filed_on", "statement", "code", "label", "value")
_NUMBER = re.compile(r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$|^[+-]?\d+(\.\d+)?$")


class Statements:
    """The CSV files of one day, made anew from all that landed on it: each filing once, by its id, over all days."""

    def __init__(self, landing: Path, day: date) -> None:
        self._landing, self._day = landing, day
        filings = [row for path in self._others("filing") for row in read_csv(path)]
        self._filings = {row["filing_id"] for row in filings}
        self._last = {_period(row): row["filing_id"] for row in sorted(filings, key=lambda row: row["filed_on"])}
        self._companies = {row["company_id"] for path in self._others("company") for row in read_csv(path)}

    def _others(self, kind: str) -> list[Path]:
        return [path for path in sorted((self._landing / kind).glob("*.csv")) if path.stem != self._day.isoformat()]

    def write(
        self,
        companies: Mapping[str, Mapping[str, object]],
        filings: Iterable[Mapping[str, object]],
        items: Mapping[str, list[dict[str, object]]],
    ) -> int:
        """Write the day's files; returns how many filings they tell of.

        filings: candidates in the order in which they were filed; those without items, and those of other days, are left
        out. companies: what is known of each, by id; known from its first filing on.
        """
        fresh: list[dict[str, object]] = []
        parties: dict[str, dict[str, object]] = {}
        for filing in filings:
            if filing["filing_id"] in self._filings or not items.get(filing["filing_id"]):
                continue
            self._filings.add(filing["filing_id"])
            fresh.append({**filing, "restates": self._last.get(_period(filing))})
            self._last[_period(filing)] = filing["filing_id"]
            if (company := filing["company_id"]) not in self._companies:
                party = parties.setdefault(company, {**companies[company], "company_id": company, "known_from": filing["filed_on"]})
                party["known_from"] = min(party["known_from"], filing["filed_on"])
        write_csv(self._landing / "company" / f"{self._day}.csv", COMPANY_COLUMNS, parties.values())
        write_csv(self._landing / "statement_item" / f"{self._day}.csv", ITEM_COLUMNS, (
            {**item, **{name: filing[name] for name in ("filing_id", "company_id", "filed_on")}}
            for filing in fresh for item in items[filing["filing_id"]]
        ))
        return write_csv(self._landing / "filing" / f"{self._day}.csv", FILING_COLUMNS, fresh)


def _period(filing: Mapping[str, object]) -> tuple[object, ...]:
    return filing["company_id"], filing["period_end"], filing["is_consolidated"]


def plain_number(text: str | None) -> str:
    """A number as statements write it, without thousand separators; brackets and a trailing minus mean negative.

    A lone dash and nothing are nothing. What is no number stays as it is: the mapping's rule shall tell of it.

    >>> plain_number("(1,234,567)"), plain_number("-12"), plain_number("-"), plain_number("n/a")
    ('-1234567', '-12', '', 'n/a')
    """
    plain = (text or "").strip().replace("−", "-").replace("△", "-")
    if plain in ("", "-"):
        return ""
    negative = re.fullmatch(r"\((.+)\)|(.+)-", plain)
    number = (negative.group(1) or negative.group(2)).strip() if negative else plain
    if not _NUMBER.fullmatch(number):
        return plain
    number = number.replace(",", "").removeprefix("+")
    return f"-{number}" if negative and not number.startswith("-") else number
