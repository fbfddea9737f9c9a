"""Whether a night's drift starts a training, over hand-made verdicts."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from dags import drift
from dags.drift import NightDrift, asks_training, refusal

SHIFTED = NightDrift("2024-03-31-abc", True, "Shifted: score PSI 0.310 (limit 0.25).", "3", date(2024, 3, 1), None)


@pytest.mark.parametrize(
    ("as_of_date", "changed", "says"),
    [
        (date(2024, 3, 31), {"asks_training": False}, "no training is needed"),
        # Seven days of cool-down after the champion's training of 1 March: the first night that may ask is the ninth's.
        (date(2024, 3, 8), {}, "model version 3 was trained on 2024-03-01: not asked for before 2024-03-09"),
        (date(2024, 3, 9), {}, None),
        # A night of before the training, run again.
        (date(2024, 2, 1), {}, "not asked for before 2024-03-09"),
        # Drift has asked: the training is pending, or has brought no champion.
        (date(2024, 3, 12), {"asked_on": date(2024, 3, 11)}, "drift last asked for training on 2024-03-11: not asked for before 2024-03-19"),
        (date(2024, 3, 19), {"asked_on": date(2024, 3, 11)}, None),
        # A backfill of a day before the one on which drift asked.
        (date(2024, 3, 10), {"asked_on": date(2024, 3, 11)}, "not asked for before 2024-03-19"),
        # Asked under an earlier champion: the new one's training counts.
        (date(2024, 3, 8), {"asked_on": date(2024, 2, 25)}, "not asked for before 2024-03-09"),
    ],
)
def test_when_drift_starts_a_training(as_of_date, changed, says):
    reason = refusal(replace(SHIFTED, **changed), as_of_date, cool_down_days=7)
    assert says in reason if says else reason is None


@pytest.mark.parametrize(
    ("found", "says", "asked"),
    [
        (SHIFTED, "Shifted: score PSI 0.310 (limit 0.25). Held against model version 3.", ["2024-03-31-abc"]),
        (replace(SHIFTED, asked_on=date(2024, 3, 30)), "credit_training is not started: model version 3 was trained", []),
        (None, "no drift was measured for 2024-03-31", []),
    ],
)
def test_the_task_tells_what_it_found_and_writes_down_what_it_asks(monkeypatch, capsys, found, says, asked):
    written = []
    monkeypatch.setattr(drift, "read_drift", lambda settings, as_of_date: found)
    monkeypatch.setattr(drift, "record_asked", lambda settings, batch_id: written.append(batch_id))
    assert asks_training("2024-03-31") is bool(asked)
    assert written == asked
    assert says in capsys.readouterr().out
