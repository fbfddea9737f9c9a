"""Drift of small columns, worked out by hand, and expected performance of a handful of scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from conf.settings import load_settings
from models.drift import SCORE, Bins, bins_of, build_counts, column_drift, learn_bins, level, verdict
from models.expected_performance import HISTOGRAM, expected_performance

NULL = math.nan
LIMITS = load_settings().drift.model_copy(
    update={"watch_psi": 0.1, "shifted_psi": 0.25, "shifted_feature_share": 0.5, "min_rows": 10}
)


def test_tenths_of_the_known_values_and_the_nulls():
    bins = bins_of(np.array([*range(10, 0, -1), NULL, NULL]))
    assert bins.edges == tuple(range(1, 10))
    assert bins.shares == pytest.approx([1 / 12] * 10 + [2 / 12])
    # An edge belongs to the bin below it; what lies beyond the training rows, to the first and the last.
    assert bins.counts(np.array([-99.0, 1.0, 1.5, 9.0, 9.1, 99.0, NULL])).tolist() == [2, 1, 0, 0, 0, 0, 0, 0, 1, 2, 1]


def test_a_value_that_is_most_of_a_column_has_a_bin_of_its_own():
    # 5% zeros among ones: each decile is 1, and a night of zeros must not look the same.
    bins = bins_of(np.array([0.0] + [1.0] * 19))
    assert bins.shares == pytest.approx([0.05, 0.95, 0, 0])
    constant = bins_of(np.full(8, -3.0))
    assert constant.shares == (0, 1, 0, 0)
    assert constant.counts(np.array([-4.0, -3.0, -3.0, -2.0, NULL])).tolist() == [1, 2, 1, 1]


@pytest.mark.parametrize(
    ("shares", "counts", "psi"),
    [
        # (0.2 - 0.5) ln 0.4 + (0.8 - 0.5) ln 1.6; nulls neither then nor now.
        ((0.5, 0.5, 0.0), (2, 8, 0), 0.415888),
        # Nulls double: (0.2 - 0.4) ln 0.5 + (0.4 - 0.2) ln 2.
        ((0.4, 0.4, 0.2), (4, 2, 4), 0.277259),
        ((0.4, 0.4, 0.2), (400, 400, 200), 0.0),
        # A constant is another one now: what was empty counts as 0.0001, 2 x (1 - 0.0001) ln 10000.
        ((0.0, 1.0, 0.0, 0.0), (0, 0, 7, 0), 18.418838),
        # Unknown in training, known for half of the rows now: (0.5 - 0.0001) ln 5000 + (0.5 - 1) ln 0.5.
        ((0.0, 1.0), (3, 3), 4.604319),
    ],
)
def test_psi_by_hand(shares, counts, psi):
    assert Bins(tuple(range(len(shares) - 2)), shares).psi(np.array(counts)) == pytest.approx(psi, abs=1e-6)


def test_a_feature_that_nobody_knew_has_one_bin_for_whatever_appears():
    bins = bins_of(np.array([NULL, NULL]))
    assert bins == Bins((), (0.0, 1.0))
    assert bins.counts(np.array([7.0, NULL, -7.0])).tolist() == [2, 1]
    assert bins.psi(np.array([0, 5])) == 0


def test_spark_learns_and_counts_what_numpy_does(spark):
    rows = [(f"b{number}", float(number % 4) if number % 5 else None, 0.1 * number, None) for number in range(20)]
    frame = spark.createDataFrame(rows, "borrower_id string, a double, b double, c double").repartition(3)
    columns = learn_bins(frame, ("a", "b", "c"), ("borrower_id",), 20)
    expected = {name: np.array([NULL if row[place] is None else row[place] for row in rows]) for place, name in enumerate("abc", 1)}
    assert columns == {name: bins_of(values) for name, values in expected.items()}
    assert [Bins.from_json(vars(bins)) for bins in columns.values()] == list(columns.values())

    found = {(row["column_name"], row["bin"]): row["row_count"] for row in build_counts(frame, columns).collect()}
    assert found == {
        (name, place): count
        for name, bins in columns.items()
        for place, count in enumerate(bins.counts(expected[name]).tolist())
        if count
    }


def test_a_limit_belongs_to_the_worse_level():
    assert [level(psi, 10, LIMITS) for psi in (0.099, 0.1, 0.249, 0.25)] == ["stable", "watch", "watch", "shifted"]
    assert level(9.0, 9, LIMITS) == "too_few_rows"


def drift_of(name, then, now, rows=100):
    """Of a column with two bins: the share of the first, then and now; None: all null."""
    shares = (then, 1 - then, 0.0) if then is not None else (0.0, 0.0, 1.0)
    counts = [round(now * rows), rows - round(now * rows), 0] if now is not None else [0, 0, rows]
    return column_drift(name, Bins((0.0,), shares), np.array(counts), LIMITS)


STABLE, SHIFTED = (0.5, 0.5), (0.5, 0.2)  # a PSI of 0 and of 0.416


@pytest.mark.parametrize(
    ("score", "features", "asks", "says"),
    [
        (STABLE, [STABLE, STABLE], False, "Within limits: score PSI 0.000 (limit 0.25); 0 of 2 features at or above 0.25 (limit 50% of them)."),
        (SHIFTED, [STABLE, STABLE], True, "Shifted: score PSI 0.416 (limit 0.25)"),
        # One of two is half; one of three is not.
        (STABLE, [SHIFTED, STABLE], True, "1 of 2 features at or above 0.25 (limit 50% of them): f0 0.42."),
        (STABLE, [SHIFTED, STABLE, STABLE], False, "1 of 3 features"),
        # What nobody ever knew is no feature of this source; what appears or vanishes is.
        (STABLE, [SHIFTED, STABLE, (None, None)], True, "1 of 2 features"),
        (STABLE, [(None, 0.5), (0.5, None), STABLE], True, "2 of 3 features"),
    ],
)
def test_when_drift_asks_for_training(score, features, asks, says):
    found = verdict([drift_of(SCORE, *score), *(drift_of(f"f{n}", *one) for n, one in enumerate(features))], LIMITS)
    assert found.asks_training is asks
    assert says in found.message


def test_too_few_rows_tell_nothing():
    found = verdict([drift_of(SCORE, 0.5, 0.0, rows=9), drift_of("f0", 0.5, 0.0, rows=9)], LIMITS)
    assert (found.asks_training, found.message) == (False, "Too few rows to tell: 9 scored, drift.min_rows is 10.")


def test_expected_performance_by_hand():
    # Of 0.8 and 0.2 one default is expected: 0.8 of it and 0.2 of the non-default above the safer one. The area is
    # 0.2 x 0.8 / 2 + 0.8 x (0.8 + 1) / 2 = 0.8, Brier 0.8 x 0.2.
    found = expected_performance(HISTOGRAM.counts(np.array([0.8, 0.2, 0.8, 0.2])))
    assert found.expected_auc == pytest.approx(0.8, abs=0.004)
    assert found.expected_brier == pytest.approx(0.16, abs=0.002)
    assert found.expected_default_rate == pytest.approx(0.5, abs=0.002)
    alike = expected_performance(HISTOGRAM.counts(np.full(5, 0.03)))
    assert alike.expected_auc == pytest.approx(0.5)
    assert alike.expected_default_rate == pytest.approx(0.03, rel=0.01)


def test_the_histogram_is_as_good_as_the_rows():
    prob = 1 / (1 + np.exp(-np.random.default_rng(1).normal(-2.5, 1.2, 5000)))
    found = expected_performance(HISTOGRAM.counts(prob))
    worse, better = np.sort(prob)[::-1], np.sort(1 - prob)
    area = np.trapezoid(np.append(0, worse.cumsum() / worse.sum()), np.append(0, better.cumsum() / better.sum()))
    assert found.expected_auc == pytest.approx(area, abs=1e-4)
    assert found.expected_default_rate == pytest.approx(prob.mean(), rel=1e-4)
    assert found.expected_brier == pytest.approx((prob * (1 - prob)).mean(), rel=1e-4)
