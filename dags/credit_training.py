"""# Credit training

Cohorts up to the as-of date → sub-models, ensemble, calibration, lifetime hazard → challenger → written rules on a
later cohort → champion, or a challenger with the reason why not: the log of `promote_credit` and the version's tags in
MLflow say which rule, its value and its limit. With the setting `training.approval` a person is asked in between about a
challenger that passed every rule (about another, `check_challenger` says why not); where nobody answers within six days, the
run fails and the champion stays.

Weekly, on demand, and when the drift of a night asks for it; a market without a champion needs this DAG before its first
night. It ingests first, as training reads silver; files that are there already change nothing.
"""

from airflow.sdk import DAG

from conf.settings import load_settings
from conf.tables import INGEST_RECORDS, LOAN, REPAYMENT, TRAINING_SET
from dags.job_tasks import (
    approval_tasks,
    asset,
    await_files,
    by_clock,
    chain_gated,
    gate,
    promote_credit,
    run_job,
    silver_tables,
    submit_job,
    training_defaults,
)

settings = load_settings()
silver = silver_tables(settings.product)

with DAG(
    "credit_training",
    # A market of companies has DAGs of its own for this.
    schedule=by_clock(settings.night.training_schedule) if settings.product == "lending" else None,
    doc_md=__doc__,
    tags=["training", settings.source],
    **training_defaults(),
):
    open_night = run_job("open_night", "Writes a run manifest without a model: training needs no champion.", "--training")
    ingest = submit_job("ingest", "Files → bronze → silver; broken rows → quarantine.", (asset(LOAN), asset(REPAYMENT)), "--training")
    train_credit = submit_job(
        "train_credit", "Trains, judges and registers a challenger with what each promotion rule says.", (asset(TRAINING_SET),)
    )

    gate_silver = gate("gate_silver", "ingest", (*silver, *INGEST_RECORDS["lending"]), "training")
    gate_training = gate("gate_training", "train_credit", (TRAINING_SET,), "training")

    chain_gated(await_files(), open_night, (ingest, gate_silver), (train_credit, gate_training), *approval_tasks(), promote_credit())
