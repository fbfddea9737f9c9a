"""The document of a company model's version, as models.model_document is that of a credit model's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd

from conf.company_features import COMPANY_FEATURES, MIN_STATEMENTS
from conf.settings import Settings
from conf.source import Source
from models.company_model import YEARS_AHEAD, CompanyModel
from models.html import render, svg
from models.judged import Judged
from models.metrics import AucDifference, auc_interval
from models.model_document import FIGURES, HEAD, LIMITS_AND_PARAMETERS, TABLES_AND_RULES, judged_as_first
from models.model_plots import calibration_plot, roc_plot
from models.promotion import Decision

FEATURES_TOLD = 15


@dataclass(frozen=True)
class Part:
    """Filings of one part of the training set: their first and last day, how many rows they are and how many with distress.

    A filing is a row for each of its years that was seen; of the judging part its first year alone.
    """

    name: str
    first: date
    last: date
    rows: int
    distresses: int


@dataclass(frozen=True)
class Facts:
    """What a training has found of one version; champion: the version in use at the time, None for none."""

    settings: Settings
    source: Source
    version: str
    model: CompanyModel
    parts: Sequence[Part]
    judged: Judged
    champion: str | None
    against_champion: AucDifference | None
    decision: Decision


def document(facts: Facts) -> str:
    """The document as HTML that needs no network; the same facts make the same text."""
    judged, model = facts.judged, facts.model
    outcomes = (judged.is_default, judged.watched)
    return render(
        _TEMPLATE, kind="Company model", name=facts.settings.model_name, facts=facts, origin=model.origin,
        figures=[(words.replace("default", "distress"), judged.metrics[key]) for key, words in FIGURES.items()],
        auc_interval=auc_interval(judged.prob["ensemble"], *outcomes), declared=len(COMPANY_FEATURES),
        unknown=[feature.name for feature in COMPANY_FEATURES if feature.name not in model.features],
        grades=by_grade(model, judged), strongest=strongest_features(model), limits=limits(facts),
        parameters={**facts.settings.company.model_dump(exclude={"lightgbm"}), **facts.settings.company.lightgbm},
        roc=svg(roc_plot(judged.prob, *outcomes, "Judging filings: ROC")),
        calibration=svg(calibration_plot(judged.prob["ensemble"], *outcomes, "Judging filings: calibration")),
    )


def by_grade(model: CompanyModel, judged: Judged) -> pd.DataFrame:
    """One row per grade of the judging filings: grade, limit, filings, distresses, and means of what was told and what came (nan: none)."""
    limits = list(model.grades.values())
    prob = judged.prob["ensemble"]
    place = np.searchsorted(limits, prob)
    filings = np.bincount(place, minlength=len(limits))
    distresses, told = (np.bincount(place, values, len(limits)) for values in (judged.is_default, prob))
    some = np.where(filings > 0, filings, np.nan)
    return pd.DataFrame({
        "grade": list(model.grades), "limit": limits, "filings": filings, "distresses": distresses,
        "told": told / some, "came": distresses / some,
    })


def strongest_features(model: CompanyModel) -> pd.DataFrame:
    """The FEATURES_TOLD features that the trees gain most by: name, meaning and share of all gain, the strongest first."""
    meaning = {feature.name: feature.meaning for feature in COMPANY_FEATURES} | {YEARS_AHEAD: "which of the three years is told"}
    share = model.shares_of_gain()
    found = pd.DataFrame({"name": share.keys(), "share": share.values(), "meaning": [meaning[name] for name in share]})
    return found.sort_values(["share", "name"], ascending=[False, True]).head(FEATURES_TOLD)


def limits(facts: Facts) -> list[str]:
    """What was not tested, and for whom the figures do not speak."""
    judging = facts.parts[-1]
    said = [
        f"It was judged on filings of {judging.first} to {judging.last} only, by distress known on {facts.model.origin.trained_on}: in another "
        "economic climate, under other insolvency law or in another market it has not been tested.",
        "The figures are of the first year. The second and third year are calibrated as it is, but have fewer outcomes and were not judged.",
        "A company that went unobserved before a year was over, by a merger or by falling silent, is no example of that year: where "
        "silence itself is a sign of distress, probabilities are too low.",
        "How often companies fail moves with the economy. The level is that of the calibration filings, the rates and spreads that enter "
        "aside: after a turn it is late.",
        f"Companies without {MIN_STATEMENTS} annual statements in a row, or with none for two years, get no score.",
        "Intervals take filings for independent draws. Those of one company and of one year move together: the true intervals are wider.",
        "Statements are taken as filed. Fraud in them was not looked for, nor attempts to deceive the model.",
    ]
    return said + judged_as_first(facts.champion, facts.against_champion)


_WHAT_IT_IS = """
<h2>What it is</h2>
<p>For every company with statements its probabilities of distress within one, two and three years of the day, and a grade by the first. Boosted trees
(LightGBM) over ratios of the statements known on the day give the hazard of each year, one model for all three, held to the direction that finance gives
a ratio; calibrated, the three years make the three probabilities, so that a longer horizon never has the lower one. Classes are not reweighted.
{{ facts.model.features|length }} of {{ declared }} features enter.
{% if unknown %} Without any value in the training filings, or with a single one: {{ unknown|join(", ") }}.{% endif %}</p>

<h2>What it was made from</h2>
<p>The filings of the last {{ facts.settings.company.recent_years }} years whose first year has passed calibrate and judge, each party one of the two
({{ facts.settings.company.calibration_share|percent }} calibrate), by a hash of its identity. Earlier filings train, with what had been seen when these
years began. A filing enters with the statements known on its day; a year counts once its end was seen, whatever came of it.</p>
<table><tr><th>part</th><th>filings known</th><th class="n">rows</th><th class="n">with distress</th></tr>
{% for part in facts.parts %}<tr><td>{{ part.name }}</td><td>{{ part.first }} to {{ part.last }}</td><td class="n">{{ part.rows|count }}</td><td class="n">{{ part.distresses|count }}</td></tr>
{% endfor %}</table>
<p class="small">A row of training and calibration is a filing and one of its three years, a row of judging a filing and its first.</p>
"""
_JUDGED = """
<table><tr><th>grade</th><th class="n">highest probability</th><th class="n">filings</th><th class="n">with distress</th><th class="n">told</th><th class="n">came</th></tr>
{% for row in grades.itertuples() %}<tr><td>{{ row.grade }}</td><td class="n">{{ row.limit|percent }}</td><td class="n">{{ row.filings|count }}</td>
<td class="n">{{ row.distresses|count }}</td><td class="n">{{ row.told|f4 }}</td><td class="n">{{ row.came|f4 }}</td></tr>
{% endfor %}</table>
</div></div>
<div class="two">{{ roc }}{{ calibration }}</div>

<h2>What moves it</h2>
<table><tr><th>feature</th><th>meaning</th><th class="n">share of all gain</th></tr>
{% for row in strongest.itertuples() %}<tr><td>{{ row.name }}</td><td>{{ row.meaning }}</td><td class="n">{{ row.share|percent }}</td></tr>
{% endfor %}</table>
"""
_TEMPLATE = HEAD + _WHAT_IT_IS + TABLES_AND_RULES + _JUDGED + LIMITS_AND_PARAMETERS
