"""Do the items measure the constructs that they are meant for? Confirmatory factor analysis by maximum likelihood.

Every construct of several mode A items is a factor of variance one, every item loads on its own factor alone, factors correlate
freely:

    Sigma = Lambda Phi Lambda' + Theta,    F = log|Sigma| + tr(S Sigma^-1) - log|S| - p

A composite exists whatever its items do; a factor is a claim that can be wrong, and the fit of the model says how wrong.
Source: Jöreskog (1969), Psychometrika 34, 183-202; Bollen (1989), Structural Equations with Latent Variables, chapters 4 and 7.

>>> factors = confirm_factors(PLSPathModel(answers, specification))
>>> factors.fit, factors.loadings(), factors.correlations(), factors.reason
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, ncx2, norm

from .facts import stated
from .moments import Array
from .path_model import PLSPathModel

Errors = Literal["robust", "normal"]
CLOSE_FIT = {"cfi": 0.95, "tli": 0.95, "rmsea": 0.06, "srmr": 0.08}
"""Cut-offs of Hu & Bentler (1999), Struct. Equ. Modeling 6, p. 27: at least, for CFI and TLI; at most, for RMSEA and SRMR."""

_TOLERANCE, _ITERATIONS, _HALVINGS = 1e-10, 500, 30
_SINGULAR = 1e-8
"""Eigenvalue of a correlation matrix below which it counts as singular."""
_ROUNDING = 1e-13
_BATCH = 2048


@dataclass(frozen=True)
class FactorResults:
    """A confirmatory factor model and how well it fits.

    Attributes
    ----------
    fit : chi_squared, df, p_value, scaled_chi_squared, scaled_p_value, cfi, tli, rmsea, rmsea_low, rmsea_high (90 %), srmr;
        NaN where the model cannot be estimated or has no degree of freedom. The scaled statistic (Satorra & Bentler 1994)
        allows for answers that are not normal, for survey weights and for customers who answered more than once; the
        other measures are those of normal theory, as printed by common software.
    reason : why the solution cannot be used as it stands ("inadmissible: …"), or None
    nobs : rows of answers
    residuals : (p, p) correlations of the items less those that the model implies
    """

    fit: pd.Series
    reason: str | None
    nobs: int
    residuals: pd.DataFrame
    _loadings: pd.DataFrame
    _correlations: pd.DataFrame

    @property
    def admissible(self) -> bool:
        """Whether the estimates can belong to any factors and items at all."""
        return self.reason is None

    def loadings(self, confidence: float = 0.95) -> pd.DataFrame:
        """Standardised loadings: construct, item, estimate, bse, low, high."""
        return _with_limits(self._loadings, confidence)

    def correlations(self, confidence: float = 0.95) -> pd.DataFrame:
        """Correlations of the factors, highest first: first, second, estimate, bse, low, high."""
        return _with_limits(self._correlations, confidence).sort_values("estimate", ascending=False, ignore_index=True)

    def close_fit(self) -> pd.DataFrame:
        """The usual cut-offs: measure, value, cut_off, reached."""
        rows = []
        for measure, cut_off in CLOSE_FIT.items():
            value = self.fit[measure]
            reached = value >= cut_off if measure in ("cfi", "tli") else value <= cut_off
            rows.append({"measure": measure, "value": value, "cut_off": cut_off, "reached": bool(reached)})
        return pd.DataFrame(rows)


def confirm_factors(model: PLSPathModel, errors: Errors = "robust") -> FactorResults:
    """Test the blocks of a path model as factors of their items.

    Constructs of a single item, in which nothing tells error from content, and of mode B, whose items need not agree, stay out.
    Missing answers are as in `model`, so at their mean unless it leaves them out listwise.

    Parameters
    ----------
    errors : standard errors by the jackknife over respondents ("robust": they allow for whatever the scaled statistic allows for),
        or of normal theory ("normal": independent respondents of equal weight)

    Source: Satorra & Bentler (1994), in von Eye & Clogg (eds), Latent Variables Analysis, 399-419 (scaled statistic); White (1982),
    Econometrica 50, theorem 3.2 (robust errors); in both, the covariance of the items' moments is that of the jackknife.
    """
    if errors not in ("robust", "normal"):
        raise ValueError(f"errors={errors!r} is unknown: use 'robust' or 'normal'")
    blocks = {c.name: c.items for c in model.specification.composites if len(c.items) > 1 and c.mode == "A"}
    position = {item: k for k, item in enumerate(model.specification.items)}
    items = np.array([position[item] for block in blocks.values() for item in block], dtype=int)
    structure = _Structure(np.repeat(np.arange(len(blocks)), [len(block) for block in blocks.values()]))
    correlations = model.moments.full().correlations[0][np.ix_(items, items)]
    impossible = structure.impossible(correlations)
    if impossible:
        return _results(model, blocks, structure, correlations, None, None, impossible)
    solution = _maximise(correlations, structure)
    if not solution.settled:
        reason = (
            "inadmissible: the likelihood has no maximum that could be found; a block may not hold one common factor"
        )
        return _results(model, blocks, structure, correlations, None, None, reason)
    spread = _spread(model, items, correlations, solution, errors == "robust")
    return _results(model, blocks, structure, correlations, solution, spread, _inadmissible(solution, blocks))


def factor_facts(factors: FactorResults) -> dict:
    """What a sentence about the factors needs: RMSEA with its 90 % limits, or why it is not to be read.

    Returns
    -------
    value, low, high (or value None and reason); cfi, tli, srmr; missed: measures of close fit that are not reached; factors, items:
    their numbers; first, second, correlation: the two factors that are hardest to tell apart (None with fewer than two).
    """
    fit, pairs, loadings = factors.fit, factors.correlations(), factors.loadings()
    found = {"value": None, "reason": factors.reason}
    if factors.admissible:
        reason = "three items of one factor fit by necessity, so nothing is tested"
        found = stated(fit["rmsea"], fit["rmsea_low"], fit["rmsea_high"], reason)
    checks = factors.close_fit()
    closest = pairs.loc[0, ["first", "second", "estimate"]].tolist() if pairs["estimate"].notna().any() else [None] * 3
    return found | {
        "cfi": fit["cfi"],
        "tli": fit["tli"],
        "srmr": fit["srmr"],
        "missed": list(checks.loc[~checks["reached"] & checks["value"].notna(), "measure"]),
        "factors": loadings["construct"].nunique(),
        "items": len(loadings),
        **dict(zip(("first", "second", "correlation"), closest, strict=True)),
    }


# -- the model on a correlation matrix ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Structure:
    """Which factor each of p items loads on; parameters are ordered: p loadings, correlations of factors, p residual variances."""

    owner: NDArray[np.int64]

    @property
    def factors(self) -> int:
        return int(self.owner.max(initial=-1)) + 1

    @cached_property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Both factors of every correlation."""
        return np.triu_indices(self.factors, 1)

    @property
    def degrees(self) -> int:
        """Moments less parameters."""
        p = len(self.owner)
        return p * (p + 1) // 2 - 2 * p - len(self.pairs[0])

    def impossible(self, correlations: Array) -> str | None:
        """Why there is nothing to estimate."""
        if not self.factors:
            return "no construct has several items that should agree, so there is no factor to confirm"
        if self.degrees < 0:
            return f"{len(self.owner)} items are too few: two items alone fit any factor"
        if np.linalg.eigvalsh(correlations)[0] < _SINGULAR:
            return "some items determine each other: leave one of them out"
        return None

    def split(self, parameters: Array) -> tuple[Array, Array, Array]:
        """Lambda (p, J), Phi (J, J) and the diagonal of Theta (p,)."""
        p = len(self.owner)
        loadings = np.zeros((p, self.factors))
        loadings[np.arange(p), self.owner] = parameters[:p]
        phi = np.eye(self.factors)
        first, second = self.pairs
        phi[first, second] = phi[second, first] = parameters[p : len(parameters) - p]
        return loadings, phi, parameters[len(parameters) - p :]

    def implied(self, parameters: Array) -> Array:
        """Sigma (p, p)."""
        loadings, phi, theta = self.split(parameters)
        return loadings @ phi @ loadings.T + np.diag(theta)

    def derivatives(self, parameters: Array) -> Array:
        """Derivatives of Sigma: (parameters, p, p)."""
        loadings, phi, _ = self.split(parameters)
        p, (first, second) = len(self.owner), self.pairs
        item = np.arange(p)
        by_loading = np.zeros((p, p, p))
        by_loading[item, item] = (loadings @ phi)[:, self.owner].T
        outer = loadings.T[first][:, :, None] * loadings.T[second][:, None, :]
        by_residual = np.zeros((p, p, p))
        by_residual[item, item, item] = 0.5
        half = np.concatenate([by_loading, outer, by_residual])
        return half + half.transpose(0, 2, 1)


