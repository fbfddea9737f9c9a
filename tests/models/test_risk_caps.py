"""Caps and market stress: by hand, point in time, and the fitted relation found again in made-up history."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from models.hazard import Curves, Hazard
from models.risk_caps import (
    Sensitivity,
    build_indicator_history,
    fit_sensitivity,
    market_stress,
    realised_and_expected,
    risk_group_caps,
    stress_behind_level,
)

MONTHS = pd.period_range("2000-01", "2012-12", freq="M")


def series(name: str, values: np.ndarray, months=MONTHS) -> pd.DataFrame:
    """A month's value becomes known on the 15th of the next."""
    return pd.DataFrame({
        "series_id": name,
        "observed_on": [month.start_time.date() for month in months],
        "known_from": [(month + 1).start_time.date().replace(day=15) for month in months],
        "value": values,
    })


def test_stress_is_the_newest_value_against_its_trailing_ten_years():
    values = np.tile([1.0, 3.0], len(MONTHS) // 2)
    values[-1] = 5.0
    history = series("BAAFFM", values)
    on = date(2013, 1, 31)
    trailing = values[-120:]
    assert market_stress(history, on, "USD") == pytest.approx((5.0 - trailing.mean()) / trailing.std(ddof=1))
    # The day before its publication the newest value is the one before.
    before = market_stress(history, date(2013, 1, 14), "USD")
    assert before == pytest.approx((1.0 - values[-121:-1].mean()) / values[-121:-1].std(ddof=1))


def test_an_indicator_that_ended_long_ago_says_nothing_about_tonight():
    history = series("BAAFFM", np.tile([1.0, 3.0], len(MONTHS) // 2))
    assert market_stress(history, date(2013, 6, 1), "USD") is not None
    assert market_stress(history, date(2013, 6, 2), "USD") is None


def test_a_revision_counts_from_its_own_day_on():
    values = np.tile([1.0, 3.0], len(MONTHS) // 2)
    revision = pd.DataFrame({
        "series_id": ["BAAFFM"], "observed_on": [date(2012, 12, 1)], "known_from": [date(2013, 3, 1)], "value": [9.0]
    })
    plain = series("BAAFFM", values)
    # The revision stands first: what counts is when it was known, not where it stands.
    revised = pd.concat([revision, plain], ignore_index=True)
    assert market_stress(revised, date(2013, 2, 28), "USD") == market_stress(plain, date(2013, 2, 28), "USD")
    assert market_stress(revised, date(2013, 3, 1), "USD") == 4.0  # further out than four: held at four


def test_changes_are_over_calendar_years():
    # Unemployment rises by 0.1 a month: its yearly change is 1.2 throughout, and so never moves.
    assert market_stress(series("UNRATE", 5 + 0.1 * np.arange(len(MONTHS))), date(2013, 2, 1), "USD") is None
    jump = 5 + np.where(np.arange(len(MONTHS)) == len(MONTHS) - 1, 2.0, 0.0)
    assert market_stress(series("UNRATE", jump), date(2013, 2, 1), "USD") == 4.0
    # Claims that double within a year, after growing by half of it in all years before.
    claims = np.exp(0.01 * np.arange(len(MONTHS)) + np.tile([0.0, 0.001], len(MONTHS) // 2))
    claims[-1] *= 2
    assert market_stress(series("CLAIMSx", claims), date(2013, 2, 1), "USD") == 4.0


def test_own_economy_first_any_other_where_there_is_none():
    quiet, loud = np.tile([1.0, 3.0], len(MONTHS) // 2), np.tile([1.0, 3.0], len(MONTHS) // 2)
    loud[-1] = 9.0
    both = pd.concat([series("BAAFFM", quiet), series("BOK_BASE_RATE", loud)], ignore_index=True)
    on = date(2013, 1, 31)
    assert market_stress(both, on, "USD") == pytest.approx(market_stress(series("BAAFFM", quiet), on, "USD"))
    assert market_stress(both, on, "KRW") > 2
    assert market_stress(series("BOK_BASE_RATE", loud), on, "USD") > 2
    assert market_stress(both.iloc[:0], on, "USD") is None
    assert market_stress(series("BAAFFM", quiet[:23], MONTHS[:23]), on, "USD") is None


def made_up_history(slope: float, loans: int) -> tuple[pd.DataFrame, pd.DataFrame, Hazard]:
    """Defaults that follow the stress known three months before, with the given slope."""
    indicator = series("BAAFFM", 3 + np.sin(np.arange(len(MONTHS)) / 9))
    months = pd.period_range("2006-01", "2012-12", freq="M")
    stress = np.array([market_stress(indicator, (month - 3).end_time.date(), "USD") for month in months])
    counts = pd.DataFrame({
        "term_months": 36, "months_on_book": 12, "month": [month.start_time.date() for month in months],
        "at_risk": loans, "prepaid": 0,
        "defaults": np.random.default_rng(1).poisson(0.01 * loans * np.exp(slope * stress)),
    })
    return counts, indicator, Hazard(Curves(np.full(40, 0.01), np.zeros(40)), {})


def test_fitted_sensitivity_is_found_in_history():
    counts, indicator, hazard = made_up_history(slope=0.5, loans=20_000)
    sensitivity = fit_sensitivity(realised_and_expected(counts, hazard), indicator, "USD", stated=0.25)
    assert sensitivity.basis == "fitted"
    assert sensitivity.value == pytest.approx(0.5, abs=0.05)


def test_defaults_that_fall_with_stress_never_loosen_caps():
    counts, indicator, hazard = made_up_history(slope=-0.5, loans=20_000)
    assert fit_sensitivity(realised_and_expected(counts, hazard), indicator, "USD", stated=0.25) == Sensitivity(0.0, "fitted")


@pytest.mark.parametrize("reason", ["few months", "few defaults", "no indicators", "no loans"])
def test_too_little_history_leaves_the_stated_sensitivity(reason):
    counts, indicator, hazard = made_up_history(slope=0.5, loans=100 if reason == "few defaults" else 20_000)
    if reason == "few defaults":
        counts["defaults"] = np.minimum(counts["defaults"], 1)
    if reason == "few months":
        counts = counts.iloc[-23:]
    if reason == "no indicators":
        indicator = indicator.iloc[:0]
    if reason == "no loans":
        counts = counts.iloc[:0]
    assert fit_sensitivity(realised_and_expected(counts, hazard), indicator, "USD", stated=0.25) == Sensitivity(0.25, "stated")


def test_caps_follow_stress_within_bounds():
    def caps(stress, before=None):
        bounds = {"min_factor": 0.4, "max_factor": 1.2}
        return risk_group_caps([1.0, 0.6, 0.4, 0.25, 0.1], stress, before, Sensitivity(0.25, "stated"), **bounds)

    tight = caps(2.0)  # exp(-0.5) = 0.60653
    np.testing.assert_allclose(tight["cap"], [1.0, 0.363918, 0.242612, 0.151633, 0.060653], atol=1e-6)
    assert tight["is_static"].tolist() == [False] * 5 and set(tight["basis"]) == {"stated"}
    np.testing.assert_allclose(caps(4.0)["cap"], [1.0, 0.24, 0.16, 0.1, 0.04])  # held at 0.4
    np.testing.assert_allclose(caps(-4.0)["cap"], [1.0, 0.72, 0.48, 0.3, 0.12])  # held at 1.2
    static = caps(None)
    assert static["cap"].tolist() == static["base_cap"].tolist()
    assert set(static["default_level"]) == set(tight["default_level"]) == {1.0}  # nothing is known of the year before
    assert static["is_static"].all() and static["market_stress"].isna().all() and set(static["basis"]) == {"static"}


def test_scenarios_follow_how_far_stress_has_moved():
    def level(stress, before):
        caps = risk_group_caps([1.0, 0.5], stress, before, Sensitivity(0.25, "stated"), min_factor=0.4, max_factor=1.2)
        return caps["default_level"].unique().tolist()

    assert level(2.0, 1.0) == pytest.approx([1.284025])  # exp(0.25)
    assert level(2.0, 2.0) == [1.0]  # what the last year's defaults tell holds on
    assert level(0.0, 2.0) == pytest.approx([1 / 1.2]) and level(4.0, -4.0) == pytest.approx([2.5])  # within the bounds of caps


def test_stress_behind_the_level_is_that_known_when_its_defaults_began():
    # Unemployment over four years rises by a step each month: the stress of a month is that of its newest value.
    months = pd.date_range("2014-01-01", periods=60, freq="MS")
    history = pd.DataFrame({
        "series_id": "UNRATE", "observed_on": months.date, "known_from": (months + pd.offsets.MonthEnd(0)).date, "value": np.arange(60.0) ** 2,
    })
    on = date(2018, 12, 15)
    known = [market_stress(history, (pd.Period("2018-12", freq="M") - back).end_time.date(), "USD") for back in range(3, 15)]
    assert stress_behind_level(history, on, "USD") == pytest.approx(np.mean(known))
    # A value told later changes nothing.
    late = pd.concat([history, pd.DataFrame({"series_id": ["UNRATE"], "observed_on": [date(2018, 9, 1)], "known_from": [date(2018, 10, 5)], "value": [9e9]})])
    assert stress_behind_level(late, on, "USD") == pytest.approx(np.mean(known))
    assert stress_behind_level(history.iloc[:0], on, "USD") is None


def test_history_holds_only_what_was_known(spark):
    rows = [
        ("UNRATE", date(2020, 1, 1), date(2020, 2, 7), 3.5),
        ("UNRATE", date(2020, 1, 1), date(2020, 3, 7), 3.6),
        ("UNRATE", date(2020, 2, 1), date(2020, 4, 1), 3.7),
        ("HOUST", date(2020, 1, 1), date(2020, 2, 7), 1.0),
    ]
    frame = spark.createDataFrame(rows, "series_id string, observed_on date, known_from date, value double")
    known = build_indicator_history(frame, date(2020, 3, 31)).orderBy("known_from").collect()
    assert [row["value"] for row in known] == [3.5, 3.6]


def test_real_indicators_see_the_turn_of_2008(shared_data):
    table = pd.read_csv(shared_data / "macro" / "fred_md_2025.csv").iloc[1:]
    months = pd.PeriodIndex(pd.to_datetime(table["sasdate"], format="%m/%d/%Y"), freq="M")
    history = pd.concat(
        [series(name, table[name].astype(float).to_numpy(), months) for name in ("UNRATE", "CLAIMSx", "BAAFFM")],
        ignore_index=True,
    ).dropna()
    assert market_stress(history, date(2006, 12, 31), "USD") < 0
    assert market_stress(history, date(2009, 3, 31), "USD") > 2
