"""Companies of the simulated market: yearly statements out of a stated structural process, and who fails.

As with borrowers, every draw is hashed (models.simulated_market), a company is walked from its founding and nothing in a year
depends on later ones. The market has ``companies`` seats; a seat is held by one company for COMPANY_TENURE_YEARS, then by the
next, which is founded in the year in which the other is sold. One that fails leaves its seat empty until then.

**The process.** A company has a quality of its own and a health that follows an AR(1) by years; with the common factor that
moves the borrowers they make what it earns on its assets. What it earns after interest and tax, less dividends, changes its
equity; its assets grow by themselves, so losses and growth are financed by debt. Every sector has a cycle of its own, an AR(1) by
years, that moves what its companies earn. Indebtedness, the next year's health, which no statement tells, the next year of the
sector's cycle and the common factor at the year's beginning make the log-odds of failing in that year. Fiscal years are
calendar years; a company that has failed files nothing more.

**Restatements.** RESTATED_SHARE of the statements overstated profit and receivables when first filed. An amendment tells the
right figures 2 to 14 months later, if the company still stands; the next year's statements begin from these.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.settings import Simulation
from models.simulated_export import (
    Layout,
    Records,
    Window,
    code_text,
    currency_text,
    day_text,
    delivered,
    identifier,
    integer_text,
)
from models.simulated_market import (
    FAR,
    Floats,
    Ints,
    Keys,
    Purpose,
    first_day,
    logistic,
    macro_path,
    normal,
    stream_key,
    uniform,
)

COMPANY_TENURE_YEARS = 12
LINKED_COMPANIES_SHARE = 0.06  # of the pairs of seats, whose companies belong to one group

HEALTH_PERSISTENCE = 0.75
# Log-odds of failing in a year: with the weights below some 4% of the companies a year do, of the magnitude that rating agencies
# publish for speculative-grade issuers (about 4%, from under 1% in good years to over 10%).
DISTRESS_LOG_ODDS = -3.4
LEVERAGE_EFFECT = 3.5      # per unit of liabilities to assets above 0.65
HEALTH_EFFECT = 0.9
QUALITY_EFFECT = 0.3
MACRO_EFFECT = 0.35
# A sector's own cycle weighs as much as the common factor, and is over sooner: a judgement, no published figure.
SECTOR_EFFECT = 0.35
SECTOR_PERSISTENCE = 0.6
TAX_RATE = 0.25
PAYOUT_SHARE = 0.4
RESTATED_SHARE = 0.04

# By sector: code, revenue over assets, share of gross profit in revenue, inventory over cost of sales.
SECTORS = ("C", "F", "G", "H", "I", "J", "M", "N")
SECTOR_TURNOVER = np.array([1.1, 1.3, 2.0, 1.2, 1.4, 1.0, 1.2, 1.6])
SECTOR_MARGIN = np.array([0.34, 0.25, 0.24, 0.36, 0.62, 0.58, 0.55, 0.40])
SECTOR_INVENTORY = np.array([0.18, 0.12, 0.13, 0.03, 0.04, 0.02, 0.01, 0.02])

AMOUNTS = (
    "total_assets", "current_assets", "cash", "receivables", "inventory", "total_liabilities", "current_liabilities", "long_term_debt",
    "equity", "retained_earnings", "revenue", "cost_of_sales", "gross_profit", "operating_expenses", "depreciation", "operating_income",
    "interest_expense", "net_income", "operating_cash_flow",
)
COMPANY_LAYOUTS: dict[str, Layout] = {
    "company": Layout(
        ("company_no", "party_no", "sector", "country", "state", "failed_on", "recorded_on"),
        numbers=(),
        dates={"failed_on": "2023-02-30"},
        codes=("state",),
        owner=None,
        empty=("sector",),
    ),
    "filing": Layout(
        ("filing_no", "company_no", "fiscal_year", "period_end", "filed", "form", "restates", *AMOUNTS, "currency", "recorded_on"),
        numbers=("total_assets", "revenue", "net_income"),
        dates={"period_end": "2023-02-30"},
        codes=("form",),
        owner="company_no",
        empty=("cash", "inventory", "depreciation", "interest_expense", "operating_cash_flow"),
    ),
}


@dataclass
class Companies:
    """Companies and their years; arrays by company, or (COMPANY_TENURE_YEARS, companies), the founding year first."""

    number: Ints
    key: Keys
    group: Ints
    founded: Ints  # year
    founded_on: Ints  # day number
    sector: Ints
    failed_on: Ints  # day number; a far future day for those who do not
    gone_on: Ints  # day on which one that has not failed is sold
    filed_on: Ints  # of each year's statements; a far future day where a company has failed before
    restated_on: Ints  # of the amendment; a far future day where there is none
    overstated: Floats  # by how much the first filing told too much profit
    amounts: dict[str, Floats]  # AMOUNTS as they truly were


def companies_of(seats: Ints, simulation: Simulation, first_year: int, last_year: int) -> Companies:
    """The companies that hold these seats in some year from first_year to last_year, each walked through its whole tenure.

    Of LINKED_COMPANIES_SHARE of the pairs of seats (2i and 2i + 1) the companies belong to one identity group.
    """
    market = stream_key(simulation.seed, 5)
    pair = seats // 2
    linked = uniform(stream_key(market, pair), Purpose.COMPANY, 0, 0) < LINKED_COMPANIES_SHARE
    leader = np.where(linked, 2 * pair, seats)
    phase = (uniform(stream_key(market, leader), Purpose.COMPANY, 0, 1) * COMPANY_TENURE_YEARS).astype(np.int64)
    newest, oldest = (last_year - phase) // COMPANY_TENURE_YEARS, (first_year - phase) // COMPANY_TENURE_YEARS
    held = [np.where(newest - back >= oldest, newest - back, -1) for back in range(int((newest - oldest).max(initial=-1)) + 1)]
    tenure, place = np.nonzero(np.array(held).reshape(-1, len(seats)) >= 0)
    number_held = newest[place] - tenure
    founded = phase[place] + COMPANY_TENURE_YEARS * number_held
    key = stream_key(stream_key(market, seats[place]), number_held)
    sector = (uniform(key, Purpose.COMPANY, 0, 2) * len(SECTORS)).astype(np.int64)
    amounts, log_odds, late = _walk(key, founded, sector, simulation)

    year = founded + np.arange(COMPANY_TENURE_YEARS)[:, None]
    step = np.arange(COMPANY_TENURE_YEARS)[:, None]
    next_year = first_day((year + 1 - 2000) * 12)
    fails = uniform(key, Purpose.COMPANY_YEAR, step, 0) < logistic(log_odds)
    failing_on = next_year + (uniform(key, Purpose.COMPANY_YEAR, step, 1) * 365).astype(np.int64)
    end = first_day((founded + COMPANY_TENURE_YEARS - 2000) * 12)
    gone_on = end + 200 + (uniform(key, Purpose.COMPANY, 0, 4) * 160).astype(np.int64)
    failed_on = np.where(fails & (failing_on < gone_on), failing_on, FAR).min(axis=0)
    # Within two to five months of the year's end, the later the harder the year was.
    filed_on = next_year + 60 + (uniform(key, Purpose.COMPANY_YEAR, step, 2) * 45 + 45 * late).astype(np.int64)
    filed_on = np.where(filed_on < failed_on, filed_on, FAR)
    is_restated = uniform(key, Purpose.COMPANY_YEAR, step, 3) < RESTATED_SHARE
    restated_on = filed_on + 60 + (uniform(key, Purpose.COMPANY_YEAR, step, 4) * 365).astype(np.int64)
    is_amended = is_restated & (restated_on < np.minimum(failed_on, gone_on))
    return Companies(
        number=seats[place] * 1000 + number_held,
        key=key,
        group=leader[place] * 1000 + number_held,
        founded=founded,
        founded_on=first_day((founded - 2000) * 12) + (uniform(key, Purpose.COMPANY, 0, 3) * 180).astype(np.int64),
        sector=sector,
        failed_on=failed_on,
        gone_on=np.where(failed_on < FAR, FAR, gone_on),
        filed_on=filed_on,
        restated_on=np.where(is_amended, restated_on, FAR),
        overstated=np.where(is_restated, (0.02 + 0.04 * uniform(key, Purpose.COMPANY_YEAR, step, 5)) * amounts["total_assets"], 0.0),
        amounts=amounts,
    )


def _walk(key: Keys, founded: Ints, sector: Ints, simulation: Simulation) -> tuple[dict[str, Floats], Floats, Floats]:
    """Each year's AMOUNTS, the log-odds of failing in the year after, and how late the year is told, from 0 to 1."""
    last_year = int(founded.max(initial=2000)) + COMPANY_TENURE_YEARS + 1
    macro, cycles = macro_path(simulation.seed, max((last_year - 2000) * 12, 12)), sector_cycles(simulation.seed, last_year)
    cycles *= simulation.sector_cycles
    quality = normal(key, Purpose.COMPANY, 1, 0)
    assets = 3e6 * np.exp(normal(key, Purpose.COMPANY, 1, 1))
    equity = assets * np.clip(0.38 + 0.08 * quality + 0.10 * normal(key, Purpose.COMPANY, 1, 2), 0.1, 0.8)
    retained = 0.5 * equity
    health = normal(key, Purpose.COMPANY, 1, 3)
    told: dict[str, list[Floats]] = {name: [] for name in AMOUNTS}
    log_odds, late = [], []
    for step in range(COMPANY_TENURE_YEARS):

        def noise(number: int, step: int = step) -> Floats:
            return normal(key, Purpose.COMPANY_YEAR, step, number)

        month = np.maximum((founded + step - 2000) * 12, 0)
        of_year = np.mean([macro[month + number] for number in range(12)], axis=0)
        cycle, next_cycle = (cycles[np.maximum(founded + step + ahead - 2000, 0), sector] for ahead in (0, 1))
        grown = assets * np.exp(0.03 + 0.03 * health + 0.02 * of_year + 0.06 * noise(10))
        average = (assets + grown) / 2
        earned = (0.055 + 0.025 * quality + 0.035 * health + 0.012 * (of_year + cycle) + 0.02 * noise(11)) * average
        debt = 0.6 * np.maximum(assets - equity, 0.0)
        interest = debt * (0.04 + 0.03 * np.clip((assets - equity) / assets, 0, 1.5))
        before_tax = earned - interest
        net_income = before_tax * np.where(before_tax > 0, 1 - TAX_RATE, 1.0)
        dividends = np.where(equity > 0.2 * assets, PAYOUT_SHARE, 0.0) * np.maximum(net_income, 0.0)
        # Owners take out what a company without debt would pile up.
        dividends = np.maximum(dividends, equity + net_income - 0.9 * grown)
        equity, retained, assets = equity + net_income - dividends, retained + net_income - dividends, grown

        revenue = SECTOR_TURNOVER[sector] * average * np.exp(0.10 * noise(12))
        gross_profit = revenue * np.clip(SECTOR_MARGIN[sector] + 0.3 * earned / revenue + 0.02 * noise(13), 0.02, 0.95)
        cost = revenue - gross_profit
        depreciation = 0.04 * average * np.exp(0.15 * noise(14))
        cash = assets * 0.09 * np.exp(0.35 * health + 0.35 * noise(15))
        receivables = revenue * 0.12 * np.exp(0.20 * noise(16))
        inventory = cost * SECTOR_INVENTORY[sector] * np.exp(0.20 * noise(17))
        # No more short-term assets than nine tenths of all.
        squeezed = np.minimum(0.9 * assets / (cash + receivables + inventory), 1.0)
        cash, receivables, inventory = cash * squeezed, receivables * squeezed, inventory * squeezed
        liabilities = assets - equity
        current = liabilities * np.clip(0.52 - 0.06 * health + 0.08 * noise(18), 0.2, 0.95)
        for name, value in {
            "total_assets": assets, "current_assets": cash + receivables + inventory, "cash": cash, "receivables": receivables,
            "inventory": inventory, "total_liabilities": liabilities, "current_liabilities": current,
            "long_term_debt": 0.8 * (liabilities - current), "equity": equity, "retained_earnings": retained, "revenue": revenue,
            "cost_of_sales": cost, "gross_profit": gross_profit, "operating_expenses": revenue - earned, "depreciation": depreciation,
            "operating_income": earned, "interest_expense": interest, "net_income": net_income,
            "operating_cash_flow": net_income + depreciation + 0.03 * average * noise(19),
        }.items():
            told[name].append(value)
        late.append(logistic(-1.5 * health))
        health = HEALTH_PERSISTENCE * health + np.sqrt(1 - HEALTH_PERSISTENCE**2) * noise(20)
        log_odds.append(
            DISTRESS_LOG_ODDS + LEVERAGE_EFFECT * (np.clip(liabilities / assets, 0, 1.6) - 0.65) - HEALTH_EFFECT * health
            - QUALITY_EFFECT * quality - SECTOR_EFFECT * next_cycle - MACRO_EFFECT * macro[month + 12]
        )
    return {name: np.array(values) for name, values in told.items()}, np.array(log_odds), np.array(late)


