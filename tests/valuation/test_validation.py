"""The validation page: published tracking, calibration and coverage where the story is true, and what it says where not."""

import datetime as dt
from importlib.metadata import files

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis.reporting.numbers import Formatter
from analysis.simulate.clock import FUTURE_DAYS, OBSERVED_DAYS
from analysis.valuation import validation_figures
from analysis.valuation.holdout import LAST_PERIOD, SAME_RATE, Ranking, by_recency, evaluate_holdout
from analysis.valuation.summary import calibration_holdout
from analysis.valuation.validation import (
    ACTUAL,
    EVERYBODY,
    PERFECT,
    calibration,
    incremental,
    returning_groups,
    share_active,
    simulate_holdout,
    spend_forecasts,
    validate,
    weekly_purchases,
)
from benchmarks.coverage import Company, purchase_days, split

FMT = Formatter("en", "USD")
CUT, END = dt.date(1997, 9, 30), dt.date(1998, 6, 30)


def as_lines(frame):
    lines = ibis.memtable(frame)
    return lines.mutate(net_amount=lines.net_amount.cast("decimal(18, 4)"), order_date=lines.order_date.cast("date"))


@pytest.fixture(scope="module")
def cdnow():
    """The 1/10 sample; purchases of $0 are purchases in the papers, so a cent is added to each."""
    path = next(f for f in files("lifetimes") if str(f) == "lifetimes/datasets/CDNOW_sample.txt").locate()
    names = ["master", "customer_id", "day", "cds", "spend"]
    frame = pd.read_csv(path, sep=r"\s+", header=None, dtype={"day": str, "customer_id": str}, names=names)
    day = pd.to_datetime(frame["day"], format="%Y%m%d").dt.date
    return as_lines(
        pd.DataFrame({"customer_id": frame["customer_id"], "order_date": day, "net_amount": frame["spend"] + 0.01})
    )


@pytest.fixture(scope="module")
def weekly(cdnow):
    return weekly_purchases(cdnow, CUT, END)


@pytest.fixture(scope="module")
def holdout(cdnow):
    return evaluate_holdout(calibration_holdout(cdnow, CUT, END), 273, replications=50)


@pytest.fixture(scope="module")
def page(holdout, weekly):
    return validate(holdout, weekly, draws=160, replications=100)


def test_tracking_is_the_published_one(page):
    """Cumulative repeats at weeks 20, 25, 39 and 78: Fader, Hardie & Lee 2005a, figure 3, and Pareto/NBD beside it."""
    table = page.tracking.set_index(["source", "week"])["cumulative"]
    weeks = [20.0, 25.0, 39.0, 78.0]
    assert [table[ACTUAL, week] for week in weeks] == [1359, 1672, 2457, 4339]
    assert [table["Pareto/NBD", week] for week in weeks] == pytest.approx([1308.9, 1674.3, 2532.8, 4275.4], abs=0.051)
    assert [table["BG/NBD", week] for week in weeks] == pytest.approx([1312.5, 1669.6, 2501.5, 4165.7], abs=0.051)


def test_weeks_are_all_there_and_add_up(weekly, holdout, page):
    assert len(weekly) == 78 and weekly["ends_on"].diff().dropna().dt.days.eq(7).all()
    by_phase = weekly.groupby("phase")["purchases"].sum()
    assert by_phase["calibration"] == holdout.frame["frequency"].sum() == 2457
    assert by_phase["holdout"] == holdout.actual
    totals = holdout.scores.set_index("forecast")["total"]
    for name in (SAME_RATE, LAST_PERIOD):
        part = page.tracking[page.tracking["source"] == name]
        assert set(part["phase"]) == {"holdout"} and part["purchases"].sum() == pytest.approx(totals[name])
        assert part["cumulative"].iloc[-1] == pytest.approx(2457 + totals[name])


