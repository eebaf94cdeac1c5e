"""Figures of service and of the loyalty index: frames in, figures out; each title states the finding."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

from .figures import nothing_to_draw
from .names import called_score

WIDTH = 6.4
LOOKS = tuple(zip(theme.PALETTE, ("o", "s", "D", "^", "v", "P")))


def contact_trend(rates: pd.DataFrame, fmt: Formatter, *, by: str = "kind", highlight: str = "complaint") -> Figure:
    """Contacts per 1,000 active customers a period with limits, a line a kind, named at its end.

    rates : from `contact_rates`; the line of `highlight` is in front, and the title is about it, where there is one
    """
    known = rates[rates["per_thousand"].notna()]
    if known.empty:
        return nothing_to_draw("Nobody is known to be active, so there is no rate of contacts")
    names = sorted(known[by].unique(), key=lambda name: (name != highlight, name))
    fig, ax = theme.new_figure(width=WIDTH, height=4.2)
    for name, (colour, marker) in zip(names, LOOKS):
        part = known[known[by] == name].sort_values("starts_on")
        first = name == names[0]
        ax.fill_between(part["starts_on"], part["low"], part["high"], color=colour, alpha=0.22, linewidth=0)
        ax.plot(
            part["starts_on"],
            part["per_thousand"],
            color=colour,
            marker=marker,
            linewidth=3 if first else 1.8,
            zorder=3,
        )
        at = part["starts_on"].iloc[-1], part["per_thousand"].iloc[-1]
        place = {
            "xytext": (8, 0),
            "textcoords": "offset points",
            "va": "center",
            "fontsize": 12,
            "annotation_clip": False,
        }
        ax.annotate(_plain(name), at, color=colour, weight="bold" if first else "normal", **place)
    starts = sorted(known["starts_on"].unique())
    shown = starts[:: max(1, (len(starts) + 3) // 4)]
    ax.set_xticks(shown, [fmt.date(day.date()).replace(", ", ",\n", 1) for day in pd.DatetimeIndex(shown)], fontsize=12)
    ax.set_ylim(bottom=0)
    ax.set_ylabel("Contacts per 1,000\nactive customers")
    ax.set_xlabel("Period that starts on (band: interval)")
    ax.yaxis.set_major_formatter(fmt.axis("number"))
    ax.set_title(_trend_title(known[known[by] == names[0]].sort_values("starts_on"), names[0], fmt), fontsize=13)
    return fig


def _trend_title(part: pd.DataFrame, name: str, fmt: Formatter) -> str:
    now = part.iloc[-1]
    text = f"{fmt.number(now['per_thousand'], 0)} {_plain(name)} contacts per 1,000 customers lately"
    if len(part) < 2:
        return text
    before = part.iloc[-2]
    if now["low"] > before["high"]:
        return f"{text}: more than the period before"
    if now["high"] < before["low"]:
        return f"{text}: fewer than the period before"
    return f"{text}, much as before"


def resolution_dots(times: pd.DataFrame, fmt: Formatter, *, by: str = "kind") -> Figure:
    """Days within which half, and nine in ten, of the cases are resolved, with limits, on a scale of ratios."""
    part = times[times["median"].notna()].sort_values("median", ascending=False, kind="stable")
    if part.empty:
        return nothing_to_draw("Too few cases to say how long they take")
    fig, ax = theme.new_figure(width=WIDTH, height=2.4 + 0.62 * len(part), grid="x")
    y = np.arange(len(part))
    end = 1.6 * float(np.nanmax(part[["median", "p90"]].to_numpy()))
    for name, label, lift, (colour, marker) in (
        ("median", "half of the cases", -0.12, LOOKS[0]),
        ("p90", "nine in ten", 0.12, LOOKS[1]),
    ):
        high = part[f"{name}_high"].clip(upper=end)
        ax.hlines(y + lift, part[f"{name}_low"], high, color=colour, linewidth=3)
        ax.scatter(part[name], y + lift, s=75, color=colour, marker=marker, label=label, zorder=3)
    for at, row in zip(y, part.itertuples()):
        if np.isnan(row.p90):
            ax.text(row.median_high * 1.15, at, "nine in ten: not yet", va="center", fontsize=12, color=theme.QUIET)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: fmt.number(v, 0 if v >= 1 else 1)))
    ax.set_yticks(y, [_plain(name) for name in part[by]])
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.set_xlabel("Days until resolved (line: interval)")
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.62 / (0.62 * len(part) + 0.4)), ncols=2)
    ax.set_title(_resolution_title(part, by, fmt), fontsize=13)
    return fig


def _resolution_title(part: pd.DataFrame, by: str, fmt: Formatter) -> str:
    """The kind whose half takes longest, and the kinds of which nine in ten are never seen solved: they may be others."""
    slow = part.iloc[0]
    days = fmt.number(slow["median"], 1)
    never = [_plain(kind) for kind in part.loc[part["p90"].isna(), by]]
    if not never:
        return f"{_plain(slow[by]).capitalize()} cases take longest: half of them are open after {days} days"
    if never == [_plain(slow[by])]:
        open_long = f"half of them are open after {days} days, and more than a tenth stays unsolved"
        return f"{never[0].capitalize()} cases take longest: {open_long}"
    return (
        f"More than a tenth of the {' and '.join(never)} cases stays unsolved; "
        f"half of the {_plain(slow[by])} cases are open after {days} days"
    )


def hazard_dots(hazard: pd.DataFrame, fmt: Formatter) -> Figure:
    """Change of the contacts that go with one standard deviation more satisfaction: as measured, and corrected for error."""
    part = hazard[hazard["effect"].notna()].iloc[::-1]
    if part.empty:
        return nothing_to_draw("Too few contacts follow an answer to set them beside satisfaction")
    fig, ax = theme.new_figure(width=WIDTH, height=2.5 + 0.8 * len(part), grid="x")
    y = np.arange(len(part))
    ax.axvline(0, color=theme.QUIET, linewidth=1)
    series = [
        ("effect", "low", "high", "as measured"),
        ("corrected", "corrected_low", "corrected_high", "corrected for error"),
    ]
    if part["settled"].notna().any():
        series.append(("settled", "settled_low", "settled_high", "and for the time since"))
    for k, ((name, low, high, label), (colour, marker)) in enumerate(zip(series, LOOKS)):
        at = y + 0.2 * ((len(series) - 1) / 2 - k)
        ax.hlines(at, np.expm1(part[low]), np.expm1(part[high]), color=colour, linewidth=3)
        ax.scatter(np.expm1(part[name]), at, s=70, color=colour, marker=marker, label=label, zorder=3)
    ax.set_yticks(y, [_plain(name) for name in part["kind"]])
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.set_xlabel(
        "Contacts a customer in the quarter after, per standard\ndeviation more satisfaction (line: interval)"
    )
    ax.legend(loc="upper center", bbox_to_anchor=(0.36, -0.85 / (0.8 * len(part) + 0.6)), ncols=2)
    clear = part[(part["low"] > 0) | (part["high"] < 0)]
    title = "No kind of contact clearly goes with satisfaction"
    if len(clear):
        top = clear.loc[clear["effect"].abs().idxmax()]
        title = f"The satisfied have {fmt.share(abs(np.expm1(top['effect'])), 0)} "
        title += f"{'fewer' if top['effect'] < 0 else 'more'} {_plain(top['kind'])} contacts"
    ax.set_title(title, fontsize=13)
    return fig


def index_parts(composition: pd.DataFrame, fmt: Formatter) -> Figure:
    """Declared weight and weight used of every part of the index; parts that are absent are pale and say why."""
    part = composition.iloc[::-1].reset_index(drop=True)
    used = part["status"] == "used"
    fig, ax = theme.new_figure(width=WIDTH, height=1.7 + 0.55 * len(part), grid="x")
    y = np.arange(len(part))
    ax.barh(y, part["weight"].fillna(0), color=theme.PALETTE[0], height=0.55)
    ax.plot(part["declared_weight"], y, "|", color=theme.INK, markersize=22, markeredgewidth=2)
    for at, row in zip(y, part.itertuples()):
        text = row.status
        if row.status == "used":
            text = f"{row.construct}" + (f", {fmt.share(row.coverage, 0)} of people" if row.coverage < 0.995 else "")
        ax.text(
            max(row.weight if row.status == "used" else 0, row.declared_weight) + 0.008,
            at,
            text,
            va="center",
            fontsize=12,
        )
    ax.set_yticks(y, part["part"])
    ax.set_xlim(0, 1.9 * max(part["declared_weight"].max(), part["weight"].fillna(0).max()))
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.set_xlabel("Weight in the index (bar: used; line: declared)")
    ax.set_title(f"{used.sum()} of {len(part)} parts make up the loyalty index", fontsize=13)
    return fig


def track_record_dots(record: pd.DataFrame, fmt: Formatter, *, rule: str = "bought lately") -> Figure:
    """How well each number ranks those who buy next above those who do not, with limits; 0.5 is a coin."""
    part = record[record["auc"].notna()].sort_values("auc", kind="stable")
    if part.empty:
        return nothing_to_draw("Nothing to foretell: everybody bought, or nobody did")
    fig, ax = theme.new_figure(width=WIDTH, height=1.9 + 0.5 * len(part), grid="x")
    y = np.arange(len(part))
    colours = [theme.PALETTE[1] if name == rule else theme.PALETTE[0] for name in part["predictor"]]
    ax.hlines(y, part["auc_low"], part["auc_high"], color=colours, linewidth=3)
    ax.scatter(part["auc"], y, s=85, c=colours, zorder=3)
    for at, row in zip(y, part.itertuples()):
        place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "fontsize": 12}
        ax.annotate(fmt.number(row.auc, 2), (row.auc_high, at), **place)
    ax.axvline(0.5, color=theme.QUIET, linewidth=1.2, linestyle=(0, (4, 3)))
    ax.set_yticks(y, [called_score(name) for name in part["predictor"]])
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.margins(x=0.14)
    ax.set_xlabel("Chance that a buyer ranks above a non-buyer\n(line: interval; dashed: a coin)", loc="right")
    best = part.iloc[-1]
    title = f"Purchases are foretold best by “{called_score(best['predictor'])}”"
    if best["predictor"] != rule and best["gain_low"] <= 0:
        title = f"Nothing foretells purchases clearly better than “{rule}”"
    ax.set_title(title, fontsize=13)
    return fig


def _plain(name: str) -> str:
    return str(name).replace("_", " ")
