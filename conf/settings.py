"""Settings: ``conf/mosaic.yaml``, then ``settings`` of the source's mapping, then environment variables ``MOSAIC_*``.

Each overrides the one before; unknown keys are errors. Nested keys are joined by two underscores:
``MOSAIC_PORTS__API=8001``. Secrets come from the environment only.
"""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from conf.features import FEATURES

ROOT = Path(__file__).resolve().parents[1]
Fraction = Annotated[float, Field(ge=0, le=1)]
Product = Literal["lending", "company"]
"""What a market publishes: scores and portfolios of borrowers, or scores of companies."""


class WrongSetting(ValueError):
    """A setting is unknown or has no value that it can have; the message names it."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ports(_Section):
    """TCP ports on loopback of what runs on this machine."""

    postgres: int
    airflow: int
    mlflow: int
    api: int


class Spark(_Section):
    """Where Spark runs and its configuration, passed to every session and every spark-submit."""

    master: str
    driver_memory: str
    conf: dict[str, str]


class Night(_Section):
    """The nightly run and what goes before it. A schedule is a cron expression, or manual: on demand only.

    first_as_of_date: where a market without any publication begins (None: yesterday). file_wait_minutes: how long a
    missing source file is awaited before the night fails.
    """

    schedule: str
    landing_schedule: str
    indicators_schedule: str
    filings_schedule: str
    training_schedule: str
    timezone: str
    first_as_of_date: date | None
    file_wait_minutes: int
    task_timeout_minutes: int
    retries: int
    currency_decimals: int


class Gates(_Section):
    """Limits of the gates, as fractions of a table's rows."""

    max_broken_share: Fraction
    max_broken_share_by_table: dict[str, Fraction]
    max_unscored_share: Fraction


class Training(_Section):
    """Training of the credit model: cohorts are month ends, oldest first: training, calibration, judging.

    judged_on: later_months (three successive runs of cohorts), or all_months, for outcomes that take years to show: every
    cohort serves all three. calibration_share and judging_share: of all parties, those that serve calibration and judging
    alone, always the same ones: someone who stays for years, and defaults once, must not stand on two sides.
    left_out_features: features that enter no model. min_auc to min_defaults: limits of the promotion rules (models.promotion).
    approval: a person must agree too.
    """

    seed: int
    folds: int
    training_cohorts: int
    calibration_cohorts: int
    judging_cohorts: int
    judged_on: Literal["later_months", "all_months"]
    calibration_share: Fraction
    judging_share: Fraction
    cohort_step_months: int
    performing_every_months: int
    within_policy_only: bool
    max_training_rows: int
    lightgbm: dict[str, int | float | str | bool]
    lightgbm_single_task_rows: int
    gbt: dict[str, int | float | str]
    logistic: dict[str, int | float]
    ensemble_epochs: int
    ensemble_seeds: int
    auc_weight: Fraction
    left_out_features: list[str]
    min_auc: Fraction
    auc_margin: Fraction
    max_calibration_error: Fraction
    max_score_psi: Annotated[float, Field(ge=0)]
    min_defaults: int
    max_feature_auc: Fraction
    approval: bool

    @field_validator("left_out_features")
    @classmethod
    def _are_features(cls, names: list[str]) -> list[str]:
        unknown = sorted(set(names) - {feature.name for feature in FEATURES})
        if unknown:
            raise ValueError(f"no features: {', '.join(unknown)}; conf/features.py has all of them")
        return names


class Fairness(_Section):
    """The group report of a judged model, and the groups that a promotion rule is about.

    approved_share: of the judged rows, the share with the lowest probabilities, which counts as approved. min_ratio: a group's
    approval rate over the highest one of its attribute. Groups with fewer than min_rows rows or min_defaults defaults are
    shown and not judged.
    """

    approved_share: Fraction
    attributes: list[Literal["gender", "age_band", "region"]]
    min_ratio: Fraction
    min_rows: int
    min_defaults: int


