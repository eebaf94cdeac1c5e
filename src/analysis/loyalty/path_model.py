"""Partial least squares path models: estimate, bootstrap, read off.

>>> results = PLSPathModel(answers, specification, scheme="path").fit()
>>> results.params, results.r_squared, results.reliability
>>> draws = results.bootstrap(draws=5000, seed=1)
>>> draws.conf_int(method="bca")
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.errors import RapportError

from .consistent import inadmissible
from .kernel import SCHEMES, Estimates, Layout, Scheme, estimate, own_loadings
from .moments import Array, MomentBatch, Moments, Outcome, Resamples
from .reliability import COEFFICIENTS, heterotrait_monotrait, reliability
from .resampling import IntervalMethod, bca_interval, percentile_interval
from .specification import Specification
from .stages import StagedMoments

Missing = Literal["mean", "listwise", "casewise", "pairwise"]
MISSING: tuple[Missing, ...] = ("mean", "listwise", "casewise", "pairwise")
MINIMUM_ROWS = 10

_REASONS = {
    Outcome.CONSTANT_ITEM: "an item is constant",
    Outcome.SINGULAR: "a block or a set of sources is singular",
    Outcome.NOT_CONVERGED: "the weights did not converge",
    Outcome.INDEFINITE: "the pairwise correlations contradict each other",
    Outcome.UNPAIRED: "two items are hardly ever answered together",
}


class EstimationError(RapportError):
    """The data cannot carry the model; the message says which part and what to do."""


def read_answers(data: pd.DataFrame, items: Sequence[str], missing_codes: Iterable | float = ()) -> pd.DataFrame:
    """The items as floats, with declared missing codes as NaN.

    Parameters
    ----------
    data : one row a respondent, a column an item (numbers, or text that holds numbers)
    missing_codes : values that stand for "no answer" (-99, -99.0, "-99", "n/a"), or one alone; compared as numbers where
        they are numbers, in whatever type they or the answers come, as text otherwise. NaN always does.

    Raises
    ------
    EstimationError
        If an item is absent, or an answer is neither a number nor a declared code.
    """
    absent = [item for item in items if item not in data.columns]
    if absent:
        raise EstimationError(f"the answers have no column {absent[0]!r}: check the item names of the blocks")
    several = isinstance(missing_codes, Iterable) and not isinstance(missing_codes, str)
    codes = {str(code).strip() for code in (missing_codes if several else [missing_codes])}
    numeric = pd.to_numeric(pd.Series(sorted(codes), dtype="str"), errors="coerce").dropna().to_list()
    columns = {}
    for item in items:
        raw = data[item]
        if not pd.api.types.is_numeric_dtype(raw):
            text = raw.astype("str").str.strip()
            raw = raw.mask(raw.isna() | text.isin(codes | {""}))
        answers = pd.to_numeric(raw, errors="coerce").astype(float)
        unread = answers.isna() & raw.notna()
        if unread.any():
            raise EstimationError(
                f"item {item!r}: {int(unread.sum())} answers are not numbers; declare them as missing codes"
            )
        answers = answers.mask(np.isinf(answers))
        columns[item] = answers.mask(answers.isin(numeric))
    return pd.DataFrame(columns, index=data.index)


def survey_weights(data: pd.DataFrame) -> pd.Series | None:
    """The column `weight` of the answers, or None if there is none or it is empty.

    Raises EstimationError if some respondents have a weight and others have not.
    """
    if "weight" not in data.columns or data["weight"].isna().all():
        return None
    lacking = int(data["weight"].isna().sum())
    if lacking:
        raise EstimationError(f"{lacking} respondents have no weight: give every respondent one, or none")
    return data["weight"].astype(float)


class PLSPathModel:
    """A path model and the answers to estimate it on.

    Parameters
    ----------
    data : one row a respondent, one column an item
    specification : constructs, items and arrows
    scheme : inner weighting scheme: "centroid", "factorial" or "path"
    missing : "mean" replaces a missing answer by the item's mean, in every resample by that resample's own;
        "listwise" (which other programs call casewise deletion: "casewise" is taken for the same) leaves out respondents
        with any answer missing; "pairwise" takes every correlation from the respondents with both answers, and refuses a
        sample, or drops and counts a resample, whose correlations then contradict each other (a matrix that is not
        positive definite). Respondents without any answer are left out in every way.
    missing_codes : values that mean "no answer", as in :func:`read_answers`
    weights : (n,) survey weights, one a row of `data`, or None
    customers : (n,) who gave each row of answers (null: somebody seen once), or None where nobody answered twice. Rows of
        one customer are not independent, so resamples and the jackknife take or leave them together.

    Raises
    ------
    EstimationError
        Too few rows or customers, a constant or empty item, bad weights, pairwise correlations that contradict each other,
        or a first stage without a solution.
    """

    def __init__(
        self,
        data: pd.DataFrame,
        specification: Specification,
        *,
        scheme: Scheme = "path",
        missing: Missing = "mean",
        missing_codes: Iterable | float = (),
        weights: Array | pd.Series | None = None,
        customers: pd.Series | None = None,
    ) -> None:
        if scheme not in SCHEMES:
            raise EstimationError(f"scheme {scheme!r} is unknown: use one of {', '.join(SCHEMES)}")
        if missing not in MISSING:
            raise EstimationError(f"missing={missing!r} is unknown: use 'mean', 'listwise' or 'pairwise'")
        if missing == "pairwise" and specification.products:
            raise EstimationError(
                "a product of scores needs both of every respondent: use missing='mean' or 'listwise'"
            )
        self.specification = specification
        self.scheme = scheme
        self.missing: Missing = "listwise" if missing == "casewise" else missing
        self.layout = Layout.of(specification)
        answers = read_answers(data, specification.columns, missing_codes)
        survey_weights = checked_weights(weights, len(answers))
        keep = answers.notna().all(axis=1) if self.missing == "listwise" else answers.notna().any(axis=1)
        self.answers = answers[keep]
        self.left_out = int((~keep).sum())
        self.missing_share = self.answers.isna().mean()
        kept = keep.to_numpy()
        respondents = None if customers is None else respondents_of(customers[kept])
        self.respondents = len(self.answers) if respondents is None else int(respondents.max(initial=-1)) + 1
        self._check_rows()
        weighted = None if survey_weights is None else survey_weights[kept]
        self.row_weights = np.ones(len(self.answers)) if weighted is None else weighted
        self.row_respondents = np.arange(len(self.answers)) if respondents is None else respondents
        values = self.answers.to_numpy(float)
        self._base = Moments(values, weighted, respondents, "pairwise" if missing == "pairwise" else "mean")
        self._check_moments(self._base.full())
        self.moments: Moments | StagedMoments = self._base
        if specification.staged:
            self.moments = StagedMoments(self._base, values, weighted, respondents, specification, scheme)
            outcome = Outcome(int(self.moments.full().outcome[0]))
            if outcome is not Outcome.CONVERGED:
                raise EstimationError(f"the first stage has no solution: {_REASONS[outcome]}; check its blocks")

    def _check_moments(self, sample: MomentBatch) -> None:
        constant = self.answers.columns[sample.constant[0]]
        if len(constant):
            raise EstimationError(f"item {constant[0]!r} does not vary: leave it out of its block")
        if sample.outcome[0] == Outcome.UNPAIRED:
            raise EstimationError(
                "two items are hardly ever answered together: use missing='mean', or drop one of them"
            )
        if sample.outcome[0] == Outcome.INDEFINITE:
            raise EstimationError(
                "the correlations of different respondents contradict each other (not positive definite): "
                "use missing='mean' or 'listwise'"
            )

    def _check_rows(self) -> None:
        largest = max(
            [len(s) for s in self.layout.sources]
            + [len(self.specification.composites[j].items) for j in self.layout.mode_b]
        )
        needed = max(MINIMUM_ROWS, largest + 2)
        if len(self.answers) < needed:
            raise EstimationError(
                f"{len(self.answers)} usable rows ({self.left_out} left out): this model needs at least {needed}"
            )
        if self.respondents < needed:
            raise EstimationError(
                f"the {len(self.answers)} rows come from {self.respondents} customers: this model needs at least {needed}"
            )
        empty = self.answers.columns[self.answers.isna().all()]
        if len(empty):
            raise EstimationError(f"item {empty[0]!r} has no answers: leave it out of its block")

    def fit(self, *, tolerance: float = 1e-10, max_iterations: int = 300) -> PLSResults:
        """Estimate the model.

        Each composite is turned so that the sum of its loadings is positive.

        Raises
        ------
        EstimationError
            If a mode B block or a construct's sources are singular, or the iteration does not settle.
        """
        settings = {"tolerance": tolerance, "max_iterations": max_iterations}
        batch = self.moments.full()
        estimates = estimate(batch.correlations, self.layout, self.scheme, **settings)
        outcome = Outcome(int(estimates.outcome[0]))
        if outcome is Outcome.SINGULAR:
            raise EstimationError(f"the model cannot be estimated: {self._singular_part(batch)}")
        if outcome is not Outcome.CONVERGED:
            raise EstimationError(
                f"the weights did not settle within {max_iterations} iterations: "
                "check blocks with opposed items, or raise max_iterations"
            )
        return PLSResults(self, batch, estimates, settings)

    def standardised(self) -> Array:
        """Standardised items (n, p) of the respondents used; a missing answer is 0, the mean."""
        sample = self._base.full()
        z = np.nan_to_num((self.answers.to_numpy(float) - sample.means[0]) / sample.deviations[0])
        return self.moments.standardised(z) if isinstance(self.moments, StagedMoments) else z

    def _singular_part(self, batch: MomentBatch) -> str:
        for j in self.layout.mode_b:
            block = self.layout.block(j)
            if np.linalg.eigvalsh(batch.correlations[0, block, block])[0] < 1e-10:
                name = self.specification.constructs[j]
                return f"the items of mode B construct {name!r} determine each other; leave one out or use mode A"
        return "the sources of a construct determine each other; merge or remove one"


@dataclass(frozen=True)
class PLSResults:
    """An estimated path model. All coefficients are standardised."""

    model: PLSPathModel
    moments: MomentBatch
    estimates: Estimates
    settings: dict

    @property
    def specification(self) -> Specification:
        """The model as specified."""
        return self.model.specification

    @property
    def nobs(self) -> int:
        """Rows of answers used."""
        return len(self.model.answers)

    @property
    def iterations(self) -> int:
        """Iterations until the weights settled."""
        return int(self.estimates.iterations[0])

    @cached_property
    def point(self) -> dict[str, Array]:
        """All `quantities` of the sample, as a batch of one."""
        return quantities(self.moments, self.estimates, self.model.layout)

    @cached_property
    def params(self) -> pd.Series:
        """Path coefficients, indexed by (source, target)."""
        return pd.Series(self.estimates.paths[0], index=self._arrows, name="estimate")

    @cached_property
    def loadings(self) -> pd.Series:
        """Correlation of each item with its composite, indexed by (construct, item)."""
        return pd.Series(own_loadings(self.estimates, self.model.layout)[0], index=self._items, name="loading")

    @cached_property
    def weights(self) -> pd.Series:
        """Weight of each standardised item in its composite of variance one."""
        return pd.Series(self.estimates.weights[0], index=self._items, name="weight")

    @cached_property
    def cross_loadings(self) -> pd.DataFrame:
        """Correlation of each item with every composite."""
        return pd.DataFrame(self.estimates.cross_loadings[0], self.specification.items, self.specification.constructs)

    @cached_property
    def r_squared(self) -> pd.Series:
        """Share of variance explained, of every construct that arrows point at."""
        values = pd.Series(self.estimates.r_squared[0], index=self.specification.constructs, name="r_squared")
        return values[list(self.specification.endogenous())]

    @cached_property
    def construct_correlations(self) -> pd.DataFrame:
        """Correlations of the composites."""
        return self._square(self.estimates.correlations[0])

    @cached_property
    def total_effects(self) -> pd.DataFrame:
        """Direct plus all indirect effects, of the row on the column."""
        return self._square(self.estimates.total_effects[0])

    @cached_property
    def inflation(self) -> pd.Series:
        """Variance inflation factor of each arrow's source among the sources of its target."""
        return pd.Series(self.estimates.inflation[0], index=self._arrows, name="inflation")

    @cached_property
    def f_squared(self) -> pd.Series:
        """Effect size of each arrow: (R² - R² without it) / (1 - R²), the model without it estimated anew.

        Where a construct has no other arrow, its composite stays as it is. Source: Cohen (1988), Statistical
        Power Analysis, equation 9.2.2.
        """
        values = []
        for k, path in enumerate(self.specification.paths):
            full = self.r_squared[path.target]
            without = self._r_squared_without(k)
            values.append((full - without) / (1 - full))
        return pd.Series(values, index=self._arrows, name="f_squared")

    def _r_squared_without(self, arrow: int) -> float:
        specification, path = self.specification, self.specification.paths[arrow]
        rest = tuple(p for k, p in enumerate(specification.paths) if k != arrow)
        target = specification.constructs.index(path.target)
        ends = {end for p in rest for end in (p.source, p.target)}
        if ends == set(specification.constructs):
            layout = Layout.of(replace(specification, paths=rest, components=(), products=()))
            smaller = estimate(self.moments.correlations, layout, self.model.scheme, **self.settings)
            if smaller.outcome[0] == Outcome.CONVERGED:
                return float(np.nan_to_num(smaller.r_squared[0, target]))
        coefficient, factor = self.estimates.paths[0, arrow], self.estimates.inflation[0, arrow]
        return float(self.estimates.r_squared[0, target] - coefficient**2 / factor)

    @cached_property
    def reliability(self) -> pd.DataFrame:
        """Cronbach's alpha, rho_A, rho_C and AVE of every construct (1 for single items)."""
        values = self.point["reliability"][0]
        return pd.DataFrame(values, index=pd.Index(self.specification.constructs), columns=list(COEFFICIENTS))

    @cached_property
    def htmt(self) -> pd.DataFrame:
        """Heterotrait-monotrait ratios, symmetric."""
        return self._square(heterotrait_monotrait(self.moments.correlations, self.model.layout)[0])

    @cached_property
    def goodness_of_fit(self) -> float:
        """Geometric mean of average communality (items of multi-item blocks) and average R².

        Source: Tenenhaus et al. (2005), Comput. Stat. Data Anal. 48.
        """
        sizes = self.loadings.groupby(level="construct").transform("size")
        communality = (self.loadings**2)[sizes > 1].mean() if (sizes > 1).any() else 1.0
        return float(np.sqrt(communality * self.r_squared.mean()))

    def indirect_effect(self, *route: str) -> float:
        """Product of the path coefficients along a route of constructs."""
        return float(np.prod(self.estimates.paths[0, _route(self.specification, route)]))

    def scheme_difference(self) -> float:
        """Largest difference between the paths of the three weighting schemes: how much the choice matters."""
        paths = [
            estimate(self.moments.correlations, self.model.layout, scheme, **self.settings).paths[0]
            for scheme in SCHEMES
        ]
        return float(np.nanmax(np.ptp(paths, axis=0)))

    def composite_scores(self) -> pd.DataFrame:
        """Standardised composite scores of the respondents used (missing answers at their mean)."""
        z = self.model.standardised()
        scores = np.add.reduceat(z * self.estimates.weights[0], self.model.layout.starts[:-1], axis=1)
        return pd.DataFrame(scores, index=self.model.answers.index, columns=list(self.specification.constructs))

    def cautions(self) -> list[str]:
        """What a careful reader should know before trusting the estimates; empty if nothing."""
        notes = []
        largest = max(len(s) for s in self.model.layout.sources)
        if self.nobs < 10 * largest:
            notes.append(f"{self.nobs} respondents for {largest} arrows into one construct (rule of thumb: ten each)")
        collinear = self.inflation[self.inflation > 5]
        for (source, target), factor in collinear.items():
            notes.append(f"{source} is hard to tell from the other sources of {target} (inflation {factor:.1f})")
        for (construct, item), weight in self.weights.items():
            if weight < 0:
                notes.append(f"item {item} enters {construct} with a negative weight")
        return notes + inadmissible(self)

    def summary(self) -> dict[str, pd.DataFrame]:
        """Frames by name: paths, items, constructs."""
        paths = pd.concat([self.params, self.inflation, self.f_squared], axis=1).reset_index()
        items = pd.concat([self.loadings, self.weights], axis=1).reset_index()
        constructs = self.reliability.assign(r_squared=self.r_squared).rename_axis("construct").reset_index()
        return {"paths": paths, "items": items, "constructs": constructs}

    def bootstrap(
        self,
        draws: int = 5000,
        seed: int | np.random.Generator = 1,
        *,
        indices: NDArray[np.integer] | None = None,
    ) -> BootstrapResults:
        """Estimate the model on resamples of the respondents.

        Composites have no sign of their own: in every resample each is turned so that its loadings agree with
        the sample's (construct-level sign correction), so that paths do not jump between mirrored solutions.
        A resample that cannot be estimated is dropped and counted in `failed`.

        Parameters
        ----------
        draws : number of resamples
        seed : integer or numpy Generator
        indices : (draws, respondents) numbers of the respondents to use instead of drawing them; those of the rows
            unless somebody answered more than once
        """
        respondents = self.model.respondents
        if indices is None:
            if draws < 2:
                raise EstimationError(f"draws={draws}: a bootstrap needs at least 2")
            rng = np.random.default_rng(seed)
            resamples = Resamples(respondents, draws, rng)
        else:
            rng, resamples = None, _given(indices, respondents)
        parts, outcomes = [], []
        for batch in resampled(self.model.moments, resamples, rng):
            fitted = self._estimate(batch)
            parts.append(quantities(batch, fitted, self.model.layout))
            outcomes.append(fitted.outcome)
        outcome = np.concatenate(outcomes)
        used = outcome == Outcome.CONVERGED
        if used.sum() < 2:
            raise EstimationError(f"only {int(used.sum())} of {len(used)} resamples could be estimated")
        values = {name: np.concatenate([part[name] for part in parts])[used] for name in parts[0]}
        return BootstrapResults(self, resamples, outcome, values)

    def jackknife(self) -> dict[str, Array]:
        """Every quantity with one respondent left out in turn: arrays (respondents, ...), failed ones NaN."""
        step = 512
        parts = []
        for start in range(0, self.model.respondents, step):
            batch = self.model.moments.without_each(slice(start, start + step))
            parts.append(quantities(batch, self._estimate(batch), self.model.layout))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _estimate(self, batch: MomentBatch) -> Estimates:
        return estimate(
            batch.correlations,
            self.model.layout,
            self.model.scheme,
            failed=batch.outcome,
            orientation=own_loadings(self.estimates, self.model.layout)[0],
            **self.settings,
        )

    @property
    def _arrows(self) -> pd.MultiIndex:
        pairs = [(p.source, p.target) for p in self.specification.paths]
        return pd.MultiIndex.from_tuples(pairs, names=["source", "target"])

    @property
    def _items(self) -> pd.MultiIndex:
        pairs = [(c.name, item) for c in self.specification.composites for item in c.items]
        return pd.MultiIndex.from_tuples(pairs, names=["construct", "item"])

    def _square(self, values: Array) -> pd.DataFrame:
        names = list(self.specification.constructs)
        return pd.DataFrame(values, index=names, columns=names)


