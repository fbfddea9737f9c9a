"""The real file of card clients through landing, mapping and the training set: all clients, one of them by hand."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import functions as F

from conf.settings import load_settings
from conf.source import load_source
from conf.tables import TABLES
from features.training_set import build_training_set
from spark_jobs.lake import Lake
from spark_jobs.landing import bronze_rows, land_files, landed_files
from spark_jobs.manifest import Night
from spark_jobs.mapping import BROKEN, build_checked
from spark_jobs.silver import FEATURE_SOURCES

AS_OF = date(2005, 10, 31)
CLIENTS, DEFAULTS = 30_000, 6_636


@pytest.fixture(scope="module")
def market(spark, shared_data, tmp_path_factory):
    """The source, its settings, and the silver tables that its file fills, with the rules that rows break."""
    settings = load_settings(
        source="uci_credit_card", home=tmp_path_factory.mktemp("uci"), data=shared_data / "uci_credit_card"
    )
    source, lake = load_source("uci_credit_card"), Lake(spark, settings)
    night = Night("2005-10-31-test", AS_OF, "1", landed_files(settings, source, AS_OF))
    raw = {"clients": bronze_rows(lake, "clients", land_files(lake, source, night).pending)}
    parents = {}
    for name in ("borrower", "credit_line", "account_month", "loan", "repayment"):
        parents[name] = build_checked(source, TABLES[name], raw, parents).persist()
    return source, settings, parents


@pytest.mark.usefixtures("compiled_plans")
def test_every_client_is_in_the_cohort_with_the_outcome_told(spark, market):
    source, settings, silver = market
    for name, rows in silver.items():
        per_client = 6 if name in ("account_month", "repayment") else 1
        told = rows.agg(F.count("*"), F.count_if(F.size(BROKEN) > 0)).first()
        assert tuple(told) == (CLIENTS * per_client + (DEFAULTS if name == "loan" else 0), 0), name
    # The first thousand of them as a training set: nobody is left out, however late.
    known = {name: rows.where("row_number <= 1000") for name, rows in silver.items()}
    defaults = known["loan"].where("status = 'charged_off'").count()
    empty = {table.name: spark.createDataFrame([], table.ddl) for table in FEATURE_SOURCES}
    rows = build_training_set(empty | known, source, settings.training, AS_OF).persist()
    assert tuple(rows.agg(F.count("*"), F.count_if("is_default"), F.min("as_of_date"), F.max("as_of_date")).first()) == (
        1000, defaults, date(2005, 9, 30), date(2005, 9, 30),
    )
    # ID 1: a woman of 24 with a degree, limit 20,000; bills 3913, 3102, 689, 0, 0, 0; paid 0, 689, 0, 0, 0, 0;
    # two months late in September and August.
    first = rows.where("borrower_id = '1'").first()
    expected = {
        "is_default": True, "is_female": 1, "is_married": 1, "education_level": 3, "total_credit_limit": 20_000,
        "revolving_balance": 3913, "utilisation_last": 3913 / 20_000, "balance_end_last": -3913,
        "card_spend_mean_3m": ((3913 - 3102) + (3102 - 689 + 689) + 689) / 3, "deposit_mean_3m": 689 / 3,
        "paid_to_due_3m": 689 / (3102 + 689), "days_past_due_last": 60, "late_installments_12m": 2, "months_since_late": 0,
    }
    assert {name: first[name] for name in expected} == pytest.approx(expected)
    assert first["age_years"] == pytest.approx(24, abs=0.01)
    # What the source does not tell stays unknown.
    assert [first[name] for name in ("bureau_score", "main_income", "income_mean_6m", "overdraft_days_12m")] == [None] * 4
