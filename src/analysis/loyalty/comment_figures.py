"""Figures of comments: frames in, figures out; the title states the finding."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

from .comments import CommentThemes, comment_facts, spoken, theme_facts
from .figures import nothing_to_draw
from .groups import LEVEL

LESS, MORE, ALIKE = theme.PALETTE[1], theme.PALETTE[0], theme.PALETTE[4]


def theme_bars(found: CommentThemes, fmt: Formatter, score: str = "satisfaction") -> Figure:
    """Share of comments that mention each theme with limits, coloured by whether those who mention it score lower or higher.

    The number beside a bar is the difference to those who wrote about something else, in points; it has a colour where it is
    beyond chance after Holm's correction.

    found : from :func:`comment_themes`; themes of too few customers are not drawn.
    """
    part = found.themes[found.themes["reason"] == ""].iloc[::-1].reset_index(drop=True)
    if part.empty:
        return nothing_to_draw("Too few customers wrote a comment")
    own = found.differences[found.differences["score"] == score].set_index("theme").reindex(part["theme"])
    clear = (own["p_holm"] < LEVEL).to_numpy()
    less, more = (own["difference"] < 0).to_numpy() & clear, (own["difference"] > 0).to_numpy() & clear
    fig, ax = theme.new_figure(height=2.2 + 0.48 * len(part), grid="x")
    y, share = np.arange(len(part)), part["share"].to_numpy(float)
    ax.barh(y, share, color=np.select([less, more], [LESS, MORE], ALIKE), height=0.7)
    ax.hlines(y, part["low"], part["high"], color=theme.INK, linewidth=1.6)
    for at, end, points in zip(y, part["high"], own["difference"], strict=True):
        if np.isfinite(points):
            sign = "+" if round(points) > 0 else ""
            ax.annotate(
                f"{sign}{fmt.number(points, 0)}",
                (end, at),
                (6, 0),
                textcoords="offset points",
                va="center",
                fontsize=12,
            )
    ax.set_yticks(y, [_named(name) for name in part["theme"]])
    ax.set(ylim=(-0.6, len(part) - 0.4), xlim=(0, 1.18 * part["high"].max()))
    ax.xaxis.set_major_formatter(fmt.axis("share"))
    ax.set_xlabel(f"Share of comments (line: limits); number: points\nof {spoken(score)} against all other comments")
    likeness = {
        f"Less {_kind(score)}": (LESS, less),
        f"More {_kind(score)}": (MORE, more),
        "No clear difference": (ALIKE, ~(less | more)),
    }
    keys = [Patch(color=colour, label=label) for label, (colour, there) in likeness.items() if there.any()]
    fig.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    ax.set_title(_title(found, fmt, score))
    return fig


def _title(found: CommentThemes, fmt: Formatter, score: str) -> str:
    facts, apart = comment_facts(found), theme_facts(found, score)
    if facts.get("top") is None:
        return "No theme is mentioned by enough customers to tell"
    start = f"{facts['top'].capitalize()} comes up most ({fmt.share(facts['top_share'], 0)} of comments)"
    if not apart.get("clear"):
        return f"{start}; no theme goes with another {spoken(score)} beyond chance"
    size = f"{fmt.number(abs(apart['value']), 0)} points {'less' if apart['value'] < 0 else 'more'} {_kind(score)}"
    who = "those who mention it" if apart["theme"] == facts["top"] else f"those who mention {apart['theme']}"
    return f"{start}; {who} are {size}"


def _kind(score: str) -> str:
    return {"satisfaction": "satisfied", "loyalty": "loyal"}.get(score, spoken(score))


def _named(name: str) -> str:
    return "Something else" if name == "other" else spoken(name).capitalize()
