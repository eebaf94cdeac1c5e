"""Figures of what customers say and do: recommendation, referrals, delivered value, who answers.

Frames in, figures out; every title states the finding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

from .delivered_value import SIDES
from .figures import nothing_to_draw
from .names import called_score
from .recommendation import newest_waves
from .survey_means import ALL

BLUE, ORANGE, GREEN, GREY = theme.PALETTE[0], theme.PALETTE[1], theme.PALETTE[2], theme.PALETTE[4]
_ROW = 0.52
_NAMES = {
    "nps": "net promoter score",
    "delivered_value": "delivered value",
    "recency_days": "days since purchase",
}


def nps_figure(scores: pd.DataFrame, fmt: Formatter) -> Figure:
    """Shares of detractors, passives and promoters of all and of each group, with the score and its limits.

    scores : from :func:`net_promoter_score`; groups without a number are not drawn. The title is of the newest wave where the
        groups are waves, and of all otherwise.
    """
    part = scores[scores["reason"] == ""].drop_duplicates("group").iloc[::-1]
    if part.empty:
        return nothing_to_draw("Too few customers said whether they would recommend")
    fig, ax = theme.new_figure(height=2.1 + _ROW * len(part), grid="none")
    y, left = np.arange(len(part)), np.zeros(len(part))
    for column, colour, ink in (
        ("detractors", ORANGE, "black"),
        ("passives", GREY, "black"),
        ("promoters", BLUE, "white"),
    ):
        share = part[column].to_numpy(float)
        ax.barh(y, share, left=left, color=colour, height=0.7, label=column.capitalize())
        for at, start, width in zip(y, left, share, strict=True):
            if width > 0.08:
                ax.text(start + width / 2, at, fmt.share(width, 0), ha="center", va="center", color=ink, fontsize=12)
        left = left + share
    for at, row in zip(y, part.itertuples(), strict=True):
        limits = f"{_signed(row.score, fmt)}  ({_signed(row.low, fmt)} to {_signed(row.high, fmt)})"
        ax.text(1.02, at, limits, va="center", fontsize=12, color=theme.INK)
    ax.set_yticks(y, [str(name).capitalize() if name == ALL else str(name) for name in part["group"]])
    ax.set(xlim=(0, 1.42), xticks=[])
    for side in ("bottom", "left"):
        ax.spines[side].set_visible(False)
    _legend_below(fig, 3)
    ax.set_xlabel("Share of customers who answered; right: score in points (limits)")
    newest, before = newest_waves(scores)
    top = part.iloc[-1] if newest is None or newest["reason"] else newest
    title = f"{fmt.share(top['promoters'], 0)} would recommend us warmly, {fmt.share(top['detractors'], 0)} would not: "
    title += f"a score of {_signed(top['score'], fmt)}"
    if top is newest and before is not None:
        title = f"In {newest['group']}, {title}" + (
            "" if before["reason"] else f", after {_signed(before['score'], fmt)}"
        )
    ax.set_title(title)
    return fig


def referral_figure(rates: pd.DataFrame, fmt: Formatter) -> Figure:
    """Customers brought by 100 customers a year, by what they said, before and after they said it.

    rates : from :func:`referral_rates`
    """
    part = rates[(rates["reason"] == "") & (rates["group"] != ALL)]
    after = part[part["period"] == "after"].set_index("group")
    if after.empty:
        return nothing_to_draw("Too few customers can be followed after their answer")
    fig, ax = theme.new_figure(height=2.0 + 0.95 * len(after), grid="x")
    names = list(after.index)[::-1]
    for period, colour, shift, marker in (("before", GREY, 0.17, "s"), ("after", BLUE, -0.17, "o")):
        own = part[part["period"] == period].set_index("group").reindex(names)
        at = np.arange(len(names)) + shift
        label = f"{period.capitalize()} the answer"
        _dots(ax, 100 * own["rate"], 100 * own["low"], 100 * own["high"], at, colour, marker, label)
        for position, row in zip(at, own.itertuples(), strict=True):
            if np.isfinite(row.rate):
                ax.annotate(fmt.number(100 * row.rate, 1), (100 * row.high, position), (6, 0),
                            textcoords="offset points", va="center", fontsize=12)  # fmt: skip
    ax.set_yticks(np.arange(len(names)), [f"{name.capitalize()}s" for name in names])
    ax.set(ylim=(-0.6, len(names) - 0.4))
    ax.set_xlim(0, 1.15 * ax.get_xlim()[1])
    ax.set_xlabel("Customers brought by 100 customers a year (line: limits)")
    _legend_below(fig, 2)
    ax.set_title(_referral_title(after, fmt))
    return fig


def _referral_title(after: pd.DataFrame, fmt: Formatter) -> str:
    if "promoter" not in after.index:
        return "What customers brought after they answered"
    share = after.loc["promoter", "referrers_share"]
    return f"Of those who would recommend us warmly, {fmt.share(share, 0)} have since brought a customer"


def delivered_figure(levels: pd.DataFrame, fmt: Formatter) -> Figure:
    """What customers get and what it costs them, part by part, with limits; 0-100.

    levels : from :func:`delivered_levels`; the rows of all customers are drawn.
    """
    own = levels[(levels["group"] == ALL) & (levels["reason"] == "")]
    if own.empty:
        return nothing_to_draw("Too few customers answered what they get and what it costs them")
    own = own.set_index("measure")
    names = [part for side in ("value", "cost") for part in (*SIDES[side], f"total_{side}") if part in own.index][::-1]
    fig, ax = theme.new_figure(height=2.0 + 0.4 * len(names), grid="x")
    for side, colour, marker in (("value", BLUE, "o"), ("cost", ORANGE, "s")):
        mine = [name for name in names if own.loc[name, "side"] == side]
        at = np.array([names.index(name) for name in mine])
        part = own.loc[mine]
        _dots(ax, part["mean"], part["low"], part["high"], at, colour, marker, f"Customer {side}")
        for position, row in zip(at, part.itertuples(), strict=True):
            ax.annotate(fmt.number(row.mean, 0), (row.high, position), (7, 0),
                        textcoords="offset points", va="center", fontsize=12)  # fmt: skip
    ax.set_yticks(np.arange(len(names)), [name.replace("_", " ").capitalize() for name in names])
    for label, name in zip(ax.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name.startswith("total") else "normal")
    ax.set(xlim=(0, 100), ylim=(-0.7, len(names) - 0.3))
    ax.set_xlabel("Mean answer, 0–100 (line: limits)")
    _legend_below(fig, 2)
    value, cost, difference = (own.loc[name, "mean"] for name in ("total_value", "total_cost", "difference"))
    ax.set_title(
        f"Customers get {fmt.number(value, 0)} of 100 and it costs them {fmt.number(cost, 0)}: "
        f"{fmt.number(abs(difference), 0)} points {'to the good' if difference >= 0 else 'short'}"
    )
    return fig


def part_weights_figure(derived: pd.DataFrame, fmt: Formatter) -> Figure:
    """Weight of each part as satisfaction shows it, with limits, beside the equal weight that is stated.

    derived : from :func:`derived_weights`
    """
    part = derived.iloc[::-1].reset_index(drop=True)
    fig, ax = theme.new_figure(height=2.0 + 0.42 * len(part), grid="x")
    y = np.arange(len(part))
    ax.scatter(part["stated"], y, marker="|", s=260, color=theme.INK, linewidths=2, zorder=2, label="Stated, equal")
    for side, colour, marker in (("value", BLUE, "o"), ("cost", ORANGE, "s")):
        own = (part["side"] == side).to_numpy()
        rows = part[own]
        _dots(ax, rows["derived"], rows["low"], rows["high"], y[own], colour, marker, f"Derived, {side}")
    ax.set_yticks(y, part["part"].str.capitalize())
    ax.set(ylim=(-0.6, len(part) - 0.4))
    ax.set_xlim(0, max(0.5, 1.05 * part["high"].max()))
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.set_xlabel("Weight within its side (line: limits)")
    _legend_below(fig, 3)
    heaviest = [derived[derived["side"] == side].nlargest(1, "derived")["part"] for side in ("value", "cost")]
    names = [str(one.item()) for one in heaviest if len(one)]
    verb = "counts" if len(names) == 1 else "count"
    ax.set_title(f"For satisfaction, {' and '.join(names)} {verb} most" if names else "No part counts for satisfaction")
    return fig


def balance_figure(compared: pd.DataFrame, fmt: Formatter) -> Figure:
    """How far those who answered differ from all customers, in standard deviations, before and after weighting.

    compared : from :func:`compare_with_base`
    """
    part = compared.iloc[::-1].reset_index(drop=True)
    weighted = "standardised_weighted" in part
    fig, ax = theme.new_figure(height=2.1 + 0.4 * len(part), grid="x")
    y = np.arange(len(part))
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    ax.axvspan(-0.1, 0.1, color=theme.GRID, alpha=0.6, zorder=0, linewidth=0)
    limits = part["standardised_low"], part["standardised_high"]
    _dots(ax, part["standardised"], *limits, y, ORANGE, "s", "As they answered")
    if weighted:
        ax.scatter(part["standardised_weighted"], y, s=62, color=BLUE, marker="o", zorder=4, label="Weighted")
    ax.set_yticks(y, [_told(row.variable, row.level) for row in part.itertuples()])
    ax.set(ylim=(-0.6, len(part) - 0.4))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: fmt.number(x, 1)))
    ax.set_xlabel("Standard deviations off all customers\n(line: limits; grey: hardly a difference)")
    _legend_below(fig, 2)
    worst = part.loc[part["standardised"].abs().idxmax()]
    name = _told(worst["variable"], worst["level"])
    size = _signed(worst["standardised"], fmt, 2)
    ax.set_title(f"Those who answered differ most in {name[0].lower() + name[1:]} ({size} standard deviations)")
    return fig


def weights_change_figure(both: pd.DataFrame, fmt: Formatter) -> Figure:
    """What weighting changes in the scores, in points, with limits of the change.

    both : from :func:`with_and_without`; paths are not drawn, they have another unit.
    """
    part = both[both["kind"] != "path"].iloc[::-1].reset_index(drop=True)
    part = part.assign(name=part["name"].map(_scored))
    fig, ax = theme.new_figure(height=2.0 + 0.42 * len(part), grid="x")
    y = np.arange(len(part))
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    _dots(ax, part["difference"], part["low"], part["high"], y, BLUE, "o", None)
    ax.set_yticks(y, [_told(name, "") for name in part["name"]])
    ax.set(ylim=(-0.6, len(part) - 0.4))
    ax.set_xlabel("Weighted less unweighted, points (line: limits)")
    clear = int(((part["low"] > 0) | (part["high"] < 0)).sum())
    largest = part.loc[part["difference"].abs().idxmax()]
    name = _told(largest["name"], "")
    ax.set_title(
        f"Weighting moves {fmt.count(clear)} of {fmt.count(len(part))} scores clearly, most of all "
        f"{name[0].lower() + name[1:]} by {_signed(largest['difference'], fmt, 1)}"
    )
    return fig


def _dots(
    ax: Axes,
    value: pd.Series,
    low: pd.Series,
    high: pd.Series,
    y: Sequence[float] | np.ndarray,
    colour: str,
    marker: str,
    label: str | None,
) -> None:
    ax.hlines(y, low, high, color=colour, linewidth=2.6, zorder=2)
    ax.scatter(value, y, s=62, color=colour, marker=marker, zorder=3, label=label)


def _legend_below(fig: Figure, columns: int) -> None:
    fig.legend(loc="outside lower center", ncols=columns)


def _signed(value: float, fmt: Formatter, digits: int = 0) -> str:
    return f"{'+' if round(value, digits) > 0 else ''}{fmt.number(value, digits)}"


def _scored(name: str) -> str:
    return name if name in _NAMES else called_score(name)


def _told(variable: str, level: str) -> str:
    name = _NAMES.get(variable, variable.replace("_", " "))
    name = name[0].upper() + name[1:]
    return f"{name}: {level}" if level else name
