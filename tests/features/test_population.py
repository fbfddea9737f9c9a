"""Who is scored on 30 June 2024 and who is not, one borrower per reason."""

from __future__ import annotations

from datetime import date

import pytest
from pyspark.sql import functions as F

from features.blocks import with_features
from features.population import build_applications, build_night_candidates, build_unscored, is_too_thin

AS_OF = date(2024, 6, 30)
ORIGINATED = {"listed_on": "2024-01-05", "originated_on": "2024-01-10", "known_from": "2024-01-10"}
LISTED = {"status": "listed", "listed_on": "2024-06-20", "known_from": "2024-06-20"}


def loan(borrower: str, loan_id: str | None = None, **values: object) -> dict[str, object]:
    """A loan of a borrower, originated in January unless said otherwise; its id is the borrower's unless given."""
    return ORIGINATED | {"borrower_id": borrower, "loan_id": loan_id or borrower} | values


def installment(borrower: str, due: str, days_past_due: int, known_from: str, **values: object) -> dict[str, object]:
    """The first instalment of a borrower's loan of the same name, as told on a day."""
    return {"borrower_id": borrower, "loan_id": borrower, "installment_no": 1, "due_on": due,
            "days_past_due": days_past_due, "known_from": known_from, **values}


LOANS = [
    loan("performing"),
    # A live loan and two open listings: an applicant, for the newer listing.
    loan("both", "both-live"),
    loan("both", "both-old", **LISTED),
    loan("both", "both-new", **LISTED | {"listed_on": "2024-06-25", "known_from": "2024-06-25"}),
    # Two live loans: the newer one.
    loan("two", "two-old"),
    loan("two", "two-new", listed_on="2024-03-01", originated_on="2024-03-31", known_from="2024-03-31"),
    loan("late"),
    # Told 49 years after it began, and still there years later.
    loan("ancient", listed_on="1970-01-01", originated_on="1970-01-01", known_from="2019-01-01"),
    loan("defaulted"),
    loan("cured"),
    loan("unknown_default"),
    # Charged off once, and back with a listing.
    loan("written_off", "written_off-old", status="charged_off", closed_on="2024-05-31", known_from="2024-05-31"),
    loan("written_off", "written_off-new", **LISTED),
    # Nothing live: neither scored nor unscored.
    loan("gone", status="charged_off", closed_on="2024-05-31", known_from="2024-05-31"),
    loan("repaid"),
    loan("repaid", status="paid", closed_on="2024-06-30", known_from="2024-06-30"),
    loan("withdrawn", **LISTED),
    loan("withdrawn", **LISTED | {"status": "withdrawn", "known_from": "2024-06-29"}),
    loan("tomorrow", **LISTED | {"listed_on": "2024-07-01", "known_from": "2024-07-01"}),
    loan("thin", **LISTED),
    loan("stranger", **LISTED),
]
REPAYMENTS = [
    installment("late", "2024-04-30", 60, "2024-06-29"),
    installment("defaulted", "2024-04-01", 90, "2024-06-30"),
    # 90 days past due, then paid: has defaulted all the same.
    installment("cured", "2024-03-01", 90, "2024-05-30"),
    installment("cured", "2024-03-01", 0, "2024-06-05", paid_on="2024-06-05", paid_amount=100),
    installment("unknown_default", "2024-04-02", 90, "2024-07-01"),
]
KNOWN = sorted({row["borrower_id"] for row in LOANS} - {"stranger"})


@pytest.fixture(scope="module")
def night(silver):
    """Population and unscored of the night, as rows by borrower."""
    tables = silver(
        borrower=[{"borrower_id": one, "identity_group_id": f"group of {one}", "known_from": "2024-01-01"} for one in KNOWN],
        loan=LOANS,
        repayment=REPAYMENTS,
        credit_inquiry=[{"borrower_id": one, "inquired_on": "2024-01-01", "known_from": "2024-01-01"}
                        for one in [*KNOWN, "stranger"] if one != "thin"],
    )
    candidates = build_night_candidates(tables, AS_OF, 90)
    assessed = with_features(candidates.where(~F.col("is_defaulted")), tables).persist()
    population = {row["borrower_id"]: row for row in assessed.where(~is_too_thin()).collect()}
    unscored = build_unscored(candidates.where("is_defaulted"), assessed)
    assert unscored.columns == ["borrower_id", "as_of_date", "reason"]
    return population, {row["borrower_id"]: row["reason"] for row in unscored.collect()}


def test_population(night):
    population, _ = night
    found = {one: (row["standing"], row["loan_id"], row["months_on_book"]) for one, row in population.items()}
    assert found == {
        "performing": ("performing", "performing", 5),  # 10 January to 30 June: five whole months
        "both": ("applicant", "both-new", 0),
        "two": ("performing", "two-new", 3),  # 31 March to 30 June: from last day to last day
        "late": ("performing", "late", 5),
        "ancient": ("performing", "ancient", 600),  # the most that are counted
        "unknown_default": ("performing", "unknown_default", 5),
    }
    assert population["late"]["identity_group_id"] == "group of late"
    assert {row["as_of_date"] for row in population.values()} == {AS_OF}


def test_unscored_with_reasons(night):
    _, unscored = night
    assert unscored == {
        "defaulted": "defaulted", "cured": "defaulted", "written_off": "defaulted", "thin": "too_thin", "stranger": "too_thin",
    }


def test_where_lateness_is_no_default_only_a_charge_off_is(silver):
    tables = silver(borrower=[{"borrower_id": one, "known_from": "2024-01-01"} for one in KNOWN], loan=LOANS, repayment=REPAYMENTS)
    rows = build_night_candidates(tables, AS_OF, None).collect()
    assert {row["borrower_id"] for row in rows if row["is_defaulted"]} == {"written_off"}


def test_applications_stand_on_the_day_they_are_known(silver):
    listings = [
        {"loan_id": "l1", "status": "listed", "listed_on": "2024-06-03", "known_from": "2024-06-03"},
        {"loan_id": "l2", "status": "listed", "listed_on": "2024-06-03", "known_from": "2024-06-03"},  # same day: the newer id
        {"loan_id": "l3", "status": "listed", "listed_on": "2024-05-31", "known_from": "2024-06-02"},  # known in June
        {"loan_id": "l4", "status": "listed", "listed_on": "2024-06-29", "known_from": "2024-07-02"},  # known in July
        {"loan_id": "l5", "listed_on": "2024-06-05", "originated_on": "2024-06-05", "known_from": "2024-06-05"},  # never listed
    ]
    found = build_applications(silver(loan=listings)["loan"], date(2024, 6, 1), date(2024, 6, 30)).collect()
    assert sorted((row["as_of_date"], row["loan_id"], row["standing"], row["months_on_book"]) for row in found) == [
        (date(2024, 6, 2), "l3", "applicant", 0),
        (date(2024, 6, 3), "l2", "applicant", 0),
    ]