@dataclass(frozen=True)
class _Solution:
    """Where the iteration ended: parameters, discrepancy F, information a respondent, K_a = Sigma^-1 Sigma_a Sigma^-1 / 2."""

    structure: _Structure
    parameters: Array
    discrepancy: float
    information: Array
    slopes: Array
    settled: bool


def _maximise(correlations: Array, structure: _Structure) -> _Solution:
    """Fisher scoring with step halving; only Sigma has to be positive definite, so improper solutions are found, not hidden."""
    parameters = _start(correlations, structure)
    value, settled = _discrepancy(correlations, structure.implied(parameters)), False
    for _ in range(_ITERATIONS):
        gradient, information, _ = _scores(correlations, structure, parameters)
        if np.linalg.eigvalsh(information)[0] < _SINGULAR:
            break
        step = np.linalg.solve(information, gradient)
        settled = float(gradient @ step) < _TOLERANCE**2
        if settled:
            break
        for _ in range(_HALVINGS):
            moved = _discrepancy(correlations, structure.implied(parameters + step))
            if moved <= value + _ROUNDING:
                break
            step = step / 2
        else:
            break
        parameters, value = parameters + step, moved
    parameters = _turned(parameters, structure)
    _, information, slopes = _scores(correlations, structure, parameters)
    return _Solution(structure, parameters, max(value, 0.0), information, slopes, settled)


