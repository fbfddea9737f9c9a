"""What every training does with the model that it has fitted: hold it against the champion, and let it be the challenger."""

from __future__ import annotations

from collections.abc import Callable

from pyspark.errors import AnalysisException

from conf.settings import Settings
from models.credit_model import Origin
from models.judged import Judged
from models.promotion import NOBODY, Decision
from models.registry import CHALLENGER, MlflowException, set_alias, tag_version


def judged_champion(champion: str, judge: Callable[[], Judged]) -> Judged | None:
    """What judge finds of the champion; null, and said, where this code cannot load it or score with it.

    The challenger is then judged as a first model is: a champion that no night can use must not keep its place.
    """
    try:
        return judge()
    except (ValueError, FileNotFoundError, MlflowException, AnalysisException) as problem:
        print(f"champion version {champion} cannot be judged, so the challenger is judged as a first model: {problem}")
        return None


def let_challenge(settings: Settings, version: str, champion: str | None, origin: Origin, decision: Decision) -> None:
    """Write the decision down as tags, let the version be the challenger, and print it."""
    tag_version(settings, version, decision.tags() | {"trained_on": origin.trained_on, "judged_against": champion or NOBODY})
    set_alias(settings, CHALLENGER, version)
    said = "passed every rule" if decision.promoted else "failed"
    print(f"model {settings.model_name} version {version} is the challenger (champion: {champion or NOBODY}), {said}: {decision.reason}")
