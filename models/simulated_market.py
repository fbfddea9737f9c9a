"""A lending market drawn from a stated structural process: who borrows, who pays, who fails, and how likely that was.

**Draws are hashed, never streamed.** Every draw is splitmix64 (Steele, Lea & Flood 2014) of the seed, the party, the
month or loan, and the purpose. So a row does not depend on which other rows are made with it, in what order, or until
what date: same seed, same market, whatever the partitioning.

**No state before the window.** The market has ``borrowers`` seats. A seat is held by one borrower for TENURE_MONTHS, then
by the next one, with a phase of its own, counted from January 2000. A borrower is walked month by month from joining,
where income starts from its stationary law; so any as-of date costs at most TENURE_MONTHS + TAIL_MONTHS steps, however
far it lies from 2000, and leaving is exogenous: which borrowers are in the window says nothing about how they paid.

**The process.** A borrower's credit quality has a demographic part, one shared by its identity group and one of its own
(all standard normal). Income follows an AR(1) in logs. One common factor follows the macro path. Together they make
the distress index (log-odds scale) that moves missed instalments, and, with noise, everything that can be observed.
A loan is 0 to 2 instalments behind; each due date it may fall one further behind, stay, catch up or be prepaid; with
three missed it passes 90 days and defaults. All parameters are constants below, with where their magnitude is from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]
Flags = NDArray[np.bool_]

TENURE_MONTHS = 72
# Records of a borrower may still come after leaving (recoveries, late corrections), at most this many months.
TAIL_MONTHS = 10
# A borrower who joins links an account with this many months of past.
LEAD_MONTHS = 6
MAX_LOANS = 8
MAX_LIVE_LOANS = 3
MAX_LINES = 6

# Credit quality: demographic variables explain little of default beside the record (weak block by design).
DEMOGRAPHIC_WEIGHT = 0.30
GROUP_WEIGHT = 0.35
OWN_WEIGHT = float(np.sqrt(1 - DEMOGRAPHIC_WEIGHT**2 - GROUP_WEIGHT**2))
# Persistent but mean-reverting income: monthly 0.93 is a half-life of ten months (transitory and persistent parts of
# earnings processes taken together, e.g. Meghir & Pistaferri 2004).
INCOME_PERSISTENCE = 0.93
MACRO_PERSISTENCE = 0.97
# Weights of the distress index. The macro weight moves the yearly default rate as an asset correlation of about 0.02
# would: published estimates for consumer loans lie near 0.01-0.03, below Basel's 0.03-0.16 for other retail (CRE31).
QUALITY_EFFECT = 0.70
INCOME_EFFECT = 0.75
MACRO_EFFECT = 0.25
STRAIN_EFFECT = 1.5
SEASON_EFFECT = (0.25, 0.10, -0.10, -0.10, 0.0, 0.0, 0.05, 0.05, 0.0, -0.05, 0.0, 0.10)  # January follows the holidays

# Log-odds of missing an instalment when 0, 1 or 2 are behind, and how strongly distress moves them. The roll rates that
# come out are 0.8% (current to 30 days), 53% (30 to 60) and 68% (60 to 90): of the magnitude that issuers of unsecured
# consumer loans publish (about 1%, 40-60%, 60-80%). On average over macro paths 4% of performing borrowers default
# within a year, as consumer charge-off rates in the Federal Reserve's release range over 2-7%.
MISS_LOG_ODDS = (-5.80, -0.90, -0.20)
MISS_SLOPE = (1.00, 0.60, 0.50)
# Among those who pay while behind: the share who catch up fully.
CATCH_UP_SHARE = (0.0, 0.55, 0.40)
PARTIAL_SHARE = 0.25
# About 13% of loans a year are prepaid (published conditional prepayment rates of marketplace loans: 10-25%).
PREPAYMENT_RATE = 0.012
CROSS_DEFAULT_EFFECT = 3.0
# Applications a month beside the one on joining; listings are withdrawn, or stay open without being funded.
APPLICATION_RATE = 0.06
WITHDRAWN_SHARE = 0.05
UNFUNDED_SHARE = 0.04
LISTING_DAYS = 14
# Charge-off at 120 days past due; unsecured recoveries of some 10-15% of what was owed.
CHARGE_OFF_DAYS = 120
RECOVERY_MEAN = 0.13
RECOVERY_SHARE = 0.6  # of charged-off loans that bring anything

TERMS = np.array([12, 24, 36, 48, 60])
TERM_SHARES = np.array([0.15, 0.25, 0.40, 0.08, 0.12])
GRADE_FLOORS = np.array([745, 715, 690, 665, 640, 615])  # bureau score at which grades A … F begin; below: G
GRADE_SPREADS = np.array([0.020, 0.040, 0.065, 0.095, 0.130, 0.165, 0.195])

LINKED_SHARE = 0.05
COMPANY_SHARE = 0.04
NO_ACCOUNT_SHARE = 0.08
NO_BUREAU_SHARE = 0.05

TRUTH_PATHS = 64

FAR = 10**6  # a day number that never comes
_ALIVE = 10**4  # a month since joining that never comes


class Purpose(IntEnum):
    """What a draw is for: one number each, so that no two draws share a counter."""

    (
        PHASE, PAIR, GROUP, OWN, KIND, AGE, GENDER, REGION, EDUCATION, HOME, MARITAL, DEPENDENTS, OCCUPATION,
        INDUSTRY, EMPLOYED, INCOME_LEVEL, OTHER_INCOME, VERIFIED, JOIN_DAY, DEBT, BASE_BUREAU, BUREAU_QUARTER,
        BUREAU_DAY, PUBLIC_RECORD, NO_ACCOUNT, NO_BUREAU, INCOME, MACRO, APPLY, TERM, AMOUNT, LOAN_PURPOSE,
        LIST_DAY, OUTCOME, DECISION_DAY, FUNDED, PRICE, PAY, PARTIAL, DELAY, RECOVERY, ACCOUNT, LINE, LINE_USE,
        INQUIRY, PARTY, INDICATOR, ORDER, DIRT, DIRT_CELL, CORRECTION, FUTURE_INCOME, FUTURE_MACRO, COMPANY,
        COMPANY_YEAR, SECTOR,
    ) = range(56)


class Action(IntEnum):
    """What a borrower did on a due date."""

    NONE, MISS, PARTIAL, PAY, CATCH_UP, PREPAY = range(6)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(state: Keys) -> Keys:
    """The finaliser of splitmix64: a bijection that scatters its input over 64 bits."""
    with np.errstate(over="ignore"):
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def stream_key(seed: int | Keys, number: int | Ints) -> Keys:
    """Key of the stream of draws that belongs to a number (a seat, a tenure, a day) under a seed or another key."""
    with np.errstate(over="ignore"):
        return _mix(_mix(np.asarray(seed, dtype=np.uint64) + _GOLDEN) + np.asarray(number).astype(np.uint64) * _GOLDEN)


def hashed(key: Keys, purpose: Purpose, first: int | Ints = 0, second: int | Ints = 0) -> Keys:
    """64 random bits for (key, purpose, first, second); first is below 2^24, second below 2^15, both not negative."""
    counter = (np.uint64(purpose) << np.uint64(40)) + (np.asarray(first).astype(np.uint64) << np.uint64(16))
    with np.errstate(over="ignore"):
        return _mix(key + (counter + np.asarray(second).astype(np.uint64)) * _GOLDEN)


def uniform(key: Keys, purpose: Purpose, first: int | Ints = 0, second: int | Ints = 0) -> Floats:
    """A draw from the open unit interval."""
    return ((hashed(key, purpose, first, second) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(key: Keys, purpose: Purpose, first: int | Ints = 0, second: int | Ints = 0) -> Floats:
    """A standard normal draw (Box & Muller 1958); its second uniform has a counter that uniform draws never use."""
    radius = np.sqrt(-2.0 * np.log(uniform(key, purpose, first, second)))
    return radius * np.cos(2 * np.pi * uniform(key, purpose, first, np.asarray(second) + 2**15))


def logistic(log_odds: Floats) -> Floats:
    """Probability of log-odds."""
    return 1.0 / (1.0 + np.exp(-log_odds))


def month_of(day: date) -> int:
    """Months since January 2000."""
    return (day.year - 2000) * 12 + day.month - 1


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return day.toordinal() - date(1970, 1, 1).toordinal()


def first_day(month: int | Ints) -> Ints:
    """Day number of the first day of a month."""
    return (np.asarray(month) + 360).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def months_of_days(days: Ints) -> Ints:
    """Month number of each day number."""
    return days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) - 360


def macro_path(seed: int, last_month: int) -> Floats:
    """The common factor from January 2000 to last_month: a stationary AR(1) of unit variance; higher is better times."""
    shocks = normal(stream_key(seed, 0), Purpose.MACRO, np.arange(last_month + 1))
    path = np.empty(last_month + 1)
    path[0] = shocks[0]
    for month in range(1, last_month + 1):
        path[month] = MACRO_PERSISTENCE * path[month - 1] + np.sqrt(1 - MACRO_PERSISTENCE**2) * shocks[month]
    return path


def level_instalment(amount: Floats, interest_rate: Floats, term_months: Ints) -> Floats:
    """Monthly payment that repays amount over term_months at a yearly rate (annuity formula), in cents exactly."""
    monthly = interest_rate / 12
    return np.round(amount * monthly / (1 - (1 + monthly) ** -term_months.astype(np.float64)), 2)


def outstanding(amount: Floats, interest_rate: Floats, term_months: Ints, paid: Ints) -> Floats:
    """Principal left after ``paid`` level instalments."""
    growth = 1 + interest_rate / 12
    return amount * (growth**term_months - growth ** np.minimum(paid, term_months)) / (growth**term_months - 1)


@dataclass
class Borrowers:
    """The parties of some tenures; every array has one element per borrower."""

    number: Ints
    key: Keys  # draws of this borrower id
    party: Keys  # draws of the party behind it: the same for two ids of one party
    group: Ints  # number of the identity group
    is_second_id: Flags
    joined: Ints  # month
    joined_on: Ints  # day number
    is_company: Flags
    age_years: Floats
    region: Ints
    education: Ints
    home: Ints
    occupation: Ints
    employed_years: Floats
    income: Floats  # a year, on joining
    other_income: Floats
    quality: Floats
    other_debt: Floats  # debt service elsewhere over income
    has_account: Flags
    has_bureau: Flags

    def __len__(self) -> int:
        return len(self.number)


REGION_INCOME = np.array([1.22, 1.12, 1.05, 1.02, 1.0, 1.0, 0.97, 0.95, 0.92, 0.90, 0.87, 0.84])
EDUCATION_SHARES = np.array([0.03, 0.07, 0.42, 0.33, 0.15])
OCCUPATION_SHARES = np.array([0.68, 0.12, 0.12, 0.05, 0.03])  # employed, self-employed, public, retired, student


def tenures(seats: Ints, seed: int, first_month: int, last_month: int, two_ids_rate: float) -> Borrowers:
    """The borrowers who hold these seats in some month from first_month to last_month.

    Two seats (2i and 2i + 1) may belong together: one party under two ids (a share two_ids_rate of all ids is such a
    second id) or linked parties (LINKED_SHARE of the pairs), who share a group and join together.
    """
    market = stream_key(seed, 1)
    pair = seats // 2
    relation = uniform(stream_key(market, pair), Purpose.PAIR)
    same_party = relation < 2 * two_ids_rate
    linked = ~same_party & (relation < 2 * two_ids_rate + LINKED_SHARE)
    leader = np.where(same_party | linked, 2 * pair, seats)
    phase = (hashed(stream_key(market, leader), Purpose.PHASE) % np.uint64(TENURE_MONTHS)).astype(np.int64)

    newest = (last_month - phase) // TENURE_MONTHS
    oldest = (first_month - phase) // TENURE_MONTHS
    parts = []
    for back in range(int((newest - oldest).max(initial=0)) + 1):
        held = newest - back
        parts.append(np.stack([seats, leader, held, phase, same_party, linked])[:, held >= oldest])
    seats, leader, held, phase, same_party, linked = np.concatenate(parts, axis=1) if parts else np.empty((6, 0), int)
    same_party, linked = same_party.astype(bool), linked.astype(bool)

    key = stream_key(stream_key(market, seats), held)
    group_key = stream_key(stream_key(market, leader), held)
    party = np.where(same_party, group_key, key)
    joined = phase + TENURE_MONTHS * held
    is_company = uniform(party, Purpose.KIND) < COMPANY_SHARE

    age = 20 + 48 * uniform(party, Purpose.AGE) ** 1.3
    region = (uniform(party, Purpose.REGION) * len(REGION_INCOME)).astype(np.int64)
    education = np.searchsorted(np.cumsum(EDUCATION_SHARES)[:-1], uniform(party, Purpose.EDUCATION))
    occupation = np.searchsorted(np.cumsum(OCCUPATION_SHARES)[:-1], uniform(party, Purpose.OCCUPATION))
    employed = uniform(party, Purpose.EMPLOYED) ** 1.7 * (age - 18)
    # Median 46,000 a year before education and region: US Census personal earnings in magnitude.
    income = 46_000 * REGION_INCOME[region] * np.exp(
        0.13 * (education - 2.4) + 0.006 * (age - 40) + 0.40 * normal(party, Purpose.INCOME_LEVEL)
    )
    home_score = uniform(party, Purpose.HOME) + 0.008 * (age - 40)
    home = (home_score > 0.45).astype(np.int64) + (home_score > 0.90)
    demographic = (
        0.40 * (age - 41) / 13 + 0.45 * (np.sqrt(employed) - 2.6) / 1.3 + 0.40 * (home - 0.7) / 0.75
        + 0.30 * (education - 2.5) / 0.95 + 0.35 * np.log(income / 47_000) / 0.45
    ) / 0.98
    quality = (
        DEMOGRAPHIC_WEIGHT * demographic
        + GROUP_WEIGHT * normal(group_key, Purpose.GROUP)
        + OWN_WEIGHT * normal(party, Purpose.OWN)
    )
    return Borrowers(
        number=seats * 1000 + held,
        key=key,
        party=party,
        group=leader * 1000 + held,
        is_second_id=same_party & (seats != leader),
        joined=joined,
        joined_on=first_day(joined) + (uniform(key, Purpose.JOIN_DAY) * 20).astype(np.int64),
        is_company=is_company,
        age_years=age,
        region=region,
        education=education,
        home=home,
        occupation=occupation,
        employed_years=employed,
        income=np.round(income, -2),
        other_income=np.where(uniform(party, Purpose.OTHER_INCOME) < 0.25, np.round(0.15 * income, -2), 0.0),
        quality=quality,
        other_debt=np.minimum(0.16 * np.exp(0.45 * normal(party, Purpose.DEBT) - 0.12 * quality), 0.6),
        has_account=uniform(key, Purpose.NO_ACCOUNT) >= NO_ACCOUNT_SHARE,
        has_bureau=uniform(party, Purpose.NO_BUREAU) >= NO_BUREAU_SHARE,
    )


def income_paths(borrowers: Borrowers, months: int) -> Floats:
    """Standardised log-income shocks, (LEAD_MONTHS + months, borrowers): the first row is LEAD_MONTHS before joining."""
    path = np.empty((LEAD_MONTHS + months, len(borrowers)))
    for step in range(len(path)):
        shock = normal(borrowers.party, Purpose.INCOME, step)
        path[step] = shock if step == 0 else (
            INCOME_PERSISTENCE * path[step - 1] + np.sqrt(1 - INCOME_PERSISTENCE**2) * shock
        )
    return path


def distress_index(quality: Floats, income_shock: Floats, macro: Floats, month: Ints) -> Floats:
    """How hard it is to pay in a month, on the log-odds scale; higher is worse."""
    season = np.asarray(SEASON_EFFECT)[np.asarray(month) % 12]
    return season - QUALITY_EFFECT * quality - INCOME_EFFECT * income_shock - MACRO_EFFECT * macro


def miss_probability(stage: int | Ints, distress: Floats, strain: Floats) -> Floats:
    """Probability of missing the instalment of a month with ``stage`` (0, 1, 2) instalments behind."""
    slope = np.asarray(MISS_SLOPE)[stage]
    return logistic(np.asarray(MISS_LOG_ODDS)[stage] + slope * (distress + STRAIN_EFFECT * strain))


def prepayment_probability(quality: Floats, months_on_book: Ints) -> Floats:
    """Probability that a loan with nothing behind is paid off with this month's instalment."""
    return np.where(months_on_book >= 3, PREPAYMENT_RATE * np.exp(0.2 * quality), 0.0)


