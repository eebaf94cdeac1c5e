"""Do groups of customers, or waves of a survey, differ: in what drives loyalty, and in how high they score?

>>> comparison = compare_groups(answers, specification, customers["age_band"], permutations=1000, seed=1)
>>> comparison.invariance, comparison.differences
>>> wave_change(scores, answers["wave"], customers=answers["customer_id"])
>>> group_levels(scores, answers["region"]), equal_levels(scores, answers["region"])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

import ibis
import numpy as np
import pandas as pd
from ibis import _
from numpy.typing import NDArray
from scipy import stats

from analysis.cleaning.groups import shown_groups
from analysis.multiplicity import adjust_p_values

from .kernel import Estimates, Layout, Outcome, Scheme, estimate
from .moments import Array, Moments, counts_of, draw_indices
from .path_model import MINIMUM_ROWS, EstimationError, Missing, PLSPathModel
from .resampling import percentile_interval
from .scores import snake
from .specification import Specification

LEVEL = 0.05
"""Of significance, after the correction for the number of paths or scores."""

MOST_GROUPS = 8
"""Groups compared or shown by name at most."""

_ROUNDING = 1e-9
_BATCH = 4_000_000

Labels = NDArray[np.int64]
"""(n,) number of the group of each row."""


# -- what drives loyalty, by group ----------------------------------------------------------------------------


@dataclass(frozen=True)
class GroupComparison:
    """Path coefficients by group, how far they differ, and whether they may be compared at all.

    groups : group, answers, customers (both null below the smallest number told), reason (why the group is left out; null
        where it is compared)
    estimates : group, source, target, estimate, low, high
    differences : one row a pair of groups and path: first, second, source, target, difference (second less first),
        low, high (bootstrap), p (permutation), p_holm, comparable, differs
    omnibus : one row a path: source, target, lowest, highest (of the groups' estimates), p (all groups alike), p_holm,
        comparable, differs
    invariance : one row a pair of groups and construct, from MICOM; see `compare_groups`
    overall_p : permutation p-value of "all paths are alike in all groups"
    failed : permutations and resamples that could not be estimated and were left out
    reason : why nothing is compared; null where at least two groups are
    """

    groups: pd.DataFrame
    estimates: pd.DataFrame
    differences: pd.DataFrame
    omnibus: pd.DataFrame
    invariance: pd.DataFrame
    overall_p: float
    failed: int
    reason: str | None


def compare_groups(
    data: pd.DataFrame,
    specification: Specification,
    groups: pd.Series,
    *,
    scheme: Scheme = "path",
    missing: Missing = "mean",
    missing_codes: Iterable = (),
    weights: Array | pd.Series | None = None,
    customers: pd.Series | None = None,
    permutations: int = 1000,
    draws: int = 1000,
    seed: int = 1,
    confidence: float = 0.95,
    smallest: int = 10,
) -> GroupComparison:
    """Compare path coefficients between groups by permutation, after a check that the composites mean the same.

    Group labels are shuffled, the model is estimated in each shuffled group, and a difference counts if few shuffles
    bring one as large. Customers with equally many rows trade the labels of their rows, and the rows of a customer
    trade among themselves, so a group may be a trait of the customer (a region) or change between rows (a wave).
    The test is of "both groups are from one population"; the bootstrap limits of the difference, from resamples
    of customers, do not suppose that.

    MICOM: items, coding and algorithm are the same in all groups (step 1), the weights of either group give scores
    of the pooled answers that correlate more than the lowest 5 % of shuffles do (step 2), and pooled scores have equal
    means and variances (step 3). The frame `invariance` has: first, second, construct, correlation, floor (5 % quantile
    of the shuffles), correlation_p, compositional, mean_difference (second less first, in standard deviations of all),
    mean_low, mean_high (range of 95 % of the shuffles), equal_means, log_variance_ratio, variance_low, variance_high,
    equal_variances, verdict ("full", "partial": composition only, "none"). A path is `comparable` where step 2 holds
    for its target and every source of that target; where it is not, it never `differs`.

    Parameters
    ----------
    data, specification, scheme, missing, missing_codes, weights, customers : as in `PLSPathModel`
    groups : (n,) the group of each row; rows with none are left out
    permutations, draws : shuffles of the labels, and bootstrap resamples
    smallest : fewest customers of a group that is compared; ten times the most arrows into one construct, or the fewest
        rows of a model, where that is more

    Raises
    ------
    EstimationError
        As `PLSPathModel`; too few permutations for the level, or too many groups.

    Source: Chin & Dibbern (2010), in Handbook of Partial Least Squares, pp. 171-193; Henseler, Ringle & Sarstedt (2016),
    Int. Marketing Rev. 33(3), steps 1-3; p-values count the sample itself as a shuffle (Phipson & Smyth 2010). More than
    two groups: squared distances of the groups' coefficients from their mean, after Klesel et al. (2019), Internet Res.
    29(3), who take them between implied correlations. Holm's correction is over paths, for all groups at once; a pair
    differs in a path where all groups do and the pair does too, corrected over pairs. MICOM is corrected over pairs.
    """
    if len(groups) != len(data):
        raise EstimationError(f"{len(groups)} groups for {len(data)} rows of answers: give one a row")
    model = PLSPathModel(
        data.reset_index(drop=True),
        specification,
        scheme=scheme,
        missing=missing,
        missing_codes=missing_codes,
        weights=weights,
        customers=None if customers is None else customers.reset_index(drop=True),
    )
    sample, names, table = _sample(model, groups, customers, weights, smallest)
    if len(names) < 2:
        return _not_compared(table)
    pairs = list(combinations(range(len(names)), 2))
    _check_numbers(permutations, draws, max(len(pairs), len(specification.paths)))
    rng = np.random.default_rng(seed)
    everyone = _shuffle(sample, model, permutations, rng)
    shuffles = [everyone] if len(names) == 2 else [_shuffle(sample.of(p), model, permutations, rng) for p in pairs]
    paths = _bootstrap_paths(sample, model, everyone.reference, draws, rng)
    invariance = pd.concat([_invariance(s, model, LEVEL / len(pairs)) for s in shuffles], ignore_index=True)
    invariance = _paired(invariance, pairs, names)
    omnibus, overall_p = _omnibus(everyone, _arrows(specification))
    omnibus = _judged(omnibus, invariance, specification, [])
    differences = _differences(shuffles, paths, pairs, omnibus, confidence)
    differences = _judged(_paired(differences, pairs, names), invariance, specification, ["first", "second"])
    unused = sum(s.failed for s in {id(s): s for s in (everyone, *shuffles)}.values())
    return GroupComparison(
        groups=table,
        estimates=_estimates(everyone, paths, specification, names, confidence),
        differences=differences,
        omnibus=omnibus,
        invariance=invariance,
        overall_p=overall_p,
        failed=unused + int(np.isnan(paths).any(axis=(1, 2)).sum()),
        reason=None,
    )


def _check_numbers(permutations: int, draws: int, tests: int) -> None:
    """Fewer shuffles than this could not bring a corrected p-value below the level, whatever the answers."""
    needed = int(np.ceil(tests / LEVEL))
    if permutations < needed or draws < 2:
        raise EstimationError(
            f"permutations={permutations}, draws={draws}: {tests} comparisons need at least {needed}, and 2 draws"
        )


class _Sample(NamedTuple):
    """Rows of answers of the groups that are compared."""

    values: Array
    weights: Array
    customers: Labels
    labels: Labels

    def of(self, pair: tuple[int, int]) -> _Sample:
        """The rows of two groups, which become groups 0 and 1."""
        keep = np.isin(self.labels, pair)
        return _Sample(*(part[keep] for part in self[:3]), (self.labels[keep] == pair[1]).astype(np.int64))


class _Shuffled(NamedTuple):
    """Estimates in the groups as they are (row 0) and as shuffled."""

    paths: Array
    """(1 + B, G, A)."""
    weights: Array
    """(1 + B, G, p)."""
    means: Array
    """(1 + B, G, J) of the pooled composites, which have mean 0 and variance 1 over all rows."""
    variances: Array
    correlations: Array
    """(p, p) of the pooled items."""
    sizes: Array
    """(G,) rows."""
    reference: Array
    """(p,) pooled loadings, which orient the composites."""

    @property
    def failed(self) -> int:
        return int(np.isnan(self.paths).any(axis=(1, 2)).sum())


def _sample(
    model: PLSPathModel,
    groups: pd.Series,
    customers: pd.Series | None,
    weights: Array | pd.Series | None,
    smallest: int,
) -> tuple[_Sample, list[str], pd.DataFrame]:
    """The rows to compare, the names of their groups, and the table of all groups."""
    kept = model.answers.index.to_numpy()
    labels, names = _labels(groups)
    if len(names) > MOST_GROUPS:
        raise EstimationError(f"{len(names)} groups: at most {MOST_GROUPS} can be compared; join some")
    labels, who = labels[kept], _customer_numbers(customers, len(labels))[kept]
    mass = np.ones(len(kept)) if weights is None else np.asarray(weights, dtype=float)[kept]
    arrows = max(len(sources) for sources in model.layout.sources)
    needed = max(MINIMUM_ROWS, 10 * arrows, smallest)
    values = model.answers.to_numpy(float)
    rows = []
    for g, name in enumerate(names):
        member = labels == g
        answers, people = int(member.sum()), len(np.unique(who[member]))
        if people < smallest:
            # A count below the threshold is itself something told about a handful.
            reason = (
                f"{name} has fewer than {smallest} customers who answered: this model needs {needed} in every group"
            )
            rows.append((name, np.nan, np.nan, reason))
        else:
            rows.append((name, answers, people, _refusal(name, values[member], mass[member], people, needed, model)))
    table = pd.DataFrame(rows, columns=["group", "answers", "customers", "reason"]).astype({"reason": object})
    compared = [g for g, row in enumerate(rows) if row[3] is None]
    keep = np.isin(labels, compared)
    labels = np.searchsorted(compared, labels[keep]) if compared else labels[keep]
    # Estimates do not depend on the sum of a group's weights; shuffled groups should not mix different scales.
    mass = (
        mass[keep] / _group_sums(labels, mass[keep])[labels] * np.bincount(labels)[labels] if compared else mass[keep]
    )
    return _Sample(values[keep], mass, who[keep], labels), [names[g] for g in compared], table


def _refusal(name: str, values: Array, mass: Array, customers: int, needed: int, model: PLSPathModel) -> str | None:
    if customers < needed:
        return f"{name} has {customers} customers who answered: this model needs {needed} in every group"
    if not mass.sum() > 0:
        return f"the weights of {name} are all zero"
    batch = Moments(values, mass).full()
    if batch.constant.any():
        return f"in {name} the item {model.specification.items[int(batch.constant[0].argmax())]!r} does not vary"
    if estimate(batch.correlations, model.layout, model.scheme).outcome[0] != Outcome.CONVERGED:
        return f"the model cannot be estimated in {name}"
    return None


def _not_compared(table: pd.DataFrame) -> GroupComparison:
    refused = table["reason"].dropna()
    few = "there is only one group" if len(table) == 1 else "there are no groups"
    reason = f"fewer than two groups can be compared: {'; '.join(refused)}" if len(refused) else few
    empty = pd.DataFrame
    return GroupComparison(
        groups=table,
        estimates=empty(columns=["group", "source", "target", "estimate", "low", "high"]),
        differences=empty(columns=["first", "second", *_DIFFERENCE]),
        omnibus=empty(columns=_OMNIBUS),
        invariance=empty(columns=["first", "second", *_INVARIANCE]),
        overall_p=float("nan"),
        failed=0,
        reason=reason,
    )


_JUDGED = ["p", "p_holm", "comparable", "differs"]
_DIFFERENCE = ["source", "target", "difference", "low", "high", *_JUDGED]
_OMNIBUS = ["source", "target", "lowest", "highest", *_JUDGED]
_INVARIANCE = [
    *["construct", "correlation", "floor", "correlation_p", "compositional"],
    *["mean_difference", "mean_low", "mean_high", "equal_means"],
    *["log_variance_ratio", "variance_low", "variance_high", "equal_variances", "verdict"],
]


def shuffled_labels(labels: Labels, customers: Labels, size: int, rng: np.random.Generator) -> Labels:
    """Labels (size, n) shuffled so that every group keeps its rows and every customer's rows stay together.

    Customers with equally many rows trade the labels of all their rows, in an order drawn anew.

    Source: Winkler et al. (2015), NeuroImage 123, on whole-block and within-block exchangeability.
    """
    order = np.argsort(customers, kind="stable")
    __, first, counts = np.unique(customers[order], return_index=True, return_counts=True)
    result = np.empty((size, len(labels)), dtype=np.int64)
    for k in np.unique(counts):
        rows = order[first[counts == k][:, None] + np.arange(k)]
        who = rng.permuted(np.broadcast_to(np.arange(len(rows)), (size, len(rows))), axis=1)
        drawn = labels[rows][who]
        result[:, rows] = rng.permuted(drawn, axis=2) if k > 1 else drawn
    return result


def _shuffle(sample: _Sample, model: PLSPathModel, permutations: int, rng: np.random.Generator) -> _Shuffled:
    """The model in every group, for the labels as they are and as shuffled; row 0 is as they are."""
    moments, layout = Moments(sample.values, sample.weights), model.layout
    pooled = moments.full()
    fitted = estimate(pooled.correlations, layout, model.scheme)
    reference = _own_loadings(fitted, layout)
    z = np.nan_to_num((sample.values - pooled.means[0]) / np.where(pooled.constant[0], 1.0, pooled.deviations[0]))
    scores = np.add.reduceat(z * np.nan_to_num(fitted.weights[0]), layout.starts[:-1], axis=1)
    features = sample.weights[:, None] * np.hstack([np.ones((len(z), 1)), scores, scores**2])
    groups = int(sample.labels.max()) + 1
    parts = []
    for labels in _label_batches(sample, permutations, rng):
        by_group = [(labels == g).astype(float) for g in range(groups)]
        fits = [_estimate(moments.batch(member), model, reference) for member in by_group]
        sums = np.stack([member @ features for member in by_group], axis=1)
        means, squares = np.split(sums[:, :, 1:] / np.maximum(sums[:, :, :1], np.finfo(float).tiny), 2, axis=2)
        paths, weights = (np.stack([getattr(f, a) for f in fits], axis=1) for a in ("paths", "weights"))
        parts.append((paths, weights, means, squares - means**2))
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return _Shuffled(*joined, pooled.correlations[0], np.bincount(sample.labels).astype(float), reference)


def _label_batches(sample: _Sample, permutations: int, rng: np.random.Generator) -> Iterator[Labels]:
    step = int(np.clip(_BATCH // len(sample.labels), 1, 256))
    yield sample.labels[None]
    for start in range(0, permutations, step):
        yield shuffled_labels(sample.labels, sample.customers, min(step, permutations - start), rng)


def _bootstrap_paths(
    sample: _Sample, model: PLSPathModel, reference: Array, draws: int, rng: np.random.Generator
) -> Array:
    """Paths (draws, G, A) in resamples of customers; one who answered in several groups counts in each."""
    who, numbers = np.unique(sample.customers, return_inverse=True)
    members = [sample.labels == g for g in range(int(sample.labels.max()) + 1)]
    moments = [Moments(sample.values[m], sample.weights[m]) for m in members]
    step = int(np.clip(_BATCH // len(sample.labels), 1, 256))
    parts = []
    for start in range(0, draws, step):
        counts = counts_of(draw_indices(len(who), min(step, draws - start), rng), len(who))
        batches = [of.batch(counts[:, numbers[m]]) for of, m in zip(moments, members, strict=True)]
        parts.append(np.stack([_estimate(batch, model, reference).paths for batch in batches], axis=1))
    return np.concatenate(parts)


def _estimate(batch, model: PLSPathModel, reference: Array) -> Estimates:
    failed = batch.constant.any(axis=1)
    return estimate(batch.correlations, model.layout, model.scheme, failed=failed, orientation=reference)


def _own_loadings(fitted: Estimates, layout: Layout) -> Array:
    return fitted.cross_loadings[0, np.arange(len(layout.owner)), layout.owner]


def _invariance(shuffled: _Shuffled, model: PLSPathModel, level: float) -> pd.DataFrame:
    """MICOM, steps 2 and 3, of two groups: one row a construct."""
    layout = model.layout
    c = _score_correlations(shuffled, layout)
    mean = shuffled.means[:, 1] - shuffled.means[:, 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.log(shuffled.variances[:, 1]) - np.log(shuffled.variances[:, 0])
    c_p = _p_value(-c)
    ranges = [np.nanquantile(x[1:], [level / 2, 1 - level / 2], axis=0) for x in (mean, spread)]
    frame = pd.DataFrame(
        {
            "construct": list(model.specification.constructs),
            "correlation": c[0],
            "floor": np.nanquantile(c[1:], level, axis=0),
            "correlation_p": c_p,
            "compositional": c_p > level,
            "mean_difference": mean[0],
            "mean_low": ranges[0][0],
            "mean_high": ranges[0][1],
            "equal_means": _p_value(np.abs(mean)) > level,
            "log_variance_ratio": spread[0],
            "variance_low": ranges[1][0],
            "variance_high": ranges[1][1],
            "equal_variances": _p_value(np.abs(spread)) > level,
        }
    )
    alike = frame["equal_means"] & frame["equal_variances"]
    frame["verdict"] = np.select([~frame["compositional"], alike], ["none", "full"], "partial")
    return frame[_INVARIANCE]


def _score_correlations(shuffled: _Shuffled, layout: Layout) -> Array:
    """(1 + B, J): correlation of the pooled composites by the weights of either group."""
    first, second, pooled = shuffled.weights[:, 0], shuffled.weights[:, 1], shuffled.correlations
    within = pooled * (layout.owner[:, None] == layout.owner)

    def covariance(one: Array, other: Array) -> Array:
        return np.add.reduceat((one @ within) * other, layout.starts[:-1], axis=1)

    scale = np.sqrt(covariance(first, first) * covariance(second, second))
    return covariance(first, second) / scale


def _arrows(specification: Specification) -> pd.DataFrame:
    return pd.DataFrame([(p.source, p.target) for p in specification.paths], columns=["source", "target"])


def _estimates(
    everyone: _Shuffled, paths: Array, specification: Specification, names: list[str], confidence: float
) -> pd.DataFrame:
    low, high = percentile_interval(paths, confidence)
    frames = [
        _arrows(specification).assign(group=name, estimate=everyone.paths[0, g], low=low[g], high=high[g])
        for g, name in enumerate(names)
    ]
    return pd.concat(frames, ignore_index=True)[["group", "source", "target", "estimate", "low", "high"]]


def _omnibus(everyone: _Shuffled, arrows: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """All groups at once: squared distances of their coefficients from the mean, each group by its rows."""
    shares = everyone.sizes / everyone.sizes.sum()
    centre = np.einsum("bga,g->ba", everyone.paths, shares)
    distance = np.einsum("bga,g->ba", (everyone.paths - centre[:, None]) ** 2, shares)
    found = everyone.paths[0]
    frame = arrows.assign(lowest=found.min(axis=0), highest=found.max(axis=0), p=_p_value(distance))
    overall_p = float(_p_value(distance.sum(axis=1, keepdims=True))[0])
    return frame.assign(p_holm=_holm(frame["p"])), overall_p


def _differences(
    shuffles: list[_Shuffled], paths: Array, pairs: list[tuple[int, int]], omnibus: pd.DataFrame, confidence: float
) -> pd.DataFrame:
    """Every path in every pair of groups, pair after pair; p-values never below that of all groups at once."""
    gaps = [shuffled.paths[:, 1] - shuffled.paths[:, 0] for shuffled in shuffles]
    low, high = percentile_interval(np.stack([paths[:, b] - paths[:, a] for a, b in pairs], axis=1), confidence)
    frame = pd.concat([omnibus[["source", "target"]]] * len(pairs), ignore_index=True)
    frame = frame.assign(
        difference=np.concatenate([gap[0] for gap in gaps]),
        low=low.ravel(),
        high=high.ravel(),
        p=np.concatenate([_p_value(np.abs(gap)) for gap in gaps]),
    )
    within = frame.groupby(["source", "target"], sort=False)["p"].transform(_holm)
    return frame.assign(p_holm=np.maximum(within, np.tile(omnibus["p_holm"], len(pairs))))


def _p_value(statistic: Array) -> Array:
    """Share of rows of (1 + B, ...) that reach row 0, which is the sample and counts too; rows with NaN are left out."""
    usable = ~np.isnan(statistic).reshape(len(statistic), -1).any(axis=1)
    return (statistic[usable] >= statistic[0] - _ROUNDING).mean(axis=0)


def _paired(frame: pd.DataFrame, pairs: list[tuple[int, int]], names: list[str]) -> pd.DataFrame:
    """The rows of all pairs, one pair after the other, with the names of their groups in front."""
    each = len(frame) // len(pairs)
    frame.insert(0, "first", np.repeat([names[a] for a, _b in pairs], each))
    frame.insert(1, "second", np.repeat([names[b] for _a, b in pairs], each))
    return frame


def _judged(
    frame: pd.DataFrame, invariance: pd.DataFrame, specification: Specification, pair: list[str]
) -> pd.DataFrame:
    """Whether each path may be compared (its target and all sources of that are composed alike), and differs."""
    broken = invariance[~invariance["compositional"]]
    found = {(*key, name) for *key, name in broken[[*pair, "construct"]].itertuples(index=False)}
    comparable = [
        not any((*key, name) in found for name in (target, *specification.sources_of(target)))
        for *key, target in frame[[*pair, "target"]].itertuples(index=False)
    ]
    frame = frame.assign(comparable=comparable)
    frame["differs"] = frame["comparable"] & (frame["p_holm"] < LEVEL)
    return frame[[*pair, *(_DIFFERENCE if pair else _OMNIBUS)]]


def difference_facts(comparison: GroupComparison) -> dict:
    """The largest clear difference of a path as arguments of a finding, or why there is none to state.

    Returns
    -------
    value, low, high (null with `reason` where nothing is compared), first, second, source, target, p, clear (how many
    differ), compared (how many may be compared), tested, groups (number), overall_p. Without a clear difference, that
    with the smallest p-value among the comparable.
    """
    told = comparison.differences
    usable = told[told["comparable"].astype(bool)]
    counts = {
        "clear": int(told["differs"].sum()),
        "compared": len(usable),
        "tested": len(told),
        "groups": int(comparison.groups["reason"].isna().sum()),
        "overall_p": comparison.overall_p,
    }
    if usable.empty:
        reason = comparison.reason or "the composites are made up differently in the groups, so no path can be compared"
        return {"value": None, "reason": reason} | counts
    clear = usable[usable["differs"].astype(bool)]
    top = clear.loc[clear["difference"].abs().idxmax()] if len(clear) else usable.loc[usable["p"].idxmin()]
    named = top[["low", "high", "first", "second", "source", "target", "p_holm"]].to_dict()
    return {"value": float(top["difference"])} | named | counts


# -- how high the groups score --------------------------------------------------------------------------------


def wave_change(
    scores: pd.DataFrame,
    wave: pd.Series | None,
    *,
    customers: pd.Series | None = None,
    weights: Array | pd.Series | None = None,
    confidence: float = 0.95,
    smallest: int = 10,
) -> pd.DataFrame:
    """How scores changed from each wave to the next, over all who answered and over those who answered both.

    The interval adds up what each customer contributes to the change before it is squared, so that two answers of one
    customer count as the pair they are: with everybody in both waves it is that of the paired t-test, with nobody that
    of Welch's. The item weights behind the scores are taken as given; their error cancels to first order in a change.

    Parameters
    ----------
    scores : one row a filled-in questionnaire; every numeric column with an answer is a score, 0-100
    wave : (n,) when each was filled in, anything that sorts; or None
    customers : (n,) who filled it in (null: somebody seen once), or None if that is not known
    weights : (n,) survey weights, or None
    smallest : fewest customers of a wave, or of repeaters, about whom anything is told

    Returns
    -------
    One row a score and step from wave to wave (none with fewer than two waves):

    score, first, second : the column and the waves
    first_customers, second_customers, first_score, second_score : who has the score, and its weighted mean
    change, low, high, p, p_holm : second less first; Holm's correction is over all rows
    repeaters, repeater_change, repeater_low, repeater_high : the same over those who have the score in both waves
    composition, composition_low, composition_high, composition_p : change less repeater_change: what is due to others
        having answered
    reason : why a change, or that of the repeaters, is not told; null where both are

    Raises
    ------
    EstimationError
        Lengths differ, or bad weights.
    """
    values, mass, who = _scored(scores, wave, weights, customers)
    labels, names = _labels(pd.Series(dtype=float) if wave is None else wave)
    rows = [
        {"score": score, "first": names[a], "second": names[b]}
        | _change(values[score].to_numpy(float), mass, who, labels == a, labels == b, confidence, smallest)
        for a, b in pairwise(range(len(names)))
        for score in values.columns
    ]
    if customers is None:
        rows = [row | {"reason": row["reason"] and _UNKNOWN} if np.isfinite(row["change"]) else row for row in rows]
    frame = pd.DataFrame(rows, columns=_CHANGE).astype({"reason": object})
    frame["p_holm"] = _holm(frame["p"])
    return frame.assign(reason=frame["reason"].where(frame["reason"].notna(), None))


_UNKNOWN = "the answers carry no customer numbers, so nobody is known to have answered twice"
_REPEATERS = ["repeater_change", "repeater_low", "repeater_high"]
_COMPOSITION = ["composition", "composition_low", "composition_high", "composition_p"]
_CHANGE = [
    *["score", "first", "second", "first_customers", "second_customers", "first_score", "second_score"],
    *["change", "low", "high", "p", "p_holm", "repeaters", *_REPEATERS, *_COMPOSITION, "reason"],
]


def _change(
    values: Array,
    mass: Array,
    who: Labels,
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    confidence: float,
    smallest: int,
) -> dict:
    told = np.isfinite(values) & (mass > 0)
    first, second = first & told, second & told
    before, after = (np.bincount(who[side], minlength=who.max() + 1) > 0 for side in (first, second))
    both = before & after
    row = {"first_customers": int(before.sum()), "second_customers": int(after.sum()), "repeaters": int(both.sum())}
    if min(row["first_customers"], row["second_customers"]) < max(smallest, 2):
        few = f"fewer than {max(smallest, 2)} customers have this score in one of the waves"
        return dict.fromkeys(("first_customers", "second_customers", "repeaters"), np.nan) | {
            "change": np.nan,
            "reason": few,
        }
    strata = before + 2 * after
    old, new = (_mean(values, mass, who, side) for side in (first, second))
    change = _contrast(new.value - old.value, new.influence - old.influence, who, strata, confidence)
    row |= {"first_score": old.value, "second_score": new.value}
    row |= dict(zip(("change", "low", "high", "p"), change, strict=True))
    if row["repeaters"] < max(smallest, 2):
        # A count below the threshold is itself something told about a handful.
        few = f"fewer than {max(smallest, 2)} customers answered in both waves"
        return row | {"repeaters": np.nan if row["repeaters"] else 0, "reason": few}
    old_both, new_both = (_mean(values, mass, who, side & both[who]) for side in (first, second))
    moved, influence = new_both.value - old_both.value, new_both.influence - old_both.influence
    repeated = _contrast(moved, influence, who, strata, confidence)
    rest = new.value - old.value - moved
    composed = _contrast(rest, new.influence - old.influence - influence, who, strata, confidence)
    row |= dict(zip(_REPEATERS, repeated[:3], strict=True)) | dict(zip(_COMPOSITION, composed, strict=True))
    return row | {"reason": None}


def index_change(changes: pd.DataFrame, composition: pd.DataFrame) -> pd.DataFrame:
    """What each part of the loyalty index adds to its change between waves.

    Parameters
    ----------
    changes : from `wave_change`
    composition : from `index_composition`

    Returns
    -------
    One row a step from wave to wave and part used: first, second, part, construct, weight, change, contribution, low,
    high (points of the index: weight times the change of the part and its limits).
    """
    used = composition.loc[composition["status"] == "used", ["part", "construct", "weight"]]
    used = used.assign(score=[snake(name) for name in used["construct"]])
    joined = changes[["first", "second", "score", "change", "low", "high"]].merge(used, on="score", how="inner")
    joined = joined.assign(contribution=joined["weight"] * joined["change"])
    joined[["low", "high"]] = joined[["low", "high"]].mul(joined["weight"], axis=0)
    return joined[["first", "second", "part", "construct", "weight", "change", "contribution", "low", "high"]]


def change_facts(changes: pd.DataFrame, score: str) -> dict:
    """The latest change of a score as arguments of a finding, or why there is none.

    Returns
    -------
    value, low, high, first, second, p_holm; repeaters, repeater_change, composition, composition_low, composition_high,
    shifted (whether the change differs from that of the repeaters beyond chance); or value (None) and reason.
    """
    rows = changes[changes["score"] == score]
    if rows.empty:
        return {"value": None, "reason": "the survey has one wave, or the score is not measured soundly"}
    row = rows.iloc[-1]
    if not np.isfinite(row["change"]):
        return {"value": None, "reason": row["reason"]}
    named = ["low", "high", "first", "second", "p_holm", "repeaters", "repeater_change", *_COMPOSITION, "reason"]
    shifted = bool(row["composition_p"] < LEVEL)
    return {"value": float(row["change"])} | row[named].to_dict() | {"shifted": shifted}


def group_levels(
    scores: pd.DataFrame,
    groups: pd.Series,
    *,
    customers: pd.Series | None = None,
    weights: Array | pd.Series | None = None,
    confidence: float = 0.95,
    smallest: int = 10,
    most: int = MOST_GROUPS,
) -> pd.DataFrame:
    """Mean score of every group with its interval; small groups share one row.

    Parameters
    ----------
    scores, customers, weights : as in `wave_change`
    groups : (n,) the group of each row: a region, an age band, a value tier
    smallest : fewest customers of a group shown by name; see `analysis.cleaning.groups.shown_groups`
    most : groups shown by name at most, the largest

    Returns
    -------
    One row a score and group, groups in order: score, group (null: all others, and those of no group, together),
    customers, mean, low, high. Limits are of Student's t on customers; a cell of fewer than `smallest` customers with the
    score is left out.

    Raises
    ------
    EstimationError
        Lengths differ, or bad weights.
    """
    values, mass, who = _scored(scores, groups, weights, customers)
    labels, names = _shown(groups, who, smallest, most)
    rows = []
    for score in values.columns:
        known = np.isfinite(values[score].to_numpy(float)) & (mass > 0)
        for g, name in [*enumerate(names), (-1, None)]:
            level = _mean(values[score].to_numpy(float), mass, who, known & (labels == g))
            if level.customers >= max(smallest, 2):
                low, high = np.clip(_limits(level.value, level.variance, level.customers - 1, confidence), 0, 100)
                rows.append((score, name, level.customers, level.value, low, high))
    return pd.DataFrame(rows, columns=["score", "group", "customers", "mean", "low", "high"]).astype({"group": object})


def equal_levels(
    scores: pd.DataFrame,
    groups: pd.Series,
    *,
    customers: pd.Series | None = None,
    weights: Array | pd.Series | None = None,
    confidence: float = 0.95,
    smallest: int = 10,
    most: int = MOST_GROUPS,
) -> pd.DataFrame:
    """Test that all groups have the same mean score, and the gap between the highest and the lowest.

    Welch's F on customers, in its form for means that may be correlated (one customer in two groups). Those who share a
    row in `group_levels` are no group and are left out.

    Parameters
    ----------
    As in `group_levels`.

    Returns
    -------
    One row a score: score, groups (number compared), statistic (F), df1, df2, p, p_holm (over scores), differs, lowest,
    highest (names of groups), gap, gap_low, gap_high (points; Bonferroni over all pairs of groups, because these two
    are picked), reason (why there is no test, else null).

    Raises
    ------
    EstimationError
        Lengths differ, or bad weights.

    Source: Welch (1951), Biometrika 38, equations 24-28.
    """
    values, mass, who = _scored(scores, groups, weights, customers)
    labels, names = _shown(groups, who, smallest, most)
    rows = [
        {"score": score} | _equality(values[score].to_numpy(float), mass, who, labels, names, confidence, smallest)
        for score in values.columns
    ]
    columns = ["score", "groups", "statistic", "df1", "df2", "p", "p_holm", "differs", "lowest", "highest"]
    frame = pd.DataFrame(rows, columns=[*columns, "gap", "gap_low", "gap_high", "reason"]).astype({"reason": object})
    frame["p_holm"] = _holm(frame["p"])
    frame["differs"] = frame["p_holm"] < LEVEL
    return frame.assign(reason=frame["reason"].where(frame["reason"].notna(), None))


def _equality(
    values: Array, mass: Array, who: Labels, labels: Labels, names: list[str], confidence: float, smallest: int
) -> dict:
    known = np.isfinite(values) & (mass > 0)
    means = {name: _mean(values, mass, who, known & (labels == g)) for g, name in enumerate(names)}
    means = {name: mean for name, mean in means.items() if mean.customers >= max(smallest, 2)}
    k = len(means)
    if k < 2:
        return {"groups": k, "reason": f"fewer than two groups have {max(smallest, 2)} customers with this score"}
    level = np.array([mean.value for mean in means.values()])
    sums = np.stack([np.bincount(who, weights=mean.influence) for mean in means.values()])
    covariance, precision = sums @ sums.T, 1 / np.maximum([mean.variance for mean in means.values()], 1e-300)
    if (np.diagonal(covariance) < 1e-20).any():
        return {"groups": k, "reason": "in a group everybody scores alike, so chance cannot be judged"}
    low, high = int(level.argmin()), int(level.argmax())
    contrasts = np.eye(k)[1:] - np.eye(k)[0]
    apart = contrasts @ level
    wald = apart @ np.linalg.pinv(contrasts @ covariance @ contrasts.T) @ apart / (k - 1)
    freedom = np.array([mean.customers - 1 for mean in means.values()])
    lack = (((1 - precision / precision.sum()) ** 2) / freedom).sum()
    statistic, df2 = wald / (1 + 2 * (k - 2) / (k**2 - 1) * lack), (k**2 - 1) / (3 * lack)
    pairs = k * (k - 1) / 2
    # The picked gap as one of all pairs; its degrees of freedom are Welch's for two groups.
    two = precision[[low, high]] ** -1
    df = two.sum() ** 2 / (two**2 / freedom[[low, high]]).sum()
    variance = covariance[low, low] + covariance[high, high] - 2 * covariance[low, high]
    gap = level[high] - level[low]
    limits = _limits(gap, variance, df, 1 - (1 - confidence) / pairs)
    return {
        "groups": k,
        "statistic": statistic,
        "df1": k - 1,
        "df2": df2,
        "p": float(stats.f.sf(statistic, k - 1, df2)),
        "lowest": list(means)[low],
        "highest": list(means)[high],
        "gap": gap,
        "gap_low": limits[0],
        "gap_high": limits[1],
        "reason": None,
    }


def level_facts(tests: pd.DataFrame, score: str) -> dict:
    """The gap between groups on a score as arguments of a finding, or why there is none.

    Returns
    -------
    value, low, high (points), lowest, highest, groups, p_holm, differs; or value (None) and reason.
    """
    rows = tests[tests["score"] == score]
    if rows.empty:
        return {"value": None, "reason": "the score is not measured soundly"}
    row = rows.iloc[0]
    if row["reason"] is not None:
        return {"value": None, "reason": row["reason"]}
    named = row[["lowest", "highest", "groups", "p_holm", "differs"]].to_dict()
    gap = {"value": float(row["gap"]), "low": float(row["gap_low"]), "high": float(row["gap_high"])}
    return gap | named


# -- means of customers ---------------------------------------------------------------------------------------


class _Mean(NamedTuple):
    """A weighted mean and what each row contributes to its error."""

    value: float
    influence: Array
    """(n,); sums over customers, squared and added up, are the variance."""
    customers: int
    variance: float


def _mean(values: Array, mass: Array, who: Labels, member: NDArray[np.bool_]) -> _Mean:
    customers = len(np.unique(who[member]))
    influence = np.zeros(len(values))
    if customers < 2:
        return _Mean(float("nan"), influence, customers, float("nan"))
    share = mass[member] / mass[member].sum()
    value = float(share @ values[member])
    influence[member] = share * (values[member] - value) * np.sqrt(customers / (customers - 1))
    return _Mean(value, influence, customers, float((np.bincount(who, weights=influence) ** 2).sum()))


def _contrast(
    value: float, influence: Array, who: Labels, strata: Labels, confidence: float
) -> tuple[float, float, float, float]:
    """A difference of means, its limits and p-value.

    strata : (customers,) kinds of customers whose errors are independent; their numbers give the degrees of freedom
        (Satterthwaite 1946).
    """
    squares = np.bincount(who, weights=influence, minlength=len(strata)) ** 2
    parts = np.bincount(strata, weights=squares, minlength=4)[1:]
    sizes = np.bincount(strata, minlength=4)[1:]
    variance = parts.sum()
    if variance < 1e-20:
        return value, value, value, 1.0 if abs(value) < _ROUNDING else float("nan")
    df = variance**2 / (parts**2 / np.maximum(sizes - 1, 1)).sum()
    low, high = _limits(value, variance, df, confidence)
    return value, low, high, float(2 * stats.t.sf(abs(value) / np.sqrt(variance), df))


def _limits(value: float, variance: float, df: float, confidence: float) -> tuple[float, float]:
    half = stats.t.ppf((1 + confidence) / 2, df) * np.sqrt(variance)
    return value - half, value + half


def _scored(
    scores: pd.DataFrame, labels: pd.Series | None, weights: Array | pd.Series | None, customers: pd.Series | None
) -> tuple[pd.DataFrame, Array, Labels]:
    """Scores with at least one answer, weights, and the number of the customer behind each row."""
    n = len(scores)
    for name, given in (("groups", labels), ("weights", weights), ("customers", customers)):
        if given is not None and len(given) != n:
            raise EstimationError(f"{len(given)} {name} for {n} rows of scores: give one a row")
    mass = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    if not np.isfinite(mass).all() or (mass < 0).any():
        raise EstimationError("weights must be finite and not negative")
    values = scores.select_dtypes("number").dropna(axis=1, how="all")
    return values, mass, _customer_numbers(customers, n)


def _customer_numbers(customers: pd.Series | None, rows: int) -> Labels:
    """Number of the customer behind each row; rows without a customer have one of their own."""
    if customers is None:
        return np.arange(rows)
    codes, known = pd.factorize(customers)
    unknown = codes < 0
    codes[unknown] = len(known) + np.arange(unknown.sum())
    return codes


def _labels(groups: pd.Series) -> tuple[Labels, list[str]]:
    """Number of each row's group in sorted order (-1: none), and the names."""
    groups = pd.Series(groups)
    ordered = pd.api.types.is_numeric_dtype(groups) or isinstance(groups.dtype, pd.CategoricalDtype)
    codes, values = pd.factorize(groups if ordered else groups.astype("str"), sort=True)
    return codes, [str(int(v)) if isinstance(v, float) and v.is_integer() else str(v) for v in values]


def _shown(groups: pd.Series, who: Labels, smallest: int, most: int) -> tuple[Labels, list[str]]:
    """Number of each row's group among those shown by name (-1: the others), and the names."""
    labels, names = _labels(groups)
    if not len(names):
        return labels, []
    text = pd.Series(np.append(np.array(names, dtype=object), None)[labels], dtype="str")
    table = ibis.memtable(pd.DataFrame({"group": text, "customer": who}))
    kept = set(shown_groups(table, _.customer.nunique(), _.count(), smallest, most))
    shown = [g for g, name in enumerate(names) if name in kept]
    return np.where(np.isin(labels, shown), np.searchsorted(shown, labels), -1), [names[g] for g in shown]


def _group_sums(labels: Labels, mass: Array) -> Array:
    return np.bincount(labels, weights=mass)


def _holm(p: pd.Series) -> pd.Series:
    """P-values corrected for their number; missing ones do not count."""
    told = p[p.notna()].astype(float)
    return pd.Series(adjust_p_values(told.to_numpy()), told.index).reindex(p.index)
