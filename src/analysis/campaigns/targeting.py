"""Whom the next campaign should reach with what, under a budget, and who is held out at random to learn whether it
worked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.campaigns.policy import NOBODY, PolicyComparison
from analysis.consent import ASKED

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Allocation:
    """Who gets which arm.

    Attributes
    ----------
    arm : shape (n,), the arm's number or ``NOBODY``; whole customers only.
    profit, cost : of these customers in all, money.
    optimum : profit of the linear programme, in which a last customer may be taken in part; no list of whole
    customers earns more.
    last : number of that customer, or None where the optimum is whole. last_share : the part of the step taken.
    last_arm : the arm that the step leads to. price : profit that one more unit of budget would bring.
    """

    arm: NDArray[np.int64] = field(repr=False)
    profit: float
    cost: float
    optimum: float
    last: int | None = None
    last_arm: int = NOBODY
    last_share: float = 0.0
    price: float = 0.0


@dataclass(frozen=True)
class _Steps:
    """Moves from nobody up each customer's hull, best ratio first; the same customer's in order."""

    customer: NDArray[np.int64]
    arm: NDArray[np.int64]
    before: NDArray[np.int64]
    profit: Array
    cost: Array
    ratio: Array


def _checked(profit: ArrayLike, cost: ArrayLike, allowed: ArrayLike | None) -> tuple[Array, Array]:
    p = np.asarray(profit, dtype=float)
    p = p[:, None] if p.ndim == 1 else p
    c = np.broadcast_to(np.asarray(cost, dtype=float), p.shape)
    if not np.isfinite(p).all() or not np.isfinite(c).all():
        raise ValueError("profit and cost must not hold missing or infinite values; leave those customers out")
    if (c < 0).any():
        raise ValueError("a cost must not be negative; put what an arm saves into its profit")
    if allowed is not None:
        p = np.where(np.asarray(allowed, dtype=bool).reshape(p.shape), p, -np.inf)
    return p, c


def _steps(p: Array, c: Array) -> _Steps:
    """Walk each customer's upper hull of profit against cost from (0, 0): always the arm with the steepest gain."""
    n = len(p)
    at_profit, at_cost = np.zeros(n), np.zeros(n)
    at_arm, steepest = np.full(n, NOBODY), np.full(n, np.inf)
    active = np.flatnonzero(p.max(axis=1, initial=-np.inf) > 0)
    found = []
    while len(active):
        gain = p[active] - at_profit[active, None]
        extra = c[active] - at_cost[active, None]
        able = (gain > 0) & (extra >= 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(able, np.where(extra > 0, gain / extra, np.inf), -np.inf)
        best = ratio.max(axis=1)
        # Of arms that are as steep, the furthest: fewer steps, the same hull.
        choice = np.where(ratio == best[:, None], gain, -np.inf).argmax(axis=1)
        going = best > 0
        active, choice, best = active[going], choice[going], best[going]
        rows = np.flatnonzero(going)
        # Rounding must not make a later step of the same customer steeper than an earlier one.
        steepest[active] = np.minimum(steepest[active], best)
        found.append((active, choice, at_arm[active], gain[rows, choice], extra[rows, choice], steepest[active]))
        at_profit[active], at_cost[active], at_arm[active] = p[active, choice], c[active, choice], choice
    if not found:
        whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
        return _Steps(whole, whole, whole, real, real, real)
    customer, arm, before, gain, extra, ratio = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(-ratio, kind="stable")
    return _Steps(customer[order], arm[order], before[order], gain[order], extra[order], ratio[order])


def _greedy(p: Array, c: Array, budget: float) -> Allocation:
    steps = _steps(p, c)
    spent = np.cumsum(steps.cost)
    # A budget that sums of the same costs reach exactly must not fail by a rounding error.
    taken = int(np.searchsorted(spent, budget + 1e-12 * max(1.0, budget), side="right"))
    arm = np.full(len(p), NOBODY)
    arm[steps.customer[:taken]] = steps.arm[:taken]
    profit = float(steps.profit[:taken].sum())
    cost = float(spent[taken - 1]) if taken else 0.0
    if taken == len(spent):
        return Allocation(arm, profit, cost, profit)
    share = max(0.0, min(1.0, (budget - cost) / steps.cost[taken]))
    price = float(steps.ratio[taken])
    last = (int(steps.customer[taken]), int(steps.arm[taken]), float(share)) if share > 1e-12 else (None, NOBODY, 0.0)
    return Allocation(arm, profit, cost, profit + share * float(steps.profit[taken]), *last, price)


def allocate(
    profit: ArrayLike,
    cost: ArrayLike,
    budget: float | None = None,
    allowed: ArrayLike | None = None,
    largest: int | None = None,
) -> Allocation:
    """The most profitable arm a customer that a budget allows: the linear programme's optimum in whole customers.

    Parameters
    ----------
    profit : shape (n, arms), expected incremental profit of each arm after its cost, money. cost : shape (n, arms) or
    (arms,), money, not negative. budget : money in all, or None. allowed : shape (n, arms), False where an arm may not
    be given. largest : customers at most, or None.

    Returns
    -------
    An allocation. Under a budget the steps up each customer's upper hull of profit against cost are taken in order of
    profit for each unit of cost, until one does not fit; that one the linear programme takes in part. Under a largest
    list as well, a price of a place on the list is found by bisection and the two solutions around it are mixed.

    Source: the linear multiple-choice knapsack, Sinha & Zoltners (1979), Operations Research 27:503; Kellerer, Pferschy
    & Pisinger (2004), Knapsack Problems, section 11.2.1.
    """
    p, c = _checked(profit, cost, allowed)
    limit = np.inf if budget is None else float(budget)
    if not limit >= 0 or (largest is not None and largest < 0):
        raise ValueError("the budget and the largest list must not be negative")
    free = _greedy(p, c, limit)
    places = free.arm != NOBODY
    if largest is None or places.sum() + _part_of_place(free, places) <= largest:
        return free
    low, high = 0.0, float(np.max(p[np.isfinite(p)], initial=0.0)) * (1 + 1e-9) + 1e-12
    looser, tighter = free, _greedy(p - high, c, limit)
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        found = _greedy(p - middle, c, limit)
        if (found.arm != NOBODY).sum() + _part_of_place(found, found.arm != NOBODY) > largest:
            low, looser = middle, found
        else:
            high, tighter = middle, found
    return _mixed(p, c, looser, tighter, limit, largest, high)


def _part_of_place(found: Allocation, listed: NDArray[np.bool_]) -> float:
    """The part of a place on the list that the last, partial step takes: none where it only changes the arm."""
    return 0.0 if found.last is None or listed[found.last] else found.last_share


def _mixed(
    p: Array, c: Array, looser: Allocation, tighter: Allocation, budget: float, largest: int, price: float
) -> Allocation:
    """Between a list that is too long and one that is short enough, at the same price of a place, the best that fits.

    The dual value at that price is the optimum; whole customers of the longer list fill the shorter one.
    """
    arm = tighter.arm.copy()
    extra_profit = _at(looser.arm, p) - _at(arm, p)
    extra_cost = _at(looser.arm, c) - _at(arm, c)
    extra_place = (looser.arm != NOBODY).astype(int) - (arm != NOBODY)
    cost, places = float(_at(arm, c).sum()), int((arm != NOBODY).sum())
    candidates = np.flatnonzero((looser.arm != arm) & (extra_profit > 0))
    for i in candidates[np.argsort(-extra_profit[candidates], kind="stable")]:
        if cost + extra_cost[i] <= budget and places + extra_place[i] <= largest:
            arm[i], cost, places = looser.arm[i], cost + extra_cost[i], places + extra_place[i]
    optimum = tighter.optimum + price * largest
    return Allocation(arm, float(_at(arm, p).sum()), cost, float(optimum), price=tighter.price)


def _at(arm: NDArray[np.int64], table: Array) -> Array:
    """The table's entry of each customer's arm, nothing for nobody."""
    entries = np.take_along_axis(table, np.maximum(arm, 0)[:, None], axis=1)[:, 0]
    return np.where(arm != NOBODY, entries, 0.0)


def profit_curve(
    profit: ArrayLike,
    cost: ArrayLike,
    gains: ArrayLike,
    allowed: ArrayLike | None = None,
    customers: int | None = None,
    points: int = 21,
    confidence: float = 0.95,
    seed: int = 1,
) -> pd.DataFrame:
    """Profit of the best list at each budget, as expected by the model and as the randomised campaign measures it.

    Parameters
    ----------
    profit, cost, allowed : as in :func:`allocate`, cross-fitted, of the n customers of a randomised campaign.
    gains : shape (n, arms), their doubly robust scores of profit (see ``policy``).
    customers : to how many customers the curve is scaled; n by default. points : budgets from nothing to all that pays.

    Returns
    -------
    One row a budget: budget, reached (customers), expected (by the model), profit, low, high (measured, interval at
    this budget alone), band_low, band_high (all budgets at once: the largest deviation of correlated normals, Montiel
    Olea & Plagborg-Møller 2019, J. Applied Econometrics 34:1).
    """
    p, c = _checked(profit, cost, allowed)
    scores = np.asarray(gains, dtype=float).reshape(p.shape)
    n = len(p)
    steps, scale = _steps(p, c), (customers or n) / n
    spent = np.cumsum(steps.cost)
    budgets = np.linspace(0, spent[-1] if len(spent) else 0.0, points)
    # What a step adds to its customer's score, put into the span of budgets in which it is taken, then summed along.
    column = np.searchsorted(budgets, spent - 1e-9 * max(1.0, budgets[-1]))
    padded = np.column_stack([scores, np.zeros(n)])
    change = padded[steps.customer, steps.arm] - padded[steps.customer, steps.before]
    worth = np.zeros((n, points))
    np.add.at(worth, (steps.customer, column), change)
    worth = np.cumsum(worth, axis=1)
    expected = np.cumsum(np.bincount(column, weights=steps.profit, minlength=points))
    reached = np.cumsum(np.bincount(column[steps.before == NOBODY], minlength=points))
    total = worth.mean(axis=0)
    spread = worth.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(points, np.nan)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    wide = max(z, _largest_deviation(worth, confidence, seed)) if n > 1 else np.nan
    size = scale * n
    return pd.DataFrame(
        {
            "budget": scale * budgets,
            "reached": scale * reached,
            "expected": scale * expected,
            "profit": size * total,
            "low": size * (total - z * spread),
            "high": size * (total + z * spread),
            "band_low": size * (total - wide * spread),
            "band_high": size * (total + wide * spread),
        }
    )


def _largest_deviation(worth: Array, confidence: float, seed: int, draws: int = 4000) -> float:
    varied = worth[:, worth.std(axis=0) > 0]
    if not varied.shape[1]:
        return 0.0
    values, vectors = np.linalg.eigh(np.corrcoef(varied, rowvar=False).reshape(varied.shape[1], -1))
    root = vectors * np.sqrt(np.maximum(values, 0))
    normal = np.random.default_rng(seed).standard_normal((draws, len(values))) @ root.T
    return float(np.quantile(np.abs(normal).max(axis=1), confidence))


def reachable(
    customers: pd.DataFrame,
    channels: Sequence[str],
    recent_contacts: ArrayLike | None = None,
    contact_cap: int | None = None,
    held_out: ArrayLike | None = None,
    unlike_tested: ArrayLike | None = None,
) -> tuple[NDArray[np.bool_], pd.DataFrame]:
    """Who may be given which arm: consent to its channel, a cap on contacts, the lasting holdout, what is known of their like.

    Parameters
    ----------
    customers : one row a customer, with ``consent_email`` and ``consent_sms`` where an arm needs them; what is not
    recorded is a no (see :mod:`analysis.consent`). channels : the channel of each arm. recent_contacts : shape (n,),
    contacts in the period of the cap. contact_cap : a customer who has had so many gets no more. held_out : shape
    (n,), True for customers whom no campaign may reach. unlike_tested : shape (n,), True for those who had too few like
    them in the campaign that was learnt from.

    Returns
    -------
    allowed, shape (n, arms), and a frame of ``reason`` (held_out, contact_cap, no_consent and, if given, unlike_tested) and
    ``customers`` whom it shuts out of every arm, each counted once, in this order.
    """
    n = len(customers)
    consent = np.ones((n, len(channels)), dtype=bool)
    for j, channel in enumerate(channels):
        if channel in ASKED:
            column = ASKED[channel]
            given = customers[column] if column in customers else pd.Series(False, index=customers.index)
            consent[:, j] = given.astype("boolean").fillna(False).to_numpy(bool)
    out = np.zeros(n, dtype=bool) if held_out is None else np.asarray(held_out, dtype=bool)
    capped = np.zeros(n, dtype=bool)
    if contact_cap is not None and recent_contacts is not None:
        capped = np.nan_to_num(np.asarray(recent_contacts, dtype=float)) >= contact_cap
    why = {"held_out": out, "contact_cap": capped, "no_consent": ~consent.any(axis=1)}
    if unlike_tested is not None:
        why["unlike_tested"] = np.asarray(unlike_tested, dtype=bool)
    shut, counts = np.zeros(n, dtype=bool), {}
    for name, wrong in why.items():
        counts[name] = int((wrong & ~shut).sum())
        shut |= wrong
    reasons = pd.DataFrame({"reason": list(counts), "customers": list(counts.values())})
    return consent & ~shut[:, None], reasons


@dataclass(frozen=True)
class TargetingSettings:
    """How the list is made.

    Attributes
    ----------
    campaign : name of the next campaign. budget : money in all, or None. largest : customers at most, or None.
    holdout_share : of the list, left alone at random. outside_share : of those off the list whom one may reach, drawn at
    random; half of them are contacted. seed : of the draws.
    """

    campaign: str = "next"
    budget: float | None = None
    largest: int | None = None
    holdout_share: float = 0.1
    outside_share: float = 0.05
    seed: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.holdout_share < 1 and 0 <= self.outside_share <= 1):
            raise ValueError("holdout_share must lie between 0 and 1 (1 excluded), outside_share between 0 and 1")


