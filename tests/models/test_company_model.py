"""The company model: horizons that never contradict each other, finance's signs, reasons, and the way through its files."""

from __future__ import annotations

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.company_features import COMPANY_REASON_WORDS
from conf.settings import WrongSetting, load_settings
from models import registry
from models.calibration import Calibrator
from models.company_model import CompanyModel, monotone_constraints
from models.credit_model import Origin

FEATURES = ("liabilities_to_assets", "altman_z", "log_assets")


@pytest.fixture(scope="module")
def model():
    """Learnt on drawn companies: leverage raises the hazard, soundness lowers it, size says nothing, every year is riskier."""
    draw = np.random.default_rng(7)
    matrix = draw.normal(0, 1, (3000, 3))
    matrix[::9, 1] = np.nan
    years = draw.integers(1, 4, 3000).astype(float)
    log_odds = -3 + matrix[:, 0] - np.nan_to_num(matrix[:, 1]) + 0.5 * years
    label = draw.random(3000) < 1 / (1 + np.exp(-log_odds))
    parameters = {
        "objective": "binary", "num_leaves": 5, "min_data_in_leaf": 20, "verbosity": -1, "monotone_constraints": monotone_constraints(FEATURES),
    }
    booster = lightgbm.train(parameters, lightgbm.Dataset(np.column_stack([matrix, years]), label), 30)
    grades = load_settings().company.grades
    return CompanyModel(Origin("panel", "2019-04-30", 12, "code"), FEATURES, booster.model_to_string(), Calibrator(0.9, 1.1, -0.2, "calibration_cohort"), grades)


values = st.one_of(st.floats(-20, 20), st.just(float("nan")))


@settings(max_examples=25, deadline=None)
@given(st.tuples(values, values, values))
def test_a_longer_horizon_never_has_the_lower_probability(model, row):
    one, two, three = model.probabilities(np.array([row]))[0]
    assert 0 < one <= two <= three < 1


def test_probabilities_follow_from_the_hazards(model):
    row = np.array([[1.0, -1.0, 0.0]])
    hazards = [model.calibrator.prob_default(model.hazard_log_odds(row, years))[0] for years in (1, 2, 3)]
    assert model.probabilities(row)[0] == pytest.approx([hazards[0], 1 - (1 - hazards[0]) * (1 - hazards[1]), 1 - np.prod([1 - one for one in hazards])])
    assert hazards[0] < hazards[2]


@pytest.mark.parametrize(("column", "sign"), [(0, 1), (1, -1)])
def test_what_finance_says_holds_everywhere(model, column, sign):
    rows = np.zeros((60, 3))
    rows[:, column] = np.linspace(-4, 4, 60)
    steps = np.diff(model.probabilities(rows)[:, 0]) * sign
    assert (steps >= 0).all() and steps.max() > 0
    assert monotone_constraints(("log_assets", "liabilities_to_assets")) == "0,1,0"


def test_reasons_name_what_moved_the_score_and_which_way(model):
    risky, sound = model.reason_codes(np.array([[3.0, 0.1, 0.0], [0.1, 3.0, 0.0]]))
    assert risky[0] == "company_leverage_raised_risk" and sound[0] == "company_soundness_lowered_risk"
    assert set(risky + sound) <= set(COMPANY_REASON_WORDS)
    assert COMPANY_REASON_WORDS["company_leverage_raised_risk"].ko == "부채 의존도가 부실 위험을 높였습니다."


def test_the_way_through_its_files_changes_nothing(model, tmp_path):
    model.save(tmp_path / "parts")
    read = CompanyModel.load(tmp_path / "parts")
    rows = np.random.default_rng(1).normal(0, 2, (50, 3))
    assert (read.probabilities(rows) == model.probabilities(rows)).all() and read.grades == model.grades
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == ["booster.txt", "company_model.json"]
    description = (tmp_path / "parts" / "company_model.json").read_text()
    (tmp_path / "parts" / "company_model.json").write_text(description.replace("log_assets", "log_of_assets"))
    with pytest.raises(ValueError, match="log_of_assets: train again"):
        CompanyModel.load(tmp_path / "parts")


def test_the_registry_holds_it_in_native_formats_under_a_name_of_its_own(model, tmp_path):
    market = load_settings(source="american_bankruptcy", home=tmp_path / "var")
    version = registry.log_model(
        None, market, model, run_name="one", parameters={}, metrics={"judging_auc": 0.9}, tags={"trained_on": "2019-04-30"}, figures={}
    )
    registry.make_champion(market, version, "by a test")
    assert market.model_name == "american_bankruptcy-company" and registry.champion_version(market) == version
    rows = np.random.default_rng(2).normal(0, 2, (20, 3))
    assert (registry.load_company_model(market, version).probabilities(rows) == model.probabilities(rows)).all()
    registry.refuse_other_format(market, version)
    files = {path.name for path in (tmp_path / "var").rglob("*") if path.is_file()}
    assert {"booster.txt", "company_model.json", "registered_company_model.py"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".joblib"))]
    served = mlflow.pyfunc.load_model(f"models:/{market.model_name}/{version}").predict(pd.DataFrame(rows, columns=list(FEATURES)))
    assert list(served) == ["prob_distress_1y", "prob_distress_2y", "prob_distress_3y"]
    assert served.to_numpy() == pytest.approx(model.probabilities(rows))


def test_a_market_without_a_champion_is_told_which_training_to_run(tmp_path):
    with pytest.raises(registry.NoChampion, match="run the DAG company_training"):
        registry.champion_version(load_settings(source="american_bankruptcy", home=tmp_path / "var"))


def test_grades_rise_to_one(monkeypatch):
    monkeypatch.setenv("MOSAIC_COMPANY__GRADES", '{"A": 0.5, "B": 0.1, "C": 1.0}')
    with pytest.raises(WrongSetting, match="the limits of grades rise"):
        load_settings()
