"""Hazard: counts from hand-made loans, curves worked out by hand, scaling to the score."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from models.hazard import (
    DEFAULT_LAG_MONTHS,
    EXPOSURE_COLUMNS,
    Curves,
    Hazard,
    NoHistory,
    build_exposure,
    build_outcomes,
    cumulative_incidence,
    fit_hazard,
    fit_level,
)

AS_OF = date(2020, 7, 15)
LOAN = "loan_id string, term_months int, originated_on date, status string, closed_on date, known_from date"
REPAYMENT = "loan_id string, due_on date, days_past_due int, known_from date"


def flat(rate: float, prepaid: float = 0.0, months: int = 80) -> Hazard:
    return Hazard(Curves(np.full(months, rate), np.full(months, prepaid)), {})


@pytest.fixture(scope="module")
def silver(spark):
    opened, listed = date(2020, 1, 15), date(2020, 1, 10)
    loans = [
        # Still current on the as-of date: six complete months, no event.
        ("current", 36, opened, "current", None, listed),
        # Repaid in full after three and a half months: prepaid in month 4; the earlier row says current.
        ("prepaid", 36, opened, "current", None, listed),
        ("prepaid", 36, opened, "paid", date(2020, 5, 2), date(2020, 5, 2)),
        # First instalment missed, 90 days past due on 2020-05-15: default on the day month 4 ends; later charged off.
        ("default", 36, opened, "current", None, listed),
        ("default", 36, opened, "charged_off", date(2020, 7, 10), date(2020, 7, 10)),
        # Its charge-off is only known after the as-of date: not an event.
        ("later", 36, opened, "current", None, listed),
        ("later", 36, opened, "charged_off", date(2020, 7, 14), date(2020, 7, 20)),
        # Charged off within the seventh month, which is not complete on the as-of date after all: counts for nobody.
        ("incomplete", 36, date(2020, 1, 20), "charged_off", date(2020, 7, 14), date(2020, 1, 20)),
        # Three-month term repaid on its last due day: it ended, it did not prepay.
        ("ended", 3, opened, "paid", date(2020, 4, 15), listed),
        # Originated two years before the platform's history: watched from month 25 on only.
        ("entered_late", 36, date(2018, 1, 15), "current", None, date(2020, 1, 15)),
        # Never originated.
        ("withdrawn", 36, None, "withdrawn", None, listed),
    ]
    repayments = [
        ("default", date(2020, 2, 15), 30, date(2020, 3, 16)),
        ("default", date(2020, 2, 15), 90, date(2020, 5, 15)),
        ("current", date(2020, 2, 15), 60, date(2020, 4, 15)),
        # 90 days past due that nobody knew by the as-of date.
        ("later", date(2020, 4, 16), 90, date(2020, 7, 16)),
    ]
    return spark.createDataFrame(loans, LOAN), spark.createDataFrame(repayments, REPAYMENT)


def test_outcomes_tell_event_and_watched_months(silver):
    rows = {row["loan_id"]: row for row in build_outcomes(*silver, AS_OF, 90).collect()}
    assert {name: (row["event"], row["event_month"], row["entered_months"], row["watched_months"]) for name, row in rows.items()} == {
        "current": (None, None, 0, 6),
        "prepaid": ("prepaid", 4, 0, 4),
        "default": ("default", 4, 0, 4),
        "later": (None, None, 0, 6),
        "incomplete": (None, None, 0, 5),
        "ended": (None, None, 0, 3),
        "entered_late": (None, None, 24, 30),
    }


def test_where_lateness_is_no_default_only_a_charge_off_is(silver):
    rows = {row["loan_id"]: row for row in build_outcomes(*silver, AS_OF, None).collect()}
    # Charged off on 10 July, in its month 6; the 90 days of May do not count.
    assert (rows["default"]["event"], rows["default"]["event_month"]) == ("default", 6)
    assert {name for name, row in rows.items() if row["event"] == "default"} == {"default"}


def test_exposure_counts_each_loan_in_its_complete_months(silver):
    exposure = build_exposure(build_outcomes(*silver, AS_OF, 90))
    assert tuple(exposure.columns) == EXPOSURE_COLUMNS
    counts = exposure.toPandas()
    of_36 = counts[counts.term_months == 36].set_index("months_on_book")
    assert of_36.loc[[1, 4, 5, 6], "at_risk"].tolist() == [5, 5, 3, 2]
    assert of_36.loc[range(25, 31), "at_risk"].tolist() == [1] * 6
    assert of_36["defaults"].sum() == of_36.loc[4, "defaults"] == 1
    assert of_36["prepaid"].sum() == of_36.loc[4, "prepaid"] == 1
    assert of_36.loc[4, "month"] == date(2020, 5, 1)
    assert counts[counts.term_months == 3]["at_risk"].tolist() == [1, 1, 1]


def test_rows_known_later_change_nothing(silver):
    loan, repayment = silver
    day = pd.Timestamp(AS_OF).date()
    early = lambda frame: frame.where(frame.known_from <= day)  # noqa: E731
    key = ["term_months", "months_on_book"]
    all_rows = build_exposure(build_outcomes(loan, repayment, AS_OF, 90)).toPandas().sort_values(key, ignore_index=True)
    known = build_exposure(build_outcomes(early(loan), early(repayment), AS_OF, 90)).toPandas().sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(all_rows, known)


def test_fit_without_smoothing_or_prior_is_events_over_exposure():
    counts = pd.DataFrame({
        "term_months": 12, "months_on_book": range(1, 16), "at_risk": [100] * 15,
        "defaults": [1, 2, 3] * 5, "prepaid": [4] * 11 + [0] * 4,
    })
    hazard = fit_hazard(counts, bandwidth_months=0, prior_events=1e-9)
    np.testing.assert_allclose(hazard.terms[12].default, np.tile([0.01, 0.02, 0.03], 5), rtol=1e-6)
    np.testing.assert_allclose(hazard.terms[12].prepayment[:11], 0.04, rtol=1e-6)


def test_thin_term_is_drawn_to_the_pooled_curve_and_thick_one_keeps_its_own():
    months = range(1, 37)
    thick = pd.DataFrame({"term_months": 36, "months_on_book": months, "at_risk": 100_000, "defaults": 1000, "prepaid": 0})
    thin = pd.DataFrame({"term_months": 60, "months_on_book": months, "at_risk": 2, "defaults": 0, "prepaid": 0})
    hazard = fit_hazard(pd.concat([thick, thin]))
    np.testing.assert_allclose(hazard.terms[36].default[:36], 0.01, rtol=1e-3)
    assert np.all(hazard.terms[60].default[:36] > 0.008)  # 72 loan months without a default prove little
    # Months that nobody has reached take the overall rate.
    np.testing.assert_allclose(hazard.pooled.default[50:], 0.01, rtol=1e-3)


def test_a_risk_group_has_a_shape_of_its_own_and_a_thin_one_that_of_all():
    def counts(group, at_risk, defaults, prepaid=0):
        return pd.DataFrame({
            "term_months": 12, "risk_group": group, "months_on_book": range(1, 13), "at_risk": at_risk, "defaults": defaults, "prepaid": prepaid,
        })

    # Groups 1 and 2 default as often, early and late; group 3 is two loans; of some loans no group is known.
    early, late = [3000] * 6 + [1000] * 6, [1000] * 6 + [3000] * 6
    known = pd.concat([counts(1, 100_000, early), counts(2, 100_000, late), counts(3, 2, 0)])
    hazard = fit_hazard(pd.concat([known, counts(None, 100_000, 2000)]), bandwidth_months=0)
    default, _ = hazard.baseline([0, 0, 0, 0], [12] * 4, np.array([1, 2, 3, 9]))
    np.testing.assert_allclose(default[0, :12], np.array(early) / 100_000, rtol=2e-2)
    np.testing.assert_allclose(default[1, :12], np.array(late) / 100_000, rtol=2e-2)
    np.testing.assert_allclose(default[2, :12], 0.02, rtol=0.05)
    # A group that nobody has seen has the curve of its term.
    np.testing.assert_array_equal(default[3], hazard.baseline([0], [12])[0][0])
    # Scores still are what the curves add up to.
    curve = hazard.default_curve([0.3, 0.3], None, [0, 0], [12, 12], np.array([1, 2]))
    _, prepayment = hazard.baseline([0, 0], [12, 12], np.array([1, 2]))
    np.testing.assert_allclose(cumulative_incidence(curve, prepayment)[:, -1], 0.3, rtol=1e-9)
    assert curve[0, :6].sum() > 2 * curve[1, :6].sum()
    back = Hazard.from_json(hazard.to_json())
    assert back.to_json() == hazard.to_json() and list(back.groups) == [1, 2, 3] and back.recoveries is None


def test_level_is_recent_defaults_over_expected_ones():
    # A flat 2% a month over 13 months and three: 1 - 0.98^15 by the end, so that each month's curve is 2% again.
    hazard = flat(0.02)
    score = 1 - 0.98**15
    histories = pd.DataFrame({
        "prob_default": score, "risk_group": 1, "term_months": 12, "entered_months": 0, "age_months": 30,
        "watched_months": [15, 15], "event": None, "event_month": np.nan,
    })
    # The last twelve months are those from month 19 on: the loans were over.
    assert fit_level(histories, hazard, None) == 1
    young = histories.assign(age_months=14, watched_months=[14, 5], event=[None, "default"], event_month=[np.nan, 5.0])
    # Months 3 to 14 of the one, 3 to 5 of the other: 15 × 0.02 expected, one default.
    assert fit_level(young, hazard, None) == pytest.approx((1 + 10) / (0.3 + 10))
    assert fit_level(young.assign(entered_months=[14, 4]), hazard, None, prior_events=1e-12) == pytest.approx(1 / 0.02)
    # A default before the window is no recent one.
    assert fit_level(young.assign(event_month=[np.nan, 2.0], watched_months=[14, 2]), hazard, None) == pytest.approx(10 / (0.24 + 10))
    assert fit_level(young.iloc[:0], hazard, None) == 1


def test_level_multiplies_the_hazard_of_a_score():
    curve = replace(flat(0.02), level=0.5).default_curve([0.12, 0.0, 1.0], 12, [0] * 3, [36] * 3)
    np.testing.assert_allclose(curve[0], 1 - 0.88 ** (0.5 / 12), rtol=1e-12)
    assert np.all(curve[1] == 0) and curve[2, 0] == 1


def test_exposure_by_risk_group_of_the_loans_whose_group_is_known(spark, silver):
    grouped = spark.createDataFrame([("current", 2), ("default", 5)], "loan_id string, risk_group int")
    counts = build_exposure(build_outcomes(*silver, AS_OF, 90), grouped).toPandas()
    of_group = counts.groupby("risk_group", dropna=False)[["at_risk", "defaults"]].sum()
    assert of_group.loc[2].tolist() == [6, 0] and of_group.loc[5].tolist() == [4, 1]
    assert of_group["at_risk"].sum() == build_exposure(build_outcomes(*silver, AS_OF, 90)).toPandas()["at_risk"].sum()


def test_fit_refuses_what_it_cannot_learn_from():
    counts = pd.DataFrame({"term_months": [36], "months_on_book": [1], "at_risk": [5], "defaults": [0], "prepaid": [0]})
    with pytest.raises(NoHistory, match="5 watched loan months"):
        fit_hazard(counts)
    with pytest.raises(ValueError, match="prepaid"):
        fit_hazard(counts.drop(columns="prepaid"))


def test_json_gives_the_same_hazard_back():
    hazard = Hazard(Curves(np.array([0.1, 1 / 3]), np.array([0.2, 0.0])), {24: Curves(np.array([1e-7]), np.array([0.5]))}, recoveries=np.array([0.0, 1 / 7]), level=0.9)
    back = Hazard.from_json(hazard.to_json())
    assert back.to_json() == hazard.to_json()
    np.testing.assert_array_equal(back.pooled.default, hazard.pooled.default)
    np.testing.assert_array_equal(back.recoveries, hazard.recoveries)
    assert back.level == 0.9
    assert list(back.terms) == [24]


def test_curve_of_a_flat_hazard_is_flat_and_reaches_the_score_at_the_horizon():
    # Without prepayment: (1 - h)^12 = 1 - 0.12, the same h in every month, 36 + 3 months.
    curve = flat(0.02).default_curve([0.12], 12, [0], [36])
    np.testing.assert_allclose(curve, np.full((1, 39), 1 - 0.88 ** (1 / 12)), rtol=1e-12)


def test_whole_term_where_the_horizon_is_longer_or_none():
    hazard = flat(0.02, 0.03)
    long, whole = (hazard.default_curve([0.2], horizon, [30], [36]) for horizon in (60, None))
    assert long.shape == (1, 6 + DEFAULT_LAG_MONTHS)
    np.testing.assert_array_equal(long, whole)
    _, prepayment = hazard.baseline([30], [36])
    assert cumulative_incidence(whole, prepayment)[0, -1] == pytest.approx(0.2, abs=1e-12)


def test_limits_of_the_score():
    curve = flat(0.02, 0.03).default_curve([0.0, 1.0], 12, [0, 0], [12, 12])
    assert np.all(curve[0] == 0)
    assert curve[1, 0] == 1 and np.all(curve[1, 1:] == 0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        flat(0.02).default_curve([np.nan], 12, [0], [12])
    with pytest.raises(ValueError, match="less than term_months"):
        flat(0.02).default_curve([0.1], 12, [12], [12])


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    prob_default=st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=8),
    horizon=st.one_of(st.none(), st.integers(1, 70)),
    seed=st.integers(0, 2**16),
)
def test_incidence_over_the_horizon_equals_the_score(prob_default, horizon, seed):
    draw = np.random.default_rng(seed)
    loans = len(prob_default)
    term = draw.choice([6, 24, 36, 60], loans)
    on_book = draw.integers(0, term)
    hazard = Hazard(
        Curves(np.clip(draw.uniform(-0.01, 0.05, 70), 1e-7, None), draw.uniform(0, 0.1, 70)),
        {36: Curves(draw.uniform(1e-7, 0.02, 39), draw.uniform(0, 0.02, 39))},
    )
    curve = hazard.default_curve(prob_default, horizon, on_book, term)
    baseline, prepayment = hazard.baseline(on_book, term)
    assert np.all((curve >= 0) & (curve <= 1)) and np.all(curve[baseline == 0] == 0)
    incidence = cumulative_incidence(curve, prepayment)
    last = curve.shape[1] if horizon is None else min(horizon, curve.shape[1])
    np.testing.assert_allclose(incidence[:, last - 1], prob_default, rtol=1e-6, atol=1e-9)