@dataclass(frozen=True)
class Targeting:
    """The list of the next campaign.

    Attributes
    ----------
    targets : one row a customer: customer_id, campaign, offer (the arm), expected_incremental_profit, cost, rank, and
    ``listed`` (False: drawn at random off the list) and ``holdout`` (True: not to be contacted). Customers on the list
    come first, the most profitable for its cost on top.
    allocation : as made, before the holdout. comparison : why this list. excluded : from :func:`reachable`.
    candidates : customers whom one could think of. settings : as given.
    """

    targets: pd.DataFrame = field(repr=False)
    allocation: Allocation = field(repr=False)
    comparison: PolicyComparison = field(repr=False)
    excluded: pd.DataFrame = field(repr=False)
    candidates: int
    settings: TargetingSettings

    def facts(self) -> dict[str, object]:
        """What the sentences need. ``value`` is the profit of the list as the randomised campaign measured it, scaled
        to the candidates, with its interval; ``expected`` is what the estimates add up to, ``cost`` what it takes to reach all
        of the list. Both are before anybody is held out."""
        listed, held = self.targets["listed"], self.targets["holdout"]
        contacted = ~held
        chosen = self.comparison.row(self.comparison.recommended)
        listed_share = listed.sum() / self.candidates
        # The list may reach fewer than the tested policy (budget, consent): value goes with the customers it reaches.
        scale = self.candidates * (listed_share / chosen["treated"] if chosen["treated"] > 0 else 0.0)
        return {
            "value": float(scale * chosen["value"]),
            "low": float(scale * chosen["low"]),
            "high": float(scale * chosen["high"]),
            "expected": float(self.targets.loc[listed, "expected_incremental_profit"].sum()),
            "listed": int(listed.sum()),
            "contacted": int(contacted.sum()),
            "cost": float(self.targets.loc[listed, "cost"].sum()),
            "held_inside": int((listed & held).sum()),
            "held_outside": int((~listed & held).sum()),
            "contacted_outside": int((~listed & contacted).sum()),
            "candidates": self.candidates,
            "budget": self.settings.budget,
            "price": self.allocation.price,
            "optimum": self.allocation.optimum,
            "kind": self.comparison.kind,
            "recommended": self.comparison.recommended,
            **{row.reason: int(row.customers) for row in self.excluded.itertuples()},
        }


