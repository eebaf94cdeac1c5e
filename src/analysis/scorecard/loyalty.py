"""Were the drivers of satisfaction and loyalty found? Paths against what is planted and what the method can find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.loyalty import (
    EstimationError,
    PLSPathModel,
    Repair,
    Specification,
    Thresholds,
    called,
    repair_blocks,
)
from analysis.loyalty.kernel import Layout, Outcome, Scheme, estimate
from analysis.loyalty.scores import levels, scale_limits
from analysis.scorecard.card import CHANCE, entries, finding
from analysis.scorecard.link import link_entries
from analysis.scorecard.words import Words
from analysis.simulate.satisfaction import Contact, Item, SatisfactionPlan, respondents

_BATCH = 100_000


@dataclass(frozen=True)
class Limit:
    """What a path model finds in a population so large that chance plays no part.

    paths : coefficients by (source, target). levels : mean 0-100 score by construct.
    """

    paths: pd.Series
    levels: pd.Series


def plan_of(planted: Mapping[str, object]) -> SatisfactionPlan:
    """The satisfaction plan of a simulated company, from its planted.json."""
    given = {name: _tuples(value) for name, value in planted["world"]["satisfaction"].items()}
    given["items"] = tuple(Item(**item) for item in given["items"])
    given["contacts"] = tuple(Contact(**contact) for contact in given["contacts"])
    return SatisfactionPlan(**given)


def _tuples(value: object) -> object:
    """JSON has lists where a plan has tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def repaired(
    answers: pd.DataFrame, specification: Specification, parameters: Mapping[str, object], **options: object
) -> tuple[PLSPathModel, Repair]:
    """The model that the loyalty notebook ends up with: the same blocks mended by the same rules.

    Parameters
    ----------
    parameters : with which that notebook ran. options : passed to `PLSPathModel`.
    """
    limits = Thresholds(
        alpha=parameters["minimum_alpha"], loading=parameters["minimum_loading"], htmt=parameters["maximum_htmt"]
    )
    model = PLSPathModel(answers, specification, scheme=parameters["scheme"], **options)
    repair = repair_blocks(model, answers, limits, **options)
    return PLSPathModel(answers, repair.specification, scheme=parameters["scheme"], **options), repair


def limit(
    plan: SatisfactionPlan,
    specification: Specification,
    scheme: Scheme,
    scale: tuple[float, float],
    n: int,
    seed: int,
) -> Limit:
    """The same estimator on `n` simulated respondents of the whole population, a skipped answer at its item's mean.

    Raises
    ------
    EstimationError
        If the weights do not settle.
    """
    items = list(specification.items)
    rng = np.random.default_rng(seed)
    sizes = [min(_BATCH, n - first) for first in range(0, n, _BATCH)]
    answers = np.concatenate(
        [respondents(size, plan, rng)[items].to_numpy(np.float32, na_value=np.nan) for size in sizes]
    )
    mean, correlations, deviations = _moments(answers)
    layout = Layout.of(specification)
    found = estimate(correlations[None], layout, scheme)
    if found.outcome[0] != Outcome.CONVERGED:
        raise EstimationError(f"the path model of {n:,} simulated respondents has no solution")
    low, high = scale_limits(items, scale)
    level = levels(mean[None], found.weights, deviations[None], low, high, layout.starts[:-1])[0]
    arrows = pd.MultiIndex.from_tuples([(p.source, p.target) for p in specification.paths], names=["source", "target"])
    return Limit(pd.Series(found.paths[0], arrows), pd.Series(level, list(specification.constructs)))


