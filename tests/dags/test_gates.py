"""The decision of a gate task over hand-made results."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from dags import gates
from dags.gates import GateResult, refusal, require_gates

PASSED = GateResult("loan", True, 100, (), "", None)
FAILED = GateResult("repayment", False, 90, ("no_nulls:due_on", "unique:key"), "3 rows", "var/docs/repayment.html")


def test_all_passed():
    assert refusal("ingest", ["loan"], [PASSED]) is None


def test_failed_gate_names_table_rules_and_page():
    reason = refusal("ingest", ["loan", "repayment"], [PASSED, FAILED])
    assert reason == "repayment: no_nulls:due_on, unique:key (90 rows). 3 rows See var/docs/repayment.html"


def test_missing_result_is_a_refusal():
    # The job ended before it checked this table: silence is not consent.
    assert "no gate result for borrower" in refusal("ingest", ["loan", "borrower"], [PASSED])


def test_failure_of_a_table_that_nobody_expected_still_closes_the_gate():
    assert refusal("ingest", ["loan"], [PASSED, FAILED]).startswith("repayment")


def test_task_fails_without_retry(monkeypatch):
    monkeypatch.setattr(gates, "read_results", lambda job, as_of_date, work, product: [FAILED])
    with pytest.raises(AirflowFailException, match=r"gate of ingest closed for 2011-06-30\nrepayment: no_nulls"):
        require_gates("ingest", ["repayment"], "2011-06-30", "night", "lending")


def test_task_tells_what_passed(monkeypatch, capsys):
    monkeypatch.setattr(gates, "read_results", lambda job, as_of_date, work, product: [PASSED])
    require_gates("ingest", ["loan"], "2011-06-30", "night", "lending")
    assert "loan: 100 rows passed" in capsys.readouterr().out
