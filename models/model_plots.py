"""Plots that are logged with a model (ROC, calibration, risk groups) and those of the monitoring page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from models.metrics import auc, calibration_table, roc_curve

INK, ACCENT, PALE = "#1f2933", "#0b6e99", "#9fb3c1"
WATCH, ALARM = "#b7791f", "#b42318"


def titled_figure(title: str, x: str, y: str) -> tuple[Figure, object]:
    """A figure as all pages show theirs, and its axes."""
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
    figure, axes = titled_figure(title, "non-defaults above the threshold", "defaults above the threshold")
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


def calibration_plot(
    prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray, title: str, what: str = "default rate"
) -> Figure:
    """Default rate, or what else is_default holds, against mean probability in ten bins."""
    predicted, observed, _ = calibration_table(prob, is_default, watched).T
    figure, axes = titled_figure(title, "mean probability of default", what)
    top = 1.05 * max(predicted.max(), observed.max(), 1e-3)
    axes.plot([0, top], [0, top], color=PALE, linewidth=0.8, linestyle="--")
    axes.plot(predicted, observed, marker="o", markersize=4, color=ACCENT)
    return figure


def risk_group_plot(groups: pd.DataFrame) -> Figure:
    """Default rate and share of rows per risk group, on the training cohorts; columns risk_group, rows, defaults."""
    figure, axes = titled_figure("Training cohorts: risk groups", "risk group (1 is the safest)", "default rate")
    rate = groups["defaults"] / groups["rows"]
    bars = axes.bar(groups["risk_group"], rate, color=ACCENT, width=0.65)
    shares = [f"{share:.0%} of rows" for share in groups["rows"] / groups["rows"].sum()]
    axes.bar_label(bars, shares, fontsize=8, color=INK, padding=2)
    axes.set_xticks(groups["risk_group"])
    axes.grid(axis="x", visible=False)
    return figure


def history_plot(days: Sequence[date], values: Sequence[float], title: str, y: str, limits: Mapping[str, float] | None = None) -> Figure:
    """A number night by night, with limits, lowest first, as lines of their own that carry their names."""
    figure, axes = titled_figure(title, "", y)
    axes.plot(days, values, marker="o", markersize=3.5, color=ACCENT, linewidth=1.4)
    for (name, limit), color in zip((limits or {}).items(), (WATCH, ALARM), strict=False):
        axes.axhline(limit, color=color, linewidth=1.0, linestyle="--")
        axes.annotate(f"{name} {limit:g}", (0.01, limit), xycoords=("axes fraction", "data"), xytext=(0, 3),
                      textcoords="offset points", fontsize=8, color=color)
    # A single night needs an axis too.
    axes.set_xlim(days[0] - timedelta(days=3), days[-1] + timedelta(days=3))
    locator = AutoDateLocator(minticks=2, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    if limits:
        axes.set_ylim(0, 1.15 * max([*values, *limits.values()]))
    else:
        # No drama out of the last decimal.
        middle, reach = (min(values) + max(values)) / 2, max(max(values) - min(values), 0.1 * max(values))
        axes.set_ylim(middle - reach, middle + reach)
    return figure


def shares_plot(then: np.ndarray, now: np.ndarray, edges: Sequence[float], title: str, score_name: str) -> Figure:
    """Shares of rows per bin of a score, in training and now; edges are the bins' upper ends."""
    figure, axes = titled_figure(title, f"{score_name} up to", "share of rows")
    place = np.arange(len(then))
    axes.bar(place - 0.2, then, width=0.4, color=PALE, label="reference")
    axes.bar(place + 0.2, now, width=0.4, color=ACCENT, label="this night")
    axes.set_xticks(place, [*(f"{edge:.2g}" for edge in edges), "1"], fontsize=8)
    axes.grid(axis="x", visible=False)
    axes.set_ylim(0, 1.2 * max(*then, *now))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    return figure


def vintage_plot(curves: Mapping[date, np.ndarray], title: str) -> Figure:
    """Cumulative incidence of default by months on book, a line per quarter of origination, newer ones darker."""
    figure, axes = titled_figure(title, "months on book", "share of loans that have defaulted")
    figure.set_size_inches(11, 4.5)
    for (quarter, incidence), shade in zip(curves.items(), np.linspace(0.95, 0.05, len(curves)), strict=True):
        axes.plot(
            np.arange(len(incidence)), incidence, color=colormaps["viridis"](shade), linewidth=1.5,
            label=f"{quarter.year} Q{(quarter.month + 2) // 3}",
        )
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=1 + (len(curves) > 12))
    return figure
