"""The timing of allocations at toy sizes: what it prints is what it says."""

from __future__ import annotations

import re
from datetime import date

from spark_jobs import time_allocation


def test_programs_are_timed_beside_the_full_one(spark, settings, monkeypatch, capsys):
    for name, size in (("LISTINGS", 1_000), ("TIERS", 3), ("ORDERS", 200), ("FULL_LISTINGS", 300)):
        monkeypatch.setattr(time_allocation, name, size)
    time_allocation.run(spark, settings, date(2025, 7, 1))
    beside, tiers, orders = capsys.readouterr().out.splitlines()
    found = re.search(r"300 listings × 1,000 scenarios: full program .* \(value ([+-][\d.]+)%, certified gap ([\d.]+)%\), least expected loss instead .* \(value \+([\d.]+)%\)", beside)
    assert -0.001 <= float(found[1]) <= 0.01 and float(found[2]) <= 0.01
    assert float(re.search(r"1,000 listings × 1,000 scenarios × 3 tiers: .* largest certified gap ([\d.]+)%", tiers)[1]) <= 0.01
    assert re.search(r"200 orders, 1,000 listings: .* holdings, \d+% of the orders on target", orders)
