"""The evaluation: who is tested by whom, what is found, and the page that tells it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from conf.source import CrossValidation, OutOfTime, load_source
from models.credit_model import Origin
from models.evaluation_page import page
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
    source = source_with(CrossValidation(protocol="cross_validation", folds=3))
    tested = {}
    for split in evaluate.cross_validation({}, source, settings, DAY):
        training, test = (frame.select(*KEYS, "identity_group_id", "is_default").toPandas() for frame in (split.training, split.test))
        assert not set(training["identity_group_id"]) & set(test["identity_group_id"])
        assert len(training) + len(test) == 1200
        assert test["is_default"].mean() == pytest.approx(0.18, abs=0.05)
        tested[split.name] = set(map(tuple, test[list(KEYS)].to_numpy()))
    assert list(tested) == ["fold 1 of 3", "fold 2 of 3", "fold 3 of 3"]
    assert sum(map(len, tested.values())) == len(set.union(*tested.values())) == 1200


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


def test_scorers_are_held_against_each_other_on_the_same_rows(settings, small_training, training_rows):
    rows = training_rows(500)
    rows = rows.withColumn("region", F.lit("west")).withColumn("is_female", F.round("is_female"))
    split = evaluate.Split("by hand", rows.where("identity_group_id < 'g00200'"), rows.where("identity_group_id >= 'g00200'"))
    market = settings.model_copy(update={"training": small_training})
    origin = Origin("simulated", "2010-12-31", 12, "test")
    found = evaluate.predictions(split, market, origin, ["loan_interest_rate"], full=True)
    assert len(found) == 300
    scorers = ["ensemble", *SUB_MODELS, *PEERS, "loan_interest_rate", evaluate.WITHOUT]
    assert found[scorers].notna().all().all()
    assert found[["ensemble", *PEERS]].apply(lambda column: column.between(0, 1).all()).all()

    protocol = CrossValidation(protocol="cross_validation", single_features=("loan_interest_rate",)).model_dump(mode="json")
    told = evaluate.findings(found, protocol, market.fairness)
    assert {"auc", "ks", "brier", "log_loss", "ece", "peers", "delong_p", "protocol"} <= set(told)
    # Four of 80 features tell of default; 1,200 rows teach some peers little.
    assert told["auc"] > 0.65
    assert min(told["peers"][name]["auc"] for name in PEERS) > 0.55
    assert told["single_features"]["loan_interest_rate"]["auc"] < told["auc"]
    assert set(told["delong_p"]) == {*SUB_MODELS, *PEERS, "loan_interest_rate", evaluate.WITHOUT}
    # Neither gender nor age tells anything here: another model, as good.
    assert (found[evaluate.WITHOUT] != found["ensemble"]).any()
    assert told["left_out"][evaluate.WITHOUT]["auc"] == pytest.approx(told["auc"], abs=0.05)
    assert {group["attribute"] for group in told["fairness"]["groups"]} == {"gender", "age_band", "region"}

    html = page({"by_hand": ("By hand", told, found)}, "code", datetime(2026, 1, 1, tzinfo=UTC))
    assert "ensemble without gender and age" in html and "<td>female</td>" in html
    assert f"{told['auc']:.4f}" in html and f"{told['peers']['catboost']['auc']:.4f}" in html
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', html), "the page needs no network"
    assert html == page({"by_hand": ("By hand", told, found)}, "code", datetime(2026, 1, 1, tzinfo=UTC))


def test_a_peer_learns_from_what_is_known_and_varies():
    rows = pd.DataFrame({"varies": [1.0, 2.0, np.nan], "constant": [1.0, 1.0, 1.0], "unknown": [np.nan] * 3, "half": [1.0, np.nan, np.nan]})
    assert known_features(rows) == ["varies"]
