"""Was the right list drawn up? The next list against lists that know what every customer would do."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.campaigns import NOBODY, UpliftAnalysis, against_truth, allocate
from analysis.campaigns.uplift_analysis import CHOSEN
from analysis.scorecard.card import Entry
from analysis.scorecard.card import finding as entry
from analysis.scorecard.words import Words

Array = NDArray[np.float64]

PERSUADABLE, SLEEPING_DOG = "persuadable", "sleeping_dog"
LIST, ORACLE, RANDOM, KINDS, EVERYBODY = "list", "oracle", "random", "kinds", "everybody"
MOST_KNOWN = 0.95  # of a list's customers; a few stand on it under a second number


@dataclass(frozen=True)
class TrueGains:
    """What each arm of the campaign that a list was learnt from truly earns on each of its members.

    Attributes
    ----------
    campaign_id. arms : its treatment arms that the truth knows. customers : shape (n,), its members.
    profit : shape (n, arms), money a member over leaving them alone: margin on the change of sales at full price, less coupon,
    contact and handling. cost : shape (n, arms), money that the arm takes of them. kind : shape (n,), how each responds.
    """

    campaign_id: str
    arms: list[str]
    customers: pd.Index
    profit: Array = field(repr=False)
    cost: Array = field(repr=False)
    kind: NDArray[np.object_] = field(repr=False)


def true_gains(
    effects: pd.DataFrame, targets: pd.DataFrame, spans: pd.DataFrame, persons: pd.DataFrame, margin: float
) -> TrueGains | None:
    """What is true of the customers among whom a list was drawn; None where no campaign has the offers of the list.

    Parameters
    ----------
    effects : truth a member × arm: campaign_id, customer_id, arm, spend_effect (paid), coupon (money taken off, already in it).
    targets : the canonical table ``target_list``. spans : campaign_id, cost_per_contact, offer_cost. persons :
    customer_id, responsiveness. margin : share of sales that is margin.

    The list may be of the next campaign; it is judged on the campaign that has most of its pairs of customer and offer.
    """
    pairs = targets[["customer_id", "offer"]].merge(
        effects[["campaign_id", "customer_id", "arm"]],
        left_on=["customer_id", "offer"],
        right_on=["customer_id", "arm"],
    )
    if pairs.empty:
        return None
    campaign = str(pairs["campaign_id"].value_counts().index[0])
    wide = effects[effects["campaign_id"] == campaign].pivot(
        index="customer_id", columns="arm", values=["spend_effect", "coupon"]
    )
    span = spans.set_index("campaign_id").loc[campaign, ["cost_per_contact", "offer_cost"]].fillna(0.0)
    sold, coupon = wide["spend_effect"].to_numpy(float), wide["coupon"].to_numpy(float)
    spent = float(span["cost_per_contact"]) + float(span["offer_cost"]) * (coupon > 0) + coupon
    kind = persons.drop_duplicates("customer_id").set_index("customer_id")["responsiveness"].reindex(wide.index)
    return TrueGains(
        campaign,
        list(wide["spend_effect"].columns),
        wide.index,
        margin * (sold + coupon) - spent,
        spent,
        kind.to_numpy(object),
    )


def list_table(true: TrueGains, targets: pd.DataFrame, budget: float | None = None) -> pd.DataFrame:
    """The list beside nobody, each arm for all, as many at random, and the best lists of two who know more.

    One knows how each customer responds (kind) and what that is worth on average, which is as much as any model could learn; the
    other, the oracle, knows every single effect, chance included.

    Parameters
    ----------
    targets : the canonical table ``target_list``; customers drawn off the list, and those whom the truth does not know
    (second numbers of a person), are left out. budget : money for the list, which binds the best one too; None: as far as it pays.

    Returns
    -------
    One row a policy: policy (``nobody``, ``all: arm``, ``random``, ``list``, ``kinds``, ``oracle``), reached, cost, profit, share
    (of the oracle's profit; missing where nothing pays), persuadables and sleeping_dogs (reached), precision (persuadables among
    the reached), recall (reached among persuadables). Of the random list, what is expected.
    """
    n, k = true.profit.shape
    listed = targets[targets["listed"] & targets["customer_id"].isin(true.customers) & targets["offer"].isin(true.arms)]
    arm = np.full(n, NOBODY)
    arm[true.customers.get_indexer(listed["customer_id"])] = pd.Index(true.arms).get_indexer(listed["offer"])
    kinds = allocate(_by_kind(true, true.profit), _by_kind(true, true.cost), budget).arm
    best = allocate(true.profit, true.cost, budget).arm
    dealt = np.bincount(arm[arm != NOBODY], minlength=k) / n
    policies = {
        "nobody": np.zeros((n, k)),
        **{f"all: {name}": np.tile(np.arange(k) == j, (n, 1)).astype(float) for j, name in enumerate(true.arms)},
        RANDOM: np.tile(dealt, (n, 1)),
        LIST: (arm[:, None] == np.arange(k)).astype(float),
        KINDS: (kinds[:, None] == np.arange(k)).astype(float),
        ORACLE: (best[:, None] == np.arange(k)).astype(float),
    }
    table = pd.DataFrame([{"policy": name} | _worth(true, chance) for name, chance in policies.items()])
    most = float(table["profit"].iloc[-1])
    return table.assign(share=table["profit"] / most if most > 0 else np.nan)


def _by_kind(true: TrueGains, table: Array) -> Array:
    """Each member's kind's mean, shape (n, arms)."""
    codes = pd.factorize(true.kind)[0]
    return pd.DataFrame(table).groupby(codes).transform("mean").to_numpy()


def _worth(true: TrueGains, chance: Array) -> dict[str, float]:
    reached = chance.sum(axis=1)
    good, bad = (float(reached[true.kind == kind].sum()) for kind in (PERSUADABLE, SLEEPING_DOG))
    known = int((true.kind == PERSUADABLE).sum())
    total = float(reached.sum())
    return {
        "reached": total,
        "cost": float((chance * true.cost).sum()),
        "profit": float((chance * true.profit).sum()),
        "persuadables": good,
        "sleeping_dogs": bad,
        "precision": good / total if total else np.nan,
        "recall": good / known if known else np.nan,
    }


def score_list(
    effects: pd.DataFrame,
    targets: pd.DataFrame | None,
    spans: pd.DataFrame,
    persons: pd.DataFrame,
    margin: float,
    budget: float | None = None,
) -> tuple[TrueGains | None, pd.DataFrame | None]:
    """:func:`true_gains` and :func:`list_table`; None and None without a list, or without a campaign that has its offers."""
    true = None if targets is None else true_gains(effects, targets, spans, persons, margin)
    return (None, None) if true is None else (true, list_table(true, targets, budget))


def ranking_table(moved: UpliftAnalysis | None, effects: pd.DataFrame) -> pd.DataFrame:
    """How much of the oracle's Qini each ranking of notebook 05 reaches: see :func:`analysis.campaigns.against_truth`."""
    columns = ["arm", "score", "correlation", "oracle_share", "persuadables", "sleeping_dogs"]
    return pd.DataFrame(columns=columns) if moved is None else against_truth(moved, effects, "spend_effect")


