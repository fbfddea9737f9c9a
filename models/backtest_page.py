"""The page of a backtest: what an investor's adviser reads, in one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from models.backtest import CVAR_NOTES, LEAST_END, LEAST_REDUCTION, POOLED, RANDOM_PICKS, SHARE
from models.backtest_plots import (
    cumulative_loss_plot,
    notes_against_tail_plot,
    return_against_tail_plot,
    selectivity_plot,
)
from models.backtest_strategies import ORDER_NOTES
from models.html import render, svg
from models.realised import BLOCK_MONTHS, DRAWS

WORDS = {
    "mosaic_matched": "MosaicLoan, equal weight's mix", "mosaic": "MosaicLoan, equal weight's return", "random": "random",
    "equal": "equal weight", "by_volume": "weighted by volume", "by_grade": "weighted by grade", "lowest_rate": "lowest rate first",
    "lowest_pd": "lowest PD first", "highest_return": "highest expected return",
}
AGAINST = {
    "equal weight": None, "weighted by volume": "by_volume", "equal weight, mix left free (the target is its expected return)": "unmatched",
    "best half of each rate and term, against all of it": "best_half_within_rate_and_term",
}
KINDS = {
    "following": "caps and scenarios follow market indicators (in use)", "static": "neither follows them", "none": "no caps per risk group",
    "stated_correlations": "asset correlations as stated (Basel's), not fitted",
}


def page(found: Mapping[str, Any], code_version: str, made_at: datetime) -> str:
    """The page of what backtest.json tells."""
    periods = [*found["years"], POOLED]
    of_period = {**found["years"], POOLED: found["strategies"]}
    cumulative = found["cumulative_loss"]
    years = [str(year) for year in found["pooled_years"]]
    claims = {
        "loss_rate_reduction": f"loss rate at least {LEAST_REDUCTION:.0%} lower over {' and '.join(years)} pooled",
        "interval": f"its 95% interval wholly beyond {LEAST_END:.0%}",
        **{f"net_return_{year}": f"a higher net return in {year}" for year in years},
    }
    words = {name: title for name, title in WORDS.items() if name in found["strategies"]}
    drawn = {
        year: {name: found["diversification"][year][name] for name in ("random", "mosaic_matched")} for year in years
    }
    plots = [
        cumulative_loss_plot([date.fromisoformat(day) for day in cumulative["months"]], cumulative["strategies"], WORDS),
        return_against_tail_plot(found["strategies"], WORDS),
        notes_against_tail_plot(drawn, WORDS),
        selectivity_plot(found["curve"], [POOLED, *years]),
    ]
    against = {words: found["matched"]["against"].get(key, found["matched"]["years"]) for words, key in AGAINST.items()}
    return render(
        _TEMPLATE, found=found, periods=periods, of_period=of_period, words=words, against=against, claims=claims, kinds=KINDS,
        differs=indicators_differ(found["ablation"]), plots=[svg(plot) for plot in plots], code_version=code_version[:12], share=SHARE,
        cvar_notes=CVAR_NOTES, order_notes=ORDER_NOTES, block_months=BLOCK_MONTHS, draws=DRAWS, random_picks=RANDOM_PICKS,
        years=years, made_at=f"{made_at:%Y-%m-%d %H:%M} UTC",
    )


def indicators_differ(ablation: Mapping[str, Any]) -> str:
    """Whether following market indicators helped the matched portfolio over the claimed years, in a sentence."""
    static = ablation["mosaic_matched"][POOLED]["static"]["against"]
    less, (low, high) = static["loss_rate_reduction"], static["ci"]
    if less == low == high == 0:
        return "They make no difference: the same is bought without them."
    figures = f"the loss rate is {abs(less):.1%} {'lower' if less >= 0 else 'higher'} than without them, 95% interval {low:+.1%} to {high:+.1%} lower"
    if low > 0:
        return f"They help: {figures}."
    if high < 0:
        return f"They do harm: {figures}."
    return f"They do not show any effect that can be told from chance: {figures}."


_TEMPLATE = """{% macro ends(both) %}{{ "{:+.1%}".format(both[0]) }} to {{ "{:+.1%}".format(both[1]) }}{% endmacro %}
{% macro signed(value) %}{{ "{:+.1%}".format(value) }}{% endmacro %}
{% macro points(value) %}{{ "{:+.2f}".format(100 * value) }}{% endmacro %}
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>MosaicLoan: backtest</title><style>
body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;max-width:1240px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.15rem;margin-top:2.2rem;border-top:1px solid #d5dde3;padding-top:1rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;margin-bottom:1rem}th{text-align:left;color:#52606d;font-weight:600}
caption{text-align:left;font-weight:600;padding:.4rem 0}
td,th{padding:.3rem .5rem;border-bottom:1px solid #e4e9ed}td.n,th.n{text-align:right}tr.own{background:#eef5f8;font-weight:600}
.plots{display:flex;flex-wrap:wrap;gap:1rem}.plots svg{width:520px;height:auto}p.small{color:#52606d;font-size:.9rem}
.wide{overflow-x:auto}.wide table{font-size:13px}.wide td:first-child:not(.n){min-width:10rem}.wide td.n{white-space:nowrap}.wide td,.wide th{padding:.25rem .35rem}
</style></head><body>
<h1>Backtest of the allocation on real loans</h1>
<p class="small">Made {{ made_at }} with code {{ code_version }}. Rates are fractions of what was invested; intervals are 95%.</p>

<h2>What was claimed, and what came out</h2>
<p>At equal weight's average interest rate and mix of terms, with {{ "{:.0%}".format(share) }} of each month's listed volume bought:
loss rate lower by {{ signed(found.matched.loss_rate_reduction) }} over {{ years|join(" and ") }} pooled
[{{ ends(found.matched.ci) }}], net return {{ points(found.matched.net_return_difference) }} points a year.</p>
<table><tr><th>claim</th><th>reached</th></tr>
{% for name, claim in claims.items() %}<tr><td>{{ claim }}</td><td><b>{{ "yes" if found.matched.claims[name] else "no" }}</b></td></tr>
{% endfor %}</table>
<table><caption>Loss rate below the benchmark's, and net return less the benchmark's (points a year)</caption>
<tr><th>benchmark</th><th>loans of</th><th class="n">loss rate lower by</th><th class="n">interval</th><th class="n">net return</th><th class="n">interval</th></tr>
{% for benchmark, years in against.items() %}{% for period in periods %}{% set one = years[period] %}<tr{{ ' class="own"'|safe if benchmark == "equal weight" }}>
<td>{{ benchmark if loop.first }}</td><td>{{ period }}</td><td class="n">{{ signed(one.loss_rate_reduction) }}</td><td class="n">{{ ends(one.ci) }}</td>
<td class="n">{{ points(one.net_return_difference) }}</td><td class="n">{{ points(one.net_return_ci[0]) }} to {{ points(one.net_return_ci[1]) }}</td></tr>
{% endfor %}{% endfor %}{% for period in periods %}{% set one = found.matched.against.random[period] %}<tr>
<td>{{ "random picks, against all that is listed (%d drawn: mean, middle 95%%)"|format(random_picks) if loop.first }}</td><td>{{ period }}</td><td class="n">{{ signed(one.mean) }}</td>
<td class="n">{{ ends(one.interval) }}</td><td></td><td></td></tr>
{% endfor %}</table>
<p class="small">Within a month a sub-grade is an interest rate, so “each rate and term” is each sub-grade and term.</p>

<div class="plots">{% for plot in plots %}{{ plot }}{% endfor %}</div>

<h2>All strategies</h2>
<p>The same money in the same months for all, in notes of {{ found.protocol.note }}. CVaR 95%: mean loss of the worst 5% of {{ draws|count }} portfolios of {{ cvar_notes }} notes,
each drawn from what the strategy bought within {{ block_months }} successive months. Equal loans: as many loans of equal size would be as concentrated as a month's holdings are.
Cash drag: points of return that are lost to money that found no listing.</p>
{% for period in periods|reverse %}<div class="wide"><table><caption>{{ period }}</caption>
<tr><th>strategy</th><th class="n">loss rate</th><th class="n">interval</th><th class="n">net return</th><th class="n">interval</th><th class="n">CVaR 95%</th><th class="n">defaults</th>
<th class="n">worst month</th><th class="n">its loss</th><th class="n">lowest month's return</th><th class="n">equal loans</th><th class="n">largest loan</th><th class="n">not invested</th>
<th class="n">cash drag</th><th class="n">mean rate</th><th class="n">longer terms</th></tr>
{% for name, title in words.items() %}{% set one = of_period[period][name] %}<tr{{ ' class="own"'|safe if name.startswith("mosaic") }}><td>{{ title }}</td>
<td class="n">{{ one.loss_rate|percent }}</td><td class="n">{{ one.ci.loss_rate[0]|percent }} – {{ one.ci.loss_rate[1]|percent }}</td>
<td class="n">{{ one.net_return|percent }}</td><td class="n">{{ one.ci.net_return[0]|percent }} – {{ one.ci.net_return[1]|percent }}</td><td class="n">{{ one.cvar95|percent }}</td>
<td class="n">{{ one.default_rate|percent }}</td><td class="n">{{ one.worst_month.month }}</td><td class="n">{{ one.worst_month.loss_rate|percent }}</td><td class="n">{{ one.worst_month.lowest_net_return|percent }}</td>
<td class="n">{{ one.effective_loans|count }}</td><td class="n">{{ one.largest_loan|percent }}</td><td class="n">{{ one.uninvested|percent }}</td><td class="n">{{ points(one.cash_drag) }}</td>
<td class="n">{{ one.interest_rate|percent }}</td><td class="n">{{ one.longer_terms|percent }}</td></tr>
{% endfor %}</table></div>
{% endfor %}

<h2>Selectivity</h2>
<p>The less of the market is bought, the choosier one can be. Loss rate below equal weight's at its interest rate and mix of terms, by share of each month's listed volume.</p>
<div class="wide"><table><tr><th class="n">share</th>{% for period in periods|reverse %}<th class="n">{{ period }}</th><th class="n">interval</th><th class="n">return, points</th><th class="n">not invested</th>{% endfor %}</tr>
{% for point in found.curve %}<tr><td class="n">{{ "{:.0%}".format(point.share) }}</td>{% for period in periods|reverse %}<td class="n">{{ signed(point[period].loss_rate_reduction) }}</td>
<td class="n">{{ ends(point[period].ci) }}</td><td class="n">{{ points(point[period].net_return_difference) }}</td><td class="n">{{ point.uninvested[period]|percent }}</td>{% endfor %}</tr>
{% endfor %}</table></div>

<h2>Selection and diversification apart</h2>
<p>Selection moves the mean; more notes leave it where it is and cut the tail. Each cell: CVaR 95% of the loss, and in brackets how far it lies above the mean.
“Independent” draws a portfolio's notes from all months of the year, which leaves out what a season has in common; “by months” draws them within {{ block_months }} successive months.</p>
{% for period in periods %}<table><caption>{{ period }}</caption><tr><th>strategy</th><th class="n">mean loss</th>
{% for count in found.diversification[period].random %}<th class="n">{{ count }} notes, independent</th><th class="n">{{ count }}, by months</th>{% endfor %}</tr>
{% for name, by_notes in found.diversification[period].items() %}{% set mean = of_period[period][name].loss_rate %}<tr><td>{{ words[name] }}</td><td class="n">{{ mean|percent }}</td>
{% for one in by_notes.values() %}<td class="n">{{ one.independent|percent }} ({{ points(one.independent - mean) }})</td><td class="n">{{ one.by_months|percent }} ({{ points(one.by_months - mean) }})</td>{% endfor %}</tr>
{% endfor %}</table>
{% endfor %}
{% for file, graded in found.graded_outcomes.items() %}
<table><caption>{{ file }}: {{ graded.loans|count }} loans with grades but without borrowers, {{ graded.default_rate|percent }} charged off; random portfolios, CVaR 95%</caption>
<tr><th>grade</th><th class="n">loans</th><th class="n">mean loss</th>{% for count in graded.portfolios.all.cvar95 %}<th class="n">{{ count }} notes</th>{% endfor %}</tr>
{% for grade, one in graded.portfolios.items() %}<tr><td>{{ grade }}</td><td class="n">{{ one.loans|count }}</td><td class="n">{{ one.loss_rate|percent }}</td>
{% for tail in one.cvar95.values() %}<td class="n">{{ tail|percent }}</td>{% endfor %}</tr>{% endfor %}</table>
<p class="small">Resolved loans only, so that late payers are under-represented. Amounts are inferred from the instalment where a loan was not paid in full. Draws are independent.</p>
{% else %}<p>No file of loans with grades alone (outcomes_*.csv.gz) was in the data folder: that part is left out.</p>
{% endfor %}

<h2>Market indicators</h2>
<p>Caps per risk group follow market stress that was known on each month's eve; scenarios see default rise and fall as stress has moved since the defaults of the
last year, which valuations rest on. {{ differs }} The other rows show what the caps cost altogether,
and what scenarios do whose asset correlations are as stated, not scaled by defaults.</p>
{% for name, by_period in found.ablation.items() %}<table><caption>{{ words[name] }}</caption>
<tr><th>loans of</th><th>rules</th><th class="n">loss rate</th><th class="n">net return</th><th class="n">CVaR 95%</th><th class="n">loss of those in use lower by</th><th class="n">interval</th></tr>
{% for period in periods|reverse %}{% for kind, title in kinds.items() %}{% set one = by_period[period][kind] %}<tr{{ ' class="own"'|safe if loop.first }}><td>{{ period if loop.first }}</td><td>{{ title }}</td>
<td class="n">{{ one.loss_rate|percent }}</td><td class="n">{{ one.net_return|percent }}</td><td class="n">{{ one.cvar95|percent }}</td>
<td class="n">{% if one.against %}{{ signed(one.against.loss_rate_reduction) }}{% endif %}</td><td class="n">{% if one.against %}{{ ends(one.against.ci) }}{% endif %}</td></tr>
{% endfor %}{% endfor %}</table>
{% endfor %}
<table><caption>Stress, scenarios and caps, first month of each quarter since the first listing; months that no model could value rest on stated values</caption><tr><th>month</th><th class="n">stress, standard deviations</th><th>rests on</th><th class="n">hazard in scenarios</th><th>caps of groups 1, 2, …</th><th>asset correlations</th></tr>
{% for row in found.market if row.month[5:] in ("01", "04", "07", "10") %}<tr><td>{{ row.month }}</td><td class="n">{% if row.market_stress is not none %}{{ "{:+.2f}".format(row.market_stress) }}{% else %}–{% endif %}</td>
<td>{{ row.basis }}</td><td class="n">× {{ "{:.2f}".format(row.default_level) }}</td><td>{% for cap in row.caps %}{{ "{:.0%}".format(cap) }}{{ "" if loop.last else ", " }}{% endfor %}</td>
<td>{% for one in row.asset_correlations %}{{ "{:.3f}".format(one) }}{{ "" if loop.last else ", " }}{% endfor %}</td></tr>
{% endfor %}</table>

<h2>Expected against realised</h2>
<p>Listings of a year by tenth of the return that was expected of them: what they were expected to return, lose and default, and what they did.</p>
{% for rows in found.calibration|groupby("year") %}<table><caption>{{ rows.grouper }}</caption><tr><th>tenth</th><th class="n">listings</th><th class="n">expected return</th><th class="n">realised</th>
<th class="n">expected loss</th><th class="n">realised</th><th class="n">expected defaults</th><th class="n">realised</th></tr>
{% for row in rows.list %}<tr{{ ' class="own"'|safe if row.tenth is none }}><td>{{ "all" if row.tenth is none else row.tenth }}</td><td class="n">{{ row.listings|count }}</td>
<td class="n">{{ row.expected_net_return|percent }}</td><td class="n">{{ row.realised_net_return|percent }}</td><td class="n">{{ row.expected_loss|percent }}</td><td class="n">{{ row.realised_loss|percent }}</td>
<td class="n">{{ row.expected_default|percent }}</td><td class="n">{{ row.realised_default|percent }}</td></tr>
{% endfor %}</table>
{% endfor %}

<h2>How it was done</h2>
<ul>
<li>Models are trained anew on the eve of each quarter on what was knowable then; loans whose outcome had not happened are censored, not good. Scored:
{% for quarter in found.protocol.quarters %}{{ quarter.period }} ({{ quarter.listings|count }} listings){{ "" if loop.last else ", " }}{% endfor %}. Outcomes as known on {{ found.protocol.known_on }}.</li>
{% for quarter, why in found.protocol.left_out.items() %}<li>{{ quarter }} is left out: {{ why }}.</li>
{% endfor %}<li>There is no listing date in the file: what was open in a month is taken to be the loans issued in it, within credit policy and scored.</li>
<li>Each month {{ "{:.0%}".format(share) }} of the listed volume is invested, by the product's own code as equal orders of some {{ order_notes }} notes, with its caps, scenarios and whole notes. The target is what
equal weight is expected to return; the matched portfolio is also held to equal weight's mean interest rate and share of each term.</li>
<li>Equal weight buys the same of every listing, up to all of it. By grade weighs A seven times G. The others buy whole listings in their order until the money is placed.</li>
<li>Loss rate: principal lost after recoveries over principal invested. Net return: yearly internal rate of the pooled cash after a fee of {{ found.protocol.fee|percent }} of every payment, loans put side
by side at their origination; repaid money is not invested again. Payments are rebuilt from realised totals and dates.</li>
<li>Intervals: {{ draws|count }} bootstraps over blocks of {{ block_months }} successive months; both sides of a comparison see the same months. Over a single year there are twelve months only, and
such an interval knows of no year that was not seen.</li>
</ul>
<h2>Limits</h2>
<ul>
<li>One platform, two years after a recession: nothing here was lived through from good times into bad ones.</li>
<li>Asset correlations are Basel's, scaled each month by what the defaults known then say of them. That they came to be fitted followed results of 2010 and 2011, in which Basel's as they stand did worse
than lower ones: the method knows nothing of these years' outcomes, the decision for it does. The history is that of one downturn; how much a few quarters of it can say depends on the model of the factor
(models/default_correlation.py). The table of market indicators has what either did in each year.</li>
<li>The size of an order (one large order a month before, of which the loss rate was some 3 points less far below equal weight's in early 2011) was chosen after results of early 2010 and 2011
had been seen: it describes these years, and is no evidence for others.</li>
<li>All of a listing is taken to be open to this investor. In truth the best listings fill first.</li>
<li>Drawing notes again from one history shows chance between loans and between months, not other histories.</li>
<li>An oracle that knows true probabilities exists on a simulated market only: <code>make evaluate DATASETS=simulated</code> tells how much of its selection the score reaches.</li>
</ul>
</body></html>
"""
