"""Market indicators: two layouts, publication lags, revisions kept beside the first value, nothing twice."""

from __future__ import annotations

from datetime import date

import pytest

from conf.tables import MARKET_INDICATOR, QUARANTINE
from spark_jobs.ingest_market_indicators import indicator_files, read_layout, run
from spark_jobs.lake import Lake
from spark_jobs.landing import LandingError
from spark_jobs.open_night import FutureNight

FRED = "sasdate,UNRATE,BAAFFM,HWI\nTransform:,2,1,5\n1/1/2024,3.7,4.1,9000\n2/1/2024,3.9,4.0,\n"
BOK = "date,RATE\n2024-01-01,3.5\n2024-02-01,3.5\n"


def values(lake):
    rows = lake.read(MARKET_INDICATOR).orderBy("series_id", "observed_on", "known_from").collect()
    return [(row.series_id, row.observed_on, row.known_from, row.value) for row in rows]


def test_values_are_known_from_their_publication_and_revisions_keep_both(spark, settings, tmp_path, gates_without_database):
    macro = tmp_path / "macro"
    macro.mkdir()
    (macro / "fred.csv").write_text(FRED)
    (macro / "bok.csv").write_text(BOK)
    settings = settings.model_copy(update={"macro": macro})
    lake = Lake(spark, settings)

    run(spark, settings, date(2024, 3, 31))
    first = [
        ("BAAFFM", date(2024, 1, 1), date(2024, 1, 31), 4.1),  # a market rate: known when its month ends
        ("BAAFFM", date(2024, 2, 1), date(2024, 2, 29), 4.0),
        ("BOK_BASE_RATE", date(2024, 1, 1), date(2024, 1, 31), 3.5),
        ("BOK_BASE_RATE", date(2024, 2, 1), date(2024, 2, 29), 3.5),
        ("HWI", date(2024, 1, 1), date(2024, 3, 31), 9000.0),  # a late series: two months; its empty cell is no row
        ("UNRATE", date(2024, 1, 1), date(2024, 2, 29), 3.7),
        ("UNRATE", date(2024, 2, 1), date(2024, 3, 31), 3.9),
    ]
    assert values(lake) == first

    # A later file revises January's unemployment, and has a cell that is no number.
    (macro / "fred.csv").write_text(FRED.replace("3.7", "3.8") + "3/1/2024,many,4.2,\n")
    run(spark, settings, date(2024, 4, 30))
    expected = sorted([
        *first,
        ("UNRATE", date(2024, 1, 1), date(2024, 4, 30), 3.8),
        ("BAAFFM", date(2024, 3, 1), date(2024, 3, 31), 4.2),
    ])
    assert values(lake) == expected
    (broken,) = lake.read(QUARANTINE).collect()
    assert (broken.broken_rules, broken.source_file) == (["parse:value"], "fred.csv")
    assert [sent.gate for sent in gates_without_database] == ["ingest_market_indicators.market_indicator"] * 2


def test_vintages_are_known_from_the_day_on_which_they_were_told(spark, settings, tmp_path, gates_without_database):
    macro = tmp_path / "macro"
    macro.mkdir()
    # FRED-MD has today's values of two series; of one of them the vintages are told too, and count alone.
    (macro / "a_fred_md.csv").write_text("sasdate,UNRATE,BAAFFM\nTransform:,2,1\n1/1/2024,3.8,4.1\n")
    header = "series_id,observed_on,known_from,value\n"
    (macro / "fred_vintages.csv").write_text(
        header + "UNRATE,2024-01-01,2024-02-02,3.7\nUNRATE,2024-01-01,2024-03-08,3.8\nUNRATE,2024-02-01,soon,3.9\n"
    )
    # The Bank of Korea's tells of no vintages: known by the series' lag.
    (macro / "ecos_series.csv").write_text(header + "BOK_BASE_RATE,2024-01-01,,3.5\n")
    settings = settings.model_copy(update={"macro": macro})
    lake = Lake(spark, settings)
    for day in (date(2024, 3, 31), date(2024, 4, 30)):  # the second run finds nothing new
        run(spark, settings, day)
    month = date(2024, 1, 1)
    assert values(lake) == [
        ("BAAFFM", month, date(2024, 1, 31), 4.1),
        ("BOK_BASE_RATE", month, date(2024, 1, 31), 3.5),
        ("UNRATE", month, date(2024, 2, 2), 3.7),
        ("UNRATE", month, date(2024, 3, 8), 3.8),
    ]
    assert [row.broken_rules for row in lake.read(QUARANTINE).collect()] == [["parse:known_from"]] * 2


def test_of_two_vintages_the_later_counts_and_a_past_run_changes_no_night(spark, settings, tmp_path, gates_without_database):
    macro = tmp_path / "macro"
    macro.mkdir()
    (macro / "2024-01.csv").write_text("date,RATE\n2024-01-01,3.5\n")
    settings = settings.model_copy(update={"macro": macro})
    run(spark, settings, date(2024, 1, 31))
    (macro / "2024-02.csv").write_text("date,RATE\n2024-01-01,3.75\n")
    run(spark, settings, date(2024, 2, 29))
    # A run for a past date sees another revision today: the nights since then did not know it.
    (macro / "2024-03.csv").write_text("date,RATE\n2024-01-01,4\n")
    run(spark, settings, date(2024, 1, 31))
    month = date(2024, 1, 1)
    assert values(Lake(spark, settings)) == [
        ("BOK_BASE_RATE", month, date(2024, 1, 31), 3.5),
        ("BOK_BASE_RATE", month, date(2024, 2, 29), 3.75),
        ("BOK_BASE_RATE", month, date(2024, 3, 1), 4.0),
    ]


def test_the_published_files_of_two_central_banks(spark, settings, shared_data, gates_without_database):
    settings = settings.model_copy(update={"macro": shared_data / "macro"})
    run(spark, settings, date(2011, 6, 30))
    lake = Lake(spark, settings)
    silver = lake.read(MARKET_INDICATOR)
    assert silver.select("series_id").distinct().count() == 127  # 126 of FRED-MD, and the base rate
    assert silver.where("series_id = 'BOK_BASE_RATE'").count() == 273
    row = silver.where("series_id = 'UNRATE' AND observed_on = '2009-10-01'").first()
    assert (row.value, row.known_from) == (10.0, date(2009, 11, 30))
    assert lake.read(QUARANTINE).count() == 0
    assert gates_without_database[0].success


def test_a_day_that_has_not_begun_is_refused(spark, settings):
    with pytest.raises(FutureNight, match="2911-06-30 lies ahead"):
        run(spark, settings.model_copy(update={"source": "lendingclub"}), date(2911, 6, 30))


def test_without_a_folder_the_run_says_that_caps_are_static(spark, settings, caplog, gates_without_database):
    run(spark, settings, date(2024, 3, 31))
    assert "caps per risk group are static" in caplog.text
    assert values(Lake(spark, settings)) == []


def test_bad_folders_and_layouts_are_named(spark, tmp_path):
    with pytest.raises(LandingError, match=r"cannot read the folder of market indicators .*nowhere"):
        indicator_files(tmp_path / "nowhere")
    with pytest.raises(LandingError, match="no CSV file in the folder"):
        indicator_files(tmp_path)
    (tmp_path / "ecb.csv").write_text("TIME PERIOD,OBS.VALUE\n2024-01,3\n")
    with pytest.raises(LandingError, match=r"ecb\.csv: unknown layout"):
        read_layout(spark, tmp_path / "ecb.csv")
