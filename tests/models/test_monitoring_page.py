"""The monitoring page of a made-up night."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd

from conf.settings import load_settings
from models.drift import Bins, ColumnDrift, DriftVerdict
from models.monitoring_page import Monitored, page

NIGHT = date(2024, 3, 31)
COLUMNS = [
    ColumnDrift("age_years", 0.12, 0.1, 0.2, 1000, "watch"),
    ColumnDrift("bureau_score", 0.02, 0.1, 0.2, 1000, "stable"),
    ColumnDrift("prob_default", 0.31, 0.0, 0.0, 1000, "shifted"),
]
HISTORY = pd.DataFrame({
    "as_of_date": [date(2024, 3, 30), NIGHT], "psi": [0.05, 0.31], "expected_auc": [0.79, 0.789],
    "expected_brier": [0.045, 0.0456], "expected_default_rate": [0.05, 0.0567],
})


def shown(**changed) -> Monitored:
    night = Monitored(
        market="simulated", product="lending", score_name="prob_default", as_of_date=NIGHT, model_version="3", trained_on="2024-03-01", horizon_months=12,
        limits=load_settings().drift, verdict=DriftVerdict(True, "Shifted: score PSI 0.310 <limit 0.25>."), columns=COLUMNS,
        history=HISTORY, score_bins=Bins((0.1,), (0.5, 0.5, 0.0)), score_counts=np.array([200, 800, 0]),
        vintages={date(2023, 1, 1): np.array([0.0, 0.01, 0.02]), date(2023, 4, 1): np.array([0.0, 0.03])},
    )
    return replace(night, **changed)


def test_the_page_says_what_it_shows():
    html = page(shown())
    assert "Shifted: score PSI 0.310 &lt;limit 0.25&gt;." in html
    assert 'AUC 0.789, Brier score 0.0456, default rate\n5.67% within 12 months' in html
    assert "2023 Q1" in html and "2023 Q2" in html
    moved, stable = html.index("<td>age_years"), html.index("<td>bureau_score")
    assert moved < html.index("1 stable features") < stable


def test_a_calm_first_night_has_a_page_too():
    columns = [replace(column, psi=0.0, level="stable") for column in COLUMNS]
    html = page(shown(columns=columns, history=HISTORY.tail(1), vintages={}))
    assert "None: every feature lies within 0.1." in html
    assert "No quarter of origination" in html


def test_companies_have_a_page_without_what_only_loans_have():
    columns = [ColumnDrift("altman_z", 0.3, 0, 0, 900, "shifted"), ColumnDrift("prob_distress_1y", 0.02, 0, 0, 900, "stable")]
    history = HISTORY[["as_of_date", "psi"]]
    html = page(shown(product="company", score_name="prob_distress_1y", columns=columns, history=history, vintages=None))
    assert "Monitoring of the company model" in html and "900 companies of the kind" in html and "filings that calibrated it" in html
    assert "Altman" in html and "Expected performance" not in html and "Vintages" not in html


def test_the_same_rows_make_the_same_bytes_that_need_no_network():
    html = page(shown())
    assert page(shown()) == html
    assert not re.search(r"<script|<link|<img|src=|@import|url\(http|href=\"http", html)
