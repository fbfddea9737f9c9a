"""``python -m spark_jobs <job> --as-of-date 2011-06-30``: runs one job, by hand or under spark-submit."""

from __future__ import annotations

import argparse
import importlib
from datetime import date

from conf.settings import load_settings

# Jobs that need no Spark session come without a JVM. A job's module has the job's name.
SPARK_JOBS = (
    "simulate", "ingest", "ingest_market_indicators", "build_features", "score", "allocate", "publish", "train_credit",
)
PLAIN_JOBS = ("check_champion", "open_night", "rollback_publication", "summary")


def main(arguments: list[str] | None = None) -> None:
    """Run the job named on the command line; an error ends the process with its message and a non-zero code."""
    parser = argparse.ArgumentParser(prog="python -m spark_jobs", description=__doc__)
    parser.add_argument("job", choices=[*SPARK_JOBS, *PLAIN_JOBS])
    parser.add_argument("--as-of-date", type=date.fromisoformat, help="the day whose knowledge the job may use")
    parser.add_argument("--batch", help="rollback_publication: the batch to go back to")
    parser.add_argument(
        "--training", action="store_true", help="open_night: for ingesting before training, when no champion is needed"
    )
    options = parser.parse_args(arguments)
    if options.job == "rollback_publication":
        if not options.batch:
            parser.error("rollback_publication needs --batch")
    elif not options.as_of_date:
        parser.error(f"{options.job} needs --as-of-date")

    settings = load_settings()
    job = importlib.import_module(f"spark_jobs.{options.job}")
    if options.job == "rollback_publication":
        job.run(settings, options.batch)
    elif options.job == "open_night":
        job.run(settings, options.as_of_date, training=options.training)
    elif options.job in PLAIN_JOBS:
        job.run(settings, options.as_of_date)
    else:
        from spark_jobs.session import open_session

        spark = open_session(settings, f"{options.job} {options.as_of_date}")
        try:
            job.run(spark, settings, options.as_of_date)
        finally:
            spark.stop()


if __name__ == "__main__":
    main()
