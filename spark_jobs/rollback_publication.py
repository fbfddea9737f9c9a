"""Moves the publication back (or forth) to a batch that is still attached; what was done is recorded."""

from __future__ import annotations

from conf.settings import Settings
from spark_jobs.publication import rollback


def run(settings: Settings, batch_id: str | None) -> None:
    """Let readers read the batch again, until a later night is published.

    Raises PublicationRefused, listing the batches that are there, for one that is not, and for none.
    """
    before = rollback(settings, batch_id)
    print(f"readers read batch {batch_id} now (before: {before or 'nothing'})")
