"""Figures of targeting say what their frames hold and stay inside the picture."""

import numpy as np
import pandas as pd
import pytest

from analysis.campaigns import targeting_figures as figures
from analysis.campaigns.gains import gains_table
from analysis.campaigns.policy import NOBODY, compare_policies
from analysis.campaigns.targeting import profit_curve
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

FMT = Formatter("en", "CNY")


def title(figure):
    return figure.axes[0].get_title(loc="left")


def scores(seed=1, n=3000):
    rng = np.random.default_rng(seed)
    effect = rng.choice([4.0, -3.0], n)
    return effect[:, None], effect[:, None] + rng.normal(0, 5, (n, 1))


@pytest.mark.parametrize(("shift", "says"), [(0, "Most profit measured"), (-10, "At no budget")])
def test_profit_by_budget_says_whether_it_pays(shift, says):
    effect, gains = scores()
    curve = profit_curve(effect, np.ones_like(effect), gains + shift)
    figure = figures.profit_by_budget(curve, FMT, 500)
    assert title(figure).startswith(says)
    assert theme.png(figure)[:4] == b"\x89PNG"


def test_profit_by_budget_without_anybody_who_pays():
    curve = profit_curve(-np.ones((9, 1)), np.ones((9, 1)), np.ones((9, 1)))
    assert "At no budget" in title(figures.profit_by_budget(curve, FMT))
    assert title(figures.profit_by_budget(curve, FMT, advised=False)).startswith("Chosen one by one: at no budget")


@pytest.mark.parametrize(
    ("shift", "says"),
    [(0, "customer by customer"), (10, "Treat all alike: By post"), (-30, "leave them alone")],
)
def test_policies_say_what_to_do(shift, says):
    effect, gains = scores()
    found = compare_policies(gains + shift, np.where(effect[:, 0] > 0, 0, NOBODY), 1.0, ["mail"])
    figure = figures.policy_dots(found, {"all: mail": "By post", "policy": "Chosen"}, FMT)
    assert says in title(figure)
    assert {"By post", "Chosen", "nobody"} == {t.get_text() for t in figure.axes[0].get_yticklabels()}


def test_gains_speak_of_responses():
    rng = np.random.default_rng(2)
    p = rng.beta(1, 4, 5000)
    y = rng.random(5000) < p
    table = gains_table(p, y)
    chart = figures.gains_chart(table, FMT)
    assert "caused or not" in title(chart)
    assert "not effects" in chart.axes[0].get_ylabel()
    assert "does not clearly" in title(figures.gains_chart(gains_table(np.full(5000, 0.2), y), FMT))


def test_coupon_profit_names_those_that_pay_or_lose():
    frame = pd.DataFrame({"arm": ["a", "b"], "given": [1.0, 5.0], "profit": [2.0, -3.0]})
    frame = frame.assign(low=frame["profit"] - 1, high=frame["profit"] + 1)
    assert title(figures.coupon_profit(frame, {"a": "Five"}, FMT)).endswith("pays: Five")
    assert title(figures.coupon_profit(frame.iloc[1:], {}, FMT)).endswith("lose money: b")
    assert "clearly" in title(figures.coupon_profit(frame.assign(low=-9, high=9), {}, FMT))


@pytest.mark.parametrize(("last", "says"), [(6.0, "The gain lasts"), (1.0, "nothing is sure")])
def test_weeks_say_whether_the_gain_lasts(last, says):
    added = np.array([4.0, 8.0, last])
    frame = pd.DataFrame({"week": [1, 2, 3], "effect": np.diff(added, prepend=0), "cumulative": added})
    for name in ("effect", "cumulative"):
        prefix = "" if name == "effect" else "cumulative_"
        frame[f"{prefix}low"], frame[f"{prefix}high"] = frame[name] - 2, frame[name] + 2
    assert says in title(figures.effect_by_week(frame, 2, FMT))
    flat = frame.assign(cumulative_low=-1)
    assert "did not clearly rise" in title(figures.effect_by_week(flat, 2, FMT))
