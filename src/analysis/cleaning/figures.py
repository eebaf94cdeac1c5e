"""The pictures of notebook 01: from raw to clean, quality by month, the days that the data cover, and what happened."""

import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.cleaning.quality import CLEAN, RAW
from analysis.cleaning.words import Words
from analysis.reporting.theme import INK, PALETTE, QUIET, new_figure

_LABEL_WIDTH = 24  # characters of a bar's name on one line
_MARKERS = "osD^"


def waterfall(steps: pd.DataFrame, words: Words) -> Figure:
    """From the rows that came in, reason by reason, to the rows that are clean; each row taken off once.

    Parameters
    ----------
    steps : as :func:`analysis.cleaning.waterfall_steps` gives them: ``reason, label, rows, amount``, from ``raw`` to
        ``clean``; those between are taken off. ``amount`` is missing where the table has no money.
    """
    total = int(steps.rows.iloc[0])
    fig, ax = new_figure(height=1.5 + 0.66 * len(steps), grid="none")
    left = total
    for place, step in enumerate(steps.itertuples()):
        whole = step.reason in (RAW, CLEAN)
        left = step.rows if whole else left - step.rows
        start, colour = (0, PALETTE[0]) if whole else (left, PALETTE[1])
        # The line around a bar keeps a reason visible that is a ten-thousandth of the rows.
        ax.barh(place, step.rows, left=start, height=0.72, color=colour, edgecolor=colour, linewidth=2.5, zorder=3)
        _beside(ax, place, start, start + step.rows, total, _waterfall_label(step, total, words), whole)
        if place + 1 < len(steps):
            ax.plot([left, left], [place - 0.36, place + 1.36], color=QUIET, linewidth=0.8)
    ax.set_yticks(range(len(steps)), [textwrap.fill(label, _LABEL_WIDTH) for label in steps.label])
    ax.invert_yaxis()
    ax.set_xlabel(words("axis_rows"))
    _rows_axis(ax, total, words)
    ax.set_title(words("waterfall_title", **waterfall_facts(steps)))
    return fig


def waterfall_facts(steps: pd.DataFrame) -> dict[str, object]:
    """What the title of :func:`waterfall` needs: shares and rows, and the reason that takes off the most."""
    off = steps[~steps.reason.isin((RAW, CLEAN))]
    worst = off.loc[off.rows.idxmax()] if len(off) else None
    rows_in, rows_out = int(steps.rows.iloc[0]), int(steps.rows.iloc[-1])
    return {
        "rows_in": rows_in,
        "clean": rows_out,
        "clean_share": rows_out / rows_in if rows_in else None,
        "reasons": len(off),
        "worst": "" if worst is None else worst.label,
        "worst_rows": 0 if worst is None else int(worst.rows),
    }


def _waterfall_label(step: tuple, total: int, words: Words) -> str:
    fmt, sign = words.format, "" if step.reason in (RAW, CLEAN) else "\N{MINUS SIGN}"
    label = f"{sign}{fmt.count(step.rows)}"
    if step.reason != RAW and total:
        label += f" ({fmt.share(step.rows / total)})"
    if pd.notna(step.amount):
        # What is taken off may be returns, and then the money grows.
        label += f"\n{'+' if sign and step.amount < 0 else ''}{fmt.money(-step.amount if sign else step.amount)}"
    return label


def _beside(ax: Axes, place: int, start: float, end: float, total: int, label: str, whole: bool) -> None:
    """Write a bar's numbers inside it where it is long, else to its left, or to its right where the left is too short."""
    inside = end - start > 0.6 * total
    if inside:
        at, side, offset = (start + end) / 2 if not whole else end, "right" if whole else "center", -8 if whole else 0
    elif start > 0.5 * total:
        at, side, offset = start, "right", -8
    else:
        at, side, offset = end, "left", 8
    ax.annotate(
        label,
        (at, place),
        xytext=(offset, 0),
        textcoords="offset points",
        ha=side,
        va="center",
        color="white" if inside else INK,
        fontsize=11.5,
    )


def _rows_axis(ax: Axes, total: int, words: Words) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.xaxis.set_major_formatter(words.format.axis("count"))
    ax.set_xlim(0, max(1, total) * 1.02)


def quality_by_month(series: pd.DataFrame, words: Words) -> Figure:
    """The measures that moved, month by month.

    Parameters
    ----------
    series : as :func:`analysis.cleaning.unsteady` gives them.
    """
    fig, ax = new_figure(height=4.4)
    for place, line in series.groupby("series"):
        first = line.iloc[0]
        where = words.name("table", first.table) if pd.isna(first.column) else first.column
        label = words("series", where=where, measure=words.name("measure", first.measure))
        ax.plot(line.period, line.value, color=PALETTE[place], marker=_MARKERS[place], label=label)
    lowest = series.value.min()
    ax.set_ylim(max(0, lowest - 0.15 * (1 - lowest)), 1 + 0.05 * (1 - lowest))
    ax.yaxis.set_major_formatter(words.format.axis("share"))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    _months(ax)
    ax.set_ylabel(words("axis_quality"))
    ax.set_title(words("by_month_title", **by_month_facts(series, words)))
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=1)
    return fig


def by_month_facts(series: pd.DataFrame, words: Words) -> dict[str, object]:
    """The lowest month of the series that fell lowest, for titles and sentences; ``moving`` 0 where none moved."""
    if series.empty:
        return {"moving": 0}
    worst = series.loc[series.value.idxmin()]
    line = series[series.series == worst.series]
    table = words.name("table", worst.table)
    return {
        "moving": int(series.series.nunique()),
        "where": table if pd.isna(worst.column) else words("where", table=worst.table, column=worst.column),
        "measure": words.name("measure", worst.measure),
        "low": worst.value,
        "high": line.value.max(),
        "month": words.month(worst.period),
    }


