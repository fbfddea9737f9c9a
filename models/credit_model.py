"""The credit model: everything that turns features into one calibrated probability of default, and its training.

One folder holds it, in native formats only: Spark ML for the boosted trees and the logistic model, LightGBM's text,
``.keras`` files, JSON for the rest.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark import StorageLevel
from pyspark.ml.classification import GBTClassificationModel, LogisticRegressionModel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf
from scipy.special import expit

from conf.features import FEATURES
from conf.reasons import REASON_OF, REASONS_TOLD
from conf.settings import Scores, Training
from conf.spark import hadoop_path
from models.attribution import Attribution, attribution_of
from models.calibration import Calibrator, fit_calibrator
from models.drift import SCORE, Bins, bins_of, learn_bins
from models.ensemble import INPUTS, MAX_ROWS, Ensemble, StackedRows, fit_ensemble
from models.hazard import Hazard
from models.leakage import LeakFound, shared_ids
from models.lightgbm_spark import LightGBMModel
from models.metrics import auc
from models.preparation import Preparation, fit_preparation, hash_share
from models.risk_groups import (
    RiskGroups,
    fit_centres,
    ordered_groups,
    out_of_fold_group_log_odds,
)
from models.sub_models import (
    KEYS,
    LOG_ODDS,
    PREPARED,
    SUB_MODELS,
    SubModel,
    SubModelName,
    doubles,
    fit_sub_models,
    fold,
    out_of_fold,
    place_for_training,
    with_inputs,
    with_log_odds,
)
from models.term_offset import TERM, TermOffset, fit_term_offset

FORMAT = 4
DESCRIPTION_FILE, HAZARD_FILE, REFERENCE_FILE = "credit_model.json", "hazard.json", "reference.json"
NATIVE: dict[SubModelName, type] = {
    "timeseries": LightGBMModel, "behavior": GBTClassificationModel, "record": LogisticRegressionModel,
}


class TooFewDefaults(ValueError):
    """The training cohorts hold too few defaults to learn from."""


@dataclass(frozen=True)
class Origin:
    """Where a model came from: training date, code version and the Delta versions of the tables it was trained on."""

    source: str
    trained_on: str
    horizon_months: int
    code_version: str
    table_versions: dict[str, int] = field(default_factory=dict)

    def tags(self) -> dict[str, str]:
        """What the registry tells of a version's origin."""
        versions = {f"delta_version.{name}": str(version) for name, version in self.table_versions.items()}
        return {"trained_on": self.trained_on, "code_version": self.code_version, **versions}


@dataclass(frozen=True)
class Scorer:
    """What follows the sub-models, in NumPy: risk group, ensemble, calibration."""

    risk_groups: RiskGroups
    ensemble: Ensemble
    calibrator: Calibrator

    def score(self, context: np.ndarray, log_odds: np.ndarray) -> pd.DataFrame:
        """Risk group, its log-odds, raw and calibrated probability, one row per row of the arrays.

        context has shape (rows, context features), standardised; log_odds (rows, 3) in the order of the sub-models.
        """
        group = self.risk_groups.assign(context, log_odds)
        group_log_odds = self.risk_groups.group_log_odds[group - 1]
        raw_log_odds = self.ensemble.log_odds(np.column_stack([log_odds, group_log_odds]))
        return pd.DataFrame(
            {
                "risk_group": group.astype("int32"),
                "group_log_odds": group_log_odds,
                "raw_log_odds": raw_log_odds,
                "raw_prob_default": expit(raw_log_odds),
                "prob_default": self.calibrator.prob_default(raw_log_odds),
            }
        )


_SCORED = "risk_group int, group_log_odds double, raw_log_odds double, raw_prob_default double, prob_default double"
_REASONS = tuple(f"_reason_{place}" for place in range(1, REASONS_TOLD + 1))


