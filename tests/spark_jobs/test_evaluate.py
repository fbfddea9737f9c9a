"""The evaluation: who is tested by whom, what is found, and the page that tells it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from conf.settings import load_settings
from conf.source import CrossValidation, OutOfTime, load_source
from features.training_set import month_end
from models import auc_loss
from models.credit_model import Origin, TooFewDefaults
from models.evaluation_page import page
from models.fairness import ATTRIBUTES
from models.leakage import LeakFound
from models.peers import PEERS, known_features
from models.sub_models import KEYS, LOG_ODDS, SUB_MODELS
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
    with pytest.raises(LeakFound, match="the training rows of 2010-02-28 know more than they may: outcomes_future = "):
        next(evaluate.out_of_time({}, source, settings, DAY))
    monkeypatch.setattr(evaluate, "leak_measures", lambda *asked: {})
    (split,) = evaluate.out_of_time({}, source, settings, DAY)
    test = split.test.toPandas()
    assert set(test["as_of_date"]) == {march}
    assert len(test) == 300 and test["borrower_id"].min() == "b00100"
    assert split.training.count() == known.count()


def test_walk_forward_trains_on_each_quarters_first_day_and_says_what_is_left_out(settings, training_rows, monkeypatch):
    asked, trained = [], []

    def build(silver, source, training, as_of_date, months=None):
        asked.append((as_of_date, months))
        # Known on a training date are the rows of the days before.
        return training_rows(30) if months else training_rows(30).where(F.col("as_of_date") < F.lit(as_of_date))

    class Model:
        def score(self, frame, scores):
            return frame.withColumns({"prob_default": F.lit(0.5), **{name: F.lit(1.0) for name in LOG_ODDS}})

    def fit(rows, *others):
        trained.append(rows.count())
        if len(trained) == 1:
            raise TooFewDefaults("5 defaults")
        return Model(), None

    monkeypatch.setattr(evaluate, "build_training_set", build)
    monkeypatch.setattr(evaluate, "leak_measures", lambda *asked: {})
    monkeypatch.setattr(evaluate, "fit_credit_model", fit)
    source = source_with(OutOfTime(
        protocol="out_of_time", trained_on=DAY, tested_from=DAY, tested_until=DAY, single_features=("loan_interest_rate",),
        walk_forward_from=date(2009, 11, 30),
    ))
    found = evaluate.walk_forward({}, source, settings, DAY, Origin("simulated", "2011-03-31", 12, "test"))
    # Rows stand at the ends of January (first quarter, until 27 February), February and March 2010.
    assert asked[0] == (DAY, [month_end(date(2009, 11, 30), months) for months in range(4)])
    assert [day for day, months in asked if not months][:3] == [date(2009, 11, 30), date(2010, 2, 28), date(2010, 5, 30)]
    assert {day for day, months in asked if months} == {DAY}
    assert trained == [0, 30]
    assert found["left_out"] == {"2010 Q1": "5 defaults", **dict.fromkeys(["2010 Q3", "2010 Q4", "2011 Q1"], "no rows to test")}
    (quarter,), (year,) = found["periods"], found["years"]
    assert (quarter["period"], quarter["trained_on"], quarter["tested_until"]) == ("2010 Q2", "2010-02-28", "2010-05-29")
    assert (year["period"], year["rows"], quarter["rows"]) == ("2010", 60, 60)
    assert year["auc"]["ensemble"] == 0.5 and set(year["auc"]) == {"ensemble", *SUB_MODELS, "loan_interest_rate"}


def test_quarters_go_from_the_first_day_to_the_last():
    ends_of_month = evaluate.quarters(date(2009, 12, 31), date(2010, 8, 31))
    assert ends_of_month == [
        evaluate.Period(date(2009, 12, 31), date(2009, 12, 31), date(2010, 3, 30)),
        evaluate.Period(date(2010, 3, 31), date(2010, 3, 31), date(2010, 6, 29)),
        evaluate.Period(date(2010, 6, 30), date(2010, 6, 30), date(2010, 8, 31)),  # cut short
    ]
    assert [period.quarter for period in ends_of_month] == ["2010 Q1", "2010 Q2", "2010 Q3"]
    assert [period.last for period in evaluate.quarters(date(2010, 1, 1), date(2010, 12, 31))][-1] == date(2010, 12, 31)
    assert len(evaluate.quarters(DAY, DAY)) == 1


def test_a_year_pools_its_quarters():
    def rows(is_default, ensemble):
        return pd.DataFrame({"is_default": is_default, "watched_share": 1.0, "ensemble": ensemble})

    first, second, third = evaluate.quarters(date(2010, 4, 1), date(2010, 12, 31))
    (next_year,) = evaluate.quarters(date(2011, 1, 1), date(2011, 3, 31))
    tested = {
        first: rows([True, True, False, False], [0.4, 0.3, 0.2, 0.1]),
        second: rows([True, True, False, False], [0.8, 0.7, 0.6, 0.5]),  # of another level: pooled, two pairs of four are lost
        third: rows([True, False], [0.9, 0.0]),
        next_year: rows([False, False], [0.9, 0.0]),
    }
    found = evaluate.walk_forward_findings(tested, {"2010 Q1": "why"})
    assert [(row["period"], row["rows"], row["defaults"]) for row in found["years"]] == [("2010", 10, 5), ("2011", 2, 0)]
    # Of 5 x 5 pairs those of the first quarter's two defaults with the second's two others are lost.
    assert found["years"][0]["auc"] == {"ensemble": pytest.approx(21 / 25)}
    low, high = found["years"][0]["auc_interval"]["ensemble"]
    assert low < 21 / 25 < high
    assert [row["auc"] for row in found["periods"]] == [{"ensemble": 1.0}, {"ensemble": 1.0}, {}, {}]


def test_the_label_within_months_counts_whose_months_had_passed():
    day, one_day = pd.Timestamp(2010, 1, 31), pd.Timedelta(days=1)
    rows = pd.DataFrame({
        # On the last day, a day later, never; twice more good and bad; and one whose year ends after known_on.
        "as_of_date": [day] * 5 + [day + one_day],
        "default_on": [day + 365 * one_day, day + 366 * one_day, None, day + one_day, None, day + 2 * one_day],
    }).map(lambda value: None if pd.isna(value) else value.date())
    scores = {"ensemble": np.array([0.9, 0.5, 0.2, 0.8, 0.1, 0.0]), "record": np.array([0.9, 0.5, 0.2, 0.3, 0.1, 0.0])}
    found = evaluate.within_months(rows, scores, 12, "2011-01-31")
    assert (found["rows"], found["defaults"]) == (5, 2)
    # The credit record has one of 2 x 3 pairs the wrong way round.
    assert found["auc"] == {"ensemble": 1.0, "record": pytest.approx(5 / 6)}
    assert found["auc_difference"]["record"][1] == pytest.approx(1 / 6)
    assert evaluate.within_months(rows, scores, 12, "2011-01-30") == {
        "rows": 0, "defaults": 0, "auc": {}, "auc_interval": {}, "auc_difference": {},
    }


def test_scorers_are_held_against_each_other_on_the_same_rows(settings, small_training, training_rows, monkeypatch):
    def refuses(*learned):
        raise RuntimeError("nothing to bin")

    monkeypatch.setitem(evaluate.PEERS, "refuses", refuses)
    # Of seconds per network there are enough below; what they learn from and score is real.
    monkeypatch.setattr(auc_loss, "SEEDS", 2)
    monkeypatch.setattr(
        auc_loss, "fit_ensemble",
        lambda rows, *, auc_weight, seed, **others: SimpleNamespace(log_odds=lambda inputs: inputs @ [1, seed, auc_weight, 1]),
    )
    rows = training_rows(500)
    rows = rows.withColumn("region", F.lit("west")).withColumn("is_female", F.round("is_female"))
    split = evaluate.Split("by hand", rows.where("identity_group_id < 'g00200'"), rows.where("identity_group_id >= 'g00200'"))
    market = settings.model_copy(update={"training": small_training})
    origin = Origin("simulated", "2010-12-31", 12, "test")
    found, out_of_fold_auc, unfitted = evaluate.predictions(split, market, origin, ["loan_interest_rate"], full=True)
    assert len(found) == 300
    assert found["is_unseen"].all() and found["reason_holds"].notna().all() and found["reason_holds"].mean() > 0.9
    assert unfitted == {"refuses": "by hand: RuntimeError: nothing to bin"}
    peers = [name for name in PEERS if name != "refuses"]
    scorers = ["ensemble", *SUB_MODELS, *peers, "loan_interest_rate", evaluate.WITHOUT]
    assert found[scorers].notna().all().all()
    assert found[["ensemble", *peers]].apply(lambda column: column.between(0, 1).all()).all()

    assert (found["auc_loss_0"] != found["auc_loss_1"]).any() and (found["auc_loss_0"] != found["cross_entropy_0"]).any()
    assert found[[f"{loss}_{seed}" for loss in auc_loss.LOSSES for seed in range(2)]].apply(lambda column: column.between(0, 1).all()).all()

    protocol = OutOfTime(
        protocol="out_of_time", trained_on=DAY, tested_from=DAY, tested_until=DAY, single_features=("loan_interest_rate",),
        also_within_months=(6,),
    ).model_dump(mode="json") | {
        "known_on": "2011-03-31", "within_policy_only": False, "auc_weight": 0.5, "indeterminate_days": 30,
        "outcome": "default_within_horizon", "horizon_months": 6, "blocks": ["credit_record", "timeseries"], "code_version": "code",
    }
    quarter = evaluate.Period(DAY, DAY, DAY)
    forward = evaluate.walk_forward_findings({quarter: found[["is_default", "watched_share", "ensemble", "record"]]}, {"2010 Q4": "5 defaults"})
    told = evaluate.findings(found, protocol, market.fairness, unfitted, forward) | {"out_of_fold_auc": out_of_fold_auc}
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

    # All default in September: the rows of March within six months, those before in none.
    within = told["within_months"]["6"]
    assert (within["rows"], within["defaults"]) == (300, found.loc[found["as_of_date"] == date(2010, 3, 31), "is_default"].sum())
    assert set(within["auc"]) == {"ensemble", *SUB_MODELS, *peers, "loan_interest_rate", evaluate.WITHOUT}
    assert forward["years"][0]["auc"]["ensemble"] == pytest.approx(told["auc"])

    def shown():
        return page({"by_hand": ("By hand", told, found)}, datetime(2026, 1, 1, tzinfo=UTC))

    # Whom so small a training is below is chance; the page says it of intervals that lie below 0.
    told["auc_difference"] = {name: [-0.02, -0.01, 0.0] for name in told["auc_difference"]}
    html = shown()
    assert "ensemble without gender and age" in html and "<td>female</td>" in html
    assert f"{told['auc']:.4f}" in html and f"{told['peers']['catboost']['auc']:.4f}" in html
    assert f"{out_of_fold_auc['record']:.4f}" in html
    assert "The ensemble is below" not in html and "Parties that no training has seen" not in html
    assert "The outcome is a default within 6 months; features are of the blocks credit record, timeseries." in html
    low, difference, high = told["loss_difference"]["catboost"]["brier"]
    assert low < difference < high and difference == pytest.approx(told["brier"] - told["peers"]["catboost"]["brier"])
    assert f"{difference:+.5f} [{low:+.5f}, {high:+.5f}]" in html
    assert f"of 300 tested rows, {100 * found['reason_holds'].mean():.1f}% move back" in html
    assert "30 days late within the horizon, without a default, is half a default" in html and "Peers learn of defaults alone." in html
    assert "could not be fitted: refuses (by hand: RuntimeError: nothing to bin)" in html
    assert "AUC, 6 months" in html and f"{within['auc']['catboost']:.4f}" in html
    assert "2011 Q1" in html and "2010 Q4 is left out: 5 defaults." in html
    assert f"{told['auc_loss']['difference']['auc']['mean']:+.5f}" in html
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', html), "the page needs no network"
    assert html == shown()
    told["auc_difference"]["catboost"] = [-0.03, -0.02, -0.01]
    assert "The ensemble is below peer: CatBoost, all features</b>" in shown() and "A peer learns from all features at once" in shown()
    told["auc_difference"]["record"] = [-0.03, -0.02, -0.01]
    assert "The ensemble is below sub-model: credit record, peer: CatBoost, all features</b>" in shown() and "it trusts the wrong ones" in shown()
    none = told | {"peers": {}, "loss_difference": {}}
    assert "none could be fitted" in page({"by_hand": ("By hand", none, found)}, datetime(2026, 1, 1, tzinfo=UTC))


def test_outcomes_count_as_far_as_they_were_watched():
    draw = np.random.default_rng(20261129)
    prob, watched = draw.uniform(0.02, 0.4, 20_000), draw.uniform(0.1, 1.0, 20_000)
    rows = pd.DataFrame({
        "borrower_id": range(20_000), "as_of_date": DAY, "is_default": draw.random(20_000) < prob * watched, "watched_share": watched,
        "is_unseen": np.arange(20_000) < 5_000, "reason_holds": [True, False, None, None] * 5_000, "repeat": 1,
        **dict.fromkeys(ATTRIBUTES, "one"), **dict.fromkeys(("ensemble", *SUB_MODELS, *PEERS), prob),
    })
    found = evaluate.findings(rows, CrossValidation(protocol="cross_validation").model_dump(mode="json"), load_settings().fairness, {})
    assert found["default_rate"] == pytest.approx(prob.mean(), abs=0.01) and found["ece"] < 0.01
    assert found["fairness"]["groups"][0]["calibration"] == pytest.approx(1, abs=0.05)
    # Rows of parties that train are not among the unseen; half of those that were checked have a reason that holds.
    assert found["unseen"]["rows"] == 5_000 and found["reasons"] == {"rows": 10_000, "hold": 0.5}
    assert found["loss_difference"]["lightgbm"]["brier"] == (0, 0, 0)


def test_repeats_are_means_and_make_no_rows():
    draw = np.random.default_rng(20261126)
    is_default = np.arange(200) < 30
    scorers = ("ensemble", *SUB_MODELS, *PEERS)
    rows = pd.DataFrame({name: 1 / (1 + np.exp(-draw.normal(size=200) - is_default)) for name in scorers})
    once = rows.assign(borrower_id=range(200), as_of_date=DAY, is_default=is_default, watched_share=1.0, is_unseen=True, reason_holds=None, repeat=1, **dict.fromkeys(ATTRIBUTES, "one"))
    protocol, fairness = CrossValidation(protocol="cross_validation").model_dump(mode="json"), load_settings().fairness

    def repeated(repeats: list[int]) -> pd.DataFrame:
        return pd.concat([once.assign(repeat=repeat).sample(frac=1, random_state=repeat) for repeat in repeats])

    of_once, thrice = (evaluate.findings(repeated(repeats), protocol, fairness, {}) for repeats in ([1], [1, 2, 3]))
    for name in ("auc", "brier", "ece", "rows", "defaults", "auc_interval"):
        assert thrice[name] == pytest.approx(of_once[name]), name
    assert thrice["auc_difference"]["catboost"] == pytest.approx(of_once["auc_difference"]["catboost"])
    # Another division with another outcome: the mean, and the rows' own uncertainty remains.
    other = once.assign(repeat=2, ensemble=once["ensemble"] * draw.uniform(0.5, 1, 200))
    of_study = {evaluate.WITHOUT: once["catboost"], **{f"{loss}_{seed}": once["lightgbm"] for loss in auc_loss.LOSSES for seed in (0, 1)}}
    mixed = evaluate.findings(pd.concat([once.assign(**of_study), other]), protocol, fairness, {"catboost": "no reason"})
    second = evaluate.findings(other.assign(repeat=1), protocol, fairness, {})
    assert mixed["auc"] == pytest.approx((of_once["auc"] + second["auc"]) / 2)
    low, high = mixed["auc_interval"]
    assert high - low > 0.9 * (of_once["auc_interval"][1] - of_once["auc_interval"][0])
    assert "catboost" not in mixed["peers"]
    # Studies are of the first repeat, and held against its ensemble.
    assert mixed["left_out"][evaluate.WITHOUT] == pytest.approx(of_once["peers"]["catboost"])
    assert mixed["auc_difference"][evaluate.WITHOUT] == pytest.approx(of_once["auc_difference"]["catboost"])
    assert mixed["auc_loss"]["auc_loss"]["auc"]["mean"] == pytest.approx(of_once["peers"]["lightgbm"]["auc"])
    assert {group["rows"] for group in thrice["fairness"]["groups"]} == {200}


def test_a_peer_learns_from_what_is_known_and_varies():
    rows = pd.DataFrame({"varies": [1.0, 2.0, np.nan], "constant": [1.0, 1.0, 1.0], "unknown": [np.nan] * 3, "half": [1.0, np.nan, np.nan]})
    assert known_features(rows) == ["varies"]
