"""The loyalty index, 0-100: trust, frequency of dealings, service outcome, satisfaction and intention in one number.

The index describes; it explains nothing. It contains what causes loyalty (trust, satisfaction) beside what loyalty causes
(purchases), so it is never a predictor in a model of money or a construct of the path model: those use the intention alone.

Parts come from the survey or, for dealings and service, from what customers did strictly before they answered:

dealings
    Purchase days and contacts that the customer began, never mailings, per day since the first purchase, shrunk towards
    the base (gamma-Poisson), as the percentile among *all* customers of one fixed day. Not relative to the customer's own
    habit: that measures change, and a loyal customer who stays as she is would stand at 50. One fixed day, so that the
    scores of two waves have the same yardstick.
service outcome
    Mean over the customer's cases of target / time taken, at most 1, and 0 for a case past the target and unsolved.

Source of the shrinkage: Ehrenberg (1988), Repeat-Buying (purchases as a gamma mixture of Poisson counts).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from scipy.stats import rankdata

from analysis.valuation.summary import purchase_days, to_frame

from .kernel import Outcome
from .moments import Array, Resamples
from .path_model import BootstrapResults, EstimationError, PLSResults, checked_weights, respondents_of
from .resampling import percentile_interval
from .scores import (
    Scale,
    construct_scores,
    item_shares,
    levels,
    performance,
    scale_limits,
    snake,
)
from .service import contacts_around, purchases_around

SURVEY, BEHAVIOUR = "survey", "behaviour"
YEAR = 365
MINIMUM_BASE = 30
MINIMUM_GROUP = 10


@dataclass(frozen=True)
class IndexPart:
    """A part of the loyalty index: what it stands for, what can carry it, its weight.

    Attributes
    ----------
    constructs : constructs of the survey that can carry it, the best first
    behaviour : score made of behaviour that carries it where there is one, before any construct
    """

    part: str
    constructs: tuple[str, ...]
    weight: float
    behaviour: str | None = None


LOYALTY_PARTS: tuple[IndexPart, ...] = (
    IndexPart("trust", ("Trust", "Image"), 0.2),
    IndexPart("frequency", ("Frequency",), 0.2, "Dealings"),
    IndexPart("service", ("Service", "Quality"), 0.2, "Service outcome"),
    IndexPart("satisfaction", ("Satisfaction",), 0.2),
    IndexPart("intention", ("Intention", "Loyalty"), 0.2),
)
"""Loyalty as a composite of trust, frequency of dealings, service, satisfaction and the likelihood of staying.
Equal weights: the sources name the parts and give none."""


# -- scores from behaviour ------------------------------------------------------------------------------------


def dealings_scores(
    order_lines: ibis.Table,
    answers: pd.DataFrame,
    cases: pd.DataFrame | None = None,
    *,
    days: int = YEAR,
    base_on: datetime.date | None = None,
) -> pd.DataFrame:
    """How often each respondent dealt with the company in the year before the answer, and where that stands among all.

    Parameters
    ----------
    order_lines : the canonical table, or its `purchase_days`; reduced to one row a customer on the engine
    answers : customer_id (null: nobody known), on (day of the answer)
    cases : from `service_cases`, or None where contacts are not recorded
    days : that count before an answer
    base_on : day on which the base is looked at; by default the day of the first answer

    Returns
    -------
    One row an answer, same index: purchase_days and contacts (counts, the very first purchase left out: with it the counting
    begins), exposure (days since it, at most `days`), dealings (0-100). The score is null where nothing was bought before
    the answer, and for everybody where the base has fewer than 30 customers.
    """
    day = pd.to_datetime(answers["on"]).min() if base_on is None else pd.Timestamp(base_on)
    own = _dealings(purchases_around(order_lines, answers, before_days=days), answers, cases, days)
    base = _base(order_lines, day, days)
    base = _dealings(base, base.assign(on=day), cases, days)
    base = base[base["exposure"] > 0]
    score = pd.Series(np.nan, index=answers.index)
    known = own["exposure"] > 0
    if len(base) >= MINIMUM_BASE and known.any():
        score[known] = _percentile(_shrunk(own[known], base), _shrunk(base, base))
    return own.assign(dealings=score)


def _base(order_lines: ibis.Table, day: pd.Timestamp, days: int) -> pd.DataFrame:
    """One row a customer who bought before `day`: customer_id, before, known_days as in `purchases_around`."""
    bought = purchase_days(order_lines)
    at = ibis.literal(day.date())
    bought = bought.filter(bought.order_date < at)
    since = at.delta(bought.order_date, unit="day")
    found = bought.group_by("customer_id").aggregate(before=(since <= days).sum(), known_days=since.max())
    return to_frame(found.mutate(customer_id=found.customer_id.cast("string")))


def _dealings(purchases: pd.DataFrame, moments: pd.DataFrame, cases: pd.DataFrame | None, days: int) -> pd.DataFrame:
    first = (purchases["known_days"] > 0) & (purchases["known_days"] <= days)
    contacts = 0 if cases is None else contacts_around(moments, cases, before_days=days, after_days=0).sum(axis=1)
    frame = pd.DataFrame({"purchase_days": purchases["before"] - first, "contacts": contacts}, index=purchases.index)
    return frame.astype("int64").assign(exposure=purchases["known_days"].clip(upper=days))


def _shrunk(own: pd.DataFrame, base: pd.DataFrame) -> Array:
    """Expected dealings a day given the counts, where customers of the base have gamma-distributed rates (by moments)."""
    count, exposure = (base["purchase_days"] + base["contacts"]).to_numpy(float), base["exposure"].to_numpy(float)
    mean = count.sum() / exposure.sum()
    variance = (((count - mean * exposure) ** 2) - mean * exposure).sum() / (exposure**2).sum()
    scale = mean / max(variance, 1e-12)
    return ((own["purchase_days"] + own["contacts"]) + mean * scale).to_numpy(float) / (
        own["exposure"] + scale
    ).to_numpy()


def _percentile(values: Array, base: Array) -> Array:
    """Percentile of each value among the base, halfway through those who tie with it: 0-100."""
    ordered = np.sort(base)
    below = np.searchsorted(ordered, values - 1e-12, side="left")
    until = np.searchsorted(ordered, values + 1e-12, side="right")
    return 50.0 * (below + until) / len(ordered)


def service_outcome(
    answers: pd.DataFrame, cases: pd.DataFrame, *, days: int = YEAR, target_days: float = 7.0
) -> pd.DataFrame:
    """How well the contacts of the year before each answer were settled by the day of the answer.

    Parameters
    ----------
    answers : customer_id (null: nobody known), on (day of the answer)
    cases : from `service_cases`
    target_days : within which a case should be resolved

    Returns
    -------
    One row an answer, same index: judged (cases resolved, or past the target, by then), service_outcome (0-100; null
    without such a case).
    """
    asked = pd.DataFrame({"row": np.arange(len(answers)), "customer_id": answers["customer_id"].to_numpy()})
    asked["on"] = pd.to_datetime(answers["on"]).to_numpy()
    joined = asked.dropna().merge(cases, on="customer_id")
    age = (joined["on"] - joined["opened_at"]) / pd.Timedelta(days=1)
    settled = joined["resolved"] & (joined["days"] < age)
    judged = (joined["opened_on"] < joined["on"]) & (age <= days) & (settled | (age > target_days))
    taken = np.maximum(joined["days"], target_days)
    points = (100 * target_days / taken).where(settled, 0.0)[judged].groupby(joined.loc[judged, "row"])
    frame = pd.DataFrame({"judged": points.size(), "service_outcome": points.mean()}).reindex(range(len(answers)))
    frame["judged"] = frame["judged"].fillna(0).astype("int64")
    return frame.set_index(answers.index)


# -- composition and the index of a person --------------------------------------------------------------------


def index_composition(
    declared: Iterable[str],
    usable: Iterable[str],
    parts: Sequence[IndexPart] = LOYALTY_PARTS,
    behaviour: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What carries each part of the index, and how the weight of missing parts is shared among the others.

    Parameters
    ----------
    declared, usable : constructs of the survey, and those whose measurement passes
    behaviour : scores from behaviour, one row a respondent, columns dealings and service_outcome or one of them; a
        column without any value does not count

    Returns
    -------
    One row a part: part, construct (what it is read from, null if nothing), source ("survey", "behaviour", null), status
    ("used", "failed", "not asked"), declared_weight, weight (of somebody who has every part used; adds up to one, in
    proportion to the declared weights), coverage (share of the respondents who have the part; 1 for the survey).
    """
    declared, usable = set(declared), set(usable)
    present = {} if behaviour is None else behaviour.notna().mean().to_dict()
    rows = []
    for part in parts:
        asked = [name for name in part.constructs if name in declared]
        carrying = [name for name in asked if name in usable]
        coverage = present.get(snake(part.behaviour), 0.0) if part.behaviour else 0.0
        if coverage > 0:
            read, source, status = part.behaviour, BEHAVIOUR, "used"
        else:
            read = (carrying or asked or [None])[0]
            source = SURVEY if asked else None
            status = "used" if carrying else "failed" if asked else "not asked"
            coverage = float(status == "used")
        rows.append((part.part, read, source, status, part.weight, coverage))
    frame = pd.DataFrame(rows, columns=["part", "construct", "source", "status", "declared_weight", "coverage"])
    weight = frame["declared_weight"].where(frame["status"] == "used", 0.0)
    total = weight.sum()
    frame.insert(5, "weight", weight / total if total > 0 else np.nan)
    return frame


