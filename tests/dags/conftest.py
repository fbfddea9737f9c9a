"""Airflow of its own for the DAG tests: an empty home, no database, no settings from outside."""

from __future__ import annotations

import os
import tempfile

# Airflow reads these when it is first imported.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = f"sqlite:///{os.environ['AIRFLOW_HOME']}/airflow.db"
os.environ["AIRFLOW_CONN_MOSAIC_SPARK"] = '{"conn_type": "spark", "host": "local[*]"}'
for _name in [name for name in os.environ if name.startswith("MOSAIC_")]:
    del os.environ[_name]

import pytest  # noqa: E402
from airflow.dag_processing.dagbag import DagBag  # noqa: E402

from conf.settings import ROOT  # noqa: E402


@pytest.fixture(scope="session")
def dag_bag() -> DagBag:
    """The project's DAGs as Airflow reads them, on a machine with two cores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: 2)
        return DagBag(str(ROOT / "dags"))
