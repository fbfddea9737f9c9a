"""The monitoring page: what a risk analyst looks at in the morning, in one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
from markupsafe import Markup

from conf.company_features import COMPANY_FEATURES
from conf.features import FEATURES
from conf.settings import Drift, Product
from models.drift import Bins, ColumnDrift, DriftVerdict
from models.html import render, svg
from models.model_plots import history_plot, shares_plot, vintage_plot

_MEANINGS = {feature.name: feature.meaning for feature in (*FEATURES, *COMPANY_FEATURES)}
_MODEL = {"lending": "credit model", "company": "company model"}
_SCORED = {"lending": "borrowers", "company": "companies"}
_REFERENCE = {"lending": "rows that it was trained on", "company": "filings that calibrated it"}


@dataclass(frozen=True)
class Monitored:
    """What the page shows, of one night and the nights before it.

    columns: the drift of the score, the column score_name, and of every feature. history: one row per night, oldest first, the
    last one this night's: as_of_date, the score's psi, and of borrowers the columns of expected_performance. score_counts: the
    night's rows per bin of score_bins, nulls last. vintages: cumulative incidence of default by months on book, per quarter of
    origination; of companies, who have neither, None.
    """

    market: str
    product: Product
    as_of_date: date
    model_version: str
    trained_on: str
    horizon_months: int
    limits: Drift
    verdict: DriftVerdict
    columns: Sequence[ColumnDrift]
    score_name: str
    history: pd.DataFrame
    score_bins: Bins
    score_counts: np.ndarray
    vintages: Mapping[date, np.ndarray] | None


def page(shown: Monitored) -> str:
    """The page; the same rows make the same bytes."""
    by_psi = sorted(shown.columns, key=lambda column: (-column.psi, column.column_name))
    (score,) = (column for column in by_psi if column.column_name == shown.score_name)
    features = [column for column in by_psi if column is not score]
    return render(
        _TEMPLATE, shown=shown, limits=shown.limits, score=score, meanings=_MEANINGS,
        moved=[column for column in features if column.level != "stable"],
        stable=[column for column in features if column.level == "stable"],
        # Bars end at twice the limit.
        bar=lambda psi: f"{min(psi / (2 * shown.limits.shifted_psi), 1) * 100 if shown.limits.shifted_psi else 100:.0f}",
        tonight=shown.history.iloc[-1], drift_plots=_drift_plots(shown), model=_MODEL[shown.product], scored=_SCORED[shown.product],
        reference=_REFERENCE[shown.product], expected_plots=[] if shown.vintages is None else _expected_plots(shown),
        vintages=svg(vintage_plot(shown.vintages, "Defaults by quarter of origination")) if shown.vintages else None,
    )


def _drift_plots(shown: Monitored) -> list[Markup]:
    limits = {"watch": shown.limits.watch_psi, "shifted": shown.limits.shifted_psi}
    then, now = np.array(shown.score_bins.shares[:-1]), shown.score_counts[:-1] / shown.score_counts.sum()
    return [
        svg(history_plot(*_series(shown.history, "psi"), "Score drift, night by night", f"PSI of {shown.score_name}", limits)),
        svg(shares_plot(then, now, shown.score_bins.edges, "Scores in tenths of the reference", shown.score_name)),
    ]


def _expected_plots(shown: Monitored) -> list[Markup]:
    within = f"share within {shown.horizon_months} months"
    return [
        svg(history_plot(*_series(shown.history, "expected_auc"), "Expected AUC", "AUC")),
        svg(history_plot(*_series(shown.history, "expected_default_rate"), "Expected default rate", within)),
    ]


def _series(history: pd.DataFrame, column: str) -> tuple[list[date], list[float]]:
    return history["as_of_date"].tolist(), history[column].tolist()


_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>MosaicLoan: monitoring</title><style>
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:1080px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem;border-top:1px solid #d5dde3;padding-top:1rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th{text-align:left;color:#52606d;font-weight:600}
td,th{padding:.25rem .6rem;border-bottom:1px solid #e4e9ed;vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap}
.plots{display:flex;flex-wrap:wrap;gap:1rem}.plots svg{width:520px;height:auto}
.wide svg{width:100%;height:auto}p.small,td.small{color:#52606d;font-size:.9rem}
.verdict{border-left:5px solid #2f855a;background:#f0f7f3;padding:.6rem 1rem;margin:1rem 0}
.verdict.asks{border-color:#b42318;background:#fdf1f0}.verdict.too_few_rows{border-color:#9fb3c1;background:#f4f6f8}
.bar{background:#e4e9ed;width:110px;height:.6rem;display:inline-block}.bar i{display:block;height:100%;background:#2f855a}
.watch i{background:#b7791f}.shifted i{background:#b42318}.too_few_rows i{background:#9fb3c1}
td.watch{color:#b7791f;font-weight:600}td.shifted{color:#b42318;font-weight:600}summary{cursor:pointer;color:#0b6e99;margin-top:.8rem}
</style></head><body>
{% macro rows(features) %}
<table><tr><th>feature</th><th style="width:38%">what it is</th><th class="n">PSI</th><th></th><th class="n">unknown in reference</th>
<th class="n">unknown now</th><th>level</th></tr>
{% for row in features %}<tr><td>{{ row.column_name }}</td><td class="small">{{ meanings[row.column_name] }}</td>
<td class="n">{{ "%.3f"|format(row.psi) }}</td>
<td class="{{ row.level }}"><span class="bar"><i style="width:{{ bar(row.psi) }}%"></i></span></td>
<td class="n">{{ row.training_null_share|percent }}</td>
<td class="n">{{ row.null_share|percent }}</td><td class="{{ row.level }}">{{ row.level.replace("_", " ") }}</td></tr>
{% endfor %}</table>
{% endmacro %}
<h1>Monitoring of the {{ model }}</h1>
<p class="small">Market {{ shown.market }}, night of {{ shown.as_of_date }}, {{ "{:,}".format(score.row_count) }} {{ scored }} of the kind that it learnt from,
scored by model version {{ shown.model_version }}, held against the {{ reference }} ({{ shown.trained_on }}).</p>
<p class="verdict {{ "asks" if shown.verdict.asks_training else score.level }}">{{ shown.verdict.message }}</p>
<h2>Drift of the score</h2>
<div class="plots">{% for plot in drift_plots %}{{ plot }}{% endfor %}</div>
<p class="small">PSI, the population stability index, compares shares of rows per tenth of the reference: below
{{ limits.watch_psi }} stable, from {{ limits.shifted_psi }} shifted. Nights are held against the model that scored them. Fewer than
{{ "{:,}".format(limits.min_rows) }} rows tell nothing.</p>
<h2>{{ "Features" if score.level == "too_few_rows" else "Features that have moved" }}</h2>
{% if moved %}{{ rows(moved) }}{% else %}<p>None: every feature lies within {{ limits.watch_psi }}.</p>{% endif %}
{% if stable %}<details><summary>{{ stable|length }} stable features</summary>{{ rows(stable) }}</details>{% endif %}
<p class="small">Training is asked for when the score, or {{ "{:.0%}".format(limits.shifted_feature_share) }} of the known features,
reach {{ limits.shifted_psi }}, and more than {{ limits.cool_down_days }} days have passed since the model's training and since drift
last asked.</p>
{% if expected_plots %}
<h2>Expected performance</h2>
<p>This night: AUC {{ "%.3f"|format(tonight.expected_auc) }}, Brier score {{ "%.4f"|format(tonight.expected_brier) }}, default rate
{{ "{:.2%}".format(tonight.expected_default_rate) }} within {{ shown.horizon_months }} months.</p>
<div class="plots">{% for plot in expected_plots %}{{ plot }}{% endfor %}</div>
<p class="small">Estimated from the calibrated probabilities alone (confidence-based performance estimation), before any outcome is
known: a changed population shows here, a calibration that no longer holds shows in outcomes only, as in the vintages below.</p>
<h2>Vintages</h2>
{% if vintages %}<div class="wide">{{ vintages }}</div>
<p class="small">Loans by quarter of origination, as known on {{ shown.as_of_date }}; a line ends where the quarter's youngest loan is.</p>
{% else %}<p>No quarter of origination has a complete month on book yet.</p>{% endif %}
{% endif %}
</body></html>
"""
