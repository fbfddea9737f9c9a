"""Plots of the backtest's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from models.model_plots import ACCENT, INK, PALE, titled_figure

OWN = ("mosaic", "mosaic_matched")
_PERCENT = PercentFormatter(1.0, decimals=0)


def _style(name: str) -> dict[str, object]:
    own = name in OWN
    return {"linewidth": 2.2 if own else 1.1, "color": {"mosaic": INK, "mosaic_matched": ACCENT}.get(name), "alpha": 1.0 if own else 0.75}


def cumulative_loss_plot(months: Sequence[date], losses: Mapping[str, Sequence[float]], words: Mapping[str, str]) -> Figure:
    """Principal lost so far by month of investment, as a fraction of all the money, a line per strategy."""
    figure, axes = titled_figure("Cumulative loss by strategy", "month of investment", "principal lost, of all money invested")
    for name, line in losses.items():
        axes.plot(months, line, label=words[name], **_style(name))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    axes.tick_params(axis="x", labelrotation=30, labelsize=8)
    axes.legend(frameon=False, fontsize=8)
    return figure


def return_against_tail_plot(strategies: Mapping[str, Mapping[str, float]], words: Mapping[str, str]) -> Figure:
    """Net return against CVaR 95% of the loss, a point per strategy."""
    figure, axes = titled_figure("Return against tail risk", "CVaR 95% of the loss, portfolios of 100 notes", "net return a year")
    for name, found in strategies.items():
        own = name in OWN
        axes.plot(found["cvar95"], found["net_return"], "D" if own else "o", markersize=9 if own else 6, color=_style(name)["color"], label=words[name])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    axes.legend(frameon=False, fontsize=8)
    return figure


def notes_against_tail_plot(periods: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]], words: Mapping[str, str]) -> Figure:
    """CVaR 95% of the loss by number of notes: by period and strategy, notes drawn from one block of months."""
    figure, axes = titled_figure("Diversification: notes against tail risk", "notes of a portfolio", "CVaR 95% of the loss")
    for (period, strategies), line in zip(periods.items(), ("-", "--", ":", "-."), strict=False):
        for name, by_notes in strategies.items():
            style = _style(name) | ({} if name in OWN else {"color": PALE})
            axes.plot([int(count) for count in by_notes], [one["by_months"] for one in by_notes.values()], line, marker="o", markersize=3.5,
                      label=f"{words[name]}, {period}", **style)
    axes.set_xscale("log")
    counts = [int(count) for count in next(iter(next(iter(periods.values())).values()))]
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.legend(frameon=False, fontsize=7.5)
    return figure


def selectivity_plot(curve: Sequence[Mapping[str, object]], periods: Sequence[str]) -> Figure:
    """Reduction of the loss rate against equal weight by share of the listed volume that is bought; the pooled one with its
    interval."""
    figure, axes = titled_figure("Selectivity: share bought against loss reduction", "share of each month's listed volume bought",
                                 "loss rate below equal weight's, matched")
    shares = [point["share"] for point in curve]
    for period, line in zip(periods, ("-", "--", ":", "-."), strict=False):
        found = [point[period] for point in curve]
        pooled = period == "pooled"
        axes.plot(shares, [one["loss_rate_reduction"] for one in found], line, marker="o", markersize=3.5, color=ACCENT if pooled else INK,
                  linewidth=2.2 if pooled else 1.1, label=period)
        if pooled:
            axes.fill_between(shares, [one["ci"][0] for one in found], [one["ci"][1] for one in found], color=ACCENT, alpha=0.15, linewidth=0)
    axes.axhline(0, color=PALE, linewidth=0.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_PERCENT)
    axes.legend(frameon=False, fontsize=8)
    return figure
