"""The document of a model version: what it is, how it was judged and what is not known of it, in one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pandas as pd

from conf.features import FEATURES
from conf.settings import Settings
from conf.source import Source
from models.credit_model import CreditModel, TrainingReport
from models.ensemble import INPUTS
from models.evaluation_page import WORDS, indeterminates_in_words
from models.fairness import section
from models.html import render, svg
from models.judged import Judged
from models.metrics import CHANCE_QUANTILE, AucDifference, auc_interval
from models.model_plots import calibration_plot, risk_group_plot, roc_plot
from models.promotion import Decision

FIGURES = {
    "auc": "AUC", "ks": "Kolmogorov-Smirnov distance", "brier": "Brier score", "log_loss": "log loss",
    "ece": "expected calibration error, ten bins", "ece_by_chance": f"the same by chance, {CHANCE_QUANTILE:.0%} of draws",
    "mean_prob_default": "mean probability of default", "default_rate": "default rate",
}


@dataclass(frozen=True)
class Facts:
    """What a training has found of one version.

    cohorts: month ends by part: training, calibration, judging; calibration: its rows and defaults; champion: the version in
    use at the time, None for none; groups: a ``fairness_table``.
    """

    settings: Settings
    source: Source
    version: str
    model: CreditModel
    report: TrainingReport
    cohorts: Mapping[str, Sequence[date]]
    calibration: tuple[int, int]
    judged: Judged
    champion: str | None
    against_champion: AucDifference | None
    groups: pd.DataFrame
    decision: Decision


def document(facts: Facts) -> str:
    """The document as HTML that needs no network; the same facts make the same text."""
    judged, report = facts.judged, facts.report
    outcomes = (judged.is_default, judged.watched)
    metrics = judged.metrics
    return render(
        _TEMPLATE, kind="Credit model", facts=facts, origin=facts.model.origin, name=facts.settings.model_name, training=facts.settings.training,
        horizon=horizon_in_words(facts.source), used=used_features(facts), protocol=protocol_in_words(facts), parts=_parts(facts, metrics),
        figures=[(words, metrics[key]) for key, words in FIGURES.items()], auc_interval=auc_interval(judged.prob["ensemble"], *outcomes),
        standings=_standings(judged), words=WORDS, report_groups=report.groups.to_dict("records"),
        fairness=section(facts.groups, facts.settings.fairness),
        parameters=facts.settings.training.model_dump(), inputs=len(INPUTS), limits=limits(facts),
        roc=svg(roc_plot(judged.prob, *outcomes, "Judging rows: ROC")),
        calibration=svg(calibration_plot(judged.prob["ensemble"], *outcomes, "Judging rows: calibration")),
        risk_groups=svg(risk_group_plot(report.groups)),
    )


def horizon_in_words(source: Source) -> str:
    """What the probability is a probability of."""
    if source.outcome == "default_within_horizon":
        return f"defaults within {source.horizon_months} months"
    return f"ever defaults on the loan, which is told as a horizon of {source.horizon_months} months"


def used_features(facts: Facts) -> dict[str, Any]:
    """How many features enter, which were left out on purpose and which have no value in the training rows."""
    left_out = facts.settings.training.left_out_features
    known = facts.model.preparation.known(facts.model.features)
    unknown = [name for name in facts.model.features if name not in known]
    return {"known": len(known), "declared": len(FEATURES), "left_out": left_out, "unknown": unknown}


def protocol_in_words(facts: Facts) -> str:
    """How training, calibration and judging are kept apart."""
    training = facts.settings.training
    months = (
        "Training, calibration and judging use successive cohorts, the newest to judge on."
        if training.judged_on == "later_months"
        else "Training, calibration and judging use the same months, as outcomes take years to show: it was not tested on later ones."
    )
    basis = {
        "calibration_cohort": "Calibrated on the calibration rows.",
        "out_of_fold": "Calibrated on out-of-fold outputs of the training rows, as the calibration rows hold too few defaults.",
    }
    return (
        f"{months} A party stands in one part only, by a hash of its identity: {training.calibration_share:.0%} of all parties serve "
        f"calibration, {training.judging_share:.0%} judging: while these shares stay as they are always the same ones, so that no champion has "
        "learned from them either. "
        f"The ensemble learns from outputs of sub-models that had not seen the row ({training.folds} folds by party). "
        f"{basis[facts.report.calibration_basis]} A row enters with what was known on its own day, its outcome as known on "
        f"{facts.model.origin.trained_on}; an outcome that has been watched in part counts in part"
        + (", and what a loan's term adds by its time at risk alone is taken as known." if any(facts.model.term_offset.log_shares) else ".")
        + (f" {indeterminates_in_words(days)}" if (days := facts.source.indeterminate_days) else "")
    )


def limits(facts: Facts) -> list[str]:
    """What was not tested, and for whom the figures do not speak."""
    said = [
        f"It was judged on the cohorts {months_in_words(facts.cohorts['judging'])} only, by defaults known on "
        f"{facts.model.origin.trained_on}: in another economic climate, after a change of product, price or credit policy, or in "
        "another market it has not been tested.",
        f"Its probability is that a borrower {horizon_in_words(facts.source)}. It says nothing beyond; money is valued with the lifetime "
        "hazard, which is not among the figures here.",
        "Outcomes exist only for those who were given a loan. For applicants like those whom the lender used to turn down, the figures "
        "are an extrapolation (no reject inference).",
        "Out of its population are borrowers who had defaulted already and those too thin to score: they get a reason, no score.",
        "Intervals take rows for independent draws. Rows of one party, and of one month, move together: the true intervals are wider.",
        "Approval is a cut-off made for the fairness report; nobody is approved or turned down by it. Groups are compared one attribute at "
        "a time, unknown members in no group. Features that stand in for an attribute were not looked for.",
        "Why a single borrower has a score is told by the reason codes beside it, not here. Attempts to deceive the model, and delays or "
        "gaps in the source's files other than those in the training rows, were not tested.",
    ]
    return said + judged_as_first(facts.champion, facts.against_champion)


def judged_as_first(champion: str | None, against_champion: AucDifference | None) -> list[str]:
    """That a version was judged as a first model, and why; empty where it was held against the champion."""
    if not champion:
        return ["It was judged as a first model: no champion was there to compare it with."]
    if against_champion is None:
        return [f"The champion, version {champion}, could not be loaded by this code: it was judged as a first model."]
    return []


def months_in_words(months: Sequence[date]) -> str:
    """Month ends, oldest first, as a range."""
    return f"{months[0]} to {months[-1]} ({len(months)})" if len(months) > 1 else ", ".join(map(str, months)) or "none"


def _parts(facts: Facts, metrics: Mapping[str, float]) -> list[dict[str, Any]]:
    counts = {
        "training": (facts.report.rows, facts.report.defaults), "calibration": facts.calibration,
        "judging": (metrics["rows"], metrics["defaults"]),
    }
    return [
        {"part": part, "rows": counts[part][0], "defaults": counts[part][1], "months": months_in_words(months)}
        for part, months in facts.cohorts.items()
    ]


def _standings(judged: Judged) -> list[dict[str, Any]]:
    """The AUC and its interval among applicants and among performing borrowers."""
    found = []
    for standing, value in judged.auc_by_standing().items():
        of = judged.standing == standing
        interval = auc_interval(judged.prob["ensemble"][of], judged.is_default[of], judged.watched[of])
        found.append(
            {"standing": standing, "rows": of.sum(), "defaults": judged.is_default[of].sum(), "auc": value, "interval": interval}
        )
    return found


# What the documents of all kinds of models share: of facts (settings, source, version, decision, judged, champion,
# against_champion), origin, kind, name, figures, auc_interval, limits and parameters.
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ name }}, version {{ facts.version }}</title><style>
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem;border-top:1px solid #d5dde3;padding-top:1rem}h3{font-size:1rem;margin:1.2rem 0 .3rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th{text-align:left;color:#52606d;font-weight:600}
td,th{padding:.3rem .6rem;border-bottom:1px solid #e4e9ed;vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap}tr.dim td{color:#7b8794}
.two{display:grid;grid-template-columns:1fr 1fr;gap:0 2.5rem}.two svg{width:100%;height:auto;margin-top:1rem}td:first-child{white-space:nowrap}
p.small{color:#52606d;font-size:.9rem}.passed{color:#14713d;font-weight:600}.failed{color:#b3261e;font-weight:600}
.verdict{border-left:4px solid #14713d;background:#eef6f1;padding:.6rem 1rem}.verdict.no{border-color:#b3261e;background:#fbefee}
li{margin-bottom:.35rem}code{font-size:.85rem;overflow-wrap:anywhere}
</style></head><body>
<h1>{{ kind }} {{ name }}, version {{ facts.version }}</h1>
<p class="small">Market: {{ facts.source.title }}. Trained on what was known on {{ origin.trained_on }}, code {{ origin.code_version[:12] }}.</p>
<p class="verdict{{ '' if facts.decision.promoted else ' no' }}">{% if facts.decision.promoted %}<b>Passed every rule of promotion.</b>
{% else %}<b>Stays a challenger:</b> {{ facts.decision.reason }}.{% endif %}
{% if facts.settings.training.approval %} A person's approval is asked for as well.{% endif %} Whether and since when it has been champion stands in the version's tags.</p>
"""
_WHAT_IT_IS = """
<h2>What it is</h2>
<p>For every borrower one probability that the borrower {{ horizon }}, calibrated, with score points and a risk group from 1 (the safest) to 5.
Three sub-models give log-odds, each from a block of features beside a context that all of them see: LightGBM over monthly repayments and income,
boosted trees over account behaviour, logistic regression over the credit record. K-Means parts borrowers into risk groups by context and log-odds. A
neural network of {{ inputs }} inputs (4-32-16-1, the mean of {{ training.ensemble_seeds }}) turns the four into one log-odds, beta calibration makes
it a probability. {{ used.known }} of {{ used.declared }} features enter.
{% if used.left_out %} Left out on purpose: {{ used.left_out|join(", ") }}; what leaving out gender and age costs, <code>make evaluate FULL=1</code> measures.{% endif %}
{% if used.unknown %} Without any value in the training rows: {{ used.unknown|join(", ") }}.{% endif %}</p>

<h2>What it was made from</h2>
<p>{{ protocol }}</p>
<table><tr><th>part</th><th>cohorts, month ends</th><th class="n">rows</th><th class="n">defaults</th></tr>
{% for part in parts %}<tr><td>{{ part.part }}</td><td>{{ part.months }}</td><td class="n">{{ part.rows|count }}</td><td class="n">{{ part.defaults|count }}</td></tr>
{% endfor %}</table>
"""
TABLES_AND_RULES = """
<p class="small">Delta table versions: {% for table, number in origin.table_versions|dictsort %}{{ table }} {{ number }}{{ "" if loop.last else ", " }}{% endfor %}.
Code: <code>{{ origin.code_version }}</code></p>

<h2>Rules of promotion</h2>
<table><tr><th>rule</th><th>verdict</th><th>found</th></tr>
{% for rule in facts.decision.rules %}<tr><td>{{ rule.name.replace("_", " ") }}</td>
<td class="{{ 'passed' if rule.passed else 'failed' }}">{{ "passed" if rule.passed else "failed" }}</td><td>{{ rule.message }}</td></tr>
{% endfor %}</table>

<h2>Figures on the judging rows</h2>
<div class="two"><div>
<table><tr><th>figure</th><th class="n">value</th><th class="n">95% interval</th></tr>
{% for words, value in figures %}<tr><td>{{ words }}</td><td class="n">{{ value|f4 }}</td>
<td class="n">{% if loop.first %}{{ auc_interval[0]|f4 }} – {{ auc_interval[1]|f4 }}{% endif %}</td></tr>
{% endfor %}
{% if facts.against_champion %}<tr><td>AUC less that of champion version {{ facts.champion }}</td><td class="n">{{ "{:+.4f}".format(facts.against_champion.difference) }}</td>
<td class="n">{{ "{:+.4f}".format(facts.against_champion.low) }} – {{ "{:+.4f}".format(facts.against_champion.high) }}</td></tr>{% endif %}</table>
</div><div>
"""
_JUDGED = """
<table><tr><th>AUC among</th><th class="n">rows</th><th class="n">defaults</th><th class="n">value</th><th class="n">95% interval</th></tr>
{% for row in standings %}<tr><td>{{ row.standing }}</td><td class="n">{{ row.rows|count }}</td><td class="n">{{ row.defaults|count }}</td><td class="n">{{ row.auc|f4 }}</td>
<td class="n">{{ row.interval[0]|f4 }} – {{ row.interval[1]|f4 }}</td></tr>
{% endfor %}</table>
<h3>AUC on training rows, out of fold</h3>
<table>{% for scorer, value in facts.report.out_of_fold_auc.items() %}<tr><td>{{ words.get(scorer, "risk group") }}</td><td class="n">{{ value|f4 }}</td></tr>
{% endfor %}</table>
</div></div>
<div class="two">{{ roc }}{{ calibration }}</div>

<h2>Risk groups, training rows</h2>
<div class="two"><div>
<table><tr><th>risk group</th><th class="n">rows as far as watched</th><th class="n">defaults</th><th class="n">default rate</th></tr>
{% for group in report_groups %}<tr><td>{{ group.risk_group }}</td><td class="n">{{ group.rows|count }}</td><td class="n">{{ group.defaults|count }}</td>
<td class="n">{{ (group.defaults / group.rows)|f4 }}</td></tr>
{% endfor %}</table></div>
{{ risk_groups }}</div>

<h2>Fairness, judging rows</h2>
{{ fairness }}

"""
LIMITS_AND_PARAMETERS = """
<h2>Known limits</h2>
<ul>{% for limit in limits %}<li>{{ limit }}</li>
{% endfor %}</ul>

<h2>Parameters</h2>
<table>{% for key, value in parameters.items() %}<tr><td>{{ key }}</td><td><code>{{ value }}</code></td></tr>
{% endfor %}</table>
</body></html>
"""
_TEMPLATE = HEAD + _WHAT_IT_IS + TABLES_AND_RULES + _JUDGED + LIMITS_AND_PARAMETERS
