"""How well the model foretells the answers of customers who had no part in estimating it (PLSpredict).

Respondents are dealt into folds; the model is estimated without each fold in turn, and the answers of that fold to the items of
every construct that arrows point at are predicted from its answers to others. Training sets are rows of counts, so one matrix
product gives the moments of all of them.

The older Q² of blindfolding is not computed: it leaves out single answers, not people, and fills them in from the rest of the
same sample, so it mixes fit with prediction and depends on the omission distance; Q²_predict has taken its place (Shmueli et
al. 2016, J. Bus. Res. 69, p. 4553; Hair et al. 2022, A Primer on PLS-SEM, 3rd ed., chapter 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from .kernel import Estimates, Layout, estimate, own_loadings
from .moments import Array, MomentBatch, Outcome
from .path_model import EstimationError, PLSResults

Antecedents = Literal["direct", "earliest"]


def predict(
    results: PLSResults,
    antecedents: Antecedents = "direct",
    *,
    folds: int = 10,
    repetitions: int = 10,
    seed: int | np.random.Generator = 1,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Errors of predicting each item of a dependent construct out of sample, beside two benchmarks.

    Benchmarks: the training mean, and a linear regression (LM) of the item on the items of the same antecedents, which knows
    nothing of constructs.

    Parameters
    ----------
    antecedents : "direct" predicts a construct from the scores of its sources, as measured; "earliest" from the constructs
        without sources alone, through the model
    folds, repetitions : parts that the customers are dealt into (all answers of one customer into the same), and how often
    seed : integer or numpy Generator

    Returns
    -------
    One row an item: construct, item; rmse, mae, rmse_lm, mae_lm, rmse_mean, mae_mean (in the item's units, over answers given,
    with survey weights); q2_predict (1 - squared errors over those of the mean) with q2_low, q2_high; over_lm (mean squared
    error of LM less that of the model: positive where the model is better), over_lm_low, over_lm_high. Limits are Student's,
    from losses averaged over repetitions, one a customer (the cross-validated predictive ability test).

    Raises
    ------
    EstimationError
        If folds are fewer than two or more than customers, a training set cannot be estimated, or items are made of scores.

    Source: Shmueli et al. (2016), J. Bus. Res. 69, 4552-4564; Shmueli et al. (2019), Eur. J. Mark. 53, 2322-2347; Liengaard et
    al. (2021), Decis. Sci. 52, 362-392, equation 4 (limits).
    """
    model = results.model
    if model.specification.staged:
        raise EstimationError(
            "items made of scores have no answers to predict: use the model without products and components"
        )
    if antecedents not in ("direct", "earliest"):
        raise EstimationError(f"antecedents={antecedents!r} is unknown: use 'direct' or 'earliest'")
    if not 2 <= folds <= model.respondents or repetitions < 1:
        raise EstimationError(
            f"folds={folds}, repetitions={repetitions}: between 2 folds and one a customer ({model.respondents}) are "
            "needed, and a repetition or more"
        )
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    dealt = _dealt(model.respondents, folds, repetitions, rng)
    losses = _losses(results, dealt, antecedents)
    return _frame(results, losses, confidence)


def predictive_power(predictions: pd.DataFrame) -> pd.DataFrame:
    """A word on every dependent construct: does the model predict its items better than a plain regression?

    Parameters
    ----------
    predictions : from :func:`predict`

    Returns
    -------
    One row a construct: construct, items, above_mean (items with q2_predict above zero), above_lm (items with a lower RMSE
    than LM), power: "high" (above LM in all items), "medium" (in at least half), "low" (in fewer), "none" (in no item, or no
    item above the mean).

    Source: Shmueli et al. (2019), Eur. J. Mark. 53, figure 5.
    """
    rows = []
    for construct, part in predictions.groupby("construct", sort=False):
        mean, lm = int((part["q2_predict"] > 0).sum()), int((part["rmse"] < part["rmse_lm"]).sum())
        power = "high" if lm == len(part) else "medium" if 2 * lm >= len(part) else "low"
        power = power if lm and mean else "none"
        rows.append({"construct": construct, "items": len(part), "above_mean": mean, "above_lm": lm, "power": power})
    return pd.DataFrame(rows, columns=["construct", "items", "above_mean", "above_lm", "power"])


@dataclass(frozen=True)
class _Losses:
    """Squared and absolute errors of three predictors (pls, lm, mean), averaged over repetitions; NaN where nothing was
    answered: (3, n, p)."""

    squared: Array
    absolute: Array


