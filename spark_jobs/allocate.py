"""Values tonight's open listings, sets the caps per risk group and spreads open orders over the listings."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import Allocation as AllocationSettings
from conf.settings import Settings
from conf.source import Source, load_source
from conf.tables import (
    ALLOCATION,
    ALLOCATION_SUMMARY,
    BORROWER_SCORE,
    FRONTIER,
    FRONTIER_HOLDING,
    HOLDING,
    INVESTOR_ORDER,
    LOAN,
    LOAN_VALUATION,
    MARKET_INDICATOR,
    POPULATION,
    REPAYMENT,
    RISK_GROUP_CAP,
    Table,
)
from expectations.measures import Bound
from models.allocation import Listings, Orders, Outcomes, Rules, solve
from models.as_known import newest_known
from models.default_correlation import fit_correlations
from models.frontier import frontier
from models.hazard import Hazard, NoHistory, build_exposure, build_outcomes
from models.holdings import build_holding
from models.open_listings import DECIMALS, Terms, build_open_listings, build_valuation, is_eligible, with_score
from models.owned import Owned, OwnedParties
from models.registry import load_hazard
from models.risk_caps import (
    build_indicator_history,
    fit_sensitivity,
    market_stress,
    nothing_expected,
    realised_and_expected,
    risk_group_caps,
    stress_behind_level,
)
from models.scenarios import DefaultCorrelation, seed_of
from spark_jobs.counted_nights import CountedNight, counted_nights
from spark_jobs.gates import Checked, check_tables, withdraw_results
from spark_jobs.lake import Lake, MissingTable
from spark_jobs.manifest import Night, current_night
from spark_jobs.order_notes import give_notes, holdings_of, totals_of

# What several of them must agree on, the first five tell.
WRITTEN = (LOAN_VALUATION, RISK_GROUP_CAP, HOLDING, ALLOCATION, ALLOCATION_SUMMARY, FRONTIER, FRONTIER_HOLDING)
# Four series, monthly, with their revisions.
MAX_INDICATOR_ROWS = 1_000_000
# Of orders and parties that have a listing tonight: some 100 bytes each.
MAX_OWNED_PARTIES = 10_000_000
CROSS_CHECKS = {
    "listings_over_remaining": "listings that give more than they have left, over all orders",
    "orders_not_adding_up": "orders whose holdings are not what their summary says",
    "holdings_not_adding_up": "orders that hold other than their summary says",
    "identity_groups_over_cap": "orders and identity groups over the cap, of which something is bought",
    "risk_groups_over_cap": "orders and risk groups over the cap of the night, of which something is bought",
    "investors_over_cap": "investors and identity groups over the cap of all their orders, of which something is bought",
    "parts_of_notes": "amounts that are not whole notes",
}


class TooManyRows(ValueError):
    """One night holds more rows than the driver's solver may take."""


