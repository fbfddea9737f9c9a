"""Open listings with their borrower's score, and their value over the whole term. Spark around NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from models.as_known import newest_known
from models.hazard import Hazard
from models.recovery import lump
from models.valuation import value_loans

# Published doubles are rounded here: the last bits of a sum depend on how rows fall into batches.
DECIMALS = 10
_VALUED = (
    "loan_id string, borrower_id string, identity_group_id string, risk_group int, grade string, prob_default double, "
    "prob_default_lifetime double, loss_given_default double, interest_rate double, term_months int, "
    "remaining_amount decimal(18,2), expected_loss double, expected_net_return double, duration_years double, "
    "currency string"
)


@dataclass(frozen=True)
class Terms:
    """What all listings of a market have in common. horizon_months: of the score, None for the whole term. recovery_rate and
    recovery_lag_months hold where the hazard knows of no recoveries."""

    horizon_months: int | None
    recovery_rate: float
    recovery_lag_months: int
    platform_fee_rate: float


def build_open_listings(loan: DataFrame, as_of_date: date, holding: DataFrame | None = None) -> DataFrame:
    """Listings that take money on the as-of date, as known by then.

    One row per loan_id: borrower_id, grade, interest_rate, term_months, within_policy, remaining_amount (more than 0)
    and currency. remaining_amount is what neither others (funded_amount) nor earlier orders of our own have taken:
    principal_outstanding of holding, None where nothing is held.
    """
    columns = [column for column in loan.columns if column != "loan_id"]
    listed = (
        newest_known(loan, as_of_date, ["loan_id"], columns)
        .where((F.col("status") == "listed") & (F.col("listed_on") <= F.lit(as_of_date)))
        .withColumn("remaining_amount", (F.col("amount") - F.col("funded_amount")).cast("decimal(18,2)"))
    )
    if holding is not None:
        ours = holding.groupBy("loan_id").agg(F.sum("principal_outstanding").alias("ours"))
        remaining = F.col("remaining_amount") - F.coalesce("ours", F.lit(0))
        listed = listed.join(ours, on="loan_id", how="left").withColumn("remaining_amount", remaining.cast("decimal(18,2)"))
    return (
        listed.where(F.col("remaining_amount") > 0)
        .select(
            "loan_id", "borrower_id", "grade", "interest_rate", "term_months", "within_policy", "remaining_amount",
            "currency",
        )
    )


def with_score(listing: DataFrame, score: DataFrame, population: DataFrame) -> DataFrame:
    """Adds prob_default, risk_group and identity_group_id of the listing's borrower; null where there is no score.

    score and population hold one as-of date, one row per borrower_id.
    """
    scored = score.select("borrower_id", "prob_default", "risk_group")
    party = population.select("borrower_id", "identity_group_id")
    return listing.join(scored.join(party, on="borrower_id", how="inner"), on="borrower_id", how="left")


def is_eligible() -> Column:
    """Whether a scored listing is valued and offered: within the platform's policy, of a scored borrower."""
    return F.col("within_policy") & F.col("prob_default").isNotNull()


def build_valuation(listing: DataFrame, hazard: Hazard, terms: Terms) -> DataFrame:
    """The eligible listings, valued in Arrow batches.

    One row per loan_id, with the columns of loan_valuation but as_of_date and batch_id. The borrower's probability of
    default, on any obligation, is taken as this loan's.
    """
    curves = hazard.to_json()

    def valued(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        fitted = Hazard.from_json(curves)
        for batch in batches:
            yield value_batch(batch, fitted, terms)

    columns = (
        "loan_id", "borrower_id", "identity_group_id", "risk_group", "grade", "prob_default", "interest_rate",
        "term_months", "remaining_amount", "currency",
    )
    return listing.where(is_eligible()).select(*columns).mapInPandas(valued, _VALUED)


def value_batch(batch: pd.DataFrame, hazard: Hazard, terms: Terms) -> pd.DataFrame:
    """One batch of listings with their values."""
    rate, term = batch["interest_rate"].to_numpy(float), batch["term_months"].to_numpy(int)
    new = np.zeros(len(batch), dtype=int)
    group = batch["risk_group"].to_numpy(int)
    stated = lump(terms.recovery_rate, terms.recovery_lag_months)
    recoveries = stated if hazard.recoveries is None else hazard.recoveries
    value = value_loans(
        rate,
        term,
        hazard.default_curve(batch["prob_default"].to_numpy(float), terms.horizon_months, new, term, group),
        hazard.baseline(new, term, group)[1],
        recoveries=recoveries,
        platform_fee_rate=terms.platform_fee_rate,
    )
    found = batch.assign(
        prob_default_lifetime=value.prob_default_lifetime,
        loss_given_default=round(1 - recoveries.sum(), DECIMALS),
        expected_loss=value.expected_loss,
        expected_net_return=value.expected_net_return,
        duration_years=value.duration_years,
    )
    rounded = ["prob_default_lifetime", "expected_loss", "expected_net_return", "duration_years"]
    found[rounded] = found[rounded].round(DECIMALS)
    return found[[part.split()[0] for part in _VALUED.split(", ")]]
