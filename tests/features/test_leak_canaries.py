"""Leak canaries: look-ahead planted on purpose, of each kind once, and the gate that must refuse it; clean rows pass the same gates.

Plants of one gate share a frame where each is found by its column's name.
"""

from __future__ import annotations

from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from conf.settings import ROOT
from conf.source import CrossValidation, SourceError, load_source
from conf.tables import TABLES, TRAINING_SET
from expectations.measures import build_measured
from features import training_set
from features.blocks import with_features
from features.point_in_time import narrowed
from features.training_set import build_training_set
from models import credit_model
from models.credit_model import Origin, fit_credit_model
from models.leakage import LeakFound, shared_ids
from models.sub_models import fold
from spark_jobs import evaluate, leak_gate, train_credit
from spark_jobs.leak_gate import (
    Told,
    count_days,
    leak_measures,
    left_out_measures,
    made_again_measures,
    outcome_measures,
    rank_measures,
    require_no_leak,
    sides_apart,
)
from spark_jobs.mapping import BROKEN, with_row_rules

TRAINED_ON, JUNE, SPRING = date(2025, 3, 31), date(2023, 6, 30), date(2024, 3, 31)
SOURCE = SimpleNamespace(outcome="default_within_horizon", horizon_months=12, default_days=90, indeterminate_days=None, account_month_lag_days=15)


def broken(found: leak_gate.Measures) -> dict[str, str]:
    """The numbers out of their bounds, each with its words."""
    return {name: bound.meaning for name, (value, bound) in found.items() if value is not None and value > bound.high}


# ---- A feature that ranks outcomes by itself: borrowers drawn, 54 or so of 300 rows default.

RANKS = {
    "bureau_score": ("by_value", "the label itself", "is_default"),
    "debt_to_income": (
        "by_value", "the label, wrong in a fiftieth of the rows", "is_default != (pmod(xxhash64(borrower_id, as_of_date), 50) = 0)"
    ),
    "months_since_delinquency": (
        "by_value", "days until the default, and many for none", "coalesce(datediff(default_on, as_of_date), 999)"
    ),
    "paid_to_due_12m": ("by_value", "what was paid in the end: all, but for a default", "if(is_default, rand(1), 1)"),
    "days_past_due_last": ("by_value", "days past due at the outcome", "if(is_default, 90, 30 * rand(2))"),
    "total_lines": ("by_value", "an id that was given by outcome", "row_number() OVER (ORDER BY is_default, borrower_id, as_of_date)"),
    "installments_paid": ("by_value", "instalments paid until the loan ended", "if(is_default, 5 * rand(3), 12)"),
    "past_due_amount": ("by_null", "recoveries, which only a default has", "if(is_default, 10, NULL)"),
    "months_since_late": ("by_null", "the day of repayment in full, which a default lacks", "if(is_default, NULL, 10)"),
}


@pytest.fixture(scope="module")
def drawn(training_rows):
    return training_rows(100).persist()


@pytest.fixture(scope="module")
def ranked(drawn, plain_settings):
    planted = drawn.withColumns({name: F.expr(value).cast("double") for name, (_, _, value) in RANKS.items()})
    return broken(rank_measures(planted, 300, plain_settings)), broken(rank_measures(drawn, 300, plain_settings))


@pytest.mark.parametrize("column", RANKS)
def test_a_feature_that_was_told_the_outcome(ranked, column):
    planted, clean = ranked
    assert column in planted[f"rank_{RANKS[column][0]}"], RANKS[column][1]
    assert not clean


# ---- An outcome that nobody knew on the training date.

MARCH = date(2011, 3, 31)
OUTCOMES = [
    ("future", "a default of after the training date", "default_on", "if(is_default, DATE'2011-04-01', NULL)"),
    ("future", "a row of a day after the training date", "as_of_date", "add_months(as_of_date, 15)"),
    ("unmatured", "good because its year has not passed yet", "as_of_date", "date_add(as_of_date, 1)"),
    ("beyond", "a default of another year, joined by loan", "default_on", "if(is_default, add_months(as_of_date, 13), NULL)"),
]


@pytest.mark.parametrize(("number", "leak", "column", "value"), OUTCOMES, ids=[leak for _, leak, _, _ in OUTCOMES])
def test_an_outcome_of_the_future(drawn, number, leak, column, value):
    told = Told(MARCH, 12)
    assert f"outcomes_{number}" in broken(outcome_measures(count_days(drawn.withColumn(column, F.expr(value)), told, 1))), leak
    assert not broken(outcome_measures(count_days(drawn, told, 1)))


