"""One ranking learnt from several randomised campaigns of a kind, judged on a campaign that it has not seen.

Each campaign is small for learning whom it moves. Campaigns of a kind may move the same customers, or may not: whether pooling
them helps is measured and not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator

from analysis.campaigns import qini
from analysis.campaigns.design import is_comparison
from analysis.campaigns.effects import EstimationError
from analysis.campaigns.evaluation import Settings, covariates
from analysis.campaigns.qini import RankingResults
from analysis.campaigns.uplift import (
    CONTROL,
    TLearner,
    UpliftLearner,
    cross_fit_effects,
    cross_fit_scores,
    customer_folds,
)
from analysis.campaigns.uplift_analysis import FOLDS
from analysis.campaigns.words import Words

Array = NDArray[np.float64]

TREATED = "treated"
RANKINGS = ("alone", "others", "together")
"""Learnt on the campaign itself (out of fold), on the others only, and on both."""
POOLED_COLUMNS = {
    "label": ("Campaign", "text"),
    "ranking": ("Learnt on", "text"),
    "customers": ("Customers", "count"),
    "qini": ("Qini", "money"),
    "low": ("Low", "money"),
    "high": ("High", "money"),
    "over_alone": ("Over it alone", "money"),
    "over_low": ("Low over it", "money"),
    "over_high": ("High over it", "money"),
}


class PooledLearner(BaseEstimator):
    """A learner of one treatment on the rows of several campaigns, each with a level of its own.

    The level enters as an indicator a campaign, centred, so that a customer of a campaign that was not learnt from is
    taken at the average level: within a campaign that shifts no rank of a linear learner, and hardly one of a logistic.

    Parameters
    ----------
    learner : any learner of :mod:`analysis.campaigns.uplift`; the logistic T-learner by default.
    """

    def __init__(self, learner: UpliftLearner | None = None) -> None:
        self.learner = learner

    def fit(self, X: ArrayLike, arm: ArrayLike, y: ArrayLike, campaign: ArrayLike) -> PooledLearner:
        """Fit on X : shape (n, k), arm, y and campaign : shape (n,)."""
        level = pd.get_dummies(np.asarray(campaign), dtype=float).to_numpy()[:, 1:]
        self.levels_ = level.shape[1]
        x = np.column_stack([np.asarray(X, dtype=float), level - level.mean(axis=0)])
        self.fitted_ = (TLearner() if self.learner is None else self.learner).fit(x, arm, y)
        return self

    def predict(self, X: ArrayLike) -> Array:
        """Expected effect on customers at the campaigns' average level, shape (n,)."""
        x = np.asarray(X, dtype=float)
        return self.fitted_.predict(np.column_stack([x, np.zeros((len(x), self.levels_))]))[:, 0]


