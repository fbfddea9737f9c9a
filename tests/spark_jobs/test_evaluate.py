"""The evaluation: who is tested by whom, what is found, and the page that tells it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from conf.settings import load_settings
from conf.source import CrossValidation, OutOfTime, load_source
from models.credit_model import Origin
from models.evaluation_page import page
from models.fairness import ATTRIBUTES
from models.leakage import LeakFound
from models.peers import PEERS, known_features
from models.sub_models import KEYS, SUB_MODELS
from spark_jobs import evaluate, leak_gate

DAY = date(2011, 3, 31)


def source_with(evaluation):
    return load_source("simulated").model_copy(update={"evaluation": evaluation})


def test_folds_test_every_row_once_and_keep_parties_together(settings, training_rows, monkeypatch):
    monkeypatch.setattr(leak_gate, "audit", lambda *asked: {})
    # 400 borrowers in three cohorts.
    monkeypatch.setattr(evaluate, "build_training_set", lambda *asked: training_rows(400))
    source = source_with(CrossValidation(protocol="cross_validation", folds=2, repeats=2))
    tested = {}
    for split in evaluate.cross_validation({}, source, settings, DAY):
        training, test = (frame.select(*KEYS, "identity_group_id", "is_default").toPandas() for frame in (split.training, split.test))
        assert not set(training["identity_group_id"]) & set(test["identity_group_id"])
        assert len(training) + len(test) == 1200
        assert test["is_default"].mean() == pytest.approx(0.18, abs=0.05)
        tested[split.name, split.repeat] = set(map(tuple, test[list(KEYS)].to_numpy()))
    assert list(tested) == [(f"repeat {repeat} of 2, fold {fold} of 2", repeat) for repeat in (1, 2) for fold in (1, 2)]
    one, other, again, _ = tested.values()
    for repeat in (1, 2):
        of_repeat = [rows for (_, number), rows in tested.items() if number == repeat]
        assert sum(map(len, of_repeat)) == len(set.union(*of_repeat)) == 1200
    assert again not in (one, other)


def test_out_of_time_tests_only_rows_that_did_not_train(settings, training_rows, monkeypatch):
    march = date(2010, 3, 31)
    known = training_rows(400).where("as_of_date < '2010-03-31' OR borrower_id < 'b00100'")
    monkeypatch.setattr(
        evaluate, "build_training_set",
        lambda silver, source, training, as_of_date, months=None: known if as_of_date < DAY else training_rows(400),
    )
    source = source_with(OutOfTime(
        protocol="out_of_time", trained_on=date(2010, 2, 28), tested_from=date(2010, 3, 1), tested_until=march,
    ))
    # Drawn defaults are all of September.
    monkeypatch.setattr(leak_gate, "audit", lambda *asked: {})
    with pytest.raises(LeakFound, match="the training rows know more than they may: outcomes_future = "):
        next(evaluate.out_of_time({}, source, settings, DAY))
    monkeypatch.setattr(evaluate, "leak_measures", lambda *asked: {})
    (split,) = evaluate.out_of_time({}, source, settings, DAY)
    test = split.test.toPandas()
    assert set(test["as_of_date"]) == {march}
    assert len(test) == 300 and test["borrower_id"].min() == "b00100"
    assert split.training.count() == known.count()


def test_scorers_are_held_against_each_other_on_the_same_rows(settings, small_training, training_rows, monkeypatch):
    def refuses(*learned):
        raise RuntimeError("nothing to bin")

    monkeypatch.setitem(evaluate.PEERS, "refuses", refuses)
    rows = training_rows(500)
    rows = rows.withColumn("region", F.lit("west")).withColumn("is_female", F.round("is_female"))
    split = evaluate.Split("by hand", rows.where("identity_group_id < 'g00200'"), rows.where("identity_group_id >= 'g00200'"))
    market = settings.model_copy(update={"training": small_training})
    origin = Origin("simulated", "2010-12-31", 12, "test")
    found, unfitted = evaluate.predictions(split, market, origin, ["loan_interest_rate"], full=True)
    assert len(found) == 300
    assert unfitted == {"refuses": "by hand: RuntimeError: nothing to bin"}
    peers = [name for name in PEERS if name != "refuses"]
    scorers = ["ensemble", *SUB_MODELS, *peers, "loan_interest_rate", evaluate.WITHOUT]
    assert found[scorers].notna().all().all()
    assert found[["ensemble", *peers]].apply(lambda column: column.between(0, 1).all()).all()

    protocol = CrossValidation(protocol="cross_validation", single_features=("loan_interest_rate",)).model_dump(mode="json")
    told = evaluate.findings(found, protocol, market.fairness, unfitted)
    assert {"auc", "ks", "brier", "log_loss", "ece", "peers", "delong_p", "protocol"} <= set(told)
    # Four of 80 features tell of default; 1,200 rows teach some peers little.
    assert told["auc"] > 0.65
    assert min(told["peers"][name]["auc"] for name in peers) > 0.55
    assert told["single_features"]["loan_interest_rate"]["auc"] < told["auc"]
    assert set(told["delong_p"]) == {*SUB_MODELS, *peers, "loan_interest_rate", evaluate.WITHOUT}
    # Neither gender nor age tells anything here: another model, as good.
    assert (found[evaluate.WITHOUT] != found["ensemble"]).any()
    assert told["left_out"][evaluate.WITHOUT]["auc"] == pytest.approx(told["auc"], abs=0.05)
    assert {group["attribute"] for group in told["fairness"]["groups"]} == {"gender", "age_band", "region"}

    html = page({"by_hand": ("By hand", told, found)}, "code", datetime(2026, 1, 1, tzinfo=UTC))
    assert "ensemble without gender and age" in html and "<td>female</td>" in html
    assert f"{told['auc']:.4f}" in html and f"{told['peers']['catboost']['auc']:.4f}" in html
    assert "could not be fitted: refuses (by hand: RuntimeError: nothing to bin)" in html
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', html), "the page needs no network"
    assert html == page({"by_hand": ("By hand", told, found)}, "code", datetime(2026, 1, 1, tzinfo=UTC))


def test_repeats_are_means_and_make_no_rows():
    draw = np.random.default_rng(20261126)
    is_default = np.arange(200) < 30
    scorers = ("ensemble", *SUB_MODELS, *PEERS)
    rows = pd.DataFrame({name: 1 / (1 + np.exp(-draw.normal(size=200) - is_default)) for name in scorers})
    once = rows.assign(borrower_id=range(200), as_of_date=DAY, is_default=is_default, repeat=1, **dict.fromkeys(ATTRIBUTES, "one"))
    protocol, fairness = CrossValidation(protocol="cross_validation").model_dump(mode="json"), load_settings().fairness

    def repeated(repeats: list[int]) -> pd.DataFrame:
        return pd.concat([once.assign(repeat=repeat).sample(frac=1, random_state=repeat) for repeat in repeats])

    of_once, thrice = (evaluate.findings(repeated(repeats), protocol, fairness, {}) for repeats in ([1], [1, 2, 3]))
    for name in ("auc", "brier", "ece", "rows", "defaults", "auc_interval"):
        assert thrice[name] == pytest.approx(of_once[name]), name
    assert thrice["auc_difference"]["catboost"] == pytest.approx(of_once["auc_difference"]["catboost"])
    # Another division with another outcome: the mean, and the rows' own uncertainty remains.
    other = once.assign(repeat=2, ensemble=once["ensemble"] * draw.uniform(0.5, 1, 200))
    mixed = evaluate.findings(pd.concat([once, other]), protocol, fairness, {"catboost": "no reason"})
    second = evaluate.findings(other.assign(repeat=1), protocol, fairness, {})
    assert mixed["auc"] == pytest.approx((of_once["auc"] + second["auc"]) / 2)
    low, high = mixed["auc_interval"]
    assert high - low > 0.9 * (of_once["auc_interval"][1] - of_once["auc_interval"][0])
    assert "catboost" not in mixed["peers"]
    assert {group["rows"] for group in thrice["fairness"]["groups"]} == {200}


def test_a_peer_learns_from_what_is_known_and_varies():
    rows = pd.DataFrame({"varies": [1.0, 2.0, np.nan], "constant": [1.0, 1.0, 1.0], "unknown": [np.nan] * 3, "half": [1.0, np.nan, np.nan]})
    assert known_features(rows) == ["varies"]
