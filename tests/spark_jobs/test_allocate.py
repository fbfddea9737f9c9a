"""The allocation job on a hand-made night: what it reads, what it writes, and that its gate sees what is wrong."""

from __future__ import annotations

import csv
from dataclasses import fields, replace
from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from conf.settings import load_settings
from conf.source import load_source
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
from models import order_notes
from models.allocation import Outcomes, allocate, solve
from models.hazard import Curves, Hazard, NoHistory
from models.open_listings import Terms, build_open_listings, build_valuation, with_score
from spark_jobs import allocate as job
from spark_jobs import dry_run_allocation
from spark_jobs.allocate import (
    CROSS_CHECKS,
    TooManyRows,
    bounded,
    build_cross_checks,
    build_open_orders,
    rules_of,
    with_decimal_amounts,
    with_minor_units,
)
from spark_jobs.counted_nights import CountedNight
from spark_jobs.lake import Lake
from spark_jobs.manifest import Night
from spark_jobs.order_notes import give_notes, totals_of

AS_OF = date(2020, 6, 30)
EARLIER = date(2020, 6, 1)
HAZARD = Hazard(Curves(np.full(63, 0.005), np.full(63, 0.01)), {})
ORIGIN = {"source_file": "hand", "row_number": 1}


def rows_of(spark, table: Table, rows: list[dict]):
    """Rows with the table's columns; what a row does not name is null."""
    return spark.createDataFrame([tuple(row.get(column) for column in table.columns) for row in rows], table.ddl)


def listed(loan_id: str, **changes) -> dict:
    return {
        "loan_id": loan_id, "borrower_id": f"b-{loan_id}", "amount": Decimal("1000.00"), "term_months": 36,
        "interest_rate": 0.15, "within_policy": True, "listed_on": EARLIER, "funded_amount": Decimal("0.00"),
        "status": "listed", "currency": "USD", "known_from": EARLIER, **ORIGIN, **changes,
    }


def order(order_id: str, **changes) -> dict:
    return {
        "order_id": order_id, "investor_id": "i", "amount": Decimal("1010.50"), "currency": "USD",
        "target_return": 0.05, "placed_at": datetime(2020, 6, 1), "status": "open", "known_from": EARLIER, **ORIGIN,
        **changes,
    }


LOANS = [
    *(listed(f"l{number:02d}") for number in range(30)),
    # Half funded since yesterday: the earlier row no longer counts.
    listed("l00", funded_amount=Decimal("975.00"), known_from=date(2020, 6, 29)),
    # Funded in full, withdrawn, outside policy, of an unscored borrower, withdrawn tomorrow (open tonight).
    listed("full", funded_amount=Decimal("1000.00")),
    listed("withdrawn", status="withdrawn"),
    listed("outside", within_policy=False),
    listed("unscored"),
    listed("tomorrow"),
    listed("tomorrow", status="withdrawn", known_from=date(2020, 7, 1)),
]