def run(spark: SparkSession, settings: Settings, as_of_date: date) -> None:
    """Write loan_valuation, risk_group_cap, holding, allocation, allocation_summary and the frontier of the as-of date.

    Raises NoOpenNight, TooManyRows, GateFailed, and SolverFailed where HiGHS finds no optimum in time.
    """
    lake, night, source = Lake(spark, settings), current_night(settings, as_of_date), load_source(settings.source)
    withdraw_results(settings, "allocate", night.batch_id)
    hazard = hazard_of(settings, night)
    _replace(lake, night, HOLDING, holding_of(lake, night, source))
    holding = lake.read_as_of(HOLDING, as_of_date)
    listing = listing_of(lake, night, holding)
    with ThreadPoolExecutor(1) as pool:
        valued = pool.submit(
            _replace, lake, night, LOAN_VALUATION, build_valuation(listing, hazard, terms_of(settings, source))
        )
        caps = caps_of(lake, night, source, hazard)
        _replace(lake, night, RISK_GROUP_CAP, spark.createDataFrame(pa.Table.from_pandas(caps, schema=CAP_SCHEMA)))
        valued.result()

    limits, decimals = settings.allocation, settings.night.currency_decimals
    orders = bounded(orders_of(lake, night, holding), limits.max_orders, "orders")
    parties = bounded(build_owned_parties(holding, listing, decimals), MAX_OWNED_PARTIES, "parties that orders own")
    listings = bounded(
        with_minor_units(lake.read_as_of(LOAN_VALUATION, as_of_date), decimals, "remaining_amount"),
        limits.max_listings, "listings",
    )
    rules = rules_of(settings, caps["cap"], caps["asset_correlation"], caps["default_level"].iloc[0])
    solved = solve(
        book_of(orders), market_of(listings), rules, seed_of(night.batch_id), owned_of(orders, parties, len(rules.risk_group_caps))
    )
    given = give_notes(spark, solved.parts).persist()
    outcomes = solved.outcomes([totals_of(given)])
    summary = summary_of(orders, outcomes)
    tables, left_out = frontier_tables(left_of(listings, given), rules, limits, seed_of(night.batch_id))
    for one in left_out:
        print(f"frontier: no optimum was found in time, left out: {one}")
    results = {table: spark.createDataFrame(found) for table, found in ({ALLOCATION_SUMMARY: summary} | tables).items()}
    results[ALLOCATION] = allocation_of(given, orders, listings)
    lake.drop_changed_checks(ALLOCATION_SUMMARY)
    with ThreadPoolExecutor(len(results)) as pool:
        list(pool.map(lambda table: _replace(lake, night, table, _decimal(table, results[table], decimals)), results))
    given.unpersist()

    crossed = build_cross_checks(*(lake.read_as_of(table, as_of_date) for table in WRITTEN[:5]), rules).first().asDict()
    more = {name: (float(crossed[name]), Bound(None, 0, meaning)) for name, meaning in CROSS_CHECKS.items()}
    checks = [Checked(table, more=more if table == ALLOCATION else {}) for table in WRITTEN]
    check_tables(lake, checks, as_of_date, night.batch_id)
    print(_told(listing, listings, caps, summary, outcomes.largest_gap))


def _silver(lake: Lake, night: Night, table: Table) -> DataFrame:
    if table.name not in night.silver_versions:
        raise MissingTable(f"night {night.batch_id} has no version of silver table {table.name}: run the job {table.owner} first")
    return lake.read(table, night.silver_versions[table.name])


def _replace(lake: Lake, night: Night, table: Table, frame: DataFrame) -> None:
    dated = frame.withColumns({"as_of_date": F.lit(night.as_of_date), "batch_id": F.lit(night.batch_id)})
    lake.replace(table, dated, night.as_of_date)


def holding_of(lake: Lake, night: Night, source: Source) -> DataFrame:
    """What orders own before tonight: gold.holding but as_of_date and batch_id."""
    nights = counted_nights(lake.settings, night.as_of_date, night.tops_up) if night.tops_up else []
    if not nights:
        return lake.spark.createDataFrame([], HOLDING.ddl).drop("as_of_date", "batch_id")
    return build_holding(
        _given(lake, nights),
        *(_silver(lake, night, table) for table in (INVESTOR_ORDER, LOAN, REPAYMENT)),
        *(lake.read_as_of(table, night.as_of_date) for table in (BORROWER_SCORE, POPULATION)),
        night.as_of_date,
        default_days=source.default_days,
    )


def _given(lake: Lake, nights: list[CountedNight]) -> DataFrame:
    """The allocations of the nights that count, those that were written over since from the version that was published."""
    newest = lake.read(ALLOCATION, nights[-1].allocation_version)
    there = {row["batch_id"] for row in newest.select("batch_id").distinct().collect()}
    given = newest.where(F.col("batch_id").isin([night.batch_id for night in nights]))
    for night in nights:
        if night.batch_id not in there:
            given = given.unionByName(
                lake.read_as_of(ALLOCATION, night.as_of_date, night.allocation_version)
                .where(F.col("batch_id") == night.batch_id), allowMissingColumns=True,
            )
    return given


def listing_of(lake: Lake, night: Night, holding: DataFrame) -> DataFrame:
    """Tonight's open listings, less what our own orders hold of them, with their borrowers' scores."""
    return with_score(
        build_open_listings(_silver(lake, night, LOAN), night.as_of_date, holding),
        lake.read_as_of(BORROWER_SCORE, night.as_of_date),
        lake.read_as_of(POPULATION, night.as_of_date),
    )


