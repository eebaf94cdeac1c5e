"""From a point of a driver to money: driver → satisfaction → buying, staying and spend → margin.

The chain of return on quality (Rust, Zahorik & Keiningham 1995, J. Marketing 59(2), figure 1), with the uncertainty of
every step carried through by simulation. It says what a point would bring if the links are causes, not that they are.

A raise of satisfaction is taken to act at once on the whole base, and to last. A customer whose rate is multiplied by e^g
and whose hazard by e^d is expected to make e^g D(e^d) / D(1) times the purchases, with D(m) the discounted time as a
customer under m times the hazard: with hazards gamma(s, β + T), (1 + m t / (β + T))^−s of those who are customers still are
after t (Pareto/NBD: Fader, Hardie & Lee 2005, JMR 42(4), eq. 2). Where the spend of a purchase is multiplied by e^θ, so is the
margin.

The total always holds the route through spend, also where its interval holds 0. To leave it out then would state an effect of
exactly nothing, which was not found; a total that takes a route in only when it is significant is biased, and its interval too
short (pretest estimation: Leeb & Pötscher 2005, Econometric Theory 21). It costs width where spend does not move, and
:meth:`ReturnOnQuality.routes` shows how much of the total comes from where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from analysis.valuation import ModelNotFitted, ParetoNBD, weekly_discount
from analysis.valuation.integrals import discounted_time

from .drivers import _upstream
from .link import Link, LinkRefused
from .moments import Array
from .path_model import BootstrapResults, PLSResults, quantities
from .resampling import percentile_interval
from .scores import Scale, item_shares, levels, scale_limits

DAYS_PER_WEEK = 7.0
STEPS = ("driver", "link", "value")
RAISES = (1.0, 5.0, 10.0)
ROUTES = ("rate", "hazard", "spend")
_GRID = np.linspace(-3.0, 3.0, 61)  # logarithms of what multiplies the hazard
_PARAMETER_DRAWS = 40
_AGES = 200  # groups of customers of about one age: what a raise is worth varies smoothly with it


@dataclass(frozen=True)
class CustomerBase:
    """What the base is expected to bring, and how that moves with the hazard of leaving.

    Attributes
    ----------
    customers : int. horizon_weeks : int.
    value : expected margin over the horizon, money; lifetime : over an endless horizon, None without a discount rate.
    retention : expected share of today's active customers who still are after the horizon.
    spread : standard error of `value`, as a share of it.
    by_hazard : (3, K, 61) for each of K drawn parameters (the first: the estimates) and each hazard multiplier e^−3 … e^3: the
        value over the horizon and the lifetime value as shares of what they are at 1, and the retention.
    """

    customers: int
    horizon_weeks: int
    value: float
    lifetime: float | None
    retention: float
    spread: float
    by_hazard: Array


def customer_base(
    summary: pd.DataFrame,
    value: pd.DataFrame,
    *,
    horizon_weeks: int,
    discount_rate: float | None,
    limits: tuple[float, float] | None = None,
    entry: str = "first_purchase",
    seed: int = 1,
) -> CustomerBase:
    """The base as valuation sees it.

    Parameters
    ----------
    summary, value : the canonical `customer_summary` and `customer_value`.
    horizon_weeks, discount_rate : with which `value` was made; the rate is a year's.
    limits : 95 % limits of the total of `residual_value`, as valuation found them; without them the total is taken as known.
    entry : the study's clock.

    Raises
    ------
    LinkRefused
        Without values in money, or where no purchase model says how long customers stay.
    """
    base = value[["customer_id", "residual_value"]].merge(summary, on="customer_id")
    money = base["residual_value"].to_numpy(float)
    if not len(base) or not np.isfinite(money).all() or not money.sum() > 0:
        raise LinkRefused("customers have no expected margin, so a change in what they buy has no worth in money")
    if entry == "left_truncated":
        raise LinkRefused("customers were there before the data begin, so how long they stay is unknown")
    weeks = [base[c].to_numpy(float) / DAYS_PER_WEEK for c in ("recency", "T")]
    try:
        results = ParetoNBD(base["frequency"], *weeks).fit()
    except ModelNotFitted as error:
        raise LinkRefused(f"how long customers stay is unknown: {error}") from error
    if not results.verdict.usable:
        raise LinkRefused(f"how long customers stay is unknown: {results.verdict.reason}")
    total = float(money.sum())
    spread = 0.0 if limits is None else (limits[1] - limits[0]) / (2 * 1.959964 * total)
    alive = results.probability_alive(base["frequency"], *weeks)
    age, of = _ages(weeks[1])
    worth, active = np.bincount(of, money), np.bincount(of, alive)
    drawn = results.draw_params(_PARAMETER_DRAWS - 1, np.random.default_rng(seed))
    params = np.vstack([results.params.to_numpy(), drawn])
    discount = weekly_discount(discount_rate)
    tables = np.array([_by_hazard(*row[2:], age, worth, active, horizon_weeks, discount) for row in params])
    endless = discount > 0
    return CustomerBase(
        customers=len(base),
        horizon_weeks=horizon_weeks,
        value=total,
        lifetime=total * tables[0, 3, 0] if endless else None,
        retention=float(tables[0, 2, len(_GRID) // 2]),
        spread=float(spread),
        by_hazard=np.moveaxis(tables[:, :3], 1, 0),
    )


def _ages(age: Array) -> tuple[Array, np.ndarray]:
    """Mean age of groups of customers of nearly the same age, and the group of each customer."""
    edges = np.linspace(age.min(), age.max(), _AGES + 1)[1:-1]
    _, of = np.unique(np.searchsorted(edges, age), return_inverse=True)
    return np.bincount(of, age) / np.bincount(of), of


def _by_hazard(
    s: float, beta: float, age: Array, worth: Array, active: Array, horizon: float, discount: float
) -> Array:
    """Rows: share of value over the horizon, share of lifetime value, retention; and lifetime over horizon value, (4, 61)."""
    scale = (beta + age)[:, None] / np.exp(_GRID)
    stay = scale * discounted_time(s - 1.0, discount * scale, np.log1p(horizon / scale))
    middle = len(_GRID) // 2
    share = worth @ (stay / stay[:, [middle]]) / worth.sum()
    kept = active @ (1 + horizon / scale) ** -s / active.sum()
    if discount <= 0:
        return np.stack([share, np.full_like(share, np.nan), kept, np.full_like(share, np.nan)])
    ever = scale * discounted_time(s - 1.0, discount * scale, np.inf)
    lifetime = worth @ (ever / stay[:, [middle]]) / worth.sum()
    multiple = lifetime[middle]
    return np.stack([share, lifetime / multiple, kept, np.full_like(share, multiple)])


@dataclass(frozen=True)
class DriverEffects:
    """Points of satisfaction that go with a point of each driver, with draws.

    Attributes
    ----------
    names : drivers, the target itself first (a point of it is a point). points : (d,). draws : (B, d). levels : (d,) mean score
    of each driver, 0-100.
    """

    names: tuple[str, ...]
    points: Array
    draws: Array
    levels: Array


def driver_effects_drawn(
    results: PLSResults,
    bootstrap: BootstrapResults,
    scale: Scale,
    *,
    target: str = "Satisfaction",
    usable: Sequence[str],
) -> DriverEffects:
    """Total effects on the target in points, as in the table of drivers, with the bootstrap draws behind their intervals.

    Raises LinkRefused if the target's own measurement fails.
    """
    if target not in usable:
        raise LinkRefused(f"the items of {target} do not measure one thing well")
    names = list(results.specification.constructs)
    low, high = scale_limits(results.specification.items, scale)
    starts = results.model.layout.starts[:-1]
    upstream = [name for name in _upstream(results, target) if name in usable]
    at, t = [names.index(name) for name in upstream], names.index(target)

    def points(quantity: dict[str, Array]) -> Array:
        _, spread = item_shares(quantity["weights"], quantity["deviations"], low, high, starts)
        return quantity["total_effects"][:, at, t] * spread[:, [t]] / spread[:, at]

    point = quantities(results.moments, results.estimates, results.model.layout)
    level = levels(point["means"], point["weights"], point["deviations"], low, high, starts)[0]
    drawn = points(bootstrap.values)
    return DriverEffects(
        (target, *upstream),
        np.append(1.0, points(point)[0]),
        np.column_stack([np.ones(len(drawn)), drawn]),
        level[[t, *at]],
    )


@dataclass(frozen=True)
class Draws:
    """What is drawn for each step: driver (B, d), link (B, 3) by point of satisfaction, value (B,) factor, parameters (B,)."""

    driver: Array
    link: Array
    factor: Array
    parameters: np.ndarray


class ReturnOnQuality:
    """What raising a driver would bring.

    Parameters
    ----------
    drivers : DriverEffects
    link : Link
    base : CustomerBase
    draws : simulated chains. seed : of them.
    """

    def __init__(
        self, drivers: DriverEffects, link: Link, base: CustomerBase, draws: int = 4000, seed: int = 1
    ) -> None:
        self.drivers, self.link, self.base = drivers, link, base
        rng = np.random.default_rng(seed)
        self.draws = Draws(
            driver=drivers.draws[rng.integers(0, len(drivers.draws), draws)],
            link=link.draws(draws, rng),
            factor=np.maximum(1 + base.spread * rng.standard_normal(draws), 0.0),
            parameters=rng.integers(0, base.by_hazard.shape[1], draws),
        )

    @cached_property
    def point(self) -> Draws:
        """The chain at the estimates, as one draw."""
        return Draws(self.drivers.points[None], self.link.by_point()[None], np.ones(1), np.zeros(1, dtype=int))

    def what_if(self, raises: Sequence[float] = RAISES, confidence: float = 0.95) -> pd.DataFrame:
        """One row a driver and raise.

        Returns
        -------
        driver; raise (points asked for) and raised (points that the scale has room for); and with _low and _high: satisfaction
        (points), purchases (change as a share, by the rate alone), retention (percentage points more of today's active
        customers at the end of the horizon), spend (change of that of a purchase, as a share), money (margin over the horizon),
        money_rate, money_hazard and money_spend (its parts, see :meth:`routes`), customer (money a customer, at which the raise
        breaks even), lifetime (margin over an endless horizon; NaN without a discount rate).
        """
        rows = []
        for k, name in enumerate(self.drivers.names):
            for wanted in raises:
                raised = float(np.clip(100 - self.drivers.levels[k], 0, wanted))
                row = {"driver": name, "raise": wanted, "raised": raised}
                point, drawn = self._chain(self.point, k, raised), self._chain(self.draws, k, raised)
                for column, value in point.items():
                    low, high = percentile_interval(drawn[column], confidence)
                    row |= {column: float(value[0]), f"{column}_low": float(low), f"{column}_high": float(high)}
                rows.append(row)
        return pd.DataFrame(rows)

    def worth(self, driver: str = "Satisfaction", raised: float = 10.0, confidence: float = 0.95) -> dict[str, object]:
        """Margin over the horizon that the raise would bring, as arguments of a finding.

        Returns
        -------
        value, low, high, each with each_low and each_high (a customer), raised, share (of what the base is expected to bring).
        """
        row = self._row(driver, raised, confidence)
        return {
            "value": row["money"],
            "low": row["money_low"],
            "high": row["money_high"],
            "each": row["customer"],
            "each_low": row["customer_low"],
            "each_high": row["customer_high"],
            "raised": row["raised"],
            "share": row["money"] / self.base.value,
        }

    def routes(self, driver: str = "Satisfaction", raised: float = 10.0, confidence: float = 0.95) -> pd.DataFrame:
        """Through what the margin of a raise comes: buying more often, staying longer, spending more a purchase.

        The three multiply each other; each has the part of the change that its logarithm has in the logarithm of the whole, so
        that they add up to it in every draw and none depends on an order (logarithmic mean Divisia index: Ang 2005, Energy
        Policy 33, 867-871).

        Returns
        -------
        route ("rate", "hazard", "spend", "total"); value, low, high (money over the horizon); share (of the total; NaN where it
        is 0). Limits do not add up: the routes are uncertain together.
        """
        row = self._row(driver, raised, confidence)
        rows = []
        for route in (*ROUTES, "total"):
            name = "money" if route == "total" else f"money_{route}"
            ends = {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]}
            rows.append({"route": route} | ends | {"share": row[name] / row["money"] if row["money"] else np.nan})
        return pd.DataFrame(rows)

    def returns(
        self, driver: str, raised: float, cost: float, confidence: float = 0.95, *, lifetime: bool = False
    ) -> dict[str, object]:
        """Return on a raise that costs `cost` money today: what it brings less its cost, over its cost.

        Returns
        -------
        net, net_low, net_high (money, discounted); value, low, high (return on quality: net over cost); chance (share of the
        draws in which it pays); break_even (cost at which it neither pays nor loses).

        Raises LinkRefused for a cost of nothing or less, and for a lifetime without a discount rate.
        """
        if not cost > 0:
            raise LinkRefused(f"cost {cost}: a return is money over a cost above 0")
        column = "lifetime" if lifetime else "money"
        if lifetime and self.base.lifetime is None:
            raise LinkRefused("a lifetime without end needs a discount rate: state money.discount_rate")
        k = self._number(driver)
        raised = float(np.clip(100 - self.drivers.levels[k], 0, raised))
        gain = float(self._chain(self.point, k, raised)[column][0])
        drawn = self._chain(self.draws, k, raised)[column]
        low, high = map(float, percentile_interval(drawn, confidence))
        return {
            "net": gain - cost,
            "net_low": low - cost,
            "net_high": high - cost,
            "value": gain / cost - 1,
            "low": low / cost - 1,
            "high": high / cost - 1,
            "chance": float((drawn > cost).mean()),
            "break_even": gain,
        }

    def uncertainty(self, driver: str, raised: float = 10.0) -> pd.DataFrame:
        """Which step the width of the interval comes from: step, share of the variance, width it would leave alone.

        Each step is drawn alone, the others at their estimates; shares are of the sum of these variances (first-order indices:
        Sobol' 1993).
        """
        k = self._number(driver)
        raised = float(np.clip(100 - self.drivers.levels[k], 0, raised))
        size, at = len(self.draws.factor), self.point
        still = Draws(
            np.repeat(at.driver, size, axis=0),
            np.repeat(at.link, size, axis=0),
            np.ones(size),
            np.zeros(size, dtype=int),
        )
        alone = {
            "driver": replace(still, driver=self.draws.driver),
            "link": replace(still, link=self.draws.link),
            "value": replace(still, factor=self.draws.factor, parameters=self.draws.parameters),
        }
        money = {step: self._chain(drawn, k, raised)["money"] for step, drawn in alone.items()}
        variance = np.array([money[step].var() for step in STEPS])
        ends = np.array([percentile_interval(money[step]) for step in STEPS])
        share = variance / variance.sum() if variance.sum() > 0 else np.full(len(STEPS), np.nan)
        return pd.DataFrame({"step": STEPS, "share": share, "width": ends[:, 1] - ends[:, 0]})

    def _number(self, driver: str) -> int:
        if driver not in self.drivers.names:
            raise LinkRefused(f"{driver!r} is no driver with a sound scale: use one of {', '.join(self.drivers.names)}")
        return self.drivers.names.index(driver)

    def _row(self, driver: str, raised: float, confidence: float) -> pd.Series:
        self._number(driver)
        table = self.what_if((raised,), confidence)
        return table[table["driver"] == driver].iloc[0]

    def _chain(self, drawn: Draws, k: int, raised: float) -> dict[str, Array]:
        """Every step of the chain, (B,) each."""
        room = 100 - self.drivers.levels[0]
        points = np.clip(drawn.driver[:, k] * raised, -100, room)
        rate, hazard, spend = (drawn.link * points[:, None]).T
        value, lifetime, retention = self._at(hazard, drawn.parameters)
        before = self.base.by_hazard[2, drawn.parameters, len(_GRID) // 2]
        logs = np.stack([rate, np.log(value), spend])
        money = self.base.value * drawn.factor * np.expm1(logs.sum(axis=0))
        parts = logs * self.base.value * drawn.factor * _relative_change(logs.sum(axis=0))
        ever = np.nan if self.base.lifetime is None else self.base.lifetime
        return {
            "satisfaction": points,
            "purchases": np.expm1(rate),
            "retention": 100 * (retention - before),
            "spend": np.expm1(spend),
            "money": money,
            **{f"money_{route}": part for route, part in zip(ROUTES, parts, strict=True)},
            "customer": money / self.base.customers,
            "lifetime": ever * drawn.factor * (np.exp(rate + spend) * lifetime - 1),
        }

    def _at(self, hazard: Array, parameters: np.ndarray) -> Array:
        """The three tables of the base at log hazard multipliers, each under its own parameters, (3, B)."""
        position = (np.clip(hazard, _GRID[0], _GRID[-1]) - _GRID[0]) / (_GRID[1] - _GRID[0])
        below = np.minimum(position.astype(int), len(_GRID) - 2)
        part = position - below
        table = self.base.by_hazard
        return table[:, parameters, below] * (1 - part) + table[:, parameters, below + 1] * part


def _relative_change(log_change: Array) -> Array:
    """(e^x − 1) / x, 1 at 0: the logarithmic mean of 1 and e^x."""
    return np.divide(np.expm1(log_change), log_change, out=np.ones_like(log_change), where=log_change != 0)