# ---- A row unlike its day: twelve borrowers on 30 June 2023. A later cohort brings their later life within reach of formulas.

LOST = ("b01", "b04", "b06", "b09", "b11")
"""Charged off in November 2023; the others are paid in full in January 2024."""


def silver_rows() -> dict[str, list[dict[str, object]]]:
    rows: dict[str, list[dict[str, object]]] = {name: [] for name in (
        "borrower", "loan", "repayment", "credit_report", "credit_line", "credit_inquiry", "account_month")}
    for number in range(12):
        one = {"borrower_id": f"b{number:02d}"}
        is_lost = one["borrower_id"] in LOST
        party = one | {"identity_group_id": f"g{number // 2}", "region": "north" if number % 3 else "south", "birth_date": f"{1970 + number}-01-01"}
        income = 30_000 + 1_000 * number
        rows["borrower"] += [party | {"main_income": None if number == 3 else income, "known_from": "2023-01-01"},
                             party | {"main_income": income + 5_000, "known_from": "2023-12-01"}]
        loan = one | {"loan_id": f"l{number:02d}", "listed_on": "2023-01-05", "originated_on": "2023-01-10"}
        end = "2023-11-30" if is_lost else "2024-01-10"
        rows["loan"] += [loan | {"known_from": "2023-01-10"},
                         loan | {"known_from": end, "closed_on": end, "status": "charged_off" if is_lost else "paid"}]
        for month in range(2, 12):
            due = date(2023, month, 10)
            paid = one | {"loan_id": loan["loan_id"], "installment_no": month, "due_on": due, "known_from": due, "paid_on": due,
                          "paid_amount": 100}
            late = paid | {"paid_on": None, "paid_amount": 0, "days_past_due": 90, "known_from": due + timedelta(days=90)}
            if not is_lost or month < 7:
                rows["repayment"].append(paid)
            elif month < 9:
                recovered = late | {"paid_on": "2024-02-01", "paid_amount": 40, "known_from": "2024-02-01"}
                rows["repayment"] += [late, recovered]
        rows["credit_report"] += [one | {"reported_on": day, "known_from": day, "score_low": score, "score_high": score}
                                  for day, score in (("2023-01-05", 600 + number), ("2023-10-01", 500 if is_lost else 700))]
        line = one | {"line_id": "card", "opened_on": "2020-01-01", "credit_limit": 1_000, "balance": 100}
        rows["credit_line"] += [line | {"known_from": "2023-01-05"},
                                line | {"known_from": "2023-09-01", "status": "closed", "closed_on": "2023-09-01"}]
        # One on the day itself: the day before knows nothing of it.
        rows["credit_inquiry"] += [one | {"inquired_on": day, "known_from": day} for day in ("2023-06-30", "2023-08-01")]
        rows["account_month"] += [
            one | {"month": date(2023, month, 1), "known_from": date(2023, month + 1, 15), "card_spend": 10 * month + number,
                   "balance_end": 100 * month}
            for month in range(3, 9)
        ]
    # A default of 18 June 2024, told after the training date.
    rows["repayment"].append({"borrower_id": "b00", "loan_id": "l00", "installment_no": 13, "due_on": "2024-03-20", "days_past_due": 90,
                              "known_from": "2025-04-20"})
    return rows


UNLIKE = {
    "main_income": ("borrower", "the income that was stated later", "max_by(main_income, known_from)"),
    "bureau_score": ("credit_report", "the bureau's report of later", "max_by(score_low, reported_on)"),
    "open_lines": ("credit_line", "closed_on, of a line that closed later", "if(max(closed_on) IS NULL, 1, 0)"),
    "inquiries_6m": ("credit_inquiry", "inquiries of after the day", "count(*)"),
    "card_spend_mean_3m": ("account_month", "the accounts of the months to come", "max_by(card_spend, month)"),
    "balance_end_last": (
        "account_month", "June's account, which is known in July", "max_by(balance_end, month) FILTER (WHERE month <= '2023-06-30')"
    ),
    "months_observed_12m": ("account_month", "for how long someone stayed", "count(*)"),
    "live_loans": ("loan", "the loan's status of today", "if(max_by(status, known_from) = 'current', 1, 0)"),
    "loan_term_months": ("loan", "how long the loan ran, by closed_on", "months_between(max(closed_on), min(originated_on))"),
    "paid_to_due_3m": ("repayment", "what was paid in total", "sum(paid_amount)"),
    "paid_to_due_12m": ("repayment", "paid of due, instalments of after the day included", "sum(paid_amount) / sum(due_amount)"),
    "days_past_due_max_12m": ("repayment", "days past due at the outcome", "max(days_past_due)"),
    "days_past_due_last": ("repayment", "the last row of the instalments", "max_by(days_past_due, installment_no)"),
    "months_since_late": ("repayment", "the day of the last payment", "datediff(max(paid_on), DATE'2023-06-30')"),
    "past_due_amount": ("repayment", "recoveries", "sum(paid_amount) FILTER (WHERE paid_on > '2023-12-31')"),
}
MEANS = {
    "other_income": ("default rate of the region, the row's own outcome in it", "avg(lost) OVER (PARTITION BY region)"),
    "dependents": ("default rate of the party, the row's own outcome in it", "avg(lost) OVER (PARTITION BY party)"),
    "education_level": ("default rate of the cohort", "avg(lost) OVER (PARTITION BY as_of_date)"),
    "is_married": ("the outcome, joined by loan onto an earlier row", "lost"),
    "age_years": ("scaled within its outcome", "age_years - avg(age_years) OVER (PARTITION BY lost)"),
    "total_income_log": ("filled by its outcome's mean", "coalesce(total_income_log, avg(total_income_log) OVER (PARTITION BY lost))"),
}


