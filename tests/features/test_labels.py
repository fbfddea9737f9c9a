"""Outcomes and how much of their risk had been watched, by hand."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import functions as F

from features.labels import (
    MAX_MONTHS,
    build_incidence,
    with_exposure,
    with_indeterminate,
    with_live_obligation,
    with_outcome,
)
from features.population import build_default_events

TRAINING_DATE = date(2024, 1, 1)


@pytest.fixture(scope="module")
def with_events(spark):
    """A spine of one row per named case: as-of date and the (default_on, known_from) of its default events."""

    def make(cases: dict[str, tuple[str, list[tuple[str, str]]]]):
        rows = [
            (one, date.fromisoformat(day), [(date.fromisoformat(on), date.fromisoformat(known)) for on, known in events])
            for one, (day, events) in cases.items()
        ]
        return spark.createDataFrame(
            rows, "borrower_id STRING, as_of_date DATE, default_events ARRAY<STRUCT<default_on: DATE, known_from: DATE>>"
        )

    return make


CASES = {
    "good": ("2023-01-01", []),
    "last_day": ("2023-01-01", [("2024-01-01", "2024-01-01")]),  # the window's last day is in it
    "first_of_two": ("2023-01-01", [("2023-05-01", "2023-05-01"), ("2023-03-01", "2023-03-04")]),
    "after_window": ("2022-06-01", [("2023-06-02", "2023-06-02")]),
    "not_known_yet": ("2023-01-01", [("2023-12-31", "2024-01-02")]),
    "in_default_already": ("2023-01-01", [("2022-12-31", "2023-01-05")]),  # known after the as-of date
    "on_the_day": ("2023-01-01", [("2023-01-01", "2023-01-02")]),  # the as-of date itself is not in the window
}


def test_default_within_horizon(with_events):
    rows = with_outcome(with_events(CASES), TRAINING_DATE, 12).collect()
    assert {row["borrower_id"]: (row["is_default"], row["default_on"]) for row in rows} == {
        "good": (False, None),
        "last_day": (True, date(2024, 1, 1)),
        "first_of_two": (True, date(2023, 3, 1)),
        "after_window": (False, None),
        "not_known_yet": (False, None),
    }


def test_default_ever_has_no_end_but_the_training_date(with_events):
    rows = with_outcome(with_events(CASES), TRAINING_DATE, None).collect()
    defaulted = {row["borrower_id"]: row["default_on"] for row in rows if row["is_default"]}
    assert defaulted == {
        "last_day": date(2024, 1, 1), "first_of_two": date(2023, 3, 1), "after_window": date(2023, 6, 2),
    }


def test_late_in_the_window_without_a_default_is_indeterminate(with_events):
    late = {**CASES, "late_and_default": ("2023-01-01", [("2023-02-01", "2023-02-01")])}
    rows = with_events(late).withColumnRenamed("default_events", "late_events")
    rows = rows.withColumn("is_default", F.col("borrower_id") == "late_and_default")
    found = with_indeterminate(rows, TRAINING_DATE, 12).where("is_indeterminate").collect()
    # Who was late before the window, and was late no more in it, is good.
    assert {row["borrower_id"] for row in found} == {"last_day", "first_of_two"}
    found = with_indeterminate(rows, TRAINING_DATE, None).where("is_indeterminate").collect()
    assert {row["borrower_id"] for row in found} == {"last_day", "first_of_two", "after_window"}


def test_only_who_owed_in_the_window_has_an_outcome(silver, spine):
    unfunded = {"status": "withdrawn", "listed_on": "2023-01-01", "known_from": "2023-01-01"}
    loans = [
        # Funded after the application; not yet known to be funded; withdrawn but for another loan; repaid before.
        {"borrower_id": "funded", "loan_id": "l1", "listed_on": "2023-01-01", "originated_on": "2023-01-09", "known_from": "2023-01-09"},
        {"borrower_id": "unknown", "loan_id": "l2", "listed_on": "2023-01-01", "originated_on": "2023-12-31", "known_from": "2024-01-02"},
        {"borrower_id": "other", "loan_id": "l3"} | unfunded,
        {"borrower_id": "other", "loan_id": "l4", "listed_on": "2022-01-01", "originated_on": "2022-01-09", "status": "paid",
         "closed_on": "2023-01-02", "known_from": "2023-01-02"},
        {"borrower_id": "repaid", "loan_id": "l5"} | unfunded,
        {"borrower_id": "repaid", "loan_id": "l6", "listed_on": "2022-01-01", "originated_on": "2022-01-09", "status": "paid",
         "closed_on": "2023-01-01", "known_from": "2023-01-01"},
        {"borrower_id": "later", "loan_id": "l7"} | unfunded,
        {"borrower_id": "later", "loan_id": "l8", "listed_on": "2023-02-01", "originated_on": "2023-02-02", "known_from": "2023-02-02"},
    ]
    rows = spine(*[(one, "2023-01-01", "l") for one in ("funded", "unknown", "other", "repaid", "later", "nobody")])
    owed = with_live_obligation(rows, silver(loan=loans)["loan"], TRAINING_DATE, 12)
    assert sorted(row["borrower_id"] for row in owed.collect()) == ["funded", "later", "other"]
    # Within one month of the application the loan of February does not count.
    owed = with_live_obligation(rows, silver(loan=loans)["loan"], TRAINING_DATE, 1)
    assert sorted(row["borrower_id"] for row in owed.collect()) == ["funded", "other"]


def portfolio() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Ten 36-month loans of January 2021 and ten of January 2023, as on 1 January 2024; their late instalments."""
    loans, late = [], []

    def add(name: str, originated: str, default_due: str | None = None, paid_on: str | None = None) -> None:
        row = {"borrower_id": name, "loan_id": name, "term_months": 36, "listed_on": originated, "originated_on": originated}
        loans.append(row | {"known_from": originated})
        if paid_on:
            loans.append(row | {"status": "paid", "closed_on": paid_on, "known_from": paid_on})
        if default_due:
            late.append({"borrower_id": name, "loan_id": name, "installment_no": 1, "due_on": default_due,
                         "days_past_due": 90, "known_from": "2023-12-31"})

    add("2021-default-a", "2021-01-01", default_due="2021-04-02")  # 90 days on: 1 July 2021, month 6
    add("2021-default-b", "2021-01-01", default_due="2021-04-01")  # 30 June 2021: also within month 6
    add("2021-default-c", "2021-01-01", default_due="2022-04-02")  # 1 July 2022: month 18
    add("2021-prepaid", "2021-01-01", paid_on="2021-02-01")
    for number in range(6):
        add(f"2021-good-{number}", "2021-01-01")
    add("2023-default", "2023-01-01", default_due="2023-04-02")  # month 6
    for number in range(9):
        add(f"2023-good-{number}", "2023-01-01")
    # Not known on the training date: as if it were not there.
    loans.append({"borrower_id": "new", "loan_id": "new", "listed_on": "2024-01-01", "originated_on": "2024-01-01", "known_from": "2024-01-02"})
    return loans, late


