"""Does the order of the drivers hold if answers are only ordered, not numbers? The proportional odds model.

>>> fit = ordered_logit(results, answers["cusl1"], "Loyalty", weights=weights, customers=customers)
>>> fit.odds_ratios()
>>> fit.proportional_odds()

    P(answer <= k) = F(threshold_k - x b),  F the logistic distribution

so exp(b) multiplies the odds of an answer above k, whatever k is, with a driver higher by one standard deviation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from analysis.multiplicity import adjust_p_values

from .moments import Array
from .path_model import BootstrapResults, EstimationError, PLSResults, checked_weights, read_answers, respondents_of
from .resampling import percentile_interval

FEWEST = 25
MOST_LOG_ODDS = 12.0
_TOLERANCE = 1e-9
_ITERATIONS = 60


class OrderedLogit:
    """Answers to one question on a scale, and standardised drivers of them.

    Parameters
    ----------
    answers : (n,) numbers in the order of the scale; missing ones are left out
    drivers : (n, k) scores on the same index, standardised here, so that odds are for one standard deviation
    weights : (n,) survey weights, or None
    customers : (n,) who answered (null: somebody seen once), or None where nobody answered twice
    fewest : customers that an answer needs; rarer ones are merged with the neighbour that fewer chose

    Raises
    ------
    EstimationError
        Too few customers, fewer than two answers given often enough, a driver that does not vary, bad weights.
    """

    def __init__(
        self,
        answers: pd.Series,
        drivers: pd.DataFrame,
        *,
        weights: pd.Series | None = None,
        customers: pd.Series | None = None,
        fewest: int = FEWEST,
    ) -> None:
        mass = np.ones(len(answers)) if weights is None else checked_weights(weights, len(answers))
        keep = (answers.notna() & drivers.notna().all(axis=1)).to_numpy() & (mass > 0)
        self.names = list(drivers.columns)
        self.groups = np.arange(keep.sum()) if customers is None else respondents_of(customers[keep])
        self.customers = len(np.unique(self.groups))
        needed = 10 * (len(self.names) + 2)
        if self.customers < needed:
            raise EstimationError(f"{self.customers} customers answered: {len(self.names)} drivers need {needed}")
        self.mass = mass[keep] / mass[keep].mean()
        self.codes, self.categories = _categories(answers.to_numpy(float)[keep], self.groups, fewest)
        if len(self.categories) < 2:
            raise EstimationError(f"fewer than two answers to {answers.name!r} are given by {fewest} customers each")
        self.scores = self._standardised(drivers.to_numpy(float)[keep])

    def _standardised(self, values: Array) -> Array:
        centred = values - np.average(values, axis=0, weights=self.mass)
        spread = np.sqrt(np.average(centred**2, axis=0, weights=self.mass))
        flat = spread < 1e-9
        if flat.any():
            raise EstimationError(f"driver {self.names[int(flat.argmax())]!r} does not vary: leave it out")
        return centred / spread

    @property
    def merged(self) -> list[str]:
        """Answers that were too rare to stand alone, as merged: ["1 to 4"]."""
        return [name for name in self.labels if " to " in name]

    @property
    def labels(self) -> list[str]:
        """Names of the categories: single answers, or "1 to 4" where merged."""
        return [f"{low:g}" if low == high else f"{low:g} to {high:g}" for low, high in self.categories]

    def fit(self) -> OrderedLogitResults:
        """Weighted maximum likelihood by Newton's method; the likelihood is concave (Pratt 1981).

        Raises
        ------
        EstimationError
            If the drivers determine each other, or tell the answers apart without error.
        """
        inner = len(self.categories) - 1
        below = np.array([self.mass[self.codes <= k].sum() for k in range(inner)]) / self.mass.sum()
        theta = np.concatenate([np.log(below / (1 - below)), np.zeros(self.scores.shape[1])])
        value, gradient, hessian = _likelihood(theta, self.codes, self.scores, self.mass)
        for _ in range(_ITERATIONS):
            step = _solved(-hessian, gradient.sum(axis=0))
            scale = 1.0
            while scale > 1e-6:
                trial = theta + scale * step
                if (np.diff(trial[:inner]) > 0).all():
                    candidate = _likelihood(trial, self.codes, self.scores, self.mass)
                    if candidate[0] >= value - 1e-9:
                        break
                scale /= 2
            theta, (value, gradient, hessian) = trial, candidate
            if np.abs(theta[inner:]).max() > MOST_LOG_ODDS:
                raise EstimationError("the drivers tell the answers apart without error: no odds can be estimated")
            if np.abs(scale * step).max() < _TOLERANCE:
                break
        return OrderedLogitResults(self, theta, value, _sandwich(gradient, -hessian, self.groups))


@dataclass(frozen=True)
class OrderedLogitResults:
    """A fitted proportional odds model. Errors are robust to the model and to customers who answered twice."""

    model: OrderedLogit
    estimate: Array
    log_likelihood: float
    covariance: Array

    @property
    def nobs(self) -> int:
        """Answers used."""
        return len(self.model.codes)

    @cached_property
    def params(self) -> pd.Series:
        """Log-odds ratio of a higher answer for one standard deviation of each driver."""
        return pd.Series(self.estimate[self._inner :], index=self.model.names, name="log_odds")

    @cached_property
    def bse(self) -> pd.Series:
        """Standard errors of `params`."""
        return pd.Series(np.sqrt(np.diag(self.covariance)[self._inner :]), index=self.model.names, name="bse")

    @cached_property
    def thresholds(self) -> pd.Series:
        """Log-odds at mean drivers of an answer up to each category but the last."""
        return pd.Series(self.estimate[: self._inner], index=self.model.labels[:-1], name="threshold")

    def conf_int(self, confidence: float = 0.95) -> pd.DataFrame:
        """Limits of `params`: columns low, high."""
        half = self._quantile(confidence) * self.bse
        return pd.DataFrame({"low": self.params - half, "high": self.params + half})

    def odds_ratios(self, confidence: float = 0.95) -> pd.DataFrame:
        """One row a driver, the largest effect first: driver, odds_ratio, low, high, rank.

        An odds ratio of 2 says that with the driver higher by one standard deviation, and the others as they are, the
        odds of a higher answer are twice as high.
        """
        limits = np.exp(self.conf_int(confidence))
        frame = pd.DataFrame({"driver": self.model.names, "odds_ratio": np.exp(self.params.to_numpy())})
        frame = frame.assign(low=limits["low"].to_numpy(), high=limits["high"].to_numpy())
        order = np.argsort(-self.params.to_numpy(), kind="stable")
        frame = frame.iloc[order].reset_index(drop=True)
        return frame.assign(rank=np.arange(1, len(frame) + 1))

    def differences(self, pairs: list[tuple[str, str]], confidence: float = 0.95) -> pd.DataFrame:
        """Difference of the log-odds ratios of pairs of drivers: columns difference, low, high."""
        at = np.array([[self.model.names.index(name) for name in pair] for pair in pairs], dtype=int).reshape(-1, 2)
        contrast = np.zeros((len(at), len(self.estimate)))
        rows = np.arange(len(at))
        contrast[rows, self._inner + at[:, 0]], contrast[rows, self._inner + at[:, 1]] = 1.0, -1.0
        value = contrast @ self.estimate
        half = self._quantile(confidence) * np.sqrt(np.einsum("ij,jk,ik->i", contrast, self.covariance, contrast))
        return pd.DataFrame({"difference": value, "low": value - half, "high": value + half})

    def by_cut(self, confidence: float = 0.95) -> pd.DataFrame:
        """The odds ratios of each yes-or-no question "more than this answer?", fitted apart.

        Returns
        -------
        One row a cut and driver: above (the category that has to be exceeded), driver, odds_ratio, low, high.
        """
        coefficients, covariance = self._cumulative
        k = len(self.model.names)
        half = self._quantile(confidence) * np.sqrt(np.diag(covariance)).reshape(-1, k)
        return pd.DataFrame(
            {
                "above": np.repeat(self.model.labels[:-1], k),
                "driver": self.model.names * self._inner,
                "odds_ratio": np.exp(coefficients).ravel(),
                "low": np.exp(coefficients - half).ravel(),
                "high": np.exp(coefficients + half).ravel(),
            }
        )

    def proportional_odds(self) -> pd.DataFrame:
        """Is the odds ratio of a driver the same at every cut of the scale? Brant's test, with robust errors.

        Returns
        -------
        One row for all drivers together ("all"), then one a driver: driver, statistic (F), df, p; null throughout where
        only two answers are left, or too few customers, to compare cuts.

        The slopes of the cumulative logits are estimated apart; their joint covariance is that of the stacked
        estimating equations summed by customer, where Brant's is that of the model; the Wald statistic is referred to
        F as Hotelling's is. Source: Brant (1990), Biometrics 46(4), 1171-1178.
        """
        k, freedom = len(self.model.names), self.model.customers
        tests = [("all", list(range(k)))] + [(name, [j]) for j, name in enumerate(self.model.names)]
        rows = []
        for name, chosen in tests:
            df = (self._inner - 1) * len(chosen)
            row = {"driver": name, "statistic": np.nan, "df": df, "p": np.nan}
            if 0 < df < freedom - df:
                coefficients, covariance = self._cumulative
                contrast = np.zeros((df, coefficients.size))
                for i, (cut, j) in enumerate((cut, j) for cut in range(1, self._inner) for j in chosen):
                    contrast[i, [cut * k + j, j]] = 1.0, -1.0
                value = contrast @ coefficients.ravel()
                wald = value @ _solved(contrast @ covariance @ contrast.T, value)
                statistic = wald * (freedom - df) / ((freedom - 1) * df)
                row |= {"statistic": statistic, "p": float(stats.f.sf(statistic, df, freedom - df))}
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def _inner(self) -> int:
        return len(self.model.categories) - 1

    def _quantile(self, confidence: float) -> float:
        return float(stats.t.ppf((1 + confidence) / 2, self.model.customers - 1))

    @cached_property
    def _cumulative(self) -> tuple[Array, Array]:
        """Slopes (cuts, k) of the logits of an answer above each cut, and their joint covariance."""
        model, k = self.model, len(self.model.names)
        design = np.column_stack([np.ones(self.nobs), model.scores])
        coefficients, influences = [], []
        for cut in range(self._inner):
            above = (model.codes > cut).astype(float)
            start = np.append(-self.estimate[cut], self.estimate[self._inner :])
            beta, influence = _binary_logit(above, design, model.mass, start)
            coefficients.append(beta[1:])
            influences.append(influence[:, 1:])
        summed = _by_group(np.hstack(influences), model.groups)
        covariance = summed.T @ summed * len(summed) / (len(summed) - 1)
        return np.array(coefficients).reshape(self._inner, k), covariance


def ordered_logit(
    results: PLSResults,
    answers: pd.Series,
    target: str,
    *,
    missing_codes: Iterable = (),
    weights: pd.Series | None = None,
    customers: pd.Series | None = None,
    fewest: int = FEWEST,
) -> OrderedLogitResults:
    """The answers to one question on the composite scores of the direct drivers of `target`.

    Parameters
    ----------
    answers : (n,) one question about `target`, on the index of the answers that the model was estimated on
    target : the construct whose drivers are taken
    missing_codes, weights, customers : as for the path model
    fewest : see :class:`OrderedLogit`

    The scores are taken as they are: their own uncertainty is not in the limits.

    Raises
    ------
    EstimationError
        If nothing leads to `target`; otherwise as :class:`OrderedLogit`.
    """
    drivers = list(results.specification.sources_of(target))
    if not drivers:
        raise EstimationError(f"nothing leads to {target!r} in this model: name a construct that has drivers")
    name = str(answers.name)
    given = read_answers(answers.to_frame(name), [name], missing_codes)[name]
    scores = results.composite_scores()[drivers].reindex(given.index)
    return OrderedLogit(given, scores, weights=weights, customers=customers, fewest=fewest).fit()


def ordered_pairs(
    fit: OrderedLogitResults, bootstrap: BootstrapResults, target: str, confidence: float = 0.95
) -> pd.DataFrame:
    """Every two drivers: do ordered answers put them in the order of their direct paths?

    Returns
    -------
    One row a pair; `first` is the one with the larger odds ratio: first, second, difference, low, high (of the log-odds
    ratios), path_difference, path_low, path_high, agree (the paths have the same order), clear (both limits exclude
    zero).
    """
    pairs = list(combinations(fit.odds_ratios()["driver"], 2))
    arrows = list(bootstrap.results.params.index)
    at = np.array([[arrows.index((name, target)) for name in pair] for pair in pairs], dtype=int).reshape(-1, 2)
    paths = bootstrap.results.params.to_numpy()
    limits = np.array(
        [
            percentile_interval(bootstrap.values["paths"][:, a] - bootstrap.values["paths"][:, b], confidence)
            for a, b in at
        ]
    ).reshape(-1, 2)
    frame = pd.DataFrame(pairs, columns=["first", "second"]).join(fit.differences(pairs, confidence))
    frame = frame.assign(
        path_difference=paths[at[:, 0]] - paths[at[:, 1]], path_low=limits[:, 0], path_high=limits[:, 1]
    )
    excludes = [(frame[low] > 0) | (frame[high] < 0) for low, high in (("low", "high"), ("path_low", "path_high"))]
    return frame.assign(agree=frame["path_difference"] >= 0, clear=excludes[0] & excludes[1])


def ordered_facts(fit: OrderedLogitResults, pairs: pd.DataFrame, confidence: float = 0.95) -> dict:
    """What sentences need of the check by ordered answers.

    Parameters
    ----------
    pairs : from :func:`ordered_pairs`

    Returns
    -------
    driver, value, low, high (odds ratio of the strongest driver), answers, merged (answers that were too rare), pairs,
    agreeing (how many pairs of drivers, and how many of them the paths order alike), differing (records: first, second,
    clear), proportional_p (Brant's test; None if it cannot be made), uneven (drivers whose odds ratio differs between
    the cuts of the scale, after Holm).
    """
    top = fit.odds_ratios(confidence).iloc[0]
    test = fit.proportional_odds().set_index("driver")["p"]
    apart = test.drop("all").dropna()
    uneven = apart[adjust_p_values(apart) <= 1 - confidence]
    return {
        "driver": top["driver"],
        "value": float(top["odds_ratio"]),
        "low": float(top["low"]),
        "high": float(top["high"]),
        "answers": fit.nobs,
        "merged": fit.model.merged,
        "pairs": len(pairs),
        "agreeing": int(pairs["agree"].sum()),
        "differing": pairs.loc[~pairs["agree"], ["first", "second", "clear"]].to_dict("records"),
        "proportional_p": None if np.isnan(test["all"]) else float(test["all"]),
        "uneven": list(uneven.index),
    }


def _categories(
    answers: Array, groups: NDArray[np.int64], fewest: int
) -> tuple[NDArray[np.int64], list[tuple[float, float]]]:
    """Number of each answer's category, and the lowest and highest answer of every category."""
    values, codes = np.unique(answers, return_inverse=True)
    parts = [[k] for k in range(len(values))]
    who = [set(groups[codes == k]) for k in range(len(values))]
    while len(parts) > 1 and min(map(len, who)) < fewest:
        k = min(range(len(who)), key=lambda i: len(who[i]))
        beside = min((i for i in (k - 1, k + 1) if 0 <= i < len(who)), key=lambda i: len(who[i]))
        first, second = sorted((k, beside))
        parts[first : second + 1] = [parts[first] + parts[second]]
        who[first : second + 1] = [who[first] | who[second]]
    place = np.empty(len(values), dtype=np.int64)
    for number, part in enumerate(parts):
        place[part] = number
    return place[codes], [(float(values[part[0]]), float(values[part[-1]])) for part in parts]


