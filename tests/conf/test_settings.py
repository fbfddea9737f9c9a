"""Settings: who overrides whom, and that nothing unknown passes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conf import settings as settings_module
from conf.settings import ROOT, WrongSetting, load_settings


def test_the_environment_goes_before_the_source_and_that_before_the_defaults(monkeypatch):
    assert load_settings().training.judged_on == "later_months"
    monkeypatch.setenv("MOSAIC_SOURCE", "lendingclub")
    assert (load_settings().training.judged_on, load_settings().night.timezone) == ("all_months", "America/New_York")
    assert load_settings().training.folds == 3, "what a source does not say stays as it is"
    monkeypatch.setenv("MOSAIC_TRAINING__JUDGED_ON", "later_months")
    assert load_settings().training.judged_on == "later_months"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("MOSAIC_SPEED", "9", "unknown setting MOSAIC_SPEED"),
        ("MOSAIC_TRAINING__FOLD", "9", "MOSAIC_TRAINING__FOLD=9: Extra inputs are not permitted"),
        ("MOSAIC_SIMULATION__BORROWERS", "many", "MOSAIC_SIMULATION__BORROWERS=many: Input should be a valid integer"),
        ("MOSAIC_GATES__MAX_BROKEN_SHARE", "5", "MOSAIC_GATES__MAX_BROKEN_SHARE=5: Input should be less than or equal to 1"),
        ("MOSAIC_TRAINING__LEFT_OUT_FEATURES", '["gender"]', "no features: gender; conf/features.py has all of them"),
        ("MOSAIC_TRAINING__LIGHTGBM", "{num_leaves: 3", "training"),
        ("MOSAIC_DATABASE_DSN", "host=db dbname=mosaic", "a URL is needed: postgresql://"),
        ("MOSAIC_SPARK__MASTER", "spark://host:7077", "needs MOSAIC_LAKE and MOSAIC_DATABASE_DSN"),
    ],
)
def test_what_is_no_setting_is_told_in_one_line(monkeypatch, name, value, says):
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongSetting) as problem:
        load_settings()
    assert says in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_key_under_a_misspelt_name_is_not_told(monkeypatch):
    monkeypatch.setenv("MOSAIC_KEYS__DARTT", "k3y")
    with pytest.raises(WrongSetting, match="MOSAIC_KEYS__DARTT=…: Extra inputs") as problem:
        load_settings()
    assert "k3y" not in str(problem.value)


def test_a_short_scheme_is_written_out():
    assert load_settings(database_dsn="postgres://u:p@h/d").database_dsn.get_secret_value() == "postgresql://u:p@h/d"


def test_two_sources_share_no_lake():
    lakes = {load_settings(source=source, lake="s3a://bucket/lake/").lake_url for source in ("simulated", "lendingclub")}
    assert lakes == {"s3a://bucket/lake/simulated", "s3a://bucket/lake/lendingclub"}


def test_an_unknown_key_in_a_file_is_an_error(monkeypatch):
    monkeypatch.setattr(settings_module, "_source_settings", lambda source: {"night": {"shedule": "0 2 * * *"}})
    with pytest.raises(WrongSetting, match="MOSAIC_NIGHT__SHEDULE"):
        load_settings()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"MOSAIC_SOURCE": "nowhere"}, "make: no source nowhere"),
        ({"MOSAIC_SIMULATION__BORROWERS": "many"}, "make: MOSAIC_SIMULATION__BORROWERS=many"),
        ({}, ""),
    ],
)
def test_set_up_looks_at_settings_and_mapping_first(environment, says):
    answer = subprocess.run(
        [sys.executable, "-m", "conf.source"], cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment}, capture_output=True, text=True
    )
    assert (answer.returncode, answer.stderr.count("\n")) == ((1, 1) if says else (0, 0))
    assert answer.stderr.startswith(says)
