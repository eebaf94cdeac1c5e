"""Figures of experiments are drawn, show every row they are given, and mark what failed."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.ticker import PercentFormatter

from analysis.campaigns import experiment_figures as figures
from analysis.campaigns.experiment import Experiment, Mean, Share
from analysis.campaigns.sequential import sequential_looks
from analysis.reporting import theme


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(2)
    n = 2500
    arm = rng.choice(["control", "mail", "sms"], n)
    spend = rng.gamma(1, 20, n) + 8 * (arm == "mail")
    return pd.DataFrame(
        {"customer_id": np.arange(n), "arm": arm, "spend": spend, "bought": spend > 15, "before": rng.gamma(1, 20, n)}
    )


def labels(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def drawn(figure):
    assert theme.png(figure)[:4] == b"\x89PNG"
    return figure.axes[0]


def test_effects_are_grey_where_they_may_be_chance(frame):
    results = Experiment({"Spend": Mean("spend"), "Bought": Share("bought")}).analyse(frame)
    ax = drawn(figures.effects_by_arm(results.table, "Said", "Change", PercentFormatter(1)))
    assert labels(ax)[:2] == ["Spend, mail", "Spend, sms"]
    points = [to_hex(line.get_color()) for line in ax.lines if line.get_marker() == "o"]
    expected = [figures.EFFECT if p < 0.05 else figures.DOUBT for p in results.table["p_holm"]]
    assert points == [c.lower() for c in expected] and len(set(points)) == 2


def test_looks_are_drawn(frame):
    two = frame[frame["arm"] != "sms"]
    steps = two["spend"].to_numpy()[:, None] * np.arange(1, 5) / 4
    table = sequential_looks(steps, two["arm"] == "mail")
    ax = drawn(figures.looks(table, "Said", "EUR", "Week", ("Valid at every look", "Usual")))
    assert ax.lines[-1].get_ydata().tolist() == table["effect"].tolist()


def test_ledger_leaves_sales_out():
    summary = pd.DataFrame(
        [("sales", 9e5, 1e5, 2e6), ("profit", 5e4, -2e4, 1e5), ("claimed", 7e4, 5e4, 9e4), ("gap", 2e4, -5e4, 9e4)],
        columns=["row", "value", "low", "high"],
    )
    ax = drawn(
        figures.ledger_rows(summary, {"profit": "By the holdout", "claimed": "Claimed", "gap": "Gap"}, "Said", "EUR")
    )
    assert labels(ax) == ["By the holdout", "Claimed", "Gap"]
