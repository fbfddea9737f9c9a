"""# Company scoring

The night of companies: from the statements known on the as-of date to published probabilities of distress.

Check that a champion model exists → wait for files → open the night (run manifest) → ingest → ratios and scores → publication,
with a gate behind each job that writes tables. Behind the publication, drift of the scored companies may start the DAG
company_training for the same day. It is a night of its own, beside nightly_scoring where a market has borrowers too.
Markets whose source tells of no companies have no such DAG.
"""

from airflow.sdk import DAG

from conf.settings import load_settings
from conf.source import products_of
from conf.tables import COMPANY_FEATURE, COMPANY_SCORE, COMPANY_UNSCORED, FILING, INGEST_RECORDS, STATEMENT_ITEM
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

if "company" in products_of(settings):
    silver = silver_tables("company")
    with DAG(
        "company_scoring",
        schedule=by_clock(settings.night.schedule),
        doc_md=__doc__,
        tags=["night", settings.source],
        **dag_defaults("credit-platform"),
    ):
        check_champion = run_job("check_champion", "Fails, naming the DAG to run, while no model is champion.", product="company", retries=0)
        open_night = run_job("open_night", "Writes the run manifest: landed files, model, configuration, code version.", product="company")
        ingest = submit_job(
            "ingest", "Files → bronze → silver; broken rows → quarantine.", (asset(FILING), asset(STATEMENT_ITEM)), product="company"
        )
        score_company = submit_job(
            "score_company", "Ratios, point in time, and calibrated probabilities of distress.",
            (asset(COMPANY_FEATURE), asset(COMPANY_SCORE)), product="company",
        )
        publish = submit_job(
            "publish", "COPY into PostgreSQL, verify, attach, wait, flip.", (publication("company"),), product="company"
        )

        gate_silver = gate("gate_silver", "ingest", (*silver, *INGEST_RECORDS["company"]), product="company")
        gate_scores = gate("gate_scores", "score_company", (COMPANY_FEATURE, COMPANY_UNSCORED, COMPANY_SCORE), product="company")

        chain_gated(check_champion, await_files("company"), open_night, (ingest, gate_silver), (score_company, gate_scores), publish)
        train_on_drift(publish, "company")
