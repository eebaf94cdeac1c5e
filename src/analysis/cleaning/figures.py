"""The pictures of notebook 01: what was kept and why the rest was not, and the days that the data cover."""

import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import PALETTE, new_figure


def kept_and_set_aside(ledger: pd.DataFrame, reasons: pd.DataFrame, table: str, fmt: Formatter) -> Figure:
    """One bar for the rows of ``table``, from raw to clean, and one bar a reason for what was set aside.

    Parameters
    ----------
    ledger, reasons : as in :class:`analysis.cleaning.Cleaned`.
    """
    row = ledger.set_index("table").loc[table]
    aside = reasons[(reasons.table == table) & (reasons.severity == "set_aside")].sort_values("rows")
    labels = [*aside.reason.str.replace("_", " "), "kept"]
    values = [*aside.rows, row.rows_kept]
    fig, ax = new_figure(height=1.6 + 0.5 * len(labels))
    bars = ax.barh(labels, values, color=[PALETTE[1]] * len(aside) + [PALETTE[0]])
    total = row.rows_in
    for bar, value in zip(bars, values, strict=True):
        inside = value > 0.6 * total
        ax.annotate(
            f"{fmt.count(value)} ({fmt.share(value / total)})",
            (value, bar.get_y() + bar.get_height() / 2),
            xytext=(-6 if inside else 6, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            color="white" if inside else "black",
        )
    ax.set_title(f"{fmt.share(row.rows_kept / total)} of {fmt.count(total)} rows are kept")
    ax.set_xlabel("Rows")
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.xaxis.set_major_formatter(fmt.axis("count"))
    ax.set_xlim(0, total * 1.02)
    return fig


def days_covered(profile: pd.DataFrame, fmt: Formatter) -> Figure:
    """Sales by day over the observed period, silent days marked.

    Parameters
    ----------
    profile : as :func:`analysis.cleaning.day_profile` gives it.
    """
    silent = profile[profile.lines == 0]
    fig, ax = new_figure()
    ax.plot(profile.order_date, profile.sales, color=PALETTE[0], linewidth=0.8, alpha=0.55, label="a day")
    weekly = profile.set_index("order_date").sales.rolling(7, center=True, min_periods=4).mean()
    ax.plot(weekly.index, weekly, color=PALETTE[0], linewidth=2.2, label="mean of seven days")
    if len(silent):
        ax.plot(silent.order_date, silent.sales, "o", color=PALETTE[1], markersize=6, label="no sale", clip_on=False)
    ax.set_title(silence_title(profile, fmt))
    ax.set_ylabel("Sales a day")
    ax.yaxis.set_major_formatter(fmt.axis("money"))
    ax.set_ylim(bottom=min(0, profile.sales.min()))
    ax.legend(loc="upper left", ncols=3, frameon=False)
    ax.set_ylim(top=ax.get_ylim()[1] * 1.15)
    ax.set_xlim(profile.order_date.iloc[0], profile.order_date.iloc[-1])
    locator = AutoDateLocator(minticks=3, maxticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    ax.tick_params(axis="x", pad=8)
    return fig


def silence_title(profile: pd.DataFrame, fmt: Formatter) -> str:
    """What the picture of days shows, in words."""
    silent = profile[profile.lines == 0].order_date
    if len(silent) == 0:
        return f"All {fmt.count(len(profile))} days have sales"
    if len(silent) <= 2:
        return f"Every day has sales but {' and '.join(fmt.date(day) for day in silent)}"
    return f"{fmt.count(len(silent))} of {fmt.count(len(profile))} days have no sale"