def test_what_is_foreseen_by_week_adds_up_to_the_forecast_of_the_holdout(holdout, weekly, page):
    totals = holdout.scores.set_index("forecast")["total"]
    foreseen = page.tracking.groupby("source")["foreseen"].sum()
    for name in (*holdout.models.purchases, SAME_RATE, LAST_PERIOD):
        assert foreseen[name] == pytest.approx(totals[name])
    assert page.tracking.loc[page.tracking["phase"] == "calibration", "foreseen"].isna().all()
    one = validate(holdout, weekly, names=["BG/NBD"], draws=16, replications=10).tracking
    assert set(one.loc[one["foreseen"].notna(), "source"]) == {"BG/NBD", SAME_RATE, LAST_PERIOD}


def test_weeks_end_on_the_cut_even_where_the_base_begins_in_the_middle_of_one():
    days = [dt.date(2024, 1, 3), dt.date(2024, 1, 20), dt.date(2024, 2, 10)]
    lines = as_lines(pd.DataFrame({"customer_id": "a", "order_date": days, "net_amount": 5.0}))
    weekly = weekly_purchases(lines, dt.date(2024, 1, 31), dt.date(2024, 2, 10))
    assert weekly["ends_on"].dt.day.tolist() == [3, 10, 17, 24, 31, 7, 10]
    assert weekly["purchases"].tolist() == [0, 0, 0, 1, 0, 0, 1]
    assert weekly["moment"].iloc[[0, -1]].tolist() == pytest.approx([1 / 7, 39 / 7])
    with pytest.raises(ValueError, match="nobody bought on or before"):
        weekly_purchases(lines, dt.date(2024, 1, 1), dt.date(2024, 2, 1))
    with pytest.raises(ValueError, match="is not before"):
        weekly_purchases(lines, dt.date(2024, 2, 1), dt.date(2024, 2, 1))


def test_other_splits_are_refused(holdout, cdnow):
    with pytest.raises(ValueError, match="do not share their calibration"):
        validate(holdout, weekly_purchases(cdnow, dt.date(1997, 8, 31), END))


def test_a_ranking_breaks_ties_evenly_and_knows_its_bounds():
    amount = np.array([10.0, 0.0, 0.0, 0.0])
    assert Ranking.of([1, 1, 1, 1]).captured(amount, [0.25, 0.5, 1.0]) == pytest.approx([0.25, 0.5, 1.0])
    assert Ranking.of([4, 3, 2, 1]).captured(amount, [0.25]) == pytest.approx([1.0])
    assert Ranking.of([1, 2, 3, 4]).captured(amount, [0.75]) == pytest.approx([0.0])
    assert Ranking.of([1, 5, 5]).ranks() == pytest.approx([2.5, 1.0, 1.0])
    # counted twice is the same as being there twice
    twice = Ranking.of([3, 3, 2, 1]).captured(np.array([1.0, 1.0, 5.0, 2.0]), [0.25, 0.6])
    assert Ranking.of([3, 2, 1]).captured(
        np.array([1.0, 5.0, 2.0]), [0.25, 0.6], np.array([2.0, 1, 1])
    ) == pytest.approx(twice)
    assert np.isnan(Ranking.of([1, 2]).captured(np.zeros(2), [0.5])).all()


def test_lift_lies_between_chance_and_perfect_foresight(page):
    lift = page.lift.set_index(["forecast", "share"])
    for what in ("purchases", "spend"):
        best = lift[what][PERFECT]
        for name in set(page.lift["forecast"]) - {PERFECT}:
            mine = lift[what][name]
            assert (mine <= best + 1e-12).all() and mine.iloc[-1] == pytest.approx(1.0)
            assert mine.iloc[0] > 0.2
    assert (page.lift["spend_low"] <= page.lift["spend"]).all() and (
        page.lift["spend"] <= page.lift["spend_high"]
    ).all()


def test_groups_by_recency_hold_everybody(holdout, page):
    table = by_recency(holdout)
    assert table["customers"].sum() == len(holdout.frame)
    assert table["actual"] @ table["customers"] == pytest.approx(holdout.actual)
    assert table["actual"].iloc[0] > 3 * table["actual"].iloc[-1]
    assert by_recency(holdout, small_group=500)["customers"].min() >= 500
    assert page.by_recency["customers"].min() >= 10