def orders_of(lake: Lake, night: Night, holding: DataFrame) -> DataFrame:
    """Tonight's open orders with what each owns."""
    decimals, risk_groups = lake.settings.night.currency_decimals, len(lake.settings.allocation.risk_group_caps)
    orders = build_open_orders(_silver(lake, night, INVESTOR_ORDER), night.as_of_date, decimals)
    return with_owned(orders, holding, decimals, risk_groups)


def hazard_of(settings: Settings, night: Night) -> Hazard:
    """The lifetime hazard that belongs to the night's model; raises NoHistory for a model without one."""
    try:
        return load_hazard(settings, night.model_version)
    except FileNotFoundError:
        raise NoHistory(
            f"model version {night.model_version} of {settings.model_name} has no lifetime hazard, as no default had been "
            "watched when it was trained: run the DAG credit_training"
        ) from None


def terms_of(settings: Settings, source: Source) -> Terms:
    """What all listings of the market have in common."""
    rules = settings.allocation
    horizon = None if source.outcome == "default_ever" else source.horizon_months
    return Terms(horizon, rules.recovery_rate, rules.recovery_lag_months, rules.platform_fee_rate)


def rules_of(
    settings: Settings, caps: Iterable[float], asset_correlations: Iterable[float], default_level: float = 1.0
) -> Rules:
    """The allocation's rules of the night; caps and correlations are in the order of risk groups."""
    minor_units, rules = 10**settings.night.currency_decimals, settings.allocation
    return Rules(
        note={currency: amount * minor_units for currency, amount in rules.note_amount.items()},
        identity_group_cap=rules.max_identity_group_share,
        risk_group_caps=tuple(caps),
        target_step=rules.target_step,
        correlation=DefaultCorrelation(tuple(asset_correlations), rules.factor_correlation),
        scenarios=rules.scenarios,
        evaluation_scenarios=rules.evaluation_scenarios,
        solver_seconds=rules.solver_seconds,
        minor_units=minor_units,
        default_level=default_level,
    )


CAP_SCHEMA = pa.schema([
    ("risk_group", pa.int32()), ("cap", pa.float64()), ("base_cap", pa.float64()), ("market_stress", pa.float64()),
    ("sensitivity", pa.float64()), ("basis", pa.string()), ("is_static", pa.bool_()), ("default_level", pa.float64()),
    ("asset_correlation", pa.float64()),
])


def caps_of(lake: Lake, night: Night, source: Source, hazard: Hazard | None) -> pd.DataFrame:
    """The night's caps, static where no market indicator has been ingested, or none has enough history; and of its scenarios asset
    correlations and level of default.

    Without a hazard nothing is expected of loans that defaults could be held against: stated sensitivity and correlations stand.
    """
    rules, as_of_date = lake.settings.allocation, night.as_of_date
    history = pd.DataFrame(columns=["series_id", "observed_on", "known_from", "value"])
    if MARKET_INDICATOR.name in night.silver_versions:
        known = build_indicator_history(_silver(lake, night, MARKET_INDICATOR), as_of_date)
        history = bounded(known, MAX_INDICATOR_ROWS, "values of market indicators").to_pandas()
    stress = market_stress(history, as_of_date, source.currency)
    months = nothing_expected()
    if hazard is not None:
        outcomes = build_outcomes(_silver(lake, night, LOAN), _silver(lake, night, REPAYMENT), as_of_date, source.default_days)
        months = realised_and_expected(build_exposure(outcomes).toPandas(), hazard)
    sensitivity = None if stress is None else fit_sensitivity(months, history, source.currency, stated=rules.cap_sensitivity)
    stress_before = stress_behind_level(history, as_of_date, source.currency)
    caps = risk_group_caps(
        rules.risk_group_caps, stress, stress_before, sensitivity, min_factor=rules.min_cap_factor, max_factor=rules.max_cap_factor
    )
    return caps.assign(asset_correlation=np.round(fit_correlations(months, rules.asset_correlations), 10))


