"""Win-back: which lapsed customers are worth an offer, and how much of one.

Both factors come from history: how many of the customers who had been silent for as long came back within the horizon, and
what those who came back spent from then on (their second lifetime value). Customers also come back without an offer. History
shows the return as it was, so an offer gains only by those whom it brings back in addition, and is paid for all who return.
How much more often they return because of it (the rise) the data do not hold unless a campaign was randomised: it is assumed,
and customers are ranked by the gain at that rise. Granting the offer every return gives an upper bound; the rise from which
an offer pays for itself is given for each customer.

Source: Stauss, B. & Friege, C. (1999). Regaining service customers. Journal of Service Research 1(4), 347–361 (second
lifetime value).
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd

from analysis.valuation.concentration import Estimate
from analysis.valuation.intervals import Z95, share_interval
from analysis.valuation.purchases import Array
from analysis.valuation.summary import DAYS_PER_WEEK, calibration_holdout, purchase_days, to_frame

ONE_TIME, REPEAT = "bought once", "came back before"


@dataclass(frozen=True)
class History:
    """What history says about coming back.

    Attributes
    ----------
    returns : DataFrame
        One row a group of customers who were lapsed one horizon before the end: `band` (index), `silence` (weeks, as text),
        `kind` (bought once, or came back before), `customers`, `returned`, `probability` with `low`, `high` (95 %, Wilson).
    second_value : DataFrame
        One row a band: `band`, `silence`, `customers` (who came back and could be followed), `worth` (what they spent from
        the return on, discounted to it, in multiples of what they spent an occasion before) with `low`, `high`, and `spend`
        (that money, mean).
    edges : array of shape (bands,)
        Weeks of silence from which each band begins; the last is open.
    horizon_weeks, life_weeks : float
        Time to come back in, and length of the second life.
    """

    returns: pd.DataFrame
    second_value: pd.DataFrame
    edges: Array
    horizon_weeks: float
    life_weeks: float


@dataclass(frozen=True)
class WinBack:
    """Lapsed customers, ranked.

    Attributes
    ----------
    frame : DataFrame
        One row a lapsed customer, the one to approach first on top; for export only: `customer_id`, `silent_weeks`, `silence`,
        `kind`, `probability` of coming back within the horizon with `probability_low`, `probability_high`; `second_value`
        (margin over a second life from the return, if they return); `gain` (what an offer brings in addition at the assumed
        rise, less the incentive for all who return and the contact) with `gain_low`, `gain_high`; `expected_value`
        (probability × (second value − incentive) − contact cost: the bound, every return granted to the offer) with `_low`,
        `_high`; `most_incentive` (the incentive, paid on return, at which the gain is zero); `break_even_rise` (the relative
        rise of the probability from which the offer pays for itself; infinite where no return can pay for the incentive);
        `rank`, by gain.
    groups : DataFrame
        `silence`, `kind`, `customers`, `probability`, `second_value`, `gain`, `expected_value` (means), `pays` and `worth_it`
        (customers whose gain, and whose bound, is above 0).
    customers : int
    rise : float
        The assumed one, relative.
    pays : int
        Lapsed customers whose gain is above zero.
    gain : Estimate
        Total over those, money; its range is for the assumed rise.
    worth_it : int
        Lapsed customers whose bound is above zero.
    expected_value : Estimate
        Total of the bound over those, money.
    history : History
    """

    frame: pd.DataFrame
    groups: pd.DataFrame
    customers: int
    rise: float
    pays: int
    gain: Estimate
    worth_it: int
    expected_value: Estimate
    history: History


def return_history(
    order_lines: ibis.Table,
    observed_from: datetime.date,
    observed_to: datetime.date,
    *,
    lapse_weeks: float,
    horizon_weeks: int,
    life_weeks: int | None = None,
    bands: int = 4,
    discount: float = 0.0,
    small_group: int = 10,
) -> History:
    """Learn from history who comes back, and what they spend then.

    Parameters
    ----------
    order_lines : ibis.Table
    observed_from, observed_to : date
    lapse_weeks : float
        Silence from which a customer counts as lapsed.
    horizon_weeks : int
        Time to come back in.
    life_weeks : int, optional
        Length of a second life that is valued, from the return; by default as long as the horizon. Only returns that the data
        follow for so long are learnt from.
    bands : int
        Bands of silence of as many customers each; fewer where groups would be small.
    discount : float
        Continuous rate a week, from the day of the return.
    small_group : int
        Least customers in a group.

    Raises
    ------
    ValueError
        When the history is too short, or too few customers had lapsed or came back, to learn from.
    """
    cut = observed_to - datetime.timedelta(weeks=horizon_weeks)
    if (cut - observed_from).days < lapse_weeks * DAYS_PER_WEEK:
        raise ValueError(
            f"win-back: {(observed_to - observed_from).days + 1} days do not hold {lapse_weeks:g} weeks of silence and "
            f"{horizon_weeks} weeks to come back in; shorten one of them"
        )
    split = calibration_holdout(order_lines, cut, observed_to)
    split = split.assign(silent=(split["T"] - split["recency"]) / DAYS_PER_WEEK)
    lapsed = split[split["silent"] >= lapse_weeks].copy()
    if len(lapsed) < max(small_group, 2):
        raise ValueError(
            f"win-back: {len(lapsed)} customers had lapsed {horizon_weeks} weeks before the end, too few to learn from"
        )
    count = max(1, min(bands, len(lapsed) // (2 * max(small_group, 1))))
    inner = np.quantile(lapsed["silent"], np.linspace(0, 1, count + 1)[1:-1], method="inverted_cdf")
    edges = np.unique(np.r_[lapse_weeks, np.floor(inner[inner > lapse_weeks])])
    edges = edges[edges >= lapse_weeks]
    lapsed["band"] = np.searchsorted(edges, lapsed["silent"], side="right") - 1
    lapsed["kind"] = np.where(lapsed["frequency"] > 0, REPEAT, ONE_TIME)
    grouped = (lapsed["holdout_frequency"] > 0).groupby([lapsed["band"], lapsed["kind"]])
    returns = grouped.agg(customers="size", returned="sum").reset_index()
    returns["probability"] = returns["returned"] / returns["customers"]
    returns["low"], returns["high"] = share_interval(returns["returned"], returns["customers"])
    returns.insert(1, "silence", [_words(edges, band) for band in returns["band"]])
    returns = returns[returns["customers"] >= small_group].reset_index(drop=True)
    life = horizon_weeks if life_weeks is None else life_weeks
    second = _second_lives(order_lines, observed_to, lapse_weeks, life, discount)
    return History(returns, _worth(second, edges, small_group), edges, float(horizon_weeks), float(life))


def win_back(
    summary: pd.DataFrame,
    history: History,
    *,
    expected_spend: pd.Series | None = None,
    margin: float = 1.0,
    incentive: float = 0.0,
    contact_cost: float = 0.0,
    rise: float = 0.20,
    small_group: int = 10,
) -> WinBack:
    """Rank today's lapsed customers by what an offer to win them back is expected to gain.

    Parameters
    ----------
    summary : DataFrame
        The canonical `customer_summary` (days).
    history : History
        From :func:`return_history`.
    expected_spend : Series, optional
        Expected spend an occasion by `customer_id`, such as `customer_value`'s; by default the customer's own mean, drawn
        to the base's by one occasion.
    margin : float
        Margin as a share of sales; 1 values sales.
    incentive : float
        Money a customer who comes back gets.
    contact_cost : float
        Money a contact.
    rise : float
        Assumed relative rise of the probability of return because of the offer: 0.20 raises 10 % to 12 %.
    small_group : int
        Groups of fewer customers are left out of `groups`.

    Raises
    ------
    ValueError
        For a negative incentive, cost or rise, or when nobody is lapsed now.
    """
    if min(incentive, contact_cost, rise) < 0:
        raise ValueError("win-back: incentive, contact_cost and rise are not negative")
    silent = summary["recency_days"] / DAYS_PER_WEEK
    lapsed = summary[silent >= history.edges[0]]
    if lapsed.empty:
        raise ValueError(
            f"win-back: nobody has been silent for {history.edges[0]:g} weeks; there is nobody to win back"
        )
    frame = lapsed[["customer_id"]].assign(silent_weeks=silent[lapsed.index])
    frame["band"] = np.searchsorted(history.edges, frame["silent_weeks"], side="right") - 1
    frame["silence"] = [_words(history.edges, band) for band in frame["band"]]
    frame["kind"] = np.where(lapsed["frequency"] > 0, REPEAT, ONE_TIME)
    found = _looked_up(frame, history)
    each = _each(lapsed, summary, expected_spend)
    second = found["worth"].to_numpy() * each * margin
    p = found["probability"].to_numpy()
    # with the offer p (1 + rise) come back and are paid for; those who come anyway, p, would have been worth their value
    paid = np.minimum(p * (1.0 + rise), 1.0)
    offer = _Offer(incentive, contact_cost, found, second, each * margin)
    most = np.divide((paid - p) * second - contact_cost, paid, out=np.zeros_like(p), where=paid > 0)
    frame = frame.assign(
        probability=p,
        probability_low=found["low"].to_numpy(),
        probability_high=found["high"].to_numpy(),
        second_value=second,
        **offer.valued("gain", paid, p),
        **offer.valued("expected_value", p, np.zeros_like(p)),
        most_incentive=np.maximum(most, 0.0),
        break_even_rise=offer.break_even(p),
    )
    frame = frame.sort_values(["gain", "customer_id"], ascending=[False, True], ignore_index=True)
    frame["rank"] = np.arange(1, len(frame) + 1)
    pays, worth_it = frame["gain"] > 0, frame["expected_value"] > 0
    grouped = frame.assign(pays=pays, worth_it=worth_it).groupby(["band", "silence", "kind"])
    means = {name: (name, "mean") for name in ("probability", "second_value", "gain", "expected_value")}
    groups = grouped.agg(
        customers=("customer_id", "size"), **means, pays=("pays", "sum"), worth_it=("worth_it", "sum")
    ).reset_index()
    errors = [name for name in frame if name.endswith("_error")]
    return WinBack(
        frame=frame.drop(columns=["band", *errors]),
        groups=groups[groups["customers"] >= small_group].drop(columns="band").reset_index(drop=True),
        customers=len(frame),
        rise=rise,
        pays=int(pays.sum()),
        gain=_total(frame[pays], "gain"),
        worth_it=int(worth_it.sum()),
        expected_value=_total(frame[worth_it], "expected_value"),
        history=history,
    )


@dataclass(frozen=True)
class _Offer:
    """An offer to lapsed customers, with what history says of each: one row a customer."""

    incentive: float
    contact_cost: float
    found: pd.DataFrame
    second: Array
    each: Array

    def valued(self, name: str, paid: Array, anyway: Array) -> dict[str, Array]:
        """Paid to `paid` of whom `anyway` come without it: value, 95 % ends, and half widths by where the errors come from.

        `paid` and `anyway` are both in proportion to the probability, so its error moves the value by value / probability.
        """
        value = paid * (self.second - self.incentive) - anyway * self.second - self.contact_cost
        p = self.found["probability"].to_numpy()
        slope = np.divide(value + self.contact_cost, p, out=np.zeros_like(p), where=p > 0)
        half_p = (self.found["high"] - self.found["low"]).to_numpy() / 2.0 * slope
        half_worth = (self.found["worth_high"] - self.found["worth_low"]).to_numpy() / 2.0 * self.each * (paid - anyway)
        # p and the second value are learnt from different customers: their errors add in squares
        half = np.hypot(half_p, half_worth)
        ends = {f"{name}_low": value - half, f"{name}_high": value + half}
        return {name: value} | ends | {f"{name}_p_error": half_p, f"{name}_worth_error": half_worth}

    def break_even(self, p: Array) -> Array:
        """The relative rise of `p` from which the offer pays for itself."""
        each = p * (self.second - self.incentive)
        needed = np.divide(p * self.second + self.contact_cost, each, out=np.full_like(p, np.inf), where=each > 0)
        return needed - 1.0


def _second_lives(
    order_lines: ibis.Table, observed_to: datetime.date, lapse_weeks: float, life_weeks: int, discount: float
) -> pd.DataFrame:
    """Each customer's first return after a lapse: `gap` (weeks), what came before and what came in a life from it.

    Only returns that can be followed for the whole of it, so that recent ones do not look poor.
    """
    days = purchase_days(order_lines, observed_to)
    days = days.mutate(spend=days.spend.cast("float64"))
    own = ibis.window(group_by="customer_id", order_by="order_date")
    gap = days.order_date.delta(days.order_date.lag().over(own), unit="day").cast("float64")
    dated = days.mutate(gap=gap)
    back = dated.filter(dated.gap >= lapse_weeks * DAYS_PER_WEEK)
    first = back.group_by("customer_id").aggregate(
        return_day=back.order_date.min(), gap=back.gap.argmin(back.order_date)
    )
    last = observed_to - datetime.timedelta(weeks=life_weeks)
    joined = days.join(first.filter(first.return_day <= ibis.literal(last)), "customer_id")
    since = joined.order_date.delta(joined.return_day, unit="day").cast("float64")
    after = (since >= 0) & (since < life_weeks * DAYS_PER_WEEK)
    factor = (-discount / DAYS_PER_WEEK * since).exp()
    second = joined.group_by(joined.customer_id.cast("string").name("customer_id")).aggregate(
        gap=joined.gap.max() / DAYS_PER_WEEK,
        mean_before=joined.spend.mean(where=since < 0),
        spend_after=ibis.ifelse(after, joined.spend * factor, 0.0).sum(),
    )
    return to_frame(second)


def _worth(second: pd.DataFrame, edges: Array, small_group: int) -> pd.DataFrame:
    """Ratio of what came after to what an occasion was worth before, by band, with the delta method's interval."""
    if len(second) < max(small_group, 2):
        raise ValueError(
            f"win-back: {len(second)} customers came back and could be followed for a whole second life, too few to value "
            "one; shorten return_weeks"
        )
    band = np.maximum(np.searchsorted(edges, second["gap"], side="right") - 1, 0)
    rows = []
    for b in range(len(edges)):
        part = second[band == b]
        # too few in a band: all who came back stand for it
        used = part if len(part) >= max(small_group, 2) else second
        before, after = used["mean_before"].to_numpy(float), used["spend_after"].to_numpy(float)
        worth = after.sum() / before.sum()
        error = np.std(after - worth * before, ddof=1) * np.sqrt(len(used)) / before.sum()
        rows.append(
            {
                "band": b,
                "silence": _words(edges, b),
                "customers": len(used),
                "worth": worth,
                "low": max(worth - Z95 * error, 0.0),
                "high": worth + Z95 * error,
                "spend": after.mean(),
            }
        )
    return pd.DataFrame(rows)