def loyalty_index(scores: pd.DataFrame, composition: pd.DataFrame) -> pd.Series:
    """Every respondent's index: weighted mean of the scores used.

    A part from behaviour that somebody lacks (no contact, no customer number) gives its weight to their other parts; a
    missing part of the survey leaves no index, nor does a composition without any part.

    scores : columns of the constructs and of the behaviour that `composition` uses, in snake_case
    """
    values, weights = _parts(scores, composition)
    index = np.nansum(values * weights, axis=1) if values.shape[1] else np.nan
    index = np.where(np.isfinite(weights).all(axis=1) & (values.shape[1] > 0), np.clip(index, 0, 100), np.nan)
    return pd.Series(index, index=scores.index, name="loyalty_index")


def _parts(scores: pd.DataFrame, composition: pd.DataFrame) -> tuple[Array, Array]:
    """Scores (n, k) of the parts used, and each person's weights (n, k), null throughout where there is no index."""
    used = composition[composition["status"] == "used"]
    values = scores[[snake(name) for name in used["construct"]]].to_numpy(float)
    present = np.isfinite(values)
    weights = used["weight"].to_numpy(float) * present
    total = weights.sum(axis=1, keepdims=True)
    complete = present[:, (used["source"] != BEHAVIOUR).to_numpy()].all(axis=1, keepdims=True) & (total > 0)
    return values, np.divide(weights, total, out=np.full_like(weights, np.nan), where=complete)


