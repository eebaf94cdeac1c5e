"""Figures of the campaigns room: frames in, figures out, sized to be read on a phone; titles say the finding."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.campaigns.evaluation import BALANCED
from analysis.campaigns.money import CampaignProfit
from analysis.campaigns.words import Words
from analysis.reporting import theme

WIDTH = 5.4
EFFECT, OTHER, PLACEBO = theme.PALETTE[0], theme.PALETTE[4], theme.PALETTE[1]


def _rows(ax: Axes, labels: list[str]) -> np.ndarray:
    """One line a label, the first on top."""
    places = np.arange(len(labels))[::-1]
    ax.set_yticks(places, labels, fontsize=11)
    ax.set_ylim(-0.6, len(labels) - 0.4)
    return places


def _intervals(ax: Axes, y: np.ndarray, frame: pd.DataFrame, colours: list[str]) -> None:
    for place, (value, low, high), colour in zip(
        y, frame[["estimate", "low", "high"]].to_numpy(), colours, strict=True
    ):
        ax.plot([low, high], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
        ax.plot(value, place, "o", color=colour)


def _short(label: str, longest: int = 26) -> str:
    return label if len(label) <= longest else label[: longest - 1].rstrip() + "…"


def _arm_label(label: str, arm: str) -> str:
    return _short(label) if arm == "targeted" else f"{_short(label, max(8, 24 - len(arm)))}, {_short(arm, 14)}"


def funnel_bars(facts: dict[str, object], words: Words) -> Figure:
    """Shares of the contacts that bought and redeemed, beside the customers who were not targeted.

    ``facts`` come from :func:`analysis.campaigns.facts.funnel_facts`; shares that are None are left out.
    """
    shown = [
        (k, facts[k], c)
        for k, c in (("redeemed", EFFECT), ("bought", EFFECT), ("compared_bought", OTHER))
        if facts[k] is not None
    ]
    fig, ax = theme.new_figure(WIDTH, 1.5 + 0.6 * len(shown), grid="x")
    y = _rows(ax, [words(f"stage_{key}") for key, _, _ in shown])
    ax.barh(y, [share for _, share, _ in shown], color=[colour for *_, colour in shown], height=0.62)
    for place, (_, share, _) in zip(y, shown, strict=True):
        inside = share > 0.5
        ax.annotate(
            words.format.share(share),
            (share, place),
            xytext=(-6 if inside else 6, 0),
            textcoords="offset points",
            ha="right" if inside else "left",
            va="center",
            color="white" if inside else theme.INK,
        )
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(words.format.axis("share"))
    ax.set_xlabel(words("axis_contacts"))
    ax.set_title(words("funnel.title", **facts))
    return fig


def credibility(table: pd.DataFrame, words: Words, title_facts: dict[str, object]) -> Figure:
    """The pooled effect by several methods, the placebo, and what is left; the naive one would dwarf them."""
    shown = table[table["row"] != "naive"]
    # The method that was chosen is the one whose estimate the title speaks of.
    main = np.isclose(shown["estimate"], title_facts.get("estimate", title_facts["value"]))
    special = {"placebo": PLACEBO, "beyond_placebo": theme.INK}
    colours = [special.get(row, EFFECT if chosen else OTHER) for row, chosen in zip(shown["row"], main, strict=True)]
    fig, ax = theme.new_figure(WIDTH, 1.9 + 0.55 * len(shown), grid="x")
    y = _rows(ax, words.names("row", shown["row"]))
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    _intervals(ax, y, shown, colours)
    ax.xaxis.set_major_formatter(words.format.axis("money"))
    ax.set_xlabel(words("axis_effect"))
    ax.set_title(words("credibility.title", **title_facts))
    return fig


def forest(table: pd.DataFrame, words: Words, title_facts: dict[str, object]) -> Figure:
    """Effect of each campaign with its interval, in order of start; open marks show its placebo."""
    shown = table[table["estimate"].notna()].reset_index(drop=True)
    labels = [_arm_label(row.label, row.arm) for row in shown.itertuples()]
    fig, ax = theme.new_figure(WIDTH, 2.4 + 0.36 * len(shown), grid="x")
    y = _rows(ax, labels)
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    clear = shown["p_adjusted"] < title_facts["level"]
    _intervals(ax, y, shown, [EFFECT if c else OTHER for c in clear])
    known = shown["placebo"].notna().to_numpy()
    if known.any():
        marks = {"markerfacecolor": "white", "markeredgecolor": PLACEBO, "markersize": 6, "linestyle": "none"}
        ax.plot(shown["placebo"][known], y[known], "D", label=words("legend_placebo"), **marks)
        fig.legend(loc="outside lower right", handletextpad=0.3)
    ax.xaxis.set_major_formatter(words.format.axis("money"))
    ax.set_xlabel(words("axis_effect"))
    ax.set_title(words("forest.title", **title_facts))
    return fig


def balance_plot(balance: pd.DataFrame, words: Words, title_facts: dict[str, object]) -> Figure:
    """Mean absolute standardised differences of each covariate before and after weighting (a love plot)."""
    shown = balance.sort_values("before", ascending=False, kind="stable")
    fig, ax = theme.new_figure(WIDTH, 2.1 + 0.34 * len(shown), grid="x")
    y = _rows(ax, words.names("covariate", shown["covariate"]))
    ax.axvspan(0, BALANCED, color=theme.GRID, zorder=0)
    weighted = title_facts["design"] == "observational"
    if weighted:
        ax.hlines(y, shown["after"], shown["before"], color=theme.GRID, linewidth=1.6)
        hollow = {"markerfacecolor": "white", "markeredgecolor": PLACEBO}
        ax.plot(shown["before"], y, "o", label=words("legend_before"), **hollow)
    ax.plot(shown["after"], y, "o", color=EFFECT, label=words("legend_after"))
    ax.set_xlim(left=0)
    ax.set_xlabel(words("axis_difference"))
    if weighted:
        fig.legend(loc="outside lower right", ncols=2, handletextpad=0.3, columnspacing=1.2)
    ax.set_title(words("balance.title", **title_facts))
    return fig


def break_even(
    line: pd.DataFrame,
    profit: CampaignProfit,
    words: Words,
    assumed: tuple[float, float] | None,
    title_facts: dict[str, object],
) -> Figure:
    """Profit a contact against the contact cost, with the effect's interval as a band and the assumed cost shaded."""
    fig, ax = theme.new_figure(WIDTH, 3.9, grid="y")
    ax.axhline(0, color=theme.QUIET, linewidth=1)
    if assumed is not None:
        ax.axvspan(*assumed, color=PLACEBO, alpha=0.18, linewidth=0, label=words("legend_assumed"))
    ax.fill_between(
        line["contact_cost"],
        line["low"],
        line["high"],
        color=EFFECT,
        alpha=0.16,
        linewidth=0,
        label=words("legend_interval"),
    )
    ax.plot(line["contact_cost"], line["profit"], color=EFFECT)
    ceiling = profit.break_even_contact_cost().value
    if ceiling > 0:
        ax.plot(ceiling, 0, "o", color=theme.INK, zorder=5)
        ax.annotate(words.format.money(ceiling), (ceiling, 0), xytext=(6, 8), textcoords="offset points")
    ax.set_xlim(0, line["contact_cost"].max())
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(words.format.axis("money"))
    ax.set_xlabel(words("axis_contact_cost"))
    ax.set_ylabel(words("axis_profit"))
    ax.legend(loc="upper right")
    ax.set_title(words("break_even.title", **title_facts))
    return fig
