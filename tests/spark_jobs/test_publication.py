"""The publication protocol on a real server: whole batches, in order, through kills, with the right rights."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest
from psycopg2 import errors

from conf.company_features import COMPANY_REASON_WORDS
from conf.reasons import REASON_WORDS, Words
from conf.settings import Settings
from conf.tables import COMPANY_SCORE, COMPANY_UNSCORED, PUBLISHED, PUBLISHED_BY_PRODUCT, Table
from spark_jobs import publication
from spark_jobs.database import connect
from spark_jobs.publication import (
    Batch,
    PublicationFailed,
    PublicationRefused,
    postgres_types,
    publish_batch,
    rollback,
)
from tests.published_night import (
    DAY,
    contents,
    copier,
    make_batch,
    make_company_batch,
    make_rows,
    publish,
    publish_companies,
)


def read(settings: Settings, query: str, role: str = "reader") -> list[tuple]:
    with closing(connect(settings, role)) as session, session, session.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def current(settings: Settings) -> str:
    return read(settings, "SELECT batch_id FROM publication.latest_publication")[0][0]


def partitions(settings: Settings) -> set[str]:
    return {
        row[0].split("__")[1]
        for row in read(
            settings,
            "SELECT relname FROM pg_class WHERE relnamespace = 'publication'::regnamespace AND relkind = 'r' "
            "AND relname LIKE '%\\_\\_%'",
            "publisher",
        )
    }


def test_published_tables_have_the_declared_columns_and_types(database):
    for table in (*PUBLISHED, *PUBLISHED_BY_PRODUCT["company"]):
        found = read(
            database,
            f"""SELECT attname::text, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
            WHERE attrelid = 'publication.{table.name}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
        )
        assert [(name, kind) for name, kind, _ in found] == list(postgres_types(table).items()), table.name
        assert tuple(name for name, _, required in found if required) == table.required, table.name


def test_contract_of_the_latest_views(database):
    """What downstream systems rely on: a change here is a new data contract version."""
    found = {
        table.name: read(
            database,
            f"""SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
            WHERE attrelid = 'publication.latest_{table.name}'::regclass AND attnum > 0 ORDER BY attnum""",
        )
        for table in PUBLISHED
    }
    assert found.pop("borrower_score") == [
        ("borrower_id", "text"), ("borrower_type", "text"), ("as_of_date", "date"),
        ("prob_default", "double precision"), ("horizon_months", "integer"), ("score_points", "integer"),
        ("risk_group", "integer"), ("reason_codes", "text[]"), ("model_version", "text"), ("batch_id", "text"),
        ("data_contract_version", "text"),
    ]
    assert found == {
        table.name: list(postgres_types(table).items()) for table in PUBLISHED if table.name != "borrower_score"
    }


def test_contract_of_the_company_score(database):
    found = read(
        database,
        """SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = 'publication.latest_company_score'::regclass AND attnum > 0 ORDER BY attnum""",
    )
    assert PUBLISHED_BY_PRODUCT["company"] == (COMPANY_SCORE, COMPANY_UNSCORED)
    assert found == [
        ("company_id", "text"), ("as_of_date", "date"), ("prob_distress_1y", "double precision"),
        ("prob_distress_2y", "double precision"), ("prob_distress_3y", "double precision"), ("grade", "text"),
        ("altman_z", "double precision"), ("reason_codes", "text[]"), ("filing_id", "text"), ("period_end", "date"),
        ("model_version", "text"), ("batch_id", "text"), ("data_contract_version", "text"),
    ]
    unscored = read(
        database,
        """SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute
        WHERE attrelid = 'publication.latest_company_unscored'::regclass AND attnum > 0 ORDER BY attnum""",
    )
    assert unscored == [("company_id", "text"), ("as_of_date", "date"), ("reason", "text"), ("batch_id", "text")]


