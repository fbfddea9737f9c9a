"""The README's example of a lender's own data is a mapping that loads and maps."""

from __future__ import annotations

import re
from decimal import Decimal

from conf.settings import ROOT
from conf.source import load_source
from conf.tables import BORROWER, LOAN, REPAYMENT
from spark_jobs.mapping import build_checked

_BRONZE = "_batch_id STRING, _source_file STRING, _row_number BIGINT, _malformed STRING"


def _bronze(spark, file, columns, *rows):
    ddl = f"{_BRONZE}, " + ", ".join(f"{column} STRING" for column in columns)
    return spark.createDataFrame([("b", file, number, None, *row) for number, row in enumerate(rows, 1)], ddl)


def test_the_example_maps_three_files(spark, tmp_path):
    example = re.search(r"```yaml\n(name: corner_bank\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    (tmp_path / "corner_bank.yaml").write_text(example)
    source = load_source("corner_bank", tmp_path)
    raw = {
        "clients": _bronze(
            spark, "clients_2024-03-01.csv", ("client_no", "household_no", "born", "sex", "income"),
            ("1", "h1", "31.12.1980", "F", "30000"),
            ("2", "h1", "1980-12-31", "X", "much"),  # another date format, an unknown code, no number
        ),
        "loans": _bronze(
            spark, "loans_2024-03-01.csv",
            ("contract", "client_no", "principal", "months", "rate", "applied", "started", "funded", "state", "ended"),
            ("L1", "1", "5000", "36", "13.35", "2024-02-20", "2024-02-28", "5000", "R", ""),
            ("L2", "1", "1000", "12", "9", "2022-01-10", "2022-01-20", "1000", "P", "2023-01-20"),
            ("L3", "1", "800", "24", "15.1", "2021-05-02", "2021-05-09", "800", "D", "2022-03-01"),
            ("L4", "1", "700", "12", "8", "2022-02-01", "2022-02-02", "700", "P", ""),  # paid, and nobody says when
        ),
        "payments": _bronze(
            spark, "payments_2024-03-28.csv",
            ("contract", "client_no", "number", "due", "due_cents", "paid", "paid_cents", "days_late"),
            ("L1", "1", "1", "2024-03-28", "16932", "2024-03-28", "16932", "0"),
            ("L9", "1", "1", "2024-03-28", "100", "", "0", "0"),  # a loan that nobody knows
        ),
    }
    borrowers = build_checked(source, BORROWER, raw, {})
    people = {row["row_number"]: row for row in borrowers.toLocalIterator()}
    assert people[1]["broken_rules"] == [] and str(people[1]["known_from"]) == "2024-03-01"
    assert sorted(people[2]["broken_rules"]) == ["code:gender", "parse:birth_date", "parse:main_income"]

    loans = build_checked(source, LOAN, raw, {"borrower": borrowers})
    lent = {row["loan_id"]: row for row in loans.toLocalIterator()}
    assert (lent["L1"]["broken_rules"], lent["L1"]["interest_rate"], lent["L1"]["status"]) == ([], 0.1335, "current")
    assert (lent["L2"]["broken_rules"], lent["L2"]["status"], str(lent["L2"]["closed_on"])) == ([], "paid", "2023-01-20")
    assert (lent["L3"]["broken_rules"], lent["L3"]["status"]) == ([], "charged_off")
    assert lent["L4"]["broken_rules"] == ["closed_when_over"]

    payments = build_checked(source, REPAYMENT, raw, {"borrower": borrowers, "loan": loans})
    found = {row["loan_id"]: row for row in payments.toLocalIterator()}
    assert (found["L1"]["broken_rules"], found["L1"]["paid_amount"]) == ([], Decimal("169.32"))
    assert found["L9"]["broken_rules"] == ["orphan:loan"]
