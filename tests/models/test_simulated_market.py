"""The simulated market: its draws, its process, its truth, and the records that it exports."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from conf.settings import Simulation, load_settings
from conf.source import load_source
from models import simulated_market as market
from models.simulated_export import (
    LAYOUTS,
    ORDER_COLUMNS,
    Window,
    export,
    indicator_records,
    order_records,
)
from models.simulated_market import (
    Purpose,
    day_number,
    default_day,
    hashed,
    is_performing,
    macro_path,
    month_of,
    normal,
    stream_key,
    tenures,
    true_default_probability,
    uniform,
    walk,
)

AS_OF = date(2026, 6, 15)
FROM = date(2025, 6, 15)
SIMULATION = load_settings(source="simulated").simulation


def drawn(seats: np.ndarray, until: date, after: date, simulation: Simulation = SIMULATION) -> dict[str, list[dict]]:
    """What a landing of these seats holds: records by table, sorted."""
    borrowers = tenures(seats, simulation.seed, month_of(after), month_of(until), simulation.two_ids_rate)
    window = Window(day_number(until), day_number(after), 0)
    records = export(walk(borrowers, simulation.seed, month_of(until) + 1), simulation, window)
    return {table: in_order(rows.to_pylist()) for table, (rows, _) in records.items()}


def in_order(rows: list[dict]) -> list[dict]:
    return sorted(rows, key=lambda row: [(value is not None, value or "") for value in row.values()])


def test_splitmix64_gives_the_published_sequence():
    # The first outputs of the reference implementation seeded with 1234567: state 0 plus counter times the increment.
    increment = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + step * increment) % 2**64 for step in (1, 2, 3)], dtype=np.uint64)
    assert market._mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_draws_are_uniform_and_normal_and_differ_by_purpose():
    keys = stream_key(stream_key(7, 0), np.arange(20_000))
    draws = uniform(keys, Purpose.PAY, 3, 2)
    assert np.histogram(draws, bins=10, range=(0, 1))[0] == pytest.approx(np.full(10, 2_000), abs=4 * np.sqrt(1_800))
    assert normal(keys, Purpose.PRICE, 5).std() == pytest.approx(1, abs=0.02)
    assert len({int(hashed(keys[0], purpose, 1, 1)) for purpose in Purpose}) == len(Purpose)
    assert abs(np.corrcoef(draws, uniform(keys, Purpose.PAY, 4, 2))[0, 1]) < 0.03


def test_records_do_not_depend_on_how_seats_are_split():
    whole = drawn(np.arange(120), AS_OF, FROM)
    # Cut inside a pair of seats, which may be one party.
    parts = [drawn(np.arange(start, stop), AS_OF, FROM) for start, stop in ((0, 41), (41, 120))]
    assert set(whole) == set(LAYOUTS)
    for table, rows in whole.items():
        assert rows and rows == in_order([row for part in parts for row in part[table]])


def test_history_and_a_day_are_the_longer_history():
    # Late in one month, so that both histories reach back into the same month.
    today, tomorrow = date(2026, 6, 19), date(2026, 6, 20)
    seats = np.arange(400)
    before, longer = drawn(seats, today, date(2025, 6, 20)), drawn(seats, tomorrow, date(2025, 6, 20))
    window = Window(day_number(tomorrow), day_number(today), day_number(today))
    borrowers = tenures(seats, SIMULATION.seed, month_of(today) - market.TAIL_MONTHS, month_of(tomorrow), SIMULATION.two_ids_rate)
    night = export(walk(borrowers, SIMULATION.seed, month_of(tomorrow) + 1), SIMULATION, window)
    for table, (rows, recorded_on) in night.items():
        assert set(recorded_on.tolist()) <= {day_number(tomorrow)}
        assert longer[table] == in_order(before[table] + rows.to_pylist())
    assert night["repayment"][0].num_rows > 0


def test_a_longer_walk_repeats_a_shorter_one():
    borrowers = tenures(np.arange(300), 42, month_of(AS_OF), month_of(AS_OF), 0.01)
    short, long = walk(borrowers, 42, month_of(AS_OF)), walk(borrowers, 42, month_of(AS_OF) + 12)
    assert np.array_equal(long.stage[: short.months], short.stage)
    assert np.array_equal(long.paid[: short.months], short.paid)


def test_the_seat_of_a_borrower_is_held_by_one_at_a_time():
    borrowers = tenures(np.arange(50), 42, month_of(date(2018, 1, 1)), month_of(date(2035, 12, 31)), 0.01)
    seats = borrowers.number // 1000
    assert len(set(borrowers.number.tolist())) == len(borrowers)
    for seat in range(50):
        joined = np.sort(borrowers.joined[seats == seat])
        assert set(np.diff(joined).tolist()) == {market.TENURE_MONTHS}


def test_one_party_under_two_ids_shares_what_the_party_is():
    borrowers = tenures(np.arange(20_000), 42, month_of(AS_OF), month_of(AS_OF), 0.01)
    second = np.nonzero(borrowers.is_second_id)[0]
    # 1% of 20,000 ids, within four standard deviations.
    assert len(second) == pytest.approx(200, abs=4 * np.sqrt(200))
    position = {number: row for row, number in enumerate(borrowers.number.tolist())}
    first = [position[number] for number in borrowers.group[second].tolist()]
    for attribute in ("age_years", "income", "quality", "joined", "home"):
        assert np.array_equal(getattr(borrowers, attribute)[second], getattr(borrowers, attribute)[first])
    assert not np.array_equal(borrowers.key[second], borrowers.key[first])


def test_income_and_the_common_factor_are_stationary():
    borrowers = tenures(np.arange(5_000), 42, month_of(AS_OF), month_of(AS_OF), 0.0)
    paths = market.income_paths(borrowers, 72)
    assert paths[0].std() == pytest.approx(1, abs=0.05)
    assert paths[-1].std() == pytest.approx(1, abs=0.05)
    assert np.corrcoef(paths[10], paths[11])[0, 1] == pytest.approx(market.INCOME_PERSISTENCE, abs=0.02)
    assert np.array_equal(macro_path(42, 300), macro_path(42, 400)[:301])


def test_between_three_and_six_percent_of_performing_borrowers_default_within_a_year():
    """Over eight macro paths (one seed each): a single path may lie well outside, as real years do."""
    rates = []
    for seed in range(8):
        borrowers = tenures(np.arange(3_000), seed, month_of(AS_OF), month_of(AS_OF), 0.01)
        book = walk(borrowers, seed, month_of(AS_OF) + 16)
        performing = is_performing(book, AS_OF)
        assert 0.5 < performing.mean() < 0.8
        rates.append((default_day(book)[performing] <= day_number(AS_OF.replace(year=2027))).mean())
    assert 0.03 <= np.mean(rates) <= 0.06


def test_truth_is_calibrated_against_what_happens():
    """Sum of probabilities against defaults, four dates of two markets, within 3.5 standard deviations of the sum.

    In fifths by the distress index of the as-of month, not by the truth itself: its Monte Carlo noise would sort
    borrowers whose probability came out too low into the lowest fifth.
    """
    truth, happened, distress = [], [], []
    for seed, as_of in ((1, date(2019, 2, 28)), (1, date(2023, 11, 5)), (2, date(2026, 7, 17)), (2, date(2031, 4, 1))):
        borrowers = tenures(np.arange(5_000), seed, month_of(as_of), month_of(as_of), 0.01)
        book = walk(borrowers, seed, month_of(as_of) + 16)
        probability = true_default_probability(book, seed, as_of, paths=16, macro_is_known=True)
        performing = is_performing(book, as_of)
        assert np.array_equal(~np.isnan(probability), performing)
        truth.append(probability[performing])
        happened.append(default_day(book)[performing] <= day_number(as_of.replace(year=as_of.year + 1)))
        rows = np.nonzero(performing)[0]
        distress.append(book.distress[market.LEAD_MONTHS + month_of(as_of) - borrowers.joined[rows], rows])
    truth, happened, distress = (np.concatenate(parts) for parts in (truth, happened, distress))
    assert truth.min() >= 0 and truth.max() <= 1
    for fifth in np.array_split(np.argsort(distress), 5):
        expected, spread = truth[fifth].sum(), np.sqrt((truth[fifth] * (1 - truth[fifth])).sum())
        assert happened[fifth].sum() == pytest.approx(expected, abs=3.5 * spread)


def test_truth_without_foresight_needs_no_later_month():
    """The published truth is the same whether or not the future has been walked."""
    borrowers = tenures(np.arange(500), 42, month_of(AS_OF), month_of(AS_OF), 0.01)
    now, later = (walk(borrowers, 42, month_of(AS_OF) + ahead) for ahead in (1, 20))
    np.testing.assert_array_equal(
        true_default_probability(now, 42, AS_OF, paths=4), true_default_probability(later, 42, AS_OF, paths=4)
    )


RATE = 0.02
DIRTY = SIMULATION.model_copy(update={
    "broken_type_rate": RATE, "impossible_date_rate": RATE, "unknown_code_rate": RATE, "duplicate_key_rate": RATE,
    "orphan_rate": RATE, "missing_rate": RATE,
})


def test_dirt_comes_at_the_stated_rates():
    records = drawn(np.arange(500), AS_OF, FROM, DIRTY)
    for table, layout in LAYOUTS.items():
        rows = records[table]
        count, tolerance = len(rows), 4 * np.sqrt(RATE / len(rows))
        spoiled = {
            "type": sum(row[name] == "n/a" for row in rows for name in layout.numbers),
            "date": sum(row[name] == text for row in rows for name, text in layout.dates.items()),
            "code": sum(row[name] == "?7" for row in rows for name in layout.codes),
            "orphan": sum(row[layout.owner].endswith("X") for row in rows) if layout.owner else 0,
            "duplicate": count - len({tuple(row.values()) for row in rows}),
        }
        # Spoiled records are sent again: some 6% more records than were drawn, and copies beside.
        impossible = {"type": not layout.numbers, "orphan": not layout.owner}
        expected = {kind: 0.0 if impossible.get(kind) else RATE / (1 + 5 * RATE) for kind in spoiled}
        for kind, number in spoiled.items():
            assert number / count == pytest.approx(expected[kind], abs=tolerance), (table, kind)
        for name in layout.empty:
            assert sum(row[name] is None for row in rows) >= RATE * count / 2


def test_a_spoiled_record_is_sent_again_the_next_day():
    rows = drawn(np.arange(300), AS_OF, FROM, DIRTY)["loan"]
    broken = [row for row in rows if row["amount"] == "n/a" and row["recorded_on"] < AS_OF.isoformat()]
    assert broken
    for row in broken:
        next_day = (date.fromisoformat(row["recorded_on"]) + timedelta(days=1)).isoformat()
        assert any(
            again["contract_no"] == row["contract_no"] and again["state"] == row["state"] and again["amount"] != "n/a"
            and again["recorded_on"] == next_day for again in rows
        )


CLEAN = SIMULATION.model_copy(update=dict.fromkeys(
    ("broken_type_rate", "impossible_date_rate", "unknown_code_rate", "duplicate_key_rate", "orphan_rate", "missing_rate"), 0.0
))


@pytest.fixture(scope="module")
def clean() -> dict[str, list[dict]]:
    return drawn(np.arange(600), AS_OF, FROM, CLEAN)


def test_clean_records_are_unique_and_belong_together(clean):
    customers = {row["customer_no"] for row in clean["borrower"]}
    contracts = {row["contract_no"]: row["customer_no"] for row in clean["loan"]}
    for table, rows in clean.items():
        assert {row["customer_no"] for row in rows} <= customers
        assert all(row["recorded_on"] <= AS_OF.isoformat() for row in rows), table
    assert all(contracts[row["contract_no"]] == row["customer_no"] for row in clean["repayment"])
    for table, key in (
        ("borrower", ("customer_no",)), ("credit_line", ("account_no",)), ("account_month", ("customer_no", "period")),
        ("loan", ("contract_no",)), ("repayment", ("contract_no", "instalment")), ("credit_report", ("customer_no",)),
    ):
        keys = [tuple(row[name] for name in (*key, "recorded_on")) for row in clean[table]]
        assert len(set(keys)) == len(keys), table


def test_days_are_written_as_they_were_drawn():
    """The first seat's borrower, by hand: day numbers of the process against the texts of the files."""
    borrowers = tenures(np.arange(1), 42, month_of(AS_OF), month_of(AS_OF), 0.0)
    joined_on = date(1970, 1, 1) + timedelta(days=int(borrowers.joined_on[0]))
    assert month_of(joined_on) == borrowers.joined[0]
    book = walk(borrowers, 42, month_of(AS_OF) + 1)
    rows = export(book, CLEAN, Window(day_number(AS_OF), 0, 0))
    assert rows["borrower"][0]["recorded_on"][0].as_py() == joined_on.isoformat()
    # Accounts begin six months before joining, and months before it are told on joining.
    account = rows["account_month"][0].to_pylist()
    first = divmod(int(borrowers.joined[0]) + 2000 * 12 - 6, 12)
    assert account[0]["period"] == f"{first[0]}{first[1] + 1:02d}"
    assert account[0]["recorded_on"] == joined_on.isoformat()
    assert rows["loan"][0]["listed_at"][0].as_py() > joined_on.isoformat()