# Month 6: 3 of all 20, the prepaid loan among them. Month 18: 1 of the 8 of 2021 that have not defaulted; those of
# 2023 were watched for 12 months.
AT_6, AT_18 = 3 / 20, 1 - (1 - 3 / 20) * (1 - 1 / 8)


def test_incidence_keeps_prepaid_loans_at_risk(silver):
    loans, late = portfolio()
    tables = silver(loan=loans, repayment=late)
    events = build_default_events(tables["loan"], tables["repayment"], 90)
    rows = build_incidence(tables["loan"], events, TRAINING_DATE).orderBy("month").collect()
    # Nothing happened in the last twelve months that were watched, 25 to 36: so it goes on.
    expected = [0.0] * 6 + [AT_6] * 12 + [AT_18] * (MAX_MONTHS + 1 - 18)
    assert [row["month"] for row in rows] == list(range(MAX_MONTHS + 1))
    assert [row["incidence"] for row in rows] == pytest.approx(expected, abs=1e-12)


def test_incidence_beyond_what_was_watched_goes_on_with_the_last_hazard(silver):
    # Four loans of 60 months, watched for 12: one defaults in month 6, one in its month 13, which is not complete yet.
    begun = {"a": "2023-01-01", "b": "2022-12-15", "c": "2023-01-01", "d": "2023-01-01"}
    loans = [{"borrower_id": name, "loan_id": name, "term_months": 60, "listed_on": day, "originated_on": day, "known_from": day}
             for name, day in begun.items()]
    late = [{"borrower_id": "a", "loan_id": "a", "installment_no": 1, "due_on": "2023-04-02", "days_past_due": 90, "known_from": "2023-07-01"},
            {"borrower_id": "b", "loan_id": "b", "installment_no": 9, "due_on": "2023-10-02", "days_past_due": 90, "known_from": "2024-01-01"}]
    tables = silver(loan=loans, repayment=late)
    events = build_default_events(tables["loan"], tables["repayment"], 90)
    found = [row["incidence"] for row in build_incidence(tables["loan"], events, TRAINING_DATE).orderBy("month").collect()]
    assert found[12] == pytest.approx(0.25)
    tail = 1 / (6 * 4 + 6 * 3)  # one default over the loans at risk in months 1 to 12
    assert found[13:16] == pytest.approx([1 - 0.75 * (1 - tail) ** more for more in (1, 2, 3)])