def build_open_orders(investor_order: DataFrame, as_of_date: date, decimals: int) -> DataFrame:
    """Orders that are open on the as-of date, as known by then.

    One row per order_id: investor_id, amount (minor units), currency, target_return.
    """
    newest = (
        newest_known(investor_order, as_of_date, ["order_id"], ["investor_id", "amount", "currency", "target_return", "status"])
        .where(F.col("status") == "open")
    )
    return with_minor_units(newest, decimals, "amount").drop("status")


def with_owned(orders: DataFrame, holding: DataFrame, decimals: int, risk_groups: int) -> DataFrame:
    """Adds what each order owns, in minor units and 0 where that is nothing: held_amount, lost_amount, held_loan_count,
    held_net_return (weighted by held_amount), held_of_1, … (by risk group), closed_amount (of the investor's orders that
    are no longer open)."""
    minor = with_minor_units(holding, decimals, "principal_outstanding", "principal_lost")
    held = F.col("principal_outstanding")
    # Sums of doubles depend on their order; those of decimals do not.
    returns = F.sum(held.cast("decimal(18,0)") * F.col("expected_net_return").cast("decimal(12,10)")).cast("double")
    of_order = minor.groupBy("order_id").agg(
        F.sum(held).alias("held_amount"),
        F.sum("principal_lost").alias("lost_amount"),
        F.count_if(held > 0).alias("held_loan_count"),
        (returns / F.nullif(F.sum(held), F.lit(0))).alias("held_net_return"),
        *(F.sum(F.when(F.col("risk_group") == one, held)).alias(f"held_of_{one}") for one in range(1, risk_groups + 1)),
    )
    closed = (
        minor.join(orders.select("order_id"), on="order_id", how="left_anti")
        .groupBy("investor_id", "currency").agg(F.sum(held).alias("closed_amount"))
    )
    joined = orders.join(of_order, on="order_id", how="left").join(closed, on=["investor_id", "currency"], how="left")
    return joined.fillna(0, subset=[name for name in joined.columns if name not in orders.columns])


def build_owned_parties(holding: DataFrame, listing: DataFrame, decimals: int) -> DataFrame:
    """What is owned of parties that have a listing tonight: one row per order_id and identity_group_id, with investor_id,
    currency and principal_outstanding (minor units, more than 0)."""
    return (
        with_minor_units(holding, decimals, "principal_outstanding")
        .where(F.col("principal_outstanding") > 0)
        .join(listing.select("identity_group_id").distinct(), on="identity_group_id", how="left_semi")
        .groupBy("order_id", "investor_id", "identity_group_id", "currency")
        .agg(F.sum("principal_outstanding").alias("principal_outstanding"))
    )


def with_minor_units(frame: DataFrame, decimals: int, *columns: str) -> DataFrame:
    """The decimal columns as whole numbers of the currency's smallest unit: what the allocation counts in."""
    return frame.withColumns({name: (F.col(name) * 10**decimals).cast("bigint") for name in columns})


def _decimal(table: Table, result: DataFrame, decimals: int) -> DataFrame:
    return with_decimal_amounts(result, decimals, *(column for column in table.columns if column.endswith("amount")))


def with_decimal_amounts(frame: DataFrame, decimals: int, *columns: str) -> DataFrame:
    """Whole numbers of the smallest unit as exact decimals: the way back."""
    unit = F.lit(Decimal(1).scaleb(-decimals))
    return frame.withColumns({name: (F.col(name).cast("decimal(18,0)") * unit).cast("decimal(18,2)") for name in columns})


def bounded(frame: DataFrame, limit: int, what: str) -> pa.Table:
    """The frame as Arrow columns on the driver.

    Raises TooManyRows beyond the limit.
    """
    table = frame.limit(limit + 1).toArrow()
    if table.num_rows > limit:
        raise TooManyRows(
            f"more than {limit} {what} in one night: raise allocation.max_{what} (and the driver's memory)"
            if what in ("orders", "listings") else f"more than {limit} {what} for the driver"
        )
    return table


def _strings(table: pa.Table, column: str) -> np.ndarray:
    return table.column(column).to_numpy(zero_copy_only=False).astype(object)