def _moments(answers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means (p,), correlations (p, p) and standard deviations (p,) with missing answers at the mean."""
    mean = np.nanmean(answers, axis=0, dtype=float)
    covariance = np.zeros((answers.shape[1],) * 2)
    for first in range(0, len(answers), _BATCH):
        centred = np.nan_to_num(answers[first : first + _BATCH] - mean)
        covariance += centred.T @ centred / len(answers)
    deviations = np.sqrt(np.diag(covariance))
    return mean, covariance / np.outer(deviations, deviations), deviations


def path_rows(planted: pd.DataFrame, limit: Limit, shown: pd.DataFrame, consistent: pd.DataFrame) -> pd.DataFrame:
    """Every arrow of the model: planted, what the method can find, and what was found.

    Parameters
    ----------
    planted : source, target, path between the constructs themselves. shown : the loyalty notebook's table of paths.
    consistent : from :func:`analysis.loyalty.consistent_paths`.

    Returns
    -------
    source, target, latent (planted), limit (plain PLS without chance), found, low, high (the notebook's), corrected,
    corrected_low, corrected_high (consistent PLS), path. Blocks go by the names that people read, as they do in `shown`.
    """
    keys = ["source", "target"]
    table = shown[[*keys, "estimate", "low", "high"]].rename(columns={"estimate": "found"})
    table = table.merge(called(planted).rename(columns={"path": "latent"}), on=keys, how="left")
    table = table.merge(called(limit.paths.rename("limit").reset_index()), on=keys, how="left")
    names = {"estimate": "corrected", "low": "corrected_low", "high": "corrected_high"}
    table = table.merge(called(consistent).rename(columns=names), on=keys, how="left")
    table["latent"] = table["latent"].fillna(0.0)  # an arrow of the model that the world does not have
    order = [*keys, "latent", "limit", "found", "low", "high", "corrected", "corrected_low", "corrected_high"]
    return table[order].assign(path=table["source"] + " → " + table["target"])


def path_facts(paths: pd.DataFrame) -> dict[str, object]:
    """How many intervals hold which truth, and how far plain PLS is from the planted paths even without chance.

    Returns
    -------
    arrows; held (notebook's intervals that hold the limit), latent_held (that hold the planted path), corrected_held (consistent
    PLS intervals that hold the planted path); bias (mean absolute difference of limit and planted), and of the arrow with the
    largest: worst, worst_latent, worst_limit; corrected_error and plain_error (mean absolute differences of the two estimates from
    the planted paths).
    """

    def held(low: str, truth: str, high: str) -> int:
        return int(((paths[low] <= paths[truth]) & (paths[truth] <= paths[high])).sum())

    gap = (paths["limit"] - paths["latent"]).abs()
    worst = paths.loc[gap.idxmax()]
    return {
        "arrows": len(paths),
        "held": held("low", "limit", "high"),
        "latent_held": held("low", "latent", "high"),
        "corrected_held": held("corrected_low", "latent", "corrected_high"),
        "bias": float(gap.mean()),
        "worst": worst["path"],
        "worst_latent": float(worst["latent"]),
        "worst_limit": float(worst["limit"]),
        "plain_error": float((paths["found"] - paths["latent"]).abs().mean()),
        "corrected_error": float((paths["corrected"] - paths["latent"]).abs().mean()),
    }


def response_facts(plan: SatisfactionPlan) -> dict[str, object]:
    """Who answers, as planted: share, and whether satisfaction or age make a difference; whether a mood colours all answers."""
    return {
        "share": plan.response,
        "selective": bool(plan.response_satisfaction or plan.response_age),
        "halo": plan.halo,
    }


def loyalty_entries(
    paths: pd.DataFrame,
    limit: Limit,
    plan: SatisfactionPlan,
    money: float | None,
    findings: Mapping[str, dict],
    words: Words,
) -> pd.DataFrame:
    """Section of the card: the paths, the level of satisfaction, the links from it, and what ten points of it are worth."""
    rows = [
        (words("quantity_path", path=r["path"]), r["limit"], r["found"], r["low"], r["high"])
        for r in paths.to_dict("records")
    ]
    rows.append(
        finding(words("quantity_satisfaction"), limit.levels["Satisfaction"], findings.get("satisfaction_score"))
    )
    # Who answers moves the level of satisfaction; what goes with what hardly depends on it, so a path that misses misses by chance.
    level = "why_response" if response_facts(plan)["selective"] else CHANCE
    survey = entries(rows, [*[CHANCE] * len(paths), level])
    return pd.concat([survey, link_entries(plan, money, findings, words)], ignore_index=True)
