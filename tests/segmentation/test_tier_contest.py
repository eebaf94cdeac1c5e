"""The contest of the tiers: intervals that cover, no look ahead, ties said as ties, known winners found."""

import datetime as dt
from dataclasses import replace

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis import segmentation
from analysis.reporting.numbers import Formatter
from analysis.segmentation.tier_contest import capture, compare_tiers, mean_amount, mean_difference
from analysis.valuation import customer_value, evaluate_holdout, fit_models, recent_activity
from analysis.valuation.contest import contest_splits
from analysis.valuation.holdout import LAST_PERIOD, SAME_RATE, Ranking

START, DAYS, WEEKS = dt.date(2022, 1, 1), 420, 13
END = START + dt.timedelta(days=DAYS - 1)
CUT = END - dt.timedelta(weeks=WEEKS)
REPLICATIONS = 200
BOUND = 4 * np.sqrt(0.95 * 0.05 / REPLICATIONS)


@pytest.fixture(scope="module")
def words():
    return segmentation.Words(Formatter("en", "USD"), "households")


def as_lines(frame):
    frame = frame.assign(
        order_date=[START + dt.timedelta(days=int(day)) for day in frame["day"]],
        order_id=np.arange(len(frame)).astype(str),
        is_return=frame["net_amount"] < 0,
    ).drop(columns="day")
    lines = ibis.memtable(frame)
    return lines.mutate(**{c: lines[c].cast("decimal(18, 4)") for c in ("net_amount", "cost") if c in frame})


