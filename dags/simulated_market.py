"""# Simulated market

Writes the as-of date's raw files of the simulated market, and on its first run the history before them: what a real
lender's systems would land before the night begins. Other sources have no such DAG.
"""

from conf.settings import load_settings
from dags.job_tasks import build_dag, submit_job

# Airflow takes a file for a DAG only when it finds both words in it: airflow and DAG.
settings = load_settings()

if settings.source == "simulated":
    with build_dag("simulated_market", settings.night.landing_schedule, __doc__, ["landing", settings.source], "market-data"):
        submit_job("simulate", "Draws the day's records from the seed; the same day twice gives the same files.")
