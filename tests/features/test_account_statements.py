"""Account months out of single transactions: one account by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from features.account_statements import build_account_months

COLUMNS = """borrower_id STRING, told_until DATE, day DATE, amount DECIMAL(18,2), direction STRING, kind STRING,
source_file STRING, row_number BIGINT, landed_on DATE"""
GRANTED = date(1995, 4, 10)


@pytest.fixture(scope="module")
def months(spark):
    rows = [
        # Opened in the middle of January; interest and a fee on its last day.
        (date(1995, 1, 20), 1000, "in", None), (date(1995, 1, 31), 10, "in", None), (date(1995, 1, 31), 15, "out", None),
        # 1000 more spent than came in on the 12th, ten days later 200 is there again; nothing happens in March.
        (date(1995, 2, 12), 6000, "out", None), (date(1995, 2, 12), 5000, "in", "salary"), (date(1995, 2, 22), 700, "in", None),
        (date(1995, 2, 12), 500, "out", "card"),
        # April is not over when the loan is granted.
        (date(1995, 4, 5), 50, "out", None),
    ]
    told = [("a", GRANTED, day, Decimal(amount), direction, kind, "trans.csv", number, None)
            for number, (day, amount, direction, kind) in enumerate(rows, 1)]
    # April ends on the day of the grant: it is not over before it.
    told.append(("b", date(1995, 4, 30), date(1995, 4, 5), Decimal(1), "in", None, "trans.csv", 9, None))
    found = build_account_months(spark.createDataFrame(told, COLUMNS)).collect()
    return {(row.borrower_id, row.month.month): row for row in found}


def test_only_months_over_before_the_grant(months):
    assert sorted(months) == [("a", 1), ("a", 2), ("a", 3)]
    assert [months["a", month].known_from for month in (1, 2, 3)] == [date(1995, 1, 31), date(1995, 2, 28), date(1995, 3, 31)]


@pytest.mark.parametrize(
    ("month", "flows", "balances"),
    [
        # Eleven days of 1000 and one of 995.
        (1, (1010, 15, 0, 0, 3), (995, 11_995 / 12, 995, 0)),
        # Eleven days of 995, ten of -505, seven of 195.
        (2, (5700, 6000, 500, 5000, 4), (-505, 7260 / 28, 195, 10)),
        (3, (0, 0, 0, 0, 0), (195, 195, 195, 0)),
    ],
)
def test_flows_and_balances_of_a_month(months, month, flows, balances):
    row = months["a", month]
    assert (row.deposits, row.withdrawals, row.card_spend, row.salary_in, row.transactions) == flows
    assert (row.balance_min, float(row.balance_mean), row.balance_end, row.overdraft_days) == pytest.approx(balances, abs=0.01)


def test_a_month_names_the_last_row_that_tells_of_it(months):
    assert [months["a", month].row_number for month in (1, 2, 3)] == [3, 6, 6]
