"""Who foresees the next period's spend best: scores, plain rules, a learner or the purchase models.

Everybody sees the same past and is held against the same future. What has to be learnt is learnt on periods before, features
up to the start of each and spend in it: the mean of an RFM cell on the last one, the trees of a gradient-boosted regression
on all of them, as purchase models use the whole history too. Nothing learns from the period that it is tested on. The winner
is the method with the smallest root mean squared error, whichever it is, since that is what a forecast of the mean minimises;
a method whose difference to the winner may be chance is called a tie.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from analysis.valuation.holdout import Holdout, Ranking, resamples
from analysis.valuation.purchases import Array
from analysis.valuation.rfm import BEST_IS_LOW, MEASURES, rfm_edges
from analysis.valuation.spend import GammaGamma
from analysis.valuation.summary import calibration_holdout, customer_summary, to_frame
from analysis.valuation.validation import spend_forecasts

RFM_SCORE, BOOSTING = "RFM score", "gradient boosting"
MEASURED = ("mae", "rmse", "total_error", "top_decile_share", "rank_correlation")
FEATURES = (
    "frequency",
    "recency",
    "T",
    "recency_days",
    "recent_frequency",
    "recent_spend",
    "monetary_value",
    "spend",
    "buying_rate",
    "spend_rate",
)
_TOP = 0.10
_CELL = 20  # customers behind the mean of an RFM cell; below it, the mean of all with the same product of scores
_LEAST_TO_LEARN = 200  # customers that a boosted regression needs
_WINDOWS = 6  # periods that the boosted regression learns from, at most
_MOST = 20_000  # customers behind the bootstrap samples; of a larger base every k-th


@dataclass(frozen=True)
class Splits:
    """Splits of the same shape, each right before the other.

    Attributes
    ----------
    later : DataFrame
        The one that everybody is tested on; :func:`analysis.valuation.calibration_holdout` with `spend` (all net
        amounts up to the split) and `recency_days` (days since the last occasion).
    earlier : DataFrame or None
        The one that is learnt from: its holdout is the last stretch of the later one's past.
    reason : str
        Why there is no earlier one; empty otherwise.
    older : tuple of DataFrame
        Splits before the earlier one, newest first: each holdout is the last stretch of the past of the one after it.
    """

    later: pd.DataFrame
    earlier: pd.DataFrame | None
    reason: str
    older: tuple[pd.DataFrame, ...] = ()

    @property
    def learnt_from(self) -> tuple[pd.DataFrame, ...]:
        """All splits that end before the tested period, newest first."""
        return () if self.earlier is None else (self.earlier, *self.older)


@dataclass(frozen=True)
class Contest:
    """Who came closest.

    Attributes
    ----------
    scores : DataFrame
        One row a method, smallest RMSE first: `method`, `kind` ("score", "heuristic", "learner", "model"), then `mae`, `rmse`
        (money a customer), `total_error` (share of the actual total), `top_decile_share` (share of the actual spend that
        the tenth with the highest forecasts brought), `rank_correlation` (Spearman), each with `_low`, `_high`
        (bootstrap over customers, 95 %); `best`, `tied`.
    differences : DataFrame
        One row a method but the best: `method`, `best`, and for each measure `_difference` (method less best), `_low`,
        `_high`.
    best : str
    tied : tuple of str
        Methods whose RMSE may differ from the best one's by chance (their 95 % interval holds zero).
    not_trained : dict of str
        Why a method could not take part, by method.
    forecasts : DataFrame
        Forecast spend, one row a customer of the split, one column a method.
    customers : int
    actual : float
        Spend in the tested period, money.
    weeks : float
    """

    scores: pd.DataFrame
    differences: pd.DataFrame
    best: str
    tied: tuple[str, ...]
    not_trained: dict[str, str]
    forecasts: pd.DataFrame
    customers: int
    actual: float
    weeks: float

    @property
    def best_kind(self) -> str:
        """The kind of the best method."""
        return str(self.scores["kind"].iloc[0])


def contest_splits(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    weeks: int,
    later: pd.DataFrame | None = None,
    windows: int = _WINDOWS,
) -> Splits:
    """Split the history at the last multiples of `weeks` before its end.

    Parameters
    ----------
    order_lines : ibis.Table
    observed_from, observed_to : date
    weeks : int
        Length of the period to foresee.
    later : DataFrame, optional
        :func:`analysis.valuation.calibration_holdout` of the last `weeks`, where it has been made already.
    windows : int
        Periods to learn from, at most; fewer where the one before would have less than its own length of history.

    Raises
    ------
    ValueError
        When not even the later split can be made, or the one given is of another length.
    """
    length = datetime.timedelta(weeks=weeks)
    if later is not None and later.attrs.get("holdout_days") != length.days:
        raise ValueError("contest: the holdout is not of the later split; make both with the same number of weeks")
    later = _split(order_lines, observed_to - length, observed_to, later)
    cut, reason = observed_to - 2 * length, ""
    earlier = None
    if (cut - observed_from).days + 1 < length.days:
        days = (observed_to - observed_from).days + 1
        reason = f"learning needs three stretches of {weeks} weeks, and {days} days were observed"
    else:
        try:
            earlier = _split(order_lines, cut, observed_to - length)
        except ValueError as error:
            reason = str(error).partition(": ")[2]
    if earlier is not None and not earlier["holdout_spend"].sum() > 0:
        earlier, reason = None, "nobody known before bought in the period to learn from"
    older = () if earlier is None else _older(order_lines, observed_from, cut, length, windows - 1)
    return Splits(later, earlier, reason, older)


def _older(
    order_lines: ibis.Table, observed_from: datetime.date, end: datetime.date, length: datetime.timedelta, most: int
) -> tuple[pd.DataFrame, ...]:
    """Splits whose holdouts end at `end`, one `length` before it and so on, as long as each has that much history."""
    found: list[pd.DataFrame] = []
    while len(found) < most and (end - length - observed_from).days + 1 >= length.days:
        try:
            found.append(_split(order_lines, end - length, end))
        except ValueError:
            # nobody had bought by then, nor before
            break
        end -= length
    return tuple(found)


def _split(
    order_lines: ibis.Table, cut: datetime.date, end: datetime.date, split: pd.DataFrame | None = None
) -> pd.DataFrame:
    split = calibration_holdout(order_lines, cut, end) if split is None else split
    spend = to_frame(customer_summary(order_lines, cut, columns=("spend", "recency_days")))
    frame = split.merge(spend, on="customer_id", validate="one_to_one")
    frame.attrs = dict(split.attrs)
    return frame


def contest(splits: Splits, holdout: Holdout, *, seed: int = 1, replications: int = 500) -> Contest:
    """Let every method foresee the later split's spend, and score it.

    Parameters
    ----------
    splits : Splits
        From :func:`contest_splits`.
    holdout : Holdout
        :func:`analysis.valuation.evaluate_holdout` of `splits.later`, or of the same split: its models and rules take part.
    seed : int
    replications : int
        Bootstrap samples of customers.

    Raises
    ------
    ValueError
        When `holdout` is of another split, or nobody bought in the tested period.
    """
    later = splits.later
    if not later["customer_id"].equals(holdout.frame["customer_id"]) or not np.array_equal(
        later["holdout_frequency"], holdout.frame["holdout_frequency"]
    ):
        raise ValueError("contest: the holdout is not of the later split; make both with the same number of weeks")
    actual = later["holdout_spend"].to_numpy(float)
    if not actual.sum() > 0:
        raise ValueError("contest: nobody known before bought in the tested period; choose a longer one")
    kinds = holdout.scores.set_index("forecast")["kind"].to_dict()
    forecasts = {name: (kinds[name], amount) for name, amount in spend_forecasts(holdout).items()}
    not_trained = {
        name: "no spend of a repeat purchase to value purchases with" for name in kinds if name not in forecasts
    }
    not_trained |= {
        name: verdict.reason
        for name, verdict in holdout.models.verdicts.items()
        if not verdict.usable and name not in kinds and name != GammaGamma.name
    }
    if splits.earlier is None:
        not_trained |= dict.fromkeys((RFM_SCORE, BOOSTING), splits.reason)
    else:
        forecasts[RFM_SCORE] = ("score", rfm_forecast(splits.earlier, later))
        if len(splits.earlier) < _LEAST_TO_LEARN:
            not_trained[BOOSTING] = (
                f"{len(splits.earlier)} customers are too few to learn from ({_LEAST_TO_LEARN} needed)"
            )
        else:
            forecasts[BOOSTING] = ("learner", boosted_forecast(splits.learnt_from, later, seed))
    frame = pd.DataFrame({name: amount for name, (_, amount) in forecasts.items()})
    measured, drawn = _measure(frame, actual, seed, replications)
    order = measured.sort_values("rmse", kind="stable").index
    best, at = str(order[0]), {name: i for i, name in enumerate(frame)}
    scores, differences = [], []
    for name in order:
        row: dict[str, object] = {"method": name, "kind": forecasts[name][0]}
        apart: dict[str, object] = {"method": name, "best": best}
        for j, measure in enumerate(MEASURED):
            value, own = measured.loc[name, measure], drawn[:, at[name], j]
            row |= {measure: value} | _ends(measure, own)
            apart |= {f"{measure}_difference": value - measured.loc[best, measure]}
            apart |= _ends(measure, own - drawn[:, at[best], j])
        scores.append(row)
        differences.append(apart)
    table, apart = pd.DataFrame(scores), pd.DataFrame(differences)
    chance = (apart["rmse_low"] <= 0) & (apart["method"] != best)
    table["best"], table["tied"] = table["method"] == best, chance
    return Contest(
        scores=table,
        differences=apart[apart["method"] != best].reset_index(drop=True),
        best=best,
        tied=tuple(table.loc[chance, "method"]),
        not_trained=not_trained,
        forecasts=frame.assign(customer_id=later["customer_id"])[["customer_id", *frame.columns]],
        customers=len(later),
        actual=float(actual.sum()),
        weeks=holdout.weeks,
    )


def rfm_forecast(earlier: pd.DataFrame, later: pd.DataFrame, bins: int = 5) -> Array:
    """Spend foreseen by RFM scores: the mean that customers of the same cell spent in the period before.

    Parameters
    ----------
    earlier, later : DataFrame
        Splits of :func:`contest_splits`. Each is scored by its own edges.
    bins : int

    Returns
    -------
    array of shape (customers of `later`,)
        Cells of fewer than 20 customers take the mean over all with the same product of scores, and those the
        mean over the base.
    """
    learnt, tested = _scored(earlier, bins), _scored(later, bins)
    spent = earlier["holdout_spend"].to_numpy(float)
    forecast = np.full(len(later), spent.mean())
    for keys in (["product"], list(MEASURES)):
        means = learnt.assign(spent=spent).groupby(keys)["spent"].agg(["mean", "size"])
        known = means.loc[means["size"] >= _CELL, "mean"]
        found = tested.join(known.rename("mean"), on=keys)["mean"].to_numpy()
        forecast = np.where(np.isfinite(found), found, forecast)
    return forecast


def _scored(split: pd.DataFrame, bins: int) -> pd.DataFrame:
    edges = rfm_edges(split, bins)
    groups = {name: edges[name].group(split[column]) for name, column in MEASURES.items()}
    frame = pd.DataFrame({n: bins - g if n in BEST_IS_LOW else g + 1 for n, g in groups.items()})
    return frame.assign(product=frame.prod(axis=1))


def boosted_forecast(earlier: pd.DataFrame | Sequence[pd.DataFrame], later: pd.DataFrame, seed: int = 1) -> Array:
    """Spend foreseen by a gradient-boosted regression that learnt on the periods before.

    Parameters
    ----------
    earlier : DataFrame or sequence of DataFrame
        `Splits.learnt_from`. A customer is a row in each period that knew them, with the features seen at its start.
    later : DataFrame
        The features are `FEATURES`, each seen from its own split.
    seed : int

    Returns
    -------
    array of shape (customers of `later`,)
        Money, above zero.

    Notes
    -----
    Histogram-based boosting of scikit-learn with the Poisson loss, which fits a mean that is never negative and errs in
    proportion to it; small trees and a slow learning rate. All of it was chosen beforehand and not on the tested period.
    Histories of a later split are longer by one period, so rates stand beside totals.
    """
    periods = [earlier] if isinstance(earlier, pd.DataFrame) else list(earlier)
    # a net return is a spend below zero, which no Poisson mean can be
    spent = np.maximum(np.concatenate([period["holdout_spend"].to_numpy(float) for period in periods]), 0.0)
    scale = spent.mean()  # in units of the mean, so that no currency regularises more than another
    learner = HistGradientBoostingRegressor(
        loss="poisson",
        learning_rate=0.05,
        max_iter=150,
        max_leaf_nodes=15,
        min_samples_leaf=max(10, min(200, len(spent) // 100)),
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )
    learner.fit(np.concatenate([_features(period) for period in periods]), spent / scale)
    return learner.predict(_features(later)) * scale


def _features(split: pd.DataFrame) -> Array:
    watched = split["T"] + 1.0
    rates = {"buying_rate": (split["frequency"] + 1.0) / watched, "spend_rate": split["spend"] / watched}
    return split.assign(**rates)[list(FEATURES)].to_numpy(float)


def _measure(forecasts: pd.DataFrame, actual: Array, seed: int, replications: int) -> tuple[pd.DataFrame, Array]:
    """Each measure of each method, and bootstrap samples of it, shape (replications, methods, measures)."""
    values = forecasts.to_numpy(float)
    measured = pd.DataFrame(_scores_of(values, actual, _rankings(values, actual), None), forecasts.columns, MEASURED)
    stride = max(1, -(-len(actual) // _MOST))
    part, truth = values[::stride], actual[::stride]
    rankings = _rankings(part, truth)
    here = _scores_of(part, truth, rankings, None)
    drawn = np.array(
        [
            _scores_of(part, truth, rankings, sample.astype(float))
            for sample in resamples(len(truth), replications, seed)
        ]
    )
    # a sample of every k-th customer varies more than the base by the root of k
    return measured, measured.to_numpy() + (drawn - here) / np.sqrt(stride)


def _rankings(values: Array, actual: Array) -> list[Ranking]:
    return [Ranking.of(column) for column in [*values.T, actual]]


def _scores_of(values: Array, actual: Array, rankings: list[Ranking], weights: Array | None) -> Array:
    weight = np.full(len(actual), 1.0) if weights is None else weights
    share = weight / weight.sum()
    errors = values - actual[:, None]
    total = share @ actual
    ranks = np.array([ranking.ranks(weight) for ranking in rankings])
    centred = ranks - (ranks @ share)[:, None]
    spread = np.sqrt(centred**2 @ share)
    product = spread[:-1] * spread[-1]
    correlation = (centred[:-1] * centred[-1]) @ share / np.where(product > 0, product, 1.0)
    top = [float(ranking.captured(actual, _TOP, weight)) for ranking in rankings[:-1]]
    return np.column_stack(
        [
            share @ np.abs(errors),
            np.sqrt(share @ errors**2),
            share @ errors / total if total > 0 else np.zeros(values.shape[1]),
            top,
            correlation,
        ]
    )


def _ends(measure: str, drawn: Array) -> dict[str, float]:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {f"{measure}_low": float(low), f"{measure}_high": float(high)}
