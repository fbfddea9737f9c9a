"""Landing: what comes out of a CSV file, and what each kind of bad file says. No Spark but in the last tests."""

from __future__ import annotations

import gzip
import hashlib
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from conf.source import Csv, load_source
from spark_jobs.lake import Lake
from spark_jobs.landing import LandingError, bronze_path, bronze_rows, land_files, landed_files, mark_mapped, read_rows
from spark_jobs.manifest import Night

AS_OF = date(2024, 3, 2)
PEOPLE = """
name: shop
title: A shop that lends
currency: EUR
horizon_months: 12
outcome: default_within_horizon
blocks: [demographic]
files:
  people: {path: 'people/*/*.csv*', landed_on: 'people/([0-9-]+)/'}
tables:
  borrower:
    - from: people
      columns:
        borrower_id: 'no'
        borrower_type: {constant: person}
        identity_group_id: 'no'
        region: town
"""


@pytest.fixture
def shop(tmp_path, settings):
    """The shop's source, and settings whose data folder holds what a test lands."""
    sources, data = tmp_path / "sources", tmp_path / "data"
    sources.mkdir()
    data.mkdir()
    (sources / "shop.yaml").write_text(PEOPLE)
    return load_source("shop", sources), settings.model_copy(update={"data": data})


def land(settings, day: str, name: str, content: bytes) -> Path:
    file = settings.data / "people" / day / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def rows_of(content: bytes, columns: list[str], name: str = "people.csv", tmp: Path | None = None, **written) -> list[dict]:
    file = tmp / name
    file.write_bytes(content)
    batches = read_rows(name, file, hashlib.sha256(content).hexdigest(), columns, columns, Csv(**written))
    rows = [row for batch in batches for row in batch.to_pylist()]
    return sorted(rows, key=lambda row: row["_row_number"])


def test_rows_are_numbered_as_they_stand_and_malformed_lines_kept(tmp_path):
    content = b'no,town\n1,Ulm\n\n2\n3,"Bad\nTolz, ""Sud"""\n4,Ulm,more\n5,\n'
    rows = rows_of(content, ["no", "town"], tmp=tmp_path)
    assert [(row["_row_number"], row["_malformed"], row["no"], row["town"]) for row in rows] == [
        (1, None, "1", "Ulm"),
        (2, "2", None, None),  # a field is missing
        (3, None, "3", 'Bad\nTolz, "Sud"'),  # a line break and a comma inside quotes are text
        (4, "4,Ulm,more", None, None),  # a field too many
        (5, None, "5", ""),  # an empty field is as landed: empty
    ]


def test_encodings_delimiters_and_files_without_header(tmp_path):
    content = "1;Köln\n2;Ulm\n".encode("latin-1")
    rows = rows_of(content, ["no", "town"], tmp=tmp_path, delimiter=";", encoding="latin-1", header=False, column_names=("no", "town"))
    assert [(row["_row_number"], row["town"]) for row in rows] == [(1, "Köln"), (2, "Ulm")]
    marked = "\ufeffno,town\n1,Köln\n".encode()
    assert [row["no"] for row in rows_of(marked, ["no", "town"], tmp=tmp_path)] == ["1"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"no,town\n1,K\xf6ln\n", "people.csv: not UTF-8"),  # Latin-1 delivered as UTF-8
        (b'no,town\n1,Ulm\n2,"Bonn\n3,Ulm\n', "people.csv: a quote that opens around row 2 is never closed"),
    ],
)
def test_unreadable_text_is_an_error_that_names_the_file(tmp_path, content, says):
    with pytest.raises(LandingError, match=says):
        rows_of(content, ["no", "town"], tmp=tmp_path)


