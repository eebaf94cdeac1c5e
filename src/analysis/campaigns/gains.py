"""Response models in the classic form: who answers a mailing, gains and lift by decile, how deep to mail.

A response is not an effect: many who answer would have bought anyway. Everything here ranks and counts responses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd
import statsmodels.api as sm
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.campaigns.effects import EstimationError
from analysis.campaigns.response import wilson_interval

Array = NDArray[np.float64]


def customer_split(customers: ArrayLike, share: float = 0.5, seed: int = 1) -> NDArray[np.bool_]:
    """True for the rows of a random part of the customers, kept for the test; all rows of a customer on one side.

    Parameters
    ----------
    customers : shape (n,). share : of the customers, between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share of the holdout must lie between 0 and 1, got {share}")
    codes, found = pd.factorize(np.asarray(customers, dtype=object), sort=True)
    rank = np.random.default_rng(seed).permutation(len(found))
    return (rank < round(share * len(found)))[codes]


def time_split(starts: ArrayLike, share: float = 0.5) -> NDArray[np.bool_]:
    """True for the rows of the latest campaigns, which hold about ``share`` of the rows and never all of them.

    Parameters
    ----------
    starts : shape (n,), day on which each row's campaign started. A model learns from the past alone.

    Raises
    ------
    EstimationError
        ``one_campaign``: all rows are of one day, so there is no later one.
    """
    days, rows = np.unique(pd.to_datetime(np.asarray(starts)).to_numpy(), return_inverse=True)
    if len(days) < 2:
        raise EstimationError("one_campaign", "one start only; split by customer instead of by time")
    later = np.cumsum(np.bincount(rows)[::-1])[::-1] / len(rows)
    first = 1 + int(np.argmin(np.abs(later[1:] - share)))
    return rows >= first


def fit_response(responded: ArrayLike, covariates: ArrayLike, weights: ArrayLike | None = None) -> Pipeline:
    """Logistic model of who responds; ``predict_proba(x)[:, 1]`` is the propensity.

    Its likelihood equations calibrate it on its own rows (fitted and seen responses agree in all and along every
    covariate), so a second, Platt's, calibration would only add noise; :func:`calibration` holds it against others.

    Parameters
    ----------
    responded : shape (n,), 0 or 1. covariates : shape (n, k), known before the contact, finite. weights : shape (n,).

    Raises
    ------
    EstimationError
        ``few_responses``: fewer than ten responses or non-responses.
    """
    y, x = np.asarray(responded).astype(int), np.asarray(covariates, dtype=float)
    if min(y.sum(), len(y) - y.sum()) < 10:
        raise EstimationError("few_responses", "fewer than ten responses (or non-responses); no model can be fitted")
    if not np.isfinite(x).all():
        raise ValueError("covariates hold missing or infinite values; fill them first")
    w = None if weights is None else np.asarray(weights, dtype=float)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return model.fit(x, y, standardscaler__sample_weight=w, logisticregression__sample_weight=w)


@dataclass(frozen=True)
class Calibration:
    """Logit of the response on the logit of the score, on customers whom the model did not see.

    Attributes
    ----------
    intercept, slope : 0 and 1 for a calibrated model, with limits. expected, observed : responses in all.
    """

    intercept: float
    intercept_low: float
    intercept_high: float
    slope: float
    slope_low: float
    slope_high: float
    expected: float
    observed: float

    @property
    def holds(self) -> bool:
        """True where neither limit excludes calibration."""
        return self.intercept_low <= 0 <= self.intercept_high and self.slope_low <= 1 <= self.slope_high


def calibration(
    score: ArrayLike, responded: ArrayLike, clusters: ArrayLike | None = None, confidence: float = 0.95
) -> Calibration:
    """How far the propensities can be taken at their word.

    Parameters
    ----------
    score : shape (n,), between 0 and 1. responded : shape (n,), 0 or 1. clusters : shape (n,), customers who recur.

    The intercept is that of a model whose slope is 1 (calibration in the large). Source: Cox (1958), Biometrika
    45:562; Steyerberg (2019), Clinical Prediction Models, section 15.3.
    """
    p, y = np.clip(np.asarray(score, dtype=float), 1e-9, 1 - 1e-9), np.asarray(responded, dtype=float)
    logit = np.log(p / (1 - p))
    kind = {"cov_type": "HC1"}
    if clusters is not None:
        groups = pd.factorize(np.asarray(clusters, dtype=object))[0]
        kind = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    if y.min() == y.max():
        raise EstimationError("no_variation", "all of the holdout or none of it responded; calibration says nothing")
    large = sm.GLM(y, np.ones((len(y), 1)), family=sm.families.Binomial(), offset=logit).fit(**kind)
    low, high = large.conf_int(1 - confidence)[0]
    slope = (np.nan, np.nan, np.nan)
    if np.ptp(logit) > 1e-9:
        both = sm.GLM(y, sm.add_constant(logit), family=sm.families.Binomial()).fit(**kind)
        slope = (float(both.params[1]), *map(float, both.conf_int(1 - confidence)[1]))
    return Calibration(float(large.params[0]), float(low), float(high), *slope, float(p.sum()), float(y.sum()))


