"""Whether a challenger becomes champion: a list of written rules, each with its value, limit and words.

All of them must hold. Adding a rule is adding a function to the list that ``promotion_rules`` returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from conf.settings import Training

# A model whose mean probability is further from the default rate than this factor is not sane, whatever its ranking.
MAX_LEVEL_RATIO = 2.0


@dataclass(frozen=True)
class RuleResult:
    """What one rule found; message says it in words, with value and limit."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Decision:
    """Whether the challenger is promoted, and why."""

    promoted: bool
    rules: tuple[RuleResult, ...]

    @property
    def reason(self) -> str:
        """One sentence per rule that decides: those that failed, else all."""
        deciding = [rule for rule in self.rules if not rule.passed] or self.rules
        return "; ".join(rule.message for rule in deciding)

    def tags(self) -> dict[str, str]:
        """The decision as MLflow tags: one per rule, and the whole."""
        verdicts = {f"rule.{rule.name}": f"{'passed' if rule.passed else 'failed'}: {rule.message}" for rule in self.rules}
        return {"promotion": "champion" if self.promoted else "challenger", "promotion_reason": self.reason, **verdicts}


def decide(rules: Sequence[RuleResult]) -> Decision:
    """Promoted when every rule passed."""
    return Decision(all(rule.passed for rule in rules), tuple(rules))


def promotion_rules(
    judged: Mapping[str, float],
    out_of_fold_auc: float,
    champion_judged: Mapping[str, float] | None,
    training: Training,
) -> list[RuleResult]:
    """The rules of a challenger.

    judged and champion_judged are ``score_metrics`` on the same judging rows; champion_judged is None for a first
    model. With fewer than min_defaults defaults among them, the judging cohort decides nothing about discrimination:
    the out-of-fold AUC then stands for a first model, and a challenger stays one.
    """
    enough = judged["defaults"] >= training.min_defaults
    basis = f"on the judging cohort ({judged['defaults']:.0f} defaults among {judged['rows']:.0f} rows)"
    too_few = f"the judging cohort has {judged['defaults']:.0f} defaults, fewer than {training.min_defaults}"
    rules = [_minimum_auc(judged["auc"], basis, training.min_auc) if enough
             else _minimum_auc(out_of_fold_auc, f"out of fold, as {too_few}", training.min_auc)]
    if enough:
        rules.append(_level(judged["mean_prob_default"], judged["default_rate"]))
    if champion_judged is not None:
        rules.append(
            _not_below_champion(judged["auc"], champion_judged["auc"], training.auc_margin) if enough
            else RuleResult("not_below_champion", False, f"{too_few}: too few to compare with the champion")
        )
    return rules


def not_older(trained_on: date, champion_trained_on: date) -> RuleResult:
    """The rule that a training of a past day does not take over from a champion that knows more."""
    return RuleResult(
        "not_older_than_champion",
        trained_on >= champion_trained_on,
        f"trained on what was known on {trained_on}, the champion on {champion_trained_on}: an older one never takes over",
    )


def _minimum_auc(auc: float, basis: str, limit: float) -> RuleResult:
    return RuleResult("minimum_auc", auc >= limit, f"AUC {auc:.4f} {basis}, at least {limit:.3f} asked for")


def _level(mean_prob_default: float, default_rate: float) -> RuleResult:
    ratio = mean_prob_default / default_rate
    return RuleResult(
        "calibration_level",
        1 / MAX_LEVEL_RATIO <= ratio <= MAX_LEVEL_RATIO,
        f"mean probability {mean_prob_default:.4f} for a default rate of {default_rate:.4f}, "
        f"a factor of {ratio:.2f}, at most {MAX_LEVEL_RATIO:g} either way allowed",
    )


def _not_below_champion(auc: float, champion_auc: float, margin: float) -> RuleResult:
    return RuleResult(
        "not_below_champion",
        auc >= champion_auc - margin,
        f"AUC {auc:.4f} against the champion's {champion_auc:.4f} on the same rows, a margin of {margin:.4f} allowed",
    )