def _start(correlations: Array, structure: _Structure) -> Array:
    """Parameters by which to begin: those of each block's first principal component, somewhat weakened."""
    owner = structure.owner
    weights = np.zeros((len(owner), structure.factors))
    for factor in range(structure.factors):
        block = np.flatnonzero(owner == factor)
        weights[block, factor] = np.linalg.eigh(correlations[np.ix_(block, block)])[1][:, -1]
    weights /= np.sqrt(np.einsum("pj,pq,qj->j", weights, correlations, weights))
    crossed = correlations @ weights
    loadings = 0.9 * crossed[np.arange(len(owner)), owner]
    return np.concatenate([loadings, (weights.T @ crossed)[structure.pairs], 1 - loadings**2])


def _turned(parameters: Array, structure: _Structure) -> Array:
    """The same solution with every factor turned so that its loadings have a positive sum."""
    p, (first, second) = len(structure.owner), structure.pairs
    sign = np.where(np.bincount(structure.owner, parameters[:p], structure.factors) < 0, -1.0, 1.0)
    turned = parameters.copy()
    turned[:p] *= sign[structure.owner]
    turned[p : len(parameters) - p] *= sign[first] * sign[second]
    return turned


def _discrepancy(correlations: Array, sigma: Array) -> float:
    """F, infinite where Sigma is not positive definite."""
    try:
        lower = np.linalg.cholesky(sigma)
    except np.linalg.LinAlgError:
        return np.inf
    inverse = np.linalg.inv(lower)
    trace = float((inverse @ correlations @ inverse.T).trace())
    return 2 * float(np.log(np.diag(lower)).sum()) + trace - np.linalg.slogdet(correlations)[1] - len(sigma)