@dataclass(frozen=True)
class CreditModel:
    """A fitted credit model; hazard turns its scores into lifetime curves.

    reference: how each feature, and prob_default, lay in the training rows; a night's drift is held against it.
    """

    origin: Origin
    features: tuple[str, ...]
    preparation: Preparation
    term_offset: TermOffset
    sub_models: tuple[SubModel, ...]
    scorer: Scorer
    hazard: Hazard
    reference: dict[str, Bins]

    def score(self, frame: DataFrame, scores: Scores, *, reasons: bool = False) -> DataFrame:
        """The frame with the three log-odds, risk_group, group_log_odds, raw_prob_default, prob_default, score_points.

        The frame has the 80 features, one row per borrower and as-of date; nulls are allowed, no row is lost.
        prob_default lies strictly inside (0, 1), for horizon_months of the model's origin. reasons: reason_codes too, told in
        the same pass; the codes of conf.reasons, strongest first.
        """
        scored = self._scored(frame, self.attribution() if reasons else None).drop("raw_log_odds")
        return scored.withColumn("score_points", score_points(F.col("prob_default"), scores))

    def raw_log_odds(self, frame: DataFrame) -> DataFrame:
        """The frame with all that ``score`` adds but points, and ``raw_log_odds``, the network's before calibration."""
        return self._scored(frame, None)

    @property
    def reasons(self) -> set[int]:
        """The places of the reasons whose features vary in the training rows, so that they can move a score."""
        return {REASON_OF[name] for name, spread in self.preparation.spreads.items() if spread.low < spread.high}

    def attribution(self) -> Attribution:
        """What tells which reasons moved this model's scores."""
        null_shares = {name: bins.shares[-1] for name, bins in self.reference.items()}
        # The median term, where any is known.
        term = self.preparation.spreads.get(TERM)
        offset = float(self.term_offset.of(np.array([term.fill if term else math.nan]))[0])
        return attribution_of(self.sub_models, self.scorer.risk_groups, self.scorer.ensemble, self.preparation, offset, null_shares)

    def _scored(self, frame: DataFrame, attribution: Attribution | None) -> DataFrame:
        outputs = self.with_log_odds(frame)
        scorer, (context, log_odds, *read) = self.scorer, self.inputs()
        if attribution is None:
            return _with_struct(outputs, [context, log_odds], _SCORED, scorer.score).drop(*PREPARED)

        def scored(context: np.ndarray, log_odds: np.ndarray, *inputs: np.ndarray) -> pd.DataFrame:
            codes = attribution.codes(attribution.effects(context, log_odds, inputs))
            return scorer.score(context, log_odds).assign(**dict(zip(_REASONS, codes.T, strict=True)))

        schema = ", ".join([_SCORED, *(f"{name} string" for name in _REASONS)])
        told = _with_struct(outputs, [context, log_odds, *read], schema, scored)
        codes = F.array_compact(F.array(*_REASONS))
        return told.withColumn("reason_codes", codes).drop(*PREPARED, *_REASONS)

    def with_log_odds(self, frame: DataFrame) -> DataFrame:
        """The frame with the three log-odds, and what ``inputs`` reads."""
        return with_log_odds(with_inputs(frame, self.preparation, self.term_offset), self.sub_models)

    def inputs(self) -> list[Column]:
        """Arrays of a row of ``with_log_odds``: the context, the log-odds, and what each sub-model has read."""
        of_network = _network_inputs(self.preparation, self.scorer.risk_groups.context)
        return [*of_network, *(model.columns_read() for model in self.sub_models)]

    def save(self, folder: Path, spark: SparkSession, staging: str | None = None) -> None:
        """Write the model into a new folder on the driver.

        staging: a URL that driver and executors share, through which Spark's own formats pass; null where the
        executors write to the driver's disk (local master).
        """
        folder.mkdir(parents=True)
        for model in self.sub_models:
            if model.model is not None:
                _save_native(spark, model.model, folder / model.name, staging)
        for number, archive in enumerate(self.scorer.ensemble.archives):
            (folder / f"ensemble_{number}.keras").write_bytes(archive)
        (folder / HAZARD_FILE).write_text(self.hazard.to_json())
        (folder / REFERENCE_FILE).write_text(json.dumps({name: asdict(bins) for name, bins in self.reference.items()}))
        parts = {
            "format": FORMAT,
            "origin": vars(self.origin),
            "features": list(self.features),
            "preparation": self.preparation.to_json(),
            "term_offset": list(self.term_offset.log_shares),
            "sub_models": [
                {
                    "name": model.name, "features": list(model.features), "base_log_odds": model.base_log_odds,
                    "is_constant": model.model is None,
                }
                for model in self.sub_models
            ],
            "risk_groups": self.scorer.risk_groups.to_json(),
            "ensemble": {
                "inputs": list(INPUTS), "networks": len(self.scorer.ensemble.archives),
                "mean": self.scorer.ensemble.mean.tolist(), "scale": self.scorer.ensemble.scale.tolist(),
            },
            "calibrator": self.scorer.calibrator.to_json(),
        }
        (folder / DESCRIPTION_FILE).write_text(json.dumps(parts, indent=1))

    @classmethod
    def load(cls, spark: SparkSession, folder: Path, staging: str | None = None) -> CreditModel:
        """The inverse of ``save``.

        Raises ValueError for a folder of another format and FileNotFoundError where a part is missing.
        """
        parts = read_description(folder)
        sub_models = tuple(
            SubModel(
                stored["name"], tuple(stored["features"]), stored["base_log_odds"],
                None if stored["is_constant"]
                else _load_native(spark, NATIVE[stored["name"]], folder / stored["name"], staging),
            )
            for stored in parts["sub_models"]
        )
        stored = parts["ensemble"]
        archives = [(folder / f"ensemble_{number}.keras").read_bytes() for number in range(stored["networks"])]
        scorer = Scorer(
            RiskGroups.from_json(parts["risk_groups"]),
            Ensemble.from_archives(np.array(stored["mean"]), np.array(stored["scale"]), archives),
            Calibrator(**parts["calibrator"]),
        )
        reference = json.loads((folder / REFERENCE_FILE).read_text())
        return cls(
            Origin(**parts["origin"]), tuple(parts["features"]), Preparation.from_json(parts["preparation"]),
            TermOffset(tuple(parts["term_offset"])), sub_models, scorer, Hazard.from_json((folder / HAZARD_FILE).read_text()),
            {name: Bins.from_json(stored) for name, stored in reference.items()},
        )