# -- its level, with limits -----------------------------------------------------------------------------------


def index_level(
    results: PLSResults,
    bootstrap: BootstrapResults,
    scale: Scale,
    composition: pd.DataFrame,
    confidence: float = 0.95,
    *,
    behaviour: pd.DataFrame | None = None,
    weights: Array | pd.Series | None = None,
    customers: pd.Series | None = None,
) -> tuple[float, float, float]:
    """Mean loyalty index with limits: customers are drawn with their answers and their behaviour together.

    The weights of the parts are given, those of the items are estimated in every resample; the base that dealings are
    ranked against is everybody, so it is not drawn.

    Parameters
    ----------
    behaviour : (n, ...) scores from behaviour with the index of the answers, as for `index_composition`; None for an
        index of the survey alone, for which the model knows all
    weights, customers : (n,) as the model was given them; only for an index with behaviour

    Raises
    ------
    EstimationError
        If `weights` or `customers` are not those of the model.
    """
    used = composition[composition["status"] == "used"]
    if used.empty:
        return float("nan"), float("nan"), float("nan")
    if behaviour is None:
        return _survey_level(results, bootstrap, scale, used, confidence)
    sums = _IndexSums(results, scale, composition, behaviour, weights, customers)
    point, draws = sums.level(np.ones(len(results.model.answers), dtype=bool), bootstrap)
    low, high = percentile_interval(draws, confidence)
    return float(point), float(low), float(high)


