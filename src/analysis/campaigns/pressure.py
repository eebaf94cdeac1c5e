"""What became of the messages of each channel, and how many a customer should get.

Customers who get many messages are not like those who get few: senders choose them, and whoever unsubscribes gets no
more. Rates by number of messages therefore describe; only arms that were drawn by lot say what a message more causes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from analysis.campaigns.effects import CUPED, DifferenceInMeans, EffectResults, EstimationError
from analysis.campaigns.outcomes import COMPARISON_ARMS
from analysis.campaigns.response import STAGES, wilson_interval
from analysis.multiplicity import adjust_p_values


@dataclass(frozen=True)
class PressureSettings:
    """How pressure is counted.

    Attributes
    ----------
    days : how far back messages count. most : numbers of messages from here on are one band.
    """

    days: int = 90
    most: int = 4
    confidence: float = 0.95


def dated_contacts(contacts: ibis.Table, spans: pd.DataFrame) -> ibis.Table:
    """Messages that went out, each with ``sent_on``: its own date or else the first day of its campaign."""
    starts = ibis.memtable(
        spans[["campaign_id", "starts_on"]].astype(object), schema={"campaign_id": "string", "starts_on": "date"}
    )
    sent = contacts.filter(contacts.arm.notin(COMPARISON_ARMS) & contacts.customer_id.notnull())
    joined = sent.join(starts, "campaign_id")
    own = joined.contacted_on.cast("date") if "contacted_on" in contacts.columns else ibis.null("date")
    channel = joined.channel if "channel" in contacts.columns else ibis.null("string")
    return joined.mutate(sent_on=ibis.coalesce(own, joined.starts_on), channel=channel.fill_null("unknown"))


def _rates(messages: ibis.Table, by: list[str], confidence: float) -> pd.DataFrame:
    """Rate of each stage in each group, with intervals that know that the same customer recurs.

    The engine hands over six sums a group and stage; the arithmetic is that of :func:`response.clustered_share`.
    """
    stages = [s for s in STAGES if s in messages.columns]
    known = {f"n_{s}": messages[s].notnull().cast("int64").sum() for s in stages}
    done = {f"k_{s}": messages[s].fill_null(False).cast("int64").sum() for s in stages}
    each = messages.group_by(*by, "customer_id").aggregate(sent=messages.count(), **known, **done)
    sums = {"sent": each.sent.sum(), "customers": each.count()}
    for s in stages:
        n, k = each[f"n_{s}"], each[f"k_{s}"]
        sums |= {f"n_{s}": n.sum(), f"k_{s}": k.sum(), f"nn_{s}": (n * n).sum(), f"kk_{s}": (k * k).sum()}
        sums |= {f"nk_{s}": (n * k).sum(), f"c_{s}": (n > 0).cast("int64").sum()}
    wide = each.group_by(*by).aggregate(**sums).to_pandas().sort_values(by, ignore_index=True)
    parts = []
    for s in stages:
        columns = [f"{part}_{s}" for part in ("k", "n", "kk", "nk", "nn", "c")]
        part = wide.loc[wide[f"n_{s}"] > 0, [*by, "sent", *columns]]
        k, n, kk, nk, nn, customers = part[columns].to_numpy(float).T
        rate, low, high = _clustered(k, n, kk, nk, nn, customers, confidence)
        parts.append(
            part[[*by, "sent"]].assign(stage=s, known=n.astype(int), count=k.astype(int), rate=rate, low=low, high=high)
        )
    names = [*by, "sent", "stage", "known", "count", "rate", "low", "high"]
    if not parts:
        return pd.DataFrame(columns=names)
    found = pd.concat(parts, ignore_index=True)
    return found.sort_values(by, kind="stable", ignore_index=True)[names]


def _clustered(
    k: np.ndarray,
    n: np.ndarray,
    kk: np.ndarray,
    nk: np.ndarray,
    nn: np.ndarray,
    customers: np.ndarray,
    confidence: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rate = k / n
    naive = rate * (1 - rate) / n
    robust = np.maximum(kk - 2 * rate * nk + rate**2 * nn, 0) / n**2 * customers / np.maximum(customers - 1, 1)
    effect = np.divide(robust, naive, out=np.ones_like(n), where=naive > 0)
    size = np.where(naive > 0, n / np.maximum(effect, 1), customers)
    low, high = wilson_interval(rate * size, size, confidence)
    return rate, low, high


def channel_funnel(contacts: ibis.Table, spans: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """What became of each channel's messages: channel, sent, stage, known, count, rate (of those of whom it is known),
    low, high; stages of which nothing is known are left out."""
    return _rates(dated_contacts(contacts, spans), ["channel"], confidence)


def funnel_over_time(contacts: ibis.Table, spans: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The same by channel and month: channel, month (its first day), and the columns of :func:`channel_funnel`."""
    messages = dated_contacts(contacts, spans)
    return _rates(messages.mutate(month=messages.sent_on.truncate("M").cast("date")), ["channel", "month"], confidence)