def looking_ahead(spine, silver, lag_days=0):
    """The features, some of them by formulas that ask silver whatever its known_from."""
    rows = with_features(spine, silver, lag_days)
    for name in dict.fromkeys(table for table, _, _ in UNLIKE.values()):
        planted = {column: value for column, (table, _, value) in UNLIKE.items() if table == name}
        told = silver[name].groupBy("borrower_id").agg(*(F.expr(value).cast("double").alias(column) for column, value in planted.items()))
        rows = rows.drop(*planted).join(told, "borrower_id", "left")
    lost = silver["loan"].groupBy("borrower_id").agg(F.expr("max(if(status = 'charged_off', 1, 0))").alias("lost"))
    party = silver["borrower"].groupBy("borrower_id").agg(F.max("region").alias("region"), F.max("identity_group_id").alias("party"))
    return rows.join(lost, "borrower_id").join(party, "borrower_id").withColumns(
        {column: F.expr(value).cast("double") for column, (_, value) in MEANS.items()}
    )


@pytest.fixture(scope="module")
def plain_settings():
    from conf.settings import load_settings

    settings = load_settings()
    one_cohort = {"training_cohorts": 1, "calibration_cohorts": 0, "judging_cohorts": 0, "cohort_step_months": 1}
    return settings.model_copy(update={"training": settings.training.model_copy(update=one_cohort)})


@pytest.fixture(scope="module")
def tables(silver):
    return {name: frame.persist() for name, frame in silver(**silver_rows()).items()}


@pytest.fixture(scope="module")
def clean(tables, plain_settings):
    """The training set of 30 June 2023 as the product makes it."""
    return build_training_set(tables, SOURCE, plain_settings.training, TRAINED_ON, [JUNE, SPRING]).persist()


def unlike_their_day(rows, tables, settings, day=JUNE):
    """The words on rows unlike their day; KeyError where there are none."""
    known = narrowed(tables, day, day)
    return broken(made_again_measures(rows, known, tables, SOURCE, settings, Told(TRAINED_ON, 12)))["rows_unlike_their_day"]


def test_clean_rows_are_like_their_day(clean, tables, plain_settings):
    assert clean.count() == 12
    found = leak_measures(clean, tables, SOURCE, plain_settings, TRAINED_ON)
    assert not broken(found)
    assert found["rows_unlike_their_day"][1].meaning.startswith("of 12 rows of 2023-06-30, ")
    # Five defaults say nothing of a feature; all else is measured.
    assert {name for name, (value, _) in found.items() if value is None} == {"rank_by_value", "rank_by_null"}
    require_no_leak(found, "clean rows")


@pytest.fixture(scope="module")
def unlike(tables, plain_settings):
    """What the gate says of features that look ahead, in a training set of a month later."""
    later = TRAINED_ON + timedelta(days=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_set, "with_features", looking_ahead)
        patch.setattr(leak_gate, "with_features", looking_ahead)
        rows = build_training_set(tables, SOURCE, plain_settings.training, later, [JUNE, SPRING])
        return unlike_their_day(rows, tables, plain_settings)


@pytest.mark.parametrize("column", [*UNLIKE, *MEANS])
def test_a_feature_that_looks_ahead(unlike, column):
    assert f"{column} in " in unlike, (UNLIKE.get(column) or MEANS[column])[-2]