def sector_cycles(seed: int, last_year: int) -> Floats:
    """Each sector's own cycle from 2000 to last_year, of shape (years, sectors): stationary AR(1) of unit variance; higher is better."""
    years = max(last_year - 2000, 0) + 1
    key, sectors = stream_key(seed, 6), np.arange(len(SECTORS))
    cycles = np.empty((years, len(SECTORS)))
    cycles[0] = normal(key, Purpose.SECTOR, 0, sectors)
    for year in range(1, years):
        shock = normal(key, Purpose.SECTOR, year, sectors)
        cycles[year] = SECTOR_PERSISTENCE * cycles[year - 1] + np.sqrt(1 - SECTOR_PERSISTENCE**2) * shock
    return cycles


def company_records(companies: Companies, after: int, until: int) -> Records:
    """What the register tells of a company, when it is founded, fails or is sold; recorded after ``after`` and until ``until``."""
    events = np.stack([companies.founded_on, np.minimum(companies.failed_on + 5, FAR), companies.gone_on])
    event, row = np.nonzero((events > after) & (events <= until))
    failed = event == 1
    columns = {
        "company_no": identifier("K", companies.number[row], 9),
        "party_no": identifier("KP", companies.group[row], 9),
        "sector": code_text(SECTORS, companies.sector[row]),
        "country": code_text(("US",), np.zeros(len(row), np.int64)),
        "state": code_text(("ACTIVE", "FAILED", "SOLD"), event),
        "failed_on": day_text(companies.failed_on[row], "iso", failed),
    }
    return Records(columns, stream_key(stream_key(companies.key[row], 1), event), events[event, row])


