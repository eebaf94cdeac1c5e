"""Figures of the loyalty room: frames in, figures out; sized to be read on a phone.

Every figure states its finding in its title and is drawn at 5.4 inches, so that a 390 pixel screen shows a point
of type as about a pixel.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path as Curve
from matplotlib.transforms import Bbox

from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

from .measurement import CAUTION, FAIL, PASS, USUAL, Thresholds
from .names import called
from .path_model import BootstrapResults
from .resampling import IntervalMethod
from .specification import ECSI_PATHS, RELATIONSHIP_PATHS, Specification

WIDTH = 5.4
INK, MUTED, PAPER = theme.INK, theme.QUIET, "white"

# The shape in which the index is usually drawn, turned upright: columns and rows. Loyalty stands below Image and what leads to it
# beside it, so that the long arrow between the two runs down the left edge.
ECSI_PLACES: dict[str, tuple[float, float]] = {
    "Expectation": (1.0, 0.0),
    "Quality": (3.0, 0.0),
    "Image": (0.0, 1.0),
    "Value": (1.95, 1.0),
    "Satisfaction": (1.45, 2.0),
    "Loyalty": (0.0, 3.0),
    "Complaints": (3.0, 3.0),
}
RELATIONSHIP_PLACES: dict[str, tuple[float, float]] = ECSI_PLACES | {
    "Trust": (3.0, 2.95),
    "Complaints": (1.45, 3.2),
    "Commitment": (3.0, 4.0),
    "Loyalty": (0.0, 4.4),
    "Switching": (2.0, 5.05),
}


def path_diagram(
    bootstrap: BootstrapResults,
    fmt: Formatter,
    *,
    confidence: float = 0.95,
    method: IntervalMethod = "bca",
    places: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """The structural model: boxes with R², arrows with estimate and interval, as wide as they are strong.

    An arrow whose interval includes zero is thin, grey and dashed.

    Parameters
    ----------
    places : column (0-3) and row of every construct; by default those of the European index, with trust and commitment where
        they are in it, and for any other model rows from cause to effect
    """
    results = bootstrap.results
    limits = bootstrap.conf_int(confidence, method)
    names = results.specification.constructs
    spots = _spots(results.specification, places)
    columns = max(x for x, _ in spots.values()) or 1.0
    rows = max(y for _, y in spots.values())
    height = 0.7 + 1.75 * rows
    box = np.array([1.3, 0.58])
    across, down = (WIDTH - box[0] - 0.16) / columns, 1.75
    centre = {
        name: np.array([0.08 + box[0] / 2 + x * across, height - 0.35 - y * down]) for name, (x, y) in spots.items()
    }
    fig, ax = theme.new_figure(width=WIDTH, height=height + 0.85)
    ax.set(xlim=(0, WIDTH), ylim=(0, height), aspect="equal")
    ax.axis("off")
    extents = {name: _around(at, box) for name, at in centre.items()}
    labels: list[Bbox] = [_grown(extent, 0.02) for extent in extents.values()]
    curves = {
        (source, target): _route_curve(source, target, centre, extents) for source, target in results.params.index
    }
    for arrow, estimate in results.params.items():
        low, high = limits.loc[arrow]
        clear = low > 0 or high < 0
        colour = (theme.PALETTE[0] if estimate > 0 else theme.PALETTE[1]) if clear else MUTED
        curve = curves[arrow]
        ax.add_patch(
            FancyArrowPatch(
                path=Curve(curve, [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3]),
                arrowstyle="-|>",
                mutation_scale=11 + 8 * abs(estimate),
                linewidth=0.9 + (5.5 * abs(estimate) if clear else 0),
                linestyle="solid" if clear else (0, (4, 3)),
                color=colour,
                shrinkA=0,
                shrinkB=0,
                zorder=1,
            )
        )
    for arrow, estimate in results.params.items():
        low, high = limits.loc[arrow]
        others = [c for key, c in curves.items() if key != arrow]
        at, extent = _label_place(curves[arrow], labels, others)
        labels.append(extent)
        corner = extent.x0 + 0.03, extent.y0
        paper = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.92, "zorder": 3}
        ax.add_patch(Rectangle(corner, extent.width - 0.06, extent.height, **paper))
        text = {"ha": "center", "va": "center", "color": INK, "zorder": 4}
        weight = "bold" if low > 0 or high < 0 else "normal"
        ax.text(at[0], at[1] + 0.085, fmt.number(estimate, 2), fontsize=10.5, weight=weight, **text)
        ax.text(at[0], at[1] - 0.085, f"{fmt.number(low, 2)} to {fmt.number(high, 2)}", fontsize=8.5, **text)
    for name in names:
        _draw_box(ax, name, extents[name], results.r_squared.get(name), fmt)
    _title(ax, _path_title(results.params, limits, fmt))
    return fig


def _path_title(params: pd.Series, limits: pd.DataFrame, fmt: Formatter) -> str:
    clear = (limits["low"] > 0) | (limits["high"] < 0)
    strongest = params.abs().idxmax()
    return (
        f"{int(clear.sum())} of {len(params)} paths are clear of zero; the strongest runs from "
        f"{called(strongest[0])} to {called(strongest[1])} ({fmt.number(params[strongest], 2)})"
    )


def driver_effects(drivers: pd.DataFrame, target: str, fmt: Formatter) -> Figure:
    """Dots with intervals: points of the target that go with one point of each driver, strongest on top.

    Hollow dots: the driver's own measurement failed.
    """
    part = called(drivers[drivers["target"] == target].iloc[::-1])
    target = called(target)
    fig, ax = theme.new_figure(width=WIDTH, height=1.5 + 0.48 * len(part))
    y = np.arange(len(part))
    ax.axvline(0, color=MUTED, linewidth=1)
    ax.hlines(y, part["points_low"], part["points_high"], color=theme.PALETTE[0], linewidth=2.5)
    face = [theme.PALETTE[0] if measured else PAPER for measured in part["measured"]]
    ax.scatter(part["points"], y, s=70, c=face, edgecolors=theme.PALETTE[0], linewidths=1.8, zorder=3)
    for at, row in zip(y, part.itertuples(), strict=True):
        ax.annotate(
            fmt.number(row.points, 2),
            (row.points, at),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize=10,
        )
    ax.set_yticks(y, [name if ok else f"{name} ○" for name, ok in zip(part["driver"], part["measured"], strict=True)])
    ax.set_ylim(-0.6, len(part) - 0.3)
    flag = "" if part["measured"].all() else "\n○ its items do not measure one thing well"
    ax.set_xlabel(f"Points of {target.lower()} that go with one point more\n(both 0–100; line: interval){flag}")
    top = part.iloc[-1]
    _title(ax, f"{top['driver']} counts most for {target.lower()}: {fmt.number(top['points'], 2)} points a point")
    return fig


def importance_performance(drivers: pd.DataFrame, target: str, fmt: Formatter) -> Figure:
    """Importance-performance map: effect on the target against the driver's own level, a box for both intervals.

    The lower right is where a point gained counts most and most is left to gain; dashed lines are the means. Scores
    run from 0 to 100 over the declared answer scale; the map shows the part of it where the drivers lie.
    Drivers whose measurement failed have no level and are named below the map.
    """
    part = called(drivers[drivers["target"] == target])
    target = called(target)
    hidden = list(part.loc[~part["measured"], "driver"])
    part = part[part["measured"]].reset_index(drop=True)
    if part.empty:
        return nothing_to_draw(f"No driver of {target.lower()} has a sound scale")
    fig, ax = theme.new_figure(width=WIDTH, height=5.2, grid="none")
    x, y = part["points"], part["performance"]
    bars = part[["points_low", "points_high", "performance_low", "performance_high"]].to_numpy()
    for left, right, bottom, top in bars:
        style = {"facecolor": theme.PALETTE[0], "alpha": 0.16, "edgecolor": theme.PALETTE[0], "linewidth": 1.0}
        ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, **style))
    ax.scatter(x, y, s=50, color=theme.PALETTE[0], zorder=3)
    ax.axvline(x.mean(), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    ax.axhline(y.mean(), color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    ax.set_xlim(*_with_room(bars[:, :2], 0.16))
    ax.set_ylim(*_with_room(bars[:, 2:], 0.2))
    corner = {"transform": ax.transAxes, "fontsize": 10, "style": "italic", "color": MUTED, "zorder": 2}
    for across, up, text in (
        (0, 1, "enough"), (1, 1, "keep up"), (0, 0, "later"), (1, 0, "work on first"),
    ):  # fmt: skip
        ax.text(
            0.98 if across else 0.02, 0.98 if up else 0.02, text, ha="right" if across else "left",
            va="top" if up else "bottom", **corner,
        )  # fmt: skip
    left_out = f"\nnot shown, no sound scale: {_listed(hidden)}" if hidden else ""
    ax.set_xlabel(f"Importance: points of {target.lower()} a point{left_out}")
    ax.set_ylabel("Performance: score, 0–100 (boxes: intervals)")
    ax.xaxis.set_major_formatter(fmt.axis("number"))
    ax.yaxis.set_major_formatter(fmt.axis("number"))
    gain = (part["points"] * (100 - part["performance"])).idxmax()
    first = part.loc[gain]
    _title(
        ax,
        f"For {target.lower()}, {first['driver'].lower()} has most to give: {fmt.number(first['points'], 2)} a point, "
        f"and it stands at {fmt.number(first['performance'], 1)} of 100",
    )
    label_points(ax, x.to_numpy(), y.to_numpy(), list(part["driver"]), bars)
    return fig


def reliability_dots(verdicts: pd.DataFrame, fmt: Formatter, thresholds: Thresholds = USUAL) -> Figure:
    """Cronbach's alpha with its interval against the threshold, marked by verdict; rho_A as a small diamond."""
    verdicts = called(verdicts)
    judged = verdicts[verdicts["alpha"].notna()].iloc[::-1]
    if judged.empty:
        return nothing_to_draw("Every block is one question: agreement cannot be measured")
    fig, ax = theme.new_figure(width=WIDTH, height=1.7 + 0.48 * len(judged))
    y = np.arange(len(judged))
    looks = {PASS: (theme.PALETTE[2], "o"), CAUTION: (theme.PALETTE[0], "s"), FAIL: (theme.PALETTE[1], "X")}
    for verdict, (colour, marker) in looks.items():
        chosen = (judged["verdict"] == verdict).to_numpy()
        if not chosen.any():
            continue
        part = judged[chosen]
        if "alpha_low" in part:
            ax.hlines(y[chosen], part["alpha_low"], part["alpha_high"], color=colour, linewidth=2.5)
        ax.scatter(part["alpha"], y[chosen], s=85, color=colour, marker=marker, zorder=3, label=verdict)
        ax.scatter(part["rho_a"], y[chosen], s=22, facecolor=PAPER, edgecolor=INK, marker="D", zorder=4)
    ax.axvline(thresholds.alpha, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
    floor = f"at least {fmt.number(thresholds.alpha, 2)}"
    at = thresholds.alpha - 0.01, len(judged) - 0.4
    ax.text(*at, floor, ha="right", va="bottom", fontsize=9.5, color=MUTED)
    ax.set_yticks(y, judged["construct"])
    ax.set_ylim(-0.6, len(judged) - 0.1)
    ax.set_xlim(min(0.25, judged["alpha"].min() - 0.1), 1.0)
    ax.set_xlabel("Cronbach's alpha (◇ rho_A; line: interval of alpha)")
    ax.legend(
        loc="upper center", bbox_to_anchor=(0.42, -0.3 * 3.6 / (1.7 + 0.48 * len(judged))), ncols=3, frameon=False
    )
    failed = list(verdicts.loc[verdicts["verdict"] == FAIL, "construct"])
    title = f"{_listed(failed)} cannot be summed up as asked" if failed else "Every scale holds together"
    _title(ax, title)
    return fig


def score_levels(levels: pd.DataFrame, fmt: Formatter, *, highlight: str = "Satisfaction") -> Figure:
    """Mean 0-100 score of every construct with its interval, highest on top, one highlighted."""
    if levels.empty:
        return nothing_to_draw("No block of questions can be summed up")
    part = called(levels.sort_values("score", kind="stable"))
    fig, ax = theme.new_figure(width=WIDTH, height=1.5 + 0.45 * len(part))
    y = np.arange(len(part))
    colours = [theme.PALETTE[1] if name == highlight else theme.PALETTE[0] for name in part["construct"]]
    ax.hlines(y, part["low"], part["high"], color=colours, linewidth=3)
    ax.scatter(part["score"], y, s=70, c=colours, zorder=3)
    for at, row in zip(y, part.itertuples(), strict=True):
        ax.annotate(
            fmt.number(row.score, 1),
            (row.high, at),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=10,
        )
    ax.set_yticks(y, part["construct"])
    for tick, name in zip(ax.get_yticklabels(), part["construct"], strict=True):
        tick.set_fontweight("bold" if name == highlight else "normal")
    room = max(part["high"].max() - part["low"].min(), 5)
    ax.set_xlim(max(0, part["low"].min() - 0.15 * room), min(108, part["high"].max() + 0.25 * room))
    ax.set_ylim(-0.6, len(part) - 0.4)
    ax.set_xlabel("Mean score, 0–100 (line: interval)")
    best, worst = part.iloc[-1], part.iloc[0]
    _title(
        ax,
        f"{best['construct']} scores highest ({fmt.number(best['score'], 0)} of 100), "
        f"{worst['construct'].lower()} lowest ({fmt.number(worst['score'], 0)})",
    )
    return fig


def label_points(
    ax: Axes, x: np.ndarray, y: np.ndarray, names: Sequence[str], bars: np.ndarray, size: float = 11
) -> None:
    """Write a name beside every point, clear of points, other text and error bars as far as there is room.

    bars : (k, 4) limits of the bars: left, right, bottom, top
    """
    fig = ax.figure
    fig.canvas.draw()
    renderer = fig.canvas.get_renderer()
    pixels = ax.transData.transform(np.column_stack([x, y]))
    frame = ax.get_window_extent(renderer)
    taken = [Bbox.from_bounds(px - 9, py - 9, 18, 18) for px, py in pixels]
    across = ax.transData.transform(np.column_stack([bars[:, [0, 1]].ravel(), np.repeat(y, 2)])).reshape(-1, 4)
    upright = ax.transData.transform(np.column_stack([np.repeat(x, 2), bars[:, [2, 3]].ravel()])).reshape(-1, 4)
    lines = [Bbox.from_extents(x0 - 2, y0 - 2, x1 + 2, y1 + 2) for x0, y0, x1, y1 in np.vstack([across, upright])]
    points = list(taken)
    taken += [text.get_window_extent(renderer) for text in ax.texts]
    for (px, py), name, own in zip(pixels, names, points, strict=True):
        probe = ax.text(0, 0, name, fontsize=size)
        extent = probe.get_window_extent(renderer)
        probe.remove()
        w, h = extent.width + 4, extent.height + 2
        best, best_cost = None, np.inf
        for radius in (10, 16, 24, 34, 46):
            for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False) + np.pi / 4:
                dx, dy = np.cos(angle), np.sin(angle)
                left, bottom = px + dx * radius - (w / 2 - dx * w / 2), py + dy * radius - (h / 2 - dy * h / 2)
                spot = Bbox.from_bounds(left, bottom, w, h)
                overlap = sum(_shared(spot, other) for other in taken if other is not own)
                outside = w * h - _shared(spot, frame)
                crossed = sum(_shared(spot, line) for line in lines)
                cost = overlap * 10 + outside * 10 + crossed / 4 + radius
                if cost < best_cost:
                    best, best_cost = spot, cost
        taken.append(best)
        centre = ax.transData.inverted().transform((best.x0 + w / 2, best.y0 + h / 2))
        ax.text(*centre, name, fontsize=size, ha="center", va="center", zorder=5)