def make_orders(customers=400, seed=3, leave=0.003):
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(customers):
        start = int(rng.integers(0, DAYS // 2))
        rate, stay, mean = rng.gamma(1.2, 0.03), rng.exponential(1 / leave), 20.0 * rng.gamma(2.0, 0.5)
        gaps = np.cumsum(rng.exponential(1 / rate, 200))
        days = np.unique(np.r_[start, (start + gaps)[gaps < stay]].astype(int))
        rows += [(f"{i:04d}", int(day), round(mean * rng.gamma(4.0, 0.25) + 1, 2)) for day in days[days < DAYS]]
    return pd.DataFrame(rows, columns=["customer_id", "day", "net_amount"])


def settings(**more):
    return {"horizon_weeks": 52, "margin_rate": 0.3, "discount_rate": 0.1} | more


@pytest.fixture(scope="module")
def test():
    return segmentation.tier_test(as_lines(make_orders()), START, END, WEEKS, **settings())


def ranked(rfm, value, cut=True):
    if not cut:
        return pd.DataFrame({"rfm_product": rfm, "expected_value": value, "value_tier": "", "expected_tier": ""})
    tiers = {"value_tier": segmentation.assign_tiers(rfm)[0], "expected_tier": segmentation.expected_tiers(value)[0]}
    return pd.DataFrame({"rfm_product": rfm, "expected_value": value} | tiers)


# -- capture -----------------------------------------------------------------------------------------------------------------


def test_capture_is_the_share_of_the_best_ranked():
    amount = np.array([5.0, 1.0, 0.0, 3.0, 1.0, 0, 0, 0, 0, 0])
    assert capture(np.arange(10, 0, -1), amount).share == pytest.approx(0.6)
    assert capture(-np.arange(10, 0, -1), amount).share == 0.0
    assert capture(np.zeros(10), amount).share == pytest.approx(0.2)
    # one customer at 2, four at 1 share the other place
    assert capture([2, 1, 1, 1, 1, 0, 0, 0, 0, 0], amount).share == pytest.approx((5 + 5 / 4) / 10)
    assert capture([1.0], [7.0]).share == pytest.approx(0.2)


def test_capture_agrees_with_the_lift_of_the_valuation_room():
    rng = np.random.default_rng(1)
    for n in (7, 50, 333):
        score, amount = rng.integers(0, 6, n), rng.gamma(1.0, 1.0, n)
        assert capture(score, amount).share == pytest.approx(float(Ranking.of(score).captured(amount, 0.2)))


def test_influence_is_the_derivative_by_each_customers_weight():
    rng = np.random.default_rng(2)
    n = 300
    score, amount = rng.integers(0, 4, n), rng.gamma(1.0, 1.0, n)  # groups of 75, wider than the stretch around the cut
    found, ranking = capture(score, amount), Ranking.of(score)
    assert found.influence.sum() == pytest.approx(0.0, abs=1e-9)
    for i in range(0, n, 20):
        up, down = np.ones(n), np.ones(n)
        up[i], down[i] = 1 + 1e-5, 1 - 1e-5
        slope = (ranking.captured(amount, 0.2, up) - ranking.captured(amount, 0.2, down)) / 2e-5
        assert found.influence[i] / n == pytest.approx(float(slope), rel=1e-5, abs=1e-9)


def draw(rng, n, buying):
    """Margin of a period, a fine ranking with little noise, and a coarse one with many ties and more noise."""
    worth = rng.gamma(0.7, 1.0, n)
    amount = (rng.random(n) < -np.expm1(-buying * worth)) * rng.gamma(1.5, 1.0, n) * worth**0.3
    fine = worth * rng.lognormal(0.0, 0.4, n)
    coarse = np.digitize(worth * rng.lognormal(0.0, 0.8, n), [0.2, 0.5, 0.9, 1.5, 2.5])
    return amount, fine, coarse.astype(float)


@pytest.mark.parametrize(("buying", "n"), [(0.4, 500), (4.0, 700)])
def test_intervals_cover_the_truth_that_often_or_are_not_given(buying, n):
    """Where few buy, hardly anybody of the last fifth does, and no interval of that fifth could hold."""
    rng = np.random.default_rng(4)
    amount, fine, coarse = draw(rng, 200_000, buying)
    truth = {
        ("best", "value"): capture(fine, amount).share,
        ("best", "rfm"): capture(coarse, amount).share,
        ("last", "value"): capture(-fine, amount).share,
        ("last", "rfm"): capture(-coarse, amount).share,
    }
    apart = {part: truth[part, "value"] - truth[part, "rfm"] for part in ("best", "last")}
    covered = {name: [] for name in (*truth, *apart)}
    for _ in range(REPLICATIONS):
        amount, fine, coarse = draw(rng, n, buying)
        found = compare_tiers(ranked(coarse, fine, cut=False), amount)
        for row in found.captures.dropna().itertuples():
            covered[row.part, row.method].append(row.low <= truth[row.part, row.method] <= row.high)
        for part, value in apart.items():
            if found.difference[part].low is not None:
                covered[part].append(found.difference[part].low <= value <= found.difference[part].high)
    for name, inside in covered.items():
        if buying < 1 and name in ("last", ("last", "value")):
            assert not inside
        elif len(inside) > 0.9 * REPLICATIONS:
            assert abs(np.mean(inside) - 0.95) < BOUND, name
        else:
            assert buying < 1 and name == ("last", "rfm")


def test_equally_good_rankings_tie_nineteen_times_in_twenty():
    rng = np.random.default_rng(5)
    ties = 0
    for _ in range(REPLICATIONS):
        worth = rng.gamma(1.0, 1.0, 500)
        first, second = (worth * rng.lognormal(0.0, 0.5, 500) for _ in range(2))
        found = compare_tiers(ranked(first, second, cut=False), worth * rng.gamma(0.5, 2.0, 500))
        ties += found.winner == "tie"
    assert abs(ties / REPLICATIONS - 0.95) < BOUND


def test_the_better_ranking_wins_whichever_it_is_and_the_same_ranking_ties():
    rng = np.random.default_rng(6)
    worth = rng.gamma(1.0, 1.0, 3000)
    good, poor = worth * rng.lognormal(0.0, 0.2, 3000), worth * rng.lognormal(0.0, 1.5, 3000)
    amount = worth * rng.gamma(1.0, 1.0, 3000)
    for rfm, value, winner in ((poor, good, "value"), (good, poor, "rfm")):
        found = compare_tiers(ranked(rfm, value), amount)
        assert found.winner == winner
        sign = 1 if winner == "value" else -1
        assert sign * found.difference["best"].value > 0 > sign * found.difference["last"].value
        assert all(sign * dispute.low > 0 or sign * dispute.high > 0 for dispute in found.disputes.values())
    same = compare_tiers(ranked(good, good), amount)
    best = same.difference["best"]
    assert same.winner == "tie" and (best.value, best.low, best.high) == (0.0, 0.0, 0.0)
    assert np.isnan(same.disputes["protect"].value) and same.disputes["protect"].reason


def test_ties_everywhere_and_a_handful_of_customers_end_in_a_tie():
    amount = np.random.default_rng(7).gamma(1.0, 1.0, 60)
    found = compare_tiers(ranked(np.full(60, 27.0), np.full(60, 3.0)), amount)
    assert found.winner == "tie" and found.captures["share"].tolist() == pytest.approx([0.2] * 4)
    few = compare_tiers(ranked(np.arange(9.0), np.arange(9.0)[::-1]), amount[:9])
    assert few.winner == "tie" and few.difference["best"].low is None and few.captures["low"].isna().all()
    assert compare_tiers(ranked(np.ones(1), np.ones(1)), amount[:1]).customers == 1


def test_nothing_brought_or_nobody_ranked_is_one_clear_line():
    with pytest.raises(ValueError, match="brought nothing in the tested period"):
        compare_tiers(ranked(np.arange(40.0), np.arange(40.0)), np.zeros(40))
    with pytest.raises(ValueError, match="no rank"):
        capture([1.0, np.nan], [1.0, 1.0])


# -- the disputed ------------------------------------------------------------------------------------------------------------


def test_means_of_the_disputed_cover_the_truth():
    rng = np.random.default_rng(8)
    apart, alone = 0, 0
    for _ in range(REPLICATIONS):
        first = rng.gamma(1.0, 3.0, 150) * (rng.random(150) < 0.15)
        second = rng.gamma(1.0, 1.0, 140) * (rng.random(140) < 0.9)
        found, mean = mean_difference(first, second), mean_amount(first)
        apart += found.low <= 3.0 * 0.15 - 0.9 <= found.high
        alone += mean.low <= 3.0 * 0.15 <= mean.high
    assert abs(apart / REPLICATIONS - 0.95) < BOUND and abs(alone / REPLICATIONS - 0.95) < BOUND


def test_a_handful_has_a_reason_and_constants_have_no_width():
    assert "fewer than 30 customers" in mean_difference([1.0, 2.0], np.ones(50)).reason
    assert "fewer than 10 of them bought" in mean_difference(np.r_[np.ones(9), np.zeros(50)], np.ones(50)).reason
    alike = mean_difference(np.full(40, 2.0), np.full(50, 0.5))
    assert (alike.value, alike.low, alike.high) == (1.5, 1.5, 1.5)
    assert np.isnan(mean_difference([], [1.0]).value) and np.isnan(mean_amount([]).value)
    assert mean_amount(np.zeros(99)).reason and mean_amount(np.full(40, 2.0)).interval == pytest.approx((2, 2, 2))
    returned = mean_amount(np.r_[np.full(30, -5.0), np.full(30, 4.0)])
    assert returned.low < returned.value < returned.high and returned.low < 0


# -- both as of an earlier day -----------------------------------------------------------------------------------------------


def test_tiers_of_the_past_do_not_look_ahead():
    orders = make_orders(150, seed=11)
    changed = orders.copy()
    late = changed["day"] >= DAYS - 7 * WEEKS
    assert late.sum() > 60
    changed.loc[late, "net_amount"] = 1000.0 - changed.loc[late, "net_amount"]
    changed = changed[~(late & (changed.index % 3 == 0))]
    given = {"horizon_weeks": 52, "discount_rate": 0.1}
    first = segmentation.past_tiers(as_lines(orders), START, END, WEEKS, **given)
    second = segmentation.past_tiers(as_lines(changed), START, END, WEEKS, **given)
    pd.testing.assert_frame_equal(first.frame, second.frame)
    assert first.forecast == second.forecast and first.made_on == CUT
    again = segmentation.past_tiers(as_lines(orders), START, END, WEEKS, **given)
    pd.testing.assert_frame_equal(first.frame, again.frame)


def test_the_contest_counts_the_margin_that_came(test):
    orders = make_orders()
    known = orders.loc[orders["day"] < DAYS - 7 * WEEKS, "customer_id"].unique()
    later = orders[(orders["day"] >= DAYS - 7 * WEEKS) & orders["customer_id"].isin(known)]
    assert test.contest.customers == len(known) and test.measure == "margin"
    assert test.contest.total == pytest.approx(0.3 * later["net_amount"].sum())
    amount = (0.3 * later.groupby("customer_id")["net_amount"].sum()).reindex(test.past.frame["customer_id"]).fillna(0)
    best = test.contest.captures.query("part == 'best'").set_index("method")["share"]
    for method, column in (("rfm", "rfm_product"), ("value", "expected_value")):
        lift = Ranking.of(test.past.frame[column]).captured(amount.to_numpy(), 0.2)
        assert best[method] == pytest.approx(float(lift)) and best[method] > 0.4
    assert set(test.past.frame["value_tier"]) | set(test.past.frame["expected_tier"]) <= set(segmentation.tiers.TIERS)
    groups = test.contest.groups.set_index("group")
    protected = (test.past.frame["value_tier"] == "protect") & (test.past.frame["expected_tier"] == "protect")
    assert groups.loc["protect_both", "customers"] == protected.sum()
    assert groups.loc["protect_both", "mean"] == pytest.approx(amount.to_numpy()[protected].mean())


def test_margin_of_a_period_uses_costs_takes_off_returns_and_knows_when_it_cannot():
    orders = pd.DataFrame(
        {
            "customer_id": ["a", "a", "a", "b", "c"],
            "day": [0, 10, 20, 20, 30],
            "net_amount": [100.0, 50.0, -20.0, 40.0, 9.0],
            "cost": [60.0, 30.0, 12.0, np.nan, 1.0],
        }
    )
    lines = as_lines(orders)
    after, until = START, START + dt.timedelta(days=20)
    found = segmentation.period_margin(lines, after, until, 0.25).set_index("customer_id")
    assert found["sales"].to_dict() == {"a": 30.0, "b": 40.0}
    assert found["margin"].to_dict() == pytest.approx({"a": 20.0 - 8.0, "b": 10.0})
    assert segmentation.period_margin(lines, after, until).set_index("customer_id")["margin"].isna().to_dict() == {
        "a": False,
        "b": True,
    }


def test_without_a_margin_sales_are_counted_and_nobody_is_ranked_otherwise(test):
    found = segmentation.tier_test(as_lines(make_orders()), START, END, WEEKS, **settings(margin_rate=None))
    assert found.measure == "sales"
    assert found.contest.total == pytest.approx(test.contest.total / 0.3)
    pd.testing.assert_frame_equal(found.past.frame, test.past.frame)
    pd.testing.assert_frame_equal(found.contest.captures, test.contest.captures)


@pytest.mark.parametrize(
    ("entry", "forecast"),
    [
        ("first_purchase", None),
        ("first_purchase", LAST_PERIOD),
        ("left_truncated", LAST_PERIOD),
        ("left_truncated", SAME_RATE),
    ],
)
def test_value_of_the_past_is_what_the_valuation_notebook_would_have_said_then(monkeypatch, entry, forecast):
    """Whatever forecast is chosen; the two plain rules are made to win by deciding so in both places."""
    if forecast:
        for module in ("analysis.segmentation.tier_contest", "analysis.valuation.lifetime"):
            monkeypatch.setattr(f"{module}.choose_forecast", lambda *given: forecast)
    lines, weeks = as_lines(make_orders(120, seed=12)), WEEKS
    past = segmentation.past_tiers(lines, START, END, weeks, horizon_weeks=52, entry=entry, discount_rate=0.1)
    then = contest_splits(lines, START, END, weeks)
    cut = CUT - dt.timedelta(weeks=weeks)
    rehearsal = evaluate_holdout(then.earlier, (cut - START).days + 1, entry, replications=2)
    value = customer_value(
        then.later,
        fit_models(then.later),
        rehearsal,
        horizon_weeks=52,
        observed_from=START,
        observed_to=CUT,
        entry=entry,
        recent=recent_activity(lines, CUT, 7 * weeks),
        margin_rate=1.0,
        discount_rate=0.1,
        draws=8,
    )
    assert (past.forecast, past.forecast_kind) == (value.forecast, value.forecast_kind)
    ours, theirs = past.frame["expected_value"].to_numpy(), value.frame["residual_value"].to_numpy()
    factor = theirs.sum() / ours.sum()
    assert np.allclose(ours * factor, theirs, rtol=1e-6, atol=1e-6)
    assert factor == pytest.approx(1.0, abs=0.1)


def test_what_cannot_be_tested_has_a_reason():
    once = pd.DataFrame({"customer_id": [f"{i:03d}" for i in range(60)], "day": np.arange(60), "net_amount": 10.0})
    for orders, weeks, reason in (
        (once, WEEKS, "nobody has come back"),
        (once.head(1), WEEKS, "nobody has come back"),
        (make_orders(20), 40, "do not hold 40 weeks"),
        (once.assign(day=400), WEEKS, "nobody bought on or before"),
    ):
        found, why = segmentation.run_tier_test(as_lines(orders), START, END, weeks, **settings())
        assert found is None and reason in why
    early = make_orders(60).query("day < 300")
    found, why = segmentation.run_tier_test(as_lines(early), START, END, WEEKS, **settings())
    assert found is None and "brought nothing" in why


# -- what is told ------------------------------------------------------------------------------------------------------------


def test_findings_carry_the_numbers_of_the_contest(test, words):
    found = segmentation.tier_test_finding(test, 10, words)
    best = test.contest.difference["best"]
    assert (found["value"], found["low"], found["high"]) == (best.value, best.low, best.high)
    assert found["value"] == pytest.approx(found["value_share"] - found["rfm_share"])
    told = words("tier_contest", **found)
    assert ("tie" in told) == (test.contest.winner == "tie") and "13 weeks" in told
    assert "350" not in words("tier_contest_note", **segmentation.tier_test_facts(test))
    few = segmentation.tier_test_finding(test, 10_000, words)
    assert few["value"] is None and "Too few" in words("tier_contest", **few)


@pytest.mark.parametrize("tier", ["protect", "let_go"])
def test_dispute_findings_carry_the_means_of_both_sides(test, words, tier):
    groups = test.contest.groups.set_index("group")
    least = int(groups["customers"].min())
    found = segmentation.dispute_finding(test, tier, min(least, 1) or 1, words)
    sign = 1 if tier == "protect" else -1
    assert found["value"] == pytest.approx(sign * (found["value_mean"] - found["rfm_mean"]))
    assert words(f"{tier}_dispute", **found)
    hidden = segmentation.dispute_finding(test, tier, 10_000, words)
    assert hidden["value_mean"] is None and "on one side" in hidden["reason"]
    assert "Too few" in words(f"{tier}_dispute", **hidden)


def test_small_groups_are_left_out_of_the_table(test, words):
    table = segmentation.tier_test_table(test, 20, words)
    assert (table["customers"] >= 20).all() and "Both protect" in set(table["group"])
    assert segmentation.tier_test_table(test, 10_000, words).empty


def test_picture_says_the_finding_in_its_title(test, words):
    figure = segmentation.capture_figure(test, words)
    title = figure.axes[0].get_title(loc="left")
    said = segmentation.capture_facts(test)
    assert f"{said['value_share']:.0%}" in title and f"{said['rfm_share']:.0%}" in title
    assert title.startswith("A tie") == (test.contest.winner == "tie")
    thin = replace(test, contest=compare_tiers(test.past.frame.head(20), np.arange(20.0)))
    assert segmentation.capture_figure(thin, words).axes[0].get_title(loc="left").startswith("Too few bought")
    assert "Too few households bought" in words("tier_contest", **segmentation.tier_test_finding(thin, 10, words))
    assert "too few bought" in words("tier_contest_note", **segmentation.tier_test_facts(thin))
    assert words("capture.alt", **said) and words("capture.caption", **said)
