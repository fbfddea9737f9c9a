"""What a loan's term adds to its log-odds by the time at risk alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pyspark.sql import functions as F

from models.term_offset import TermOffset, fit_term_offset

HORIZON = 36


@pytest.fixture
def rows(spark):
    """Terms of 12 and 24 months, with a quarter and half of the horizon's risk, and one unknown: no loan runs so long yet."""
    return spark.createDataFrame(
        [(24.0, 0.5), (12.0, 0.25), (24.0, 0.5), (None, 0.7)], "loan_term_months double, term_share double"
    )


def test_offsets_are_linear_between_the_terms_of_the_training_rows_and_none_at_the_horizon(rows):
    found = fit_term_offset(rows, HORIZON).of(np.array([1.0, 12.0, 18.0, 24.0, 36.0, 60.0, math.nan]))
    half = math.log(0.5)
    assert found.tolist() == pytest.approx([2 * half, 2 * half, 1.5 * half, half, 0.0, 0.0, 0.0])


def test_spark_and_numpy_tell_the_same(rows):
    offset = fit_term_offset(rows, HORIZON)
    terms = rows.withColumn("loan_term_months", F.explode(F.array(*map(F.lit, [5.0, 12.0, 30.0, 48.0, None]))))
    told = terms.select("loan_term_months", offset.column().alias("offset")).distinct().toPandas()
    assert told["offset"].tolist() == pytest.approx(offset.of(told["loan_term_months"].to_numpy(dtype=float)).tolist())
    assert told["offset"].nunique() == 3


def test_where_the_horizon_has_passed_for_all_there_is_none(rows):
    assert fit_term_offset(rows.withColumn("term_share", F.lit(1.0)), HORIZON) == TermOffset((0.0,))


def test_where_no_term_is_known_there_is_none(rows):
    assert fit_term_offset(rows.where("loan_term_months IS NULL"), HORIZON) == TermOffset((0.0,))
