"""How much more a long loan defaults than a short one by its exposure alone: an offset, as no feature has to teach it.

Where the outcome is a default ever, a loan of 60 months is at risk for longer than one of 36, and when long loans are new
hardly an outcome shows it. So sub-models learn log-odds of a default within the horizon, as if every loan ran so long, and the
log of the term's share of that risk is added: the offset of a model of rates (McCullagh and Nelder 1989, section 6.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

TERM = "loan_term_months"


@dataclass(frozen=True)
class TermOffset:
    """log_shares: by months of term, from 0, the logarithm of the training set's term_share; longer terms take the last one."""

    log_shares: tuple[float, ...]

    def of(self, term_months: np.ndarray) -> np.ndarray:
        """Offsets (rows,) of terms in months; 0 for an unknown one (nan)."""
        place = np.nan_to_num(term_months, nan=0.0).clip(0, len(self.log_shares) - 1).astype(int)
        return np.where(np.isnan(term_months), 0.0, np.array(self.log_shares)[place])

    def column(self) -> Column:
        """The same of the feature loan_term_months."""
        if not any(self.log_shares):
            return F.lit(0.0)
        place = F.least(F.col(TERM).cast("int"), F.lit(len(self.log_shares) - 1))
        return F.coalesce(F.get(F.array(*map(F.lit, self.log_shares)), place), F.lit(0.0))


def fit_term_offset(rows: DataFrame, horizon_months: int) -> TermOffset:
    """The offsets that training rows tell, linear between their terms and beyond them those of the nearest one; 0 at the horizon.

    rows have loan_term_months, null where unknown, and term_share.
    """
    told = (
        rows.where(F.col(TERM).isNotNull())
        .groupBy(TERM)
        # One share a term, but for a term that was corrected later.
        .agg(F.max("term_share").alias("term_share"))
        .collect()
    )
    shares = {horizon_months: 1.0} | {int(row[TERM]): row["term_share"] for row in told}
    if set(shares.values()) == {1.0}:
        return TermOffset((0.0,))
    terms = sorted(shares)
    log_shares = np.interp(np.arange(terms[-1] + 1), terms, [math.log(shares[term]) for term in terms])
    return TermOffset(tuple(log_shares.tolist()))