def test_no_other_feature_is_blamed(unlike):
    named = unlike.split(": ")[1].split(". ")[0]
    assert {part.split(" in ")[0] for part in named.split(", ")} == {*UNLIKE, *MEANS, "default_on"}


def test_a_default_that_was_told_after_the_training_date(unlike):
    assert "default_on in 1 rows (borrower b00)" in unlike


def test_rows_under_an_earlier_day(clean, tables, plain_settings):
    # Known on 30 June, said to be known on the 29th: an inquiry of the day gives it away.
    shifted = clean.withColumn("as_of_date", F.date_sub("as_of_date", 1))
    assert "inquiries_6m in 12 rows" in unlike_their_day(shifted, tables, plain_settings, JUNE - timedelta(days=1))


def test_a_population_of_survivors(clean, tables, plain_settings):
    # Only loans that were paid in full in the end.
    survivors = clean.where(~F.col("borrower_id").isin(*LOST))
    found = left_out_measures(survivors, narrowed(tables, JUNE, JUNE), SOURCE, plain_settings, JUNE, 1.0)
    assert found["performing_left_out"][0] == pytest.approx(5 / 12) and broken(found)
    # A day of applications alone has nobody to be left out.
    applicants = clean.withColumn("standing", F.lit("applicant"))
    assert left_out_measures(applicants, narrowed(tables, JUNE, JUNE), SOURCE, plain_settings, JUNE, 1.0)["performing_left_out"][0] is None


# ---- A row that breaks a rule of the training set, or of silver.

def test_rows_that_stand_twice_and_defaults_of_before(drawn):
    planted = drawn.limit(200).unionByName(drawn.limit(10)).withColumn("default_on", F.when(F.col("is_default"), F.col("as_of_date")))
    numbers, clean = (build_measured(TRAINING_SET, rows).first()["measured"] for rows in (planted, drawn))
    assert numbers["duplicate_keys"] > 0, "the same row in two cohorts, one to learn from and one to judge"
    assert numbers["default_after_date"] > 0, "a row of someone in default already"
    assert not clean["duplicate_keys"] and not clean["default_after_date"]


TOLD_EARLY = [
    ("account_month", "month_over_when_known", "a month that is not over",
     {"month": "2023-06-01", "known_from": "2023-06-29"}, "2023-06-30"),
    ("credit_report", "reported_before_known", "a report of later",
     {"reported_on": "2023-07-01", "known_from": "2023-06-30"}, "2023-07-01"),
    ("loan", "closed_before_known", "the end of a loan that runs",
     {"loan_id": "l", "listed_on": "2023-01-05", "originated_on": "2023-01-10", "status": "paid", "closed_on": "2024-01-10",
      "known_from": "2023-06-30"}, "2024-01-10"),
    ("repayment", "paid_before_known", "a payment of later",
     {"loan_id": "l", "installment_no": 1, "due_on": "2023-06-10", "paid_on": "2023-07-05", "known_from": "2023-06-30"}, "2023-07-05"),
    ("repayment", "late_before_known", "a delay that has not come yet",
     {"loan_id": "l", "installment_no": 1, "due_on": "2023-06-10", "days_past_due": 90, "known_from": "2023-06-30"}, "2023-09-08"),
]


@pytest.mark.parametrize(("name", "rule", "leak", "row", "in_time"), TOLD_EARLY, ids=[leak for _, _, leak, _, _ in TOLD_EARLY])
def test_a_row_that_is_told_before_it_is_known(silver, name, rule, leak, row, in_time):
    frame = silver(**{name: [row, row | {"known_from": in_time}]})[name].withColumn(BROKEN, F.array().cast("array<string>"))
    early, clean = with_row_rules(frame, TABLES[name]).orderBy("row_number").select(BROKEN).collect()
    assert (early[BROKEN], clean[BROKEN]) == ([rule], []), leak


def test_a_market_value_before_its_period(spark):
    row = ("UNRATE", date(2023, 6, 1), 3.6, date(2023, 5, 31), "macro.csv", 1)
    table = TABLES["market_indicator"]
    frame = spark.createDataFrame([row, (*row[:3], date(2023, 7, 31), *row[4:])], StructType.fromDDL(table.ddl))
    judged = with_row_rules(frame.withColumn(BROKEN, F.array().cast("array<string>")), table)
    early, clean = judged.orderBy("known_from").select(BROKEN).collect()
    assert (early[BROKEN], clean[BROKEN]) == (["published_after_period_began"], [])


# ---- A realised column where only what was known at the listing may stand.

