"""A company small enough to be made many times: customers, purchases and a survey, without baskets or files."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.simulate import people, purchases, satisfaction
from analysis.simulate.clock import LAST_DAY, OBSERVED_DAYS, PERIOD_DAYS, PERIODS, START
from analysis.simulate.company import standardised
from analysis.simulate.world import WORLDS

OBSERVED_TO = START + datetime.timedelta(days=OBSERVED_DAYS - 1)
ITEMS = ["cusa1", "cusa2", "cusa3"]


@dataclass(frozen=True)
class SmallCompany:
    """answers (with `satisfaction`, the mean of its items, 0-100, and `latent`), days, customers; who, latents, lapsed, plan."""

    answers: pd.DataFrame
    days: pd.DataFrame
    customers: pd.DataFrame
    who: people.People
    latents: dict
    lapsed: np.ndarray
    plan: satisfaction.SatisfactionPlan

    @classmethod
    def draw(cls, world: str, n: int, rng, invited: float = 1.0, confounding: float = 0.0, **changed) -> SmallCompany:
        """`n` customers; `changed` replaces what is planted about satisfaction."""
        base = WORLDS[world]
        plan = replace(base.satisfaction, confounding=confounding, **changed)
        who = people.draw(replace(base.people, trait_spend=confounding), 1, n, rng)
        age = standardised(base.people.age_bands, who.age_band)
        latents = satisfaction.latents(n, plan, rng, who.trait, age=age)
        lapsed = purchases.lapses(who, satisfaction.hazard_multiplier(latents, plan), rng)
        multiplier = satisfaction.rate_multiplier(latents, plan)
        orders = purchases.simulate(who, lapsed, multiplier, base.people.p, base.purchases, rng)
        ends = PERIOD_DAYS * np.arange(1, PERIODS + 1)
        active = (who.arrival[:, None] < ends) & (lapsed[:, None] >= ends)
        survey = satisfaction.survey(who, latents, active, plan, invited, rng)
        items = survey[ITEMS].astype(float)
        score = 100 * (items.fillna(items.mean()).mean(axis=1) - 1) / 9
        quarter = np.array(satisfaction.WAVES)[survey["wave"].to_numpy() - 1]
        answers = pd.DataFrame(
            {
                "response_id": [f"Q{k}" for k in range(len(survey))],
                "customer_id": who.customer_id[survey["owner"]],
                "responded_on": pd.Timestamp(START) + pd.to_timedelta(survey["answered_day"].astype(int), unit="D"),
                "wave": survey["wave"].astype(int),
                "satisfaction": score,
                "latent": latents["Satisfaction"][survey["owner"], quarter],
                **{item: items[item] for item in ITEMS},
            }
        )
        seen = orders.day < OBSERVED_DAYS
        code, at = np.unique(
            orders.owner[seen] * np.int64(LAST_DAY) + orders.day[seen].astype(int), return_inverse=True
        )
        days = pd.DataFrame(
            {
                "customer_id": who.customer_id[code // LAST_DAY],
                "order_date": (pd.Timestamp(START) + pd.to_timedelta(code % LAST_DAY, unit="D")).date,
                "spend": np.bincount(at, orders.value[seen]),
            }
        )
        customers = pd.DataFrame(
            {
                "customer_id": who.customer_id,
                "age_band": who.age_band.astype(str),
                "region": who.region.astype(str),
                "acquisition_channel": who.channel.astype(str),
            }
        )
        return cls(answers, days, customers, who, latents, lapsed, plan)

    def summary(self) -> pd.DataFrame:
        """The canonical customer_summary, at a margin of a third."""
        day = (pd.to_datetime(self.days["order_date"]) - pd.Timestamp(START)).dt.days
        by = self.days.assign(day=day).groupby("customer_id")
        first, last, count, spend = by["day"].min(), by["day"].max(), by.size(), by["spend"].sum()
        columns = {"frequency": count - 1, "recency": last - first, "T": OBSERVED_DAYS - 1 - first, "spend": spend}
        return pd.DataFrame(columns | {"margin": spend / 3}).astype(float).reset_index()

    def truth(self) -> pd.DataFrame:
        """What the simulation writes of each customer, as far as the worth of a raise needs it."""
        summary = self.summary().set_index("customer_id").reindex(self.who.customer_id)
        frame = {
            "customer_id": self.who.customer_id,
            "alive": self.lapsed >= OBSERVED_DAYS,
            "rate": self.who.rate,
            "hazard": self.who.hazard,
            "spend_mean": self.who.spend_mean,
            "spend": summary["spend"].to_numpy(),
            "margin_to_date": summary["margin"].to_numpy(),
        }
        scores = {f"satisfaction_{t}": self.latents["Satisfaction"][:, t] for t in range(PERIODS)}
        return pd.DataFrame(frame | scores)
