"""Customer equity: what all customers, present and future, are worth, and what would change it most.

Customer equity is the expected margin of present customers over the horizon, discounted, and, where the rate at which
customers are won is known, that of the customers won over the acquisition horizon, less what winning them costs:

    equity = Σ residual value + n (v − c) (1 − e^(−δA)) / δ

with n new customers a unit of time, v the value of a new one on the day of the first purchase (that purchase included),
c its acquisition cost, δ the continuous discount rate, A the acquisition horizon. Each new customer is valued over a
horizon of their own, so equity reaches A plus the horizon ahead: cut off at one date, those won last would seem not to
be worth their cost.

Where the page has valued present customers already, that value and its range are taken as they are, and customers to be
won share its doubt: the part by which the forecast's total missed its test, relative to what they bring. A forecast that
is off is off for both, so the doubt adds up; what customers do by chance is independent and adds up in squares.

An elasticity is the change of equity in per cent when one driver is better by one per cent and all is evaluated again:
retention and margin 1 % higher, the annual discount rate and the acquisition cost 1 % lower. Better retention is
defined so that nothing about the past changes: everybody's future leaving rate falls by one common factor κ > 1, today's
P(alive) and buying rates stay. Under models in which a living customer buys at a constant rate and leaves at a constant
hazard (Pareto/NBD; BG/NBD and MBG/NBD, whose hazard is the buying rate times p), slowing leaving by κ is stretching
time: expected discounted purchases over h become κ times those over h/κ at the discount rate κδ, and the share of
living customers who are still there after t becomes that after t/κ. κ is solved for so that this share after one year
is 1 % higher (relative).

Sources: Gupta, S., Lehmann, D. R. & Stuart, J. A. (2004). Valuing customers. Journal of Marketing Research 41(1), 7–18;
Fader, P. S. & Hardie, B. G. S. (2010). Customer-base valuation in a contractual setting: the perils of ignoring
heterogeneity. Marketing Science 29(1), 85–93.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.polynomial.legendre import leggauss
from numpy.typing import ArrayLike
from scipy import optimize, special, stats

from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import Z95
from analysis.valuation.lifetime import WEEKS_PER_YEAR, mean_discount, weekly_discount
from analysis.valuation.purchases import Array, Cells, ModelNotFitted, PurchaseResults
from analysis.valuation.summary import in_weeks

DRIVERS = ("retention", "margin", "discount_rate", "acquisition_cost")
TELLS_LEAVING = ("Pareto/NBD", "BG/NBD", "MBG/NBD")  # models whose :func:`survival` is known
BETTER = {"retention": 1.01, "margin": 1.01, "discount_rate": 0.99, "acquisition_cost": 0.99}
_STEP = 1e-3  # of a standard error, for derivatives
_MOMENT = 1e-6  # of the horizon, for the rate of today
_FUTURES = 20_000  # simulated futures of a new customer
_FAR = 9.9  # times the discount rate: e^−9.9 of a purchase's value is left
_THINNED = 4_000  # distinct customers behind the endless bias
_NODES, _WEIGHTS = leggauss(64)

Equity = Callable[[dict[str, float]], float]


@dataclass(frozen=True)
class Acquisition:
    """Customers to be won.

    Attributes
    ----------
    rate : float
        New customers a week.
    cost : float
        Of winning one, money.
    weeks : float
        How long customers are won at this rate; may be infinite with a discount rate above 0.
    """

    rate: float
    cost: float
    weeks: float

    def __post_init__(self) -> None:
        if not (self.rate >= 0 and self.cost >= 0 and self.weeks > 0):
            raise ValueError("acquisition: rate and cost must not be negative, and the time must be above 0")


@dataclass(frozen=True)
class CustomerEquity:
    """Customer equity and what moves it.

    Attributes
    ----------
    existing : Estimate
        Expected margin of present customers, discounted, money; as it was given, where it was.
    future : Estimate
        That of customers to be won, less what they cost; its reason says why where there is none.
    total : Estimate
        Both together. Where the present part was given, the intervals of both are 95 % prediction intervals: chance,
        parameters, and doubt; they take the number won a week on average and the cost of each as given. Elsewhere they
        come from how well the parameters of the purchase model are known, and from nothing else.
    new_customer_value : float
        Of one on the day of the first purchase, before acquisition cost, money.
    retention : float
        Expected share of living customers who are still there after one year.
    elasticities : DataFrame
        A row a driver: `driver`, `factor` (1.01 or 0.99), `elasticity` (per cent of equity), `low`, `high` (95 %), `reason`
        (why there is none, or no interval; else empty). Of equity as the model alone has it; their intervals come from
        its parameters.
    constant_retention_bias : Estimate
        Value of present customers over the horizon under one constant retention rate for all, relative to what the model
        gives, less 1. One rate that is right for a year is too high before and too low after, so over about a year
        it may err either way.
    endless_bias : Estimate
        The same without an end, the case of Fader & Hardie (2010); its reason says why where it is not known.
    """

    existing: Estimate
    future: Estimate
    total: Estimate
    new_customer_value: float
    retention: float
    elasticities: pd.DataFrame
    constant_retention_bias: Estimate
    endless_bias: Estimate


def elasticities(equity: Equity, drivers: tuple[str, ...] = DRIVERS) -> pd.Series:
    """Change of equity, in per cent, by each driver made better by 1 %.

    Parameters
    ----------
    equity : callable
        Factors by driver (those left out are 1) → customer equity, money.
    drivers : tuple of str
        Out of `DRIVERS`.

    Returns
    -------
    Series of shape (drivers,)

    Raises
    ------
    ValueError
        Equity is zero or negative, so that a per cent of it means nothing.
    """
    now = equity({})
    if not now > 0.0:
        raise ValueError("customer equity is not above zero, so nothing can be said in per cent of it")
    return pd.Series({driver: 100.0 * (equity({driver: BETTER[driver]}) / now - 1.0) for driver in drivers})


def constant_retention_value(margin: float, retention: float, discount_rate: float, horizon: float = math.inf) -> float:
    """Value of a customer under one constant retention rate, discounted, money.

    Parameters
    ----------
    margin : float
        A period, earned at its end by those who were retained through it.
    retention : float
        Share retained a period, from 0 to 1.
    discount_rate : float
        A period.
    horizon : float
        Whole periods; endless by default.

    Returns
    -------
    float
        margin × Σ (retention / (1 + discount_rate))^t over t = 1 … horizon.

    Raises
    ------
    ValueError
        Retention outside 0 to 1, or an endless sum that does not converge.
    """
    if not 0.0 <= retention <= 1.0:
        raise ValueError(f"retention must lie between 0 and 1, not {retention:g}")
    ratio = retention / (1.0 + discount_rate)
    if ratio >= 1.0:
        if not np.isfinite(horizon):
            raise ValueError("an endless future needs a discount rate above 0 or a retention below 1")
        return margin * horizon if ratio == 1.0 else margin * ratio * (ratio**horizon - 1.0) / (ratio - 1.0)
    return margin * ratio * (1.0 - (ratio**horizon if np.isfinite(horizon) else 0.0)) / (1.0 - ratio)


def survival(results: PurchaseResults, t: float, frequency: ArrayLike, T: ArrayLike) -> Array:
    """Probability that a customer who is one at T still is at T + t, shape (customers,).

    Under Pareto/NBD ((β + T) / (β + T + t))^s. Under BG/NBD the mean of exp(−λpt) over λ ~ gamma(r + x, α + T) and
    p ~ beta(a, b + x), which is ₂F₁(r + x, a; a + b + x; −t / (α + T)); under MBG/NBD with x + 1 chances to leave so far.

    Parameters
    ----------
    results : PurchaseResults
    t : float
        In the unit of time of the data.
    frequency, T : array-like of shape (customers,)

    Raises
    ------
    ModelNotFitted
        A model in which nobody leaves, or whose leaving is not known here.
    """
    x, age = np.asarray(frequency, dtype=float), np.asarray(T, dtype=float)
    name, params = results.model.name, results.params
    if name == "Pareto/NBD":
        return np.exp(-params["s"] * np.log1p(t / (params["beta"] + age)))
    if name in ("BG/NBD", "MBG/NBD"):
        a, b = params["a"], params["b"] + x + (name == "MBG/NBD")
        return _mean_survival(t / (params["alpha"] + age), params["r"] + x, a, b)
    raise ModelNotFitted(f"{name}: it does not give retention; use one of {', '.join(TELLS_LEAVING)}")


def _mean_survival(stretch: Array, shape: Array, a: float, b: Array) -> Array:
    """E[(1 + p · stretch)^(−shape)] with p ~ beta(a, b), by Pfaff's form of ₂F₁, whose argument lies in [0, 1)."""
    z = stretch / (1.0 + stretch)
    value = np.exp(-a * np.log1p(stretch)) * special.hyp2f1(a, a + b - shape, a + b, z)
    sound = np.isfinite(value) & (value >= 0.0) & (value <= 1.0)
    if not sound.all():
        # quantiles of the beta distribution at Gauss-Legendre nodes; slower, and without the series' overflow
        p = special.betaincinv(a, b[~sound, None], 0.5 * (_NODES + 1.0))
        value[~sound] = np.exp(-shape[~sound, None] * np.log1p(p * stretch[~sound, None])) @ (0.5 * _WEIGHTS)
    return value


