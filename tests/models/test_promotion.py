"""Promotion: which rules hold, and what the decision says."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from conf.settings import load_settings
from models.metrics import AucDifference, auc_difference, score_metrics
from models.promotion import approval, decide, not_older, promotion_rules, rules_from_tags, same_champion

TRAINING = load_settings().training.model_copy(update={
    "min_auc": 0.55, "auc_margin": 0.015, "max_calibration_error": 0.03, "max_score_psi": 0.25, "min_defaults": 50,
})
FAIRNESS = load_settings().fairness.model_copy(update={"attributes": ["gender", "age_band"]})
GOOD = {
    "auc": 0.70, "ece": 0.01, "ece_by_chance": 0.02, "defaults": 80.0, "rows": 1000.0, "mean_prob_default": 0.08, "default_rate": 0.08,
}


def groups(**rates):
    """A fairness table whose groups, by attribute_group, have these approval rates; a rate of None is a group too small."""
    rows = [(*name.split("__"), 400, rate or 0.1, rate is not None) for name, rate in rates.items()]
    table = pd.DataFrame(rows, columns=["attribute", "group", "rows", "approval_rate", "is_judged"])
    best = table["approval_rate"].where(table["is_judged"]).groupby(table["attribute"]).transform("max")
    return table.assign(approval_ratio=table["approval_rate"] / best)


EVEN = {"gender__female": 0.80, "gender__male": 0.80, "age_band__young": 0.75, "age_band__old": 0.85}


def decision(judged=GOOD, out_of_fold_auc=0.7, champion=None, psi=None, rates=EVEN):
    return decide(promotion_rules(judged, out_of_fold_auc, champion, psi, groups(**rates), TRAINING, FAIRNESS))


def difference(mean, error):
    return AucDifference(mean, mean - 1.96 * error, mean + 1.96 * error, 0.5, mean - 1.645 * error)


def test_a_good_first_model_passes():
    found = decision()
    assert found.promoted
    assert [rule.name for rule in found.rules] == [
        "minimum_auc", "calibration_level", "calibration_error", "fairness_gender", "fairness_age_band",
    ]
    assert found.tags()["promotion"] == "passed"


@pytest.mark.parametrize(
    ("change", "rule", "value", "limit"),
    [
        ({"judged": GOOD | {"auc": 0.54}}, "minimum_auc", "0.5400", "0.550"),
        ({"judged": GOOD | {"mean_prob_default": 0.2}}, "calibration_level", "2.50", "2"),
        ({"judged": GOOD | {"mean_prob_default": 0.03}}, "calibration_level", "0.38", "2"),
        ({"judged": GOOD | {"ece": 0.0301}}, "calibration_error", "0.0301", "0.0300"),
        ({"judged": GOOD | {"ece": 0.1201, "ece_by_chance": 0.12}}, "calibration_error", "0.1201", "0.1200"),
        ({"psi": 0.2501}, "stability", "0.2501", "0.2500"),
        ({"champion": difference(-0.0151, 0.0)}, "not_inferior_to_champion", "-0.0151", "-0.0150"),
        # 0.60 / 0.80 is three quarters.
        ({"rates": EVEN | {"gender__male": 0.60}}, "fairness_gender", "0.750", "0.800"),
        ({"rates": EVEN | {"age_band__young": 0.67}}, "fairness_age_band", "0.788", "0.800"),
    ],
)
def test_a_bad_model_stays_a_challenger_and_rule_value_and_limit_are_named(change, rule, value, limit):
    found = decision(**change)
    assert not found.promoted
    assert [one.name for one in found.rules if not one.passed] == [rule]
    assert found.tags()[f"rule.{rule}"].startswith("failed: ")
    assert found.reason == next(one.message for one in found.rules if one.name == rule)
    assert value in found.reason and limit in found.reason


@pytest.mark.parametrize(
    "change",
    [
        {"judged": GOOD | {"auc": 0.55}}, {"judged": GOOD | {"mean_prob_default": 0.16}}, {"judged": GOOD | {"ece": 0.03}}, {"psi": 0.25},
        {"judged": GOOD | {"ece": 0.12, "ece_by_chance": 0.12}},
        {"champion": difference(-0.015, 0.0)}, {"rates": EVEN | {"gender__female": 0.50, "gender__male": 0.40}},
    ],
)
def test_a_limit_itself_passes(change):
    assert decision(**change).promoted


@pytest.mark.parametrize(
    ("mean", "error", "promoted"),
    # The lower end of the one-sided interval, 1.645 standard errors below: -0.0147, -0.0155, -0.0064, -0.0162.
    [(0.0, 0.0089, True), (0.0, 0.0094, False), (0.01, 0.01, True), (0.05, 0.0403, False)],
)
def test_a_challenger_must_be_shown_to_lose_no_more_than_the_margin(mean, error, promoted):
    assert decision(champion=difference(mean, error)).promoted is promoted


def test_groups_that_are_small_or_of_other_attributes_decide_nothing():
    assert decision(rates=EVEN | {"gender__unknown": None, "region__east": 0.2, "region__west": 0.9}).promoted
    alone = decision(rates={"gender__female": 0.8, "gender__male": None, "age_band__unknown": None})
    assert alone.promoted
    said = alone.tags()
    assert said["rule.fairness_gender"] == "passed: gender not judged: 1 groups known and as large as 100 rows with 10 defaults, two are needed"
    assert "age_band not judged: 0 groups" in said["rule.fairness_age_band"]


def test_too_few_defaults_judge_a_first_model_out_of_fold_and_replace_no_champion():
    few = GOOD | {"defaults": 49.0, "auc": 0.9, "ece": 0.5}
    assert decision(few, out_of_fold_auc=0.6).promoted
    weak = decision(few, out_of_fold_auc=0.5)
    assert not weak.promoted
    assert "out of fold, as the judging cohort has 49 defaults, fewer than 50" in weak.reason
    against = decision(few, champion=difference(0.1, 0.0))
    assert not against.promoted
    assert "too few to compare with the champion" in against.reason


def test_noise_stays_a_challenger_and_a_better_model_takes_over():
    draw = np.random.default_rng(20261125)
    truth = draw.normal(-2.5, 1.2, 3000)
    is_default, final = (draw.random(3000) < 1 / (1 + np.exp(-truth))).astype(float), np.ones(3000)
    scores = {"champion": truth + draw.normal(0, 1, 3000), "noise": draw.permutation(truth), "better": truth}
    prob = {name: 1 / (1 + np.exp(-score)) for name, score in scores.items()}

    def judged(name):
        against = auc_difference(prob[name], prob["champion"], is_default, final)
        # Bad for ranking alone.
        return decision(score_metrics(prob[name], is_default, final) | {"ece": 0.0, "ece_by_chance": 0.0}, 0.7, against, 0.0)

    noise = judged("noise")
    assert {rule.name for rule in noise.rules if not rule.passed} == {"minimum_auc", "not_inferior_to_champion"}
    assert "against the champion's" in noise.reason
    assert judged("better").promoted
    assert judged("champion").promoted, "a model that ranks the same is not inferior"


def test_tags_tell_the_rules_back():
    found = decision(champion=difference(-0.02, 0.001), psi=0.1)
    told = rules_from_tags(found.tags() | {"trained_on": "2011-03-31", "delta_version.loan": "4"})
    assert sorted(told, key=lambda rule: rule.name) == sorted(found.rules, key=lambda rule: rule.name)


def test_what_time_can_break():
    assert same_champion("1", "1").passed and same_champion("none", "none").passed
    changed = same_champion("none", "2")
    assert not changed.passed and changed.message == "judged against champion none, champion now: 2; train again"
    assert approval("Ada").passed and not approval(None).passed and not approval("").passed
    assert not_older(date(2011, 3, 31), date(2011, 3, 31)).passed
    assert not not_older(date(2011, 3, 30), date(2011, 3, 31)).passed