def test_truncated_gzip_is_an_error_that_names_the_file(tmp_path):
    whole = gzip.compress(b"no,town\n" + b"".join(b"%d,Ulm%d\n" % (number, number * 7919) for number in range(20000)))
    with pytest.raises(LandingError, match=r"people\.csv\.gz: truncated or broken gzip"):
        rows_of(whole[: len(whole) // 2], ["no", "town"], "people.csv.gz", tmp_path)
    assert len(rows_of(whole, ["no", "town"], "people.csv.gz", tmp_path)) == 20000


def test_a_file_that_changed_after_the_night_was_opened_is_an_error(tmp_path):
    (tmp_path / "people.csv").write_bytes(b"no,town\n1,Ulm\n")
    with pytest.raises(LandingError, match="has changed since the night was opened"):
        list(read_rows("people.csv", tmp_path / "people.csv", "0" * 64, ["no", "town"], ["no", "town"], Csv()))


def test_only_files_knowable_by_the_as_of_date_count(shop):
    source, settings = shop
    for day in ("2024-03-01", "2024-03-02", "2024-03-03"):
        land(settings, day, "part.csv", f"no,town\n{day[-1]},Ulm\n".encode())
    assert list(landed_files(settings, source, AS_OF)) == ["people/2024-03-01/part.csv", "people/2024-03-02/part.csv"]


def test_missing_late_and_unreadable_files_are_named(shop, tmp_path):
    source, settings = shop
    with pytest.raises(LandingError, match=r"missing file: no people by 2024-03-02.*the folder holds nothing"):
        landed_files(settings, source, AS_OF)
    with pytest.raises(LandingError, match=r"cannot read the data folder .*nowhere: set DATA="):
        landed_files(settings.model_copy(update={"data": tmp_path / "nowhere"}), source, AS_OF)

    land(settings, "2024-03-01", "part.csv", b"no,town\n1,Ulm\n")
    mapping = yaml.safe_load(PEOPLE)
    mapping["files"]["people"]["daily"] = True
    (tmp_path / "sources" / "shop.yaml").write_text(yaml.safe_dump(mapping))
    with pytest.raises(LandingError, match="late file: no people of 2024-03-02 has landed"):
        landed_files(settings, load_source("shop", tmp_path / "sources"), AS_OF)


def test_a_missing_column_is_named_with_file_and_mapping_line(shop, spark):
    source, settings = shop
    land(settings, "2024-03-01", "part.csv", b"no,city\n1,Ulm\n")
    night = Night("2024-03-02-a", AS_OF, "1", landed_files(settings, source, AS_OF))
    # The region stands in line 17 of the mapping above.
    with pytest.raises(LandingError, match=r"2024-03-01/part\.csv: missing column town \(asked for by .*shop\.yaml:17\); the file has \['no', 'city'\]"):
        land_files(Lake(spark, settings), source, night)


@pytest.mark.parametrize(("content", "says"), [(b"", "an empty file, without so much as a header"), (b"no,town\n", "a header and no rows")])
def test_files_without_rows(shop, spark, content, says):
    source, settings = shop
    land(settings, "2024-03-01", "part.csv", content)
    night = Night("2024-03-02-a", AS_OF, "1", landed_files(settings, source, AS_OF))
    with pytest.raises(LandingError, match=says):
        land_files(Lake(spark, settings), source, night)


def test_a_file_lands_once_whatever_happens(shop, spark):
    source, settings = shop
    lake = Lake(spark, settings)
    land(settings, "2024-03-01", "part.csv", b"no,town\n1,Ulm\n2,Bonn\n")
    first = Night("2024-03-01-a", date(2024, 3, 1), "1", landed_files(settings, source, date(2024, 3, 1)))
    landing = land_files(lake, source, first)
    assert ([file.path for file in landing.pending], landing.mapped) == (["people/2024-03-01/part.csv"], {})

    # The night was killed before its gates: the same file is still to be mapped, and not landed again.
    assert land_files(lake, source, first) == landing
    mark_mapped(lake, landing.pending, first)
    again = land_files(lake, source, first)
    assert (again.pending, again.of_batch("2024-03-01-a"), again.of_batch("another")) == ([], landing.pending, [])

    # Next day the same file comes under another name, and a second one with a new column.
    land(settings, "2024-03-02", "again.csv", b"no,town\n1,Ulm\n2,Bonn\n")
    land(settings, "2024-03-02", "part.csv", b"no,town,shoe size\n3,Ulm,42\n")
    second = Night("2024-03-02-b", AS_OF, "1", landed_files(settings, source, AS_OF))
    landing = land_files(lake, source, second)
    assert [file.path for file in landing.pending] == ["people/2024-03-02/part.csv"]
    assert [file.path for file in landing.ever] == ["people/2024-03-01/part.csv", "people/2024-03-02/part.csv"]
    assert [row.no for row in bronze_rows(lake, "people", landing.pending).collect()] == ["3"]

    bronze = spark.read.format("delta").load(bronze_path(settings, "people"))
    assert bronze.columns == ["_batch_id", "_source_file", "_row_number", "_ingested_at", "_malformed", "no", "town", "shoe size"]
    rows = bronze.orderBy("_source_file", "_row_number").collect()
    assert [(row._batch_id, row._row_number, row.no, row["shoe size"]) for row in rows] == [
        ("2024-03-01-a", 1, "1", None), ("2024-03-01-a", 2, "2", None), ("2024-03-02-b", 1, "3", "42"),
    ]


def test_an_error_inside_a_task_reaches_the_log_as_one_line(shop, spark):
    source, settings = shop
    # Far enough behind the header that only the task that reads the rows sees it.
    land(settings, "2024-03-01", "part.csv", b"no,town\n" + b"1,Ulm\n" * 2000 + b"2,K\xf6ln\n")
    night = Night("2024-03-01-a", date(2024, 3, 1), "1", landed_files(settings, source, date(2024, 3, 1)))
    with pytest.raises(LandingError, match=r"part\.csv: not UTF-8 .*set csv\.encoding in the mapping") as failure:
        land_files(Lake(spark, settings), source, night)
    assert "\n" not in str(failure.value)


def test_batches_have_the_declared_columns(tmp_path):
    file = tmp_path / "people.csv"
    file.write_bytes(b"no\n1\n")
    (batch,) = [
        batch for batch in read_rows("p", file, hashlib.sha256(b"no\n1\n").hexdigest(), ["no"], ["town", "no"], Csv()) if batch.num_rows
    ]
    assert batch.schema.names == ["_source_file", "_row_number", "_malformed", "town", "no"]
    assert batch.column(3) == pa.nulls(1, pa.string())
