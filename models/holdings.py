"""What orders own of the loans that earlier nights gave them, as known on a day. Spark."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from models.as_known import newest_known

# What a holding may be; only the first two are still at work.
COMMITTED, PERFORMING, REPAID, DEFAULTED, RETURNED = "committed", "performing", "repaid", "defaulted", "returned"


def principal_share(interest_rate: Column, term_months: Column, installment_no: Column) -> Column:
    """The part of a loan that a level instalment repays: r (1 + r)^(k - 1) / ((1 + r)^n - 1) for the k-th of n, with r
    the yearly rate over 12; 1 / n at rate 0. What comes after the term repays none by schedule."""
    monthly = interest_rate / 12
    of_annuity = monthly * F.pow(1 + monthly, installment_no - 1) / F.nullif(F.pow(1 + monthly, term_months) - 1, F.lit(0.0))
    return F.when(installment_no > term_months, 0.0).otherwise(F.when(monthly == 0, 1 / term_months).otherwise(of_annuity))


def build_repaid_shares(loan: DataFrame, repayment: DataFrame, as_of_date: date) -> DataFrame:
    """How much of each loan has been repaid by the as-of date, as known by then.

    loan: one row per loan_id, with interest_rate, term_months and lent (amount that was lent). One row per loan of it with
    an instalment: repaid_share (a fraction; what was paid of an instalment repays as much of its principal_share, what was
    paid beyond it repays principal only) and worst_days_past_due (of all instalments, ever).
    """
    due, paid = F.col("newest.due_amount").cast("double"), F.col("newest.paid_amount").cast("double")
    met = F.when(due > 0, F.least(paid / due, F.lit(1.0))).otherwise(0.0)
    scheduled = met * principal_share(F.col("interest_rate"), F.col("term_months"), F.col("installment_no"))
    ahead = F.when(F.col("installment_no") > F.col("term_months"), paid).otherwise(F.greatest(paid - due, F.lit(0.0)))
    share = scheduled + ahead / F.col("lent").cast("double")
    return (
        repayment.where(F.col("known_from") <= F.lit(as_of_date))
        .join(loan.select("loan_id", "interest_rate", "term_months", "lent"), on="loan_id", how="inner")
        .groupBy("loan_id", "installment_no", "interest_rate", "term_months", "lent")
        .agg(F.max_by(F.struct("due_amount", "paid_amount"), "known_from").alias("newest"), F.max("days_past_due").alias("worst"))
        .groupBy("loan_id")
        # Sums of doubles depend on their order; whole billionths do not.
        .agg(
            F.least(F.sum((share * 1e9).cast("bigint")) / 1e9, F.lit(1.0)).alias("repaid_share"),
            F.max("worst").alias("worst_days_past_due"),
        )
    )


def build_holding(
    allocation: DataFrame,
    investor_order: DataFrame,
    loan: DataFrame,
    repayment: DataFrame,
    score: DataFrame,
    population: DataFrame,
    as_of_date: date,
    *,
    default_days: int,
) -> DataFrame:
    """What each order owns of each loan that it was ever given: gold.holding but as_of_date and batch_id.

    allocation: of the nights that count. A listing that is still open holds all that was committed to it, one that was
    withdrawn gives it back. A loan holds what has not been repaid; one that is default_days past due, has been or was
    charged off holds nothing, and what was not repaid of it (recoveries count as repaid) is lost. score and population hold
    the as-of date; party and risk group are tonight's where the borrower has one, else those of the purchase.
    """
    bought = allocation.groupBy("order_id", "loan_id").agg(
        F.sum("amount").alias("amount"),
        F.max_by(F.struct("borrower_id", "identity_group_id", "risk_group", "currency"), "as_of_date").alias("last"),
        (F.sum(F.col("amount").cast("double") * F.col("expected_net_return")) / F.sum("amount").cast("double")).alias("net"),
    )
    newest = (
        newest_known(
            loan.join(bought.select("loan_id").distinct(), on="loan_id", how="left_semi"), as_of_date, ["loan_id"],
            ["status", "amount", "funded_amount", "interest_rate", "term_months"],
        )
        .select(
            "loan_id", F.col("status").alias("loan_status"), "interest_rate", "term_months",
            F.when(F.col("funded_amount") > 0, F.col("funded_amount")).otherwise(F.col("amount")).alias("lent"),
        )
    )
    repaid = build_repaid_shares(newest, repayment, as_of_date)
    is_lost = (F.col("loan_status") == "charged_off") | (
        (F.col("loan_status") == "current") & (F.col("worst_days_past_due") >= default_days)
    )
    status = (
        F.when(F.col("loan_status") == "listed", COMMITTED).when(F.col("loan_status") == "withdrawn", RETURNED)
        .when(is_lost, DEFAULTED).when(F.col("loan_status") == "paid", REPAID)
        .when(F.col("loan_status") == "current", PERFORMING)
    )
    back = (
        F.when(F.col("status").isin(RETURNED, REPAID), F.col("amount")).when(F.col("status") == COMMITTED, F.lit(0))
        .otherwise((F.col("amount").cast("double") * F.coalesce("repaid_share", F.lit(0.0))).cast("decimal(18,2)"))
        .cast("decimal(18,2)")
    )
    left, nothing = F.col("amount") - F.col("principal_back"), F.lit(0).cast("decimal(18,2)")
    investors = newest_known(investor_order, as_of_date, ["order_id"], ["investor_id"])
    party = population.select("borrower_id", F.col("identity_group_id").alias("party_tonight"))
    group = score.select("borrower_id", F.col("risk_group").alias("risk_group_tonight"))
    return (
        bought.join(newest, on="loan_id", how="left").join(repaid, on="loan_id", how="left")
        .join(investors, on="order_id", how="left")
        .select("*", F.col("last.borrower_id").alias("borrower_id"))
        .join(party, on="borrower_id", how="left").join(group, on="borrower_id", how="left")
        .withColumn("status", status)
        .withColumn("principal_back", back)
        .select(
            "order_id", "loan_id", "investor_id", "borrower_id",
            F.coalesce("party_tonight", "last.identity_group_id").alias("identity_group_id"),
            F.coalesce("risk_group_tonight", "last.risk_group").alias("risk_group"),
            "amount", "principal_back",
            F.when(F.col("status").isin(COMMITTED, PERFORMING), left).otherwise(nothing).alias("principal_outstanding"),
            F.when(F.col("status") == DEFAULTED, left).otherwise(nothing).alias("principal_lost"),
            "status", F.round("net", 10).alias("expected_net_return"), F.col("last.currency").alias("currency"),
        )
    )
