"""Whom a list may be drawn from beyond the customers of the campaign that it was learnt from: all, as they are today, as far as
the tested were like them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.campaigns.base_learners import logistic
from analysis.campaigns.ledger import held_out
from analysis.campaigns.outcomes import other_contacts, purchases_by_period
from analysis.campaigns.policy import NOBODY, PolicyComparison
from analysis.campaigns.pressure import dated_contacts

Array = NDArray[np.float64]

LEAST_LIKE = 0.1
"""Customers who are less than so often among the tested as among the candidates have too few like them to learn from."""
GROWING = ("earlier_contacts", "earlier_redeemed")
"""Counts that grow as long as the company sends: beyond what the tested had they are taken at the tested's highest."""
_NOW = "today"
_PEOPLE = ("customer_id", "consent_email", "consent_sms", "held_out")


def list_candidates(
    lines: ibis.Table,
    contacts: ibis.Table,
    spans: pd.DataFrame,
    customers: pd.DataFrame | None,
    observed_to: date,
    periods: int = 4,
    cap_days: int = 90,
) -> pd.DataFrame:
    """All customers with the history that the panel knows of the tested ones, counted back from the end of the data.

    Parameters
    ----------
    lines, contacts, customers : the canonical tables; without ``customers``, everybody who bought. spans : all campaigns, from
    :func:`analysis.campaigns.outcomes.windows`. observed_to : the last day of the data. periods : of history, of the length
    that the spans name; as many as the panel has. cap_days : messages of so many last days are counted.

    Returns
    -------
    One row a customer, sorted: customer_id, consent_email and consent_sms where known, held_out (by the lasting holdout),
    recent_contacts, and the panel's columns from before a start: spend, purchase_days and discount ``_before_1`` to
    ``_before_<periods>``, earlier_contacts, running_contacts, earlier_redeemed.
    """
    people = _people(lines, customers)
    start = observed_to + timedelta(days=1)
    name = next(n for n in (_NOW, *(f"{_NOW} {k}" for k in range(len(spans)))) if n not in set(spans["campaign_id"]))
    now = {"campaign_id": name, "design": "observational", "starts_on": start, "ends_on": start, "outcome_to": start}
    today = pd.DataFrame([now | {"pre_days": int(spans["pre_days"].iloc[0])}])
    bought = purchases_by_period(lines, today, periods).to_pandas()
    known = other_contacts(contacts, pd.concat([spans[list(today)], today], ignore_index=True))
    others = known.filter(known.campaign_id == name).to_pandas()
    messages = dated_contacts(contacts, spans)
    late = (messages.sent_on > observed_to - timedelta(days=cap_days)) & (messages.sent_on <= observed_to)
    recent = messages.filter(late).group_by("customer_id").aggregate(recent_contacts=lambda t: t.count()).to_pandas()
    found = people
    for part in (bought, others, recent):
        found = found.merge(part.drop(columns="campaign_id", errors="ignore"), on="customer_id", how="left")
    counted = [column for column in found if column not in people]
    found[counted] = found[counted].astype(float).fillna(0.0)
    unneeded = ["spend", "purchase_days", "discount", "overlapping_contacts"]
    return found.drop(columns=unneeded).sort_values("customer_id", ignore_index=True)


def permissions(customers: pd.DataFrame) -> pd.DataFrame:
    """Who may be reached: one row a customer with customer_id, consent_email and consent_sms where known, and held_out (by the
    lasting holdout)."""
    known = customers.drop_duplicates("customer_id")
    out = held_out(known)
    known = known.assign(held_out=False if out is None else out.to_numpy())
    return known[[column for column in _PEOPLE if column in known]].reset_index(drop=True)


def _people(lines: ibis.Table, customers: pd.DataFrame | None) -> pd.DataFrame:
    if customers is None:
        ids = lines.select("customer_id").distinct().to_pandas()
        return ids.dropna().assign(held_out=False)
    return permissions(customers)