def _survey_level(
    results: PLSResults, bootstrap: BootstrapResults, scale: Scale, used: pd.DataFrame, confidence: float
) -> tuple[float, float, float]:
    scores = performance(results, bootstrap, scale, confidence).set_index("construct")["score"]
    names = list(results.specification.constructs)
    columns, parts = [names.index(name) for name in used["construct"]], used["weight"].to_numpy()
    low, high = scale_limits(results.specification.items, scale)
    starts = results.model.layout.starts[:-1]

    def level(quantity: dict[str, Array]) -> Array:
        own = levels(quantity["means"], quantity["weights"], quantity["deviations"], low, high, starts)
        return own[:, columns] @ parts

    ends = bootstrap.interval_of(level, confidence)
    return float(scores[used["construct"]].to_numpy() @ parts), float(ends[0]), float(ends[1])


class _IndexSums:
    """The index as sums over customers, so that one matrix product gives its mean in every resample.

    With person i's weight w_ip of part p, the mean index is a sum over items of (share of the item in its score) × (mean of
    w_ip × placed answer), plus the mean of w_ip × score over the parts from behaviour. Only the shares differ in more than
    who is drawn, and the bootstrap of the model has them.
    """

    def __init__(
        self,
        results: PLSResults,
        scale: Scale,
        composition: pd.DataFrame,
        behaviour: pd.DataFrame | None,
        weights: Array | pd.Series | None,
        customers: pd.Series | None,
    ) -> None:
        answers, layout = results.model.answers, results.model.layout
        used = composition[composition["status"] == "used"]
        self.parts = len(used)
        self._low, self._high = scale_limits(results.specification.items, scale)
        self._starts = layout.starts[:-1]
        survey = used[used["source"] != BEHAVIOUR]
        scores = construct_scores(results, scale, survey["construct"])
        if behaviour is not None:
            scores = scores.join(behaviour.reindex(answers.index))
        values, person = _parts(scores, composition)
        self.complete = np.isfinite(person).all(axis=1) & (self.parts > 0)
        person = np.where(self.complete[:, None], person, 0.0)
        filled = answers.fillna(pd.Series(results.moments.means[0], index=answers.columns)).to_numpy()
        placed = 100 * (filled - self._low) / (self._high - self._low)
        owners = list(results.specification.constructs)
        own = np.zeros_like(placed)
        for k, row in enumerate(used.itertuples()):
            if row.source != BEHAVIOUR:
                block = layout.block(owners.index(row.construct))
                own[:, block] = person[:, [k]] * placed[:, block]
        carried = (used["source"] == BEHAVIOUR).to_numpy()
        behaved = np.nansum(person[:, carried] * values[:, carried], axis=1)
        self._rows = np.column_stack([own, behaved, self.complete])
        self._mass, self._owners = _drawn_as(results, weights, customers)
        self._shares = item_shares(
            results.estimates.weights, results.moments.deviations, self._low, self._high, self._starts
        )[0]

    def level(self, chosen: Array, bootstrap: BootstrapResults) -> tuple[float, Array]:
        """Mean index of the chosen answers: of the sample, and of every resample that the model could use."""
        rows = self._rows * (self._mass * chosen)[:, None]
        summed = np.zeros((self._owners.max() + 1, rows.shape[1]))
        np.add.at(summed, self._owners, rows)
        shares, _ = item_shares(
            bootstrap.values["weights"], bootstrap.values["deviations"], self._low, self._high, self._starts
        )
        totals = np.concatenate([counts @ summed for counts in bootstrap.resamples.counts()])
        totals = totals[bootstrap.outcome == Outcome.CONVERGED]
        return float(_mean(summed.sum(axis=0, keepdims=True), self._shares)[0]), _mean(totals, shares)


