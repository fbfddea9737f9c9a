"""A tiny hand-made night and its publication, for the tests of the protocol and of the API."""

from __future__ import annotations

import hashlib
import io
import math
from contextlib import closing
from dataclasses import replace
from datetime import date
from decimal import Decimal

from psycopg2 import sql

from conf.settings import Settings
from conf.tables import COMPANY_SCORE, COMPANY_UNSCORED, PUBLISHED, PUBLISHED_BY_PRODUCT, Table
from spark_jobs.database import connect
from spark_jobs.publication import Batch, Content, publish_batch

DAY = date(2020, 1, 1)
REASON_CODES = ["overdrafts_raised_risk", "bureau_score_lowered_risk"]


def make_batch(day: date, version: str = "1") -> Batch:
    manifest = {"source": "simulated", "as_of_date": day.isoformat(), "model_version": version}
    return Batch(f"{day}-{hashlib.sha256(version.encode()).hexdigest()[:12]}", day, "1.0", manifest)


def make_rows(batch: Batch, borrowers: int = 3) -> dict[str, list[dict]]:
    """A tiny night: a few scored borrowers, one unscored, one listing, five caps, one order on that
    listing, and a frontier of it."""
    who, day = batch.batch_id, batch.as_of_date
    return {
        "borrower_score": [
            {
                "borrower_id": f"b{number}", "as_of_date": day, "borrower_type": "person", "prob_default": 0.1 * number,
                "horizon_months": 12, "score_points": 600, "risk_group": 1, "reason_codes": REASON_CODES,
                "timeseries_log_odds": -2.0, "behavior_log_odds": -1.5, "record_log_odds": -0.25,
                "raw_prob_default": 0.1, "model_version": who, "batch_id": who,
            }
            for number in range(borrowers)
        ],
        "unscored": [{"borrower_id": "thin", "as_of_date": day, "reason": "too_thin", "batch_id": who}],
        "loan_valuation": [
            {
                "loan_id": "l1", "as_of_date": day, "borrower_id": "b0", "identity_group_id": "g0", "risk_group": 1,
                "grade": "A", "prob_default": 0.02, "prob_default_lifetime": 0.05, "loss_given_default": 0.9,
                "interest_rate": 0.11, "term_months": 36, "remaining_amount": Decimal("1000.00"),
                "expected_loss": 0.03, "expected_net_return": 0.07, "duration_years": 1.4, "currency": "USD",
                "batch_id": who,
            }
        ],
        "risk_group_cap": [
            {
                "risk_group": group, "as_of_date": day, "cap": 1 / group, "base_cap": 1 / group, "market_stress": None,
                "sensitivity": None, "basis": "static", "is_static": True, "batch_id": who, "asset_correlation": 0.1 / group, "default_level": 1.0,
            }
            for group in range(1, 6)
        ],
        "allocation": [
            {
                "order_id": "o1", "loan_id": "l1", "as_of_date": day, "borrower_id": "b0", "identity_group_id": "g0",
                "risk_group": 1, "amount": Decimal("25.00"), "weight": 0.05, "expected_net_return": 0.07,
                "currency": "USD", "batch_id": who,
            }
        ],
        "allocation_summary": [
            {
                "order_id": "o1", "as_of_date": day, "investor_id": "i1", "amount": Decimal("500.00"),
                "allocated_amount": Decimal("25.00"), "unallocated_amount": Decimal("475.00"), "target_return": 0.06,
                "expected_net_return": 0.07, "expected_loss": 0.03, "loan_count": 1, "status": "below_target",
                "binding_constraint": "listings", "message": "too few listings", "currency": "USD", "batch_id": who,
                "cvar95": 0.09, "rounding_gap": -0.0007, "held_amount": Decimal("0.00"), "held_loan_count": 0, "lost_amount": Decimal("0.00"),
                "owned_net_return": 0.07,
            }
        ],
        # A tenth per borrower: standard orders of 10 and of 40 notes, the larger of which holds two of its loan.
        "frontier": [
            {
                "currency": "USD", "point": point, "as_of_date": day, "amount": Decimal(amount), "target_return": target,
                "note_amount": Decimal("25.00"), "identity_group_cap": 0.1, "allocated_amount": Decimal(allocated),
                "expected_net_return": 0.07, "expected_loss": 0.03, "cvar95": tail, "loan_count": 1, "status": "on_target",
                "binding_constraint": binding, "message": "With at most 10% per borrower, 7.00% is the most tonight.",
                "batch_id": who,
            }
            for point, amount, target, allocated, tail, binding in (
                (1, "250.00", 0.06, "25.00", 0.3, None), (2, "250.00", 0.07, "25.00", 0.4, "identity_group_cap"),
                (3, "1000.00", 0.07, "50.00", 0.2, "identity_group_cap"),
            )
        ],
        "frontier_holding": [
            {
                "currency": "USD", "point": point, "loan_id": "l1", "as_of_date": day, "borrower_id": "b0",
                "identity_group_id": "g0", "risk_group": 1, "amount": Decimal(amount), "expected_net_return": 0.07,
                "expected_loss": 0.03, "batch_id": who,
            }
            for point, amount in ((1, "25.00"), (2, "25.00"), (3, "50.00"))
        ],
    }