def design_effect(responded: ArrayLike, clusters: ArrayLike | None) -> float:
    """How many times larger the variance of the mean is because customers recur; never below 1 (Kish 1965, 5.4)."""
    y = np.asarray(responded, dtype=float)
    naive = float(((y - y.mean()) ** 2).sum())
    if clusters is None or naive == 0:
        return 1.0
    codes = pd.factorize(np.asarray(clusters, dtype=object))[0]
    within = np.bincount(codes, weights=y - y.mean())
    return max(1.0, float(within @ within) / naive)


def rate_ratio(
    first: ArrayLike, first_n: ArrayLike, second: ArrayLike, second_n: ArrayLike, confidence: float = 0.95
) -> tuple[Array, Array, Array]:
    """Ratio of two independent shares with limits from their Wilson intervals; the upper one may be infinite.

    Parameters
    ----------
    first, first_n, second, second_n : counts, scalar or shape (n,).

    Source: MOVER-R, Donner & Zou (2012), Statistical Methods in Medical Research 21:347, equation (8).
    """
    k1, n1, k2, n2 = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (first, first_n, second, second_n)))
    (l1, u1), (l2, u2) = wilson_interval(k1, n1, confidence), wilson_interval(k2, n2, confidence)
    with np.errstate(divide="ignore", invalid="ignore"):
        p1, p2 = k1 / n1, k2 / n2
        product = p1 * p2
        below = np.sqrt(np.maximum(product**2 - l1 * u2 * (2 * p1 - l1) * (2 * p2 - u2), 0))
        above = np.sqrt(np.maximum(product**2 - u1 * l2 * (2 * p1 - u1) * (2 * p2 - l2), 0))
        low = np.where(2 * p2 - u2 > 0, (product - below) / (u2 * (2 * p2 - u2)), l1 / u2)
        high = np.where(l2 > 0, (product + above) / (l2 * (2 * p2 - l2)), np.inf)
        return p1 / p2, np.maximum(low, 0.0), high


def _cumulative(score: Array, values: Array, at: Array) -> Array:
    """Sum of ``values`` over the ``at`` best scores; rows with the same score count in proportion, in any order."""
    levels, place = np.unique(-score, return_inverse=True)
    rows = np.r_[0, np.cumsum(np.bincount(place, minlength=len(levels)))]
    sums = np.r_[0, np.cumsum(np.bincount(place, weights=values, minlength=len(levels)))]
    return np.interp(at, rows, sums)


