"""Whether a challenger becomes champion: a list of written rules, each with its value, limit and words.

All of them must hold. Adding a rule is adding a function to the list that ``promotion_rules`` returns. What training found
stands in tags of the version; ``same_champion``, ``not_older`` and ``approval`` must hold at the moment of the promotion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pandas as pd

from conf.settings import Fairness, Training
from models.metrics import CHANCE_QUANTILE, AucDifference

# A model whose mean probability is further from the default rate than this factor is not sane, whatever its ranking.
MAX_LEVEL_RATIO = 2.0
NOBODY = "none"
"""The tag judged_against of a model that was judged without a champion."""


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
        verdicts = {f"{_RULE}{rule.name}": f"{_verdict(rule.passed)}: {rule.message}" for rule in self.rules}
        return {"promotion": _verdict(self.promoted), "promotion_reason": self.reason, **verdicts}


_RULE = "rule."


def _verdict(passed: bool) -> str:
    return "passed" if passed else "failed"


def rules_from_tags(tags: Mapping[str, str]) -> list[RuleResult]:
    """The rules of ``Decision.tags``, in the order of their names."""
    said = {name.removeprefix(_RULE): tags[name].partition(": ") for name in sorted(tags) if name.startswith(_RULE)}
    return [RuleResult(name, verdict == _verdict(True), message) for name, (verdict, _, message) in said.items()]


def decide(rules: Sequence[RuleResult]) -> Decision:
    """Promoted when every rule passed."""
    return Decision(all(rule.passed for rule in rules), tuple(rules))


def promotion_rules(
    judged: Mapping[str, float],
    out_of_fold_auc: float,
    against_champion: AucDifference | None,
    score_psi: float | None,
    groups: pd.DataFrame,
    training: Training,
    fairness: Fairness,
) -> list[RuleResult]:
    """The rules of a challenger.

    judged is ``Judged.metrics``; against_champion its AUC there less the champion's and score_psi the population stability index
    of its scores there against the champion's, both None for a first model; groups a ``fairness_table``. With fewer than
    min_defaults defaults among them, the judging rows decide nothing about discrimination and calibration: the out-of-fold
    AUC then stands for a first model, and a challenger stays one.
    """
    enough = judged["defaults"] >= training.min_defaults
    basis = f"on the judging cohort ({judged['defaults']:.0f} defaults among {judged['rows']:.0f} rows)"
    too_few = f"the judging cohort has {judged['defaults']:.0f} defaults, fewer than {training.min_defaults}"
    rules = [_minimum_auc(judged["auc"], basis, training.min_auc) if enough
             else _minimum_auc(out_of_fold_auc, f"out of fold, as {too_few}", training.min_auc)]
    if enough:
        rules.append(_level(judged["mean_prob_default"], judged["default_rate"]))
        rules.append(_calibration_error(judged["ece"], judged["ece_by_chance"], training.max_calibration_error))
    if score_psi is not None:
        rules.append(_stability(score_psi, training.max_score_psi))
    if against_champion is not None:
        rules.append(
            _not_inferior(judged["auc"], against_champion, training.auc_margin) if enough
            else RuleResult("not_inferior_to_champion", False, f"{too_few}: too few to compare with the champion")
        )
    return rules + [_fair(attribute, groups[groups["attribute"] == attribute], fairness) for attribute in fairness.attributes]


def same_champion(judged_against: str, champion: str) -> RuleResult:
    """The rule that the champion is still the one that the challenger was judged against; both are versions or NOBODY."""
    return RuleResult(
        "judged_against_champion",
        judged_against == champion,
        f"judged against champion {judged_against}, champion now: {champion}" + ("" if judged_against == champion else "; train again"),
    )


def approval(approved_by: str | None) -> RuleResult:
    """The rule that a person has approved."""
    return RuleResult(
        "approval", bool(approved_by),
        f"approved by {approved_by}" if approved_by else
        "training.approval asks for a person, nobody has approved: in Airflow's task approve_credit, or by hand with --approved-by",
    )


def not_older(trained_on: date, champion_trained_on: date) -> RuleResult:
    """The rule that a training of a past day does not take over from a champion that knows more."""
    return RuleResult(
        "not_older_than_champion",
        trained_on >= champion_trained_on,
        f"trained on what was known on {trained_on}, the champion on {champion_trained_on}: an older one never takes over",
    )


def _minimum_auc(auc: float, basis: str, limit: float) -> RuleResult:
    return RuleResult("minimum_auc", auc >= limit, f"AUC {auc:.4f} {basis}, at least {limit:.3f} asked for (training.min_auc)")


def _level(mean_prob_default: float, default_rate: float) -> RuleResult:
    ratio = mean_prob_default / default_rate
    return RuleResult(
        "calibration_level",
        1 / MAX_LEVEL_RATIO <= ratio <= MAX_LEVEL_RATIO,
        f"mean probability {mean_prob_default:.4f} for a default rate of {default_rate:.4f}, "
        f"a factor of {ratio:.2f}, at most {MAX_LEVEL_RATIO:g} either way allowed",
    )


def _calibration_error(error: float, by_chance: float, limit: float) -> RuleResult:
    return RuleResult(
        "calibration_error",
        error <= max(limit, by_chance),
        f"expected calibration error {error:.4f} over ten bins; allowed are {limit:.4f} (training.max_calibration_error) or, where it is "
        f"more, {by_chance:.4f}, below which exact probabilities stay on these rows by chance in {CHANCE_QUANTILE:.0%} of draws",
    )


def _stability(index: float, limit: float) -> RuleResult:
    return RuleResult(
        "stability",
        index <= limit,
        f"population stability index {index:.4f} of its scores against the champion's on the same rows, at most {limit:.4f} allowed "
        "(training.max_score_psi)",
    )


def _not_inferior(auc: float, found: AucDifference, margin: float) -> RuleResult:
    return RuleResult(
        "not_inferior_to_champion",
        found.at_least >= -margin,
        f"AUC {auc:.4f} against the champion's {auc - found.difference:.4f} on the same rows: at 95% confidence the difference of "
        f"{found.difference:+.4f} is at least {found.at_least:+.4f}, at least {-margin:+.4f} asked for (training.auc_margin)",
    )


def _fair(attribute: str, groups: pd.DataFrame, fairness: Fairness) -> RuleResult:
    name, judged = f"fairness_{attribute}", groups[groups["is_judged"]]
    if len(judged) < 2:
        return RuleResult(
            name, True,
            f"{attribute} not judged: {len(judged)} groups known and as large as {fairness.min_rows} rows with "
            f"{fairness.min_defaults} defaults, two are needed",
        )
    worst, best = (judged.loc[judged["approval_rate"].agg(end)] for end in ("idxmin", "idxmax"))
    return RuleResult(
        name,
        bool(worst["approval_ratio"] >= fairness.min_ratio),
        f"with {fairness.approved_share:.0%} approved, {attribute} {worst['group']} is approved {worst['approval_ratio']:.3f} times as "
        f"often as {best['group']} ({worst['approval_rate']:.3f} of {worst['rows']} rows, {best['approval_rate']:.3f} of {best['rows']}), "
        f"at least {fairness.min_ratio:.3f} asked for (fairness.min_ratio)",
    )
