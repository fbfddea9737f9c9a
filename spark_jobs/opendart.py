"""Open DART, the Korean supervisor's filings: annual reports found by day, each one's statements, who filed it.

Documentation (requests, answers, messages), Financial Supervisory Service:
company codes https://opendart.fss.or.kr/guide/detail.do?apiGrpCd=DS001&apiId=2019018,
search https://opendart.fss.or.kr/guide/detail.do?apiGrpCd=DS001&apiId=2019001,
company https://opendart.fss.or.kr/guide/detail.do?apiGrpCd=DS001&apiId=2019002,
statements https://opendart.fss.or.kr/guide/detail.do?apiGrpCd=DS003&apiId=2019020 (English:
https://engopendart.fss.or.kr/guide/detail.do?apiGrpCd=DE003&apiId=AE00036).
The client libraries (OpenDartReader, dart-fss) hand on data frames, not the answers, and so are not used.
"""

from __future__ import annotations

import io
import json
import logging
import re
import zipfile
from calendar import monthrange
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from xml.etree import ElementTree

from conf.settings import Settings
from spark_jobs.fetching import Answer, Busy, FetchRefused, LimitReached, Service, parsed_json, refuse_web_page
from spark_jobs.landed_answers import LandedAnswers
from spark_jobs.statements import Statements, plain_number

logger = logging.getLogger(__name__)

ANNUAL_REPORT = "11011"
_ANNUAL_REPORT_FILED = "A001"
_NO_DATA = "013"
# Messages of every guide page.
_REFUSED = frozenset({"010", "011", "012", "014", "021", "100", "101", "901"})
_LIMIT = "020"
_PAUSED = frozenset({"800", "900"})
# A search over all companies reaches three months at most; 89 days always lie within three months.
_WINDOW_DAYS = 89
# Statements may come some days after the report that they belong to: so far back a run looks again.
_LATE_DAYS = 7
_PAGE_ROWS = 100
_CODES_AGE_DAYS = 30
# "[기재정정]사업보고서 (2023.12)": what was done to the report, its kind, the month in which its period ends.
_REPORT_NAME = re.compile(r"^(?P<changed>\[[^\]]*\])?\s*사업보고서\s*\((?P<year>\d{4})\.(?P<month>\d{2})\)")
# Profit stands in several statements; what the first of these tells counts. Changes in equity (SCE) repeat each account by column.
_STATEMENTS = ("BS", "IS", "CIS", "CF")


