"""The backtest's scoring: past listings valued as on their day, beside what they paid, on hand-made loans."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from conf.tables import LOAN, REPAYMENT
from models.hazard import Curves, Hazard
from models.open_listings import Terms
from models.realised_cash import build_received
from spark_jobs import backtest
from spark_jobs.evaluate import Period, Split, Step

EVE, KNOWN_ON = date(2010, 1, 31), date(2012, 12, 31)
ORIGIN = {"source_file": "hand", "row_number": 1}


class Model:
    """Scores everyone alike."""

    hazard = Hazard(Curves(np.full(15, 0.01), np.full(15, 0.0)), {}, recoveries=np.array([0.0, 0.5]))

    def score(self, frame, scores):
        return frame.withColumns({"prob_default": F.lit(0.2), "risk_group": F.lit(3)})


def rows_of(spark, table, rows):
    return spark.createDataFrame([tuple(row.get(column) for column in table.columns) for row in rows], table.ddl)


def loan(name: str, status: str, known_from: date, **changes) -> dict:
    return {
        "loan_id": name, "borrower_id": name, "amount": Decimal(1000), "term_months": 12, "interest_rate": 0.0, "within_policy": True,
        "listed_on": EVE, "funded_amount": Decimal(0), "status": status, "currency": "USD", "known_from": known_from, **ORIGIN, **changes,
    }


def running(name: str, **changes) -> list[dict]:
    issued = date(2010, 2, 28)
    return [
        loan(name, "listed", EVE, **changes),
        loan(name, "current", issued, originated_on=issued, funded_amount=Decimal(600), **changes),
    ]


def payment(name: str, number: int, paid_on: date, amount: int, known_from: date | None = None) -> dict:
    return {
        "loan_id": name, "borrower_id": name, "installment_no": number, "due_on": paid_on, "due_amount": Decimal(50), "paid_on": paid_on,
        "paid_amount": Decimal(amount), "days_past_due": 0, "currency": "USD", "known_from": known_from or paid_on, **ORIGIN,
    }


def test_listings_are_valued_as_on_their_day_and_paid_as_known_later(spark, settings):
    loans = [
        *running("pays"), *running("defaults"),
        # Outside policy, open until the day before, and never scored: no listing of the day.
        *running("outside", within_policy=False),
        loan("withdrawn", "listed", date(2010, 1, 1)), loan("withdrawn", "withdrawn", EVE),
        *running("unscored"),
    ]
    payments = [
        # 600 in a single payment after three months; what was told of it first does not count.
        payment("pays", 3, date(2010, 5, 31), 40, date(2010, 5, 31)), payment("pays", 3, date(2010, 5, 31), 600, date(2010, 6, 1)),
        # Half of it, then in default in month 5, a tenth of 600 in month 7.
        payment("defaults", 1, date(2010, 3, 31), 300), payment("defaults", 2, date(2010, 9, 30), 60),
        # Told after the last day whose knowledge counts.
        payment("defaults", 3, date(2010, 10, 31), 99, date(2013, 1, 1)),
    ]
    silver = {LOAN.name: rows_of(spark, LOAN, loans), REPAYMENT.name: rows_of(spark, REPAYMENT, payments)}
    scored = [(name, EVE, name, f"g-{name}", "applicant", name == "defaults", date(2010, 7, 28) if name == "defaults" else None)
              for name in ("pays", "defaults", "outside", "withdrawn")]
    # Who is performing has no listing.
    scored.append(("holder", EVE, "pays", "g", "performing", False, None))
    test = spark.createDataFrame(
        scored, "borrower_id string, as_of_date date, loan_id string, identity_group_id string, standing string, is_default boolean, default_on date"
    )
    step = Step(Period(EVE, EVE, date(2010, 4, 29)), Split("by hand", test, test), None)
    valued = backtest.value_listings(step, Model(), silver, settings, Terms(None, 0.1, 12, 0.01), KNOWN_ON)
    received = build_received(silver[LOAN.name], silver[REPAYMENT.name], KNOWN_ON).toPandas()
    found = backtest.with_realised(valued, received, 0.01)

    assert set(backtest.LISTED) <= set(found.columns)
    assert found["loan_id"].tolist() == ["defaults", "pays"]
    assert set(found["month"]) == {date(2010, 2, 1)} and set(found["amount"]) == {600.0}
    assert found["identity_group_id"].tolist() == ["g-defaults", "g-pays"] and found["is_default"].tolist() == [True, False]
    # Half of what is in default comes back, by the hazard rather than by the settings.
    assert found["loss_given_default"].tolist() == [0.5, 0.5] and found["prob_default_lifetime"].tolist() == pytest.approx([0.2, 0.2])
    defaults, pays = found["cash"]
    assert pays == pytest.approx([0, 0, 0.99]) and defaults == pytest.approx([0.495, 0, 0, 0, 0, 0, 0.099])
    assert found["principal_lost"].tolist() == pytest.approx([0.4, 0])
    assert pd.isna(found["default_month"][1]) and found["default_month"][0] == 5


def test_months_before_a_model_are_those_since_the_first_listing():
    assert backtest.month_ends(date(2007, 11, 20), date(2008, 3, 31)) == [date(2007, 11, 30), date(2007, 12, 31), date(2008, 1, 31), date(2008, 2, 29)]
    assert backtest.month_ends(date(2008, 3, 5), date(2008, 3, 31)) == []


def test_a_quarter_needs_a_protocol(settings):
    with pytest.raises(backtest.NoWalkForward, match=r"uci_credit_card\.yaml:\d+.*out_of_time with walk_forward_from"):
        backtest.run(None, settings.model_copy(update={"source": "uci_credit_card"}), KNOWN_ON)