def _looked_up(frame: pd.DataFrame, history: History) -> pd.DataFrame:
    """Probability and worth for each lapsed customer; a group without a history takes the lapsed as a whole."""
    returned, customers = history.returns["returned"].sum(), history.returns["customers"].sum()
    low, high = share_interval(returned, customers)
    fill = {"probability": returned / customers, "low": float(low), "high": float(high)}
    known = history.returns.set_index(["band", "kind"])[list(fill)]
    worth = history.second_value.set_index("band")[["worth", "low", "high"]].add_prefix("worth_")
    return (
        frame.join(known, on=["band", "kind"])
        .fillna(fill)
        .join(worth.rename(columns={"worth_worth": "worth"}), on="band")
    )


def _each(lapsed: pd.DataFrame, summary: pd.DataFrame, expected_spend: pd.Series | None) -> Array:
    if expected_spend is not None:
        found = expected_spend.reindex(lapsed["customer_id"]).to_numpy(float)
        if not np.isfinite(found).all():
            raise ValueError(
                "win-back: a lapsed customer has no expected spend; leave it out to use customers' own means"
            )
        return found
    occasions = lapsed["frequency"] + 1.0
    mean = summary["spend"].sum() / (summary["frequency"] + 1.0).sum()
    return np.maximum((lapsed["spend"] + mean) / (occasions + 1.0), 0.0).to_numpy(float)


def _total(pays: pd.DataFrame, name: str) -> Estimate:
    """Sum over the customers worth it.

    Customers of a group share its probability, and those of a band its worth: within these, errors add up in full.
    """
    total = float(pays[name].sum())
    if pays.empty:
        return Estimate(0.0, reason="no lapsed customer is worth the offer")
    chance = pays.groupby(["silence", "kind"])[f"{name}_p_error"].sum()
    worth = pays.groupby("silence")[f"{name}_worth_error"].sum()
    spread = float(np.sqrt((chance**2).sum() + (worth**2).sum()))
    return Estimate(total, total - spread, total + spread)


def _words(edges: Array, band: int) -> str:
    low = edges[band]
    return f"{low:g}–{edges[band + 1]:g}" if band + 1 < len(edges) else f"{low:g} or more"