def book_of(orders: pa.Table) -> Orders:
    """Open orders as the allocation takes them."""
    return Orders(
        order_id=_strings(orders, "order_id"),
        amount=orders["amount"].to_numpy(),
        target_return=orders["target_return"].to_numpy(),
        currency=_strings(orders, "currency"),
    )


def market_of(listings: pa.Table) -> Listings:
    """loan_valuation with remaining_amount in minor units, as the allocation takes it."""
    return Listings(
        loan_id=_strings(listings, "loan_id"),
        identity_group_id=_strings(listings, "identity_group_id"),
        risk_group=listings["risk_group"].to_numpy(),
        remaining=listings["remaining_amount"].to_numpy(),
        expected_net_return=listings["expected_net_return"].to_numpy(),
        prob_default_lifetime=listings["prob_default_lifetime"].to_numpy(),
        expected_loss=listings["expected_loss"].to_numpy(),
        currency=_strings(listings, "currency"),
    )


def owned_of(orders: pa.Table, parties: pa.Table, risk_groups: int) -> Owned:
    """What the orders own (with_owned), and of which of tonight's parties (build_owned_parties)."""
    position = pc.fill_null(pc.index_in(parties["order_id"], orders["order_id"].combine_chunks()), -1)
    return Owned(
        investor=_strings(orders, "investor_id"),
        principal=orders["held_amount"].to_numpy(),
        net_return=orders["held_net_return"].to_numpy(),
        loans=orders["held_loan_count"].to_numpy(),
        of_risk_groups=np.stack([orders[f"held_of_{one}"].to_numpy() for one in range(1, risk_groups + 1)], axis=1),
        closed=orders["closed_amount"].to_numpy(),
        parties=OwnedParties(
            order=position.to_numpy(), investor=_strings(parties, "investor_id"),
            identity_group_id=_strings(parties, "identity_group_id"),
            principal=parties["principal_outstanding"].to_numpy(), currency=_strings(parties, "currency"),
        ),
    )


def allocation_of(given: DataFrame, orders: pa.Table, listings: pa.Table) -> DataFrame:
    """allocation of the night, but for as_of_date and batch_id; amounts in minor units.

    given: by give_notes of these orders and listings, whose positions it has."""
    spark = given.sparkSession
    columns = ["loan_id", "borrower_id", "identity_group_id", "risk_group", "expected_net_return", "currency"]
    of_order = spark.createDataFrame(_at(orders, "order").select(["order", "order_id", "amount"]))
    of_listing = spark.createDataFrame(_at(listings, "listing").select(["listing", *columns]))
    return (
        holdings_of(given)
        .join(F.broadcast(of_order.withColumnRenamed("amount", "order_amount")), on="order")
        .join(F.broadcast(of_listing), on="listing")
        .withColumn("weight", F.round(F.col("amount") / F.col("order_amount"), DECIMALS))
        .drop("order", "listing", "order_amount")
    )


def left_of(listings: pa.Table, given: DataFrame) -> pa.Table:
    """The listings with what orders leave of them as remaining_amount, in minor units. given: by give_notes."""
    taken = holdings_of(given).groupBy("listing").agg(F.sum("amount").alias("amount")).toArrow()
    left = listings["remaining_amount"].to_numpy().copy()
    left[taken["listing"].to_numpy()] -= taken["amount"].to_numpy()
    return listings.set_column(listings.column_names.index("remaining_amount"), "remaining_amount", pa.array(left, pa.int64()))


def _at(table: pa.Table, position: str) -> pa.Table:
    return table.append_column(position, pa.array(np.arange(table.num_rows)))