def bureau_score(borrowers: Borrowers, income_shock: Floats, step: int | Ints) -> Floats:
    """A bureau's score ``step`` months after joining: quality and recent income seen through noise; new each quarter."""
    seen = (
        0.60 * borrowers.quality
        + 0.25 * income_shock
        - 1.5 * (borrowers.other_debt - 0.18)
        + 0.55 * normal(borrowers.party, Purpose.BASE_BUREAU)
        + 0.25 * normal(borrowers.party, Purpose.BUREAU_QUARTER, np.asarray(step) // 3)
    )
    return np.clip(np.round(692 + 48 * seen), 350, 845)


@dataclass
class Book:
    """Every loan of some borrowers, walked to a month.

    Arrays of loans are (borrowers, MAX_LOANS); ``listed`` is -1 where there is none. Logs are (months since joining,
    borrowers, MAX_LOANS), written for each month in which the loan had a due date or a debt past its term.
    """

    borrowers: Borrowers
    income_shock: Floats  # (LEAD_MONTHS + months, borrowers)
    distress: Floats  # the same shape
    listed: Ints = field(init=False)  # months since joining
    listed_on: Ints = field(init=False)
    decided_on: Ints = field(init=False)  # day of origination, withdrawal or expiry
    outcome: Ints = field(init=False)  # 0 originated, 1 withdrawn, 2 not funded
    originated: Ints = field(init=False)  # months since joining
    due_day: Ints = field(init=False)  # day of the month, from 0
    term: Ints = field(init=False)
    amount: Floats = field(init=False)
    rate: Floats = field(init=False)
    grade: Ints = field(init=False)
    instalment: Floats = field(init=False)
    strain: Floats = field(init=False)
    ended: Ints = field(init=False)  # months since joining of the last decision; a large number while alive
    defaulted: Flags = field(init=False)
    closed_on: Ints = field(init=False)  # day it was paid in full or charged off; a far future day while alive
    action: NDArray[np.int8] = field(init=False)
    stage: NDArray[np.int8] = field(init=False)  # instalments behind, after the month's decision
    paid: NDArray[np.int8] = field(init=False)  # instalments paid in full, after the month's decision
    debt_service: Floats = field(init=False)  # (months, borrowers): instalments of live loans over monthly income

    @property
    def months(self) -> int:
        """Months since joining that were walked."""
        return len(self.action)

    def due_on(self, months_since_joining: Ints) -> Ints:
        """Due day of each loan in a month since joining."""
        return first_day(self.borrowers.joined[:, None] + months_since_joining) + self.due_day

    def is_live(self, as_of_date: date) -> Flags:
        """Which loans are originated by the end of a day and neither paid nor charged off."""
        return (self.outcome == 0) & (self.decided_on <= day_number(as_of_date)) & (self.closed_on > day_number(as_of_date))

    def is_open(self, as_of_date: date) -> Flags:
        """Which listings are open for funding at the end of a day."""
        day = day_number(as_of_date)
        return (self.listed >= 0) & (self.listed_on <= day) & (self.decided_on > day)

    def default_on(self) -> Ints:
        """Day on which each loan passes 90 days past due, (borrowers, MAX_LOANS); a far future day where it does not."""
        return np.where(self.defaulted, self.due_on(self.ended - 2) + 90, FAR)


def walk(borrowers: Borrowers, seed: int, last_month: int) -> Book:
    """Walk every borrower from joining to last_month (at most to the end of the tenure).

    Nothing in a month depends on later months, so a longer walk repeats a shorter one.
    """
    count = len(borrowers)
    months = int(np.clip(last_month - borrowers.joined.min(initial=last_month) + 1, 1, TENURE_MONTHS))
    calendar = borrowers.joined + np.arange(-LEAD_MONTHS, months)[:, None]
    income_shock = income_paths(borrowers, months)
    macro = macro_path(seed, int(calendar.max(initial=0)))
    book = Book(
        borrowers, income_shock,
        distress_index(borrowers.quality, income_shock, macro[np.maximum(calendar, 0)], calendar),
    )
    shape = (count, MAX_LOANS)
    for name in ("listed", "originated", "outcome"):
        setattr(book, name, np.full(shape, -1))
    for name in ("listed_on", "decided_on", "due_day", "grade"):
        setattr(book, name, np.zeros(shape, np.int64))
    for name in ("amount", "rate", "instalment", "strain"):
        setattr(book, name, np.zeros(shape))
    book.term = np.ones(shape, np.int64)
    book.ended = np.full(shape, _ALIVE)
    book.defaulted = np.zeros(shape, bool)
    for name in ("action", "stage", "paid"):
        setattr(book, name, np.zeros((months, *shape), np.int8))
    book.debt_service = np.zeros((months, count))

    stage = np.zeros(shape, np.int64)
    paid = np.zeros(shape, np.int64)
    used = np.zeros(count, np.int64)
    income = borrowers.income / 12
    loan_index = np.arange(MAX_LOANS)
    for month in range(months):
        alive = (book.originated >= 0) & (book.ended == _ALIVE)
        _apply_for_loans(book, month, used, alive, stage)
        distress = book.distress[LEAD_MONTHS + month]
        rows, loans = np.nonzero(alive & (book.originated < month))
        number = month - book.originated[rows, loans]
        behind = stage[rows, loans]
        failed_elsewhere = book.defaulted[rows].any(axis=1)
        miss = miss_probability(
            behind, distress[rows] + CROSS_DEFAULT_EFFECT * failed_elsewhere, book.strain[rows, loans]
        )
        pay = uniform(borrowers.key[rows], Purpose.PAY, month, loan_index[loans])
        term = book.term[rows, loans]
        missed = pay < miss
        # What is left of the uniform, rescaled, decides among those who pay.
        among_payers = np.where(missed, 0.0, (pay - miss) / (1 - miss))
        prepaid = ~missed & (behind == 0) & (number < term) & (
            among_payers < prepayment_probability(borrowers.quality[rows], number)
        )
        caught_up = ~missed & (behind > 0) & ((among_payers < np.asarray(CATCH_UP_SHARE)[behind]) | (number > term))
        partial = missed & (uniform(borrowers.key[rows], Purpose.PARTIAL, month, loans) < PARTIAL_SHARE)
        action = np.select(
            [partial, missed, prepaid, caught_up], [Action.PARTIAL, Action.MISS, Action.PREPAY, Action.CATCH_UP], Action.PAY
        )
        behind = np.where(missed, behind + 1, np.where(caught_up, 0, behind))
        owed = np.minimum(number, term)
        done = np.where(caught_up, owed, paid[rows, loans] + (action == Action.PAY))
        done = np.where(prepaid, term, done)
        stage[rows, loans], paid[rows, loans] = behind, done
        finished = (done >= term) | (behind == 3)
        book.ended[rows[finished], loans[finished]] = month
        book.defaulted[rows, loans] = behind == 3
        book.action[month, rows, loans] = action
        book.stage[month] = stage
        book.paid[month] = paid
        book.debt_service[month] = np.where(alive, book.instalment, 0.0).sum(axis=1) / income
    book.closed_on = _closing_days(book)
    return book


def _apply_for_loans(book: Book, month: int, used: Ints, alive: Flags, stage: Ints) -> None:
    """Enter this month's listings into the book: one on joining, then at APPLICATION_RATE for who may apply."""
    borrowers = book.borrowers
    blocked = (used >= MAX_LOANS) | (alive.sum(axis=1) >= MAX_LIVE_LOANS)
    blocked |= (stage > 0).any(axis=1) | (month > _last_application(TERMS[0]))
    wants = (uniform(borrowers.key, Purpose.APPLY, month) < APPLICATION_RATE) | (month == 0)
    rows = np.nonzero(wants & ~blocked)[0]
    loan = used[rows]
    key = borrowers.key[rows]

    term = TERMS[np.searchsorted(np.cumsum(TERM_SHARES)[:-1], uniform(key, Purpose.TERM, month))]
    for shorter in TERMS[-2::-1]:
        term = np.where(_last_application(term) < month, np.minimum(term, shorter), term)
    first_possible = (borrowers.joined_on - first_day(borrowers.joined) + 1)[rows] if month == 0 else 0
    length = first_day(borrowers.joined[rows] + month + 1) - first_day(borrowers.joined[rows] + month)
    day = first_possible + (uniform(key, Purpose.LIST_DAY, month) * (length - first_possible)).astype(np.int64)
    listed_on = first_day(borrowers.joined[rows] + month) + day
    fate = uniform(key, Purpose.OUTCOME, month)
    outcome = np.where(fate < WITHDRAWN_SHARE, 1, np.where(fate < WITHDRAWN_SHARE + UNFUNDED_SHARE, 2, 0))
    wait = 4 + (uniform(key, Purpose.DECISION_DAY, month) * (LISTING_DAYS - 4)).astype(np.int64)
    decided_on = listed_on + np.where(outcome == 2, LISTING_DAYS, wait)

    applicants = subset(borrowers, rows)
    score = bureau_score(applicants, book.income_shock[LEAD_MONTHS + month, rows], month)
    grade = len(GRADE_FLOORS) - np.searchsorted(GRADE_FLOORS[::-1], score, side="right")
    wish = np.exp(-1.55 + 0.5 * normal(key, Purpose.AMOUNT, month) + 0.012 * (term - 30))
    amount = np.clip(np.round(applicants.income * wish, -2), 1_000, 40_000)
    # Priced on what can be observed, and imperfectly: the grade, the term, debt service, and an error of one percent.
    rate = np.round(
        0.055 + GRADE_SPREADS[grade] + 0.0004 * (term - 36) + 0.03 * (applicants.other_debt - 0.18)
        + 0.010 * normal(key, Purpose.PRICE, month), 4,
    ).clip(0.04, 0.32)
    instalment = level_instalment(amount, rate, term)
    for name, value in {
        "listed": month, "listed_on": listed_on, "decided_on": decided_on, "outcome": outcome, "term": term,
        "amount": amount, "rate": rate, "grade": grade, "instalment": instalment,
        "strain": applicants.other_debt + instalment / (applicants.income / 12) - 0.30,
        "originated": np.where(outcome == 0, months_of_days(decided_on) - applicants.joined, -1),
        "due_day": np.minimum(decided_on - first_day(months_of_days(decided_on)), 27),
    }.items():
        getattr(book, name)[rows, loan] = value
    used[rows] += 1


def _last_application(term_months: int | Ints) -> int | Ints:
    """The last month since joining in which a loan of this term can be listed and still be resolved within the tenure."""
    return TENURE_MONTHS - 5 - term_months


def subset(borrowers: Borrowers, rows: Ints) -> Borrowers:
    """Some of the borrowers."""
    return Borrowers(**{name: value[rows] for name, value in vars(borrowers).items()})


def payment_delay_days(borrowers: Borrowers, rows: Ints, loans: Ints, month: Ints, action: Ints) -> Ints:
    """Days from the due date of a month to its payment: mostly up to three early, some late, catching up takes longer."""
    key = borrowers.key[rows]
    draw, amount = uniform(key, Purpose.DELAY, month, loans), uniform(key, Purpose.DELAY, month, loans + 2**14)
    late_share = 0.06 + 0.30 * logistic(-1.5 * borrowers.quality[rows] - 1.0)
    late = 1 + (amount * 12).astype(np.int64)
    prompt = -(amount * 4).astype(np.int64)
    catching_up = (amount * 20).astype(np.int64)
    return np.where(action == Action.CATCH_UP, catching_up, np.where(draw < late_share, late, prompt))


def _closing_days(book: Book) -> Ints:
    """Day on which each loan was paid in full or charged off; a far future day while alive."""
    closed_on = np.full(book.ended.shape, FAR)
    rows, loans = np.nonzero(book.ended < _ALIVE)
    month = book.ended[rows, loans]
    due_on = book.due_on(book.ended)[rows, loans]
    delay = payment_delay_days(book.borrowers, rows, loans, month, book.action[month, rows, loans])
    charged_off_on = first_day(book.borrowers.joined[rows] + month - 2) + book.due_day[rows, loans] + CHARGE_OFF_DAYS
    closed_on[rows, loans] = np.where(book.defaulted[rows, loans], charged_off_on, due_on + delay)
    return closed_on


def default_day(book: Book) -> Ints:
    """Day on which each borrower first defaults on any loan; a far future day for those who do not while walked."""
    return book.default_on().min(axis=1)


def is_performing(book: Book, as_of_date: date) -> Flags:
    """Borrowers with a live loan or an open listing who have not defaulted by the end of a day."""
    in_play = (book.is_live(as_of_date) | book.is_open(as_of_date)).any(axis=1)
    return in_play & (default_day(book) > day_number(as_of_date))


def true_default_probability(
    book: Book, seed: int, as_of_date: date, *, paths: int = TRUTH_PATHS, macro_is_known: bool = False
) -> Floats:
    """Probability that each borrower defaults on any loan within the 12 months after as_of_date.

    One value per borrower of the book, NaN for those not performing (see is_performing). It is conditional on the whole
    state on that day, observable or not: quality, income, instalments behind, open listings, decisions taken on due
    dates up to that day. The expectation over the future is a Monte Carlo average over ``paths`` hashed paths of income
    and of the common factor (antithetic pairs; the factor's paths are shared by all borrowers), and on each path exact
    over missed instalments: a Markov chain over 0, 1 and 2 instalments behind. Loans taken within the 12 months enter
    as a flow of average strain. macro_is_known puts the realised macro path in place of its expectation.
    """
    borrowers = book.borrowers
    start, day = month_of(as_of_date), day_number(as_of_date)
    end_day = day_number(_a_year_later(as_of_date))
    rows = np.nonzero(is_performing(book, as_of_date))[0]
    result = np.full(len(borrowers), np.nan)
    if not len(rows):
        return result
    since = start - borrowers.joined[rows]

    # The chains: one per live loan or open listing.
    relevant = (book.is_live(as_of_date) | book.is_open(as_of_date))[rows]
    chain_row, loan = np.nonzero(relevant)
    owner = rows[chain_row]
    open_listing = book.is_open(as_of_date)[owner, loan]
    first_decision = book.due_day[owner, loan] + first_day(start) > day  # this month's due date is still to come
    known = np.maximum(since[chain_row] - first_decision, 0)
    stage_now = np.where(open_listing, 0, book.stage[known, owner, loan])
    finished = ~open_listing & (book.ended[owner, loan] <= known)
    # An open listing is expected to be decided nine days after it was listed.
    expected_origination = months_of_days(book.listed_on[owner, loan] + 9) - borrowers.joined[owner]
    originated = np.where(open_listing, expected_origination, book.originated[owner, loan])
    due_day = np.where(open_listing, 14, book.due_day[owner, loan])
    weight = np.where(open_listing, 1 - WITHDRAWN_SHARE - UNFUNDED_SHARE, 1.0)
    term, strain = book.term[owner, loan], book.strain[owner, loan]
    quality = borrowers.quality[owner]

    income_now = book.income_shock[LEAD_MONTHS + since, rows]
    macro = macro_path(seed, start + 12)
    future = stream_key(stream_key(seed, 2), day)
    future_borrower = stream_key(stream_key(borrowers.party[rows], 2), day)
    applications = ((book.listed_on[rows] <= day) & (book.listed[rows] >= 0)).sum(axis=1)
    average_strain = 0.02
    total = np.zeros(len(rows))
    for path in range(paths):
        sign = 1 - 2 * (path % 2)
        income_shock, factor = income_now, macro[start]
        mass = np.zeros((3, len(chain_row)))
        mass[np.minimum(stage_now, 2), np.arange(len(chain_row))] = np.where(finished | (stage_now == 3), 0.0, weight)
        lost = (stage_now == 3) * 1.0
        new = np.zeros((3, len(rows)))
        waiting, new_lost = np.zeros(len(rows)), np.zeros(len(rows))
        for ahead in range(12):
            month = start + ahead
            if ahead:
                income_shock = INCOME_PERSISTENCE * income_shock + sign * np.sqrt(1 - INCOME_PERSISTENCE**2) * normal(
                    future_borrower, Purpose.FUTURE_INCOME, ahead, path // 2
                )
                factor = macro[month] if macro_is_known else MACRO_PERSISTENCE * factor + sign * np.sqrt(
                    1 - MACRO_PERSISTENCE**2
                ) * normal(future, Purpose.FUTURE_MACRO, ahead, path // 2)
            distress = distress_index(borrowers.quality[rows], income_shock, factor, np.full(len(rows), month))

            # Loans taken since: they enter with nothing behind, if no loan is behind.
            clean = np.ones(len(rows))
            np.multiply.at(clean, chain_row, 1 - mass[1] - mass[2] - lost)
            live = np.bincount(chain_row, mass.sum(axis=0), len(rows)) + new.sum(axis=0) + waiting
            may_apply = (since + ahead <= _last_application(TERMS[0])) & (applications < MAX_LOANS)
            inflow = APPLICATION_RATE * (1 - WITHDRAWN_SHARE - UNFUNDED_SHARE) * clean * may_apply * (live < MAX_LIVE_LOANS - 0.5)
            if ahead == 0:
                inflow = inflow * (1 - (day - first_day(month) + 1) / 31)
            ends_in_time = (month + 1 < start + 12) + (month + 1 == start + 12) * (as_of_date.day / 31)
            new, fallen = _advance(new, distress, average_strain, np.zeros(len(rows)))
            new_lost += fallen * ends_in_time
            new[0] += waiting + 0.7 * inflow
            waiting = 0.3 * inflow

            number = month - borrowers.joined[owner] - originated
            due = (number >= 1) & (first_decision | (ahead > 0))
            after, fallen = _advance(
                mass, distress[chain_row], strain, np.where(number < term, prepayment_probability(quality, number), 0.0),
                term_over=number > term,
            )
            default_on = first_day(month - 2) + due_day + 90
            lost = np.where(due & (default_on <= end_day), lost + fallen, lost)
            mass = np.where(due, after, mass)
            mass[0] = np.where(due & (number >= term), 0.0, mass[0])
        survived = np.ones(len(rows))
        np.multiply.at(survived, chain_row, 1 - lost)
        total += 1 - survived * np.exp(-new_lost)
    result[rows] = total / paths
    return result


def _advance(
    mass: Floats, distress: Floats, strain: Floats | float, prepayment: Floats, term_over: Flags | bool = False
) -> tuple[Floats, Floats]:
    """One due date of the chain over 0, 1 and 2 instalments behind: the mass after it, and what fell to three."""
    miss = [miss_probability(stage, distress, strain) for stage in range(3)]
    catch_up = [np.where(term_over, 1.0, share) for share in CATCH_UP_SHARE]
    nothing = mass[0] * (1 - miss[0]) * (1 - prepayment)
    for stage in (1, 2):
        nothing = nothing + mass[stage] * (1 - miss[stage]) * catch_up[stage]
    one = mass[0] * miss[0] + mass[1] * (1 - miss[1]) * (1 - catch_up[1])
    two = mass[1] * miss[1] + mass[2] * (1 - miss[2]) * (1 - catch_up[2])
    return np.stack([nothing, one, two]), mass[2] * miss[2]


def _a_year_later(day: date) -> date:
    """The same day of the next year; 28 February for 29 February."""
    return day.replace(year=day.year + 1, day=28 if (day.month, day.day) == (2, 29) else day.day)
