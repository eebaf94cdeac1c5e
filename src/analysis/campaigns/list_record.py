"""How the last run's list turned out: what contacting it brought, by its own random holdout, against what was promised.

The holdout was drawn at random inside the list, so whoever was meant to be contacted and whoever was held out differ by the
contact alone. Those who were meant to be contacted and were not say nothing against the list: the effect is that on the
contacted.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.campaigns.coupons import arm_face_values, margin_after_face_value, taken_off
from analysis.campaigns.effects import CUPED, EffectResults
from analysis.campaigns.facts import Range, cost_of
from analysis.campaigns.ledger import SMALLEST, year_panel
from analysis.campaigns.money import Estimate
from analysis.campaigns.pressure import dated_contacts
from analysis.campaigns.words import Words

Array = NDArray[np.float64]

LIST_WEEKS = 8.0
"""Age of the edition whose list is judged: a list needs some weeks until it is used, and the campaign some to work."""
FOLLOWED = 0.5
"""Share of those meant to be contacted who must have been, for a list to count as carried out."""
_ALIKE, _SOME = (
    0.001,
    0.05,
)  # so rare must so few held out be by chance; of a list without a holdout, so many be reached
_PAST = ["spend_before", "recent_before", "days_before", "exposure"]


class Edition(Protocol):
    """An earlier edition of the notebook, as :meth:`analysis.step.Step.last_edition` gives it."""

    observed_to: datetime.date

    def has(self, table: str) -> bool:
        """Whether it wrote a table."""

    def read(self, table: str) -> pd.DataFrame:
        """A table that it wrote."""


@dataclass(frozen=True)
class ListRecord:
    """What became of a list.

    Attributes
    ----------
    reason : why its profit cannot be judged, in one word; None where it can. as_of : the last day of the data that the list
    was made from. since, until : first and last day of the sales that are judged. campaigns : names of those that carried it out.
    intended : customers on the list who were to be contacted. held : held out at random on the list. contacted : of the
    intended. held_contacted : of the held out, who should be none. promised_whole : profit promised for all the intended.
    promised : for the contacted. cost : of the contacts, coupons left aside.
    each : effect on the profit of a contacted customer, after costs. outside : the same on the random sample off the list.
    table : one row a group (``list``, ``outside``): group, contacted, held_out, promised, brought, low, high (money a
    contacted customer). confidence : of the intervals.
    spent_more : sales of the contacted less those of the intended who were not, which is no effect; None in small groups.
    """

    reason: str | None
    as_of: datetime.date
    since: datetime.date
    until: datetime.date
    campaigns: tuple[str, ...]
    intended: int
    held: int
    contacted: int
    held_contacted: int
    promised_whole: float
    promised: float
    cost: float | None = None
    each: EffectResults | None = field(default=None, repr=False)
    outside: EffectResults | None = field(default=None, repr=False)
    table: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    confidence: float = 0.95
    spent_more: float | None = None

    @property
    def brought(self) -> Estimate | None:
        """Profit of all the contacted on the list, with its interval."""
        if self.each is None:
            return None
        return Estimate(*(self.contacted * x for x in (self.each.effect, *self.each.interval(self.confidence))))

    @property
    def verdict(self) -> str:
        """``unknown``, ``less`` or ``more`` than promised, ``kept`` (the promise is within the interval, which is above zero)
        or ``unclear`` (both the promise and zero are)."""
        found = self.brought
        if found is None or np.isnan(self.promised):
            return "unknown"
        if found.high < self.promised:
            return "less"
        if found.low > self.promised:
            return "more"
        return "kept" if found.low > 0 else "unclear"


def effect_on_contacted(
    outcome: ArrayLike, assigned: ArrayLike, contacted: ArrayLike, past: ArrayLike | None = None
) -> EffectResults:
    """Effect of being contacted on those who were because they were assigned to be.

    Parameters
    ----------
    outcome : shape (n,). assigned : shape (n,), 1 for those whom lot put among those to contact. contacted : shape (n,), 1
    for those who were. past : shape (n,) or (n, k), known before, which narrows the interval; or None.

    Returns
    -------
    Results in the outcome's unit a contacted customer. Where all assigned and nobody else were contacted, the difference
    in means.

    Raises
    ------
    EstimationError
        A group has fewer than two customers.
    ValueError
        The assigned were not contacted more often than the others.

    Source: Wald's ratio of two differences; Bloom (1984), Evaluation Review 8:225; Imbens & Angrist (1994), Econometrica
    62:467. Standard error by the delta method.
    """
    z = np.asarray(assigned, dtype=int)
    x = np.zeros(len(z)) if past is None else past
    outcome_gap, contact_gap = (CUPED(np.asarray(v, dtype=float), z, x).fit() for v in (outcome, contacted))
    if contact_gap.effect <= 0:
        raise ValueError("those assigned to be contacted were not contacted more often than the others")
    effect = outcome_gap.effect / contact_gap.effect
    parts = (outcome_gap.contributions - effect * contact_gap.contributions) / contact_gap.effect
    return replace(
        outcome_gap, method="wald", effect=effect, se=float(np.linalg.norm(parts)), contributions=parts,
        baseline_contributions=None,
    )  # fmt: skip


def run_list_record(
    last: Edition | None,
    lines: ibis.Table,
    contacts: ibis.Table,
    offers: pd.DataFrame | None,
    customers: pd.DataFrame | None,
    spans: pd.DataFrame,
    margin: Range | None,
    assumed: Range | None,
    small_group: int = 10,
    confidence: float = 0.95,
) -> tuple[ListRecord | None, str | None]:
    """Hold an earlier edition's ``target_list`` against what happened since.

    Campaigns that started since and reached those to be contacted more than twice as often as those held out, and more often than
    by chance, carry the list out; a campaign that pays it no heed reaches both alike.

    Parameters
    ----------
    last : the earlier edition, see ``LIST_WEEKS``. lines, contacts, offers, customers : the present canonical tables.
    spans : of all campaigns, from :func:`analysis.campaigns.outcomes.windows`. margin, assumed : share of sales, and what
    a contact is taken to cost. small_group : smaller groups are not described.

    Returns
    -------
    The record, and why nothing can be said of its profit: ``no_edition`` (an edition old enough), ``no_list`` (it held none),
    ``no_margin`` or ``no_campaign`` (none started since), with None in place of the record; or ``not_followed`` (fewer than
    ``FOLLOWED`` of those to be contacted were), ``window_not_over``, ``held_reached`` (the held out nearly as often),
    ``no_holdout``, ``few_held`` (fewer than ``SMALLEST`` on either side) or ``no_contact_cost``, with a record of the counts;
    None where its profit is judged.
    """
    if last is None:
        return None, "no_edition"
    if not last.has("target_list"):
        return None, "no_list"
    if margin is None:
        return None, "no_margin"
    later = spans[spans["starts_on"] > last.observed_to]
    if later.empty:
        return None, "no_campaign"
    people = _as_printed(_listed(last.read("target_list")), last.finding("target_list"))
    if not (people["listed"] & ~people["holdout"]).any():
        return None, "no_list"
    sent = _sent(contacts, later, people["customer_id"])
    carriers, reached = _carriers(people, sent)
    mine = later[later["campaign_id"].isin(carriers)]
    people["contacted"] = people["customer_id"].isin(reached)
    window = mine if len(mine) else later
    since, until = window["starts_on"].min(), window["outcome_to"].max() - datetime.timedelta(days=1)
    record = _counts(people, mine, last.observed_to, since, until, confidence)
    costs = [cost_of(span, assumed)[0] for _, span in mine.iterrows()]
    reason = _unjudged(record, mine, costs)
    if reason == "window_not_over":
        return replace(record, reason=reason), reason
    bought = year_panel(lines, _known(people, customers), since, until)
    spend = bought["spend"].to_numpy(float)
    if reason:
        return replace(record, reason=reason, spent_more=_described(people, spend, small_group)), reason
    profit, cost = _profit(people, spend, lines, contacts, offers, mine, sent, margin.value, assumed, since, until)
    past = bought[_PAST].to_numpy(float)
    return _judged(record, people, profit, past, cost), None


def _listed(found: pd.DataFrame) -> pd.DataFrame:
    """The list with its flags; one that says nothing of who was listed or held out lists all and holds nobody out."""
    people = found.drop_duplicates("customer_id").reset_index(drop=True).astype({"customer_id": "str"})
    for name, missing in (("listed", True), ("holdout", False)):
        flag = people[name] if name in people else pd.Series(missing, index=people.index)
        people[name] = flag.astype("boolean").fillna(missing).astype(bool)
    promised = people.get("expected_incremental_profit", pd.Series(np.nan, index=people.index))
    return people.assign(promised=promised.astype(float))


def _as_printed(people: pd.DataFrame, printed: Mapping[str, object] | None) -> pd.DataFrame:
    """The list with promises that add up to what the page stated, as lot had measured it, and not to what models said."""
    value, said = printed and printed["value"], people.loc[people["listed"], "promised"].sum()
    if value is None or not said > 0:
        return people
    return people.assign(promised=people["promised"].where(~people["listed"], people["promised"] * value / said))


def _sent(contacts: ibis.Table, later: pd.DataFrame, ids: pd.Series) -> pd.DataFrame:
    """Who of the list was sent what since: campaign_id, customer_id, arm, redeemed."""
    listed = ibis.memtable(pd.DataFrame({"customer_id": ids.astype(object)}), schema={"customer_id": "string"})
    messages = dated_contacts(contacts, later).semi_join(listed, "customer_id")
    used = messages.redeemed.fill_null(False) if "redeemed" in messages.columns else ibis.literal(False)
    messages = messages.mutate(redeemed=used)
    each = messages.group_by("campaign_id", "customer_id", "arm").aggregate(redeemed=messages.redeemed.any())
    return each.to_pandas()


def _carriers(people: pd.DataFrame, sent: pd.DataFrame) -> tuple[list[str], NDArray]:
    """Campaigns that carry the list out, and the customers whom they reached.

    Where there is none, those that reached most of the list with its holdout: whoever used the list forgot the holdout.
    """
    held, intended = (people.loc[people["listed"] & (people["holdout"] == out), "customer_id"] for out in (True, False))
    shares = []
    for name, rows in sent.groupby("campaign_id"):
        reached, wrongly = (int(group.isin(rows["customer_id"]).sum()) for group in (intended, held))
        share, share_held = reached / len(intended), wrongly / max(len(held), 1)
        chance = stats.hypergeom.cdf(wrongly, len(intended) + len(held), reached + wrongly, len(held))
        heeds = chance < _ALIKE if len(held) >= SMALLEST else share >= _SOME
        shares.append((str(name), share, share > 2 * share_held and heeds))
    found = [name for name, _, carries in shares if carries]
    found = found or [name for name, share, _ in shares if share >= FOLLOWED]
    return found, sent.loc[sent["campaign_id"].isin(found), "customer_id"].unique()


def _counts(
    people: pd.DataFrame,
    mine: pd.DataFrame,
    as_of: datetime.date,
    since: datetime.date,
    until: datetime.date,
    confidence: float,
) -> ListRecord:
    intended, held = (people[people["listed"] & (people["holdout"] == out)] for out in (False, True))
    return ListRecord(
        reason=None,
        as_of=as_of,
        since=since,
        until=until,
        campaigns=tuple(mine["label"]),
        intended=len(intended),
        held=len(held),
        contacted=int(intended["contacted"].sum()),
        held_contacted=int(held["contacted"].sum()),
        promised_whole=float(intended["promised"].sum(min_count=1)),
        promised=float(intended.loc[intended["contacted"], "promised"].sum(min_count=1)),
        confidence=confidence,
    )


def _unjudged(record: ListRecord, mine: pd.DataFrame, costs: Sequence[float | None]) -> str | None:
    if record.contacted < FOLLOWED * record.intended:
        return "not_followed"
    if (mine["reason"] == "window_not_over").any():
        return "window_not_over"
    if record.held and record.contacted / record.intended - record.held_contacted / record.held <= FOLLOWED / 2:
        return "held_reached"
    if min(record.held, record.intended) < SMALLEST:
        return "few_held" if record.held else "no_holdout"
    return "no_contact_cost" if None in costs else None


def _known(people: pd.DataFrame, customers: pd.DataFrame | None) -> pd.DataFrame:
    """The list's customers in its order, with the day on which they came where that is known."""
    if customers is None or "acquired_on" not in customers:
        return people[["customer_id"]]
    came = customers[["customer_id", "acquired_on"]].drop_duplicates("customer_id")
    return people[["customer_id"]].merge(came, on="customer_id", how="left")