def run_targeting(
    customers: pd.DataFrame,
    profit: ArrayLike,
    cost: ArrayLike,
    arms: Sequence[str],
    channels: Sequence[str],
    comparison: PolicyComparison | None,
    settings: TargetingSettings | None = None,
    rules: Mapping[str, ArrayLike] | None = None,
    contact_cap: int | None = None,
) -> tuple[Targeting | None, str | None]:
    """The list of the next campaign, or why there should be none.

    Parameters
    ----------
    customers : one row a candidate: customer_id and, where known, consent_email, consent_sms, recent_contacts,
    held_out, unlike_tested. profit : shape (n, arms), expected incremental profit after cost. cost : shape (arms,) or (n, arms).
    arms, channels : name and channel of each arm. comparison : from ``compare_policies`` on a randomised campaign,
    under the same budget a customer, or None where no campaign was randomised. rules : for the candidates, the rules
    of the comparison by name. contact_cap : contacts in its period from which a customer gets no more.

    Returns
    -------
    The list and None, or None and the reason: ``not_tested`` (no randomised campaign shows that a list pays),
    ``nobody`` (no policy is clearly better than contacting nobody), ``nobody_reachable``, ``nothing_pays`` (no
    expected profit is positive), ``no_budget`` (it does not reach for one customer).
    """
    chosen = settings or TargetingSettings()
    if comparison is None:
        return None, "not_tested"
    if comparison.kind == "nobody":
        return None, "nobody"
    if customers["customer_id"].duplicated().any():
        raise ValueError("customer_id occurs twice among the candidates; give one row a customer")
    p, c = _checked(profit, cost, None)
    recent, out, unlike = (customers.get(name) for name in ("recent_contacts", "held_out", "unlike_tested"))
    allowed, excluded = reachable(customers, channels, recent, contact_cap, out, unlike)
    if not allowed.any():
        return None, "nobody_reachable"
    rng = np.random.default_rng(chosen.seed)
    outside = _outside_arms(p, allowed, comparison)
    p, permitted = _as_recommended(p, allowed, comparison, rules)
    if not (p[permitted] > 0).any():
        return None, "nothing_pays"
    # Customers whose expected profit is the same come in random order, not in that of the file.
    shuffle = rng.permutation(len(p))
    found = allocate(p[shuffle], c[shuffle], chosen.budget, permitted[shuffle], chosen.largest)
    arm = np.full(len(p), NOBODY)
    arm[shuffle] = found.arm
    last = None if found.last is None else int(shuffle[found.last])
    if not (arm != NOBODY).any():
        return None, "no_budget"
    place = np.empty(len(p), dtype=np.int64)
    place[shuffle] = np.arange(len(p))
    targets = _with_holdouts(customers["customer_id"], p, c, arm, place, outside, arms, chosen, rng)
    final = replace(found, arm=arm, last=last)
    return Targeting(targets, final, comparison, excluded, len(p), chosen), None


