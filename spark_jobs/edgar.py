"""SEC EDGAR: the filings of a company and all facts that it has ever tagged, each with the filing that told it.

Documentation, Securities and Exchange Commission: submissions and company facts
https://www.sec.gov/search-filings/edgar-application-programming-interfaces, who may ask how often, and the User-Agent that
names a contact, https://www.sec.gov/search-filings/edgar-search-assistance/accessing-edgar-data (ten requests a second).
The client libraries (edgartools, sec-edgar-api) hand on objects, not the answers, and so are not used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

from conf.settings import Settings
from spark_jobs.fetching import NOT_MODIFIED, Answer, Busy, FetchRefused, Service, parsed_json, refuse_web_page
from spark_jobs.landed_answers import LandedAnswers
from spark_jobs.statements import Statements

logger = logging.getLogger(__name__)

_FORMS = {"10-K": "annual_report", "10-KT": "annual_report", "20-F": "annual_report", "40-F": "annual_report"} | {
    form: "amendment" for form in ("10-K/A", "10-KT/A", "20-F/A", "40-F/A")
}
_OK, _NOT_FOUND = 200, 404
# Fiscal years of 52 or 53 weeks end on a weekday, not on a date.
_YEAR_DAYS = range(350, 381)


class Edgar:
    """What EDGAR knows of the companies that the settings name by their central index keys, landed."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self._service, self._settings = service, settings
        self._answers = LandedAnswers(settings.data_folder, "edgar")

    def fetch(self, as_of_date: date) -> None:
        """Land filings and facts that have changed since the last run.

        Raises FetchRefused, also for a company that EDGAR does not know, and FetchUnavailable.
        """
        self._answers.open_day(as_of_date)
        for cik in self._settings.fetching.edgar_companies:
            self._land_company(as_of_date, f"CIK{int(cik):010d}")

    def _land_company(self, day: date, cik: str) -> None:
        """Land a company's facts, then its filings: whatever told a fact is then among them.

        The watermarks are written when both are here. A run that ends before asks for both again, and they land together.
        """
        facts = self._land(day, f"api/xbrl/companyfacts/{cik}.json", f"companyfacts/{cik}.json")
        submissions = self._land(day, f"submissions/{cik}.json", f"submissions/{cik}.json")
        if submissions.status == _NOT_FOUND:
            raise FetchRefused(f"edgar: no company {cik} (fetching.edgar_companies)")
        if facts.status == _NOT_FOUND:
            logger.warning("edgar: %s has no tagged facts", cik)
        if submissions.status != NOT_MODIFIED:
            # Filings before the newest thousand or so.
            for page in json.loads(submissions.content)["filings"]["files"]:
                self._land(day, f"submissions/{page['name']}", f"submissions/{page['name']}")
        for name, answer in (("companyfacts", facts), ("submissions", submissions)):
            if answer.status == _OK:
                self._answers.set_watermark(f"{name}_{cik}", answer.validators)

    def _land(self, day: date, path: str, name: str) -> Answer:
        """The answer to a request, landed where it is new."""
        validators = self._answers.watermark(name.replace("/", "_").removesuffix(".json"))
        answer = self._service.get(path, shown=path, judge=_judge, validators=validators)
        if answer.status == _OK:
            self._answers.land(day, name, answer.content)
        return answer


def _judge(answer: Answer) -> None:
    if answer.status == 403:
        # Who asks too fast is turned away for ten minutes, with a web page; so is who names no contact.
        raise Busy("HTTP 403: too many requests, or no contact in MOSAIC_FETCHING__CONTACT")
    if answer.status == _NOT_FOUND:
        return
    refuse_web_page(answer)
    if answer.status != _OK:
        raise FetchRefused(f"HTTP {answer.status}")
    parsed_json(answer)


def write_statements(settings: Settings) -> int:
    """Make the CSV files of every open day out of its answers; returns how many filings they tell of."""
    answers = LandedAnswers(settings.data_folder, "edgar")
    count = 0
    for day in answers.open_days():
        companies, filings, items = {}, [], {}
        for name, content in answers.of_day(day, "companyfacts/*.json"):
            cik = name.removeprefix("companyfacts/").removesuffix(".json")
            filed = answers.newest(f"submissions/{cik}.json")
            if filed is None:
                continue  # the run broke off between the two: the next one lands both
            submissions = json.loads(filed)
            companies[cik] = {"name": submissions["name"], "industry": submissions.get("sic")}
            reports = {report["accessionNumber"]: report for report in _annual_reports(answers, submissions)}
            years, told = _facts(json.loads(content), reports)
            items |= told
            filings += [
                {
                    "filing_id": number,
                    "company_id": cik,
                    "period_end": report["reportDate"],
                    "fiscal_year": years[number],
                    "filed_on": report["filingDate"],
                    "form": _FORMS[report["form"]],
                    "is_consolidated": "true",
                    "currency": "USD",
                }
                for number, report in reports.items() if number in told
            ]
        count += Statements(settings.data_folder, day).write(
            companies, sorted(filings, key=lambda filing: (filing["filed_on"], filing["filing_id"])), items
        )
        answers.close_day(day)
    return count


def _annual_reports(answers: LandedAnswers, submissions: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The annual reports among a company's filings, which stand as one list per field."""
    older = [answers.newest(f"submissions/{page['name']}") for page in submissions["filings"]["files"]]
    for filings in [submissions["filings"]["recent"], *(json.loads(page) for page in older if page)]:
        for number, form in enumerate(filings["form"]):
            if form in _FORMS and filings["reportDate"][number]:
                yield {field: filings[field][number] for field in ("accessionNumber", "form", "filingDate", "reportDate")}


def _facts(
    company: Mapping[str, Any], reports: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, int], dict[str, list[dict[str, object]]]]:
    """Fiscal year and accounts by report: what it tells of its own period, in US dollars, not of the years before."""
    years: dict[str, int] = {}
    items: dict[str, list[dict[str, object]]] = {}
    for code, concept in company["facts"].get("us-gaap", {}).items():
        told: set[tuple[str, object]] = set()
        for fact in concept["units"].get("USD", []):
            report = reports.get(fact["accn"])
            if report is None or fact["end"] != report["reportDate"] or (fact["accn"], fact["val"]) in told:
                continue
            days = (date.fromisoformat(fact["end"]) - date.fromisoformat(fact["start"])).days if "start" in fact else None
            if days is None or days in _YEAR_DAYS:
                told.add((fact["accn"], fact["val"]))
                years[fact["accn"]] = fact["fy"]
                items.setdefault(fact["accn"], []).append(
                    {"statement": "BS" if days is None else "IS", "code": code, "label": concept.get("label"), "value": fact["val"]}
                )
    return years, items