def _dealt(respondents: int, folds: int, repetitions: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Fold of every respondent in every repetition: (repetitions, respondents)."""
    fold = np.arange(respondents) * folds // respondents
    return np.stack([rng.permutation(fold) for _ in range(repetitions)])


def _losses(results: PLSResults, dealt: NDArray[np.int64], antecedents: Antecedents) -> _Losses:
    model = results.model
    answers, number = model.answers.to_numpy(float), model.row_respondents
    squared, absolute = np.zeros((3, *answers.shape)), np.zeros((3, *answers.shape))
    for fold_of in dealt:
        left_out = fold_of == np.arange(fold_of.max() + 1)[:, None]
        training = model.moments.batch((~left_out).astype(float))
        fitted = estimate(
            training.correlations, model.layout, model.scheme, failed=training.outcome, **results.settings
        )
        if (fitted.outcome != Outcome.CONVERGED).any():
            raise EstimationError("the model cannot be estimated without one of the folds: use fewer folds")
        rules = _rules(training, fitted, model.layout, antecedents)
        for k, out in enumerate(left_out):
            rows = out[number]
            z = np.nan_to_num((answers[rows] - training.means[k]) / training.deviations[k])
            error = answers[rows] - training.means[k] - (z @ rules[:, k]) * training.deviations[k]
            squared[:, rows] += error**2 / len(dealt)
            absolute[:, rows] += np.abs(error) / len(dealt)
    return _Losses(squared, absolute)


def _rules(training: MomentBatch, fitted: Estimates, layout: Layout, antecedents: Antecedents) -> Array:
    """Matrices that carry standardised answers to predictions of every item: (3, B, p, p) for pls, lm and mean."""
    size, p = fitted.weights.shape
    composed = np.zeros((size, p, layout.width))
    composed[:, np.arange(p), layout.owner] = fitted.weights
    effects = np.zeros((size, layout.width, layout.width))
    if antecedents == "direct":
        effects[:, layout.arrow_source, layout.arrow_target] = fitted.paths
    else:
        first = [j for j, sources in enumerate(layout.sources) if not sources]
        effects[:, first] = fitted.total_effects[:, first]
    rules = np.zeros((3, size, p, p))
    rules[0] = (composed @ effects)[:, :, layout.owner] * own_loadings(fitted, layout)[:, None, :]
    for target in (j for j, sources in enumerate(layout.sources) if sources):
        predictors = np.flatnonzero(np.isin(layout.owner, _predictors(layout, target, antecedents)))
        left = training.correlations[:, predictors[:, None], predictors]
        right = training.correlations[:, predictors, layout.block(target)]
        rules[1][:, predictors, layout.block(target)] = np.linalg.pinv(left, rcond=1e-10, hermitian=True) @ right
    return rules


def _predictors(layout: Layout, target: int, antecedents: Antecedents) -> list[int]:
    """Constructs from whose items the regression predicts those of `target`."""
    if antecedents == "direct":
        return list(layout.sources[target])
    found, waiting = set(), list(layout.sources[target])
    while waiting:
        construct = waiting.pop()
        found.add(construct)
        waiting.extend(layout.sources[construct])
    return [j for j in sorted(found) if not layout.sources[j]]


def _frame(results: PLSResults, losses: _Losses, confidence: float) -> pd.DataFrame:
    specification, model = results.specification, results.model
    targets = set(specification.endogenous())
    rows = []
    for position, (construct, item) in enumerate(results.loadings.index):
        if construct not in targets:
            continue
        answered = np.isfinite(losses.squared[0, :, position])
        weights, number = model.row_weights[answered], model.row_respondents[answered]
        pls, lm, mean = losses.squared[:, answered, position]
        rmse = np.sqrt([np.average(part, weights=weights) for part in (pls, lm, mean)])
        mae = [np.average(part, weights=weights) for part in losses.absolute[:, answered, position]]
        over, over_half = _mean_and_half(lm - pls, weights, number, confidence)
        q2 = 1 - (rmse[0] / rmse[2]) ** 2
        _, q2_half = _mean_and_half((pls - (1 - q2) * mean) / rmse[2] ** 2, weights, number, confidence)
        names = ("", "_lm", "_mean")
        rows.append(
            {"construct": construct, "item": item}
            | {f"rmse{name}": value for name, value in zip(names, rmse, strict=True)}
            | {f"mae{name}": value for name, value in zip(names, mae, strict=True)}
            | {"q2_predict": q2, "q2_low": q2 - q2_half, "q2_high": q2 + q2_half}
            | {"over_lm": over, "over_lm_low": over - over_half, "over_lm_high": over + over_half}
        )
    return pd.DataFrame(rows)


def _mean_and_half(values: Array, weights: Array, number: NDArray[np.int64], confidence: float) -> tuple[float, float]:
    """Weighted mean, and half the width of its interval, rows of one customer taken together."""
    mean = float(np.average(values, weights=weights))
    shares = np.bincount(number, weights * (values - mean)) / weights.sum()
    shares = shares[np.bincount(number) > 0]
    m = len(shares)
    if m < 2:
        return mean, float("nan")
    error = np.sqrt(m / (m - 1) * (shares**2).sum())
    return mean, float(student.ppf((1 + confidence) / 2, m - 1) * error)
