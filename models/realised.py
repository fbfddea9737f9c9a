"""What portfolios of past loans really lost and returned, with intervals over months. NumPy only.

Holdings are notes per loan; loans come with their month (0, 1, …), the fraction of principal lost after recoveries, and
monthly cash per unit lent, shape (loans, months on book), the first column one month after origination.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.scenarios import tail_means
from models.valuation import internal_rate_of_return

DRAWS, SEED = 1_000, 20261127
# Months of one block, so that the market of a season stays together; of few months at most a quarter of them, as blocks
# nearly as long as the history are all alike.
BLOCK_MONTHS = 3
PORTFOLIO_NOTES = (5, 20, 100, 500)


@dataclass(frozen=True)
class Outcomes:
    """Loans, one element each: month (number), principal_lost (fraction), is_default; cash of shape (loans, months on
    book)."""

    month: np.ndarray
    principal_lost: np.ndarray
    is_default: np.ndarray
    cash: np.ndarray


@dataclass(frozen=True)
class Cohorts:
    """One element per month, in notes: what there was to invest, invested, lost, and in default; cash of shape (months,
    months on book)."""

    capital: np.ndarray
    invested: np.ndarray
    lost: np.ndarray
    defaulted: np.ndarray
    cash: np.ndarray

    def of(self, months: np.ndarray) -> Cohorts:
        """These months (positions or a mask) alone."""
        return Cohorts(*(part[months] for part in (self.capital, self.invested, self.lost, self.defaulted, self.cash)))

    def loss_rates(self, counts: np.ndarray) -> np.ndarray:
        """Principal lost over principal invested for each row of counts, shape (draws, months); nan where none is."""
        with np.errstate(invalid="ignore"):
            return counts @ self.lost / (counts @ self.invested)

    def net_returns(self, counts: np.ndarray) -> np.ndarray:
        """Effective yearly internal rate of return of the pooled cash, loans put side by side at their origination."""
        invested = counts @ self.invested
        cash = np.divide(counts @ self.cash, invested[:, None], out=np.zeros((len(counts), self.cash.shape[1])), where=invested[:, None] > 0)
        return np.where(invested > 0, internal_rate_of_return(cash)[0], np.nan)

    def cash_drag(self) -> float:
        """What the net return loses to money that found no listing: it lies idle, at no interest, for as long as the
        placed money is out on average (its duration)."""
        placed = self.cash.sum(axis=0) / self.invested.sum()
        net_return, duration = internal_rate_of_return(placed[None])
        share = self.invested.sum() / self.capital.sum()
        pooled = placed * share
        pooled[max(round(float(duration[0]) * 12), 1) - 1] += 1 - share
        return float(net_return[0] - internal_rate_of_return(pooled[None])[0][0])


def build_cohorts(outcomes: Outcomes, notes: np.ndarray, capital: np.ndarray) -> Cohorts:
    """Cohorts of a portfolio; capital: notes to invest, by month."""
    months = len(capital)
    by_month = np.zeros((months, outcomes.cash.shape[1]))
    np.add.at(by_month, outcomes.month, notes[:, None] * outcomes.cash)

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(outcomes.month, values, months)

    return Cohorts(
        capital.astype(float), total(notes), total(notes * outcomes.principal_lost), total(notes * outcomes.is_default), by_month
    )


def block_counts(months: int, draws: int = DRAWS, seed: int = SEED) -> np.ndarray:
    """How often each month is drawn, shape (draws, months): a circular block bootstrap (Politis and Romano 1992), each
    draw cut to as many months as there are."""
    random = np.random.default_rng(seed)
    length = max(1, min(BLOCK_MONTHS, months // 4))
    blocks = -(-months // length)
    starts = random.integers(0, months, (draws, blocks))
    drawn = ((starts[:, :, None] + np.arange(length)) % months).reshape(draws, -1)[:, :months]
    counts = np.zeros((draws, months))
    np.add.at(counts, (np.arange(draws)[:, None], drawn), 1)
    return counts


def interval(values: np.ndarray) -> list[float]:
    """The middle 95%."""
    return [float(end) for end in np.nanquantile(values, [0.025, 0.975])]


def reduction(portfolio: Cohorts, benchmark: Cohorts) -> dict[str, object]:
    """By what share the portfolio's loss rate is below the benchmark's, and how much more it returned, with 95%
    intervals: both see the same months in every draw."""
    months = len(portfolio.invested)
    once, counts = np.ones((1, months)), block_counts(months)

    def of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        less = 1 - portfolio.loss_rates(rows) / benchmark.loss_rates(rows)
        return less, portfolio.net_returns(rows) - benchmark.net_returns(rows)

    (less, more), (drawn_less, drawn_more) = of(once), of(counts)
    return {
        "loss_rate_reduction": float(less[0]), "ci": interval(drawn_less),
        "net_return_difference": float(more[0]), "net_return_ci": interval(drawn_more),
    }


def cvar95(losses: np.ndarray) -> float:
    """Mean of the worst 5% of these losses."""
    return float(tail_means(losses[None])[0])


def bootstrapped_losses(
    outcomes: Outcomes, notes: np.ndarray, portfolio_notes: int, *, by_months: bool, draws: int = DRAWS, seed: int = SEED
) -> np.ndarray:
    """Loss rates of portfolios of so many notes each, drawn from what was bought in proportion to its notes.

    by_months: each portfolio buys within one block of successive months, so that what those months have in common stays;
    otherwise its notes come independently from all of them. A block in which nothing was bought is not drawn.
    """
    random = np.random.default_rng(seed)
    months = int(outcomes.month.max()) + 1
    if not by_months:
        held = notes / notes.sum()
        return outcomes.principal_lost[random.choice(len(notes), (draws, portfolio_notes), p=held)].mean(axis=1)
    losses = []
    bought = np.bincount(outcomes.month, notes, months)
    in_block = np.array([bought[(start + np.arange(BLOCK_MONTHS)) % months].sum() for start in range(months)])
    open_blocks = np.flatnonzero(in_block > 0)
    for start, portfolios in zip(*np.unique(random.choice(open_blocks, draws), return_counts=True), strict=True):
        mine = np.flatnonzero(np.isin(outcomes.month, (start + np.arange(BLOCK_MONTHS)) % months) & (notes > 0))
        drawn = random.choice(mine, (portfolios, portfolio_notes), p=notes[mine] / notes[mine].sum())
        losses.append(outcomes.principal_lost[drawn].mean(axis=1))
    return np.concatenate(losses)


def effective_loans(outcomes: Outcomes, notes: np.ndarray) -> float:
    """The number of equal loans that would be as concentrated: the inverse Herfindahl index of a month's holdings,
    averaged over months with any."""
    total = np.bincount(outcomes.month, notes)
    squares = np.bincount(outcomes.month, notes.astype(float) ** 2)
    return float((total[total > 0] ** 2 / squares[total > 0]).mean())