def _as_recommended(
    p: Array, allowed: NDArray[np.bool_], comparison: PolicyComparison, rules: Mapping[str, ArrayLike] | None
) -> tuple[Array, NDArray[np.bool_]]:
    """Expected profits and arms that the recommended kind of policy may use: a uniform arm has one profit for all."""
    if comparison.kind == "policy":
        return p, allowed
    row = comparison.row(comparison.recommended)
    mean = np.full_like(p, row["value"] / row["treated"])
    if comparison.kind == "arm":
        return mean, allowed & (np.arange(p.shape[1]) == comparison.arm)
    if rules is None or comparison.recommended not in rules:
        raise ValueError(f"the rule {comparison.recommended!r} is recommended; give it for the candidates in `rules`")
    return mean, allowed & (np.asarray(rules[comparison.recommended])[:, None] == np.arange(p.shape[1]))


def _outside_arms(p: Array, allowed: NDArray[np.bool_], comparison: PolicyComparison) -> NDArray[np.int64]:
    """The arm by which customers off the list are tried: their best. Where all are treated alike the list itself is a
    random part, so there is nothing to learn outside it."""
    if comparison.kind == "arm":
        return np.full(len(p), NOBODY)
    return np.where(allowed.any(axis=1), np.where(allowed, p, -np.inf).argmax(axis=1), NOBODY)