def test_instalments_of_a_loan_that_was_charged_off(clean):
    written_off = next(row for row in clean["loan"] if row["state"] == "WRITTEN_OFF" and row["recorded_on"] > "2025-09")
    story = [row for row in clean["repayment"] if row["contract_no"] == written_off["contract_no"]]
    past_due = [row for row in story if row["days_late"] == "90" and row["paid_date"] is None]
    assert past_due
    first = min(past_due, key=lambda row: row["due_date"])
    due = date.fromisoformat(first["due_date"])
    # 90 days past due is told on that day; the charge-off follows 120 days after the due date, told a day later.
    assert date.fromisoformat(first["recorded_on"]) - due == timedelta(days=90)
    assert date.fromisoformat(written_off["ended_at"]) - due == timedelta(days=120)
    same = [row["days_late"] for row in story if row["instalment"] == first["instalment"] and row["paid_date"] is None]
    assert sorted(same, key=int) == ["1", "30", "60", "90"]


def test_a_loan_repaid_to_the_end_pays_every_instalment_once(clean):
    paid = {row["contract_no"]: row for row in clean["loan"] if row["state"] == "REPAID" and row["recorded_on"] > "2025-09"}
    whole = 0
    for contract, loan in paid.items():
        rows = [row for row in clean["repayment"] if row["contract_no"] == contract and row["paid_date"]]
        numbers = sorted(int(row["instalment"]) for row in rows)
        assert numbers == list(range(1, len(numbers) + 1))
        instalments, amount = sum(float(row["paid_amount"]) for row in rows), float(loan["amount"])
        assert instalments > amount
        whole += len(numbers) == int(loan["term"])
        if len(numbers) == int(loan["term"]):
            assert instalments == pytest.approx(float(rows[0]["due_amount"]) * int(loan["term"]))
    assert 0 < whole < len(paid)