def summary_of(orders: pa.Table, found: Outcomes) -> pa.Table:
    """allocation_summary of the night, but for as_of_date and batch_id; amounts in minor units. orders: as of with_owned."""
    amount, held = orders["amount"].to_numpy(), orders["held_amount"].to_numpy()
    return pa.table({
        **{name: orders[name] for name in ("order_id", "investor_id", "amount", "target_return", "currency")},
        "allocated_amount": pa.array(found.allocated, pa.int64()),
        "unallocated_amount": pa.array(np.clip(amount - held - found.allocated, 0, None), pa.int64()),
        "expected_net_return": pa.array(found.expected_net_return.round(DECIMALS), pa.float64(), from_pandas=True),
        "expected_loss": pa.array(found.expected_loss.round(DECIMALS), pa.float64(), from_pandas=True),
        "loan_count": pa.array(found.loan_count, pa.int32()),
        "status": pa.array(found.status, pa.string()),
        "binding_constraint": pa.array(found.binding_constraint, pa.string()),
        "message": pa.array(found.message, pa.string()),
        "cvar95": pa.array(found.cvar95.round(DECIMALS), pa.float64(), from_pandas=True),
        "rounding_gap": pa.array(found.rounding_gap.round(DECIMALS), pa.float64(), from_pandas=True),
        **{name: orders[name] for name in ("held_amount", "held_loan_count", "lost_amount")},
        "owned_net_return": pa.array(found.owned_net_return.round(DECIMALS), pa.float64(), from_pandas=True),
    })


def frontier_tables(
    left: pa.Table, rules: Rules, limits: AllocationSettings, seed: int
) -> tuple[dict[Table, pa.Table], tuple[str, ...]]:
    """frontier and frontier_holding of the night, but for as_of_date and batch_id; amounts in minor units. And the standard
    orders that HiGHS failed at, each with why. left: of left_of.
    """
    found = frontier(
        market_of(left), rules, seed, amounts=limits.frontier_amounts, targets=limits.frontier_targets,
        most_notes=limits.frontier_most_notes,
    )
    got = found.allocation
    first_of_currency = np.searchsorted(found.currency.astype(str), found.currency.astype(str))
    point = pa.array(np.arange(len(found.currency)) - first_of_currency + 1, pa.int32())
    currency = pa.array(found.currency, pa.string())
    points = pa.table({
        "currency": currency,
        "point": point,
        "amount": pa.array(found.amount, pa.int64()),
        "target_return": pa.array(found.target_return, pa.float64()),
        "note_amount": pa.array([rules.note[one] for one in found.currency], pa.int64()),
        "identity_group_cap": pa.array(np.full(len(point), rules.identity_group_cap), pa.float64()),
        "allocated_amount": pa.array(got.allocated, pa.int64()),
        "expected_net_return": pa.array(got.expected_net_return.round(DECIMALS), pa.float64()),
        "expected_loss": pa.array(got.expected_loss.round(DECIMALS), pa.float64()),
        "cvar95": pa.array(got.cvar95.round(DECIMALS), pa.float64()),
        "loan_count": pa.array(got.loan_count, pa.int32()),
        "status": pa.array(got.status, pa.string()),
        "binding_constraint": pa.array(got.binding_constraint, pa.string()),
        "message": pa.array(got.message, pa.string()),
    })
    of_listing = left.take(pa.array(got.listing))
    holdings = pa.table({
        "currency": currency.take(pa.array(got.order)),
        "point": point.take(pa.array(got.order)),
        **{name: of_listing[name] for name in ("loan_id", "borrower_id", "identity_group_id", "risk_group")},
        "amount": pa.array(got.amount, pa.int64()),
        **{name: of_listing[name] for name in ("expected_net_return", "expected_loss")},
    })
    return {FRONTIER: points, FRONTIER_HOLDING: holdings}, found.left_out


_OWNED = ("order_id", "investor_id", "identity_group_id", "risk_group")