def test_incidence_of_nothing_known_is_nothing(silver):
    tables = silver()
    events = build_default_events(tables["loan"], tables["repayment"], 90)
    rows = build_incidence(tables["loan"], events, TRAINING_DATE).collect()
    assert [row["incidence"] for row in rows] == [0.0] * (MAX_MONTHS + 1)


def test_the_share_of_risk_that_was_watched(spark):
    curve = [0.0] * 6 + [AT_6] * 12 + [AT_18] * (MAX_MONTHS + 1 - 18)
    incidence = spark.createDataFrame(list(enumerate(curve)), "month INT, incidence DOUBLE")
    cases = {
        # borrower: as-of date, origination, months on book, term, is_default
        "year_watched": ("2023-01-01", "2023-01-01", 0, 36, False),  # F(12) / F(39)
        "default": ("2023-01-01", "2023-01-01", 0, 36, True),  # the same: as likely to have been seen by then
        "funded_later": ("2023-01-01", "2023-08-01", 0, 36, False),  # its risk began with the loan: F(5) is 0, left out
        "never_funded": ("2023-01-01", None, 0, 36, False),  # watched from the as-of date
        "watched_to_the_end": ("2023-01-01", "2022-01-01", 12, 36, False),  # F(24) is all that was left
        "no_risk_watched": ("2023-10-01", "2023-10-01", 0, 36, False),  # F(3) is 0: tells nothing, left out
        "default_without_risk": ("2023-10-01", "2023-10-01", 0, 36, True),  # a default stays, whatever the curve says
        "past_all_seen": ("2023-09-01", "2022-01-01", 20, 36, False),  # no risk was ever seen after month 20: 4 of 19 months
        "longer_term": ("2023-01-01", "2023-01-01", 0, 60, False),  # by months on book, not by shares of the term
        "over": ("2023-01-01", "2019-09-01", 40, 36, False),  # past its term and the lag: nothing more can come
    }
    rows = [
        (one, date.fromisoformat(day), begun and date.fromisoformat(begun), held, term, bad)
        for one, (day, begun, held, term, bad) in cases.items()
    ]
    spine = spark.createDataFrame(
        rows, "borrower_id STRING, as_of_date DATE, originated_on DATE, months_on_book INT, term_months INT, is_default BOOLEAN"
    )
    shares = with_exposure(spine, incidence, TRAINING_DATE, horizon_months=60)
    assert {row["borrower_id"]: row["watched_share"] for row in shares.collect()} == pytest.approx(
        {"year_watched": AT_6 / AT_18, "default": AT_6 / AT_18, "never_funded": AT_6 / AT_18, "watched_to_the_end": 1.0,
         "default_without_risk": 0.0, "past_all_seen": 4 / 19, "longer_term": AT_6 / AT_18, "over": 1.0}
    )


def test_a_terms_share_of_the_risk_over_the_horizon(spark):
    incidence = spark.createDataFrame(list(enumerate([0.0] * 6 + [AT_6] * 12 + [AT_18] * (MAX_MONTHS + 1 - 18))), "month INT, incidence DOUBLE")
    begun = date(2020, 1, 1)
    spine = spark.createDataFrame(
        [(term, begun, begun, 0, True) for term in (2, 12, 24, 60)],
        "term_months INT, as_of_date DATE, originated_on DATE, months_on_book INT, is_default BOOLEAN",
    )
    shares = with_exposure(spine, incidence, TRAINING_DATE, horizon_months=24)
    # No default was ever seen by month 5, so that two months of term, and the lag, count as 5 of 27 months.
    assert {row["term_months"]: row["term_share"] for row in shares.collect()} == pytest.approx(
        {2: 5 / 27, 12: AT_6 / AT_18, 24: 1.0, 60: 1.0}
    )