def digest(table: Table, rows: list[dict]) -> int:
    """The content hash as the protocol states it, worked out a third time, in Python."""
    def text(value: object) -> str | None:
        match value:
            case None | str():
                return value
            case bool():
                return str(int(value))
            case int():
                return str(value)
            case float():
                return str(math.floor(value * 1e9 + 0.5))
            case Decimal():
                return str(int(value * 100))
            case date():
                return str((value - date(1970, 1, 1)).days)
            case list():
                return chr(31).join(chr(30) if element is None else element for element in value)

    def row_hash(row: dict) -> int:
        texts = [text(row[column]) for column in table.columns]
        joined = "".join("~" if value is None else f"{len(value)}:{value}" for value in texts)
        return int(hashlib.md5(joined.encode()).hexdigest()[:15], 16)

    return sum(map(row_hash, rows))


def contents(rows: dict[str, list[dict]], tables: tuple[Table, ...] = PUBLISHED) -> dict[str, Content]:
    return {table.name: Content(len(rows[table.name]), digest(table, rows[table.name])) for table in tables}


def make_company_batch(day: date) -> Batch:
    return replace(make_batch(day, "company"), product="company")


def publish_companies(settings: Settings, batch: Batch) -> str:
    """Publishes a tiny night of companies: three of them, the first without Altman's Z'', the last without a score."""
    who = batch.batch_id
    rows = {
        COMPANY_SCORE.name: [
            {
                "company_id": f"c{number}", "as_of_date": batch.as_of_date, "prob_distress_1y": 0.01 * (number + 1),
                "prob_distress_2y": 0.02 * (number + 1), "prob_distress_3y": 0.03 * (number + 1), "grade": "CD"[number],
                "altman_z": (None, 1.5)[number], "reason_codes": ["company_leverage_raised_risk"], "raw_hazard": 0.02,
                "filing_id": f"c{number}-2019", "period_end": date(2019, 6, 30), "model_version": "1", "batch_id": who,
            }
            for number in range(2)
        ],
        COMPANY_UNSCORED.name: [{"company_id": "c2", "as_of_date": batch.as_of_date, "reason": "too_few_statements", "batch_id": who}],
    }
    tables = PUBLISHED_BY_PRODUCT["company"]
    return publish_batch(settings, batch, contents(rows, tables), copier(settings, rows), tables)


def copied(value: object) -> str:
    """A value as COPY's text format reads it."""
    if value is None:
        return "\\N"
    return f"{{{','.join(value)}}}" if isinstance(value, list) else str(value)


def copier(settings: Settings, rows: dict[str, list[dict]]):
    def copy(table: Table, staging: str) -> None:
        lines = ["\t".join(copied(row[c]) for c in table.columns) for row in rows[table.name]]
        with closing(connect(settings, "publisher", "copy")) as session, session, session.cursor() as cursor:
            columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
            target = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier("publication", staging), columns)
            cursor.copy_expert(target, io.StringIO("".join(f"{line}\n" for line in lines)))

    return copy


def publish(settings: Settings, batch: Batch, borrowers: int = 3) -> str:
    rows = make_rows(batch, borrowers)
    return publish_batch(settings, batch, contents(rows), copier(settings, rows))
