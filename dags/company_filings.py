"""# Company filings

Fetches annual reports that were filed since the last run: of Korean companies from Open DART (source `opendart`, key
`MOSAIC_KEYS__DART`), of American ones from SEC EDGAR (source `edgar`, `MOSAIC_FETCHING__CONTACT`). Answers land as received;
the next night takes in the CSV files that are made of them. Without a key the task is skipped. A run that was stopped, or has
reached the service's limit, is taken up by the next one. Other sources have no such DAG.
"""

from airflow.sdk import DAG

from conf.settings import load_settings
from dags.job_tasks import by_clock, dag_defaults, run_job

settings = load_settings()

if settings.source in ("opendart", "edgar"):
    with DAG(
        "company_filings",
        schedule=by_clock(settings.night.filings_schedule),
        doc_md=__doc__,
        tags=["landing", settings.source],
        **dag_defaults("market-data"),
    ):
        run_job("fetch_filings", "New annual reports → raw answers, and the CSV files that ingest reads.")
