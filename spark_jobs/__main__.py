"""``python -m spark_jobs <job> --as-of-date 2011-06-30``: runs one job, by hand or under spark-submit."""

from __future__ import annotations

import argparse
import importlib
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from types import ModuleType
from typing import get_args

from conf.settings import Product, load_settings

# Jobs that need no Spark session come without a JVM. A job's module has the job's name.
SPARK_JOBS = (
    "simulate", "ingest", "ingest_market_indicators", "build_features", "score", "allocate", "dry_run_allocation", "publish",
    "train_credit", "train_company", "score_company", "evaluate", "backtest", "time_allocation", "time_reasons",
)
PLAIN_JOBS = (
    "check_challenger", "check_champion", "fetch_filings", "fetch_indicators", "open_night", "promote_credit", "rollback_model", "rollback_publication", "summary",
)


def main(arguments: list[str] | None = None) -> None:
    """Run the job named on the command line; an error ends the process with its message and a non-zero code."""
    parser = argparse.ArgumentParser(prog="python -m spark_jobs", description=__doc__)
    parser.add_argument("job", choices=[*SPARK_JOBS, *PLAIN_JOBS])
    parser.add_argument("--as-of-date", type=date.fromisoformat, help="the day whose knowledge the job may use")
    parser.add_argument("--product", choices=get_args(Product), help="what the job works for; without it the market's own (setting product)")
    parser.add_argument("--batch", help="rollback_publication: the batch to go back to; without it the job lists them")
    parser.add_argument("--model", help="rollback_model: the version to go back to, or previous; promote_credit: this version only")
    parser.add_argument("--approved-by", help="promote_credit: who approves, where training.approval asks for it")
    parser.add_argument(
        "--training", action="store_true", help="open_night, ingest: for training, which needs no champion"
    )
    parser.add_argument("--order-id", help="dry_run_allocation: the open order; or, of one not yet placed:")
    parser.add_argument("--amount", type=Decimal, help="dry_run_allocation: its amount, and")
    parser.add_argument("--target-return", type=float, help="dry_run_allocation: its target return, a fraction a year")
    parser.add_argument("--full", action="store_true", help="evaluate: the studies too, which train many times")
    options = parser.parse_args(arguments)
    if not options.job.startswith("rollback_") and not options.as_of_date:
        parser.error(f"{options.job} needs --as-of-date")

    trial = (options.amount, options.target_return)
    if options.job == "dry_run_allocation" and (None in trial if options.order_id is None else trial != (None, None)):
        parser.error("dry_run_allocation needs either --order-id, or --amount and --target-return")

    settings = load_settings(**({"product": options.product} if options.product else {}))
    more = {"training": options.training} if options.job in ("open_night", "ingest") else {}
    if options.job == "dry_run_allocation":
        more = {"order_id": options.order_id, "amount": options.amount, "target_return": options.target_return}
    if options.job == "evaluate":
        more = {"full": options.full}
    if options.job == "promote_credit":
        # Empty where Airflow has nothing to tell.
        more = {"version": options.model or None, "approved_by": options.approved_by or None}
    if options.job == "rollback_publication":
        from spark_jobs.publication import PublicationRefused

        try:
            _module(options.job).run(settings, options.batch)
        except PublicationRefused as refused:
            raise SystemExit(f"rollback_publication: {refused}") from None
    elif options.job == "rollback_model":
        from spark_jobs.rollback_model import PREVIOUS, NoWayBack

        try:
            _module(options.job).run(settings, options.model or PREVIOUS)
        except NoWayBack as nothing:
            raise SystemExit(f"rollback_model: {nothing}") from None
    elif options.job in PLAIN_JOBS:
        _module(options.job).run(settings, options.as_of_date, **more)
    else:
        from spark_jobs.session import open_session

        # Python's imports and the JVM's start take seconds each, beside each other.
        with ThreadPoolExecutor(1) as pool:
            job = pool.submit(_module, options.job)
            spark = open_session(settings, f"{options.job} {options.as_of_date}")
        try:
            job.result().run(spark, settings, options.as_of_date, **more)
        finally:
            spark.stop()


def _module(job: str) -> ModuleType:
    return importlib.import_module(f"spark_jobs.{job}")


if __name__ == "__main__":
    main()
