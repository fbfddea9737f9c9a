"""Gates on hand-made credit inquiries: three rules can break, and each says so."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from conf.tables import CREDIT_INQUIRY, GATE_RESULT
from expectations.measures import Bound
from spark_jobs.gates import Checked, GateFailed, check_table, check_tables
from spark_jobs.lake import Lake

AS_OF = date(2024, 3, 31)


def inquiries(spark, *rows):
    return spark.createDataFrame(
        [(borrower, inquired, "loan", known, "file.csv", number) for number, (borrower, inquired, known) in enumerate(rows)],
        CREDIT_INQUIRY.ddl.replace(" NOT NULL", ""),
    )


def test_good_rows_pass_and_the_result_is_recorded_once(spark, settings, gates_without_database):
    lake = Lake(spark, settings)
    good = inquiries(spark, ("b1", date(2024, 1, 5), date(2024, 1, 5)), ("b1", date(2024, 2, 5), date(2024, 2, 6)))
    for _ in range(2):
        check_table(lake, CREDIT_INQUIRY, AS_OF, "batch-1", frame=good)

    (result,) = lake.read(GATE_RESULT).collect()
    assert (result.gate, result.success, result.row_count) == ("ingest.credit_inquiry", True, 2)
    assert result.failed_expectations == []
    # Seven columns may not be null here, one key, two row rules.
    assert result.expectation_count == len(CREDIT_INQUIRY.required) + 1 + 2
    assert Path(result.data_docs).is_file()
    assert (settings.market / "reports" / "data_docs" / "index.html").is_file()
    assert [sent.gate for sent in gates_without_database] == ["ingest.credit_inquiry"] * 2


def test_every_broken_expectation_is_named(spark, settings, gates_without_database):
    lake = Lake(spark, settings)
    bad = inquiries(
        spark,
        ("b1", date(2024, 1, 5), date(2024, 1, 5)),
        ("b1", date(2024, 1, 5), date(2024, 1, 9)),  # the same key again
        (None, date(2024, 1, 6), date(2024, 1, 6)),  # no borrower
        ("b2", date(2024, 3, 6), date(2024, 1, 6)),  # known before it happened
    )
    with pytest.raises(GateFailed, match=r"gate ingest\.credit_inquiry failed on 2024-03-31 \(batch batch-2\)") as failure:
        check_table(lake, CREDIT_INQUIRY, AS_OF, "batch-2", frame=bad)
    assert "duplicate_keys = 1" in str(failure.value)
    assert "inquired_before_known = 1" in str(failure.value)
    (result,) = lake.read(GATE_RESULT).collect()
    assert result.failed_expectations == ["duplicate_keys", "inquired_before_known", "null_borrower_id"]
    assert not gates_without_database[0].success


def test_a_number_beyond_the_tables_own_is_held_against_its_bound(spark, settings, gates_without_database):
    lake = Lake(spark, settings)
    good = inquiries(spark, ("b1", date(2024, 1, 5), date(2024, 1, 5)))
    limit = Bound(None, 0.05, "share of broken rows")
    check_tables(lake, [Checked(CREDIT_INQUIRY, good, more={"broken_share": (0.05, limit)})], AS_OF, "batch")
    check_tables(lake, [Checked(CREDIT_INQUIRY, good, more={"broken_share": (None, limit)})], AS_OF, "batch")
    with pytest.raises(GateFailed, match=r"broken_share = 0\.5 \(share of broken rows; must be at most 0\.05\)"):
        check_tables(lake, [Checked(CREDIT_INQUIRY, good, more={"broken_share": (0.5, limit)})], AS_OF, "batch")