def test_the_mapping_reads_columns_that_the_files_have():
    source = load_source("simulated")
    for table, layout in LAYOUTS.items():
        assert set(source.raw_columns(table)) == set(layout.columns)
    assert set(source.raw_columns("investor_order")) == set(ORDER_COLUMNS)


def test_some_orders_are_bad_and_most_are_good():
    many = SIMULATION.model_copy(update={"orders_per_night": 3_000})
    orders = order_records(many, AS_OF).to_pylist()
    assert len({order["order_no"] for order in orders}) == 3_000
    bad = [order for order in orders if order["amount"] == "plenty" or order["amount"].startswith("-") or order["currency"] != "USD"]
    assert len(bad) == pytest.approx(90, abs=4 * np.sqrt(90))
    assert {order["placed_at"][:10] for order in orders} == {AS_OF.isoformat()}
    assert order_records(many, AS_OF).equals(order_records(many, AS_OF))


def test_indicators_are_published_on_the_tenth_of_the_next_month():
    before, after = (indicator_records(SIMULATION, day, 24) for day in (date(2026, 6, 9), date(2026, 6, 10)))
    assert before["sasdate"][-1].as_py() == "4/1/2026"
    assert after["sasdate"][-1].as_py() == "5/1/2026"
    assert after.num_rows == 25
    assert after.slice(0, 24).slice(1).equals(pa.concat_tables([before.slice(2)]))
