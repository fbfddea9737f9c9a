"""Vintages of a few hand-made loans."""

from __future__ import annotations

from datetime import date

import pytest

from features.population import build_default_events
from features.vintages import build_vintages, vintage_curves

AS_OF = date(2024, 1, 1)


def test_cumulative_incidence_by_quarter(silver):
    begun = {
        # First quarter of 2023, the youngest of it nine months old: one default in month 6, one charged off in month 10,
        # which not every loan of the quarter has reached.
        "a": "2023-01-01", "b": "2023-02-01", "c": "2023-01-01", "d": "2023-03-31",
        "e": "2023-10-15", "f": "2023-12-15",  # the last quarter: f has no complete month
        "g": "2018-12-31",  # before the twenty quarters
    }
    loans = [{"loan_id": name, "listed_on": day, "originated_on": day, "known_from": day} for name, day in begun.items()]
    loans += [{"loan_id": "c", "listed_on": "2023-01-01", "originated_on": "2023-01-01", "status": "charged_off",
               "closed_on": "2023-10-15", "known_from": "2023-10-16"},
              {"loan_id": "h", "listed_on": "2023-01-01", "status": "listed", "known_from": "2023-01-01"}]  # never funded
    late = [{"loan_id": "a", "installment_no": 1, "due_on": "2023-04-02", "days_past_due": 90, "known_from": "2023-07-01"},
            {"loan_id": "b", "installment_no": 1, "due_on": "2023-11-30", "days_past_due": 90, "known_from": "2024-02-28"}]  # later
    tables = silver(loan=loans, repayment=late)
    events = build_default_events(tables["loan"], tables["repayment"], 90)

    curves = vintage_curves(build_vintages(tables["loan"], events, AS_OF).toPandas())

    assert list(curves) == [date(2023, 1, 1)]
    assert curves[date(2023, 1, 1)].tolist() == pytest.approx([0.0] * 6 + [0.25] * 4)
