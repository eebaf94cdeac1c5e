"""Win-back: returns and second lives counted from history, money as defined, clear words where there is none."""

import datetime as dt
from dataclasses import replace

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis.reporting.numbers import Formatter
from analysis.valuation.summary import customer_summary, to_frame
from analysis.valuation.validation_figures import winback_returns
from analysis.valuation.winback import ONE_TIME, REPEAT, return_history, win_back

START = dt.date(2022, 1, 1)


def as_lines(rows):
    """Rows of (customer, day, amount) as order lines."""
    frame = pd.DataFrame(rows, columns=["customer_id", "day", "net_amount"])
    frame = frame.assign(
        order_date=[START + dt.timedelta(days=int(day)) for day in frame.pop("day")],
        order_id=np.arange(len(frame)).astype(str),
        is_return=frame["net_amount"] < 0,
    )
    lines = ibis.memtable(frame)
    return lines.mutate(net_amount=lines.net_amount.cast("decimal(18, 4)"))


def day(number):
    return START + dt.timedelta(days=number)


def make_rows(customers, seed, back=0.3, worth=3):
    """Everybody buys twice, falls silent for 20 weeks, and a known share comes back for `worth` purchases of 10 each."""
    rng = np.random.default_rng(seed)
    rows, returned = [], 0
    for i in range(customers):
        name, start = f"{i:05d}", int(rng.integers(0, 40))
        rows += [(name, start, 20.0), (name, start + 10, 20.0)]
        if rng.random() < back:
            returned += 1
            first = start + 10 + 140 + int(rng.integers(0, 30))
            rows += [(name, first + 7 * k, 10.0) for k in range(worth)]
    return rows, returned


@pytest.fixture(scope="module")
def setting():
    rows, returned = make_rows(800, 1)
    lines = as_lines(rows)
    end = day(364)
    # seen from day 140, everybody has been silent for 12 weeks or more
    history = return_history(lines, START, end, lapse_weeks=12, horizon_weeks=32, life_weeks=16)
    return rows, returned, lines, end, history


def test_returns_are_counted(setting):
    _, returned, _, _, history = setting
    table = history.returns
    assert table["customers"].sum() == 800 and table["returned"].sum() == returned
    assert (table["kind"] == REPEAT).all()
    assert ((table["low"] < table["probability"]) & (table["probability"] < table["high"])).all()
    assert len(history.edges) > 1 and history.edges[0] == 12


def test_a_second_life_is_what_came_after_the_return(setting):
    _, _, lines, end, history = setting
    # three purchases of 10, where an occasion used to be worth 20
    assert history.second_value["worth"].to_numpy() == pytest.approx(1.5)
    assert history.second_value["spend"].to_numpy() == pytest.approx(30.0)
    discounted = return_history(lines, START, end, lapse_weeks=12, horizon_weeks=32, life_weeks=16, discount=0.1)
    expected = 10.0 * (1 + np.exp(-0.1) + np.exp(-0.2)) / 20.0
    assert discounted.second_value["worth"].to_numpy() == pytest.approx(expected)


def test_returns_too_late_to_be_followed_do_not_look_poor():
    rows = [(f"{i:03d}", d, 10.0) for i in range(40) for d in (0, 100, 107, 114)]
    late = [(f"{i:03d}x", d, 10.0) for i in range(40) for d in (0, 190)]
    found = return_history(as_lines(rows + late), START, day(200), lapse_weeks=8, horizon_weeks=10)
    assert found.second_value["worth"].to_numpy() == pytest.approx(3.0)


def test_the_value_of_winning_back_is_its_definition(setting):
    _, _, lines, end, history = setting
    summary = to_frame(customer_summary(lines, end, 1.0))
    found = win_back(summary, history, margin=0.5, incentive=2.0, contact_cost=0.25, rise=0.5)
    frame = found.frame
    p, v = frame["probability"].to_numpy(), frame["second_value"].to_numpy()
    assert found.customers == (summary["recency_days"] >= 84).sum() == len(frame)
    assert frame["expected_value"].to_numpy() == pytest.approx(p * (v - 2.0) - 0.25)
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1)) and frame["gain"].is_monotonic_decreasing
    for name, count, total in (
        ("expected_value", found.worth_it, found.expected_value),
        ("gain", found.pays, found.gain),
    ):
        assert (frame[f"{name}_low"] < frame[name]).all() and (frame[name] < frame[f"{name}_high"]).all()
        worth_it = frame.loc[frame[name] > 0, name]
        assert count == len(worth_it) and total.value == pytest.approx(worth_it.sum())
        assert total.low < total.value < total.high
    assert "customer_id" not in found.groups and found.groups["customers"].min() >= 10
    assert not [name for name in frame if name.endswith("_error")]


def test_those_who_come_anyway_are_not_a_gain(setting):
    """An offer gains by those whom it brings in addition, and is paid for everybody who comes."""
    _, _, lines, end, history = setting
    summary = to_frame(customer_summary(lines, end, 1.0))
    none = win_back(summary, history, incentive=2.0, contact_cost=0.25, rise=0.0)
    assert none.frame["gain"].to_numpy() == pytest.approx(-none.frame["probability"].to_numpy() * 2.0 - 0.25)
    assert none.pays == 0 and none.gain.value == 0.0 and none.gain.reason
    some = win_back(summary, history, incentive=2.0, contact_cost=0.25, rise=0.5).frame
    p, v, u, most, gain = (
        some[["probability", "second_value", "break_even_rise", "most_incentive", "gain"]].to_numpy().T
    )
    assert gain == pytest.approx(0.5 * p * v - 1.5 * p * 2.0 - 0.25)
    # at the largest incentive nothing is left
    assert 1.5 * p * most == pytest.approx(0.5 * p * v - 0.25)
    # at the break-even rise the offer is worth nothing
    assert p * (1 + u) * (v - 2.0) - p * v == pytest.approx(np.full(len(some), 0.25))
    dear = win_back(summary, history, incentive=1e6)
    assert np.isinf(dear.frame["break_even_rise"]).all() and dear.worth_it == dear.pays == 0
    assert dear.expected_value.reason == "no lapsed customer is worth the offer"


