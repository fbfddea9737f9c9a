"""Scores of simulated borrowers beside what their records can tell at all, and beside the latent truth; NumPy and LightGBM.

The truth of a borrower is the probability of default given the whole state on the as-of date, observable or not. No score
sees that state, so none can rank as well. The attainable score is the truth's expectation given the records knowable on
that day, estimated by a model that learns the truth itself, from many other borrowers. All arrays have shape (rows,).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy.optimize import linprog

from models.html import render, svg
from models.metrics import auc, expected_calibration_error
from models.model_plots import calibration_plot

WORDS = {"ensemble": "ensemble (published)", "attainable": "attainable from the records", "truth": "latent truth"}
DRAWS, SEED = 500, 20261125
# Of the reference; the last one is all of it.
PARTS = (0.05, 0.25, 1.0)
# Of the rows, whom an investor lends to, as in the backtest.
PICKED_SHARE = 0.20


def gini(score: np.ndarray, outcome: np.ndarray) -> float:
    """Twice the AUC less one; nan without both classes.

    outcome: 0 or 1, or the true probabilities, each row then counting as a default by its probability and as none by the
    rest: what the Gini would be on average over outcomes drawn anew, free of the chance of those that happened.
    """
    return 2 * auc(score, outcome, np.ones(len(score))) - 1


def gini_ratio(score: np.ndarray, other: np.ndarray, outcome: np.ndarray) -> tuple[float, float, float]:
    """The Gini of a score over another's on the same rows, between the ends of its 95% interval.

    By bootstrap of the rows, paired; the seed is fixed. outcome as in ``gini``.
    """
    draw = np.random.default_rng(SEED)
    drawn = (draw.integers(0, len(score), len(score)) for _ in range(DRAWS))
    low, high = np.quantile([gini(score[rows], outcome[rows]) / gini(other[rows], outcome[rows]) for rows in drawn], [0.025, 0.975])
    return float(low), gini(score, outcome) / gini(other, outcome), float(high)


def fit_truth(features: pd.DataFrame, truth: np.ndarray, seed: int) -> lightgbm.Booster:
    """LightGBM of the truth itself, by cross-entropy; features are doubles, nan where unknown."""
    settings = {
        "objective": "cross_entropy", "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 200, "lambda_l2": 10.0,
        "feature_fraction": 0.4, "bagging_fraction": 0.8, "bagging_freq": 1, "seed": seed, "deterministic": True, "verbosity": -1,
    }
    return lightgbm.train(settings, lightgbm.Dataset(features, truth), num_boost_round=600)


def attainable_score(
    features: pd.DataFrame, truth: np.ndarray, tested: pd.DataFrame, tested_truth: np.ndarray, seed: int
) -> tuple[np.ndarray, list[dict[str, float]]]:
    """The attainable score of tested rows, and how it grows with the reference: rows and Gini on the truth of its parts.

    features, truth: of the reference, drawn anew in order, so that any first rows are a part like any other.
    """
    order = np.random.default_rng(seed).permutation(len(features))
    parts = []
    for share in PARTS:
        rows = order[: int(len(order) * share)]
        score = np.asarray(fit_truth(features.iloc[rows], truth[rows], seed).predict(tested))
        parts.append({"rows": len(rows), "gini": gini(score, tested_truth)})
    return score, parts


def safest(prob: np.ndarray, interest_rate: np.ndarray, share: float) -> np.ndarray:
    """How much of each row is picked, 0 to 1: that share of all, of the least mean prob at all rows' mean interest rate."""
    rates = interest_rate - interest_rate.mean()
    found = linprog(prob, A_eq=np.vstack([np.ones(len(prob)), rates]), b_eq=[share * len(prob), 0.0], bounds=(0, 1), method="highs")
    return found.x


def selection(scores: Mapping[str, np.ndarray], truth: np.ndarray, interest_rate: np.ndarray) -> dict[str, object]:
    """What picking by each score, PICKED_SHARE of all rows at their mean interest rate, does to the true probability of default.

    all: the mean over all rows. By score: truth, that of its picks; of_oracle: how far it lies below all, as a fraction of how
    far the picks of an oracle, who knows the truth, do. The means of picks are by how much of a row is picked.
    """
    told = {name: float(np.average(truth, weights=safest(score, interest_rate, PICKED_SHARE))) for name, score in scores.items()}
    of_all, oracle = float(truth.mean()), float(np.average(truth, weights=safest(truth, interest_rate, PICKED_SHARE)))
    return {"share": PICKED_SHARE, "all": of_all} | {
        name: {"truth": mean, "of_oracle": (of_all - mean) / (of_all - oracle)} for name, mean in told.items()
    }


