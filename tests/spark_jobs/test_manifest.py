"""The run manifest and the night that it names: the same work has the same name, other work another."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime

import pytest
from pydantic import SecretStr

from spark_jobs import manifest as manifest_module
from spark_jobs import open_night, summary
from spark_jobs.database import connect
from spark_jobs.manifest import (
    NoOpenNight,
    batch_id,
    build_manifest,
    code_version,
    configuration_hash,
    current_night,
    macro_files,
    open_manifest,
    orders_digest,
    pin_silver_versions,
    record_ingested,
)
from tests.published_night import DAY, make_batch, publish

FILES = {"loan/2020-01-31/part-0.csv": "aa", "borrower/2020-01-31/part-0.csv": "bb"}
LATER = date(2020, 1, 31)


def changed(settings, section, **values):
    return settings.model_copy(update={section: getattr(settings, section).model_copy(update=values)})


def test_the_batch_is_named_by_day_and_contents(settings, monkeypatch):
    monkeypatch.setattr(manifest_module, "code_version", lambda source: "0")
    name = batch_id(build_manifest(settings, LATER, FILES, "3"))
    assert name.startswith("2020-01-31-") and len(name) == len("2020-01-31-") + 12
    assert batch_id(build_manifest(settings, LATER, dict(reversed(FILES.items())), "3")) == name


@pytest.mark.parametrize(
    "other",
    [
        {"landed_files": FILES | {"loan/2020-01-31/part-0.csv": "cc"}},
        {"model_version": "4"},
        {"macro_files": {"fred.csv": "dd"}},
        {"orders": "ee"},
        {"tops_up": "2020-01-30-ff"},
        {"as_of_date": date(2020, 2, 1)},
    ],
)
def test_other_inputs_are_another_batch(settings, other, monkeypatch):
    inputs = {"as_of_date": LATER, "landed_files": FILES, "model_version": "3"}
    monkeypatch.setattr(manifest_module, "code_version", lambda source: "0")
    assert batch_id(build_manifest(settings, **inputs)) != batch_id(build_manifest(settings, **inputs | other))


def test_only_settings_that_results_depend_on_count(settings):
    same = [
        changed(settings, "ports", api=9999),
        changed(settings, "spark", driver_memory="8g"),
        changed(settings, "serving", pool_size=2),
        settings.model_copy(update={"api_key": SecretStr("secret"), "home": settings.home / "elsewhere"}),
    ]
    others = [
        changed(settings, "allocation", platform_fee_rate=0.02),
        changed(settings, "gates", max_unscored_share=0.5),
        settings.model_copy(update={"source": "lendingclub"}),
    ]
    assert {configuration_hash(each) for each in [settings, *same]} == {configuration_hash(settings)}
    assert len({configuration_hash(each) for each in [settings, *others]}) == 4


def test_code_that_makes_results_counts_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_module, "ROOT", tmp_path)
    for path in ("features/age.py", "conf/mosaic.yaml", "conf/sources/ours.yaml", "conf/sources/theirs.yaml", "serving/app.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("first")
    before = code_version("ours")
    for path in ("conf/mosaic.yaml", "conf/sources/theirs.yaml", "serving/app.py"):
        (tmp_path / path).write_text("second")
        assert code_version("ours") == before, path
    seen = {before}
    for path in ("features/age.py", "conf/sources/ours.yaml"):
        (tmp_path / path).write_text("second")
        assert code_version("ours") not in seen, path
        seen.add(code_version("ours"))


def test_macro_files_are_told_apart_by_contents(settings, tmp_path):
    assert macro_files(settings) == {}
    (tmp_path / "fred.csv").write_text("x")
    assert macro_files(settings.model_copy(update={"macro": tmp_path})) == {
        "fred.csv": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    }


def test_the_night_opened_last_is_current_and_keeps_its_pins(empty_market):
    manifest = build_manifest(empty_market, LATER, FILES, "3")
    first = open_manifest(empty_market, manifest)
    pin_silver_versions(empty_market, first, {"loan": 5})
    second = open_manifest(empty_market, manifest | {"model_version": "4"})
    assert current_night(empty_market, LATER) == second
    assert (second.model_version, dict(second.landed_files), dict(second.silver_versions)) == ("4", FILES, {})
    again = open_manifest(empty_market, manifest)
    pin_silver_versions(empty_market, again, {"loan": 6})
    assert again.batch_id == first.batch_id == current_night(empty_market, LATER).batch_id
    assert dict(again.silver_versions) == {"loan": 5}


def test_without_an_open_night_it_says_what_to_run(empty_market):
    with pytest.raises(NoOpenNight, match="python -m spark_jobs open_night --as-of-date 2020-01-31"):
        current_night(empty_market, LATER)


def test_orders_of_a_front_end_count_and_those_of_files_do_not(empty_market):
    def place(*values):
        with closing(connect(empty_market, "intake")) as session, session, session.cursor() as cursor:
            cursor.execute(
                "INSERT INTO intake.investor_order (order_id, amount, target_return, placed_at, source_file) VALUES (%s, '9', '0.1', %s, %s)",
                values,
            )

    day_ends = datetime(2020, 2, 1, tzinfo=UTC)
    digests = [orders_digest(empty_market, day_ends)]
    place("of a file", datetime(2020, 1, 5, tzinfo=UTC), "orders/2020-01-05.csv")
    place("of tomorrow", day_ends, None)
    assert orders_digest(empty_market, day_ends) == digests[0] == ""
    place("of today", datetime(2020, 1, 31, 23, tzinfo=UTC), None)
    place("of no time", None, None)
    digests.append(orders_digest(empty_market, day_ends))
    assert digests[1] != digests[0]
    # The status that a front end gives an order counts, of a file's too, from the moment of the change on: not before.
    with closing(connect(empty_market, "intake")) as session, session, session.cursor() as cursor:
        cursor.execute("UPDATE intake.investor_order SET status = 'filled' WHERE order_id = 'of a file'")
    assert orders_digest(empty_market, day_ends) == digests[1]
    with closing(connect(empty_market, "owner")) as session, session, session.cursor() as cursor:
        cursor.execute("UPDATE intake.order_status_change SET changed_at = '2020-01-31T12:00Z'")
    assert orders_digest(empty_market, day_ends) not in digests


def test_open_night_writes_what_has_landed(empty_market, monkeypatch, capsys):
    monkeypatch.setattr(open_night, "landed_files", lambda settings, source, as_of_date: FILES)
    monkeypatch.setattr(open_night, "_champion_version", lambda settings, as_of_date: "12")
    open_night.run(empty_market, LATER)
    night = current_night(empty_market, LATER)
    assert (night.model_version, dict(night.landed_files)) == ("12", FILES)
    assert f"night {night.batch_id}: 2 landed files, model version 12" in capsys.readouterr().out
    open_night.run(empty_market, LATER, training=True)
    assert current_night(empty_market, LATER, training=True).model_version == "none"
    assert current_night(empty_market, LATER) == night, "training opened beside the night must not take its place"


def test_a_night_that_has_not_begun_is_refused_but_for_drawn_markets(settings):
    lender = settings.model_copy(update={"source": "lendingclub"})
    with pytest.raises(open_night.FutureNight, match=r"2911-06-30 lies ahead"):
        open_night.run(lender, date(2911, 6, 30))


def test_each_product_has_a_night_of_its_own(empty_market):
    companies = empty_market.model_copy(update={"product": "company"})
    lending_night, company_night = (open_manifest(market, build_manifest(market, DAY, FILES, "3")) for market in (empty_market, companies))
    assert lending_night.batch_id != company_night.batch_id
    assert current_night(empty_market, DAY) == lending_night and current_night(companies, DAY) == company_night


def test_the_summary_tells_what_was_published(empty_market, monkeypatch, capsys):
    night = open_manifest(empty_market, build_manifest(empty_market, DAY, FILES, "3"))
    record_ingested(empty_market, night, {"loan": (1200, 7), "borrower": (800, 0)})
    summary.run(empty_market, DAY)
    assert f"Batch {night.batch_id} of lending: not published\n" in capsys.readouterr().out

    batch = make_batch(DAY)
    publish(empty_market, batch.__class__(night.batch_id, DAY, "1.0", {}))
    with closing(connect(empty_market, "publisher")) as session, session, session.cursor() as cursor:
        for gate, success in (("score.borrower_score", True), ("ingest.loan", False)):
            cursor.execute(
                "INSERT INTO ops.gate_result VALUES (%s, 'x', %s, %s, 1, 1, '{}', 'too many broken', NULL, %s, now())",
                (gate, DAY, success, night.batch_id),
            )
    summary.run(empty_market, DAY)
    said = capsys.readouterr().out
    for line in (
        f"Batch {night.batch_id} of lending: published\n",
        "as of         2020-01-01, model version 3",
        "rows in       2,000 in 2 tables",
        "quarantined   loan 7",
        "scored        3 borrowers, mean probability of default 0.1000 within 12 months",
        "unscored      too_thin 1",
        "orders        1: 0 on target, 1 below target, 0 unfilled",
        "allocated     25.00 of 500.00 USD, expected net return 0.0700 a year",
        "gates         1 of 2 passed",
        "closed: ingest.loan: too many broken",
        f"No night of company was opened for {DAY}",
        "make psql SOURCE=simulated SQL='select * from publication.latest_borrower_score limit 5'",
        "make psql SOURCE=simulated SQL='select * from publication.latest_company_score limit 5'",
    ):
        assert line in said

    publish(empty_market, make_batch(LATER))
    summary.run(empty_market, DAY)
    assert f"attached; readers read batch {make_batch(LATER).batch_id} as of 2020-01-31" in capsys.readouterr().out
