"""How what listings were expected to bring agrees with what they brought: the calibration of the valuation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.realised_cash import stacked_cash
from models.valuation import internal_rate_of_return

TENTHS = 10


def pooled_return(listings: pd.DataFrame) -> float:
    """Yearly internal rate of return of the pooled cash of loans, weighted by amount, all counted from their origination."""
    weight = listings["amount"].to_numpy(float)
    cash = weight @ stacked_cash(listings["cash"]) / weight.sum()
    return float(internal_rate_of_return(cash[None, :])[0][0])


def return_calibration(listings: pd.DataFrame) -> list[dict[str, object]]:
    """Expected against realised, by tenth of expected_net_return (1 the lowest) within each calendar year of issue, and for
    each whole year (tenth null).

    listings: month, loan_id, amount, expected_net_return, expected_loss, prob_default_lifetime, duration_years, is_default,
    cash and principal_lost, as spark_jobs.backtest writes them. Each row has year, tenth, listings, and expected_ and
    realised_ net_return, loss and default: returns a year, losses fractions of the amount, defaults of the number. An expected
    return is the mean by amount and duration, as which a pool's return is that of its loans to first order.
    """
    rows = []
    year = pd.to_datetime(listings["month"]).dt.year
    for number, of_year in listings.groupby(year):
        of_year = of_year.sort_values(["expected_net_return", "loan_id"], ignore_index=True)
        tenth = np.arange(len(of_year)) * TENTHS // len(of_year) + 1
        for place, part in [(None, of_year), *((int(place), part) for place, part in of_year.groupby(tenth))]:
            amount = part["amount"].to_numpy(float)
            mean = lambda name: float(np.average(part[name].to_numpy(float), weights=amount))  # noqa: B023, E731
            held = amount * np.maximum(part["duration_years"].to_numpy(float), 1 / 12)
            rows.append({
                "year": int(number), "tenth": place, "listings": len(part),
                "expected_net_return": float(np.average(part["expected_net_return"], weights=held)),
                "realised_net_return": pooled_return(part),
                "expected_loss": mean("expected_loss"), "realised_loss": mean("principal_lost"),
                "expected_default": float(part["prob_default_lifetime"].mean()), "realised_default": float(part["is_default"].mean()),
            })
    return rows
