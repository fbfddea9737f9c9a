"""How a model treats groups of people: approval rates, ranking and calibration by gender, age band and region.

Models may learn from gender and age; of the region only from how an income lies to its median. Approved are, as if there were one cut-off, the rows with the
lowest probabilities up to a stated share. A group's rate over the highest of its attribute is held against four fifths: US
EEOC, Uniform Guidelines on Employee Selection Procedures 1978, 29 CFR 1607.4 D, a rule of thumb that lending has taken over.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from markupsafe import Markup

from conf.settings import Fairness
from models.html import render
from models.metrics import auc

ATTRIBUTES = ("gender", "age_band", "region")
GENDER_AND_AGE = ("is_female", "age_years")
"""The features that tell of an attribute."""
UNKNOWN, OTHERS = "unknown", "others"
AGE_BANDS = {"29 or less": 0, "30 to 44": 30, "45 to 59": 45, "60 or more": 60}
# A longer list is not read.
MAX_GROUPS = 20


def build_attributes(age_years: pd.Series, is_female: pd.Series, region: pd.Series) -> pd.DataFrame:
    """One column per attribute, one row per row of the series; unknown where a value is null, which it is for companies."""
    band = pd.cut(age_years.astype("float64"), [*AGE_BANDS.values(), np.inf], right=False, labels=list(AGE_BANDS))
    columns = {"gender": is_female.astype("float64").map({1.0: "female", 0.0: "male"}), "age_band": band.astype("object"), "region": region}
    return pd.DataFrame({name: columns[name].fillna(UNKNOWN).astype(str) for name in ATTRIBUTES})


def is_approved(prob: np.ndarray, approved_share: float) -> np.ndarray:
    """Whether each row is approved: the lowest probabilities, as few as make up the share; equal ones are treated alike."""
    return prob <= np.quantile(prob, approved_share, method="inverted_cdf")


def fairness_table(
    prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray, attributes: pd.DataFrame, fairness: Fairness
) -> pd.DataFrame:
    """One row per attribute and group, in the order of their names.

    default_rate and mean_prob_default are of the whole risk (models.metrics), calibration is the second over the first.
    approval_ratio is the approval rate over the highest one among the attribute's judged groups, null without any.
    is_judged: the group is known and large enough. auc and calibration are nan where a group lacks a class. Of more than
    MAX_GROUPS groups of an attribute those with the fewest rows are one, others.
    """
    approved = is_approved(prob, fairness.approved_share)
    tables = []
    for attribute in ATTRIBUTES:
        largest = attributes[attribute].value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:MAX_GROUPS]
        values = attributes[attribute].where(attributes[attribute].isin(largest), OTHERS).to_numpy()
        columns = (prob, is_default, watched, approved)
        table = pd.DataFrame([
            {"attribute": attribute, "group": name} | _figures(*(column[values == name] for column in columns))
            for name in np.unique(values)
        ])
        large = (table["rows"] >= fairness.min_rows) & (table["defaults"] >= fairness.min_defaults)
        judged = large & ~table["group"].isin([UNKNOWN, OTHERS])
        table["approval_ratio"] = table["approval_rate"] / table["approval_rate"].where(judged).max()
        tables.append(table.assign(is_judged=judged))
    return pd.concat(tables, ignore_index=True)


def _figures(prob: np.ndarray, is_default: np.ndarray, watched: np.ndarray, approved: np.ndarray) -> dict[str, float]:
    """What the table says of one group."""
    rate, mean_prob = is_default.sum() / watched.sum(), float(np.average(prob, weights=watched))
    return {
        "rows": len(prob),
        "defaults": int(is_default.sum()),
        "default_rate": float(rate),
        "mean_prob_default": mean_prob,
        "approval_rate": float(approved.mean()),
        "auc": auc(prob, is_default, watched),
        "calibration": mean_prob / float(rate) if rate else np.nan,
    }


def section(groups: pd.DataFrame, fairness: Fairness) -> Markup:
    """A ``fairness_table`` as HTML, for the pages that show one."""
    tables = {name: groups[groups["attribute"] == name].to_dict("records") for name in ATTRIBUTES}
    return render(_TEMPLATE, tables=tables, fairness=fairness)


_TEMPLATE = """
<p>As if the {{ "{:.0%}".format(fairness.approved_share) }} of the rows with the lowest probabilities were approved. The ratio is to the judged group of the
attribute that is approved most often; at least {{ fairness.min_ratio }} is asked for (four-fifths rule: US EEOC, Uniform Guidelines 1978, 29 CFR 1607.4 D) of:
{{ fairness.attributes|join(", ")|replace("_", " ") or "no attribute" }}. In grey: unknown, or fewer than {{ fairness.min_rows }} rows or {{ fairness.min_defaults }} defaults,
not judged. Calibration is mean probability over default rate.</p>
<table><tr><th>group</th><th class="n">rows</th><th class="n">defaults</th><th class="n">default rate</th><th class="n">mean probability</th>
<th class="n">approval rate</th><th class="n">ratio</th><th class="n">AUC</th><th class="n">calibration</th></tr>
{% for name, rows in tables.items() %}
<tr><th colspan="9">{{ name.replace("_", " ") }}{{ "" if name in fairness.attributes else ", reported only" }}</th></tr>
{% for row in rows %}<tr{{ '' if row.is_judged else ' style="color:#7b8794"'|safe }}><td>{{ row.group }}</td><td class="n">{{ row.rows|count }}</td>
<td class="n">{{ row.defaults|count }}</td><td class="n">{{ row.default_rate|f4 }}</td><td class="n">{{ row.mean_prob_default|f4 }}</td>
<td class="n">{{ row.approval_rate|f4 }}</td><td class="n">{{ row.approval_ratio|f4 }}</td><td class="n">{{ row.auc|f4 }}</td><td class="n">{{ row.calibration|f4 }}</td></tr>
{% endfor %}
{% endfor %}</table>
"""
