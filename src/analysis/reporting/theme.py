"""One look for every figure, the same bytes on every machine."""

import io
from collections.abc import Iterable
from functools import partial
from itertools import pairwise
from math import ceil

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text, _get_text_metrics_with_cache
from PIL import Image

INK = "#1f2933"
QUIET = "#5b6770"
GRID = "#e3e7ea"
# Blue, orange, green, plum, grey, gold: further apart than the Okabe-Ito colours in each kind of colour blindness.
PALETTE = ("#0b5f8a", "#cd7821", "#4ba077", "#613f5b", "#a2adb5", "#e2cd44")
DPI = 144
_EDGE = 8  # pixels of a picture that stay free around words

_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    # A phone shows a picture at 0.42 of its width on a desk: 13 points are 11 pixels there.
    "font.size": 13,
    "axes.titlesize": 14.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.labelsize": 13,
    "axes.labelcolor": QUIET,
    "axes.labelpad": 8,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "xtick.major.pad": 8,  # clear of the lowest label of the other axis
    "legend.fontsize": 13,
    "legend.title_fontsize": 13,
    "legend.frameon": False,
    "text.color": INK,
    "axes.titlecolor": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "axes.edgecolor": "#aab3ba",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.9,
    "axes.axisbelow": True,
    "lines.linewidth": 2.4,
    "lines.markersize": 6.5,
    "patch.edgecolor": "white",
    "patch.linewidth": 0.8,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "figure.figsize": (6.4, 4.0),
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "text.parse_math": False,  # two dollar signs in a title are two amounts of money
    "axes.unicode_minus": True,
    "axes.formatter.use_locale": False,
}


def use_theme() -> None:
    """Set seaborn's and Matplotlib's defaults to the house style, and draw off screen."""
    matplotlib.use("agg")
    import seaborn as sns  # a second that pages, which only need the colours, should not wait

    sns.set_theme(context="notebook", style="whitegrid", palette=list(PALETTE), rc=_STYLE)


def new_figure(width: float = 6.4, height: float = 4.0, *, grid: str = "y", **subplots: object) -> tuple[Figure, Axes]:
    """A figure in the house style, known to nobody but the caller, so that nothing has to be closed.

    Parameters
    ----------
    width, height : float
        Inches; the defaults stay readable on a phone.
    grid : {"y", "x", "both", "none"}
        Where lines help the eye; ``"x"`` for horizontal bars.
    **subplots
        Passed to ``Figure.subplots``: ``nrows``, ``ncols``, ``sharex`` and so on.

    Returns
    -------
    tuple of Figure and Axes
        Or an array of Axes when ``subplots`` asks for several.
    """
    use_theme()
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    axes = figure.subplots(**subplots)
    for axis in np.ravel(axes):
        for direction in "xy":
            axis.grid(axis=direction, visible=grid in (direction, "both"))
        axis.tick_params(length=0)
    return figure, axes


def png(figure: Figure) -> bytes:
    """The figure as a PNG of at most 256 colours, 144 dots an inch, without date or maker."""
    drawn = io.BytesIO()
    _wrap_titles(figure)
    _keep_apart_and_inside(figure)
    figure.savefig(drawn, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    drawn.seek(0)
    small = Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    out = io.BytesIO()
    small.save(out, format="PNG", optimize=True)
    return out.getvalue()


def _wrap_titles(figure: Figure) -> None:
    """Break titles that say a finding in full so that they stay inside the picture."""
    for axis in figure.axes:
        for title in (axis._left_title, axis.title, axis._right_title):
            title.set_wrap(True)
            title._get_rendered_text_width = partial(_plain_width, title)


def _keep_apart_and_inside(figure: Figure) -> None:
    """Move, and where that does not do, shrink the words below a picture that would leave it or run into each other."""
    figure.draw_without_rendering()
    left, right = figure.bbox.x0 + _EDGE, figure.bbox.x1 - _EDGE
    for axes in figure.axes:
        _part(axes, minor=False)
        _part(axes, minor=True)
    for legend in [*figure.legends, *(axes.legend_ for axes in figure.axes if axes.legend_)]:
        for _ in range(6):  # its handles and gaps keep their size
            if legend.get_window_extent().width <= right - left:
                break
            _shrink(legend.get_texts(), (right - left) / legend.get_window_extent().width)
            figure.draw_without_rendering()
    figure.draw_without_rendering()  # where that made room, the rest has moved
    for axes in figure.axes:
        label = axes.xaxis.label
        box = label.get_window_extent()
        if label.get_text() and not left <= box.x0 <= box.x1 <= right:
            wide = min(box.width, right - left)
            _shrink([label], wide / box.width)
            start = (box.x0 + box.x1 - wide) / 2
            shift = max(left, min(start, right - wide)) - start
            label.set_x(label.get_position()[0] + shift / axes.bbox.width)


def _part(axes: Axes, minor: bool) -> None:
    """Shrink the tick labels of the horizontal axis where neighbours touch."""
    ticks = axes.xaxis.get_minor_ticks() if minor else axes.xaxis.get_major_ticks()
    labels = [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.x0)
    factor = 1.0
    for one, next_one in pairwise(boxes):
        apart = (next_one.x0 + next_one.x1 - one.x0 - one.x1) / 2
        needed = (one.width + next_one.width) / 2
        if 0 < apart < needed + _EDGE:
            factor = min(factor, (apart - _EDGE) / needed)
    if labels and 0 < factor < 1.0:
        size = labels[0].get_fontsize() * max(factor, 0.7)
        axes.tick_params(axis="x", which="minor" if minor else "major", labelsize=size)


def _shrink(texts: Iterable[Text], factor: float) -> None:
    for text in texts:
        if factor < 1.0:
            text.set_fontsize(text.get_fontsize() * factor)


def _plain_width(title: Text, words: str) -> int:
    """Pixels that ``words`` take: Matplotlib itself takes what stands between two dollar signs for mathematics."""
    dpi = title.get_figure(root=True).dpi
    return ceil(_get_text_metrics_with_cache(title._renderer, words, title.get_fontproperties(), False, dpi)[0])
