"""# Nightly scoring

From the files that landed by the end of the as-of date to published scores and allocations.

Check that a champion model exists → wait for the day's files → open the night (run manifest) → ingest → features →
scores → allocation → publication. A gate stands behind each job that writes tables; nothing passes a closed gate, and
yesterday's publication stays in place. Behind the publication, drift of the scored population may start the DAG
credit_training for the same day; it never fails the night. Running a past date again is a backfill: it never moves the pointer back.

By hand, each task is `python -m spark_jobs <task> --as-of-date <date>`.
"""

from airflow.sdk import DAG

from conf.settings import load_settings
from conf.tables import (
    ALLOCATION,
    ALLOCATION_SUMMARY,
    BORROWER_SCORE,
    FEATURE_TABLES,
    FRONTIER,
    FRONTIER_HOLDING,
    HOLDING,
    INGEST_RECORDS,
    LOAN,
    LOAN_VALUATION,
    POPULATION,
    REPAYMENT,
    RISK_GROUP_CAP,
    UNSCORED,
)
from dags.job_tasks import (
    asset,
    await_files,
    by_clock,
    chain_gated,
    dag_defaults,
    gate,
    publication,
    run_job,
    silver_tables,
    submit_job,
    train_on_drift,
)

settings = load_settings()
silver = silver_tables(settings.product)
features = tuple(FEATURE_TABLES.values())

with DAG(
    "nightly_scoring",
    # A market of companies has DAGs of its own for this.
    schedule=by_clock(settings.night.schedule) if settings.product == "lending" else None,
    doc_md=__doc__,
    tags=["night", settings.source],
    **dag_defaults("credit-platform"),
):
    check_champion = run_job("check_champion", "Fails, naming the DAG to run, while no model is champion.", retries=0)
    open_night = run_job("open_night", "Writes the run manifest: landed files, model, configuration, code version.")
    ingest = submit_job("ingest", "Files → bronze → silver; broken rows → quarantine.", (asset(LOAN), asset(REPAYMENT)))
    build_features = submit_job(
        "build_features", "Population and the four feature blocks, point in time.", (asset(POPULATION), *map(asset, features))
    )
    score = submit_job("score", "Calibrated probability of default, points and risk group.", (asset(BORROWER_SCORE),))
    allocate = submit_job("allocate", "Open orders over open listings, within caps.", (asset(LOAN_VALUATION), asset(ALLOCATION)))
    publish = submit_job("publish", "COPY into PostgreSQL, verify, attach, wait, flip.", (publication(),))

    gate_silver = gate("gate_silver", "ingest", (*silver, *INGEST_RECORDS["lending"]))
    gate_features = gate("gate_features", "build_features", (POPULATION, UNSCORED, *features))
    gate_scores = gate("gate_scores", "score", (BORROWER_SCORE,))
    gate_allocations = gate(
        "gate_allocations", "allocate",
        (LOAN_VALUATION, RISK_GROUP_CAP, HOLDING, ALLOCATION, ALLOCATION_SUMMARY, FRONTIER, FRONTIER_HOLDING),
    )

    chain_gated(
        check_champion,
        await_files(),
        open_night,
        (ingest, gate_silver),
        (build_features, gate_features),
        (score, gate_scores),
        (allocate, gate_allocations),
        publish,
    )
    train_on_drift(publish)
