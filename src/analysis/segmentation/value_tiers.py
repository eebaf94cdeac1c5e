"""Tiers by expected value, beside the tiers by R×F×M: the same cuts on what customers are expected to bring.

R×F×M looks back. A purchase model and a spend model look ahead, and what they expect of a customer can be cut in the same
way: the best fifth to protect, the last fifth to let go, ties together, nobody young let go. Where the two disagree,
:mod:`analysis.segmentation.tier_contest` asks which of them was right before.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint

from analysis.segmentation.findings import facts_of
from analysis.segmentation.privacy import JOIN, hide_small
from analysis.segmentation.tiers import TIERS, TierCuts, assign_tiers
from analysis.segmentation.words import Words
from analysis.valuation.models import FittedModels, fit_models
from analysis.valuation.summary import DAYS_PER_WEEK, purchase_timing
from analysis.valuation.validation import simulate_holdout

MEASURES = ("residual_value", "clv")
SALES = "expected_sales"
_DIGITS = 9  # beyond which values count as ties: the same history may differ in the last bits
_MOST_CELLS = 16
DISPUTES = {
    "rfm_protects": ("protect", "value_tier", "expected_tier"),
    "value_protects": ("protect", "expected_tier", "value_tier"),
    "rfm_lets_go": ("let_go", "value_tier", "expected_tier"),
    "value_lets_go": ("let_go", "expected_tier", "value_tier"),
}

DISPUTE_COLUMNS = {
    "dispute": ("On whom they disagree", "text"),
    "customers": ("Customers", "count"),
    "recency_days": ("Days since last purchase", "days"),
    "spend": ("Spend", "money"),
    "residual_value": ("Expected margin", "money"),
}


def significant(values: ArrayLike, digits: int = _DIGITS) -> np.ndarray:
    """Values rounded to about so many significant digits, shape of `values`, so that equal histories tie on every machine."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=float))
    return np.ldexp(np.round(mantissa, digits), exponent)


def ranking_value(value: pd.DataFrame, by: str = "residual_value") -> tuple[np.ndarray, str]:
    """What customers are ranked by.

    Parameters
    ----------
    value : ``customer_value``.
    by : ``residual_value`` (what is still to come: a decision about a customer cannot change the past) or ``clv`` (the past
        included).

    Returns
    -------
    Array of shape (n,), ties rounded together, and its measure: `by`, or ``expected_sales`` where no margin is known
    (expected purchases × expected spend, which ranks as the residual value would under one margin for all).

    Raises
    ------
    ValueError
        Another measure, or no customer has an expected value.
    """
    if by not in MEASURES:
        raise ValueError(f"value tiers: {by!r} is not a value; choose from {', '.join(MEASURES)}")
    ranked, measure = value[by].to_numpy(dtype=float), by
    if not np.isfinite(ranked).any():
        spend = value["expected_spend"].to_numpy(dtype=float)
        ranked, measure = value["expected_purchases"].to_numpy(dtype=float) * spend, SALES
    if not np.isfinite(ranked).any():
        raise ValueError("value tiers: no customer has an expected value; nobody has come back yet")
    return significant(ranked), measure


def expected_tiers(
    ranked: np.ndarray, tenure_days: ArrayLike | None = None, too_early_days: int = 90
) -> tuple[pd.Series, TierCuts]:
    """Cut expected value as R×F×M is cut: see :func:`analysis.segmentation.assign_tiers`.

    Parameters
    ----------
    ranked : shape (n,), from :func:`ranking_value`; NaN where unknown.
    tenure_days : shape (n,), first purchase to the end of observation.
    too_early_days : age below which nobody is let go.

    Returns
    -------
    Series of shape (n,) named ``expected_tier``, and the cuts, in the unit of ``ranked``.
    """
    tier, cuts = assign_tiers(ranked, tenure_days, too_early_days)
    return tier.rename("expected_tier"), cuts


def expected_cut_facts(cuts: TierCuts, measure: str, horizon_weeks: int) -> dict[str, Any]:
    """Where expected value was cut and the shares reached, for the note above the cross table.

    Parameters
    ----------
    cuts : from :func:`expected_tiers`.
    measure : from :func:`ranking_value`.
    horizon_weeks : of ``customer_value``.
    """
    return {
        "protect_from": cuts.protect_from,
        "invest_from": cuts.invest_from,
        "protect_share": cuts.protect_share,
        "let_go_share": 1 - cuts.invest_share,
        "kind": "sales" if measure == SALES else "margin",
        "horizon": horizon_weeks,
    }