@dataclass(frozen=True)
class BootstrapResults:
    """Quantities of the resamples that could be estimated.

    `values` holds, by name, arrays with one row a used resample: paths (A), total_effects (J, J), r_squared
    (J), loadings (p), weights (p), reliability (J, 4), htmt (J, J), correlations (J, J), means (p),
    deviations (p), and product_deviations (I) where constructs are multiplied.
    """

    results: PLSResults
    resamples: Resamples
    outcome: NDArray[np.int64]
    values: dict[str, Array]
    _jackknife: dict[str, Array] = field(default_factory=dict, repr=False)

    @property
    def indices(self) -> NDArray[np.integer]:
        """Numbers of the respondents in every resample: (draws, respondents), drawn again at every call.

        `resamples` has them some at a time, which takes less memory.
        """
        return np.concatenate(list(self.resamples.batches()))

    @property
    def draws(self) -> int:
        """Resamples asked for."""
        return len(self.outcome)

    @property
    def used(self) -> int:
        """Resamples that could be estimated."""
        return int((self.outcome == Outcome.CONVERGED).sum())

    @property
    def failed(self) -> dict[str, int]:
        """Why resamples were dropped, and how many; empty if none was."""
        counts = Counter(int(code) for code in self.outcome if code != Outcome.CONVERGED)
        return {_REASONS[Outcome(code)]: number for code, number in sorted(counts.items())}

    @cached_property
    def bse(self) -> pd.Series:
        """Bootstrap standard errors of the path coefficients."""
        return pd.Series(self.values["paths"].std(axis=0, ddof=1), index=self.results.params.index, name="bse")

    def standard_error(self, quantity: str) -> Array:
        """Bootstrap standard errors of any quantity."""
        return self.values[quantity].std(axis=0, ddof=1)

    def interval(
        self, quantity: str, confidence: float = 0.95, method: IntervalMethod = "percentile"
    ) -> tuple[Array, Array]:
        """Lower and upper limits of a quantity, in its own shape."""
        draws = self.values[quantity]
        if method == "percentile":
            return percentile_interval(draws, confidence)
        point = self.results.point[quantity][0]
        return self._bca(point, draws, self.jackknife[quantity], confidence)

    def interval_of(
        self, function, confidence: float = 0.95, method: IntervalMethod = "percentile"
    ) -> tuple[Array, Array]:
        """Limits of anything computed from the quantities: `function` maps their dict to an array (B, ...)."""
        draws = function(self.values)
        if method == "percentile":
            return percentile_interval(draws, confidence)
        point = function(self.results.point)[0]
        return self._bca(point, draws, function(self.jackknife), confidence)

    @staticmethod
    def _bca(point: Array, draws: Array, jackknife: Array, confidence: float) -> tuple[Array, Array]:
        kept = np.isfinite(jackknife.reshape(len(jackknife), -1)).any(axis=1)
        return bca_interval(point, draws, jackknife[kept], confidence)

    @property
    def jackknife(self) -> dict[str, Array]:
        """Quantities with one respondent left out in turn, computed when first asked for."""
        if not self._jackknife:
            self._jackknife.update(self.results.jackknife())
        return self._jackknife

    def conf_int(self, confidence: float = 0.95, method: IntervalMethod = "percentile") -> pd.DataFrame:
        """Limits of the path coefficients: columns low, high."""
        low, high = self.interval("paths", confidence, method)
        return pd.DataFrame({"low": low, "high": high}, index=self.results.params.index)

    def indirect_effect(
        self, *route: str, confidence: float = 0.95, method: IntervalMethod = "percentile"
    ) -> tuple[float, float, float]:
        """Estimate and limits of the effect along a route of constructs."""
        along = _route(self.results.specification, route)
        low, high = self.interval_of(lambda q: q["paths"][:, along].prod(axis=1), confidence, method)
        return self.results.indirect_effect(*route), float(low), float(high)

    def summary(self, confidence: float = 0.95, method: IntervalMethod = "percentile") -> dict[str, pd.DataFrame]:
        """The frames of `PLSResults.summary` with standard errors and limits."""
        frames = self.results.summary()
        limits = self.conf_int(confidence, method).reset_index(drop=True)
        paths = frames["paths"]
        paths.insert(3, "bse", self.bse.to_numpy())
        paths.insert(4, "low", limits["low"])
        paths.insert(5, "high", limits["high"])
        low, high = self.interval("r_squared", confidence, method)
        frames["constructs"] = frames["constructs"].assign(r_squared_low=low, r_squared_high=high)
        low, high = self.interval("loadings", confidence, method)
        frames["items"] = frames["items"].assign(loading_low=low, loading_high=high)
        return frames


