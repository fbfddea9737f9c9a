"""Outcomes of loans that come with a grade but without a borrower: what diversification alone does to a tail. NumPy, pandas.

The layout is LendingClub's of resolved loans without borrower columns. It tells neither amount nor term: a loan paid in full
has paid its amount; of the others the term is the one of 36 and 60 months whose annuity gives an amount nearest to a multiple
of 25 dollars, in which the platform lent.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from models.realised import PORTFOLIO_NOTES, Outcomes, bootstrapped_losses, cvar95
from models.valuation import level_installment

TERMS, LENT_IN, MOST_LENT = (36, 60), 25.0, 35_000.0
COLUMNS = (
    "loan_status", "issue_d", "grade", "installment", "int_rate", "total_rec_prncp", "recoveries", "collection_recovery_fee",
)


def lent_amounts(loans: pd.DataFrame) -> np.ndarray:
    """What was lent, in dollars; loans has COLUMNS, interest rates in percent."""
    rate = loans["int_rate"].to_numpy(float) / 100
    implied = np.stack([
        loans["installment"].to_numpy(float) / level_installment(rate, np.full(len(rate), term)) for term in TERMS
    ])
    rounded = np.round(implied / LENT_IN) * LENT_IN
    # Instalments are rounded to the cent, so an amount is off by a few tens of cents at most.
    distance = np.abs(implied - rounded)
    principal = loans["total_rec_prncp"].to_numpy(float)
    distance[(rounded > MOST_LENT) | (rounded < principal - 1)] = np.inf
    nearest = rounded[distance.argmin(axis=0), np.arange(len(rate))]
    return np.where(loans["loan_status"] == "Fully Paid", principal, nearest)


def outcomes_of(loans: pd.DataFrame) -> Outcomes:
    """Each loan's month of issue and principal lost after recoveries, net of the fee for collecting them; no cash."""
    amount = lent_amounts(loans)
    back = loans["total_rec_prncp"] + loans["recoveries"] - loans["collection_recovery_fee"]
    is_default = loans["loan_status"].to_numpy() != "Fully Paid"
    lost = np.where(is_default, np.clip(1 - back.to_numpy(float) / amount, 0, 1), 0.0)
    month = np.unique(loans["issue_d"].astype(str).str[:7], return_inverse=True)[1]
    return Outcomes(month, lost, is_default, np.zeros((len(loans), 0)))


def diversification(loans: pd.DataFrame) -> dict[str, object]:
    """Loss of random portfolios of one note each of so many loans: mean, and CVaR 95% by number of notes; over all loans
    and within each grade of which there are enough for the largest portfolio."""
    outcomes = outcomes_of(loans)
    grades = loans["grade"].to_numpy()
    chosen = {"all": np.ones(len(loans)), **{grade: (grades == grade).astype(float) for grade in sorted(set(grades))}}
    return {
        "loans": len(loans), "default_rate": float(outcomes.is_default.mean()),
        "portfolios": {
            name: {
                "loans": int(held.sum()), "loss_rate": float(outcomes.principal_lost @ held / held.sum()),
                "cvar95": {
                    str(count): cvar95(bootstrapped_losses(outcomes, held, count, by_months=False)) for count in PORTFOLIO_NOTES
                },
            }
            for name, held in chosen.items() if held.sum() >= max(PORTFOLIO_NOTES)
        },
    }