def read_description(folder: Path) -> dict[str, Any]:
    """What a saved model says of its parts.

    Raises ValueError for a folder of another format.
    """
    parts = json.loads((folder / DESCRIPTION_FILE).read_text())
    if parts["format"] != FORMAT:
        raise ValueError(f"{folder}: credit model of format {parts['format']}, this code reads {FORMAT}: train again")
    return parts


def score_points(prob_default: Column, scores: Scores) -> Column:
    """Points that grow as risk falls: base_points at base_odds (good to bad), points_to_double more double the odds.

    Rounded, and cut at min_points and max_points. Source: Siddiqi 2006, "Credit risk scorecards", scaling.
    """
    factor = scores.points_to_double / math.log(2)
    log_odds_good = F.log1p(-prob_default) - F.log(prob_default)
    points = F.round(F.lit(scores.base_points) + F.lit(factor) * (log_odds_good - F.lit(math.log(scores.base_odds))))
    return F.least(F.greatest(points, F.lit(scores.min_points)), F.lit(scores.max_points)).cast("int")


def _with_struct(
    frame: DataFrame, inputs: Sequence[Column], schema: str, compute: Callable[..., pd.DataFrame]
) -> DataFrame:
    """The frame with the columns that compute gives for the inputs, arrays of doubles, as matrices of Arrow batches."""

    @pandas_udf(schema)
    def computed(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.DataFrame]:
        for columns in batches:
            yield compute(*map(np.stack, columns))

    return frame.withColumn("_scored", computed(*inputs)).select(*frame.columns, "_scored.*")


def _network_inputs(preparation: Preparation, context: Sequence[str]) -> list[Column]:
    """The standardised context and the log-odds, an array each."""
    return [doubles(map(preparation.standardised, context)), doubles(LOG_ODDS)]


def _native_url(folder: Path, staging: str | None) -> str:
    return f"{staging.rstrip('/')}/{uuid.uuid4().hex}" if staging else folder.resolve().as_uri()


def _save_native(spark: SparkSession, model: object, folder: Path, staging: str | None) -> None:
    url = _native_url(folder, staging)
    model.write().save(url)
    if staging:
        path, system = hadoop_path(spark, url)
        system.copyToLocalFile(True, path, hadoop_path(spark, folder.resolve().as_uri())[0], True)


