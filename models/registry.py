"""The model registry: a market's models, of borrowers or of companies, as versions in MLflow, with the aliases champion and challenger.

Looking up the champion starts no JVM and imports neither TensorFlow nor LightGBM.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conf.settings import ROOT, Settings

# A lender's figures stay with the lender; and git is not asked, since the code's digest stands in the model. MLflow looks when it
# is first imported: the jobs import it here only.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pyspark.sql import SparkSession

    from models.company_model import CompanyModel
    from models.credit_model import CreditModel
    from models.hazard import Hazard

CHAMPION, CHALLENGER = "champion", "challenger"
# What a version needs to be loaded elsewhere, logged with the versions that trained it.
REQUIREMENTS = ("pyspark", "lightgbm", "numpy", "pandas", "pyarrow", "scipy", "h5py", "pydantic-settings", "pyyaml")
# What MLflow stores as a model's code, and what that tells of a row, by product.
_CODE = {"lending": "registered_model.py", "company": "registered_company_model.py"}
_OUTPUTS = {
    "lending": {"prob_default": "double", "score_points": "integer", "risk_group": "integer"},
    "company": {"prob_distress_1y": "double", "prob_distress_2y": "double", "prob_distress_3y": "double"},
}
# The tag <_CHAMPION_SINCE><time> of a version says how it became champion then.
_CHAMPION_SINCE = "champion_since."


class NoChampion(LookupError):
    """No model of this market is in use."""


@dataclass(frozen=True)
class Version:
    """A registered version and its tags: among them trained_on, the decision, and when and how it became champion."""

    number: str
    tags: Mapping[str, str]

    @property
    def champion_since(self) -> str | None:
        """When it last became champion, in ISO; None for never."""
        return max((name.removeprefix(_CHAMPION_SINCE) for name in self.tags if name.startswith(_CHAMPION_SINCE)), default=None)

    def __str__(self) -> str:
        """Number, training date, decision, and when and how it last became champion."""
        since = self.champion_since
        served = f"champion since {since} by {self.tags[_CHAMPION_SINCE + since]}" if since else "never champion"
        return f"version {self.number}, trained on {self.tags.get('trained_on')}, rules {self.tags.get('promotion')}, {served}"


def _own_store(settings: Settings) -> Path | None:
    """The SQLite file of the default store; None where the store is someone else's."""
    return settings.market / "mlflow" / "mlflow.db" if settings.mlflow_tracking_uri is None else None


def _client(settings: Settings) -> MlflowClient:
    return MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)


def find_version(settings: Settings, alias: str) -> str | None:
    """The version that an alias names; None where no model has it."""
    store = _own_store(settings)
    if store is not None and not store.exists():
        return None
    try:
        return str(_client(settings).get_model_version_by_alias(settings.model_name, alias).version)
    except MlflowException as error:
        # MLflow says INVALID_PARAMETER_VALUE for an unknown alias, RESOURCE_DOES_NOT_EXIST for an unknown model.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def champion_version(settings: Settings) -> str:
    """The version of the model in use.

    Raises NoChampion, saying what to run, where there is none.
    """
    version = find_version(settings, CHAMPION)
    if version is None:
        raise NoChampion(f"no champion model for market {settings.source}: {_what_to_do(settings)}")
    return version


def _what_to_do(settings: Settings) -> str:
    """Where there is no champion: why the last model did not become it, and what makes one."""
    challenger = find_version(settings, CHALLENGER)
    last = next((one for one in versions(settings) if one.number == challenger), None)
    if last is None or last.tags.get("promotion") != "failed":
        return f"run the DAG {settings.training_dag} (make run trains first)"
    return (
        f"version {last.number}, trained on {last.tags.get('trained_on')}, was turned away: {last.tags['promotion_reason']}. Give it more "
        "to learn from (more borrowers, a later as-of date, training.training_cohorts), or set another limit in conf/mosaic.yaml, "
        f"having read what that version's run in MLflow says; then run {settings.training_dag}"
    )


def versions(settings: Settings) -> list[Version]:
    """All registered versions, the newest first."""
    store = _own_store(settings)
    if store is not None and not store.exists():
        return []
    found = _client(settings).search_model_versions(f"name = '{settings.model_name}'")
    return [Version(str(one.version), one.tags) for one in sorted(found, key=lambda one: -int(one.version))]


def trained_on(settings: Settings, version: str) -> date:
    """The training date of a version."""
    client = _client(settings)
    run = client.get_run(client.get_model_version(settings.model_name, version).run_id)
    return date.fromisoformat(run.data.tags["trained_on"])


def set_alias(settings: Settings, alias: str, version: str) -> None:
    """Let the alias name this version, and no other."""
    _client(settings).set_registered_model_alias(settings.model_name, alias, version)


def drop_alias(settings: Settings, alias: str) -> None:
    """Let the alias name no version."""
    _client(settings).delete_registered_model_alias(settings.model_name, alias)