def test_companies_have_a_pointer_of_their_own(empty_market):
    lending, companies = make_batch(DAY + timedelta(days=1)), make_company_batch(DAY)
    assert publish(empty_market, lending) == "published"
    market = empty_market.model_copy(update={"product": "company"})
    # An older day than the other product's is no backfill.
    assert publish_companies(market, companies) == "published"
    assert publish_companies(market, companies) == "unchanged"
    told = read(market, "SELECT product, batch_id FROM publication.latest_publication ORDER BY product")
    assert told == [("company", companies.batch_id), ("lending", lending.batch_id)]
    scores = read(market, "SELECT company_id, prob_distress_2y, altman_z, data_contract_version FROM publication.latest_company_score")
    assert sorted(scores) == [("c0", 0.02, None, "1.0"), ("c1", 0.04, 1.5, "1.0")]
    assert read(market, "SELECT company_id, reason FROM publication.latest_company_unscored") == [("c2", "too_few_statements")]
    later = make_company_batch(DAY + timedelta(days=2))
    assert publish_companies(market, later) == "published"
    assert publication.rollback(market, companies.batch_id) == later.batch_id
    there = rf"{lending.batch_id} \(lending\), {later.batch_id} \(company\), {companies.batch_id} \(company\)"
    with pytest.raises(PublicationRefused, match=f"nonsense is not attached; batches to go back to: {there}$"):
        publication.rollback(market, "nonsense")
    # A batch says by itself which pointer it is that moves.
    assert publication.rollback(market, lending.batch_id) == lending.batch_id
    told = read(market, "SELECT product, batch_id FROM publication.latest_publication ORDER BY product")
    assert told == [("company", companies.batch_id), ("lending", lending.batch_id)]


def test_readers_find_what_a_reason_code_says(database):
    told = read(database, "SELECT code, en, ko FROM publication.latest_reason_code")
    assert {code: Words(en, ko) for code, en, ko in told} == REASON_WORDS | COMPANY_REASON_WORDS


def test_a_batch_is_read_whole_and_its_origin_is_told(empty_market):
    batch = make_batch(DAY)
    assert publish(empty_market, batch) == "published"
    scores = read(empty_market, "SELECT borrower_id, prob_default, data_contract_version FROM publication.latest_borrower_score")
    assert sorted(scores) == [("b0", 0.0, "1.0"), ("b1", 0.1, "1.0"), ("b2", 0.2, "1.0")]
    told = read(empty_market, "SELECT batch_id, as_of_date, manifest, content FROM publication.latest_publication")
    assert told[0][:3] == (batch.batch_id, DAY, dict(batch.manifest))
    assert told[0][3]["borrower_score"]["rows"] == 3


def test_publishing_twice_changes_nothing(empty_market):
    batch = make_batch(DAY)
    publish(empty_market, batch)
    before = read(empty_market, "SELECT entry, at FROM publication.publication_log ORDER BY entry", "publisher")
    assert publish(empty_market, batch) == "unchanged"
    assert read(empty_market, "SELECT entry, at FROM publication.publication_log ORDER BY entry", "publisher") == before


def test_the_same_batch_with_other_contents_is_refused(empty_market):
    batch = make_batch(DAY)
    publish(empty_market, batch, borrowers=3)
    with pytest.raises(PublicationRefused, match="other contents of borrower_score"):
        publish(empty_market, batch, borrowers=4)
    assert len(read(empty_market, "SELECT FROM publication.latest_borrower_score")) == 3


@pytest.mark.parametrize("changed", [{"prob_default": 0.100000001}, {"borrower_id": "b9"}, {"reason_codes": "{}"}])
def test_a_single_changed_value_is_found_before_it_is_published(empty_market, changed):
    publish(empty_market, make_batch(DAY))
    batch = make_batch(DAY + timedelta(days=1))
    rows = make_rows(batch)
    sent = contents(rows)
    rows["borrower_score"][1] |= changed
    with pytest.raises(PublicationFailed, match="borrower_score"):
        publish_batch(empty_market, batch, sent, copier(empty_market, rows))
    assert current(empty_market) == make_batch(DAY).batch_id


def test_a_doubled_key_is_found_before_it_is_published(empty_market):
    batch = make_batch(DAY)
    rows = make_rows(batch)
    rows["unscored"] *= 2
    with pytest.raises(PublicationFailed, match=r"unscored: Key \(borrower_id, batch_id\)=\(thin, .*\) is duplicated"):
        publish_batch(empty_market, batch, contents(rows), copier(empty_market, rows))