def _described(people: pd.DataFrame, spend: Array, small_group: int) -> float | None:
    intended = (people["listed"] & ~people["holdout"]).to_numpy(bool)
    got = people["contacted"].to_numpy(bool)
    if min((intended & got).sum(), (intended & ~got).sum()) < small_group:
        return None
    return float(spend[intended & got].mean() - spend[intended & ~got].mean())


def _profit(
    people: pd.DataFrame,
    spend: Array,
    lines: ibis.Table,
    contacts: ibis.Table,
    offers: pd.DataFrame | None,
    mine: pd.DataFrame,
    sent: pd.DataFrame,
    margin: float,
    assumed: Range | None,
    since: datetime.date,
    until: datetime.date,
) -> tuple[Array, Array]:
    """Each listed customer's profit in the window after goods, coupons and contacts, and what contacts and handling cost."""
    ids = people["customer_id"]
    given, cost = np.zeros(len(ids)), np.zeros(len(ids))
    discount = None
    for _, span in mine.iterrows():
        contact, handling, _ = cost_of(span, assumed)
        rows = sent[sent["campaign_id"] == span["campaign_id"]].drop_duplicates("customer_id").set_index("customer_id")
        faces = {} if offers is None else arm_face_values(contacts, offers, span["campaign_id"])
        face = ids.map(rows["arm"].map(faces)).fillna(0.0).to_numpy(float)
        used = ids.map(rows["redeemed"]).astype("boolean").fillna(False).to_numpy(float) * (face > 0)
        if used.any() and discount is None and "discount" in lines.columns:
            discount = _discounts(lines, ids, since, until)
        given += taken_off(used, face, discount)
        cost += contact * ids.isin(rows.index).to_numpy(float) + handling * used
    return margin_after_face_value(spend, np.zeros(len(ids)), given, margin) - cost, cost


