"""Who took part: targeted, bought, redeemed. A response is not an effect; many would have bought anyway."""

from __future__ import annotations

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.campaigns.outcomes import COMPARISON_ARMS
from analysis.valuation.intervals import share_interval

STAGES = ("delivered", "opened", "clicked", "redeemed", "converted", "unsubscribed")


def wilson_interval(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Score interval of a share.

    Parameters
    ----------
    successes, trials : counts, scalar or shape (n,); 0 ≤ successes ≤ trials. Without trials the interval is 0 to 1.

    Source: Wilson (1927), JASA 22:209.
    """
    k, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    if ((k < 0) | (k > n)).any():
        raise ValueError("successes must lie between 0 and trials")
    low, high = share_interval(k, n, 1.0 - confidence)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def clustered_share(successes: ArrayLike, clusters: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """A share over contacts with an interval that knows that the same customer recurs.

    Parameters
    ----------
    successes : shape (n,), 0 or 1. clusters : shape (n,), the customer of each contact.

    Returns
    -------
    share, low, high. The sample counts for as much as its design effect leaves of it (Kish 1965, section 5.4), and the
    interval is Wilson's for that size, so it stays between 0 and 1.
    """
    y = np.asarray(successes, dtype=float)
    codes = pd.factorize(np.asarray(clusters, dtype=object))[0]
    share = float(y.mean())
    within = np.bincount(codes, weights=y - share)
    groups, naive = len(within), share * (1 - share) / len(y)
    robust = float(within @ within) / len(y) ** 2 * groups / max(groups - 1, 1)
    size = len(y) / max(1.0, robust / naive) if naive > 0 else float(groups)
    low, high = wilson_interval(share * size, size, confidence)
    return share, float(low), float(high)


def response_counts(contacts: ibis.Table) -> pd.DataFrame:
    """How many of each campaign's contacted customers took each step, counted in the engine.

    Returns
    -------
    One row a campaign: campaign_id, targeted and, for each of delivered, opened, clicked, redeemed, converted,
    unsubscribed that the data hold, how many did and (``<stage>_known``) of how many it is known.
    """
    reached = contacts.filter(contacts.arm.notin(COMPARISON_ARMS))
    measures = {"targeted": reached.count()}
    for stage in STAGES:
        if stage in contacts.columns:
            measures[stage] = reached[stage].fill_null(False).cast("int64").sum()
            measures[f"{stage}_known"] = reached[stage].notnull().cast("int64").sum()
    frame = reached.group_by("campaign_id").aggregate(**measures).to_pandas()
    empty = [s for s in STAGES if s in frame and frame[f"{s}_known"].sum() == 0]
    frame = frame.drop(columns=[*empty, *(f"{s}_known" for s in empty)])
    return frame.sort_values("campaign_id", ignore_index=True)


def response_rates(counts: pd.DataFrame, stage: str = "redeemed", confidence: float = 0.95) -> pd.DataFrame:
    """Rate of one stage in each campaign with its Wilson interval: campaign_id, targeted, count, rate, low, high."""
    if stage not in counts:
        return pd.DataFrame(columns=["campaign_id", "targeted", "count", "rate", "low", "high"])
    known = counts[counts[f"{stage}_known"] > 0]
    low, high = wilson_interval(known[stage], known[f"{stage}_known"], confidence)
    return pd.DataFrame(
        {
            "campaign_id": known["campaign_id"],
            "targeted": known["targeted"],
            "count": known[stage],
            "rate": known[stage] / known[f"{stage}_known"],
            "low": low,
            "high": high,
        }
    ).reset_index(drop=True)


def funnel(panel: pd.DataFrame) -> pd.DataFrame:
    """Targeted customers who bought in the window, and who redeemed, beside the untargeted who bought all the same.

    Parameters
    ----------
    panel : frame of :func:`analysis.campaigns.outcomes.campaign_panel`.

    Returns
    -------
    One row a stage over all campaigns: ``stage`` (targeted, bought, offered, redeemed, compared, compared_bought) and
    ``contacts``. ``offered`` are those of whom it is known whether they redeemed; both are left out without any.
    """
    treated, bought = panel["treated"] == 1, panel["spend"] > 0
    redeemed = (
        panel["redeemed"].astype("boolean")
        if "redeemed" in panel
        else pd.Series(pd.NA, index=panel.index, dtype="boolean")
    )
    rows = [("targeted", treated.sum()), ("bought", (treated & bought).sum())]
    if redeemed[treated].notna().any():
        rows += [("offered", redeemed[treated].notna().sum()), ("redeemed", redeemed[treated].fillna(False).sum())]
    rows += [("compared", (~treated).sum()), ("compared_bought", (~treated & bought).sum())]
    return pd.DataFrame(rows, columns=["stage", "contacts"]).astype({"contacts": int})
