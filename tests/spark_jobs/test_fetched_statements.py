"""Fetched statements through landing and mapping: Korean and American reports on one chart of accounts, broken ones told."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from conf.settings import load_settings
from conf.source import load_source
from conf.tables import TABLES
from spark_jobs.fetch_filings import run
from spark_jobs.lake import Lake
from spark_jobs.landing import bronze_rows, land_files, landed_files
from spark_jobs.manifest import Night
from spark_jobs.mapping import BROKEN, build_checked
from tests.public_services import KEY, Dart, DartReport, Edgar, EdgarReport, serve

DAY = date(2024, 4, 30)


def balance(assets, liabilities, equity):
    return [
        ("BS", "ifrs-full_Assets", "자산총계", assets), ("BS", "ifrs-full_Liabilities", "부채총계", liabilities),
        ("BS", "ifrs-full_Equity", "자본총계", equity), ("BS", "-표준계정코드 미사용-", "기타", "1"),
    ]


REPORTS = [
    # Negative equity, in brackets; profit in two statements.
    DartReport("20230630000001", "00000001", "20230630", "2023.03",
               [*balance("1,000", "1,200", "(200)"), ("IS", "ifrs-full_ProfitLoss", "당기순손실", "(50)"),
                ("CIS", "ifrs-full_ProfitLoss", "당기순손실", "(50)")], shown_year="2022"),
    # Restates it, with other names for the accounts: a filing of its own.
    DartReport("20240401000002", "00000001", "20240401", "2023.03", balance("900", "1,200", "-300"), "[기재정정]", shown_year="2022"),
    DartReport("20240312000003", "00000002", "20240312", "2023.12", balance("1,000", "600", "300")),  # does not balance
    DartReport("20240313000004", "00000003", "20240313", "2023.12", balance("many", "600", "400")),  # no number
]


def silver(spark, settings):
    """The silver rows of what has landed, by table."""
    source, lake = load_source(settings.source), Lake(spark, settings)
    night = Night("2024-04-30-test", DAY, "1", landed_files(settings, source, DAY))
    landed = land_files(lake, source, night).pending
    raw = {kind: bronze_rows(lake, kind, [file for file in landed if file.kind == kind]) for kind in source.files}
    tables = {}
    for name in ("company", "filing", "statement_item"):
        tables[name] = build_checked(source, TABLES[name], raw, tables).persist()
    return {name: rows.collect() for name, rows in tables.items()}


def quick(settings, **fetching):
    rates = dict.fromkeys(settings.fetching.requests_per_second, 1000.0)
    return settings.model_copy(update={"fetching": settings.fetching.model_copy(update={"requests_per_second": rates, **fetching})})


def test_korean_reports_reach_silver_as_first_filed_and_as_restated(spark, tmp_path):
    dart = Dart(REPORTS[:1])
    with serve(dart) as server:
        settings = quick(
            load_settings(home=tmp_path, source="opendart", keys={"dart": KEY}), dart_url=server.url, filings_from=date(2023, 6, 1)
        )
        run(settings, date(2023, 7, 31))
        dart.reports = REPORTS
        run(settings, DAY)
    tables = silver(spark, settings)

    companies = {row.company_id: row for row in tables["company"]}
    assert sorted(companies) == ["00000001", "00000002", "00000003"]
    assert (companies["00000001"].known_from, companies["00000001"].industry) == (date(2023, 6, 30), "264")
    filings = {row.filing_id: row for row in tables["filing"]}
    first, restated = filings["20230630000001"], filings["20240401000002"]
    assert (first.period_end, first.known_from, first.form) == (date(2023, 3, 31), date(2023, 6, 30), "annual_report")
    assert (restated.period_end, restated.known_from, restated.form) == (date(2023, 3, 31), date(2024, 4, 1), "amendment")
    assert restated.restates == first.filing_id and first.restates is None
    assert [row[BROKEN] for row in (*companies.values(), *filings.values()) if row[BROKEN]] == []

    items = {(row.filing_id, row.account): row.value for row in tables["statement_item"] if not row[BROKEN]}
    assert items["20230630000001", "equity"] == Decimal(-200) and items["20240401000002", "equity"] == Decimal(-300)
    assert items["20230630000001", "net_income"] == Decimal(-50)
    broken = {(row.filing_id, *row[BROKEN]) for row in tables["statement_item"] if row[BROKEN]}
    assert broken == {("20240312000003", "balance_sheet_balances"), ("20240313000004", "parse:value")}


def test_american_reports_reach_silver_on_the_same_chart(spark, tmp_path):
    facts = [
        ("Assets", None, "2023-09-30", 1000), ("Liabilities", None, "2023-09-30", 650), ("StockholdersEquity", None, "2023-09-30", 300),
        # Redeemable shares are neither liabilities nor equity; with them the balance sheet balances.
        ("TemporaryEquityCarryingAmountAttributableToParent", None, "2023-09-30", 50),
        ("Assets", None, "2022-09-24", 900), ("NetIncomeLoss", "2022-09-25", "2023-09-30", -70),
    ]
    report = EdgarReport("0000000123-23-000106", "10-K", "2023-11-03", "2023-09-30", 2023, facts)
    with serve(Edgar({"CIK0000000123": [report]})) as server:
        settings = quick(
            load_settings(home=tmp_path, source="edgar"), edgar_url=server.url, edgar_companies=["123"], contact="Tests t@example.com"
        )
        run(settings, DAY)
    tables = silver(spark, settings)
    assert [(row.filing_id, row.fiscal_year, row.currency, row[BROKEN]) for row in tables["filing"]] == [(report.number, 2023, "USD", [])]
    assert {row.account: row.value for row in tables["statement_item"] if not row[BROKEN]} == {
        "total_assets": Decimal(1000), "total_liabilities": Decimal(650), "equity": Decimal(300), "mezzanine_equity": Decimal(50),
        "net_income": Decimal(-70),
    }
