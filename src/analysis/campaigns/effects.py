"""Estimators of a campaign's effect: arrays in, a results object out.

Every estimator keeps each customer's share of the estimation error (its *contribution*), so that a standard
error is the root of their sum of squares, and pooling campaigns that reach the same household is a sum within the
household first. ``treated`` is 1 for customers in the campaign and 0 for the comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.errors import RapportError

Array = NDArray[np.float64]


class EstimationError(RapportError):
    """An effect that these data cannot give; ``code`` names the reason in one word."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class EffectResults:
    """The estimate of one effect.

    Attributes
    ----------
    method : name of the estimator.
    effect : effect per treated customer, in the outcome's unit.
    se : its standard error.
    n_treated, n_control : customers in each arm.
    contributions : shape (n,), each customer's part of the estimation error; ``se² = Σ contributions²``.
    dof : degrees of freedom of the reference t distribution; infinite for the normal.
    baseline : what the treated would have had without the campaign, in the outcome's unit.
    diagnostics : numbers that say how the estimate was reached (variance ratio, effective sample size …).
    clusters : shape (n,), whom each contribution belongs to, where contributions were summed within households.
    baseline_contributions : shape (n,), each customer's part of the baseline's error, where the estimator keeps it.
    """

    method: str
    effect: float
    se: float
    n_treated: int
    n_control: int
    contributions: Array = field(repr=False)
    dof: float = np.inf
    baseline: float = np.nan
    diagnostics: Mapping[str, float] = field(default_factory=dict)
    clusters: NDArray[np.object_] | None = field(default=None, repr=False)
    baseline_contributions: Array | None = field(default=None, repr=False)

    @property
    def params(self) -> pd.Series:
        """The estimate under the name ``effect``."""
        return pd.Series({"effect": self.effect})

    @property
    def bse(self) -> pd.Series:
        """Its standard error."""
        return pd.Series({"effect": self.se})

    @property
    def tvalue(self) -> float:
        """Estimate over standard error; infinite when the error is zero and the estimate is not."""
        if self.se == 0:
            return float(np.sign(self.effect)) * np.inf if self.effect else 0.0
        return self.effect / self.se

    @property
    def pvalue(self) -> float:
        """Two-sided p value of no effect."""
        return float(2 * stats.t.sf(abs(self.tvalue), self.dof))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Lower and upper limit at the given confidence."""
        reach = float(stats.t.ppf(0.5 + confidence / 2, self.dof)) * self.se
        return self.effect - reach, self.effect + reach

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """The interval in statsmodels' shape: one row, columns 0 and 1."""
        return pd.DataFrame([self.interval(1 - alpha)], index=["effect"])

    def relative(self) -> float:
        """Effect as a share of the baseline; nan when the baseline is zero."""
        return self.effect / self.baseline if self.baseline else np.nan

    def relative_interval(self, confidence: float = 0.95, method: str = "fieller") -> tuple[float, float]:
        """Limits of the effect as a share of the baseline, which is itself an estimate.

        Parameters
        ----------
        method : ``fieller`` (holds whatever the ratio's distribution; infinite limits when the baseline could be zero)
        or ``delta`` (symmetric, first order).

        Returns
        -------
        Lower and upper limit; (nan, nan) when the estimator kept no error of the baseline, or the baseline is zero.

        Source: Fieller (1954), JRSS B 16:175; delta method, Deng, Knoblich & Lu (2018), KDD.
        """
        b = self.baseline_contributions
        if b is None or not self.baseline:
            return np.nan, np.nan
        a, critical = self.contributions, float(stats.t.ppf(0.5 + confidence / 2, self.dof))
        if method == "fieller":
            return fieller(self.effect, self.baseline, a @ a, b @ b, a @ b, critical)
        if method == "delta":
            ratio = self.effect / self.baseline
            reach = critical * float(np.linalg.norm(a - ratio * b)) / abs(self.baseline)
            return ratio - reach, ratio + reach
        raise ValueError(f"method must be fieller or delta, not {method}")

    def summary(self, alpha: float = 0.05) -> pd.DataFrame:
        """One row: estimate, standard error, t, p, limits, sizes of the arms, method."""
        low, high = self.interval(1 - alpha)
        row = {
            "effect": self.effect,
            "std_err": self.se,
            "t": self.tvalue,
            "p_value": self.pvalue,
            "low": low,
            "high": high,
            "n_treated": self.n_treated,
            "n_control": self.n_control,
            "method": self.method,
        }
        return pd.DataFrame([row], index=["effect"])


