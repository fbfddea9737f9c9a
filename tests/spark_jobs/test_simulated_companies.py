"""The simulated market's companies from their raw files to scores: landed, mapped, learnt from, scored."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import functions as F

from conf.settings import load_settings
from conf.source import load_source
from conf.tables import COMPANY, FILING, MARKET_INDICATOR, STATEMENT_ITEM
from features.company_ratios import build_company_features
from models.company_model import PROBABILITIES, fit_company_model
from models.credit_model import Origin
from spark_jobs.lake import Lake
from spark_jobs.landing import bronze_rows, land_files, landed_files
from spark_jobs.manifest import Night
from spark_jobs.mapping import BROKEN, build_checked
from spark_jobs.score_company import build_active
from spark_jobs.simulate import Landing, land_history
from spark_jobs.train_company import build_company_training_set, judge, part_filings

AS_OF = date(2025, 6, 30)


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A market of 250 seats of companies and no borrowers; a model of few trees."""
    home, settings = tmp_path_factory.mktemp("home"), load_settings(product="company")
    simulation = settings.simulation.model_copy(update={"borrowers": 0, "companies": 250})
    trees = {"num_leaves": 4, "num_iterations": 25, "min_data_in_leaf": 20, "learning_rate": 0.15}
    company = settings.company.model_copy(update={"lightgbm": trees, "min_events": 5})
    return settings.model_copy(update={"home": home, "data": home / "landed", "simulation": simulation, "company": company})


@pytest.fixture(scope="module")
def mapped(spark, market):
    """Every row that the mapping makes of the landed files, by table, with the rules that it breaks."""
    land_history(spark, Landing(market.data_folder), market.simulation, AS_OF)
    source, lake = load_source("simulated").of_product("company"), Lake(spark, market)
    night = Night("2025-06-30-test", AS_OF, "1", landed_files(market, source, AS_OF))
    assert {path.split("/")[0] for path in night.landed_files} == {"company", "filing"}
    pending = land_files(lake, source, night).pending
    raw = {kind: bronze_rows(lake, kind, [file for file in pending if file.kind == kind]) for kind in source.files}
    tables = {}
    for table in (COMPANY, FILING, STATEMENT_ITEM):
        tables[table.name] = build_checked(source, table, raw, tables).persist()
    return tables


@pytest.fixture(scope="module")
def silver(spark, mapped):
    # Without the mapping's plan, as a table of the lake is read.
    kept = {name: rows.where(F.size(BROKEN) == 0).drop(BROKEN).localCheckpoint() for name, rows in mapped.items()}
    return kept | {MARKET_INDICATOR.name: spark.createDataFrame([], MARKET_INDICATOR.ddl)}


def test_only_what_is_dirty_breaks_rules(mapped):
    shares, rules = {}, set()
    for name, rows in mapped.items():
        shares[name], broken = rows.agg(F.avg((F.size(BROKEN) > 0).cast("double")), F.flatten(F.collect_set(BROKEN))).first()
        rules |= {rule.split(":")[0] for rule in broken}
    # An orphan, a duplicate, a number, date or code that is none, and statements that come again the day after: each once in a thousand.
    assert all(0 < share < 0.02 for share in shares.values()), shares
    assert rules <= {"parse", "code", "orphan", "unique_key", "required"}, rules


def test_a_model_learns_from_statements_and_scores_the_companies_that_stand(mapped, silver, market):
    rows = build_company_training_set(silver, "USD", AS_OF).persist()
    training, calibration, judging = part_filings(rows, market, AS_OF)
    model = fit_company_model(training, calibration, market.company, 7, Origin("simulated", AS_OF.isoformat(), 12, "code"))
    # Companies that are not listed have no market value; what a bank is told of them, listed ones may keep to themselves.
    assert "market_leverage" not in model.features and {"cash_ratio", "interest_cover", "liabilities_to_assets"} <= set(model.features)
    assert {"industry_distress_rate", "net_income_to_assets_over_industry"} <= set(model.features)
    assert judge(model, judging).metrics["auc"] > 0.6

    spine = build_active(silver["company"], AS_OF)
    features = build_company_features(spine, silver, "USD")
    scores = model.score(features).select("company_id", *PROBABILITIES, "grade").toPandas()
    assert len(scores) > 100 and scores["company_id"].is_unique
    assert (scores[PROBABILITIES[0]] <= scores[PROBABILITIES[2]]).all() and scores["grade"].isin(market.company.grades).all()