class Company(_Section):
    """The company model, for a market whose product is company.

    recent_years: of the filings whose first year has passed, those of so many years calibrate and judge, on different parties;
    earlier ones train, with what had been seen of them before. calibration_share: of parties, in these years. min_events:
    distresses that training and calibration each need. grades: of each the highest one-year probability, the safest first.
    max_gap_share: of the companies with a year's statements, those whose years have a gap. max_score_age_days: how old a published
    company score may be to stand for a company that borrows.
    """

    recent_years: Annotated[int, Field(ge=1)]
    calibration_share: Fraction
    min_events: Annotated[int, Field(ge=1)]
    max_gap_share: Fraction
    max_score_age_days: Annotated[int, Field(ge=0)]
    lightgbm: dict[str, int | float | str | bool]
    grades: dict[str, Fraction]

    @field_validator("grades")
    @classmethod
    def _rise_to_one(cls, grades: dict[str, float]) -> dict[str, float]:
        limits = list(grades.values())
        if not limits or limits != sorted(set(limits)) or limits[-1] != 1:
            raise ValueError("the limits of grades rise, and the last one is 1")
        return grades


class Drift(_Section):
    """When a night's population counts as drifted from the champion's training rows, and when that asks for training.

    PSI: population stability index. Training is asked for when the score's PSI reaches shifted_psi, or at least
    shifted_feature_share of the known features do; with fewer rows than min_rows nothing is said. It is asked for only when
    more than cool_down_days lie between the champion's training, or the day on which drift last asked, and the as-of date.
    """

    watch_psi: Annotated[float, Field(ge=0)]
    shifted_psi: Annotated[float, Field(ge=0)]
    shifted_feature_share: Fraction
    min_rows: Annotated[int, Field(ge=1)]
    cool_down_days: Annotated[int, Field(ge=0)]


class Scores(_Section):
    """Score points: base_points at base_odds (good to bad); points_to_double more double the odds."""

    base_points: int
    base_odds: float
    points_to_double: int
    min_points: int
    max_points: int


class Allocation(_Section):
    """Rules of the allocation; caps are shares of an order's amount.

    recovery_rate, recovery_lag_months: of what is owed in default, and how long after; the prior of what is fitted on known
    recoveries, and all there is for a source that tells none. asset_correlations: of two borrowers of risk group 1, 2, …,
    before realised defaults scale them; factor_correlation: of two groups' factors. scenarios: that the programs minimise over; evaluation_scenarios: fresh ones with drawn defaults that the published CVaR is told
    from. frontier_amounts and frontier_targets: at most so many standard orders, by size and by target, are tried each night
    on what is left; frontier_most_notes: of the largest. solver_seconds: the limit of one solve; max_listings and max_orders bound what one night hands to the solver.
    """

    note_amount: dict[str, int]
    max_identity_group_share: Fraction
    risk_group_caps: list[Fraction]
    cap_sensitivity: float
    min_cap_factor: Fraction
    max_cap_factor: float
    platform_fee_rate: Fraction
    recovery_rate: Fraction
    recovery_lag_months: int
    asset_correlations: list[Annotated[float, Field(ge=0, lt=1)]]
    factor_correlation: Fraction
    scenarios: Annotated[int, Field(ge=100)]
    evaluation_scenarios: Annotated[int, Field(ge=100)]
    target_step: float
    frontier_amounts: Annotated[int, Field(ge=2)]
    frontier_targets: Annotated[int, Field(ge=2)]
    frontier_most_notes: Annotated[int, Field(ge=1)]
    max_listings: int
    max_orders: int
    solver_seconds: float


class Simulation(_Section):
    """The simulated market. Rates of dirty rows are shares of a table's rows.

    companies: seats of companies whose statements are told; sector_cycles: whether sectors of companies have cycles of their own.
    A market that was drawn before there were any has none.
    """

    borrowers: int
    history_months: int
    companies: Annotated[int, Field(ge=0)] = 0
    sector_cycles: bool = False
    seed: int
    orders_per_night: int
    broken_type_rate: Fraction
    impossible_date_rate: Fraction
    duplicate_key_rate: Fraction
    orphan_rate: Fraction
    unknown_code_rate: Fraction
    two_ids_rate: Fraction
    missing_rate: Fraction


