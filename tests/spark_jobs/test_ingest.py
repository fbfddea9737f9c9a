"""Ingest of a lender that exists only here, night by night, into the database of a test."""

from __future__ import annotations

from contextlib import closing
from datetime import date
from decimal import Decimal

import pytest
from psycopg2.errors import CheckViolation, InsufficientPrivilege, RaiseException

from conf.source import load_source
from conf.tables import BORROWER, GATE_RESULT, INVESTOR_ORDER, LOAN, QUARANTINE, REPAYMENT
from spark_jobs import database, ingest, landing, orders, publish
from spark_jobs.database import connect
from spark_jobs.gates import GateFailed
from spark_jobs.lake import Lake
from spark_jobs.manifest import build_manifest, current_night, open_manifest
from spark_jobs.publication import PublicationRefused
from tests.published_night import make_batch
from tests.published_night import publish as publish_night

# What an ingest of the shop passes through its gates.
GATED = ("borrower", "investor_order", "landed_file", "loan", "quarantine", "repayment")
FIRST, SECOND, THIRD, FOURTH = (date(2024, 3, day) for day in (1, 2, 3, 4))
SHOP = r"""
name: shop
title: A shop that lends
currency: EUR
timezone: Europe/Berlin
horizon_months: 12
outcome: default_within_horizon
blocks: [demographic]
files:
  people: {path: 'people/*.csv', landed_on: 'people/(\d{4}-\d{2}-\d{2})', csv: {delimiter: ;}}
  loans: {path: 'loans/*.csv*', landed_on: 'loans/(\d{4}-\d{2}-\d{2})'}
  dues: {path: 'dues/*.csv', landed_on: 'dues/(\d{4}-\d{2}-\d{2})', required: false}
  orders: {path: 'orders/*.csv', landed_on: 'orders/(\d{4}-\d{2}-\d{2})', required: false}
tables:
  borrower:
    - from: people
      columns:
        borrower_id: nr
        borrower_type: {constant: person}
        identity_group_id: nr
        region: town
        main_income: income
        known_from: told
  loan:
    - from: loans
      columns:
        loan_id: loan
        borrower_id: who
        amount: {column: sum, unit: cents}
        term_months: {column: years, unit: years}
        interest_rate: {column: rate, unit: percent}
        within_policy: {constant: true}
        listed_on: asked
        funded_amount: {column: sum, unit: cents}
        status: {column: state, codes: {open: listed, runs: current}}
        originated_on: paid_out
  repayment:
    - from: dues
      columns:
        loan_id: loan
        borrower_id: who
        installment_no: nth
        due_on: due
        due_amount: due_sum
        paid_on: paid
        paid_amount: {column: paid_sum, default: 0}
        days_past_due: {constant: 0}
orders:
  from: orders
  columns: {order_id: id, investor_id: investor, amount: amount, currency: currency, target_return: target, placed_at: at}
"""


@pytest.fixture
def shop(empty_market, tmp_path, monkeypatch):
    """The shop's settings and the folder where its files land."""
    (tmp_path / "shop.yaml").write_text(SHOP)
    monkeypatch.setattr(ingest, "load_source", lambda name: load_source("shop", tmp_path))
    data = tmp_path / "data"
    for kind in ("people", "loans", "dues", "orders"):
        (data / kind).mkdir(parents=True)
    return empty_market.model_copy(update={"data": data}), data


def open_night(settings, as_of_date):
    """Open the night as the task open_night does, with model 1."""
    files = landing.landed_files(settings, ingest.load_source("shop"), as_of_date)
    return open_manifest(settings, build_manifest(settings, as_of_date, files, "1"))


