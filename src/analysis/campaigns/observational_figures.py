"""Figures of campaigns without a control group, and of channels and pressure: frames in, figures out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

_ON_WHITE = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
BLUE, ORANGE, GREEN, PLUM, GREY = theme.PALETTE[:5]
METHODS = {
    "naive": "Naive:\nreached less\nnot reached",
    "did": "Changes\nin money",
    "did_ratio": "Changes\nin ratios",
    "did_weighted": "Changes, same\nhistory",
    "doubly_robust": "Same history,\nno changes",
}
STAGE_NAMES = {
    "delivered": "Delivered",
    "opened": "Opened",
    "clicked": "Clicked",
    "converted": "Ordered",
    "redeemed": "Redeemed",
    "unsubscribed": "Unsubscribed",
}
_LARGEST_RISE = 2.0  # an axis that goes beyond a tripling hides everything else


def event_study_plot(table: pd.DataFrame, weeks: int, title: str, fmt: Formatter) -> Figure:
    """Change against what the comparison implies, by week around the start.

    Parameters
    ----------
    table : from :meth:`EventStudyResults.table`. weeks : how long the campaign ran.

    Lines: each period's own interval; shaded: all periods at once; blue: while the campaign ran.
    """
    fig, ax = theme.new_figure(height=4.6)
    ax.axvspan(0, weeks, color=theme.GRID, linewidth=0, zorder=0)
    ax.axhline(0, color=theme.QUIET, linewidth=1)
    ax.axvline(0, color=theme.INK, linewidth=1.2, linestyle=(0, (4, 3)))
    x = table["weeks"].to_numpy()
    ax.fill_between(x, table["band_low"], table["band_high"], color=GREY, alpha=0.35, linewidth=0)
    inside = (x >= 0) & (x < weeks)
    for chosen, colour in ((x < 0, ORANGE), (inside, BLUE), (x >= weeks, GREEN)):
        ax.vlines(x[chosen], table["low"][chosen], table["high"][chosen], color=colour, linewidth=2)
        ax.plot(x[chosen], table["estimate"][chosen], "o", color=colour, markersize=5.5)
    top = float(np.clip(table["high"].max() * 1.05, 0.1, _LARGEST_RISE))
    ax.set_ylim(max(-1.0, float(table["low"].min()) - 0.05 * (1 + top)), top)
    ax.yaxis.set_major_formatter(fmt.axis("share"))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _named(ax, {x[0]: ("before", ORANGE), weeks / 2: ("campaign", BLUE)} | _later(x, weeks), top)
    ax.set_xlabel("Weeks since the start\n(line: interval of one period; shaded: of all at once)")
    ax.set_ylabel("More (+) or less (−) spend\nthan the comparison implies")
    ax.set_title(title, pad=28)
    return fig


def _later(x: np.ndarray, weeks: int) -> dict[float, tuple[str, str]]:
    return {float(x[-1]): ("after", GREEN)} if (x >= weeks).any() else {}


def _named(ax: Axes, places: Mapping[float, tuple[str, str]], top: float) -> None:
    for k, (place, (text, colour)) in enumerate(sorted(places.items())):
        side = "left" if k == 0 else "right" if k == 2 else "center"
        ax.annotate(
            text,
            (place, top),
            xytext=(0, 2),
            textcoords="offset points",
            ha=side,
            va="bottom",
            color=colour,
            fontsize=12,
        )


def methods_plot(table: pd.DataFrame, title: str, fmt: Formatter, truth: float | None = None) -> Figure:
    """The effect by each method on the same customers, the most naive on top; a dashed line marks a known truth.

    ``table`` comes from :func:`event_study.side_by_side`.
    """
    part = table.iloc[::-1].reset_index(drop=True)
    fig, ax = theme.new_figure(height=1.9 + 0.72 * len(part), grid="x")
    y = np.arange(len(part))
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    if truth is not None:
        ax.axvline(truth, color=theme.INK, linewidth=1.4, linestyle=(0, (4, 3)))
        ax.annotate(
            "truth", (truth, len(part) - 0.45), xytext=(5, 0), textcoords="offset points", va="center", fontsize=12
        )
    colours = [ORANGE if method == "naive" else BLUE for method in part["method"]]
    for place, (value, low, high), colour in zip(y, part[["estimate", "low", "high"]].to_numpy(), colours, strict=True):
        ax.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
        ax.plot(value, place, "o", color=colour)
        ax.annotate(
            fmt.money(value), (value, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=12
        )
    ax.set_yticks(y, [METHODS.get(m, m) for m in part["method"]])
    ax.set_ylim(-0.5, len(part) - 0.2)
    ax.xaxis.set_major_formatter(fmt.axis("money"))
    ax.set_xlabel("Effect on spend a customer reached,\nwhile the campaign ran (line: interval)")
    ax.set_title(title)
    return fig


def channel_funnels(funnel: pd.DataFrame, title: str, fmt: Formatter) -> Figure:
    """What became of each channel's messages: one row a stage, one panel a channel.

    ``funnel`` comes from :func:`pressure.channel_funnel`; a panel's name tells how many messages it stands for.
    """
    channels = list(funnel.groupby("channel", sort=False)["sent"].first().sort_values(ascending=False).index)
    heights = [int((funnel["channel"] == c).sum()) for c in channels]
    fig, axes = theme.new_figure(
        height=1.4 + 0.62 * len(channels) + 0.4 * sum(heights),
        grid="x",
        nrows=len(channels),
        sharex=True,
        gridspec_kw={"height_ratios": [h + 0.6 for h in heights]},
        squeeze=False,
    )
    for ax, channel in zip(axes[:, 0], channels, strict=True):
        part = funnel[funnel["channel"] == channel].iloc[::-1].reset_index(drop=True)
        y = np.arange(len(part))
        bad = part["stage"] == "unsubscribed"
        colours = np.where(bad, ORANGE, BLUE)
        ax.barh(y, part["rate"], color=colours, height=0.6)
        ax.hlines(y, part["low"], part["high"], color=theme.INK, linewidth=1.6)
        for place, row in zip(y, part.itertuples(), strict=True):
            ax.annotate(
                fmt.share(row.rate),
                (row.high, place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=12,
            )
        ax.set_yticks(y, [STAGE_NAMES.get(s, s) for s in part["stage"]])
        ax.set_ylim(-0.6, len(part) - 0.4)
        sent = fmt.count(part["sent"].iloc[0])
        ax.set_title(f"{channel}: {sent} messages", fontsize=12, color=theme.QUIET, pad=6)
    axes[-1, 0].set_xlim(0, min(1.12, float(funnel["high"].max()) * 1.2))
    axes[-1, 0].xaxis.set_major_formatter(fmt.axis("share"))
    axes[-1, 0].set_xlabel("Share of the messages of which it is known\n(line: interval)")
    fig.suptitle(_wrapped(title), x=0.02, ha="left", fontsize=14, fontweight="bold")
    return fig


def _wrapped(text: str, width: int = 48) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def rates_over_time(table: pd.DataFrame, stage: str, title: str, fmt: Formatter) -> Figure:
    """One stage by month, a line a channel; ``table`` comes from :func:`pressure.funnel_over_time`."""
    part = table[table["stage"] == stage]
    fig, ax = theme.new_figure(height=4.0)
    # Months are months apart and not positions, so that a pause shows as one.
    for colour, (channel, rows) in zip(theme.PALETTE, part.groupby("channel"), strict=False):
        x = pd.to_datetime(rows["month"]).to_numpy()
        ax.plot(x, rows["rate"], "o", color=colour, label=channel)
        ax.vlines(x, rows["low"], rows["high"], color=colour, linewidth=2)
    months = np.unique(pd.to_datetime(part["month"]).to_numpy())
    # Labels stand a sixth of the time apart, or they would run into each other.
    shown = months[:1]
    for month in months[1:]:
        if month - shown[-1] >= (months[-1] - months[0]) / 6:
            shown = np.append(shown, month)
    ax.set_xticks(shown, [pd.Timestamp(m).strftime("%Y-%m") for m in shown])
    ax.margins(x=0.12)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(fmt.axis("share"))
    ax.set_ylabel(f"{STAGE_NAMES.get(stage, stage)},\nshare of messages")
    ax.set_xlabel("Month of the message (line: interval)")
    if part["channel"].nunique() > 1:
        fig.legend(loc="outside lower right", ncols=3, handletextpad=0.4)
    ax.set_title(title)
    return fig


def pressure_plot(pressure: pd.DataFrame, stage: str, title: str, days: int, fmt: Formatter) -> Figure:
    """One stage by the number of messages shortly before; ``pressure`` from :func:`pressure.contact_pressure`."""
    part = pressure[pressure["stage"] == stage].reset_index(drop=True)
    fig, ax = theme.new_figure(height=3.9)
    colour = ORANGE if stage == "unsubscribed" else BLUE
    x = np.arange(len(part))
    ax.vlines(x, part["low"], part["high"], color=colour, linewidth=2.4)
    ax.plot(x, part["rate"], "o", color=colour)
    for place, row in zip(x, part.itertuples(), strict=True):
        ax.annotate(
            fmt.share(row.rate), (place, row.rate), xytext=(9, 0), textcoords="offset points", va="center", fontsize=12
        )
    last = int(pressure["earlier"].max())
    names = [f"{n} or more" if n == last and n > 0 else str(n) for n in part["earlier"]]
    ax.set_xticks(x, [f"{name}\n({fmt.count(k)})" for name, k in zip(names, part["known"], strict=True)])
    ax.set_xlim(-0.5, len(part) - 0.3)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(fmt.axis("share"))
    ax.set_xlabel(f"Messages to the same customer in the {days} days before\n(how many messages; line: interval)")
    ax.set_ylabel(f"{STAGE_NAMES.get(stage, stage)},\nshare of messages")
    ax.set_title(title)
    return fig


def frequency_plot(arms: pd.DataFrame, cap: int, title: str, fmt: Formatter) -> Figure:
    """Profit and lost consents by number of messages drawn by lot; ``arms`` from :class:`pressure.FrequencyTest`."""
    part = arms[arms["messages"] > 0].reset_index(drop=True)
    fig, (left, right) = theme.new_figure(height=4.1, ncols=2)
    x = np.arange(len(part))
    colours = np.where(part["messages"] <= cap, BLUE, GREY)
    for ax, name, form in ((left, "profit", fmt.money), (right, "unsubscribed", fmt.share)):
        ax.vlines(x, part[f"{name}_low"], part[f"{name}_high"], color=colours, linewidth=2.6)
        ax.scatter(x, part[name], color=colours, s=44, zorder=3)
        for place, value in zip(x, part[name], strict=True):
            ax.annotate(
                form(value),
                (place, value),
                xytext=(9, 0),
                textcoords="offset points",
                va="center",
                fontsize=12,
                bbox=_ON_WHITE,
            )
        ax.set_xticks(x, [f"{a}\n({fmt.count(m)})" for a, m in zip(part["arm"], part["messages"], strict=True)])
        ax.set_xlim(-0.4, len(part) - 0.2)
    left.axhline(0, color=theme.QUIET, linewidth=1)
    left.yaxis.set_major_formatter(fmt.axis("money"))
    right.yaxis.set_major_formatter(fmt.axis("share"))
    right.set_ylim(bottom=0)
    left.set_xlabel("Profit a customer more\nthan without messages")
    right.set_xlabel("Unsubscribed")
    fig.supxlabel("Arm (messages a customer); line: interval", fontsize=12, color=theme.QUIET)
    fig.suptitle(_wrapped(title), x=0.02, ha="left", fontsize=14, fontweight="bold")
    return fig


def shared_plot(shared: pd.DataFrame, names: Mapping[str, str], title: str, fmt: Formatter) -> Figure:
    """Share of each campaign's customers whom another reached too; ``shared`` is from :func:`pressure.sharing_most`."""
    chosen = list(shared["campaign_id"].unique())
    grid = shared.pivot_table(index="campaign_id", columns="other", values="share").reindex(
        index=chosen, columns=chosen
    )
    fig, ax = theme.new_figure(height=2.6 + 0.46 * len(chosen), grid="none")
    values = grid.to_numpy(float)
    ax.imshow(values, cmap=LinearSegmentedColormap.from_list("shares", ["white", BLUE]), vmin=0, vmax=1, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if i != j and np.isfinite(value):
            ax.text(j, i, fmt.share(value, 0), ha="center", va="center", color="white" if value > 0.55 else theme.INK)
    labels = [names.get(c, c) for c in chosen]
    short = [label if len(label) <= 22 else label[:21].rstrip() + "…" for label in labels]
    ax.set_yticks(np.arange(len(chosen)), [f"{k}  {label}" for k, label in enumerate(short, 1)])
    ax.set_xticks(np.arange(len(chosen)), [str(k) for k in range(1, len(chosen) + 1)])
    ax.set_xlabel("… whom this campaign reached too")
    ax.set_ylabel("Share of this campaign's customers …")
    ax.set_title(title)
    return fig