def shared_customers(contacts: ibis.Table, spans: pd.DataFrame) -> pd.DataFrame:
    """How many customers two campaigns both reached: campaign_id, other, customers, share (of the first's), together
    (their days overlap); one row an ordered pair with anybody in both."""
    reached = contacts.filter(contacts.arm.notin(COMPARISON_ARMS) & contacts.customer_id.notnull())
    pairs = reached.select("campaign_id", "customer_id").distinct()
    sizes = pairs.group_by("campaign_id").aggregate(size=pairs.count()).to_pandas().set_index("campaign_id")["size"]
    second = pairs.select("customer_id", other="campaign_id")
    joined = pairs.join(second, "customer_id")
    joined = joined.filter(joined.campaign_id != joined.other)
    both = joined.group_by("campaign_id", "other").aggregate(customers=joined.count()).to_pandas()
    dates = spans.set_index("campaign_id")[["starts_on", "ends_on"]]
    both = both[both["campaign_id"].isin(dates.index) & both["other"].isin(dates.index)]
    first, last = dates.loc[both["campaign_id"]], dates.loc[both["other"]]
    both["share"] = both["customers"].to_numpy(float) / sizes.reindex(both["campaign_id"]).to_numpy(float)
    starts_before = first["starts_on"].to_numpy() <= last["ends_on"].to_numpy()
    both["together"] = starts_before & (last["starts_on"].to_numpy() <= first["ends_on"].to_numpy())
    return both.sort_values(["campaign_id", "other"], ignore_index=True)


def sharing_most(shared: pd.DataFrame, most: int = 8) -> pd.DataFrame:
    """The rows of :func:`shared_customers` among the ``most`` campaigns that share most customers, these first."""
    ranked = shared.groupby("campaign_id")["customers"].sum().sort_values(ascending=False, kind="stable").index[:most]
    among = shared[shared["campaign_id"].isin(ranked) & shared["other"].isin(ranked)]
    return among.sort_values("campaign_id", key=lambda names: names.map(list(ranked).index), kind="stable")


def contact_pressure(
    contacts: ibis.Table, spans: pd.DataFrame, days: int = 90, most: int = 4, confidence: float = 0.95
) -> pd.DataFrame:
    """Stages by how many messages the same customer had got in the ``days`` days before. It describes, no more.

    Returns
    -------
    earlier (0 … ``most``, the last one ``most`` or more), and the columns of :func:`channel_funnel` but the channel.
    """
    messages = dated_contacts(contacts, spans)
    days_sent = messages.select("customer_id", "sent_on").distinct()
    pairs = days_sent.join(messages.select("customer_id", other_on="sent_on"), "customer_id")
    since = pairs.sent_on.delta(pairs.other_on, unit="day")
    before = pairs.filter((since > 0) & (since <= days))
    counted = before.group_by("customer_id", "sent_on").aggregate(earlier=before.count())
    joined = messages.left_join(counted, ["customer_id", "sent_on"]).drop("customer_id_right", "sent_on_right")
    band = ibis.least(joined.earlier.fill_null(0), most).cast("int64")
    return _rates(joined.mutate(earlier=band), ["earlier"], confidence)


@dataclass(frozen=True)
class FrequencyTest:
    """What more messages cause, from arms drawn by lot.

    Attributes
    ----------
    arms : one row an arm from the fewest messages up (the comparison has 0): arm, messages, customers, spend, low, high
    (effect on spend a customer against the comparison), profit, profit_low, profit_high (after messages and lost
    consents), unsubscribed, unsubscribed_low, unsubscribed_high.
    steps : each arm against the one with fewer messages: fewer, more, profit, low, high, unsubscribed (differences).
    cap : messages to send at most; best_arm : the arm that gets so many. clear : it earns clearly more than no message.
    """

    arms: pd.DataFrame
    steps: pd.DataFrame
    cap: int
    best_arm: str
    clear: bool


