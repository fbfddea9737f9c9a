"""The run manifest: what a night is made from, fixed before its first job, and pinned to silver versions after ingest.

The manifest's hash is part of the batch id, so the same inputs, model, settings and code make the same batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType

from psycopg2.extras import Json, execute_values

from conf.database import NO_MODEL
from conf.settings import ROOT, Settings
from spark_jobs.database import connect

# What a night computes depends on these; ports, places, passwords and how Spark is run change no result.
_SETTINGS_OF_RESULTS = {"source", "product", "gates", "training", "fairness", "company", "drift", "scores", "allocation"}
_CODE_FOLDERS = ("conf", "expectations", "features", "models", "spark_jobs")
# The settings stand in the manifest by their values; the other sources' mappings have no part in this one.
_NOT_CODE = ("conf/mosaic.yaml", "conf/sources/")


# Not behind the batch that readers read, so that a rollback of the companies' scores counts here too.
_NEWEST = """
SELECT log.batch_id FROM publication.publication_log log JOIN publication.current_batch current USING (product)
WHERE log.product = 'company' AND log.action IN ('publish', 'backfill', 'rollback')
AND (log.manifest ->> 'as_of_date')::date BETWEEN %(oldest)s AND least(%(as_of_date)s, current.as_of_date)
ORDER BY (log.manifest ->> 'as_of_date')::date DESC, log.batch_id = current.batch_id DESC, log.entry DESC LIMIT 1
"""


class NoOpenNight(LookupError):
    """No manifest has been written for the as-of date."""


@dataclass(frozen=True)
class Night:
    """One night's work: what it is called and what it reads.

    landed_files: relative path to SHA-256. silver_versions: Delta version by table name, empty until ingest pins them.
    tops_up: the batch whose allocations, and those that it built on, are owned already; None for the first. company_batch:
    the batch of company scores that companies which borrow are scored by; None where there is none.
    """

    batch_id: str
    as_of_date: date
    model_version: str
    landed_files: Mapping[str, str]
    silver_versions: Mapping[str, int] = field(default_factory=dict)
    tops_up: str | None = None
    company_batch: str | None = None


def build_manifest(
    settings: Settings,
    as_of_date: date,
    landed_files: Mapping[str, str],
    model_version: str,
    macro_files: Mapping[str, str] = MappingProxyType({}),
    orders: str = "",
    tops_up: str | None = None,
    company_batch: str | None = None,
) -> dict[str, object]:
    """All that determines a night's results: no clock, no place, no secret.

    landed_files and macro_files: SHA-256 by path; orders: digest of the orders that a front end placed; tops_up: the batch
    that the night builds on; company_batch: that of the scores of companies which borrow.
    """
    return {
        "source": settings.source,
        "product": settings.product,
        "as_of_date": as_of_date.isoformat(),
        "landed_files": dict(sorted(landed_files.items())),
        "macro_files": dict(sorted(macro_files.items())),
        "orders": orders,
        "tops_up": tops_up,
        "company_batch": company_batch,
        "model_version": model_version,
        "configuration": configuration_hash(settings),
        "code_version": code_version(settings.source),
        "data_contract_version": settings.publication.contract_version,
    }


def batch_id(manifest: Mapping[str, object]) -> str:
    """The as-of date and the first twelve hex digits of the manifest's SHA-256."""
    return f"{manifest['as_of_date']}-{_sha256(json.dumps(manifest, sort_keys=True).encode())[:12]}"


def configuration_hash(settings: Settings) -> str:
    """SHA-256 of the settings that a result depends on."""
    values = settings.model_dump(mode="json", include=_SETTINGS_OF_RESULTS)
    values["currency_decimals"] = settings.night.currency_decimals
    return _sha256(json.dumps(values, sort_keys=True).encode())


def code_version(source: str) -> str:
    """SHA-256 over the Python and YAML files that make results, and over the source's mapping.

    The files themselves rather than a commit: an uncommitted change counts, a new README does not.
    """
    files = {
        path.relative_to(ROOT).as_posix(): path
        for folder in _CODE_FOLDERS
        for suffix in ("*.py", "*.yaml")
        for path in (ROOT / folder).rglob(suffix)
    }
    mapping = f"conf/sources/{source}.yaml"
    counted = {name: path for name, path in files.items() if name == mapping or not name.startswith(_NOT_CODE)}
    return _sha256("".join(f"{name} {_sha256(counted[name].read_bytes())}\n" for name in sorted(counted)).encode())


def macro_files(settings: Settings) -> dict[str, str]:
    """SHA-256 of the market indicators' files by name; empty where there is no folder of them."""
    if settings.macro_folder is None:
        return {}
    if not settings.macro_folder.is_dir():
        raise FileNotFoundError(f"cannot read the folder of market indicators {settings.macro_folder}: set MACRO= to a folder")
    return {path.name: _sha256(path.read_bytes()) for path in sorted(settings.macro_folder.iterdir()) if path.is_file()}


