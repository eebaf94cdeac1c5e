"""Moves between stages: nothing from later days is seen, counts and times in closed form, coverage, small cells, what came next."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from analysis.segmentation.transitions import next_period, past_dates, stages_at, transition_matrix
from analysis.valuation.summary import customer_summary, to_frame
from tests.segmentation.people import TO, order_lines

FROM = TO - timedelta(days=729)
LIVING = ("exploration", "formation", "stability", "decline")


def leaving(n, rng):
    """Customers who come over two years, buy at their own steady rate and leave for good: rows and the day (ago) they left."""
    arrival = rng.uniform(100, 729, n)
    rate, life = rng.gamma(1.5, 1 / 40, n), rng.exponential(1 / rng.gamma(1.2, 1 / 300, n))
    rows, left = [], arrival - life
    for i in range(n):
        rows.append((f"c{i:05d}", int(arrival[i]), 10))
        span = min(life[i], arrival[i])
        rows += [(f"c{i:05d}", int(arrival[i] - at), 10) for at in rng.uniform(0, span, rng.poisson(rate[i] * span))]
    return rows, left


def frames(*stages):
    return [
        pd.DataFrame({"customer_id": [f"c{i}" for i in range(len(s))], "life_stage": pd.array(s, dtype="str")})
        for s in stages
    ]


def test_stages_of_a_day_know_nothing_of_later_days():
    rows, _ = leaving(150, np.random.default_rng(1))
    day = TO - timedelta(days=182)
    then = stages_at(order_lines([r for r in rows if r[1] >= 182]), FROM, day)
    now = stages_at(order_lines(rows), FROM, day)
    pd.testing.assert_frame_equal(then.found.customers, now.found.customers)
    assert set(now.found.customers["customer_id"]) == {c for c, ago, _ in rows if ago >= 182}


def test_the_history_is_that_of_the_customer_summary():
    rows, _ = leaving(80, np.random.default_rng(2))
    lines, day = order_lines(rows), TO - timedelta(days=91)
    found = stages_at(lines, FROM, day).history
    expected = to_frame(customer_summary(lines, day))
    for column in ("customer_id", "frequency", "recency", "T", "recency_days"):
        assert found[column].tolist() == expected[column].tolist()


def test_the_ended_have_truly_left_more_often_than_the_stable():
    rows, left = leaving(600, np.random.default_rng(3))
    found = stages_at(order_lines(rows), FROM, TO)
    assert found.alive_model is not None
    frame = found.found.customers
    gone = left[frame["customer_id"].str[1:].astype(int)] > 0
    ended = (frame["life_stage"] == "ended").to_numpy()
    assert gone[ended].mean() > 0.85
    assert gone[(frame["life_stage"] == "stability").to_numpy()].mean() < 0.3
    # The chances are right on average, up to chance and the fit.
    assert frame["ended"].mean() == pytest.approx(gone.mean(), abs=0.07)


def test_a_left_truncated_base_goes_by_silence():
    rows, _ = leaving(60, np.random.default_rng(4))
    found = stages_at(order_lines(rows), FROM, TO, left_truncated=True)
    assert (found.alive_model, found.reason, found.found.ended_from) == (None, "left_truncated", "silence")
    assert not found.found.customers["life_stage"].isin(["exploration", "formation"]).any()
    with pytest.raises(ValueError, match="nobody had bought"):
        stages_at(order_lines(rows), FROM, FROM - timedelta(days=1))


def test_moves_are_counted_by_customer_and_newcomers_apart():
    before, now = frames(
        ["stability", "stability", "decline", None], ["stability", "ended", "ended", "stability", "exploration"]
    )
    found = transition_matrix([before, now])
    assert found.counts.loc["stability"].to_dict() == {
        "exploration": 0, "stability": 1, "decline": 0, "ended": 1, "not_identified": 0,
    }  # fmt: skip
    assert found.counts.loc["not_identified", "stability"] == 1
    assert found.joined["exploration"] == 1 and found.joined.sum() == 1
    assert found.counts.to_numpy().sum() == 4
    assert found.probabilities.loc["stability", "ended"] == 0.5
    assert found.probabilities.loc["ended"].isna().all()
    assert transition_matrix([before, now, now]).counts.to_numpy().sum() == 4 + 5
    with pytest.raises(ValueError, match="two dates"):
        transition_matrix([before])
    with pytest.raises(ValueError, match="duplicate"):
        transition_matrix([pd.concat([before, before]), now])


def test_times_are_those_of_the_fundamental_matrix():
    moves = {("stability", "stability"): 80, ("stability", "decline"): 20}
    moves |= {("decline", "stability"): 30, ("decline", "decline"): 50, ("decline", "ended"): 20}
    moves |= {("ended", "ended"): 90, ("ended", "stability"): 10}
    pairs = [pair for pair, n in moves.items() for _ in range(n)]
    found = transition_matrix(frames([a for a, _ in pairs], [b for _, b in pairs]))
    end = found.until_ended().set_index("life_stage")
    # From decline d = 1 + 0.3 s + 0.5 d and from stability s = 1 + 0.8 s + 0.2 d.
    assert end.loc["decline", "periods"] == pytest.approx(12.5)
    assert end.loc["stability", "periods"] == pytest.approx(17.5)
    assert end.loc["decline", "low"] < 12.5 < end.loc["decline", "high"]
    stay = found.stay().set_index("life_stage")
    assert stay.loc["stability", "periods"] == pytest.approx(5.0)
    assert stay.loc["stability", "low"] < 5.0 < stay.loc["stability", "high"]
    assert found.came_back.value == pytest.approx(0.1)
    assert 0 < found.came_back.low < 0.1 < found.came_back.high


def test_where_no_path_leads_to_the_end_no_time_is_invented():
    found = transition_matrix(frames(["stability"] * 30 + ["ended"] * 2, ["stability"] * 30 + ["ended"] * 2))
    assert found.until_ended()["periods"].isna().all() and found.until_ended()["low"].isna().all()
    assert np.isinf(found.stay().set_index("life_stage").loc["stability", "periods"])
    one = transition_matrix(frames(["exploration"], ["exploration"]))
    assert one.until_ended()["periods"].isna().all()
    assert np.isnan(one.came_back.value) and one.came_back.reason


def test_intervals_of_the_time_until_the_end_hold_it():
    rng, runs, held = np.random.default_rng(5), 200, []
    moves = np.array([[0.8, 0.15, 0.05], [0.3, 0.5, 0.2], [0.1, 0.0, 0.9]])
    names = np.array(["stability", "decline", "ended"])
    truth = np.linalg.solve(np.eye(2) - moves[:2, :2], np.ones(2))
    for _ in range(runs):
        before = np.repeat([0, 1, 2], [150, 100, 50])
        after = (rng.random(300)[:, None] > np.cumsum(moves, axis=1)[before][:, :-1]).sum(axis=1)
        table = transition_matrix(frames(names[before], names[after])).until_ended(draws=200)
        held.append((table["low"] <= truth) & (truth <= table["high"]))
    covered = np.mean(held, axis=0)
    assert (np.abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / runs)).all(), covered


def test_small_cells_are_hidden_with_one_more():
    before = ["stability"] * 100
    found = transition_matrix(frames(before, ["stability"] * 70 + ["decline"] * 27 + ["ended"] * 3))
    table = found.table(10).set_index(["before", "after"])
    assert np.isnan(table.loc[("stability", "ended"), "share"])
    # One hidden cell alone would follow from the total.
    assert np.isnan(table.loc[("stability", "decline"), ["customers", "share", "low", "high"]].astype(float)).all()
    assert table.loc[("stability", "stability"), "share"] == pytest.approx(0.7)


def test_what_came_next_is_counted_after_the_day_alone():
    lines = order_lines(
        [("a", 40, 10), ("a", 30, 7), ("a", 5, 5), ("b", 60, 4), ("b", 20, -4), ("c", 10, 6), ("d", 8, 9)]
    )
    stages = pd.DataFrame({"customer_id": ["a", "b", "c"], "life_stage": ["stability", "stability", None]})
    found = next_period(lines, stages, TO - timedelta(days=30), TO - timedelta(days=6)).set_index("life_stage")
    assert found.loc["stability", ["customers", "buyers"]].tolist() == [2, 0]
    assert found.loc["stability", "spend"] == -2.0
    assert found.loc["not_identified", "buying"] == 1.0
    assert np.isnan(found.loc["not_identified", "spend_low"])
    later = next_period(lines, stages, TO - timedelta(days=30), TO).set_index("life_stage")
    assert later.loc["stability", "buyers"] == 1
    assert 0 < later.loc["stability", "buying_low"] < 0.5 < later.loc["stability", "buying_high"]
    with pytest.raises(ValueError, match="not after"):
        next_period(lines, stages, TO, TO)


def test_dates_leave_two_periods_of_data_before_the_first():
    assert past_dates(FROM, TO, 182) == [TO - timedelta(days=364), TO - timedelta(days=182), TO]
    assert len(past_dates(FROM, TO, 91)) == 4
    with pytest.raises(ValueError, match="three periods"):
        past_dates(FROM, TO, 300)