def test_a_backfill_is_attached_but_the_pointer_never_goes_back(empty_market):
    publish(empty_market, make_batch(DAY))
    assert publish(empty_market, make_batch(DAY - timedelta(days=5))) == "backfilled"
    assert current(empty_market) == make_batch(DAY).batch_id
    assert publish(empty_market, make_batch(DAY - timedelta(days=5))) == "unchanged"


def test_a_corrected_night_of_the_same_day_replaces_it(empty_market):
    publish(empty_market, make_batch(DAY, "1"))
    assert publish(empty_market, make_batch(DAY, "2")) == "published"
    assert current(empty_market) == make_batch(DAY, "2").batch_id


def test_rollback_moves_the_pointer_is_recorded_and_lasts(empty_market):
    first, second = make_batch(DAY), make_batch(DAY + timedelta(days=1))
    publish(empty_market, first)
    publish(empty_market, second)
    assert rollback(empty_market, first.batch_id) == second.batch_id
    assert current(empty_market) == first.batch_id
    # Running the rolled back night's publication again does not undo what a person did.
    assert publish(empty_market, second) == "unchanged"
    assert current(empty_market) == first.batch_id
    log = read(
        empty_market,
        "SELECT action, batch_id, previous_batch_id, who <> '', manifest->>'as_of_date' FROM publication.publication_log "
        "ORDER BY entry DESC LIMIT 1",
        "publisher",
    )
    assert log == [("rollback", first.batch_id, second.batch_id, True, "2020-01-01")]
    assert publish(empty_market, make_batch(DAY + timedelta(days=2))) == "published"


def test_rollback_to_an_unknown_batch_lists_those_that_are_there(empty_market):
    publish(empty_market, make_batch(DAY))
    with pytest.raises(PublicationRefused, match=f"nonsense is not attached; .*{make_batch(DAY).batch_id}"):
        rollback(empty_market, "nonsense")


def test_old_batches_are_dropped_but_never_the_current_one(empty_market):
    kept = empty_market.model_copy(
        update={"publication": empty_market.publication.model_copy(update={"keep_batches": 2})}
    )
    days = [DAY + timedelta(days=number) for number in range(4)]
    for day in days:
        publish(kept, make_batch(day))
    assert partitions(kept) == {make_batch(day).batch_id for day in days[2:]}
    assert read(kept, "SELECT batch_id FROM publication.publication_log WHERE action = 'prune' ORDER BY entry", "publisher") == [
        (make_batch(day).batch_id,) for day in days[:2]
    ]


def test_the_batch_that_readers_read_outlives_the_newest(empty_market):
    days = [DAY + timedelta(days=number) for number in range(4)]
    for day in days:
        publish(empty_market, make_batch(day))
    rollback(empty_market, make_batch(days[0]).batch_id)
    with closing(connect(empty_market, "publisher")) as session:
        publication.prune(session, PUBLISHED, keep=2, wait_seconds=5)
    assert partitions(empty_market) == {make_batch(day).batch_id for day in (days[0], days[2], days[3])}
    assert len(read(empty_market, "SELECT FROM publication.latest_borrower_score")) == 3


def test_a_reader_that_holds_on_delays_neither_publication_nor_pruning_for_ever(empty_market):
    impatient = empty_market.model_copy(
        update={"publication": empty_market.publication.model_copy(update={"keep_batches": 2, "drain_seconds": 1})}
    )
    publish(impatient, make_batch(DAY))
    with closing(connect(impatient, "reader")) as reader, reader.cursor() as cursor:
        reader.set_session(isolation_level="REPEATABLE READ")
        cursor.execute("SELECT DISTINCT batch_id FROM publication.latest_borrower_score")
        seen = cursor.fetchall()
        for number in range(1, 4):
            assert publish(impatient, make_batch(DAY + timedelta(days=number))) == "published"
        cursor.execute("SELECT DISTINCT batch_id FROM publication.latest_borrower_score")
        assert cursor.fetchall() == seen == [(make_batch(DAY).batch_id,)]
    publish(impatient, make_batch(DAY + timedelta(days=4)))
    assert len(partitions(impatient)) == 2


