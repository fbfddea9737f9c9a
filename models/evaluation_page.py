"""The page of an evaluation: what a risk committee reads, in one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import pandas as pd
from markupsafe import Markup

from conf.settings import Fairness
from models import attainable
from models.fairness import section
from models.html import render, svg
from models.model_plots import calibration_plot, roc_plot

# Drawn in this order, the last one strongest.
WORDS = {
    "logistic": "peer: logistic regression", "scorecard": "peer: OptBinning scorecard",
    "lightgbm": "peer: LightGBM, all features", "altman_z": "peer: Altman Z''", "catboost": "peer: CatBoost, all features",
    "timeseries": "sub-model: time series", "behavior": "sub-model: behaviour", "record": "sub-model: credit record",
    "without_gender_and_age": "ensemble without gender and age", "ensemble": "ensemble (published)",
}


def plots(rows: pd.DataFrame, unfitted: Collection[str]) -> list[Markup]:
    """ROC curves of all scorers and the calibration of the ensemble, from a data set's predictions; of repeats, the first."""
    of_repeat = ", first repeat" if rows["repeat"].nunique() > 1 else ""
    rows = rows[rows["repeat"] == 1]
    is_default = rows["is_default"].to_numpy(dtype=float)
    watched = rows["watched_share"].to_numpy()
    scores = {name: rows[name].to_numpy(dtype=float) for name in WORDS if name in rows and name not in unfitted}
    return [
        svg(roc_plot(scores, is_default, watched, f"ROC{of_repeat}")),
        svg(calibration_plot(scores["ensemble"], is_default, watched, f"Calibration{of_repeat}")),
    ]


def protocol_in_words(protocol: Mapping[str, Any]) -> str:
    """How a data set was tested, in sentences."""
    days = protocol.get("indeterminate_days")
    return " ".join([
        *([_outcome_in_words(protocol)] if "outcome" in protocol else []),
        _split_in_words(protocol),
        *([f"{indeterminates_in_words(days)} Peers learn of defaults alone."] if days else []),
        *([_drawn_in_words(drawn)] if (drawn := protocol.get("drawn")) else []),
    ])


def _outcome_in_words(protocol: Mapping[str, Any]) -> str:
    months = protocol["horizon_months"]
    within = f"a default within {months} month{'' if months == 1 else 's'}"
    what = "whether the loan ever defaults" if protocol["outcome"] == "default_ever" else within
    blocks = ", ".join(block.replace("_", " ") for block in protocol["blocks"])
    return f"The outcome is {what}; features are of the blocks {blocks}."


def _drawn_in_words(drawn: Mapping[str, Any]) -> str:
    return (
        f"Drawn are {drawn['borrowers']:,} borrowers at a time over {drawn['history_months']} months; {drawn['training_cohorts']} cohorts, "
        f"{drawn['cohort_step_months']} months apart, train. As for all borrowers here, calibration is on training rows out of fold; a market "
        "whose settings keep cohorts to calibrate and judge on learns from less."
    )


def indeterminates_in_words(days: int) -> str:
    """What sub-models learn beside defaults, where the source's mapping says indeterminate_days."""
    return f"To the sub-models someone who was {days} days late within the horizon, without a default, is half a default and half none."


def _split_in_words(protocol: Mapping[str, Any]) -> str:
    if protocol["protocol"] == "cross_validation":
        repeated = (
            f" A small data set, where much hangs on how rows fall into folds: they are drawn {protocol['repeats']} times, and figures are "
            "means of what each repeat's predictions give. Repeats add no defaults: intervals and tests take the repeats' AUCs as of the "
            "same rows (their DeLong covariance)."
        )
        return (
            f"{protocol['folds']}-fold cross-validation, stratified by outcome, parties kept together, seed {protocol['seed']}. "
            "The whole stack is trained inside each training part, sub-model outputs out of fold; the figures are of all predictions pooled."
            f"{repeated if protocol['repeats'] > 1 else ''}"
        )
    if "recent_years" in protocol:
        return (
            f"Trained and calibrated on what was knowable on {protocol['trained_on']}: filings of the {protocol['recent_years']} years before "
            f"calibrate, earlier ones train. Tested on filings of {protocol['tested_from']} to {protocol['tested_until']}; outcomes as known on "
            f"{protocol['known_on']}. The outcome is distress within a year of the filing."
        )
    return (
        f"Trained on what was knowable on {protocol['trained_on']}, outcomes that were open then counting as far as their risk had been "
        f"watched; tested on rows of {protocol['tested_from']} to {protocol['tested_until']}"
        f"{', trained and tested on loans within credit policy only' if protocol['within_policy_only'] else ''}; outcomes as known on {protocol['known_on']}."
    )


