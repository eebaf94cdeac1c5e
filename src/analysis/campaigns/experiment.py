"""A randomised campaign in one call: name the measures, hand over the frame, read the table.

results = Experiment({"Spend": Mean("spend", before="spend_before"), "Bought": Share("bought")}).analyse(frame)
results.table
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.campaigns.effects import (
    CUPED,
    DifferenceInMeans,
    EffectResults,
    EstimationError,
    LinAdjustment,
    RatioOfMeans,
    pool,
    tail_sensitivity,
)
from analysis.errors import RapportError
from analysis.multiplicity import adjust_p_values

Weights = NDArray[np.float64] | None

ADJUSTMENTS = ("cuped", "lin")
_COLUMNS = [
    "metric",
    "kind",
    "arm",
    "control",
    "arm_customers",
    "control_customers",
    "missing",
    "control_value",
    "arm_value",
    "effect",
    "effect_low",
    "effect_high",
    "standard_error",
    "p_value",
    "p_holm",
    "p_benjamini_hochberg",
    "relative_effect",
    "relative_low",
    "relative_high",
    "variance_ratio",
    "method",
    "reason",
]


def past_columns(rows: pd.DataFrame, periods: int) -> tuple[str, ...]:
    """Columns of a panel with sales in the ``periods`` periods before the start that are known of all and tell them apart."""
    names = [f"spend_before_{k}" for k in range(1, periods + 1)]
    return tuple(c for c in names if c in rows and rows[c].notna().all() and rows[c].nunique() > 1)


@dataclass(frozen=True)
class Mean:
    """The mean of a count or an amount a customer.

    Parameters
    ----------
    column : of the frame. before : column or columns known before the campaign, which adjust the comparison.
    adjustment : ``cuped`` (one slope for both arms) or ``lin`` (one an arm); without ``before`` neither.
    """

    column: str
    before: str | tuple[str, ...] = ()
    adjustment: str = "cuped"

    kind = "mean"

    def __post_init__(self) -> None:
        if self.adjustment not in ADJUSTMENTS:
            raise ValueError(f"adjustment must be one of {', '.join(ADJUSTMENTS)}, not {self.adjustment}")

    @property
    def past(self) -> list[str]:
        """Columns of the adjustment."""
        return [self.before] if isinstance(self.before, str) else list(self.before)

    @property
    def columns(self) -> list[str]:
        """Columns that must be known."""
        return [self.column, *self.past]

    def estimate(self, rows: pd.DataFrame, treated: NDArray[np.bool_], weights: Weights = None) -> EffectResults:
        """The effect in complete rows of two arms."""
        y = rows[self.column].to_numpy(float)
        if not self.past:
            return DifferenceInMeans(y, treated, weights).fit()
        past = rows[self.past].to_numpy(float)
        if self.adjustment == "cuped":
            return CUPED(y, treated, past, weights).fit()
        if weights is not None:
            raise RapportError(f"{self.column}: the adjustment lin knows no weights; take cuped")
        return LinAdjustment(y, treated, past).fit()


@dataclass(frozen=True)
class Share(Mean):
    """The share of customers for whom something is so: the column holds 0 and 1, or false and true."""

    kind = "share"

    def estimate(self, rows: pd.DataFrame, treated: NDArray[np.bool_], weights: Weights = None) -> EffectResults:
        """The effect in complete rows of two arms."""
        if not rows[self.column].astype(float).isin((0, 1)).all():
            raise RapportError(f"{self.column} must hold only 0 and 1 to be a share; name it as a Mean")
        return super().estimate(rows, treated, weights)


@dataclass(frozen=True)
class Ratio:
    """A ratio of two means, such as spend an order.

    Parameters
    ----------
    numerator, denominator : columns of the frame. before : the same two before the campaign, or empty.
    """

    numerator: str
    denominator: str
    before: tuple[str, str] | tuple[()] = ()

    kind = "ratio"

    @property
    def columns(self) -> list[str]:
        """Columns that must be known."""
        return [self.numerator, self.denominator, *self.before]

    def estimate(self, rows: pd.DataFrame, treated: NDArray[np.bool_], weights: Weights = None) -> EffectResults:
        """The effect in complete rows of two arms."""
        if weights is not None:
            raise RapportError(f"{self.numerator}: a ratio knows no weights; name its parts as means")
        past = tuple(rows[c].to_numpy(float) for c in self.before) or None
        return RatioOfMeans(
            rows[self.numerator].to_numpy(float), rows[self.denominator].to_numpy(float), treated, past
        ).fit()


Metric = Mean | Share | Ratio


@dataclass(frozen=True)
class ExperimentResults:
    """What an experiment found.

    Attributes
    ----------
    table : one row a metric × arm, against the control, with the columns of :meth:`Experiment.analyse`.
    between : the same for each pair of arms that are not the control.
    estimates : the estimate behind each row of ``table``, by (metric, arm). confidence : of the intervals.
    """

    table: pd.DataFrame
    between: pd.DataFrame
    estimates: Mapping[tuple[str, str], EffectResults] = field(repr=False)
    confidence: float = 0.95

    def summary(self) -> pd.DataFrame:
        """The table without its particulars: metric, arm, both values, effect and relative effect with limits, Holm's p,
        the variance ratio achieved, reason."""
        names = ["metric", "arm", "control_value", "arm_value", "effect", "effect_low", "effect_high"]
        names += ["relative_effect", "relative_low", "relative_high", "p_holm", "variance_ratio", "reason"]
        return self.table[names]


@dataclass(frozen=True)
class Experiment:
    """A randomised comparison of arms on several measures.

    Parameters
    ----------
    metrics : measures by name. control : the arm that was left alone. arm : column that names the arms.
    cluster : column of whom the rows belong to (customer or household) where one may have several; errors are then
    summed within it. weight : column of survey weights, for measures without ``lin`` or ratios; rows without one, or with
    zero, are left out. confidence : of intervals.
    """

    metrics: Mapping[str, Metric]
    control: str = "control"
    arm: str = "arm"
    cluster: str | None = None
    weight: str | None = None
    confidence: float = 0.95

    def analyse(self, frame: pd.DataFrame) -> ExperimentResults:
        """Compare every arm with the control, and the arms with each other.

        Parameters
        ----------
        frame : one row a customer, with the arm and the metrics' columns.

        Returns
        -------
        Results whose tables hold metric, kind, arm, control, arm_customers, control_customers, missing (rows left out
        because a column is missing), control_value, arm_value (both adjusted where the effect is), effect, effect_low,
        effect_high, standard_error, p_value, p_holm and p_benjamini_hochberg (over all rows of the table),
        relative_effect, relative_low, relative_high (Fieller; infinite where the control's value cannot be told from
        zero), variance_ratio (nan without adjustment), method, reason (why there is no estimate, in one word).

        Raises
        ------
        RapportError
            A column is not there, nobody is in the control, or there is no other arm.
        """
        arms = self._arms(frame)
        found = {(name, arm): self._compare(frame, name, arm, self.control) for name in self.metrics for arm in arms}
        pairs = [
            self._compare(frame, name, first, second)[0]
            for name in self.metrics
            for second, first in combinations(arms, 2)
        ]
        estimates = {key: result for key, (_, result) in found.items() if result is not None}
        return ExperimentResults(_table([row for row, _ in found.values()]), _table(pairs), estimates, self.confidence)

    def tails(self, frame: pd.DataFrame) -> pd.DataFrame:
        """:func:`effects.tail_sensitivity` of every mean and arm, adjusted by CUPED where the metric names its past.

        Returns
        -------
        One row a metric × arm × treatment of the tail: metric, arm, and the columns of that function.
        """
        parts = []
        for name, metric in self.metrics.items():
            for arm in self._arms(frame) if metric.kind == "mean" else ():
                rows = frame[frame[self.arm].isin((arm, self.control))].dropna(subset=metric.columns)
                treated = (rows[self.arm] == arm).to_numpy()
                past = rows[metric.past].to_numpy(float) if metric.past else None
                try:
                    found = tail_sensitivity(
                        rows[metric.column].to_numpy(float), treated, past, confidence=self.confidence
                    )
                except EstimationError:
                    continue
                found.insert(0, "metric", name)
                found.insert(1, "arm", arm)
                parts.append(found)
        columns = ["metric", "arm", "tail", "quantile", "cap", "changed", "effect", "low", "high", "reason"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def _arms(self, frame: pd.DataFrame) -> list[str]:
        needed = [self.arm, *(c for metric in self.metrics.values() for c in metric.columns)]
        needed += [column for column in (self.cluster, self.weight) if column]
        absent = sorted(set(needed) - set(frame.columns))
        if absent:
            raise RapportError(f"the frame has no column {', '.join(absent)}; it has {', '.join(map(str, frame))}")
        arms = sorted(set(frame[self.arm].dropna()))
        if self.control not in arms:
            raise RapportError(f"nobody is in the arm {self.control!r}; the arms are {', '.join(map(str, arms))}")
        if len(arms) < 2:
            raise RapportError(f"everybody is in the arm {self.control!r}; there is nothing to compare it with")
        return [arm for arm in arms if arm != self.control]

    def _compare(self, frame: pd.DataFrame, name: str, arm: str, control: str) -> tuple[dict, EffectResults | None]:
        metric = self.metrics[name]
        inside = frame[frame[self.arm].isin((arm, control))]
        rows = inside.dropna(subset=metric.columns)
        weights = None
        if self.weight is not None:
            rows = rows[rows[self.weight] > 0]
            weights = rows[self.weight].to_numpy(float)
        treated = (rows[self.arm] == arm).to_numpy()
        row = {"metric": name, "kind": metric.kind, "arm": arm, "control": control, "reason": None}
        row |= {
            "arm_customers": int(treated.sum()),
            "control_customers": int((~treated).sum()),
            "missing": len(inside) - len(rows),
        }
        try:
            found = metric.estimate(rows, treated, weights)
        except EstimationError as error:
            return row | {"reason": error.code}, None
        diagnostics = found.diagnostics
        if self.cluster is not None:
            found = pool([found], [rows[self.cluster].to_numpy(object)])
        if found.se == 0:
            return row | {"reason": "no_variation"}, None
        return row | self._numbers(found, diagnostics), found

    def _numbers(self, found: EffectResults, diagnostics: Mapping[str, float]) -> dict[str, object]:
        low, high = found.interval(self.confidence)
        relative_low, relative_high = found.relative_interval(self.confidence)
        return {
            "control_value": found.baseline,
            "arm_value": found.baseline + found.effect,
            "effect": found.effect,
            "effect_low": low,
            "effect_high": high,
            "standard_error": found.se,
            "p_value": found.pvalue,
            "relative_effect": found.relative(),
            "relative_low": relative_low,
            "relative_high": relative_high,
            "variance_ratio": diagnostics.get("variance_ratio", np.nan),
            "method": found.method,
        }


def _table(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows).reindex(columns=_COLUMNS)
    numbers = [c for c in _COLUMNS if c not in ("metric", "kind", "arm", "control", "method", "reason")]
    table[numbers] = table[numbers].astype(float)
    for column in ("method", "reason"):
        texts = table[column].astype(object)
        table[column] = texts.where(texts.notna(), None)
    known = table["p_value"].notna()
    for column, method in (("p_holm", "holm"), ("p_benjamini_hochberg", "bh")):
        table.loc[known, column] = adjust_p_values(table.loc[known, "p_value"].to_numpy(), method)
    return table