def test_the_pointer_waits_for_whoever_read_before_the_batch_was_attached(empty_market):
    """Such a reader may have planned its statement without the new partitions and not taken its snapshot yet."""
    first, second = make_batch(DAY), make_batch(DAY + timedelta(days=1))
    publish(empty_market, first)
    with closing(connect(empty_market, "reader")) as reader, reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM publication.latest_unscored")
        publisher = threading.Thread(target=publish, args=(empty_market, second))
        publisher.start()
        attached = "SELECT FROM publication.batch WHERE batch_id = '" + second.batch_id + "'"
        while not read(empty_market, attached, "publisher"):
            time.sleep(0.02)
        time.sleep(0.5)
        assert current(empty_market) == first.batch_id
        # Whoever comes after the batch was attached does not hold it up.
        with closing(connect(empty_market, "reader")) as late, late.cursor() as looking:
            looking.execute("SELECT count(*) FROM publication.latest_unscored")
            reader.commit()
            publisher.join(30)
            assert not publisher.is_alive()
    assert current(empty_market) == second.batch_id
    detail = read(
        empty_market, "SELECT detail FROM publication.publication_log WHERE action = 'publish' ORDER BY entry DESC LIMIT 1", "publisher"
    )[0][0]
    assert detail["waited_seconds"] >= 0.5 and detail["not_waited_for"] == 0


