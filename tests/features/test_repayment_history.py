"""Rebuilding monthly repayments from how a loan ended: three loans by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from pyspark.sql import functions as F

from features.repayment_history import build_loan_statuses, build_repayments

LOANS = """loan_id STRING, borrower_id STRING, issued_on DATE, last_paid_on DATE, installment DECIMAL(18,2),
last_paid_amount DECIMAL(18,2), total_paid DECIMAL(18,2), recoveries DECIMAL(18,2), collection_fee DECIMAL(18,2), outcome STRING, source_file STRING,
row_number BIGINT, landed_on DATE"""


def money(text: str) -> Decimal:
    return Decimal(text).quantize(Decimal("0.01"))


@pytest.fixture(scope="module")
def told(spark):
    """Every telling by loan: (installment_no, known_from, due_on, due, paid_on, paid, days_past_due)."""
    issued = date(2010, 1, 1)
    loans = [
        # Pays 100 from February on, pays off with 350 in April: 2 × 100 + 350.
        ("early", issued, date(2010, 4, 1), "100", "350", "550", "0", "0", "paid"),
        # One payment fewer than months (its first fell a month later), the last one not quite a whole instalment.
        ("later", issued, date(2010, 5, 1), "100", "99.97", "299.97", "0", "0", "paid"),
        # Pays February, then 40 in March and nothing more; 30 is recovered at its charge-off, 4.50 are the fee.
        ("lost", issued, date(2010, 3, 1), "100", "40", "170.00", "30.00", "4.50", "charged_off"),
        # Never pays at all.
        ("never", issued, None, "100", "0", "0", "0", "0", "charged_off"),
        # Still running; paid within the month of issue, ahead of its first instalment.
        ("ahead", issued, date(2010, 1, 1), "100", "80", "80", "0", "0", "current"),
    ]
    frame = spark.createDataFrame(
        [
            (name, name, issued, last, *(Decimal(number) for number in numbers), outcome, "f", number, None)
            for number, (name, issued, last, *numbers, outcome) in enumerate(loans)
        ],
        LOANS,
    )
    rows = build_repayments(frame).orderBy("installment_no", "known_from").collect()
    return {
        name: [
            (row.installment_no, row.known_from, row.due_on, row.due_amount, row.paid_on, row.paid_amount, row.days_past_due)
            for row in rows if row.loan_id == name
        ]
        for name, *_ in loans
    }


def on_time(number: int, day: date, paid: str = "100", due: str = "100"):
    return (number, day, day, money(due), day, money(paid), 0)


def test_level_instalments_until_the_last_payment(told):
    assert told["early"] == [
        on_time(1, date(2010, 2, 28)), on_time(2, date(2010, 3, 31)), on_time(3, date(2010, 4, 30), paid="350"),
    ]


def test_a_month_that_nobody_paid_in_tells_nothing(told):
    # Two level instalments from the first month on, none in April, and the rest of the total in May.
    assert told["later"] == [
        on_time(1, date(2010, 2, 28)), on_time(2, date(2010, 3, 31)), on_time(4, date(2010, 5, 31), paid="99.97", due="99.97"),
    ]


def test_after_the_last_payment_of_a_lost_loan_every_instalment_stays_unpaid(told):
    charged_off = date(2010, 8, 28)  # 150 days after 31 March
    march, april = date(2010, 3, 31), date(2010, 4, 30)
    nothing, zero, due = None, money("0"), money("100")
    # What was really paid last is told when the loan is over: before, it would say how it ends.
    assert told["lost"][:3] == [
        on_time(1, date(2010, 2, 28)), on_time(2, march), (2, charged_off, march, due, march, money("40"), 0),
    ]
    assert told["lost"][3:7] == [
        (3, date(2010, 5, 30), april, due, nothing, zero, 30),
        (3, date(2010, 6, 29), april, due, nothing, zero, 60),
        (3, date(2010, 7, 29), april, due, nothing, zero, 90),
        (3, charged_off, april, due, charged_off, money("25.50"), 120),
    ]
    # May and June are told at 30 days; July's 30 days would end after the charge-off, and nothing is told after it.
    assert {row[0] for row in told["lost"][7:]} == {4, 5}
    assert max(row[1] for row in told["lost"]) == charged_off


def test_a_loan_that_never_pays_is_late_from_its_first_instalment(told):
    assert [row[6] for row in told["never"] if row[0] == 1] == [30, 60, 90]
    assert all(row[4] is None and row[5] == 0 for row in told["never"])


def test_a_payment_ahead_of_the_first_instalment_stands_in_it(told):
    assert told["ahead"] == [(1, date(2010, 1, 31), date(2010, 2, 28), money("100"), date(2010, 1, 31), money("80"), 0)]


def test_nothing_is_told_before_it_happened_and_sums_hold(told):
    totals = {"early": "550", "later": "299.97", "lost": "165.50", "never": "0", "ahead": "80"}
    for name, rows in told.items():
        last_told = {row[0]: row[5] for row in rows}
        assert sum(last_told.values()) == money(totals[name]), name
        for _, known_from, _, _, paid_on, _, _ in rows:
            assert paid_on is None or paid_on <= known_from


def test_a_loan_is_listed_then_current_then_over(spark):
    loans = spark.createDataFrame(
        [
            ("lost", date(2010, 1, 1), Decimal(900), "charged_off", date(2010, 3, 1)),
            ("runs", date(2010, 1, 1), Decimal(900), "current", None),
            ("at_once", date(2010, 1, 1), Decimal(900), "paid", date(2010, 1, 1)),  # paid back in the month of its issue
        ],
        "loan_id STRING, issued_on DATE, funded_on_issue DECIMAL(18,2), outcome STRING, last_paid_on DATE",
    )
    rows = build_loan_statuses(loans).select(
        "loan_id", "status", "known_from", "listed_on", "originated_on", F.col("funded_amount").cast("int"), "closed_on"
    ).orderBy("loan_id", "known_from").collect()
    listed, issued, lost = date(2009, 12, 31), date(2010, 1, 31), date(2010, 8, 28)
    assert [tuple(row) for row in rows] == [
        ("at_once", "listed", listed, listed, None, 0, None),
        ("at_once", "paid", issued, listed, issued, 900, issued),
        ("lost", "listed", listed, listed, None, 0, None),
        ("lost", "current", issued, listed, issued, 900, None),
        ("lost", "charged_off", lost, listed, issued, 900, lost),
        ("runs", "listed", listed, listed, None, 0, None),
        ("runs", "current", issued, listed, issued, 900, None),
    ]
