"""Telling someone that a task has failed for good."""

from __future__ import annotations

import json
import logging
import urllib.request
from typing import Any

from conf.settings import load_settings

log = logging.getLogger(__name__)


def failure_text(context: dict[str, Any]) -> str:
    """One line on what failed, when, and why."""
    task = context["ti"]
    reason = str(context.get("exception") or "no reason given").strip().splitlines()
    return f"{task.dag_id}.{task.task_id} failed in run {task.run_id} (attempt {task.try_number}): {reason[-1] if reason else ''}"


def notify_failure(context: dict[str, Any]) -> None:
    """Post the failure as ``{"text": …}`` to the notify_url, which chat systems' web hooks take; without one, log it.

    A hook that cannot be reached is logged: the task's own failure stays the news.
    """
    text = failure_text(context)
    hook = load_settings().notify_url
    if hook is None:
        log.error("%s (MOSAIC_NOTIFY_URL is not set: told nobody)", text)
        return
    request = urllib.request.Request(
        hook.get_secret_value(), json.dumps({"text": text}).encode(), {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=10).close()
    except OSError as error:
        log.error("%s (told nobody: %s)", text, error)
