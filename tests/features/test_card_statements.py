"""Card accounts told side by side: one account over three months, by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from features.card_statements import build_card_months, build_card_repayments

COLUMNS = """loan_id STRING, borrower_id STRING, newest_month DATE, credit_limit DECIMAL(18,2),
bill_1 DECIMAL(18,2), bill_2 DECIMAL(18,2), bill_3 DECIMAL(18,2),
paid_1 DECIMAL(18,2), paid_2 DECIMAL(18,2), paid_3 DECIMAL(18,2), months_late_1 INT, months_late_2 INT, months_late_3 INT"""
SEPTEMBER, AUGUST, JULY = date(2005, 9, 1), date(2005, 8, 1), date(2005, 7, 1)


@pytest.fixture(scope="module")
def accounts(spark):
    def account(name, limit, bills, paid, late):
        return (name, name, SEPTEMBER, Decimal(limit), *map(Decimal, bills), *map(Decimal, paid), *late)

    return spark.createDataFrame([
        # July's 100 rose to 250 although 30 was paid; then 200 was paid and 80 spent.
        account("spends", 1000, (130, 250, 100), (200, 30, 10), (2, 0, -1)),
        # Overpaid in July, so that August's bill has nothing due in it; a limit cut to a hundredth of what is owed.
        account("overpaid", 1, (120, 20, -50), (5, 70, 60), (-2, -2, -2)),
        # A fee was waived: the bill fell by more than was paid. No limit is left.
        account("waived", 0, (10, 60, 60), (20, 0, 0), (0, 1, 0)),
    ], COLUMNS)


def test_months_of_an_account(accounts):
    rows = {(row.borrower_id, row.month): row for row in build_card_months(accounts, 3).collect()}
    assert len(rows) == 9
    newest, middle, oldest = (rows["spends", month] for month in (SEPTEMBER, AUGUST, JULY))
    assert [row.known_from for row in (newest, middle, oldest)] == [date(2005, 9, 30), date(2005, 8, 31), date(2005, 7, 31)]
    assert [row.card_spend for row in (newest, middle, oldest)] == [80, 180, None]
    assert [row.deposits for row in (newest, middle, oldest)] == [200, 30, 10]
    assert {newest.balance_min, newest.balance_mean, newest.balance_end} == {-130}
    assert [row.utilisation for row in (newest, middle, oldest)] == [0.13, 0.25, 0.1]
    assert [rows["overpaid", month].utilisation for month in (SEPTEMBER, JULY)] == [10, 0]
    assert rows["overpaid", JULY].balance_end == 50
    assert rows["waived", SEPTEMBER].card_spend == 0
    assert rows["waived", SEPTEMBER].utilisation is None


def test_a_bill_is_due_at_the_end_of_the_next_month(accounts):
    rows = {(row.borrower_id, row.installment_no): row for row in build_card_repayments(accounts, 3).collect()}
    assert len(rows) == 9
    spends = [rows["spends", number] for number in (3, 2, 1)]
    assert [(row.due_amount, row.paid_amount, row.days_past_due) for row in spends] == [(250, 200, 60), (100, 30, 0), (0, 10, 0)]
    assert all(row.due_on == row.paid_on == row.known_from for row in spends)
    assert spends[0].due_on == date(2005, 9, 30)
    assert [rows["overpaid", number].due_amount for number in (3, 2, 1)] == [20, 0, 0]
    assert [rows["waived", number].days_past_due for number in (3, 2, 1)] == [0, 30, 0]
