"""Scores and values a market's past listings as it would have done on their day, beside what they really paid.

Walks forward as ``spark_jobs.evaluate`` does: models and hazard anew for each quarter, from what was known on its eve. Needs
the training night of the as-of date, which is the last day whose knowledge tells outcomes. ``models.backtest`` invests in what
this job writes.

Realised cash flows are silver's repayments as told last. LendingClub tells totals and dates only, so that its instalments
are rebuilt (features.repayment_history): level instalments from the first month on, what is left of the total in the month of
the last payment, and recoveries, less the fee for collecting them, on the day of the charge-off. Amounts are exact to the
cent; months are where a loan paid early in parts, or late, not its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import OutOfTime, load_source
from conf.tables import LOAN, REPAYMENT
from features.training_set import month_end, months_between
from models.as_known import newest_known
from models.credit_model import CreditModel
from models.hazard import NoHistory, event_month
from models.open_listings import Terms, build_open_listings, build_valuation, with_score
from models.realised_cash import build_received, cash_matrix, listed_cash, principal_lost
from spark_jobs.allocate import bounded, caps_of, terms_of
from spark_jobs.evaluate import MAX_ROWS, Step, origin, walked
from spark_jobs.lake import Lake
from spark_jobs.manifest import current_night
from spark_jobs.silver import read_silver
from spark_jobs.train_credit import fit_lifetime

MAX_PAYMENTS = 20_000_000
"""Of all loans, a row per month in which one has paid."""
LISTED = (
    "month", "loan_id", "identity_group_id", "risk_group", "amount", "interest_rate", "term_months", "grade", "prob_default",
    "prob_default_lifetime", "expected_loss", "expected_net_return", "duration_years", "is_default", "cash", "principal_lost",
)
CAPS = ("month", "risk_group", "cap", "base_cap", "market_stress", "basis", "default_level", "asset_correlation")


class NoWalkForward(ValueError):
    """No listing can be scored as of the past."""


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Write listings.parquet, risk_caps.parquet and quarters.json into ``reports/backtest`` of this market.

    listings: one row per loan whose listing was open at a month's end, within policy and scored; see LISTED. month: the first
    day of the month after. amount: what was lent; cash: per unit of it, after the platform's fee, a list whose first element
    is one month after origination. risk_caps: one row per month and risk group, from indicators known on the month's eve;
    base_cap is the static one, default_level how many times the listings' hazard of default scenarios see, asset_correlation what
    defaults known then say. Months since the first listing that no model
    could value are among them, with what is stated. quarters: those that were scored, and those left
    out, each with why. Raises NoOpenNight, NoWalkForward and TooManyRows.
    """
    lake, source = Lake(spark, settings), load_source(settings.source)
    if settings.product == "company" or not isinstance(source.evaluation, OutOfTime) or source.evaluation.walk_forward_from is None:
        raise NoWalkForward(f"{source.line('evaluation')}: a backtest needs loans and the protocol out_of_time with walk_forward_from")
    night = current_night(settings, as_of_date, training=True)
    silver = read_silver(lake, night.silver_versions)
    received = bounded(build_received(silver[LOAN.name], silver[REPAYMENT.name], as_of_date), MAX_PAYMENTS, "payments").to_pandas()
    listings, caps, quarters, left_out = [], [], [], {}
    for step in walked(silver, source, settings, as_of_date, origin(settings, source, night)):
        quarter, eve = step.period.quarter, step.period.trained_on
        if step.fitted is None:
            left_out[quarter] = step.left_out
            continue
        model, report = step.fitted
        try:
            model = replace(model, hazard=fit_lifetime(silver, source, settings, eve, report.placed))
        except NoHistory as problem:
            left_out[quarter] = str(problem)
            continue
        valued = value_listings(step, model, silver, settings, terms_of(settings, source), as_of_date)
        listings.append(with_realised(valued, received, settings.allocation.platform_fee_rate))
        for day in sorted(set(valued["as_of_date"])):
            caps.append(caps_of(lake, replace(night, as_of_date=day), source, model.hazard).assign(month=month_after(day)))
        quarters.append({
            "period": quarter, "trained_on": str(eve), "training_rows": report.rows, "training_defaults": report.defaults,
            "listings": len(valued),
        })
        print(f"{settings.source}: {quarter}: {len(valued)} listings valued", flush=True)
    if not listings:
        raise NoWalkForward(f"no quarter of {settings.source} can be scored: {left_out}")
    first_listed, valued_on = silver[LOAN.name].agg(F.min("listed_on")).first()[0], {day for rows in listings for day in rows["as_of_date"]}
    for day in month_ends(first_listed, max(valued_on)):
        if day not in valued_on:
            caps.append(caps_of(lake, replace(night, as_of_date=day), source, None).assign(month=month_after(day)))
    folder = settings.market / "reports" / "backtest"
    folder.mkdir(parents=True, exist_ok=True)
    pd.concat(listings, ignore_index=True)[list(LISTED)].to_parquet(folder / "listings.parquet", index=False)
    pd.concat(caps, ignore_index=True)[list(CAPS)].to_parquet(folder / "risk_caps.parquet", index=False)
    told = {"known_on": as_of_date.isoformat(), "quarters": quarters, "left_out": left_out}
    (folder / "quarters.json").write_text(json.dumps(told, indent=1))
    print(json.dumps(told, indent=1))