def _with_room(limits: np.ndarray, share: float) -> tuple[float, float]:
    """Axis limits that leave a share of the range free on either side."""
    low, high = np.nanmin(limits), np.nanmax(limits)
    room = share * max(high - low, 1e-6)
    return low - room, high + room


# -- geometry of the path diagram -----------------------------------------------------------------------------


def _spots(
    specification: Specification, places: Mapping[str, tuple[float, float]] | None
) -> dict[str, tuple[float, float]]:
    names = specification.constructs
    if places is None:
        places = _known_places(specification)
    if all(name in places for name in names):
        used = sorted({places[name][1] for name in names})
        # A row that nobody is in is closed up.
        steps = np.minimum(np.diff(used, prepend=used[0]), 1).cumsum()
        rows_of = dict(zip(used, steps.tolist(), strict=True))
        return {name: (places[name][0], rows_of[places[name][1]]) for name in names}
    depth: dict[str, int] = {}

    def level(name: str) -> int:
        if name not in depth:
            depth[name] = max((level(source) + 1 for source in specification.sources_of(name)), default=0)
        return depth[name]

    rows: dict[int, list[str]] = {}
    for name in names:
        rows.setdefault(level(name), []).append(name)
    # A row of more than three boxes does not fit a phone: it is broken into two.
    broken = [part for row in sorted(rows) for part in _chunks(rows[row], 3)]
    return {
        name: ((k + 0.5) * 3 / len(row) - 0.5 + (0.35 if len(row) == 1 and r % 2 else 0.0), float(r))
        for r, row in enumerate(broken)
        for k, name in enumerate(row)
    }


