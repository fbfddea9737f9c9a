"""Whether a night's drift starts a training: read from PostgreSQL, without a JVM."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg2

from conf.database import NO_MODEL, role_dsn
from conf.settings import Product, Settings, load_settings

# The verdict of the product's current night, and the last other day on which its drift asked.
_FOUND = """
with night as (
  select batch_id, as_of_date, opened_at from ops.run_manifest
  where manifest ->> 'model_version' <> %(no_model)s and coalesce(manifest ->> 'product', 'lending') = %(product)s
)
select batch_id, asks_training, message, model_version, trained_on,
  (select max(as_of_date) from ops.drift_verdict join night using (batch_id, as_of_date)
   where training_asked and as_of_date <> %(as_of_date)s)
from ops.drift_verdict where batch_id = (
  select batch_id from night where as_of_date = %(as_of_date)s order by opened_at desc limit 1
)
"""


@dataclass(frozen=True)
class NightDrift:
    """What a night's drift says. asked_on: the last other day on which drift asked for a training; None: it never did."""

    batch_id: str
    asks_training: bool
    message: str
    model_version: str
    trained_on: date
    asked_on: date | None


def refusal(found: NightDrift, as_of_date: date, cool_down_days: int) -> str | None:
    """Why no training is started, or None where one is.

    More than cool_down_days must lie between the champion's training, or the day on which drift last asked, and the as-of
    date: a night of before either starts none.
    """
    if not found.asks_training:
        return "no training is needed"
    first = max(found.trained_on, found.asked_on or found.trained_on) + timedelta(days=cool_down_days + 1)
    if as_of_date < first:
        asked = f", drift last asked for training on {found.asked_on}" if found.asked_on else ""
        return f"model version {found.model_version} was trained on {found.trained_on}{asked}: not asked for before {first}"
    return None


def read_drift(settings: Settings, as_of_date: date) -> NightDrift | None:
    """What the current night of the as-of date found; None where its scores were never held against a model."""
    with closing(psycopg2.connect(role_dsn(settings, "publisher"))) as session, session, session.cursor() as cursor:
        cursor.execute(_FOUND, {"as_of_date": as_of_date, "no_model": NO_MODEL, "product": settings.product})
        row = cursor.fetchone()
    return NightDrift(*row) if row else None


def record_asked(settings: Settings, batch_id: str) -> None:
    """Write down that a training is started for the batch."""
    with closing(psycopg2.connect(role_dsn(settings, "publisher"))) as session, session, session.cursor() as cursor:
        cursor.execute("update ops.drift_verdict set training_asked = true where batch_id = %s", (batch_id,))


def asks_training(as_of_date: str, product: Product = "lending") -> bool:
    """Whether a training of the product's model is to be started for the as-of date; what was found, and why not, is printed."""
    settings, day = load_settings(product=product), date.fromisoformat(as_of_date)
    found = read_drift(settings, day)
    if found is None:
        print(f"no drift was measured for {day}: the {product} night's scoring has not run since drift is measured")
        return False
    print(f"{found.message} Held against model version {found.model_version}.")
    reason = refusal(found, day, settings.drift.cool_down_days)
    if reason:
        print(f"{settings.training_dag} is not started: {reason}")
        return False
    record_asked(settings, found.batch_id)
    return True


def training_run_id(as_of_date: str) -> str:
    """The run of training that the drift of an as-of date starts; a second one is never made."""
    return f"drift__{as_of_date}"