def days_covered(profile: pd.DataFrame, words: Words) -> Figure:
    """Sales by day over the observed period, silent days marked.

    Parameters
    ----------
    profile : as :func:`analysis.cleaning.day_profile` gives it.
    """
    silent = profile[profile.lines == 0]
    fig, ax = new_figure()
    ax.plot(profile.order_date, profile.sales, color=PALETTE[0], linewidth=0.8, alpha=0.55, label=words("legend_day"))
    weekly = profile.set_index("order_date").sales.rolling(7, center=True, min_periods=4).mean()
    ax.plot(weekly.index, weekly, color=PALETTE[0], linewidth=2.2, label=words("legend_week"))
    if len(silent):
        marks = {"color": PALETTE[1], "markersize": 6, "clip_on": False, "label": words("legend_silent")}
        ax.plot(silent.order_date, silent.sales, "o", **marks)
    ax.set_title(silence_title(profile, words))
    ax.set_ylabel(words("axis_day_sales"))
    ax.yaxis.set_major_formatter(words.format.axis("money"))
    ax.set_ylim(bottom=min(0, profile.sales.min()))
    ax.legend(loc="upper left", ncols=3, frameon=False)
    ax.set_ylim(top=ax.get_ylim()[1] * 1.15)
    ax.set_xlim(profile.order_date.iloc[0], profile.order_date.iloc[-1])
    _months(ax)
    return fig


def silence_title(profile: pd.DataFrame, words: Words) -> str:
    """What the picture of days shows, in words."""
    silent = profile[profile.lines == 0].order_date
    days = words.listed([words.format.date(day) for day in silent.head(2)])
    return words("days_title", silent=len(silent), total=len(profile), days=days)


def sales_by_month(months: pd.DataFrame, words: Words) -> Figure:
    """Net sales and customers of every month, one above the other.

    Parameters
    ----------
    months : as :func:`analysis.cleaning.by_month` gives them; months with too few customers are blank.
    """
    fig, (above, below) = new_figure(height=5.2, nrows=2, sharex=True)
    fig.get_layout_engine().set(hspace=0.06)
    partial = months.partial.to_numpy()
    colours = [PALETTE[4] if cut else PALETTE[0] for cut in partial]
    above.bar(months.month, months.net_sales, width=24, color=colours)
    above.yaxis.set_major_formatter(words.format.axis("money"))
    above.set_ylabel(words("label_net_sales"))
    below.plot(months.month, months.customers, color=PALETTE[2], marker="o")
    below.yaxis.set_major_formatter(words.format.axis("count"))
    below.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    below.set_ylabel(words("label_customers"))
    below.set_ylim(bottom=0)
    _months(below)
    above.set_title(words("months_title", **month_facts(months, words)))
    return fig


def month_facts(months: pd.DataFrame, words: Words) -> dict[str, object]:
    """The best and the worst whole month by net sales, and how many are shown, hidden and cut short."""
    shown = months[months.net_sales.notna()]
    whole = shown[~shown.partial] if (~shown.partial).any() else shown
    facts: dict[str, object] = {
        "months": len(months),
        "shown": len(shown),
        "hidden": len(months) - len(shown),
        "partial": int(months.partial.sum()),
    }
    if len(whole):
        best, worst = whole.loc[whole.net_sales.idxmax()], whole.loc[whole.net_sales.idxmin()]
        facts |= {"best": words.month(best.month), "best_sales": best.net_sales}
        facts |= {"worst": words.month(worst.month), "worst_sales": worst.net_sales}
    return facts


def sales_by_group(groups: dict[str, pd.DataFrame], words: Words) -> Figure:
    """Shares of net sales by product group, region and channel, one panel each.

    Parameters
    ----------
    groups : name of the dimension -> frame as :func:`analysis.cleaning.by_group` gives it.
    """
    sizes = [len(frame) for frame in groups.values()]
    height = 0.2 + 0.7 * len(groups) + 0.42 * sum(sizes)
    fig, axes = new_figure(height=height, grid="none", nrows=len(groups), squeeze=False, height_ratios=sizes)
    longest = max(frame.share.max() for frame in groups.values())
    lowest = min(0, *(frame.share.min() for frame in groups.values()))
    for ax, (name, frame) in zip(axes[:, 0], groups.items(), strict=True):
        ax.barh(range(len(frame)), frame.share, height=0.66, color=[_group_colour(g) for g in frame.group])
        for place, share in enumerate(frame.share):
            mark = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "fontsize": 11.5}
            ax.annotate(words.format.share(share, 1), (max(share, 0), place), **mark)
        ax.set_yticks(range(len(frame)), [textwrap.shorten(str(label), 30, placeholder="…") for label in frame.label])
        ax.set_ylim(len(frame) - 0.5, -0.5)
        ax.set_xlim(lowest * 1.1, longest * 1.18)
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        ax.set_title(words("group_title", **group_facts(name, frame, words)), fontsize=13, pad=8)
    return fig


def group_facts(name: str, frame: pd.DataFrame, words: Words) -> dict[str, object]:
    """The dimension in words, and the group with the most sales."""
    named = frame[frame.group.notna()]
    best = (named if len(named) else frame).iloc[0]
    return {"dimension": words.name("dimension", name), "best": best.label, "share": best.share, "groups": len(named)}


def _group_colour(group: object) -> str:
    return PALETTE[4] if pd.isna(group) else PALETTE[0]


def _months(ax: Axes) -> None:
    locator = AutoDateLocator(minticks=3, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.tick_params(axis="x", pad=8)
