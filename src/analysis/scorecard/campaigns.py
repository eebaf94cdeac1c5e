"""Were the effects of campaigns found? Estimates against what each arm truly made of its members."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd

from analysis.scorecard.card import CHANCE, NO, YES, Entry, entries, verdicts
from analysis.scorecard.words import Words

SPEND, DAYS = "spend", "purchase_days"
_TRUE = {SPEND: "mean_effect", DAYS: "day_effect"}


def effect_rows(
    truth: pd.DataFrame,
    spans: pd.DataFrame,
    effects: pd.DataFrame,
    panel: pd.DataFrame,
) -> pd.DataFrame:
    """Every campaign × arm × outcome that has a true effect.

    With random arms the truth is the mean over all members, since the arms are samples of them; otherwise it is the mean over those
    who got the arm, since nobody else was meant.

    Parameters
    ----------
    truth : campaign_id, arm, members, assigned, mean_effect, day_effect and the same two over the assigned.
    spans : campaign_id, label, design, in order of start. effects : ``campaign_effects``.
    panel : campaign × customer with treated, arm, spend and purchase_days, of campaigns without random arms.

    Returns
    -------
    campaign_id, label, arm, campaign (label and arm), design, outcome, planted, found, low, high, naive (treated less untreated
    as they are; NaN with random arms), incremental_profit, why (key of what may keep the estimate from the truth).
    """
    known = spans[["campaign_id", "label", "design"]].merge(truth, on="campaign_id")
    rows = []
    for outcome, column in _TRUE.items():
        assigned = known["design"] != "randomised"
        planted = known[column].where(~assigned, known[f"{column}_assigned"])
        rows.append(known[["campaign_id", "label", "arm", "design"]].assign(outcome=outcome, planted=planted))
    keys = ["campaign_id", "arm", "outcome"]
    wanted = [*keys, "estimate", "low", "high", "incremental_profit"]
    table = pd.concat(rows).merge(effects.reindex(columns=wanted), on=keys, how="left")
    table = table.rename(columns={"estimate": "found"})
    panel = panel.reindex(columns=["campaign_id", "arm", "treated", SPEND, DAYS])
    naive = [_naive(panel, *key) for key in table[keys].itertuples(index=False)]
    why = np.where(table["design"] != "randomised", "why_targeted", CHANCE)
    return table.assign(naive=naive, campaign=_title(table), why=why)


def _title(table: pd.DataFrame) -> pd.Series:
    return table["label"] + ", " + table["arm"].str.replace("_", " ")


def _naive(panel: pd.DataFrame, campaign: str, arm: str, outcome: str) -> float:
    rows = panel[panel["campaign_id"] == campaign]
    treated, others = rows.loc[rows["arm"] == arm, outcome], rows.loc[rows["treated"] == 0, outcome]
    return float(treated.mean() - others.mean()) if len(treated) and len(others) else np.nan


def profit_table(
    truth: pd.DataFrame, spans: pd.DataFrame, redeemed: pd.DataFrame, rows: pd.DataFrame, margin: float
) -> pd.DataFrame:
    """What each arm truly earned in its campaign's days, beside what the notebook says.

    Parameters
    ----------
    redeemed : campaign_id, arm, redeemed (coupons used). rows : from :func:`effect_rows`.
    margin : share of sales that is margin.

    Returns
    -------
    campaign (and arm), reached (customers), true_profit (money: margin on what the arm changed, less coupons, contacts and
    redeemed offers), found_profit (NaN where the notebook gives none).
    """
    table = spans[["campaign_id", "label", "cost_per_contact", "offer_cost"]].merge(truth, on="campaign_id")
    table = table.merge(redeemed, on=["campaign_id", "arm"], how="left")
    said = rows.loc[rows["outcome"] == SPEND, ["campaign_id", "arm", "incremental_profit"]]
    table = table.merge(said, on=["campaign_id", "arm"], how="left")
    # What a coupon takes off is margin, all of it: the goods cost the same.
    coupon = table["coupon_assigned"]
    changed = (margin * (table["mean_effect_assigned"] + coupon) - coupon) * table["assigned"]
    contacts = table["cost_per_contact"].fillna(0) * table["assigned"]
    offers = table["offer_cost"].fillna(0) * table["redeemed"].fillna(0)
    table = table.assign(
        campaign=_title(table), true_profit=changed - contacts - offers, reached=table["assigned"].astype(int)
    )
    return table.rename(columns={"incremental_profit": "found_profit"})[
        ["campaign", "reached", "true_profit", "found_profit"]
    ]


def profit_facts(profits: pd.DataFrame) -> dict[str, object]:
    """What all campaigns truly earned and what the notebook says, over the arms of which it says something.

    Returns
    -------
    arms (told of), earned, said, off (said less earned), worst (name of the arm that is farthest off), worst_earned and worst_said:
    money, None where the notebook tells of no arm.
    """
    told = profits[profits["found_profit"].notna()]
    names = ("earned", "said", "off", "worst", "worst_earned", "worst_said")
    if told.empty:
        return {"arms": 0} | dict.fromkeys(names)
    gap = told["found_profit"] - told["true_profit"]
    worst = told.loc[gap.abs().idxmax()]
    values = (told["true_profit"].sum(), told["found_profit"].sum(), gap.sum(), worst["campaign"])
    return {"arms": len(told)} | dict(zip(names, (*values, worst["true_profit"], worst["found_profit"]), strict=True))


def effect_facts(rows: pd.DataFrame) -> dict[str, object]:
    """How many effects there are, have an interval, and lie in it; and the campaign without random arms, if there is one.

    Returns
    -------
    effects, judged, held; the same of sales alone: sales, sales_judged, sales_held; and of the first observational campaign:
    targeted (label), planted, found, low, high, naive.
    """
    verdict, sales = verdicts(rows), rows["outcome"] == SPEND
    chosen = rows[(rows["design"] != "randomised") & sales]
    one = chosen.iloc[0].to_dict() if len(chosen) else {}
    return {
        "effects": len(rows),
        "judged": int(verdict.isin([YES, NO]).sum()),
        "held": int((verdict == YES).sum()),
        "sales": int(sales.sum()),
        "sales_judged": int((verdict.isin([YES, NO]) & sales).sum()),
        "sales_held": int(((verdict == YES) & sales).sum()),
        "targeted": one.get("label"),
        **{name: one.get(name) for name in ("planted", "found", "low", "high", "naive")},
    }


def campaign_entries(
    rows: pd.DataFrame, profits: pd.DataFrame, words: Words, listed: Entry | None = None
) -> pd.DataFrame:
    """Section of the card: every effect, the profit of all campaigns together and, where there is one, that of the next list."""
    effects = [
        (words(f"quantity_{r['outcome']}", campaign=r["campaign"]), r["planted"], r["found"], r["low"], r["high"])
        for r in rows.to_dict("records")
    ]
    known = profits["found_profit"].notna()
    found = profits["found_profit"].sum() if known.all() else None
    profit = (words("quantity_profit"), profits["true_profit"].sum(), found, None, None)
    more = [profit] if listed is None else [profit, listed]
    return entries([*effects, *more], [*rows["why"], *[CHANCE] * len(more)])


def redemptions(contacts: ibis.Table) -> pd.DataFrame:
    """Coupons used, counted in the engine: campaign_id, arm, redeemed.

    contacts : the canonical table, with the column ``redeemed``.
    """
    used = contacts.redeemed.fill_null(False).cast("int64").sum()
    return contacts.group_by("campaign_id", "arm").aggregate(redeemed=used).to_pandas()
