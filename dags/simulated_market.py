"""# Simulated market

Writes the as-of date's raw files of the simulated market, and on its first run the history before them: what a real
lender's systems would land before the night begins. Other sources have no such DAG.
"""

from airflow.sdk import DAG

from conf.settings import load_settings
from dags.job_tasks import by_clock, dag_defaults, submit_job

settings = load_settings()

if settings.source == "simulated":
    with DAG(
        "simulated_market",
        schedule=by_clock(settings.night.landing_schedule),
        doc_md=__doc__,
        tags=["landing", settings.source],
        **dag_defaults("market-data"),
    ):
        submit_job("simulate", "Draws the day's records from the seed; the same day twice gives the same files.")