def _load_native(spark: SparkSession, kind: type, folder: Path, staging: str | None) -> object:
    if not folder.is_dir():
        raise FileNotFoundError(f"the registered model lacks its part {folder.name} ({folder}): train again")
    url = _native_url(folder, staging)
    if not staging:
        return kind.load(url)
    path, system = hadoop_path(spark, url)
    system.copyFromLocalFile(hadoop_path(spark, folder.resolve().as_uri())[0], path)
    try:
        return kind.load(url)
    finally:
        system.delete(path, True)


@dataclass(frozen=True)
class TrainingReport:
    """What training showed. AUCs are out of fold; groups: rows, as far as watched, and defaults per risk group; stacked:
    the rows that the ensemble has learnt from; placed: loan_id, as_of_date, months_on_book, risk_group and prob_default of each, out
    of fold."""

    rows: int
    defaults: int
    out_of_fold_auc: dict[str, float]
    groups: pd.DataFrame
    calibration_basis: str
    stacked: StackedRows
    placed: pd.DataFrame


def fit_credit_model(
    training_rows: DataFrame,
    calibration_rows: DataFrame,
    training: Training,
    origin: Origin,
    hazard: Hazard,
) -> tuple[CreditModel, TrainingReport]:
    """A credit model and what its training showed.

    Both frames have the columns of TRAINING_SET. The ensemble learns from out-of-fold outputs only; the sub-models that
    serve are fitted again on all training rows. Calibration is on the calibration cohort where it has min_defaults
    defaults, else on out-of-fold outputs. left_out_features enter nothing: what is not prepared is not known. Raises
    TooFewDefaults where the training rows have fewer than min_defaults, and LeakFound where a party stands in two folds.
    """
    if TERM in training.left_out_features:
        training_rows = training_rows.withColumn("term_share", F.lit(1.0))
    totals = training_rows.agg(F.count("*").alias("rows"), F.count_if("is_default").alias("defaults")).first()
    rows, defaults = totals["rows"], totals["defaults"]
    if defaults < training.min_defaults:
        raise TooFewDefaults(
            f"the training cohorts of {origin.source} hold {defaults} defaults among {rows} rows, training.min_defaults "
            f"is {training.min_defaults}: nothing was trained; more training_cohorts or a later date give more outcomes"
        )
    used = [feature for feature in FEATURES if feature.name not in training.left_out_features]
    preparation, term_offset = fit_preparation(training_rows, used, KEYS, rows), fit_term_offset(training_rows, origin.horizon_months)
    folded = training_rows.withColumn("fold", fold(training.folds, training.seed))
    shared, example = shared_ids(folded.withColumn("side", F.col("fold")))
    if shared:
        raise LeakFound(
            f"the training cohorts of {origin.source}: {shared} parties, borrowers or loans stand in two folds, such as {example}: "
            "outputs out of fold would know them; a fold takes whole identity groups (models.sub_models.fold)"
        )
    placed = place_for_training(folded, rows)
    # The sub-models' inputs are made once, and kept for all folds.
    prepared = with_inputs(placed, preparation, term_offset).persist(StorageLevel.MEMORY_AND_DISK)

    def scoring_of(part: DataFrame) -> Callable[[DataFrame], DataFrame]:
        return partial(with_log_odds, models=fit_sub_models(part, preparation, training))

    context = preparation.known(feature.name for feature in FEATURES if feature.shared)
    outputs = out_of_fold(prepared, training.folds, scoring_of).select(
        *KEYS, "loan_id", "months_on_book", "fold", "is_default", "watched_share", *LOG_ODDS, *context
    )
    ensemble_rows, risk_groups, groups, in_group = _fit_groups(outputs, preparation, rows, training.seed)
    sub_models = fit_sub_models(prepared, preparation, training)
    prepared.unpersist()

    ensemble = fit_ensemble(
        ensemble_rows, folds=training.folds, networks=training.ensemble_seeds, epochs=training.ensemble_epochs,
        auc_weight=training.auc_weight, seed=training.seed % 2**31,
    )
    held_out = ensemble.held_out_log_odds(ensemble_rows, training.folds)
    by_fold = fit_calibrator(held_out, ensemble_rows.is_default, ensemble_rows.watched, "out_of_fold")
    names = tuple(feature.name for feature in used)
    model = CreditModel(
        origin, names, preparation, term_offset, sub_models, Scorer(risk_groups, ensemble, by_fold), hazard,
        learn_bins(training_rows, names, KEYS, rows),
    )
    model = _calibrated(model, calibration_rows, training.min_defaults)
    # Out of fold, as a night scores rows that no sub-model has learnt from; those of its own training rows lie wider apart.
    prob_default = model.scorer.calibrator.prob_default(held_out)
    of_score = bins_of(prob_default)
    model = replace(model, reference=model.reference | {SCORE: of_score})
    report = TrainingReport(
        rows, defaults, _out_of_fold_auc(ensemble_rows, held_out), groups, model.scorer.calibrator.basis, ensemble_rows,
        in_group.assign(prob_default=prob_default),
    )
    return model, report


