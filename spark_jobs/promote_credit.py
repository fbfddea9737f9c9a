"""Lets the challenger of a training be champion where its rules, and a person who is asked, let it. Starts no JVM."""

from __future__ import annotations

from datetime import date

from conf.settings import Settings
from models.promotion import NOBODY, RuleResult, approval, decide, not_older, rules_from_tags, same_champion
from models.registry import (
    CHALLENGER,
    CHAMPION,
    Version,
    champion_version,
    find_version,
    make_champion,
    tag_version,
    trained_on,
    versions,
)
from spark_jobs.publication import who


class NoChallenger(LookupError):
    """The training of the as-of date has left no challenger."""


def run(settings: Settings, as_of_date: date, version: str | None = None, approved_by: str | None = None) -> None:
    """Make the challenger champion when every rule passes, those of its training and those that hold now.

    as_of_date is its training date; version, where given, the one that was approved; approved_by who approved it, which
    training.approval asks for. Where it is champion already, nothing changes. Raises NoChallenger, and NoChampion where a
    rule leaves the market without any: no night can be opened there.
    """
    champion = find_version(settings, CHAMPION) or NOBODY
    challenger = find_challenger(settings, as_of_date, version)
    if challenger.number == champion:
        print(f"model {settings.model_name} version {champion} is champion already")
        return
    rules = rules_now(settings, challenger)
    decision = decide([*rules, approval(approved_by)] if settings.training.approval else rules)
    tag_version(settings, challenger.number, decision.tags())
    if decision.promoted:
        make_champion(settings, challenger.number, f"promotion over {champion}, run by {who()}")
    place = "is the new champion" if decision.promoted else f"stays a challenger (champion: {champion})"
    print(f"model {settings.model_name} version {challenger.number} {place}: {decision.reason}")
    # A market without one is told so at once, not at its next night.
    champion_version(settings)


def find_challenger(settings: Settings, as_of_date: date, version: str | None = None) -> Version:
    """What the training of a day has registered: the challenger, or champion already; or this version.

    Raises NoChallenger where that is not of this day's training.
    """
    wanted = [version] if version else [find_version(settings, alias) for alias in (CHALLENGER, CHAMPION)]
    there = versions(settings)
    of_day = [one for one in there if one.number in wanted and one.tags.get("trained_on") == as_of_date.isoformat()]
    if not of_day:
        registered = "\n".join(map(str, there)) or "no version"
        raise NoChallenger(
            f"no {f'version {version}' if version else 'challenger'} of {settings.model_name} was trained on {as_of_date}: "
            f"run {settings.training_dag}; registered:\n{registered}"
        )
    return of_day[0]


def rules_now(settings: Settings, challenger: Version) -> list[RuleResult]:
    """What training found, and what the passing of time can change as it stands now; approval aside."""
    champion = find_version(settings, CHAMPION)
    now = [same_champion(challenger.tags["judged_against"], champion or NOBODY)]
    if champion:
        now.append(not_older(date.fromisoformat(challenger.tags["trained_on"]), trained_on(settings, champion)))
    names = {rule.name for rule in now} | {"approval"}
    return [rule for rule in rules_from_tags(challenger.tags) if rule.name not in names] + now
