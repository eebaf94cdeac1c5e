"""How well a ranking finds the few that matter, and whether its probabilities are true, each with an interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from analysis.valuation.concentration import Estimate
from analysis.valuation.holdout import Ranking, resamples
from analysis.valuation.intervals import share_interval
from analysis.valuation.purchases import Array

LEVEL = 0.95
DECILES = np.arange(1, 11) / 10.0
_CLIP = 1e-6  # probabilities are kept this far from 0 and 1 before their logit is taken
_MOST = 20_000  # customers behind the bootstrap samples; of a larger base every k-th
_DRAWS = 2000


def auc(y: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Area under the ROC curve of one or more rankings of the same customers, with DeLong's covariance.

    Parameters
    ----------
    y : shape (n,), 1 for those to be found, 0 for others.
    scores : shape (n,) or (n, rankings); higher is likelier. Equal scores count half.

    Returns
    -------
    areas : shape (rankings,). covariance : shape (rankings, rankings).

    Raises
    ------
    ValueError
        With fewer than two of either kind.

    Source: DeLong, DeLong & Clarke-Pearson (1988), Biometrics 44:837, eq. 4–6; by mid-ranks, Sun & Xu (2014), IEEE
    Signal Processing Letters 21:1389, algorithm 2.
    """
    found, columns = np.asarray(y, dtype=bool), np.asarray(scores, dtype=float)
    columns = columns.reshape(len(found), -1)
    m, n = int(found.sum()), int((~found).sum())
    if min(m, n) < 2:
        raise ValueError(f"auc: needs two customers of each kind; there are {m} and {n}")
    ranks = rankdata(columns, axis=0)
    inner, outer = rankdata(columns[found], axis=0), rankdata(columns[~found], axis=0)
    beats = (ranks[found] - inner) / n
    beaten = 1.0 - (ranks[~found] - outer) / m
    covariance = np.atleast_2d(np.cov(beats, rowvar=False)) / m + np.atleast_2d(np.cov(beaten, rowvar=False)) / n
    return beats.mean(axis=0), covariance


def auc_interval(y: ArrayLike, score: ArrayLike, level: float = LEVEL) -> Estimate:
    """Area under the ROC curve of one ranking with DeLong's interval on the logit scale, so that it stays in 0 to 1.

    Parameters
    ----------
    y, score : shape (n,).

    Returns
    -------
    Estimate
        Without an interval, and with the reason, where there are too few of a kind or the ranking is faultless.
    """
    try:
        areas, covariance = auc(y, score)
    except ValueError:
        return Estimate(float("nan"), reason="there are fewer than two of one kind")
    area, error = float(areas[0]), float(np.sqrt(max(covariance[0, 0], 0.0)))
    if area in (0.0, 1.0):
        return Estimate(area, reason="the ranking is faultless here, so its error cannot be estimated")
    if error == 0.0:
        return Estimate(area, reason="everybody has the same score")
    reach = norm.ppf(0.5 + level / 2) * error / (area * (1.0 - area))
    return Estimate(area, float(expit(logit(area) - reach)), float(expit(logit(area) + reach)))


@dataclass(frozen=True)
class Lifts:
    """How much more often the best-ranked are those to be found, against customers taken at random.

    Attributes
    ----------
    top : DataFrame
        One row a method: ``method``, ``lift`` of the best-ranked tenth with ``low``, ``high``.
    by_decile : DataFrame
        One row a method and tenth of the customers, best first: ``method``, ``decile`` (1 to 10), ``lift``, ``low``, ``high``.
    differences : DataFrame
        One row a pair: ``method``, ``against``, ``difference`` of the top tenth's lifts with ``low``, ``high``, and ``verdict``
        ("better", "worse", or "tie" where the interval holds zero).
    """

    top: pd.DataFrame
    by_decile: pd.DataFrame
    differences: pd.DataFrame


