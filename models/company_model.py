"""The company model: a discrete-time hazard of distress by boosted trees, calibrated, in native formats only.

One LightGBM model over filings and periods (Shumway 2001; trees for its index) gives the hazard of the first, second and third year
after a filing. The probability of distress within k years is one less the product of the survivals, so a longer horizon never
has the lower probability. Classes are not reweighted: the hazards stay probabilities. Calibration moves all hazards by one
increasing function, which keeps that order.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf

from conf.company_features import COMPANY_FEATURES, COMPANY_REASON_OF, COMPANY_REASONS
from conf.reasons import REASONS_TOLD
from conf.settings import Company
from features.company_labels import HORIZON_YEARS
from models.calibration import Calibrator, fit_calibrator
from models.credit_model import Origin, TooFewDefaults
from models.drift import Bins, bins_of
from models.lightgbm_spark import LightGBMClassifier, monotone_constraints

FORMAT = 2
BOOSTER_FILE, DESCRIPTION_FILE = "booster.txt", "company_model.json"
YEARS_AHEAD = "years_ahead"
KEYS = ("company_id", "as_of_date")
PROBABILITIES = tuple(f"prob_distress_{years}y" for years in HORIZON_YEARS)
# An effect on the log-odds that rounds to nothing is none.
DECIMALS = 10
_CODES = np.array([list(reason.codes) for reason in COMPANY_REASONS], dtype=object)
_SCORED = ", ".join([*(f"{name} double" for name in PROBABILITIES), "raw_hazard double", "reason_codes array<string>"])


@dataclass(frozen=True)
class CompanyModel:
    """A fitted company model. booster: LightGBM's text; grades: the highest one-year probability of each, the safest first;
    reference: how the one-year probability and each feature of a company's own lay in the calibration filings, the newest ones;
    a night's drift is held against it. What all companies of a day or an industry share, as rates, tells nothing of who is scored.
    """

    origin: Origin
    features: tuple[str, ...]
    booster: str
    calibrator: Calibrator
    grades: Mapping[str, float]
    reference: Mapping[str, Bins]

    @cached_property
    def _trees(self) -> Any:
        import lightgbm

        return lightgbm.Booster(model_str=self.booster)

    def hazard_log_odds(self, matrix: np.ndarray, years: int) -> np.ndarray:
        """Log-odds of distress in the so many-th year, before calibration; matrix has shape (rows, features), nan unknown."""
        return self._trees.predict(_with_years(matrix, years), raw_score=True, num_threads=1)

    def probabilities(self, matrix: np.ndarray) -> np.ndarray:
        """Calibrated probabilities of distress within 1, 2 and 3 years, of shape (rows, 3), never falling along a row."""
        hazards = np.column_stack([self.calibrator.prob_default(self.hazard_log_odds(matrix, years)) for years in HORIZON_YEARS])
        return 1 - np.cumprod(1 - hazards, axis=1)

    def reason_codes(self, matrix: np.ndarray) -> list[list[str]]:
        """The codes of what moved each row's first-year hazard most, strongest first, at most REASONS_TOLD.

        By LightGBM's own Shapley values (pred_contrib), added up over the features of a reason.
        """
        shares = self._trees.predict(_with_years(matrix, 1), pred_contrib=True, num_threads=1)[:, : len(self.features)]
        of_reason = np.zeros((len(self.features), len(COMPANY_REASONS)))
        of_reason[np.arange(len(self.features)), [COMPANY_REASON_OF[name] for name in self.features]] = 1
        effects = np.round(shares @ of_reason, DECIMALS)
        order = np.argsort(-np.abs(effects), axis=1, kind="stable")[:, :REASONS_TOLD]
        return [
            [_CODES[place, int(effect[place] < 0)] for place in places if effect[place] != 0]
            for effect, places in zip(effects, order, strict=True)
        ]

    def shares_of_gain(self) -> dict[str, float]:
        """How much of all that the trees' splits gain comes from each feature, and from the year that is told (YEARS_AHEAD)."""
        gain = self._trees.feature_importance(importance_type="gain")
        return dict(zip((*self.features, YEARS_AHEAD), (gain / (gain.sum() or 1.0)).tolist(), strict=True))

    def score(self, frame: DataFrame) -> DataFrame:
        """The frame with PROBABILITIES, raw_hazard (of the first year, before calibration), reason_codes and grade."""
        sent = frame.sparkSession.sparkContext.broadcast(self)

        @pandas_udf(_SCORED)
        def scored(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            model = sent.value
            for batch in batches:
                matrix = batch.to_numpy(dtype="float64")
                told = pd.DataFrame(model.probabilities(matrix), columns=list(PROBABILITIES))
                told["raw_hazard"] = 1 / (1 + np.exp(-model.hazard_log_odds(matrix, 1)))
                yield told.assign(reason_codes=model.reason_codes(matrix))

        grade = F.coalesce(*(F.when(F.col(PROBABILITIES[0]) <= limit, F.lit(name)) for name, limit in self.grades.items()))
        return frame.withColumn("_scored", scored(F.struct(*self.features))).select("*", "_scored.*").drop("_scored").withColumn("grade", grade)

    def __getstate__(self) -> dict[str, Any]:
        """Without the trees in memory, which every task reads anew from their text."""
        return {name: value for name, value in self.__dict__.items() if name != "_trees"}

    def save(self, folder: Path, *_: object) -> None:
        """Write the model into a new folder: LightGBM's text and JSON."""
        folder.mkdir(parents=True)
        (folder / BOOSTER_FILE).write_text(self.booster)
        parts = {
            "format": FORMAT, "origin": asdict(self.origin), "features": list(self.features),
            "calibrator": self.calibrator.to_json(), "grades": dict(self.grades),
            "reference": {name: asdict(bins) for name, bins in self.reference.items()},
        }
        (folder / DESCRIPTION_FILE).write_text(json.dumps(parts, indent=1))

    @classmethod
    def load(cls, folder: Path) -> CompanyModel:
        """What ``save`` wrote.

        Raises ValueError for another format or features that this code does not have.
        """
        parts = json.loads((folder / DESCRIPTION_FILE).read_text())
        if parts["format"] != FORMAT:
            raise ValueError(f"company model of format {parts['format']}, this code reads {FORMAT}: train again")
        if unknown := sorted(set(parts["features"]) - set(COMPANY_REASON_OF)):
            raise ValueError(f"company model with features that this code does not have: {', '.join(unknown)}: train again")
        return cls(
            Origin(**parts["origin"]), tuple(parts["features"]), (folder / BOOSTER_FILE).read_text(),
            Calibrator(**parts["calibrator"]), parts["grades"], {name: Bins.from_json(bins) for name, bins in parts["reference"].items()},
        )


def _with_years(matrix: np.ndarray, years: int) -> np.ndarray:
    return np.column_stack([matrix, np.full(len(matrix), float(years))])


def fit_company_model(training: DataFrame, calibration: DataFrame, company: Company, seed: int, origin: Origin) -> CompanyModel:
    """The model learnt on the periods of one part and calibrated on those of another (see features.company_labels.with_periods).

    Features of which the training periods know no value, or a single one, are left out. Raises TooFewDefaults where a part has
    fewer periods with distress than company.min_events.
    """
    names = [feature.name for feature in COMPANY_FEATURES]
    training, calibration = training.persist(), calibration.persist()
    spreads = training.agg(
        F.sum("is_distress").alias("events"), *(F.array(F.min(name), F.max(name)).alias(name) for name in names)
    ).first()
    features = tuple(name for name in names if spreads[name][0] is not None and spreads[name][0] < spreads[name][1])
    _require_events(spreads["events"], company.min_events, "training")
    columns = [*features, YEARS_AHEAD]
    learner = LightGBMClassifier(
        inputCols=columns, keyCols=[*KEYS, YEARS_AHEAD], labelCol="is_distress", seed=seed,
        parameters={**company.lightgbm, "monotone_constraints": monotone_constraints(columns, COMPANY_FEATURES)},
    )
    uncalibrated = CompanyModel(
        origin, features, learner.fit(training).booster, Calibrator(1.0, 1.0, 0.0, "calibration_cohort"), company.grades, {}
    )
    periods = calibration.select(*features, YEARS_AHEAD, "is_distress").toPandas()
    is_distress = periods["is_distress"].to_numpy(dtype=float)
    _require_events(is_distress.sum(), company.min_events, "calibration")
    matrix, ahead = periods[list(features)].to_numpy(dtype=float), periods[YEARS_AHEAD].to_numpy()
    log_odds = np.zeros(len(periods))
    for years in HORIZON_YEARS:
        of_year = ahead == years
        if of_year.any():
            log_odds[of_year] = uncalibrated.hazard_log_odds(matrix[of_year], years)
    calibrator = fit_calibrator(log_odds, is_distress, np.ones(len(periods)), "calibration_cohort")
    training.unpersist()
    calibration.unpersist()
    model = replace(uncalibrated, calibrator=calibrator)
    return replace(model, reference=_reference(model, matrix[ahead == 1]))


def _reference(model: CompanyModel, filings: np.ndarray) -> dict[str, Bins]:
    own = {feature.name for feature in COMPANY_FEATURES if feature.family not in ("economy", "industry")}
    columns = {name: column for name, column in zip(model.features, filings.T, strict=True) if name in own}
    columns[PROBABILITIES[0]] = model.probabilities(filings)[:, 0]
    return {name: bins_of(column) for name, column in columns.items()}


def _require_events(events: float | None, least: int, part: str) -> None:
    if (events or 0) < least:
        raise TooFewDefaults(f"the {part} periods of companies hold {events or 0:.0f} distresses, company.min_events asks for {least}")
