"""Tells what the rules say of a training's challenger, for a person who is asked to approve it. Starts no JVM."""

from __future__ import annotations

import json
from datetime import date

from conf.settings import Settings
from models.promotion import decide
from models.registry import champion_version
from spark_jobs.promote_credit import find_challenger, rules_now
from spark_jobs.skipped import SKIPPED


def run(settings: Settings, as_of_date: date) -> None:
    """Print the challenger's rules; the last line is JSON: version and rules, in Markdown.

    as_of_date is the training date. Rules that hold now are told beside those of the training. Raises NoChallenger; where a
    rule failed nobody is asked, and the process ends with SKIPPED, or NoChampion where the market then has none.
    """
    challenger = find_challenger(settings, as_of_date)
    decision = decide(rules_now(settings, challenger))
    lines = [f"- {'passed' if rule.passed else '**failed**'}: {rule.message}" for rule in decision.rules]
    print("\n".join(lines))
    if not decision.promoted:
        print(f"model {settings.model_name} version {challenger.number} stays a challenger: {decision.reason}")
        # A market without one is told so at once, not at its next night.
        champion_version(settings)
        raise SystemExit(SKIPPED)
    print(json.dumps({"version": challenger.number, "rules": "\n".join(lines)}))