@dataclass(frozen=True)
class PooledUplift:
    """What a ranking learnt from several campaigns is worth.

    Attributes
    ----------
    kind : what the campaigns have in common, as ``(channel, offer)``; the offer is None where kinds were pooled by channel.
    campaigns : label by id. arms : by id, the arms that count as the treatment.
    rows : customers of all campaigns, each as often as in one. customers : different ones.
    table : one row a campaign × ranking, and a last block without campaign_id over all: campaign_id, label, ranking (see
    ``RANKINGS``), customers, qini, low, high (money a customer), over_alone, over_low, over_high (less that of ``alone``,
    paired).
    learner : fitted on all campaigns, to rank anybody. columns : its features. confidence : of the intervals.
    """

    kind: tuple[str, str | None]
    campaigns: Mapping[str, str]
    arms: Mapping[str, list[str]]
    rows: int
    customers: int
    table: pd.DataFrame = field(repr=False)
    learner: PooledLearner = field(repr=False)
    columns: list[str] = field(repr=False)
    confidence: float = 0.95

    def overall(self, ranking: str) -> pd.Series:
        """The row of a ranking over all campaigns."""
        return self.table[self.table["campaign_id"].isna() & (self.table["ranking"] == ranking)].iloc[0]

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` than each campaign alone, ``alike`` where neither is clear."""
        row = self.overall("together")
        return "better" if row["over_low"] > 0 else "worse" if row["over_high"] < 0 else "alike"


def campaign_kinds(
    panel: pd.DataFrame,
    sound: Sequence[str],
    campaigns: pd.DataFrame,
    contacts: ibis.Table,
    offers: pd.DataFrame | None,
) -> pd.DataFrame:
    """Of what kind every treatment arm of the randomised campaigns is.

    Parameters
    ----------
    panel : from :func:`analysis.campaigns.outcomes.campaign_panel`. sound : ids of the campaigns whose design holds.
    campaigns, contacts, offers : the canonical tables, for channels and the kinds of offers.

    Returns
    -------
    One row a campaign × arm: campaign_id, arm, channel (``unknown`` without one), offer (its kind, or ``none``).
    """
    mine = panel.loc[panel["campaign_id"].isin(sound), ["campaign_id", "arm"]].drop_duplicates()
    mine = mine.loc[[not is_comparison(arm) for arm in mine["arm"]]]
    channels = campaigns.set_index("campaign_id")["channel"] if "channel" in campaigns else pd.Series(dtype=object)
    found = mine.assign(channel=mine["campaign_id"].map(channels).fillna("unknown").astype(str), offer="none")
    if offers is not None and "kind" in offers and "offer_id" in contacts.columns:
        sent = contacts.filter(contacts.offer_id.notnull()).select("campaign_id", "arm", "offer_id").distinct()
        known = sent.to_pandas().merge(offers[["offer_id", "kind"]].dropna(), on="offer_id")
        # An arm with offers of several kinds is a kind of its own.
        each = known.groupby(["campaign_id", "arm"])["kind"].agg(lambda kinds: " + ".join(sorted(set(map(str, kinds)))))
        keys = pd.MultiIndex.from_frame(found[["campaign_id", "arm"]])
        found["offer"] = each.reindex(keys).fillna("none").to_numpy()
    return found.sort_values(["campaign_id", "arm"], ignore_index=True)


def run_pooled_uplift(
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    kinds: pd.DataFrame,
    settings: Settings,
    seed: int = 1,
) -> tuple[PooledUplift | None, str | None]:
    """Learn one ranking from the largest kind with two or more campaigns, and judge it campaign by campaign.

    Campaigns are of a kind where channel and kind of offer are the same; where no two are, the channel alone decides. Arms of a
    kind within a campaign count as one treatment. Each campaign has its own arms' shares as propensities; learners know it by
    its level; and what a ranking is worth is measured by the lot of the campaign itself, out of sight of the learner.

    Parameters
    ----------
    panel : from :func:`analysis.campaigns.outcomes.campaign_panel`. spans : from
    :func:`analysis.campaigns.outcomes.windows`. kinds : from :func:`campaign_kinds`.

    Returns
    -------
    The results and None, or None and the reason: ``one_campaign`` (no kind has two with enough customers), ``no_history``.
    """
    kind, chosen = _largest_kind(panel, kinds, settings.min_targeted)
    if kind is None:
        return None, "one_campaign"
    span = spans.set_index("campaign_id")
    periods = min(settings.pre_periods, *(int(span.loc[name, "complete_periods"]) for name in chosen))
    if periods < 1:
        return None, "no_history"
    rows = _rows(panel, chosen)
    features = covariates(rows, periods)
    features = features.loc[:, features.std() > 0]
    try:
        scores, gamma = _rankings(rows, features.to_numpy(), seed)
    except EstimationError as error:
        return None, "one_campaign" if error.code == "too_few" else error.code
    learner = PooledLearner().fit(features, rows["arm"], rows["bought"], rows["campaign_id"])
    return PooledUplift(
        kind=kind,
        campaigns={name: str(span.loc[name, "label"]) for name in chosen},
        arms=chosen,
        rows=len(rows),
        customers=int(rows["customer_id"].nunique()),
        table=_table(rows, scores, gamma, span["label"], settings.confidence),
        learner=learner,
        columns=list(features),
        confidence=settings.confidence,
    ), None


def _largest_kind(
    panel: pd.DataFrame, kinds: pd.DataFrame, least: int
) -> tuple[tuple[str, str | None] | None, dict[str, list[str]]]:
    """The kind with the most customers among those with two campaigns or more, and its arms by campaign."""
    sizes = panel.groupby(["campaign_id", "arm"]).size()
    alone = sizes[[is_comparison(arm) for arm in sizes.index.get_level_values("arm")]].groupby("campaign_id").sum()
    kinds = kinds.assign(
        size=sizes.reindex(pd.MultiIndex.from_frame(kinds[["campaign_id", "arm"]])).fillna(0).to_numpy()
    )
    for by in (["channel", "offer"], ["channel"]):
        best, most, found = None, 0.0, {}
        for key, mine in kinds.groupby(by, sort=True):
            treated = mine.groupby("campaign_id")["size"].sum()
            enough = [c for c in treated.index if min(treated[c], alone.get(c, 0)) >= max(least, 2 * FOLDS)]
            total = float(treated[enough].sum() + alone.reindex(enough).sum())
            if len(enough) > 1 and total > most:
                best, most = (str(key[0]), str(key[1]) if len(by) > 1 else None), total
                found = {str(c): mine.loc[mine["campaign_id"] == c, "arm"].tolist() for c in enough}
        if best is not None:
            return best, found
    return None, {}


def _rows(panel: pd.DataFrame, chosen: Mapping[str, list[str]]) -> pd.DataFrame:
    """Customers of the chosen arms and their controls, each once a campaign; ``arm`` is ``treated`` or the control."""
    parts = []
    for name, arms in chosen.items():
        mine = panel[panel["campaign_id"] == name].drop_duplicates("customer_id")
        compared = np.array([is_comparison(arm) for arm in mine["arm"]], dtype=bool)
        mine = mine.assign(arm=np.where(compared, CONTROL, TREATED))[compared | mine["arm"].isin(arms).to_numpy()]
        parts.append(mine)
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(bought=(rows["purchase_days"] > 0).astype(float))


def _rankings(rows: pd.DataFrame, x: Array, seed: int) -> tuple[dict[str, Array], Array]:
    """Scores by ranking, shape (n,), that rank customers within their campaign, and Γ, both out of sight of the customer in that
    campaign; their rows in others may have been learnt from."""
    arm, bought, spend = rows["arm"].to_numpy(str), rows["bought"].to_numpy(float), rows["spend"].to_numpy(float)
    campaign = rows["campaign_id"].to_numpy(str)
    scores, gamma = {name: np.empty(len(rows)) for name in RANKINGS}, np.empty(len(rows))
    for name in np.unique(campaign):
        mine = np.flatnonzero(campaign == name)
        rest = np.flatnonzero(campaign != name)
        fold = customer_folds(arm[mine], folds=FOLDS, random_state=seed)
        gamma[mine] = cross_fit_scores(x[mine], arm[mine], spend[mine], fold)[:, 0]
        alone = cross_fit_effects(TLearner(), x[mine], arm[mine], bought[mine], fold)[:, 0]
        scores["alone"][mine] = qini.ranks_within(alone, fold)
        others = PooledLearner().fit(x[rest], arm[rest], bought[rest], campaign[rest]).predict(x[mine])
        scores["others"][mine] = qini.ranks_within(others, np.zeros(len(mine)))
        together = np.empty(len(mine))
        for k in range(FOLDS):
            seen = np.r_[rest, mine[fold != k]]
            fitted = PooledLearner().fit(x[seen], arm[seen], bought[seen], campaign[seen])
            together[fold == k] = fitted.predict(x[mine[fold == k]])
        scores["together"][mine] = qini.ranks_within(together, fold)
    return scores, gamma


def _table(
    rows: pd.DataFrame, scores: Mapping[str, Array], gamma: Array, labels: pd.Series, confidence: float
) -> pd.DataFrame:
    campaign, who = rows["campaign_id"].to_numpy(str), rows["customer_id"].to_numpy(object)
    found, parts = [], {name: [] for name in RANKINGS}
    names = list(dict.fromkeys(campaign))
    for one in names:
        mine = campaign == one
        worth = {name: qini.qini_coefficient(score[mine], gamma[mine]) for name, score in scores.items()}
        for name, result in worth.items():
            parts[name].append(result)
            found.append(
                {"campaign_id": one, "label": labels[one], "ranking": name}
                | _numbers(result, worth["alone"], confidence)
            )
    everybody = [who[campaign == one] for one in names]
    whole = {name: _pooled(results, everybody) for name, results in parts.items()}
    for name, result in whole.items():
        found.append(
            {"campaign_id": None, "label": "all", "ranking": name} | _numbers(result, whole["alone"], confidence)
        )
    return pd.DataFrame(found)


def _pooled(results: Sequence[RankingResults], customers: Sequence[Array]) -> RankingResults:
    """Average Qini of several campaigns, by their customers; whoever is in several counts once in the error.

    Source: cluster-robust variance, Liang & Zeger (1986), Biometrika 73:13, on the summed contributions.
    """
    n = np.array([r.n for r in results])
    share = n / n.sum()
    stacked = np.concatenate([w * r.contributions for w, r in zip(share, results, strict=True)])
    psi = np.bincount(pd.factorize(np.concatenate(customers))[0], weights=stacked)
    psi = psi * np.sqrt(len(psi) / (len(psi) - 1))
    return RankingResults(
        "qini", float(share @ [r.estimate for r in results]), float(np.linalg.norm(psi)), int(n.sum()), psi
    )


def _numbers(own: RankingResults, alone: RankingResults, confidence: float) -> dict[str, object]:
    low, high = own.interval(confidence)
    row = {"customers": own.n, "qini": own.estimate, "low": low, "high": high}
    if own is alone:
        return row | dict.fromkeys(("over_alone", "over_low", "over_high"), np.nan)
    gap = own.estimate - alone.estimate
    reach = float(stats.norm.ppf(0.5 + confidence / 2) * np.linalg.norm(own.contributions - alone.contributions))
    return row | {"over_alone": gap, "over_low": gap - reach, "over_high": gap + reach}


def pooled_for_people(found: PooledUplift, words: Words) -> pd.DataFrame:
    """The table in words: columns of ``POOLED_COLUMNS``, the last block over all campaigns."""
    table = found.table
    labels = table["label"].where(table["campaign_id"].notna(), words.name("pooled", "all"))
    return table.assign(label=labels, ranking=[words.name("ranking", name) for name in table["ranking"]])


def pooled_uplift_facts(found: PooledUplift | None, reason: str | None = None) -> dict[str, object]:
    """What the sentences need.

    Returns
    -------
    verdict (``unknown``, ``better``, ``worse``, ``alike``), reason, channel, offer, campaigns (how many), rows, people
    (different ones), value, low, high (Qini over all campaigns of the ranking learnt on all, money a customer), over, over_low,
    over_high (beyond each campaign alone), carries (whether a ranking learnt on the others only is clearly better than chance
    on a campaign that it has not seen), others, others_low, others_high, alone, alone_low, alone_high (their Qini).
    """
    if found is None:
        return {"verdict": "unknown", "reason": reason, "value": None, "low": None, "high": None}
    both = found.overall("together")
    facts: dict[str, object] = {
        "verdict": found.verdict,
        "reason": None,
        "channel": found.kind[0],
        "offer": found.kind[1],
        "campaigns": len(found.campaigns),
        "rows": found.rows,
        "people": found.customers,
        "value": float(both["qini"]),
        "low": float(both["low"]),
        "high": float(both["high"]),
        "over": float(both["over_alone"]),
        "over_low": float(both["over_low"]),
        "over_high": float(both["over_high"]),
    }
    for name in ("others", "alone"):
        row = found.overall(name)
        facts |= {name: float(row["qini"]), f"{name}_low": float(row["low"]), f"{name}_high": float(row["high"])}
    return facts | {"carries": bool(facts["others_low"] > 0)}
