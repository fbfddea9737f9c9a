"""The 80 features, each declared once: 14 demographic, 23 credit record, 31 behaviour, 12 monthly time series.

Grain of every feature: one value per (borrower_id, as_of_date), a double, null where nothing is known.
The formulas stand in ``features/<block>.py`` under the same names; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Block = Literal["demographic", "credit_record", "behavior", "timeseries"]
BLOCKS: tuple[Block, ...] = ("demographic", "credit_record", "behavior", "timeseries")


@dataclass(frozen=True)
class Feature:
    """One feature column.

    low and high bound the plausible range, ends included (None: unbounded on that side); the gold gate checks it.
    fill is what a model that needs numbers puts for a null, "median" being that of its training rows; an indicator
    column always stands beside a filled value. shared features are the context that every sub-model sees. raises_risk: 1
    where the field expects more default of a higher value, all else equal, -1 less, 0 where either is plausible; LightGBM
    is held to it.
    """

    name: str
    block: Block
    unit: str
    low: float | None
    high: float | None
    meaning: str
    fill: float | Literal["median"]
    source: str
    shared: bool = False
    raises_risk: Literal[-1, 0, 1] = 0

    @property
    def is_amount(self) -> bool:
        """Whether it is a sum of money, or one a month or a year."""
        return self.unit.startswith("currency")


_BUREAU = "newest bureau report as known, else counted from the borrower's credit lines and inquiries"
_REPORT = "newest bureau report as known"
_LINES = "credit lines as known at the as-of date"
_ACCOUNTS = (
    "account months complete by the as-of date, as known; least squares in closed form over the known months, sample"
    " standard deviations, both from two months on"
)
_REPAYMENTS = "instalments due up to the as-of date, on every loan of the borrower"


def _demographic(name, unit, low, high, meaning, fill, source="borrower record as known", raises_risk=0) -> Feature:
    return Feature(name, "demographic", unit, low, high, meaning, fill, source, shared=True, raises_risk=raises_risk)


def _record(name, unit, low, high, meaning, fill, source, shared=False, raises_risk=0) -> Feature:
    return Feature(name, "credit_record", unit, low, high, meaning, fill, source, shared, raises_risk)


def _behavior(name, unit, low, high, meaning, fill=0.0, shared=False, raises_risk=0) -> Feature:
    return Feature(name, "behavior", unit, low, high, meaning, fill, _ACCOUNTS, shared, raises_risk)


def _timeseries(name, unit, low, high, meaning, fill, source=_REPAYMENTS, shared=False, raises_risk=0) -> Feature:
    return Feature(name, "timeseries", unit, low, high, meaning, fill, source, shared, raises_risk)


FEATURES: tuple[Feature, ...] = (
    # demographic: 14
    _demographic("age_years", "years", 0, 150, "age on the as-of date; persons only", "median"),
    _demographic("is_female", "0 or 1", 0, 1, "gender is female", 0.5),
    _demographic("is_married", "0 or 1", 0, 1, "marital status is married", 0.5),
    _demographic("dependents", "persons", 0, 20, "persons who depend on the borrower", 0.0),
    _demographic("education_level", "level", 0, 4, "0 none, 1 primary, 2 secondary, 3 bachelor, 4 above", "median"),
    _demographic("home_ownership_level", "level", 0, 2, "0 rents, 1 owns with a mortgage, 2 owns outright", "median"),
    _demographic("employment_years", "years", 0, 150, "years since the present employment began", "median"),
    _demographic("is_self_employed", "0 or 1", 0, 1, "occupation is self-employed", 0.0),
    _demographic("main_income", "currency a year", 0, None, "main income", "median", raises_risk=-1),
    _demographic("other_income", "currency a year", 0, None, "other income", 0.0, raises_risk=-1),
    _demographic("total_income_log", "log(1 + currency a year)", 0, None, "logarithm of total income: main and other, no other known counting as none", "median", raises_risk=-1),
    _demographic("income_verified", "0 or 1", 0, 1, "the income has been verified", 0.0),
    _demographic("income_to_region_median", "ratio", 0, None, "total income over the median of the borrower's region", 1.0,
                 "borrower records as known; the median is over those known at the last month end, incomes rounded to three digits", raises_risk=-1),
    _demographic("income_per_head", "currency a year", 0, None, "total income over 1 + dependents, none known counting as none", "median", raises_risk=-1),
    # credit record: 23
    _record("bureau_score", "points", 0, 1000, "credit bureau score, the middle of a reported range", "median", _REPORT, True, raises_risk=-1),
    _record("debt_to_income", "ratio", 0, None, "monthly debt service over monthly income", "median", _REPORT, True, raises_risk=1),
    _record("delinquencies_24m", "count", 0, None, "obligations elsewhere 30 or more days late within 24 months", 0.0, _BUREAU, raises_risk=1),
    _record("months_since_delinquency", "months", 0, None, "months since the last delinquency: as reported, and the months since the report", "median", _REPORT, raises_risk=-1),
    _record("months_since_public_record", "months", 0, None, "months since the last public record: as reported, and the months since the report", "median", _REPORT),
    _record("public_records", "count", 0, None, "public records", 0.0, _REPORT, raises_risk=1),
    _record("inquiries_6m", "count", 0, None, "credit inquiries within 6 months", 0.0, _BUREAU, True, raises_risk=1),
    _record("open_lines", "count", 0, None, "open credit lines", 0.0, _BUREAU),
    _record("total_lines", "count", 0, None, "credit lines ever", 0.0, _BUREAU),
    _record("credit_history_months", "months", 0, None, "months since the oldest line was opened", "median", _BUREAU, True),
    _record("revolving_balance", "currency", 0, None, "balance on open revolving lines", 0.0, _BUREAU, True),
    _record("revolving_utilisation", "ratio", 0, None, "balance over limit on open revolving lines", "median", _BUREAU, True, raises_risk=1),
    _record("total_credit_limit", "currency", 0, None, "limit over all open lines", 0.0, _LINES, True),
    _record("past_due_amount", "currency", 0, None, "amount past due over all lines", 0.0, _BUREAU, raises_risk=1),
    _record("worst_days_past_due_24m", "days", 0, None, "worst days past due on any line within 24 months", 0.0, _LINES, shared=True, raises_risk=1),
    _record("installment_balance", "currency", 0, None, "balance on open lines that do not revolve", 0.0, _LINES),
    _record("newest_line_age_months", "months", 0, None, "months since the newest line was opened", "median", _LINES),
    _record("live_loans", "count", 0, None, "loans of this borrower on the platform that are live", 0.0, "loans as known", shared=True),
    _record("platform_debt", "currency", 0, None, "funded amount of the borrower's live loans less principal due to have been repaid, straight line", 0.0, "loans as known", shared=True),
    _record("loan_amount_to_income", "ratio", 0, None, "amount of the loan or listing that the row is about over total yearly income", "median", "loans as known", True, raises_risk=1),
    _record("loan_term_months", "months", 1, 480, "term of the loan or listing that the row is about", "median", "loans as known", True),
    _record("loan_interest_rate", "fraction a year", 0, 2, "interest rate of the loan or listing that the row is about", "median", "loans as known", True, raises_risk=1),
    _record("loan_for_business", "0 or 1", 0, 1, "the loan or listing that the row is about is for a business", 0.0, "loans as known", True, raises_risk=1),
    # behaviour: 31
    _behavior("card_spend_mean_3m", "currency a month", 0, None, "mean card spend over 3 months", shared=True),
    _behavior("card_spend_mean_12m", "currency a month", 0, None, "mean card spend over 12 months"),
    _behavior("card_spend_trend_6m", "fraction a month", None, None, "least-squares slope of card spend over 6 months, over its mean", shared=True),
    _behavior("card_spend_volatility_12m", "ratio", 0, None, "standard deviation of card spend over 12 months, over its mean", shared=True),
    _behavior("cash_advance_mean_3m", "currency a month", 0, None, "mean cash advances over 3 months"),
    _behavior("cash_advance_share_6m", "fraction", 0, 1, "cash advances over card spend and cash advances, 6 months", 0.0, True, raises_risk=1),
    _behavior("cash_advance_months_12m", "months", 0, 12, "months with a cash advance within 12 months", raises_risk=1),
    _behavior("deposit_mean_3m", "currency a month", 0, None, "mean deposits over 3 months", shared=True),
    _behavior("deposit_mean_12m", "currency a month", 0, None, "mean deposits over 12 months"),
    _behavior("deposit_trend_6m", "fraction a month", None, None, "least-squares slope of deposits over 6 months, over their mean", shared=True),
    _behavior("withdrawal_mean_3m", "currency a month", 0, None, "mean withdrawals over 3 months"),
    _behavior("withdrawal_mean_12m", "currency a month", 0, None, "mean withdrawals over 12 months"),
    _behavior("withdrawal_to_deposit_6m", "ratio", 0, None, "withdrawals over deposits, 6 months", 1.0, True, raises_risk=1),
    _behavior("balance_mean_3m", "currency", None, None, "mean of the monthly mean balance over 3 months", raises_risk=-1),
    _behavior("balance_mean_12m", "currency", None, None, "mean of the monthly mean balance over 12 months", raises_risk=-1),
    _behavior("balance_min_3m", "currency", None, None, "lowest balance within 3 months", shared=True, raises_risk=-1),
    _behavior("balance_min_12m", "currency", None, None, "lowest balance within 12 months", shared=True, raises_risk=-1),
    _behavior("balance_end_last", "currency", None, None, "balance at the end of the last complete month known", shared=True, raises_risk=-1),
    _behavior("balance_trend_6m", "currency a month", None, None, "least-squares slope of the monthly mean balance over 6 months"),
    _behavior("balance_volatility_12m", "currency", 0, None, "standard deviation of the monthly mean balance over 12 months", shared=True),
    _behavior("overdraft_days_3m", "days", 0, 93, "days in overdraft within 3 months", raises_risk=1),
    _behavior("overdraft_days_12m", "days", 0, 372, "days in overdraft within 12 months", 0.0, True, raises_risk=1),
    _behavior("overdraft_months_12m", "months", 0, 12, "months with a day in overdraft within 12 months", raises_risk=1),
    _behavior("transactions_mean_3m", "count a month", 0, None, "mean number of transactions over 3 months", shared=True),
    _behavior("transactions_trend_6m", "fraction a month", None, None, "least-squares slope of transactions over 6 months, over their mean"),
    _behavior("utilisation_last", "ratio", 0, None, "card utilisation in the last complete month known", shared=True, raises_risk=1),
    _behavior("utilisation_mean_6m", "ratio", 0, None, "mean card utilisation over 6 months", 0.0, True, raises_risk=1),
    _behavior("utilisation_max_12m", "ratio", 0, None, "highest card utilisation within 12 months", raises_risk=1),
    _behavior("utilisation_trend_6m", "ratio a month", None, None, "least-squares slope of card utilisation over 6 months"),
    _behavior("balance_to_spend_3m", "months", None, None, "mean balance over mean monthly card spend and withdrawals, 3 months", 0.0, True, raises_risk=-1),
    _behavior("months_observed_12m", "months", 0, 12, "account months known within 12 months; null for none"),
    # monthly time series of repayments and income: 12
    _timeseries("paid_to_due_3m", "ratio", 0, None, "amount paid over amount due, instalments due within 3 months", 1.0, shared=True, raises_risk=-1),
    _timeseries("paid_to_due_12m", "ratio", 0, None, "amount paid over amount due, instalments due within 12 months", 1.0, shared=True, raises_risk=-1),
    _timeseries("days_past_due_last", "days", 0, None, "worst days past due among the last instalment due on each loan", 0.0, shared=True, raises_risk=1),
    _timeseries("days_past_due_max_6m", "days", 0, None, "worst days past due of the instalments due within 6 months", 0.0, shared=True, raises_risk=1),
    _timeseries("days_past_due_max_12m", "days", 0, None, "worst days past due of the instalments due within 12 months", 0.0, raises_risk=1),
    _timeseries("late_installments_12m", "count", 0, None, "instalments due within 12 months that were 30 or more days late", 0.0, shared=True, raises_risk=1),
    _timeseries("months_since_late", "months", 0, None, "months since an instalment was last 30 or more days late", "median", shared=True),
    _timeseries("installments_paid", "count", 0, None, "instalments paid on live loans", 0.0),
    _timeseries("installment_to_income_3m", "ratio", 0, None, "a third of the amount due within 3 months, over monthly income", "median",
                _REPAYMENTS + "; mean salary paid in over 3 months, else stated income", raises_risk=1),
    _timeseries("income_mean_6m", "currency a month", 0, None, "mean salary paid in over 6 months", "median", _ACCOUNTS, raises_risk=-1),
    _timeseries("income_trend_6m", "fraction a month", None, None, "least-squares slope of salary paid in over 6 months, over its mean", 0.0, _ACCOUNTS),
    _timeseries("income_volatility_12m", "ratio", 0, None, "standard deviation of salary paid in over 12 months, over its mean", "median", _ACCOUNTS, raises_risk=1),
)


def block_features(block: Block) -> tuple[Feature, ...]:
    """The features of one block, in their declared order."""
    return tuple(feature for feature in FEATURES if feature.block == block)


def shared_context() -> tuple[Feature, ...]:
    """The features that every sub-model and K-Means see beside their own block."""
    return tuple(feature for feature in FEATURES if feature.shared)