def crossed_tiers(customers: pd.DataFrame) -> pd.DataFrame:
    """Customers by R×F×M tier and tier by expected value, counts.

    Parameters
    ----------
    customers : value_tier (by R×F×M), expected_tier.

    Returns
    -------
    Rows by R×F×M, columns by expected value, in the order of the tiers; both hold every tier that occurs in either.
    """
    known = customers.dropna(subset=["value_tier", "expected_tier"])
    occurring = [t for t in TIERS if t in set(known["value_tier"]) | set(known["expected_tier"])]
    cells = pd.crosstab(known["value_tier"], known["expected_tier"])
    return cells.reindex(index=occurring, columns=occurring, fill_value=0).astype("int64")


def shown_cells(customers: pd.DataFrame, small_group: int) -> pd.DataFrame:
    """The cross table as it may be shown, NaN where hidden.

    A thin row or column of those who are too early to judge is joined with those to let go, since a row of its own would force
    good cells to be hidden with it. Rows and columns of nobody are left out. The number whom both let go is told elsewhere, so
    hiding it would hide nothing.
    """
    cells = crossed_tiers(customers)
    early, last = "too_early", "let_go"
    if early in cells and last in cells:
        thin = pd.concat([cells.loc[early], cells[early]])
        if ((thin > 0) & (thin < small_group)).any():
            name = JOIN.join((last, early))
            for _ in range(2):
                cells = cells.assign(**{name: cells[last] + cells[early]}).drop(columns=[last, early]).T
    cells = cells.loc[cells.sum(axis=1) > 0, cells.sum(axis=0) > 0]
    return _hide_least(cells, small_group)


def _hide_least(cells: pd.DataFrame, small_group: int) -> pd.DataFrame:
    """Hide small cells, and with them the fewest people such that no row or column has a single hidden cell.

    All sets of cells are tried, since tiers are few; :func:`analysis.segmentation.hide_small`, which goes step by step, hides more.
    """
    counts = cells.to_numpy(dtype=float)
    small = (counts > 0) & (counts < small_group)
    told = np.outer(cells.index == "let_go", cells.columns == "let_go").astype(bool)
    free = np.argwhere((counts > 0) & ~small & ~told)
    if not small.any() or len(free) > _MOST_CELLS:
        return hide_small(cells, small_group)
    chosen = (np.arange(2 ** len(free))[:, None] >> np.arange(len(free))) & 1
    hidden = np.repeat(small[None], len(chosen), axis=0)
    hidden[:, free[:, 0], free[:, 1]] = chosen.astype(bool)
    safe = (hidden.sum(axis=1) != 1).all(axis=1) & (hidden.sum(axis=2) != 1).all(axis=1)
    if not safe.any():
        return hide_small(cells, small_group)
    people = np.where(safe, (hidden * counts).sum(axis=(1, 2)), np.inf)
    return cells.astype(float).mask(hidden[int(people.argmin())])


def agreement_told(cells: np.ndarray, small_group: int) -> bool:
    """Whether a cross table holds enough people, in agreement and not, to tell the share in agreement."""
    total, same = int(cells.sum()), int(np.trace(cells))
    return total >= max(small_group, 1) and not 0 < total - same < small_group and not 0 < same < small_group


def agreement_finding(customers: pd.DataFrame, small_group: int, words: Words) -> dict[str, Any]:
    """The share of customers whom both put into the same tier, with Wilson's interval.

    Parameters
    ----------
    customers : value_tier, expected_tier.
    small_group : a smaller base, or fewer customers in or out of agreement, is not told.
    words : for the reason.

    Returns
    -------
    value, low, high (shares), reason, and the facts n (in the same tier), total, by_chance (the share that would agree if the
    tiers had nothing to do with each other), opposed (customers whom one protects and the other lets go; None where few).
    """
    cells = crossed_tiers(customers).to_numpy(dtype=float)
    total, same = int(cells.sum()), int(np.trace(cells))
    if not agreement_told(cells, small_group):
        reason = words("reason_small", small_group=small_group)
        return facts_of(None, None, None, reason, n=None, total=None, by_chance=None, opposed=None)
    low, high = proportion_confint(same, total, method="wilson")
    chance = float((cells.sum(axis=0) / total) @ (cells.sum(axis=1) / total))
    opposed = int(_opposed(customers).sum())
    return facts_of(
        same / total,
        float(low),
        float(high),
        None,
        n=same,
        total=total,
        by_chance=chance,
        opposed=opposed if opposed == 0 or opposed >= small_group else None,
    )


def _opposed(customers: pd.DataFrame) -> np.ndarray:
    rfm, value = customers["value_tier"], customers["expected_tier"]
    return (rfm.eq("protect") & value.eq("let_go") | rfm.eq("let_go") & value.eq("protect")).to_numpy(dtype=bool)


