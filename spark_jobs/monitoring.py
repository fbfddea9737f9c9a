"""What the scores of a night look like beside the rows that the model learnt from: drift, expected performance, vintages.

Information, not a gate: it closes nothing. Written by the jobs that score, once the scores have passed theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from datetime import date

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.settings import Settings
from conf.source import load_source
from conf.tables import COMPANY_DRIFT, DRIFT, EXPECTED_PERFORMANCE, Table
from features.population import build_default_events, loans_within_policy
from features.vintages import build_vintages, vintage_curves
from models.company_model import PROBABILITIES, CompanyModel
from models.credit_model import CreditModel, Origin
from models.drift import SCORE, Bins, ColumnDrift, DriftVerdict, build_counts, column_drift, verdict
from models.expected_performance import HISTOGRAM, expected_performance
from models.monitoring_page import Monitored, page
from spark_jobs.database import connect
from spark_jobs.lake import Lake
from spark_jobs.manifest import Night
from spark_jobs.silver import read_silver

# A column name that no feature has.
_HISTOGRAM = "prob_default_histogram"
SHOWN_NIGHTS = 90
PAGES = {"lending": "monitoring.html", "company": "monitoring_companies.html"}


def monitor(lake: Lake, night: Night, model: CreditModel, scored: DataFrame) -> None:
    """Replace the as-of date in drift and expected_performance, record the verdict, and write the page.

    scored: one row per scored borrower, with standing, loan_id, the features and prob_default; read once. Where training takes
    applicants alone, or loans within policy alone, the others have no part in any of it.
    """
    limits, training = lake.settings.drift, lake.settings.training
    silver = read_silver(lake, night.silver_versions)
    if not training.performing_every_months:
        scored = scored.where("standing = 'applicant'")
    if training.within_policy_only:
        known = silver["loan"].where(F.col("known_from") <= F.lit(night.as_of_date))
        scored = scored.join(loans_within_policy(known), on="loan_id", how="left_semi")
    # What silver tells of loans has no part in the night's rows: the two are asked beside each other.
    with ThreadPoolExecutor(1) as pool:
        vintages = pool.submit(_vintages, silver, lake.settings.source, night.as_of_date)
        counts = _counts(model.reference | {_HISTOGRAM: HISTOGRAM}, scored.withColumn(_HISTOGRAM, F.col(SCORE)))
        if not counts[SCORE].any():
            for table in (DRIFT, EXPECTED_PERFORMANCE):
                _replace(lake, table, [], night)
            _tell(lake.settings, night, model.origin, DriftVerdict(False, "Nothing to tell by: nobody like the training rows was scored."))
            return
        found = [column_drift(name, bins, counts[name], limits) for name, bins in model.reference.items()]
        expected = expected_performance(counts[_HISTOGRAM])
        _replace(lake, DRIFT, [asdict(column) for column in found], night)
        _replace(lake, EXPECTED_PERFORMANCE, [{"row_count": found[0].row_count, **asdict(expected)}], night)
    nights = _scores_drift(lake, DRIFT, SCORE).join(lake.read(EXPECTED_PERFORMANCE), on="as_of_date", how="inner")
    _show(lake, night, model, found, counts, SCORE, nights, vintages.result())


def monitor_companies(lake: Lake, night: Night, model: CompanyModel, scored: DataFrame) -> None:
    """Replace the as-of date in company_drift, record the verdict, and write the page.

    scored: one row per scored company, with the features and prob_distress_1y; at least one.
    """
    counts = _counts(model.reference, scored)
    found = [column_drift(name, bins, counts[name], lake.settings.drift) for name, bins in model.reference.items()]
    _replace(lake, COMPANY_DRIFT, [asdict(column) for column in found], night)
    _show(lake, night, model, found, counts, PROBABILITIES[0], _scores_drift(lake, COMPANY_DRIFT, PROBABILITIES[0]), None)


def _show(
    lake: Lake, night: Night, model: CreditModel | CompanyModel, found: Sequence[ColumnDrift], counts: Mapping[str, np.ndarray],
    score_name: str, nights: DataFrame, vintages: Mapping[date, np.ndarray] | None,
) -> None:
    """Record the verdict of the columns' drift, and write the page if no newer night has. nights: one row per as-of date, with
    the score's psi and what else the page shows of a night.
    """
    settings, limits = lake.settings, lake.settings.drift
    told = verdict(found, limits, score_name)
    _tell(settings, night, model.origin, told)
    history = _history(nights, night.as_of_date)
    if (newest := history["as_of_date"].iloc[-1]) > night.as_of_date:
        print(f"the monitoring page stays with the newer night of {newest}")
        return
    shown = Monitored(
        settings.source, settings.product, night.as_of_date, night.model_version, model.origin.trained_on, model.origin.horizon_months,
        limits, told, found, score_name, history, model.reference[score_name], counts[score_name], vintages,
    )
    target = settings.market / "reports" / PAGES[settings.product]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(shown), encoding="utf-8")


def _tell(settings: Settings, night: Night, origin: Origin, told: DriftVerdict) -> None:
    record_verdict(settings, night, date.fromisoformat(origin.trained_on), told)
    print(told.message)


def _counts(columns: Mapping[str, Bins], scored: DataFrame) -> dict[str, np.ndarray]:
    """Rows per bin of each of these columns."""
    counts = {name: np.zeros(len(bins.edges) + 2, dtype=np.int64) for name, bins in columns.items()}
    # As many rows as there are bins, some two thousand at most.
    for row in build_counts(scored, columns).collect():
        counts[row["column_name"]][row["bin"]] = row["row_count"]
    return counts


def record_verdict(settings: Settings, night: Night, trained_on: date, told: DriftVerdict) -> None:
    """Write the verdict to ops.drift_verdict, where the night's last tasks read it; that a training was asked for stays."""
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO ops.drift_verdict (batch_id, as_of_date, model_version, trained_on, asks_training, message)
            VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (batch_id) DO UPDATE
            SET trained_on = excluded.trained_on, asks_training = excluded.asks_training, message = excluded.message
            """,
            (night.batch_id, night.as_of_date, night.model_version, trained_on, told.asks_training, told.message),
        )


def _replace(lake: Lake, table: Table, rows: list[dict[str, object]], night: Night) -> None:
    of_night = {"as_of_date": night.as_of_date, "model_version": night.model_version, "batch_id": night.batch_id}
    values = [tuple((row | of_night)[column] for column in table.columns) for row in rows]
    lake.replace(table, lake.spark.createDataFrame(values, table.ddl), night.as_of_date)


def _scores_drift(lake: Lake, table: Table, score_name: str) -> DataFrame:
    """One row per night: as_of_date and the score's psi."""
    return lake.read(table).where(F.col("column_name") == score_name).select("as_of_date", "psi")


def _history(nights: DataFrame, as_of_date: date) -> pd.DataFrame:
    """The newest SHOWN_NIGHTS nights since a year before the as-of date, oldest first."""
    in_year = nights.where(F.col("as_of_date") > F.add_months(F.lit(as_of_date), -12))
    return in_year.orderBy(F.desc("as_of_date")).limit(SHOWN_NIGHTS).toPandas().sort_values("as_of_date", ignore_index=True)


def _vintages(silver: Mapping[str, DataFrame], source: str, as_of_date: date) -> dict[date, np.ndarray]:
    events = build_default_events(silver["loan"], silver["repayment"], load_source(source).default_days)
    return vintage_curves(build_vintages(silver["loan"], events, as_of_date).toPandas())
