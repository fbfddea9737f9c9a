"""Which files a night still waits for."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest

from conf.source import LandedFile
from dags.landed_files import missing_files

NIGHT = date(2024, 3, 2)
DAILY = LandedFile(path="loan/*/part-*.csv", landed_on=r"loan/(\d{4}-\d{2}-\d{2})/", daily=True)
REQUIRED = LandedFile(path=["accepted.csv", "accepted.csv.gz"])
OPTIONAL = LandedFile(path="extra.csv", required=False)


@pytest.fixture
def land(tmp_path):
    def write(name: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a\n1\n")

    return write


def missing(folder, **files):
    return missing_files(SimpleNamespace(files=files), folder, NIGHT)


def test_nothing_has_landed(tmp_path):
    assert missing(tmp_path, loans=DAILY, accepted=REQUIRED, extra=OPTIONAL) == [
        f"loans of 2024-03-02 (loan/*/part-*.csv in {tmp_path})", f"accepted (accepted.csv or accepted.csv.gz in {tmp_path})",
    ]


def test_yesterdays_file_is_not_todays(tmp_path, land):
    land("loan/2024-03-01/part-0.csv")
    assert missing(tmp_path, loans=DAILY) == [f"loans of 2024-03-02 (loan/*/part-*.csv in {tmp_path})"]
    land("loan/2024-03-02/part-0.csv")
    assert missing(tmp_path, loans=DAILY) == []


def test_a_later_file_does_not_serve_an_earlier_night(tmp_path, land):
    # Required but not daily: something must have been knowable by the night.
    sometimes = DAILY.model_copy(update={"daily": False})
    land("loan/2024-03-03/part-0.csv")
    assert missing(tmp_path, loans=sometimes) == [f"loans (loan/*/part-*.csv in {tmp_path})"]


def test_any_of_several_names_will_do(tmp_path, land):
    land("accepted.csv.gz")
    assert missing(tmp_path, accepted=REQUIRED) == []


def test_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "accepted.csv").mkdir()
    assert missing(tmp_path, accepted=REQUIRED) == [f"accepted (accepted.csv or accepted.csv.gz in {tmp_path})"]