def frequency_test(
    spend: ArrayLike,
    arm: ArrayLike,
    messages: Mapping[str, int],
    unsubscribed: ArrayLike,
    before: ArrayLike | None = None,
    *,
    margin: float = 1.0,
    message_cost: float = 0.0,
    consent_value: float = 0.0,
    confidence: float = 0.95,
) -> FrequencyTest:
    """Effect of the number of messages on spend, unsubscribing and profit, and the number to stay below.

    From the fewest messages up, the cap rises as long as the next arm clearly earns more profit a customer: a message
    more has to earn its place, because its cost and the consents that it loses are certain. As each step is taken only
    after the one before, the steps need no correction for their number (fixed sequence; Maurer, Hothorn & Lehmacher
    1995).

    Parameters
    ----------
    spend : shape (n,). arm : shape (n,). messages : arm to messages a customer, for all arms that count; exactly one has
    0. unsubscribed : shape (n,), 0 or 1, missing counts as no. before : shape (n,) or (n, k), spend before.
    margin : share of spend. message_cost, consent_value : money a message, and a lost consent.

    Raises
    ------
    EstimationError : ``no_frequency`` (fewer than two arms with messages, or no arm without), as well as those of
    :class:`DifferenceInMeans`.
    """
    names = np.asarray(arm, dtype=object)
    order = sorted((a for a in messages if (names == a).any()), key=lambda a: (messages[a], a))
    if len(order) < 3 or [messages[a] for a in order].count(0) != 1:
        raise EstimationError("no_frequency", "give one arm without messages and two or more with different numbers")
    lost = np.nan_to_num(np.asarray(unsubscribed, dtype=float))
    y = np.asarray(spend, dtype=float)
    sent = np.array([messages.get(a, 0) for a in names], dtype=float)
    profit = margin * y - message_cost * sent - consent_value * lost

    def against(outcome: np.ndarray, more: str, fewer: str) -> EffectResults:
        rows = (names == more) | (names == fewer)
        d = (names[rows] == more).astype(int)
        if before is None:
            return DifferenceInMeans(outcome[rows], d).fit()
        return CUPED(outcome[rows], d, np.asarray(before, dtype=float)[rows]).fit()

    rows = []
    for a in order:
        here = names == a
        k, n = float(lost[here].sum()), int(here.sum())
        nothing = a == order[0]
        gained, earned = (None if nothing else against(o, a, order[0]) for o in (y, profit))
        limits = [(0.0, 0.0, 0.0) if r is None else (r.effect, *r.interval(confidence)) for r in (gained, earned)]
        share = (np.nan,) * 3 if nothing else (k / n, *map(float, wilson_interval(k, n, confidence)))
        rows.append((a, messages[a], n, *limits[0], *limits[1], *share))
    columns = ["arm", "messages", "customers", "spend", "low", "high", "profit", "profit_low", "profit_high"]
    columns += ["unsubscribed", "unsubscribed_low", "unsubscribed_high"]
    table = pd.DataFrame(rows, columns=columns)
    lost_share = table.set_index("arm")["unsubscribed"].fillna(0)
    steps = []
    for fewer, more in pairwise(order):
        found = against(profit, more, fewer)
        limits = found.interval(confidence)
        steps.append((fewer, more, found.effect, *limits, lost_share[more] - lost_share[fewer]))
    steps = pd.DataFrame(steps, columns=["fewer", "more", "profit", "low", "high", "unsubscribed"])
    climbs = steps["low"].to_numpy() > 0
    # The first step only says whether to write at all; a cap speaks of those who are written to.
    best = order[1 + int(np.cumprod(climbs[1:]).sum())]
    clear = bool(table.set_index("arm").loc[best, "profit_low"] > 0)
    return FrequencyTest(table, steps, int(messages[best]), best, clear)


def precautionary_cap(pressure: pd.DataFrame) -> int | None:
    """Messages in the period to stay at without an experiment: below the first band that unsubscribes clearly more
    than customers without an earlier message; None where nothing is known of unsubscribing, or no band does.

    Parameters
    ----------
    pressure : from :func:`contact_pressure`. The cap counts the new message: a band with 2 earlier ones gives 2.
    """
    bands = pressure[pressure["stage"] == "unsubscribed"].sort_values("earlier")
    if bands.empty or bands["earlier"].iloc[0] != 0:
        return None
    worse = bands[bands["low"] > bands["high"].iloc[0]]
    return None if worse.empty else int(worse["earlier"].iloc[0])