class OpenDart:
    """What Open DART knows, landed. Consolidated statements where a company has them, else its own."""

    def __init__(self, service: Service, key: str, settings: Settings) -> None:
        self._service, self._key, self._settings = service, key, settings
        self._answers = LandedAnswers(settings.data_folder, "opendart")

    def fetch(self, as_of_date: date) -> None:
        """Land all annual reports filed until as_of_date that are not here yet.

        Raises FetchRefused, FetchUnavailable, LimitReached.
        """
        self._answers.open_day(as_of_date)
        self._land_codes(as_of_date)
        for company in self._companies() or [None]:
            self._land_reports(as_of_date, company)

    def _companies(self) -> list[str]:
        """The company codes that the settings ask for; none: all companies."""
        asked = self._settings.fetching.dart_companies
        by_stock = {row["stock_code"]: row["corp_code"] for row in self._codes()} if any(len(one) == 6 for one in asked) else {}
        unknown = [one for one in asked if len(one) == 6 and one not in by_stock]
        if unknown:
            raise FetchRefused(f"fetching.dart_companies: no company has the stock code {', '.join(unknown)}")
        return [by_stock.get(one, one) for one in asked]

    def _codes(self) -> Iterator[dict[str, str]]:
        with zipfile.ZipFile(io.BytesIO(self._answers.newest("corp_code.zip") or b"")) as archive:
            for company in ElementTree.fromstring(archive.read(archive.namelist()[0])).iter("list"):
                yield {child.tag: (child.text or "").strip() for child in company}

    def _land_codes(self, day: date) -> None:
        landed_on = self._answers.watermark("corp_code").get("landed_on")
        if landed_on and day - date.fromisoformat(landed_on) < timedelta(days=_CODES_AGE_DAYS):
            return
        answer = self._service.get("corpCode.xml", {"crtfc_key": self._key}, shown="corpCode.xml", judge=_judge_archive)
        self._answers.land(day, "corp_code.zip", answer.content)
        self._answers.set_watermark("corp_code", {"landed_on": day.isoformat()})

    def _land_reports(self, as_of_date: date, company: str | None) -> None:
        """Land what was filed since the watermark of one company, or of all."""
        of = company or "all"
        until = self._answers.watermark(of).get("until")
        start = date.fromisoformat(until) - timedelta(days=_LATE_DAYS) if until else self._settings.fetching.filings_from
        while start <= as_of_date:
            end = min(as_of_date, start + timedelta(days=_WINDOW_DAYS - 1))
            self._land_window(as_of_date, company, start, end)
            self._answers.set_watermark(of, {"until": end.isoformat()})
            start = end + timedelta(days=1)

    def _land_window(self, day: date, company: str | None, start: date, end: date) -> None:
        listed: dict[tuple[str, date], set[str]] = {}
        for report in self._land_search(day, company, start, end):
            if (period_end := _period_end(report["report_nm"])) is not None:
                listed.setdefault((report["corp_code"], period_end), set()).add(report["rcept_no"])
        without = 0
        for (corp_code, period_end), numbers in listed.items():
            # Only a period's newest report can be asked for; the ones before it are gone unless they landed in their time.
            if not self._answers.has(f"statement/{max(numbers)}_?FS.json"):
                without += not self._land_statements(day, corp_code, period_end, numbers)
            if not self._answers.has(f"company/{corp_code}.json"):
                answer = self._get("company.json", {"corp_code": corp_code}, f"company.json {corp_code}")
                self._answers.land(day, f"company/{corp_code}.json", answer.content)
        logger.info("opendart: %s annual reports filed from %s to %s, %s of them without statements", len(listed), start, end, without)

    def _land_search(self, day: date, company: str | None, start: date, end: date) -> Iterator[dict[str, Any]]:
        """Land the pages of a search, the oldest filing first; corrections stand beside what they correct."""
        asked: dict[str, str | int] = {
            "bgn_de": f"{start:%Y%m%d}", "end_de": f"{end:%Y%m%d}", "last_reprt_at": "N", "pblntf_detail_ty": _ANNUAL_REPORT_FILED,
            "sort": "date", "sort_mth": "asc", "page_count": _PAGE_ROWS,
        } | ({"corp_code": company} if company else {})
        page, pages = 1, 1
        while page <= pages:
            answer = self._get("list.json", {**asked, "page_no": page}, f"list.json {start} to {end}, page {page}")
            found = json.loads(answer.content)
            if found["status"] == _NO_DATA:
                return
            self._answers.land(day, f"list/{company or 'all'}_{start:%Y%m%d}_{end:%Y%m%d}_{page:04d}.json", answer.content)
            yield from found["list"]
            page, pages = page + 1, int(found["total_page"])

    def _land_statements(self, day: date, corp_code: str, period_end: date, numbers: set[str]) -> bool:
        """Land the statements of a company's period, if they are those of a listed report; returns whether they are.

        The guide does not say whether a fiscal year that ends in March is called by this year or by the one before: both are
        asked for, and the report's number tells.
        """
        years = [period_end.year] if period_end.month == 12 else [period_end.year, period_end.year - 1]
        for year in years:
            for division in ("CFS", "OFS"):
                answer = self._get(
                    "fnlttSinglAcntAll.json",
                    {"corp_code": corp_code, "bsns_year": year, "reprt_code": ANNUAL_REPORT, "fs_div": division},
                    f"fnlttSinglAcntAll.json {corp_code} {year} {division}",
                )
                found = json.loads(answer.content)
                if found["status"] == _NO_DATA:
                    continue
                number = found["list"][0]["rcept_no"]
                if number in numbers:
                    self._answers.land(day, f"statement/{number}_{division}.json", answer.content)
                    return True
                break
        return False

    def _get(self, path: str, parameters: dict[str, str | int], shown: str) -> Answer:
        return self._service.get(path, {"crtfc_key": self._key, **parameters}, shown=shown, judge=_judge)


