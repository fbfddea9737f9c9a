"""All 80 features on hand-made rows, the answers worked out by hand."""

from __future__ import annotations

import itertools
import math
from datetime import date

import pytest
from pyspark.sql.types import DateType, DoubleType, StringType, StructField, StructType

from conf.features import BLOCKS, FEATURES, block_features
from conf.tables import FEATURE_TABLES
from features.blocks import build_features, formulas, with_features
from features.point_in_time import narrowed

AS_OF = "2024-06-30"

# One borrower with everything: the answers of the whole page are about b1 on 30 June 2024.
BORROWERS = [
    {"birth_date": "1984-06-30", "gender": "female", "marital_status": "married", "dependents": 3, "region": "north",
     "education": "bachelor", "home_ownership": "mortgage", "employment_started_on": "2014-06-30",
     "occupation": "self_employed", "main_income": 36000, "other_income": 12000, "income_verified": True,
     "known_from": "2023-01-01"},
    # Neighbours for the region's median: 20,000 and 24,000 beside b1's 48,000; the 99,000 becomes known too late.
    {"borrower_id": "b2", "region": "north", "main_income": 20000, "known_from": "2023-01-01"},
    {"borrower_id": "b3", "region": "north", "main_income": 24000, "known_from": "2023-01-01"},
    {"borrower_id": "b4", "region": "north", "main_income": 99000, "known_from": "2024-07-01"},
    {"borrower_id": "b5", "region": "south", "main_income": 99000, "known_from": "2023-01-01"},
]
LOANS = [
    # A year's loan, half over: 1200 * (1 - 6/12) = 600 still owed.
    {"loan_id": "l1", "amount": 1200, "term_months": 12, "interest_rate": 0.12, "listed_on": "2023-12-01",
     "originated_on": "2023-12-10", "known_from": "2023-12-10"},
    # Repaid: owes nothing, but its instalments are part of the history.
    {"loan_id": "l2", "amount": 500, "term_months": 6, "listed_on": "2023-01-01", "originated_on": "2023-01-10",
     "status": "current", "known_from": "2023-01-10"},
    {"loan_id": "l2", "amount": 500, "term_months": 6, "listed_on": "2023-01-01", "originated_on": "2023-01-10",
     "status": "paid", "closed_on": "2023-10-31", "known_from": "2023-10-31"},
    # The listing that the row is about.
    {"loan_id": "l3", "amount": 9600, "term_months": 24, "interest_rate": 0.15, "purpose": "business", "status": "listed",
     "listed_on": "2024-06-30", "known_from": "2024-06-30"},
]


COMPANY = {"borrower_type": "company", "birth_date": "2020-01-01", "gender": None, "home_ownership": "other",
           "employment_started_on": "2024-12-01", "other_income": 5, "known_from": "2023-01-01"}


