"""The backtest's report: what it takes from the job's files, and what it writes."""

from __future__ import annotations

import json
from datetime import date

import pandas as pd
import pytest

from conf.settings import load_settings
from spark_jobs import backtest_report

JANUARY, FEBRUARY = date(2010, 1, 1), date(2010, 2, 1)
CAPS = pd.DataFrame({
    # The job need not write groups in order; February has no market indicators.
    "month": [JANUARY] * 5 + [FEBRUARY] * 5, "risk_group": [2, 1, 3, 4, 5] * 2, "cap": [0.3, 1.0, 0.2, 0.1, 0.05, 0.6, 1.0, 0.4, 0.25, 0.1],
    "base_cap": [0.6, 1.0, 0.4, 0.25, 0.1] * 2, "market_stress": [2.0] * 5 + [None] * 5, "basis": ["fitted"] * 5 + ["static"] * 5,
    "asset_correlation": [0.02, 0.01, 0.03, 0.04, 0.05] * 2, "default_level": [1.3] * 5 + [1.0] * 5,
})


def test_files_become_a_page_and_figures(tmp_path, monkeypatch):
    settings = load_settings(source="lendingclub", home=tmp_path, data=tmp_path / "data")
    written = settings.market / "reports" / "backtest"
    written.mkdir(parents=True)
    CAPS.to_parquet(written / "risk_caps.parquet")
    (written / "quarters.json").write_text(json.dumps({"known_on": "2017-12-31", "quarters": [], "left_out": {}}))
    pd.DataFrame({"month": [FEBRUARY, JANUARY], "loan_id": ["b", "a"], "amount": [1010.0, 75.0]}).to_parquet(written / "listings.parquet")
    (tmp_path / "data").mkdir()
    pd.DataFrame({
        "loan_status": ["Fully Paid"] * 500, "issue_d": "2015-04-01", "grade": "A", "installment": 31.0, "int_rate": 7.5,
        "total_rec_prncp": 1000.0, "recoveries": 0.0, "collection_recovery_fee": 0.0,
    }).to_csv(tmp_path / "data" / "outcomes_2015.csv.gz")
    seen = {}

    def found_of(rows, following, static, stated):
        seen.update(notes=rows["notes"].tolist(), following=following(JANUARY), static=static(JANUARY), stated=stated(JANUARY))
        return {"strategies": {}}

    monkeypatch.setattr(backtest_report, "find", found_of)
    monkeypatch.setattr(backtest_report, "page", lambda found, code_version, made_at: f"page of {sorted(found)}")
    target = backtest_report.run(settings, tmp_path / "reports")
    assert seen["notes"] == [3, 40]
    assert seen["following"].risk_group_caps == (1.0, 0.3, 0.2, 0.1, 0.05) and seen["static"].risk_group_caps == (1.0, 0.6, 0.4, 0.25, 0.1)
    assert seen["following"].correlation.asset_correlations == seen["static"].correlation.asset_correlations == (0.01, 0.02, 0.03, 0.04, 0.05)
    assert seen["stated"].correlation.asset_correlations == tuple(settings.allocation.asset_correlations)
    assert (seen["following"].default_level, seen["static"].default_level, seen["stated"].default_level) == (1.3, 1.0, 1.3)
    assert seen["stated"].risk_group_caps == seen["following"].risk_group_caps
    assert target.read_text() == "page of ['graded_outcomes', 'market', 'protocol', 'strategies']"
    told = json.loads((tmp_path / "reports" / "backtest.json").read_text())
    assert told["protocol"] == {"known_on": "2017-12-31", "quarters": [], "left_out": {}, "note": 25, "fee": settings.allocation.platform_fee_rate}
    assert told["market"] == [
        {"month": "2010-01", "basis": "fitted", "market_stress": 2.0, "default_level": 1.3, "caps": [1.0, 0.3, 0.2, 0.1, 0.05], "asset_correlations": [0.01, 0.02, 0.03, 0.04, 0.05]},
        {"month": "2010-02", "basis": "static", "market_stress": None, "default_level": 1.0, "caps": [1.0, 0.6, 0.4, 0.25, 0.1], "asset_correlations": [0.01, 0.02, 0.03, 0.04, 0.05]},
    ]
    assert told["graded_outcomes"]["outcomes_2015.csv.gz"]["portfolios"]["all"]["loss_rate"] == 0


def test_a_month_without_caps_is_refused():
    rules = backtest_report.monthly_rules(load_settings(source="lendingclub"), CAPS)
    with pytest.raises(KeyError):
        rules(date(2010, 3, 1))