def _scores(correlations: Array, structure: _Structure, parameters: Array) -> tuple[Array, Array, Array]:
    """Gradient (k,) and information (k, k) of the log-likelihood of one respondent, and the slopes K (k, p, p)."""
    sigma = structure.implied(parameters)
    inverse, derivatives = np.linalg.inv(sigma), structure.derivatives(parameters)
    slopes = 0.5 * inverse @ derivatives @ inverse
    gradient = np.einsum("kpq,pq->k", slopes, correlations - sigma)
    flat = len(derivatives), -1
    return gradient, slopes.reshape(flat) @ derivatives.reshape(flat).T, slopes


def _inadmissible(solution: _Solution, blocks: dict[str, Sequence[str]]) -> str | None:
    """What is improper about a solution, or None."""
    _, phi, theta = solution.structure.split(solution.parameters)
    faults = []
    if np.linalg.eigvalsh(phi)[0] <= 0:
        faults.append("the correlations of the factors are not positive definite")
    items = [item for block in blocks.values() for item in block]
    faults += [f"item {item} has a negative residual variance" for item, v in zip(items, theta, strict=True) if v < 0]
    return f"inadmissible: {'; '.join(faults)}" if faults else None


# -- what it says ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Spread:
    """Covariance of the estimates (k, k), and the factor c by which the likelihood ratio is too large (NaN without a test)."""

    covariance: Array
    scaling: float


def _spread(model: PLSPathModel, items: NDArray, correlations: Array, solution: _Solution, robust: bool) -> _Spread:
    """From the samples that leave out one respondent each: D_r, what each takes out of the items' covariances."""
    n, k = len(model.answers), len(solution.parameters)
    m = model.respondents
    deviations = model.moments.full().deviations[0][items]
    root = np.linalg.inv(np.linalg.cholesky(solution.structure.implied(solution.parameters)))
    meat, total = np.zeros((k, k)), 0.0
    for start in range(0, m, _BATCH):
        batch = model.moments.without_each(slice(start, start + _BATCH))
        scale = batch.deviations[:, items] / deviations
        left = batch.correlations[:, items[:, None], items] * scale[:, :, None] * scale[:, None, :] - correlations
        score = left.reshape(len(left), -1) @ solution.slopes.reshape(k, -1).T
        meat += score.T @ score
        total += 0.5 * float(((root @ left @ root.T) ** 2).sum())
    jackknife, degrees = (m - 1) / m, solution.structure.degrees
    expected = np.linalg.inv(solution.information)
    scaling = n * jackknife * (total - float((expected * meat).sum())) / degrees if degrees else np.nan
    if not robust:
        return _Spread(expected / n, scaling)
    bread = np.linalg.inv(_observed_information(correlations, solution))
    return _Spread(jackknife * bread @ meat @ bread, scaling)


def _observed_information(correlations: Array, solution: _Solution) -> Array:
    """Curvature of the log-likelihood of one respondent where the iteration ended, which also holds where the model does not."""
    step = 1e-5
    ends = (solution.parameters + side * step * np.eye(len(solution.parameters)) for side in (-1, 1))
    below, above = (np.array([_scores(correlations, solution.structure, at)[0] for at in end]) for end in ends)
    curvature = (below - above) / (2 * step)
    return (curvature + curvature.T) / 2


def _results(
    model: PLSPathModel,
    blocks: dict[str, Sequence[str]],
    structure: _Structure,
    correlations: Array,
    solution: _Solution | None,
    spread: _Spread | None,
    reason: str | None,
) -> FactorResults:
    items = [item for block in blocks.values() for item in block]
    names, (first, second) = list(blocks), structure.pairs
    loadings = pd.DataFrame({"construct": [names[j] for j in structure.owner], "item": items})
    pairs = pd.DataFrame({"first": [names[j] for j in first], "second": [names[j] for j in second]})
    implied, fit = np.full((len(items), len(items)), np.nan), dict.fromkeys(_FIT, np.nan)
    estimates = errors = np.full(len(items) + len(pairs), np.nan)
    if solution is not None and spread is not None:
        implied = structure.implied(solution.parameters)
        fit |= _fit_measures(correlations, implied, solution, spread, len(model.answers))
        estimates, errors = _standardised(solution, spread.covariance)
    p = len(items)
    return FactorResults(
        fit=pd.Series(fit, name="fit", dtype=float),
        reason=reason,
        nobs=len(model.answers),
        residuals=pd.DataFrame(correlations - implied, items, items),
        _loadings=loadings.assign(estimate=estimates[:p], bse=errors[:p]),
        _correlations=pairs.assign(estimate=estimates[p:], bse=errors[p:]),
    )