def beside_truth(rows: pd.DataFrame) -> dict[str, object]:
    """How the ensemble stands beside the attainable score and the truth, as evaluation.json has it.

    One row per borrower: probabilities ensemble, attainable and truth, interest_rate, is_default, is_unseen (did not train) and
    risk_group. Ginis and calibration errors are against outcomes and against the truth; a ratio is the ensemble's Gini over the
    attainable one, between the ends of its 95% interval. unseen: that of those who did not train, against the truth.
    """
    scores = {name: rows[name].to_numpy(dtype=float) for name in WORDS}
    against = {"outcomes": rows["is_default"].to_numpy(dtype=float), "truth": scores["truth"]}
    final, unseen = np.ones(len(rows)), rows["is_unseen"].to_numpy(dtype=bool)
    groups = rows.groupby("risk_group").agg(
        rows=("truth", "size"), prob_default=("ensemble", "mean"), truth=("truth", "mean"), default_rate=("is_default", "mean")
    )
    return {
        "gini": {what: {name: gini(score, outcome) for name, score in scores.items()} for what, outcome in against.items()},
        "ratio": {what: gini_ratio(scores["ensemble"], scores["attainable"], outcome) for what, outcome in against.items()},
        "unseen": {
            "rows": int(unseen.sum()),
            "ratio": gini_ratio(*(scores[name][unseen] for name in ("ensemble", "attainable", "truth"))) if unseen.any() else None,
        },
        "ece": {
            what: {name: expected_calibration_error(score, outcome, final) for name, score in scores.items()}
            for what, outcome in against.items()
        },
        "mean": {name: float(score.mean()) for name, score in scores.items()} | {"default_rate": float(rows["is_default"].mean())},
        "selection": selection(scores, scores["truth"], rows["interest_rate"].to_numpy(dtype=float)),
        "risk_groups": groups.reset_index().astype(float).to_dict("records"),
    }


def section(rows: pd.DataFrame, found: Mapping[str, Any]) -> Markup:
    """What ``beside_truth`` found of these rows, and the reference that taught the attainable score, as HTML."""
    prob, truth = rows["ensemble"].to_numpy(dtype=float), rows["truth"].to_numpy(dtype=float)
    plot = calibration_plot(prob, truth, np.ones(len(rows)), "Calibration against the truth", "mean true probability")
    return render(_TEMPLATE, found=found, words=WORDS, plot=svg(plot))


_TEMPLATE = """
<p>These borrowers are <b>simulated</b>: of each the true probability of default is known, which depends on more than any record shows. What
their records can tell of it at all is estimated by a model of the truth itself: LightGBM over the same 80 features, trained on {{ found.reference.rows|count }}
rows of {{ found.reference.borrowers|count }} other simulated borrowers of the same economy on {{ found.reference.day }}: {{ "%.0f"|format(found.reference.borrowers / found.reference.training_borrowers) }} times
the borrowers that trained the ensemble ({{ found.reference.training_borrowers|count }}, {{ found.reference.training_rows|count }} rows). Its Gini is the attainable one.
The ensemble reaches {{ found.ratio.truth[1]|percent }} of it [{{ found.ratio.truth[0]|percent }}, {{ found.ratio.truth[2]|percent }}] as held against the truth, and
{{ found.ratio.outcomes[1]|percent }} [{{ found.ratio.outcomes[0]|percent }}, {{ found.ratio.outcomes[2]|percent }}] against the defaults that happened (95% intervals, paired bootstrap of
the rows). Against the truth a row counts as a default by its true probability, so that the chance of what happened is left out.
{% if found.unseen.ratio %}{{ found.unseen.rows|count }} of them stood in no cohort that trained: of these alone it reaches {{ found.unseen.ratio[1]|percent }}
[{{ found.unseen.ratio[0]|percent }}, {{ found.unseen.ratio[2]|percent }}], as held against the truth.{% endif %}</p>
<table><tr><th>score</th><th class="n">Gini, outcomes</th><th class="n">Gini, truth</th><th class="n">ECE, outcomes</th><th class="n">ECE, truth</th><th class="n">mean probability</th></tr>
{% for name, title in words.items() %}<tr{{ ' class="own"'|safe if name == "ensemble" }}><td>{{ title }}</td><td class="n">{{ found.gini.outcomes[name]|f4 }}</td>
<td class="n">{{ found.gini.truth[name]|f4 }}</td><td class="n">{{ found.ece.outcomes[name]|f4 }}</td><td class="n">{{ found.ece.truth[name]|f4 }}</td>
<td class="n">{{ found.mean[name]|f4 }}</td></tr>
{% endfor %}</table>
<p class="small">Default rate {{ found.mean.default_rate|f4 }}. The truth's own calibration error on outcomes is their chance, and what the economy did after that day.</p>
<table><tr><th>risk group</th><th class="n">rows</th><th class="n">mean probability</th><th class="n">mean true probability</th><th class="n">default rate</th></tr>
{% for row in found.risk_groups %}<tr><td>{{ "%.0f"|format(row.risk_group) }}</td><td class="n">{{ row.rows|count }}</td><td class="n">{{ row.prob_default|f4 }}</td>
<td class="n">{{ row.truth|f4 }}</td><td class="n">{{ row.default_rate|f4 }}</td></tr>
{% endfor %}</table>
<p>Of all these borrowers {{ found.selection.share|percent }} are picked, at the mean interest rate of all, so that the picks have the least mean probability by a
score. The true probability of default of all is {{ found.selection.all|f4 }}; how far below it the picks' lies, of what an oracle who knows the truth reaches:</p>
<table><tr><th>picked by</th><th class="n">mean true probability</th><th class="n">of the oracle's improvement</th></tr>
{% for name, title in words.items() %}<tr{{ ' class="own"'|safe if name == "ensemble" }}><td>{{ title }}</td><td class="n">{{ found.selection[name].truth|f4 }}</td>
<td class="n">{{ found.selection[name].of_oracle|percent }}</td></tr>
{% endfor %}</table>
<p>Whether more data would tell more: the Gini against the truth of the same model, trained on parts of the reference.</p>
<table><tr><th>rows of the reference</th>{% for part in found.reference.parts %}<th class="n">{{ part.rows|count }}</th>{% endfor %}</tr>
<tr><td>Gini, truth</td>{% for part in found.reference.parts %}<td class="n">{{ part.gini|f4 }}</td>{% endfor %}</tr></table>
<div class="plots">{{ plot }}</div>
"""
