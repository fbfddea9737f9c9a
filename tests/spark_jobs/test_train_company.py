"""Training of the company model: which filings train, calibrate and judge, and scores with all that is published of them."""

from __future__ import annotations

import re
from datetime import date, timedelta

import numpy as np
import pytest
from pyspark.sql import functions as F

from conf.company_features import COMPANY_FEATURES
from conf.settings import load_settings
from conf.source import load_source
from conf.tables import COMPANY_SCORE, COMPANY_TRAINING_SET
from models.company_document import Facts, by_grade, document, strongest_features
from models.company_model import fit_company_model
from models.credit_model import Origin, TooFewDefaults
from models.promotion import decide, promotion_rules
from spark_jobs.evaluate_company import company_walk_forward, parts_known_on
from spark_jobs.train_company import NO_GROUPS, judge, part_filings, told_of

AS_OF = date(2016, 4, 30)
YEARS = range(2006, 2016)
COMPANIES = 120


@pytest.fixture(scope="module")
def rows(spark):
    """Filings of ten springs; the more indebted a company, the sooner it fails, half a year after its last filing."""
    draw, made = np.random.default_rng(5), []
    known = {"liabilities_to_assets", "altman_z", "log_assets"}
    for number in range(COMPANIES):
        debt = draw.uniform(0, 2)
        fails = draw.random() < debt / 2
        last = int(draw.integers(2007, 2015)) if fails else 2015
        distressed_on = date(last, 4, 30) + timedelta(days=184) if fails else None
        for year in range(YEARS[0], last + 1):
            value = {"liabilities_to_assets": debt, "altman_z": 1 - debt + draw.normal(0, 0.2), "log_assets": draw.normal(15, 1)}
            features = [float(value[one.name]) if one.name in known else None for one in COMPANY_FEATURES]
            made.append((
                f"c{number:03d}", date(year, 4, 30), f"c{number:03d}-{year - 1}", date(year - 1, 12, 31), f"g{number // 2}", distressed_on, AS_OF, *features,
            ))
    return spark.createDataFrame(made, COMPANY_TRAINING_SET.ddl).persist()


@pytest.fixture(scope="module")
def market():
    settings = load_settings(source="american_bankruptcy")
    small = {"num_leaves": 4, "num_iterations": 20, "min_data_in_leaf": 10, "learning_rate": 0.2}
    return settings.model_copy(update={"company": settings.company.model_copy(update={"lightgbm": small, "min_events": 5})})


def test_no_outcome_and_no_party_stands_on_two_sides(rows, market):
    training, calibration, judging = part_filings(rows, market, AS_OF)
    # The newest filings whose first year has passed are of spring 2015; three years of them begin with spring 2012.
    told = training.agg(F.max("as_of_date"), F.max(F.when(F.col("is_distress") == 1, F.col("distressed_on")))).first()
    assert told[0] < date(2012, 4, 30) and told[1] <= date(2012, 4, 30)
    assert training.where(F.add_months("as_of_date", 12 * F.col("years_ahead").cast("int")) > F.lit(date(2012, 4, 30))).where("is_distress = 0").count() == 0
    days = [part.agg(F.min("as_of_date"), F.max("as_of_date")).first() for part in (calibration, judging)]
    assert [tuple(one) for one in days] == [(date(2012, 4, 30), date(2015, 4, 30))] * 2
    groups = [{row[0] for row in part.select("identity_group_id").distinct().collect()} for part in (calibration, judging)]
    assert groups[0] and groups[1] and not groups[0] & groups[1]


@pytest.fixture(scope="module")
def parts(rows, market):
    return part_filings(rows, market, AS_OF)


@pytest.fixture(scope="module")
def model(parts, market):
    return fit_company_model(*parts[:2], market.company, 1, Origin("panel", "2016-04-30", 12, "code", {"filing": 3}))