def _judge(answer: Answer) -> None:
    """Raise what an answer says that is neither data nor the lack of it."""
    refuse_web_page(answer)
    if answer.status != 200:
        raise FetchRefused(f"HTTP {answer.status}")
    found = parsed_json(answer)
    _judge_status(found.get("status", ""), found.get("message", ""))


def _judge_archive(answer: Answer) -> None:
    """An archive is a ZIP file; where it is not, the answer is XML that says why."""
    if zipfile.is_zipfile(io.BytesIO(answer.content)):
        return
    refuse_web_page(answer)
    told = dict(re.findall(rb"<(status|message)>([^<]*)</", answer.content))
    _judge_status(told.get(b"status", b"").decode(), told.get(b"message", b"").decode())
    raise Busy("no archive")


def _judge_status(status: str, message: str) -> None:
    if status in ("000", _NO_DATA):
        return
    said = f"status {status}: {message}"
    if status == _LIMIT:
        raise LimitReached(said)
    if status in _REFUSED:
        raise FetchRefused(f"{said} (MOSAIC_KEYS__DART)" if status in ("010", "011", "012", "901") else said)
    raise Busy(said if status in _PAUSED else f"unknown status {status!r}: {message}")


def _period_end(report_name: str) -> date | None:
    """The last day of an annual report's period, from the name that the search shows; None for other reports."""
    found = _REPORT_NAME.match(report_name)
    if not found:
        return None
    year, month = int(found["year"]), int(found["month"])
    return date(year, month, monthrange(year, month)[1])


def write_statements(settings: Settings) -> int:
    """Make the CSV files of every open day out of its answers; returns how many filings they tell of."""
    answers = LandedAnswers(settings.data_folder, "opendart")
    count = 0
    for day in answers.open_days():
        companies = {
            found["corp_code"]: {"name": found["corp_name"], "industry": found.get("induty_code")}
            for _, content in answers.of_day(day, "company/*.json") for found in [json.loads(content)]
        }
        reports = {
            report["rcept_no"]: report
            for _, content in answers.of_day(day, "list/*.json") for report in json.loads(content)["list"]
        }
        filings, items = [], {}
        for name, content in answers.of_day(day, "statement/*.json"):
            number, division = name.removeprefix("statement/").removesuffix(".json").split("_")
            rows, report = json.loads(content)["list"], reports[number]
            period_end = _period_end(report["report_nm"])
            filings.append({
                "filing_id": number,
                "company_id": report["corp_code"],
                "period_end": period_end.isoformat(),
                # A year is called after the day on which it ends: the service's own name for it is not told alike everywhere.
                "fiscal_year": period_end.year,
                "filed_on": date.fromisoformat(report["rcept_dt"]).isoformat(),
                "form": "amendment" if report["report_nm"].startswith("[") else "annual_report",
                "is_consolidated": str(division == "CFS").lower(),
                "currency": rows[0].get("currency") or "KRW",
            })
            items[number] = list(_items(rows))
            if report["corp_code"] not in companies:
                companies[report["corp_code"]] = _company(answers, report["corp_code"])
        count += Statements(settings.data_folder, day).write(
            companies, sorted(filings, key=lambda filing: (filing["filed_on"], filing["filing_id"])), items
        )
        answers.close_day(day)
    return count


def _company(answers: LandedAnswers, corp_code: str) -> dict[str, str | None]:
    """What a day before has told of a company that files again."""
    found = json.loads(answers.newest(f"company/{corp_code}.json"))
    return {"name": found["corp_name"], "industry": found.get("induty_code")}


def _items(rows: list[dict[str, str]]) -> Iterator[dict[str, str]]:
    """A report's accounts, each code of the first statement that has it; a code that one statement repeats stays repeated."""
    told: dict[str, str] = {}
    for statement in _STATEMENTS:
        for row in rows:
            code = row["account_id"]
            if row["sj_div"] == statement and told.setdefault(code, statement) == statement:
                yield {"statement": statement, "code": code, "label": row["account_nm"], "value": plain_number(row["thstrm_amount"])}