def test_scores_of_coming_back_beat_naive_ones_and_say_what_alive_cannot(page):
    brier = page.returning_scores.set_index("forecast")["brier"]
    assert brier["Pareto/NBD"] < brier[EVERYBODY] and brier["Pareto/NBD"] < brier[LAST_PERIOD]
    table = page.returning
    assert table[table["forecast"] == "NBD"]["alive"].isna().all()
    pareto = table[table["forecast"] == "Pareto/NBD"]
    # buying in the holdout is a lower bound of being alive, so P(alive) must not be held against it
    assert (pareto["alive"] > pareto["predicted"]).all()
    assert ((pareto["low"] <= pareto["actual"]) & (pareto["actual"] <= pareto["high"])).all()


def test_where_the_story_is_true_claims_hold():
    """Coverage and calibration on companies of the model's own world: within four Monte-Carlo errors of what is claimed."""
    rng = np.random.default_rng(11)
    inside, bins, gaps, claimed, covered, people = [], 0, [], [], [], 0
    while len(claimed) < 5:
        frame = split(purchase_days(Company.draw(1000, rng).orders), OBSERVED_DAYS, FUTURE_DAYS)
        found = evaluate_holdout(frame, OBSERVED_DAYS, replications=2)
        if "Pareto/NBD" not in found.models.purchases:
            continue
        weekly = pd.DataFrame(
            {
                "ends_on": pd.to_datetime(["2024-12-31", "2025-07-01"]),
                "phase": ["calibration", "holdout"],
                "moment": [OBSERVED_DAYS / 7, (OBSERVED_DAYS + FUTURE_DAYS) / 7],
                "purchases": [frame["frequency"].sum(), frame["holdout_frequency"].sum()],
            }
        )
        page = validate(found, weekly, names=["Pareto/NBD"], draws=120, replications=2)
        inside += page.totals["inside"].tolist()
        bins += len(page.returning)
        gaps.append(((page.returning["predicted"] - page.returning["actual"]) * page.returning["customers"]).sum())
        row = page.coverage.set_index(["what", "level"]).loc[("purchases", 0.95)]
        claimed.append(row["claimed"])
        covered.append(row["covered"])
        people += len(frame)
    assert np.mean(inside) > 0.95 - 4 * np.sqrt(0.95 * 0.05 / len(inside))
    assert np.mean(covered) == pytest.approx(np.mean(claimed), abs=4 * np.sqrt(0.04 * 0.96 / people) + 0.003)
    assert abs(sum(gaps)) / people < 4 * 0.5 / np.sqrt(people) + 0.01