def _known_places(specification: Specification) -> Mapping[str, tuple[float, float]]:
    """Places of a model whose arrows are all those of the European index, with trust and commitment or without."""
    arrows = set(specification.paths)
    if arrows <= set(ECSI_PATHS):
        return ECSI_PLACES
    return RELATIONSHIP_PLACES if arrows <= {*ECSI_PATHS, *RELATIONSHIP_PATHS} else {}


def _chunks(values: list[str], size: int) -> list[list[str]]:
    return [values[k : k + size] for k in range(0, len(values), size)]


def _around(centre: np.ndarray, size: np.ndarray) -> Bbox:
    return Bbox.from_bounds(*(centre - size / 2), *size)


def _grown(extent: Bbox, by: float) -> Bbox:
    return Bbox.from_extents(extent.x0 - by, extent.y0 - by, extent.x1 + by, extent.y1 + by)


def _bezier(control: np.ndarray, t: np.ndarray) -> np.ndarray:
    a, b, c = control
    return (1 - t)[:, None] ** 2 * a + 2 * ((1 - t) * t)[:, None] * b + t[:, None] ** 2 * c


def _route_curve(source: str, target: str, centre: Mapping, extents: Mapping[str, Bbox]) -> np.ndarray:
    """Control points of the flattest curve from box to box that crosses no other box."""
    start, end = centre[source], centre[target]
    along = end - start
    across = np.array([-along[1], along[0]])
    others = [_grown(extents[name], 0.05) for name in extents if name not in (source, target)]
    t = np.linspace(0, 1, 200)
    best, fewest = None, np.inf
    bends = (0, 0.15, -0.15, 0.3, -0.3, 0.45, -0.45, 0.6, -0.6, 0.8, -0.8)
    for lean, bend in itertools.product((0, 0.25, -0.25, 0.4, -0.4), bends):
        control = np.array([start, (start + end) / 2 + lean * along + bend * across, end])
        points = _bezier(control, t)
        hits = sum(_inside(points, extent).sum() for extent in others)
        beyond = ((points[:, 0] < 0.05) | (points[:, 0] > WIDTH - 0.05)).sum()
        if hits + beyond < fewest:
            best, fewest = control, hits + beyond
        if fewest == 0:
            break
    points = _bezier(best, t)
    leaves = t[~_inside(points, _grown(extents[source], 0.01))][0]
    arrives = t[~_inside(points, _grown(extents[target], 0.035))][-1]
    return _part(best, leaves, arrives)


