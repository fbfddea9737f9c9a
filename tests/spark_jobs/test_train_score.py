"""The jobs train_credit and score on a small made-up market: from a training set to champion and scores.

How the training set is made from silver is tested with the features; here it is drawn.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import date

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from pyspark.sql import functions as F

from conf.features import BLOCKS, FEATURES
from conf.reasons import REASON_WORDS
from conf.settings import ROOT, load_settings
from conf.tables import BORROWER_SCORE, DRIFT, FEATURE_TABLES, GATE_RESULT, LOAN, POPULATION, REPAYMENT, TRAINING_SET
from models import credit_model
from models.hazard import fit_hazard
from models.registry import NoChampion, champion_version, find_version, load_hazard
from spark_jobs import leak_gate, monitoring, open_night, promote_credit, score, time_reasons, train_credit
from spark_jobs.gates import GateFailed
from spark_jobs.lake import Lake
from spark_jobs.manifest import Night

TRAINED_ON, NIGHT = date(2011, 3, 31), date(2010, 3, 31)
# b00101, a person, is of the same identity group.
COMPANY, COMPANY_REASONS = "b00100", ["company_leverage_raised_risk"]


@pytest.fixture(scope="module")
def market(tmp_path_factory, small_training):
    """A market of its own, whose registry starts empty."""
    home = tmp_path_factory.mktemp("market")
    (home / "jars").symlink_to(load_settings().home / "jars")
    # A fifth of 400 judges, and holds some ten defaults.
    training = small_training.model_copy(update={"min_defaults": 8, "left_out_features": ["is_female"]})
    return load_settings(home=home, training=training)


@pytest.fixture(scope="module")
def rows(training_rows):
    # Drawn between 0 and 1.
    return training_rows(400).withColumn("is_female", F.round("is_female")).cache()


@pytest.fixture(scope="module")
def module_patch():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def trained(spark, market, rows, module_patch):
    """What the jobs printed, after training and promotion twice on the same rows."""
    counts = pd.DataFrame({"months_on_book": range(1, 11), "term_months": 12, "at_risk": 100, "defaults": 1, "prepaid": 2})
    night = Night("2011-03-31-0123456789ab", TRAINED_ON, "none", {}, {"loan": 4})
    module_patch.setattr("spark_jobs.gates.publish_results", lambda settings, results: None)
    for job in (train_credit, score):
        module_patch.setattr(job, "withdraw_results", lambda settings, job, batch_id: None)
    module_patch.setattr(train_credit, "current_night", lambda settings, as_of_date, training: night)
    borrowers = rows.select("borrower_id", F.lit("west").alias("region"), F.lit(date(2009, 1, 1)).alias("known_from")).distinct()
    module_patch.setattr(train_credit, "read_silver", lambda lake, versions: {"borrower": borrowers})
    module_patch.setattr(train_credit, "build_training_set", lambda *arguments: rows)
    # Drawn rows have no silver to be made again from.
    module_patch.setattr(leak_gate, "audit", lambda *arguments: {})
    module_patch.setattr(train_credit, "fit_lifetime", lambda *asked: fit_hazard(counts))
    learnt: list = []

    def fit_credit_model(*arguments):
        """The second training comes out equal, as on the same rows (tests/test_whole_way.py): it is learnt once, registered twice."""
        learnt.append(learnt[0] if learnt else credit_model.fit_credit_model(*arguments))
        return learnt[-1]

    module_patch.setattr(train_credit, "fit_credit_model", fit_credit_model)
    printed: list[str] = []
    module_patch.setattr("builtins.print", lambda *words, **options: printed.append(" ".join(map(str, words))))
    with pytest.raises(NoChampion, match="no champion model for market simulated: run the DAG credit_training"):
        champion_version(market)
    assert not (market.market / "mlflow").exists(), "asking for a champion must start nothing"
    for _ in range(2):
        train_credit.run(spark, market, TRAINED_ON)
        promote_credit.run(market, TRAINED_ON)
    return printed


@pytest.fixture(scope="module")
def scored(spark, market, rows, trained, module_patch):
    """The night of 2010-03-31: 400 in the population, the last of them without a row in the behaviour block, one a company with
    statements."""
    lake = Lake(spark, market)
    kind = F.when(F.col("borrower_id") == COMPANY, "company").otherwise("person")
    people = rows.where(F.col("as_of_date") == F.lit(NIGHT)).withColumn("borrower_type", kind)
    companies = spark.createDataFrame(
        [("g00050", 0.3, COMPANY_REASONS)], "identity_group_id STRING, company_prob DOUBLE, company_reason_codes ARRAY<STRING>"
    )
    module_patch.setattr(score, "read_company_scores", lambda lake, night: companies)
    lake.replace(POPULATION, people, NIGHT)
    for block in BLOCKS:
        known = people if block != "behavior" else people.where("borrower_id <> 'b00399'")
        lake.replace(FEATURE_TABLES[block], known, NIGHT)
    night = Night("2010-03-31-0123456789ab", NIGHT, "1", {}, {})
    silver = {table.name: spark.createDataFrame([], table.ddl) for table in (LOAN, REPAYMENT)}
    module_patch.setattr(monitoring, "read_silver", lambda lake, versions: silver)
    module_patch.setattr(monitoring, "record_verdict", lambda *arguments: None)
    module_patch.setattr(score, "current_night", lambda settings, as_of_date: night)
    score.run(spark, market, NIGHT)
    return lake.read_as_of(BORROWER_SCORE, NIGHT).orderBy("borrower_id").toPandas()


def test_the_first_good_model_is_champion_and_an_equal_one_replaces_it(trained, market):
    verdicts = [line for line in trained if line.startswith("model simulated-credit version ")]
    assert verdicts[0].startswith("model simulated-credit version 1 is the challenger (champion: none), passed every rule: AUC ")
    assert verdicts[1].startswith("model simulated-credit version 1 is the new champion: ")
    assert verdicts[3].startswith("model simulated-credit version 2 is the new champion: ")
    assert "the difference of +0.0000 is at least +0.0000" in verdicts[3]
    assert "population stability index 0.0000 of its scores against the champion's" in verdicts[3]
    assert champion_version(market) == "2"
    assert find_version(market, "challenger") is None


def test_a_night_before_the_training_is_told_so(trained, market):
    assert open_night._champion_version(market, TRAINED_ON) == "2"
    assert open_night._champion_version(market, NIGHT) == "2"
    (told,) = [line for line in trained if "know more than was known then" in line]
    assert told == "model version 2 was trained on 2011-03-31: its scores of 2010-03-31 know more than was known then"


def test_a_run_holds_parameters_metrics_versions_and_plots(trained, market, spark):
    client = mlflow.MlflowClient(tracking_uri=market.tracking_uri)
    version = client.get_model_version("simulated-credit", "1")
    run = client.get_run(version.run_id)
    assert run.data.params["auc_weight"] == str(market.training.auc_weight)
    assert (run.data.params["cohorts_training"], run.data.params["cohorts_judging"]) == ("2010-01-31", "2010-03-31")
    assert {"judging_auc", "judging_ks", "judging_brier", "judging_log_loss", "judging_ece"} <= run.data.metrics.keys()
    assert 0.6 < run.data.metrics["judging_auc"] < 0.95
    assert run.data.metrics["out_of_fold_auc_record"] > 0.5
    assert run.data.tags["delta_version.loan"] == "4"
    assert run.data.tags["delta_version.training_set"] == "1"
    assert version.tags["rule.minimum_auc"].startswith("passed: AUC ")
    plots = {file.path for file in client.list_artifacts(version.run_id, "plots")}
    assert plots == {"plots/roc.png", "plots/calibration.png", "plots/risk_groups.png"}
    assert Lake(spark, market).read(TRAINING_SET).count() == 1200
    groups = pd.DataFrame(mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/fairness.json")).set_index(["attribute", "group"])
    # What enters no model is reported.
    assert set(groups.loc["gender"].index) == {"female", "male", "unknown"}
    assert groups.loc[("region", "west"), "rows"] == run.data.metrics["judging_rows"]
    told = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/model_document.html")
    assert "Left out on purpose: is_female;" in told and f"{run.data.metrics['judging_auc']:.4f}" in told
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', told), "the document needs no network"


def test_the_registry_holds_no_pickle(trained, market):
    files = [file for file in (market.market / "mlflow" / "artifacts").rglob("*") if file.is_file()]
    assert any(file.name == "MLmodel" for file in files)
    assert not [file for file in files if file.suffix in (".pkl", ".pickle") or "pickle" in file.name]
    assert not [file for file in files if file.read_bytes()[:1] == b"\x80"]
    for file in files:
        if file.name == "MLmodel":
            flavor = yaml.safe_load(file.read_text())["flavors"]["python_function"]
            assert flavor["loader_module"] == "mlflow.pyfunc.loaders.code_model"
            assert "python_model" not in flavor


def test_everyone_in_the_population_has_a_score(scored, market):
    assert len(scored) == 400
    assert scored["prob_default"].between(0, 1, inclusive="neither").all()
    assert set(scored["risk_group"]) <= {1, 2, 3, 4, 5}
    of_model = scored[scored["borrower_id"] != COMPANY]
    assert (of_model["reason_codes"].map(len) == 4).all()
    assert {code for codes in of_model["reason_codes"] for code in codes} <= REASON_WORDS.keys()
    assert (scored["model_version"] == "1").all()
    assert (scored["batch_id"] == "2010-03-31-0123456789ab").all()
    assert (scored["horizon_months"] == 12).all()
    # More points, less risk.
    assert (scored.sort_values("prob_default")["score_points"].diff().dropna() <= 0).all()


def test_a_company_that_borrows_carries_its_company_score(scored):
    found = scored.set_index("borrower_id").loc[COMPANY]
    assert (found["borrower_type"], found["prob_default"], list(found["reason_codes"])) == ("company", 0.3, COMPANY_REASONS)
    assert found["raw_prob_default"] != 0.3, "what the credit model says stays beside it"
    # Its like by risk: the riskiest groups of these rows, of which some 18% default.
    assert found["risk_group"] >= 4
    assert (scored["prob_default"] == 0.3).sum() == 1


def test_the_night_is_held_against_the_rows_that_trained(scored, spark, market):
    found = Lake(spark, market).read_as_of(DRIFT, NIGHT).toPandas().set_index("column_name")
    assert set(found.index) == {*(feature.name for feature in FEATURES), "prob_default"} - {"is_female"}
    assert (found["row_count"] == 400).all()
    # The one without a row in the behaviour block; every eleventh value is null.
    assert found.loc["months_observed_12m", "null_share"] * 400 == pytest.approx(37, abs=1)
    # 260 rows of the same market trained; by chance a PSI of some 10 x (1 / 260 + 1 / 400). That of the scores is larger: so few
    # rows are learnt by heart, and many of the night's are among them.
    features = found.drop("prob_default")["psi"]
    assert 0.03 < features.mean() < 0.10 and found.loc["prob_default", "psi"] < 0.5
    assert (market.market / "reports" / "monitoring.html").is_file()


def test_a_model_that_was_registered_twice_scores_alike(spark, market, rows, scored, module_patch):
    night = Night("2010-03-31-0123456789ab", NIGHT, "2", {}, {})
    module_patch.setattr(score, "current_night", lambda settings, as_of_date: night)
    score.run(spark, market, NIGHT)

    again = Lake(spark, market).read_as_of(BORROWER_SCORE, NIGHT).orderBy("borrower_id").toPandas()

    pd.testing.assert_frame_equal(again.drop(columns="model_version"), scored.drop(columns="model_version"))


def test_a_champion_that_this_code_cannot_load_does_not_keep_its_place(spark, market, rows, trained, monkeypatch):
    monkeypatch.setattr(credit_model, "FORMAT", credit_model.FORMAT + 1)
    assert train_credit.judge_champion(spark, market, "1", rows) is None
    assert trained[-1].startswith("champion version 1 cannot be judged, so the challenger is judged as a first model: ")


def test_a_borrower_without_score_fails_the_gate(spark, market, scored, module_patch):
    whole = score.read_features
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "read_features", lambda *given: whole(*given).where("borrower_id <> 'b00007'"))
        with pytest.raises(GateFailed, match="population_without_score = 1"):
            score.run(spark, market, NIGHT)
    result = Lake(spark, market).read(GATE_RESULT).where("gate = 'score.borrower_score'").first()
    assert not result.success


def test_too_few_reasons_fail_the_gate(spark, market, scored, module_patch):
    whole = score.build_borrower_score
    fewer = F.when(F.col("borrower_id") > "b00390", F.slice("reason_codes", 1, 3)).otherwise(F.col("reason_codes"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "build_borrower_score", lambda *given: whole(*given).withColumn("reason_codes", fewer))
        with pytest.raises(GateFailed, match=r"few_reasons_share = 0\.0225564 .*fewer reasons than 4"):
            score.run(spark, market, NIGHT)


def test_the_cost_of_reasons_is_told_for_a_night(spark, market, scored, trained, module_patch):
    module_patch.setattr(time_reasons, "current_night", lambda settings, as_of_date: Night("", NIGHT, "1", {}, {}))
    time_reasons.run(spark, market, NIGHT)
    assert re.fullmatch(r"reason codes: 400 scores take [\d.]+ s without them, [\d.]+ s with them \(× [\d.]+\)", trained[-1])


def test_the_champion_is_found_without_jvm_and_tensorflow(trained, market):
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from conf.settings import load_settings\n"
        "from models.registry import champion_version\n"
        "print('version', champion_version(load_settings(home=Path(sys.argv[1]))))\n"
        "assert not {'tensorflow', 'keras', 'lightgbm'} & set(sys.modules), 'too much was imported'\n"
        # MLflow imports pyspark by itself; what costs is a JVM.
        "from pyspark import SparkContext\n"
        "assert SparkContext._gateway is None, 'a JVM was started'"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(market.home)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "version 2" in done.stdout


def test_the_hazard_loads_alone(trained, market):
    assert set(load_hazard(market, "1").terms) == {12}


def test_mlflow_itself_scores_a_pandas_frame_in_a_fresh_process(trained, market, rows, scored, tmp_path):
    people = rows.where(F.col("as_of_date") == F.lit(NIGHT)).orderBy("borrower_id").limit(5).toPandas()
    people[[feature.name for feature in FEATURES]].to_json(tmp_path / "people.json")
    program = (
        "import sys, mlflow, pandas\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "found = mlflow.pyfunc.load_model('models:/simulated-credit/1').predict(pandas.read_json(sys.argv[2]).astype('float64'))\n"
        "found.to_json(sys.argv[3])"
    )
    arguments = [market.tracking_uri, str(tmp_path / "people.json"), str(tmp_path / "found.json")]
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    found = pd.read_json(tmp_path / "found.json")
    np.testing.assert_allclose(found["prob_default"], scored["prob_default"].head(5), rtol=0, atol=1e-9)
    assert found["risk_group"].tolist() == scored["risk_group"].head(5).tolist()


def test_a_feature_that_was_told_the_outcome_fails_the_gate(spark, market, rows, trained, monkeypatch):
    told = rows.withColumn("bureau_score", F.col("is_default").cast("double"))
    monkeypatch.setattr(train_credit, "build_training_set", lambda *arguments: told)
    with pytest.raises(GateFailed, match=r"rank_by_value = 1 .*bureau_score 1\.000\. One above training\.max_feature_auc"):
        train_credit.run(spark, market, TRAINED_ON)
    assert find_version(market, "challenger") is None


def test_cohorts_are_split_by_time(market):
    months = [date(2010, month, 28) for month in range(1, 6)]
    training = market.training.model_copy(update={"calibration_cohorts": 1, "judging_cohorts": 2})
    cohorts = train_credit.split_cohorts(months, training)
    assert (cohorts.training, cohorts.calibration, cohorts.judging) == (
        tuple(months[:2]), tuple(months[2:3]), tuple(months[3:])
    )
    with pytest.raises(train_credit.TooFewCohorts, match="3 cohorts cannot be split"):
        train_credit.split_cohorts(months[:3], training)
    everywhere = train_credit.split_cohorts(months, training.model_copy(update={"judged_on": "all_months"}))
    assert everywhere == train_credit.Cohorts(tuple(months), tuple(months), tuple(months))


def test_no_party_stands_on_two_sides(market, rows):
    months = sorted({row["cohort_month"] for row in rows.select("cohort_month").distinct().collect()})
    shares = market.training.model_copy(update={"calibration_share": 0.15, "judging_share": 0.2})
    cohorts = train_credit.Cohorts(tuple(months[:1]), tuple(months[1:2]), tuple(months[2:]))

    def parties(parts):
        return [{row["identity_group_id"] for row in part.collect()} for part in parts]

    train, calibrate, judge = train_credit.part_rows(rows, cohorts, shares)
    sides = parties((train, calibrate, judge))
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]
    assert [{row["cohort_month"] for row in part.select("cohort_month").distinct().collect()} for part in (train, calibrate, judge)] == [
        {month} for month in months
    ]
    # 200 parties of two: give or take four standard deviations.
    assert 100 < len(sides[0]) < 160 and 10 < len(sides[1]) < 51 and 17 < len(sides[2]) < 63
    # Months of another training, the same parties: a champion of then has not trained on those who judge now.
    earlier = train_credit.part_rows(rows, train_credit.Cohorts(tuple(months), (), ()), shares)[0]
    assert not parties([earlier])[0] & (sides[1] | sides[2])