def test_a_large_base_is_represented_and_its_total_scaled():
    rng = np.random.default_rng(2)
    frame = split(purchase_days(Company.draw(1000, rng).orders), OBSERVED_DAYS, 91)
    models = evaluate_holdout(frame, OBSERVED_DAYS, replications=2).models
    large = pd.concat([frame] * 15, ignore_index=True)
    one = simulate_holdout(models, "Pareto/NBD", frame, 13.0, draws=320)
    many = simulate_holdout(models, "Pareto/NBD", large, 13.0, draws=320)
    assert one.stride == 1 and many.stride == 2 and len(many.rows) == -(-len(large) // 2)
    small, big = np.array(one.total(one.purchases)), np.array(many.total(many.purchases))
    assert big.mean() / small.mean() == pytest.approx(15.0, rel=0.05)
    # relative width falls, since chance evens out, but not below what the parameters leave open
    assert np.ptp(big) / big.mean() < np.ptp(small) / small.mean()


def test_a_base_of_one_time_buyers_has_a_page_without_models():
    days = pd.date_range("2024-01-01", periods=40, freq="D")
    frame = pd.DataFrame({"customer_id": [f"{i:03d}" for i in range(40)], "order_date": days.date, "net_amount": 10.0})
    late = pd.DataFrame({"customer_id": ["000"], "order_date": [dt.date(2024, 4, 1)], "net_amount": [4.0]})
    lines = as_lines(pd.concat([frame, late]))
    cut, end = dt.date(2024, 2, 29), dt.date(2024, 4, 20)
    found = evaluate_holdout(calibration_holdout(lines, cut, end), 60, replications=10)
    page = validate(found, weekly_purchases(lines, cut, end), replications=20)
    assert page.coverage.empty and page.totals.empty and page.returning.empty
    assert set(page.tracking["source"]) == {ACTUAL, SAME_RATE, LAST_PERIOD}
    assert set(page.returning_scores["forecast"]) == {EVERYBODY, LAST_PERIOD}
    # what a purchase is worth is unknown where nobody came back, so only repeated spend can be held against money
    assert list(spend_forecasts(found)) == [LAST_PERIOD]


def test_figures_say_the_finding(page, holdout):
    figures = [
        validation_figures.tracking(page, "Pareto/NBD", LAST_PERIOD, FMT),
        validation_figures.tracking(page, None, SAME_RATE, FMT),
        validation_figures.returning_calibration(page, "Pareto/NBD", FMT),
        validation_figures.decile_lift(page, ["Pareto/NBD", LAST_PERIOD], FMT),
    ]
    titles = [figure.axes[0].get_title(loc="left") for figure in figures]
    total = holdout.scores.set_index("forecast")["total_error"]
    miss = FMT.share(abs(total["Pareto/NBD"]))
    assert titles[0] == f"The Pareto/NBD model foresaw {miss} too few purchases in the tested weeks"
    # the curve ends where the title says
    ends = {line.get_label(): line.get_ydata()[-1] for line in figures[0].axes[0].get_lines()}
    assert (ends["Pareto/NBD"] - 2457) / (ends["actual"] - 2457) - 1 == pytest.approx(total["Pareto/NBD"])
    assert FMT.share(abs(total[SAME_RATE])) in titles[1] and "many" in titles[1]
    assert "percentage points" in titles[2] and "of spend" in titles[3]
    for figure in figures:
        assert figure.axes[0].get_xlabel() and figure.axes[0].get_ylabel()


def groups_of(said, came, customers=1000):
    return pd.DataFrame({"customers": customers, "predicted": np.asarray(said), "actual": np.asarray(came)})


SAID = np.linspace(0.05, 0.95, 10)


def stretched(by, shift=0.0):
    """What comes of those probabilities when their logits are too wide by a factor, or all too high."""
    return 1.0 / (1.0 + np.exp(-(np.log(SAID / (1.0 - SAID)) / by - shift)))


@pytest.mark.parametrize(
    ("came", "level", "slope"),
    [
        (SAID, "right", "right"),
        (stretched(1.5), "right", "extreme"),
        (stretched(0.7), "right", "cautious"),
        (stretched(1.0, 0.5), "high", "right"),
        (stretched(1.0, -0.5), "low", "right"),
        (stretched(1.5, 0.5), "high", "extreme"),
    ],
)
def test_level_and_slope_are_judged_apart(came, level, slope):
    found = calibration(groups_of(SAID, came))
    assert (found.level_verdict, found.slope_verdict) == (level, slope)
    assert found.held == (level == slope == "right")
    assert found.level.value == pytest.approx((SAID - came).mean())


def test_the_slope_is_the_one_that_outcomes_were_drawn_with():
    assert calibration(groups_of(SAID, stretched(1.6), 10**7)).slope.value == pytest.approx(1 / 1.6, abs=1e-4)


def test_probabilities_that_are_right_are_rarely_called_wrong():
    rng, people, runs = np.random.default_rng(5), 300, 400
    found = [calibration(groups_of(SAID, rng.binomial(people, SAID) / people, people)) for _ in range(runs)]
    three_errors = 3 * np.sqrt(0.05 * 0.95 / runs)
    for wrong in (
        [one.level_verdict != "right" for one in found],
        [one.slope_verdict != "right" for one in found],
        [not one.fits for one in found],
    ):
        assert abs(np.mean(wrong) - 0.05) < three_errors


def test_groups_that_are_off_in_between_are_not_called_right():
    bent = SAID + 0.08 * np.array([0, -1, -1, 1, 1, 1, 1, -1, -1, 0])
    found = calibration(groups_of(SAID, bent))
    assert (found.level_verdict, found.fits, found.held) == ("right", False, False)


@pytest.mark.parametrize(
    ("said", "came"),
    [([0.3], [0.3]), ([0.2, 0.8], [0.2, 0.8]), ([0.3] * 5, [0.3] * 5), (SAID, np.zeros(10)), (SAID, np.ones(10))],
)
def test_without_differences_there_is_no_slope(said, came):
    found = calibration(groups_of(said, came))
    assert found.slope_verdict == "unknown" and np.isnan(found.slope.value) and found.slope.reason


def test_groups_that_chance_parts_perfectly_have_no_slope():
    assert calibration(groups_of([0.0, 0.5, 1.0], [0.0, 0.5, 1.0], 4)).slope_verdict == "unknown"
    with pytest.raises(ValueError, match="no group"):
        calibration(groups_of([], []))


def test_groups_of_one_model_are_those_of_the_page(page, holdout):
    alone = returning_groups(holdout, "Pareto/NBD", draws=160)
    of_page = page.returning[page.returning["forecast"] == "Pareto/NBD"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, of_page)


def test_months_are_means_of_their_weeks(page):
    table = incremental(page, "Pareto/NBD")
    weeks = page.tracking[page.tracking["source"] == ACTUAL]
    after = weeks.loc[weeks["phase"] == "holdout", "purchases"].to_numpy()
    held_out = table[table["phase"] == "holdout"]
    assert len(held_out) == len(after) // 4 and held_out["actual"].iloc[0] == pytest.approx(after[:4].mean())
    before = weeks.loc[weeks["phase"] == "calibration", "purchases"].to_numpy()
    assert table.loc[table["phase"] == "calibration", "actual"].iloc[-1] == pytest.approx(before[-4:].mean())
    drawn = page.tracking[(page.tracking["source"] == "Pareto/NBD") & (page.tracking["phase"] == "holdout")]
    assert held_out["expected"].iloc[0] == pytest.approx(drawn["foreseen"].iloc[:4].mean())
    rule = incremental(page, SAME_RATE)
    assert rule.loc[rule["phase"] == "calibration", "expected"].isna().all() and rule["expected"].notna().any()


def test_the_share_active_holds_what_every_model_of_leaving_says(holdout):
    share, by_model = share_active(holdout.models, "Pareto/NBD", holdout.frame, draws=10)
    assert "BG/NBD" in holdout.models.purchases and "BG/NBD" not in by_model and "NBD" not in by_model
    assert len(by_model) > 1 and share.value == by_model["Pareto/NBD"]
    assert share.low < min(by_model.values()) and max(by_model.values()) < share.high
    named, with_it = share_active(holdout.models, "BG/NBD", holdout.frame, draws=10)
    assert named.value == with_it["BG/NBD"] > share.high


def test_figures_by_recency_and_by_month_say_the_finding(page):
    recency = validation_figures.holdout_by_recency(page, "Pareto/NBD", SAME_RATE, FMT)
    labels = [tick.get_text() for tick in recency.axes[0].get_xticklabels()]
    assert labels == [f"{g}\n{FMT.count(n)}" for g, n in page.by_recency[["group", "customers"]].to_numpy()]
    table = page.by_recency
    miss = (table["Pareto/NBD"] - table["actual"]) * table["customers"]
    worst = table["group"].iloc[int(miss.abs().argmax())]
    title = recency.axes[0].get_title(loc="left")
    assert f"purchase was {worst} week" in title and ("many" in title) == (miss.abs().max() == miss.max())
    months = validation_figures.tracking_by_month(page, "Pareto/NBD", SAME_RATE, FMT)
    held_out = incremental(page, "Pareto/NBD").query("phase == 'holdout'")["miss"]
    ends = [
        f"{FMT.share(abs(miss), 0)} too {'many' if miss > 0 else 'few'}" for miss in (held_out.min(), held_out.max())
    ]
    assert " and ".join(ends) in months.axes[0].get_title(loc="left")
    alone = validation_figures.tracking_by_month(page, None, LAST_PERIOD, FMT)
    lines = {line.get_label() for line in alone.axes[0].get_lines()}
    assert "Pareto/NBD" not in lines and "actual" in lines
    assert "Repeating" in validation_figures.holdout_by_recency(page, None, LAST_PERIOD, FMT).axes[0].get_title(
        loc="left"
    )
