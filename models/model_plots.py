"""Plots that are logged with a model: ROC, calibration, risk groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from models.metrics import auc, calibration_table, roc_curve

INK, ACCENT, PALE = "#1f2933", "#0b6e99", "#9fb3c1"


def _figure(title: str, x: str, y: str) -> tuple[Figure, object]:
    # A Figure by itself needs no display and leaves no global state behind.
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return figure, axes


def roc_plot(scores: dict[str, np.ndarray], is_default: np.ndarray, watched: np.ndarray, title: str) -> Figure:
    """ROC curves of the ensemble (the last of scores) and of what it is held against."""
    figure, axes = _figure(title, "non-defaults above the threshold", "defaults above the threshold")
    *others, ensemble = scores
    for name in [*others, ensemble]:
        false_rate, true_rate = roc_curve(scores[name], is_default, watched)
        strong = name == ensemble
        axes.plot(
            false_rate, true_rate, linewidth=2.2 if strong else 1.0, color=ACCENT if strong else None,
            alpha=1.0 if strong else 0.7, label=f"{name} (AUC {auc(scores[name], is_default, watched):.3f})",
        )
    axes.plot([0, 1], [0, 1], color=PALE, linewidth=0.8, linestyle="--")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def calibration_plot(prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray, title: str) -> Figure:
    """Default rate against mean probability in ten bins."""
    predicted, observed, _ = calibration_table(prob, is_default, watched).T
    figure, axes = _figure(title, "mean probability of default", "default rate")
    top = 1.05 * max(predicted.max(), observed.max(), 1e-3)
    axes.plot([0, top], [0, top], color=PALE, linewidth=0.8, linestyle="--")
    axes.plot(predicted, observed, marker="o", markersize=4, color=ACCENT)
    return figure


def risk_group_plot(groups: pd.DataFrame) -> Figure:
    """Default rate and share of rows per risk group, on the training cohorts; columns risk_group, rows, defaults."""
    figure, axes = _figure("Training cohorts: risk groups", "risk group (1 is the safest)", "default rate")
    rate = groups["defaults"] / groups["rows"]
    bars = axes.bar(groups["risk_group"], rate, color=ACCENT, width=0.65)
    shares = [f"{share:.0%} of rows" for share in groups["rows"] / groups["rows"].sum()]
    axes.bar_label(bars, shares, fontsize=8, color=INK, padding=2)
    axes.set_xticks(groups["risk_group"])
    axes.grid(axis="x", visible=False)
    return figure
