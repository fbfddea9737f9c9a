"""Indicators of FRED and ECOS from a local server to files: every vintage once, whatever the periods they are asked for in."""

from __future__ import annotations

from datetime import date

import pytest

from conf.settings import load_settings
from spark_jobs.fetch_indicators import run
from spark_jobs.fetching import FetchRefused
from spark_jobs.landed_answers import LandedAnswers, read_csv
from tests.public_services import KEY, MAINTENANCE, Ecos, Fred, Reply, as_json, serve

UNRATE = [
    ("2024-01-01", "2024-02-02", "3.7"), ("2024-01-01", "2024-03-08", "3.8"),  # revised a month later
    ("2024-02-01", "2024-03-08", "3.9"), ("2024-03-01", "2024-04-05", "."),  # told to be missing
]
VINTAGES = [
    ("2024-01-01", "2024-02-02", "3.7"), ("2024-01-01", "2024-03-08", "3.8"), ("2024-02-01", "2024-03-08", "3.9"),
]


def market(tmp_path, url, keys, **fetching):
    settings = load_settings(home=tmp_path / "var", source="lendingclub", data=tmp_path / "data", keys=keys)
    quick = dict.fromkeys(settings.fetching.requests_per_second, 1000.0)
    update = {"fred_url": url, "ecos_url": url, "requests_per_second": quick, "fred_series": ["UNRATE"], **fetching}
    return settings.model_copy(update={"fetching": settings.fetching.model_copy(update=update)})


def values(settings, file="fred_vintages.csv"):
    return [(row["observed_on"], row["known_from"], row["value"]) for row in read_csv(settings.macro_folder / file)]


def no_wait(seconds):
    pass


def test_each_value_stands_with_the_day_on_which_it_was_told(tmp_path):
    with serve(Fred({"UNRATE": UNRATE})) as server:
        settings = market(tmp_path, server.url, {"fred": KEY})
        run(settings, date(2024, 4, 30), no_wait)
    assert values(settings) == VINTAGES
    landed = [content for _, content in LandedAnswers(settings.indicator_landing, "fred").of_day(date(2024, 4, 30), "UNRATE/*")]
    assert len(landed) == 1 and KEY.encode() not in landed[0] and b'"realtime_start"' in landed[0]


@pytest.mark.parametrize("limits", [{"most_vintages": 1, "archive_from": "2000-01-01"}, {"most_rows": 2}])
def test_more_than_one_answer_holds_comes_in_several(tmp_path, monkeypatch, limits):
    monkeypatch.setattr("spark_jobs.fred._MAX_ROWS", limits.get("most_rows", 100_000))
    with serve(Fred({"UNRATE": UNRATE}, **limits)) as server:
        settings = market(tmp_path, server.url, {"fred": KEY})
        run(settings, date(2024, 4, 30), no_wait)
        assert len(server.requests) > 1
    assert values(settings) == VINTAGES


def test_a_later_run_asks_from_the_watermark_on_and_keeps_both_values(tmp_path):
    fred = Fred({"UNRATE": list(UNRATE)})
    with serve(fred) as server:
        settings = market(tmp_path, server.url, {"fred": KEY})
        run(settings, date(2024, 3, 31), no_wait)
        fred.told["UNRATE"].append(("2024-02-01", "2024-05-03", "4.0"))
        run(settings, date(2024, 5, 31), no_wait)
        assert [request.query["realtime_start"] for request in server.requests] == ["1776-07-04", "2024-03-31"]
    # Rows that were told before show the first day of the period: they are no new values.
    assert values(settings) == [*VINTAGES, ("2024-02-01", "2024-05-03", "4.0")]


def test_a_run_that_broke_is_taken_up_and_a_wrong_key_or_series_is_named(tmp_path):
    with serve(Fred({"UNRATE": UNRATE, "INDPRO": UNRATE})) as server:
        settings = market(tmp_path, server.url, {"fred": KEY}, fred_series=["UNRATE", "NOSUCH", "INDPRO"])
        with pytest.raises(FetchRefused, match=r"^fred series/observations NOSUCH .*The series does not exist"):
            run(settings, date(2024, 4, 30), no_wait)
        right = settings.fetching.model_copy(update={"fred_series": ["UNRATE", "INDPRO"]})
        server.first = [Reply(b"", 429, {"Retry-After": "1"}), Reply(MAINTENANCE)]
        run(settings.model_copy(update={"fetching": right}), date(2024, 5, 1), no_wait)
        with pytest.raises(FetchRefused, match="MOSAIC_KEYS__FRED") as refused:
            run(settings.model_copy(update={"keys": load_settings(keys={"fred": "another"}).keys}), date(2024, 5, 2), no_wait)
    assert values(settings) == VINTAGES * 2 and "another" not in str(refused.value)


def test_a_series_that_is_not_monthly_is_refused(tmp_path):
    daily = [("2024-01-02", "2024-01-03", "4"), ("2024-01-03", "2024-01-04", "4.1")]
    with serve(Fred({"UNRATE": daily})) as server, pytest.raises(FetchRefused, match="UNRATE has several values in 2024-01"):
        run(market(tmp_path, server.url, {"fred": KEY}), date(2024, 4, 30), no_wait)


def test_ecos_tells_values_as_they_stand(tmp_path, monkeypatch):
    monkeypatch.setattr("spark_jobs.ecos._MAX_ROWS", 2)
    ecos = Ecos({("722Y001", "M", "0101000"): [("202401", "3.5"), ("202402", "3.5"), ("202403", "3.25")],
                 ("200Y001", "Q", "10101"): [("2024Q1", "1.3")]})
    series = {"BOK_BASE_RATE": "722Y001/M/0101000", "KR_GROWTH": "200Y001/Q/10101", "EMPTY": "999Y999/A/1"}
    with serve(ecos) as server:
        server.first = [as_json({"RESULT": {"CODE": "ERROR-602", "MESSAGE": "과도한 OpenAPI호출"}})]
        settings = market(tmp_path, server.url, {"ecos": KEY}, ecos_series=series)
        run(settings, date(2024, 4, 30), no_wait)
        before = len(server.requests)
        run(settings, date(2024, 4, 30), no_wait)
        assert len(server.requests) == before, "the day has been fetched"
        ecos.values["722Y001", "M", "0101000"][2] = ("202403", "3.0")
        run(settings, date(2024, 5, 1), no_wait)
        server.first = [Reply(b"<RESULT><CODE>INFO-100</CODE><MESSAGE>key</MESSAGE></RESULT>")]
        with pytest.raises(FetchRefused, match=r"StatisticSearch json/kr/1/2/722Y001/M/199001/202405/0101000: INFO-100 \(MOSAIC_KEYS__ECOS\)"):
            run(settings, date(2024, 5, 2), no_wait)
    assert values(settings, "ecos_series.csv") == [
        ("2024-01-01", "", "3.5"), ("2024-02-01", "", "3.5"), ("2024-03-01", "", "3.0"), ("2024-01-01", "", "1.3"),
    ]


@pytest.mark.parametrize(
    ("source", "says"), [("lendingclub", "set MOSAIC_KEYS__FRED or MOSAIC_KEYS__ECOS"), ("simulated", "an economy of its own")]
)
def test_without_a_key_the_job_is_skipped_and_says_what_to_set(tmp_path, capsys, source, says):
    with pytest.raises(SystemExit) as skipped:
        run(load_settings(home=tmp_path, source=source), date(2024, 4, 30), no_wait)
    assert skipped.value.code == 99
    assert says in capsys.readouterr().out.splitlines()[-1]
