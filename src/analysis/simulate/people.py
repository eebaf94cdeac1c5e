"""Who the customers are: when and how they came, what can be seen of them, and what cannot."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.simulate.clock import OBSERVED_DAYS

RESPONSIVENESS = ("persuadable", "sure_thing", "lost_cause", "sleeping_dog")


@dataclass(frozen=True)
class Kind:
    """A hidden type of customer.

    Attributes
    ----------
    share : of all customers. rate, hazard, spend : multipliers of the purchase rate, of the rate of lapsing and of the
    mean order. habit : 1 buys at random times (Poisson), k at every k-th of such times (Erlang-k). responsiveness : shares
    of ``RESPONSIVENESS`` among them.
    """

    name: str
    share: float
    rate: float = 1.0
    hazard: float = 1.0
    spend: float = 1.0
    habit: int = 1
    responsiveness: tuple[float, float, float, float] = (0.3, 0.3, 0.3, 0.1)


@dataclass(frozen=True)
class Level:
    """A value of an attribute that everybody can see: its share, and what it multiplies."""

    name: str
    share: float
    rate: float = 1.0
    hazard: float = 1.0
    spend: float = 1.0
    cost: float = 0.0  # of acquiring one customer, where the attribute is the channel


@dataclass(frozen=True)
class PeoplePlan:
    """What is planted about customers.

    Attributes
    ----------
    arrival_days : first purchases fall evenly between day 0 and this one, ``arrival_growth`` times as often at its end.
    r, alpha, s, beta : Pareto/NBD of the base: rate ~ gamma(r, alpha), hazard ~ gamma(s, beta), days
    (Schmittlein, Morrison & Colombo 1987). p, q, gamma : gamma-gamma of order values (Fader & Hardie 2013, note 025).
    pairs : share of customers who share a household with another. trait_spend : log-change of the mean order by a
    standard deviation of the unobserved trait. holdout : share never contacted. prospects : non-buyers a customer.
    """

    arrival_days: float
    r: float
    alpha: float
    s: float
    beta: float
    p: float
    q: float
    gamma: float
    kinds: tuple[Kind, ...]
    channels: tuple[Level, ...]
    regions: tuple[Level, ...]
    age_bands: tuple[Level, ...]
    arrival_growth: float = 1.0
    pairs: float = 0.0
    trait_spend: float = 0.0
    holdout: float = 0.05
    consent_email: float = 0.7
    consent_sms: float = 0.4
    prospects: float = 0.2


@dataclass(frozen=True)
class People:
    """A batch of customers: arrays of shape (n,); codes index the plan's tuples.

    Attributes
    ----------
    arrival : day of the first purchase. rate : purchases a day while a customer. hazard : lapses a day.
    spend_mean : mean order, CNY. trait : standard normal, seen by nobody. holdout : never contacted.
    """

    customer_id: NDArray[np.str_]
    arrival: NDArray[np.float64]
    channel: NDArray[np.int8]
    region: NDArray[np.int8]
    age_band: NDArray[np.int8]
    kind: NDArray[np.int8]
    household: NDArray[np.int64]
    rate: NDArray[np.float64]
    hazard: NDArray[np.float64]
    spend_mean: NDArray[np.float64]
    habit: NDArray[np.int8]
    trait: NDArray[np.float64]
    consent_email: NDArray[np.bool_]
    consent_sms: NDArray[np.bool_]
    holdout: NDArray[np.bool_]
    responsiveness: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.arrival)


def draw(plan: PeoplePlan, first: int, n: int, rng: np.random.Generator) -> People:
    """Customers number ``first`` … ``first + n − 1``.

    Rate, hazard and mean order are independent of each other given what multiplies them, as the models assume.
    """
    kind = _codes(plan.kinds, n, rng)
    channel, region, age_band = (_codes(levels, n, rng) for levels in (plan.channels, plan.regions, plan.age_bands))
    trait = rng.standard_normal(n)

    def multiplied(what: str) -> NDArray[np.float64]:
        product = np.ones(n)
        for levels, codes in (
            (plan.kinds, kind),
            (plan.channels, channel),
            (plan.regions, region),
            (plan.age_bands, age_band),
        ):
            product *= np.array([getattr(level, what) for level in levels])[codes]
        return product

    rate = rng.gamma(plan.r, 1 / plan.alpha, n) * multiplied("rate")
    hazard = rng.gamma(plan.s, 1 / plan.beta, n) * multiplied("hazard")
    # An order is gamma(p, ν) with ν ~ gamma(q, γ), so its mean given ν is p / ν.
    spend_mean = plan.p / rng.gamma(plan.q, 1 / plan.gamma, n) * multiplied("spend")
    spend_mean *= np.exp(plan.trait_spend * trait)
    shares = np.cumsum([k.responsiveness for k in plan.kinds], axis=1)[kind]
    responsiveness = (rng.random(n)[:, None] > shares[:, :-1]).sum(axis=1)
    return People(
        customer_id=np.char.add("C", np.char.zfill(np.arange(first, first + n).astype(str), 8)),
        arrival=_arrivals(plan, n, rng),
        channel=channel,
        region=region,
        age_band=age_band,
        kind=kind,
        household=first + _households(plan.pairs, n, rng),
        rate=rate,
        hazard=hazard,
        spend_mean=spend_mean,
        habit=np.array([k.habit for k in plan.kinds], dtype=np.int8)[kind],
        trait=trait,
        consent_email=rng.random(n) < plan.consent_email,
        consent_sms=rng.random(n) < plan.consent_sms,
        holdout=rng.random(n) < plan.holdout,
        responsiveness=responsiveness.astype(np.int8),
    )


def _codes(levels: tuple[Kind | Level, ...], n: int, rng: np.random.Generator) -> NDArray[np.int8]:
    shares = np.array([level.share for level in levels])
    return rng.choice(len(levels), size=n, p=shares / shares.sum()).astype(np.int8)


def _arrivals(plan: PeoplePlan, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Arrival times with a density that grows in a straight line from 1 to ``arrival_growth``."""
    u, slope = rng.random(n), plan.arrival_growth - 1
    share = u if slope == 0 else (np.sqrt(1 + u * ((1 + slope) ** 2 - 1)) - 1) / slope
    return share * min(plan.arrival_days, OBSERVED_DAYS)


def _households(pairs: float, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Every customer's household; ``pairs`` of them live with the one before them."""
    joins = rng.random(n) < pairs / 2
    joins[0] = False
    return np.arange(n) - (joins & ~np.r_[False, joins[:-1]])
