"""What the API answers, with an example of each. Amounts are decimals as text, rates fractions a year."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, field_validator

from conf.company_features import COMPANY_REASON_WORDS
from conf.reasons import REASON_WORDS

_BATCH = "2011-06-30-5f0c2a9d1e77"
_WORDS = REASON_WORDS | COMPANY_REASON_WORDS
_REASON, _COMPANY_REASON = (
    {"code": code, **asdict(_WORDS[code])} for code in ("late_payments_raised_risk", "company_leverage_raised_risk")
)


def _example(**values: object) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class Alive(BaseModel):
    """The process answers."""

    model_config = _example(status="ok")

    status: str


class Ready(BaseModel):
    """The database answers and something is published."""

    model_config = _example(status="ready", batch_id=_BATCH)

    status: str
    batch_id: str


class Problem(BaseModel):
    """What went wrong, in plain words."""

    model_config = _example(detail=f"borrower b-17 is not in the published batch {_BATCH} (as of 2011-06-30)")

    detail: str


class Reason(BaseModel):
    """What moved a score, and which way, in words."""

    model_config = _example(**_REASON)

    code: str
    en: str
    ko: str


class Score(BaseModel):
    """A borrower's calibrated probability of default within horizon_months; risk_group 1 is the safest of 5; reason_codes
    are what moved it most, strongest first, null where it was published before there were reasons."""

    model_config = _example(
        borrower_id="b-000042", borrower_type="person", as_of_date="2011-06-30", prob_default=0.0312,
        horizon_months=12, score_points=641, risk_group=2, reason_codes=[_REASON], model_version="3", batch_id=_BATCH,
        data_contract_version="1.0",
    )

    borrower_id: str
    borrower_type: str
    as_of_date: date
    prob_default: float
    horizon_months: int
    score_points: int
    risk_group: int
    reason_codes: list[Reason] | None
    model_version: str
    batch_id: str
    data_contract_version: str

    @field_validator("reason_codes", mode="before")
    @classmethod
    def in_words(cls, codes: list[str] | None) -> list[Reason] | None:
        """The codes of the published row with what they say."""
        return codes and [Reason(code=code, **asdict(_WORDS[code])) for code in codes]


class CompanyScore(BaseModel):
    """A company's calibrated probabilities of distress within one, two and three years after the statements they rest on; grade A is
    the safest; altman_z is Altman's Z'', higher is sounder, null where an account is not told; reason_codes are what moved the
    one-year probability most, strongest first."""

    model_config = _example(
        company_id="c-000017", as_of_date="2019-04-30", prob_distress_1y=0.0124, prob_distress_2y=0.0301, prob_distress_3y=0.0478,
        grade="D", altman_z=1.84, reason_codes=[_COMPANY_REASON], filing_id="c-000017-2018", period_end="2018-12-31",
        model_version="1", batch_id=_BATCH, data_contract_version="1.0",
    )

    company_id: str
    as_of_date: date
    prob_distress_1y: float
    prob_distress_2y: float
    prob_distress_3y: float
    grade: str
    altman_z: float | None
    reason_codes: list[Reason]
    filing_id: str
    period_end: date
    model_version: str
    batch_id: str
    data_contract_version: str

    @field_validator("reason_codes", mode="before")
    @classmethod
    def in_words(cls, codes: list[str]) -> list[Reason]:
        """The codes of the published row with what they say."""
        return [Reason(code=code, **asdict(_WORDS[code])) for code in codes]


class Valuation(BaseModel):
    """An open listing over its whole term: expected_loss is a fraction of the amount, returns are a year's."""

    model_config = _example(
        loan_id="l-000007", as_of_date="2011-06-30", borrower_id="b-000042", identity_group_id="g-000042",
        risk_group=2, grade="B", prob_default=0.0312, prob_default_lifetime=0.081, loss_given_default=0.9,
        interest_rate=0.1099, term_months=36, remaining_amount="5000.00", expected_loss=0.045,
        expected_net_return=0.061, duration_years=1.42, currency="USD", batch_id=_BATCH,
    )

    loan_id: str
    as_of_date: date
    borrower_id: str
    identity_group_id: str
    risk_group: int
    grade: str | None
    prob_default: float
    prob_default_lifetime: float
    loss_given_default: float
    interest_rate: float
    term_months: int
    remaining_amount: Decimal
    expected_loss: float
    expected_net_return: float
    duration_years: float
    currency: str
    batch_id: str