def build_cross_checks(
    valuation: DataFrame, caps: DataFrame, holding: DataFrame, allocation: DataFrame, summary: DataFrame, rules: Rules
) -> DataFrame:
    """What no single table can tell: one row with a count for each of CROSS_CHECKS, all 0 when the night is right.

    Read from the tables as written, so that the way into them is checked too.
    """
    amounts = summary.select("order_id", F.col("amount").alias("order_amount"))
    held = F.sum("amount").alias("held")
    by_listing = allocation.groupBy("loan_id").agg(held).join(valuation, on="loan_id", how="left")
    by_order = allocation.groupBy("order_id").agg(held).join(summary, on="order_id", how="full")
    holds = holding.groupBy("order_id").agg(F.sum("principal_outstanding").alias("held"))
    by_holder = summary.select("order_id", "held_amount").join(holds, on="order_id", how="left")
    investors = summary.select("order_id", "investor_id")
    bought = allocation.join(investors, on="order_id", how="left").select(*_OWNED, "amount", F.col("amount").alias("bought"))
    owned = bought.unionByName(
        holding.select(*_OWNED, F.col("principal_outstanding").alias("amount"), F.lit(None).cast("decimal(18,2)").alias("bought"))
    )
    closed = holding.join(summary.select("order_id"), on="order_id", how="left_anti")
    money = (
        summary.select("investor_id", "amount")
        .unionByName(closed.select("investor_id", F.col("principal_outstanding").alias("amount")))
        .groupBy("investor_id").agg(F.sum("amount").alias("money"))
    )

    def together(*key: str) -> DataFrame:
        """What is owned by key where something of it is bought."""
        return owned.groupBy(*key).agg(F.sum("amount").alias("held"), F.sum("bought").alias("bought")).where("bought > 0")

    by_party = together("order_id", "identity_group_id").join(amounts, on="order_id", how="left")
    by_investor = together("investor_id", "identity_group_id").join(money, on="investor_id", how="left")
    by_risk_group = (
        together("order_id", "risk_group")
        .join(amounts, on="order_id", how="left")
        .join(caps.select("risk_group", "cap"), on="risk_group", how="left")
    )
    notes = F.create_map(*[F.lit(part) for item in rules.note.items() for part in item])
    units = (F.col("amount") * rules.minor_units).cast("bigint")
    # Caps are shares: a share of an amount may lie a hair under the note that it stands for.
    hair = 1e-6
    counts = {
        "listings_over_remaining": (by_listing, F.coalesce(F.col("held") <= F.col("remaining_amount"), F.lit(False))),
        "orders_not_adding_up": (by_order, F.coalesce("held", F.lit(0)).eqNullSafe(F.col("allocated_amount"))),
        "holdings_not_adding_up": (by_holder, F.coalesce("held", F.lit(0)).eqNullSafe(F.col("held_amount"))),
        "investors_over_cap": (by_investor, F.col("held") <= F.col("money") * rules.identity_group_cap + hair),
        "identity_groups_over_cap": (by_party, F.col("held") <= F.col("order_amount") * rules.identity_group_cap + hair),
        "risk_groups_over_cap": (by_risk_group, F.col("held") <= F.col("order_amount") * F.col("cap") + hair),
        "parts_of_notes": (allocation, units % notes[F.col("currency")] == 0),
    }
    broken = [
        frame.agg(F.count_if(~F.coalesce(holds, F.lit(False))).alias(name)) for name, (frame, holds) in counts.items()
    ]
    together = broken[0]
    for one in broken[1:]:
        together = together.crossJoin(one)
    return together


def _told(
    listing: DataFrame, listings: pa.Table, caps: pd.DataFrame, summary: pa.Table, largest_gap: float
) -> str:
    """One line on the night for the log."""
    unscored, beyond_policy = listing.agg(
        F.count_if(F.col("within_policy") & ~is_eligible()), F.count_if(~F.col("within_policy"))
    ).first()
    statuses = ", ".join(f"{one['counts']} {one['values']}" for one in summary["status"].value_counts().to_pylist())
    basis = caps["basis"].iloc[0]
    gaps = summary["rounding_gap"].drop_null().to_numpy()
    rounded = f", whole notes cost {gaps.mean():.3%} of the money more in the mean" if len(gaps) else ""
    market = "caps are static: no market indicators" if basis == "static" else (
        f"market stress {caps['market_stress'].iloc[0]:+.2f}, caps follow it by a {basis} sensitivity of "
        f"{caps['sensitivity'].iloc[0]:.2f}, scenarios see {caps['default_level'].iloc[0]:.2f} times the hazard of default"
    )
    return (
        f"{listings.num_rows} listings valued ({unscored} of unscored borrowers and {beyond_policy} outside policy left "
        f"out); {summary.num_rows} orders: {statuses or 'none'}, within "
        f"{largest_gap:.3%} of the least tail loss before rounding{rounded}; {market}"
    )
