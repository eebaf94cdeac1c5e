"""Figures stay readable: every row labelled, no text smaller than 12, nothing beyond the picture."""

import numpy as np
import pandas as pd
import pytest

from analysis.campaigns import observational_figures as figures
from analysis.campaigns.pressure import sharing_most
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

FMT = Formatter("en", "USD")
TITLE = "A title that states the finding of this figure in a sentence of some length, as findings are"


def rates(**groups):
    rng = np.random.default_rng(1)
    n = len(next(iter(groups.values())))
    rate = rng.uniform(0.05, 0.9, n)
    limits = {"rate": rate, "low": rate * 0.9, "high": np.minimum(rate * 1.1, 1)}
    return pd.DataFrame(groups | {"sent": 1_000, "known": 900, "count": 100} | limits)


def event_table(top=0.4):
    x = np.arange(-12, 8)
    middle = np.linspace(-0.1, 0.2, 20)
    limits = {"low": middle - 0.2, "high": middle + top, "band_low": middle - 0.4, "band_high": middle + 2 * top}
    return pd.DataFrame({"period": x, "weeks": x + 0.5, "estimate": middle} | limits)


METHODS = pd.DataFrame(
    {
        "method": ["naive", "did", "did_ratio", "did_weighted", "doubly_robust"],
        "estimate": [30, 7, 3, 9, 8],
        "low": [20, -2, -7, -3, -4],
        "high": [42, 16, 13, 22, 20],
    }
)
ARMS = pd.DataFrame(
    {
        "arm": ["control", "monthly", "weekly"],
        "messages": [0, 2, 8],
        "profit": [0, 4.5, -0.3],
        "profit_low": [0, 0.2, -4],
        "profit_high": [0, 8.8, 3.5],
        "unsubscribed": [np.nan, 0.014, 0.077],
        "unsubscribed_low": [np.nan, 0.009, 0.065],
        "unsubscribed_high": [np.nan, 0.02, 0.09],
    }
)
SHARED = pd.DataFrame(
    [(a, b, 10, 0.3, True) for a in "wxyz" for b in "wxyz" if a != b],
    columns=["campaign_id", "other", "customers", "share", "together"],
)
STAGES = ["delivered", "opened", "unsubscribed"]
DRAWN = {
    "event": lambda: figures.event_study_plot(event_table(), 4, TITLE, FMT),
    "wild": lambda: figures.event_study_plot(event_table(40.0), 8, TITLE, FMT),
    "methods": lambda: figures.methods_plot(METHODS, TITLE, FMT, truth=4.0),
    "funnels": lambda: figures.channel_funnels(
        rates(channel=["email"] * 3 + ["post"], stage=[*STAGES, "opened"]), TITLE, FMT
    ),
    "time": lambda: figures.rates_over_time(
        rates(channel=list("ababab"), stage=["opened"] * 6, month=pd.date_range("2024-01-01", periods=6, freq="MS")),
        "opened",
        TITLE,
        FMT,
    ),
    "pressure": lambda: figures.pressure_plot(
        rates(earlier=[0, 1, 2], stage=["unsubscribed"] * 3), "unsubscribed", TITLE, 90, FMT
    ),
    "frequency": lambda: figures.frequency_plot(ARMS, 2, TITLE, FMT),
    "shared": lambda: figures.shared_plot(sharing_most(SHARED), {"w": "A campaign with a very long name"}, TITLE, FMT),
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_are_readable(name):
    from matplotlib.text import Text

    figure = DRAWN[name]()
    assert figure.get_size_inches()[0] == pytest.approx(6.4)
    assert theme.png(figure).startswith(b"\x89PNG")
    assert all(t.get_fontsize() >= 12 for t in figure.findobj(Text) if t.get_text().strip())
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.02
    assert drawn.x1 <= width + 0.02
    assert drawn.y1 <= height + 0.02


def test_an_axis_that_a_single_week_would_stretch_is_cut():
    assert figures.event_study_plot(event_table(40.0), 4, TITLE, FMT).axes[0].get_ylim()[1] <= 2


def test_all_methods_and_the_truth_are_named():
    figure = figures.methods_plot(METHODS, TITLE, FMT, truth=4.0)
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert len(labels) == 5
    assert labels[-1].startswith("Naive")
    assert any(t.get_text() == "truth" for t in figure.axes[0].texts)
