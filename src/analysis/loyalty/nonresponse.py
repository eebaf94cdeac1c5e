"""Who answers, who does not, and weights that give the respondents the make-up of the customers they stand for.

Weights undo a bias as far as it runs along what they are made from. What makes people answer and is known of nobody
else, above all satisfaction itself, they cannot undo.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.special import expit, logit
from scipy.stats import norm, rankdata
from statsmodels.stats.proportion import proportion_confint
from statsmodels.tools.sm_exceptions import PerfectSeparationWarning

from analysis.errors import RapportError

from .delivered_value import delivered_value
from .moments import Array, draw_indices
from .path_model import EstimationError, Outcome, PLSPathModel, quantities
from .recommendation import nps_points
from .resampling import percentile_interval
from .scores import Scale, levels, scale_limits
from .specification import Specification
from .survey_means import survey_means, wave_labels

OTHER = "other"
UNKNOWN = "unknown"
BEHAVIOUR = ("orders", "spend", "recency_days")
_FIFTHS = 5
_FOLDS = 5
_LARGEST_SLOPE = 12.0


# -- the base -------------------------------------------------------------------------------------------------


def wave_starts(answers: pd.DataFrame, wave: str | None) -> dict[str, datetime.date]:
    """The first day on which anybody answered, by wave.

    Raises RapportError without days: who was a customer when a wave began is then not known.
    """
    if "responded_on" not in answers.columns or answers["responded_on"].isna().all():
        raise RapportError("the answers carry no day (responded_on): map it in the study to see who did not answer")
    first = pd.to_datetime(answers["responded_on"]).groupby(wave_labels(answers, wave)).min()
    return {name: day.date() for name, day in first.items()}


def survey_base(summary: pd.DataFrame, customers: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """The customers that a wave stands for: those who had bought before it began, with attributes and behaviour.

    Parameters
    ----------
    summary : customer_summary up to the day before the wave
    customers : customer_id and attributes; those that it lacks are left out here and named by the functions below
    """
    present = [name for name in attributes if name in customers.columns]
    known = [name for name in BEHAVIOUR if name in summary.columns]
    # An engine gives rows in any order, and the parts of a cross-validation follow it.
    ordered = summary[["customer_id", *known]].sort_values("customer_id", ignore_index=True)
    return ordered.merge(
        customers[["customer_id", *present]].drop_duplicates("customer_id"), on="customer_id", how="left"
    )


@dataclass(frozen=True)
class _Cells:
    """Categories of everybody in the base, one column a usable variable, and why others are not used."""

    categories: pd.DataFrame
    notes: list[dict]


def _cells(base: pd.DataFrame, told: Array, attributes: Sequence[str], behaviour: Sequence[str], least: int) -> _Cells:
    columns, notes = {}, []
    for name in (*attributes, *behaviour):
        if name not in base.columns or base[name].isna().all():
            notes.append({"variable": name, "reason": "not known of the customers"})
            continue
        levels_ = _fifths(base[name]) if name in behaviour else base[name].astype("str").where(base[name].notna())
        merged, joined = _pooled(levels_.fillna(UNKNOWN), told, least)
        if merged.nunique() < 2:
            notes.append({"variable": name, "reason": "leaves no two groups with enough customers of both kinds"})
            continue
        if joined:
            notes.append({"variable": name, "reason": f"{', '.join(joined)} put together: too few to stand alone"})
        columns[name] = merged
    return _Cells(pd.DataFrame(columns, index=base.index), notes)


def _fifths(values: pd.Series) -> pd.Series:
    """Fifths of the base, "1" lowest; equal values stay together, so there may be fewer."""
    parts = pd.qcut(values.astype(float), _FIFTHS, labels=False, duplicates="drop")
    return (parts + 1).map("{:g}".format, na_action="ignore")


def _pooled(levels_: pd.Series, told: Array, least: int) -> tuple[pd.Series, list[str]]:
    """Levels with fewer than `least` who answered, or did not, put together until the rest have enough."""
    counts = pd.crosstab(levels_, told).reindex(columns=[False, True], fill_value=0)
    small = (counts < least).any(axis=1)
    while small.any() and not small.all() and (counts[small].sum() < least).any():
        small[counts[~small].sum(axis=1).idxmin()] = True
    joined = list(counts.index[small])
    if len(joined) < 2:
        return levels_, []
    return levels_.where(~levels_.isin(joined), OTHER), joined


# -- who answers ----------------------------------------------------------------------------------------------


def compare_with_base(
    respondents: pd.Series,
    base: pd.DataFrame,
    attributes: Sequence[str],
    behaviour: Sequence[str] = BEHAVIOUR,
    *,
    weights: pd.Series | None = None,
    confidence: float = 0.95,
    small_group: int = 10,
) -> pd.DataFrame:
    """Those who answered beside all whom they stand for.

    Parameters
    ----------
    respondents : customer_id of each answer of one wave
    base : one row a customer, from :func:`survey_base`
    attributes, behaviour : columns compared by shares of their levels, and by their means
    weights : of the answers; then the weighted shares and means are given too

    Returns
    -------
    One row a level of an attribute or a behaviour: variable, level ("" for a behaviour), base and answered (share or
    mean) with low and high (Wilson's or normal limits of `answered`), standardised (answered less base, in standard
    deviations of the base) with standardised_low and standardised_high; with weights also weighted and
    standardised_weighted. Levels with fewer than `small_group` customers of either kind are put together.

    Raises
    ------
    RapportError
        If none of the respondents is in the base, or everybody in it answered.

    Source: Austin (2009), Stat. Med. 28 (standardised differences).
    """
    told = _told(respondents, base)
    cells = _cells(base, told, attributes, (), small_group)
    mass = _mass(respondents, weights, base)
    rows = []
    for name, levels_ in cells.categories.items():
        for level in sorted(levels_.unique()):
            rows.append({"variable": name, "level": level} | _beside((levels_ == level), told, mass, confidence, True))
    for name in behaviour:
        if name in base.columns and base[name].notna().any():
            known = base[name].notna().to_numpy()
            row = _beside(base.loc[known, name], told[known], mass[known], confidence, False)
            rows.append({"variable": name, "level": ""} | row)
    frame = pd.DataFrame(rows)
    return frame if weights is not None else frame.drop(columns=["weighted", "standardised_weighted"], errors="ignore")


def _told(respondents: pd.Series, base: pd.DataFrame) -> Array:
    told = base["customer_id"].isin(respondents.dropna()).to_numpy()
    if not told.any():
        raise RapportError("nobody who answered is among the customers of this wave: check the customer numbers")
    if told.all():
        raise RapportError("every customer of this wave answered: there is nobody to compare with")
    return told


def _mass(respondents: pd.Series, weights: pd.Series | None, base: pd.DataFrame) -> Array:
    given = pd.Series(1.0, index=respondents.index) if weights is None else weights
    return base["customer_id"].map(given.groupby(respondents).sum()).fillna(0.0).to_numpy(float)


def _beside(values: pd.Series, told: Array, mass: Array, confidence: float, share: bool) -> dict:
    x = values.to_numpy(float)
    everybody, answered, silent = x.mean(), x[told].mean(), x[~told]
    n, rest, z = int(told.sum()), len(silent), norm.ppf(0.5 + confidence / 2)
    deviation = x.std()
    own = x[told].var(ddof=1) / n if n > 1 else np.nan
    error = rest / len(x) * np.sqrt(own + silent.var(ddof=1) / rest) if rest > 1 else np.nan
    if share:
        low, high = proportion_confint(x[told].sum(), n, 1 - confidence, method="wilson")
    else:
        low, high = answered - z * np.sqrt(own), answered + z * np.sqrt(own)
    weighted = float(mass @ x / mass.sum()) if mass.sum() > 0 else np.nan
    scale = deviation if deviation > 0 else np.nan
    standardised = (answered - everybody) / scale
    return {
        "base": everybody,
        "answered": answered,
        "low": float(low),
        "high": float(high),
        "standardised": standardised,
        "standardised_low": standardised - z * error / scale,
        "standardised_high": standardised + z * error / scale,
        "weighted": weighted,
        "standardised_weighted": (weighted - everybody) / scale,
    }


@dataclass(frozen=True)
class Propensity:
    """How likely customers are to answer.

    Attributes
    ----------
    terms : DataFrame, one row a term: variable, level ("a fifth more" for a behaviour), odds_ratio, low, high
    auc, auc_low, auc_high : chance that one who answered was given a higher chance to than one who did not, by
        models that saw neither; 0.5 where nothing tells them apart
    reason : why the model could not be fitted; else empty
    """

    terms: pd.DataFrame
    auc: float
    auc_low: float
    auc_high: float
    reason: str


def response_propensity(
    respondents: pd.Series,
    base: pd.DataFrame,
    attributes: Sequence[str],
    behaviour: Sequence[str] = BEHAVIOUR,
    *,
    confidence: float = 0.95,
    small_group: int = 10,
    seed: int = 1,
) -> Propensity:
    """Logistic regression of having answered on attributes (against their most frequent level) and behaviour.

    A behaviour enters as its rank in the base, so that its odds ratio is that of one fifth of the customers to the
    next. Parameters as in :func:`compare_with_base`.

    Source: of the limits of the area, Hanley & McNeil (1982), Radiology 143, equation 1, on the logit scale.
    """
    told = _told(respondents, base)
    cells = _cells(base, told, attributes, (), small_group)
    design, names = [np.ones(len(base))], []
    for name, levels_ in cells.categories.items():
        reference = levels_.value_counts().index[0]
        for level in sorted(set(levels_) - {reference}):
            design.append((levels_ == level).to_numpy(float))
            names.append((name, level, reference))
    for name in behaviour:
        if name in base.columns and base[name].nunique() > 1:
            ranks = rankdata(base[name].fillna(base[name].median()))
            design.append(_FIFTHS * (ranks - 0.5) / len(ranks) - _FIFTHS / 2)
            names.append((name, "a fifth more", "a fifth less"))
    x, columns = np.column_stack(design), ["variable", "level", "against"]
    empty = pd.DataFrame(columns=[*columns, "odds_ratio", "low", "high"])
    nan = float("nan")
    if not names:
        return Propensity(empty, nan, nan, nan, "nothing is known of the customers that varies")
    if min(told.sum(), (~told).sum()) < 10 * len(names):
        return Propensity(
            empty, nan, nan, nan, f"fewer than ten who answered, or did not, for each of {len(names)} terms"
        )
    fitted = _logistic(told, x)
    if not fitted.converged or not np.abs(fitted.params).max() < _LARGEST_SLOPE:
        return Propensity(empty, nan, nan, nan, "what is known tells the two kinds apart without error")
    terms = pd.DataFrame(names, columns=columns)
    terms["odds_ratio"] = np.exp(fitted.params[1:])
    terms[["low", "high"]] = np.exp(fitted.conf_int(1 - confidence)[1:])
    return Propensity(terms, *_area(told, _out_of_fold(told, x, seed), confidence), "")


def _logistic(told: Array, x: Array):
    with warnings.catch_warnings():
        # Without error told apart: seen in the slopes by the caller, which says so.
        warnings.simplefilter("ignore", PerfectSeparationWarning)
        return sm.GLM(told.astype(float), x, family=sm.families.Binomial()).fit()


def _out_of_fold(told: Array, x: Array, seed: int) -> Array:
    fold = np.random.default_rng(seed).permutation(len(x)) % _FOLDS
    score = np.empty(len(x))
    for k in range(_FOLDS):
        score[fold == k] = x[fold == k] @ _logistic(told[fold != k], x[fold != k]).params
    return score


def _area(told: Array, score: Array, confidence: float) -> tuple[float, float, float]:
    n, m = int(told.sum()), int((~told).sum())
    area = (rankdata(score)[told].sum() - n * (n + 1) / 2) / (n * m)
    if not 0 < area < 1:
        return float(area), float("nan"), float("nan")
    both, other = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (n - 1) * (both - area**2) + (m - 1) * (other - area**2)) / (n * m)
    reach = norm.ppf(0.5 + confidence / 2) * np.sqrt(variance) / (area * (1 - area))
    return float(area), float(expit(logit(area) - reach)), float(expit(logit(area) + reach))


# -- weights --------------------------------------------------------------------------------------------------


def kish(weights: Array | pd.Series) -> tuple[float, float]:
    """Design effect of unequal weights, 1 + cv², and the number of equally weighted answers that are worth as much.

    Source: Kish (1965), Survey Sampling, equation 11.7.6.
    """
    w = np.asarray(weights, dtype=float)
    effect = len(w) * (w**2).sum() / w.sum() ** 2
    return float(effect), float(len(w) / effect)


@dataclass(frozen=True)
class Raking:
    """Weights with given margins.

    Attributes
    ----------
    weights : (n,) of mean 1
    converged : whether every margin is met
    iterations, largest_gap : rounds over all margins, and how far the worst margin's share is off
    trimmed : weights that stand at a limit
    """

    weights: Array
    converged: bool
    iterations: int
    largest_gap: float
    trimmed: int


def rake(
    categories: pd.DataFrame,
    targets: Mapping[str, pd.Series],
    *,
    initial: Array | None = None,
    trim: float = 5.0,
    tolerance: float = 1e-6,
    max_iterations: int = 500,
) -> Raking:
    """Weights under which each column of `categories` has its target shares: iterative proportional fitting.

    Weights outside 1/trim to trim are then set to that limit and the margins fitted again, in turn.

    Parameters
    ----------
    categories : (n, k) levels
    targets : share of each level (adding up to one), by column
    initial : (n,) weights to start from; equal ones by default

    Raises
    ------
    RapportError
        If a level has a target and no row, or rows and no target.

    Source: Deming & Stephan (1940), Ann. Math. Stat. 11; trimming: Izrael, Battaglia & Frankel (2009), SAS Global Forum.
    """
    if trim <= 1:
        raise RapportError(f"trim is {trim:g}: the largest weight must be above 1, the mean")
    if initial is not None and not (np.asarray(initial) > 0).all():
        raise RapportError("weights to start from must be positive: leave out answers of weight zero")
    codes, shares = [], []
    for name, target in targets.items():
        wanted = target[target > 0]
        odd = set(categories[name]) ^ set(wanted.index)
        if odd:
            raise RapportError(f"{name}: level {sorted(odd)[0]!r} is empty on one side: put it together with another")
        codes.append(pd.Categorical(categories[name], categories=wanted.index).codes)
        shares.append(wanted.to_numpy(float) / wanted.sum())
    n = len(categories)
    w = np.ones(n) if initial is None else np.asarray(initial, dtype=float) * n / np.sum(initial)

    def gap(weights: Array) -> float:
        pairs = zip(codes, shares, strict=True)
        return max((np.abs(np.bincount(c, weights, len(s)) / n - s).max() for c, s in pairs), default=0.0)

    trimming, iterations = False, 0
    while iterations < max_iterations:
        iterations += 1
        for code, share in zip(codes, shares, strict=True):
            w = w * (share * n / np.bincount(code, w, len(share)))[code]
        outside = (w < 1 / trim) | (w > trim)
        if trimming and outside.any():
            w = _bounded(w, trim)
        if gap(w) <= tolerance:
            if trimming or not outside.any():
                break
            trimming = True
    edge = 1 + 1e-6
    trimmed = int(((w <= edge / trim) | (w >= trim / edge)).sum())
    largest = gap(w)
    return Raking(w, bool(largest <= tolerance), iterations, float(largest), trimmed)


def _bounded(weights: Array, trim: float) -> Array:
    """Weights cut at 1/trim and trim, scaled so that their mean is one after the cut."""
    low, high = np.log(1 / trim / weights.max()), np.log(trim / weights.min())
    for _ in range(60):
        middle = (low + high) / 2
        over = np.clip(np.exp(middle) * weights, 1 / trim, trim).mean() > 1
        low, high = (low, middle) if over else (middle, high)
    return np.clip(np.exp(low) * weights, 1 / trim, trim)


@dataclass(frozen=True)
class ResponseWeights:
    """Weights of all answers, and what stands behind them.

    Attributes
    ----------
    weights : (n,) of mean 1 in every wave
    waves : one row a wave: wave, base (customers), answers, outside (answers of nobody in the base; their weight is
        1), response (share of the base that answered), converged, iterations, largest_gap, trimmed, design_effect,
        effective, reason (why the wave has equal weights; else empty)
    margins : one row a wave, variable and level: wave, variable, level, base, answered, weighted (shares)
    notes : one row a remark: wave, variable, reason
    """

    weights: pd.Series
    waves: pd.DataFrame
    margins: pd.DataFrame
    notes: pd.DataFrame


def response_weights(
    answers: pd.DataFrame,
    bases: Mapping[str, pd.DataFrame],
    wave: str | None,
    attributes: Sequence[str],
    behaviour: Sequence[str] = (),
    *,
    initial: pd.Series | None = None,
    trim: float = 5.0,
    small_group: int = 10,
) -> ResponseWeights:
    """Rake the answers of every wave to the customers that it stands for.

    Parameters
    ----------
    answers : customer_id and the wave
    bases : by wave as :func:`wave_labels` names it, from :func:`survey_base`
    attributes, behaviour : columns of the bases whose shares, or fifths, the weighted answers shall have
    initial : weights of the survey's own design; equal ones by default
    trim : largest weight, and one over the smallest
    small_group : levels with fewer customers who answered, or did not, are put together with others
    """
    labels = wave_labels(answers, wave)
    weights = pd.Series(1.0, index=answers.index, name="weight")
    waves, margins, notes = [], [], []
    for name in sorted(bases, key=lambda label: (len(label), label)):
        base, own = bases[name], answers[labels == name]
        place = pd.Series(np.arange(len(base)), index=base["customer_id"])
        at = own["customer_id"].map(place) if "customer_id" in own else pd.Series(np.nan, index=own.index)
        linked = at.dropna().astype(int)
        start = pd.Series(1.0, index=own.index) if initial is None else initial[own.index] / initial[own.index].mean()
        row = {"wave": name, "base": len(base), "answers": len(own), "outside": len(own) - len(linked)}
        row |= {"response": linked.nunique() / len(base) if len(base) else np.nan}
        cells, reason = _cells_of_wave(base, linked, attributes, behaviour, small_group)
        notes += [{"wave": name} | note for note in cells.notes]
        raked = start
        if not reason:
            inside = cells.categories.iloc[linked.to_numpy()]
            targets = {column: cells.categories[column].value_counts(normalize=True) for column in cells.categories}
            found = rake(inside, targets, initial=start[linked.index].to_numpy(), trim=trim)
            raked = start.copy()
            raked[linked.index] = found.weights
            row |= {"converged": found.converged, "iterations": found.iterations}
            row |= {"largest_gap": found.largest_gap, "trimmed": found.trimmed}
            margins += _margin_rows(name, inside, targets, found.weights)
        if len(own):
            weights[own.index] = raked / raked.mean()
            effect, effective = kish(weights[own.index])
            row |= {"design_effect": effect, "effective": effective}
        waves.append(row | {"reason": reason})
    return ResponseWeights(
        weights,
        pd.DataFrame(waves),
        pd.DataFrame(margins, columns=["wave", "variable", "level", "base", "answered", "weighted"]),
        pd.DataFrame(notes, columns=["wave", "variable", "reason"]),
    )


def _cells_of_wave(
    base: pd.DataFrame, linked: pd.Series, attributes: Sequence[str], behaviour: Sequence[str], least: int
) -> tuple[_Cells, str]:
    told = np.zeros(len(base), dtype=bool)
    told[linked.to_numpy()] = True
    if told.sum() < 2 * least:
        return _Cells(pd.DataFrame(), []), f"only {int(told.sum())} of the customers in the base answered"
    if told.all():
        return _Cells(pd.DataFrame(), []), "every customer in the base answered"
    cells = _cells(base, told, attributes, behaviour, least)
    return cells, "" if len(cells.categories.columns) else "nothing is known of the customers that could be weighted"


def _margin_rows(wave: str, inside: pd.DataFrame, targets: Mapping[str, pd.Series], weights: Array) -> list[dict]:
    rows = []
    for name, target in targets.items():
        answered = inside[name].value_counts(normalize=True)
        weighted = pd.Series(weights, index=inside[name].to_numpy()).groupby(level=0).sum() / weights.sum()
        for level in sorted(target.index):
            shares = {"base": target[level], "answered": answered[level], "weighted": weighted[level]}
            rows.append({"wave": wave, "variable": name, "level": level} | shares)
    return rows


# -- what weights change --------------------------------------------------------------------------------------


def with_and_without(
    data: pd.DataFrame,
    specification: Specification,
    scale: Scale,
    weights: pd.Series,
    *,
    scheme: str = "path",
    missing_codes: Iterable = (),
    customers: pd.Series | None = None,
    groups: pd.Series | None = None,
    parts: pd.DataFrame | None = None,
    draws: int = 500,
    seed: int = 1,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Scores, paths, the net promoter score and delivered value, from equally and from unequally weighted answers.

    Both models are fitted on the same resamples, so that the limits are those of the difference; the weights count
    as given, which makes them a little wide where the weights come from raking.

    Parameters
    ----------
    data, specification, scheme, missing_codes, customers : as for :class:`PLSPathModel`
    weights : from :func:`response_weights`
    groups, parts : from :func:`nps_groups` and :func:`delivered_parts`, or None

    Returns
    -------
    One row a result: kind ("score", "path", "nps", "delivered_value"), name, unweighted, weighted, difference with
    low and high (points, or of the standardised path).
    """
    options = {"scheme": scheme, "missing_codes": missing_codes, "customers": customers}
    fits = [PLSPathModel(data, specification, weights=w, **options).fit() for w in (None, weights)]
    indices = draw_indices(fits[0].model.respondents, draws, np.random.default_rng(seed))
    boots = [fit.bootstrap(indices=indices) for fit in fits]
    both = np.logical_and(*(boot.outcome == Outcome.CONVERGED for boot in boots))
    low, high = scale_limits(specification.items, scale)
    arrows = [f"{source} → {target}" for source, target in fits[0].params.index]
    rows = []
    for kind, names, function in (
        ("score", specification.constructs, _levels_of(fits[0].model.layout.starts[:-1], low, high)),
        ("path", arrows, lambda q: q["paths"]),
    ):
        point = [function(quantities(f.moments, f.estimates, f.model.layout))[0] for f in fits]
        drawn = [function(boot.values)[both[boot.outcome == Outcome.CONVERGED]] for boot in boots]
        limits = percentile_interval(drawn[1] - drawn[0], confidence)
        for k, name in enumerate(names):
            rows.append(_pair(kind, name, point[0][k], point[1][k], limits[0][k], limits[1][k]))
    answers = {}
    if groups is not None:
        answers["nps"] = nps_points(groups)
    if parts is not None:
        answers["delivered_value"] = delivered_value(parts)
    for kind, values in answers.items():
        rows.append(_pair(kind, kind, *_mean_pair(values, weights, customers, confidence)))
    return pd.DataFrame(rows)


def _levels_of(starts: Array, low: Array, high: Array):
    return lambda q: levels(q["means"], q["weights"], q["deviations"], low, high, starts)


def _pair(kind: str, name: str, without: float, with_: float, low: float, high: float) -> dict:
    row = {"kind": kind, "name": name, "unweighted": without, "weighted": with_}
    return row | {"difference": with_ - without, "low": low, "high": high}


def _mean_pair(values: pd.Series, weights: pd.Series, customers: pd.Series | None, confidence: float) -> tuple:
    """Mean without and with weights, and limits of their difference from the linearised sums of both."""
    known = values[values.notna()]
    if known.empty:
        raise EstimationError("nobody answered this question: leave it out")
    w = weights[known.index]
    means = known.mean(), float(w @ known / w.sum())
    influence = w / w.mean() * (known - means[1]) - (known - means[0])
    spread = survey_means(influence, None, None if customers is None else customers[known.index])
    _, low, high = spread.interval(0, confidence)
    middle = spread.means[0]
    return *means, means[1] - means[0] + low - middle, means[1] - means[0] + high - middle
