"""Cohorts and their rows, by hand: one borrower per reason to be in the training set or not."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest
from pyspark.sql.types import StructType

from conf.settings import load_settings
from conf.tables import TRAINING_SET
from features.training_set import (
    NoCohort,
    build_training_set,
    cohort_months,
    performing_months,
    with_sampled_groups,
)

TRAINING_DATE = date(2024, 6, 30)
MAY, JUNE = date(2023, 5, 31), date(2023, 6, 30)


def training(**values: object):
    """The project's training settings with two cohorts, of which the test changes what it is about."""
    plain = {"training_cohorts": 1, "calibration_cohorts": 0, "judging_cohorts": 1, "cohort_step_months": 1,
             "performing_every_months": 1, "max_training_rows": 1_000_000}
    return load_settings().training.model_copy(update=plain | values)


@pytest.mark.parametrize(
    ("training_date", "horizon_months", "expected"),
    [
        (date(2024, 6, 30), 12, [MAY, JUNE]),
        (date(2024, 6, 29), 12, [date(2023, 4, 30), MAY]),  # June's horizon ends a day later
        (date(2024, 2, 29), 12, [date(2023, 1, 31), date(2023, 2, 28)]),
        (date(2024, 2, 28), 12, [date(2022, 12, 31), date(2023, 1, 31)]),
        (date(2024, 6, 30), None, [date(2024, 4, 30), date(2024, 5, 31)]),  # nothing was watched since June's end
        (date(2024, 6, 29), None, [date(2024, 4, 30), date(2024, 5, 31)]),
    ],
)
def test_cohorts_have_matured(training_date, horizon_months, expected):
    assert cohort_months(training(), horizon_months, training_date) == expected


def test_cohorts_by_quarter_and_performing_by_half_year():
    settings = training(training_cohorts=3, cohort_step_months=3, performing_every_months=6)
    months = cohort_months(settings, 12, TRAINING_DATE)
    assert months == [date(2022, 9, 30), date(2022, 12, 31), date(2023, 3, 31), JUNE]
    assert performing_months(months, settings) == [date(2022, 12, 31), JUNE]
    assert performing_months(months, training(performing_every_months=0)) == []


def test_no_cohort_is_an_error():
    with pytest.raises(NoCohort, match="training_cohorts"):
        cohort_months(training(training_cohorts=0, judging_cohorts=0), 12, TRAINING_DATE)


def loan(borrower: str, **values: object) -> dict[str, object]:
    """A loan of January 2023 with the borrower's name as its id."""
    return {"borrower_id": borrower, "loan_id": borrower, "listed_on": "2023-01-05", "originated_on": "2023-01-10",
            "known_from": "2023-01-10"} | values


def listing(borrower: str, loan_id: str | None = None, **values: object) -> dict[str, object]:
    """A listing of 15 June 2023."""
    return loan(borrower, loan_id=loan_id or borrower, status="listed", listed_on="2023-06-15", originated_on=None,
                known_from="2023-06-15") | values


def default(borrower: str, due: str, known_from: str) -> dict[str, object]:
    """The telling that an instalment is 90 days past due."""
    return {"borrower_id": borrower, "loan_id": borrower, "installment_no": 1, "due_on": due, "days_past_due": 90,
            "known_from": known_from}


LOANS = [
    loan("good"),
    loan("defaults"),
    loan("defaults_later"),
    loan("early"),
    loan("hidden"),
    # Funded on 20 June, repaid in full half a year later: good.
    listing("prepaid"),
    listing("prepaid", status="current", originated_on="2023-06-20", known_from="2023-06-20"),
    listing("prepaid", status="paid", originated_on="2023-06-20", closed_on="2023-12-20", known_from="2023-12-20"),
    # Never funded, and nothing else owed.
    listing("withdrawn"),
    listing("withdrawn", status="withdrawn", known_from="2023-07-15"),
    # Never funded, but owes another loan; on 30 June the listing is open, so the application stands for it.
    listing("other", "other-listing"),
    listing("other", "other-listing", status="withdrawn", known_from="2023-07-15"),
    loan("other"),
    loan("thin"),
]
REPAYMENTS = [
    default("defaults", "2023-12-11", "2024-03-10"),  # 90 days on: 10 March 2024
    default("defaults_later", "2024-04-02", "2024-07-01"),  # after the training date
    default("early", "2023-03-12", "2023-06-10"),  # 10 June: in May's window, in June in default
    default("hidden", "2023-03-22", "2023-07-05"),  # 20 June, known in July
    default("good", "2023-09-11", "2023-10-16") | {"days_past_due": 35},
]


