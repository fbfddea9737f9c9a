"""The publish job: the rows of the lake arrive in PostgreSQL unchanged, once, and only through open gates."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from conf.database import role_dsn
from conf.settings import Settings
from conf.tables import BORROWER_SCORE, PUBLISHED, UNSCORED
from spark_jobs import publish
from spark_jobs.database import connect
from spark_jobs.lake import Lake
from spark_jobs.manifest import build_manifest, current_night, open_manifest, pin_silver_versions
from spark_jobs.postgres_copy import contents_of, copy_rows
from spark_jobs.publication import Content, PublicationRefused, postgres_row_hash

DAY = date(2020, 1, 31)
SCORE = {
    "as_of_date": DAY, "borrower_type": "person", "horizon_months": 12, "score_points": 600, "risk_group": 1,
    "reason_codes": None, "timeseries_log_odds": -2.0, "behavior_log_odds": -1.5, "record_log_odds": -0.25,
    "raw_prob_default": 0.1, "model_version": "7",
}
# Names and numbers that a text format, a separator or a rounding could break.
NASTY_NAMES = ["plain", "", 'quo"te', "com,ma", "new\nline", "back\\slash", "\\N", "tab\t", "서울", "🂡", "null", "a:b~1"]
NASTY_NUMBERS = [0.1, 1 / 3, 5e-10, 4.9999999e-10, 1e-300, 0.7 + 0.2, 1 - 1e-16, 0.0, -0.0, 2 / 3, 123456.789, 1e9]


def gate(settings: Settings, batch_id: str, table: str, success: bool = True) -> None:
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ops.gate_result VALUES (%s, %s, %s, %s, 1, 1, %s, %s, NULL, %s, %s) "
            "ON CONFLICT (gate, table_name, as_of_date, batch_id) DO UPDATE SET success = excluded.success",
            (f"job.{table}", table, DAY, success, [], "prob_default outside 0 to 1", batch_id, datetime.now(UTC)),
        )


@pytest.fixture
def night(empty_market):
    """An open night whose published tables have all passed their gates."""
    opened = open_manifest(empty_market, build_manifest(empty_market, DAY, {"loans.csv": "00"}, "7"))
    pin_silver_versions(empty_market, opened, {"loan": 3})
    for table in PUBLISHED:
        gate(empty_market, opened.batch_id, table.name)
    return current_night(empty_market, DAY)


def fill_lake(spark, settings: Settings, batch_id: str, **only: list[dict]) -> Lake:
    """Gold tables with the given rows; the others are there and empty."""
    lake = Lake(spark, settings)
    for table in PUBLISHED:
        rows = [tuple((row | {"batch_id": batch_id}).get(c) for c in table.columns) for row in only.get(table.name, [])]
        lake.replace(table, spark.createDataFrame(rows, table.ddl), DAY)
    return lake


def scores() -> list[dict]:
    return [SCORE | {"borrower_id": f"b{number}", "prob_default": number / 7} for number in (1, 2, 3)]


def test_spark_and_postgres_hash_every_kind_of_value_alike(spark, database):
    """Each declared type, with nulls and awkward texts, through COPY and back into one number."""
    rows = [
        SCORE | {"borrower_id": name, "prob_default": 0.5, "record_log_odds": number}
        for name, number in zip(NASTY_NAMES, NASTY_NUMBERS, strict=True)
    ]
    for row, reasons in zip(rows, [None, [], ["a"], ["a", None], ['q"', "b,c"], ["back\\slash"], ["{}"], ["NULL"]], strict=False):
        row["reason_codes"] = reasons
    frame = spark.createDataFrame(
        [tuple((row | {"batch_id": "b"})[c] for c in BORROWER_SCORE.columns) for row in rows], BORROWER_SCORE.ddl
    ).repartition(3)
    with closing(connect(database, "publisher")) as session, session.cursor() as cursor:
        cursor.execute("CREATE TABLE publication.hashed (LIKE publication.borrower_score)")
        session.commit()
        try:
            copy_rows(frame, BORROWER_SCORE, role_dsn(database, "publisher"), "hashed")
            cursor.execute(f"SELECT count(*), sum({postgres_row_hash(BORROWER_SCORE)}) FROM publication.hashed")
            arrived = Content(*map(int, cursor.fetchone()))
            assert arrived == contents_of({BORROWER_SCORE: frame})["borrower_score"].content
            cursor.execute("SELECT borrower_id, record_log_odds, reason_codes FROM publication.hashed")
            assert {row[0]: row[1:] for row in cursor.fetchall()} == {
                row["borrower_id"]: (row["record_log_odds"], row["reason_codes"]) for row in rows
            }
            # A second attempt of the same partitions finds its rows there.
            copy_rows(frame, BORROWER_SCORE, role_dsn(database, "publisher"), "hashed")
            session.commit()
            cursor.execute("SELECT count(*) FROM publication.hashed")
            assert cursor.fetchone() == (len(rows),)
        finally:
            session.rollback()
            cursor.execute("DROP TABLE publication.hashed")
            cursor.execute("DELETE FROM ops.copied_part")
            session.commit()


def test_publishes_the_lake_and_a_second_run_changes_nothing(spark, empty_market, night, capsys):
    allocation = {
        "order_id": "o1", "loan_id": "l1", "as_of_date": DAY, "borrower_id": "b1", "identity_group_id": "g1",
        "risk_group": 2, "amount": Decimal("1234567.05"), "weight": 0.05, "expected_net_return": 0.07, "currency": "USD",
    }
    fill_lake(spark, empty_market, night.batch_id, borrower_score=scores(), allocation=[allocation])
    publish.run(spark, empty_market, DAY)
    publish.run(spark, empty_market, DAY)
    said = capsys.readouterr().out
    assert "published; readers see it now" in said and "nothing changed" in said
    with closing(connect(empty_market, "reader")) as session, session.cursor() as cursor:
        cursor.execute("SELECT borrower_id, prob_default FROM publication.latest_borrower_score")
        assert dict(cursor.fetchall()) == {row["borrower_id"]: row["prob_default"] for row in scores()}
        cursor.execute("SELECT amount, weight FROM publication.latest_allocation")
        assert cursor.fetchall() == [(Decimal("1234567.05"), 0.05)]
        cursor.execute("SELECT manifest->'silver_versions', manifest->>'model_version' FROM publication.latest_publication")
        assert cursor.fetchall() == [({"loan": 3}, "7")]


def test_a_closed_gate_publishes_nothing(spark, empty_market, night):
    gate(empty_market, night.batch_id, "borrower_score", success=False)
    with pytest.raises(PublicationRefused, match=r"job\.borrower_score: prob_default outside 0 to 1"):
        publish.run(spark, empty_market, DAY)
    with closing(connect(empty_market, "reader")) as session, session.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM publication.latest_publication")
        assert cursor.fetchone() == (0,)


def test_a_table_without_a_gate_is_not_published(empty_market, night):
    with closing(connect(empty_market, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute("DELETE FROM ops.gate_result WHERE table_name = 'allocation'")
    with pytest.raises(PublicationRefused, match=r"allocation went through no gate: run the jobs .*\(allocate\)"):
        publish.check_gates(empty_market, night)


def test_rows_of_another_night_are_not_published(spark, night):
    rows = [("b1", DAY, "too_thin", night.batch_id), ("b2", DAY, "too_thin", "2020-01-31-000000000000")]
    with pytest.raises(PublicationRefused, match=r"unscored holds rows of batch 2020-01-31-0{12} .*job build_features again"):
        publish.night_contents({UNSCORED: spark.createDataFrame(rows, UNSCORED.ddl)}, night)
    assert publish.night_contents({UNSCORED: spark.createDataFrame(rows[:1], UNSCORED.ddl)}, night)["unscored"].rows == 1
