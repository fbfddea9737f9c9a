"""Boosted trees in LightGBM's text, whoever grew them, and exact Shapley values of their inputs.

The values are those of LightGBM's pred_contrib (path-dependent TreeSHAP: Lundberg et al. 2020, "From local explanations to
global understanding with explainable AI for trees"). Its time for a row grows with the square of a tree's depth; looked up
in tables that are made once per model, the same values come more than ten times as fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from pyspark.ml.classification import GBTClassificationModel

# Half the log-odds is what Spark's boosted trees add up (loss 2 log(1 + exp(-2yF)), Friedman 2001).
SPARK_TREES_FACTOR = 2.0
# A leaf's table has two to the power of its inputs entries for each of them.
MAX_TABLE_INPUTS = 12


@dataclass(frozen=True)
class Split:
    """Left where the input is at most the threshold; a missing value, which is nan, goes where it is told."""

    column: int
    threshold: float
    missing_goes_left: bool

    def goes_left(self, columns: np.ndarray) -> np.ndarray:
        """Which way each row goes; columns has shape (inputs, rows)."""
        values = columns[self.column]
        return ~(values > self.threshold) if self.missing_goes_left else values <= self.threshold


@dataclass(frozen=True)
class Leaf:
    """The conditions of each input on the way to a leaf, as (number of the split, whether left), and its ``leaf_table``."""

    conditions: dict[int, list[tuple[int, bool]]]
    table: np.ndarray


@dataclass(frozen=True)
class Tree:
    """One tree: its splits, and its leaves, which refer to splits by number."""

    splits: tuple[Split, ...]
    leaves: tuple[Leaf, ...]

    def add_contributions(self, columns: np.ndarray, result: np.ndarray) -> None:
        """Add the Shapley values of its inputs to the result; both arrays have shape (inputs, rows)."""
        left = [split.goes_left(columns) for split in self.splits]
        sides = {True: left, False: [~went for went in left]}
        for leaf in self.leaves:
            met = np.zeros(columns.shape[1], dtype=np.intp)
            for place, conditions in enumerate(leaf.conditions.values()):
                is_met = reduce(np.logical_and, [sides[is_left][number] for number, is_left in conditions])
                met |= is_met.astype(np.intp) << place
            for column, values in zip(leaf.conditions, leaf.table, strict=True):
                result[column] += values.take(met)


@dataclass(frozen=True)
class Trees:
    """A boosted model whose raw output is log-odds.

    text: LightGBM's. base: the expected log-odds over the rows on which the trees were grown. None stands for a tree that is
    too deep to be looked up, and is left to LightGBM.
    """

    text: str
    base: float
    trees: tuple[Tree | None, ...]

    @classmethod
    def from_text(cls, text: str) -> Trees:
        """The trees of a model in LightGBM's text."""
        booster = _booster(text)
        base = booster.predict(np.zeros((1, booster.num_feature())), pred_contrib=True)[0, -1]
        return cls(text, float(base), tuple(_read_tree(told["tree_structure"]) for told in booster.dump_model()["tree_info"]))

    def contributions(self, inputs: np.ndarray) -> np.ndarray:
        """Shapley values (rows, width) of inputs (rows, width), nan being a missing value.

        They add up to the log-odds less ``base``.
        """
        columns = np.ascontiguousarray(inputs.T)
        result = np.zeros_like(columns)
        booster = _booster(self.text) if None in self.trees else None
        for number, tree in enumerate(self.trees):
            if tree is None:
                told = booster.predict(inputs, pred_contrib=True, start_iteration=number, num_iteration=1, num_threads=1)
                result += told[:, :-1].T
            else:
                tree.add_contributions(columns, result)
        return result.T