def _inside(points: np.ndarray, extent: Bbox) -> np.ndarray:
    x, y = points.T
    return (x > extent.x0) & (x < extent.x1) & (y > extent.y0) & (y < extent.y1)


def _part(control: np.ndarray, start: float, end: float) -> np.ndarray:
    """Control points of the stretch of a quadratic curve between two parameter values."""
    first, last = _bezier(control, np.array([start, end]))
    a, b, c = control
    middle = (1 - start) * ((1 - end) * a + end * b) + start * ((1 - end) * b + end * c)
    return np.array([first, middle, last])


def _label_place(curve: np.ndarray, taken: list[Bbox], others: list[np.ndarray]) -> tuple[np.ndarray, Bbox]:
    """Where along a curve its label covers least: other labels and boxes first, then other curves."""
    size = np.array([0.86, 0.37])
    crossing = np.vstack([_bezier(other, np.linspace(0, 1, 60)) for other in others]) if others else np.zeros((0, 2))
    best, best_cost = None, np.inf
    for t in np.linspace(0.15, 0.85, 29):
        at = _bezier(curve, np.array([t]))[0]
        at = np.clip(at, size / 2 + 0.02, [WIDTH - size[0] / 2 - 0.02, np.inf])
        extent = _around(at, size)
        cost = 100 * sum(_shared(extent, other) for other in taken)
        cost += 0.15 * _inside(crossing, extent).sum() + 0.4 * abs(t - 0.5)
        if cost < best_cost:
            best, best_cost = (at, extent), cost
    return best


