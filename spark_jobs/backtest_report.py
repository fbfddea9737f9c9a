"""``python -m spark_jobs.backtest_report <folder>``: the backtest of a market as one page and one JSON file.

Reads what the job backtest left in the market's reports, and resolved loans without borrower columns (outcomes_*.csv.gz)
where the market's data folder has any; writes backtest.html and backtest.json into the folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from conf.settings import Settings, load_settings
from conf.source import load_source
from models import graded_outcomes
from models.allocation import Rules
from models.backtest import find, prepared
from models.backtest_page import page
from spark_jobs.allocate import rules_of
from spark_jobs.manifest import code_version


def run(settings: Settings, folder: Path) -> Path:
    """Write the page and the JSON of the market into a folder; the page's path."""
    written = settings.market / "reports" / "backtest"
    caps = pd.read_parquet(written / "risk_caps.parquet")
    note = settings.allocation.note_amount[load_source(settings.source).currency]
    rows = prepared(pd.read_parquet(written / "listings.parquet"), note)
    unfitted = caps.assign(asset_correlation=caps["risk_group"].map(dict(enumerate(settings.allocation.asset_correlations, 1))))
    following = monthly_rules(settings, caps)
    static = monthly_rules(settings, caps.assign(cap=caps["base_cap"], default_level=1.0))
    found = find(rows, following, static, stated=monthly_rules(settings, unfitted))
    found["market"] = market_by_month(caps)
    found["protocol"] = json.loads((written / "quarters.json").read_text()) | {"note": note, "fee": settings.allocation.platform_fee_rate}
    found["graded_outcomes"] = {
        path.name: graded_outcomes.diversification(pd.read_csv(path, usecols=list(graded_outcomes.COLUMNS)))
        for path in sorted(settings.data.glob("outcomes_*.csv.gz") if settings.data else [])
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backtest.json").write_text(json.dumps(found, indent=1))
    target = folder / "backtest.html"
    target.write_text(page(found, code_version(settings.source), datetime.now(UTC)), encoding="utf-8")
    return target


def monthly_rules(settings: Settings, caps: pd.DataFrame) -> Callable[[date], Rules]:
    """The allocation's rules of each month, with the caps, asset correlations and level of default of risk_caps.parquet."""
    return {
        month: rules_of(settings, group["cap"], group["asset_correlation"], group["default_level"].iloc[0])
        for month, group in caps.sort_values("risk_group").groupby("month")
    }.__getitem__


def market_by_month(caps: pd.DataFrame) -> list[dict[str, Any]]:
    """Market stress (null where caps are static), level of default in scenarios, and caps and asset correlations of all risk groups,
    one element per month."""
    return [
        {
            "month": f"{month:%Y-%m}", "basis": group["basis"].iloc[0],
            "market_stress": None if pd.isna(group["market_stress"].iloc[0]) else float(group["market_stress"].iloc[0]),
            "default_level": float(group["default_level"].iloc[0]), "caps": group["cap"].tolist(), "asset_correlations": group["asset_correlation"].tolist(),
        }
        for month, group in caps.sort_values("risk_group").groupby("month")
    ]


if __name__ == "__main__":
    print(run(load_settings(), Path(sys.argv[1])))
