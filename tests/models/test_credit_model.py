"""The credit model as a whole: fitted on a small made-up market, saved, loaded, scored."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import lightgbm
import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from conf.features import BLOCKS, FEATURES, block_features
from conf.reasons import REASON_WORDS, REASONS
from conf.settings import ROOT, load_settings
from models.credit_model import Origin, TooFewDefaults, fit_credit_model, score_points
from models.drift import SCORE, Bins, bins_of
from models.hazard import fit_hazard
from models.metrics import auc
from models.preparation import fit_preparation
from models.reason_check import first_reason_holds
from models.sub_models import (
    KEYS,
    LOG_ODDS,
    fit_sub_models,
    fold,
    out_of_fold,
    sub_model_features,
    with_examples,
    with_inputs,
    with_log_odds,
)
from models.term_offset import TermOffset

ORIGIN = Origin("made_up", "2010-04-01", 12, "0123", {"loan": 3})
DAYS = ["2010-01-31", "2010-02-28"]


@pytest.fixture(scope="module")
def hazard():
    """Ten months of a twelve-month loan with a default in each."""
    counts = pd.DataFrame({"months_on_book": range(1, 11), "term_months": 12, "at_risk": 100, "defaults": 1, "prepaid": 2})
    return fit_hazard(counts)


@pytest.fixture(scope="module")
def rows(training_rows):
    """Three cohorts of 500 borrowers; two train, the last calibrates."""
    return training_rows(500).repartition(3).cache()


@pytest.fixture(scope="module")
def fitted(rows, small_training, hazard):
    early, late = rows.where(F.col("as_of_date") <= DAYS[-1]), rows.where(F.col("as_of_date") > DAYS[-1])
    return fit_credit_model(early, late, small_training, ORIGIN, hazard)


@pytest.fixture(scope="module")
def scored(fitted, rows) -> pd.DataFrame:
    model, _ = fitted
    return model.score(rows, load_settings().scores, reasons=True).orderBy(*KEYS).toPandas()


def test_everyone_gets_a_probability_points_and_a_group(scored, rows):
    assert len(scored) == rows.count() == 1500
    assert scored["prob_default"].between(0, 1, inclusive="neither").all()
    assert scored["risk_group"].isin(range(1, 6)).all()
    assert scored["score_points"].between(300, 850).all()
    assert not scored[[*LOG_ODDS, "raw_prob_default", "group_log_odds"]].isna().any().any()


def test_effects_of_reasons_add_up_to_the_log_odds(fitted, rows):
    model = replace(fitted[0], term_offset=TermOffset(tuple(math.log(1 + month / 480) for month in range(481))))
    read = model.with_log_odds(rows.limit(200)).select(*model.inputs()).toPandas()
    context, log_odds, *inputs = (np.stack(read.iloc[:, place]) for place in range(read.shape[1]))
    attribution = model.attribution()
    effects = attribution.effects(context, log_odds, inputs)
    reference = model.scorer.ensemble.log_odds(attribution.reference()[None, :])
    difference = model.scorer.score(context, log_odds)["raw_log_odds"] - reference
    assert difference.std() > 0.3
    np.testing.assert_allclose(effects.sum(axis=1), difference, rtol=0, atol=1e-9)


def test_everyone_gets_four_reasons_of_the_catalogue_however_rows_fall_into_batches(fitted, rows, scored):
    model, _ = fitted
    assert (scored["reason_codes"].map(len) == 4).all()
    assert {code for codes in scored["reason_codes"] for code in codes} <= REASON_WORDS.keys()
    assert model.reasons == set(range(len(REASONS)))
    others = model.score(rows.limit(300).repartition(2), load_settings().scores, reasons=True)
    again = others.select(*KEYS, "reason_codes").toPandas().merge(scored, on=list(KEYS), suffixes=("", "_before"))
    assert len(again) == 300
    assert all(list(row.reason_codes) == list(row.reason_codes_before) for row in again.itertuples())


def test_without_its_first_reason_a_score_moves_back(fitted, scored, spark):
    """The features of a first reason taken from other rows, on average, undo what it did, in at least 95% of the rows."""
    model, _ = fitted
    assert scored["reason_codes"].str[0].nunique() > 4
    assert first_reason_holds(model, scored, spark).mean() > 0.95
    # Told the other way round, the same reasons do not hold.
    other_way = {"_raised_risk": "_lowered_risk", "_lowered_risk": "_raised_risk"}
    turned = scored["reason_codes"].map(lambda codes: [re.sub("_(raised|lowered)_risk$", lambda end: other_way[end[0]], codes[0])])
    assert first_reason_holds(model, scored.assign(reason_codes=turned), spark).mean() < 0.05


def test_scores_tell_the_later_cohort_apart(scored):
    late = scored[scored["as_of_date"].astype(str) > DAYS[-1]]
    even = np.ones(len(late))
    outcome = late["is_default"].to_numpy(dtype=float)
    # Four features decide; the best possible AUC of this market is about 0.87.
    assert auc(late["prob_default"].to_numpy(), outcome, even) > 0.72
    # It was calibrated on this cohort, so the levels agree.
    assert late["prob_default"].mean() == pytest.approx(outcome.mean(), abs=0.01)


def test_groups_are_ordered_by_default_rate(fitted, scored):
    model, report = fitted
    rates = report.groups["defaults"] / report.groups["rows"]
    assert list(report.groups["risk_group"]) == [1, 2, 3, 4, 5]
    assert rates.is_monotonic_increasing
    assert (np.diff(model.scorer.risk_groups.group_log_odds) > 0).all()
    later = scored[scored["as_of_date"].astype(str) > DAYS[-1]].groupby("risk_group")["is_default"].mean()
    assert later.loc[1] < later.loc[5]


def test_calibration_stands_on_the_later_cohort_where_it_has_defaults(fitted):
    model, report = fitted
    assert report.calibration_basis == model.scorer.calibrator.basis == "calibration_cohort"


def test_the_report_counts_and_measures_out_of_fold(fitted, rows):
    _, report = fitted
    early = rows.where(F.col("as_of_date") <= DAYS[-1])
    assert (report.rows, report.defaults) == (1000, early.where("is_default").count())
    assert set(report.out_of_fold_auc) == {"timeseries", "behavior", "record", "risk_group", "ensemble"}
    assert all(0.5 < value < 0.95 for value in report.out_of_fold_auc.values())


def test_the_reference_is_of_the_training_rows_and_of_scores_out_of_fold(fitted, rows):
    model, _ = fitted
    early = rows.where(F.col("as_of_date") <= DAYS[-1]).toPandas()
    assert list(model.reference) == [*(feature.name for feature in FEATURES), SCORE]
    for name in ("age_years", "is_female"):
        assert model.reference[name] == bins_of(early[name].to_numpy(dtype="float64"))
    # Out-of-fold scores differ nearly all: tenths. The trees' own training rows would give others.
    of_score = model.reference[SCORE]
    assert of_score.shares == pytest.approx([0.1] * 10 + [0.0], abs=0.02)
    in_sample = model.score(rows.where(F.col("as_of_date") <= DAYS[-1]), load_settings().scores).select(SCORE).toPandas()
    assert of_score.edges != bins_of(in_sample[SCORE].to_numpy()).edges


def test_too_few_defaults_train_nothing(rows, small_training, hazard):
    with pytest.raises(TooFewDefaults, match="is 100000: nothing was trained"):
        fit_credit_model(rows, rows, small_training.model_copy(update={"min_defaults": 100_000}), ORIGIN, hazard)


def test_a_saved_model_holds_native_formats_only_and_scores_the_same_in_a_fresh_process(fitted, spark, scored, tmp_path):
    model, _ = fitted
    folder = tmp_path / "model"
    model.save(folder, spark)

    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {file.suffix for file in files if not file.name.startswith((".", "part-", "_"))} <= {".keras", ".json", ".txt"}
    # A pickle begins with byte 0x80 and its protocol, or is called one; none of the files may.
    assert not [file for file in files if "pickle" in file.name or file.suffix == ".pkl"]
    assert not [file for file in files if file.read_bytes()[:1] == b"\x80"]

    few = scored.head(20)
    features = [*KEYS, *(feature.name for feature in FEATURES)]
    few[features].assign(as_of_date=few["as_of_date"].astype(str)).to_json(
        tmp_path / "rows.json", orient="records", double_precision=15
    )
    program = f"""
