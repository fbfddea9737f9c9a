"""The gate on scores finds codes that are not in the catalogue, that are too many, and reasons that stand twice."""

from __future__ import annotations

import pytest

from conf.tables import BORROWER_SCORE
from expectations.measures import measures

RULES = ("reasons_at_most_four", "reasons_once", "unknown_reasons")
GOOD = ["overdrafts_raised_risk", "bureau_score_lowered_risk", "age_raised_risk", "gender_lowered_risk"]


@pytest.mark.parametrize(
    ("codes", "broken"),
    [
        (GOOD, []),
        ([], []),  # nothing moved the score
        (None, []),  # from before there were reasons; the job counts it among those with too few
        ([*GOOD, "education_raised_risk"], ["reasons_at_most_four"]),
        (["age_raised_risk", "age_raised_risk"], ["reasons_once"]),
        (["age_raised_risk", "age_lowered_risk"], ["reasons_once"]),
        (["age_raised_risk", "zodiac_raised_risk"], ["unknown_reasons"]),
        (["age_raised_risk", None], ["reasons_once", "unknown_reasons"]),
    ],
)
def test_codes_within_and_without(spark, codes, broken):
    found = measures(BORROWER_SCORE)
    frame = spark.createDataFrame([(codes,)], "reason_codes ARRAY<STRING>")
    measured = frame.selectExpr(*(f"{found[name].sql} AS {name}" for name in RULES)).first()
    assert [name for name in RULES if measured[name] > found[name].bound.high] == broken
