"""The simulated market's companies: the same rows however they are drawn, statements that add up, failures that they foretell."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from conf.settings import load_settings
from conf.source import load_source
from models.metrics import auc
from models.simulated_companies import (
    AMOUNTS,
    COMPANY_LAYOUTS,
    COMPANY_TENURE_YEARS,
    RESTATED_SHARE,
    companies_of,
    export_companies,
)
from models.simulated_export import Window
from models.simulated_market import FAR, day_number

SIMULATION = load_settings().simulation
CLEAN = SIMULATION.model_copy(update={
    name: 0.0 for name in ("broken_type_rate", "impossible_date_rate", "unknown_code_rate", "duplicate_key_rate", "orphan_rate", "missing_rate")
})
TODAY, TOMORROW = date(2026, 4, 19), date(2026, 4, 20)


def drawn(seats, window, simulation=SIMULATION) -> dict[str, list[dict]]:
    tables = export_companies(companies_of(seats, simulation, 2013, 2026), simulation, window)
    return {table: sorted(rows.to_pylist(), key=lambda row: [value or "" for value in row.values()]) for table, (rows, _) in tables.items()}


@pytest.fixture(scope="module")
def many():
    """Companies of 4,000 seats."""
    return companies_of(np.arange(4_000), SIMULATION, 2013, 2026)


def test_records_do_not_depend_on_how_seats_are_split():
    window = Window(day_number(TODAY), day_number(date(2014, 4, 19)), 0)
    whole = drawn(np.arange(120), window)
    # Cut inside a pair of seats, whose companies may belong together.
    parts = [drawn(np.arange(start, stop), window) for start, stop in ((0, 41), (41, 120))]
    for table, rows in whole.items():
        assert rows and len(rows) == sum(len(part[table]) for part in parts)
        assert all(row in rows for part in parts for row in part[table])


def test_history_and_a_day_are_the_longer_history():
    before, longer = (drawn(np.arange(800), Window(day_number(day), day_number(date(2014, 4, 19)), 0)) for day in (TODAY, TOMORROW))
    night = drawn(np.arange(800), Window(day_number(TOMORROW), day_number(TODAY), day_number(TODAY)))
    assert night["filing"] and {row["recorded_on"] for rows in night.values() for row in rows} == {TOMORROW.isoformat()}
    for table, rows in longer.items():
        assert len(rows) == len(before[table]) + len(night[table])


def test_a_seat_is_held_by_one_company_after_the_other(many):
    for seat in range(50):
        assert set(np.diff(np.sort(many.founded[many.number // 1000 == seat])).tolist()) <= {COMPANY_TENURE_YEARS}
    assert len(set(many.number.tolist())) == len(many.number)
    # No statement comes after a failure, nobody fails who has been sold.
    assert (np.where(many.filed_on < FAR, many.filed_on, 0) < np.minimum(many.failed_on, many.gone_on)).all()
    assert ((many.failed_on < FAR) ^ (many.gone_on < FAR)).all()


def test_statements_add_up_as_first_told_and_as_restated():
    rows = drawn(np.arange(2_000), Window(day_number(TODAY), day_number(date(2014, 4, 19)), 0), CLEAN)["filing"]
    amounts = {name: np.array([int(row[name]) for row in rows]) for name in AMOUNTS}
    for total, *parts in (("total_assets", "total_liabilities", "equity"), ("revenue", "cost_of_sales", "gross_profit")):
        assert np.abs(amounts[total] - sum(amounts[part] for part in parts)).max() <= 2, total
    assert (amounts["current_assets"] <= amounts["total_assets"]).all() and (amounts["current_liabilities"] <= amounts["total_liabilities"]).all()
    assert all(amounts[name].min() >= 0 for name in ("cash", "receivables", "inventory", "total_liabilities", "long_term_debt"))

    told = {row["filing_no"]: row for row in rows}
    amended = [row for row in rows if row["form"] == "AMENDED" and row["restates"] in told]
    assert len(amended) / len(rows) == pytest.approx(RESTATED_SHARE, abs=0.01)
    for row in amended:
        first = told[row["restates"]]
        assert first["period_end"] == row["period_end"] and first["filed"] < row["filed"]
        # What was told too well was profit that nobody will pay.
        assert int(first["net_income"]) - int(row["net_income"]) == pytest.approx(int(first["receivables"]) - int(row["receivables"]), abs=2)
        assert int(first["net_income"]) > int(row["net_income"])


def test_failures_are_as_frequent_as_stated_and_foretold_by_statements(many):
    filed = many.filed_on < FAR
    fails = (many.failed_on[None, :] - many.filed_on <= 365)[filed]
    assert fails.mean() == pytest.approx(0.04, abs=0.012)
    amounts = {name: values[filed] for name, values in many.amounts.items()}
    for score in (amounts["total_liabilities"] / amounts["total_assets"], -amounts["operating_income"] / amounts["total_assets"]):
        assert auc(score, fails.astype(float), np.ones(len(score))) > 0.65


def test_the_mapping_reads_columns_that_the_files_have():
    source = load_source("simulated")
    for table, layout in COMPANY_LAYOUTS.items():
        assert set(source.raw_columns(table)) == set(layout.columns)