def orders_digest(settings: Settings, moment: datetime) -> str:
    """MD5 over what a front end had said of orders before a moment: its own, and the status of those of landed files,
    which are in the files' digests."""
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(
            """
            SELECT coalesce(md5(string_agg(md5(jsonb_build_array(
                order_id, investor_id, amount, currency, target_return, extract(epoch FROM placed_at), status)::text),
                '' ORDER BY order_id)), '')
            FROM intake.orders_as_of(%s) WHERE source_file IS NULL OR status_changed_at IS NOT NULL
            """,
            (moment,),
        )
        return cursor.fetchone()[0]


def newest_company_batch(settings: Settings, as_of_date: date) -> str | None:
    """The published batch of company scores that borrowers are scored by on a date: of that day, or of at most
    company.max_score_age_days before; None where there is none."""
    oldest = as_of_date - timedelta(days=settings.company.max_score_age_days)
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(_NEWEST, {"oldest": oldest, "as_of_date": as_of_date})
        found = cursor.fetchone()
    return found[0] if found else None


def open_manifest(settings: Settings, manifest: Mapping[str, object]) -> Night:
    """Write the manifest as the current night of its as-of date; one that is there becomes the current one again."""
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO ops.run_manifest (batch_id, as_of_date, manifest) VALUES (%s, %s, %s)
            ON CONFLICT (batch_id) DO UPDATE SET opened_at = clock_timestamp()
            """,
            (batch_id(manifest), manifest["as_of_date"], Json(manifest)),
        )
    return current_night(
        settings, date.fromisoformat(str(manifest["as_of_date"])), training=manifest["model_version"] == NO_MODEL
    )


def current_night(settings: Settings, as_of_date: date, training: bool = False) -> Night:
    """The product's night that was opened last for the as-of date, or the one for training, which may run beside it.

    Raises NoOpenNight.
    """
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(
            """
            SELECT batch_id, manifest, silver_versions FROM ops.run_manifest
            WHERE as_of_date = %(as_of_date)s AND (manifest ->> 'model_version' = %(no_model)s) = %(training)s
            -- A night from before a market could have two products names none.
            AND coalesce(manifest ->> 'product', %(product)s) = %(product)s ORDER BY opened_at DESC LIMIT 1
            """,
            {"as_of_date": as_of_date, "no_model": NO_MODEL, "training": training, "product": settings.product},
        )
        found = cursor.fetchone()
    if not found:
        raise NoOpenNight(
            f"no night is open for {as_of_date}: run `python -m spark_jobs open_night --as-of-date {as_of_date} "
            f"--product {settings.product}{' --training' if training else ''}` first"
        )
    return _night(*found)


def night_of(settings: Settings, batch_id: str) -> Night:
    """The night that made a batch."""
    return _night(batch_id, *_written(settings, batch_id))


def manifest_of(settings: Settings, night: Night) -> dict[str, object]:
    """The manifest as it was written, with the silver versions that the night read."""
    manifest, silver_versions = _written(settings, night.batch_id)
    return manifest | {"silver_versions": silver_versions}


def _written(settings: Settings, batch_id: str) -> tuple[dict, dict[str, int]]:
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute("SELECT manifest, silver_versions FROM ops.run_manifest WHERE batch_id = %s", (batch_id,))
        return cursor.fetchone()


def _night(batch_id: str, manifest: Mapping, silver_versions: Mapping[str, int]) -> Night:
    return Night(
        batch_id, date.fromisoformat(manifest["as_of_date"]), manifest["model_version"], manifest["landed_files"], silver_versions,
        manifest.get("tops_up"), manifest.get("company_batch"),
    )


def pin_silver_versions(settings: Settings, night: Night, versions: Mapping[str, int]) -> None:
    """Fix the Delta versions that every later task of the night reads, once: the same night run again reads the same."""
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute(
            "UPDATE ops.run_manifest SET silver_versions = %s WHERE batch_id = %s AND silver_versions = '{}'",
            (Json(versions), night.batch_id),
        )


def record_ingested(settings: Settings, night: Night, counts: Mapping[str, tuple[int, int]]) -> None:
    """Write down, by silver table, how many rows the night found and how many of them went to quarantine."""
    with closing(connect(settings, "publisher")) as session, session, session.cursor() as cursor:
        cursor.execute("DELETE FROM ops.ingested WHERE batch_id = %s", (night.batch_id,))
        execute_values(
            cursor,
            "INSERT INTO ops.ingested (batch_id, table_name, landed_rows, quarantined_rows) VALUES %s",
            [(night.batch_id, table, landed, quarantined) for table, (landed, quarantined) in counts.items()],
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
