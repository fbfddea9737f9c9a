"""One Spark session for all tests of the jobs environment, and settings whose home is the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import pytest

from conf.settings import ROOT, Settings, Training, load_settings

SHARED_DATA = ROOT.parent / "shared" / "data"

# A test's frames are small and its plans many: the second compiler of the JVM would work for nothing. Without it, the JVM keeps
# 48 MiB for compiled code, which these plans fill: it would go on throwing code away and compiling it again.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=512m")
# Nor is a plan for a few rows worth compiling; tests with more of them compile, as jobs do (compiled_plans).
INTERPRETED = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
# A test's Delta tables are a file or two: nothing to skip by statistics, and a log that is read faster than it is summed up.
SMALL_TABLES = {
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.databricks.delta.stats.collect": "false",
    "spark.databricks.delta.stats.skipping": "false",
    "spark.databricks.delta.writeChecksumFile.enabled": "false",
}


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """A local session, small and started once: few shuffle partitions, no UI, its warehouse in a temporary folder."""
    from spark_jobs.session import open_session

    folder = tmp_path_factory.mktemp("spark")
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    settings = load_settings()
    spark_settings = settings.spark.model_copy(
        update={
            "driver_memory": "3g",
            "conf": settings.spark.conf | {
                "spark.ui.enabled": "false",
                # Plans of hundreds of expressions; nobody looks at those of tests that are over.
                "spark.sql.ui.retainedExecutions": "10",
                "spark.ui.retainedStages": "50",
                "spark.sql.shuffle.partitions": "2",
                "spark.sql.warehouse.dir": str(folder / "warehouse"),
                **INTERPRETED,
                **SMALL_TABLES,
            },
        }
    )
    session = open_session(settings.model_copy(update={"spark": spark_settings}), "tests")
    yield session
    session.stop()


@pytest.fixture
def compiled_plans(spark):
    """Spark compiles its plans, as it does in the product."""
    for name in INTERPRETED:
        spark.conf.unset(name)
    yield
    for name, value in INTERPRETED.items():
        spark.conf.set(name, value)


@pytest.fixture(scope="module", autouse=True)
def nothing_kept():
    """What jobs have persisted goes with their process; here, with the module."""
    yield
    if (pyspark := sys.modules.get("pyspark.sql")) and (session := pyspark.SparkSession.getActiveSession()):
        session.catalog.clearCache()


def settings_of(home: Path) -> Settings:
    """Settings of a market whose home is this new folder; the jars are the project's."""
    home.mkdir()
    (home / "jars").symlink_to(load_settings().home / "jars")
    return load_settings(home=home)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a market whose home is empty and the test's own."""
    return settings_of(tmp_path / "var")


@pytest.fixture(scope="session")
def free_port():
    """Gives a port that nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def database(free_port):
    """Settings of a market whose embedded PostgreSQL runs, on a free port, with roles and tables; stopped at the end.

    Its home is not pytest's own temporary folder, which the server's user could not enter when tests run as root.
    """
    from spark_jobs.database_server import ensure_database, server_state

    # A test run that is told to end takes its server along, as one that is interrupted does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="mosaic-tests-"))
    home.chmod(0o755)
    (home / "jars").symlink_to(load_settings().home / "jars")
    settings = load_settings(home=home)
    settings = settings.model_copy(update={"ports": settings.ports.model_copy(update={"postgres": free_port()})})
    try:
        ensure_database(settings)
        yield settings
    finally:
        if pid := server_state(settings).pid:
            os.kill(pid, signal.SIGQUIT)  # at once: nothing of it is kept, so nothing need reach the disk
            while server_state(settings).pid:
                time.sleep(0.05)
        shutil.rmtree(home)


@pytest.fixture
def make_empty_market(database: Settings, tmp_path: Path):
    """Makes settings of a market with an empty home of some name and an empty database beside the market of
    ``database``, as on a server of one's own. There is one such database: the next market empties it again."""
    from contextlib import closing

    import psycopg2
    from pydantic import SecretStr

    from conf.database import admin_dsn
    from spark_jobs.database_server import ensure_database

    dsn = admin_dsn(database).rpartition("/")[0] + "/empty_market"

    def make(name: str) -> Settings:
        with closing(psycopg2.connect(admin_dsn(database))) as server:
            server.autocommit = True
            with server.cursor() as cursor:
                cursor.execute("SELECT FROM pg_database WHERE datname = 'empty_market'")
                if cursor.fetchone() is None:
                    cursor.execute("CREATE DATABASE empty_market")
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'empty_market'")
        with closing(psycopg2.connect(dsn)) as server, server, server.cursor() as cursor:
            cursor.execute("DROP SCHEMA IF EXISTS publication, ops, intake CASCADE")
        market = settings_of(tmp_path / name).model_copy(update={"database_dsn": SecretStr(dsn), "ports": database.ports})
        market.market.mkdir(parents=True)
        shutil.copy(database.secrets_file, market.secrets_file)
        ensure_database(market)
        return market

    return make


