"""A local server that answers as the public services document it, for tests: the shapes, the messages, the errors.

Where each shape is documented stands in the module of its client (spark_jobs/opendart.py, edgar.py, fred.py, ecos.py), and
beside each function here. All companies, figures and keys are made up.
"""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

KEY = "k3y-0f-a-test-that-no-log-may-show"
MAINTENANCE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>The service is being maintained.</body></html>"


@dataclass(frozen=True)
class Request:
    """One request that has arrived; number counts from 1."""

    number: int
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(content: object, status: int = 200, **headers: str) -> Reply:
    """A reply in JSON; header names with underscores for dashes."""
    return Reply(json.dumps(content, ensure_ascii=False).encode(), status, {name.replace("_", "-"): text for name, text in headers.items()})


@dataclass
class PublicService:
    """A running server. first: replies that go before all others, one a request; requests: what has arrived."""

    url: str
    first: list[Reply] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [request.path for request in self.requests]


@contextmanager
def serve(answer: Callable[[Request], Reply]) -> Iterator[PublicService]:
    """A server on a free port of this machine, until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            with lock:
                request = Request(len(service.requests) + 1, parts.path, dict(parse_qsl(parts.query)), dict(self.headers))
                service.requests.append(request)
                reply = service.first.pop(0) if service.first else answer(request)
            self.send_response(reply.status)
            for name, text in reply.headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = PublicService(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class DartReport:
    """An annual report. month: of its period's end, as in its name; accounts: rows of its statements, None: there are none
    (yet). shown_year: the year by which the service finds it."""

    number: str
    corp_code: str
    filed_on: str
    month: str
    accounts: list[tuple[str, str, str, str]] | None
    changed: str = ""
    division: str = "CFS"
    shown_year: str = ""


@dataclass
class Dart:
    """Open DART in the shapes of its developer guide: corpCode.xml (apiId 2019018), list.json (2019001), company.json
    (2019002), fnlttSinglAcntAll.json (2019020); messages stand under each page. Search pages have page_rows rows."""

    reports: list[DartReport]
    page_rows: int = 100

    def __call__(self, request: Request) -> Reply:
        """The answer to one request."""
        if request.query.get("crtfc_key") != KEY:
            return as_json({"status": "010", "message": "등록되지 않은 키입니다."})
        return {
            "/corpCode.xml": self._codes, "/list.json": self._list, "/company.json": self._company,
            "/fnlttSinglAcntAll.json": self._statements,
        }[request.path](request.query)

    def _codes(self, query: Mapping[str, str]) -> Reply:
        companies = "".join(
            f"<list><corp_code>{code}</corp_code><corp_name>회사 {code}</corp_name><stock_code>{code[-6:]}</stock_code>"
            "<modify_date>20240101</modify_date></list>"
            for code in sorted({report.corp_code for report in self.reports})
        )
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("CORPCODE.xml", f'<?xml version="1.0" encoding="UTF-8"?><result>{companies}</result>')
        return Reply(archive.getvalue())

    def _list(self, query: Mapping[str, str]) -> Reply:
        found = sorted((
            report for report in self.reports
            if query["bgn_de"] <= report.filed_on <= query["end_de"] and query.get("corp_code", report.corp_code) == report.corp_code
        ), key=lambda report: (report.filed_on, report.number))
        if not found:
            return as_json({"status": "013", "message": "조회된 데이타가 없습니다."})
        page = int(query["page_no"])
        pages = -(-len(found) // self.page_rows)
        return as_json({
            "status": "000", "message": "정상", "page_no": page, "page_count": self.page_rows, "total_count": len(found),
            "total_page": pages,
            "list": [
                {
                    "corp_code": report.corp_code, "corp_name": f"회사 {report.corp_code}", "stock_code": report.corp_code[-6:],
                    "corp_cls": "Y", "report_nm": f"{report.changed}사업보고서 ({report.month})", "rcept_no": report.number,
                    "flr_nm": f"회사 {report.corp_code}", "rcept_dt": report.filed_on, "rm": "연",
                }
                for report in found[(page - 1) * self.page_rows : page * self.page_rows]
            ],
        })

    def _company(self, query: Mapping[str, str]) -> Reply:
        return as_json({
            "status": "000", "message": "정상", "corp_code": query["corp_code"], "corp_name": f"회사 {query['corp_code']}",
            "corp_name_eng": "Company", "stock_code": query["corp_code"][-6:], "corp_cls": "Y", "induty_code": "264", "acc_mt": "12",
        })

    def _statements(self, query: Mapping[str, str]) -> Reply:
        # Of a company's year only what was filed last is shown.
        found = [
            report for report in self.reports
            if report.corp_code == query["corp_code"] and (report.shown_year or report.month[:4]) == query["bsns_year"]
            and report.division == query["fs_div"] and query["reprt_code"] == "11011"
        ]
        newest = max(found, key=lambda report: report.number, default=None)
        if newest is None or newest.accounts is None:
            return as_json({"status": "013", "message": "조회된 데이타가 없습니다."})
        return as_json({
            "status": "000", "message": "정상",
            "list": [
                {
                    "rcept_no": newest.number, "reprt_code": "11011", "bsns_year": query["bsns_year"], "corp_code": newest.corp_code,
                    "sj_div": statement, "sj_nm": statement, "account_id": code, "account_nm": label, "account_detail": "-",
                    "thstrm_nm": "제 10 기", "thstrm_amount": amount, "frmtrm_nm": "제 9 기", "frmtrm_amount": "1", "ord": str(place),
                    "currency": "KRW",
                }
                for place, (statement, code, label, amount) in enumerate(newest.accounts, 1)
            ],
        })


@dataclass
class Fred:
    """fred/series/observations (https://fred.stlouisfed.org/docs/api/fred/series_observations.html), output_type 1.

    told: (observed, first day on which it was told, value) by series. A row's realtime_start is no earlier than the period
    asked for. most_vintages: so many days on which values were told one answer may hold. archive_from: before that day there
    is no vintage of any series.
    """

    told: dict[str, list[tuple[str, str, str]]]
    most_vintages: int = 2000
    most_rows: int = 100_000
    archive_from: str = "1776-07-04"

    def __call__(self, request: Request) -> Reply:
        """The answer to one request; errors as in https://fred.stlouisfed.org/docs/api/fred/errors.html."""
        query = request.query
        if query.get("api_key") != KEY:
            return _bad_request("The value for variable api_key is not registered.")
        if query["series_id"] not in self.told:
            return _bad_request("The series does not exist.")
        start, end = query["realtime_start"], query["realtime_end"]
        if end < self.archive_from:
            return _bad_request("The series does not exist in ALFRED but may exist in FRED.")
        rows = self.told[query["series_id"]]
        vintages = {known for _, known, _ in rows if start <= known <= end}
        if len(vintages) > self.most_vintages:
            return _bad_request(
                f"There are {len(vintages)} vintage dates in the specified real-time period: {start} to {end}. This exceeds the "
                f"maximum number of vintage dates allowed for this file type ({self.most_vintages})."
            )
        shown = []
        for observed, known, value in rows:
            replaced = min((other for day, other, _ in rows if day == observed and other > known), default="9999-12-31")
            if known <= end and replaced > start and observed >= query["observation_start"]:
                shown.append({"realtime_start": max(known, start), "realtime_end": min(replaced, end), "date": observed, "value": value})
        offset = int(query["offset"])
        return as_json({
            "realtime_start": start, "realtime_end": end, "output_type": 1, "file_type": "json", "count": len(shown),
            "offset": offset, "limit": self.most_rows, "observations": shown[offset : offset + self.most_rows],
        })


def _bad_request(message: str) -> Reply:
    return as_json({"error_code": 400, "error_message": f"Bad Request.  {message}"}, 400)


@dataclass
class Ecos:
    """ECOS StatisticSearch (https://ecos.bok.or.kr/api/#/DevGuide/StatisticalCodeSearch): all arguments stand in the path.

    values: (period, value) by table, cycle and item. Messages have HTTP status 200.
    """

    values: dict[tuple[str, str, str], list[tuple[str, str]]]

    def __call__(self, request: Request) -> Reply:
        """The answer to one request."""
        _, key, _, _, first, last, table, cycle, start, end, item = request.path.strip("/").split("/")
        if key != KEY:
            return as_json({"RESULT": {"CODE": "INFO-100", "MESSAGE": "인증키가 유효하지 않습니다."}})
        rows = [(period, value) for period, value in self.values.get((table, cycle, item), []) if start <= period <= end]
        if not rows:
            return as_json({"RESULT": {"CODE": "INFO-200", "MESSAGE": "해당하는 데이터가 없습니다."}})
        return as_json({"StatisticSearch": {"list_total_count": len(rows), "row": [
            {"STAT_CODE": table, "STAT_NAME": "기준금리", "ITEM_CODE1": item, "ITEM_NAME1": "기준금리", "UNIT_NAME": "연%",
             "TIME": period, "DATA_VALUE": value}
            for period, value in rows[int(first) - 1 : int(last)]
        ]}})


@dataclass
class EdgarReport:
    """A filing of a company. facts: (element, start or None, end, value), comparatives of earlier years among them."""

    number: str
    form: str
    filed_on: str
    period_end: str
    year: int
    facts: list[tuple[str, str | None, str, int]]


@dataclass
class Edgar:
    """data.sec.gov: submissions and companyfacts (https://www.sec.gov/search-filings/edgar-application-programming-interfaces).

    Filings beyond the newest recent ones stand in pages of their own, as the service's beyond the last thousand do. Without a
    contact in User-Agent, or too fast, it answers 403 with a web page.
    """

    companies: dict[str, list[EdgarReport]]
    recent: int = 1000

    def __call__(self, request: Request) -> Reply:
        """The answer to one request."""
        if "@" not in request.headers.get("User-Agent", ""):
            return Reply(b"<html><body>Your Request Originates from an Undeclared Automated Tool</body></html>", 403)
        name = request.path.rpartition("/")[2].removesuffix(".json")
        cik = name.split("-")[0]
        if cik not in self.companies:
            return Reply(b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", 404)
        reports = sorted(self.companies[cik], key=lambda report: report.filed_on, reverse=True)
        if "companyfacts" in request.path:
            content = self._facts(cik, reports)
        elif name != cik:
            content = _columns(reports[self.recent :])
        else:
            older = [{"name": f"{cik}-submissions-001.json", "filingCount": 1}] if len(reports) > self.recent else []
            content = {
                "cik": cik.removeprefix("CIK").lstrip("0"), "name": "Example Corp", "sic": "3571", "fiscalYearEnd": "0930",
                "filings": {"recent": _columns(reports[: self.recent]), "files": older},
            }
        tag = f'"{hash(json.dumps(content))}"'
        if request.headers.get("If-None-Match") == tag:
            return Reply(b"", 304)
        return as_json(content, ETag=tag)

    def _facts(self, cik: str, reports: list[EdgarReport]) -> dict[str, object]:
        concepts: dict[str, dict[str, object]] = {}
        for report in reversed(reports):
            for element, start, end, value in report.facts:
                concept = concepts.setdefault(element, {"label": element, "description": element, "units": {"USD": []}})
                concept["units"]["USD"].append({
                    **({"start": start} if start else {}), "end": end, "val": value, "accn": report.number, "fy": report.year,
                    "fp": "FY", "form": report.form, "filed": report.filed_on,
                })
        return {"cik": int(cik.removeprefix("CIK")), "entityName": "Example Corp", "facts": {"us-gaap": concepts}}


def _columns(reports: list[EdgarReport]) -> dict[str, list[str]]:
    return {
        "accessionNumber": [report.number for report in reports], "filingDate": [report.filed_on for report in reports],
        "reportDate": [report.period_end for report in reports], "form": [report.form for report in reports],
    }