def _shared(one: Bbox, other: Bbox) -> float:
    """Area that two rectangles share."""
    w = min(one.x1, other.x1) - max(one.x0, other.x0)
    h = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(w, 0.0) * max(h, 0.0)


def _draw_box(ax: Axes, name: str, extent: Bbox, r_squared: float | None, fmt: Formatter) -> None:
    ax.add_patch(
        FancyBboxPatch(
            (extent.x0 + 0.05, extent.y0 + 0.05),
            extent.width - 0.1,
            extent.height - 0.1,
            boxstyle="round,pad=0.05",
            facecolor="#f4f6f8",
            edgecolor=INK,
            linewidth=1.1,
            zorder=5,
        )
    )
    x, y = (extent.x0 + extent.x1) / 2, (extent.y0 + extent.y1) / 2
    explained = r_squared is not None and np.isfinite(r_squared)
    # Two words take two lines, and are smaller, since the box is as high as for one.
    shown = called(name).replace(" ", "\n") if len(called(name)) > 13 else called(name)
    two = "\n" in shown
    ax.text(
        x,
        y + (0.1 if explained else 0),
        shown,
        ha="center",
        va="center",
        fontsize=9.5 if two else 11,
        linespacing=0.95,
        weight="bold",
        color=INK,
        zorder=6,
    )
    if explained:
        text = f"R² {fmt.share(r_squared, 0)}"
        ax.text(x, y - (0.18 if two else 0.13), text, ha="center", va="center", fontsize=9, color=INK, zorder=6)


def _title(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=12.5, weight="bold")


def nothing_to_draw(text: str) -> Figure:
    """A sentence where a figure would stand."""
    fig, ax = theme.new_figure(width=WIDTH, height=2.0)
    ax.axis("off")
    _title(ax, text)
    return fig


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