import json, sys
from dataclasses import asdict
from pathlib import Path
from pyspark.sql import SparkSession
from conf.features import FEATURES
from conf.settings import load_settings
from models.credit_model import CreditModel
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
rows = json.loads(Path({str(tmp_path / "rows.json")!r}).read_text())
ddl = "borrower_id string, as_of_date string, " + ", ".join(f"{{feature.name}} double" for feature in FEATURES)
frame = spark.createDataFrame([tuple(row.values()) for row in rows], ddl)
model = CreditModel.load(spark, Path({str(folder)!r}))
scored = model.score(frame, load_settings().scores).orderBy("borrower_id", "as_of_date")
print("SCORED", json.dumps(scored.select("prob_default", "risk_group").toPandas().to_dict("list")))
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
print("REFERENCE", json.dumps({{name: asdict(bins) for name, bins in model.reference.items()}}))
assert (model.origin.table_versions, model.hazard.terms.keys()) == ({{"loan": 3}}, {{12}})
spark.stop()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    fresh = json.loads(done.stdout.split("SCORED", 1)[1].strip().splitlines()[0])
    np.testing.assert_allclose(fresh["prob_default"], few["prob_default"], rtol=0, atol=1e-10)
    assert fresh["risk_group"] == few["risk_group"].tolist()
    reference = json.loads(done.stdout.split("REFERENCE", 1)[1].strip().splitlines()[0])
    assert {name: Bins.from_json(stored) for name, stored in reference.items()} == model.reference


