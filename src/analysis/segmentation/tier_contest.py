"""Which tiers foresaw the next period better: those by R×F×M or those by expected value?

Both are made from what was known on a day some weeks before the end, exactly as the notebooks make them today: scores and
their product for the one; models fitted on that past, and the forecast chosen by a holdout inside it, for the other. Nothing of
the weeks after that day takes part. Then margin in those weeks is counted.

The measure is the share of that margin that the best fifth of customers brought: always exactly a fifth, customers whom a
ranking cannot tell apart counted as in a random order, so that a tie-ridden score is neither helped nor harmed by where its
cuts fall. Its standard error is linearised: customers are taken as a sample of such customers, cuts move with the sample,
and the difference between the two rankings is paired, since it is over the same customers. A few large buyers carry much of the
variance, so t is taken at the degrees of freedom that the kurtosis of the influences leaves (Satterthwaite's matching of
moments), shares are handled on the logit scale and means on the root scale; with fewer than 10 buyers on either side of a cut
there is no interval, because simulations show that none would hold. Sources: Beach, C. M. & Davidson, R.
(1983). Distribution-free statistical inference with Lorenz curves and income shares. Review of Economic Studies 50(4), 723–735;
for the concentration curve, where the ranking is by another variable than the amount: Davidson, R. & Duclos, J.-Y. (1997).
Statistical inference for the measurement of the incidence of taxes and transfers. Econometrica 65(6), 1453–1465.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import special, stats

from analysis.segmentation.findings import facts_of
from analysis.segmentation.tiers import assign_tiers
from analysis.segmentation.value_tiers import disputed, expected_tiers, ranking_value
from analysis.segmentation.words import Words
from analysis.valuation.concentration import Estimate
from analysis.valuation.contest import contest_splits
from analysis.valuation.facts import found_or_reason
from analysis.valuation.holdout import LAST_PERIOD, Holdout, evaluate_holdout, expected_spend, same_rate
from analysis.valuation.lifetime import choose_forecast, weekly_discount
from analysis.valuation.models import FittedModels, fit_models
from analysis.valuation.rfm import BEST_IS_LOW, MEASURES, rfm_edges
from analysis.valuation.summary import DAYS_PER_WEEK, MARGIN, MONEY, line_margin, to_frame

RFM, VALUE = "rfm", "value"
METHODS = {RFM: ("rfm_product", "value_tier"), VALUE: ("expected_value", "expected_tier")}
BEST_SHARE = 0.2
LEAST = 30  # customers behind an interval
BUYERS = 10  # of them who bought, on either side of a cut
_LEVEL = 0.95
TIER_TEST_COLUMNS = {
    "group": ("Group", "text"),
    "customers": ("Customers", "count"),
    "mean": ("Brought each", "money"),
    "low": ("From", "money"),
    "high": ("To", "money"),
}


@dataclass(frozen=True)
class Capture:
    """Share of an amount that the best-ranked customers bring.

    Attributes
    ----------
    share : of the amount, 0 to 1 (outside where amounts are negative).
    influence : shape (n,), the influence function at each customer: the standard error is the root of the sum of squares over n.
    buyers : customers with an amount other than zero on the thinner side of the cut.
    """

    share: float
    influence: np.ndarray
    buyers: int


def capture(ranked: ArrayLike, amount: ArrayLike, best: float = BEST_SHARE) -> Capture:
    """Share of an amount that the best-ranked ``best`` of the customers bring.

    Parameters
    ----------
    ranked : shape (n,), higher is better; equal values count as in a random order among themselves.
    amount : shape (n,), money.
    best : share of customers.

    Returns
    -------
    Capture

    Raises
    ------
    ValueError
        The amount adds up to nothing, or a rank is missing.
    """
    score, money = np.asarray(ranked, dtype=float), np.asarray(amount, dtype=float)
    if np.isnan(score).any():
        raise ValueError("tier contest: a customer has no rank; rank everybody or leave the customer out")
    if not money.sum() > 0:
        raise ValueError("tier contest: customers brought nothing in the tested period; choose a longer one")
    n = score.size
    order = np.argsort(-score, kind="stable")
    sorted_score, sorted_money = score[order], money[order]
    edge = min(max(int(np.ceil(best * n - 1e-9)) - 1, 0), n - 1)  # the customer at the cut
    first = int(np.searchsorted(-sorted_score, -sorted_score[edge], side="left"))
    last = int(np.searchsorted(-sorted_score, -sorted_score[edge], side="right"))
    within = np.zeros(n)
    within[:first] = 1.0
    within[first:last] = (best * n - first) / (last - first)
    share = float(within @ sorted_money / money.sum())
    # Moving the cut takes in, or drops, customers like those around it: its ties, or where they are few its neighbours too.
    reach = int(np.ceil(n ** (2 / 3) / 2))
    near = slice(first, last)
    if last - first < 2 * reach:
        near = slice(max(min(first, edge - reach), 0), max(last, edge + reach + 1))
    at_cut = float(sorted_money[near].mean())
    influence = np.empty(n)
    influence[order] = (within * sorted_money - share * sorted_money - (within - best) * at_cut) / money.mean()
    bought = sorted_money != 0
    return Capture(share, influence, int(min((bought & (within > 0)).sum(), (bought & (within < 1)).sum())))


def _too_thin(customers: int, buyers: int) -> str | None:
    if customers < LEAST:
        return f"fewer than {LEAST} customers"
    return f"fewer than {BUYERS} of them bought" if buyers < BUYERS else None


def _reach(*parts: np.ndarray) -> float:
    """Half the width of a 95 % interval of a sum of means, from the influences of each independent sample."""
    variance = sum((part**2).sum() / (part.size - 1) / part.size for part in parts)
    if variance <= 0:
        return 0.0
    spread = sum(((part**2 - (part**2).mean()) ** 2).mean() / part.size**3 for part in parts)
    freedom = 2 * variance**2 / spread if spread > 0 else np.inf
    return float(stats.t.ppf(0.5 + _LEVEL / 2, max(freedom, 1.0)) * np.sqrt(variance))


def _share_estimate(found: Capture) -> Estimate:
    reason = _too_thin(found.influence.size, found.buyers)
    if reason:
        return Estimate(found.share, reason=reason)
    reach = _reach(found.influence)
    if not 0 < found.share < 1:
        return Estimate(found.share, found.share - reach, found.share + reach)
    ends = special.logit(found.share) + np.array([-1, 1]) * reach / (found.share * (1 - found.share))
    return Estimate(found.share, *special.expit(ends).tolist())


def _paired(first: Capture, second: Capture) -> Estimate:
    value = first.share - second.share
    reason = _too_thin(first.influence.size, min(first.buyers, second.buyers))
    if reason:
        return Estimate(value, reason=reason)
    reach = _reach(first.influence - second.influence)
    return Estimate(value, value - reach, value + reach)


def mean_difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Mean of the first less mean of the second, two groups of customers, with a 95 % interval.

    Parameters
    ----------
    first, second : shapes (m,) and (k,), money a customer.

    Returns
    -------
    Estimate
        Without an interval where either has fewer than 30 customers, or fewer than 10 who bought; NaN where either is empty.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if min(a.size, b.size) == 0:
        return Estimate(float("nan"), reason="there is nobody on one side")
    value = float(a.mean() - b.mean())
    reason = _too_thin(min(a.size, b.size), min(np.count_nonzero(a), np.count_nonzero(b)))
    if reason:
        return Estimate(value, reason=reason)
    reach = _reach(a - a.mean(), b - b.mean())
    return Estimate(value, value - reach, value + reach)


def mean_amount(amount: ArrayLike) -> Estimate:
    """Mean money a customer of a group, with a 95 % interval; without one where too few bought, NaN where the group is empty."""
    money = np.asarray(amount, dtype=float)
    if money.size == 0:
        return Estimate(float("nan"), reason="there is nobody in the group")
    value = float(money.mean())
    reason = _too_thin(money.size, np.count_nonzero(money))
    if reason:
        return Estimate(value, reason=reason)
    reach = _reach(money - value)
    if money.min() < 0 or value <= 0:
        return Estimate(value, value - reach, value + reach)
    root = np.sqrt(value)
    return Estimate(value, float(max(root - reach / (2 * root), 0.0) ** 2), float((root + reach / (2 * root)) ** 2))


@dataclass(frozen=True)
class TierContest:
    """Which tiers foresaw the tested period better.

    Attributes
    ----------
    captures : DataFrame
        One row a method and part: `method` ("rfm", "value"), `part` ("best" or "last" fifth), `share` of the period's margin that
        it brought, `low`, `high` (NaN where too few bought).
    difference : dict of Estimate
        By part, value less R×F×M, paired. For "best" more is better, for "last" less.
    winner : str
        "rfm" or "value" where the interval of the best fifth's difference leaves out zero, else "tie", also where there is none.
    groups : DataFrame
        One row a group: `group` (`protect_both`, `rfm_protects`, `value_protects`, `rfm_lets_go`, `value_lets_go`,
        `let_go_both`), `customers`, `mean` (margin in the period a customer), `low`, `high` (NaN where there is none).
    disputes : dict of Estimate
        "protect": mean margin of those whom only value protects less that of those whom only R×F×M protects (above zero speaks for
        value); "let_go": mean margin of those whom only R×F×M lets go less that of those whom only value lets go (above zero speaks
        for value too).
    customers : int
    total : float
        Margin of the period, money.
    """

    captures: pd.DataFrame
    difference: dict[str, Estimate]
    winner: str
    groups: pd.DataFrame
    disputes: dict[str, Estimate]
    customers: int
    total: float


def compare_tiers(frame: pd.DataFrame, amount: ArrayLike) -> TierContest:
    """Hold two rankings and their tiers against what came.

    Parameters
    ----------
    frame : rfm_product, expected_value (higher is better), value_tier (by R×F×M), expected_tier; one row a customer.
    amount : shape (n,), margin of the tested period.

    Returns
    -------
    TierContest

    Raises
    ------
    ValueError
        The amount adds up to nothing, or a customer is not ranked.
    """
    money = np.asarray(amount, dtype=float)
    found = {
        (method, part): _part(frame[column], money, part) for method, (column, _) in METHODS.items() for part in _PARTS
    }
    rows = []
    for (method, part), one in found.items():
        rows.append({"method": method, "part": part, "share": one.share} | _ends(_share_estimate(one)))
    difference = {part: _paired(found[VALUE, part], found[RFM, part]) for part in _PARTS}
    best = difference["best"]
    winner = "tie"
    if best.low is not None and (best.low > 0 or best.high < 0):
        winner = VALUE if best.low > 0 else RFM
    members = _groups(frame)
    groups = [
        {"group": name, "customers": int(member.sum()), "mean": (mean := mean_amount(money[member])).value}
        | _ends(mean)
        for name, member in members.items()
    ]
    return TierContest(
        captures=pd.DataFrame(rows),
        difference=difference,
        winner=winner,
        groups=pd.DataFrame(groups),
        disputes={
            "protect": mean_difference(money[members["value_protects"]], money[members["rfm_protects"]]),
            "let_go": mean_difference(money[members["rfm_lets_go"]], money[members["value_lets_go"]]),
        },
        customers=len(frame),
        total=float(money.sum()),
    )


_PARTS = ("best", "last")


def _part(ranked: pd.Series, money: np.ndarray, part: str) -> Capture:
    score = ranked.to_numpy(dtype=float)
    return capture(score if part == "best" else -score, money)


def _ends(estimate: Estimate) -> dict[str, float]:
    return {end: np.nan if (value := getattr(estimate, end)) is None else value for end in ("low", "high")}


def _groups(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    both = {
        tier: (frame["value_tier"].eq(tier) & frame["expected_tier"].eq(tier)).to_numpy()
        for tier in ("protect", "let_go")
    }
    return {"protect_both": both["protect"], **disputed(frame), "let_go_both": both["let_go"]}


def period_margin(
    order_lines: ibis.Table, after: datetime.date, until: datetime.date, margin_rate: float | None = None
) -> pd.DataFrame:
    """What each customer brought in a period, returns taken off: one row a customer with a line in it.

    Parameters
    ----------
    order_lines : Ibis table of the canonical columns; `cost` is used where it is there.
    after, until : the period runs from the day after the one to the other, included.
    margin_rate : margin as a share of net sales, for lines whose cost is unknown.

    Returns
    -------
    Frame sorted by customer_id: sales, margin (NaN where a line of the customer has neither cost nor rate).
    """
    lines = order_lines.filter((order_lines.order_date > ibis.literal(after)) & (order_lines.order_date <= until))
    priced = lines.mutate(line_margin=line_margin(lines, margin_rate).cast(MARGIN))
    summed = priced.group_by(customer_id=priced.customer_id.cast("string")).aggregate(
        sales=priced.net_amount.cast(MONEY).sum(),
        margin=priced.line_margin.sum().cast(MARGIN),
        unknown=priced.line_margin.isnull().any(),
    )
    return to_frame(
        summed.select(
            "customer_id",
            sales=summed.sales.cast("float64"),
            margin=ibis.ifelse(summed.unknown, ibis.null("float64"), summed.margin.cast("float64")),
        )
    )


@dataclass(frozen=True)
class PastTiers:
    """Both tiers as they would have been made on an earlier day.

    Attributes
    ----------
    frame : DataFrame
        One row a customer known by then, sorted by `customer_id`: `customer_id`, `rfm_product`, `value_tier`, `expected_value`,
        `expected_tier`.
    made_on : date
        The last day that they know.
    forecast, forecast_kind : str
        Where expected value comes from: a model's or a plain rule's name; "model" or "heuristic".
    """

    frame: pd.DataFrame
    made_on: datetime.date
    forecast: str
    forecast_kind: str


def past_tiers(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    weeks: int,
    *,
    horizon_weeks: int,
    entry: str = "first_purchase",
    discount_rate: float | None = None,
    too_early_days: int = 90,
    bins: int = 5,
    seed: int = 1,
) -> PastTiers:
    """Make both tiers from what was known ``weeks`` before the end.

    Parameters
    ----------
    order_lines : Ibis table.
    observed_from, observed_to : the clock of the study.
    weeks : length of the period to be foreseen.
    horizon_weeks : over which value is expected, as in ``customer_value``.
    entry : the study's clock.
    discount_rate : a year.
    too_early_days : age on that day below which nobody is let go.
    bins : number of RFM scores.
    seed : of every random number.

    Raises
    ------
    ValueError
        The observed period is shorter than twice ``weeks``, nobody was known by that day, or nobody had come back.
    """
    made_on = observed_to - datetime.timedelta(weeks=weeks)
    if (made_on - observed_from).days + 1 < weeks * DAYS_PER_WEEK:
        raise ValueError(
            f"tier contest: {(observed_to - observed_from).days + 1} days do not hold {weeks} weeks to foresee and as many to "
            "learn from; shorten the holdout"
        )
    splits = contest_splits(order_lines, observed_from, observed_to, weeks, windows=1)
    known = splits.later.drop(columns=["holdout_frequency", "holdout_spend"])
    rehearsal = _rehearsal(splits.earlier, observed_from, made_on - datetime.timedelta(weeks=weeks), entry, seed)
    models = fit_models(known)
    forecast = choose_forecast(models, rehearsal, entry)
    window_days = (made_on - observed_from).days + 1
    expected = _expected_sales(known, models, forecast, weeks, horizon_weeks, window_days, entry, discount_rate)
    frame = known[["customer_id"]].assign(rfm_product=_product(known, bins))
    frame["value_tier"], _ = assign_tiers(frame["rfm_product"], known["T"], too_early_days)
    frame["expected_value"], _ = ranking_value(pd.DataFrame({"residual_value": expected}))
    frame["expected_tier"], _ = expected_tiers(frame["expected_value"], known["T"], too_early_days)
    return PastTiers(frame, made_on, forecast, "model" if forecast in models.purchases else "heuristic")


def _expected_sales(
    known: pd.DataFrame,
    models: FittedModels,
    forecast: str,
    weeks: int,
    horizon_weeks: int,
    window_days: int,
    entry: str,
    discount_rate: float | None,
) -> np.ndarray:
    """What :func:`analysis.valuation.customer_value` expects of each customer, up to a factor that all share, without limits."""
    frequency, age = known["frequency"].to_numpy(dtype=float), known["T"].to_numpy(dtype=float)
    if not frequency.any():
        raise ValueError("tier contest: nobody has come back by then, so there is no value to expect")
    if forecast in models.purchases:
        history = frequency, known["recency"].to_numpy(dtype=float) / DAYS_PER_WEEK, age / DAYS_PER_WEEK
        discount = weekly_discount(discount_rate)
        bought = models.purchases[forecast].expected_purchases(horizon_weeks, *history, discount=discount)
    elif forecast == LAST_PERIOD:
        column = "recent_frequency" if entry == "left_truncated" else "recent_repeats"
        bought = known[column].to_numpy(dtype=float) * horizon_weeks / weeks
    else:
        bought = same_rate(frequency, age, horizon_weeks * DAYS_PER_WEEK, entry, window_days)
    return bought * expected_spend(models, known)


def _rehearsal(
    earlier: pd.DataFrame | None, observed_from: datetime.date, cut: datetime.date, entry: str, seed: int
) -> Holdout | None:
    """The holdout one period earlier, by which the forecast is chosen without a look at the tested period."""
    if earlier is None:
        return None
    return evaluate_holdout(earlier, (cut - observed_from).days + 1, entry, seed, replications=2)


def _product(known: pd.DataFrame, bins: int) -> np.ndarray:
    edges = rfm_edges(known, bins)
    scores = [
        bins - group if name in BEST_IS_LOW else group + 1
        for name, column in MEASURES.items()
        for group in [edges[name].group(known[column])]
    ]
    return np.prod(scores, axis=0).astype(float)


@dataclass(frozen=True)
class TierTest:
    """The contest with what it was held on.

    Attributes
    ----------
    contest : TierContest
    past : PastTiers
    measure : str
        "margin", or "sales" where the margin of somebody's lines is not known.
    weeks : int
    """

    contest: TierContest
    past: PastTiers
    measure: str
    weeks: int


def tier_test(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    weeks: int,
    *,
    horizon_weeks: int,
    entry: str = "first_purchase",
    margin_rate: float | None = None,
    discount_rate: float | None = None,
    too_early_days: int = 90,
    bins: int = 5,
    seed: int = 1,
) -> TierTest:
    """Make both tiers as of ``weeks`` before the end, and hold them against the margin that came.

    Parameters
    ----------
    margin_rate : margin as a share of net sales, for lines whose cost is unknown. The others are those of :func:`past_tiers`.

    Raises
    ------
    ValueError
        As :func:`past_tiers`; and when the customers known by then brought nothing in the tested weeks.
    """
    past = past_tiers(
        order_lines,
        observed_from,
        observed_to,
        weeks,
        horizon_weeks=horizon_weeks,
        entry=entry,
        discount_rate=discount_rate,
        too_early_days=too_early_days,
        bins=bins,
        seed=seed,
    )
    came = period_margin(order_lines, past.made_on, observed_to, margin_rate).set_index("customer_id")
    theirs = came[came.index.isin(past.frame["customer_id"])]
    measure = "sales" if theirs["margin"].isna().any() else "margin"
    amount = theirs[measure].reindex(past.frame["customer_id"]).fillna(0.0).to_numpy(dtype=float)
    return TierTest(compare_tiers(past.frame, amount), past, measure, weeks)


def run_tier_test(*given: Any, **settings: Any) -> tuple[TierTest | None, str]:
    """:func:`tier_test`, or None and why it cannot be held."""
    return found_or_reason(lambda: tier_test(*given, **settings))


def tier_test_finding(found: TierTest, small_group: int, words: Words) -> dict[str, Any]:
    """By how much the best fifth by expected value brought more of the next period than the best fifth by R×F×M.

    Parameters
    ----------
    found : from :func:`tier_test`.
    small_group : with fewer customers nothing is told.
    words : for the reason.

    Returns
    -------
    value, low, high (a difference of shares), reason, and the facts winner ("rfm", "value" or "tie"; None without an
    interval), rfm_share, value_share (of the period's margin), kind, weeks.
    """
    contest = found.contest
    facts: dict[str, Any] = {"kind": found.measure, "weeks": found.weeks}
    if contest.customers < small_group:
        empty = dict.fromkeys(("winner", "rfm_share", "value_share"))
        return facts_of(None, None, None, words("reason_small", small_group=small_group), **facts, **empty)
    best = contest.difference["best"]
    shares = contest.captures[contest.captures["part"] == "best"].set_index("method")["share"]
    facts |= {
        "winner": None if best.low is None else contest.winner,
        "rfm_share": float(shares[RFM]),
        "value_share": float(shares[VALUE]),
    }
    return facts_of(best.value, best.low, best.high, words("reason_few_customers"), **facts)


def tier_test_facts(found: TierTest) -> dict[str, Any]:
    """What the note below the contest says.

    Returns
    -------
    made_on (date), total (customers), forecast, model (bool: is it a model?), kind, weeks, and last_difference with
    last_low, last_high (share brought by the last fifth, by value less by R×F×M; less is better).
    """
    last = found.contest.difference["last"]
    return {
        "made_on": found.past.made_on,
        "total": found.contest.customers,
        "forecast": found.past.forecast,
        "model": found.past.forecast_kind == "model",
        "kind": found.measure,
        "weeks": found.weeks,
        "last_difference": last.value,
        "last_low": last.low,
        "last_high": last.high,
    }


def dispute_finding(found: TierTest, tier: str, small_group: int, words: Words) -> dict[str, Any]:
    """Of the customers on whom the two disagree: who brought more in the next period?

    Parameters
    ----------
    found : from :func:`tier_test`.
    tier : ``protect`` (those whom only expected value protects less those whom only R×F×M does) or ``let_go`` (those whom only
        R×F×M lets go less those whom only expected value does); above zero speaks for expected value.
    small_group : with a smaller side nothing is told.
    words : for the reason.

    Returns
    -------
    value, low, high (money a customer in the period), reason, and the facts value_n, rfm_n, value_mean, rfm_mean, right ("rfm",
    "value" or "tie"; None without an interval), kind, weeks.
    """
    groups = found.contest.groups.set_index("group")
    verb = "protects" if tier == "protect" else "lets_go"
    value, rfm = groups.loc[f"value_{verb}"], groups.loc[f"rfm_{verb}"]
    facts: dict[str, Any] = {"kind": found.measure, "weeks": found.weeks}
    if min(value["customers"], rfm["customers"]) < small_group:
        none = dict.fromkeys(("value_n", "rfm_n", "value_mean", "rfm_mean", "right"))
        return facts_of(None, None, None, words("reason_dispute_small", small_group=small_group), **facts, **none)
    difference = found.contest.disputes[tier]
    right = None
    if difference.low is not None:
        right = VALUE if difference.low > 0 else RFM if difference.high < 0 else "tie"
    facts |= {
        "value_n": int(value["customers"]),
        "rfm_n": int(rfm["customers"]),
        "value_mean": float(value["mean"]),
        "rfm_mean": float(rfm["mean"]),
        "right": right,
    }
    return facts_of(difference.value, difference.low, difference.high, words("reason_few_disputed"), **facts)


def tier_test_table(found: TierTest, small_group: int, words: Words) -> pd.DataFrame:
    """What the groups brought in the tested weeks: ``group`` (words), ``customers``, ``mean``, ``low``, ``high``.

    Groups of fewer than ``small_group`` customers are left out.
    """
    shown = found.contest.groups[found.contest.groups["customers"] >= small_group]
    return shown.assign(group=words.names("dispute", shown["group"])).reset_index(drop=True)
