"""The simulated market's raw records, as the export of a lender's system: its own column names, codes and formats.

Pure NumPy and Arrow, for one batch of seats; which borrowers stand in a batch changes no row. Every record carries
``recorded_on``, the day on which the lender's system knew it. Dirt is drawn by hash for each record:

- a broken type, an impossible date or an unknown code spoils one cell; the lender sends the record again, right, on
  the next day;
- a duplicate is the record twice on one day; an orphan is a copy that names an unknown borrower or loan;
- a correction is the record again, 5 to 45 days later, with one value changed;
- a missing value is an empty cell of a column that may be empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from conf.settings import Simulation
from models.simulated_market import (
    CHARGE_OFF_DAYS,
    FAR,
    LEAD_MONTHS,
    MAX_LINES,
    MAX_LOANS,
    RECOVERY_MEAN,
    RECOVERY_SHARE,
    TENURE_MONTHS,
    Action,
    Book,
    Flags,
    Floats,
    Ints,
    Keys,
    Purpose,
    bureau_score,
    day_number,
    first_day,
    hashed,
    logistic,
    macro_path,
    month_of,
    normal,
    outstanding,
    payment_delay_days,
    stream_key,
    subset,
    uniform,
)

CURRENCY = "USD"
# Records sent again later with one value changed, as a share of the records that can be corrected.
CORRECTION_RATE = 0.002
MIN_CORRECTION_DAYS, MAX_CORRECTION_DAYS = 5, 45
BAD_ORDER_RATE = 0.03


@dataclass(frozen=True)
class Layout:
    """One kind of file: its columns in order, and which of them dirt may fall on.

    numbers, dates and codes can be spoiled; owner names the borrower or loan, which an orphan gets wrong (None: the
    table has no parent); empty columns may be missing by themselves; corrected is the amount that a later correction changes.
    """

    columns: tuple[str, ...]
    numbers: tuple[str, ...]
    dates: Mapping[str, str]  # column: a text of its format that is no date
    codes: tuple[str, ...]
    owner: str | None
    empty: tuple[str, ...] = ()
    corrected: str | None = None


_ISO, _DOTTED, _SLASHED, _COMPACT, _PERIOD = "2023-02-30", "30.02.2023", "31/04/2023", "20230230", "202313"

LAYOUTS: dict[str, Layout] = {
    "borrower": Layout(
        ("customer_no", "customer_kind", "party_no", "birth_date", "sex", "region", "occupation", "sector",
         "employed_since", "education", "family", "children", "housing", "annual_income", "side_income",
         "income_checked", "currency", "recorded_on"),
        numbers=("annual_income", "children"),
        dates={"birth_date": _DOTTED},
        codes=("customer_kind", "family", "housing", "education"),
        owner=None,
        empty=("birth_date", "sex", "occupation", "education", "family", "children", "housing", "annual_income"),
    ),
    "credit_report": Layout(
        ("customer_no", "report_date", "score_from", "score_to", "dti_pct", "late_24m", "months_since_late",
         "months_since_public", "public_records", "bankruptcies", "inquiries_6m", "open_accounts", "all_accounts",
         "oldest_account", "revolving_balance", "revolving_usage_pct", "past_due", "currency", "recorded_on"),
        numbers=("score_from", "dti_pct", "revolving_balance"),
        dates={"report_date": _SLASHED},
        codes=("currency",),
        owner="customer_no",
        empty=("dti_pct", "inquiries_6m", "revolving_usage_pct", "oldest_account"),
        corrected="dti_pct",
    ),
    "credit_line": Layout(
        ("customer_no", "account_no", "account_type", "opened", "closed", "credit_limit", "balance", "arrears",
         "worst_arrears_days", "state", "currency", "recorded_on"),
        numbers=("credit_limit", "balance"),
        dates={"opened": _COMPACT},
        codes=("account_type", "state"),
        owner="customer_no",
        empty=("credit_limit", "worst_arrears_days"),
    ),
    "credit_inquiry": Layout(
        ("customer_no", "inquiry_date", "reason", "recorded_on"),
        numbers=(),
        dates={"inquiry_date": _ISO},
        codes=("reason",),
        owner="customer_no",
    ),
    "account_month": Layout(
        ("customer_no", "period", "card_turnover", "cash_advances", "credits", "debits", "balance_low", "balance_avg",
         "balance_end", "overdraft_days", "bookings", "card_usage_pct", "salary_credits", "currency", "recorded_on"),
        numbers=("card_turnover", "credits", "balance_avg", "overdraft_days", "salary_credits"),
        dates={"period": _PERIOD},
        codes=("currency",),
        owner="customer_no",
        empty=("card_turnover", "cash_advances", "credits", "debits", "bookings", "card_usage_pct", "salary_credits"),
        corrected="card_turnover",
    ),
    "loan": Layout(
        ("contract_no", "customer_no", "amount", "term", "rate_pct", "purpose", "grade", "in_policy", "listed_at",
         "started_at", "funded", "state", "ended_at", "currency", "recorded_on"),
        numbers=("amount", "rate_pct", "term"),
        dates={"listed_at": _ISO},
        codes=("state", "in_policy"),
        owner="customer_no",
        empty=("purpose",),
    ),
    "repayment": Layout(
        ("contract_no", "customer_no", "instalment", "due_date", "due_amount", "paid_date", "paid_amount", "days_late",
         "currency", "recorded_on"),
        numbers=("due_amount", "paid_amount", "days_late"),
        dates={"due_date": _ISO},
        codes=("currency",),
        owner="contract_no",
    ),
}
ORDER_COLUMNS = ("order_no", "investor_no", "amount", "currency", "target_net_return", "placed_at")
TABLE_NUMBER = {table: number for number, table in enumerate(LAYOUTS)}


@dataclass(frozen=True)
class Window:
    """Which records are exported, as day numbers: recorded after ``after`` and until ``until``.

    The first landing reaches back further for borrowers, loans and repayments (``after_for_loans``): all borrowers and
    loans of whoever held a seat in the window, and all repayments of loans that were alive in it, so that no loan is
    known from its middle and none is left out for having failed early.
    """

    until: int
    after: int
    after_for_loans: int

    @property
    def base(self) -> Window:
        """The records that may still be sent again within the window."""
        return Window(self.until, self.after - MAX_CORRECTION_DAYS, self.after_for_loans - MAX_CORRECTION_DAYS)

    def after_of(self, table: str) -> int:
        """The day after which records of a table are exported."""
        return self.after_for_loans if table in ("borrower", "loan", "repayment", "company") else self.after


@dataclass
class Records:
    """Clean records of one table: text columns but ``recorded_on``, a key of draws and the day for each record."""

    columns: dict[str, pa.Array]
    key: Keys
    recorded_on: Ints


def export(book: Book, simulation: Simulation, window: Window) -> dict[str, tuple[pa.Table, Ints]]:
    """The raw records of a book by table, all columns text, each with the day numbers on which they were recorded.

    The book must have been walked to the month after the window's end (payments may come a few days early).
    """
    makers = {
        "borrower": borrower_records, "credit_report": credit_report_records, "credit_line": credit_line_records,
        "credit_inquiry": credit_inquiry_records, "account_month": account_month_records, "loan": loan_records,
        "repayment": partial(repayment_records, alive_after=window.after),
    }
    return delivered(LAYOUTS, {table: partial(make, book) for table, make in makers.items()}, simulation, window)


def delivered(
    layouts: Mapping[str, Layout], makers: Mapping[str, Callable[[int, int], Records]], simulation: Simulation, window: Window
) -> dict[str, tuple[pa.Table, Ints]]:
    """The raw records of a window by table, as ``with_dirt`` makes them of what a maker finds after a day and until another."""
    base = window.base
    return {
        table: with_dirt(layouts[table], make(base.after_of(table), base.until), simulation, window.after_of(table), window.until)
        for table, make in makers.items()
    }


def with_dirt(layout: Layout, records: Records, simulation: Simulation, after: int, until: int) -> tuple[pa.Table, Ints]:
    """The records after a day and until another as delivered: dirty, sent again, duplicated, corrected. See the module's text.

    records: those of MAX_CORRECTION_DAYS before too, which may be sent again since.
    """
    draw = uniform(records.key, Purpose.DIRT)
    rates = (
        simulation.broken_type_rate if layout.numbers else 0.0, simulation.impossible_date_rate,
        simulation.unknown_code_rate, simulation.duplicate_key_rate, simulation.orphan_rate if layout.owner else 0.0,
    )
    kind = np.searchsorted(np.cumsum(rates), draw, side="right")  # 5: clean
    choice = hashed(records.key, Purpose.DIRT, 1)
    day = records.recorded_on
    columns = {
        name: _spoiled(column, name, layout, records.key, kind, choice, simulation.missing_rate)
        for name, column in records.columns.items()
    }

    def within(days: Ints, chosen: Flags) -> Ints:
        return np.nonzero(chosen & (days > after) & (days <= until))[0]

    pieces = [(columns, within(day, np.ones(len(day), bool)), day)]
    pieces.append((records.columns, within(day + 1, kind <= 2), day + 1))
    pieces.append((columns, within(day, kind == 3), day))
    orphans = within(day, kind == 4)
    if layout.owner and len(orphans):
        stranger = records.columns | {layout.owner: pc.binary_join_element_wise(records.columns[layout.owner], "X", "")}
        pieces.append((stranger, orphans, day))
    if layout.corrected:
        span = MAX_CORRECTION_DAYS - MIN_CORRECTION_DAYS + 1
        again = day + MIN_CORRECTION_DAYS + (hashed(records.key, Purpose.CORRECTION, 1) % np.uint64(span)).astype(np.int64)
        rows = within(again, uniform(records.key, Purpose.CORRECTION) < CORRECTION_RATE)
        value = pc.cast(records.columns[layout.corrected].take(pa.array(rows)), pa.float64())
        corrected = {name: column.take(pa.array(rows)) for name, column in records.columns.items()}
        corrected[layout.corrected] = _decimals(np.round(110 * value.to_numpy(zero_copy_only=False)).astype(np.int64), 2)
        pieces.append((corrected, np.arange(len(rows)), again[rows]))
    tables, days = [], []
    for values, rows, recorded in pieces:
        if len(rows):
            whole = len(rows) == len(recorded)
            taken = dict(values) if whole else {name: column.take(pa.array(rows)) for name, column in values.items()}
            taken["recorded_on"] = day_text(recorded[rows], "iso")
            tables.append(pa.table({name: taken[name] for name in layout.columns}))
            days.append(recorded[rows])
    if not tables:
        return pa.table({name: pa.array([], pa.string()) for name in layout.columns}), np.empty(0, np.int64)
    return pa.concat_tables(tables), np.concatenate(days)


def _spoiled(
    column: pa.Array, name: str, layout: Layout, key: Keys, kind: Ints, choice: Keys, missing_rate: float
) -> pa.Array:
    """A column with the dirt that falls on it."""
    if name in layout.empty:
        missing = uniform(key, Purpose.DIRT_CELL, layout.columns.index(name)) < missing_rate
        column = pc.if_else(pa.array(missing), pa.scalar(None, pa.string()), column)
    for of_kind, names, text in (
        (0, layout.numbers, "n/a"), (1, tuple(layout.dates), layout.dates.get(name)), (2, layout.codes, "?7"),
    ):
        if name in names:
            chosen = (kind == of_kind) & (choice % np.uint64(len(names)) == names.index(name))
            column = pc.if_else(pa.array(chosen), text, column)
    return column


# Texts of values.


_CALENDAR_START = day_number(date(1920, 1, 1))


@cache
def _calendar(style: str) -> pa.Array:
    """The texts of every day from 1920 to 2060 in a style, to look up by day number."""
    days = np.arange(np.datetime64("1920-01-01"), np.datetime64("2060-01-01"))
    pattern = {
        "iso": "{0}-{1}-{2}", "dotted": "{2}.{1}.{0}", "slashed": "{2}/{1}/{0}", "compact": "{0}{1}{2}",
        "period": "{0}{1}", "month": "{1}/{0}",
    }[style]
    texts = [pattern.format(*text.split("-")) for text in np.datetime_as_string(days).tolist()]
    return pa.array(texts, pa.string())



def day_text(days: Ints, style: str, known: Flags | None = None) -> pa.Array:
    """Days as text; empty where not known."""
    index = pa.array(days - _CALENDAR_START) if known is None else pa.array(
        np.where(known, days - _CALENDAR_START, 0), mask=~known
    )
    return _calendar(style).take(index)


def _decimals(scaled: Ints, places: int, known: Flags | None = None) -> pa.Array:
    """Integers as decimal text with so many places; empty where not known."""
    words = np.empty((len(scaled), 2), np.int64)
    words[:, 0], words[:, 1] = scaled, scaled >> 63
    text = pc.cast(
        pa.Array.from_buffers(pa.decimal128(18, places), len(scaled), [None, pa.py_buffer(words)]), pa.string()
    )
    return text if known is None else pc.if_else(pa.array(known), text, pa.scalar(None, pa.string()))


def _money(amount: Floats, known: Flags | None = None) -> pa.Array:
    return _decimals(np.round(amount * 100).astype(np.int64), 2, known)


def _percent(fraction: Floats, known: Flags | None = None) -> pa.Array:
    return _decimals(np.round(fraction * 10_000).astype(np.int64), 2, known)


def integer_text(values: Ints, known: Flags | None = None) -> pa.Array:
    return pc.cast(pa.array(values.astype(np.int64), mask=None if known is None else ~known), pa.string())


def code_text(codes: tuple[str, ...], index: Ints | Flags, known: Flags | None = None) -> pa.Array:
    return pa.array(list(codes), pa.string()).take(
        pa.array(np.where(True if known is None else known, index, 0).astype(np.int64), mask=None if known is None else ~known)
    )


def identifier(prefix: str, number: Ints, width: int) -> pa.Array:
    padded = pc.utf8_lpad(pc.cast(pa.array(number), pa.string()), width, "0")
    return pc.binary_join_element_wise(prefix, padded, "")


def customer_no(number: Ints) -> pa.Array:
    """The borrower id of a borrower's number; the raw files and the lake have the same."""
    return identifier("C", number, 11)


