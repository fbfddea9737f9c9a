"""The leak gate: what rows for training know must have been known on their own day, and what they are told on the training date.

Its numbers stand beside the training set's own measures in its gate, and in every evaluation. The strongest of them makes
some rows once more as the night of their day would have, from silver rows known by then: what differs has looked ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import reduce

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from conf.features import FEATURES
from conf.settings import Settings
from conf.source import Source
from expectations.measures import Bound
from features.blocks import with_features
from features.labels import with_outcome
from features.point_in_time import SPINE_KEY, narrowed
from features.population import build_default_events, build_night_candidates, with_default_events
from features.training_set import group_share
from models.leakage import SIDE_IDS, LeakFound, rank_strengths, shared_ids

AUDITED_ROWS = 150
"""So many rows of each standing are made again, all of one day."""
# The same rows give the same number, but for the last digits of a double.
_ROUNDING = 1e-9
Measures = dict[str, tuple[float | None, Bound]]
NAMES = tuple(feature.name for feature in FEATURES)


@dataclass(frozen=True)
class Told:
    """What tells outcomes: the day whose knowledge they rest on, and the months that they look ahead (None: without end)."""

    known_on: date
    horizon_months: int | None


def leak_measures(
    rows: DataFrame, silver: Mapping[str, DataFrame], source: Source, settings: Settings, as_of_date: date
) -> Measures:
    """Signs of look-ahead in a training set made for the as-of date, as numbers for its gate.

    rows: columns of TRAINING_SET. silver: the tables that they were made from, by name. A number is null where there is
    nothing to measure it on; without any row there is none.
    """
    told = Told(as_of_date, source.horizon_months if source.outcome == "default_within_horizon" else None)
    days = count_days(rows, told, settings.training.seed)
    if days.empty:
        return {}
    # Each waits for its plan more than for cores.
    with ThreadPoolExecutor(1) as pool:
        ranks = pool.submit(rank_measures, rows, int(days["rows"].sum()), settings)
        return outcome_measures(days) | audit(rows, silver, source, settings, told, days) | ranks.result()


def require_no_leak(found: Measures, rows: str) -> None:
    """Raise LeakFound where a number is out of its bound; rows says whose numbers they are."""
    broken = [
        f"{name} = {value:g} ({bound.meaning}; at most {bound.high:g})"
        for name, (value, bound) in found.items() if value is not None and value > bound.high
    ]
    if broken:
        raise LeakFound(f"{rows} know more than they may: {'; '.join(broken)}")


def count_days(rows: DataFrame, told: Told, seed: int) -> pd.DataFrame:
    """One row per standing and as-of date: rows, share (the highest ``group_share`` of the sample), and how many rows have
    an outcome that cannot be known: of the future, before its horizon (unmatured), or beyond it."""
    day, known_on = F.col("as_of_date"), F.lit(told.known_on)
    end = F.lit(None).cast("date") if told.horizon_months is None else F.add_months(day, told.horizon_months)
    return (
        rows.groupBy("standing", "as_of_date")
        .agg(
            F.count("*").alias("rows"),
            F.max(group_share(f"sample {seed}")).alias("share"),
            F.count_if((F.col("default_on") > known_on) | (day > known_on)).alias("future"),
            F.count_if(end > known_on).alias("unmatured"),
            F.count_if(F.col("default_on") > end).alias("beyond"),
        )
        .toPandas()
        .sort_values(["standing", "as_of_date"], ignore_index=True)
    )


def outcome_measures(days: pd.DataFrame) -> Measures:
    """Outcomes that nobody knew on the training date, from ``count_days``."""
    meaning = {
        "future": "rows or defaults of a day after the training date",
        "unmatured": "rows whose horizon had not passed on the training date: see cohort_months",
        "beyond": "defaults after the end of their row's horizon",
    }
    return {f"outcomes_{name}": (float(days[name].sum()), Bound(None, 0, words)) for name, words in meaning.items()}


def rank_measures(rows: DataFrame, count: int, settings: Settings) -> Measures:
    """How well the best feature alone ranks outcomes: by its value, and by whether it is known."""
    limit = settings.training.max_feature_auc
    strengths = rank_strengths(rows, NAMES, SPINE_KEY, count)
    found = {}
    for column, what in (("by_value", "value"), ("by_null", "being null")):
        ranked = strengths[column].dropna().sort_values(ascending=False, kind="stable")
        shown = ranked[ranked > limit] if (ranked > limit).any() else ranked.head(1)
        meaning = (
            f"AUC of the feature whose {what} alone ranks outcomes best, low end of its 95% interval: "
            f"{', '.join(f'{name} {value:.3f}' for name, value in shown.items()) or 'too few outcomes'}. One above "
            "training.max_feature_auc was told the outcome: see its columns in the source's mapping, and its formula"
        )
        found[f"rank_{column}"] = (float(ranked.iloc[0]) if len(ranked) else None, Bound(None, limit, meaning))
    return found


def audited_day(days: pd.DataFrame, known_on: date) -> date:
    """The day with the highest product of rows and days until the training date: the more was learnt since of the more
    rows, the more shows what looked ahead."""
    rows = days.groupby("as_of_date")["rows"].sum()
    ages = [(known_on - day).days for day in rows.index]
    return rows.index[np.argmax(rows.to_numpy() * ages)]


def audit(
    rows: DataFrame, silver: Mapping[str, DataFrame], source: Source, settings: Settings, told: Told, days: pd.DataFrame
) -> Measures:
    """The rows of one day held against what silver rows known by its end, and no others, give."""
    day = audited_day(days, told.known_on)
    known, of_day = narrowed(silver, day, day), rows.where(F.col("as_of_date") == F.lit(day))
    with ThreadPoolExecutor(1) as pool:
        left_out = pool.submit(left_out_measures, of_day, known, source, settings, day, float(days["share"].max()))
        return made_again_measures(of_day, known, silver, source, settings, told) | left_out.result()


def made_again_measures(
    of_day: DataFrame, known: Mapping[str, DataFrame], silver: Mapping[str, DataFrame], source: Source, settings: Settings, told: Told
) -> Measures:
    """rows_unlike_their_day: of at most AUDITED_ROWS rows of each standing, those of which a feature or the outcome is
    another than ``made_again`` gives. of_day: the rows of one day; known: the tables as known at its end."""
    drawn = Window.partitionBy("standing").orderBy(F.xxhash64(F.lit(settings.training.seed), "borrower_id"), "borrower_id")
    sample = of_day.withColumn("place", F.row_number().over(drawn)).where(F.col("place") <= AUDITED_ROWS)
    rows = sample.select(*SPINE_KEY, "loan_id", "default_on", *NAMES).toPandas().sort_values("borrower_id", ignore_index=True)
    again = made_again(rows, known, silver, source, told).toPandas()
    both = rows.merge(again, on="borrower_id", how="left", suffixes=("", "_again"), indicator=True)
    differs = {
        name: ~np.isclose(both[name].astype(float), both[f"{name}_again"].astype(float), _ROUNDING, _ROUNDING, equal_nan=True)
        for name in NAMES
    }
    of_outcome = (both["default_on"].astype(str) != both["default_on_again"].astype(str)) | (both["_merge"] != "both")
    differs["default_on"] = of_outcome.to_numpy()
    columns = [
        f"{name} in {hit.sum()} rows (borrower {both['borrower_id'][int(hit.argmax())]})" for name, hit in differs.items() if hit.any()
    ]
    meaning = (
        f"of {len(rows)} rows of {rows['as_of_date'].iloc[0]}, those unlike what silver rows known by then give, or with another "
        f"outcome than was known on {told.known_on}: {', '.join(columns) or 'none'}. A column named here looks ahead: see its formula"
    )
    unlike = float(np.any(list(differs.values()), axis=0).sum())
    return {"rows_unlike_their_day": (unlike, Bound(None, 0, meaning))}


def left_out_measures(
    of_day: DataFrame, known: Mapping[str, DataFrame], source: Source, settings: Settings, day: date, share: float
) -> Measures:
    """performing_left_out: the share of the day's performing borrowers, as known then, without a row; null for a day whose
    rows are applications alone (training.performing_every_months).

    share: the sample of training.max_training_rows took the identity groups up to this ``group_share``.
    """
    performing = build_night_candidates(known, day, source.default_days).where(
        F.expr("standing = 'performing' AND NOT is_defaulted") & (group_share(f"sample {settings.training.seed}") <= share)
    )
    rows = of_day.where("standing = 'performing'").select("borrower_id", F.lit(1).alias("row"))
    known_then, with_row = performing.join(rows, "borrower_id", "left").agg(F.count("*"), F.count("row")).first()
    meaning = (
        f"share of the borrowers performing on {day}, as known then, without a row: who trains a model must not depend on "
        "what came later; as on a night, the thin and the defaulted are left out"
    )
    left_out = 1 - with_row / known_then if with_row else None
    return {"performing_left_out": (left_out, Bound(None, settings.gates.max_unscored_share, meaning))}


def made_again(
    sample: pd.DataFrame, known: Mapping[str, DataFrame], silver: Mapping[str, DataFrame], source: Source, told: Told
) -> DataFrame:
    """The features of some rows of one day, from the tables known by then, and default_on, as known on the training date.

    One row per borrower, without those whose outcome cannot be told.
    """
    session = silver["loan"].sparkSession
    spine = session.createDataFrame(
        sample[[*SPINE_KEY, "loan_id"]].values.tolist(), "borrower_id STRING, as_of_date DATE, loan_id STRING"
    )
    theirs = F.broadcast(spine.select("borrower_id"))
    # Of the tables only the borrowers' is read across borrowers (the median of a region).
    narrow = {name: frame if name == "borrower" else frame.join(theirs, "borrower_id", "left_semi") for name, frame in known.items()}
    loan, repayment = (
        silver[name].where(F.col("known_from") <= F.lit(told.known_on)).join(theirs, "borrower_id", "left_semi")
        for name in ("loan", "repayment")
    )
    events = build_default_events(loan, repayment, source.default_days)
    outcome = with_outcome(with_default_events(spine, events), told.known_on, told.horizon_months)
    features = with_features(spine, narrow, source.account_month_lag_days)
    return features.select("borrower_id", *NAMES).join(outcome.select("borrower_id", "default_on"), "borrower_id", "inner")


def sides_apart(sides: Mapping[str, DataFrame]) -> Measures:
    """How many parties, borrowers and loans stand on two sides of a split: rows by the side's name."""
    named = (rows.select(*SIDE_IDS, F.lit(name).alias("side")) for name, rows in sides.items())
    shared, example = shared_ids(reduce(DataFrame.unionByName, named))
    meaning = f"parties, borrowers and loans on two sides: {example or 'none'}. A party belongs to one of {', '.join(sides)}"
    return {"on_two_sides": (float(shared), Bound(None, 0, meaning))}