def of(borrower_id: str, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """The same rows as another borrower's, whose loans are others too."""
    return [row | {"borrower_id": borrower_id} | ({"loan_id": f"{borrower_id}-{row['loan_id']}"} if "loan_id" in row else {})
            for row in rows]


@pytest.fixture(scope="module")
def found(silver, spine):
    """The features of all cases of this page, computed at once: by borrower and day."""
    frame = with_features(
        spine(
            ("b1", AS_OF, "l1"), ("b1", "2024-07-05", "l1"), ("listing", AS_OF, "listing-l3"),
            ("counted", AS_OF, "counted-l1"), ("company", AS_OF, "company-l1"), ("gaps", "2024-07-05", "gaps-l1"),
            ("idle", "2024-07-05", "idle-l1"), ("evening", AS_OF, "evening-l1"), ("evening", "2024-06-29", "evening-l1"),
            ("bare", AS_OF, "bare-l1"),
        ),
        silver(
            borrower=[*BORROWERS, *of("company", [COMPANY]), *of("listing", [{"main_income": 48000, "known_from": "2023-01-01"}]),
                      *of("bare", [{"main_income": 48000, "known_from": "2023-01-01"}])],
            loan=[*LOANS, *[row for one in ("listing", "counted", "company", "gaps", "idle", "evening", "bare") for row in of(one, LOANS)]],
            credit_report=of("listing", REPORTS),
            credit_line=[*of("listing", LINES), *of("counted", LINES)],
            credit_inquiry=[*of("listing", INQUIRIES), *of("counted", INQUIRIES)],
            account_month=[*ACCOUNTS, *of("gaps", GAPS), *of("idle", IDLE), *of("evening", EVENING)],
            repayment=REPAYMENTS,
        ),
    )
    return {(row["borrower_id"], str(row["as_of_date"])): row.asDict() for row in frame.collect()}


def assert_features(found: dict[str, float | None], expected: dict[str, float | None]) -> None:
    """Every expected value is found; all differences are told at once."""
    wrong = {
        name: (found[name], value)
        for name, value in expected.items()
        if (found[name] is None) != (value is None)
        or (value is not None and not math.isclose(found[name], value, rel_tol=1e-9, abs_tol=1e-12))
    }
    assert wrong == {}, f"found, expected: {wrong}"


def test_schema_is_that_of_the_tables(silver, spine):
    frames = build_features(spine(("b1", AS_OF, "l1")), silver(borrower=BORROWERS, loan=LOANS))
    assert tuple(frames) == BLOCKS
    for block, frame in frames.items():
        assert frame.schema == StructType(
            [StructField("borrower_id", StringType()), StructField("as_of_date", DateType())]
            + [StructField(feature.name, DoubleType()) for feature in block_features(block)]
        )
        assert tuple(frame.columns) == FEATURE_TABLES[block].columns


def test_each_declaration_has_its_formula(spark):
    computed = set(formulas())
    assert computed == {feature.name for feature in FEATURES}
    assert [len(block_features(block)) for block in BLOCKS] == [14, 23, 31, 12]


def test_demographic(found):
    expected = {
        "age_years": 14610 / 365.25,  # 1984-06-30 to 2024-06-30: 40 years with ten leap days
        "is_female": 1,
        "is_married": 1,
        "dependents": 3,
        "education_level": 3,
        "home_ownership_level": 1,
        "employment_years": 3653 / 365.25,  # ten years with three leap days
        "is_self_employed": 1,
        "main_income": 36000,
        "other_income": 12000,
        "total_income_log": math.log(48001),
        "income_verified": 1,
        "income_to_region_median": 2.0,  # 48,000 over the middle one of 20,000, 24,000 and 48,000
        "income_per_head": 12000,  # four heads
    }
    assert set(expected) == {feature.name for feature in block_features("demographic")}
    assert_features(found["b1", AS_OF], expected)


def test_demographic_of_a_company_with_little_known(found):
    unknown = {feature.name: None for feature in block_features("demographic")}
    # No age of a person, an employment that lies ahead, no main income and so no total: all unknown, none 0.
    assert_features(found["company", AS_OF], unknown | {"other_income": 5})


REPORTS = [
    {"reported_on": "2024-01-31", "score_low": 690, "score_high": 694, "debt_to_income": 0.25, "delinquencies_24m": 1,
     "months_since_delinquency": 10, "months_since_public_record": 40, "public_records": 2,
     "inquiries_6m": 3, "open_lines": 7, "total_lines": 15, "earliest_line_on": "2004-06-30",
     "revolving_balance": 3000, "revolving_utilisation": 0.3, "past_due_amount": 50, "known_from": "2024-02-01"},
    # An older report that is corrected later is still not the newest one.
    {"reported_on": "2023-01-31", "score_low": 600, "score_high": 604, "known_from": "2024-03-01"},
]
LINES = [
    # Told twice; the newer row counts.
    {"line_id": "card", "kind": "card", "opened_on": "2014-06-30", "credit_limit": 1000, "balance": 900,
     "past_due_amount": 90, "worst_days_past_due_24m": 60, "known_from": "2023-01-01"},
    {"line_id": "card", "kind": "card", "opened_on": "2014-06-30", "credit_limit": 1000, "balance": 400,
     "past_due_amount": 0, "worst_days_past_due_24m": 60, "known_from": "2024-05-01"},
    {"line_id": "overdraft", "kind": "overdraft", "opened_on": "2023-06-30", "credit_limit": 600, "balance": 0,
     "past_due_amount": 0, "worst_days_past_due_24m": 0, "known_from": "2023-07-01"},
    {"line_id": "car", "kind": "car", "opened_on": "2022-06-30", "credit_limit": 5000, "balance": 2500,
     "past_due_amount": 100, "worst_days_past_due_24m": 35, "known_from": "2023-01-01"},
    # Closed: among the lines ever, not among the open ones; its debt does not count.
    {"line_id": "old", "kind": "card", "opened_on": "2010-06-30", "closed_on": "2020-01-01", "status": "closed",
     "credit_limit": 800, "balance": 0, "worst_days_past_due_24m": None, "known_from": "2023-01-01"},
]
INQUIRIES = [
    {"inquired_on": "2024-06-30", "known_from": "2024-06-30"},
    {"inquired_on": "2024-01-01", "known_from": "2024-01-01"},
    {"inquired_on": "2023-12-30", "known_from": "2023-12-30"},  # six months ago to the day: out
]


def test_credit_record_as_reported(found):
    expected = {
        "bureau_score": 692,
        "debt_to_income": 0.25,
        "delinquencies_24m": 1,
        "months_since_delinquency": 15,  # 10, and five months since the report's day
        "months_since_public_record": 45,
        "public_records": 2,
        "inquiries_6m": 3,
        "open_lines": 7,
        "total_lines": 15,
        "credit_history_months": 240,
        "revolving_balance": 3000,
        "revolving_utilisation": 0.3,
        "total_credit_limit": 6600,  # no report tells it: 1000 + 600 + 5000
        "past_due_amount": 50,
        "worst_days_past_due_24m": 60,
        "installment_balance": 2500,
        "newest_line_age_months": 12,
        "live_loans": 1,  # l1; l2 is repaid, l3 a listing
        "platform_debt": 600,
        "loan_amount_to_income": 0.2,  # the listing's 9,600 over 48,000
        "loan_term_months": 24,
        "loan_interest_rate": 0.15,
        "loan_for_business": 1,
    }
    assert set(expected) == {feature.name for feature in block_features("credit_record")}
    assert_features(found["listing", AS_OF], expected)


def test_credit_record_counted_where_nothing_is_reported(found):
    assert_features(
        found["counted", AS_OF],
        {
            "bureau_score": None,
            "months_since_delinquency": None,
            "delinquencies_24m": 2,  # 60 days on the card, 35 on the car
            "inquiries_6m": 2,
            "open_lines": 3,
            "total_lines": 4,
            "credit_history_months": 168,  # the closed card of 2010
            "revolving_balance": 400,
            "revolving_utilisation": 0.25,  # 400 of 1,600
            "past_due_amount": 100,
            "loan_amount_to_income": None,  # no borrower record, no income
            "loan_term_months": 12,  # now the row is about the live loan
            "loan_interest_rate": 0.12,
            "loan_for_business": None,  # nobody has said what it is for
        },
    )


def account(month: str, **values: object) -> dict[str, object]:
    """One account month, known on the fifth of the next one."""
    year, number = int(month[:4]), int(month[5:])
    following = f"{year + number // 12}-{number % 12 + 1:02d}-05"
    return {"month": f"{month}-01", "known_from": following, **values}


# On 5 July 2024 June is known. Three of the last twelve months are not: August to October 2023.
ACCOUNTS = [
    account("2024-06", card_spend=300, cash_advances=0, deposits=2000, withdrawals=100, balance_min=-50,
            balance_mean=500, balance_end=450, overdraft_days=2, transactions=40, utilisation=0.6, salary_in=1800),
    account("2024-05", card_spend=200, cash_advances=100, deposits=1000, withdrawals=200, balance_min=10,
            balance_mean=400, balance_end=350, overdraft_days=0, transactions=30, utilisation=0.5, salary_in=1000),
    account("2024-04", card_spend=100, cash_advances=0, deposits=3000, withdrawals=300, balance_min=20,
            balance_mean=300, balance_end=250, overdraft_days=0, transactions=20, utilisation=0.4, salary_in=2600),
    account("2024-03", card_spend=100, cash_advances=50, deposits=2000, withdrawals=0, balance_min=30,
            balance_mean=300, balance_end=1, overdraft_days=0, transactions=20, utilisation=0.4, salary_in=1800),
    account("2024-02", card_spend=200, cash_advances=0, deposits=2000, withdrawals=400, balance_min=40,
            balance_mean=400, balance_end=1, overdraft_days=0, transactions=30, utilisation=0.5, salary_in=1800),
    account("2024-01", card_spend=300, cash_advances=0, deposits=2000, withdrawals=200, balance_min=50,
            balance_mean=500, balance_end=1, overdraft_days=5, transactions=40, utilisation=0.6, salary_in=1800),
    account("2023-12", card_spend=600, cash_advances=0, deposits=1500, withdrawals=300, balance_min=-80,
            balance_mean=1000, balance_end=1, overdraft_days=31, transactions=10, utilisation=0.9, salary_in=None),
    account("2023-11", card_spend=600, cash_advances=10, deposits=1500, withdrawals=300, balance_min=60,
            balance_mean=1000, balance_end=1, overdraft_days=0, transactions=10, utilisation=0.1, salary_in=None),
    account("2023-07", card_spend=300, cash_advances=0, deposits=3000, withdrawals=0, balance_min=70,
            balance_mean=100, balance_end=1, overdraft_days=0, transactions=7, utilisation=0.1, salary_in=3600),
    # Thirteen months ago: outside every window.
    account("2023-06", card_spend=9999, cash_advances=9999, deposits=9999, withdrawals=9999, balance_min=-9999,
            balance_mean=9999, balance_end=9999, overdraft_days=30, transactions=999, utilisation=9, salary_in=9999),
]


def test_behavior(found):
    spend = [300, 200, 100, 100, 200, 300, 600, 600, 300]  # mean 300, squares off it 0, 1, 4, 4, 1, 0, 9, 9, 0 times 10^4
    assert sum(spend) == 2700
    balances = [500, 400, 300, 300, 400, 500, 1000, 1000, 100]  # mean 500; squares 0, 1, 4, 4, 1, 0, 25, 25, 16 times 10^4
    assert sum(balances) == 4500
    # The last six months go down and up again around their middle: no slope. Deposits are 1 up, 1 down, for t = -3 and
    # -2 against -1: the slope is sum (t - mean t) * y / 17.5 with t - mean t = 2.5, 1.5, 0.5, -0.5, ....
    deposits_slope = (2.5 * 2000 + 1.5 * 1000 + 0.5 * 3000 - 0.5 * 2000 - 1.5 * 2000 - 2.5 * 2000) / 17.5
    expected = {
        "card_spend_mean_3m": 200,
        "card_spend_mean_12m": 300,
        "card_spend_trend_6m": 0,
        "card_spend_volatility_12m": math.sqrt(280000 / 8) / 300,
        "cash_advance_mean_3m": 100 / 3,
        "cash_advance_share_6m": 150 / 1350,
        "cash_advance_months_12m": 3,
        "deposit_mean_3m": 2000,
        "deposit_mean_12m": 2000,
        "deposit_trend_6m": deposits_slope / 2000,
        "withdrawal_mean_3m": 200,
        "withdrawal_mean_12m": 200,
        "withdrawal_to_deposit_6m": 1200 / 12000,
        "balance_mean_3m": 400,
        "balance_mean_12m": 500,
        "balance_min_3m": -50,
        "balance_min_12m": -80,
        "balance_end_last": 450,
        "balance_trend_6m": 0,
        "balance_volatility_12m": math.sqrt(760000 / 8),
        "overdraft_days_3m": 2,
        "overdraft_days_12m": 38,
        "overdraft_months_12m": 3,
        "transactions_mean_3m": 30,
        "transactions_trend_6m": 0,
        "utilisation_last": 0.6,
        "utilisation_mean_6m": 0.5,
        "utilisation_max_12m": 0.9,
        "utilisation_trend_6m": 0,
        "balance_to_spend_3m": 1,  # 400 over 200 spent and 200 withdrawn
        "months_observed_12m": 9,
    }
    assert set(expected) == {feature.name for feature in block_features("behavior")}
    assert_features(found["b1", "2024-07-05"], expected)


# 100, 140, 200 in months 5, 3 and 2 before: t = -5, -3, -2 with mean -10/3; sum t'y = (-5*100 + 1*140 + 4*200)/3 =
# 440/3, sum t'^2 = (25 + 1 + 16)/9 = 14/3: a slope of 220/7.
GAPS = [
    account("2024-02", card_spend=100, utilisation=0.1),
    account("2024-04", card_spend=140),
    account("2024-05", card_spend=200),
]


def test_slopes_over_the_known_months_only(found):
    assert_features(
        found["gaps", "2024-07-05"],
        {
            "card_spend_trend_6m": 220 / 7 / (440 / 3),
            "utilisation_trend_6m": None,  # one month has no slope
            "utilisation_last": 0.1,  # the last month that tells it
            "card_spend_mean_3m": 170,
            "cash_advance_months_12m": None,  # no month tells cash advances: unknown, not 0
            "cash_advance_share_6m": None,
            "deposit_trend_6m": None,
            "balance_to_spend_3m": None,
            "months_observed_12m": 3,
        },
    )


IDLE = [
    account(month, card_spend=0, cash_advances=0, deposits=0, withdrawals=0, balance_mean=10) for month in ("2024-05", "2024-06")
]


def test_nothing_spent_has_no_ratio(found):
    ratios = ("card_spend_trend_6m", "card_spend_volatility_12m", "cash_advance_share_6m", "deposit_trend_6m",
              "withdrawal_to_deposit_6m", "balance_to_spend_3m")
    assert_features(
        found["idle", "2024-07-05"], dict.fromkeys(ratios) | {"cash_advance_months_12m": 0, "balance_trend_6m": 0}
    )


# June is complete on 30 June, and known that very evening.
EVENING = [{"month": "2024-06-01", "card_spend": 7, "known_from": "2024-06-30"}]


def test_a_month_counts_from_its_last_day_on_if_known(found):
    assert found["evening", AS_OF]["card_spend_mean_3m"] == 7
    assert found["evening", "2024-06-29"]["card_spend_mean_3m"] is None


def test_as_many_months_count_at_a_months_end_as_in_its_course(silver, spine):
    # Each month is told of on the fourth day of the next.
    months = [f"{year}-{month:02}-01" for year in (2023, 2024) for month in range(1, 13)]
    accounts = [
        {"month": month, "overdraft_days": 1, "known_from": after[:8] + "04"} for month, after in itertools.pairwise(months)
    ]
    days = ("2024-06-30", "2024-07-03", "2024-07-04", "2024-07-15")
    tables = silver(borrower=BORROWERS, account_month=accounts)
    frame = with_features(spine(*(("b1", day, "l1") for day in days)), narrowed(tables, date(2024, 6, 30), date(2024, 7, 15)), 4)
    counted = {str(row.as_of_date): (row.overdraft_days_3m, row.overdraft_days_12m) for row in frame.collect()}
    assert counted == dict.fromkeys(days, (3.0, 12.0))
    # Without the lag the newest month is missing until it is told of.
    plain = with_features(spine(("b1", "2024-07-03", "l1")), tables).first()
    assert (plain.overdraft_days_3m, plain.overdraft_days_12m) == (2.0, 11.0)


def installment(loan: str, number: int, due: str, **values: object) -> dict[str, object]:
    """One instalment, known from its due day on unless said otherwise."""
    return {"loan_id": loan, "installment_no": number, "due_on": due, "known_from": due, **values}


REPAYMENTS = [
    # l2, repaid in 2023: the last instalment came 50 days late, on 30 August 2023.
    installment("l2", 1, "2023-06-10", paid_on="2023-06-10", paid_amount=100),  # more than 12 months ago
    installment("l2", 2, "2023-07-11"),
    installment("l2", 2, "2023-07-11", days_past_due=30, known_from="2023-08-10"),
    installment("l2", 2, "2023-07-11", paid_on="2023-08-30", paid_amount=100, known_from="2023-08-30"),
    # l1, live: on time, five days late, part of it paid, and not paid for 20 days.
    installment("l1", 1, "2024-03-10", paid_on="2024-03-10", paid_amount=100),
    installment("l1", 2, "2024-04-10", paid_on="2024-04-15", paid_amount=100, known_from="2024-04-15"),
    installment("l1", 3, "2024-05-10", paid_on="2024-05-10", paid_amount=40),
    installment("l1", 3, "2024-05-10", paid_on="2024-05-10", paid_amount=40, days_past_due=30, known_from="2024-06-09"),
    installment("l1", 4, "2024-06-10"),
    installment("l1", 5, "2024-07-10", known_from="2024-06-15"),  # due after the as-of date
]


def test_timeseries(found):
    # May is the last month known on 30 June: salaries 1000, 2600, 1800, 1800, 1800 from May back to January.
    slope = (2 * 1000 + 1 * 2600 + 0 * 1800 - 1 * 1800 - 2 * 1800) / 10
    expected = {
        "paid_to_due_3m": 140 / 300,  # due on 10 April, May and June
        "paid_to_due_12m": 340 / 500,
        "days_past_due_last": 50,  # 20 on l1, 50 on l2
        "days_past_due_max_6m": 30,  # what is left of May's
        "days_past_due_max_12m": 50,
        "late_installments_12m": 2,
        "months_since_late": 1,  # the instalment of May, whose last payment was on 10 May
        "installments_paid": 3,
        "installment_to_income_3m": 100 / 1800,  # April and May: 2600 and 1000
        "income_mean_6m": 1800,
        "income_trend_6m": slope / 1800,
        # 3,600 in July 2023 beside them: mean 2,100, six months.
        "income_volatility_12m": math.sqrt((1100**2 + 500**2 + 3 * 300**2 + 1500**2) / 5) / 2100,
    }
    assert set(expected) == {feature.name for feature in block_features("timeseries")}
    assert_features(found["b1", AS_OF], expected)


def test_a_source_without_a_block_has_nulls_there(found):
    bare = found["bare", AS_OF]
    for block in ("behavior", "timeseries"):
        assert {bare[feature.name] for feature in block_features(block)} == {None}
    known = {feature.name for feature in block_features("credit_record") if bare[feature.name] is not None}
    assert known == {"live_loans", "platform_debt", "loan_amount_to_income", "loan_term_months", "loan_interest_rate"}


LATER = {
    "borrower": [BORROWERS[0] | {"main_income": 1, "gender": "male", "known_from": "2024-07-01"}],
    "loan": [LOANS[0] | {"interest_rate": 0.01, "known_from": "2024-07-01"},
             {"loan_id": "l9", "amount": 7, "listed_on": "2024-06-01", "originated_on": "2024-06-02", "known_from": "2024-07-01"}],
    "credit_report": [REPORTS[0] | {"score_low": 1, "score_high": 1, "reported_on": "2024-06-01", "known_from": "2024-07-01"}],
    "credit_line": [LINES[1] | {"balance": 1, "known_from": "2024-07-01"}],
    "credit_inquiry": [{"inquired_on": "2024-06-02", "known_from": "2024-07-01"}],
    # A late correction of a month long known, and a month that had been missing.
    "account_month": [ACCOUNTS[1] | {"card_spend": 1, "known_from": "2024-07-01"},
                      {"month": "2023-09-01", "card_spend": 1, "known_from": "2024-07-01"}],
    "repayment": [REPAYMENTS[4] | {"paid_on": "2024-04-10", "days_past_due": 99, "known_from": "2024-07-01"}],
}


def test_rows_known_later_change_nothing(silver, spine):
    today = {"borrower": BORROWERS, "loan": LOANS, "credit_report": REPORTS, "credit_line": LINES,
             "credit_inquiry": INQUIRIES, "account_month": ACCOUNTS, "repayment": REPAYMENTS}
    tomorrow = {name: [*rows, *LATER[name]] for name, rows in today.items()}
    row = spine(("b1", AS_OF, "l1"))
    before = with_features(row, silver(**today)).collect()
    assert with_features(row, silver(**tomorrow)).collect() == before
    # On the day they become known they do change it: the test would see a leak.
    (after,) = with_features(spine(("b1", "2024-07-01", "l1")), silver(**tomorrow)).collect()
    changed = {"main_income", "is_female", "bureau_score", "loan_interest_rate", "live_loans", "card_spend_mean_12m", "days_past_due_max_12m"}
    assert not [name for name in changed if after[name] == before[0][name]]