def gains_table(
    score: ArrayLike,
    responded: ArrayLike,
    groups: int = 10,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Gains and lift by group of the score, best first, on customers whom the model did not see.

    Parameters
    ----------
    score, responded : shape (n,). groups : equal groups, 10 for deciles. clusters : shape (n,), customers who recur.

    Returns
    -------
    One row a group: group (1 is the best), depth (share mailed up to here), contacts, responses, expected (responses
    by the score), rate, rate_low, rate_high, lift, lift_low, lift_high (of the group over the average),
    cumulative_rate, cumulative_lift with limits, and gain, gain_low, gain_high (share of all responses reached up to
    here). Rows with the same score are shared between groups in proportion, so the order of rows does not matter.

    Source: Hughes (2005), Strategic Database Marketing, chapter 10, for the form; limits of lift from the ratio of the
    group's rate to that of the rest (:func:`rate_ratio`).
    """
    s, y = np.asarray(score, dtype=float), np.asarray(responded, dtype=float)
    if not np.isfinite(s).all() or not np.isin(y, (0, 1)).all():
        raise ValueError("score must not be missing, and responded must hold only 0 and 1")
    if len(y) < groups:
        raise EstimationError("too_few", f"{len(y)} contacts cannot make {groups} groups; ask for fewer")
    if y.sum() == 0:
        raise EstimationError("no_responses", "nobody responded; there are no gains to show")
    n, total = len(y), y.sum()
    edges = np.linspace(0, n, groups + 1)
    reached, expected = _cumulative(s, y, edges), _cumulative(s, s, edges)
    counts, responses = np.diff(edges), np.diff(reached)
    # Where customers recur, as many independent contacts as are worth as much.
    size = 1 / design_effect(y, clusters)
    low, high = wilson_interval(size * np.clip(responses, 0, counts), size * counts, confidence)
    depth = edges[1:] / n
    lift = _lift(responses, counts, total, n, size, confidence)
    running = _lift(reached[1:], edges[1:], total, n, size, confidence)
    return pd.DataFrame(
        {
            "group": np.arange(1, groups + 1),
            "depth": depth,
            "contacts": counts,
            "responses": responses,
            "expected": np.diff(expected),
            "rate": responses / counts,
            "rate_low": low,
            "rate_high": high,
            **dict(zip(("lift", "lift_low", "lift_high"), lift, strict=True)),
            "cumulative_rate": reached[1:] / edges[1:],
            **{f"cumulative_{name}": v for name, v in zip(("lift", "lift_low", "lift_high"), running, strict=True)},
            **{name: v * depth for name, v in zip(("gain", "gain_low", "gain_high"), running, strict=True)},
        }
    )


def _lift(
    responses: Array, counts: Array, total: float, n: int, size: float, confidence: float
) -> tuple[Array, Array, Array]:
    """Lift of a part over the whole, which holds it: with the share q of the part, θ / (q θ + 1 − q), θ the ratio of its
    rate to that of the rest."""
    q = counts / n
    rest = np.maximum(n - counts, 0)
    part, whole = rest > 1e-9, responses / counts / (total / n)
    low, high = whole.copy(), whole.copy()  # everybody has a lift of exactly 1
    others = np.clip(total - responses, 0, rest)
    _, low_ratio, high_ratio = rate_ratio(
        size * np.clip(responses, 0, counts)[part],
        size * counts[part],
        size * others[part],
        size * rest[part],
        confidence,
    )
    low[part] = low_ratio / (q[part] * low_ratio + 1 - q[part])
    with np.errstate(invalid="ignore"):
        limit = high_ratio / (q[part] * high_ratio + 1 - q[part])
    high[part] = np.where(np.isinf(high_ratio), 1 / q[part], limit)
    return whole, low, high


@dataclass(frozen=True)
class MailingDepth:
    """How deep to mail, if every response is worth the same.

    Attributes
    ----------
    break_even_rate : response rate at which a contact pays for itself. depth : share of the contacts whose propensity
    reaches it. profit, profit_low, profit_high : money a contact of the holdout, when those alone are mailed.
    everyone, everyone_low, everyone_high : profit a contact when all are mailed. surely, possibly : share of the
    contacts in groups whose rate is surely, or possibly, above break-even. total : the deepest share whose mailing
    pays for itself in all, though its last contacts may not.
    """

    break_even_rate: float
    depth: float
    profit: float
    profit_low: float
    profit_high: float
    everyone: float
    everyone_low: float
    everyone_high: float
    surely: float
    possibly: float
    total: float


def mailing_depth(
    score: ArrayLike,
    responded: ArrayLike,
    margin_per_response: float,
    cost_per_contact: float,
    clusters: ArrayLike | None = None,
    groups: int = 10,
    confidence: float = 0.95,
) -> MailingDepth:
    """Break-even depth: contact those whose propensity times the margin of a response covers the contact's cost.

    Parameters
    ----------
    score, responded : shape (n,), of customers whom the model did not see. margin_per_response, cost_per_contact :
    money. The depth comes from the score, and the profit from the responses, so the profit is not that of a depth
    picked by its own outcome. It counts every response as earned, which only a randomised control group can tell.

    Source: Bult & Wansbeek (1995), Marketing Science 14:378, equation (1).
    """
    if not margin_per_response > 0 or not cost_per_contact >= 0:
        raise ValueError("the margin of a response must be positive and the cost of a contact not negative")
    s, y = np.asarray(score, dtype=float), np.asarray(responded, dtype=float)
    rate = float(cost_per_contact / margin_per_response)
    table = gains_table(s, y, groups, clusters, confidence)
    mailed = s >= rate
    own = _mean_with_limits(mailed * (margin_per_response * y - cost_per_contact), clusters, confidence)
    everyone = _mean_with_limits(margin_per_response * y - cost_per_contact, clusters, confidence)
    pays = table["cumulative_rate"] >= rate
    return MailingDepth(
        rate,
        float(mailed.mean()),
        *own,
        *everyone,
        float((table["rate_low"] >= rate).mean()),
        float((table["rate_high"] >= rate).mean()),
        float(table.loc[pays, "depth"].max()) if pays.any() else 0.0,
    )


def _mean_with_limits(values: Array, clusters: ArrayLike | None, confidence: float) -> tuple[float, float, float]:
    """A mean with its interval, customers who recur counted once."""
    groups = np.arange(len(values)) if clusters is None else pd.factorize(np.asarray(clusters, dtype=object))[0]
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    low, high = fit.conf_int(1 - confidence)[0]
    return float(fit.params[0]), float(low), float(high)


@dataclass(frozen=True)
class ResponseModel:
    """A response model and its record on customers (or campaigns) that it did not see.

    Attributes
    ----------
    model : fitted on the rest. score : shape (n,), propensity of every row. holdout : shape (n,), True for the test.
    gains, calibration, depth : on the holdout; depth is None without a margin and a cost. split : customer or time.
    """

    model: Pipeline = field(repr=False)
    score: Array = field(repr=False)
    holdout: NDArray[np.bool_] = field(repr=False)
    gains: pd.DataFrame = field(repr=False)
    calibration: Calibration
    depth: MailingDepth | None
    split: str

    def facts(self) -> dict[str, object]:
        """What the sentences need: lift of the best group, what the best fifth reaches, calibration, depth."""
        top = self.gains.iloc[0]
        fifth = self.gains.loc[(self.gains["depth"] - 0.2).abs().idxmin()]
        found = {"split": self.split, "contacts": int(self.holdout.sum()), "groups": len(self.gains)}
        found |= {"responses": round(self.gains["responses"].sum())}
        found |= {"value": float(top["lift"]), "low": float(top["lift_low"]), "high": float(top["lift_high"])}
        found |= {"top_rate": float(top["rate"]), "rate": float(self.gains["cumulative_rate"].iloc[-1])}
        found |= {"fifth": float(fifth["depth"]), "fifth_gain": float(fifth["gain"])}
        found |= {"fifth_low": float(fifth["gain_low"]), "fifth_high": float(fifth["gain_high"])}
        found |= {"calibrated": self.calibration.holds, "expected": self.calibration.expected}
        found |= {"slope": self.calibration.slope, "slope_low": self.calibration.slope_low}
        found |= {"slope_high": self.calibration.slope_high}
        names = [f.name for f in fields(MailingDepth)]
        return found | {name: None if self.depth is None else getattr(self.depth, name) for name in names}


def run_response(
    covariates: pd.DataFrame,
    responded: ArrayLike,
    customers: ArrayLike,
    starts: ArrayLike | None = None,
    margin_per_response: float | None = None,
    cost_per_contact: float | None = None,
    share: float = 0.5,
    seed: int = 1,
    confidence: float = 0.95,
) -> tuple[ResponseModel | None, str | None]:
    """A response model with gains, calibration and depth on a holdout, or why there is none.

    Parameters
    ----------
    covariates : (n, k) frame of the contacted, known before the contact. responded : shape (n,), 0 or 1; rows of which
    it is not known are left out beforehand. customers : shape (n,). starts : shape (n,), to test on later campaigns;
    with None, or one campaign, on other customers. margin_per_response, cost_per_contact : money, or None.
    share : of the holdout.

    Returns
    -------
    The model and None, or None and the reason: ``few_responses``, ``no_responses``, ``no_variation``, ``too_few``.
    """
    y, ids = np.asarray(responded).astype(int), np.asarray(customers, dtype=object)
    split = "time" if starts is not None and len(pd.unique(pd.Series(starts))) > 1 else "customer"
    holdout = time_split(starts, share) if split == "time" else customer_split(ids, share, seed)
    x = covariates.to_numpy(float)
    try:
        model = fit_response(y[~holdout], x[~holdout])
        score = model.predict_proba(x)[:, 1]
        seen = (score[holdout], y[holdout])
        table = gains_table(*seen, 10, ids[holdout], confidence)
        checked = calibration(*seen, ids[holdout], confidence)
        depth = None
        if margin_per_response is not None and cost_per_contact is not None and margin_per_response > 0:
            depth = mailing_depth(*seen, margin_per_response, cost_per_contact, ids[holdout], 10, confidence)
    except EstimationError as error:
        return None, error.code
    return ResponseModel(model, score, holdout, table, checked, depth, split), None
