import io
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from PIL import Image

from analysis.reporting import theme


def drawn(title="Sales rise from $1.20 to $3.40"):
    figure, axes = theme.new_figure()
    axes.plot(np.arange(50), np.arange(50) ** 0.5)
    axes.set_title(title)
    return figure


def test_the_same_figure_gives_the_same_bytes():
    figure = drawn()
    assert theme.png(figure) == theme.png(figure) == theme.png(drawn())


def test_png_is_small_and_says_nothing_of_its_maker():
    image = Image.open(io.BytesIO(theme.png(drawn())))
    assert image.mode == "P" and len(image.getcolors()) <= 256
    assert image.size == (921, 576)
    assert not {"Software", "Creation Time", "date"} & set(image.info)


def test_figures_leave_nothing_behind():
    before = plt.get_fignums()
    theme.png(drawn())
    assert plt.get_fignums() == before
    assert matplotlib.get_backend().lower() == "agg"


def test_dollar_signs_are_money_not_mathematics():
    figure = drawn()
    theme.png(figure)
    assert not figure.axes[0]._left_title.get_parse_math()


@pytest.mark.parametrize(
    "title",
    [
        "The top 20% of households bring $2.31 million of $4.60 million, more than half of all sales",
        "From $1 " + "a b c d " * 6 + "to $2 in one year",  # as mathematics, all these blanks would take no room
    ],
)
def test_a_long_title_stays_inside_the_picture(title):
    figure = drawn(title)
    theme.png(figure)
    box = figure.axes[0]._left_title.get_window_extent(figure.canvas.get_renderer())
    assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1


def words_below(label, ticks):
    figure, axes = theme.new_figure()
    axes.barh(["A rather long name of a row"] * 3, [1, 2, 3])
    axes.set_xlabel(label)
    axes.set_xticks(range(len(ticks)), ticks)
    theme.png(figure)
    return figure, axes


@pytest.mark.parametrize("label", ["Points of satisfaction that go with one point more", "Points of satisfaction " * 4])
def test_a_label_stays_inside_the_picture_and_ticks_apart(label):
    figure, axes = words_below(label, ["CN¥0", "CN¥1,000,000", "CN¥2,000,000", "CN¥3,000,000"])
    box = axes.xaxis.label.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    boxes = [tick.get_window_extent() for tick in axes.get_xticklabels()]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))


def test_words_with_room_keep_their_size_and_place():
    _, axes = words_below("Purchases", ["0", "1", "2"])
    assert axes.xaxis.label.get_position()[0] == 0.5
    assert {text.get_fontsize() for text in (axes.xaxis.label, *axes.get_xticklabels())} == {13.0}


def test_a_wide_legend_stays_inside_the_picture():
    figure, axes = theme.new_figure()
    for name in ("less satisfied than before", "more satisfied than before", "no clear difference"):
        axes.plot([0, 1], label=name)
    legend = figure.legend(loc="outside lower center", ncols=3)
    theme.png(figure)
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_grid_lines_follow_the_request():
    for grid, shown in (("y", (False, True)), ("x", (True, False)), ("none", (False, False))):
        _, axes = theme.new_figure(grid=grid)
        assert tuple(axis.get_gridlines()[0].get_visible() for axis in (axes.xaxis, axes.yaxis)) == shown


# Machado, Oliveira and Fernandes (2009), IEEE Trans. Vis. Comput. Graph. 15(6): severity 1.0, linear RGB.
BLINDNESS = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(linear):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = np.cbrt(np.clip(xyz / [0.9505, 1.0, 1.089], 1e-4, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colours_stay_apart_in_colour_blindness(kind):
    rgb = np.array([matplotlib.colors.to_rgb(colour) for colour in theme.PALETTE])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = [lab(np.clip(np.array(BLINDNESS[kind]) @ colour, 0, 1)) for colour in linear]
    apart = {
        (theme.PALETTE[i], theme.PALETTE[j]): float(np.linalg.norm(seen[i] - seen[j]))
        for i in range(len(seen))
        for j in range(i)
    }
    assert min(apart.values()) > 16, min(apart.items(), key=lambda pair: pair[1])
