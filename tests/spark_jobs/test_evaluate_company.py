"""The findings of a market of companies, and the page that shows them."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from conf.source import load_source
from models.evaluation_page import page
from spark_jobs.evaluate_company import company_findings

COUNT = 400


@pytest.fixture(scope="module")
def rows():
    """Filings whose score knows the risk, and peers that know less; the second half is of parties that no training has seen."""
    draw = np.random.default_rng(3)
    risk = draw.normal(-2, 1.5, COUNT)
    prob = 1 / (1 + np.exp(-risk))
    fails = draw.random(COUNT) < prob
    later = np.where(np.arange(COUNT) % 10 == 0, np.nan, (fails | (draw.random(COUNT) < prob / 2)).astype(float))
    noisy = {name: 1 / (1 + np.exp(-(risk + draw.normal(0, spread, COUNT)))) for name, spread in (("logistic", 3), ("lightgbm", 1), ("catboost", 1.5))}
    return pd.DataFrame({
        "company_id": [f"c{number:03d}" for number in range(COUNT)], "as_of_date": date(2016, 4, 30), "is_default": fails,
        "is_unseen": np.arange(COUNT) >= COUNT // 2, "default_2y": later, "default_3y": later, "prob_distress_2y": np.minimum(prob * 1.5, 0.99),
        "prob_distress_3y": np.minimum(prob * 1.8, 0.995), "grade": "A", "watched_share": 1.0, "repeat": 1, "ensemble": prob, "altman_z": risk + draw.normal(0, 4, COUNT), **noisy,
    })


def test_findings_have_horizons_peers_and_the_unseen(rows):
    found = company_findings(rows, {"protocol": "out_of_time"}, {"scorecard": "too few"})
    assert list(found["peers"]) == ["logistic", "lightgbm", "catboost"] and found["unfitted_peers"] == {"scorecard": "too few"}
    assert set(found["auc_difference"]) == {"altman_z", "logistic", "lightgbm", "catboost"}
    assert (found["rows"], found["defaults"]) == (COUNT, rows["is_default"].sum())
    # A tenth of the filings has no outcome after two years.
    assert found["within_months"]["24"]["rows"] == COUNT * 9 // 10 and set(found["within_months"]) == {"24", "36"}
    assert found["unseen"]["rows"] == COUNT // 2
    assert found["unseen"]["defaults"] == rows["is_default"][COUNT // 2:].sum()
    assert found["by_year"] == [
        {"year": 2016, "rows": COUNT, "defaults": found["defaults"], "mean_prob_default": pytest.approx(rows["ensemble"].mean())}
    ]
    low, difference, high = found["within_months"]["24"]["auc_difference"]["altman_z"]
    assert low < difference < high and difference > 0


def test_the_page_shows_them_without_groups(rows):
    how = load_source("american_bankruptcy").evaluation.model_dump(mode="json") | {"within_policy_only": False, "recent_years": 3, "code_version": "0" * 12}
    found = company_findings(rows, how, {"scorecard": "too few"})
    of_2015 = {"rows": 20, "defaults": 5, "auc": {"ensemble": 0.7, "altman_z": 0.6}, "auc_interval": {"ensemble": [0.6, 0.8], "altman_z": [0.5, 0.7]}}
    years = {"years": [{"period": "all", "mean_prob_default": 0.2} | of_2015], "left_out": {"2014-04-30": "too few distresses"}}
    found["walk_forward"] = years | {"periods": [{"period": "year from 2015-04-30", "trained_on": "2015-04-30", "mean_prob_default": 0.2} | of_2015]}
    html = page({"american_bankruptcy": ("Companies", found, rows)}, datetime(2020, 1, 1, tzinfo=UTC))
    assert "peer: Altman Z" in html and "Parties that no training has seen" in html and "<h3>Groups</h3>" not in html
    assert "filings of the 3 years before calibrate, earlier ones train" in html
    assert f"{found['unseen']['auc']['ensemble']:.4f}" in html
    assert "year from 2015-04-30" in html and "0.2500" in html and "2014-04-30 is left out: too few distresses" in html
