"""# Company training

Statements up to the as-of date → ratios of every filing, with what became of the company → hazard of distress within one, two
and three years → challenger → written rules on the newest filings → champion, or a challenger with the reason why not.

With the setting `training.approval` a person is asked in between. Weekly and on demand; a market without a champion among its
company models needs this DAG before its first night of companies. It ingests first, as training reads silver; files that are
there already change nothing. Markets whose source tells of no companies have no such DAG.
"""

from airflow.sdk import DAG

from conf.settings import load_settings
from conf.source import products_of
from conf.tables import COMPANY_TRAINING_SET, FILING, INGEST_RECORDS, STATEMENT_ITEM
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

if "company" in products_of(settings):
    silver = silver_tables("company")
    with DAG(
        "company_training",
        schedule=by_clock(settings.night.training_schedule),
        doc_md=__doc__,
        tags=["training", settings.source],
        **training_defaults(),
    ):
        open_night = run_job(
            "open_night", "Writes a run manifest without a model: training needs no champion.", "--training", product="company"
        )
        ingest = submit_job(
            "ingest", "Files → bronze → silver; broken rows → quarantine.", (asset(FILING), asset(STATEMENT_ITEM)), "--training",
            product="company",
        )
        train_company = submit_job(
            "train_company", "Trains, judges and registers a challenger with what each promotion rule says.", (asset(COMPANY_TRAINING_SET),),
            product="company",
        )
        gate_silver = gate("gate_silver", "ingest", (*silver, *INGEST_RECORDS["company"]), "training", "company")
        gate_training = gate("gate_training", "train_company", (COMPANY_TRAINING_SET,), "training", "company")

        chain_gated(
            await_files("company"), open_night, (ingest, gate_silver), (train_company, gate_training),
            *approval_tasks("company"), promote_credit("company"),
        )