@dataclass(frozen=True)
class _Base:
    """Distinct customers with the money that a purchase of theirs brings, times in weeks."""

    cells: Cells
    money: Array

    @classmethod
    def of(cls, frequency: ArrayLike, recency: ArrayLike, T: ArrayLike, money: Array) -> _Base:
        cells = Cells.of(frequency, recency, T)
        return cls(cells, np.bincount(cells.index, weights=money, minlength=len(cells.x)))

    def thinned(self, most: int) -> _Base:
        """Every k-th, so that at most `most` remain: enough for ratios."""
        every = slice(None, None, -(-len(self.money) // most))
        cells = self.cells
        kept = (getattr(cells, name)[every] for name in ("x", "t_x", "T", "count"))
        return _Base(Cells(*kept, np.arange(len(self.money[every]))), self.money[every])

    def value(self, results: PurchaseResults, horizon: float, discount: float, slower: float = 1.0) -> float:
        cells = self.cells
        purchases = results.expected_purchases(
            horizon / slower, cells.x, cells.t_x, cells.T, discount=discount * slower
        )
        return slower * float(purchases @ self.money)


@dataclass(frozen=True)
class _Case:
    """Everything that equity is evaluated from; `memo` keeps what has been evaluated at these parameters."""

    results: PurchaseResults
    base: _Base
    new_money: float
    horizon: float
    annual_rate: float
    acquisition: Acquisition | None
    memo: dict[object, float] = field(default_factory=dict)
    variety: float = 1.0  # mean square of customers' margin a purchase, over the square of its mean

    def retention(self, weeks: float = WEEKS_PER_YEAR) -> float:
        """Expected share of living customers who are still there after some weeks."""
        if weeks not in self.memo:
            cells = self.base.cells
            alive = self.results.probability_alive(cells.x, cells.t_x, cells.T) * cells.count
            self.memo[weeks] = float(alive @ survival(self.results, weeks, cells.x, cells.T) / alive.sum())
        return self.memo[weeks]

    def slower(self, factor: float) -> float:
        """κ: how much slower customers leave when the retention of a year is `factor` times as high."""
        if factor == 1.0:
            return 1.0
        aim = factor * self.retention()
        if aim >= 1.0:
            raise ModelNotFitted(f"{self.results.model.name}: retention is so high that it cannot be 1 % better")
        if ("slower", factor) not in self.memo:

            def short(log_kappa: float) -> float:
                return self.retention(WEEKS_PER_YEAR * math.exp(-log_kappa)) - aim

            # were leaving at one rate for all, this would be the answer
            high = 2.0 * math.log(math.log(self.retention()) / math.log(aim))
            while short(high) < 0.0:
                high *= 2.0
            self.memo["slower", factor] = math.exp(optimize.brentq(short, 0.0, high, xtol=1e-9))
        return self.memo["slower", factor]

    def purchases(self, discount: float, slower: float = 1.0) -> tuple[float, float]:
        """Margin of present customers' purchases, and expected repeat purchases of a new customer, both discounted."""
        key = (discount, slower)
        if (*key, "new") not in self.memo:
            nobody = np.zeros(1)
            self.memo[*key, "present"] = self.base.value(self.results, self.horizon, discount, slower)
            repeats = self.results.expected_purchases(
                self.horizon / slower, nobody, nobody, nobody, discount=discount * slower
            )
            self.memo[*key, "new"] = slower * float(repeats[0])
        return self.memo[*key, "present"], self.memo[*key, "new"]

    def new_value(self, discount: float, slower: float = 1.0) -> float:
        return self.new_money * (1.0 + self.purchases(discount, slower)[1])

    def parts(self, factors: dict[str, float]) -> tuple[float, float]:
        """Value of present customers, and of those to be won less their cost."""
        discount = weekly_discount(self.annual_rate * factors.get("discount_rate", 1.0))
        slower, margin = self.slower(factors.get("retention", 1.0)), factors.get("margin", 1.0)
        present = margin * self.purchases(discount, slower)[0]
        if self.acquisition is None:
            return present, 0.0
        cost = self.acquisition.cost * factors.get("acquisition_cost", 1.0)
        return present, self.won(discount) * (margin * self.new_value(discount, slower) - cost)

    def won(self, discount: float) -> float:
        """How many customers are won, each discounted to today."""
        weeks = self.acquisition.weeks
        far = weeks * float(mean_discount(discount, weeks)) if np.isfinite(weeks) else 1.0 / discount
        return self.acquisition.rate * far

    def before_cost(self) -> float:
        """What customers to be won bring before their cost, discounted."""
        discount = weekly_discount(self.annual_rate)
        return self.won(discount) * self.new_value(discount)

    def chance(self) -> float:
        """Standard deviation of that by chance: how many come (Poisson), and what each of them does (simulated)."""
        discount, nobody = weekly_discount(self.annual_rate), np.zeros(1)
        bought, active = self.results.simulate_future(
            self.horizon, nobody, nobody, nobody, np.random.default_rng(1), size=_FUTURES
        )
        square = float(np.square(1.0 + bought * mean_discount(discount, active)).mean())
        return abs(self.new_money) * math.sqrt(self.won(2.0 * discount) * self.variety * square)

    def equity(self, factors: dict[str, float]) -> float:
        return sum(self.parts(factors))

    def constant_retention(self) -> float:
        """Value of present customers if all left at the one rate that gives the expected retention of a year."""
        moment = (self.horizon if np.isfinite(self.horizon) else WEEKS_PER_YEAR) * _MOMENT
        a_week = self.base.value(self.results, moment, 0.0) / moment
        hazard = -math.log(self.retention()) / WEEKS_PER_YEAR
        rate = hazard + weekly_discount(self.annual_rate)
        return a_week * (
            self.horizon * float(mean_discount(rate, self.horizon)) if np.isfinite(self.horizon) else 1 / rate
        )

    def bias(self) -> float:
        """That value relative to what the model gives, less 1; NaN where customers are worth nothing."""
        present = self.purchases(weekly_discount(self.annual_rate))[0]
        return self.constant_retention() / present - 1.0 if present else math.nan

    def endless_bias(self) -> float:
        """The same without an end, on at most so many customers as keep it cheap; NaN where nothing is discounted."""
        if not self.annual_rate > 0.0:
            return math.nan
        # integrals to infinity cost three times as much as those up to here, past which next to nothing is left
        far = _FAR / weekly_discount(self.annual_rate)
        base = self.base.thinned(_THINNED)
        return replace(self, base=base, horizon=max(far, self.horizon), memo={}).bias()


def customer_equity(
    results: PurchaseResults,
    summary: pd.DataFrame,
    margin_per_purchase: ArrayLike,
    *,
    horizon_weeks: float,
    discount_rate: float,
    acquisition: Acquisition | None = None,
    new_margin_per_purchase: float | None = None,
    present: Estimate | None = None,
    doubt: float | None = None,
    alpha: float = 0.05,
) -> CustomerEquity:
    """Customer equity from a fitted purchase model, with elasticities.

    Parameters
    ----------
    results : PurchaseResults
        Pareto/NBD, BG/NBD or MBG/NBD, fitted on weeks.
    summary : DataFrame
        `frequency`, `recency`, `T` (days), one row a customer.
    margin_per_purchase : array-like of shape (customers,)
        Expected margin of one purchase, money, in the order of `summary`.
    horizon_weeks : float
        How far each customer's future counts.
    discount_rate : float
        A year, for example 0.10.
    acquisition : Acquisition, optional
    new_margin_per_purchase : float, optional
        For customers to be won; the mean of `margin_per_purchase` where it is not given.
    present : Estimate, optional
        Value of present customers over the same horizon with its 95 % prediction interval, as
        :func:`analysis.valuation.customer_value` gave it; by the model where it is not given.
    doubt : float, optional
        The `sales_doubt` that this interval holds.
    alpha : float
        1 − the level of the intervals.

    Raises
    ------
    ValueError
        No customer, a margin missing, an endless horizon without discount, or one with `present`.
    ModelNotFitted
        A model without a covariance or in which nobody leaves.
    """
    money = np.asarray(margin_per_purchase, dtype=float)
    _check(results, summary, money, horizon_weeks, discount_rate, acquisition, present)
    mean = float(money.mean())
    case = _Case(
        results=results,
        base=_Base.of(*in_weeks(summary), money),
        new_money=mean if new_margin_per_purchase is None else new_margin_per_purchase,
        horizon=horizon_weeks,
        annual_rate=discount_rate,
        acquisition=acquisition,
        variety=float(np.square(money).mean()) / mean**2 if mean else 1.0,
    )
    absent = {driver: _no_driver(driver, case) for driver in DRIVERS}
    possible = [driver for driver in DRIVERS if not absent[driver]]

    def figures(at: PurchaseResults) -> Array:
        return _figures(replace(case, results=at, memo={}), possible)

    found, errors = figures(results), _errors(results, figures)
    z = float(stats.norm.ppf(1 - alpha / 2))
    estimates = [Estimate(float(v), float(v - z * e), float(v + z * e)) for v, e in zip(found, errors, strict=True)]
    existing, future, total, bias, endless, *moved = estimates
    if not total.value > 0.0:
        absent |= dict.fromkeys(possible, "customer equity is not above zero, so nothing can be said in per cent of it")
    if acquisition is None:
        future = Estimate(0.0, reason="how many customers are won, and at what cost, is not known")
    if present is not None:
        existing, future, total = _predicted(case, present, doubt or 0.0, future, errors, z)
    worthless = Estimate(math.nan, reason="present customers are worth nothing")
    undiscounted = Estimate(math.nan, reason="an endless future that is not discounted has no value to compare with")
    return CustomerEquity(
        existing=existing,
        future=future,
        total=total,
        new_customer_value=case.new_value(weekly_discount(discount_rate)),
        retention=case.retention(),
        elasticities=_driver_table(dict(zip(possible, moved, strict=True)), absent),
        constant_retention_bias=bias if found[0] else worthless,
        endless_bias=worthless if not found[0] else endless if discount_rate > 0.0 else undiscounted,
    )


def _check(
    results: PurchaseResults,
    summary: pd.DataFrame,
    money: Array,
    horizon: float,
    annual_rate: float,
    acquisition: Acquisition | None,
    present: Estimate | None,
) -> None:
    if summary.empty or len(money) != len(summary) or not np.isfinite(money).all():
        raise ValueError("customer equity: needs at least one customer, each with the expected margin of a purchase")
    endless = not np.isfinite(horizon) or (acquisition is not None and not np.isfinite(acquisition.weeks))
    if endless and not annual_rate > 0.0:
        raise ValueError("customer equity: an endless future needs a discount rate above 0")
    if present is not None and not np.isfinite(horizon):
        raise ValueError("customer equity: a present value that is given has a horizon with an end; give that horizon")
    if not np.isfinite(results.log_cov).all():
        raise ModelNotFitted(f"{results.model.name}: no covariance of the parameters ({results.verdict.reason})")


def _figures(case: _Case, drivers: list[str]) -> Array:
    """Present, future and total value, the bias of one constant rate up to the horizon and endless, and elasticities."""
    present, future = case.parts({})
    total = present + future
    moved = [100.0 * (case.equity({d: BETTER[d]}) / total - 1.0) if total else np.nan for d in drivers]
    return np.array([present, future, total, case.bias(), case.endless_bias(), *moved])


def _predicted(
    case: _Case, present: Estimate, doubt: float, future: Estimate, errors: Array, z: float
) -> tuple[Estimate, Estimate, Estimate]:
    """Present, future and total value with prediction intervals; `errors` are what parameters do to the three."""
    if case.acquisition is None:
        return present, future, present
    brought, by_chance = case.before_cost(), case.chance()
    half = z * math.hypot(doubt * brought, errors[1], by_chance)
    future, total = Estimate(future.value, future.value - half, future.value + half), present.value + future.value
    if present.high is None:
        return present, future, Estimate(total, reason=present.reason)
    # what the given range holds beside doubt and parameters is the chance of present customers
    spread = ((present.high - present.value) / Z95) ** 2
    left = max(spread - (doubt * present.value) ** 2 - errors[0] ** 2, 0.0)
    half = z * math.hypot(doubt * (present.value + brought), errors[2], by_chance, math.sqrt(left))
    return present, future, Estimate(total, total - half, total + half)


def _driver_table(moved: dict[str, Estimate], absent: dict[str, str]) -> pd.DataFrame:
    rows = []
    for driver in DRIVERS:
        at = Estimate(math.nan) if absent[driver] else moved[driver]
        ends = {"low": math.nan if at.low is None else at.low, "high": math.nan if at.high is None else at.high}
        row = {"driver": driver, "factor": BETTER[driver], "elasticity": at.value, **ends, "reason": absent[driver]}
        rows.append(row)
    return pd.DataFrame(rows)


def _no_driver(driver: str, case: _Case) -> str:
    if driver == "acquisition_cost" and case.acquisition is None:
        return "how many customers are won, and at what cost, is not known"
    if driver == "discount_rate" and case.annual_rate == 0.0:
        return "the future is not discounted"
    if driver == "retention" and BETTER[driver] * case.retention() >= 1.0:
        return "practically every customer stays a year, so retention cannot be 1 % better"
    return ""


def _errors(results: PurchaseResults, figures: Callable[[PurchaseResults], Array]) -> Array:
    """Standard errors by the delta method, along independent directions of the sampling distribution of log parameters."""
    slopes = []
    for direction in np.linalg.cholesky(results.log_cov).T:
        up, down = (results.with_params(results.params * np.exp(way * _STEP * direction)) for way in (1, -1))
        slopes.append((figures(up) - figures(down)) / (2 * _STEP))
    return np.sqrt(np.square(slopes).sum(axis=0))
