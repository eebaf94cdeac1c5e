"""The figure of the season: results in, Figure out."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from analysis.reporting.numbers import Formatter
from analysis.reporting.theme import PALETTE, QUIET, new_figure
from analysis.valuation.seasonality import Seasonality, season_facts


def season_title(found: Seasonality, fmt: Formatter, customers: str = "customers") -> str:
    """The finding of :func:`season_factor` in one line."""
    facts = season_facts(found, fmt)
    if not found.found:
        return "No season can be told from chance"
    return f"In {facts['peak']} {customers} buy {fmt.number(facts['factor'], 2)} times as often as on average"


def season_factor(found: Seasonality, fmt: Formatter, customers: str = "customers") -> Figure:
    """How often customers buy on each day of a year against the year's average, with its simultaneous band."""
    fig, ax = new_figure(height=4.2)
    year = found.year
    ax.fill_between(year["day"], year["low"], year["high"], color=PALETTE[0], alpha=0.18, linewidth=0)
    ax.plot(year["day"], year["factor"], color=PALETTE[0])
    ax.axhline(1.0, color=QUIET, linewidth=1.2, linestyle="--")
    starts = pd.date_range("2001-01-01", periods=12, freq="MS").day_of_year.to_numpy()
    names = fmt.locale.months["stand-alone"]["abbreviated"]
    ax.set_xticks(starts[::2], [names[m] for m in range(1, 13, 2)], ha="left")
    ax.set_xlim(1, 365)
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(fmt.axis("ratio"))
    ax.set(xlabel="Day of the year", ylabel="Purchases, average of the year = 1")
    ax.set_title(season_title(found, fmt, customers))
    return fig