def quantities(moments: MomentBatch, estimates: Estimates, layout: Layout) -> dict[str, Array]:
    """Everything that intervals are asked for, as arrays with a leading batch axis."""
    loadings = own_loadings(estimates, layout)
    products = {} if moments.product_deviations is None else {"product_deviations": moments.product_deviations}
    return products | {
        "paths": estimates.paths,
        "total_effects": estimates.total_effects,
        "r_squared": estimates.r_squared,
        "correlations": estimates.correlations,
        "loadings": loadings,
        "weights": estimates.weights,
        "reliability": reliability(moments.correlations, loadings, estimates.weights, layout),
        "htmt": heterotrait_monotrait(moments.correlations, layout),
        "means": moments.means,
        "deviations": moments.deviations,
    }


def resampled(
    moments: Moments | StagedMoments,
    resamples: Resamples | NDArray[np.integer],
    rng: np.random.Generator | None = None,
) -> Iterator[MomentBatch]:
    """Moments of resamples, or of those with the respondents in `resamples` (draws, respondents), in batches.

    rng : generator that draws them and moves on, in place of one that begins where `resamples` say
    """
    if not isinstance(resamples, Resamples):
        resamples = _given(resamples, moments.respondents)
    return map(moments.batch, resamples.counts(rng))


def _given(indices: NDArray[np.integer], respondents: int) -> Resamples:
    indices = np.asarray(indices)
    if indices.ndim != 2 or indices.shape[1] != respondents or indices.min() < 0 or indices.max() >= respondents:
        raise EstimationError(f"indices must be (draws, {respondents}), numbers from 0 to {respondents - 1}")
    return Resamples(respondents, len(indices), indices)


def _route(specification: Specification, route: Sequence[str]) -> list[int]:
    arrows = [(p.source, p.target) for p in specification.paths]
    steps = list(itertools.pairwise(route))
    missing = [step for step in steps if step not in arrows]
    if missing or not steps:
        raise ValueError(f"no path {' -> '.join(missing[0] if missing else route)} in the model")
    return [arrows.index(step) for step in steps]


def respondents_of(customers: pd.Series) -> NDArray[np.int64]:
    """Number of the customer behind each row; rows without a customer have one of their own."""
    codes, known = pd.factorize(customers)
    unknown = codes < 0
    codes[unknown] = len(known) + np.arange(unknown.sum())
    return codes


def checked_weights(weights: Array | pd.Series | None, rows: int) -> Array | None:
    if weights is None:
        return None
    values = np.asarray(weights, dtype=float)
    if values.shape != (rows,):
        raise EstimationError(f"weights have shape {values.shape}: one number a row is needed ({rows})")
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() <= 0:
        raise EstimationError("weights must be finite, not negative, and not all zero")
    return values / values.mean()
