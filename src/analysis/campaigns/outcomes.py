"""What each household bought before and during each campaign: one row a campaign × customer, reduced in the engine."""

from __future__ import annotations

from datetime import date, timedelta

import ibis
import pandas as pd

from analysis.errors import RapportError

COMPARISON_ARMS = ("control", "untargeted")


def windows(
    campaigns: pd.DataFrame, observed_from: date, observed_to: date, window_days: int | None = None, pre_days: int = 28
) -> pd.DataFrame:
    """The period in which each campaign is judged, and how much of the time around it the data cover.

    Parameters
    ----------
    campaigns : frame with campaign_id, starts_on, design and, if known, ends_on, name, cost_per_contact, offer_cost.
    observed_from, observed_to : first and last day that the data cover.
    window_days : days of outcome counted from the start; None takes the campaign's own length (``pre_days`` if it has
    no end).
    pre_days : length of a period before the start, in days.

    Returns
    -------
    One row a campaign in order of start: campaign_id, name, label (the name, with the id where names repeat), design,
    starts_on, ends_on, days, outcome_to (exclusive), pre_days, complete_periods (whole periods of ``pre_days``
    between the start of the data and of the campaign), cost_per_contact, offer_cost, and ``reason`` why its outcome
    cannot be seen: None, ``before_data`` (it starts before the data) or ``window_not_over`` (its window ends after
    them).
    """
    if pre_days < 1 or (window_days is not None and window_days < 1):
        raise RapportError("window_days and pre_days must be at least 1 day")
    wanted = ["campaign_id", "name", "design", "starts_on", "ends_on", "cost_per_contact", "offer_cost"]
    rows = []
    for row in campaigns.reindex(columns=wanted).to_dict("records"):
        start = pd.Timestamp(row["starts_on"]).date()
        end = None if pd.isna(row["ends_on"]) else pd.Timestamp(row["ends_on"]).date()
        days = window_days or ((end - start).days + 1 if end else pre_days)
        outcome_to = start + timedelta(days=days)
        reason = "before_data" if start < observed_from else None
        if reason is None and outcome_to > observed_to + timedelta(days=1):
            reason = "window_not_over"
        rows.append(
            {
                "campaign_id": str(row["campaign_id"]),
                "name": str(row["campaign_id"] if pd.isna(row["name"]) else row["name"]),
                "design": row["design"],
                "starts_on": start,
                "ends_on": end or outcome_to - timedelta(days=1),
                "days": days,
                "outcome_to": outcome_to,
                "pre_days": pre_days,
                "complete_periods": max(0, (start - observed_from).days // pre_days),
                "cost_per_contact": _number(row["cost_per_contact"]),
                "offer_cost": _number(row["offer_cost"]),
                "reason": reason,
            }
        )
    found = pd.DataFrame(rows, columns=list(rows[0]) if rows else [*wanted, "days", "complete_periods", "reason"])
    if found.empty:
        return found
    label = found["name"].where(~found["name"].duplicated(keep=False), found["campaign_id"] + " · " + found["name"])
    found.insert(2, "label", label)
    found["reason"] = found["reason"].astype(object).where(found["reason"].notna(), None)
    return found.sort_values(["starts_on", "campaign_id"], kind="stable", ignore_index=True)


def _number(value: object) -> float:
    return float("nan") if pd.isna(value) else float(value)


def _window_table(spans: pd.DataFrame, periods: int = 0) -> ibis.Table:
    """Spans as an engine table; ``before_k`` is the first day of the k-th period before the start."""
    plain = {c: spans[c].astype(object) for c in ("campaign_id", "design", "starts_on", "ends_on", "outcome_to")}
    for k in range(periods + 1):
        shift = [timedelta(days=int(days) * k) for days in spans["pre_days"]]
        plain[f"before_{k}"] = pd.Series(
            [start - back for start, back in zip(spans["starts_on"], shift, strict=True)],
            index=spans.index,
            dtype=object,
        )
    schema = {c: "string" if c in ("campaign_id", "design") else "date" for c in plain}
    return ibis.memtable(pd.DataFrame(plain), schema=schema)


def daily_purchases(lines: ibis.Table) -> ibis.Table:
    """One row a customer × local day: net spend and discount (exact decimals)."""
    discount = lines.discount.fill_null(0) if "discount" in lines.columns else lines.net_amount * 0
    return (
        lines.mutate(_discount=discount)
        .group_by("customer_id", "order_date")
        .aggregate(net=lambda t: t.net_amount.sum(), discount=lambda t: t._discount.sum())
    )


def spend_by_period(lines: ibis.Table, starts_on: date, before: int, after: int, days: int = 7) -> pd.DataFrame:
    """Net spend by customer and period around a date, reduced in the engine.

    Parameters
    ----------
    lines : the canonical ``order_lines``. before, after : periods of ``days`` days on each side of ``starts_on``.

    Returns
    -------
    customer_id, period (−before … after − 1), spend (float, summed as decimal); only pairs with a line.
    """
    opening = starts_on - timedelta(days=before * days)
    closing = starts_on + timedelta(days=after * days)
    daily = daily_purchases(lines.filter((lines.order_date >= opening) & (lines.order_date < closing)))
    since = daily.order_date.delta(ibis.literal(opening), unit="day")
    period = (since / days).floor().cast("int64") - before
    summed = daily.group_by("customer_id", period=period).aggregate(spend=daily.net.sum())
    return summed.mutate(spend=summed.spend.cast("float64")).to_pandas()


def purchases_by_period(lines: ibis.Table, spans: pd.DataFrame, periods: int) -> ibis.Table:
    """Spend, purchase days and discount of each customer in each campaign's window and in the periods before it.

    A purchase day is a local day with positive net spend. Only customers with a line in those periods appear.
    ``_before_1`` is the period just before the start, ``_before_2`` the one before that, and so on to ``periods``.
    """
    daily, span = daily_purchases(lines), _window_table(spans, periods)
    joined = daily.join(span, [daily.order_date >= span[f"before_{periods}"], daily.order_date < span.outcome_to])
    bounds = {"": ("starts_on", "outcome_to")}
    bounds |= {f"_before_{k}": (f"before_{k}", f"before_{k - 1}") for k in range(1, periods + 1)}
    measures = {}
    for suffix, (first, until) in bounds.items():
        where = (joined[first] <= joined.order_date) & (joined.order_date < joined[until])
        measures[f"spend{suffix}"] = joined.net.sum(where=where)
        measures[f"discount{suffix}"] = joined.discount.sum(where=where)
        measures[f"purchase_days{suffix}"] = ((joined.net > 0) & where).cast("int64").sum()
    return joined.group_by("campaign_id", "customer_id").aggregate(**measures)


def members(lines: ibis.Table, contacts: ibis.Table, spans: pd.DataFrame) -> ibis.Table:
    """Who is compared in each campaign: campaign_id, customer_id, arm, redeemed.

    Randomised: the contacts as they are. Observational: customers who had bought before the campaign started; those
    whom contacts do not name are ``untargeted``, unless contacts name the campaign's untargeted themselves.
    """
    span = _window_table(spans)
    redeemed = contacts.redeemed if "redeemed" in contacts.columns else ibis.null("boolean")
    named = contacts.mutate(redeemed=redeemed).select("campaign_id", "customer_id", "arm", "redeemed")
    randomised = named.semi_join(span.filter(span.design == "randomised"), "campaign_id")
    first = lines.group_by("customer_id").aggregate(first_on=lines.order_date.min())
    observed = span.filter(span.design != "randomised").select("campaign_id", "starts_on")
    pairs = first.join(observed, first.first_on < observed.starts_on).select("campaign_id", "customer_id")
    given = named.filter(named.arm.isin(COMPARISON_ARMS)).select("campaign_id").distinct().mutate(given=True)
    joined = pairs.left_join(named, ["campaign_id", "customer_id"]).drop("campaign_id_right", "customer_id_right")
    joined = joined.left_join(given, "campaign_id").drop("campaign_id_right")
    joined = joined.filter(joined.arm.notnull() | joined.given.isnull())
    observational = joined.select(
        "campaign_id", "customer_id", arm=joined.arm.fill_null("untargeted"), redeemed=joined.redeemed
    )
    return randomised.union(observational)


def other_contacts(contacts: ibis.Table, spans: pd.DataFrame) -> ibis.Table:
    """Each customer's other campaigns, seen from each campaign.

    Returns
    -------
    Ibis table: campaign_id, customer_id, earlier_contacts (started before), running_contacts (started before and still
    running at the start), overlapping_contacts (running at any time of the outcome window), earlier_redeemed (campaigns
    that were over before the start and in which the customer redeemed).
    """
    span = _window_table(spans)
    redeemed = contacts.redeemed.fill_null(False) if "redeemed" in contacts.columns else ibis.literal(False)
    reached = contacts.mutate(_redeemed=redeemed).filter(contacts.arm.notin(COMPARISON_ARMS))
    dated = reached.select("customer_id", "_redeemed", other="campaign_id").join(
        span.select(other="campaign_id", other_from="starts_on", other_to="ends_on"), "other"
    )
    seen = span.select("campaign_id", "starts_on", "outcome_to")
    pairs = dated.join(seen, [dated.other != seen.campaign_id, dated.other_from < seen.outcome_to])
    earlier = pairs.other_from < pairs.starts_on
    return pairs.group_by("campaign_id", "customer_id").aggregate(
        earlier_contacts=earlier.cast("int64").sum(),
        running_contacts=(earlier & (pairs.other_to >= pairs.starts_on)).cast("int64").sum(),
        overlapping_contacts=(pairs.other_to >= pairs.starts_on).cast("int64").sum(),
        earlier_redeemed=(pairs._redeemed & (pairs.other_to < pairs.starts_on)).cast("int64").sum(),
    )


def campaign_panel(lines: ibis.Table, contacts: ibis.Table, spans: pd.DataFrame, periods: int = 4) -> pd.DataFrame:
    """The frame that every estimate rests on: one row a campaign × customer.

    Parameters
    ----------
    lines, contacts : the canonical tables ``order_lines`` and ``contacts``. spans : all campaigns, from
    :func:`windows`.
    periods : how many periods before each start to look at.

    Returns
    -------
    campaign_id, customer_id, arm, treated (0 or 1), redeemed (nullable), spend, purchase_days, discount in the
    window, the same with ``_before_1`` … ``_before_<periods>``, and the counts of :func:`other_contacts`; sorted by
    campaign and customer. Money in float, summed as decimal. Only campaigns whose ``reason`` is empty.
    """
    usable = spans[spans["reason"].isna()]
    if usable.empty:
        return pd.DataFrame(columns=["campaign_id", "customer_id", "arm", "treated", "redeemed", "spend"])
    keys = ["campaign_id", "customer_id"]
    base = members(lines, contacts, usable)
    bought = purchases_by_period(lines, usable, periods)
    others = other_contacts(contacts, spans)
    table = base.left_join(bought, keys).drop("campaign_id_right", "customer_id_right")
    table = table.left_join(others, keys).drop("campaign_id_right", "customer_id_right")
    filled = {}
    for name in (*bought.columns[2:], *others.columns[2:]):
        kind = "float64" if name.startswith(("spend", "discount")) else "int64"
        filled[name] = table[name].fill_null(0).cast(kind)
    frame = table.mutate(**filled).to_pandas().sort_values(keys, ignore_index=True)
    frame.insert(3, "treated", (~frame["arm"].isin(COMPARISON_ARMS)).astype(int))
    return frame
