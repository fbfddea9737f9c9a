"""The company model: horizons that never contradict each other, finance's signs, reasons, and the way through its files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import boto3
import httpx
import lightgbm
import mlflow
import numpy as np
import pandas as pd
import psycopg2
import pytest
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from conf.company_features import COMPANY_FEATURES, COMPANY_REASON_WORDS
from conf.database import admin_dsn
from conf.settings import ROOT, WrongSetting, load_settings
from models import registry
from models.calibration import Calibrator
from models.company_model import YEARS_AHEAD, CompanyModel
from models.credit_model import Origin
from models.drift import Bins
from models.lightgbm_spark import monotone_constraints

FEATURES = ("liabilities_to_assets", "altman_z", "log_assets")
REFERENCE = {"liabilities_to_assets": Bins((0.5, 1.0), (0.4, 0.3, 0.2, 0.1)), "prob_distress_1y": Bins((0.02,), (0.5, 0.5, 0.0))}


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
        "objective": "binary", "num_leaves": 5, "min_data_in_leaf": 20, "verbosity": -1,
        "monotone_constraints": monotone_constraints((*FEATURES, YEARS_AHEAD), COMPANY_FEATURES),
    }
    booster = lightgbm.train(parameters, lightgbm.Dataset(np.column_stack([matrix, years]), label), 30)
    grades = load_settings().company.grades
    return CompanyModel(Origin("panel", "2019-04-30", 12, "code"), FEATURES, booster.model_to_string(), Calibrator(0.9, 1.1, -0.2, "calibration_cohort"), grades, REFERENCE)


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
    assert monotone_constraints(("log_assets", "liabilities_to_assets", YEARS_AHEAD), COMPANY_FEATURES) == "0,1,0"


def test_reasons_name_what_moved_the_score_and_which_way(model):
    risky, sound = model.reason_codes(np.array([[3.0, 0.1, 0.0], [0.1, 3.0, 0.0]]))
    assert risky[0] == "company_leverage_raised_risk" and sound[0] == "company_soundness_lowered_risk"
    assert set(risky + sound) <= set(COMPANY_REASON_WORDS)
    assert COMPANY_REASON_WORDS["company_leverage_raised_risk"].ko == "부채 의존도가 부실 위험을 높였습니다."


def test_the_way_through_its_files_changes_nothing(model, tmp_path):
    model.save(tmp_path / "parts")
    read = CompanyModel.load(tmp_path / "parts")
    rows = np.random.default_rng(1).normal(0, 2, (50, 3))
    assert (read.probabilities(rows) == model.probabilities(rows)).all() and (read.grades, read.reference) == (model.grades, model.reference)
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


@pytest.fixture
def registry_server(database, free_port, tmp_path, monkeypatch):
    """An MLflow server with its records in PostgreSQL and its artifacts in a bucket, whose keys it alone has; yields its
    address, a client of the bucket, and a connection to the records."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    dsn = admin_dsn(database).rpartition("/")[0] + "/mlflow"
    with closing(psycopg2.connect(admin_dsn(database))) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute("CREATE DATABASE mlflow")
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    endpoint = "http://{}:{}".format(*store.get_host_and_port())
    bucket = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys)
    bucket.create_bucket(Bucket="models")
    address = f"http://127.0.0.1:{free_port()}"
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--workers", "1",
         "--backend-store-uri", dsn.replace("postgresql:", "postgresql+psycopg2:"), "--artifacts-destination", "s3://models/mosaicloan"],
        env=os.environ | {"MLFLOW_S3_ENDPOINT_URL": endpoint} | {name.upper(): value for name, value in keys.items()},
        cwd=tmp_path, start_new_session=True,
    )
    try:
        for attempt in tenacity.Retrying(wait=tenacity.wait_fixed(0.5), stop=tenacity.stop_after_delay(120)):
            with attempt:
                httpx.get(f"{address}/health").raise_for_status()
        with closing(psycopg2.connect(dsn)) as session:
            yield address, bucket, session
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
        store.stop()
        with closing(psycopg2.connect(admin_dsn(database))) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                cursor.execute("DROP DATABASE mlflow WITH (FORCE)")


def test_a_server_with_postgresql_and_a_bucket_hands_the_champion_to_another_process(model, registry_server, tmp_path):
    address, bucket, records = registry_server
    market = load_settings(source="american_bankruptcy", home=tmp_path / "var", mlflow_tracking_uri=address)
    with pytest.raises(registry.NoChampion):
        registry.champion_version(market)
    first, second = (
        registry.log_model(
            None, market, one, run_name="one", parameters={"seed": 1}, metrics={"judging_auc": 0.9},
            tags={"trained_on": "2019-04-30"}, figures={},
        )
        for one in (model, replace(model, calibrator=Calibrator(1.0, 1.0, 0.0, "calibration_cohort")))
    )
    registry.make_champion(market, first, "by a test")

    kept = [one["Key"] for one in bucket.list_objects_v2(Bucket="models", Prefix="mosaicloan/")["Contents"]]
    assert sum(key.endswith("booster.txt") for key in kept) == 2
    with records.cursor() as cursor:
        cursor.execute("SELECT alias, version FROM registered_model_aliases WHERE name = %s", (market.model_name,))
        assert cursor.fetchall() == [("champion", int(first))]
    assert not market.market.exists() and not (tmp_path / "mlruns").exists()

    rows = np.random.default_rng(3).normal(0, 2, (20, 3))
    np.save(tmp_path / "rows.npy", rows)
    script = (
        "import sys, numpy as np\n"
        "from conf.settings import load_settings\n"
        "from models import registry\n"
        "market = load_settings()\n"
        "model = registry.load_company_model(market, registry.champion_version(market))\n"
        "np.save(sys.argv[2], model.probabilities(np.load(sys.argv[1])))\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "rows.npy"), str(tmp_path / "found.npy")], check=True, cwd=ROOT,
        env=os.environ | {"MOSAIC_SOURCE": market.source, "MOSAIC_HOME": str(market.home), "MOSAIC_MLFLOW_TRACKING_URI": address},
    )
    assert (np.load(tmp_path / "found.npy") == model.probabilities(rows)).all()
    assert [one.number for one in registry.versions(market)] == [second, first]


def test_a_database_is_no_registry(tmp_path):
    with pytest.raises(WrongSetting, match="URL of an MLflow server is needed"):
        load_settings(home=tmp_path / "var", mlflow_tracking_uri="postgresql://mlflow:secret@db/mlflow")