def _mean(totals: Array, shares: Array) -> Array:
    mass = totals[:, -1]
    value = (totals[:, :-2] * shares).sum(axis=1) + totals[:, -2]
    return np.divide(value, mass, out=np.full(len(mass), np.nan), where=mass > 0)


def _drawn_as(
    results: PLSResults, weights: Array | pd.Series | None, customers: pd.Series | None
) -> tuple[Array, np.ndarray]:
    """Survey weight and number of the customer behind each answer that the model used, as the model numbered them."""
    answers = results.model.answers
    if weights is None:
        mass = np.ones(len(answers))
    else:
        mass = weights[answers.index].to_numpy(float) if isinstance(weights, pd.Series) else np.asarray(weights, float)
        mass = checked_weights(mass, len(answers))
    owners = np.arange(len(answers)) if customers is None else respondents_of(customers[answers.index])
    if owners.max() + 1 != results.model.respondents:
        raise EstimationError("the customers are not those that the model was given: pass the same column")
    items = answers.to_numpy(float)
    seen = np.isfinite(items)
    means = np.where(seen, items, 0.0).T @ mass / (seen.T @ mass)
    if not np.allclose(means, results.moments.means[0], rtol=1e-6):
        raise EstimationError("the weights are not those that the model was given: pass the same column")
    return mass, owners


# -- does it foretell? ----------------------------------------------------------------------------------------


