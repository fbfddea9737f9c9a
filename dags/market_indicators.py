"""# Market indicators

Macro series out of files in the layouts of FRED-MD and the Bank of Korea, each value known from its publication on.
They lie in the folder that `MOSAIC_MACRO` names, else in the folder `macro` of the data folder. Caps per risk group
follow them; without a folder the caps are static.
"""

from airflow.sdk import DAG

from conf.settings import load_settings
from conf.tables import MARKET_INDICATOR
from dags.job_tasks import asset, by_clock, chain_gated, dag_defaults, gate, submit_job

settings = load_settings()

with DAG(
    "market_indicators",
    schedule=by_clock(settings.night.indicators_schedule),
    doc_md=__doc__,
    tags=["landing", settings.source],
    **dag_defaults("market-data"),
):
    ingest_market_indicators = submit_job(
        "ingest_market_indicators", "Macro files → silver.market_indicator, revisions kept.", (asset(MARKET_INDICATOR),)
    )
    chain_gated((ingest_market_indicators, gate("gate_indicators", "ingest_market_indicators", (MARKET_INDICATOR,), work="no night")))
