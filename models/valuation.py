"""What an open listing is worth: expected cash flows over its term, and the return, loss and duration they mean.

All per unit of amount lent on the day of origination; time in months; NumPy over arrays of loans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.hazard import DEFAULT_LAG_MONTHS


@dataclass(frozen=True)
class Valuation:
    """One element per loan.

    prob_default_lifetime: over the whole term. expected_loss: principal lost to default after recoveries, as a
    fraction of the amount, not discounted. expected_net_return: effective yearly internal rate of return of the
    expected cash flows after the platform's fee, -1 where nothing ever comes back. duration_years: Macaulay's, at
    that return (0 where nothing comes back).
    """

    prob_default_lifetime: np.ndarray
    expected_loss: np.ndarray
    expected_net_return: np.ndarray
    duration_years: np.ndarray


def level_installment(interest_rate: np.ndarray, term_months: np.ndarray) -> np.ndarray:
    """Monthly annuity per unit of amount: r / (1 - (1 + r)^-n) with r the yearly rate over 12; 1 / n at rate 0."""
    monthly = np.asarray(interest_rate, dtype=float) / 12
    term = np.asarray(term_months, dtype=float)
    interest_part = -np.expm1(-term * np.log1p(monthly))
    return np.where(monthly == 0, 1 / term, monthly / np.where(monthly == 0, 1.0, interest_part))


def outstanding_balance(interest_rate: np.ndarray, term_months: np.ndarray, months: int) -> np.ndarray:
    """Principal owed after 0, 1, … months paid instalments, shape (loans, months + 1), as a fraction of the amount."""
    monthly = np.asarray(interest_rate, dtype=float)[:, None] / 12
    term = np.asarray(term_months, dtype=float)[:, None]
    left = np.clip(term - np.arange(months + 1)[None, :], 0, None)
    # The balance is the present value of the instalments left, at the loan's own rate.
    annuity = np.where(
        monthly == 0, left, -np.expm1(-left * np.log1p(monthly)) / np.where(monthly == 0, 1.0, monthly)
    )
    return level_installment(interest_rate, term_months)[:, None] * annuity


def expected_cash_flows(
    interest_rate: np.ndarray,
    term_months: np.ndarray,
    default: np.ndarray,
    prepayment: np.ndarray,
    *,
    recoveries: np.ndarray,
    platform_fee_rate: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Expected payments to investors, probability of default and principal in default, month by month.

    default and prepayment are monthly conditional probabilities from origination on, of shape (loans, longest term +
    DEFAULT_LAG_MONTHS), as Hazard gives them. recoveries: element k is what comes back k months after the month of a default,
    as a fraction of what is owed. Returns cash of shape (loans, those months + the last k), and default probability and
    expected principal in default of the shape of default; column 0 is month 1.

    A loan that defaults in month j missed its first instalment DEFAULT_LAG_MONTHS earlier and owes the balance of
    then, of which recoveries come back. A prepaid loan pays its balance and the month's interest. The platform takes its fee of every payment to the investor.
    """
    interest_rate = np.asarray(interest_rate, dtype=float)
    term = np.asarray(term_months, dtype=int)
    loans, months = default.shape
    month = np.arange(1, months + 1)
    stays = np.cumprod((1 - default) * (1 - prepayment), axis=1)
    before = np.hstack([np.ones((loans, 1)), stays[:, :-1]])
    defaulting = before * default
    prepaying = before * (1 - default) * prepayment

    balance = outstanding_balance(interest_rate, term, months)
    installment = level_installment(interest_rate, term)[:, None]
    # Who pays instalment k: all but those who default up to month k + lag and those who prepay up to month k.
    stopped = np.cumsum(defaulting, axis=1)
    stopped = np.hstack([stopped[:, DEFAULT_LAG_MONTHS:], np.repeat(stopped[:, -1:], DEFAULT_LAG_MONTHS, axis=1)])
    paying = np.clip(1 - stopped - np.cumsum(prepaying, axis=1), 0, None)
    scheduled = np.where(month[None, :] <= term[:, None], paying * installment, 0.0)
    prepaid = prepaying * balance[:, :-1] * (1 + interest_rate[:, None] / 12)

    paid_installments = np.maximum(month - 1 - DEFAULT_LAG_MONTHS, 0)
    in_default = defaulting * balance[:, paid_installments]
    cash = np.zeros((loans, months + len(recoveries) - 1))
    cash[:, :months] = scheduled + prepaid
    for later, share in enumerate(recoveries):
        if share > 0:
            cash[:, later : later + months] += share * in_default
    return cash * (1 - platform_fee_rate), defaulting, in_default


def internal_rate_of_return(cash: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effective yearly rate at which each row's monthly cash is worth 1 today, and its Macaulay duration in years.

    cash has shape (loans, months), is not negative, and its column 0 is paid after one month. Rows without any cash
    give -1 and 0. The logarithm of the present value is convex and falling in the log rate, and by Jensen's
    inequality the start lies left of the root, so Newton's steps approach it from one side (Boyd and Vandenberghe
    2004, sections 3.1.5 and 9.5).
    """
    month = np.arange(1, cash.shape[1] + 1, dtype=float)
    total = cash.sum(axis=1)
    pays = total > 0
    cash = np.where(pays[:, None], cash, 1.0)
    with np.errstate(divide="ignore"):
        log_cash = np.log(cash)
    total = np.where(pays, total, 1.0)
    mean_month = (cash @ month) / cash.sum(axis=1)
    log_rate = np.log(total) / mean_month
    for _ in range(100):
        exponent = log_cash - log_rate[:, None] * month
        largest = exponent.max(axis=1)
        present = np.exp(exponent - largest[:, None])
        log_value = largest + np.log(present.sum(axis=1))
        mean_month = (present @ month) / present.sum(axis=1)
        step = log_value / mean_month
        log_rate = log_rate + step
        if np.all(np.abs(step[pays]) < 1e-14):
            break
    return np.where(pays, np.expm1(12 * log_rate), -1.0), np.where(pays, mean_month / 12, 0.0)


def value_loans(
    interest_rate: np.ndarray,
    term_months: np.ndarray,
    default: np.ndarray,
    prepayment: np.ndarray,
    *,
    recoveries: np.ndarray,
    platform_fee_rate: float,
) -> Valuation:
    """Value of newly originated loans; arguments as for expected_cash_flows."""
    cash, defaulting, in_default = expected_cash_flows(
        interest_rate, term_months, default, prepayment,
        recoveries=recoveries, platform_fee_rate=platform_fee_rate,
    )
    net_return, duration = internal_rate_of_return(cash)
    return Valuation(
        prob_default_lifetime=np.clip(defaulting.sum(axis=1), 0, 1),
        expected_loss=(1 - np.sum(recoveries)) * in_default.sum(axis=1),
        expected_net_return=net_return,
        duration_years=duration,
    )