def satisfaction_by_arm(
    contacts: ibis.Table,
    spans: pd.DataFrame,
    answers: pd.DataFrame,
    days: int = 90,
    least: int = 30,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Difference in satisfaction between the arms of randomised campaigns that a survey followed.

    Parameters
    ----------
    answers : customer_id, responded_on, score and, if there is one, weight; a customer's several answers in the
    ``days`` days from the start are averaged. least : answers that each arm needs.

    Returns
    -------
    One row a campaign × arm: campaign_id, arm, answered, compared (customers), difference, low, high, p_value,
    p_adjusted (Holm), answered_share, compared_share, answer_p (whether the arms answered equally often: if not, the
    difference may be one of who answered), reason (``too_few`` or None).
    """
    rows = []
    for span in spans[spans["design"] == "randomised"].to_dict("records"):
        named = contacts.filter(contacts.campaign_id == span["campaign_id"]).select("customer_id", "arm").to_pandas()
        start = pd.Timestamp(span["starts_on"])
        asked = pd.to_datetime(answers["responded_on"])
        inside = answers[(asked >= start) & (asked < start + pd.Timedelta(days=days)) & answers["score"].notna()]
        found = named.merge(_one_answer(inside), on="customer_id", how="left")
        control = found[found["arm"].isin(COMPARISON_ARMS)]
        for arm in sorted(set(found["arm"]) - set(COMPARISON_ARMS)):
            rows.append(
                (span["campaign_id"], arm, *_arm_satisfaction(found[found["arm"] == arm], control, least, confidence))
            )
    columns = ["campaign_id", "arm", "answered", "compared", "difference", "low", "high", "p_value"]
    columns += ["answered_share", "compared_share", "answer_p", "reason"]
    table = pd.DataFrame(rows, columns=columns)
    known = table["p_value"].notna()
    table["p_adjusted"] = np.nan
    table.loc[known, "p_adjusted"] = adjust_p_values(table.loc[known, "p_value"].to_numpy(float))
    return table


def survey_scores(responses: pd.DataFrame | None, loyalty: pd.DataFrame | None) -> pd.DataFrame | None:
    """Satisfaction as answers for :func:`satisfaction_by_arm`; None where no survey says who answered when how satisfied.

    Parameters
    ----------
    responses, loyalty : the canonical tables ``survey_responses`` and ``customer_loyalty``, or None.
    """
    asked = {"response_id", "customer_id", "responded_on"}
    if responses is None or loyalty is None or not asked <= set(responses) or "satisfaction" not in loyalty:
        return None
    known = [name for name in (*asked, "weight") if name in responses and responses[name].notna().any()]
    scores = loyalty[["response_id", "satisfaction"]].rename(columns={"satisfaction": "score"})
    return responses[known].merge(scores, on="response_id") if asked <= set(known) else None


def satisfaction_facts(table: pd.DataFrame | None, spans: pd.DataFrame) -> dict[str, object]:
    """The arm whose customers differ most surely in satisfaction, as arguments of a finding.

    Returns
    -------
    value, low, high (points of 100), label, arm, answered, clear (allowing for the number of arms), fair (whether both
    answered equally often), arms; or value (None) and code ``no_survey`` or ``too_few``.
    """
    if table is None or table.empty:
        return {"value": None, "code": "no_survey"}
    known = table[table["p_value"].notna()]
    if known.empty:
        return {"value": None, "code": "too_few"}
    row = known.loc[known["p_value"].idxmin()]
    return {
        "value": float(row["difference"]),
        **{name: float(row[name]) for name in ("low", "high")},
        "label": spans.set_index("campaign_id")["label"][row["campaign_id"]],
        "arm": row["arm"],
        "answered": int(row["answered"]),
        "clear": bool(row["p_adjusted"] < 0.05),
        "fair": not row["answer_p"] < 0.05,
        "arms": len(known),
    }


def _one_answer(answers: pd.DataFrame) -> pd.DataFrame:
    """One row a customer: weighted mean score and mean weight."""
    weight = answers["weight"] if "weight" in answers else pd.Series(1.0, index=answers.index)
    plain = pd.DataFrame(
        {"customer_id": answers["customer_id"], "weight": weight.astype(float), "score": answers["score"].astype(float)}
    )
    plain = plain[(plain["weight"] > 0) & plain["customer_id"].notna()]
    sums = (
        plain.assign(score=plain["score"] * plain["weight"])
        .groupby("customer_id")
        .agg(score=("score", "sum"), weight=("weight", "sum"), answers=("score", "size"))
    )
    mean = {"score": sums["score"] / sums["weight"], "weight": sums["weight"] / sums["answers"]}
    return pd.DataFrame(mean).reset_index()


def _arm_satisfaction(treated: pd.DataFrame, control: pd.DataFrame, least: int, confidence: float) -> tuple:
    given, compared = treated.dropna(subset=["score"]), control.dropna(subset=["score"])
    shares = tuple(
        len(part) / len(whole) if len(whole) else np.nan for part, whole in ((given, treated), (compared, control))
    )
    if min(len(given), len(compared)) < max(least, 2):
        return (len(given), len(compared), *(np.nan,) * 4, *shares, np.nan, "too_few")
    (mean1, variance1), (mean0, variance0) = _weighted_mean(given), _weighted_mean(compared)
    difference, error = mean1 - mean0, np.sqrt(variance1 + variance0)
    total = variance1**2 / (len(given) - 1) + variance0**2 / (len(compared) - 1)
    dof = (variance1 + variance0) ** 2 / total if total > 0 else np.inf
    reach = stats.t.ppf(0.5 + confidence / 2, dof) * error
    p_value = float(2 * stats.t.sf(abs(difference) / error, dof)) if error > 0 else float(difference == 0)
    counts = [[len(given), len(treated) - len(given)], [len(compared), len(control) - len(compared)]]
    answer_p = float(stats.fisher_exact(counts)[1])
    limits = (difference - reach, difference + reach)
    return (len(given), len(compared), difference, *limits, p_value, *shares, answer_p, None)


def _weighted_mean(rows: pd.DataFrame) -> tuple[float, float]:
    y, w = rows["score"].to_numpy(float), rows["weight"].to_numpy(float)
    mean = float(w @ y / w.sum())
    off = w * (y - mean) / w.sum()
    return mean, float(off @ off) * len(y) / (len(y) - 1)


@dataclass(frozen=True)
class PressureReport:
    """All that is known of messages and their number.

    Attributes
    ----------
    funnel, over_time, shared, pressure : frames of :func:`channel_funnel`, :func:`funnel_over_time`,
    :func:`shared_customers`, :func:`contact_pressure`. tests : :func:`frequency_test` by campaign. days_of : days of
    each tested campaign. settings : how it was made.
    """

    funnel: pd.DataFrame
    over_time: pd.DataFrame
    shared: pd.DataFrame
    pressure: pd.DataFrame
    tests: dict[str, FrequencyTest] = field(repr=False)
    channels: dict[str, str]
    days_of: dict[str, int]
    settings: PressureSettings

    def caps(self) -> pd.DataFrame:
        """The recommended cap by channel: channel, messages, days, causal, reason (a key), campaign_id.

        ``tested`` (by lot, and so many messages clearly pay), ``none_pays`` (by lot, and not even so few clearly do),
        ``precaution`` (unsubscribes rise from there, without a lot), ``unknown`` (neither is known; no cap).
        """
        rows = []
        careful = precautionary_cap(self.pressure)
        leaving = self.funnel[self.funnel["stage"] == "unsubscribed"]["channel"]
        for channel in sorted(set(self.funnel["channel"])):
            tested = [c for c in self.tests if self.channels.get(c) == channel]
            for c in tested:
                test = self.tests[c]
                reason = "tested" if test.clear else "none_pays"
                rows.append((channel, test.cap, self.days_of[c], True, reason, c))
            if not tested and careful is not None and (leaving == channel).any():
                rows.append((channel, careful, self.settings.days, False, "precaution", None))
            elif not tested:
                rows.append((channel, None, None, False, "unknown", None))
        table = pd.DataFrame(rows, columns=["channel", "messages", "days", "causal", "reason", "campaign_id"])
        return table.astype({"messages": "Int64", "days": "Int64"})

    def latest_stage(self) -> str | None:
        """The last stage short of unsubscribing that is known of several months; None without one."""
        months = self.over_time.groupby("stage")["month"].nunique()
        return next((s for s in reversed(STAGES[:-1]) if months.get(s, 0) > 1), None)

    def facts(self) -> dict[str, object]:
        """What sentences need: messages, channels, overlap, unsubscribing by pressure, the tested cap and why."""
        bands = self.pressure[self.pressure["stage"] == "unsubscribed"].set_index("earlier")
        facts = {
            "messages": int(self.funnel.groupby("channel")["sent"].first().sum()),
            "channels": int(self.funnel["channel"].nunique()),
            "days": self.settings.days,
            "together": int(self.shared["together"].sum() // 2),
            "most_shared": float(sharing_most(self.shared)["share"].max()) if len(self.shared) else None,
            "tests": len(self.tests),
        }
        if len(bands) > 1:
            first, last = bands.iloc[0], bands.iloc[-1]
            facts |= {
                "few_leave": float(first["rate"]),
                "many_leave": float(last["rate"]),
                "many": int(bands.index[-1]),
            }
        if self.tests:
            name, test = next(iter(self.tests.items()))
            arms = test.arms.set_index("arm")
            most = test.arms.iloc[-1]
            facts |= {"campaign": name, "cap": test.cap, "cap_days": self.days_of[name], "clear": test.clear}
            kept = ("profit", "profit_low", "profit_high", "unsubscribed")
            facts |= {column: float(arms.loc[test.best_arm, column]) for column in kept}
            facts |= {"most": int(most["messages"])}
            facts |= {f"most_{column}": float(most[column]) for column in ("profit", "unsubscribed")}
        return facts


def run_pressure(
    contacts: ibis.Table,
    spans: pd.DataFrame,
    panel: pd.DataFrame,
    frequency: Mapping[str, Mapping[str, int]] | None = None,
    *,
    margin: float = 1.0,
    message_cost: float = 0.0,
    consent_value: float = 0.0,
    settings: PressureSettings | None = None,
) -> tuple[PressureReport | None, str | None]:
    """Funnels, overlap, pressure and, where frequency was drawn by lot, a cap.

    Parameters
    ----------
    contacts : canonical table. spans : from :func:`outcomes.windows`. panel : from :func:`outcomes.campaign_panel`.
    frequency : campaign to arm to messages a customer, of campaigns that drew the number by lot; its comparison has 0.
    margin, message_cost, consent_value : as in :func:`frequency_test`.

    Returns
    -------
    The report and None, or None and ``no_contacts`` (nothing was sent) or ``no_stages`` (nothing is known of it).
    """
    settings = settings or PressureSettings()
    if spans.empty:
        return None, "no_contacts"
    messages = dated_contacts(contacts, spans)
    if messages.count().to_pyarrow().as_py() == 0:
        return None, "no_contacts"
    funnel = channel_funnel(contacts, spans, settings.confidence)
    if funnel.empty:
        return None, "no_stages"
    money = {"margin": margin, "message_cost": message_cost, "consent_value": consent_value}
    designs = spans.set_index("campaign_id")["design"]
    tests = {}
    for campaign_id, arms in (frequency or {}).items():
        # A number of messages that nobody drew by lot says nothing of causes, whatever a study claims.
        if designs.get(campaign_id) == "randomised":
            try:
                tests[campaign_id] = _tested(contacts, panel, campaign_id, arms, settings, money)
            except EstimationError:
                continue
    channel = messages.group_by("campaign_id").aggregate(channel=messages.channel.min()).to_pandas()
    report = PressureReport(
        funnel,
        funnel_over_time(contacts, spans, settings.confidence),
        shared_customers(contacts, spans),
        contact_pressure(contacts, spans, settings.days, settings.most, settings.confidence),
        tests,
        dict(zip(channel["campaign_id"], channel["channel"], strict=True)),
        {c: int(d) for c, d in zip(spans["campaign_id"], spans["days"], strict=True)},
        settings,
    )
    return report, None


def _tested(
    contacts: ibis.Table,
    panel: pd.DataFrame,
    campaign_id: str,
    messages: Mapping[str, int],
    settings: PressureSettings,
    money: Mapping[str, float],
) -> FrequencyTest:
    rows = panel[panel["campaign_id"] == campaign_id]
    if "unsubscribed" in contacts.columns:
        mine = contacts.filter((contacts.campaign_id == campaign_id) & contacts.unsubscribed.fill_null(False))
        left = set(mine.select("customer_id").to_pandas()["customer_id"])
    else:
        left = set()
    before = rows.filter(regex=r"^spend_before_[1-4]$")
    history = before.to_numpy(float) if before.shape[1] and before.to_numpy(float).std() > 0 else None
    lost = rows["customer_id"].isin(left).to_numpy(float)
    given = (rows["spend"].to_numpy(float), rows["arm"].to_numpy(object), messages, lost, history)
    return frequency_test(*given, **money, confidence=settings.confidence)