def disputed(customers: pd.DataFrame) -> dict[str, np.ndarray]:
    """Who is in disagreement, as boolean arrays of shape (n,).

    Returns
    -------
    ``rfm_protects`` (R×F×M protects, expected value does not), ``value_protects``, ``rfm_lets_go``, ``value_lets_go``.
    """
    known = customers[["value_tier", "expected_tier"]].notna().all(axis=1)
    return {
        name: (known & customers[one].eq(tier) & customers[other].ne(tier)).to_numpy()
        for name, (tier, one, other) in DISPUTES.items()
    }


def dispute_table(customers: pd.DataFrame, small_group: int) -> pd.DataFrame:
    """Who the disputed customers are.

    Parameters
    ----------
    customers : value_tier, expected_tier, recency_days, frequency, spend, and where they are known probability_alive and
        residual_value.
    small_group : a group with fewer customers is left out; one that holds a few whom the other sends to the opposite end is not
        counted, since the cross table would tell how few.

    Returns
    -------
    One row a group of :func:`disputed`: dispute, customers (NaN where not counted), and means a customer: recency_days,
    frequency, spend, probability_alive, residual_value (NaN where unknown).
    """
    columns = ["recency_days", "frequency", "spend", "probability_alive", "residual_value"]
    numbers = customers.reindex(columns=columns).astype(float)
    opposed, rows = _opposed(customers), []
    for name, member in disputed(customers).items():
        n, few = int(member.sum()), 0 < int((member & opposed).sum()) < small_group
        if n >= small_group:
            rows.append({"dispute": name, "customers": np.nan if few else float(n)} | numbers[member].mean().to_dict())
    return pd.DataFrame(rows, columns=["dispute", "customers", *columns])


@dataclass(frozen=True)
class LetGo:
    """What the customers whom both let go could still bring.

    Attributes
    ----------
    customers : how many both let go.
    expected : what they are expected to bring over the horizon together, money.
    low, high : 95 % prediction interval of that total; NaN where there is none.
    basis : ``simulation`` (futures of the purchase model behind the values, which add up by chance as independent customers do),
        ``upper_limits`` (`high` is the sum of the upper limits of single customers and `low` is NaN) or ``none``.
    at_mean : customers whose own upper limit is no more than what is expected of them, so that a sum of limits is no bound.
    measure : ``margin``, or ``sales`` where no margin is known.
    horizon_weeks : over which.
    """

    customers: int
    expected: float
    low: float
    high: float
    basis: str
    at_mean: int
    measure: str
    horizon_weeks: int


def models_behind(
    summary: pd.DataFrame,
    value: pd.DataFrame,
    order_lines: ibis.Table,
    observed_to: datetime.date,
    horizon_weeks: int,
) -> tuple[FittedModels, str] | None:
    """The fitted purchase model that the expected purchases of ``customer_value`` come from.

    Models are fitted again, as the valuation notebook does, and the one that gives the same expected purchases is taken.

    Parameters
    ----------
    summary, value : ``customer_summary`` and ``customer_value`` of the same customers.
    order_lines : Ibis table, for the timing of purchases.
    observed_to : last observed day.
    horizon_weeks : of ``customer_value``.

    Returns
    -------
    The models and the name of the one; None where a plain rule valued the customers, or none fits.
    """
    base = summary.sort_values("customer_id", ignore_index=True)
    expected = value.set_index("customer_id")["expected_purchases"].reindex(base["customer_id"]).to_numpy(dtype=float)
    if not np.isfinite(expected).all():
        return None
    models = fit_models(base.merge(purchase_timing(order_lines, observed_to), on="customer_id", validate="one_to_one"))
    frequency = base["frequency"].to_numpy(dtype=float)
    weeks = [base[c].to_numpy(dtype=float) / DAYS_PER_WEEK for c in ("recency", "T")]
    for name, results in models.purchases.items():
        if np.allclose(results.expected_purchases(horizon_weeks, frequency, *weeks), expected, rtol=1e-6, atol=1e-9):
            return models, name
    return None


