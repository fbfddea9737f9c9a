"""What the night's allocation would buy for one order, placed or not, and why each listing or why not. Writes nothing."""

from __future__ import annotations

import csv
import sys
from datetime import date
from decimal import Decimal

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from conf.settings import Settings
from conf.source import load_source
from models.allocation import Rules, allocate
from models.open_listings import build_valuation, is_eligible
from models.purchase_reasons import REASONS, purchase_reasons
from models.scenarios import seed_of
from spark_jobs.allocate import (
    MAX_OWNED_PARTIES,
    book_of,
    bounded,
    build_owned_parties,
    caps_of,
    hazard_of,
    holding_of,
    listing_of,
    market_of,
    orders_of,
    owned_of,
    rules_of,
    terms_of,
    with_minor_units,
)
from spark_jobs.lake import Lake
from spark_jobs.manifest import current_night

# What an order that nobody has placed is called.
TRIAL = "dry_run"
_COLUMNS = ("loan_id", "borrower_id", "identity_group_id", "risk_group", "expected_net_return", "expected_loss")
_NOT_OFFERED = {"outside_policy": "outside the platform's policy", "unscored": "its borrower has no score tonight"}


class NoSuchOrder(LookupError):
    """No open order of the as-of date has this id."""


def run(
    spark: SparkSession, settings: Settings, as_of_date: date, order_id: str | None = None, amount: Decimal | None = None,
    target_return: float | None = None,
) -> None:
    """Print a line of CSV for each of tonight's listings, and on standard error what the order would get.

    The order is an open one, beside all others as in the night itself, or one of this amount and target return that joins
    them. The night must be open and scored; allocate need not have run. Raises NoOpenNight, MissingTable, TooManyRows,
    NoSuchOrder, ValueError for an amount that is none, and SolverFailed.
    """
    lake, night, source = Lake(spark, settings), current_night(settings, as_of_date), load_source(settings.source)
    limits, decimals = settings.allocation, settings.night.currency_decimals
    hazard = hazard_of(settings, night)
    holding = holding_of(lake, night, source).persist()
    listing = listing_of(lake, night, holding).persist()
    valuation = with_minor_units(build_valuation(listing, hazard, terms_of(settings, source)), decimals, "remaining_amount")
    listings = bounded(valuation, limits.max_listings, "listings")
    refused = bounded(
        listing.where(~is_eligible()).select("loan_id", "borrower_id", "within_policy"), limits.max_listings, "listings"
    )
    orders = bounded(orders_of(lake, night, holding), limits.max_orders, "orders")
    parties = bounded(build_owned_parties(holding, listing, decimals), MAX_OWNED_PARTIES, "parties that orders own")
    caps = caps_of(lake, night, source, hazard)
    rules = rules_of(settings, caps["cap"], caps["asset_correlation"], caps["default_level"].iloc[0])
    if order_id is None:
        orders, order_id = with_trial(orders, amount, target_return, source.currency, decimals), TRIAL
    if order_id not in (ids := orders["order_id"].to_pylist()):
        raise NoSuchOrder(f"order {order_id} is not open on {as_of_date}: it was not placed by then, was refused, or is closed")
    told = dry_run(ids.index(order_id), orders, listings, parties, refused, rules, seed_of(night.batch_id), decimals)
    csv.writer(sys.stdout).writerows(told[0])
    print(told[1], file=sys.stderr)


def with_trial(
    orders: pa.Table, amount: Decimal | None, target_return: float | None, currency: str, decimals: int
) -> pa.Table:
    """The orders and one called TRIAL, which owns nothing and whose investor has no other.

    Raises ValueError for an amount or target return that an order cannot have.
    """
    if amount is None or target_return is None:
        raise ValueError("name an order, or both an amount and a target return")
    units = amount.scaleb(decimals)
    if units <= 0 or units != units.to_integral_value():
        raise ValueError(f"an amount is positive and has at most {decimals} decimals, not {amount}")
    known = {
        "order_id": TRIAL, "investor_id": TRIAL, "amount": int(units), "currency": currency, "target_return": target_return,
    }
    row = {field.name: [known.get(field.name, 0)] for field in orders.schema}
    return pa.concat_tables([orders, pa.table(row, schema=orders.schema)])


def dry_run(
    order: int, orders: pa.Table, listings: pa.Table, parties: pa.Table, refused: pa.Table, rules: Rules, seed: int, decimals: int
) -> tuple[list[tuple], str]:
    """Rows of CSV with their header, bought ones first, and one line on the order (a position) as a whole."""
    book, market, owned = book_of(orders), market_of(listings), owned_of(orders, parties, len(rules.risk_group_caps))
    result = allocate(book, market, rules, seed, owned)
    bought, reason = purchase_reasons(order, result, book, market, rules, owned)

    def money(units: int) -> str:
        return str(Decimal(int(units)).scaleb(-decimals))

    columns = [listings[name].to_pylist() for name in _COLUMNS]
    rows = [
        (*(column[at] for column in columns), money(market.remaining[at]), money(bought[at]), reason[at], REASONS[reason[at]])
        for at in np.lexsort((market.loan_id.astype(str), -bought))
    ]
    for loan_id, borrower_id, within_policy in sorted(zip(*(column.to_pylist() for column in refused.columns), strict=True)):
        why = "unscored" if within_policy else "outside_policy"
        rows.append((loan_id, borrower_id, None, None, None, None, None, money(0), why, _NOT_OFFERED[why]))
    header = (*_COLUMNS, "remaining_amount", "bought_amount", "reason", "reason_in_words")
    counts = ", ".join(f"{count} {name}" for name, count in zip(*np.unique([row[-2] for row in rows], return_counts=True), strict=True))
    told = (
        f"order {book.order_id[order]}: holds {money(owned.principal[order])} of {money(book.amount[order])} "
        f"{book.currency[order]}, would buy {money(result.allocated[order])}; {result.status[order]}. "
        f"{result.message[order]} Listings: {counts or 'none'}."
    )
    return [header, *rows], told
