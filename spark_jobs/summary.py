"""Says what a night published and how to look at it; the last words of ``make run``."""

from __future__ import annotations

from contextlib import closing, suppress
from datetime import date

from psycopg2 import sql
from psycopg2.extensions import cursor

from conf.settings import Settings
from conf.source import products_of
from spark_jobs.database import connect
from spark_jobs.manifest import Night, NoOpenNight, current_night

_VIEWS = {"lending": ("borrower_score", "allocation_summary"), "company": ("company_score",)}


def run(settings: Settings, as_of_date: date) -> None:
    """Print the night of the as-of date, of each product that the market publishes.

    Raises NoOpenNight for a day on which the market's own product never ran; that another did not is told.
    """
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as found:
        lines = _night(found, settings, as_of_date)
        for product in products_of(settings)[1:]:
            try:
                lines += _night(found, settings.model_copy(update={"product": product}), as_of_date)
            except NoOpenNight:
                lines.append(f"No night of {product} was opened for {as_of_date}")
    print("\n".join([*lines, *_how_to_look(settings)]))


def _night(found: cursor, settings: Settings, as_of_date: date) -> list[str]:
    """What there is to say of a product's night."""
    night = current_night(settings, as_of_date)
    of_product = (
        _companies(found, night.batch_id) if settings.product == "company"
        else [*_scores(found, night.batch_id), *_drift(found, night.batch_id), *_allocations(found, night.batch_id)]
    )
    return [
        *_publication(found, settings.product, night.batch_id, as_of_date, night.model_version),
        *_ingested(found, _batches_of_day(settings, night)),
        *of_product,
        *_gates(found, night.batch_id),
    ]


def _publication(found: cursor, product: str, batch_id: str, as_of_date: date, model_version: str) -> list[str]:
    found.execute(
        """
        SELECT batch_id = %(batch)s, batch_id, as_of_date,
            EXISTS (SELECT FROM publication.batch b WHERE b.product = c.product AND b.batch_id = %(batch)s)
        FROM publication.current_batch c WHERE product = %(product)s
        """,
        {"batch": batch_id, "product": product},
    )
    row = found.fetchone()
    if row and row[0]:
        state = "published"
    elif row and row[3]:
        state = f"attached; readers read batch {row[1]} as of {row[2]}"
    else:
        state = "not published" + (f"; readers read batch {row[1]} as of {row[2]}" if row else "")
    return [f"Batch {batch_id} of {product}: {state}", _line("as of", f"{as_of_date}, model version {model_version}")]


def _batches_of_day(settings: Settings, night: Night) -> list[str]:
    """The night's batch and that of a training of the same day, which may have taken the files in before it."""
    with suppress(NoOpenNight):
        return [night.batch_id, current_night(settings, night.as_of_date, training=True).batch_id]
    return [night.batch_id]


def _ingested(found: cursor, batch_ids: list[str]) -> list[str]:
    found.execute(
        """
        SELECT table_name, sum(landed_rows), sum(quarantined_rows) FROM ops.ingested WHERE batch_id = ANY(%s)
        GROUP BY table_name HAVING sum(landed_rows) > 0 ORDER BY table_name
        """,
        (batch_ids,),
    )
    rows = found.fetchall()
    if not rows:
        return []
    broken = ", ".join(f"{table} {quarantined:,}" for table, _, quarantined in rows if quarantined) or "none"
    return [
        _line("rows in", f"{sum(landed for _, landed, _ in rows):,} in {len(rows)} tables"),
        _line("quarantined", broken),
    ]


def _scores(found: cursor, batch_id: str) -> list[str]:
    found.execute(
        "SELECT count(*), avg(prob_default), min(horizon_months) FROM publication.borrower_score WHERE batch_id = %s",
        (batch_id,),
    )
    scored, mean, horizon = found.fetchone()
    of_mean = f", mean probability of default {mean:.4f} within {horizon} months" if scored else ""
    return [_line("scored", f"{scored:,} borrowers{of_mean}"), _line("unscored", _by(found, "unscored", "reason", batch_id))]


