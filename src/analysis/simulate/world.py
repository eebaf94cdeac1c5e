"""The two worlds: one in which every model's assumptions hold, and one like a company."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.simulate import campaigns, dirt, satisfaction
from analysis.simulate.baskets import BasketPlan
from analysis.simulate.comments import CommentPlan
from analysis.simulate.people import Kind, Level, PeoplePlan
from analysis.simulate.purchases import PurchasePlan


@dataclass(frozen=True)
class World:
    """Everything that is planted."""

    name: str
    people: PeoplePlan
    purchases: PurchasePlan
    baskets: BasketPlan
    satisfaction: satisfaction.SatisfactionPlan
    campaigns: tuple[campaigns.Campaign, ...]
    dirt: dirt.DirtPlan
    comments: CommentPlan


_AGES = (("18-29", 0.26), ("30-44", 0.34), ("45-59", 0.25), ("60+", 0.15))
_REGIONS = (("Shanghai", 0.35), ("Beijing", 0.25), ("Guangzhou", 0.22), ("Chengdu", 0.18))
_CHANNELS = (
    ("search ads", 0.30, 45.0),
    ("social media", 0.20, 30.0),
    ("store", 0.30, 15.0),
    ("referral", 0.12, 10.0),
    ("marketplace", 0.08, 60.0),
)

# Rates are low enough that hardly any two orders of a customer fall on one day, where they would count as one occasion.
TEXTBOOK = World(
    name="textbook",
    people=PeoplePlan(
        arrival_days=546,
        r=1.2,
        alpha=200.0,
        s=0.6,
        beta=400.0,
        p=6.0,
        q=4.0,
        gamma=60.0,
        kinds=(Kind("customer", 1.0),),
        channels=tuple(Level(name, share, cost=cost) for name, share, cost in _CHANNELS),
        regions=tuple(Level(*region) for region in _REGIONS),
        age_bands=tuple(Level(*age) for age in _AGES),
    ),
    purchases=PurchasePlan(),
    baskets=BasketPlan(),
    satisfaction=satisfaction.TEXTBOOK,
    campaigns=campaigns.TEXTBOOK,
    dirt=dirt.TEXTBOOK,
    comments=CommentPlan(),
)

COMPANY = World(
    name="company",
    people=PeoplePlan(
        arrival_days=728,
        arrival_growth=1.3,
        r=1.5,
        alpha=100.0,
        s=0.8,
        beta=500.0,
        p=4.0,
        q=4.5,
        gamma=105.0,
        kinds=(
            Kind("regular", 0.25, rate=2.0, hazard=0.5, habit=3, responsiveness=(0.15, 0.70, 0.05, 0.10)),
            Kind("bargain hunter", 0.25, rate=1.2, spend=0.8, responsiveness=(0.60, 0.15, 0.15, 0.10)),
            Kind("occasional", 0.35, rate=0.6, spend=1.1, responsiveness=(0.30, 0.25, 0.40, 0.05)),
            Kind("trier", 0.15, rate=0.5, hazard=4.0, responsiveness=(0.20, 0.10, 0.60, 0.10)),
        ),
        channels=tuple(
            Level(name, share, rate, hazard, spend, cost)
            for (name, share, cost), (rate, hazard, spend) in zip(
                _CHANNELS,
                ((0.9, 1.2, 1.0), (0.8, 1.4, 0.9), (1.1, 0.8, 1.0), (1.2, 0.7, 1.1), (0.9, 1.3, 1.0)),
                strict=True,
            )
        ),
        regions=tuple(
            Level(*region, spend=spend) for region, spend in zip(_REGIONS, (1.1, 1.05, 1.0, 0.85), strict=True)
        ),
        age_bands=tuple(Level(*age, rate=rate) for age, rate in zip(_AGES, (0.8, 1.1, 1.05, 0.95), strict=True)),
        pairs=0.3,
    ),
    purchases=PurchasePlan(
        season=(1.15, 0.80, 0.90, 0.95, 1.00, 1.10, 0.90, 0.90, 1.00, 1.05, 1.30, 1.05),
        weekdays=(0.85, 0.85, 0.90, 0.95, 1.10, 1.25, 1.10),
    ),
    baskets=BasketPlan(returned=0.02),
    satisfaction=satisfaction.COMPANY,
    campaigns=campaigns.COMPANY,
    dirt=dirt.COMPANY,
    comments=CommentPlan(),
)

WORLDS = {world.name: world for world in (TEXTBOOK, COMPANY)}
