"""Customers who live together in a randomised campaign: does a letter to one leak to the other, and were they drawn as one.

Where members of one household got different arms, what one was sent the other may have read: the groups are closer than the arms
are, and the effect comes out too small. Where whole households were drawn, nothing leaks, but customers are fewer independent
draws than they look: intervals must be by household.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from analysis.campaigns.design import is_comparison
from analysis.campaigns.effects import EffectResults, EstimationError, RegressionAdjustment, pool

LEVEL = 0.001
"""So rare must so few split households be before lot counts as having drawn whole households."""
LEAKS = 0.05
"""Share of households with members in several arms from which arms count as mixed within them."""
MOST_MEMBERS = 20
"""A household id that more customers share is taken for a placeholder, and its customers as living alone."""


@dataclass(frozen=True)
class HouseholdSplit:
    """Households with two or more customers in a campaign.

    Attributes
    ----------
    shared : how many. split : of them, with members in more than one arm. expected : split ones, if each customer had been
    drawn alone. p_value : chance of so few split ones then. customers : in split households.
    """

    shared: int
    split: int
    expected: float
    p_value: float
    customers: int

    @property
    def share(self) -> float:
        """Split ones of the shared; nan without any."""
        return self.split / self.shared if self.shared else np.nan

    @property
    def together(self) -> bool:
        """Whether members of a household share an arm more than by chance, so that intervals must be by household."""
        return self.p_value < LEVEL

    @property
    def verdict(self) -> str:
        """``alone`` (nobody lives together), ``split`` (arms are mixed within households), ``together`` (whole households were
        drawn) or ``unclear`` (too few live together to tell)."""
        if self.shared == 0:
            return "alone"
        if self.share > LEAKS:
            return "split"
        return "together" if self.together else "unclear"


def household_ids(customers: pd.DataFrame | None) -> pd.Series | None:
    """Household of each customer, by customer_id; None where the customers do not say."""
    if customers is None or "household_id" not in customers or customers["household_id"].isna().all():
        return None
    known = customers.drop_duplicates("customer_id")
    return pd.Series(known["household_id"].to_numpy(object), index=known["customer_id"].to_numpy(object))


def household_codes(customers: ArrayLike, households: ArrayLike) -> NDArray[np.int64]:
    """A number for the household of every row, one of their own for those without one or with a placeholder.

    Parameters
    ----------
    customers, households : shape (n,).
    """
    home, who = (
        pd.factorize(np.asarray(labels, dtype=object))[0].astype(np.int64) for labels in (households, customers)
    )
    homes, people = home.max(initial=-1) + 1, who.max(initial=-1) + 1
    pairs = np.unique(home[home >= 0] * people + who[home >= 0])
    members = np.bincount(pairs // max(people, 1), minlength=homes)
    real = np.append(members <= MOST_MEMBERS, False)[home]  # a missing household is number −1, the last entry
    return pd.factorize(np.where(real, home, homes + who))[0].astype(np.int64)


def household_split(customers: ArrayLike, arms: ArrayLike, households: ArrayLike) -> HouseholdSplit:
    """How far the arms of a campaign cut through households.

    Parameters
    ----------
    customers, arms, households : shape (n,), one row a contact; missing households are customers of their own.

    Notes
    -----
    If n customers were drawn one by one, n_a of them into arm a, all k of a household are in one arm with probability
    Σ C(n_a, k) / C(n, k). The count of split households then varies less than a binomial of the same mean (Hoeffding 1956,
    Annals of Mathematical Statistics 27:713), whose tail the p value is.
    """
    first = ~pd.Series(np.asarray(customers, dtype=object)).duplicated().to_numpy()
    home = household_codes(customers, households)[first]
    arm, names = pd.factorize(np.asarray(arms, dtype=object)[first])
    members = np.bincount(home)
    seen = np.bincount(np.unique(home * len(names) + arm) // len(names))
    shared, split = members > 1, seen > 1
    if not shared.any():
        return HouseholdSplit(0, 0, 0.0, 1.0, 0)
    k, count = members[shared].astype(float), int(shared.sum())
    same = sum(np.exp(_log_choose(n, k) - _log_choose(len(arm), k)) for n in np.bincount(arm))
    expected = float((1 - same).sum())
    p = float(stats.binom.cdf(int(split.sum()), count, min(1.0, max(0.0, expected / count))))
    return HouseholdSplit(count, int(split.sum()), expected, p, int(members[split].sum()))


def _log_choose(n: int, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the ways to choose k of n; −∞ where there are none."""
    enough = k <= n
    left = np.where(enough, n - k, 0.0)
    return np.where(enough, special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(left + 1), -np.inf)