class Publication(_Section):
    """keep_batches: older ones are detached and dropped; drain_seconds: how long a flip waits for older readers."""

    contract_version: str
    keep_batches: int
    drain_seconds: int


class Serving(_Section):
    """The look-up API."""

    pool_size: int
    cache_entries: int


class Keys(_Section):
    """Keys of public services, from the environment only; None: what the service knows is not fetched."""

    dart: SecretStr | None = None
    fred: SecretStr | None = None
    ecos: SecretStr | None = None


class Fetching(_Section):
    """What is fetched from public services, and how politely.

    contact: who asks, a name and an e-mail address, which EDGAR wants as User-Agent. requests_per_second: by service.
    attempts: of one request, this many in all, with growing random waits of at most longest_wait_seconds between.
    filings_from: the first day of which Open DART's filings are fetched. dart_companies: company codes (8 digits) or stock
    codes (6); none: all. edgar_companies: central index keys. observed_from: the first month of indicators. fred_series: monthly
    or rarer. ecos_series: a name of one's own to table/cycle/item, the cycle being A, Q or M.
    """

    contact: str | None
    dart_url: str
    fred_url: str
    ecos_url: str
    edgar_url: str
    requests_per_second: dict[Literal["dart", "fred", "ecos", "edgar"], Annotated[float, Field(gt=0)]]
    attempts: Annotated[int, Field(ge=1)]
    timeout_seconds: Annotated[float, Field(gt=0)]
    longest_wait_seconds: Annotated[float, Field(ge=0)]
    filings_from: date
    dart_companies: list[Annotated[str, Field(pattern=r"^(\d{6}|\d{8})$")]]
    edgar_companies: list[Annotated[str, Field(pattern=r"^\d{1,10}$")]]
    observed_from: date
    fred_series: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]]
    ecos_series: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")], Annotated[str, Field(pattern=r"^[^/]+/[AQM]/[^/]+$")]]


def _source_settings(source: str) -> dict[str, object]:
    """The ``settings`` block of a source's mapping: what this market sets differently."""
    mapping = ROOT / "conf" / "sources" / f"{source}.yaml"
    return (yaml.safe_load(mapping.read_text()) or {}).get("settings", {}) if mapping.exists() else {}


