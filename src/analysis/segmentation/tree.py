"""Which segment is this customer in? A few rules that somebody can apply on the telephone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedKFold
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted
from statsmodels.stats.proportion import proportion_confint

from analysis.segmentation.features import UNITS
from analysis.segmentation.mixture import sampled
from analysis.segmentation.scaling import finite

LEAST_A_CLASS = 10


@dataclass(frozen=True)
class Node:
    """A question (``feature`` below ``threshold``? then ``below``, else ``above``) or, without a feature, a leaf.

    ``customers`` came here, and ``right`` of them belong to ``segment``, the most frequent.
    """

    segment: str
    customers: int
    right: int
    feature: str | None = None
    threshold: float = np.nan
    below: Node | None = None
    above: Node | None = None


class RuleTree(ClassifierMixin, BaseEstimator):
    """A short classification tree (Breiman et al. 1984) on features in their own units, with round thresholds.

    The tree is grown by scikit-learn; its thresholds are rounded (counts and days to whole numbers, shares to whole per
    cent, other numbers to two significant digits), questions that no longer part anybody, or whose answers agree, are
    dropped, and every leaf gets the segment that most of its customers are in.

    Parameters
    ----------
    max_depth : questions asked of a customer at most. max_leaves : rules at most.
    min_leaf : customers a rule must apply to.
    units : feature -> unit, as in ``features.UNITS``; those and plain numbers by default.

    Attributes
    ----------
    root_ : :class:`Node`. classes_ : segments. feature_names_in_ : names of the features.
    """

    def __init__(
        self, max_depth: int = 3, max_leaves: int = 8, min_leaf: int = 10, units: Mapping[str, str] | None = None
    ):
        self.max_depth = max_depth
        self.max_leaves = max_leaves
        self.min_leaf = min_leaf
        self.units = units

    def fit(self, X: pd.DataFrame, y):
        """Grow and round the tree; X has one column a feature, y of shape (n,) holds the segments."""
        values, y = finite(X), np.asarray(y).astype(str)
        if len(values) != len(y):
            raise ValueError(f"rules: {len(values)} customers and {len(y)} segments; give one segment a customer")
        self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.n_features_in_ = values.shape[1]
        self.classes_ = np.unique(y)
        leaf = max(1, min(self.min_leaf, len(y) // 2))
        tree = DecisionTreeClassifier(
            max_depth=self.max_depth, max_leaf_nodes=max(2, self.max_leaves), min_samples_leaf=leaf, random_state=0
        )
        tree.fit(values, y)
        self.root_ = self._rounded(tree.tree_, 0, values, y, np.arange(len(y)))
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Segment of each customer by the rules, shape (n,)."""
        check_is_fitted(self)
        values = finite(X[list(self.feature_names_in_)])
        found = np.empty(len(values), dtype=object)
        place = {name: i for i, name in enumerate(self.feature_names_in_)}

        def walk(node: Node, rows: np.ndarray) -> None:
            if node.feature is None:
                found[rows] = node.segment
                return
            low = values[rows, place[node.feature]] < node.threshold
            walk(node.below, rows[low])
            walk(node.above, rows[~low])

        walk(self.root_, np.arange(len(values)))
        return found.astype(str)

    def _rounded(self, tree, number: int, values: np.ndarray, y: np.ndarray, rows: np.ndarray) -> Node:
        labels, counts = np.unique(y[rows], return_counts=True)
        leaf = Node(str(labels[counts.argmax()]), len(rows), int(counts.max()))
        if tree.children_left[number] < 0:
            return leaf
        column = int(tree.feature[number])
        name = str(self.feature_names_in_[column])
        unit = (UNITS if self.units is None else self.units).get(name, "number")
        threshold = round_threshold(float(tree.threshold[number]), unit, values[rows, column])
        low = values[rows, column] < threshold
        if low.all() or not low.any():
            # Everybody answers alike; the branch that they take goes on in place of the question.
            onward = tree.children_left[number] if low.all() else tree.children_right[number]
            return self._rounded(tree, onward, values, y, rows)
        below = self._rounded(tree, tree.children_left[number], values, y, rows[low])
        above = self._rounded(tree, tree.children_right[number], values, y, rows[~low])
        same = below.feature is None and above.feature is None and below.segment == above.segment
        if same or min(low.sum(), (~low).sum()) < min(self.min_leaf, len(y) // 2):
            return leaf
        return Node(leaf.segment, leaf.customers, leaf.right, name, threshold, below, above)


def round_threshold(cut: float, unit: str, values: np.ndarray) -> float:
    """A cut between ``<=`` and ``>`` as a round number between "less than" and "at least".

    Whole numbers keep the same customers on either side up to a hundred; otherwise the roundest of one or two significant
    digits (whole per cent for shares) within 2 % of the spread of ``values`` is taken, and two digits where none is.
    """
    whole = bool((values == np.round(values)).all())
    if whole and abs(cut) <= 100:
        return float(np.floor(cut) + 1)
    if unit == "share":
        return round(cut, 2)
    tolerance = 0.02 * (np.quantile(values, 0.9) - np.quantile(values, 0.1))
    for digits in (1, 2):
        rounded = _significant(cut, digits)
        if abs(rounded - cut) <= tolerance:
            return rounded
    return _significant(cut, 2)


def _significant(x: float, digits: int) -> float:
    return 0.0 if x == 0 else float(f"{x:.{digits - 1}e}")


@dataclass(frozen=True)
class SegmentRules:
    """Rules for placing a customer, and how often they are right.

    Attributes
    ----------
    tree : fitted :class:`RuleTree`; None with a ``reason`` (``no_segments``, ``one_segment`` or ``few_customers``).
    rules : one row a leaf, largest first: segment, conditions (list of (feature, low, high): low ≤ feature < high, None where
        open), customers, share (of all), right (share of its customers in the segment), low, high (Wilson).
    accuracy, low, high : share of customers placed rightly by rules that have not seen them, cross-validated, with Wilson's
        interval.
    baseline : share of the largest segment, what guessing it for everybody gets right.
    by_segment : one row a segment: segment, customers, found (share of its customers that the rules place there, out of
        fold), low, high, ruled (bool: does any rule lead to it?).
    customers : how many the rules were made and judged on.
    """

    tree: RuleTree | None
    rules: pd.DataFrame
    accuracy: float | None
    low: float | None
    high: float | None
    baseline: float | None
    by_segment: pd.DataFrame
    customers: int
    reason: str | None


def segment_rules(
    features: pd.DataFrame,
    labels: pd.Series,
    max_depth: int = 3,
    small_group: int = 10,
    folds: int = 10,
    seed: int = 1,
    max_rows: int = 20_000,
    confidence: float = 0.95,
) -> SegmentRules:
    """Describe segments by a few plain rules, and say how often they are right.

    Parameters
    ----------
    features : frame of ``behaviour_features`` in its own units (shares not drawn to the base, so that anybody can work them
        out); customer_id and columns that are not numbers are left out.
    labels : shape (n,), segments; customers without one are left out.
    max_depth : questions asked of a customer at most.
    small_group : customers a rule must apply to at least.
    folds : of the cross-validation, stratified by segment. seed : of the folds.
    max_rows : rules are made on a sample of this many customers when there are more.

    Returns
    -------
    SegmentRules

    Raises
    ------
    ValueError
        Features and labels differ in length, or a feature is missing for a customer.

    Notes
    -----
    The whole procedure, rounding included, is repeated in each fold. Wilson's interval takes the out-of-fold answers as
    independent; between folds they nearly are for a tree this short (tested by simulation).
    """
    if len(features) != len(labels):
        raise ValueError(f"rules: {len(features)} customers and {len(labels)} segments; give one segment a customer")
    known = labels.notna().to_numpy()
    X = features.loc[known].select_dtypes("number").reset_index(drop=True)
    y = labels[known].astype(str).to_numpy()
    rows = sampled(len(y), max_rows)
    X, y = X.iloc[rows].reset_index(drop=True), y[rows]
    names, sizes = np.unique(y, return_counts=True)
    reason = "no_segments" if not len(y) else "one_segment" if len(names) < 2 else None
    if reason is None and (sizes.min() < LEAST_A_CLASS or X.shape[1] == 0):
        reason = "few_customers"
    if reason:
        none = pd.DataFrame()
        return SegmentRules(None, none, None, None, None, None, none, len(y), reason)
    model = RuleTree(max_depth, 2**max_depth, max(small_group, int(np.ceil(0.01 * len(y)))))
    guessed = np.empty(len(y), dtype=object)
    parts = StratifiedKFold(min(folds, int(sizes.min())), shuffle=True, random_state=seed)
    for train, test in parts.split(X, y):
        guessed[test] = RuleTree(**model.get_params()).fit(X.iloc[train], y[train]).predict(X.iloc[test])
    model.fit(X, y)
    right = guessed == y
    low, high = proportion_confint(right.sum(), len(y), 1 - confidence, method="wilson")
    rules = _rules(model.root_, len(y), confidence)
    ruled = set(rules["segment"])
    by_segment = pd.DataFrame(
        [
            {"segment": name, "customers": int(size)}
            | _share(int(right[y == name].sum()), int(size), "found", confidence)
            | {"ruled": name in ruled}
            for name, size in zip(names, sizes, strict=True)
        ]
    )
    return SegmentRules(
        model,
        rules,
        float(right.mean()),
        float(low),
        float(high),
        float(sizes.max() / len(y)),
        by_segment,
        len(y),
        None,
    )


def _share(k: int, n: int, name: str, confidence: float) -> dict[str, float]:
    low, high = proportion_confint(k, n, 1 - confidence, method="wilson")
    return {name: k / n, "low": float(low), "high": float(high)}


def _rules(root: Node, total: int, confidence: float) -> pd.DataFrame:
    rows = []

    def walk(node: Node, limits: dict[str, tuple[float | None, float | None]]) -> None:
        if node.feature is None:
            rows.append(
                {
                    "segment": node.segment,
                    "conditions": [(name, low, high) for name, (low, high) in limits.items()],
                    "customers": node.customers,
                    "share": node.customers / total,
                }
                | _share(node.right, node.customers, "right", confidence)
            )
            return
        low, high = limits.get(node.feature, (None, None))
        walk(node.below, limits | {node.feature: (low, node.threshold)})
        walk(node.above, limits | {node.feature: (node.threshold, high)})

    walk(root, {})
    return pd.DataFrame(rows).sort_values(["segment", "customers"], ascending=[True, False], ignore_index=True)