def household_spillover(
    outcome: ArrayLike, customers: ArrayLike, arms: ArrayLike, households: ArrayLike
) -> EffectResults:
    """What a letter to one member does to another who got none, where customers were drawn one by one.

    Lot decided which customers of the control group live with somebody who was contacted; they are compared with those whose
    housemates are all in the control group as well, at equal numbers of housemates.

    Parameters
    ----------
    outcome : shape (n,). customers, arms, households : as in :func:`household_split`, one row a customer.

    Raises
    ------
    EstimationError
        ``no_comparison`` or ``too_few`` where hardly any customer of the control lives with others in the campaign.

    Source: randomised exposure within groups, Hudgens & Halloran (2008), JASA 103:832; standard error by household.
    """
    frame = pd.DataFrame({"y": np.asarray(outcome, float), "home": household_codes(customers, households)})
    frame["alone"] = [is_comparison(arm) for arm in np.asarray(arms, object)]
    homes = frame.groupby("home")["alone"]
    frame["members"], frame["left"] = homes.transform("size"), homes.transform("sum")
    mine = frame[frame["alone"] & (frame["members"] > 1)]
    exposed = (mine["left"] < mine["members"]).to_numpy(int)
    if len(exposed) < 4 or min(exposed.sum(), (1 - exposed).sum()) < 2:
        raise EstimationError("too_few", "hardly anybody in the control group lives with others in the campaign")
    size = pd.get_dummies(mine["members"].astype(str), dtype=float).iloc[:, 1:].to_numpy()
    found = RegressionAdjustment(mine["y"], exposed, size if size.shape[1] else None).fit()
    return pool([found], [mine["home"].to_numpy(object)])


def run_households(
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    campaigns: Sequence[str],
    households: pd.Series | None,
    small_group: int = 10,
    confidence: float = 0.95,
) -> tuple[pd.DataFrame, str | None]:
    """How arms lie within households in every randomised campaign.

    Parameters
    ----------
    panel, spans : from :mod:`analysis.campaigns.outcomes`. campaigns : ids of the randomised ones.
    households : from :func:`household_ids`. small_group : campaigns with fewer shared households are left out.

    Returns
    -------
    One row a campaign, and None: campaign_id, label, shared, split, share, expected (share, if drawn one by one), verdict,
    spill, low, high (sales of a customer of the control whose housemate was contacted, beyond those of one whose housemates
    were not; limits allow for the number of campaigns; missing unless arms are mixed). Or an empty frame and
    ``no_household_id`` or ``all_single``.
    """
    columns = ["campaign_id", "label", "shared", "split", "share", "expected", "verdict", "spill", "low", "high"]
    if households is None:
        return pd.DataFrame(columns=columns), "no_household_id"
    labels, rows = spans.set_index("campaign_id")["label"], []
    level = 1 - (1 - confidence) / max(len(campaigns), 1)
    for name in campaigns:
        mine = panel[panel["campaign_id"] == name].drop_duplicates("customer_id")
        homes = mine["customer_id"].map(households)
        found = household_split(mine["customer_id"], mine["arm"], homes)
        if found.shared < max(small_group, 1):
            continue
        row = dict.fromkeys(columns, np.nan) | {"campaign_id": name, "label": labels[name], "shared": found.shared}
        row |= {"split": found.split, "share": found.share, "expected": found.expected / found.shared}
        row["verdict"] = found.verdict
        if found.verdict == "split":
            try:
                spill = household_spillover(mine["spend"], mine["customer_id"], mine["arm"], homes)
                row["spill"], (row["low"], row["high"]) = spill.effect, spill.interval(level)
            except EstimationError:
                pass
        rows.append(row)
    return pd.DataFrame(rows, columns=columns), None if rows else "all_single"


def household_facts(table: pd.DataFrame, reason: str | None = None) -> dict[str, object]:
    """What the sentences need of :func:`run_households`.

    Returns
    -------
    reason, campaigns (how many), shared, split (households, over campaigns), share, mixed, together (campaigns with that
    verdict), leaks (campaigns with a spill whose limits exclude 0), and the largest of these as
    spill, low, high, label; None where there is none.
    """
    facts: dict[str, object] = {"reason": reason, "campaigns": len(table)}
    facts |= dict.fromkeys(("share", "spill", "low", "high", "label"))
    shared, split = int(table["shared"].sum()), int(table["split"].sum())
    facts |= {"shared": shared, "split": split, "share": split / shared if shared else None}
    facts |= {
        "mixed": int((table["verdict"] == "split").sum()),
        "together": int((table["verdict"] == "together").sum()),
    }
    known = table[table["spill"].notna()]
    clear = known[(known["low"] > 0) | (known["high"] < 0)]
    facts["leaks"] = len(clear)
    if len(clear):
        worst = clear.loc[clear["spill"].abs().idxmax()]
        facts |= {name: float(worst[name]) for name in ("spill", "low", "high")} | {"label": worst["label"]}
    return facts