def _standardised(solution: _Solution, covariance: Array) -> tuple[Array, Array]:
    """Loadings lambda / sqrt(lambda² + theta), and correlations of factors, with standard errors by the delta method."""
    p, k = len(solution.structure.owner), len(solution.parameters)
    loading, residual = solution.parameters[:p], solution.parameters[k - p :]
    deviation = np.sqrt(loading**2 + residual)
    slope = np.eye(k)[: k - p]
    item = np.arange(p)
    slope[item, item] = residual / deviation**3
    slope[item, k - p + item] = -loading / (2 * deviation**3)
    estimates = np.concatenate([loading / deviation, solution.parameters[p : k - p]])
    return estimates, np.sqrt(np.einsum("ij,jk,ik->i", slope, covariance, slope))


_FIT = ("chi_squared", "df", "p_value", "scaled_chi_squared", "scaled_p_value")
_FIT += ("cfi", "tli", "rmsea", "rmsea_low", "rmsea_high", "srmr")


def _fit_measures(
    correlations: Array, implied: Array, solution: _Solution, spread: _Spread, n: int
) -> dict[str, float]:
    """Source: Bollen (1989), chapter 7; Bentler (1990), Psychol. Bull. 107 (CFI); Steiger (1990), Multivar. Behav. Res. 25
    (RMSEA); Hu & Bentler (1999), p. 3 (SRMR).
    """
    p, degrees = len(correlations), solution.structure.degrees
    lower = np.tril_indices(p)
    srmr = float(np.sqrt(((correlations - implied)[lower] ** 2).mean()))
    statistic = n * solution.discrepancy
    found = {"chi_squared": statistic, "df": degrees, "srmr": srmr}
    if degrees == 0:
        return found
    scaled = statistic / spread.scaling
    independent, pairs = -n * np.linalg.slogdet(correlations)[1], p * (p - 1) // 2
    excess, most = max(statistic - degrees, 0.0), max(statistic - degrees, independent - pairs, 0.0)
    low, high = (_noncentrality(statistic, degrees, level) for level in (0.95, 0.05))
    error, error_low, error_high = np.sqrt(np.array([excess, low, high]) / (degrees * n))
    return found | {
        "p_value": chi2.sf(statistic, degrees),
        "scaled_chi_squared": scaled,
        "scaled_p_value": chi2.sf(scaled, degrees),
        "cfi": 1 - excess / most if most else 1.0,
        "tli": (independent / pairs - statistic / degrees) / (independent / pairs - 1),
        "rmsea": error,
        "rmsea_low": error_low,
        "rmsea_high": error_high,
    }


def _noncentrality(statistic: float, degrees: int, level: float) -> float:
    """The noncentrality at which a chi-squared variable stays below the statistic with probability `level`; 0 if there is none."""
    if chi2.cdf(statistic, degrees) < level:
        return 0.0
    # A noncentral chi-squared variable has mean df + nc and variance 2 (df + 2 nc).
    ceiling = statistic + 10 * np.sqrt(2 * degrees + 4 * statistic) + 10
    return float(brentq(lambda nc: ncx2.cdf(statistic, degrees, nc) - level, 0.0, ceiling, xtol=1e-9, rtol=1e-12))


def _with_limits(frame: pd.DataFrame, confidence: float) -> pd.DataFrame:
    reach = norm.ppf((1 + confidence) / 2) * frame["bse"]
    return frame.assign(low=frame["estimate"] - reach, high=frame["estimate"] + reach)
