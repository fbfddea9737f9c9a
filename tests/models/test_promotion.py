"""Promotion: which rules hold, and what the decision says."""

from __future__ import annotations

import pytest

from conf.settings import load_settings
from models.promotion import decide, promotion_rules

TRAINING = load_settings().training.model_copy(update={"min_auc": 0.55, "auc_margin": 0.005, "min_defaults": 50})
GOOD = {"auc": 0.70, "defaults": 80.0, "rows": 1000.0, "mean_prob_default": 0.08, "default_rate": 0.08}


def decision(judged=GOOD, out_of_fold_auc=0.7, champion=None):
    return decide(promotion_rules(judged, out_of_fold_auc, champion, TRAINING))


def test_a_good_first_model_becomes_champion():
    found = decision()
    assert found.promoted
    assert [rule.name for rule in found.rules] == ["minimum_auc", "calibration_level"]
    assert found.tags()["promotion"] == "champion"


@pytest.mark.parametrize(
    ("change", "rule"),
    [({"auc": 0.54}, "minimum_auc"), ({"mean_prob_default": 0.2}, "calibration_level"),
     ({"mean_prob_default": 0.03}, "calibration_level")],
)
def test_a_bad_first_model_stays_a_challenger_and_the_rule_is_named(change, rule):
    found = decision(GOOD | change)
    assert not found.promoted
    assert [one.name for one in found.rules if not one.passed] == [rule]
    assert found.tags()[f"rule.{rule}"].startswith("failed: ")
    assert found.reason == next(one.message for one in found.rules if one.name == rule)


@pytest.mark.parametrize(("champion_auc", "promoted"), [(0.69, True), (0.7049, True), (0.7051, False)])
def test_a_challenger_may_lose_the_margin_and_no_more(champion_auc, promoted):
    assert decision(champion=GOOD | {"auc": champion_auc}).promoted is promoted


def test_too_few_defaults_judge_a_first_model_out_of_fold_and_replace_no_champion():
    few = GOOD | {"defaults": 49.0, "auc": 0.9}
    assert decision(few, out_of_fold_auc=0.6).promoted
    weak = decision(few, out_of_fold_auc=0.5)
    assert not weak.promoted
    assert "out of fold, as the judging cohort has 49 defaults, fewer than 50" in weak.reason
    against = decision(few, champion=GOOD)
    assert not against.promoted
    assert "too few to compare with the champion" in against.reason
