"""How well default can be told at all in the simulated market: a model of the latent truth, learned from other borrowers.

The market's seats go on beyond those of its borrowers: the next ones hold borrowers of the same process in the same economy
whom no product model, and no tested row, has met. Their records pass the same mapping and the same features, without the
way over files, bronze and gates. Only evaluation uses this; the truth reaches no other model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from shutil import rmtree

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.features import FEATURES
from conf.settings import Simulation
from conf.source import Source
from conf.tables import TRUTH_DEFAULT
from features.blocks import with_features
from features.point_in_time import SPINE_KEY as KEYS
from features.point_in_time import with_known_until
from features.population import (
    build_candidates,
    build_default_events,
    is_too_thin,
    was_defaulted,
    with_default_events,
    with_party,
)
from models.attainable import attainable_score
from models.simulated_export import LAYOUTS, Window, export
from models.simulated_market import day_number, is_performing, month_of, subset, tenures, true_default_probability, walk
from spark_jobs.allocate import bounded
from spark_jobs.lake import Lake
from spark_jobs.mapping import build_typed
from spark_jobs.silver import FEATURE_SOURCES
from spark_jobs.simulate import build_truth, months_before, seat_batches, truth_rows

# The features look back twelve months; a record of a line or a report is at most a quarter old.
LOOK_BACK_MONTHS = 16
# Of a label in training, where the noise of so few paths averages out.
LABEL_PATHS = 8
MAX_REFERENCE_ROWS = 500_000
NAMES = [feature.name for feature in FEATURES]
# Nothing breaks a rule, so that no row has to be kept out; what may be missing is.
CLEAN = {"broken_type_rate": 0.0, "impossible_date_rate": 0.0, "unknown_code_rate": 0.0, "duplicate_key_rate": 0.0, "orphan_rate": 0.0}


def land_records(spark: SparkSession, simulation: Simulation, seats: range, day: date, folder: Path) -> None:
    """Write all records known on a day of the borrowers of some seats who perform on it, and their truth.

    A Parquet folder per table, all columns text, and one of TRUTH_DEFAULT.
    """
    month, clean = month_of(day), simulation.model_copy(update=CLEAN)
    window = Window(day_number(day), day_number(months_before(day, LOOK_BACK_MONTHS)), day_number(date(2000, 1, 1)))
    for table in (*LAYOUTS, TRUTH_DEFAULT.name):
        (folder / table).mkdir(parents=True)

    def write(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for some in seat_batches(batches):
            borrowers = tenures(some, simulation.seed, month, month, simulation.two_ids_rate)
            performing = is_performing(walk(borrowers, simulation.seed, month + 1), day)
            book = walk(subset(borrowers, performing.nonzero()[0]), simulation.seed, month + 1)
            tables = {table: rows for table, (rows, _) in export(book, clean, window).items()}
            truth = true_default_probability(book, simulation.seed, day, paths=LABEL_PATHS)
            tables[TRUTH_DEFAULT.name] = truth_rows(book, day, truth)
            for table, rows in tables.items():
                pa.parquet.write_table(rows, folder / table / f"part-{some[0]:012d}.parquet")
            yield pa.record_batch({"borrowers": pa.array([len(book.borrowers)], pa.int64())})

    numbers = spark.range(seats.start, seats.stop, 1, spark.sparkContext.defaultParallelism)
    numbers.mapInArrow(write, "borrowers BIGINT").agg(F.sum("borrowers")).first()


def read_records(lake: Lake, source: Source, folder: Path) -> dict[str, DataFrame]:
    """The silver tables of ``land_records``, by name: typed as the source's mapping says."""
    silver = {}
    for table in FEATURE_SOURCES:
        (mapping,) = source.tables[table.name]
        raw = lake.spark.read.parquet(str(folder / mapping.from_file)).withColumns({
            "_source_file": F.lit(""), "_row_number": F.lit(0).cast("bigint"), "_malformed": F.lit(None).cast("string"),
        })
        silver[table.name] = lake.conform(table, build_typed(source, table, 0, raw, {}))
    return silver


def build_reference(silver: Mapping[str, DataFrame], source: Source, truth: DataFrame, day: date) -> DataFrame:
    """The borrowers performing on the day, with features and prob_default_12m; one row per borrower."""
    loan, repayment = silver["loan"], silver["repayment"]
    performing = build_candidates(loan, [day]).where(F.col("standing") == "performing")
    spine = with_default_events(performing, build_default_events(loan, repayment, source.default_days)).where(~was_defaulted())
    spine = with_party(spine.drop("default_events"), with_known_until(silver["borrower"], "borrower_id"))
    spine = spine.join(truth, on=list(KEYS), how="inner").persist()
    rows = with_features(spine, silver, source.account_month_lag_days).where(~is_too_thin())
    return rows.select(*KEYS, "prob_default_12m", *NAMES)


def with_attainable(
    lake: Lake, source: Source, training: DataFrame, test: DataFrame, rows: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, object]]:
    """The tested rows with the probabilities attainable and truth and the interest_rate of their newest loan, and what the reference was.

    training, test: the columns of TRAINING_SET. rows: one row per tested row, by KEYS. The reference has reference_times as
    many seats as the market, beyond its own, on the tested day.
    """
    simulation, drawn = lake.settings.simulation, source.evaluation.drawn
    (day,) = rows["as_of_date"].unique()
    # Whole pairs of seats, which may be one party.
    first = simulation.borrowers + simulation.borrowers % 2
    seats = range(first, first + drawn.reference_times * simulation.borrowers)
    folder = lake.settings.market / "reference"
    rmtree(folder, ignore_errors=True)
    land_records(lake.spark, simulation, seats, day, folder)
    truth = lake.spark.read.parquet(str(folder / TRUTH_DEFAULT.name))
    found = build_reference(read_records(lake, source, folder), source, truth, day)
    reference = bounded(found, MAX_REFERENCE_ROWS, "rows of the reference").to_pandas().sort_values(list(KEYS), ignore_index=True)
    rmtree(folder)
    known = build_truth(lake.spark, simulation, day).toPandas()
    tested = test.select(*KEYS, *NAMES).toPandas().merge(known, on=list(KEYS)).rename(columns={"prob_default_12m": "truth"})
    labels, seed = reference["prob_default_12m"].to_numpy(), lake.settings.training.seed % 2**31
    score, parts = attainable_score(reference[NAMES], labels, tested[NAMES], tested["truth"].to_numpy(), seed)
    told = tested[[*KEYS, "truth"]].assign(attainable=score, interest_rate=tested["loan_interest_rate"])
    trained = training.agg(F.count("*"), F.count_distinct("borrower_id")).first()
    return rows.merge(told, on=list(KEYS)), {
        "rows": len(reference), "borrowers": reference["borrower_id"].nunique(),
        "day": day.isoformat(), "training_rows": trained[0], "training_borrowers": trained[1], "parts": parts,
    }
