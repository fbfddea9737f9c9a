"""What defaults have in common: scenarios of the losses on tonight's listings, and their tail. NumPy only.

A loan defaults when a latent value falls below a threshold; the value is one part the factor of the loan's risk group
and one part its party's own (Vasicek 2002). Given the factors parties default independently, so two things part:

* the **conditional mean** of each listing's loss, which the optimiser sees: it holds what spreading cannot remove, and
  no draw of any single loan, of which there is only noise to be learnt;
* the **conditional variance**, which spreading removes: the optimiser prices it per party (``variance_price``).

What is published of an allocation comes from fresh factors and from drawn defaults (``cvar_of_holdings``), which the
optimiser has not seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import ndtr, ndtri
from scipy.stats.qmc import LatinHypercube

CVAR_LEVEL = 0.95
# Scenarios (of all listings) and listings (in all scenarios) that are worked on at once: tens of MB at 100,000 by 1,000.
BLOCK_SCENARIOS, BLOCK_LISTINGS = 100, 16_384
Stream = Literal["optimise", "evaluate"]


@dataclass(frozen=True)
class Exposures:
    """Listings, one element each: probability of default and expected loss (fraction of the amount) over the whole
    term, code of the party and risk group (1, 2, …)."""

    prob_default: np.ndarray
    expected_loss: np.ndarray
    party: np.ndarray
    risk_group: np.ndarray

    @property
    def severity(self) -> np.ndarray:
        """Loss on a listing that defaults, as a fraction of its amount; 0 where none can."""
        return np.divide(
            self.expected_loss, self.prob_default, out=np.zeros(len(self.prob_default)), where=self.prob_default > 0
        )

    def at_level(self, level: float) -> Exposures:
        """The same where the hazard of default is level times as high (proportional hazards), and what a default costs stays."""
        with np.errstate(divide="ignore"):  # who must default still must
            prob_default = -np.expm1(level * np.log1p(-self.prob_default))
        return replace(self, prob_default=prob_default, expected_loss=self.severity * prob_default)

    def of(self, listings: np.ndarray) -> Exposures:
        """These listings (positions) alone."""
        return Exposures(
            self.prob_default[listings], self.expected_loss[listings], self.party[listings], self.risk_group[listings]
        )


@dataclass(frozen=True)
class DefaultCorrelation:
    """asset_correlations: of two borrowers of risk group 1, 2, … (0 to under 1); factor_correlation: of two groups'
    factors, 0 to 1, where 1 is one factor for all."""

    asset_correlations: tuple[float, ...]
    factor_correlation: float

    def factors(self, scenarios: int, seed: int, stream: Stream) -> np.ndarray:
        """Factors of shape (risk groups, scenarios), standard normal each; low is bad.

        Latin hypercube samples (McKay, Beckman and Conover 1979): each margin is spread evenly, so the mean loss of
        a listing over the scenarios is its expected loss but for a hair. Equal seed and stream give equal factors.
        """
        groups = len(self.asset_correlations)
        sampler = LatinHypercube(groups + 1, rng=np.random.default_rng([seed, _STREAMS[stream]]))
        common, *own = ndtri(sampler.random(scenarios)).T
        return np.sqrt(self.factor_correlation) * common + np.sqrt(1 - self.factor_correlation) * np.array(own)

    def loadings(self, risk_group: np.ndarray) -> np.ndarray:
        """Of each listing on its group's factor: the square root of the group's asset correlation."""
        return np.sqrt(np.array(self.asset_correlations))[risk_group - 1]


_STREAMS: dict[Stream, int] = {"optimise": 0, "evaluate": 1}


def seed_of(batch_id: str) -> int:
    """The seed of a batch's scenarios: the first eight bytes of SHA-256 of its id."""
    return int.from_bytes(hashlib.sha256(batch_id.encode()).digest()[:8], "big")


def conditional_losses(exposures: Exposures, correlation: DefaultCorrelation, factors: np.ndarray) -> np.ndarray:
    """Mean loss on each listing given the factors, shape (listings, scenarios), single precision.

    Severity times the conditional probability of default, Phi((Phi^-1(p) - sqrt(rho) z) / sqrt(1 - rho)) with rho the
    asset correlation and z the factor of the risk group (Vasicek 2002). Its mean over z is the expected
    loss.
    """
    loading = correlation.loadings(exposures.risk_group)
    own = np.sqrt(1 - loading**2)
    level = (ndtri(exposures.prob_default) / own).astype(np.float32)
    slope, severity = (loading / own).astype(np.float32), exposures.severity.astype(np.float32)
    factors = factors.astype(np.float32)
    losses = np.empty((len(level), factors.shape[1]), dtype=np.float32)

    def fill(start: int) -> None:
        rows = slice(start, start + BLOCK_LISTINGS)
        block = losses[rows]
        np.multiply(factors[exposures.risk_group[rows] - 1], -slope[rows, None], out=block)
        block += level[rows, None]
        ndtr(block, out=block)
        block *= severity[rows, None]

    with ThreadPoolExecutor() as pool:
        list(pool.map(fill, range(0, len(level), BLOCK_LISTINGS)))
    return losses


