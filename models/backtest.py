"""The backtest: money of each month invested by the product's own allocation and by others, and what became of it. No Spark.

Listings were valued as of their month, by models of what was known then (the job backtest); outcomes are read only here, after
every portfolio has been chosen. All strategies get the same money in the same months and buy in the same notes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from models.allocation import Rules
from models.backtest_strategies import (
    BY_VOLUME,
    EQUAL,
    MATCHED,
    MOSAIC,
    allocated_notes,
    best_half_within,
    characteristics,
    naive_picks,
)
from models.backtest_valuation import return_calibration
from models.realised import (
    PORTFOLIO_NOTES,
    SEED,
    Cohorts,
    Outcomes,
    block_counts,
    bootstrapped_losses,
    build_cohorts,
    cvar95,
    effective_loans,
    interval,
    reduction,
)
from models.realised_cash import stacked_cash
from models.whole_notes import clip_by_class

SHARE = 0.20
CURVE = (0.05, 0.10, 0.20, 0.30, 0.40, 0.50, 0.60, 0.70, 0.80)
CLAIMED_YEARS = (2010, 2011)
LEAST_REDUCTION, LEAST_END = 0.35, 0.25
# Of the portfolios that a strategy's CVaR is told from: an investor of 2,500 dollars in notes of 25.
CVAR_NOTES = 100
RANDOM_PICKS = 200
POOLED = "pooled"
Holdings = dict[str, np.ndarray]
RulesOfMonth = Callable[[date], Rules]


def prepared(listings: pd.DataFrame, note: float) -> pd.DataFrame:
    """Listings by month and loan_id, with notes (whole ones that each loan has room for) and number of the month."""
    rows = listings.assign(loan_id=listings["loan_id"].astype(str)).sort_values(["month", "loan_id"], ignore_index=True)
    return rows.assign(
        notes=np.floor(rows["amount"] / note + 1e-9).astype(np.int64),
        number=np.unique(rows["month"], return_inverse=True)[1],
    )


def outcomes_of(rows: pd.DataFrame) -> Outcomes:
    """What became of prepared listings."""
    return Outcomes(
        rows["number"].to_numpy(), rows["principal_lost"].to_numpy(float), rows["is_default"].to_numpy(bool),
        stacked_cash(rows["cash"]),
    )


def capital_of(rows: pd.DataFrame, share: float) -> np.ndarray:
    """Notes to invest in each month: a share of what is listed."""
    return np.floor(share * rows.groupby("number")["notes"].sum().to_numpy() + 1e-9).astype(np.int64)


def bought(rows: pd.DataFrame, share: float, rules_of: RulesOfMonth, only: Collection[str] | None = None) -> Holdings:
    """Notes of each prepared listing by strategy (only: some of them, EQUAL always).

    The mosaic has the target that equal weight is expected to return; the matched one also equal weight's average interest
    rate and mix of terms.
    """
    capital, parts = capital_of(rows, share), []
    for number, of_month in rows.groupby("number"):
        notes, month = int(capital[number]), of_month["month"].iloc[0]
        seed = month.year * 100 + month.month
        picks = naive_picks(of_month, notes, np.random.default_rng([SEED, seed]))
        equal, rules = picks[EQUAL], rules_of(month)
        target = float(equal @ of_month["expected_net_return"] / notes)
        for name, like in ((MOSAIC, None), (MATCHED, equal)):
            if only is None or name in only:
                picks[name] = allocated_notes(of_month, notes, target, rules, seed, like)
        parts.append({name: picks[name] for name in picks if only is None or name in (*only, EQUAL)})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if all(name in part for part in parts)}


class Market:
    """Prepared listings with their outcomes, by year and pooled: over CLAIMED_YEARS where both are there, else over all."""

    def __init__(self, rows: pd.DataFrame) -> None:
        self.rows, self.outcomes = rows, outcomes_of(rows)
        self.months = rows.groupby("number")["month"].first().tolist()
        years = np.array([month.year for month in self.months])
        self.periods = {str(year): years == year for year in np.unique(years)}
        self.claimed = list(CLAIMED_YEARS) if set(CLAIMED_YEARS) <= set(years.tolist()) else np.unique(years).tolist()
        self.periods[POOLED] = np.isin(years, self.claimed)

    def cohorts(self, notes: np.ndarray, share: float) -> Cohorts:
        return build_cohorts(self.outcomes, notes, capital_of(self.rows, share))

    def within(self, period: str) -> np.ndarray:
        """Mask of the loans of a period."""
        return self.periods[period][self.outcomes.month]

    def losses(self, notes: np.ndarray, period: str, portfolio_notes: int, by_months: bool) -> np.ndarray:
        """Loss rates of bootstrapped portfolios of a period."""
        mine = self.within(period)
        month = np.unique(self.outcomes.month[mine], return_inverse=True)[1]
        outcomes = Outcomes(month, self.outcomes.principal_lost[mine], self.outcomes.is_default[mine], self.outcomes.cash[mine])
        return bootstrapped_losses(outcomes, notes[mine], portfolio_notes, by_months=by_months)


def figures(market: Market, notes: np.ndarray, cohorts: Cohorts, period: str) -> dict[str, Any]:
    """What a strategy did in a period: rates as fractions, intervals by blocks of months, CVaR of portfolios of CVAR_NOTES
    notes that each buy within a block of months."""
    months = np.flatnonzero(market.periods[period])
    mine, loans = cohorts.of(months), market.within(period)
    each, once, counts = np.eye(len(months)), np.ones((1, len(months))), block_counts(len(months))
    by_month, returns = mine.loss_rates(each), mine.net_returns(each)
    worst = int(np.nanargmax(by_month))
    held = np.where(loans, notes, 0)
    rate, *long_terms = characteristics(market.rows) @ held / held.sum()
    return {
        "loss_rate": float(mine.loss_rates(once)[0]), "net_return": float(mine.net_returns(once)[0]),
        "cvar95": cvar95(market.losses(notes, period, CVAR_NOTES, by_months=True)),
        "ci": {"loss_rate": interval(mine.loss_rates(counts)), "net_return": interval(mine.net_returns(counts))},
        "default_rate": float(mine.defaulted.sum() / mine.invested.sum()),
        "worst_month": {
            "month": f"{market.months[months[worst]]:%Y-%m}", "loss_rate": float(by_month[worst]),
            "lowest_net_return": float(np.nanmin(returns)),
        },
        "effective_loans": effective_loans(market.outcomes, held),
        "loans": int((held > 0).sum()), "largest_loan": float((held / cohorts.invested.clip(1)[market.outcomes.month]).max()),
        "uninvested": float(1 - mine.invested.sum() / mine.capital.sum()), "cash_drag": mine.cash_drag(),
        "interest_rate": float(rate), "longer_terms": float(sum(long_terms)),
    }


def compared(portfolio: Cohorts, benchmark: Cohorts, market: Market) -> dict[str, dict[str, Any]]:
    """How much less a portfolio lost than a benchmark, by period."""
    return {period: reduction(portfolio.of(months), benchmark.of(months)) for period, months in market.periods.items()}


def random_reductions(market: Market) -> dict[str, dict[str, Any]]:
    """What picking at random does to the loss rate of all that is listed: 0 but for chance. By period: mean and middle 95%."""
    room, capital = market.rows["notes"].to_numpy(), capital_of(market.rows, SHARE)
    lost = market.outcomes.principal_lost
    found: dict[str, list[float]] = {period: [] for period in market.periods}
    for pick in range(RANDOM_PICKS):
        random = np.random.default_rng([SEED, pick])
        order = np.lexsort((random.random(len(room)), market.outcomes.month))
        taken = np.zeros(len(room))
        taken[order] = clip_by_class(room[order], market.outcomes.month[order], capital)
        for period in found:
            mine = market.within(period)
            rate, whole = taken[mine] @ lost[mine] / taken[mine].sum(), room[mine] @ lost[mine] / room[mine].sum()
            found[period].append(1 - rate / whole)
    return {period: {"mean": float(np.mean(drawn)), "interval": interval(np.array(drawn))} for period, drawn in found.items()}


def claims(matched: Mapping[str, Mapping[str, Any]], years: Sequence[int]) -> dict[str, bool]:
    """Which of the stated aims are met, from the comparison with equal weight by period; years: those pooled."""
    pooled = matched[POOLED]
    return {
        "loss_rate_reduction": pooled["loss_rate_reduction"] >= LEAST_REDUCTION,
        "interval": pooled["ci"][0] > LEAST_END,
        **{f"net_return_{year}": matched[str(year)]["net_return_difference"] > 0 for year in years},
    }


def diversified(market: Market, holdings: Holdings) -> dict[str, Any]:
    """Mean loss and CVaR 95% by period, strategy and number of notes; in ``independent`` a portfolio's notes come from all
    months of the period, in ``by_months`` from one block of them."""
    return {
        period: {
            name: {
                str(count): {
                    "mean": float((independent := market.losses(holdings[name], period, count, False)).mean()),
                    "independent": cvar95(independent), "by_months": cvar95(market.losses(holdings[name], period, count, True)),
                }
                for count in PORTFOLIO_NOTES
            }
            for name in ("random", MOSAIC, MATCHED)
        }
        for period in market.periods
    }


def without_caps(rules_of: RulesOfMonth) -> RulesOfMonth:
    """The rules with risk groups uncapped."""

    def of(month: date) -> Rules:
        rules = rules_of(month)
        return replace(rules, risk_group_caps=(1.0,) * len(rules.risk_group_caps))

    return of


def cumulative_losses(market: Market, cohorts: Mapping[str, Cohorts]) -> dict[str, Any]:
    """Principal lost so far by month of investment over the pooled years, as a fraction of all the money invested then."""
    months = np.flatnonzero(market.periods[POOLED])
    return {
        "months": [str(market.months[month]) for month in months],
        "strategies": {
            name: (np.cumsum(one.lost[months]) / one.invested[months].sum()).tolist() for name, one in cohorts.items()
        },
    }


def find(rows: pd.DataFrame, following: RulesOfMonth, static: RulesOfMonth, stated: RulesOfMonth) -> dict[str, Any]:
    """What backtest.json tells of these prepared listings; rules by month: with caps and scenarios that follow market indicators,
    with neither following, and the first with asset correlations as the settings state them.
    """
    market = Market(rows)
    holdings = bought(rows, SHARE, following)
    cohorts = {name: market.cohorts(notes, SHARE) for name, notes in holdings.items()}
    of_period = {
        period: {name: figures(market, notes, cohorts[name], period) for name, notes in holdings.items()}
        for period in market.periods
    }
    to_equal = compared(cohorts[MATCHED], cohorts[EQUAL], market)
    half = market.cohorts(best_half_within(rows), SHARE)
    against = {
        "by_volume": compared(cohorts[MATCHED], cohorts[BY_VOLUME], market),
        "unmatched": compared(cohorts[MOSAIC], cohorts[EQUAL], market),
        "best_half_within_rate_and_term": compared(half, market.cohorts(rows["notes"].to_numpy(), SHARE), market),
        "random": random_reductions(market),
    }
    curve = []
    for share in CURVE:
        picks = holdings if share == SHARE else bought(rows, share, following, (MATCHED,))
        mosaic, equal = market.cohorts(picks[MATCHED], share), market.cohorts(picks[EQUAL], share)
        curve.append({
            "share": share,
            "uninvested": {
                period: float(1 - mosaic.invested[months].sum() / mosaic.capital[months].sum())
                for period, months in market.periods.items()
            },
            **compared(mosaic, equal, market),
        })
    return {
        "pooled_years": market.claimed,
        "strategies": of_period[POOLED],
        "matched": {**to_equal[POOLED], "claims": claims(to_equal, market.claimed), "years": to_equal, "against": against},
        "years": {period: found for period, found in of_period.items() if period != POOLED},
        "curve": curve,
        "diversification": diversified(market, holdings),
        "ablation": ablation(market, holdings, following, static, stated),
        "calibration": return_calibration(rows),
        "cumulative_loss": cumulative_losses(market, cohorts),
    }


def ablation(
    market: Market, holdings: Holdings, following: RulesOfMonth, static: RulesOfMonth, stated: RulesOfMonth
) -> dict[str, Any]:
    """The mosaic with caps and scenarios that follow market indicators, with neither following, with no caps, and with asset
    correlations that no default has scaled; and how far the first lost less than each of the others; by strategy and period."""
    kinds = {
        "following": holdings, "static": bought(market.rows, SHARE, static, (MOSAIC, MATCHED)),
        "none": bought(market.rows, SHARE, without_caps(following), (MOSAIC, MATCHED)),
        "stated_correlations": bought(market.rows, SHARE, stated, (MOSAIC, MATCHED)),
    }
    found: dict[str, Any] = {}
    for name in (MOSAIC, MATCHED):
        cohorts = {kind: market.cohorts(picks[name], SHARE) for kind, picks in kinds.items()}
        found[name] = {
            period: {
                kind: {key: of_kind[key] for key in ("loss_rate", "net_return", "cvar95", "uninvested")}
                | ({} if kind == "following" else {"against": reduction(cohorts["following"].of(months), cohorts[kind].of(months))})
                for kind, picks in kinds.items()
                for of_kind in [figures(market, picks[name], cohorts[kind], period)]
            }
            for period, months in market.periods.items()
        }
    return found