def test_out_of_fold_scores_never_come_from_the_own_identity_group(rows):
    folded = rows.withColumn("fold", fold(3, 1)).select(*KEYS, "identity_group_id", "fold")
    assert folded.groupBy("identity_group_id").agg(F.count_distinct("fold").alias("folds")).where("folds > 1").count() == 0
    assert {row["fold"] for row in folded.select("fold").distinct().collect()} == {0, 1, 2}

    def remember(part):
        """A learner that only remembers whom it has seen."""
        seen = part.select("identity_group_id").distinct().withColumn("seen", F.lit(True))
        return lambda others: others.join(seen, on="identity_group_id", how="left")

    scored = out_of_fold(folded, 3, remember)
    assert scored.count() == rows.count()
    assert scored.where("seen").count() == 0


def preparation_of(rows, *absent_blocks):
    names = {feature.name for block in absent_blocks for feature in block_features(block)}
    frame = rows.select(
        *(F.lit(None).cast("double").alias(name) if name in names else name for name in rows.columns)
    )
    preparation = fit_preparation(frame, FEATURES, KEYS, rows.count())
    return with_inputs(frame, preparation, TermOffset((0.0,))), preparation


def test_a_block_that_a_source_lacks_leaves_the_shared_context(rows, small_training):
    frame, preparation = preparation_of(rows, "behavior", "timeseries")

    features = sub_model_features("behavior", preparation)
    assert "age_years" in features and "bureau_score" in features
    assert all(feature.shared for feature in FEATURES if feature.name in features)

    models = fit_sub_models(frame, preparation, small_training)
    outputs = with_log_odds(frame, models).select(*LOG_ODDS).toPandas()
    assert (outputs.std() > 0.05).all()


def test_an_indeterminate_is_half_of_either_outcome(spark):
    rows = spark.createDataFrame(
        [("bad", True, False, 0.4, 0.5), ("good", False, False, 0.4, 0.5), ("late", False, True, 0.4, 0.5), ("unwatched", False, False, 0.0, 1.0)],
        "borrower_id string, is_default boolean, is_indeterminate boolean, watched_share double, term_share double",
    )
    found = sorted((row["borrower_id"], row["label"], row["label_weight"]) for row in with_examples(rows).collect())
    assert found == [("bad", 1.0, 1.0), ("good", 0.0, 0.2), ("late", 0.0, 0.1), ("late", 1.0, 0.5)]