def drawn_losses(
    exposures: Exposures, correlation: DefaultCorrelation, scenarios: int, seed: int, listings: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Losses with defaults drawn, from fresh factors: blocks of shape (listings, scenarios), single precision.

    A party has one draw of its own per scenario, whatever the number of its listings. listings: positions of those that
    are asked for, None for all; a listing's losses are the same whichever they are.
    """
    parties, party = np.unique(exposures.party, return_inverse=True)
    if listings is not None:
        exposures, party = exposures.of(listings), party[listings]
    factors = correlation.factors(scenarios, seed, "evaluate").astype(np.float32)
    random = np.random.default_rng([seed, len(_STREAMS)])
    loading = correlation.loadings(exposures.risk_group).astype(np.float32)[:, None]
    own = np.sqrt(1 - loading**2)
    threshold = ndtri(exposures.prob_default).astype(np.float32)[:, None]
    severity = exposures.severity.astype(np.float32)[:, None]
    for start in range(0, scenarios, BLOCK_SCENARIOS):
        some = factors[:, start : start + BLOCK_SCENARIOS]
        of_party = random.standard_normal((len(parties), some.shape[1]), dtype=np.float32)
        latent = some[exposures.risk_group - 1] * loading + of_party[party] * own
        # Nobody lies below minus infinity, the threshold of who cannot default, and all below that of who must.
        yield np.where(latent < threshold, severity, np.float32(0))


def tail_shares(scenarios: int, level: float = CVAR_LEVEL) -> np.ndarray:
    """Weights of the worst scenarios, worst first, with which their losses add up to the CVaR.

    The worst (1 - level) of the scenarios weigh alike, the one that straddles the bound what is left; the sum is 1
    (Rockafellar and Uryasev 2002, proposition 8).
    """
    most = 1 / ((1 - level) * scenarios)
    return np.clip(1 - most * np.arange(int(np.ceil((1 - level) * scenarios - 1e-9))), 0, most)


def tail_weights(losses: np.ndarray, level: float = CVAR_LEVEL) -> np.ndarray:
    """Weight of each scenario, 0 outside the tail, in the CVaR of these losses (scenarios): their product is the CVaR."""
    shares = tail_shares(len(losses), level)
    weights = np.zeros(len(losses))
    weights[np.argsort(-losses, kind="stable")[: len(shares)]] = shares
    return weights


def tail_means(losses: np.ndarray, level: float = CVAR_LEVEL) -> np.ndarray:
    """CVaR of each row of losses (portfolios, scenarios)."""
    shares = tail_shares(losses.shape[1], level)
    worst = np.partition(losses, -len(shares), axis=1)[:, -len(shares) :]
    return -np.sort(-worst.astype(float), axis=1) @ shares


def variance_price(mean_losses: np.ndarray, variance: float, level: float = CVAR_LEVEL) -> float:
    """How much CVaR rises per unit of variance of what is idiosyncratic.

    mean_losses: of a portfolio, given each scenario. Given a scenario its loss is taken as normal with that mean and
    the variance; by the heat equation the expected excess over a bound then rises by half the loss's density there,
    so CVaR by density(VaR) / (2 (1 - level)). This is the granularity adjustment of expected shortfall (Martin and
    Tasche 2007; Gordy and Luetkebohmert 2013), with the density taken at this variance and not at none,
    as a portfolio of a few dozen notes is far from none. 0 without variance.
    """
    if variance <= 0:
        return 0.0
    deviation = np.sqrt(variance)
    low, high = mean_losses.min() - 8 * deviation, mean_losses.max() + 8 * deviation
    for _ in range(60):
        bound = (low + high) / 2
        exceeds = ndtr((mean_losses - bound) / deviation).mean() > 1 - level
        low, high = (bound, high) if exceeds else (low, bound)
    distance = (mean_losses - bound) / deviation
    density = np.exp(-(distance**2) / 2).mean() / (deviation * np.sqrt(2 * np.pi))
    return float(density / (2 * (1 - level)))


def cvar_of_holdings(
    order: np.ndarray,
    listing: np.ndarray,
    amount: np.ndarray,
    orders: int,
    exposures: Exposures,
    correlation: DefaultCorrelation,
    *,
    scenarios: int,
    seed: int,
) -> np.ndarray:
    """CVaR of each order's loss as a fraction of what it holds, from drawn defaults; null (nan) where it holds nothing.

    order and listing are positions, one holding each; amount in any unit. Orders see the same draws, whichever of them are
    asked for together, so that equal holdings have equal risk.
    """
    held, position = np.unique(listing, return_inverse=True)
    total = np.bincount(order, amount, orders)
    weight = (amount / total[order]).astype(np.float32)
    weights = csr_matrix((weight, (order, position)), shape=(orders, len(held)))
    shares = tail_shares(scenarios)
    worst = np.zeros((orders, 0), dtype=np.float32)
    for block in drawn_losses(exposures, correlation, scenarios, seed, held):
        # Only the worst so far are kept: all of 100,000 orders' losses would not fit.
        worst = np.hstack([worst, weights @ block])
        if worst.shape[1] > len(shares):
            worst = np.partition(worst, -len(shares), axis=1)[:, -len(shares) :]
    found = -np.sort(-worst.astype(float), axis=1) @ shares
    # In single precision weights add up to 1 but for a hair, and no loss is more than the whole.
    return np.where(total > 0, np.minimum(found, 1.0), np.nan)