def month_ends(first: date, until: date) -> list[date]:
    """The last days of the months from first's to the one before until's."""
    return [month_end(first, months) for months in range(months_between(first, until))]


def month_after(day: date) -> date:
    """The first day of the month after a day's."""
    return month_end(day, 0) + timedelta(days=1)


def value_listings(
    step: Step, model: CreditModel, silver: Mapping[str, DataFrame], settings: Settings, terms: Terms, known_on: date
) -> pd.DataFrame:
    """The listings open at the month ends of a step's period, valued on that day by its model; sorted by as_of_date, loan_id.

    One row per loan: the columns of loan_valuation but batch_id, with is_default, default_month (on book, null without one)
    and amount (what was lent in the end), these as known on known_on.
    """
    scored = model.score(step.split.test, settings.scores).where("standing = 'applicant'").persist()
    loan = silver[LOAN.name]
    lent = (
        newest_known(loan.where("originated_on IS NOT NULL"), known_on, ["loan_id"], ["originated_on", "funded_amount"])
        .withColumnRenamed("funded_amount", "amount")
    )
    of_days = []
    for day in sorted(row["as_of_date"] for row in scored.select("as_of_date").distinct().collect()):
        of_day = scored.where(F.col("as_of_date") == F.lit(day))
        listing = with_score(build_open_listings(loan, day), of_day, of_day)
        outcome = of_day.select("loan_id", "as_of_date", "is_default", "default_on")
        found = build_valuation(listing, model.hazard, terms).join(outcome, on="loan_id", how="inner").join(lent, on="loan_id", how="inner")
        month = event_month(F.col("default_on"), F.lit(MAX_ROWS))
        of_days.append(
            bounded(
                found.withColumn("default_month", month.cast("double")).withColumn("amount", F.col("amount").cast("double"))
                .drop("default_on", "originated_on", "remaining_amount"),
                MAX_ROWS, "listings",
            ).to_pandas()
        )
    scored.unpersist()
    return pd.concat(of_days).sort_values(["as_of_date", "loan_id"], ignore_index=True)


def with_realised(valued: pd.DataFrame, received: pd.DataFrame, platform_fee_rate: float) -> pd.DataFrame:
    """Adds month, cash (lists, after the platform's fee, up to the last payment) and principal_lost."""
    paid = cash_matrix(received, valued["loan_id"], valued["amount"].to_numpy())
    default_month = valued["default_month"].to_numpy(float)
    return valued.assign(
        month=[month_after(day) for day in valued["as_of_date"]],
        cash=listed_cash(paid * (1 - platform_fee_rate)),
        principal_lost=principal_lost(paid, valued["interest_rate"].to_numpy(), default_month),
    )
