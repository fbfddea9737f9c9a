"""One Spark session for all tests of the jobs environment, and settings whose home is the test's own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conf.settings import ROOT, Settings, load_settings

SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """A local session, small and started once: few shuffle partitions, no UI, its warehouse in a temporary folder."""
    from spark_jobs.session import open_session

    folder = tmp_path_factory.mktemp("spark")
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    settings = load_settings()
    spark_settings = settings.spark.model_copy(
        update={
            "driver_memory": "2g",
            "conf": settings.spark.conf | {
                "spark.ui.enabled": "false",
                "spark.sql.shuffle.partitions": "2",
                "spark.sql.warehouse.dir": str(folder / "warehouse"),
            },
        }
    )
    session = open_session(settings.model_copy(update={"spark": spark_settings}), "tests")
    yield session
    session.stop()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a market whose home is empty and the test's own; the jars are the project's."""
    home = tmp_path / "var"
    home.mkdir()
    (home / "jars").symlink_to(load_settings().home / "jars")
    return load_settings(home=home)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the project.

    Skips where the folder is absent; with CI=true its absence is a failure.
    """
    if not SHARED_DATA.is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must see the real data in {SHARED_DATA}")
        pytest.skip(f"no real data in {SHARED_DATA}")
    return SHARED_DATA
