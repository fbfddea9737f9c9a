"""From effects to codes, the network's Shapley values and the draw of a group, by hand; on a fitted model: test_credit_model."""

from __future__ import annotations

import numpy as np
import pytest

from conf.reasons import REASON_OF, REASONS
from models.attribution import Attribution, LinearTerms, shapley_values
from models.ensemble import INPUTS, Ensemble, Network
from models.risk_groups import RiskGroups


def ensemble_of(weights, kink: bool) -> Ensemble:
    """A network that adds its weighted inputs up, cut below at 0 where it has a kink."""
    kernel, even = np.array(weights, dtype=float)[:, None], (np.ones((1, 1)), np.zeros(1))
    layers = ((kernel, np.zeros(1)), even) if kink else ((kernel, np.zeros(1)),)
    return Ensemble(np.zeros(4), np.ones(4), (Network(layers),), ())


def test_the_networks_shapley_values_by_hand():
    # max(0, a + b): a alone is worth 1, b alone and both together nothing.
    found = shapley_values(ensemble_of([1, 1, 0, 0], kink=True), np.array([[1.0, -3.0, 5.0, 5.0]]), np.zeros(4))
    assert found[0].tolist() == pytest.approx([0.5, -0.5, 0.0, 0.0])


@pytest.fixture
def attribution() -> Attribution:
    """Two groups at age -1 and 1 (first log-odds -2 and 2, log-odds of their rates -3 and 1), all else alike.

    The first sub-model reads age and bureau_score, the second bureau_score and a null indicator of income and overdrafts.
    """
    centres = np.array([[-1.0, -2, 0, 0], [1.0, 2, 0, 0]])
    groups = RiskGroups(("age_years",), np.zeros(3), np.ones(3), centres, np.array([-3.0, 1.0]))
    age, bureau, income, overdrafts = (
        np.eye(len(REASONS))[REASON_OF[name]] for name in ("age_years", "bureau_score", "main_income", "overdraft_days_12m")
    )
    models = (
        LinearTerms(np.array([1.0, 1.0]), np.zeros(2), -1.0),
        LinearTerms(np.array([2.0, 4.0]), np.array([0.0, 0.25]), 0.0),
        LinearTerms(np.zeros(0), np.zeros(0), 0.5),
    )
    reasons = (np.stack([age, bureau]), np.stack([bureau, (income + overdrafts) / 2]), np.zeros((0, len(REASONS))), age[None, :])
    return Attribution(groups, ensemble_of([1, 0.5, 1, 1], kink=False), models, reasons)


def test_effects_by_hand(attribution):
    # The reference (age 0, log-odds -1, 0 and 0.5) lies in the first group. The row: age 2 and bureau_score 1 make the first
    # log-odds 2, bureau_score 1 and an unknown income the second 5; it lies in the second group, 4 more log-odds.
    assert attribution.reference().tolist() == [-1.0, 0.0, 0.5, -3.0]
    inputs = [np.array([[2.0, 1.0]]), np.array([[1.0, 1.0]]), np.zeros((1, 0))]
    effects = attribution.effects(np.array([[2.0]]), np.array([[2.0, 5.0, 0.5]]), inputs)[0]
    # To its group it was drawn by age as context, 2 x 2, and by the first log-odds, 4 x 3: of that 4 x 2 by age.
    expected = {"age_years": 2 + 4 * (4 + 8) / 16, "bureau_score": 1 + 4 * 4 / 16 + 0.5 * 2, "main_income": 0.75, "overdraft_days_12m": 0.75}
    for name, effect in expected.items():
        assert effects[REASON_OF[name]] == pytest.approx(effect), name
    assert np.count_nonzero(effects) == 4
    # The network gives -3.5 at the reference and 6 for the row.
    assert effects.sum() == pytest.approx(9.5)


def test_a_row_at_the_reference_has_no_reason(attribution):
    inputs = [np.zeros((1, 2)), np.array([[0.0, 0.25]]), np.zeros((1, 0))]
    effects = attribution.effects(np.zeros((1, 1)), attribution.reference()[None, : len(INPUTS) - 1], inputs)
    assert attribution.codes(effects).tolist() == [[None] * 4]


def test_the_strongest_effects_are_told_first_and_equal_ones_in_the_order_of_the_catalogue(attribution):
    effects = np.zeros((2, len(REASONS)))
    effects[0, [0, 1, 2, 3, 4]] = [0.1, -0.3, 0.2, 0.2 + 1e-13, 0.05]
    effects[1, [5, 6]] = [1e-12, -0.7]
    codes = attribution.codes(effects)
    assert codes[0].tolist() == [
        "gender_lowered_risk", "family_raised_risk", "education_raised_risk", "age_raised_risk"
    ]
    # What rounds to nothing has not moved the score.
    assert codes[1].tolist() == ["income_level_lowered_risk", None, None, None]