def _discounts(lines: ibis.Table, ids: pd.Series, since: datetime.date, until: datetime.date) -> Array:
    inside = lines.filter((lines.order_date >= since) & (lines.order_date <= until))
    cut = inside.group_by("customer_id").aggregate(cut=inside.discount.fill_null(0).sum().cast("float64")).to_pandas()
    return ids.map(cut.set_index("customer_id")["cut"]).fillna(0.0).to_numpy(float)


def _judged(record: ListRecord, people: pd.DataFrame, profit: Array, past: Array, cost: Array) -> ListRecord:
    found, rows = {}, []
    for group, wanted in (("list", True), ("outside", False)):
        mine = people["listed"].to_numpy(bool) == wanted
        assigned, got = ~people["holdout"].to_numpy(bool)[mine], people["contacted"].to_numpy(bool)[mine]
        meant = got & assigned
        gap = got[assigned].mean() - got[~assigned].mean() if 0 < assigned.sum() < len(assigned) else 0.0
        # A sample that nobody drew, or to which nobody wrote, tells nothing.
        if min(assigned.sum(), (~assigned).sum()) < SMALLEST or gap <= FOLLOWED / 2:
            continue
        effect = found[group] = effect_on_contacted(profit[mine], assigned, got, past[mine])
        low, high = effect.interval(record.confidence)
        promised = float(people.loc[mine, "promised"].to_numpy()[meant].mean())
        rows.append((group, int(meant.sum()), int((~assigned).sum()), promised, effect.effect, low, high))
    columns = ["group", "contacted", "held_out", "promised", "brought", "low", "high"]
    on_list = people["listed"].to_numpy(bool) & ~people["holdout"].to_numpy(bool)
    return replace(
        record,
        cost=float(cost[on_list].sum()),
        each=found["list"],
        outside=found.get("outside"),
        table=pd.DataFrame(rows, columns=columns),
    )