def leaf_table(value: float, shares: Sequence[float]) -> np.ndarray:
    """Shapley values (inputs, 2 ** inputs) of a leaf's inputs, by which of them meet their conditions: k does where bit k is set.

    shares: of the training rows that meet an input's other conditions, how many meet its own. To the leaf's value an input
    that is known counts 1 or 0, one that is not its share. The weights of the coalitions are the integral of a polynomial
    over the chance of being known, which Gauss-Legendre nodes give exactly.
    """
    share = np.array(shares)[:, None]
    gain = ((np.arange(2 ** len(shares)) >> np.arange(len(shares))[:, None]) & 1) - share
    others = np.zeros_like(gain)
    for node, weight in zip(*np.polynomial.legendre.leggauss((len(shares) + 1) // 2 or 1), strict=True):
        factor = share + gain * (node + 1) / 2
        others += weight / 2 * factor.prod(axis=0) / factor
    return value * gain * others


def _booster(text: str) -> Any:
    import lightgbm

    return lightgbm.Booster(model_str=text)


def _read_tree(root: dict[str, Any]) -> Tree | None:
    """A tree as LightGBM dumps it; None where a leaf has more inputs on its way than a table is made for."""
    splits: list[Split] = []
    leaves: list[tuple[dict[int, list[tuple[int, bool]]], float, dict[int, float]]] = []

    def read(node: dict[str, Any], conditions: dict[int, list[tuple[int, bool]]], shares: dict[int, float]) -> None:
        if "split_feature" not in node:
            leaves.append((conditions, node["leaf_value"], shares))
            return
        column, threshold, number = node["split_feature"], node["threshold"], len(splits)
        # Where training met no missing value, LightGBM takes one for 0.
        missing_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0
        splits.append(Split(column, threshold, missing_left))
        for side in ("left", "right"):
            child = node[f"{side}_child"]
            share = child.get("internal_count", child.get("leaf_count")) / node["internal_count"]
            read(
                child,
                conditions | {column: [*conditions.get(column, []), (number, side == "left")]},
                shares | {column: shares.get(column, 1.0) * share},
            )

    read(root, {}, {})
    if max(len(shares) for *_, shares in leaves) > MAX_TABLE_INPUTS:
        return None
    return Tree(
        tuple(splits),
        tuple(Leaf(conditions, leaf_table(value, list(shares.values()))) for conditions, value, shares in leaves),
    )


def spark_trees(model: GBTClassificationModel) -> Trees:
    """Spark's boosted trees, which split as LightGBM's do (left where the value is at most the threshold).

    No feature of this project is split by category.
    """
    head = {
        "version": "v4", "num_class": 1, "num_tree_per_iteration": 1, "label_index": 0,
        "max_feature_idx": model.numFeatures - 1, "objective": "binary sigmoid:1",
        "feature_names": _joined(f"Column_{column}" for column in range(model.numFeatures)),
        "feature_infos": _joined(["[-inf:inf]"] * model.numFeatures),
    }
    trees = [
        _lines(_tree_fields(number, tree._call_java("rootNode"), SPARK_TREES_FACTOR * weight))
        for number, (tree, weight) in enumerate(zip(model.trees, model.treeWeights, strict=True))
    ]
    return Trees.from_text("\n\n".join(["tree\n" + _lines(head), *trees, "end of trees", ""]))


def _tree_fields(number: int, root: Any, factor: float) -> dict[str, object]:
    """One tree as LightGBM tells it: splits are numbered from 0 up, leaves from -1 down."""
    splits: list[tuple[int, float, int, int, int]] = []
    leaves: list[tuple[float, int]] = []

    def place(node: Any) -> int:
        rows = node.impurityStats().rawCount()
        if node.subtreeDepth() == 0:
            leaves.append((factor * node.prediction(), rows))
            return -len(leaves)
        own, split = len(splits), node.split()
        splits.append(())
        splits[own] = (split.featureIndex(), split.threshold(), place(node.leftChild()), place(node.rightChild()), rows)
        return own

    place(root)
    values, rows = zip(*leaves, strict=True)
    fields: dict[str, object] = {"Tree": number, "num_leaves": len(leaves), "num_cat": 0}
    if splits:
        names = ("split_feature", "threshold", "left_child", "right_child", "internal_count")
        fields |= {name: _joined(map(repr, column)) for name, column in zip(names, zip(*splits, strict=True), strict=True)}
        fields["decision_type"] = _joined(["0"] * len(splits))
    return fields | {"leaf_value": _joined(map(repr, values)), "leaf_count": _joined(map(repr, rows)), "shrinkage": 1}


def _joined(values: Iterable[str]) -> str:
    return " ".join(values)


def _lines(fields: dict[str, object]) -> str:
    return "\n".join(f"{name}={value}" for name, value in fields.items())