def _customers(book: Book, rows: Ints) -> pa.Array:
    return customer_no(book.borrowers.number).take(pa.array(rows))


def _contracts(book: Book, rows: Ints, loans: Ints) -> pa.Array:
    all_loans = book.borrowers.number[:, None] * 10 + np.arange(MAX_LOANS)
    return identifier("L", all_loans.ravel(), 12).take(pa.array(rows * MAX_LOANS + loans))


def _record_keys(book: Book, table: str, rows: Ints, record: Ints) -> Keys:
    """A key of draws for each record: of its borrower, table and number."""
    return stream_key(stream_key(book.borrowers.key[rows], 100 + TABLE_NUMBER[table]), record)


def currency_text(count: int) -> pa.Array:
    return code_text((CURRENCY,), np.zeros(count, np.int64))


# Makers of clean records: records recorded after ``after`` and until ``until``.


def borrower_records(book: Book, after: int, until: int) -> Records:
    """Master data: on joining, once a year, and when a second id is found to be a party already known."""
    b = book.borrowers
    years = np.arange(0, TENURE_MONTHS, 12)
    month = np.repeat(years[:, None], len(b), axis=1)
    recorded = first_day(b.joined + month) + (uniform(b.key, Purpose.PARTY, month) * 20).astype(np.int64)
    recorded = np.where(month == 0, b.joined_on, recorded)
    found_on = b.joined_on + 30 + (uniform(b.key, Purpose.PARTY, 0xFFFF) * 90).astype(np.int64)
    # One more row for second ids; placed in the year in which it falls.
    month = np.concatenate([month, np.zeros((1, len(b)), np.int64)])
    recorded = np.concatenate([recorded, np.where(b.is_second_id, found_on, FAR)[None, :]])
    step, rows = np.nonzero((recorded > after) & (recorded <= until))
    month, recorded = month[step, rows], recorded[step, rows]
    s = subset(b, rows)
    person = ~s.is_company
    shock = book.income_shock[np.minimum(LEAD_MONTHS + month, len(book.income_shock) - 1), rows]
    size = np.where(person, 1.0, 6.0)
    income = np.round(s.income * size * 1.02 ** (month / 12) * np.exp(0.06 * shock), -2)
    birth = s.joined_on - np.round(s.age_years * 365.25).astype(np.int64)
    works = person & (s.occupation < 3)
    employed_since = s.joined_on - np.round(s.employed_years * 365.25).astype(np.int64) - 31
    family_draw = uniform(s.party, Purpose.MARITAL) + 0.006 * (s.age_years - 40)
    # The education column knows five levels; sector is a letter of the industry classification.
    own_number = np.where(s.is_second_id & (recorded < found_on[rows]), s.number, s.group)
    columns = {
        "customer_no": _customers(book, rows),
        "customer_kind": code_text(("N", "L"), s.is_company),
        "party_no": identifier("P", own_number, 11),
        "birth_date": day_text(birth, "dotted", person),
        "sex": code_text(("F", "M"), uniform(s.party, Purpose.GENDER) < 0.5, person),
        "region": identifier("R", s.region + 1, 2),
        "occupation": code_text(("EMP", "SELF", "PUB", "RET", "STUD"), s.occupation, person),
        "sector": code_text(tuple("ACFGHIJKMN"), (uniform(s.party, Purpose.INDUSTRY) * 10).astype(np.int64), works | ~person),
        "employed_since": day_text(employed_since, "month", works & (employed_since > birth + 31)),
        "education": code_text(("E0", "E1", "E2", "E3", "E4"), s.education, person),
        "family": code_text(("S", "M", "D", "W"), np.searchsorted((0.38, 0.82, 0.96), family_draw), person),
        "children": integer_text((uniform(s.party, Purpose.DEPENDENTS) ** 2 * 3.6).astype(np.int64), person),
        "housing": code_text(("RENT", "MORT", "OWN"), s.home, person),
        "annual_income": _money(income),
        "side_income": _money(s.other_income * size),
        "income_checked": code_text(("N", "Y"), uniform(s.party, Purpose.VERIFIED) < 0.62),
        "currency": currency_text(len(rows)),
    }
    return Records(columns, _record_keys(book, "borrower", rows, recorded), recorded)