def fieller(
    numerator: float,
    denominator: float,
    variance_numerator: float,
    variance_denominator: float,
    covariance: float,
    critical: float,
) -> tuple[float, float]:
    """Limits of a ratio of two estimates: every value that their joint normal distribution does not reject.

    Returns
    -------
    Lower and upper limit; (−inf, inf) when the denominator cannot be told from zero, since the set is then unbounded.

    Source: Fieller (1954), JRSS B 16:175.
    """
    square = critical**2
    a = denominator**2 - square * variance_denominator
    b = numerator * denominator - square * covariance
    c = numerator**2 - square * variance_numerator
    if a <= 0:
        return -np.inf, np.inf
    root = np.sqrt(max(0.0, b**2 - a * c))
    return float((b - root) / a), float((b + root) / a)


def _arms(outcome: ArrayLike, treated: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    y = np.asarray(outcome, dtype=float)
    raw = np.asarray(treated)
    if y.ndim != 1 or raw.shape != y.shape:
        raise ValueError(f"outcome and treated must be one-dimensional and equally long, got {y.shape} and {raw.shape}")
    if not np.isfinite(y).all():
        raise ValueError("outcome holds missing or infinite values; fill or drop them first")
    if not np.isin(raw, (0, 1)).all():
        raise ValueError("treated must hold only 0 and 1")
    d = raw.astype(bool)
    if d.sum() < 2:
        raise EstimationError(
            "no_treated", "fewer than two treated customers; an effect needs at least two in each arm"
        )
    if (~d).sum() < 2:
        raise EstimationError("no_comparison", "fewer than two customers to compare with; keep a comparison group")
    return y, d


def _design(covariates: ArrayLike | None, n: int) -> Array:
    """Constant plus standardised covariates, so that solvers are well conditioned; constant columns fall away."""
    if covariates is None:
        return np.ones((n, 1))
    x = np.asarray(covariates, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    if x.shape[0] != n:
        raise ValueError(f"covariates have {x.shape[0]} rows, the outcome {n}")
    if not np.isfinite(x).all():
        raise ValueError("covariates hold missing or infinite values; fill them first")
    scale = x.std(axis=0)
    keep = scale > 1e-12 * np.maximum(1.0, np.abs(x).max(axis=0, initial=0))
    return np.column_stack([np.ones(n), (x[:, keep] - x[:, keep].mean(axis=0)) / scale[keep]])


def _ols(y: Array, z: Array) -> tuple[Array, Array]:
    """Coefficients and (Z'Z)⁻¹ by pseudo-inverse, so that collinear columns do no harm."""
    inverse = np.linalg.pinv(z.T @ z, hermitian=True)
    return inverse @ (z.T @ y), inverse


@dataclass(frozen=True)
class DifferenceInMeans:
    """Mean of the treated less mean of the control, for randomised arms.

    Parameters
    ----------
    outcome : shape (n,). treated : shape (n,), 0 or 1. weights : shape (n,), survey weights of any scale, or None.
    cov_type : ``HC2`` (Welch's standard error with Satterthwaite's degrees of freedom) or ``pooled`` (equal variances).

    Source: Welch (1947), Biometrika 34:28; HC2 equals Welch for two groups (Samii & Aronow 2012).
    """

    outcome: ArrayLike
    treated: ArrayLike
    weights: ArrayLike | None = None

    def fit(self, cov_type: str = "HC2") -> EffectResults:
        """Estimate; raises ``EstimationError`` when an arm has fewer than two customers."""
        y, d = _arms(self.outcome, self.treated)
        n1, n0 = int(d.sum()), int((~d).sum())
        mean1, psi1 = _mean(y, self.weights, d)
        mean0, psi0 = _mean(y, self.weights, ~d)
        # Squared standard errors times n, which without weights are the arms' variances.
        v1, v0 = float(psi1 @ psi1) * n1, float(psi0 @ psi0) * n0
        psi = np.empty(len(y))
        psi[d], psi[~d] = psi1, -psi0
        if cov_type == "HC2":
            variance = v1 / n1 + v0 / n0
            parts = (v1 / n1) ** 2 / (n1 - 1) + (v0 / n0) ** 2 / (n0 - 1)
            dof = variance**2 / parts if parts > 0 else n1 + n0 - 2
        elif cov_type == "pooled":
            variance = ((n1 - 1) * v1 + (n0 - 1) * v0) / (n1 + n0 - 2) * (1 / n1 + 1 / n0)
            dof = n1 + n0 - 2
            unpooled = v1 / n1 + v0 / n0
            psi = psi * np.sqrt(variance / unpooled) if unpooled > 0 else psi
        else:
            raise ValueError(f"cov_type must be HC2 or pooled, not {cov_type}")
        return EffectResults(
            "difference_in_means",
            float(mean1 - mean0),
            float(np.sqrt(variance)),
            n1,
            n0,
            psi,
            float(dof),
            float(mean0),
            baseline_contributions=np.where(d, 0.0, -psi),
        )


def _mean(y: Array, weights: ArrayLike | None, arm: NDArray[np.bool_]) -> tuple[float, Array]:
    """Mean of an arm and each customer's part of its error, linearised where customers are weighted."""
    values = y[arm]
    if weights is None:
        n, middle = len(values), float(values.mean())
        return middle, (values - middle) / n * np.sqrt(n / (n - 1))
    w = np.asarray(weights, dtype=float)[arm]
    if not np.isfinite(w).all() or (w < 0).any() or (w > 0).sum() < 2:
        raise ValueError("weights must be finite and not negative, and above zero for at least two customers an arm")
    share, n = w / w.sum(), int((w > 0).sum())
    # From the first value on, so that a constant has exactly its own mean and no error.
    middle = float(values[0] + share @ (values - values[0]))
    return middle, share * (values - middle) * np.sqrt(n / (n - 1))


@dataclass(frozen=True)
class RegressionAdjustment:
    """Coefficient of the treatment in a least-squares regression with covariates, robust (HC1) standard error.

    Parameters
    ----------
    outcome, treated : shape (n,). covariates : shape (n, k) or (n,), measured before the campaign.
    """

    outcome: ArrayLike
    treated: ArrayLike
    covariates: ArrayLike | None = None

    def fit(self) -> EffectResults:
        """Estimate; ``diagnostics`` holds the classical t and residual degrees of freedom for sensitivity analysis."""
        y, d = _arms(self.outcome, self.treated)
        z = _design(self.covariates, len(y))
        # Frisch–Waugh–Lovell: regress the treatment on the covariates, then the outcome on what is left.
        leftover = d - z @ _ols(d.astype(float), z)[0]
        norm = leftover @ leftover
        if norm < 1e-9 * len(y):
            raise EstimationError(
                "separation", "the covariates say exactly who was treated; there is nobody to compare"
            )
        effect = float(leftover @ y / norm)
        residual = y - effect * d - z @ _ols(y - effect * d, z)[0]
        dof = len(y) - int(np.linalg.matrix_rank(z)) - 1
        psi = leftover * residual / norm * np.sqrt(len(y) / dof) if dof > 0 else np.full(len(y), np.nan)
        classical = np.sqrt(residual @ residual / dof / norm) if dof > 0 else np.nan
        return EffectResults(
            "regression",
            effect,
            float(np.sqrt(psi @ psi)),
            int(d.sum()),
            int((~d).sum()),
            psi,
            float(dof),
            float(y[d].mean() - effect),
            {"t_classical": float(effect / classical) if classical else np.inf, "dof": float(dof)},
        )


@dataclass(frozen=True)
class CUPED:
    """Difference in means after taking out what the period before the campaign predicts (randomised arms).

    Parameters
    ----------
    outcome, treated : shape (n,). before : shape (n,) or (n, k), the same measure before the campaign.
    weights : shape (n,), survey weights, or None; the slope is found without them, which costs precision alone.

    Source: Deng, Xu, Kohavi & Walker (2013), WSDM: ŷ = y − θ(x − x̄), θ = cov(y, x) / var(x).
    """

    outcome: ArrayLike
    treated: ArrayLike
    before: ArrayLike
    weights: ArrayLike | None = None

    def fit(self, theta: str = "within") -> EffectResults:
        """Estimate; ``diagnostics["variance_ratio"]`` is the variance achieved over that without the adjustment.

        ``theta`` is ``within`` (moments within the arms, so that the effect itself does not leak into the slope) or
        ``pooled`` (over all customers, as the paper prints it).
        """
        y, d = _arms(self.outcome, self.treated)
        x = _design(self.before, len(y))[:, 1:]
        slope = _slope(y, x, d, theta)
        adjusted = DifferenceInMeans(y - x @ slope, d, self.weights).fit()
        plain = DifferenceInMeans(y, d, self.weights).fit()
        ratio = float((adjusted.se / plain.se) ** 2) if plain.se > 0 else np.nan
        return EffectResults(
            "cuped",
            adjusted.effect,
            adjusted.se,
            adjusted.n_treated,
            adjusted.n_control,
            adjusted.contributions,
            adjusted.dof,
            adjusted.baseline,
            {"variance_ratio": ratio, "unadjusted": plain.effect},
            baseline_contributions=adjusted.baseline_contributions,
        )


def _slope(y: Array, x: Array, d: NDArray[np.bool_], theta: str) -> Array:
    """CUPED's θ; shape (k,)."""
    if theta not in ("within", "pooled"):
        raise ValueError(f"theta must be within or pooled, not {theta}")
    if not x.shape[1]:
        return np.zeros(0)
    groups = (d, ~d) if theta == "within" else (np.ones_like(d),)
    centred_x, centred_y = x.copy(), y.copy()
    for group in groups:
        centred_x[group] -= x[group].mean(axis=0)
        centred_y[group] -= y[group].mean()
    return _ols(centred_y, centred_x)[0]


@dataclass(frozen=True)
class LinAdjustment:
    """Average effect from a regression of its own in each arm, on covariates centred over both (randomised arms).

    Parameters
    ----------
    outcome, treated : shape (n,). covariates : shape (n, k) or (n,), measured before the campaign.

    Source: Lin (2013), Annals of Applied Statistics 7:295: never less precise than the difference in means in large
    samples, whatever the shares of the arms. HC2 standard error, that of the treatment in the regression with all
    treatment × covariate products; it speaks of the customers in the campaign.
    """

    outcome: ArrayLike
    treated: ArrayLike
    covariates: ArrayLike

    def fit(self) -> EffectResults:
        """Estimate; ``diagnostics["variance_ratio"]`` as in :class:`CUPED`.

        Raises ``EstimationError`` (``too_few``) when an arm has no more customers than the regression has terms.
        """
        y, d = _arms(self.outcome, self.treated)
        z = _design(self.covariates, len(y))
        terms = int(np.linalg.matrix_rank(z))
        if min(d.sum(), (~d).sum()) <= terms:
            raise EstimationError("too_few", f"an arm has no more customers than the {terms} terms of the regression")
        mean1, psi1 = _intercept(y[d], z[d])
        mean0, psi0 = _intercept(y[~d], z[~d])
        psi, base = np.empty(len(y)), np.zeros(len(y))
        psi[d], psi[~d], base[~d] = psi1, -psi0, psi0
        plain = DifferenceInMeans(y, d).fit()
        return EffectResults(
            "lin",
            mean1 - mean0,
            float(np.linalg.norm(psi)),
            plain.n_treated,
            plain.n_control,
            psi,
            float(len(y) - 2 * terms),
            mean0,
            {"variance_ratio": float(psi @ psi / plain.se**2) if plain.se > 0 else np.nan, "unadjusted": plain.effect},
            baseline_contributions=base,
        )


def _intercept(y: Array, z: Array) -> tuple[float, Array]:
    """Constant of a least-squares regression and each row's HC2 part of its error."""
    beta, inverse = _ols(y, z)
    leverage = np.einsum("ij,jk,ik->i", z, inverse, z)
    residual = y - z @ beta
    # A row that alone decides a coefficient has leverage one and no residual: it adds nothing.
    scaled = np.where(leverage < 1 - 1e-9, residual / np.sqrt(np.maximum(1 - leverage, 1e-9)), 0.0)
    return float(beta[0]), (z @ inverse[:, 0]) * scaled


@dataclass(frozen=True)
class RatioOfMeans:
    """Difference between arms of a ratio of two means, such as orders a visit or spend an order (randomised arms).

    Parameters
    ----------
    numerator, denominator, treated : shape (n,), one row a customer. before : pair of the same numerator and
    denominator before the campaign, each shape (n,), or None.

    Source: delta method, Deng, Knoblich & Lu (2018), KDD; with ``before``, CUPED on the linearised ratios.
    """

    numerator: ArrayLike
    denominator: ArrayLike
    treated: ArrayLike
    before: tuple[ArrayLike, ArrayLike] | None = None

    def fit(self, theta: str = "within") -> EffectResults:
        """Estimate, ``theta`` as in :class:`CUPED`; raises ``EstimationError`` (``no_denominator``) where an arm's
        denominator is zero on average."""
        y, d = _arms(self.numerator, self.treated)
        s, _ = _arms(self.denominator, self.treated)
        linear = _linearised(y, s, (d, ~d))
        plain = DifferenceInMeans(linear, d).fit()
        if self.before is None:
            return replace(plain, method="ratio")
        past, visits = (_arms(column, self.treated)[0] for column in self.before)
        x = _linearised(past, visits, (d, ~d))
        groups = (d, ~d) if theta == "within" else (np.ones_like(d),)
        slope = _slope(_linearised(y, s, groups), _linearised(past, visits, groups)[:, None], d, theta)[0]
        found = DifferenceInMeans(linear - slope * (x - past.mean() / visits.mean()), d).fit()
        ratio = float((found.se / plain.se) ** 2) if plain.se > 0 else np.nan
        return replace(found, method="ratio_cuped", diagnostics={"variance_ratio": ratio, "unadjusted": plain.effect})


def _linearised(y: Array, s: Array, groups: Sequence[NDArray[np.bool_]]) -> Array:
    """R + (y − R·s) / s̄ within each group: its mean is the group's ratio R, its variance the delta method's."""
    linear = np.empty(len(y))
    for group in groups:
        middle = s[group].mean()
        if middle == 0:
            raise EstimationError("no_denominator", "the ratio's denominator is zero on average in an arm")
        ratio = y[group].mean() / middle
        linear[group] = ratio + (y[group] - ratio * s[group]) / middle
    return linear


@dataclass(frozen=True)
class DifferenceInDifferences:
    """Change of the treated less change of the comparison, with covariates if given; robust (HC1) standard error.

    Parameters
    ----------
    after, before : shape (n,), the outcome in two periods of the same unit (scale ``before`` to the length of
    ``after``).
    treated : shape (n,). covariates : shape (n, k), measured before the campaign.

    Source: Ashenfelter & Card (1985), REStat 67:648. Rests on parallel trends.
    """

    after: ArrayLike
    before: ArrayLike
    treated: ArrayLike
    covariates: ArrayLike | None = None

    def fit(self) -> EffectResults:
        """Estimate the average effect on the treated."""
        after = np.asarray(self.after, dtype=float)
        found = RegressionAdjustment(after - np.asarray(self.before, dtype=float), self.treated, self.covariates).fit()
        base = float(after[np.asarray(self.treated).astype(bool)].mean() - found.effect)
        return EffectResults(
            "did",
            found.effect,
            found.se,
            found.n_treated,
            found.n_control,
            found.contributions,
            found.dof,
            base,
            found.diagnostics,
        )


@dataclass(frozen=True)
class Propensity:
    """A fitted logit of who was treated.

    Attributes
    ----------
    scores : shape (n,), probability of treatment. design : shape (n, k), standardised covariates with a constant.
    inverse_information : shape (k, k). odds : shape (n,), scores / (1 − scores).
    """

    scores: Array
    design: Array = field(repr=False)
    inverse_information: Array = field(repr=False)

    @property
    def odds(self) -> Array:
        """Odds of treatment, the weight of a comparison customer for the effect on the treated."""
        return self.scores / (1 - self.scores)


def fit_propensity(treated: ArrayLike, covariates: ArrayLike, max_iterations: int = 200) -> Propensity:
    """Logit by Newton's method with step halving.

    Parameters
    ----------
    treated : shape (n,), 0 or 1. covariates : shape (n, k).

    Raises
    ------
    EstimationError
        ``separation``: the covariates tell the arms apart perfectly, so the maximum likelihood does not exist.
    """
    d = np.asarray(treated).astype(float)
    z = _design(covariates, len(d))
    beta = np.zeros(z.shape[1])

    def loglik(b: Array) -> float:
        eta = z @ b
        return float(d @ eta - np.logaddexp(0, eta).sum())

    current = loglik(beta)
    for _ in range(max_iterations):
        e = 1 / (1 + np.exp(-np.clip(z @ beta, -500, 500)))
        gradient = z.T @ (d - e)
        inverse = np.linalg.pinv((z * (e * (1 - e))[:, None]).T @ z, hermitian=True)
        step = inverse @ gradient
        if gradient @ step < 1e-16 * max(1.0, abs(current)):
            break
        size = 1.0
        while size > 1e-8 and loglik(beta + size * step) < current:
            size /= 2
        beta = beta + size * step
        current = loglik(beta)
        if current > -1e-6 * len(d):
            break
    eta = z @ beta
    d1 = d > 0
    if current > -1e-6 * len(d) or eta[d1].min(initial=np.inf) > eta[~d1].max(initial=-np.inf) or eta.max() > 30:
        raise EstimationError(
            "separation", "the covariates tell perfectly who was treated; drop covariates or customers"
        )
    e = 1 / (1 + np.exp(-eta))
    information = (z * (e * (1 - e))[:, None]).T @ z
    return Propensity(e, z, np.linalg.pinv(information, hermitian=True))


@dataclass(frozen=True)
class InversePropensityATT:
    """Average effect on the treated, the comparison weighted by its odds of treatment (weights normalised to one).

    Parameters
    ----------
    outcome, treated : shape (n,). covariates : shape (n, k) of the logit.

    Source: Hirano, Imbens & Ridder (2003), Econometrica 71:1161; the standard error allows for the estimated logit
    (M-estimation; Lunceford & Davidian 2004, Statistics in Medicine 23:2937).
    """

    outcome: ArrayLike
    treated: ArrayLike
    covariates: ArrayLike

    def fit(self) -> EffectResults:
        """Estimate; raises ``EstimationError`` on perfect separation."""
        y, d = _arms(self.outcome, self.treated)
        model = fit_propensity(d, self.covariates)
        weights = np.where(d, 0.0, model.odds)
        total, n1 = weights.sum(), d.sum()
        mean1, mean0 = y[d].mean(), float(weights @ y / total)
        slope = (weights * (y - mean0)) @ model.design @ model.inverse_information
        through_logit = (model.design * (d - model.scores)[:, None]) @ slope
        psi = np.where(d, (y - mean1) / n1, 0.0) - (weights * (y - mean0) + through_logit) / total
        psi = psi * np.sqrt(len(y) / (len(y) - 1))
        return EffectResults(
            "ipw",
            float(mean1 - mean0),
            float(np.sqrt(psi @ psi)),
            int(n1),
            int((~d).sum()),
            psi,
            np.inf,
            mean0,
            _weight_facts(model.scores, d, weights),
        )


@dataclass(frozen=True)
class DoublyRobustATT:
    """Average effect on the treated, right when either the logit or the outcome regression is (AIPW).

    Parameters
    ----------
    outcome, treated : shape (n,). covariates : shape (n, k) of the logit.
    outcome_covariates : shape (n, m) of the outcome regression on the comparison; those of the logit by default.
    normalise : weights sum to one (Hájek) or to the number treated in expectation (Horvitz–Thompson).

    Source: Robins, Rotnitzky & Zhao (1994), JASA 89:846; for the treated: Sant'Anna & Zhao (2020), J. Econometrics
    219:101, without the difference over time. With ``nuisance=True`` the standard error allows for both fitted
    models (stacked estimating equations), so it holds when one of them is wrong.
    """

    outcome: ArrayLike
    treated: ArrayLike
    covariates: ArrayLike
    outcome_covariates: ArrayLike | None = None
    normalise: bool = True

    def fit(self, nuisance: bool = True) -> EffectResults:
        """Estimate; raises ``EstimationError`` on perfect separation."""
        y, d = _arms(self.outcome, self.treated)
        model = fit_propensity(d, self.covariates)
        z = model.design if self.outcome_covariates is None else _design(self.outcome_covariates, len(y))
        gamma, inverse = _ols(y[~d], z[~d])
        r = y - z @ gamma
        weights, n1 = np.where(d, 0.0, model.odds), d.sum()
        total = weights.sum() if self.normalise else float(n1)
        rest = float(weights @ r / total)
        centre = rest if self.normalise else 0.0
        effect = float(r[d].mean() - rest)
        psi = np.where(d, (r - r[d].mean()) / n1, -weights * (r - centre) / total)
        if not self.normalise:
            psi = np.where(d, (r - effect) / n1, psi)
        if nuisance:
            through_logit = (weights * (r - centre)) @ model.design @ model.inverse_information
            psi = psi - (model.design * (d - model.scores)[:, None]) @ through_logit / total
            gap = (weights @ z) / total - z[d].mean(axis=0)
            psi = psi + np.where(d, 0.0, r) * (z @ (inverse @ gap))
        psi = psi * np.sqrt(len(y) / (len(y) - 1))
        return EffectResults(
            "doubly_robust",
            effect,
            float(np.sqrt(psi @ psi)),
            int(n1),
            int((~d).sum()),
            psi,
            np.inf,
            float(y[d].mean() - effect),
            _weight_facts(model.scores, d, weights),
        )


def _weight_facts(scores: Array, d: NDArray[np.bool_], weights: Array) -> dict[str, float]:
    squares = float(weights @ weights)
    return {
        "effective_control": float(weights.sum() ** 2 / squares) if squares else 0.0,
        "largest_weight": float(weights.max() / weights.sum()) if squares else np.nan,
        "lowest_score": float(scores.min()),
        "highest_score": float(scores.max()),
    }


def overlap_region(treated: ArrayLike, covariates: ArrayLike, highest: float = 0.9) -> NDArray[np.bool_]:
    """Customers whose propensity is low enough that comparable untargeted ones exist.

    Parameters
    ----------
    treated : shape (n,). covariates : shape (n, k). highest : propensities above it are left out of both arms.

    Returns
    -------
    shape (n,), true for those who stay. The effect then speaks of the treated who stay.

    Source: Crump, Hotz, Imbens & Mitnik (2009), Biometrika 96:187 (their rule of thumb, on the side that matters for
    the effect on the treated).
    """
    return fit_propensity(treated, covariates).scores <= highest


def pool(
    results: Sequence[EffectResults],
    clusters: Sequence[ArrayLike],
    weights: Sequence[float] | None = None,
    method: str | None = None,
) -> EffectResults:
    """Average several campaigns' effects, with a standard error that knows that they share households.

    Parameters
    ----------
    results : one a campaign. clusters : for each, shape (n,), the household of each contribution.
    weights : weight of each campaign; by default the treated, so the average is per targeted household.

    Returns
    -------
    Pooled results; ``contributions`` has one entry a household.

    Source: cluster-robust variance, Liang & Zeger (1986), Biometrika 73:13, on the summed contributions.
    """
    if not results:
        raise EstimationError("no_campaign", "no campaign has an effect to pool")
    raw = np.array([r.n_treated for r in results] if weights is None else weights, dtype=float)
    share = raw / raw.sum()
    stacked = np.concatenate([w * r.contributions for w, r in zip(share, results, strict=True)])
    codes, households = pd.factorize(np.concatenate([np.asarray(c, dtype=object) for c in clusters]), sort=True)
    psi = np.bincount(codes, weights=stacked)
    groups = len(psi)
    psi = psi * np.sqrt(groups / (groups - 1)) if groups > 1 else psi
    kept = [r.baseline_contributions for r in results]
    baseline = None
    if all(b is not None for b in kept):
        scaled = np.concatenate([w * b for w, b in zip(share, kept, strict=True)])
        baseline = np.bincount(codes, weights=scaled) * (np.sqrt(groups / (groups - 1)) if groups > 1 else 1.0)
    return EffectResults(
        method or results[0].method,
        float(share @ [r.effect for r in results]),
        float(np.sqrt(psi @ psi)),
        int(sum(r.n_treated for r in results)),
        int(sum(r.n_control for r in results)),
        psi,
        float(groups - 1),
        float(share @ [r.baseline for r in results]),
        {"campaigns": float(len(results)), "households": float(groups)},
        np.asarray(households, dtype=object),
        baseline,
    )


def difference(first: EffectResults, second: EffectResults) -> EffectResults:
    """First pooled effect less second, with a standard error that knows that they share households."""
    if first.clusters is None or second.clusters is None:
        raise ValueError("difference needs two pooled effects; pool them first")
    codes, households = pd.factorize(np.concatenate([first.clusters, second.clusters]), sort=True)
    psi = np.bincount(codes, weights=np.concatenate([first.contributions, -second.contributions]))
    return EffectResults(
        "difference",
        first.effect - second.effect,
        float(np.sqrt(psi @ psi)),
        first.n_treated,
        first.n_control,
        psi,
        min(first.dof, second.dof),
        clusters=np.asarray(households, dtype=object),
    )


def tail_sensitivity(
    outcome: ArrayLike,
    treated: ArrayLike,
    before: ArrayLike | None = None,
    quantiles: Sequence[float] = (0.99, 0.999),
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Does the effect hang on a few large customers: as measured, with large values cut down, without the largest.

    Parameters
    ----------
    outcome, treated : shape (n,). before : shape (n,) or (n, k), for CUPED, or None for the difference in means.
    quantiles : of all customers together, to which larger values are cut (winsorised).

    Returns
    -------
    One row a treatment of the tail: ``tail`` (``as_measured``, ``winsorised``, ``without_largest``), quantile, cap (in
    the outcome's unit), changed (customers cut or left out), effect, low, high, reason (``cap_zero`` where fewer
    customers than the tail have any outcome, so that cutting would leave nothing).
    """
    y, d = _arms(outcome, treated)
    past = _design(before, len(y))[:, 1:]
    everybody, largest = np.ones(len(y), dtype=bool), int(y.argmax())
    rows = [_tail("as_measured", y, d, past, everybody, confidence)]
    for quantile in quantiles:
        cap = float(np.quantile(y, quantile))
        found = _tail("winsorised", np.minimum(y, cap), d, past, everybody, confidence)
        if cap <= 0 < y[largest]:
            found |= {"effect": np.nan, "low": np.nan, "high": np.nan, "reason": "cap_zero"}
        rows.append(found | {"quantile": quantile, "cap": cap, "changed": int((y > cap).sum())})
    rows.append(_tail("without_largest", y, d, past, np.arange(len(y)) != largest, confidence) | {"changed": 1})
    columns = ["tail", "quantile", "cap", "changed", "effect", "low", "high", "reason"]
    table = pd.DataFrame(rows).reindex(columns=columns).fillna({"changed": 0})
    reason = table["reason"].astype(object)
    return table.assign(changed=table["changed"].astype(int), reason=reason.where(reason.notna(), None))


def _tail(
    tail: str, y: Array, d: NDArray[np.bool_], past: Array, keep: NDArray[np.bool_], confidence: float
) -> dict[str, object]:
    row = {"tail": tail, "effect": np.nan, "low": np.nan, "high": np.nan, "reason": None}
    try:
        found = CUPED(y[keep], d[keep], past[keep]).fit()
    except EstimationError as error:
        return row | {"reason": error.code}
    low, high = found.interval(confidence)
    return row | {"effect": found.effect, "low": low, "high": high}
