"""The job simulate: what lands where, whatever the partitioning, and that running it again changes nothing."""

from __future__ import annotations

import csv
import hashlib
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from conf.settings import Settings
from conf.tables import TRUTH_DEFAULT
from models.simulated_companies import COMPANY_LAYOUTS
from models.simulated_export import LAYOUTS, customer_no
from models.simulated_market import month_of, tenures, true_default_probability, walk
from spark_jobs import simulate
from spark_jobs.lake import Lake

FIRST = date(2026, 5, 1)
NEXT = date(2026, 5, 3)


@pytest.fixture
def small(settings: Settings) -> Settings:
    """A market of 240 seats and six months of history."""
    simulation = settings.simulation.model_copy(update={"borrowers": 240, "companies": 60, "history_months": 6, "orders_per_night": 20})
    return settings.model_copy(update={"simulation": simulation, "data": settings.market / "landing"})


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(folder: Path, table: str, day: date) -> list[tuple[str, ...]]:
    """The rows of a table's folder, sorted; every part has the same header."""
    found: list[tuple[str, ...]] = []
    for path in sorted((folder / table / day.isoformat()).glob("part-*.csv")):
        with path.open(newline="") as stream:
            header, *records = list(csv.reader(stream))
        assert tuple(header) == (LAYOUTS | COMPANY_LAYOUTS)[table].columns
        found += map(tuple, records)
    return sorted(found)


def test_history_then_nights_and_a_rerun_that_changes_nothing(spark, small):
    simulate.run(spark, small, FIRST)
    folder = small.data_folder
    assert {path.parent.name for path in folder.glob("*/*/part-*.csv")} == {"2026-05-01"}
    assert {path.name for path in folder.iterdir()} == {*LAYOUTS, *COMPANY_LAYOUTS, "investor_order", "macro", "simulation.json"}
    history = digests(folder)

    simulate.run(spark, small, NEXT)
    # Two days were missing; each has a folder of its own with what was recorded on it, and nothing older has changed.
    for day in (date(2026, 5, 2), NEXT):
        repaid = rows(folder, "repayment", day)
        assert repaid and {row[-1] for row in repaid} == {day.isoformat()}
        assert len(list((folder / "investor_order" / day.isoformat()).iterdir())) == 1
    both = digests(folder)
    assert {path: both[path] for path in history if not path.startswith("macro")} == {
        path: digest for path, digest in history.items() if not path.startswith("macro")
    }

    lake = Lake(spark, small)
    version = lake.version(TRUTH_DEFAULT)
    simulate.run(spark, small, NEXT)
    assert digests(folder) == both
    assert lake.version(TRUTH_DEFAULT) == version


def test_partitioning_changes_no_row(spark, small, tmp_path, monkeypatch):
    folders = []
    for tasks, seats in (("one", 10_000), ("many", 70)):
        monkeypatch.setattr(simulate, "HISTORY_TASK_BORROWERS", seats)
        monkeypatch.setattr(simulate, "TASK_COMPANIES", seats // 3)
        landing = simulate.Landing(tmp_path / tasks)
        simulate.land_history(spark, landing, small.simulation, FIRST)
        folders.append(landing.folder)
    assert len(list((folders[1] / "loan" / "2026-05-01").iterdir())) == 4
    assert len(list((folders[1] / "filing" / "2026-05-01").iterdir())) == 3
    for table in (*LAYOUTS, *COMPANY_LAYOUTS):
        expected = rows(folders[0], table, FIRST)
        assert expected and rows(folders[1], table, FIRST) == expected


def test_partitioning_changes_no_row_of_a_night_and_no_truth(spark, small, tmp_path, monkeypatch):
    folders, truths = [], []
    for tasks, seats in (("one", 10_000), ("many", 70)):
        monkeypatch.setattr(simulate, "NIGHT_TASK_BORROWERS", seats)
        landing = simulate.Landing(tmp_path / tasks)
        simulate.land_days(spark, landing, small.simulation, [NEXT, date(2026, 5, 4)])
        folders.append(landing.folder)
        truths.append(sorted(simulate.build_truth(spark, small.simulation, NEXT).collect()))
    assert len(list((folders[1] / "repayment" / NEXT.isoformat()).iterdir())) > 1
    for table in LAYOUTS:
        assert rows(folders[1], table, NEXT) == rows(folders[0], table, NEXT)
    assert truths[0] and truths[1] == truths[0]


def test_a_day_before_the_market_is_refused(spark, small):
    simulate.run(spark, small, FIRST)
    with pytest.raises(simulate.BeforeTheMarket, match="begins on 2026-05-01, 2026-04-30 lies before"):
        simulate.run(spark, small, date(2026, 4, 30))
    # A day of fewer borrowers would leave the others without a record, as if they had never been late.
    fewer = small.model_copy(update={"simulation": small.simulation.model_copy(update={"borrowers": 10})})
    with pytest.raises(simulate.AnotherMarket, match=f"was drawn with borrowers {small.simulation.borrowers}: keep that"):
        simulate.run(spark, fewer, NEXT)


def test_a_killed_landing_is_taken_up_again(spark, small):
    """What a killed run leaves: some tables moved, others not, parts lying about, no orders."""
    simulate.run(spark, small, FIRST)
    folder = small.data_folder
    before = digests(folder)
    shutil.rmtree(folder / "repayment")
    shutil.rmtree(folder / "investor_order")
    half = folder / ".landing" / "loan" / "2026-05-01" / ".part-00000.csv.7"
    half.parent.mkdir(parents=True)
    half.write_text("half a fi")

    simulate.run(spark, small, FIRST)
    assert digests(folder) == before


def test_truth_is_that_of_the_process(spark, small):
    simulate.run(spark, small, FIRST)
    truth = {row.borrower_id: row.prob_default_12m for row in Lake(spark, small).read_as_of(TRUTH_DEFAULT, FIRST).collect()}
    simulation = small.simulation
    borrowers = tenures(np.arange(240), simulation.seed, month_of(FIRST), month_of(FIRST), simulation.two_ids_rate)
    expected = true_default_probability(walk(borrowers, simulation.seed, month_of(FIRST) + 1), simulation.seed, FIRST)
    known = ~np.isnan(expected)
    assert truth == dict(zip(customer_no(borrowers.number[known]).to_pylist(), expected[known].tolist(), strict=True))


@pytest.mark.parametrize(("day", "months", "expected"), [
    (date(2026, 5, 31), 24, date(2024, 5, 31)),
    (date(2024, 3, 31), 1, date(2024, 2, 29)),  # the shorter month's last day
    (date(2024, 12, 5), 12, date(2023, 12, 5)),  # December stays in its year
    (date(2024, 1, 31), 13, date(2022, 12, 31)),
])
def test_months_before(day, months, expected):
    assert simulate.months_before(day, months) == expected