def _with_holdouts(
    ids: pd.Series,
    p: Array,
    c: Array,
    arm: NDArray[np.int64],
    place: NDArray[np.int64],
    best: NDArray[np.int64],
    arms: Sequence[str],
    settings: TargetingSettings,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """The list with its random holdout, and the random sample off it, of which half are contacted.

    The contacts off the list are paid from what the holdout on it saves, so budget and largest list still hold.
    """
    listed = np.flatnonzero(arm != NOBODY)
    profit, cost = p[listed, arm[listed]], c[listed, arm[listed]]
    with np.errstate(divide="ignore"):
        listed = listed[np.lexsort((place[listed], -np.where(cost > 0, profit / cost, np.inf)))]
    held = rng.random(len(listed)).argsort() < _rounded(settings.holdout_share, len(listed))
    off = np.flatnonzero((arm == NOBODY) & (best != NOBODY))
    drawn = rng.permutation(off)[: _rounded(settings.outside_share, len(off))]
    test = drawn[: len(drawn) // 2]
    if settings.budget is not None or settings.largest is not None:
        free = (
            np.cumsum(c[test, best[test]])
            <= (settings.budget if settings.budget is not None else np.inf)
            - c[listed[~held], arm[listed[~held]]].sum()
            + 1e-9
        )
        room = (settings.largest if settings.largest is not None else len(p)) - int((~held).sum())
        test = test[free][: max(0, room)]
    # As many are held back as are contacted, so that the two can be compared.
    quiet = drawn[len(drawn) // 2 :][: max(len(test), 1)]
    order = np.concatenate([listed, test, quiet])
    given = np.where(arm[order] != NOBODY, arm[order], best[order])
    return pd.DataFrame(
        {
            "customer_id": ids.to_numpy()[order],
            "campaign": settings.campaign,
            "offer": np.asarray(arms, dtype=object)[given],
            "expected_incremental_profit": p[order, given],
            "cost": c[order, given],
            "rank": np.arange(1, len(order) + 1),
            "listed": np.repeat([True, False], [len(listed), len(order) - len(listed)]),
            "holdout": np.concatenate([held, np.zeros(len(test), bool), np.ones(len(quiet), bool)]),
        }
    )


def _rounded(share: float, size: int) -> int:
    """So many of ``size``; at least one where a share is wanted and there are two or more."""
    return int(min(size, max(round(share * size), 1 if share > 0 and size > 1 else 0)))