@pytest.fixture
def empty_market(make_empty_market) -> Settings:
    """Settings of a market with an empty home and an empty database."""
    return make_empty_market("var")


@pytest.fixture
def gates_without_database(monkeypatch) -> list:
    """Gates record in Delta only; what they would have sent to PostgreSQL is in the list."""
    sent: list = []
    monkeypatch.setattr("spark_jobs.gates.publish_results", lambda settings, results: sent.extend(results))
    for job in ("build_features", "score", "allocate"):
        monkeypatch.setattr(f"spark_jobs.{job}.withdraw_results", lambda settings, job, batch_id: None)
    return sent


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


@pytest.fixture(scope="session")
def training_rows(spark):
    """Makes frames of TRAINING_SET: a number of borrowers in the cohorts of January to March 2010.

    Two borrowers share an identity group. Each feature is drawn within its range, four of them tell something about
    default (some 18% do), and every eleventh value is null.
    """
    import numpy as np
    import pandas as pd

    from conf.features import FEATURES
    from conf.tables import TRAINING_SET

    def within_range(feature, normal):
        if feature.low is None:
            return normal
        if feature.high is None:
            return feature.low + np.exp(normal / 2)
        return feature.low + (feature.high - feature.low) / (1 + np.exp(-normal))

    def make(borrowers: int, seed: int = 1):
        draw = np.random.default_rng(seed)
        cohorts = ["2010-01-31", "2010-02-28", "2010-03-31"]
        number = np.tile(np.arange(borrowers), len(cohorts))
        day = pd.to_datetime(np.repeat(cohorts, borrowers)).date
        count = len(number)
        normal = {feature.name: draw.normal(0, 1, count) for feature in FEATURES}
        log_odds = (
            -2.2 + normal["days_past_due_max_6m"] + 0.8 * normal["overdraft_days_12m"]
            - 0.9 * normal["bureau_score"] + 0.6 * normal["loan_interest_rate"]
        )
        is_default = draw.random(count) < 1 / (1 + np.exp(-log_odds))
        rows = pd.DataFrame(
            {
                "borrower_id": [f"b{one:05d}" for one in number],
                "as_of_date": day,
                "cohort_month": day,
                "identity_group_id": [f"g{one // 2:05d}" for one in number],
                "standing": "performing",
                "loan_id": [f"l{one:05d}" for one in number],
                "months_on_book": 6,
                "is_default": is_default,
                "default_on": np.where(is_default, pd.Timestamp("2010-09-15").date(), None),
                "is_indeterminate": False,
                "watched_share": 1.0,
                "term_share": 1.0,
                **{
                    feature.name: np.where(np.arange(count) % 11 == place % 11, np.nan, within_range(feature, normal[feature.name]))
                    for place, feature in enumerate(FEATURES)
                },
            }
        )
        rows = rows[list(TRAINING_SET.columns)].replace({np.nan: None})
        return spark.createDataFrame(rows.values.tolist(), TRAINING_SET.ddl)

    return make


@pytest.fixture(scope="session")
def small_training() -> Training:
    """How to train, made small: few trees, folds, seeds and epochs, one cohort for each purpose."""
    return load_settings().training.model_copy(
        update={
            "folds": 2, "training_cohorts": 1, "calibration_cohorts": 1, "judging_cohorts": 1, "cohort_step_months": 1,
            "ensemble_seeds": 2, "ensemble_epochs": 6, "min_defaults": 20,
            "lightgbm": {"num_leaves": 5, "num_iterations": 15, "min_data_in_leaf": 20, "learning_rate": 0.1},
            "gbt": {"maxIter": 3, "maxDepth": 2, "stepSize": 0.3}, "logistic": {"maxIter": 8, "regParam": 0.01},
        }
    )
