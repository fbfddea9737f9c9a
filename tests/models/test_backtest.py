"""The backtest on a drawn market of two years: what it must find there, and what becomes of it on the page."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest

from models import backtest
from models.allocation import Rules
from models.backtest import Market, claims, find, prepared
from models.backtest_page import indicators_differ, page
from models.scenarios import DefaultCorrelation
from models.valuation import level_installment

RULES = Rules(
    note={"USD": 2500}, identity_group_cap=0.05, risk_group_caps=(1.0, 0.9), target_step=0.0025,
    correlation=DefaultCorrelation((0.1, 0.1), 1.0), scenarios=100, evaluation_scenarios=100, solver_seconds=10,
)


def market(informed: bool, loans_a_month: int = 60, seed: int = 2) -> pd.DataFrame:
    """Loans of 2010 and 2011 that default in their first month or never; informed: whether the score knows the truth or
    is drawn beside it."""
    random = np.random.default_rng(seed)
    count = 24 * loans_a_month
    truth, other = random.uniform(0.02, 0.5, (2, count))
    rate, score = random.uniform(0.08, 0.2, count).round(3), truth if informed else other
    is_default = random.random(count) < truth
    installment = level_installment(rate, np.full(count, 36))
    return pd.DataFrame({
        "month": np.repeat([date(year, month, 1) for year in (2010, 2011) for month in range(1, 13)], loans_a_month),
        "loan_id": [f"l{i}" for i in range(count)], "identity_group_id": [f"g{i}" for i in range(count)],
        "risk_group": 1 + (score > 0.25), "amount": random.integers(40, 200, count) * 25.0, "interest_rate": rate,
        "term_months": random.choice([36, 60], count), "grade": random.choice(list("ABCDEFG"), count),
        "prob_default_lifetime": score, "expected_loss": 0.5 * score, "expected_net_return": rate - 0.2 * score + 0.1,
        "duration_years": 1.5, "is_default": is_default, "principal_lost": np.where(is_default, 0.5, 0.0),
        "cash": [[0.5] if lost else [paid] * 36 for lost, paid in zip(is_default, installment, strict=True)],
    })


def found_of(listings: pd.DataFrame) -> dict:
    return find(prepared(listings, 25), lambda month: RULES, lambda month: RULES, lambda month: RULES)


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backtest, "CURVE", (0.2, 0.6))
        patch.setattr(backtest, "RANDOM_PICKS", 60)
        yield found_of(market(informed=True))


def test_a_score_that_knows_loses_less(found):
    matched = found["matched"]
    assert matched["loss_rate_reduction"] > 0.4 and matched["ci"][0] > 0.25
    assert matched["net_return_difference"] > 0
    assert all(matched["claims"].values())


def test_a_score_that_knows_nothing_loses_as_much():
    rows = prepared(market(informed=False), 25)
    drawn, picks = Market(rows), backtest.bought(rows, 0.2, lambda month: RULES, ("mosaic_matched",))
    blind = backtest.compared(*(drawn.cohorts(picks[name], 0.2) for name in ("mosaic_matched", "equal")), drawn)
    for period in ("2010", "2011", "pooled"):
        assert blind[period]["ci"][0] < 0 < blind[period]["ci"][1]
    assert not claims(blind, (2010, 2011))["loss_rate_reduction"]


def test_random_picks_reduce_nothing(found):
    for one in found["matched"]["against"]["random"].values():
        assert one["interval"][0] < 0 < one["interval"][1] and one["mean"] == pytest.approx(0, abs=0.03)


def test_all_strategies_have_the_same_money(found):
    assert set(found["strategies"]) == {
        "random", "equal", "by_volume", "by_grade", "lowest_rate", "lowest_pd", "highest_return", "mosaic", "mosaic_matched"
    }
    equal, matched = found["strategies"]["equal"], found["strategies"]["mosaic_matched"]
    assert matched["interest_rate"] == pytest.approx(equal["interest_rate"], abs=1e-3)
    assert matched["longer_terms"] == pytest.approx(equal["longer_terms"], abs=5e-3)
    assert all(abs(one["uninvested"]) < 1e-3 for one in found["strategies"].values())
    for name in ("loss_rate", "net_return"):
        low, high = equal["ci"][name]
        assert low < equal[name] < high


def test_the_more_is_bought_the_less_can_be_chosen(found):
    few, many = found["curve"]
    assert few["pooled"]["loss_rate_reduction"] == found["matched"]["loss_rate_reduction"] > many["pooled"]["loss_rate_reduction"] > 0


def test_notes_cut_the_tail_and_leave_the_mean(found):
    by_notes = found["diversification"]["pooled"]["random"]
    assert by_notes["5"]["mean"] == pytest.approx(by_notes["500"]["mean"], abs=0.02)
    assert by_notes["5"]["independent"] > by_notes["20"]["independent"] > by_notes["100"]["independent"] > by_notes["500"]["independent"]


def test_equal_rules_have_equal_outcomes(found):
    of_kind = found["ablation"]["mosaic_matched"]["pooled"]
    assert of_kind["static"]["against"]["loss_rate_reduction"] == 0 and of_kind["following"]["loss_rate"] == of_kind["static"]["loss_rate"]


def test_the_order_of_listings_changes_nothing():
    listings = market(informed=True)
    listings = listings[[month < date(2010, 3, 1) for month in listings["month"]]]
    rows, shuffled = prepared(listings, 25), prepared(listings.sample(frac=1, random_state=3), 25)
    pd.testing.assert_frame_equal(rows, shuffled)
    one, other = (backtest.bought(part, 0.3, lambda month: RULES) for part in (rows, shuffled))
    assert all((one[name] == other[name]).all() for name in one)
    capital = backtest.capital_of(rows, 0.3)
    for name, notes in one.items():
        np.testing.assert_array_equal(np.bincount(rows["number"], notes), capital, err_msg=name)


def test_other_years_are_pooled_and_grades_may_be_missing():
    listings = market(informed=True, loans_a_month=4).assign(grade=None)
    rows = prepared(listings[[month.year == 2010 for month in listings["month"]]], 25)
    drawn = Market(rows)
    assert drawn.claimed == [2010] and drawn.periods["pooled"].all()
    assert "by_grade" not in backtest.bought(rows, 0.5, lambda month: RULES)


def test_claims_need_both_years_and_the_interval():
    def period(less, low, more):
        return {"loss_rate_reduction": less, "ci": [low, 0.9], "net_return_difference": more}

    told = claims({"pooled": period(0.36, 0.2, 0.01), "2010": period(0.1, 0.0, -0.001), "2011": period(0.5, 0.4, 0.03)}, (2010, 2011))
    assert told == {"loss_rate_reduction": True, "interval": False, "net_return_2010": False, "net_return_2011": True}


def test_the_page_tells_what_was_found(found):
    told = found | {
        "market": [{"month": "2010-01", "basis": "fitted", "market_stress": 1.5, "default_level": 1.2, "caps": [1.0, 0.4], "asset_correlations": [0.12, 0.0123]}], "graded_outcomes": {},
        "protocol": {
            "known_on": "2017-12-31", "quarters": [{"period": "2010 Q1", "listings": 180}], "left_out": {"2009 Q1": "too <few> defaults"},
            "note": 25, "fee": 0.01,
        },
    }
    html = page(json.loads(json.dumps(told)), "0123456789abcdef", datetime(2026, 1, 2, tzinfo=UTC))
    assert html.count("<svg") == 4 and "http://" not in html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")
    assert f"{found['matched']['loss_rate_reduction']:+.1%}" in html and "2009 Q1 is left out: too &lt;few&gt; defaults." in html
    assert "0.120, 0.012</td>" in html and "They make no difference" in html and "that part is left out" in html
    assert "nan" not in html.lower().replace("finance", "")


@pytest.mark.parametrize(
    ("less", "ends", "told"),
    [
        (0.05, [0.01, 0.09], "They help: the loss rate is 5.0% lower"), (-0.05, [-0.09, -0.01], "They do harm: the loss rate is 5.0% higher"),
        (0.05, [-0.01, 0.09], "They do not show any effect that can be told from chance: the loss rate is 5.0% lower"),
    ],
)
def test_indicators_are_judged_by_their_interval(less, ends, told):
    against = {"loss_rate_reduction": less, "ci": ends}
    assert indicators_differ({"mosaic_matched": {"pooled": {"static": {"against": against}}}}).startswith(told)
