"""What a user would pick instead of the credit model: one model over all features, with common settings.

Each peer is trained on the same rows, with the same features and weights, and needs no tuning of ours: the libraries'
own defaults, but for rates, sizes and restraint that suit tens of thousands of rows. They belong to the dev group, not to the
product. All frames have one column per feature, doubles, nan where unknown.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

Fitted = Callable[[pd.DataFrame], np.ndarray]
"""Gives the probability of default of each row."""


def known_features(rows: pd.DataFrame) -> list[str]:
    """The features with at least two known values: what a peer can learn from."""
    return [name for name in rows.columns if rows[name].nunique() > 1]


def fit_logistic(rows: pd.DataFrame, is_default: np.ndarray, weight: np.ndarray, seed: int) -> Fitted:
    """Logistic regression on standardised values, nulls as the median with an indicator beside it."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True), StandardScaler(), LogisticRegression(max_iter=2000, random_state=seed)
    )
    model.fit(rows, is_default, logisticregression__sample_weight=weight)
    return lambda others: model.predict_proba(others)[:, 1]


def fit_lightgbm(rows: pd.DataFrame, is_default: np.ndarray, weight: np.ndarray, seed: int) -> Fitted:
    """One LightGBM over all features."""
    import lightgbm

    settings = {
        "objective": "binary", "learning_rate": 0.03, "num_leaves": 15, "min_data_in_leaf": 50, "lambda_l2": 10.0,
        "feature_fraction": 0.7, "bagging_fraction": 0.8, "bagging_freq": 1, "seed": seed, "deterministic": True, "verbosity": -1,
    }
    model = lightgbm.train(settings, lightgbm.Dataset(rows, is_default, weight=weight), num_boost_round=300)
    return lambda others: np.asarray(model.predict(others))


def fit_catboost(rows: pd.DataFrame, is_default: np.ndarray, weight: np.ndarray, seed: int) -> Fitted:
    """CatBoost with its defaults, but for shallow trees and the steps and restraint of ``fit_lightgbm``."""
    from catboost import CatBoostClassifier

    model = CatBoostClassifier(
        iterations=300, learning_rate=0.03, depth=4, l2_leaf_reg=10.0, random_seed=seed, verbose=False, allow_writing_files=False,
        thread_count=2,
    )
    model.fit(rows, is_default, sample_weight=weight)
    return lambda others: model.predict_proba(others)[:, 1]


def fit_scorecard(rows: pd.DataFrame, is_default: np.ndarray, weight: np.ndarray, seed: int) -> Fitted:
    """A scorecard: features in optimal bins as weights of evidence, and a logistic regression over them."""
    from optbinning import BinningProcess, Scorecard
    from sklearn.linear_model import LogisticRegression

    card = Scorecard(
        binning_process=BinningProcess(list(rows.columns), n_jobs=1),
        estimator=LogisticRegression(max_iter=2000, random_state=seed),
    )
    card.fit(rows, is_default.astype(int), sample_weight=weight)
    return lambda others: card.predict_proba(others)[:, 1]


PEERS: dict[str, Callable[[pd.DataFrame, np.ndarray, np.ndarray, int], Fitted]] = {
    "logistic": fit_logistic, "lightgbm": fit_lightgbm, "catboost": fit_catboost, "scorecard": fit_scorecard,
}


def peer_scores(
    rows: pd.DataFrame, is_default: np.ndarray, weight: np.ndarray, tested: pd.DataFrame, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """What each peer gives the tested rows, having learnt from the others; and those that could not be fitted, each with why.

    Raises ImportError where a peer's library is not installed.
    """
    used, scores, unfitted = known_features(rows), {}, {}
    for name, fit in PEERS.items():
        try:
            scores[name] = fit(rows[used], is_default, weight, seed)(tested[used])
        except ImportError:
            raise
        except Exception as problem:  # each library has errors of its own for rows that it cannot learn from
            unfitted[name] = f"{type(problem).__name__}: {problem}"
    return scores, unfitted