def make_champion(settings: Settings, version: str, how: str) -> None:
    """Let this version be champion, and challenger no longer; when and how stands in a tag of the version."""
    tag_version(settings, version, {f"{_CHAMPION_SINCE}{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}": how})
    set_alias(settings, CHAMPION, version)
    if find_version(settings, CHALLENGER) == version:
        drop_alias(settings, CHALLENGER)


def tag_version(settings: Settings, version: str, tags: Mapping[str, str]) -> None:
    """Write tags on a version and on the run that made it."""
    client = _client(settings)
    run_id = client.get_model_version(settings.model_name, version).run_id
    for key, value in tags.items():
        client.set_model_version_tag(settings.model_name, version, key, value)
        client.set_tag(run_id, key, value)


def log_texts(settings: Settings, version: str, texts: Mapping[str, str]) -> None:
    """Log texts, by file name, with the run that made a version."""
    client = _client(settings)
    run_id = client.get_model_version(settings.model_name, version).run_id
    for name, text in texts.items():
        client.log_text(run_id, text, name)


def staging(settings: Settings) -> str | None:
    """Where Spark's own formats pass between driver and executors; None on one machine, where both see its disk."""
    return None if settings.spark.master.startswith("local") else f"{settings.lake_url}/_model_staging"


def log_model(
    spark: SparkSession,
    settings: Settings,
    model: CreditModel | CompanyModel,
    *,
    run_name: str,
    parameters: Mapping[str, Any],
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    figures: Mapping[str, Figure],
) -> str:
    """Log a run and register its model; the new version, which has no alias yet."""
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_registry_uri(settings.tracking_uri)
    _set_experiment(settings)
    doubles = Schema([ColSpec("double", name, required=False) for name in model.features])
    outputs, artifact = Schema([ColSpec(kind, name) for name, kind in _OUTPUTS[settings.product].items()]), _artifact(settings)
    with mlflow.start_run(run_name=run_name), tempfile.TemporaryDirectory() as folder:
        mlflow.log_params(dict(parameters))
        mlflow.log_metrics({name: value for name, value in metrics.items() if value == value})
        mlflow.set_tags(dict(tags))
        for name, figure in figures.items():
            mlflow.log_figure(figure, f"plots/{name}.png")
        parts = Path(folder) / artifact
        model.save(parts, spark, staging(settings))
        logged = mlflow.pyfunc.log_model(
            name=artifact,
            # Models from code: the registry holds this file's text and the artifacts, never a pickled object.
            python_model=str(ROOT / "models" / _CODE[settings.product]),
            artifacts={artifact: str(parts)},
            registered_model_name=settings.model_name,
            signature=ModelSignature(inputs=doubles, outputs=outputs),
            pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
        )
    return str(logged.registered_model_version)


def _artifact(settings: Settings) -> str:
    return "company_model" if settings.product == "company" else "credit_model"


def _set_experiment(settings: Settings) -> None:
    """The experiment of this market; the default store keeps its artifacts under the market's home."""
    store = _own_store(settings)
    if store is not None:
        store.parent.mkdir(parents=True, exist_ok=True)
    if mlflow.get_experiment_by_name(settings.model_name) is None:
        location = None if store is None else (store.parent / "artifacts").as_uri()
        mlflow.create_experiment(settings.model_name, artifact_location=location)
    mlflow.set_experiment(settings.model_name)


def _parts(settings: Settings, version: str) -> Path:
    """The folder with a version's parts; on a store of this machine they are read where they lie.

    Raises MLflow's error, naming model and version, where the registry does not have it.
    """
    mlflow.set_tracking_uri(settings.tracking_uri)
    mlflow.set_registry_uri(settings.tracking_uri)
    folder = mlflow.artifacts.download_artifacts(f"models:/{settings.model_name}/{version}")
    return Path(folder) / "artifacts" / _artifact(settings)


def refuse_other_format(settings: Settings, version: str) -> None:
    """Raise what ``load_model`` would, ValueError or FileNotFoundError, for a version of a format that this code cannot read."""
    if settings.product == "company":
        load_company_model(settings, version)
        return
    from models.credit_model import read_description

    read_description(_parts(settings, version))


def load_model(spark: SparkSession, settings: Settings, version: str) -> CreditModel:
    """The credit model of a version."""
    from models.credit_model import CreditModel

    return CreditModel.load(spark, _parts(settings, version), staging(settings))


def load_company_model(settings: Settings, version: str) -> CompanyModel:
    """The company model of a version, without a session of Spark."""
    from models.company_model import CompanyModel

    return CompanyModel.load(_parts(settings, version))


def load_champion(spark: SparkSession, settings: Settings, version: str | None = None) -> CreditModel:
    """The version that a night has fixed, else the model in use.

    Raises NoChampion where there is none.
    """
    return load_model(spark, settings, version or champion_version(settings))


def load_hazard(settings: Settings, version: str) -> Hazard:
    """The lifetime hazard of a version, without the rest of the model."""
    from models.hazard import Hazard

    return Hazard.from_json((_parts(settings, version) / "hazard.json").read_text())