def kill_at(settings: Settings, batch: Batch, stop: str) -> None:
    """A child process publishes the batch and dies by SIGKILL when it comes to the named step."""
    def die(*_args, **_kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    def child() -> None:
        rows = make_rows(batch)
        copy = copier(settings, rows)
        if stop == "in the middle of the copy":
            whole, calls = copy, []

            def copy(table: Table, staging: str) -> None:
                calls.append(table)
                if len(calls) == 3:
                    die()
                whole(table, staging)
        else:
            setattr(publication, stop, die)
        publish_batch(settings, batch, contents(rows), copy)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("stop", ["_stage", "in the middle of the copy", "_verify", "_attach", "_drain", "_move_pointer", "prune"])
def test_killed_anywhere_readers_keep_yesterday_and_a_rerun_finishes(empty_market, stop):
    yesterday, today = make_batch(DAY), make_batch(DAY + timedelta(days=1))
    publish(empty_market, yesterday)
    kill_at(empty_market, today, stop)
    flipped = stop == "prune"
    assert current(empty_market) == (today if flipped else yesterday).batch_id
    assert len(read(empty_market, "SELECT FROM publication.latest_borrower_score")) == 3
    assert publish(empty_market, today) == ("unchanged" if flipped else "published")
    assert current(empty_market) == today.batch_id
    assert partitions(empty_market) == {yesterday.batch_id, today.batch_id}
    assert read(empty_market, "SELECT count(*) FROM ops.copied_part", "publisher") == [(0,)]


def test_readers_in_a_loop_see_one_whole_batch_over_200_publications(empty_market):
    """Four readers, one of them on prepared statements, one on two statements that must agree; 200 flips."""
    settings = empty_market.model_copy(
        update={"publication": empty_market.publication.model_copy(update={"keep_batches": 3})}
    )
    publish(settings, make_batch(DAY))
    stop = threading.Event()
    reads, wrong = [], []
    pause = 0.001  # leaves the publisher something of a small machine
    whole = (
        "SELECT count(*), count(DISTINCT batch_id), count(DISTINCT model_version), min(batch_id) = min(model_version), "
        "(SELECT count(*) FROM publication.latest_risk_group_cap WHERE batch_id = min(s.batch_id)) "
        "FROM publication.latest_borrower_score s"
    )

    def look(prepared: bool) -> None:
        with closing(connect(settings, "reader")) as session, session.cursor() as cursor:
            session.autocommit = True
            if prepared:
                cursor.execute(f"PREPARE whole AS {whole}")
            while not stop.is_set():
                cursor.execute("EXECUTE whole" if prepared else whole)
                seen = cursor.fetchone()
                reads.append(1)
                if seen != (3, 1, 1, True, 5):
                    wrong.append(seen)
                time.sleep(pause)

    def look_up() -> None:
        with closing(connect(settings, "reader")) as session, session.cursor() as cursor:
            session.autocommit = True
            while not stop.is_set():
                cursor.execute("SELECT model_version FROM publication.latest_borrower_score WHERE borrower_id = 'b1'")
                reads.append(1)
                if len(seen := cursor.fetchall()) != 1:
                    wrong.append(seen)
                time.sleep(pause)

    def look_twice() -> None:
        with closing(connect(settings, "reader")) as session, session.cursor() as cursor:
            session.set_session(isolation_level="REPEATABLE READ", readonly=True)
            while not stop.is_set():
                cursor.execute("SELECT batch_id FROM publication.latest_allocation_summary WHERE order_id = 'o1'")
                summary = cursor.fetchall()
                cursor.execute("SELECT batch_id FROM publication.latest_allocation WHERE order_id = 'o1'")
                lines = cursor.fetchall()
                session.commit()
                reads.append(2)
                if len(summary) != 1 or summary != lines:
                    wrong.append((summary, lines))
                time.sleep(pause)

    failures = []

    def guarded(reader, *arguments) -> None:
        try:
            reader(*arguments)
        except psycopg2.Error as problem:
            failures.append(problem)

    readers = [
        threading.Thread(target=guarded, args=args)
        for args in ((look, False), (look, True), (look_up,), (look_twice,))
    ]
    for reader in readers:
        reader.start()
    started = time.monotonic()
    try:
        for number in range(1, 201):
            publish(settings, make_batch(DAY + timedelta(days=number)))
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    print(f"{sum(reads)} reads over 200 publications in {time.monotonic() - started:.0f} s")
    assert failures == []
    assert wrong == []
    assert sum(reads) > 1000


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("reader", "SELECT * FROM publication.borrower_score"),
        ("reader", "SELECT * FROM publication.current_batch"),
        ("reader", "SELECT * FROM publication.publication_log"),
        ("reader", "SELECT * FROM ops.run_manifest"),
        ("reader", "SELECT * FROM intake.investor_order"),
        ("reader", "DELETE FROM publication.latest_unscored"),
        ("reader", "CREATE TABLE publication.mine (id int)"),
        ("intake", "SELECT * FROM publication.latest_borrower_score"),
        ("intake", "SELECT * FROM ops.gate_result"),
        ("intake", "DELETE FROM intake.investor_order"),
        ("intake", "UPDATE intake.investor_order SET amount = '1'"),
        ("publisher", "INSERT INTO intake.investor_order (amount) VALUES ('1')"),
        ("publisher", "DELETE FROM publication.publication_log"),
        ("publisher", "DROP VIEW publication.latest_borrower_score"),
    ],
)
def test_a_role_cannot_do_what_it_has_no_right_to(database, role, statement):
    with closing(connect(database, role)) as session, session.cursor() as cursor, pytest.raises(errors.InsufficientPrivilege):
        cursor.execute(statement)


def test_an_order_lands_whatever_it_says_and_can_be_refused(empty_market):
    with closing(connect(empty_market, "intake")) as session, session, session.cursor() as cursor:
        cursor.execute(
            "INSERT INTO intake.investor_order (investor_id, amount, currency, target_return) "
            "VALUES ('i1', 'a lot', 'XXX', NULL) RETURNING order_id"
        )
        order_id = cursor.fetchone()[0]
    with closing(connect(empty_market, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute("SELECT amount, status FROM intake.investor_order")
        assert cursor.fetchall() == [("a lot", "open")]
        cursor.execute("INSERT INTO intake.order_refusal (order_id, reasons) VALUES (%s, %s)", (order_id, ["amount"]))


def test_listeners_are_told_of_every_move(empty_market):
    with closing(connect(empty_market, "reader")) as listener, listener.cursor() as cursor:
        listener.autocommit = True
        cursor.execute(f"LISTEN {publication.CHANNEL}")
        publish(empty_market, make_batch(DAY))
        publish(empty_market, make_batch(DAY - timedelta(days=1)))
        listener.poll()
        told = [json.loads(notice.payload) for notice in listener.notifies]
    assert told == [{"product": "lending", "batch_id": make_batch(DAY).batch_id, "as_of_date": "2020-01-01"}]