def page(data_sets: Mapping[str, tuple[str, Mapping[str, Any], pd.DataFrame]], made_at: datetime) -> str:
    """The page; data_sets gives for each name its title, its findings as in evaluation.json, and its predictions."""
    shown = [
        {
            "name": name, "title": title, "found": found, "protocol": protocol_in_words(found["protocol"]),
            "scorers": _scorers(found), "plots": plots(rows, found["unfitted_peers"]), **_best(found), "forward_scorers": _forward_scorers(found),
            "better": [name for name, (_, _, high) in found["auc_difference"].items() if high < 0],
            "fairness": section(pd.DataFrame(found["fairness"]["groups"]), Fairness(**found["fairness"]["limits"])) if found["fairness"] else None,
            "attainable": attainable.section(rows, found["attainable"]) if "attainable" in found else None,
        }
        for name, (title, found, rows) in data_sets.items()
    ]
    return render(_TEMPLATE, shown=shown, words=WORDS, made_at=f"{made_at:%Y-%m-%d %H:%M} UTC")


def _scorers(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per scorer, the ensemble first; what a scorer has no figure for is null."""
    own = {name: found[name] for name in ("auc", "ks", "brier", "log_loss", "ece")}
    rows = {"ensemble": own, **found["left_out"], **found["sub_models"], **found["peers"], **found["single_features"]}
    return [
        {"name": name, **{key: rows[name].get(key) for key in own}, "difference": found["auc_difference"].get(name), "p": found["delong_p"].get(name),
         "out_of_fold": found["out_of_fold_auc"].get(name), "within": [by_months["auc"].get(name) for by_months in found["within_months"].values()]}
        for name in rows
    ]


def _forward_scorers(found: Mapping[str, Any]) -> list[str]:
    """The scorers of the walk-forward, in order; none where no year has an AUC."""
    years = found["walk_forward"]["years"] if found["walk_forward"] else []
    return list(next((year["auc"] for year in years if year["auc"]), {}))


def _best(found: Mapping[str, Any]) -> dict[str, Any]:
    if not found["peers"]:
        return {"peer": None}
    peer = max(found["peers"], key=lambda name: found["peers"][name]["auc"])
    return {"peer": peer, "peer_auc": found["peers"][peer]["auc"], "difference": found["auc_difference"][peer], "p": found["delong_p"][peer]}


_TEMPLATE = """{% macro difference(ends) %}{{ "{:+.4f}".format(ends[1]) }} [{{ "{:+.4f}".format(ends[0]) }}, {{ "{:+.4f}".format(ends[2]) }}]{% endmacro %}
{% macro fine(ends) %}{{ "{:+.5f}".format(ends[1]) }} [{{ "{:+.5f}".format(ends[0]) }}, {{ "{:+.5f}".format(ends[2]) }}]{% endmacro %}
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>MosaicLoan: evaluation</title><style>
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem;border-top:1px solid #d5dde3;padding-top:1rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th{text-align:left;color:#52606d;font-weight:600}
td,th{padding:.3rem .6rem;border-bottom:1px solid #e4e9ed}td.n,th.n{text-align:right}tr.own{background:#eef5f8;font-weight:600}
.plots{display:flex;flex-wrap:wrap;gap:1rem}.plots svg{width:500px;height:auto}.small{color:#52606d;font-size:.9rem}
</style></head><body>
<h1>Evaluation of the models</h1>
<p class="small">Made {{ made_at }}. AUC differences are paired on the same rows (DeLong 1988), intervals 95%.
Peers learn from the same rows, folds, features and weights, and have the same offset for a loan's term. ECE: expected calibration error over ten bins.</p>
<table><tr><th>data set</th><th class="n">rows</th><th class="n">defaults</th><th class="n">AUC</th><th class="n">interval</th>
<th>best peer</th><th class="n">its AUC</th><th class="n">ensemble less peer</th><th class="n">p</th><th class="n">ECE</th></tr>
{% for one in shown %}<tr><td><a href="#{{ one.name }}">{{ one.name }}</a></td><td class="n">{{ "{:,.0f}".format(one.found.rows) }}</td>
<td class="n">{{ "{:,.0f}".format(one.found.defaults) }}</td><td class="n">{{ one.found.auc|f4 }}</td>
<td class="n">{{ one.found.auc_interval[0]|f4 }} – {{ one.found.auc_interval[1]|f4 }}</td>{% if one.peer %}<td>{{ words[one.peer] }}</td><td class="n">{{ one.peer_auc|f4 }}</td>
<td class="n">{{ difference(one.difference) }}</td>
<td class="n">{{ "{:.2g}".format(one.p) }}</td>{% else %}<td colspan="4">none could be fitted</td>{% endif %}<td class="n">{{ one.found.ece|f4 }}</td></tr>
{% endfor %}</table>
{% for one in shown %}
{% set of_repeat = ", first repeat" if one.found.protocol.repeats and one.found.protocol.repeats > 1 else "" %}
<h2 id="{{ one.name }}">{{ one.title }}</h2>
<p>{{ one.protocol }} <span class="small">Code {{ one.found.protocol.code_version[:12] }}.</span></p>
<p>Mean probability {{ one.found.mean_prob_default|f4 }} for a default rate of {{ one.found.default_rate|f4 }}.</p>
{% for name, why in one.found.unfitted_peers.items() %}<p>Left out, as it could not be fitted: {{ words.get(name, name) }} ({{ why }}).</p>
{% endfor %}
<table><tr><th>scorer</th><th class="n">AUC</th><th class="n">AUC out of fold</th><th class="n">KS</th><th class="n">Brier</th><th class="n">log loss</th><th class="n">ECE</th>
<th class="n">ensemble less this</th><th class="n">p</th>{% for months in one.found.within_months %}<th class="n">AUC, {{ months }} months</th>{% endfor %}</tr>
{% for row in one.scorers %}<tr{% if row.name == "ensemble" %} class="own"{% endif %}><td>{{ words.get(row.name, row.name) }}</td><td class="n">{{ row.auc|f4 }}</td>
<td class="n">{{ row.out_of_fold|f4 }}</td><td class="n">{{ row.ks|f4 }}</td><td class="n">{{ row.brier|f4 }}</td><td class="n">{{ row.log_loss|f4 }}</td><td class="n">{{ row.ece|f4 }}</td>
<td class="n">{% if row.difference %}{{ difference(row.difference) }}{% endif %}</td>
<td class="n">{% if row.p is not none %}{{ "{:.2g}".format(row.p) }}{% endif %}</td>{% for area in row.within %}<td class="n">{{ area|f4 }}</td>{% endfor %}</tr>
{% endfor %}</table>
{% if one.found.left_out and of_repeat %}<p class="small">What is without gender and age is of the first repeat, and held against the ensemble of that.</p>{% endif %}
<p class="small">AUC out of fold: on the rows that train, each told by sub-models that have not seen its party.</p>
{% if one.better %}<p><b>The ensemble is below {% for name in one.better %}{{ words.get(name, name) }}{{ "" if loop.last else ", " }}{% endfor %}</b>, outside the paired interval.
{% if one.better|select("in", one.found.sub_models)|list %}Its network trusts each sub-model as far as that ranks training rows out of fold. Where tested rows are ranked in another order than
these, or defaults are too few to tell sub-models apart, it trusts the wrong ones: the two columns of AUCs, side by side, show how far.
{% elif one.better|select("in", one.found.peers)|list %}A peer learns from all features at once; a sub-model from those of its own block and the shared ones, and the network from three such
scores and a risk group.{% endif %}</p>{% endif %}
{% if one.found.loss_difference %}<table><tr><th>the ensemble less</th><th class="n">Brier</th><th class="n">log loss</th></tr>
{% for name, losses in one.found.loss_difference.items() %}<tr><td>{{ words.get(name, name) }}</td><td class="n">{{ fine(losses.brier) }}</td>
<td class="n">{{ fine(losses.log_loss) }}</td></tr>
{% endfor %}</table>
<p class="small">Paired on the same rows; lower is better.</p>{% endif %}
{% with reasons = one.found.reasons %}{% if reasons and reasons.rows %}<p>Reasons: of {{ reasons.rows|count }} tested rows, {{ reasons.hold|percent }} move back as their first
reason says when its features are taken from other rows (the mean of several); the other {{ (1 - reasons.hold)|percent }} do not.</p>{% endif %}{% endwith %}
{% for months, found in one.found.within_months.items() %}
<p>AUC, {{ months }} months: the same scores held against default within {{ months }} months instead, {{ found.defaults|count }} of {{ found.rows|count }} rows.
{% if found.auc %}AUC of the ensemble {{ found.auc.ensemble|f4 }} ({{ found.auc_interval.ensemble[0]|f4 }} – {{ found.auc_interval.ensemble[1]|f4 }}){% if one.peer %}, less that of
{{ words[one.peer]|replace("peer: ", "") }} {{ difference(found.auc_difference[one.peer]) }}{% endif %}.{% else %}Too few for an AUC.{% endif %}</p>
{% endfor %}
<div class="plots">{% for plot in one.plots %}{{ plot }}{% endfor %}</div>
{% if one.attainable %}<h3>Against what is attainable</h3>
{{ one.attainable }}
{% endif %}
{% if one.found.walk_forward %}{% set forward = one.found.walk_forward %}
<h3>Walk-forward</h3>
<p>Trained anew at the start of each period on what was knowable then, and tested on the period's rows: AUC of each scorer, of the first with its
interval, and the mean probability beside the share that defaulted. Highlighted: periods pooled.</p>
<table><tr><th>period</th><th>trained on</th><th class="n">rows</th><th class="n">defaults</th><th class="n">told</th><th class="n">came</th>{% for scorer in one.forward_scorers %}<th class="n">{{ words.get(scorer, scorer) }}</th>
{% if loop.first %}<th class="n">interval</th>{% endif %}{% endfor %}</tr>
{% for row in forward.years + forward.periods %}<tr{% if not row.trained_on %} class="own"{% endif %}><td>{{ row.period }}</td><td>{{ row.trained_on or "each of its periods" }}</td>
<td class="n">{{ row.rows|count }}</td><td class="n">{{ row.defaults|count }}</td><td class="n">{{ row.mean_prob_default|f4 }}</td>
<td class="n">{{ (row.defaults / row.rows)|f4 }}</td>{% for scorer in one.forward_scorers %}<td class="n">{{ row.auc.get(scorer)|f4 }}</td>
{% if loop.first %}<td class="n">{% if row.auc %}{{ row.auc_interval[scorer][0]|f4 }} – {{ row.auc_interval[scorer][1]|f4 }}{% endif %}</td>{% endif %}{% endfor %}</tr>
{% endfor %}</table>
{% for quarter, why in forward.left_out.items() %}<p>{{ quarter }} is left out: {{ why }}.</p>
{% endfor %}
{% endif %}
{% if one.found.auc_loss %}{% set loss = one.found.auc_loss %}
<h3>AUC loss against cross-entropy{{ of_repeat }}</h3>
<p>A single network on the same sub-model outputs, learnt with the AUC loss (weight {{ one.found.protocol.auc_weight }}) and with cross-entropy alone, {{ loss.seeds }} seeds each:
mean and, in brackets, standard deviation over seeds. The interval is that of the mean paired difference over seeds; that other rows would be tested is not in it.</p>
<table><tr><th>metric</th><th class="n">AUC loss</th><th class="n">cross-entropy</th><th class="n">difference</th><th class="n">interval</th></tr>
{% for metric, label in (("auc", "AUC, higher is better"), ("log_loss", "log loss, lower is better"), ("brier", "Brier, lower is better")) %}
<tr><td>{{ label }}</td>{% for side in (loss.auc_loss[metric], loss.cross_entropy[metric]) %}<td class="n">{{ side.mean|f4 }} ({{ side.sd|f4 }})</td>{% endfor %}
<td class="n">{{ "{:+.5f}".format(loss.difference[metric].mean) }}</td>
<td class="n">{{ "{:+.5f}".format(loss.difference[metric].interval[0]) }} to {{ "{:+.5f}".format(loss.difference[metric].interval[1]) }}</td></tr>
{% endfor %}</table>
{% endif %}
{% if one.found.by_year %}<h3>What was told of each year, and what came</h3>
<table><tr><th>filings of</th><th class="n">rows</th><th class="n">defaults</th><th class="n">told</th><th class="n">came</th></tr>
{% for row in one.found.by_year %}<tr><td>{{ row.year }}</td><td class="n">{{ row.rows|count }}</td><td class="n">{{ row.defaults|count }}</td>
<td class="n">{{ row.mean_prob_default|f4 }}</td><td class="n">{{ (row.defaults / row.rows)|f4 }}</td></tr>
{% endfor %}</table>
{% endif %}
{% if one.found.unseen %}<h3>Parties that no training has seen</h3>
<p>{{ one.found.unseen.defaults|count }} of {{ one.found.unseen.rows|count }} tested rows default.</p>
<table><tr><th>scorer</th><th class="n">AUC</th><th class="n">interval</th></tr>
{% for scorer, area in one.found.unseen.auc.items() %}<tr{% if scorer == "ensemble" %} class="own"{% endif %}><td>{{ words.get(scorer, scorer) }}</td><td class="n">{{ area|f4 }}</td>
<td class="n">{{ one.found.unseen.auc_interval[scorer][0]|f4 }} – {{ one.found.unseen.auc_interval[scorer][1]|f4 }}</td></tr>
{% endfor %}</table>
{% endif %}
{% if one.fairness %}<h3>Groups{{ of_repeat }}</h3>
{{ one.fairness }}
{% endif %}
{% endfor %}
</body></html>
"""
