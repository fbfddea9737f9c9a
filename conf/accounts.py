"""The chart of accounts, ``conf/chart_of_accounts.yaml``: accounts, what each standard calls them, and what must add up."""

from __future__ import annotations

from functools import cache
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from conf.settings import ROOT

CHART = ROOT / "conf" / "chart_of_accounts.yaml"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Account(_Model):
    """One account. codes: by standard, in order of preference, what it is called there."""

    kind: Literal["stock", "flow"]
    sign: Literal["positive", "any"]
    codes: dict[str, tuple[str, ...]] = Field(min_length=1)


class Balance(_Model):
    """A total that is the sum of its parts and of the optional ones, which count as zero where they are not told."""

    total: str
    parts: tuple[str, ...]
    optional: tuple[str, ...] = ()


class Limit(_Model):
    """A part that is at most the whole."""

    part: str
    whole: str


class Chart(_Model):
    """All accounts, and the balances and limits that a filing must keep within tolerance, a fraction."""

    accounts: dict[str, Account]
    balances: dict[str, Balance]
    limits: dict[str, Limit]
    tolerance: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Chart:
        named = {name for one in self.balances.values() for name in (one.total, *one.parts, *one.optional)}
        named |= {name for one in self.limits.values() for name in (one.part, one.whole)}
        if unknown := sorted(named - set(self.accounts)):
            raise ValueError(f"no accounts: {', '.join(unknown)}; there are {', '.join(self.accounts)}")
        for standard in self.standards:
            codes = [code for account in self.accounts.values() for code in account.codes.get(standard, ())]
            if twice := sorted({code for code in codes if codes.count(code) > 1}):
                raise ValueError(f"{standard}: {', '.join(twice)} stands for two accounts")
        return self

    @property
    def standards(self) -> tuple[str, ...]:
        """The standards that some account has codes of."""
        return tuple(sorted({standard for account in self.accounts.values() for standard in account.codes}))

    def of_standard(self, standard: str) -> dict[str, tuple[str, int]]:
        """The account of each code of a standard, and the code's rank among those of the account, 0 the preferred.

        Raises KeyError for a standard that no account has a code of.
        """
        if standard not in self.standards:
            raise KeyError(f"no standard {standard} in the chart of accounts; there are {', '.join(self.standards)}")
        return {
            code: (name, rank)
            for name, account in self.accounts.items() for rank, code in enumerate(account.codes.get(standard, ()))
        }


@cache
def chart_of_accounts() -> Chart:
    """The chart.

    Raises pydantic.ValidationError for an unknown key, an account that does not exist or a code that stands twice.
    """
    return Chart.model_validate(yaml.safe_load(CHART.read_text(encoding="utf-8")))
