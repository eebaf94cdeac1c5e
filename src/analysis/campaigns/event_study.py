"""Campaigns without a control group, week by week: difference-in-differences in ratios, with its pre-trend tests.

Spend is compared in ratios, because a customer who buys three times as much also grows and falls by three times as much
money. Customers whom another campaign reached around the same time leave both groups, so that nobody is compared with
customers who are under a campaign themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.campaigns import bounds, effects
from analysis.campaigns.effects import EffectResults, EstimationError, Propensity
from analysis.campaigns.outcomes import COMPARISON_ARMS, spend_by_period

Array = NDArray[np.float64]
WEEK = 7
FEWEST = 5
"""Targeted customers that one campaign must have to enter a stack; all of them together need more."""
DRAWS = 20_000
"""Normal draws behind a simultaneous band; its critical value is then right to about a hundredth."""


@dataclass(frozen=True)
class EventSettings:
    """How an event study is made.

    Attributes
    ----------
    pre_weeks, post_weeks : weeks shown before and after the start. anticipation_weeks : weeks just before the start that
    are shown but not compared with, because those who chose the targeted looked at them. adjust : weight the comparison
    by its odds of being targeted, given spend before the start. min_targeted : fewer targeted customers in all campaigns
    together give no effect. highest_propensity, confidence : as in ``Settings``.
    """

    pre_weeks: int = 16
    post_weeks: int = 8
    anticipation_weeks: int = 0
    adjust: bool = False
    min_targeted: int = 30
    highest_propensity: float = 0.9
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.pre_weeks - self.anticipation_weeks < 1 or self.post_weeks < 1 or self.anticipation_weeks < 0:
            raise ValueError("an event study needs a week after the start and one before it that is compared with")


@dataclass(frozen=True)
class Stack:
    """One campaign's customers by period around its start.

    Attributes
    ----------
    outcome : shape (n, k), one column a period. treated : shape (n,), bool. customers : shape (n,).
    periods : shape (k,), number of the period, 0 for the one that begins at the start. days : length of a period.
    during : how many periods from 0 on the campaign ran. propensity : the logit whose odds weight the comparison.
    """

    campaign_id: str
    outcome: Array = field(repr=False)
    treated: NDArray[np.bool_] = field(repr=False)
    customers: NDArray[np.object_] = field(repr=False)
    periods: NDArray[np.int64]
    during: int
    days: int = WEEK
    propensity: Propensity | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.outcome.shape != (len(self.treated), len(self.periods)) or len(self.customers) != len(self.treated):
            raise ValueError("outcome must have a row a customer and a column a period")
        if not np.isfinite(self.outcome).all():
            raise ValueError("outcome holds missing values; a customer who bought nothing spent 0")
        if self.treated.sum() < 2:
            raise EstimationError("no_treated", "fewer than two treated customers; an effect needs two in each group")
        if (~self.treated).sum() < 2:
            raise EstimationError("no_comparison", "fewer than two customers to compare with; keep a comparison group")

    @property
    def weights(self) -> Array:
        """Shape (n,): 1, or for the comparison the odds of being targeted."""
        if self.propensity is None:
            return np.ones(len(self.treated))
        return np.where(self.treated, 1.0, self.propensity.odds)

    def in_longer_periods(self, periods: int) -> Stack:
        """The same customers with ``periods`` periods in one, counted from the start in both directions."""
        block = np.floor_divide(self.periods, periods)
        whole = [b for b in np.unique(block) if (block == b).sum() == periods]
        merged = np.column_stack([self.outcome[:, block == b].sum(axis=1) for b in whole])
        during = int(np.ceil(self.during / periods))
        return replace(self, outcome=merged, periods=np.array(whole), during=during, days=self.days * periods)

    def before_start(self, shift: int, highest_propensity: float = 0.9) -> Stack:
        """The periods before the start alone, as if the campaign had begun ``shift`` periods earlier.

        Where odds weight the comparison, they are estimated anew from what came before the earlier date.
        """
        during = min(self.during, shift)
        moved = self.periods + shift
        keep = moved < shift  # as many for a short campaign as for a long one, so that they can be stacked
        earlier = replace(self, outcome=self.outcome[:, keep], periods=moved[keep], during=during, propensity=None)
        return earlier if self.propensity is None else earlier.weighted(highest_propensity)

    def history(self) -> pd.DataFrame:
        """What each customer spent before the start, as covariates: one row a customer.

        Spend of up to four blocks of 28 days and of all earlier ones, logarithms of the total and the latest, and in
        how many periods anything was bought.
        """
        size = max(1, 28 // self.days)
        before = self.outcome[:, self.periods < 0]
        blocks = -(-before.shape[1] // size)
        cuts = [before[:, max(0, before.shape[1] - (k + 1) * size) : before.shape[1] - k * size] for k in range(blocks)]
        sums = [block.sum(axis=1) for block in cuts]
        found = {f"spend_{k}": spend for k, spend in enumerate(sums[:4], 1)}
        if blocks > 4:
            found["spend_earlier"] = np.sum(sums[4:], axis=0)
        found["log_spend"] = np.log1p(np.maximum(before.sum(axis=1), 0))
        found["log_latest_spend"] = np.log1p(np.maximum(sums[0], 0))
        found["periods_bought"] = (before > 0).sum(axis=1)
        found["latest_periods_bought"] = (cuts[0] > 0).sum(axis=1)
        return pd.DataFrame(found).astype(float)

    def weighted(self, highest_propensity: float = 0.9) -> Stack:
        """Those with somebody comparable, the comparison weighted by its odds of being targeted given its history.

        Raises
        ------
        EstimationError : ``separation`` (history tells exactly who was targeted), ``no_treated``, ``no_comparison``.

        Source: Abadie (2005), Review of Economic Studies 72:1.
        """
        x = self.history()
        keep = effects.overlap_region(self.treated, x, highest_propensity)
        kept = replace(self, outcome=self.outcome[keep], treated=self.treated[keep], customers=self.customers[keep])
        return replace(kept, propensity=effects.fit_propensity(kept.treated, x[keep]))


@dataclass(frozen=True)
class EventStudyResults:
    """Effect by period relative to the start, in logarithms of ratios.

    Attributes
    ----------
    periods : shape (k,). days : length of a period. log_ratio : shape (k,), log of the targeted's outcome over what it
    would have been had it moved like the comparison's. covariance : shape (k, k), clustered by customer.
    effect : money a targeted customer while the campaign ran. log_effect, log_se : the same as a log ratio.
    after : money a targeted customer in the periods after the campaign, or None. treated, compared : customers.
    campaigns : how many. buyers : targeted customers with an outcome in the periods before.
    """

    periods: NDArray[np.int64]
    days: int
    log_ratio: Array
    covariance: Array = field(repr=False)
    effect: EffectResults
    log_effect: float
    log_se: float
    after: EffectResults | None
    treated: int
    compared: int
    campaigns: int
    buyers: int
    during: int

    @property
    def se(self) -> Array:
        """Shape (k,): standard errors of ``log_ratio``."""
        return np.sqrt(np.diag(self.covariance))

    def relative(self, confidence: float = 0.95) -> tuple[float, float, float]:
        """The effect while the campaign ran as a share of what would have been: estimate, low, high."""
        reach = stats.norm.ppf(0.5 + confidence / 2) * self.log_se
        low, high = np.expm1([self.log_effect - reach, self.log_effect + reach])
        return float(np.expm1(self.log_effect)), float(low), float(high)

    @cached_property
    def _draws(self) -> Array:
        scale = np.where(self.se > 0, self.se, 1.0)
        values, vectors = np.linalg.eigh(self.covariance / np.outer(scale, scale))
        normal = np.random.default_rng(1).standard_normal((DRAWS, len(values)))
        return np.abs(normal @ (vectors * np.sqrt(np.clip(values, 0, None))).T).max(axis=1)

    def critical(self, confidence: float = 0.95) -> float:
        """How many standard errors a band needs to hold all periods at once (sup-t).

        Source: Montiel Olea & Plagborg-Møller (2019), J. Applied Econometrics 34:1, algorithm 1.
        """
        return float(np.quantile(self._draws, confidence))

    def table(self, confidence: float = 0.95) -> pd.DataFrame:
        """One row a period: period, weeks (from the start to its middle), estimate, low, high (of this period alone),
        band_low, band_high (of all periods at once); changes as shares of what would have been."""
        alone, together = stats.norm.ppf(0.5 + confidence / 2) * self.se, self.critical(confidence) * self.se
        reached = {
            "estimate": 0 * self.se,
            "low": -alone,
            "high": alone,
            "band_low": -together,
            "band_high": together,
        }
        middle = (self.periods + 0.5) * self.days / WEEK
        return pd.DataFrame(
            {"period": self.periods, "weeks": middle}
            | {name: np.expm1(self.log_ratio + reach) for name, reach in reached.items()}
        )

    def pre_trend(self) -> tuple[float, int, float]:
        """Joint test that both groups moved alike before the start: statistic F, its degrees of freedom, p value.

        Hotelling's T² on the differences of successive periods before the start, with the targeted who bought as the
        number of observations; nan with fewer than two such periods or no more buyers than differences. Weeks of
        anticipation count too: groups that part before the start may stay apart without any campaign.
        """
        before = np.flatnonzero(self.periods < 0)
        tested = len(before) - 1
        if tested < 1 or self.buyers <= tested:
            return np.nan, max(tested, 0), np.nan
        contrast = np.diff(np.eye(len(self.periods))[before], axis=0)
        moves, spread = contrast @ self.log_ratio, contrast @ self.covariance @ contrast.T
        wald = float(moves @ np.linalg.pinv(spread, hermitian=True) @ moves)
        statistic = wald * (self.buyers - tested) / (tested * (self.buyers - 1))
        return statistic, tested, float(stats.f.sf(statistic, tested, self.buyers - tested))


def _expected(stack: Stack, reference: NDArray[np.bool_], columns: Array) -> tuple[Array, Array, Array, Array]:
    """Outcome of the targeted, what it would have been, and each customer's part of the error of both.

    ``columns`` (k, j) adds periods up; the two arrays of parts are (n, j).
    """
    y, base = stack.outcome @ columns, stack.outcome[:, reference].sum(axis=1)
    d, w = stack.treated, stack.weights
    seen, seen_base = y[d].sum(axis=0), float(base[d].sum())
    other, other_base = w[~d] @ y[~d], float(w[~d] @ base[~d])
    if seen_base <= 0 or other_base <= 0 or (seen <= 0).any() or (other <= 0).any():
        raise EstimationError("no_sales", "a group bought nothing in some period; choose longer periods")
    growth = other / other_base
    would = seen_base * growth
    other_parts = (w * ~d)[:, None] * (y / other - base[:, None] / other_base)
    if stack.propensity is not None:
        # The odds are estimated: what a customer moved the logit by moves every weight.
        model = stack.propensity
        slope = model.inverse_information @ (model.design.T @ other_parts)
        other_parts = other_parts + (model.design * (d - model.scores)[:, None]) @ slope
    parts_would = d[:, None] * base[:, None] * growth + would * other_parts
    return seen, would, d[:, None] * y, parts_would


def event_study(stacks: Sequence[Stack], anticipation: int = 0) -> EventStudyResults:
    """Difference-in-differences in ratios over one campaign or several stacked ones.

    Parameters
    ----------
    stacks : campaigns with the same periods. anticipation : periods just before the start that are left out of what
    everything is compared with, the sum of all earlier periods.

    Returns
    -------
    Ratios by period and the money that they stand for. With one campaign the ratios equal Poisson pseudo-maximum
    likelihood with an effect a customer and a group × period, and the standard errors its sandwich clustered by
    customer; campaigns add up as observed over expected outcome of all their targeted.

    Raises
    ------
    EstimationError : ``no_sales`` (a group bought nothing in a period), ``no_history`` (no period to compare with).

    Source: Wooldridge (2023), Econometrics Journal 26:C31; not-yet-treated comparisons and anticipation, Callaway &
    Sant'Anna (2021), J. Econometrics 225:200; stacking, Cengiz, Dube, Lindner & Zipperer (2019), QJE 134:1405.
    """
    if not stacks:
        raise EstimationError("no_campaign", "no campaign has an event study to make")
    periods, days = stacks[0].periods, stacks[0].days
    if any(not np.array_equal(s.periods, periods) or s.days != days for s in stacks):
        raise ValueError("stacked campaigns must have the same periods")
    reference = periods < -anticipation
    if not reference.any():
        raise EstimationError("no_history", "no period before the start is left to compare with")
    found = []
    for stack in stacks:
        during = (periods >= 0) & (periods < stack.during)
        found.append(_expected(stack, reference, np.column_stack([np.eye(len(periods)), during])))
    seen, would = (np.sum([f[i] for f in found], axis=0) for i in (0, 1))
    codes, households = pd.factorize(np.concatenate([s.customers for s in stacks]), sort=True)
    parts = np.concatenate([f[2] / seen - f[3] / would for f in found])
    psi = _by_household(parts, codes, len(households))
    inside = psi[:, :-1]
    treated = int(sum(s.treated.sum() for s in stacks))
    compared = int(sum((~s.treated).sum() for s in stacks))
    money = [_money(s, f, -1, treated) for s, f in zip(stacks, found, strict=True)]
    return EventStudyResults(
        periods,
        days,
        np.log(seen / would)[:-1],
        inside.T @ inside,
        _in_money(money, float((seen - would)[-1]), float(would[-1]), codes, households, treated, compared),
        float(np.log(seen[-1] / would[-1])),
        float(np.sqrt(psi[:, -1] @ psi[:, -1])),
        _after(stacks, reference, codes, households, treated, compared),
        treated,
        compared,
        len({s.campaign_id for s in stacks}),
        int(sum((s.outcome[s.treated][:, periods < 0].sum(axis=1) > 0).sum() for s in stacks)),
        max(s.during for s in stacks),
    )


def _after(
    stacks: Sequence[Stack],
    reference: NDArray[np.bool_],
    codes: NDArray[np.int64],
    households: NDArray,
    treated: int,
    compared: int,
) -> EffectResults | None:
    late = [(s.periods >= s.during)[:, None].astype(float) for s in stacks]
    if not all(columns.any() for columns in late):
        return None
    found = [_expected(s, reference, columns) for s, columns in zip(stacks, late, strict=True)]
    money = [_money(s, f, 0, treated) for s, f in zip(stacks, found, strict=True)]
    seen, would = (float(sum(f[i][0] for f in found)) for i in (0, 1))
    return _in_money(money, seen - would, would, codes, households, treated, compared)


def _money(stack: Stack, found: tuple[Array, Array, Array, Array], column: int, treated: int) -> Array:
    """Each customer's part of the error of the effect in money, around the mean of the campaign's targeted."""
    seen, would, parts_seen, parts_would = found
    mean = (seen[column] - would[column]) / stack.treated.sum()
    return (parts_seen[:, column] - parts_would[:, column] - mean * stack.treated) / treated


def _by_household(parts: Array, codes: NDArray[np.int64], households: int) -> Array:
    summed = np.zeros((households, parts.shape[1]))
    np.add.at(summed, codes, parts)
    return summed * np.sqrt(households / (households - 1))


def _in_money(
    parts: Sequence[Array],
    gained: float,
    would: float,
    codes: NDArray[np.int64],
    households: NDArray,
    treated: int,
    compared: int,
) -> EffectResults:
    psi = _by_household(np.concatenate(parts)[:, None], codes, len(households))[:, 0]
    return EffectResults(
        "did_ratio",
        gained / treated,
        float(np.sqrt(psi @ psi)),
        treated,
        compared,
        psi,
        baseline=would / treated,
        clusters=np.asarray(households, dtype=object),
    )


def placebo_dates(
    stacks: Sequence[Stack], anticipation: int = 0, settings: EventSettings | None = None
) -> pd.DataFrame:
    """The effect "found" at dates before the start, where there can be none.

    Each date lies whole campaign lengths before the start (and before the ``anticipation`` periods, in which those who
    chose the targeted looked at them), leaves as many periods to compare with, and uses nothing that came later.

    Returns
    -------
    One row a date, the latest first: weeks_before, estimate, low, high (shares), p_value. Empty without room for one.
    """
    settings = settings or EventSettings()
    first, step = -int(stacks[0].periods.min()), max(s.during for s in stacks)
    rows = []
    for shift in range(step + anticipation, first - step + 1, step):
        try:
            found = event_study([s.before_start(shift, settings.highest_propensity) for s in stacks])
        except EstimationError:
            continue
        p_value = 2 * stats.norm.sf(abs(found.log_effect) / found.log_se) if found.log_se > 0 else np.nan
        rows.append((shift * found.days / WEEK, *found.relative(settings.confidence), float(p_value)))
    return pd.DataFrame(rows, columns=["weeks_before", "estimate", "low", "high", "p_value"])


def side_by_side(stacks: Sequence[Stack], settings: EventSettings | None = None, anticipation: int = 0) -> pd.DataFrame:
    """One effect by every method, on the same customers and weeks, from the most naive to the most careful.

    Parameters
    ----------
    stacks : campaigns without weights; those whom the logit finds nobody comparable to leave the last two rows only.

    Returns
    -------
    One row a method: ``naive`` (targeted less not targeted), ``did`` (in money), ``did_ratio``, ``did_weighted`` (ratio,
    the comparison weighted to the same history), ``doubly_robust`` (no difference over time, same history); estimate,
    low, high (money a targeted customer while the campaign ran), relative (of what would have been), customers. A
    method that cannot be used is left out.
    """
    settings = settings or EventSettings()
    methods = {
        "naive": lambda: _pooled(stacks, _naive),
        "did": lambda: _pooled(stacks, _linear),
        "did_ratio": lambda: event_study(stacks, anticipation).effect,
        "did_weighted": lambda: event_study([s.weighted(settings.highest_propensity) for s in stacks]).effect,
        "doubly_robust": lambda: _pooled([s.weighted(settings.highest_propensity) for s in stacks], _doubly_robust),
    }
    rows = []
    for name, estimate in methods.items():
        try:
            found = estimate()
        except EstimationError:
            continue
        limits = found.interval(settings.confidence)
        rows.append((name, found.effect, *limits, found.relative(), found.n_treated))
    return pd.DataFrame(rows, columns=["method", "estimate", "low", "high", "relative", "customers"])


def _pooled(stacks: Sequence[Stack], estimate: Callable[[Stack, Array], EffectResults]) -> EffectResults:
    found = [estimate(s, s.outcome[:, (s.periods >= 0) & (s.periods < s.during)].sum(axis=1)) for s in stacks]
    return effects.pool(found, [s.customers for s in stacks])


def _naive(stack: Stack, after: Array) -> EffectResults:
    return effects.DifferenceInMeans(after, stack.treated).fit()


def _linear(stack: Stack, after: Array) -> EffectResults:
    before = stack.outcome[:, stack.periods < 0].mean(axis=1) * stack.during
    return effects.DifferenceInDifferences(after, before, stack.treated).fit()


def _doubly_robust(stack: Stack, after: Array) -> EffectResults:
    return effects.DoublyRobustATT(after, stack.treated, stack.history()).fit()


def matched_bounds(stacks: Sequence[Stack], settings: EventSettings | None = None) -> bounds.RosenbaumBounds:
    """Rosenbaum bounds of spend while the campaigns ran, in pairs alike in what they spent before.

    Raises
    ------
    EstimationError : ``no_pairs``, or as :meth:`Stack.weighted`.
    """
    settings = settings or EventSettings()
    seen, others = [], []
    for stack in stacks:
        kept = stack if stack.propensity is not None else stack.weighted(settings.highest_propensity)
        pairs = bounds.matched_pairs(kept.treated, kept.propensity.scores)
        spend = kept.outcome[:, (kept.periods >= 0) & (kept.periods < kept.during)].sum(axis=1)
        seen.append(spend[pairs[:, 0]])
        others.append(spend[pairs[:, 1]])
    return bounds.rosenbaum_bounds(np.concatenate(seen), np.concatenate(others), (1 - settings.confidence) / 2)


def trend_bounds(stacks: Sequence[Stack], settings: EventSettings | None = None) -> bounds.TrendBounds:
    """The effect if the groups part after the start by multiples of what they did before it, in periods of 28 days.

    Raises
    ------
    EstimationError : ``no_history`` with fewer than two such periods before the start, ``no_sales``.
    """
    settings = settings or EventSettings()
    longer = [s.in_longer_periods(max(1, 28 // s.days)) for s in stacks]
    found = event_study(longer)
    shape = (found.log_ratio, found.covariance, found.periods, found.during)
    return bounds.relative_magnitudes(*shape, confidence=settings.confidence)


def bought_before(stacks: Sequence[Stack]) -> float:
    """How many times as much the targeted spent before the start as the comparison, a customer; nan without spend."""
    before = [s.outcome[:, s.periods < 0].sum(axis=1) for s in stacks]
    targeted = sum(y[s.treated].sum() for s, y in zip(stacks, before, strict=True))
    # Each campaign's comparison counts as often as its targeted, as it does in the effect.
    others = sum(y[~s.treated].mean() * s.treated.sum() for s, y in zip(stacks, before, strict=True))
    return float(targeted / others) if others > 0 else np.nan


def reached_nearby(contacts: ibis.Table, spans: pd.DataFrame, campaign_id: str, opening: date, closing: date) -> set:
    """Customers whom another campaign reached that ran at any time from ``opening`` to before ``closing``."""
    near = spans[(spans["campaign_id"] != campaign_id) & (spans["starts_on"] < closing) & (spans["ends_on"] >= opening)]
    if near.empty:
        return set()
    chosen = contacts.campaign_id.isin(near["campaign_id"].tolist()) & contacts.arm.notin(COMPARISON_ARMS)
    found = contacts.filter(chosen & contacts.customer_id.notnull()).select("customer_id").distinct()
    return set(found.to_pandas()["customer_id"])


def campaign_stack(
    lines: ibis.Table,
    contacts: ibis.Table,
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    campaign_id: str,
    *,
    observed_from: date,
    observed_to: date,
    settings: EventSettings,
) -> Stack:
    """One campaign's customers by week around its start, all arms together, against those not reached.

    Parameters
    ----------
    panel : from :func:`outcomes.campaign_panel`. spans : from :func:`outcomes.windows`. The rest as there.

    Raises
    ------
    EstimationError : ``no_history``, ``window_not_over``, ``too_few`` or ``no_comparison`` (after leaving out those whom
    another campaign reached in the weeks shown), or with ``adjust`` as :meth:`Stack.weighted`.
    """
    span = spans[spans["campaign_id"] == campaign_id].iloc[0]
    opening = span["starts_on"] - timedelta(weeks=settings.pre_weeks)
    closing = span["starts_on"] + timedelta(weeks=settings.post_weeks)
    if opening < observed_from:
        raise EstimationError("no_history", "the data begin too late; choose fewer weeks before the start")
    if closing > observed_to + timedelta(days=1):
        raise EstimationError("window_not_over", "the data end too early; choose fewer weeks after the start")
    near = reached_nearby(contacts, spans, campaign_id, opening, closing)
    rows = panel[(panel["campaign_id"] == campaign_id) & ~panel["customer_id"].isin(near)].reset_index(drop=True)
    d = rows["treated"].to_numpy().astype(bool)
    _enough(d)
    spend = spend_by_period(lines, span["starts_on"], settings.pre_weeks, settings.post_weeks)
    outcome = np.zeros((len(rows), settings.pre_weeks + settings.post_weeks))
    at = pd.Index(rows["customer_id"]).get_indexer(spend["customer_id"])
    known = at >= 0
    outcome[at[known], spend["period"].to_numpy(int)[known] + settings.pre_weeks] = spend["spend"].to_numpy()[known]
    during = min(settings.post_weeks, int(np.ceil(span["days"] / WEEK)))
    periods = np.arange(-settings.pre_weeks, settings.post_weeks)
    stack = Stack(campaign_id, outcome, d, rows["customer_id"].to_numpy(object), periods, during)
    return stack.weighted(settings.highest_propensity) if settings.adjust else stack


def _enough(treated: NDArray[np.bool_]) -> None:
    if treated.sum() < FEWEST:
        raise EstimationError("too_few", "too few targeted customers whom no other campaign reached at the same time")
    if (~treated).sum() < FEWEST:
        raise EstimationError("no_comparison", "too few customers whom no campaign reached at the same time")


def unpromoted_lines(
    lines: ibis.Table, products: ibis.Table, offers: ibis.Table, campaigns: Sequence[str]
) -> ibis.Table | None:
    """Order lines of products in no category that an offer of these campaigns names, at whatever level.

    None where the offers name no category, or one of them is good for everything: then all was promoted.
    """
    named = (
        offers.filter(offers.campaign_id.isin(list(campaigns))).select("category").distinct().to_pandas()["category"]
    )
    levels = [c for c, kind in products.schema().items() if kind.is_string() and c not in ("product_id", "name")]
    if named.empty or named.isna().any() or not levels:
        return None
    promoted = ibis.or_(*(products[level].isin(named.tolist()).fill_null(False) for level in levels))
    return lines.semi_join(products.filter(~promoted), "product_id")


@dataclass(frozen=True)
class EventStudyReport:
    """An event study with its tests.

    Attributes
    ----------
    results : by period. dates : from :func:`placebo_dates`. stacks : one a campaign, in ``results``' periods.
    outcome : the same for what no campaign promoted, or None. left_out : reason by campaign that could not be used.
    settings : how it was made.
    """

    results: EventStudyResults
    dates: pd.DataFrame
    stacks: tuple[Stack, ...] = field(repr=False)
    outcome: EventStudyResults | None
    left_out: dict[str, str]
    settings: EventSettings

    def facts(self) -> dict[str, object]:
        """What sentences need: sizes, effect in money and as a share, after-effect, pre-trend, placebos, verdict.

        ``verdict`` is ``pre_trend`` (the groups moved apart before the start), ``placebo`` (an effect where there can
        be none), ``no_pre_trend`` (it cannot be tested), ``cannot_tell`` (the interval holds zero), ``raised`` or
        ``lowered``.
        """
        found, confidence = self.results, self.settings.confidence
        value, low, high = found.relative(confidence)
        money_low, money_high = found.effect.interval(confidence)
        _, tested, p_value = found.pre_trend()
        caught = self.dates["p_value"] < (1 - confidence) / max(len(self.dates), 1)
        facts = {
            "campaigns": found.campaigns,
            "targeted": found.treated,
            "compared": found.compared,
            "weeks": found.during * found.days // WEEK,
            "period_weeks": found.days // WEEK,
            "value": value,
            "low": low,
            "high": high,
            "money": found.effect.effect,
            "money_low": money_low,
            "money_high": money_high,
            "pre_trend_p": p_value,
            "pre_periods": tested + 1,
            "placebo_dates": len(self.dates),
            "placebo_found": int(caught.sum()),
            "confidence": confidence,
            "left_out": len(self.left_out),
            "adjusted": self.settings.adjust,
            "times": bought_before(self.stacks),
        }
        if found.after is not None:
            facts |= dict(
                zip(
                    ("after", "after_low", "after_high"),
                    (found.after.effect, *found.after.interval(confidence)),
                    strict=True,
                )
            )
        if self.outcome is not None:
            other = self.outcome.relative(confidence)
            facts |= dict(zip(("other", "other_low", "other_high"), other, strict=True))
        return facts | {"verdict": self._verdict(p_value, bool(caught.any()), low, high)}

    def _verdict(self, p_value: float, caught: bool, low: float, high: float) -> str:
        if not p_value >= 1 - self.settings.confidence:
            return "pre_trend" if p_value == p_value else "no_pre_trend"
        other = self.outcome.relative(self.settings.confidence) if self.outcome is not None else (0.0, 0.0, 0.0)
        if caught or not other[1] <= 0 <= other[2]:
            return "placebo"
        return "cannot_tell" if low <= 0 <= high else "raised" if low > 0 else "lowered"


def run_event_study(
    lines: ibis.Table,
    contacts: ibis.Table,
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    observed_from: date,
    observed_to: date,
    settings: EventSettings | None = None,
    unpromoted: ibis.Table | None = None,
) -> tuple[EventStudyReport | None, str | None]:
    """Event study of all observational campaigns that allow one, in the shortest periods in which every group bought.

    Parameters
    ----------
    lines, contacts : canonical tables. panel : from :func:`outcomes.campaign_panel`. spans : from
    :func:`outcomes.windows`. observed_from, observed_to : first and last day that the data cover.
    unpromoted : order lines of what no campaign promoted, on which an effect would be false.

    Returns
    -------
    The report and None, or None and the reason: ``no_observational``, or the most frequent one of the campaigns.
    """
    settings = settings or EventSettings()
    observational = spans[(spans["design"] != "randomised") & spans["reason"].isna()]
    if observational.empty or panel.empty:
        return None, "no_observational"
    stacks, left_out = [], {}
    for campaign_id in observational["campaign_id"]:
        try:
            window = {"observed_from": observed_from, "observed_to": observed_to, "settings": settings}
            stacks.append(campaign_stack(lines, contacts, panel, spans, campaign_id, **window))
        except EstimationError as error:
            left_out[campaign_id] = error.code
    if not stacks:
        return None, pd.Series(left_out).mode()[0]
    if sum(s.treated.sum() for s in stacks) < settings.min_targeted:
        return None, "too_few"
    for weeks in (1, 2, 4):
        longer = [s.in_longer_periods(weeks) for s in stacks]
        anticipation = int(np.ceil(settings.anticipation_weeks / weeks))
        try:
            results = event_study(longer, anticipation)
        except EstimationError as error:
            reason = error.code
            continue
        dates = placebo_dates(longer, anticipation, settings)
        other = None if unpromoted is None else _swapped(unpromoted, longer, spans, anticipation)
        return EventStudyReport(results, dates, tuple(longer), other, left_out, settings), None
    return None, reason


def _swapped(
    lines: ibis.Table, stacks: Sequence[Stack], spans: pd.DataFrame, anticipation: int
) -> EventStudyResults | None:
    """The same customers and dates with the spend of other order lines, in longer periods where they are rare."""
    starts = spans.set_index("campaign_id")["starts_on"]
    swapped = []
    for stack in stacks:
        before, after = -int(stack.periods.min()), int(stack.periods.max()) + 1
        spend = spend_by_period(lines, starts[stack.campaign_id], before, after, stack.days)
        outcome = np.zeros_like(stack.outcome)
        at = pd.Index(stack.customers).get_indexer(spend["customer_id"])
        outcome[at[at >= 0], spend["period"].to_numpy(int)[at >= 0] + before] = spend["spend"].to_numpy()[at >= 0]
        swapped.append(replace(stack, outcome=outcome))
    for times in (1, 2, 4):
        try:
            return event_study([s.in_longer_periods(times) for s in swapped], int(np.ceil(anticipation / times)))
        except EstimationError:
            continue
    return None