@pytest.fixture(scope="module")
def lake(spark, tmp_path_factory) -> Lake:
    """Silver and scores of one hand-made night, written once."""
    home = tmp_path_factory.mktemp("market")
    settings = load_settings(home=home)
    few = settings.allocation.model_copy(update={"frontier_amounts": 2, "frontier_targets": 2})
    lake = Lake(spark, settings.model_copy(update={"allocation": few}))
    borrowers = [f"b-l{number:02d}" for number in range(30)] + ["b-full", "b-withdrawn", "b-outside", "b-tomorrow"]
    scores = [
        {
            "borrower_id": borrower, "as_of_date": AS_OF, "borrower_type": "person", "prob_default": 0.04,
            "horizon_months": 12, "score_points": 600, "risk_group": 1 + number % 5, "timeseries_log_odds": 0.0,
            "behavior_log_odds": 0.0, "record_log_odds": 0.0, "raw_prob_default": 0.04, "model_version": "1",
            "batch_id": "batch",
        }
        for number, borrower in enumerate(borrowers)
    ]
    population = [
        {
            "borrower_id": borrower, "as_of_date": AS_OF, "identity_group_id": f"g-{borrower}",
            "borrower_type": "person", "standing": "applicant", "loan_id": borrower[2:], "months_on_book": 0,
        }
        for borrower in borrowers
    ]
    orders = [
        order("fills"),
        order("unreachable", target_return=0.45),
        order("tiny", amount=Decimal("12.00")),
        order("cancelled"),
        order("cancelled", status="cancelled", known_from=AS_OF),
    ]
    # Quiet years, then a jump: stress is held at four.
    months = [date(2010 + (5 + number) // 12, (5 + number) % 12 + 1, 1) for number in range(120)]
    indicators = [
        {"series_id": "BAAFFM", "observed_on": month, "value": 5.0 if month == months[-1] else 2.0 + month.month % 2,
         "known_from": month.replace(day=28), **ORIGIN}
        for month in months
    ]
    tables = {
        LOAN: LOANS, REPAYMENT: [], INVESTOR_ORDER: orders, MARKET_INDICATOR: indicators, BORROWER_SCORE: scores,
        POPULATION: population,
    }
    for table, rows in tables.items():
        lake.create(table)
        if rows:
            frame = lake.conform(table, rows_of(spark, table, rows))
            frame.coalesce(1).write.format("delta").mode("append").save(lake.path(table))
    return lake


@pytest.fixture
def night(lake, monkeypatch, gates_without_database) -> Night:
    """The night's manifest, without market indicators; database and registry stand outside."""
    versions = {table.name: lake.version(table) for table in (LOAN, REPAYMENT, INVESTOR_ORDER)}
    opened = Night("2020-06-30-0123456789ab", AS_OF, "1", {}, versions)
    monkeypatch.setattr(job, "current_night", lambda *_: opened)
    monkeypatch.setattr(job, "load_hazard", lambda *_: HAZARD)
    return opened


def test_night_writes_its_tables_that_agree_and_again_the_same(spark, lake, night, capsys):
    def written():
        return [sorted(map(repr, lake.read_as_of(table, AS_OF).collect())) for table in job.WRITTEN]

    job.run(spark, lake.settings, AS_OF)
    first = written()
    valuation = {row["loan_id"]: row for row in lake.read_as_of(LOAN_VALUATION, AS_OF).collect()}
    assert set(valuation) == {f"l{number:02d}" for number in range(30)} | {"tomorrow"}
    assert valuation["l00"]["remaining_amount"] == Decimal("25.00")
    assert valuation["l01"]["identity_group_id"] == "g-b-l01"
    # Valued over 36 months, not with the probability of the first twelve.
    assert valuation["l01"]["prob_default_lifetime"] > 0.08 > valuation["l01"]["prob_default"]
    assert 0.05 < valuation["l01"]["expected_net_return"] < 0.15

    caps = lake.read_as_of(RISK_GROUP_CAP, AS_OF).orderBy("risk_group").collect()
    assert [row["cap"] for row in caps] == lake.settings.allocation.risk_group_caps
    assert all(row["is_static"] and row["basis"] == "static" for row in caps)
    # No loan has a history: the stated correlations stand.
    assert [row["asset_correlation"] for row in caps] == lake.settings.allocation.asset_correlations

    summary = {row["order_id"]: row for row in lake.read_as_of(ALLOCATION_SUMMARY, AS_OF).collect()}
    assert set(summary) == {"fills", "unreachable", "tiny"}
    fills, unreachable, tiny = summary["fills"], summary["unreachable"], summary["tiny"]
    # 40 notes of 25; at most 2 of a borrower (5% of 1010.50), and 10.50 is no note.
    assert (fills["allocated_amount"], fills["unallocated_amount"]) == (Decimal("1000.00"), Decimal("10.50"))
    assert (fills["status"], fills["binding_constraint"], fills["investor_id"]) == ("on_target", None, "i")
    assert (unreachable["status"], unreachable["binding_constraint"]) == ("below_target", "expected_return")
    assert tiny["status"] == "unfilled" and tiny["expected_net_return"] is None and tiny["cvar95"] is None
    # Forty notes of loans that default alike: the worst twentieth loses more than the mean, and less than all defaults would.
    assert fills["expected_loss"] < fills["cvar95"] < 0.9
    assert tiny["message"] == "12 USD is less than a note of 25 USD."

    allocation = lake.read_as_of(ALLOCATION, AS_OF).collect()
    held = [row for row in allocation if row["order_id"] == "fills"]
    assert sum(row["amount"] for row in held) == Decimal("1000.00")
    assert max(row["amount"] for row in held) <= Decimal("50.00")
    assert held[0]["weight"] == pytest.approx(float(held[0]["amount"]) / 1010.50, abs=1e-9)
    assert {row["batch_id"] for row in held} == {night.batch_id}
    # What the orders leave: the smallest order and the largest, each of least tail loss and of most return.
    points = lake.read_as_of(FRONTIER, AS_OF).orderBy("point").collect()
    assert [row["point"] for row in points] == [1, 2, 3, 4] and points[0]["amount"] == Decimal("500.00")
    assert all(row["note_amount"] == Decimal("25.00") and row["message"] for row in points)
    holdings = lake.read_as_of(FRONTIER_HOLDING, AS_OF).collect()
    for point in points:
        own = [row for row in holdings if row["point"] == point["point"]]
        assert sum(row["amount"] for row in own) == point["allocated_amount"] and len(own) == point["loan_count"]
        for row in own:
            given_out = sum(one["amount"] for one in allocation if one["loan_id"] == row["loan_id"])
            assert row["amount"] <= valuation[row["loan_id"]]["remaining_amount"] - given_out
            assert row["identity_group_id"] == valuation[row["loan_id"]]["identity_group_id"]

    told = capsys.readouterr().out
    assert "31 listings valued (1 of unscored borrowers and 1 outside policy left out); 3 orders" in told
    assert "caps are static: no market indicators" in told

    job.run(spark, lake.settings, AS_OF)
    assert written() == first


def test_caps_follow_indicators_where_there_are_some(spark, lake, night, monkeypatch):
    with_indicators = dict(night.silver_versions) | {MARKET_INDICATOR.name: lake.version(MARKET_INDICATOR)}
    monkeypatch.setattr(job, "current_night", lambda *_: replace(night, silver_versions=with_indicators))
    job.run(spark, lake.settings, AS_OF)
    caps = lake.read_as_of(RISK_GROUP_CAP, AS_OF).orderBy("risk_group").collect()
    # exp(-0.25 x 4) = 0.37 is below the least factor of 0.4. No loan has a history: the sensitivity is the stated one.
    assert [row["cap"] for row in caps] == pytest.approx([1.0, 0.24, 0.16, 0.1, 0.04])
    assert {(row["basis"], row["is_static"]) for row in caps} == {("stated", False)}
    # Stress was known to be less before: scenarios see more default than the listings' probabilities tell, and no more than the bounds.
    level, = {row["default_level"] for row in caps}
    assert 1 < level <= 1 / 0.4
    # Before a model could be trained the same is known of the market, and nothing of defaults.
    early = job.caps_of(lake, replace(night, silver_versions=with_indicators), load_source("simulated"), None)
    assert early["cap"].tolist() == [row["cap"] for row in caps]
    assert (set(early["basis"]), early["asset_correlation"].tolist()) == ({"stated"}, lake.settings.allocation.asset_correlations)


def test_asset_correlations_follow_how_defaults_came(spark, lake, night, monkeypatch):
    # 2,400 loans of two years, of which the hazard expects twelve defaults a month, as many as come: evenly, or those of eleven months at once.
    issued = date(2018, 6, 30)
    running = [listed(f"h{number:04d}", status="current", originated_on=issued, known_from=issued) for number in range(2400)]

    def correlations(month_of) -> list[float]:
        defaults = [
            row | {"status": "charged_off", "closed_on": month_of(number // 12), "known_from": month_of(number // 12)}
            for number, row in enumerate(running[:264])
        ]
        frames = {LOAN: rows_of(spark, LOAN, running + defaults), REPAYMENT: rows_of(spark, REPAYMENT, [])}
        monkeypatch.setattr(job, "_silver", lambda _lake, _night, table: frames[table])
        return job.caps_of(lake, night, load_source("simulated"), HAZARD)["asset_correlation"].tolist()

    def month(number: int) -> date:
        return date(2018 + (7 + number) // 12, (7 + number) % 12 + 1, 15)

    even, at_once = correlations(month), correlations(lambda number: month(number // 11 * 11))
    stated = lake.settings.allocation.asset_correlations
    for found in (even, at_once):
        assert found == pytest.approx([found[0] / stated[0] * one for one in stated], abs=1e-9)
    assert even[0] < 0.9 * stated[0] < stated[0] < at_once[0]


def test_night_before_anything_was_known_is_written_too(spark, lake, night, monkeypatch):
    day = date(2020, 5, 1)
    monkeypatch.setattr(job, "current_night", lambda *_: replace(night, as_of_date=day))
    job.run(spark, lake.settings, day)
    assert [lake.read_as_of(table, day).count() for table in job.WRITTEN] == [0, 5, 0, 0, 0, 0, 0]


def test_model_without_hazard_is_named(spark, lake, night, monkeypatch):
    def missing(*_):
        raise FileNotFoundError("hazard.json")

    monkeypatch.setattr(job, "load_hazard", missing)
    with pytest.raises(NoHistory, match="credit_training"):
        job.run(spark, lake.settings, AS_OF)


def test_bounded_refuses_what_the_driver_may_not_take(spark):
    assert bounded(spark.range(3), 3, "orders").num_rows == 3
    with pytest.raises(TooManyRows, match=r"more than 2 orders .* allocation\.max_orders"):
        bounded(spark.range(3), 2, "orders")


def test_minor_units_there_and_back(spark):
    frame = spark.createDataFrame([(Decimal("1234567890123.45"),), (Decimal("0.01"),)], "amount decimal(18,2)")
    minor = with_minor_units(frame, 2, "amount")
    assert [row["amount"] for row in minor.collect()] == [123456789012345, 1]
    back = with_decimal_amounts(minor, 2, "amount")
    assert [row["amount"] for row in back.collect()] == [Decimal("1234567890123.45"), Decimal("0.01")]


def test_orders_as_known(spark):
    rows = [
        order("open"),
        order("raised", amount=Decimal("100.00")),
        order("raised", amount=Decimal("200.00"), known_from=AS_OF),
        order("filled", status="filled"),
        order("later", known_from=date(2020, 7, 1)),
    ]
    found = build_open_orders(rows_of(spark, INVESTOR_ORDER, rows), AS_OF, 2).collect()
    assert {row["order_id"]: row["amount"] for row in found} == {"open": 101050, "raised": 20000}


def test_value_does_not_depend_on_how_listings_fall_into_batches(spark):
    loan = rows_of(spark, LOAN, [listed("short", term_months=6), listed("long", term_months=60, interest_rate=0.22)])
    borrowers = ["b-short", "b-long"]
    score = spark.createDataFrame([(name, 0.1, 2) for name in borrowers], "borrower_id string, prob_default double, risk_group int")
    population = spark.createDataFrame([(name, name) for name in borrowers], "borrower_id string, identity_group_id string")
    listing = with_score(build_open_listings(loan, AS_OF), score, population)
    terms = Terms(12, 0.1, 12, 0.01)
    values = [
        sorted(build_valuation(listing.repartition(parts), HAZARD, terms).collect()) for parts in (1, 2)
    ]
    assert values[0] == values[1] and len(values[0]) == 2


def test_cross_checks_count_what_is_wrong(spark, settings):
    caps = spark.createDataFrame([(1, 1.0), (2, 0.1)], "risk_group int, cap double")
    valuation = spark.createDataFrame([("a", Decimal("100.00")), ("b", Decimal("25.00"))], "loan_id string, remaining_amount decimal(18,2)")
    summary = spark.createDataFrame(
        [
            ("o", "i", Decimal("1000.00"), Decimal("75.00"), Decimal("0.00")),
            ("p", "i", Decimal("500.00"), Decimal("0.00"), Decimal("0.00")),
        ],
        "order_id string, investor_id string, amount decimal(18,2), allocated_amount decimal(18,2), held_amount decimal(18,2)",
    )
    ddl = "order_id string, loan_id string, identity_group_id string, risk_group int, amount decimal(18,2), currency string"
    rules = rules_of(settings, [1.0, 0.1], [0.1, 0.05])

    def counted(*rows, held=()):
        holding = spark.createDataFrame(
            list(held),
            "order_id string, investor_id string, identity_group_id string, risk_group int, principal_outstanding decimal(18,2)",
        )
        found = build_cross_checks(valuation, caps, holding, spark.createDataFrame(list(rows), ddl), summary, rules).first().asDict()
        assert set(found) == set(CROSS_CHECKS)
        return {name for name, count in found.items() if count}

    assert counted(("o", "a", "g", 1, Decimal("50.00"), "USD"), ("o", "b", "h", 2, Decimal("25.00"), "USD")) == set()
    # b gives 50 of its 25; o's summary says 75.
    assert counted(("o", "b", "h", 2, Decimal("50.00"), "USD")) == {"listings_over_remaining", "orders_not_adding_up"}
    # One party with 75 of at most 50, through two listings.
    assert counted(("o", "a", "g", 1, Decimal("50.00"), "USD"), ("o", "b", "g", 1, Decimal("25.00"), "USD")) == {
        "identity_groups_over_cap"
    }
    # Group 2 may take a tenth of p; p's summary says nothing was placed; 60 is no whole number of notes.
    assert counted(("p", "a", "g", 2, Decimal("60.00"), "USD"), ("o", "a", "h", 1, Decimal("40.00"), "USD")) == {
        "risk_groups_over_cap", "identity_groups_over_cap", "parts_of_notes", "orders_not_adding_up"
    }
    # A listing that nobody valued, an order without a summary.
    assert counted(("x", "z", "g", 1, Decimal("25.00"), "USD"), ("o", "a", "h", 1, Decimal("50.00"), "USD"),
                   ("o", "b", "i", 1, Decimal("25.00"), "USD")) == {
        "listings_over_remaining", "orders_not_adding_up", "identity_groups_over_cap", "risk_groups_over_cap", "investors_over_cap"
    }
    # 25 of g are owned, as no summary says, and 50 more are bought; nothing more of a party over its cap is right.
    good = [("o", "a", "g", 1, Decimal("50.00"), "USD"), ("o", "b", "h", 2, Decimal("25.00"), "USD")]
    assert counted(*good, held=[("o", "i", "g", 1, Decimal("25.00"))]) == {"holdings_not_adding_up", "identity_groups_over_cap"}
    assert counted(*good, held=[("o", "i", "z", 1, Decimal("900.00"))]) == {"holdings_not_adding_up"}
    # 60 of g belong to an order that is closed: together 110 of a twentieth of 1560.
    assert counted(*good, held=[("gone", "i", "g", 1, Decimal("60.00"))]) == {"investors_over_cap"}


def test_columns_are_typed_even_where_nothing_is_allocated(spark, settings):
    orders = pa.table({"order_id": pa.array([], pa.string()), "investor_id": pa.array([], pa.string()),
                       "amount": pa.array([], pa.int64()), "currency": pa.array([], pa.string()),
                       "target_return": pa.array([], pa.float64())})
    listings = pa.table({name: pa.array([], kind) for name, kind in (
        ("loan_id", pa.string()), ("borrower_id", pa.string()), ("identity_group_id", pa.string()), ("risk_group", pa.int32()),
        ("remaining_amount", pa.int64()), ("expected_net_return", pa.float64()), ("prob_default_lifetime", pa.float64()),
        ("expected_loss", pa.float64()), ("currency", pa.string()))})
    for name in ("held_amount", "lost_amount", "held_loan_count", "closed_amount", *(f"held_of_{one}" for one in range(1, 6))):
        orders = orders.append_column(name, pa.array([], pa.int64()))
    orders = orders.append_column("held_net_return", pa.array([], pa.float64()))
    parties = pa.table({name: pa.array([], kind) for name, kind in (
        ("order_id", pa.string()), ("investor_id", pa.string()), ("identity_group_id", pa.string()), ("currency", pa.string()),
        ("principal_outstanding", pa.int64()))})
    none = solve(
        job.book_of(orders), job.market_of(listings), rules_of(settings, [1.0] * 5, settings.allocation.asset_correlations), 1,
        job.owned_of(orders, parties, 5),
    )
    given = give_notes(spark, none.parts)
    summary = job.summary_of(orders, none.outcomes([totals_of(given)]))
    allocation = job.allocation_of(given, orders, listings)
    assert allocation.count() == summary.num_rows == 0
    assert allocation.schema["risk_group"].dataType.simpleString() == "int"
    assert job.left_of(listings, given).num_rows == 0


def test_executors_give_the_notes_that_one_process_gives(spark, settings, monkeypatch):
    """Two currencies, orders that own something, parts of 20 orders, ids in no order."""
    monkeypatch.setattr(order_notes, "PART_ORDERS", 20)
    random = np.random.default_rng(3)
    loans, many = 300, 70
    probability = random.uniform(0.01, 0.3, loans)
    listings = pa.table({
        "loan_id": random.permutation([f"l{number}" for number in range(loans)]),
        "borrower_id": [f"b{number}" for number in range(loans)],
        "identity_group_id": [f"g{number}" for number in random.integers(0, 280, loans)],
        "risk_group": pa.array(random.integers(1, 6, loans), pa.int32()),
        "remaining_amount": random.integers(0, 3_000_00, loans),
        "expected_net_return": random.normal(0.06, 0.03, loans),
        "prob_default_lifetime": probability, "expected_loss": 0.5 * probability,
        "currency": random.choice(["USD", "KRW"], loans),
    })
    held = np.where(random.random(many) < 0.4, random.integers(1, 200_00, many), 0)
    orders = pa.table({
        "order_id": random.permutation([f"o{number}" for number in range(many)]),
        "investor_id": [f"i{number}" for number in random.integers(0, 50, many)],
        "amount": random.integers(500_00, 9_000_00, many),
        "currency": random.choice(["USD", "KRW"], many), "target_return": random.choice([0.05, 0.07, 0.3], many),
        "held_amount": held, "held_loan_count": (held > 0).astype(int), "held_net_return": np.where(held > 0, 0.06, 0.0),
        **{f"held_of_{group}": held if group == 1 else 0 * held for group in range(1, 6)}, "closed_amount": 0 * held,
    })
    owners = np.flatnonzero(held)
    parties = pa.table({
        "order_id": orders["order_id"].take(pa.array(owners)), "investor_id": orders["investor_id"].take(pa.array(owners)),
        "identity_group_id": [f"g{number}" for number in random.integers(0, 280, len(owners))],
        "currency": orders["currency"].take(pa.array(owners)), "principal_outstanding": held[owners],
    })
    rules = rules_of(settings, settings.allocation.risk_group_caps, settings.allocation.asset_correlations)
    rules = replace(rules, note={"USD": 25_00, "KRW": 30_00})
    night = job.book_of(orders), job.market_of(listings), rules, 5, job.owned_of(orders, parties, 5)
    alone, solved = allocate(*night), solve(*night)
    assert len(solved.parts) == 5

    given = give_notes(spark, solved.parts).persist()
    found = [
        tuple(row) for row in job.allocation_of(given, orders, listings)
        .select("order_id", "loan_id", "borrower_id", "risk_group", "amount", "currency", "weight").collect()
    ]
    order, listing = orders.to_pylist(), listings.to_pylist()
    expected = [
        (order[one]["order_id"], *(listing[other][name] for name in ("loan_id", "borrower_id", "risk_group")), amount,
         order[one]["currency"], pytest.approx(amount / order[one]["amount"]))
        for one, other, amount in zip(alone.order, alone.listing, alone.amount.tolist(), strict=True)
    ]
    assert sorted(found) == sorted(expected, key=lambda row: row[:2]) and len({row[-2] for row in found}) == 2
    outcomes = solved.outcomes([totals_of(given)])
    for one in fields(Outcomes):
        np.testing.assert_array_equal(getattr(outcomes, one.name), getattr(alone, one.name))
    taken = np.bincount(alone.listing, alone.amount, loans).astype(np.int64)
    left = job.left_of(listings, given)["remaining_amount"].to_numpy()
    np.testing.assert_array_equal(left, listings["remaining_amount"].to_numpy() - taken)
    with pytest.raises(ValueError, match="orders have not been given their notes"):
        solve(*night).outcomes([])


def given(order_id: str, loan_id: str, amount: str, day: date, batch_id: str, **changes) -> dict:
    return {
        "order_id": order_id, "loan_id": loan_id, "as_of_date": day, "borrower_id": f"b-{loan_id}",
        "identity_group_id": f"g-b-{loan_id}", "risk_group": 1, "amount": Decimal(amount), "weight": 0.1,
        "expected_net_return": 0.08, "currency": "USD", "batch_id": batch_id, **changes,
    }


def paid(loan_id: str, number: int, amount: str, days: int = 0, known_from: date = EARLIER) -> dict:
    return {
        "loan_id": loan_id, "borrower_id": f"b-{loan_id}", "installment_no": number, "due_on": date(2020, 3, 1), "due_amount": Decimal("100.00"),
        "paid_amount": Decimal(amount), "days_past_due": days, "currency": "USD", "known_from": known_from, **ORIGIN,
    }


def test_a_second_night_tops_up_what_is_owned(spark, lake, night, monkeypatch, capsys):
    live = {
        "status": "current", "listed_on": date(2020, 1, 31), "originated_on": date(2020, 2, 1), "interest_rate": 0.0,
        "term_months": 10, "funded_amount": Decimal("1000.00"),
    }
    over = date(2020, 5, 31)
    lake.append(LOAN, rows_of(spark, LOAN, [
        listed("live", **live), listed("late", **live), listed("repaid", **live | {"status": "paid", "closed_on": over}), listed("written_off", **live),
        # Charged off tomorrow: tonight it is live.
        listed("written_off", **live | {"status": "charged_off", "closed_on": over}, known_from=date(2020, 7, 1)),
    ]))
    lake.create(REPAYMENT)
    lake.append(REPAYMENT, rows_of(spark, REPAYMENT, [
        # A tenth in full; half of the next, told first as missed; 50 ahead; the next is paid tomorrow: 0.1 + 0.05 + 0.1 + 0.05.
        paid("live", 1, "100.00"), paid("live", 2, "0.00", 30), paid("live", 2, "50.00", 30, date(2020, 6, 5)),
        paid("live", 3, "150.00"), paid("live", 4, "100.00", known_from=date(2020, 7, 1)),
        # 90 days late once is a default for good, whatever comes after; a tenth had come back.
        paid("late", 1, "100.00"), paid("late", 2, "0.00", 90), paid("late", 2, "0.00", 0, date(2020, 6, 20)),
    ]))
    earlier, later = date(2020, 5, 30), date(2020, 5, 31)
    nights = []
    for day, batch, rows in (
        # Two nights that were published; the rows of the first were written over since by a run that was not.
        (earlier, "a", [given("fills", "l01", "25.00", earlier, "a", expected_net_return=0.04)]),
        (earlier, "refused", [given("fills", "l05", "25.00", earlier, "refused")]),
        (later, "b", [
            given("fills", "l01", "25.00", later, "b"), given("fills", "live", "50.00", later, "b"),
            given("fills", "late", "25.00", later, "b"), given("fills", "repaid", "25.00", later, "b"),
            given("fills", "withdrawn", "25.00", later, "b"), given("cancelled", "written_off", "25.00", later, "b"),
        ]),
    ):
        lake.replace(ALLOCATION, rows_of(spark, ALLOCATION, rows), day)
        if batch != "refused":
            nights.append(CountedNight(batch, day, lake.version(ALLOCATION)))
    versions = {table.name: lake.version(table) for table in (LOAN, REPAYMENT, INVESTOR_ORDER)}
    topping = replace(night, silver_versions=versions, tops_up="b")
    for module in (job, dry_run_allocation):
        monkeypatch.setattr(module, "current_night", lambda *_: topping)
    monkeypatch.setattr(job, "counted_nights", lambda settings, as_of_date, newest: nights)
    job.run(spark, lake.settings, AS_OF)

    holding = {row["loan_id"]: row for row in lake.read_as_of(HOLDING, AS_OF).collect()}
    found = {
        loan: tuple(str(row[name]) for name in ("status", "principal_outstanding", "principal_back", "principal_lost"))
        for loan, row in holding.items()
    }
    assert found == {
        "l01": ("committed", "50.00", "0.00", "0.00"),
        "live": ("performing", "35.00", "15.00", "0.00"),
        "late": ("defaulted", "0.00", "2.50", "22.50"),
        "repaid": ("repaid", "0.00", "25.00", "0.00"),
        "withdrawn": ("returned", "0.00", "25.00", "0.00"),
        "written_off": ("performing", "25.00", "0.00", "0.00"),
    }
    assert holding["l01"]["expected_net_return"] == pytest.approx(0.06)
    valuation = {row["loan_id"]: row["remaining_amount"] for row in lake.read_as_of(LOAN_VALUATION, AS_OF).collect()}
    assert (valuation["l01"], valuation["l02"]) == (Decimal("950.00"), Decimal("1000.00"))
    fills = lake.read_as_of(ALLOCATION_SUMMARY, AS_OF).where("order_id = 'fills'").first()
    # 1010.50 less 85 is 37 notes and 0.50.
    assert [fills[name] for name in ("held_amount", "held_loan_count", "lost_amount", "allocated_amount", "unallocated_amount")] == [
        Decimal("85.00"), 2, Decimal("22.50"), Decimal("925.00"), Decimal("0.50")
    ]
    assert fills["owned_net_return"] == pytest.approx((50 * 0.06 + 35 * 0.08 + 925 * fills["expected_net_return"]) / 1010)
    bought = {row["loan_id"] for row in lake.read_as_of(ALLOCATION, AS_OF).where("order_id = 'fills'").collect()}
    assert "l01" not in bought, "50 of at most 50.52 of this party are owned"

    capsys.readouterr()
    before = [lake.version(table) for table in job.WRITTEN]
    dry_run_allocation.run(spark, lake.settings, AS_OF, order_id="fills")
    told = capsys.readouterr()
    rows = {row["loan_id"]: row for row in csv.DictReader(told.out.splitlines())}
    assert sum(Decimal(row["bought_amount"]) for row in rows.values()) == Decimal("925.00")
    assert {loan for loan, row in rows.items() if row["reason"] == "bought"} == bought
    assert [rows[loan]["reason"] for loan in ("l01", "outside", "unscored")] == ["party_at_cap", "outside_policy", "unscored"]
    assert "order fills: holds 85.00 of 1010.50 USD, would buy 925.00; on_target." in told.err
    assert [lake.version(table) for table in job.WRITTEN] == before
