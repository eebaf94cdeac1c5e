"""Figures of the link: they draw, their titles say what the frame holds, and nothing leaves the picture."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import link_figures
from analysis.loyalty.link import Reliability, Shape, effect_row
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

FMT = Formatter("en", "CNY")


def effects(rate: float = 0.12) -> pd.DataFrame:
    outcomes = {"rate": rate, "hazard": -0.4, "bought_again": 0.2, "purchases": 0.1, "spend_per_purchase": 0.0}
    return pd.DataFrame(
        [effect_row(name, value, 0.04, 17.0, Reliability(0.85), 0.02) for name, value in outcomes.items()]
    )


def what_if(raised: float = 10.0) -> pd.DataFrame:
    rows = [("Satisfaction", 2e5), ("Quality", 1.2e5), ("Image", 0.5e5)]
    return pd.DataFrame(
        [
            {"driver": n, "raise": 10.0, "raised": raised, "money": m, "money_low": m / 2 - 4e4, "money_high": 1.6 * m}
            for n, m in rows
        ]
    )


def shape(bent: bool) -> Shape:
    x = np.linspace(30, 100, 20)
    return Shape(
        "purchases", 0.5, bent, pd.DataFrame({"score": x, "ratio": x / 70, "low": x / 80, "high": x / 60}), 17.0
    )


def sensitivity() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "outcome": ["bought_again", "purchases"],
            "robustness": [0.07, 0.12],
            "benchmark_treatment": [0.01, 0.02],
            "benchmark_outcome": [0.02, 0.03],
        }
    )


@pytest.mark.parametrize(
    ("figure", "title"),
    [
        (lambda: link_figures.link_dots(effects(), FMT), "buy 9% more often"),
        (lambda: link_figures.link_dots(effects(0.01), FMT), "not certain"),
        (lambda: link_figures.link_dots(effects(-0.2), FMT), "less often"),
        (lambda: link_figures.effect_curve(shape(False), FMT), "straight line"),
        (lambda: link_figures.effect_curve(shape(True), FMT), "bends"),
        (lambda: link_figures.what_if_bars(what_if(), FMT), "10 points more of quality"),
        (lambda: link_figures.what_if_bars(what_if(3.0), FMT), "quality"),
        (lambda: link_figures.sensitivity_dots(sensitivity(), FMT), "explain 12%"),
    ],
)
def test_figures_say_what_they_found(figure, title):
    drawn = figure()
    assert title in drawn.axes[0].get_title(loc="left")
    assert theme.png(drawn).startswith(b"\x89PNG")


def test_a_raise_that_the_scale_cuts_is_marked():
    labels = [t.get_text() for t in link_figures.what_if_bars(what_if(3.0), FMT).axes[0].get_yticklabels()]
    assert "Quality (+3)" in labels


def test_ticks_are_apart_and_hold_no_change():
    for low, high in ((0.66, 1.33), (0.98, 1.02), (0.3, 3.0), (1.02, 1.3)):
        ticks = link_figures._ratio_ticks(low, high)
        assert 1.0 in ticks and len(ticks) <= 7 and ticks == sorted(ticks)
