"""Lets an earlier version of the credit model be champion again; when, and from which, stands in its tags. Starts no JVM."""

from __future__ import annotations

from conf.settings import Settings
from models.registry import CHAMPION, MlflowException, find_version, make_champion, refuse_other_format, versions
from spark_jobs.publication import who

PREVIOUS = "previous"


class NoWayBack(LookupError):
    """There is no such version to go back to; the message lists those that there are."""


def run(settings: Settings, version: str) -> None:
    """Make a version that was champion before champion again, for the nights opened from now on.

    version is a number, or previous: the last champion before the one in use. Raises NoWayBack for any other, such as one that
    was never champion: promote_credit is its way; and for one that no night could load.
    """
    before = find_version(settings, CHAMPION)
    served = [one for one in versions(settings) if one.champion_since and one.number != before]
    if not served:
        now = f"version {before} is the only one that was ever champion" if before else "no version was ever champion"
        raise NoWayBack(f"model {settings.model_name}: nothing to go back to, {now}")
    newest_first = sorted(served, key=lambda one: one.champion_since, reverse=True)
    chosen = next((one for one in newest_first if version in (one.number, PREVIOUS)), None)
    if chosen is None:
        there = "\n".join(map(str, newest_first))
        raise NoWayBack(f"model {settings.model_name}: no way back to {version} (champion: {before}); there is:\n{there}")
    try:
        refuse_other_format(settings, chosen.number)
    except (ValueError, FileNotFoundError, MlflowException) as problem:
        raise NoWayBack(
            f"model {settings.model_name}: no way back to version {chosen.number}, which this code cannot load "
            f"(champion stays: {before}): {problem}"
        ) from problem
    make_champion(settings, chosen.number, f"rollback from {before}, run by {who()}")
    print(f"model {settings.model_name} version {chosen.number} is champion now (before: version {before})")