def list_record_facts(found: ListRecord | None, reason: str | None, words: Words) -> dict[str, Any]:
    """What became of the last list, as arguments of a finding: profit of the contacted, with its interval, or why it is unknown.

    Returns
    -------
    value, low, high or reason; verdict (see :class:`ListRecord`), promised, ratio (brought a unit promised; None unless
    something was promised), intended, contacted, followed (share), held, held_contacted, cost, as_of, since, until, campaigns,
    spent_more, and better, better_low, better_high (profit of a contacted customer on the list beyond one off it, None without
    a sample off it), code (the reason in one word).
    """
    if found is None:
        return {
            "value": None,
            "reason": words.name("list_record_reason", reason or "unknown"),
            "verdict": "unknown",
            "code": reason,
        }
    brought = found.brought
    promised = found.promised if brought else found.promised_whole
    facts: dict[str, Any] = {
        "verdict": found.verdict,
        "code": found.reason,
        "promised": None if np.isnan(promised) else promised,
        "intended": found.intended,
        "contacted": found.contacted,
        "followed": found.contacted / found.intended,
        "held": found.held,
        "held_contacted": found.held_contacted,
        "cost": found.cost,
        "as_of": found.as_of,
        "since": found.since,
        "until": found.until,
        "campaigns": ", ".join(found.campaigns),
        "spent_more": found.spent_more,
        "ratio": brought.value / found.promised if brought and found.promised > 0 else None,
    }
    facts |= dict.fromkeys(("better", "better_low", "better_high"))
    if found.outside is not None and found.each is not None:
        gap, reach = found.each.effect - found.outside.effect, float(np.hypot(found.each.se, found.outside.se))
        both = replace(found.each, effect=gap, se=reach, dof=min(found.each.dof, found.outside.dof))
        low, high = both.interval(found.confidence)
        facts |= {"better": gap, "better_low": low, "better_high": high}
    if brought is None:
        return facts | {"value": None, "reason": words.name("list_record_reason", found.reason or "unknown")}
    return facts | {"value": brought.value, "low": brought.low, "high": brought.high}