def _bureau_days(book: Book, month: Ints, rows: Ints) -> Ints:
    """Day on which the bureau reports in a month since joining; on joining, that day."""
    b = book.borrowers
    day = first_day(b.joined[rows] + month) + (uniform(b.party[rows], Purpose.BUREAU_DAY, month) * 28).astype(np.int64)
    return np.where(month == 0, b.joined_on[rows], day)


def _bureau_months(book: Book, every: int, after: int, until: int) -> tuple[Ints, Ints, Ints]:
    """Months since joining and borrowers with a bureau report recorded in the window, and the day of each report."""
    months = np.arange(0, TENURE_MONTHS, every)
    months = months[months < book.months]
    month, rows = (grid.ravel() for grid in np.meshgrid(months, np.arange(len(book.borrowers)), indexing="ij"))
    # Rough first, so that only months near the window are drawn.
    start = first_day(book.borrowers.joined[rows] + month)
    near = (start > after - 40) & (start <= until) & book.borrowers.has_bureau[rows]
    month, rows = month[near], rows[near]
    reported = _bureau_days(book, month, rows)
    recorded = reported + (month > 0)
    chosen = (recorded > after) & (recorded <= until)
    return month[chosen], rows[chosen], reported[chosen]


@dataclass
class _Lines:
    """Credit lines elsewhere of some (borrower, month) pairs; arrays are (pairs, MAX_LINES)."""

    exists: Flags
    kind: Ints
    opened_on: Ints
    closed_on: Ints
    limit: Floats
    balance: Floats
    arrears: Floats
    worst_days: Ints