class Settings(BaseSettings):
    """Everything that can be set. A relative home is under the project's root."""

    model_config = SettingsConfigDict(
        env_prefix="MOSAIC_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        yaml_file=ROOT / "conf" / "mosaic.yaml",
    )

    source: str
    product: Product
    home: Path
    data: Path | None = None
    macro: Path | None = None
    lake: str | None = None
    database_dsn: SecretStr | None = None
    redis_url: SecretStr | None = None
    mlflow_tracking_uri: str | None = None
    notify_url: SecretStr | None = None
    api_key: SecretStr | None = None
    keys: Keys = Keys()
    ports: Ports
    spark: Spark
    night: Night
    gates: Gates
    training: Training
    fairness: Fairness
    company: Company
    drift: Drift
    scores: Scores
    allocation: Allocation
    simulation: Simulation
    publication: Publication
    serving: Serving
    fetching: Fetching

    @field_validator("home")
    @classmethod
    def _under_root(cls, home: Path) -> Path:
        return home if home.is_absolute() else ROOT / home

    @field_validator("data", "macro")
    @classmethod
    def _from_working_folder(cls, folder: Path | None) -> Path | None:
        return folder if folder is None else folder.resolve()

    @field_validator("database_dsn")
    @classmethod
    def _is_url(cls, dsn: SecretStr | None) -> SecretStr | None:
        if dsn is None:
            return None
        # SQLAlchemy, under Airflow and the migrations, knows the scheme by its long name only.
        url = re.sub("^postgres://", "postgresql://", dsn.get_secret_value())
        if not re.match("postgresql://[^/]+/[^/?]+", url):
            raise ValueError("a URL is needed: postgresql://user:password@host:5432/database")
        return SecretStr(url)

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _is_server(cls, uri: str | None) -> str | None:
        # A database alone would leave the models on the disk of whoever trained them.
        if uri is not None and not re.match("https?://[^/]+", uri):
            raise ValueError(f"the URL of an MLflow server is needed, https://mlflow.example.com, not {uri.partition(':')[0]}:…")
        return uri

    @model_validator(mode="after")
    def _executors_reach_everything(self) -> Settings:
        missing = [name for name in ("lake", "database_dsn") if not getattr(self, name)]
        if not self.spark.master.startswith("local") and missing:
            named = " and ".join(f"MOSAIC_{name.upper()}" for name in missing)
            raise ValueError(
                f"spark.master {self.spark.master} needs {named}: its executors reach neither this machine's disk nor its "
                "embedded PostgreSQL"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: InitSettingsSource,
        env_settings: EnvSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        defaults = YamlConfigSettingsSource(settings_cls)
        source = (init_settings() | env_settings()).get("source") or defaults()["source"]
        of_source = InitSettingsSource(settings_cls, _source_settings(source))
        return init_settings, env_settings, of_source, defaults

    @property
    def market(self) -> Path:
        """The home of this source: its lake, database, registry, Airflow and reports."""
        return self.home / self.source

    @property
    def lake_url(self) -> str:
        """Root of the market's Delta tables: a folder or any URL that Spark's file systems know."""
        return f"{self.lake.rstrip('/')}/{self.source}" if self.lake else str(self.market / "lake")

    @property
    def data_folder(self) -> Path:
        """Where the source's files land; the simulated market writes its own."""
        return self.data or self.market / "landing"

    @property
    def macro_folder(self) -> Path | None:
        """Files of market indicators: the given folder, else a folder macro among the landed files; None: there is none."""
        return self.indicator_landing if self.macro or self.indicator_landing.is_dir() else None

    @property
    def indicator_landing(self) -> Path:
        """Where fetched market indicators land."""
        return self.macro or self.data_folder / "macro"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking and registry store."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.market / 'mlflow' / 'mlflow.db'}"

    @property
    def model_name(self) -> str:
        """Name of the market's model in the registry."""
        return f"{self.source}-{'company' if self.product == 'company' else 'credit'}"

    @property
    def training_dag(self) -> str:
        """The DAG that trains the market's model."""
        return "company_training" if self.product == "company" else "credit_training"

    @property
    def night_dag(self) -> str:
        """The DAG of the market's night."""
        return "company_scoring" if self.product == "company" else "nightly_scoring"

    @property
    def secrets_file(self) -> Path:
        """Passwords of the database roles, made at set-up unless the environment names them; mode 0600."""
        return self.market / "secrets.env"


def load_settings(**overrides: object) -> Settings:
    """Settings for this process.

    Raises WrongSetting, in one line, for an unknown key or a value of the wrong type.
    """
    known = {f"MOSAIC_{name.upper()}" for name in Settings.model_fields}
    passwords = {f"MOSAIC_{role.upper()}_PASSWORD" for role in ("owner", "publisher", "reader", "intake", "airflow")}
    for name in os.environ:
        if name.startswith("MOSAIC_") and name.split("__")[0] not in known | passwords:
            raise WrongSetting(f"unknown setting {name} in the environment; .env.example lists every setting")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise WrongSetting("; ".join(map(_in_words, error.errors()))) from error
    except SettingsError as error:
        # A value that should be JSON, such as a list; the cause says where it ends to be.
        raise WrongSetting(f"{error}: {error.__cause__}") from error


def _in_words(fault: Any) -> str:
    key = "__".join(map(str, fault["loc"])).upper()
    said = fault["msg"].removeprefix("Value error, ")
    # A misspelt name may stand before a key.
    value = "…" if key.startswith("KEYS") else fault["input"]
    return f"MOSAIC_{key}={value}: {said}" if key else said