@pytest.fixture(scope="module")
def tables(silver):
    borrowers = sorted({row["borrower_id"] for row in LOANS})
    return silver(
        borrower=[{"borrower_id": one, "identity_group_id": one, "known_from": "2023-01-01"} for one in borrowers],
        loan=LOANS,
        repayment=REPAYMENTS,
        credit_inquiry=[{"borrower_id": one, "inquired_on": "2023-01-01", "known_from": "2023-01-01"}
                        for one in borrowers if one != "thin"],
    )


def test_default_within_horizon(tables):
    source = SimpleNamespace(outcome="default_within_horizon", horizon_months=12, default_days=90, indeterminate_days=30, account_month_lag_days=0)
    frame = build_training_set(tables, source, training(), TRAINING_DATE)
    declared = StructType.fromDDL(TRAINING_SET.ddl)
    assert [(field.name, field.dataType) for field in frame.schema] == [(field.name, field.dataType) for field in declared]
    rows = frame.collect()
    found = {
        (row["borrower_id"], row["as_of_date"]): (row["standing"], row["months_on_book"], row["default_on"])
        for row in rows
    }
    application = date(2023, 6, 15)
    march, tenth, twentieth = date(2024, 3, 10), date(2023, 6, 10), date(2023, 6, 20)
    assert found == {
        ("good", MAY): ("performing", 4, None),
        ("good", JUNE): ("performing", 5, None),
        ("defaults", MAY): ("performing", 4, march),
        ("defaults", JUNE): ("performing", 5, march),
        ("defaults_later", MAY): ("performing", 4, None),
        ("defaults_later", JUNE): ("performing", 5, None),
        ("early", MAY): ("performing", 4, tenth),
        ("hidden", MAY): ("performing", 4, twentieth),  # in June it was in default, and nobody knew
        ("prepaid", application): ("applicant", 0, None),
        ("prepaid", JUNE): ("performing", 0, None),
        ("other", MAY): ("performing", 4, None),
        ("other", application): ("applicant", 0, None),
    }
    assert {(row["is_default"], row["default_on"] is not None) for row in rows} == {(True, True), (False, False)}
    assert {(row["borrower_id"], row["as_of_date"]) for row in rows if row["is_indeterminate"]} == {("good", MAY), ("good", JUNE)}
    assert {row["watched_share"] for row in rows} == {1.0}
    assert {(row["cohort_month"], row["as_of_date"]) for row in rows} == {(MAY, MAY), (JUNE, JUNE), (JUNE, application)}
    # The application's features are those of its own day: the loan was not live yet.
    assert {row["live_loans"] for row in rows if (row["borrower_id"], row["as_of_date"]) == ("prepaid", application)} == {0.0}


def test_default_ever_with_censoring(tables):
    source = SimpleNamespace(outcome="default_ever", horizon_months=12, default_days=90, indeterminate_days=None, account_month_lag_days=0)
    settings = training(training_cohorts=12, judging_cohorts=0, performing_every_months=0)
    rows = build_training_set(tables, source, settings, TRAINING_DATE).collect()
    # Applications only, June 2023 to May 2024, of loans that live twelve months: the last default shows after fifteen.
    # Eight loans: defaults in months 5 (of 8), 6 (of 7) and, among the 5 that were watched so long, 14. F(12) / F(15).
    share = pytest.approx((1 - 7 / 8 * 6 / 7) / (1 - 7 / 8 * 6 / 7 * 4 / 5))
    assert not any(row["is_indeterminate"] for row in rows)
    found = {row["borrower_id"]: (row["as_of_date"], row["cohort_month"], row["is_default"], row["watched_share"]) for row in rows}
    application = date(2023, 6, 15)
    assert found == {"prepaid": (application, JUNE, False, share), "other": (application, JUNE, False, share)}


def test_sampling_keeps_groups_whole(spark):
    spine = spark.createDataFrame([(f"g{number // 4}", number) for number in range(400)], "identity_group_id STRING, row INT")
    kept = {row["row"] for row in with_sampled_groups(spine, 200, seed=1).collect()}
    groups = {row // 4 for row in kept}
    assert kept == {row for group in groups for row in range(4 * group, 4 * group + 4)}
    assert 120 <= len(kept) <= 280  # half of 400, give or take four standard deviations of 100 groups
    again = with_sampled_groups(spine.repartition(7), 200, seed=1).collect()
    assert {row["row"] for row in again} == kept
    assert {row["row"] for row in with_sampled_groups(spine, 200, seed=2).collect()} != kept
    assert with_sampled_groups(spine, 400, seed=1).count() == 400
