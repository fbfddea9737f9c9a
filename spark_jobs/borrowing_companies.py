"""Companies that borrow: what the published company score says of them stands in borrower_score.

A borrower of the type company is the company of its identity group. Where a group has several scored companies, the one most
likely to fail counts, as the group answers together. The credit model's own view of the borrower, its log-odds and
raw_prob_default, stays beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from conf.settings import Scores
from conf.source import load_source
from conf.tables import COMPANY, COMPANY_SCORE
from models.credit_model import score_points
from spark_jobs.lake import Lake
from spark_jobs.manifest import Night, night_of

IS_SCORED_COMPANY = "is_scored_company"
# A company's probabilities are of these horizons.
_COLUMN = {12: "prob_distress_1y", 24: "prob_distress_2y", 36: "prob_distress_3y"}


class ReplacedScores(RuntimeError):
    """The company scores that a night was opened with have been written anew."""


def read_company_scores(lake: Lake, night: Night) -> DataFrame | None:
    """Of each identity group with a scored company: identity_group_id; company_prob, the probability that the company most
    likely to fail fails within the source's horizon; and company_reason_codes. None for a night without a company batch.

    Raises ReplacedScores, and ValueError for a horizon that companies are not scored for.
    """
    if night.company_batch is None:
        return None
    source = load_source(lake.settings.source)
    if source.horizon_months not in _COLUMN:
        raise ValueError(
            f"companies are scored for {', '.join(map(str, _COLUMN))} months, borrowers of {source.name} for {source.horizon_months}: "
            "a company's score cannot stand for a borrower"
        )
    company_night = night_of(lake.settings, night.company_batch)
    scores = lake.read_as_of(COMPANY_SCORE, company_night.as_of_date).where(F.col("batch_id") == night.company_batch)
    if scores.isEmpty():
        raise ReplacedScores(
            f"gold table {COMPANY_SCORE.name} no longer holds {company_night.as_of_date} of batch {night.company_batch}, which is "
            "published: run company_scoring of that day to its end, then this night again"
        )
    company = lake.read(COMPANY, company_night.silver_versions[COMPANY.name])
    known = company.where(F.col("known_from") <= F.lit(company_night.as_of_date)).groupBy("company_id")
    groups = known.agg(F.max_by("identity_group_id", "known_from").alias("identity_group_id"))
    told = F.struct(F.col(_COLUMN[source.horizon_months]).alias("prob"), "company_id", "reason_codes")
    riskiest = scores.join(groups, on="company_id", how="inner").groupBy("identity_group_id").agg(F.max(told).alias("told"))
    return riskiest.select(
        "identity_group_id", F.col("told.prob").alias("company_prob"), F.col("told.reason_codes").alias("company_reason_codes")
    )


def with_company_scores(rows: DataFrame, companies: DataFrame | None) -> DataFrame:
    """Adds company_prob and company_reason_codes, null for persons and for companies without a score, and IS_SCORED_COMPANY.

    rows have borrower_type and identity_group_id; companies as from ``read_company_scores``.
    """
    if companies is None:
        joined = rows.withColumns({
            "company_prob": F.lit(None).cast("double"), "company_reason_codes": F.lit(None).cast("array<string>"),
        })
    else:
        told = companies.withColumn("borrower_type", F.lit("company"))
        joined = rows.join(told, on=["identity_group_id", "borrower_type"], how="left")
    return joined.withColumn(IS_SCORED_COMPANY, F.col("company_prob").isNotNull())


def companies_by_their_score(scored: DataFrame, group_log_odds: Sequence[float], scores: Scores) -> DataFrame:
    """For rows with a company_prob: prob_default, score_points and reason_codes are the company's, and risk_group is the one
    whose log-odds of default (group_log_odds, of groups 1 to 5) lie nearest; other rows stay as they are."""
    prob = F.col("company_prob")
    log_odds = F.log(prob) - F.log1p(-prob)
    away = F.array(*(F.abs(log_odds - F.lit(float(one))) for one in group_log_odds))
    of_company = {
        "prob_default": prob, "score_points": score_points(prob, scores), "reason_codes": F.col("company_reason_codes"),
        "risk_group": F.array_position(away, F.array_min(away)).cast("int"),
    }
    return scored.withColumns({
        name: F.when(prob.isNotNull(), value).otherwise(F.col(name)) for name, value in of_company.items()
    })