def list_facts(table: pd.DataFrame | None, rankings: pd.DataFrame) -> dict[str, object]:
    """What the sentences need.

    Parameters
    ----------
    table : from :func:`list_table`, or None without a list. rankings : from :func:`ranking_table`.

    Returns
    -------
    reached, profit, share (of the oracle's), all_reached (whether the list is everybody), oracle, oracle_reached, kinds and
    kinds_reached (profit of whoever knows kinds), everybody (profit of the best arm for all), precision, recall, chance (precision
    of a random list), dogs, dogs_chance (sleeping dogs reached, and by a random list): all None without a list. ranked, reachable
    (mean share of the oracle's Qini over the arms, of the ranking that notebook 05 names beforehand and of one that learnt from the
    truth itself), or None.
    """
    names = (
        "reached",
        "profit",
        "share",
        "oracle",
        "oracle_reached",
        "kinds",
        "kinds_reached",
        "all_reached",
        "everybody",
        "precision",
        "recall",
        "chance",
    )
    facts: dict[str, object] = dict.fromkeys((*names, "dogs", "dogs_chance"))
    if table is not None:
        by = table.set_index("policy")
        own, most, chance = by.loc[LIST], by.loc[ORACLE], by.loc[RANDOM]
        facts |= own[["reached", "profit", "precision", "recall"]].astype(float).to_dict()
        facts |= {
            "share": None if np.isnan(own["share"]) else float(own["share"]),
            "oracle": float(most["profit"]),
            "oracle_reached": float(most["reached"]),
            "kinds": float(by.loc[KINDS, "profit"]),
            "kinds_reached": float(by.loc[KINDS, "reached"]),
            "all_reached": _is_everybody(table),
            "everybody": float(by.loc[by.index.str.startswith("all: "), "profit"].max()),
            "chance": float(chance["precision"]),
            "dogs": float(own["sleeping_dogs"]),
            "dogs_chance": float(chance["sleeping_dogs"]),
        }
    shares = rankings.groupby("score")["oracle_share"].mean()
    found = {name: shares.get(score, np.nan) for name, score in (("ranked", CHOSEN), ("reachable", "told_truth"))}
    return facts | {name: None if np.isnan(value) else float(value) for name, value in found.items()}


def _is_everybody(table: pd.DataFrame) -> bool:
    """Whether the list reaches as many as an arm for all."""
    reached = table.set_index("policy")["reached"]
    return bool(np.isclose(reached[LIST], reached[reached.index.str.startswith("all: ")].max()))


def list_for_people(table: pd.DataFrame, words: Words) -> pd.DataFrame:
    """The policies by name, the best last: ``name`` beside the columns of :func:`list_table`.

    Where the list is everybody, one row stands for it and for the policies that come to the same: as many at random, and its arm
    for all.
    """
    names = []
    if _is_everybody(table):
        own = table.set_index("policy").loc[LIST]
        same = np.isclose(table["reached"], own["reached"]) & np.isclose(table["profit"], own["profit"])
        table = table[~same | (table["policy"] == LIST)].replace({"policy": {LIST: EVERYBODY}})
    for policy in table["policy"]:
        kind, _, arm = policy.partition(": ")
        names.append(words("policy_all", arm=arm.replace("_", " ")) if arm else words.name("policy", kind))
    return table.assign(name=names)


def list_entry(
    facts: dict[str, object], said: dict | None, targets: pd.DataFrame, true: TrueGains, words: Words
) -> Entry | None:
    """A row of the card: what the list truly earns, against the finding ``target_list`` of notebook 05; None where the list goes
    beyond the customers of the campaign, whose effects alone are known.
    """
    listed = targets.loc[targets["listed"], "customer_id"]
    if listed.isin(true.customers).mean() < MOST_KNOWN:
        return None
    return entry(words("quantity_list"), facts["profit"], said)
