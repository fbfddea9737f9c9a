"""All 80 features of a spine, and the four blocks that they are kept in."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from conf.features import BLOCKS, FEATURES, Block, block_features
from features.behavior import behavior, build_account_totals
from features.credit_record import build_inquiry_totals, build_line_totals, build_loan_totals, credit_record
from features.demographic import demographic, with_region_median
from features.point_in_time import (
    SPINE_KEY,
    with_known_until,
    with_newest_until,
    with_row_as_known,
    with_totals,
)
from features.timeseries import build_installment_totals, income, timeseries


def formulas() -> dict[str, Column]:
    """The formula of every feature over the structs that ``with_features`` joins to the spine.

    The behaviour block is aggregated already (``features.behavior``), so its formulas only name the aggregates.
    """
    account_totals = {name: F.col(f"accounts.{name}") for name in behavior()}
    return demographic() | credit_record() | account_totals | timeseries()


def with_features(spine: DataFrame, silver: Mapping[str, DataFrame], account_month_lag_days: int = 0) -> DataFrame:
    """The spine with its 80 features, doubles, each null where nothing is known.

    spine: one row per (borrower_id, as_of_date), with loan_id, the listing or loan that the row is about. silver: the
    tables borrower, credit_report, credit_line, credit_inquiry, account_month, loan and repayment by name; a source
    that lacks one gives an empty frame. Only rows with known_from <= as_of_date count, each in the version known then.
    account_month_lag_days is the source's, see ``conf.source``.
    """
    keys = spine.select(*SPINE_KEY, "loan_id")
    borrower = with_known_until(silver["borrower"], "borrower_id")
    report = with_newest_until(silver["credit_report"], order="reported_on")
    lines = with_known_until(silver["credit_line"], "line_id")
    loan = with_known_until(silver["loan"], "loan_id")
    repayment = with_known_until(silver["repayment"], "loan_id", "installment_no")
    account_month = with_known_until(silver["account_month"], "month")

    owed = with_totals(keys, build_loan_totals(keys, loan), "loans")
    known = with_row_as_known(spine, borrower, "borrower")
    known = with_region_median(known, borrower)
    known = with_row_as_known(known, report, "report")
    known = with_totals(known, build_line_totals(keys, lines), "lines")
    known = with_totals(known, build_inquiry_totals(keys, silver["credit_inquiry"]), "inquiries")
    known = known.join(owed.drop("loan_id"), on=list(SPINE_KEY), how="left")
    known = with_totals(known, build_account_totals(keys, account_month, behavior() | income(), account_month_lag_days), "accounts")
    known = with_totals(known, build_installment_totals(owed, repayment), "installments")
    formula = formulas()
    return known.select(
        *spine.columns, *[formula[feature.name].cast("double").alias(feature.name) for feature in FEATURES]
    )


def split_blocks(frame: DataFrame) -> dict[Block, DataFrame]:
    """A frame with all features, block by block: borrower_id, as_of_date and the block's columns."""
    return {
        block: frame.select(*SPINE_KEY, *[feature.name for feature in block_features(block)]) for block in BLOCKS
    }


def build_features(spine: DataFrame, silver: Mapping[str, DataFrame]) -> dict[Block, DataFrame]:
    """The four feature blocks of a spine; see ``with_features``."""
    return split_blocks(with_features(spine, silver))
