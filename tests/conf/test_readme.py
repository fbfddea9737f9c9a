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
            ("contract", "client_no", "principal", "months", "rate", "applied", "started", "funded", "state"),
            ("L1", "1", "5000", "36", "13.35", "2024-02-20", "2024-02-28", "5000", "R"),
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
    loan = loans.first()
    assert (loan["broken_rules"], loan["interest_rate"], loan["status"]) == ([], 0.1335, "current")

    payments = build_checked(source, REPAYMENT, raw, {"borrower": borrowers, "loan": loans})
    found = {row["loan_id"]: row for row in payments.toLocalIterator()}
    assert (found["L1"]["broken_rules"], found["L1"]["paid_amount"]) == ([], Decimal("169.32"))
    assert found["L9"]["broken_rules"] == ["orphan:loan"]