def _likelihood(theta: Array, codes: NDArray[np.int64], scores: Array, mass: Array) -> tuple[float, Array, Array]:
    """Log-likelihood, its gradient row by row (n, inner + k) and its Hessian, all weighted."""
    inner = len(theta) - scores.shape[1]
    ends = np.concatenate([[-np.inf], theta[:inner], [np.inf]])
    line = scores @ theta[inner:]
    upper, lower = expit(ends[codes + 1] - line), expit(ends[codes] - line)
    chance = np.maximum(upper - lower, 1e-300)
    up, down = upper * (1 - upper), lower * (1 - lower)
    steps = np.arange(inner)
    at_upper, at_lower = (codes[:, None] == steps).astype(float), (codes[:, None] - 1 == steps).astype(float)
    by_upper, by_lower = up / chance, -down / chance
    slope = upper + lower - 1
    gradient = np.hstack([at_upper * by_upper[:, None] + at_lower * by_lower[:, None], scores * slope[:, None]])
    both = mass * by_upper * -by_lower
    in_upper = mass * (up * (1 - 2 * upper) / chance - by_upper**2)
    in_lower = mass * (-down * (1 - 2 * lower) / chance - by_lower**2)
    mixed = at_upper.T @ (both[:, None] * at_lower)
    hessian = np.empty((len(theta), len(theta)))
    hessian[:inner, :inner] = np.diag(at_upper.T @ in_upper + at_lower.T @ in_lower) + mixed + mixed.T
    crossed = (at_upper * up[:, None] + at_lower * down[:, None]).T @ (mass[:, None] * scores)
    hessian[:inner, inner:], hessian[inner:, :inner] = crossed, crossed.T
    hessian[inner:, inner:] = -scores.T @ ((mass * (up + down))[:, None] * scores)
    return float(mass @ np.log(chance)), gradient * mass[:, None], hessian