def _by(found: cursor, table: str, column: str, batch_id: str) -> str:
    """How many rows of a batch have each value of a column, in words."""
    found.execute(
        sql.SQL("SELECT {0}, count(*) FROM {1} WHERE batch_id = %s GROUP BY {0} ORDER BY {0}").format(
            sql.Identifier(column), sql.Identifier("publication", table)
        ),
        (batch_id,),
    )
    return ", ".join(f"{value} {count:,}" for value, count in found.fetchall()) or "none"


def _companies(found: cursor, batch_id: str) -> list[str]:
    found.execute(
        """
        SELECT count(*), avg(prob_distress_1y), avg(prob_distress_2y), avg(prob_distress_3y) FROM publication.company_score
        WHERE batch_id = %s
        """,
        (batch_id,),
    )
    scored, *means = found.fetchone()
    of_means = f", mean probability of distress within 1, 2, 3 years {', '.join(f'{mean:.4f}' for mean in means)}" if scored else ""
    return [
        _line("scored", f"{scored:,} companies{of_means}"),
        _line("unscored", _by(found, "company_unscored", "reason", batch_id)),
        _line("grades", _by(found, "company_score", "grade", batch_id)),
    ]


def _drift(found: cursor, batch_id: str) -> list[str]:
    found.execute("SELECT message FROM ops.drift_verdict WHERE batch_id = %s", (batch_id,))
    return [_line("drift", message) for (message,) in found.fetchall()]


def _allocations(found: cursor, batch_id: str) -> list[str]:
    found.execute(
        """
        SELECT count(*), count(*) FILTER (WHERE status = 'on_target'), count(*) FILTER (WHERE status = 'below_target'),
            count(*) FILTER (WHERE status = 'unfilled')
        FROM publication.allocation_summary WHERE batch_id = %s
        """,
        (batch_id,),
    )
    orders, on_target, below, unfilled = found.fetchone()
    found.execute(
        """
        SELECT currency, sum(allocated_amount), sum(amount),
            sum(allocated_amount * expected_net_return::numeric) / nullif(sum(allocated_amount), 0)
        FROM publication.allocation_summary WHERE batch_id = %s GROUP BY currency ORDER BY currency
        """,
        (batch_id,),
    )
    money = [
        _line("allocated", f"{allocated:,.2f} of {amount:,.2f} {currency}" + (
            f", expected net return {net:.4f} a year" if net is not None else ""
        ))
        for currency, allocated, amount, net in found.fetchall()
    ]
    found.execute("SELECT count(*) FROM publication.loan_valuation WHERE batch_id = %s", (batch_id,))
    return [
        _line("open listings", f"{found.fetchone()[0]:,}"),
        _line("orders", f"{orders:,}: {on_target:,} on target, {below:,} below target, {unfilled:,} unfilled"),
        *money,
    ]


def _gates(found: cursor, batch_id: str) -> list[str]:
    found.execute(
        "SELECT gate, success, message FROM ops.gate_result WHERE batch_id = %s ORDER BY gate", (batch_id,)
    )
    results = found.fetchall()
    closed = [f"  closed: {gate}: {message}" for gate, success, message in results if not success]
    return [_line("gates", f"{len(results) - len(closed)} of {len(results)} passed"), *closed]


def _how_to_look(settings: Settings) -> list[str]:
    source = f" SOURCE={settings.source}"
    views = [view for product in products_of(settings) for view in _VIEWS[product]]
    return [
        "Look at it:",
        *(f"  make psql{source} SQL='select * from publication.latest_{view} limit 5'" for view in views),
        f"  make up{source}    # Airflow, MLflow and the API: http://127.0.0.1:{settings.ports.api}/docs",
    ]


def _line(what: str, value: str) -> str:
    return f"  {what:<14}{value}"
