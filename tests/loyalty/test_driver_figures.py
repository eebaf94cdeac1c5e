"""Figures of drivers: titles follow from the numbers, and nothing is cut off or too small for a phone."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from analysis import loyalty
from analysis.loyalty import driver_figures, figures
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

FORMAT = Formatter("en", "EUR")
SCALE = (1, 10)


@pytest.fixture(scope="module")
def asymmetry():
    rng = np.random.default_rng(1)
    scores = pd.DataFrame(100 * (rng.integers(1, 11, (1500, 3)) - 1) / 9, columns=["Fresh", "Fast", "Friendly"])
    target = -20 * (scores["Fresh"] <= 45) + 0.2 * scores["Fast"] + rng.normal(0, 10, 1500)
    return loyalty.penalty_reward(scores.assign(Loved=95.0), target)


@pytest.fixture(scope="module")
def drawn_figures(mobi, fitted, drawn, asymmetry):
    fit = loyalty.ordered_logit(fitted, mobi["CUSL1"], "Loyalty")
    importance = loyalty.relative_importance(fitted, drawn, "Satisfaction")
    items = loyalty.item_importance(fitted, drawn, SCALE, "Quality", "Satisfaction")
    return {
        "shares": driver_figures.importance_shares(importance, FORMAT),
        "items": driver_figures.item_priorities(items, FORMAT),
        "asymmetry": driver_figures.penalty_reward_bars(asymmetry, "Satisfaction", FORMAT),
        "odds": driver_figures.odds_ratio_dots(fit.odds_ratios(), fit.by_cut(), "Would stay", FORMAT),
    }


def test_every_figure_can_be_read_on_a_phone(drawn_figures):
    for name, figure in drawn_figures.items():
        assert theme.png(figure), name
        assert figure.get_size_inches()[0] == pytest.approx(6.4)
        texts = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
        assert min(text.get_fontsize() for text in texts) >= 12, name
        edge = figure.bbox
        inside = [text.get_window_extent() for ax in figure.axes for text in ax.texts]
        assert all(box.x0 >= edge.x0 - 1 and box.x1 <= edge.x1 + 1 for box in inside), name


def test_titles_say_what_the_numbers_say(drawn_figures):
    titles = {name: figure.axes[0].get_title(loc="left") for name, figure in drawn_figures.items()}
    assert titles["shares"].startswith("Quality accounts for 4") and "the order differs" in titles["shares"]
    assert "PERQ1" in titles["items"]
    assert titles["asymmetry"].startswith("“Fresh” costs more when bad than it earns when good; 1 of 3")
    assert titles["odds"].startswith("Satisfaction multiplies the odds")


def test_an_even_order_and_nothing_to_judge_have_titles_too(fitted, drawn, asymmetry):
    importance = loyalty.relative_importance(fitted, drawn, "Loyalty")
    figure = driver_figures.importance_shares(importance, FORMAT)
    assert "the same order" in figure.axes[0].get_title(loc="left")
    none = driver_figures.penalty_reward_bars(asymmetry[asymmetry["attribute"] == "Loved"], "Satisfaction", FORMAT)
    assert none.axes[0].get_title(loc="left").startswith("Too few customers")
    even = driver_figures.penalty_reward_bars(asymmetry[asymmetry["kind"] == "performance"], "Satisfaction", FORMAT)
    assert even.axes[0].get_title(loc="left").startswith("No question clearly")


def test_the_map_draws_both_intervals_of_a_driver_as_a_box(fitted, drawn):
    drivers = loyalty.loyalty_drivers(fitted, drawn, SCALE, targets=["Satisfaction"])
    (ax,) = figures.importance_performance(drivers, "Satisfaction", FORMAT).axes
    boxes = [patch for patch in ax.patches if isinstance(patch, Rectangle)]
    corners = sorted((box.get_x(), box.get_x() + box.get_width(), box.get_y() + box.get_height()) for box in boxes)
    limits = drivers[["points_low", "points_high", "performance_high"]].sort_values("points_low").to_numpy()
    np.testing.assert_allclose(corners, limits)
    assert ax.get_xlim()[0] < limits[:, 0].min() and ax.get_xlim()[1] > limits[:, 1].max()