def answers(settings, role, sql):
    with closing(connect(settings, role)) as session, session.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def test_the_nights_of_a_shop(spark, shop):
    settings, data = shop
    lake = Lake(spark, settings)

    # Night one: two good people, one without an income that is a number, 19 more so that one broken row is no failure.
    crowd = "".join(f"c{number};Ulm;30000;2024-02-01\n" for number in range(19))
    (data / "people" / "2024-03-01.csv").write_text(
        "nr;town;income;told\n1;Ulm;40000;2024-01-15\n2;Bonn;50000.5;2024-02-15\n3;Bonn;much;2024-02-20\n" + crowd
    )
    (data / "loans" / "2024-03-01.csv").write_text(
        "loan,who,sum,years,rate,asked,state,paid_out\n"
        "L1,1,500000,3,7.5,2024-02-20,runs,2024-02-25\n"
        "L2,2,100000,1,9.9,2024-03-01,open,\n"
        + "".join(f"X{number},c{number},100000,1,9.9,2024-03-01,open,\n" for number in range(19))
        + "L3,3,100000,1,9.9,2024-03-01,open,\n"  # its borrower is in quarantine: an orphan
    )
    (data / "dues" / "2024-03-01.csv").write_text("loan,who,nth,due,due_sum,paid,paid_sum\nL1,1,1,2024-03-25,155.53,,\n")
    (data / "orders" / "2024-03-01.csv").write_text(
        "id,investor,amount,currency,target,at\n"
        "o1,i1,1000,EUR,0.05,2024-02-28T12:00:00+01:00\n"
        "o2,i1,-5,EUR,0.05,2024-02-28T12:00:00+01:00\n"
        "o3,i2,lots,EUR,0.05,\n"
        "o4,i2,1000,XXX,0.05,\n"
        "o5,i2,1000,EUR,5,\n"
        "o6,,2500.50,,0.06,\n"  # amount and target return are all that is required
        "o7,i3,100,EUR,0.05,yesterday\n"
        "o8,i3,100,EUR,0.05,2024-03-02T00:30:00+01:00\n"  # placed after the as-of date has ended in Berlin
    )
    night = open_night(settings, FIRST)
    ingest.run(spark, settings, FIRST)

    borrower = {row.borrower_id: row for row in lake.read(BORROWER).collect()}
    assert set(borrower) == {"1", "2", *(f"c{number}" for number in range(19))}
    assert (borrower["2"].main_income, borrower["2"].currency, borrower["2"].known_from) == (Decimal("50000.50"), "EUR", date(2024, 2, 15))
    assert (borrower["2"].source_file, borrower["2"].row_number) == ("people/2024-03-01.csv", 2)
    loan = lake.read(LOAN).where("loan_id = 'L1'").first()
    assert (loan.amount, loan.term_months, loan.interest_rate, loan.known_from) == (Decimal("5000.00"), 36, 0.075, FIRST)
    assert lake.read(REPAYMENT).count() == 1
    broken = {(row.table_name, row.row_key): row for row in lake.read(QUARANTINE).collect()}
    assert {key: row.broken_rules for key, row in broken.items()} == {
        ("borrower", "3|2024-02-20"): ["parse:main_income"], ("loan", "L3|2024-03-01"): ["orphan:borrower"],
    }
    assert broken["borrower", "3|2024-02-20"].raw == '{"nr":"3","town":"Bonn","income":"much","told":"2024-02-20"}'

    orders = {row.order_id: row for row in lake.read(INVESTOR_ORDER).collect()}
    assert set(orders) == {"o1", "o6"}
    assert (orders["o6"].investor_id, orders["o6"].amount, orders["o6"].currency, orders["o6"].known_from) == (
        "o6", Decimal("2500.50"), "EUR", FIRST
    )
    assert sorted(answers(settings, "intake", "SELECT order_id, reasons FROM intake.order_refusal")) == [
        ("o2", ["amount is not positive: -5"]),
        ("o3", ["amount is no number: lots"]),
        ("o4", ["unknown currency XXX: this market's is EUR"]),
        ("o5", ["target return is a fraction a year between 0 and 0.5, not 5"]),
        ("o7", ["placed_at yesterday is not a time"]),
    ]
    gates = answers(settings, "publisher", f"SELECT gate, success FROM ops.gate_result WHERE batch_id = '{night.batch_id}'")
    assert sorted(gates) == [(f"ingest.{name}", True) for name in GATED]
    pinned = current_night(settings, FIRST).silver_versions
    assert pinned["borrower"] == lake.version(BORROWER)

    # The same night again: nothing is added, and its gates find the same.
    rows = {table.name: lake.read(table).count() for table in (BORROWER, LOAN, REPAYMENT, INVESTOR_ORDER, QUARANTINE)}
    ingest.run(spark, settings, FIRST)
    assert rows == {table.name: lake.read(table).count() for table in (BORROWER, LOAN, REPAYMENT, INVESTOR_ORDER, QUARANTINE)}
    assert lake.read(GATE_RESULT).count() == len(GATED)

    # Night two: a late correction of person 1, the file of night one again under another name, the late order.
    (data / "people" / "2024-03-02.csv").write_text("nr;town;income;told\n1;Ulm;41000;2024-03-02\n")
    (data / "loans" / "2024-03-02.csv").write_bytes((data / "loans" / "2024-03-01.csv").read_bytes())
    open_night(settings, SECOND)
    ingest.run(spark, settings, SECOND)
    history = lake.read(BORROWER).where("borrower_id = '1'").orderBy("known_from").collect()
    assert [(row.known_from, row.main_income) for row in history] == [(date(2024, 1, 15), Decimal(40000)), (SECOND, Decimal(41000))]
    assert lake.read(LOAN).count() == rows["loan"]
    assert {row.order_id for row in lake.read(INVESTOR_ORDER).collect()} == {"o1", "o6", "o8"}

    # Yesterday's publication, which is to outlive what comes.
    publish_night(settings, make_batch(SECOND))

    # Night three: rows that cannot be read and one that can and is wrong, and loans of somebody whose own file is late. Both
    # gates fail and say so, nothing is pinned, nothing is published.
    (data / "people" / "2024-03-03.csv").write_text("nr;town;income;told\n8;Ulm;?;2024-03-03\n9;Ulm;?;2024-03-03\n1;Ulm;777;2024-03-03\n")
    (data / "loans" / "2024-03-03.csv").write_text(
        "loan,who,sum,years,rate,asked,state,paid_out\n" + "".join(f"Z{n},z,100000,1,9.9,2024-03-03,open,\n" for n in range(3))
    )
    open_night(settings, THIRD)
    with pytest.raises(GateFailed, match=r"gate ingest\.borrower failed on 2024-03-03 .*broken_share = 0\.115") as failed:
        ingest.run(spark, settings, THIRD)
    assert "must be at most 0.05" in str(failed.value)
    assert "gate ingest.loan failed on 2024-03-03" in str(failed.value)
    assert not current_night(settings, THIRD).silver_versions
    assert lake.read(QUARANTINE).count() == rows["quarantine"] + 2 + 3
    with pytest.raises(PublicationRefused, match=r"ingest\.borrower failed"):
        publish.run(spark, settings, THIRD)
    assert answers(settings, "reader", "SELECT batch_id FROM publication.latest_publication") == [(make_batch(SECOND).batch_id,)]
    assert answers(settings, "reader", "SELECT count(*) FROM publication.latest_borrower_score") == [(3,)]

    # Repaired and completed: the same night, opened anew, goes through, and nothing is left of what the gates have refused but
    # the rows that could not be read, as the earlier delivery held them.
    (data / "people" / "2024-03-03.csv").write_text("nr;town;income;told\n8;Ulm;1;2024-03-03\n9;Ulm;2;2024-03-03\nz;Ulm;3;2024-03-03\n")
    open_night(settings, THIRD)
    ingest.run(spark, settings, THIRD)
    told = {(row.borrower_id, row.main_income) for row in lake.read(BORROWER).where(f"known_from = '{THIRD}'").collect()}
    assert told == {("8", Decimal(1)), ("9", Decimal(2)), ("z", Decimal(3))}
    assert lake.read(LOAN).where("borrower_id = 'z'").count() == 3
    assert lake.read(QUARANTINE).where("source_file = 'loans/2024-03-03.csv'").count() == 0
    assert current_night(settings, THIRD).silver_versions