MAPPED = [
    ("score_low: fico_range_low", "score_low: last_fico_range_low", "last_fico_range_low is realised", "the bureau's score of today"),
    ("main_income: annual_inc", "main_income: total_pymnt", "total_pymnt is realised", "what was paid in total"),
    ("revolving_balance: revol_bal", "revolving_balance: out_prncp", "out_prncp is realised", "what is left to pay today"),
    ("past_due_amount: delinq_amnt", "past_due_amount: recoveries", "recoveries is realised", "recoveries"),
    ("grade: grade", "grade: loan_status", "loan_status is realised", "the outcome as a term of the loan"),
    ("    - from: accepted\n      columns:\n        borrower_id: id\n        borrower_type",
     "    - from: accepted\n      where: [{column: loan_status, is_in: Fully Paid}]\n      columns:\n        borrower_id: id\n        borrower_type",
     r"where\.0: loan_status is realised", "borrowers who paid in full alone"),
    ("trained_on: 2010-12-31", "trained_on: 2011-06-30", "trained_on, tested_from, tested_until must follow",
     "rows to test whose outcome trained"),
]


@pytest.mark.parametrize(("said", "planted", "refusal", "leak"), MAPPED, ids=[leak for *_, leak in MAPPED])
def test_a_mapping_that_looks_ahead(tmp_path, said, planted, refusal, leak):
    text = (ROOT / "conf" / "sources" / "lendingclub.yaml").read_text()
    assert text.count(said) == 1
    (tmp_path / "lendingclub.yaml").write_text(text.replace(said, planted))
    with pytest.raises(SourceError, match=refusal):
        load_source("lendingclub", tmp_path)


# ---- A party on two sides.

def test_parts_of_training_that_share_parties(drawn, plain_settings, monkeypatch):
    months = sorted({row["cohort_month"] for row in drawn.select("cohort_month").distinct().collect()})
    cohorts = train_credit.Cohorts(tuple(months[:1]), tuple(months[1:2]), tuple(months[2:]))

    def sides():
        return dict(zip(vars(cohorts), train_credit.part_rows(drawn, cohorts, plain_settings.training), strict=True))

    assert not broken(sides_apart(sides()))
    calibrated = sides() | {"calibration": sides()["training"].limit(1)}
    assert " in calibration and training" in broken(sides_apart(calibrated))["on_two_sides"], "a row that trains calibrates too"
    # Each row draws its part by itself: those who judge have trained in another month.
    by_row = F.expr("pmod(xxhash64(borrower_id, as_of_date), 100) / 100")
    monkeypatch.setattr(train_credit, "group_share", lambda salt: by_row)
    assert "on_two_sides" in broken(sides_apart(sides()))


def test_a_loan_under_two_ids(drawn):
    one, other = drawn.where("borrower_id = 'b00000'"), drawn.where("borrower_id = 'b00010'")
    assert not broken(sides_apart({"training": one, "test": other}))
    again = other.withColumn("loan_id", F.lit("l00000"))
    assert "loan_id l00000 in test and training" in broken(sides_apart({"training": one, "test": again}))["on_two_sides"]


def test_folds_that_part_a_party(drawn, small_training, monkeypatch):
    assert shared_ids(drawn.withColumn("side", fold(2, 1))) == (0, None)
    monkeypatch.setattr(credit_model, "fold", lambda folds, seed: F.pmod(F.xxhash64("borrower_id"), F.lit(folds)).cast("int"))
    with pytest.raises(LeakFound, match="stand in two folds, such as identity_group_id g"):
        fit_credit_model(drawn, drawn.limit(0), small_training, Origin("drawn", "2011-03-31", 12, "test"), None)


def test_rows_that_train_among_those_tested(drawn, plain_settings, monkeypatch):
    class Blind:
        """Folds that look at no party."""

        def __init__(self, folds, **options):
            self.folds = folds

        def split(self, rows, outcomes, parties):
            return [(None, np.flatnonzero(np.arange(len(rows)) % self.folds == number)) for number in range(self.folds)]

    monkeypatch.setattr(evaluate, "build_training_set", lambda *asked: drawn)
    monkeypatch.setattr(leak_gate, "audit", lambda *asked: {})
    source = load_source("simulated").model_copy(update={"evaluation": CrossValidation(protocol="cross_validation", folds=2)})
    next(evaluate.cross_validation({}, source, plain_settings, MARCH))
    monkeypatch.setattr(evaluate, "StratifiedGroupKFold", Blind)
    with pytest.raises(LeakFound, match="the rows of fold 1 of 2 know more than they may: on_two_sides = "):
        next(evaluate.cross_validation({}, source, plain_settings, MARCH))