def index_track_record(
    purchases: pd.Series,
    predictors: pd.DataFrame,
    *,
    rule: str = "bought lately",
    customers: pd.Series | None = None,
    weights: pd.Series | None = None,
    draws: int = 1000,
    seed: int = 1,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """How well the index, and simpler numbers, rank customers by what they buy next.

    Parameters
    ----------
    purchases : purchase days in the time after the answer; only answers for which all of it is observed
    predictors : one column a way of ranking, higher is more, same index; one of them is the plain rule
    rule : the column that the others are held against
    customers : who answered (null: somebody seen once); drawn with all their answers

    Returns
    -------
    One row a predictor: predictor, answers, auc (probability that one who buys ranks above one who does not), auc_low,
    auc_high, gain (auc less that of the rule), gain_low, gain_high, rank (Spearman correlation with the number of purchase
    days), rank_low, rank_high. Answers that lack a predictor are left out for all, so that all are judged on the same
    people. Not a number where everybody, or nobody, buys.

    Source: Hanley & McNeil (1982), Radiology 143 (auc); the limits are percentiles of cluster-bootstrap draws.
    """
    if rule not in predictors.columns:
        raise EstimationError(f"predictors: no column {rule!r} to hold the others against")
    known = (predictors.notna().all(axis=1) & purchases.notna()).to_numpy()
    bought = purchases[known].to_numpy(float)
    mass = np.ones(known.sum()) if weights is None else weights[known].to_numpy(float)
    owners = np.arange(known.sum()) if customers is None else respondents_of(customers[known])
    columns = predictors[known]
    if len(bought) < MINIMUM_GROUP:
        columns = columns.iloc[:0]
    auc, rank = {}, {}
    if len(columns):
        people = int(owners.max()) + 1
        resamples = Resamples(people, draws, np.random.default_rng(seed))
        for name in columns:
            values = columns[name].to_numpy(float)
            both = [_ranking(mass[None, :], values, bought)]
            both += [_ranking(counts[:, owners] * mass, values, bought) for counts in resamples.counts()]
            auc[name], rank[name] = (np.concatenate(part) for part in zip(*both))
    rows = []
    for name in predictors.columns:
        row = {"predictor": name, "answers": len(columns)}
        none = np.full(3, np.nan)
        for label, found in (("auc", auc), ("gain", auc), ("rank", rank)):
            values = none if name not in found else found[name] - (found[rule] if label == "gain" else 0.0)
            ends = percentile_interval(values[1:], confidence) if name in found else (np.nan, np.nan)
            row |= {label: values[0], f"{label}_low": float(ends[0]), f"{label}_high": float(ends[1])}
        rows.append(row)
    return pd.DataFrame(rows)


def _ranking(mass: Array, values: Array, bought: Array) -> tuple[Array, Array]:
    """Weighted auc of buying at all, and weighted rank correlation with the count, for every row of `mass` (B, n)."""
    place, among = _midranks(mass, values)
    total = mass.sum(axis=1)
    positive = mass * (bought > 0)
    negative = mass - positive
    before = _midranks(negative, values, among)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        auc = (positive * before).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
        other, _ = _midranks(mass, bought)
        x, y = (r - ((mass * r).sum(axis=1) / total)[:, None] for r in (place, other))
        rank = (mass * x * y).sum(axis=1) / np.sqrt((mass * x**2).sum(axis=1) * (mass * y**2).sum(axis=1))
    return auc, rank


def _midranks(mass: Array, values: Array, among: np.ndarray | None = None) -> tuple[Array, np.ndarray]:
    """Mass below each value plus half the mass at it: (B, n); and the number of each distinct value."""
    among = rankdata(values, method="dense") - 1 if among is None else among
    order = np.argsort(among, kind="stable")
    starts = np.flatnonzero(np.diff(among[order], prepend=-1))
    at = np.add.reduceat(mass[:, order], starts, axis=1)
    below = np.cumsum(at, axis=1) - at
    return (below + at / 2)[:, among], among


# -- the table ------------------------------------------------------------------------------------------------


def customer_loyalty(
    data: pd.DataFrame,
    results: PLSResults,
    scale: Scale,
    usable: Iterable[str],
    composition: pd.DataFrame,
    *,
    behaviour: pd.DataFrame | None = None,
    nps_group: pd.Series | None = None,
    delivered_value: pd.Series | None = None,
    referral_value: pd.Series | None = None,
) -> pd.DataFrame:
    """The table `customer_loyalty`: one row a respondent of `data`.

    Columns: response_id, customer_id, a 0-100 score for every construct of the model in snake_case (null throughout for a
    construct whose measurement failed), the scores of `behaviour`, loyalty_index, and of nps_group, delivered_value and
    referral_value those that are given. Respondents whom the model left out have null scores.

    Parameters
    ----------
    data : survey_responses, with response_id
    usable : constructs whose measurement passes
    composition : from `index_composition`
    behaviour : scores from behaviour that the composition was made with, index of `data`
    nps_group, delivered_value, referral_value : aligned with `data`, or None where the study lacks them
    """
    usable = list(usable)
    scores = construct_scores(results, scale, usable).reindex(data.index)
    frame = pd.DataFrame({"response_id": data["response_id"].astype("str")}, index=data.index)
    customers = data["customer_id"] if "customer_id" in data.columns else pd.Series(None, index=data.index, dtype="str")
    frame["customer_id"] = customers.astype("str").where(customers.notna())
    for name in results.specification.constructs:
        column = snake(name)
        frame[column] = scores[column] if column in scores.columns else np.nan
    if behaviour is not None:
        behaviour = behaviour.reindex(data.index)
        frame, scores = frame.join(behaviour), scores.join(behaviour)
    frame["loyalty_index"] = loyalty_index(scores, composition)
    for values in (nps_group, delivered_value, referral_value):
        if values is not None:
            frame[values.name] = values
    return frame.reset_index(drop=True)