def filing_records(companies: Companies, after: int, until: int) -> Records:
    """Statements as first filed, and amendments, recorded after ``after`` and until ``until``; amounts in whole units."""
    days = np.stack([companies.filed_on, companies.restated_on])
    is_amendment, step, row = np.nonzero((days > after) & (days <= until))
    recorded = days[is_amendment, step, row]
    year = companies.founded[row] + step
    amended = is_amendment == 1
    wrong = np.where(amended, 0.0, companies.overstated[step, row])
    amounts = {name: values[step, row] for name, values in companies.amounts.items()}
    for name in ("total_assets", "current_assets", "receivables", "equity", "retained_earnings", "operating_income", "net_income"):
        amounts[name] = amounts[name] + wrong
    amounts["operating_expenses"] = amounts["operating_expenses"] - wrong
    company = identifier("K", companies.number[row], 9)
    first = pc.binary_join_element_wise(company, integer_text(year), "-")
    columns = {
        "filing_no": pc.if_else(pa.array(amended), pc.binary_join_element_wise(first, "A", "-"), first),
        "company_no": company,
        "fiscal_year": integer_text(year),
        "period_end": day_text(first_day((year + 1 - 2000) * 12) - 1, "iso"),
        "filed": day_text(recorded, "iso"),
        "form": code_text(("ANNUAL", "AMENDED"), is_amendment),
        "restates": pc.if_else(pa.array(amended), first, pa.scalar(None, pa.string())),
        **{name: integer_text(np.round(amounts[name]).astype(np.int64)) for name in AMOUNTS},
        "currency": currency_text(len(row)),
    }
    return Records(columns, stream_key(stream_key(companies.key[row], 2), step * 2 + is_amendment), recorded)


def export_companies(companies: Companies, simulation: Simulation, window: Window) -> dict[str, tuple[pa.Table, Ints]]:
    """The raw records of a window by table, all columns text, each with the day numbers on which they were recorded."""
    makers = {"company": partial(company_records, companies), "filing": partial(filing_records, companies)}
    return delivered(COMPANY_LAYOUTS, makers, simulation, window)
