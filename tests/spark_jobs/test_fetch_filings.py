"""Filings of Open DART and EDGAR from a local server to files: what lands, what is asked for again, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conf.settings import ROOT, load_settings
from spark_jobs.fetch_filings import run
from spark_jobs.fetching import FetchRefused, FetchUnavailable
from spark_jobs.landed_answers import LandedAnswers, read_csv
from spark_jobs.statements import plain_number
from tests.public_services import KEY, MAINTENANCE, Dart, DartReport, Edgar, EdgarReport, Reply, Request, as_json, serve

DAY = date(2024, 4, 30)
ACCOUNTS = [
    ("BS", "ifrs-full_Assets", "자산총계", "1,000,000"),
    ("BS", "ifrs-full_RetainedEarnings", "결손금", "(250,000)"),
    ("IS", "ifrs-full_ProfitLoss", "당기순이익(손실)", "-50,000"),
    ("CIS", "ifrs-full_ProfitLoss", "당기순이익(손실)", "-50,000"),  # stands in a second statement
    ("SCE", "ifrs-full_Equity", "자본총계", "1"),  # a column of the changes in equity, no total
    ("BS", "-표준계정코드 미사용-", "기타", "-"),
]
# A calendar year; a year that ends in March and is found under the year before; a company without consolidated statements.
CALENDAR = DartReport("20240312000001", "00000001", "20240312", "2023.12", ACCOUNTS)
MARCH = DartReport("20230628000002", "00000002", "20230628", "2023.03", ACCOUNTS, shown_year="2022")
ALONE = DartReport("20240314000003", "00000003", "20240314", "2023.12", ACCOUNTS, division="OFS")


def market(tmp_path, source, url, **fetching):
    settings = load_settings(home=tmp_path / "var", source=source, keys={"dart": KEY})
    quick = dict.fromkeys(settings.fetching.requests_per_second, 1000.0)
    update = {
        "dart_url": url, "edgar_url": url, "requests_per_second": quick, "filings_from": date(2023, 5, 1),
        "contact": "Tests tests@example.com", **fetching,
    }
    return settings.model_copy(update={"fetching": settings.fetching.model_copy(update=update)})


def rows(settings, kind):
    return [row for path in sorted((settings.data_folder / kind).glob("*.csv")) for row in read_csv(path)]


def no_wait(seconds):
    pass


def test_annual_reports_become_companies_filings_and_items(tmp_path):
    with serve(Dart([CALENDAR, MARCH, ALONE], page_rows=1)) as server:
        settings = market(tmp_path, "opendart", server.url)
        run(settings, DAY, no_wait)
    assert [(row["filing_id"], row["period_end"], row["filed_on"], row["is_consolidated"]) for row in rows(settings, "filing")] == [
        ("20230628000002", "2023-03-31", "2023-06-28", "true"),
        ("20240312000001", "2023-12-31", "2024-03-12", "true"),
        ("20240314000003", "2023-12-31", "2024-03-14", "false"),
    ]
    assert rows(settings, "company")[0] == {
        "company_id": "00000002", "name": "회사 00000002", "industry": "264", "known_from": "2023-06-28",
    }
    items = [(row["statement"], row["code"], row["value"]) for row in rows(settings, "statement_item")
             if row["filing_id"] == CALENDAR.number]
    assert items == [
        ("BS", "ifrs-full_Assets", "1000000"), ("BS", "ifrs-full_RetainedEarnings", "-250000"),
        ("BS", "-표준계정코드 미사용-", ""), ("IS", "ifrs-full_ProfitLoss", "-50000"),
    ]


def test_answers_land_as_received_and_without_the_key(tmp_path):
    dart = Dart([CALENDAR])
    with serve(dart) as server:
        settings = market(tmp_path, "opendart", server.url)
        run(settings, DAY, no_wait)
        asked = next(request for request in server.requests if request.path == "/fnlttSinglAcntAll.json")
    landed = dict(LandedAnswers(settings.data_folder, "opendart").of_day(DAY, "statement/*"))
    assert landed == {"statement/20240312000001_CFS.json": dart(asked).body}
    assert [path for path in settings.data_folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()] == []
    assert KEY not in repr(settings)


def test_a_second_run_asks_for_no_filing_again_and_a_restatement_stands_beside_the_first(tmp_path):
    dart = Dart([CALENDAR])
    with serve(dart) as server:
        settings = market(tmp_path, "opendart", server.url)
        run(settings, DAY, no_wait)
        before = len(server.requests)
        run(settings, date(2024, 5, 1), no_wait)
        assert server.paths()[before:] == ["/list.json"]

        # Renamed accounts, other figures: a report of its own, told of on its own day.
        changed = [("BS", "ifrs-full_Assets", "자산 합계", "900,000"), ("IS", "ifrs-full_ProfitLoss", "연결당기순손익", "(150,000)")]
        dart.reports.append(DartReport("20240502000009", "00000001", "20240502", "2023.12", changed, changed="[기재정정]"))
        run(settings, date(2024, 5, 2), no_wait)
    told = [(row["filing_id"], row["form"], row["restates"]) for row in rows(settings, "filing")]
    assert told == [("20240312000001", "annual_report", ""), ("20240502000009", "amendment", "20240312000001")]
    items = {(row["filing_id"], row["code"]): (row["label"], row["value"]) for row in rows(settings, "statement_item")}
    assert items["20240312000001", "ifrs-full_ProfitLoss"] == ("당기순이익(손실)", "-50000")
    assert items["20240502000009", "ifrs-full_ProfitLoss"] == ("연결당기순손익", "-150000")


def test_statements_that_come_later_than_their_report_are_not_missed(tmp_path):
    late = DartReport("20240429000004", "00000004", "20240429", "2023.12", None)
    dart = Dart([late])
    with serve(dart) as server:
        settings = market(tmp_path, "opendart", server.url)
        run(settings, DAY, no_wait)
        assert rows(settings, "filing") == []
        late.accounts = ACCOUNTS
        run(settings, date(2024, 5, 3), no_wait)
    assert [row["filing_id"] for row in rows(settings, "filing")] == [late.number]


def test_companies_can_be_named_by_code_or_stock_code(tmp_path):
    with serve(Dart([CALENDAR, MARCH, ALONE])) as server:
        run(market(tmp_path, "opendart", server.url, dart_companies=["000001", "00000003"]), DAY, no_wait)
        assert {request.query["corp_code"] for request in server.requests if request.path == "/list.json"} == {"00000001", "00000003"}
        with pytest.raises(FetchRefused, match="no company has the stock code 999999"):
            run(market(tmp_path, "opendart", server.url, dart_companies=["999999"]), DAY, no_wait)


def test_a_limit_ends_the_day_and_the_next_run_goes_on(tmp_path, caplog):
    limit = as_json({"status": "020", "message": "요청 제한을 초과하였습니다."})
    dart = Dart([CALENDAR, ALONE])
    with serve(lambda request: limit if limit and request.number > 8 else dart(request)) as server:
        settings = market(tmp_path, "opendart", server.url)
        run(settings, DAY, no_wait)
        assert "status 020" in caplog.text
        first = [row["filing_id"] for row in rows(settings, "filing")]
        assert len(first) < 2
        limit = None
        run(settings, date(2024, 5, 1), no_wait)
    assert sorted(row["filing_id"] for row in rows(settings, "filing")) == [CALENDAR.number, ALONE.number]


@pytest.mark.parametrize("broken", [Reply(MAINTENANCE), as_json({"status": "800", "message": "서비스가 중지 중입니다."})])
def test_maintenance_is_waited_for_and_then_told(tmp_path, broken):
    with serve(Dart([CALENDAR])) as server:
        settings = market(tmp_path, "opendart", server.url, attempts=2)
        server.first = [broken]
        run(settings, DAY, no_wait)
        assert len(rows(settings, "filing")) == 1
        server.first = [broken] * 2
        with pytest.raises(FetchUnavailable, match="after 2 attempts"):
            run(settings, date(2024, 5, 1), no_wait)
    assert len(rows(settings, "filing")) == 1


def test_a_wrong_key_is_refused_by_the_name_of_its_setting(tmp_path):
    with serve(Dart([CALENDAR])) as server:
        settings = market(tmp_path, "opendart", server.url)
        wrong = load_settings(keys={"dart": "another"}).keys
        server.first = [Reply("<result><status>010</status><message>등록되지 않은 키입니다.</message></result>".encode())]
        with pytest.raises(FetchRefused, match=r"status 010: .*MOSAIC_KEYS__DART") as refused:
            run(settings.model_copy(update={"keys": wrong}), DAY, no_wait)
    assert "another" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "update", "says"),
    [
        ("opendart", {"keys": load_settings().keys}, "set MOSAIC_KEYS__DART"),
        ("edgar", {"fetching": load_settings().fetching}, "set MOSAIC_FETCHING__CONTACT"),
        ("lendingclub", {}, "files of source lendingclub are not fetched"),
    ],
)
def test_without_a_key_the_job_is_skipped_and_says_what_to_set(tmp_path, capsys, source, update, says):
    settings = market(tmp_path, source, "http://127.0.0.1:9").model_copy(update=update)
    with pytest.raises(SystemExit) as skipped:
        run(settings, DAY, no_wait)
    assert skipped.value.code == 99
    assert says in capsys.readouterr().out.splitlines()[-1]


def fetch_in_a_process(url, home, kill_at, server):
    """Run the job as a process of its own, which is killed once the server has had so many requests (None: never)."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MOSAIC_")} | {
        "MOSAIC_SOURCE": "opendart", "MOSAIC_HOME": str(home), "MOSAIC_KEYS__DART": KEY, "MOSAIC_FETCHING__DART_URL": url,
        "MOSAIC_FETCHING__REQUESTS_PER_SECOND": '{"dart": 1000}', "MOSAIC_FETCHING__FILINGS_FROM": "2023-05-01",
    }
    job = subprocess.Popen(
        [sys.executable, "-m", "spark_jobs", "fetch_filings", "--as-of-date", DAY.isoformat()],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    server["kill"] = (kill_at, job)
    said, _ = job.communicate(timeout=60)
    return job.returncode, said


def test_killed_half_way_and_resumed_no_filing_is_lost_or_doubled(tmp_path):
    reports = [
        DartReport(f"202403{day:02d}000001", f"{day:08d}", f"202403{day:02d}", "2023.12", ACCOUNTS) for day in range(1, 11)
    ]
    dart, server = Dart(reports, page_rows=4), {"kill": (None, None)}

    def answer(request):
        kill_at, job = server["kill"]
        if kill_at == request.number:
            job.send_signal(signal.SIGKILL)
        return dart(request)

    with serve(answer) as running:
        code, said = fetch_in_a_process(running.url, tmp_path / "var", 15, server)
        assert code == -signal.SIGKILL, said
        settings = market(tmp_path, "opendart", running.url)
        answers = LandedAnswers(settings.data_folder, "opendart")
        before = {name for name, _ in answers.of_day(DAY, "statement/*")}
        assert 0 < len(before) < 10 and rows(settings, "filing") == []

        code, said = fetch_in_a_process(running.url, tmp_path / "var", None, server)
        assert code == 0 and "10 filings landed" in said and KEY not in said
        asked = [request.query["corp_code"] for request in running.requests if request.path == "/fnlttSinglAcntAll.json"]
    assert [row["filing_id"] for row in rows(settings, "filing")] == [report.number for report in reports]
    assert len(rows(settings, "company")) == 10
    # Only the one that was under way is asked for twice.
    assert len(asked) - len(set(asked)) <= 1
    assert [path.name for path in settings.data_folder.rglob(".*")] == [], "nothing unfinished is left"


YEAR = [
    ("Assets", None, "2023-09-30", 1000), ("Assets", None, "2022-09-24", 900),  # the balance sheet of the year before
    ("NetIncomeLoss", "2022-09-25", "2023-09-30", -70), ("NetIncomeLoss", "2023-07-02", "2023-09-30", -10),  # a quarter
]
TEN_K = EdgarReport("0000000123-23-000106", "10-K", "2023-11-03", "2023-09-30", 2023, YEAR)
OLDER = EdgarReport("0000000123-22-000108", "10-K", "2022-10-28", "2022-09-24", 2022, [("Assets", None, "2022-09-24", 900)])
INTERIM = EdgarReport("0000000123-23-000077", "10-Q", "2023-08-04", "2023-07-01", 2023, [("Assets", None, "2023-07-01", 950)])
CIK = "CIK0000000123"


def test_facts_stand_with_the_filing_that_told_them_of_its_own_year(tmp_path):
    edgar = Edgar({CIK: [TEN_K, OLDER, INTERIM]}, recent=2)
    with serve(edgar) as server:
        settings = market(tmp_path, "edgar", server.url, edgar_companies=["123"])
        run(settings, date(2024, 1, 5), no_wait)
        assert [(row["filing_id"], row["period_end"], row["fiscal_year"]) for row in rows(settings, "filing")] == [
            (OLDER.number, "2022-09-24", "2022"), (TEN_K.number, "2023-09-30", "2023"),
        ]
        assert [(row["filing_id"][-6:], row["code"], row["value"]) for row in rows(settings, "statement_item")] == [
            ("000108", "Assets", "900"), ("000106", "Assets", "1000"), ("000106", "NetIncomeLoss", "-70"),
        ]
        # Nothing has changed: everything is asked for by its tag, and nothing lands.
        run(settings, date(2024, 1, 6), no_wait)
        assert "If-None-Match" in server.requests[-1].headers
        assert not list(LandedAnswers(settings.data_folder, "edgar").of_day(date(2024, 1, 6), "*/*"))

        amended = EdgarReport("0000000123-24-000002", "10-K/A", "2024-01-07", "2023-09-30", 2023, [("Assets", None, "2023-09-30", 980)])
        edgar.companies[CIK].append(amended)
        run(settings, date(2024, 1, 7), no_wait)
    last = rows(settings, "filing")[-1]
    assert (last["filing_id"], last["form"], last["restates"]) == (amended.number, "amendment", TEN_K.number)
    assert len(rows(settings, "filing")) == 3 and len(rows(settings, "company")) == 1


def test_an_unknown_company_is_refused_and_who_asks_too_fast_waits(tmp_path):
    with serve(Edgar({CIK: [TEN_K]})) as server:
        settings = market(tmp_path, "edgar", server.url, edgar_companies=["123"])
        server.first = [Reply(b"<html>Request Rate Threshold Exceeded</html>", 403)]
        run(settings, date(2024, 1, 5), no_wait)
        assert len(rows(settings, "filing")) == 1
        with pytest.raises(FetchRefused, match="no company CIK0000000456"):
            run(market(tmp_path, "edgar", server.url, edgar_companies=["456"]), date(2024, 1, 6), no_wait)


def test_facts_whose_filings_did_not_come_are_asked_for_again(tmp_path):
    with serve(Edgar({CIK: [TEN_K]})) as server:
        settings = market(tmp_path, "edgar", server.url, edgar_companies=["123"], attempts=1)
        answer = Edgar({CIK: [TEN_K]})
        server.first = [answer(Request(1, f"/api/xbrl/companyfacts/{CIK}.json", {}, {"User-Agent": "a@b"})), Reply(b"", 503)]
        with pytest.raises(FetchUnavailable):
            run(settings, date(2024, 1, 5), no_wait)
        assert rows(settings, "filing") == []
        run(settings, date(2024, 1, 6), no_wait)
    assert [row["filing_id"] for row in rows(settings, "filing")] == [TEN_K.number]


@given(st.integers(-10**15, 10**15))
def test_a_number_is_the_same_however_it_is_written(value):
    for written in (f"{value}", f"{value:,}", f" {value:,} ", f"({-value:,})" if value < 0 else f"+{value}", f"{-value}-" if value < 0 else f"{value}"):
        assert int(plain_number(written)) == value


@pytest.mark.parametrize(("written", "plain"), [("-", ""), ("", ""), (None, ""), ("1,23", "1,23"), ("백만", "백만"), ("(n/a)", "(n/a)"), ("△5", "-5"), ("1,234.50", "1234.50")])
def test_what_is_no_number_stays_for_the_rules_to_tell(written, plain):
    assert plain_number(written) == plain
