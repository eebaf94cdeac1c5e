"""When customers buy and for how much: a Pareto/NBD process whose rates may move from quarter to quarter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.simulate.clock import LAST_DAY, PERIOD_DAYS, PERIODS, dates
from analysis.simulate.people import People

OWN, CAUSED, PULLED = 0, 1, 2


@dataclass(frozen=True)
class PurchasePlan:
    """What is planted about orders.

    Attributes
    ----------
    season : twelve weights, one a calendar month, of how much is bought; scaled to mean 1.
    weekdays : seven weights, Monday first.
    """

    season: tuple[float, ...] = (1.0,) * 12
    weekdays: tuple[float, ...] = (1.0,) * 7


@dataclass(frozen=True)
class Occasions:
    """Orders of a batch of customers, flat and sorted by owner and day; arrays of shape (orders,).

    Attributes
    ----------
    owner : index of the customer in the batch. day : when. value : CNY before any coupon. coupon : CNY taken off.
    origin : ``OWN`` habit, ``CAUSED`` by a campaign, or ``PULLED`` forward by one.
    """

    owner: NDArray[np.int32]
    day: NDArray[np.float64]
    value: NDArray[np.float64]
    coupon: NDArray[np.float64]
    origin: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.day)

    @property
    def paid(self) -> NDArray[np.float64]:
        """What was paid for each order, CNY."""
        return self.value - self.coupon

    @classmethod
    def sorted(
        cls,
        owner: NDArray[np.int32],
        day: NDArray[np.float64],
        value: NDArray[np.float64],
        coupon: NDArray[np.float64] | None = None,
        origin: NDArray[np.int8] | None = None,
    ) -> Occasions:
        """Occasions from arrays in any order; without ``coupon`` nothing was taken off, without ``origin`` all are own."""
        order = np.lexsort((day, owner))
        coupon = np.zeros(len(day)) if coupon is None else coupon
        origin = np.zeros(len(day), dtype=np.int8) if origin is None else origin
        return cls(
            owner[order].astype(np.int32), day[order], value[order], coupon[order], origin[order].astype(np.int8)
        )


def daily_weights(plan: PurchasePlan) -> NDArray[np.float64]:
    """How much is bought on each day, shape (LAST_DAY,), mean 1 over whole years of weeks."""
    days = dates(np.arange(LAST_DAY))
    month = days.astype("datetime64[M]").astype(int) % 12
    season = np.array(plan.season)[month]
    weekday = np.array(plan.weekdays)[np.arange(LAST_DAY) % 7]
    weights = season * weekday
    return weights / weights.mean()


def lapses(people: People, multiplier: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """The day on which each customer stops being one; it may lie beyond the simulated time.

    Parameters
    ----------
    multiplier : shape (n, PERIODS), of the hazard in each quarter; the last one goes on for ever.
    """
    bounds = PERIOD_DAYS * np.arange(PERIODS + 1.0)
    spent = np.diff(np.maximum(bounds, people.arrival[:, None]), axis=1)
    hazard = people.hazard[:, None] * multiplier
    total = np.cumsum(hazard * spent, axis=1)
    threshold = rng.standard_exponential(len(people))
    quarter = (total <= threshold[:, None]).sum(axis=1)
    last = np.minimum(quarter, PERIODS - 1)
    row = np.arange(len(people))
    # From the end of the quarter back, or, for those who outlive the simulation, from its end on.
    return bounds[last + 1] + (threshold - total[row, last]) / hazard[row, last]


def simulate(
    people: People,
    lapsed: NDArray[np.float64],
    multiplier: NDArray[np.float64],
    shape: float,
    plan: PurchasePlan,
    rng: np.random.Generator,
) -> Occasions:
    """Orders from each customer's arrival, which is their first order, to the day on which they lapse.

    Orders come by a Poisson process, or by every k-th event of one k times as fast for customers with habit k, in
    time that runs with season and multiplier. Values are gamma around the customer's mean (gamma-gamma over customers:
    Fader & Hardie 2013, note 025).

    Parameters
    ----------
    lapsed : shape (n,), days. multiplier : shape (n, PERIODS), of the purchase rate in each quarter.
    shape : of the gamma distribution of a customer's orders around their mean (p of the gamma-gamma).
    """
    n, habit = len(people), people.habit.astype(float)
    # Business time: weight gone by at each midnight.
    clock = np.concatenate([[0.0], np.cumsum(daily_weights(plan))])
    bounds = PERIOD_DAYS * np.arange(PERIODS + 1.0)
    end = np.minimum(lapsed, LAST_DAY)[:, None]
    inside = np.interp(np.clip(bounds, people.arrival[:, None], end), np.arange(LAST_DAY + 1.0), clock)
    events = people.rate[:, None] * habit[:, None] * multiplier * np.diff(inside, axis=1)
    total = np.concatenate([np.zeros((n, 1)), np.cumsum(events, axis=1)], axis=1)
    count = rng.poisson(total[:, -1])
    owner = np.repeat(np.arange(n, dtype=np.int32), count)
    at = rng.random(len(owner)) * total[owner, -1]
    order = np.lexsort((at, owner))
    at = at[order]
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    # A habit of k keeps every k-th event; where the count starts is random, so that arrival is no special event.
    phase = rng.integers(0, people.habit, n)
    kept = (nth + phase[owner]) % people.habit[owner] == 0
    owner, at = owner[kept], at[kept]
    quarter = (total[owner, 1:] <= at[:, None]).sum(axis=1).clip(max=PERIODS - 1)
    share = (at - total[owner, quarter]) / events[owner, quarter]
    business = inside[owner, quarter] + share * (inside[owner, quarter + 1] - inside[owner, quarter])
    day = np.interp(business, clock, np.arange(LAST_DAY + 1.0))
    owner = np.concatenate([np.arange(n, dtype=np.int32), owner])
    day = np.concatenate([people.arrival, day])
    value = rng.gamma(shape, people.spend_mean[owner] / shape)
    return Occasions.sorted(owner, day, np.maximum(value, 0.01))