def test_a_higher_rise_pays_for_more_and_nobody_returns_more_surely_than_sure(setting):
    _, _, lines, end, history = setting
    summary = to_frame(customer_summary(lines, end, 1.0))
    found = [win_back(summary, history, contact_cost=1.5, rise=rise) for rise in (0.1, 0.2, 0.4)]
    assert found[0].pays < found[2].pays and found[0].gain.value < found[1].gain.value < found[2].gain.value
    assert len({one.expected_value for one in found}) == 1 and found[2].gain.value < found[2].expected_value.value
    most = win_back(summary, history, contact_cost=1.5, rise=1e6).frame
    p, v = most["probability"].to_numpy(), most["second_value"].to_numpy()
    assert most["gain"].to_numpy() == pytest.approx((1 - p) * v - 1.5)


def test_the_range_of_the_gain_is_that_of_chances_and_worths_by_hand(setting):
    """Chances err by group, worths by band: so do the totals, in full within each and in squares across."""
    _, _, lines, end, history = setting
    summary = to_frame(customer_summary(lines, end, 1.0))
    worth = history.second_value.assign(
        low=history.second_value["worth"] - 0.3, high=history.second_value["worth"] + 0.3
    )
    history = replace(history, second_value=worth)
    found = win_back(summary, history, rise=0.2)
    each = found.frame["second_value"] / 1.5
    half_p = (found.frame["probability_high"] - found.frame["probability_low"]) / 2 * 0.2 * found.frame["second_value"]
    half_worth = 0.3 * each * 0.2 * found.frame["probability"]
    squares = sum((half**2).sum() for half in (h.groupby(found.frame["silence"]).sum() for h in (half_p, half_worth)))
    assert found.gain.high - found.gain.value == pytest.approx(np.sqrt(squares))


def test_expected_spend_may_come_from_a_model(setting):
    _, _, lines, end, history = setting
    summary = to_frame(customer_summary(lines, end, 1.0))
    each = pd.Series(np.linspace(5, 50, len(summary)), index=summary["customer_id"])
    frame = win_back(summary, history, expected_spend=each).frame
    assert frame["second_value"].to_numpy() == pytest.approx(1.5 * each[frame["customer_id"]].to_numpy())
    with pytest.raises(ValueError, match="has no expected spend"):
        win_back(summary, history, expected_spend=each.iloc[:5])


def test_one_time_buyers_are_a_group_of_their_own():
    rows, _ = make_rows(200, 2)
    rows += [(f"once{i}", 5, 20.0) for i in range(200)]
    history = return_history(as_lines(rows), START, day(364), lapse_weeks=12, horizon_weeks=32, life_weeks=16)
    chance = history.returns.groupby("kind")[["returned", "customers"]].sum()
    assert chance.loc[ONE_TIME, "returned"] == 0 and chance.loc[REPEAT, "returned"] > 40
    assert history.returns.loc[history.returns["kind"] == ONE_TIME, "high"].max() < 0.05
    title = winback_returns(win_back(_summary(rows), history), Formatter("en", "USD")).axes[0].get_title(loc="left")
    assert "came back within 32 weeks" in title


def _summary(rows):
    return to_frame(customer_summary(as_lines(rows), day(364), 1.0))


def test_intervals_of_the_probability_hold():
    """The share that returns, by band in repeated histories: inside the 95 % interval but for four Monte-Carlo errors."""
    held = []
    for seed in range(10):
        rows, _ = make_rows(240, 100 + seed)
        found = return_history(as_lines(rows), START, day(364), lapse_weeks=12, horizon_weeks=32, life_weeks=16).returns
        held += ((found["low"] <= 0.3) & (found["high"] >= 0.3)).tolist()
    assert len(held) >= 30 and np.mean(held) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / len(held))


def test_too_little_history_is_one_sentence(setting):
    rows, _, lines, end, history = setting
    with pytest.raises(ValueError, match="do not hold 40 weeks of silence"):
        return_history(lines, START, end, lapse_weeks=40, horizon_weeks=32, life_weeks=16)
    with pytest.raises(ValueError, match="0 customers had lapsed"):
        return_history(lines, START, day(92), lapse_weeks=12, horizon_weeks=1)
    silent = [row for row in rows if row[1] < 60]
    with pytest.raises(ValueError, match="0 customers came back"):
        return_history(as_lines(silent), START, end, lapse_weeks=12, horizon_weeks=32, life_weeks=16)
    summary = to_frame(customer_summary(lines, end, 1.0))
    with pytest.raises(ValueError, match="not negative"):
        win_back(summary, history, incentive=-1.0)
    with pytest.raises(ValueError, match="not negative"):
        win_back(summary, history, rise=-0.1)
    with pytest.raises(ValueError, match="nobody has been silent"):
        win_back(summary.assign(recency_days=1.0), history)


def test_a_customer_of_negative_spend_is_worth_nothing(setting):
    *_, lines, end, history = setting
    summary = to_frame(customer_summary(lines, end, 1.0))
    summary.loc[0, "spend"] = -500.0
    frame = win_back(summary, history).frame.set_index("customer_id")
    worth = frame.loc[summary["customer_id"].iloc[0], ["second_value", "gain", "expected_value", "most_incentive"]]
    assert (worth == 0).all()