class Holding(BaseModel):
    """The part of an order that goes to one listing; weight is its share of the order's amount."""

    loan_id: str
    borrower_id: str
    identity_group_id: str
    risk_group: int
    amount: Decimal
    weight: float
    expected_net_return: float


class Portfolio(BaseModel):
    """What an order gets tonight, beside the held_amount that it owns already. status, of both together: on_target,
    below_target or unfilled; message says why. owned_net_return is of both; lost_amount: what defaults have cost it. expected_loss and cvar95 (its mean in
    the worst twentieth of scenarios) are fractions of the allocated amount, as is rounding_gap: at most so much more do whole
    notes lose in the tail than fractions would (negative: less)."""

    model_config = _example(
        order_id="o-000003", as_of_date="2011-06-30", investor_id="i-000003", amount="1000.00",
        held_amount="0.00", held_loan_count=0, lost_amount="0.00",
        allocated_amount="975.00", unallocated_amount="25.00", target_return=0.09, expected_net_return=0.0621,
        owned_net_return=0.0621, expected_loss=0.041, cvar95=0.102, rounding_gap=0.0007, loan_count=1, status="below_target", binding_constraint="risk_group_cap",
        message="the caps of the risk groups keep the expected return below the target", currency="USD", batch_id=_BATCH,
        holdings=[{
            "loan_id": "l-000007", "borrower_id": "b-000042", "identity_group_id": "g-000042", "risk_group": 2,
            "amount": "975.00", "weight": 0.975, "expected_net_return": 0.0621,
        }],
    )

    order_id: str
    as_of_date: date
    investor_id: str
    amount: Decimal
    held_amount: Decimal | None
    held_loan_count: int | None
    lost_amount: Decimal | None
    allocated_amount: Decimal
    unallocated_amount: Decimal
    target_return: float
    expected_net_return: float | None
    owned_net_return: float | None
    expected_loss: float | None
    cvar95: float | None
    rounding_gap: float | None
    loan_count: int
    status: str
    binding_constraint: str | None
    message: str
    currency: str
    batch_id: str
    holdings: list[Holding]


class Quote(BaseModel):
    """What an order would get of what that night's orders have left; no promise for another night. The portfolio is that of
    the standard order of standard_amount and standard_target_return (frontier), scaled in whole notes. cvar95: the larger
    one of the standard orders just above and below the amount; it and expected_loss are fractions of the allocated amount."""

    model_config = _example(
        as_of_date="2011-06-30", currency="USD", amount="1010.00", target_return=0.06, allocated_amount="1000.00",
        unallocated_amount="10.00", expected_net_return=0.0621, expected_loss=0.041, cvar95=0.102, loan_count=1,
        status="on_target",
        message="1 loan, expected to return 6.21% a year net; the target is 6.00%. 10 USD is left: less than a note of 25 USD.",
        standard_amount="2400.00", standard_target_return=0.06, batch_id=_BATCH,
        holdings=[{
            "loan_id": "l-000007", "borrower_id": "b-000042", "identity_group_id": "g-000042", "risk_group": 2,
            "amount": "1000.00", "weight": 0.990099, "expected_net_return": 0.0621,
        }],
    )

    as_of_date: date
    currency: str
    amount: Decimal
    target_return: float
    allocated_amount: Decimal
    unallocated_amount: Decimal
    expected_net_return: float
    expected_loss: float
    cvar95: float
    loan_count: int
    status: str
    message: str
    standard_amount: Decimal
    standard_target_return: float
    batch_id: str
    holdings: list[Holding]


class TableContent(BaseModel):
    """Rows of a published table and the hash that was verified."""

    rows: int
    digest: str


class Publication(BaseModel):
    """Which batch is read, from what it was made, and since when."""

    model_config = _example(
        product="lending", batch_id=_BATCH, as_of_date="2011-06-30", data_contract_version="1.0",
        published_at="2011-07-01T02:14:09Z",
        manifest={"source": "simulated", "model_version": "3", "landed_files": {"loan/2011-06-30/part-0.csv": "9f86d0…"}},
        content={"borrower_score": {"rows": 18234, "digest": "10481728812934"}},
    )

    product: str
    batch_id: str
    as_of_date: date
    data_contract_version: str
    published_at: datetime
    manifest: dict[str, object]
    content: dict[str, TableContent]
