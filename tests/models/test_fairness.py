"""The group report: ten rows by hand, and that which is too small to be judged."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from conf.settings import load_settings
from models.fairness import MAX_GROUPS, build_attributes, fairness_table, is_approved, section

FAIRNESS = load_settings().fairness.model_copy(update={"approved_share": 0.6, "min_rows": 3, "min_defaults": 1})
# The six lowest of ten are approved: up to 0.24.
PROB = np.array([0.02, 0.04, 0.06, 0.10, 0.20, 0.24, 0.30, 0.40, 0.50, 0.60])
IS_DEFAULT = np.array([0.0, 0, 0, 0, 1, 0, 0, 1, 0, 1])
AGE = pd.Series([18.0, 29.9, 30.0, 44.9, 45.0, 59.9, 60.0, 75.0, None, None])
IS_FEMALE = pd.Series([1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, None, None])
REGION = pd.Series(["west"] * 5 + ["east"] * 4 + [None])


@pytest.fixture
def table():
    attributes = build_attributes(AGE, IS_FEMALE, REGION)
    return fairness_table(PROB, IS_DEFAULT, np.ones(10), attributes, FAIRNESS).set_index(["attribute", "group"])


def test_attributes_have_their_bands_and_unknowns():
    found = build_attributes(AGE, IS_FEMALE, REGION)
    assert list(found["age_band"]) == [
        "29 or less", "29 or less", "30 to 44", "30 to 44", "45 to 59", "45 to 59", "60 or more", "60 or more", "unknown", "unknown",
    ]
    assert list(found["gender"]) == ["female"] * 3 + ["male", "female"] + ["male"] * 3 + ["unknown"] * 2
    assert list(found["region"]) == ["west"] * 5 + ["east"] * 4 + ["unknown"]


def test_a_group_by_hand(table):
    # Four women: 0.02, 0.04, 0.06 and the default 0.20, which is highest; all of them are approved.
    female = table.loc[("gender", "female")]
    assert (female["rows"], female["defaults"], female["default_rate"]) == (4, 1, 0.25)
    assert female["mean_prob_default"] == pytest.approx(0.08)
    assert (female["approval_rate"], female["approval_ratio"], female["auc"]) == (1.0, 1.0, 1.0)
    assert female["calibration"] == pytest.approx(0.32)
    # Four men: 0.10 and 0.24 are approved, 0.30 and the default 0.40 are not.
    male = table.loc[("gender", "male")]
    assert (male["approval_rate"], male["approval_ratio"], male["auc"]) == (0.5, 0.5, 1.0)
    assert male["calibration"] == pytest.approx(0.26 / 0.25)


def test_small_and_unknown_groups_are_shown_and_not_judged(table):
    # Five in the west are all approved; of four in the east one.
    assert table["is_judged"].loc["gender"].to_dict() == {"female": True, "male": True, "unknown": False}
    assert table["is_judged"].loc["region"].to_dict() == {"east": True, "west": True, "unknown": False}
    assert table.loc[("region", "east"), "approval_ratio"] == 0.25
    # Two rows in each age band: nobody is judged, and there is nothing to hold rates against.
    assert not table["is_judged"].loc["age_band"].any()
    assert table["approval_ratio"].loc["age_band"].isna().all()
    assert np.isnan(table.loc[("age_band", "29 or less"), "auc"])


def test_outcomes_watched_in_part_count_in_part():
    attributes = build_attributes(AGE, IS_FEMALE, REGION)
    half = fairness_table(PROB, IS_DEFAULT, np.full(10, 0.5), attributes, FAIRNESS).set_index(["attribute", "group"])
    # One default seen in a half of the risk of four.
    assert half.loc[("gender", "female"), "default_rate"] == 0.5


def test_equal_probabilities_are_treated_alike():
    assert list(is_approved(np.array([0.1, 0.2, 0.2, 0.3]), 0.5)) == [True, True, True, False]
    assert is_approved(PROB, 1.0).all()


def test_beyond_the_largest_groups_the_others_are_one():
    # The regions 0 to 21: region n has n + 1 rows, so 0 and 1 are the smallest of 22.
    region = pd.Series([f"r{number:02d}" for number in range(MAX_GROUPS + 2) for _ in range(number + 1)])
    rows = len(region)
    attributes = build_attributes(pd.Series([None] * rows), pd.Series([None] * rows), region)
    found = fairness_table(np.linspace(0, 1, rows), np.ones(rows), np.ones(rows), attributes, FAIRNESS).set_index(["attribute", "group"])
    assert len(found.loc["region"]) == MAX_GROUPS + 1
    assert found.loc[("region", "others"), "rows"] == 3 and not found.loc[("region", "others"), "is_judged"]


def test_the_section_shows_every_group_and_the_limits(table):
    html = section(table.reset_index(), FAIRNESS)
    assert html.count("<td>female</td>") == 1 and "60% of the rows" in html and "age band, reported only" in html
    # The small age bands have neither ratio nor AUC.
    assert "–" in html and "nan" not in html