def test_scores_have_what_is_published_of_them(parts, model, market):
    training, calibration, judging = parts
    assert set(model.features) == {"liabilities_to_assets", "altman_z", "log_assets"}
    # What tomorrow's companies are held against: each calibration filing once, whatever became of it.
    assert set(model.reference) == {*model.features, "prob_distress_1y"}
    assert all(sum(bins.shares) == pytest.approx(1) for bins in model.reference.values())
    judged = judge(model, judging)
    assert judged.metrics["auc"] > 0.6
    scored = model.score(judging.where("as_of_date = DATE'2015-04-30'")).toPandas()
    assert set(COMPANY_SCORE.columns) - {"model_version", "batch_id"} <= set(scored.columns)
    limits = list(market.company.grades.items())
    assert [next(name for name, limit in limits if prob <= limit) for prob in scored["prob_distress_1y"]] == list(scored["grade"])
    assert (scored["prob_distress_1y"] <= scored["prob_distress_2y"]).all() and scored["reason_codes"].map(len).between(1, 4).all()
    with pytest.raises(TooFewDefaults, match=r"company\.min_events asks for 100000"):
        fit_company_model(training, calibration, market.company.model_copy(update={"min_events": 100_000}), 1, model.origin)


def test_a_walk_forward_trains_anew_each_year_and_tests_the_filings_of_that_year(rows, market):
    protocol = load_source("american_bankruptcy").evaluation.model_copy(
        update={"walk_forward_from": date(2012, 4, 30), "tested_until": date(2015, 4, 30)}
    )
    origin = Origin("panel", "2016-04-30", 12, "code")
    found = company_walk_forward(rows, protocol, market, origin)
    filings = {row["as_of_date"].year: row["count"] for row in rows.groupBy("as_of_date").count().collect()}
    assert [(one["trained_on"], one["rows"]) for one in found["periods"]] == [(f"{year}-04-30", filings[year]) for year in range(2012, 2016)]
    (together,) = found["years"]
    assert together["rows"] == sum(one["rows"] for one in found["periods"]) and set(together["auc"]) == {"ensemble", "altman_z"}
    told = sum(one["rows"] * one["mean_prob_default"] for one in found["periods"]) / together["rows"]
    assert together["mean_prob_default"] == pytest.approx(told) and found["left_out"] == {}
    # What a model of a day learns from was over on that day.
    for part in parts_known_on(rows, date(2013, 4, 30), market.company):
        assert part.where(F.add_months("as_of_date", 12 * F.col("years_ahead").cast("int")) > F.lit(date(2013, 4, 30))).isEmpty()
        assert not part.isEmpty()
    few = market.model_copy(update={"company": market.company.model_copy(update={"min_events": 100_000})})
    nothing = company_walk_forward(rows, protocol, few, origin)
    assert nothing["years"] == nothing["periods"] == [] and len(nothing["left_out"]) == 4


def test_the_document_tells_what_a_version_was_made_from_and_how_its_grades_came_true(parts, model, market):
    judged = judge(model, parts[2])
    fairness = market.fairness.model_copy(update={"attributes": []})
    decision = decide(promotion_rules(judged.metrics, 0.7, None, None, NO_GROUPS, market.training, fairness))
    told = [told_of(name, part) for name, part in zip(("training", "calibration", "judging"), parts, strict=True)]
    assert [(part.name, part.rows, part.distresses) for part in told] == [
        (name, part.count(), part.where("is_distress = 1").count()) for name, part in zip(("training", "calibration", "judging"), parts, strict=True)
    ]
    grades = by_grade(model, judged)
    assert list(grades["grade"]) == list(market.company.grades) and grades["filings"].sum() == told[2].rows
    assert grades["distresses"].sum() == told[2].distresses
    held = grades[grades["filings"] > 0]
    assert (held["told"] <= held["limit"]).all() and (held["told"] * held["filings"]).sum() == pytest.approx(judged.prob["ensemble"].sum())
    strongest = strongest_features(model)
    assert strongest.iloc[0]["name"] == "liabilities_to_assets" and strongest["share"].sum() == pytest.approx(1)
    facts = Facts(market, load_source("american_bankruptcy"), "4", model, told, judged, None, None, decision)
    page = document(facts)
    assert page == document(facts) and "Company model" in page and "total liabilities to total assets" in page
    assert f"{judged.metrics['auc']:.4f}" in page and "judged as a first model" in page
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', page), "the document needs no network"
