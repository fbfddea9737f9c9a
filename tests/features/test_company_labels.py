"""Outcomes of companies: who failed within which year, and what nobody could have seen."""

from __future__ import annotations

from datetime import date

from conf.tables import COMPANY
from features.company_labels import build_outcomes, distressed_within, with_periods

FILED = date(2010, 4, 30)


def company(name, status, known_from, distressed_on=None):
    return (name, None, name, None, None, status, distressed_on, "USD", known_from, "f", 1)


ROWS = [
    company("second_year", "active", FILED), company("second_year", "distressed", date(2011, 12, 31), date(2011, 12, 31)),
    # Known a month after it happened: on 31 March 2013 nobody knows.
    company("told_late", "active", FILED), company("told_late", "distressed", date(2013, 4, 30), date(2013, 3, 15)),
    company("gone", "active", FILED), company("gone", "gone", date(2011, 4, 30)),
    company("alive", "active", FILED),
    # Struck off the register after it had failed.
    company("wound_up", "active", FILED), company("wound_up", "distressed", date(2010, 10, 31), date(2010, 10, 31)),
    company("wound_up", "gone", date(2010, 12, 31)),
]


def test_periods_are_examples_only_where_somebody_saw_them(spark):
    def periods(known_on):
        rows = build_outcomes(spark.createDataFrame(ROWS, COMPANY.ddl), known_on).selectExpr("*", f"DATE'{FILED}' AS as_of_date")
        found = with_periods(rows, known_on).select("company_id", "years_ahead", "is_distress").collect()
        return {name: [flag for who, _, flag in sorted(found) if who == name] for name in {row[0] for row in ROWS}}

    # Two years and eleven months later: the third year is over for nobody, and the second failed in its second.
    assert periods(date(2013, 3, 31)) == {"second_year": [0, 1], "told_late": [0, 0], "gone": [0], "alive": [0, 0], "wound_up": [1]}
    assert periods(date(2013, 4, 30)) == {"second_year": [0, 1], "told_late": [0, 0, 1], "gone": [0], "alive": [0, 0, 0], "wound_up": [1]}
    # Before it failed, it had survived its first year like the others; a failure of the future is nowhere.
    # One that fails in an unfinished year is no example yet, as those that live through it are none.
    for day in (date(2011, 6, 30), date(2011, 12, 31)):
        assert periods(day) == {"second_year": [0], "told_late": [0], "gone": [0], "alive": [0], "wound_up": [1]}
    assert set(map(len, periods(date(2011, 4, 29)).values())) == {0}


def test_within_so_many_years_is_unknown_where_it_was_not_seen(spark):
    rows = build_outcomes(spark.createDataFrame(ROWS, COMPANY.ddl), date(2013, 4, 30)).selectExpr("*", f"DATE'{FILED}' AS as_of_date")
    found = rows.select("company_id", *(distressed_within(years).alias(f"y{years}") for years in (1, 2, 3))).collect()
    assert {row[0]: list(row[1:]) for row in found} == {
        "second_year": [False, True, True], "told_late": [False, False, True], "gone": [False, None, None], "alive": [False, False, False],
        "wound_up": [True, True, True],
    }
