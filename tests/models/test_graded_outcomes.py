"""Loans with a grade and no borrower: amounts found back from the instalment, and losses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.graded_outcomes import diversification, lent_amounts, outcomes_of
from models.valuation import level_installment


def loans(*rows: tuple) -> pd.DataFrame:
    """Rows of status, grade, amount, term, rate in percent, principal paid, recoveries, fee for collecting."""
    frame = pd.DataFrame(rows, columns=["loan_status", "grade", "amount", "term", "int_rate", "total_rec_prncp", "recoveries", "collection_recovery_fee"])
    installment = frame["amount"] * level_installment(frame["int_rate"] / 100, frame["term"])
    return frame.assign(installment=installment.round(2), issue_d="2015-04-01")


def test_amounts_come_back_from_the_instalment():
    lent = loans(
        ("Fully Paid", "A", 5000, 36, 7.5, 5000, 0, 0),
        ("Charged Off", "B", 10_025, 36, 12.29, 2000, 0, 0),
        ("Charged Off", "E", 20_000, 60, 19.99, 1500, 800, 80),
        # By 36 months it would be less than what has been paid.
        ("Charged Off", "C", 7000, 60, 13.33, 6500, 0, 0),
    )
    assert lent_amounts(lent).tolist() == [5000, 10_025, 20_000, 7000]
    found = outcomes_of(lent)
    assert found.principal_lost == pytest.approx([0, 1 - 2000 / 10_025, 1 - 2220 / 20_000, 500 / 7000])
    assert found.is_default.tolist() == [False, True, True, True]


def test_grades_too_small_for_the_largest_portfolio_are_left_out():
    rows = [("Charged Off" if i % 5 == 0 else "Fully Paid", "A", 1000, 36, 10.0, 0 if i % 5 == 0 else 1000, 0, 0) for i in range(600)]
    found = diversification(loans(*rows, ("Fully Paid", "G", 1000, 36, 25.0, 1000, 0, 0)))
    assert list(found["portfolios"]) == ["all", "A"] and found["loans"] == 601
    of_grade = found["portfolios"]["A"]
    assert of_grade["loss_rate"] == pytest.approx(0.2)
    assert list(of_grade["cvar95"]) == ["5", "20", "100", "500"]
    assert (np.diff(list(of_grade["cvar95"].values())) < 0).all()
