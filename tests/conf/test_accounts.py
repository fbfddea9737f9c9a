"""The chart of accounts: each code means one account, and what must add up names accounts that exist."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from conf.accounts import Chart, chart_of_accounts

ONE = {"kind": "stock", "sign": "positive", "codes": {"here": ("A",)}}


def test_codes_of_each_standard_lead_to_the_chart():
    chart = chart_of_accounts()
    assert chart.of_standard("k_ifrs")["dart_OperatingIncomeLoss"] == ("ebit", 0)
    assert chart.of_standard("us_gaap")["ProfitLoss"] == ("net_income", 1)
    assert chart.of_standard("american_bankruptcy")["net_sales"] == ("revenue", 0)
    with pytest.raises(KeyError, match="no standard gaap"):
        chart.of_standard("gaap")


@pytest.mark.parametrize(
    ("accounts", "limits", "said"),
    [
        ({"a": ONE, "b": ONE}, {}, "here: A stands for two accounts"),
        ({"a": ONE}, {"part": {"part": "a", "whole": "total"}}, "no accounts: total"),
    ],
)
def test_a_chart_that_contradicts_itself_is_refused(accounts, limits, said):
    with pytest.raises(ValidationError, match=said):
        Chart(accounts=accounts, balances={}, limits=limits, tolerance=0.01)