def let_go_by_both(
    customers: pd.DataFrame,
    horizon_weeks: int,
    behind: tuple[FittedModels, str] | None = None,
    *,
    draws: int = 400,
    seed: int = 1,
) -> LetGo:
    """What the customers whom both tiers let go could still bring, over the horizon.

    Parameters
    ----------
    customers : value_tier, expected_tier, frequency, recency, T (days), monetary_value, expected_purchases, expected_spend,
        residual_value, existing_value, clv_high.
    horizon_weeks : of ``customer_value``.
    behind : from :func:`models_behind`. The interval is then simulated for the total, parameters drawn from their sampling
        distribution; without it the upper limits of single customers are summed, which bounds the total only where
        ``at_mean`` is 0: the limit of somebody who buys with less than 1 chance in 20 says nothing of many such together.
    draws : simulated futures. seed : of the draws.

    Returns
    -------
    LetGo
    """
    member = customers[customers["value_tier"].eq("let_go") & customers["expected_tier"].eq("let_go")]
    residual = member["residual_value"].to_numpy(dtype=float)
    sales = (member["expected_purchases"] * member["expected_spend"]).to_numpy(dtype=float)
    margin_known = bool(np.isfinite(residual).all()) and len(member) > 0
    each = residual if margin_known else sales
    expected, measure = float(each.sum()), "margin" if margin_known else "sales"
    upper = (member["clv_high"] - member["existing_value"]).to_numpy(dtype=float)
    at_mean = int((upper <= each * (1 + 1e-9)).sum())
    if len(member) and behind is not None and np.isfinite(expected):
        models, name = behind
        futures = simulate_holdout(models, name, member, horizon_weeks, draws, seed)
        spent = futures.spend
        if models.spend is None:
            spent = futures.purchases * member["expected_spend"].to_numpy(dtype=float)[futures.rows]
        # one share turns sales into discounted margin: that of what is expected
        share = expected / sales.sum() if sales.sum() > 0 else 0.0
        low, high = (float(end * share) for end in futures.total(spent))
        interval = min(low, expected), max(high, expected)
        return LetGo(len(member), expected, *interval, "simulation", at_mean, measure, horizon_weeks)
    if len(member) and margin_known and np.isfinite(upper).all():
        high = float(upper.sum())
        return LetGo(len(member), expected, float("nan"), high, "upper_limits", at_mean, measure, horizon_weeks)
    nan = float("nan")
    return LetGo(len(member), expected if len(member) else 0.0, nan, nan, "none", at_mean, measure, horizon_weeks)


def contact_price(campaigns: pd.DataFrame | None, assumed: float | None) -> dict[str, Any]:
    """What contacting a customer once costs.

    Parameters
    ----------
    campaigns : the canonical table; None where there is none.
    assumed : the study's assumption, money; used where no campaign states its own cost.

    Returns
    -------
    cost (median over the campaigns that state one; None where nobody knows), cheapest, dearest, source (``campaigns``,
    ``assumption`` or ``unknown``).
    """
    stated = pd.Series(dtype=float)
    if campaigns is not None and "cost_per_contact" in campaigns:
        stated = campaigns["cost_per_contact"].astype(float).dropna()
    if len(stated):
        return {
            "cost": float(stated.median()),
            "cheapest": float(stated.min()),
            "dearest": float(stated.max()),
            "source": "campaigns",
        }
    source = "unknown" if assumed is None else "assumption"
    return {"cost": assumed, "cheapest": assumed, "dearest": assumed, "source": source}


def let_go_finding(found: LetGo, price: dict[str, Any], small_group: int, words: Words) -> dict[str, Any]:
    """What those whom both let go could still bring, against the cost of contacting each of them once.

    Parameters
    ----------
    found : from :func:`let_go_by_both`.
    price : from :func:`contact_price`.
    small_group : a smaller group is not shown.
    words : for the reason.

    Returns
    -------
    value, low, high (money, all of them together), reason, and the facts n, most (the upper end; None where there is none), basis,
    at_mean, each_most (upper end a customer: a contact that costs more cannot pay), kind, horizon, cost, cost_all,
    cheapest_all, source, rise (share by which a contact must raise what is expected to pay for itself; None without a
    cost).
    """
    n, shown = found.customers, found.customers >= small_group and np.isfinite(found.expected)
    empty = dict.fromkeys(("most", "each_most", "cost", "cost_all", "cheapest_all", "rise", "at_mean"))
    facts = {"kind": found.measure, "horizon": found.horizon_weeks, "basis": found.basis, "source": price["source"]}
    if not shown:
        reason = words("reason_nobody") if n == 0 else words("reason_small", small_group=small_group)
        return facts_of(None, None, None, reason, n=0 if n == 0 else None, **facts, **empty)
    most = found.high if np.isfinite(found.high) else None
    cost = price["cost"]
    facts |= {
        "most": most,
        "each_most": None if most is None else most / n,
        "cost": cost,
        "cost_all": None if cost is None else cost * n,
        "cheapest_all": None if cost is None else price["cheapest"] * n,
        "rise": None if cost is None or not found.expected > 0 else cost * n / found.expected,
        "at_mean": found.at_mean,
    }
    return facts_of(found.expected, found.low, found.high, words(f"reason_let_go_{found.basis}"), n=n, **facts)