def _fit_groups(
    outputs: DataFrame, preparation: Preparation, rows: int, seed: int
) -> tuple[StackedRows, RiskGroups, pd.DataFrame, pd.DataFrame]:
    """The ensemble's four columns, collected for at most MAX_ROWS rows; the risk groups; rows and rate of each; and
    the risk group of each row."""
    sample = place_for_training(outputs.where(hash_share(KEYS, rows, MAX_ROWS)), min(rows, MAX_ROWS))
    sample = sample.persist(StorageLevel.MEMORY_AND_DISK)
    context, mean, scale, centres = fit_centres(sample, preparation, seed)
    unordered = RiskGroups(context, mean, scale, centres, np.zeros(len(centres)))

    def group(context_values: np.ndarray, log_odds: np.ndarray) -> pd.DataFrame:
        return pd.DataFrame({"centre": unordered.assign(context_values, log_odds).astype("int32")})

    columns = (
        _with_struct(sample, _network_inputs(preparation, context), "centre int", group)
        .select(*KEYS, "loan_id", "months_on_book", "fold", "centre", F.col("is_default").cast("double").alias("is_default"), "watched_share", *LOG_ODDS)
        .toPandas()
        .sort_values(list(KEYS), ignore_index=True)
    )
    sample.unpersist()
    centre, watched = columns["centre"].to_numpy() - 1, columns["watched_share"].to_numpy()
    is_default, folds = columns["is_default"].to_numpy(), columns["fold"].to_numpy()
    groups, place = ordered_groups(
        context, mean, scale, centres,
        np.bincount(centre, is_default, len(centres)), np.bincount(centre, watched, len(centres)),
    )
    group_log_odds = out_of_fold_group_log_odds(place[centre] + 1, folds, is_default, watched, len(centres))
    inputs = np.column_stack([columns[list(LOG_ODDS)].to_numpy(), group_log_odds])
    table = pd.DataFrame({"risk_group": place[centre] + 1, "rows": watched, "defaults": is_default})
    table = table.groupby("risk_group", as_index=False).sum()
    in_group = columns[["loan_id", "as_of_date", "months_on_book"]].assign(risk_group=place[centre] + 1)
    return StackedRows(inputs, is_default, watched, folds), groups, table, in_group


def _calibrated(model: CreditModel, calibration_rows: DataFrame, min_defaults: int) -> CreditModel:
    """The model calibrated on the later cohort where that has enough defaults; else as it is, on out-of-fold outputs."""
    totals = calibration_rows.agg(F.count("*").alias("rows"), F.count_if("is_default").alias("defaults")).first()
    if totals["defaults"] < min_defaults:
        return model
    outputs = (
        model.raw_log_odds(calibration_rows.where(hash_share(KEYS, totals["rows"], MAX_ROWS)))
        .select(*KEYS, "raw_log_odds", F.col("is_default").cast("double").alias("is_default"), "watched_share")
        .toPandas()
        .sort_values(list(KEYS))
    )
    calibrator = fit_calibrator(
        *(outputs[name].to_numpy() for name in ("raw_log_odds", "is_default", "watched_share")), "calibration_cohort"
    )
    return replace(model, scorer=replace(model.scorer, calibrator=calibrator))


def _out_of_fold_auc(rows: StackedRows, held_out: np.ndarray) -> Mapping[str, float]:
    columns = dict(zip((*SUB_MODELS, "risk_group"), rows.inputs.T, strict=True)) | {"ensemble": held_out}
    return {name: auc(column, rows.is_default, rows.watched) for name, column in columns.items()}
