"""# Market indicators

Macro series out of files in the layouts of FRED-MD and the Bank of Korea, each value known from its publication on.
They lie in the folder that `MOSAIC_MACRO` names, else in the folder `macro` of the data folder. Caps per risk group
follow them; without a folder the caps are static.

With a key of FRED (`MOSAIC_KEYS__FRED`) or of the Bank of Korea's ECOS (`MOSAIC_KEYS__ECOS`) the run fetches first what is
new there, FRED's with all vintages; without a key `fetch_indicators` is skipped.
"""

from airflow.sdk import DAG, TriggerRule

from conf.settings import load_settings
from conf.tables import MARKET_INDICATOR
from dags.job_tasks import asset, by_clock, chain_gated, dag_defaults, gate, run_job, submit_job

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
    # Skipped where there is no key; files may have landed all the same.
    ingest_market_indicators.trigger_rule = TriggerRule.NONE_FAILED
    fetch_indicators = run_job("fetch_indicators", "FRED and ECOS → files in the folder of market indicators; needs a key.")
    chain_gated(fetch_indicators, (ingest_market_indicators, gate("gate_indicators", "ingest_market_indicators", (MARKET_INDICATOR,), work="no night")))