def lifts(
    y: ArrayLike, scores: pd.DataFrame, *, seed: int = 1, replications: int = 1000, level: float = LEVEL
) -> Lifts:
    """Lift by tenths of the customers, and paired differences, with percentile intervals of a bootstrap over customers.

    Customers with equal scores count as in a random order among themselves. All methods are measured on the same samples, so
    that differences are paired. Who is to be found stays as it is in ``y``: the intervals say how the lift varies
    between customers like these.

    Parameters
    ----------
    y : shape (n,), 1 for those to be found.
    scores : one column a method, shape (n, methods); higher is better. Pairs are formed in the order of the columns.
    seed, replications : of the bootstrap.

    Raises
    ------
    ValueError
        Nobody is to be found, or fewer than ten customers.
    """
    found = np.asarray(y, dtype=float)
    if found.sum() == 0 or len(found) < 10:
        raise ValueError(f"lifts: {len(found)} customers, {int(found.sum())} of them to be found; needs ten and one")
    stride = max(1, -(-len(found) // _MOST))
    columns = [scores[name].to_numpy(float) for name in scores]
    here = _captured(found, [Ranking.of(c) for c in columns])
    sampled, rankings = found[::stride], [Ranking.of(c[::stride]) for c in columns]
    part = _captured(sampled, rankings)
    samples = resamples(len(sampled), replications, seed)
    drawn = np.array([_captured(sampled, rankings, sample.astype(float)) for sample in samples])
    # A sample of every k-th customer varies more than the base by the root of k.
    drawn = np.maximum(here + (drawn - part) / np.sqrt(stride), 0.0)
    ends = [0.5 - level / 2, 0.5 + level / 2]
    low, high = _with_certain(here, *np.nanquantile(drawn, ends, axis=0), found, 1.0 - level)
    names = list(scores)
    by_decile = pd.DataFrame(
        {
            "method": np.repeat(names, 10),
            "decile": np.tile(np.arange(1, 11), len(names)),
            "lift": here.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
        }
    )
    top = by_decile[by_decile["decile"] == 1].drop(columns="decile").reset_index(drop=True)
    return Lifts(top, by_decile, _differences(names, here[:, 0], drawn[:, :, 0], ends))


def _with_certain(lift: Array, low: Array, high: Array, found: Array, alpha: float) -> tuple[Array, Array]:
    """Wilson's interval for tenths in which nobody or everybody was found: samples of them are all alike."""
    share, size = found.mean(), len(found) / 10.0
    ends = [share_interval(k, size, alpha) for k in (0.0, size)]
    high = np.where(lift < 1e-9, float(ends[0][1]) / share, high)
    return np.where(lift * share > 1 - 1e-9, np.minimum(low, float(ends[1][0]) / share), low), high


def _captured(found: Array, rankings: list[Ranking], weights: Array | None = None) -> Array:
    """Lift in each tenth, shape (methods, 10)."""
    shares = np.array([ranking.captured(found, DECILES, weights) for ranking in rankings])
    return np.diff(shares, prepend=0.0, axis=1) * 10.0


def _differences(names: list[str], lift: Array, drawn: Array, ends: list[float]) -> pd.DataFrame:
    rows = []
    for i, method in enumerate(names):
        for j in range(i + 1, len(names)):
            low, high = np.nanquantile(drawn[:, i] - drawn[:, j], ends)
            verdict = "better" if low > 0 else "worse" if high < 0 else "tie"
            rows.append((method, names[j], float(lift[i] - lift[j]), float(low), float(high), verdict))
    return pd.DataFrame(rows, columns=["method", "against", "difference", "low", "high", "verdict"])


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities came true.

    Attributes
    ----------
    slope : Estimate
        1 is right; below 1, the probabilities are too extreme.
    intercept : Estimate
        Calibration in the large, on the logit scale: 0 is right; above 0, more came than foreseen.
    error : Estimate
        Expected calibration error, a share: mean distance between what was foreseen and what came over groups, less what chance
        alone brings.
    table : DataFrame
        Equal groups by probability, lowest first: ``group``, ``customers``, ``predicted``, ``observed``, ``low``, ``high``
        (Wilson).
    """

    slope: Estimate
    intercept: Estimate
    error: Estimate
    table: pd.DataFrame


def calibration(
    y: ArrayLike, probability: ArrayLike, *, groups: int = 10, small_group: int = 10, seed: int = 1
) -> Calibration:
    """Hold probabilities against what came: slope and intercept, expected calibration error, and a table by groups.

    The slope is that of a logistic regression of the outcome on the logit of the probability, the intercept that of
    one whose slope is held at 1; both with Wald intervals (Cox 1958, Biometrika 45:562; Van Calster et al. 2019, BMC Medicine
    17:230). The error of equal-sized groups (Naeini, Cooper & Hauskrecht 2015) is above zero even for true
    probabilities; what chance adds is taken off, and the interval is a basic bootstrap around distances
    shrunk by James and Stein, which begins at zero where chance alone would bring as much.

    Parameters
    ----------
    y : shape (n,), 0 or 1. probability : shape (n,), 0 to 1.
    groups : how many at most; each holds at least ``small_group`` customers.
    seed : of the interval of the error.

    Raises
    ------
    ValueError
        No customers, or a probability outside 0 to 1.
    """
    y, p = np.asarray(y, dtype=float), np.asarray(probability, dtype=float)
    if len(y) == 0 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("calibration: needs customers, each with a probability between 0 and 1")
    slope, intercept = _cox(y, p)
    table = _groups(y, p, groups, small_group)
    return Calibration(slope, intercept, _calibration_error(table, seed), table)


def _cox(y: Array, p: Array) -> tuple[Estimate, Estimate]:
    if y.min() == y.max():
        nothing = Estimate(float("nan"), reason="all customers have the same outcome")
        return nothing, nothing
    x = logit(np.clip(p, _CLIP, 1 - _CLIP))
    level, error = _newton(y, x, with_slope=False)
    intercept = _wald(level[0], error[0], "the probabilities are certain and right")
    if np.ptp(x) < 1e-12:
        return Estimate(float("nan"), reason="all customers have the same probability"), intercept
    both, error = _newton(y, x, with_slope=True)
    return _wald(both[1], error[1], "the probabilities separate the two kinds without fault"), intercept


def _newton(y: Array, x: Array, with_slope: bool) -> tuple[Array, Array]:
    """Logistic regression on ``x`` (as an offset where its slope is held at 1): estimates and standard errors."""
    design = np.column_stack([np.ones_like(x), x]) if with_slope else np.ones((len(x), 1))
    offset = 0.0 if with_slope else x
    beta = np.zeros(design.shape[1])
    if with_slope:
        beta[1] = 1.0
    information = np.eye(len(beta))
    for _ in range(50):
        mean = expit(design @ beta + offset)
        information = design.T @ (design * (mean * (1 - mean))[:, None])
        if np.linalg.cond(information) > 1e12:
            return beta, np.full(len(beta), np.nan)
        step = np.linalg.solve(information, design.T @ (y - mean))
        beta = beta + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-10:
            break
    else:
        return beta, np.full(len(beta), np.nan)
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def _wald(value: float, error: float, reason: str) -> Estimate:
    if not np.isfinite(error):
        return Estimate(float("nan"), reason=reason)
    reach = norm.ppf(0.5 + LEVEL / 2) * error
    return Estimate(float(value), float(value - reach), float(value + reach))


def _groups(y: Array, p: Array, groups: int, small_group: int) -> pd.DataFrame:
    """Equal groups by probability; equal probabilities stay together, and a small group joins the one below."""
    parts = max(1, min(groups, len(y) // max(small_group, 1)))
    edges = np.unique(np.quantile(p, np.linspace(0, 1, parts + 1)[1:-1], method="inverted_cdf"))
    group = np.searchsorted(edges, p, side="left")
    kept = np.unique(group)
    counts = np.array([(group == g).sum() for g in kept])
    while len(kept) > 1 and counts.min() < small_group:
        at = int(counts.argmin())
        to = at - 1 if at else 1
        group[group == kept[at]] = kept[to]
        counts[to] += counts[at]
        kept, counts = np.delete(kept, at), np.delete(counts, at)
    frame = pd.DataFrame({"group": np.searchsorted(kept, group) + 1, "p": p, "y": y}).groupby("group")
    table = frame.agg(customers=("y", "size"), predicted=("p", "mean"), observed=("y", "mean")).reset_index()
    came = frame["y"].sum().to_numpy()
    table["low"], table["high"] = share_interval(came, table["customers"])
    return table


def _calibration_error(table: pd.DataFrame, seed: int) -> Estimate:
    n = table["customers"].to_numpy(float)
    if len(n) < 2:
        return Estimate(float("nan"), reason="there are too few customers for two groups")
    weight = n / n.sum()
    predicted, observed = table["predicted"].to_numpy(), table["observed"].to_numpy()
    apart = observed - predicted
    # Half a customer of each kind is added, so that a group in which nobody was found has an error too.
    share = (n * observed + 0.5) / (n + 1.0)
    error = np.sqrt(share * (1 - share) / n)
    shrunk = apart * max(0.0, 1.0 - (len(n) - 2) / max(float(np.sum((apart / error) ** 2)), 1e-12))
    noise = np.random.default_rng(seed).standard_normal((_DRAWS, len(n))) * error
    beyond = np.abs(shrunk + noise) @ weight - np.abs(shrunk) @ weight
    value = float(np.abs(apart) @ weight)
    low, end = np.quantile(beyond, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    # The shrunk distances are not quite zero where the true ones are, so whether there is an error at all is asked by itself.
    nothing = np.abs(noise) @ weight
    largest = np.quantile(nothing, 0.5 + LEVEL / 2)
    # Groups that lie on the line by luck do not show that there is no error: one as small as chance varies could hide.
    high = max(value - low, largest - nothing.mean())
    ends = np.maximum([value - beyond.mean(), 0.0 if value <= largest else value - end, high], 0.0)
    return Estimate(*(float(e) for e in ends))