_LINE_KINDS = ("CC", "OD", "PL", "AUTO", "MTG", "STU")
_LINE_SHARES = np.array([0.45, 0.12, 0.15, 0.15, 0.07, 0.06])
_LINE_SIZE = np.array([0.14, 0.04, 0.18, 0.40, 2.20, 0.45])  # limit or first amount over yearly income
_LINE_MONTHS = np.array([1, 1, 42, 60, 300, 120])


def _lines(book: Book, month: Ints, rows: Ints) -> _Lines:
    """The credit lines as they stood in a month since joining."""
    b = subset(book.borrowers, rows)
    distress = book.distress[LEAD_MONTHS + month, rows][:, None]
    line = np.arange(MAX_LINES)
    party, quality = b.party[:, None], b.quality[:, None]
    exists = line < 1 + (uniform(b.party, Purpose.LINE) * MAX_LINES).astype(np.int64)[:, None]
    kind = np.searchsorted(np.cumsum(_LINE_SHARES)[:-1], uniform(party, Purpose.LINE, 1, line))
    kind = np.where(line == 0, 0, kind)
    adult_days = (np.maximum(b.age_years - 18.5, 0.5) * 365.25)[:, None]
    revolves = kind <= 1
    age = np.where(revolves, adult_days, np.minimum(adult_days, _LINE_MONTHS[kind] * 30)) * uniform(party, Purpose.LINE, 2, line)
    opened_on = b.joined_on[:, None] - 30 - age.astype(np.int64)
    closes = uniform(party, Purpose.LINE, 3, line) < 0.12
    closed_on = np.where(
        closes & revolves, b.joined_on[:, None] + (uniform(party, Purpose.LINE, 4, line) * TENURE_MONTHS * 30).astype(np.int64), FAR
    )
    limit = np.round(b.income[:, None] * _LINE_SIZE[kind] * np.exp(0.5 * normal(party, Purpose.LINE, 5, line) + 0.15 * quality), -2)
    today = first_day(b.joined + month)[:, None]
    use = logistic(
        -0.9 - 0.35 * quality + 0.40 * distress + 0.7 * normal(party, Purpose.LINE, 6, line)
        + 0.35 * normal(party, Purpose.LINE_USE, month[:, None] // 3, line)
    )
    left = np.clip(1 - (today - opened_on) / 30 / _LINE_MONTHS[kind], 0, 1)
    repaid = ~revolves & (left <= 0)
    closed_on = np.where(repaid, opened_on + _LINE_MONTHS[kind] * 30, closed_on)
    is_closed = closed_on <= today
    balance = np.where(is_closed, 0.0, limit * np.where(revolves, use, left))
    late = ~is_closed & (uniform(party, Purpose.LINE_USE, month[:, None], line + 64) < logistic(-4.3 + 0.8 * distress))
    worst = uniform(party, Purpose.LINE_USE, month[:, None] // 6, line + 128)
    seriously = logistic(-3.2 - 0.7 * quality + 0.4 * distress)
    return _Lines(
        exists, kind, opened_on, closed_on, limit, balance, np.where(late, np.round(0.02 * limit + 20, 2), 0.0),
        np.where(worst < 0.35 * seriously, 60, np.where((worst < seriously) | late, 30, 0)),
    )


def _asks_elsewhere(book: Book, month: Ints, rows: Ints) -> Flags:
    """Whether a borrower asked another lender for credit in a month since joining (negative: before joining)."""
    distress = book.distress[LEAD_MONTHS + month, rows]
    draw = uniform(book.borrowers.party[rows], Purpose.INQUIRY, month + LEAD_MONTHS)
    return draw < 0.03 + 0.10 * logistic(distress - 1.0)


def credit_report_records(book: Book, after: int, until: int) -> Records:
    """A bureau's summary: on joining and every three months."""
    month, rows, reported = _bureau_months(book, 3, after, until)
    b = subset(book.borrowers, rows)
    score = bureau_score(b, book.income_shock[LEAD_MONTHS + month, rows], month).astype(np.int64)
    lines = _lines(book, month, rows)
    open_lines = lines.exists & (lines.closed_on > first_day(b.joined + month)[:, None])
    revolving = open_lines & (lines.kind <= 1)
    balance = np.where(revolving, lines.balance, 0).sum(axis=1)
    limit = np.where(revolving, lines.limit, 0).sum(axis=1)
    late_here = np.zeros(len(rows), np.int64)
    inquiries = np.zeros(len(rows), np.int64)
    behind = book.stage.max(axis=2)
    for back in range(24):
        late_here += (month >= back) & (behind[np.maximum(month - back, 0), rows] > 0) & (back > 0)
    for back in range(1, 7):
        earlier = np.maximum(month - back, -LEAD_MONTHS)
        inquiries += _asks_elsewhere(book, earlier, rows) & (month - back >= -LEAD_MONTHS)
    late_elsewhere = np.floor(-np.log(uniform(b.party, Purpose.BUREAU_DAY, 0xFFFF)) * 0.55 * np.exp(-0.6 * b.quality)).astype(np.int64)
    late = np.minimum(late_here + np.minimum(late_elsewhere, 8), 20)
    public = uniform(b.party, Purpose.PUBLIC_RECORD) < 0.05 * np.exp(-0.6 * b.quality)
    bankrupt = public & (uniform(b.party, Purpose.PUBLIC_RECORD, 1) < 0.5)
    since_public = 12 + (uniform(b.party, Purpose.PUBLIC_RECORD, 2) * 84).astype(np.int64) + month
    since_late = 1 + (uniform(b.party, Purpose.BUREAU_DAY, 0xFFFE) * 23).astype(np.int64)
    debt = b.other_debt * np.exp(0.08 * normal(b.party, Purpose.BUREAU_QUARTER, month, 1)) + book.debt_service[month, rows]
    columns = {
        "customer_no": _customers(book, rows),
        "report_date": day_text(reported, "slashed"),
        "score_from": integer_text(score // 5 * 5),
        "score_to": integer_text(score // 5 * 5 + 4),
        "dti_pct": _percent(debt),
        "late_24m": integer_text(late),
        "months_since_late": integer_text(since_late, late > 0),
        "months_since_public": integer_text(since_public, public),
        "public_records": integer_text(public),
        "bankruptcies": integer_text(bankrupt),
        "inquiries_6m": integer_text(inquiries),
        "open_accounts": integer_text(open_lines.sum(axis=1)),
        "all_accounts": integer_text(lines.exists.sum(axis=1)),
        "oldest_account": day_text(np.where(lines.exists, lines.opened_on, FAR).min(axis=1), "month"),
        "revolving_balance": _money(balance),
        "revolving_usage_pct": _percent(balance / np.maximum(limit, 1), limit > 0),
        "past_due": _money(np.where(open_lines, lines.arrears, 0).sum(axis=1)),
        "currency": currency_text(len(rows)),
    }
    return Records(columns, _record_keys(book, "credit_report", rows, month), reported + (month > 0))


def credit_line_records(book: Book, after: int, until: int) -> Records:
    """Single lines elsewhere: on joining and every six months; a closed line is told once more as closed."""
    month, rows, reported = _bureau_months(book, 6, after, until)
    lines = _lines(book, month, rows)
    today = first_day(book.borrowers.joined[rows] + month)[:, None]
    closed_before = lines.closed_on <= first_day(book.borrowers.joined[rows] + month - 6)[:, None]
    pair, line = np.nonzero(lines.exists & (~closed_before | (month == 0)[:, None]))
    is_closed = (lines.closed_on <= today)[pair, line]
    closed_on = np.maximum(lines.closed_on, lines.opened_on)[pair, line]
    of_pair = rows[pair]
    number = book.borrowers.number[of_pair]
    columns = {
        "customer_no": _customers(book, of_pair),
        "account_no": identifier("A", number * 10 + line, 12),
        "account_type": code_text(_LINE_KINDS, lines.kind[pair, line]),
        "opened": day_text(lines.opened_on[pair, line], "compact"),
        "closed": day_text(closed_on, "compact", is_closed),
        "credit_limit": _money(lines.limit[pair, line]),
        "balance": _money(lines.balance[pair, line]),
        "arrears": _money(lines.arrears[pair, line]),
        "worst_arrears_days": integer_text(lines.worst_days[pair, line]),
        "state": code_text(("O", "C"), is_closed),
        "currency": currency_text(len(pair)),
    }
    return Records(
        columns, _record_keys(book, "credit_line", of_pair, month[pair] * 16 + line), (reported + (month > 0))[pair]
    )


def credit_inquiry_records(book: Book, after: int, until: int) -> Records:
    """Requests for a credit record: one for each listing here, others by other lenders; recorded on the next day."""
    b = book.borrowers
    listed_rows, loans = np.nonzero((book.listed >= 0) & (book.listed_on + 1 > after) & (book.listed_on + 1 <= until))
    here = book.listed_on[listed_rows, loans]
    month, rows = (grid.ravel() for grid in np.meshgrid(np.arange(book.months), np.arange(len(b)), indexing="ij"))
    near = (first_day(b.joined[rows] + month) > after - 40) & (first_day(b.joined[rows] + month) <= until)
    month, rows = month[near], rows[near]
    asks = _asks_elsewhere(book, month, rows)
    month, rows = month[asks], rows[asks]
    elsewhere = first_day(b.joined[rows] + month) + (uniform(b.key[rows], Purpose.INQUIRY, month, 1) * 30.4).astype(np.int64)
    seen = (elsewhere >= b.joined_on[rows]) & (elsewhere + 1 > after) & (elsewhere + 1 <= until)
    month, rows, elsewhere = month[seen], rows[seen], elsewhere[seen]
    reason = 1 + (uniform(b.key[rows], Purpose.INQUIRY, month, 2) * 3).astype(np.int64)
    all_rows = np.concatenate([listed_rows, rows])
    day = np.concatenate([here, elsewhere])
    reason = np.concatenate([np.zeros(len(here), np.int64), reason])
    columns = {
        "customer_no": _customers(book, all_rows),
        "inquiry_date": day_text(day, "iso"),
        "reason": code_text(("LOAN", "CARD", "CAR", "HOME"), reason),
    }
    return Records(columns, _record_keys(book, "credit_inquiry", all_rows, day * 4 + reason), day + 1)


def account_month_records(book: Book, after: int, until: int) -> Records:
    """A borrower's account in each month, told in the first days of the next; months before joining on joining."""
    b = book.borrowers
    month, rows = (
        grid.ravel() for grid in np.meshgrid(np.arange(-LEAD_MONTHS, book.months), np.arange(len(b)), indexing="ij")
    )
    next_month = first_day(b.joined[rows] + month + 1)
    near = (np.maximum(next_month, b.joined_on[rows]) > after - 5) & (next_month <= until) & b.has_account[rows]
    month, rows, next_month = month[near], rows[near], next_month[near]
    key = b.key[rows]
    recorded = np.maximum(
        next_month + 1 + (hashed(key, Purpose.ACCOUNT, month + LEAD_MONTHS) % np.uint64(3)).astype(np.int64), b.joined_on[rows]
    )
    chosen = (recorded > after) & (recorded <= until)
    month, rows, key, recorded = month[chosen], rows[chosen], key[chosen], recorded[chosen]
    step = month + LEAD_MONTHS

    def noise(number: int) -> Floats:
        return normal(key, Purpose.ACCOUNT, step, number)

    own_spending, own_stress = normal(b.key, Purpose.ACCOUNT, 0, 101)[rows], normal(b.key, Purpose.ACCOUNT, 0, 102)[rows]
    shock = book.income_shock[step, rows]
    stress = 0.75 * book.distress[step, rows] + 0.55 * own_stress + 0.55 * noise(1)
    december = (b.joined[rows] + month) % 12 == 11
    monthly = b.income[rows] / 12 * np.where(b.is_company[rows], 6.0, 1.0)
    uneven = np.where((b.occupation[rows] == 1) | b.is_company[rows], 0.25, 0.04)
    out_of_work = np.where(shock < -2.0, 0.4, 1.0)
    salary = monthly * np.exp(0.10 * shock + uneven * noise(2)) * out_of_work * np.where(december, 1.15, 1.0)
    credits = salary + b.other_income[rows] / 12 + 0.08 * monthly * np.abs(noise(3))
    debits = credits * np.clip(0.92 + 0.05 * stress + 0.08 * noise(4), 0.2, 2.0)
    spend = 0.30 * monthly * np.exp(0.35 * own_spending + 0.18 * noise(5)) * np.where(december, 1.3, 1.0)
    has_advance = uniform(key, Purpose.ACCOUNT, step, 201) < logistic(-3.2 + 0.9 * stress)
    advance = np.where(has_advance, 0.06 * monthly * np.exp(0.5 * noise(6)), 0.0)
    average = monthly * (np.exp(0.15 - 0.40 * stress + 0.30 * noise(7)) - 0.35)
    low = average - monthly * (0.20 + 0.40 * uniform(key, Purpose.ACCOUNT, step, 202))
    end = np.maximum(average + 0.2 * monthly * noise(8), low)
    overdrawn = np.clip(-low / (average - low), 0, 1)
    days = np.minimum((overdrawn * 28 * uniform(key, Purpose.ACCOUNT, step, 203)).astype(np.int64) + (low < 0), 28)
    usage = np.minimum(logistic(-0.7 + 0.65 * stress + 0.5 * own_spending), 1.1)
    bookings = np.round(38 * np.exp(0.3 * own_spending + 0.12 * noise(9))).astype(np.int64)
    count = len(rows)
    columns = {
        "customer_no": _customers(book, rows),
        "period": day_text(first_day(b.joined[rows] + month), "period"),
        "card_turnover": _money(spend),
        "cash_advances": _money(advance),
        "credits": _money(credits),
        "debits": _money(debits),
        "balance_low": _money(low),
        "balance_avg": _money(average),
        "balance_end": _money(end),
        "overdraft_days": integer_text(days),
        "bookings": integer_text(bookings),
        "card_usage_pct": _percent(usage),
        "salary_credits": _money(salary),
        "currency": currency_text(count),
    }
    return Records(columns, _record_keys(book, "account_month", rows, step), recorded)


_LOAN_STATES = ("FUNDING", "RUNNING", "CANCELLED", "EXPIRED", "REPAID", "WRITTEN_OFF")
_PURPOSES = ("DEBT", "CAR", "HOME", "MED", "BUS", "OTH")


def loan_records(book: Book, after: int, until: int) -> Records:
    """A listing when it opens, some once more as it fills, then its fate, then its end."""
    b = book.borrowers
    row, loan = np.nonzero(book.listed >= 0)
    key = b.key[row]
    listed_on, decided_on = book.listed_on[row, loan], book.decided_on[row, loan]
    outcome, closed_on = book.outcome[row, loan], book.closed_on[row, loan]
    filled = uniform(key, Purpose.FUNDED, listed_on, 0) * 0.3
    more = uniform(key, Purpose.FUNDED, listed_on, 1)
    events = (
        # day, state, funded share; a day that never comes where there is no such event.
        (listed_on, np.zeros_like(outcome), filled),
        (np.where(more < 0.5, listed_on + 2, FAR), np.zeros_like(outcome), filled + (1 - filled) * more),
        (decided_on, np.choose(outcome, (1, 2, 3)), np.where(outcome == 0, 1.0, 0.0)),
        (np.minimum(closed_on + 1, FAR), np.where(book.defaulted[row, loan], 5, 4), np.ones(len(row))),
    )
    parts = []
    for number, (day, state, share) in enumerate(events):
        chosen = np.nonzero((day > after) & (day <= until))[0]
        parts.append((chosen, np.full(len(chosen), number), day[chosen], state[chosen], share[chosen]))
    chosen, number, recorded, state, share = (np.concatenate(part) for part in zip(*parts, strict=True))
    row, loan = row[chosen], loan[chosen]
    amount = book.amount[row, loan]
    has_begun = (number >= 2) & (book.outcome[row, loan] == 0)
    key = b.key[row]
    burden = b.other_debt[row] + book.instalment[row, loan] / (b.income[row] / 12)
    columns = {
        "contract_no": _contracts(book, row, loan),
        "customer_no": _customers(book, row),
        "amount": _money(amount),
        "term": integer_text(book.term[row, loan]),
        "rate_pct": _percent(book.rate[row, loan]),
        "purpose": code_text(_PURPOSES, np.searchsorted((0.5, 0.65, 0.78, 0.85, 0.9), uniform(key, Purpose.LOAN_PURPOSE, loan))),
        "grade": code_text(tuple("ABCDEFG"), book.grade[row, loan]),
        "in_policy": code_text(("N", "Y"), burden < 0.75),
        "listed_at": day_text(book.listed_on[row, loan], "iso"),
        "started_at": day_text(book.decided_on[row, loan], "iso", has_begun),
        "funded": _money(np.floor(amount * share / 25) * 25 * (share < 1) + amount * (share == 1)),
        "state": code_text(_LOAN_STATES, state),
        "ended_at": day_text(book.closed_on[row, loan], "iso", number == 3),
        "currency": currency_text(len(row)),
    }
    return Records(columns, _record_keys(book, "loan", row, loan * 8 + number), recorded)


def repayment_records(book: Book, after: int, until: int, *, alive_after: int) -> Records:
    """Instalments: one paid in its month once; one that is not paid by its due date on the next day, at 30, 60 and 90 days,
    and when paid: on the day after the due date nobody knows whether it is some days late or will be missed.

    Loans closed by alive_after bring only what was recorded after that day.
    """
    b = book.borrowers
    row, loan = np.nonzero(book.originated >= 0)
    number = np.arange(1, 61)
    due_month = book.originated[row, loan][:, None] + number
    due_on = first_day(b.joined[row][:, None] + due_month) + book.due_day[row, loan][:, None]
    charged_off = np.where(book.defaulted, book.closed_on, FAR)[row, loan][:, None]
    # The last record of an instalment comes within CHARGE_OFF_DAYS of its due date.
    wanted = (
        (number <= book.term[row, loan][:, None])
        & (due_on + CHARGE_OFF_DAYS > np.where(book.closed_on[row, loan][:, None] > alive_after, after, alive_after))
        & (due_on < until) & (due_month < book.months)
        & (due_on < charged_off) & (book.defaulted[row, loan][:, None] | (due_month <= book.ended[row, loan][:, None]))
    )
    of_loan, index = np.nonzero(wanted)
    row, loan, number = row[of_loan], loan[of_loan], number[index]
    due_on, due_month, charged_off = due_on[of_loan, index], due_month[of_loan, index], charged_off[of_loan, 0]
    term, instalment = book.term[row, loan], book.instalment[row, loan]

    # In which month it was paid: its own or one of the next two; -1 never, or not yet.
    lag = np.full(len(row), -1)
    for later in (2, 1, 0):
        month = np.minimum(due_month + later, book.months - 1)
        lag = np.where((due_month + later < book.months) & (book.paid[month, row, loan] >= number), later, lag)
    paid_month = due_month + np.maximum(lag, 0)
    action = book.action[paid_month, row, loan].astype(np.int64)
    delay = payment_delay_days(b, row, loan, paid_month, action)
    next_due = first_day(b.joined[row] + paid_month) + book.due_day[row, loan]
    paid_on = np.where(lag >= 0, next_due + delay, FAR)
    rest = outstanding(book.amount[row, loan], book.rate[row, loan], term, number)
    paid_amount = instalment + np.where((lag == 0) & (action == Action.PREPAY), rest, 0.0)
    part = np.where(
        book.action[due_month, row, loan] == Action.PARTIAL,
        np.round(instalment * (0.2 + 0.6 * uniform(b.key[row], Purpose.PARTIAL, due_month, loan + 64)), 2), 0.0,
    )

    after = np.where(book.closed_on[row, loan] > alive_after, after, alive_after)
    missed = lag != 0
    nothing = np.zeros(len(row), np.int64)
    events = [
        # recorded on, days past due, amount, whether paid
        (np.where(missed, FAR, np.maximum(paid_on, due_on) + 1), np.maximum(paid_on - due_on, 0), paid_amount, True),
        (np.where(missed, due_on + 1, FAR), nothing + 1, part, False),
        (np.where(missed & (lag > 0), paid_on + 1, FAR), np.maximum(paid_on - due_on, 0), instalment, True),
        (np.where(~missed & (paid_on > due_on), due_on + 1, FAR), nothing + 1, np.zeros(len(row)), False),
    ]
    for days in (30, 60, 90):
        still = missed & (paid_on > due_on + days) & (due_on + days <= charged_off)
        events.append((np.where(still, due_on + days, FAR), nothing + days, part, False))
    parts = []
    for event, (recorded, days, amount, is_paid) in enumerate(events):
        chosen = np.nonzero((recorded > after) & (recorded <= until))[0]
        parts.append((
            row[chosen], loan[chosen], number[chosen], np.full(len(chosen), event), recorded[chosen], due_on[chosen],
            instalment[chosen], np.where(is_paid, paid_on[chosen], FAR), amount[chosen], days[chosen],
        ))
    parts.append(_recoveries(book, alive_after, until))
    row, loan, number, event, recorded, due_on, due, paid_on, amount, days = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    columns = {
        "contract_no": _contracts(book, row, loan),
        "customer_no": _customers(book, row),
        "instalment": integer_text(number),
        "due_date": day_text(due_on, "iso"),
        "due_amount": _money(due),
        "paid_date": day_text(paid_on, "dotted", paid_on < FAR),
        "paid_amount": _money(amount),
        "days_late": integer_text(days),
        "currency": currency_text(len(row)),
    }
    return Records(columns, _record_keys(book, "repayment", row, (loan * 64 + number) * 8 + event), recorded)


def _recoveries(book: Book, after: int, until: int) -> tuple[np.ndarray, ...]:
    """Money recovered 60 to 180 days after a charge-off, told in the oldest unpaid instalment."""
    b = book.borrowers
    row, loan = np.nonzero(book.defaulted)
    draw = uniform(b.key[row], Purpose.RECOVERY, loan)
    paid_on = book.closed_on[row, loan] + 60 + (uniform(b.key[row], Purpose.RECOVERY, loan, 1) * 120).astype(np.int64)
    chosen = (draw < RECOVERY_SHARE) & (paid_on + 1 > after) & (paid_on + 1 <= until)
    row, loan, draw, paid_on = row[chosen], loan[chosen], draw[chosen], paid_on[chosen]
    oldest = book.ended[row, loan] - 2
    number = np.minimum(oldest - book.originated[row, loan], book.term[row, loan])
    due_on = first_day(b.joined[row] + book.originated[row, loan] + number) + book.due_day[row, loan]
    rest = outstanding(book.amount[row, loan], book.rate[row, loan], book.term[row, loan], number - 1)
    # Uniform on 0 to twice the mean of those that bring anything; draw / RECOVERY_SHARE is uniform on the unit interval.
    amount = np.round(rest * 2 * RECOVERY_MEAN / RECOVERY_SHARE * (draw / RECOVERY_SHARE), 2)
    return (
        row, loan, number, np.full(len(row), 7), paid_on + 1, due_on, book.instalment[row, loan], paid_on, amount,
        paid_on - due_on,
    )


def order_records(simulation: Simulation, day: date) -> pa.Table:
    """Investors' orders placed on a day; BAD_ORDER_RATE of them ask for a negative amount, no number or a strange currency."""
    key = stream_key(stream_key(simulation.seed, 3), day_number(day))
    number = np.arange(simulation.orders_per_night)
    amount = np.clip(np.round(2_000 * np.exp(0.9 * normal(key, Purpose.ORDER, number)) / 25) * 25, 100, 100_000)
    target = np.round(0.03 + 0.06 * uniform(key, Purpose.ORDER, number, 1), 3)
    bad = uniform(key, Purpose.ORDER, number, 2)
    seconds = (uniform(key, Purpose.ORDER, number, 3) * 86_399).astype(np.int64)
    placed = np.datetime_as_string(np.datetime64(day, "s") + seconds)
    amounts = _money(np.where(bad < BAD_ORDER_RATE / 3, -amount, amount))
    no_number = (bad >= BAD_ORDER_RATE / 3) & (bad < BAD_ORDER_RATE * 2 / 3)
    strange = (bad >= BAD_ORDER_RATE * 2 / 3) & (bad < BAD_ORDER_RATE)
    values = (
        pc.binary_join_element_wise(f"O{day:%Y%m%d}-", pc.utf8_lpad(integer_text(number), 6, "0"), ""),
        identifier("I", (hashed(key, Purpose.ORDER, number, 4) % np.uint64(100_000)).astype(np.int64), 6),
        pc.if_else(pa.array(no_number), "plenty", amounts),
        code_text((CURRENCY, "XXX"), strange),
        _decimals(np.round(target * 1000).astype(np.int64), 3),
        pa.array(placed.tolist(), pa.string()),
    )
    return pa.table(dict(zip(ORDER_COLUMNS, values, strict=True)))


def indicator_records(simulation: Simulation, last: date, months: int) -> pa.Table:
    """The simulated economy as a monthly file in FRED-MD's layout: unemployment, policy rate and credit spread in percent.

    One row per month that had been published by ``last`` (a month is published on the 10th of the next); the second
    line is FRED-MD's transformation codes. The series follow the common factor that drives defaults, with noise.
    """
    newest = month_of(last) - (1 if last.day >= 10 else 2)
    path = macro_path(simulation.seed, newest)
    month = np.arange(max(newest - months + 1, 0), newest + 1)
    factor = path[month]
    key = stream_key(simulation.seed, 4)
    series = {
        "UNRATE": 5.5 - 1.5 * factor + 0.15 * normal(key, Purpose.INDICATOR, month, 1),
        "FEDFUNDS": np.maximum(2.5 + 1.2 * factor + 0.15 * normal(key, Purpose.INDICATOR, month, 2), 0.05),
        "BAAFFM": 3.0 - 1.3 * factor + 0.25 * normal(key, Purpose.INDICATOR, month, 3),
    }
    days = first_day(month).astype("datetime64[D]").tolist()
    columns = {"sasdate": ["Transform:", *(f"{day.month}/{day.day}/{day.year}" for day in days)]}
    for (name, values), code in zip(series.items(), ("2", "2", "1"), strict=True):
        columns[name] = [code, *(f"{value:.4f}" for value in values)]
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