@dataclass(frozen=True)
class Overlap:
    """How like the tested the candidates are.

    Attributes
    ----------
    likeness : shape (n,), how often a customer like this is among the tested for each time among the candidates; 1 where both
    have as many. inside : shape (n,), whether there is enough to learn from: a likeness of ``LEAST_LIKE`` at least, and no
    feature, the ``GROWING`` ones aside, beyond what was seen among the tested. beyond : by feature, share of candidates beyond
    its range, the largest first. features : shape (n, k), by which the candidates are to be scored. weights : shape (m,), of the
    tested, so that they stand for the candidates; 0 for those of whose like too few were tested.
    """

    likeness: Array = field(repr=False)
    inside: NDArray[np.bool_] = field(repr=False)
    beyond: pd.Series = field(repr=False)
    features: pd.DataFrame = field(repr=False)
    weights: Array = field(repr=False)

    @property
    def share_outside(self) -> float:
        """Share of the candidates of whom the tested say nothing."""
        return float(1 - self.inside.mean())


def like_tested(tested: pd.DataFrame, candidates: pd.DataFrame, least: float = LEAST_LIKE) -> Overlap:
    """Which candidates have enough customers like them among the tested.

    Parameters
    ----------
    tested, candidates : frames of shape (m, k) and (n, k), the same features. least : likeness from which a candidate counts.

    Source: a classifier's odds of being tested, over the odds of the sizes, is the ratio of the two densities (Qin 1998,
    Biometrika 85:619); leaving out where it is small, Crump, Hotz, Imbens & Mitnik (2009), Biometrika 96:187.
    """
    missing = [name for name in tested if name not in candidates]
    if missing:
        raise ValueError(f"the candidates lack what was learnt from: {', '.join(map(str, missing))}")
    low, high, new = tested.min(), tested.max(), candidates[list(tested)].astype(float).reset_index(drop=True)
    beyond = (new < low) | (new > high)
    growing = [name for name in GROWING if name in new]
    new[growing] = new[growing].clip(low[growing], high[growing], axis=1)
    both = np.vstack([tested.to_numpy(float), new.to_numpy()])
    chance = logistic().fit(both, np.arange(len(both)) < len(tested)).predict_proba(both)[:, 1]
    ratio = chance / np.maximum(1 - chance, 1e-12) * len(new) / len(tested)
    likeness, own = ratio[len(tested) :], ratio[: len(tested)]
    inside = (likeness >= least) & ~beyond.drop(columns=growing).any(axis=1).to_numpy()
    weights = np.where(own >= least, 1 / np.maximum(own, least), 0.0)
    return Overlap(likeness, inside, beyond.mean().sort_values(ascending=False, kind="stable"), new, weights)


def for_candidates(
    compared: PolicyComparison, gains: Array, chosen: NDArray[np.int64], weights: Array
) -> PolicyComparison:
    """The comparison with the recommended policy at what it is worth among the candidates and not among the tested.

    Parameters
    ----------
    compared : of the tested. gains : shape (m, arms), their doubly robust scores. chosen : shape (m,), the arm that the
    recommended policy gives each, or ``NOBODY``. weights : shape (m,), of :class:`Overlap`.

    Returns
    -------
    The same with value, low and high of the recommended row, as many treated as before, at the weighted mean of those whom it
    treats; the rest of the table still speaks of the tested. Unchanged where nobody is treated or weighs anything.

    Source: weighting by the ratio of densities, Shimodaira (2000), Journal of Statistical Planning and Inference 90:227; the
    error is that of a ratio of means, with the weights taken as known.
    """
    treated = np.flatnonzero(chosen != NOBODY)
    w, worth = weights[treated], gains[treated, chosen[treated]]
    if compared.kind == "nobody" or not w.sum() > 0:
        return compared
    each = float(w @ worth / w.sum())
    se = float(np.linalg.norm(w * (worth - each)) / w.sum())
    reach = float(stats.norm.ppf(0.5 + compared.confidence / 2)) * se
    table, row = compared.table.copy(), compared.table["policy"] == compared.recommended
    share = float(table.loc[row, "treated"].iloc[0])
    table.loc[row, ["value", "low", "high"]] = share * np.array([each, each - reach, each + reach])
    return replace(compared, table=table)