def take_orders(lake, as_of_date):
    """Of an ingest of the night, what concerns orders."""
    source, night = ingest.load_source("shop"), current_night(lake.settings, as_of_date)
    files = landing.order_files(lake, source, night)
    orders.load_order_files(lake.settings, source, files, as_of_date)
    orders.ingest_orders(lake, source, as_of_date)
    landing.mark_mapped(lake, [landed for landed, _ in files], night)


def test_orders_over_time(spark, shop):
    settings, data = shop
    lake = Lake(spark, settings)
    (data / "people" / "2024-03-01.csv").write_text("nr;town;income;told\n1;Ulm;40000;2024-01-15\n")
    (data / "loans" / "2024-03-01.csv").write_text(
        "loan,who,sum,years,rate,asked,state,paid_out\nL1,1,500000,3,7.5,2024-02-20,runs,2024-02-25\n"
    )
    header = "id,investor,amount,currency,target,at\n"
    (data / "orders" / "2024-03-01.csv").write_text(f"{header}o1,i1,1000,EUR,0.05,\no2,i1,2000,EUR,0.05,\n")
    open_night(settings, FIRST)
    take_orders(lake, FIRST)

    # A front end cancels one, tries a status that there is not, and places one before all time. A second file was cut
    # off in its last line, and says something unreadable about an order that is there.
    with closing(connect(settings, "intake")) as session, session, session.cursor() as cursor:
        cursor.execute("UPDATE intake.investor_order SET status = 'cancelled' WHERE order_id IN ('o1', 'o2')")
        cursor.execute("INSERT INTO intake.investor_order (order_id, amount, target_return, placed_at) VALUES ('o3', '1', '0.05', '-infinity')")
    with closing(connect(settings, "intake")) as session, session.cursor() as cursor:
        with pytest.raises(RaiseException, match="unknown status gone"):
            cursor.execute("UPDATE intake.investor_order SET status = 'gone' WHERE order_id = 'o2'")
        session.rollback()
        with pytest.raises(CheckViolation):
            cursor.execute("INSERT INTO intake.investor_order (order_id, amount, target_return) VALUES ('', '1', '0.05')")
        session.rollback()
        with pytest.raises(InsufficientPrivilege):
            cursor.execute("UPDATE intake.investor_order SET amount = '9' WHERE order_id = 'o2'")
    # One was cancelled in the afternoon of the second day, the other in the first hour after it, in Berlin.
    with closing(connect(settings, "owner")) as session, session, session.cursor() as cursor:
        for order, moment in (("o1", "2024-03-02T15:00+01"), ("o2", "2024-03-03T00:30+01")):
            cursor.execute("UPDATE intake.order_status_change SET changed_at = %s WHERE order_id = %s", (moment, order))
    (data / "orders" / "2024-03-02.csv").write_text(f"{header}o2,i1,2000,EUR,0.05,yesterday\no4,i2,10\n,i2,10,EUR,0.05,\n")
    open_night(settings, SECOND)
    take_orders(lake, SECOND)

    def told():
        silver = lake.read(INVESTOR_ORDER).orderBy("order_id", "known_from").collect()
        return [(row.order_id, row.known_from, row.status) for row in silver]

    expected = [("o1", FIRST, "open"), ("o1", SECOND, "cancelled"), ("o2", FIRST, "open")]
    assert told() == expected
    # Whenever the first night is run again, nothing of what came later is known of it.
    take_orders(lake, FIRST)
    assert told() == expected
    assert open_night(settings, FIRST).batch_id == current_night(settings, FIRST).batch_id
    # A quote that nobody closes swallows no order after it.
    (data / "orders" / "2024-03-03.csv").write_text(f'{header}o5,"i2,10,EUR,0.05,\no6,i2,10,EUR,0.05,\n')
    open_night(settings, THIRD)
    take_orders(lake, THIRD)
    expected += [("o2", THIRD, "cancelled"), ("o6", THIRD, "open")]
    assert told() == expected
    # Cancelled before the day was over, an order that the night has told as open is cancelled from the next day; once.
    with closing(connect(settings, "intake")) as session, session, session.cursor() as cursor:
        cursor.execute("UPDATE intake.investor_order SET status = 'cancelled' WHERE order_id = 'o6'")
    with closing(connect(settings, "owner")) as session, session, session.cursor() as cursor:
        cursor.execute("UPDATE intake.order_status_change SET changed_at = '2024-03-03T12:00+01' WHERE order_id = 'o6'")
    for _ in range(2):
        take_orders(lake, THIRD)
    assert told() == [*expected, ("o6", FOURTH, "cancelled")]
    assert sorted(answers(settings, "intake", "SELECT order_id, reasons FROM intake.order_refusal")) == [
        ("o3", ["time of placing is no time: -infinity"]),
        ("orders/2024-03-02.csv:1", ["order o2", "placed_at yesterday is not a time"]),
        ("orders/2024-03-02.csv:2", ["3 fields instead of 6"]),
        ("orders/2024-03-02.csv:3", ["no order id"]),
        ("orders/2024-03-03.csv:1", ["not readable as CSV: unexpected end of data"]),
    ]


def test_one_ingest_at_a_time(spark, shop, monkeypatch):
    settings, _ = shop
    monkeypatch.setattr(database, "LOCK_SECONDS", 0)
    with database.alone(settings, "ingest"), pytest.raises(database.AlreadyRunning, match="another ingest of the market"):
        ingest.run(spark, settings, FIRST)


@pytest.mark.parametrize(
    ("of_night", "ever", "share"),
    [
        ((0, 0), (100, 1), None),  # nothing landed
        ((1000, 60), (9000, 60), 0.06),  # many rows speak for themselves
        ((10, 1), (1000, 4), 0.004),  # one of ten says nothing yet: judged with all before
        ((2, 2), (1000, 4), 1.0),  # but all of several do
        ((1, 1), (1, 1), 1.0),
    ],
)
def test_the_share_of_broken_rows(settings, of_night, ever, share):
    assert ingest.broken_share(settings.gates, BORROWER, of_night, ever)[0] == share