def test_what_the_field_expects_of_a_feature_holds_everywhere(fitted):
    model, _ = fitted
    (timeseries,) = (one for one in model.sub_models if one.name == "timeseries")
    booster = lightgbm.Booster(model_str=timeseries.model.booster)
    rows = np.random.default_rng(3).normal(0, 30, (200, len(timeseries.features)))
    signs = {feature.name: feature.raises_risk for feature in FEATURES}
    moved = 0
    for place, name in enumerate(timeseries.features):
        lower, higher = rows.copy(), rows.copy()
        higher[:, place] += 40
        step = booster.predict(higher, raw_score=True) - booster.predict(lower, raw_score=True)
        assert (signs[name] * step >= -1e-12).all(), name
        moved += signs[name] != 0 and np.abs(step).max() > 0
    assert moved


def test_without_any_feature_every_sub_model_is_the_base_rate(rows, small_training):
    frame, preparation = preparation_of(rows, *BLOCKS)

    models = fit_sub_models(frame, preparation, small_training)
    outputs = with_log_odds(frame, models).select(*LOG_ODDS).distinct().toPandas()

    rate = frame.agg(F.avg(F.col("is_default").cast("double"))).first()[0]
    assert len(outputs) == 1
    assert outputs.iloc[0, 0] == pytest.approx(math.log(rate / (1 - rate)), abs=0.01)


def test_nulls_are_filled_as_declared_with_one_indicator_per_pattern(spark):
    # bureau_score fills with the median (30), overdraft_days_12m with 0; the first two share their nulls.
    days = pd.to_datetime(["2010-01-31"] * 4).date
    values = [("a", 20.0, 1.0, 2.0), ("b", 30.0, 1.0, 4.0), ("c", 40.0, 4.0, None), ("d", None, None, 6.0)]
    rows = [(name, day, *rest) for (name, *rest), day in zip(values, days, strict=True)]
    frame = spark.createDataFrame(
        rows, "borrower_id string, as_of_date date, bureau_score double, inquiries_6m double, overdraft_days_12m double"
    )
    names = ("bureau_score", "inquiries_6m", "overdraft_days_12m")
    features = [feature for feature in FEATURES if feature.name in names]
    preparation = fit_preparation(frame, features, KEYS, 4)

    filled = frame.select("borrower_id", *(preparation.filled(name).alias(name) for name in names)).orderBy("borrower_id")
    assert [tuple(row) for row in filled.collect()] == [
        ("a", 20.0, 1.0, 2.0), ("b", 30.0, 1.0, 4.0), ("c", 40.0, 4.0, 0.0), ("d", 30.0, 0.0, 6.0)
    ]
    indicators = frame.orderBy("borrower_id").select(*preparation.indicators(names)).collect()
    assert [tuple(row) for row in indicators] == [(0.0, 0.0), (0.0, 0.0), (0.0, 1.0), (1.0, 0.0)]
    standardised = frame.select(*(preparation.standardised(name).alias(name) for name in names)).toPandas()
    np.testing.assert_allclose(standardised.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(standardised.std(ddof=0), 1, atol=1e-12)


def test_amounts_count_by_their_logarithm(spark):
    # Every step multiplies by ten, but the last, which has another sign: 1 + 99 = 100, 1 + 999 = 1000.
    day = date(2010, 1, 31)
    frame = spark.createDataFrame(
        [("a", day, 9.0), ("b", day, 99.0), ("c", day, 999.0), ("d", day, -9.0)], "borrower_id string, as_of_date date, balance_end_last double"
    )
    preparation = fit_preparation(frame, [feature for feature in FEATURES if feature.name == "balance_end_last"], KEYS, 4)
    found = [row[0] for row in frame.orderBy("borrower_id").select(preparation.standardised("balance_end_last")).collect()]
    steps = np.diff(found)
    assert steps[0] == pytest.approx(steps[1], rel=0.02), "the highest value is cut by a little"
    assert np.mean(found) == pytest.approx(0, abs=1e-12) and np.std(found) == pytest.approx(1)


def test_score_points_by_hand(spark):
    # 600 points at odds of 30 to 1; 20 more at 60 to 1; the ends are cut.
    scores = load_settings().scores
    frame = spark.createDataFrame([(1 / 31,), (1 / 61,), (0.999999,), (1e-6,)], "p double")
    points = [row[0] for row in frame.select(score_points(F.col("p"), scores)).collect()]
    assert points == [600, 620, 300, 850]