def _binary_logit(above: Array, design: Array, mass: Array, beta: Array) -> tuple[Array, Array]:
    """Coefficients of a weighted logit, and each row's influence on them: their covariance is its cross-product."""
    for _ in range(_ITERATIONS):
        chance = expit(design @ beta)
        gradient = design * (mass * (above - chance))[:, None]
        information = design.T @ ((mass * chance * (1 - chance))[:, None] * design)
        step = _solved(information, gradient.sum(axis=0))
        beta = beta + step
        if np.abs(beta[1:]).max() > MOST_LOG_ODDS:
            raise EstimationError("at one cut of the scale the drivers tell the answers apart: merge more answers")
        if np.abs(step).max() < _TOLERANCE:
            break
    return beta, gradient @ np.linalg.inv(information)


def _sandwich(gradient: Array, information: Array, groups: NDArray[np.int64]) -> Array:
    summed = _by_group(gradient, groups)
    inverse = np.linalg.inv(information)
    return inverse @ (summed.T @ summed) @ inverse * len(summed) / (len(summed) - 1)


def _by_group(rows: Array, groups: NDArray[np.int64]) -> Array:
    """Rows (n, c) summed over the rows of each customer."""
    summed = np.zeros((groups.max() + 1, rows.shape[1]))
    np.add.at(summed, groups, rows)
    return summed


def _solved(matrix: Array, right: Array) -> Array:
    try:
        return np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:
        raise EstimationError("the drivers determine each other: leave one out") from None
