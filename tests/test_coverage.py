"""The coverage study: it sees what the notebooks see, goes on after a kill, and, in short, intervals hold the truth."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis import loyalty, valuation
from analysis.simulate.clock import OBSERVED_DAYS, START
from benchmarks import coverage
from benchmarks.coverage import HELD_OUT, HORIZON, PARETO, Company, purchase_days, split, trial


@pytest.fixture(scope="module")
def days():
    return purchase_days(Company.draw(400, np.random.default_rng(2)).orders)


def test_the_study_sees_customers_as_the_notebook_does(days):
    frame = days.assign(
        customer_id=days["owner"].astype(str).str.zfill(8),
        order_date=[START + dt.timedelta(days=int(day)) for day in days["day"]],
        net_amount=days["spend"].round(4),
        order_id=np.arange(len(days)).astype(str),
        is_return=False,
    ).drop(columns=["owner", "day", "spend"])
    lines = ibis.memtable(frame)
    lines = lines.mutate(net_amount=lines.net_amount.cast("decimal(18, 4)"))
    end, cut = (START + dt.timedelta(days=day - 1) for day in (OBSERVED_DAYS, OBSERVED_DAYS - HELD_OUT))
    mine = split(days, OBSERVED_DAYS - HELD_OUT, HELD_OUT)
    for expected in (
        valuation.customer_summary(lines, cut, 1.0).to_pandas().sort_values("customer_id").drop(columns="recency_days"),
        valuation.calibration_holdout(lines, cut, end),
    ):
        columns = list(expected.columns)
        found = mine[columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected.reset_index(drop=True), check_dtype=False, rtol=1e-4)
    assert mine.attrs["holdout_days"] == HELD_OUT


def test_totals_and_limits_of_customers_hold_what_comes():
    """The interval of the base's purchases, and those of single customers, where the model's story is true."""
    rng, replications, trials = np.random.default_rng(4), 100, []
    period = {"observed_from": START, "observed_to": START + dt.timedelta(days=OBSERVED_DAYS - 1)}
    while len(trials) < replications:
        base = split(purchase_days(Company.draw(1000, rng).orders), OBSERVED_DAYS, HORIZON)
        fit = valuation.ParetoNBD(base["frequency"], base["recency"] / 7, base["T"] / 7).fit()
        spend = valuation.GammaGamma(base["frequency"], base["monetary_value"]).fit()
        if not (fit.verdict.usable and spend.verdict.usable):
            continue
        models = valuation.FittedModels({PARETO: fit}, spend, {}, {}, None, 0, 0)
        found = valuation.customer_value(base, models, None, horizon_weeks=HORIZON // 7, draws=200, **period)
        each, past = found.frame, found.frame["existing_value"]
        came = base["holdout_frequency"].sum(), base["holdout_spend"].sum()
        limits = each["clv_low"] - past, each["clv_high"] - past
        trials.append(
            [
                trial("purchases", "", came[0], *found.purchases.interval),
                trial("sales", "", came[1], *found.expected_sales.interval),
                trial("customers", "", base["holdout_spend"].to_numpy(), each["residual_value"], *limits),
            ]
        )
    covered = np.array([[one.covered for one in row] for row in trials])
    assert (np.abs(covered[:, :2].mean(axis=0) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)).all()
    # Shares of a thousand customers hardly vary; whoever is all but certain to buy nothing lifts them a little.
    assert 0.94 < covered[:, 2].mean() < 0.97


def test_effects_on_skewed_spend_are_covered():
    """Random arms in which nine in ten spend nothing, and a letter sent to those who bought much."""
    replications = 100
    trials = [one for k in range(replications) for one in coverage.ate(np.random.default_rng([7, k]))]
    table = coverage.coverage_table([{"trials": [vars(one).values() for one in trials]}])
    assert set(table["interval"]) == {"difference_in_means", "cuped", "doubly_robust"}
    assert (table["replications"] == replications).all()
    assert (np.abs(table["coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)).all(), table


def test_paths_and_scores_of_a_survey_are_covered(monkeypatch):
    monkeypatch.setattr(coverage, "DRAWS", 300)
    replications = 50
    trials = [one for k in range(replications) for one in coverage.path(np.random.default_rng([8, k]))]
    table = coverage.coverage_table([{"trials": [vars(one).values() for one in trials]}])
    right = table[~table["quantity"].str.contains("by rows")]
    assert {"bca", "percentile"} == set(right["interval"])
    assert (np.abs(right["coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)).all(), table


def test_paths_and_indirect_effects_of_small_and_skewed_surveys_are_covered(monkeypatch):
    monkeypatch.setattr(coverage, "DRAWS", 200)
    monkeypatch.setattr(coverage, "SIZES", (150,))
    replications = 30
    trials = [one for k in range(replications) for one in coverage.sizes(np.random.default_rng([9, k]))]
    table = coverage.coverage_table([{"trials": [vars(one).values() for one in trials]}])
    assert len(table) == 2 * 5 and (table["replications"] == replications).all()
    assert (np.abs(table["coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)).all(), table


def test_the_limits_are_what_many_answers_give():
    rng = np.random.default_rng(3)
    for draw, truth in coverage.SURVEYS.values():
        found = loyalty.PLSPathModel(draw(100_000, rng), coverage.MODEL).fit().params
        assert np.abs(found.to_numpy() - truth()[found.index.to_list()].to_numpy()).max() < 0.02
    shares = coverage.skewed_answers(20_000, rng)["cusa1"].value_counts(normalize=True).sort_index()
    np.testing.assert_allclose(shares, coverage.SKEWED.answer_shares, atol=0.02)


def test_every_estimator_of_random_arms_is_covered(monkeypatch):
    monkeypatch.setattr(coverage, "ARM_SIZES", (800,))
    replications = 40
    trials = [one for k in range(replications) for one in coverage.campaign_effects(np.random.default_rng([10, k]))]
    table = coverage.coverage_table([{"trials": [vars(one).values() for one in trials]}])
    assert set(table["interval"]) == {
        "difference_in_means", "cuped", "lin", "Fieller, difference_in_means", "Fieller, cuped"
    }  # fmt: skip
    assert len(table) == 2 * 5 and (table["replications"] == replications).all()
    assert (np.abs(table["coverage"] - 0.95) < 4 * np.sqrt(0.95 * 0.05 / replications)).all(), table


def test_what_is_true_of_shoppers_is_what_their_campaigns_show():
    rng = np.random.default_rng(11)
    who = coverage.Shoppers.draw(60_000, rng)
    arm, spend = who.campaign(rng)
    treated = arm == "letter"
    gap = spend[treated].mean() - spend[~treated].mean()
    assert abs(gap - who.effect.mean()) < 4 * spend.std() * 2 / np.sqrt(len(spend))
    # The Qini by its first definition: the gain of each depth over as many at random, averaged over depths.
    every = coverage.all_shoppers()
    gains = np.cumsum(every.effect[np.argsort(-coverage.rule(every.x))]) / len(every.x)
    straight = gains[-1] * np.arange(1, len(gains) + 1) / len(gains)
    assert coverage.rule_worth()["Qini"] == pytest.approx((gains - straight).mean(), rel=1e-3)
    half = coverage.KEPT * every.effect - coverage.LETTER_COST
    assert coverage.policy_worth()[0] == pytest.approx(half[coverage.rule(every.x) > 0].sum() / len(half))


def test_rankings_and_policies_come_near_their_truth():
    trials = coverage.uplift(np.random.default_rng(12))
    intervals = [one for one in trials if one.promise == coverage.INTERVAL]
    assert len(intervals) == 9 and all(abs(one.error) < 2 * one.width for one in intervals)
    assert [one.promise for one in trials[9:]] == [coverage.POWER, coverage.FALSE_ALARM]
    assert len({(one.quantity, one.interval) for one in trials}) == len(trials)


def test_looking_ten_times_breaks_the_usual_interval_alone():
    trials = [one for k in range(100) for one in coverage.peeking(np.random.default_rng([13, k]))]
    table = coverage.coverage_table([{"trials": [vars(one).values() for one in trials]}])
    wrong = table[table["promise"] == coverage.FALSE_ALARM].set_index(["quantity", "interval"])["coverage"].unstack()
    assert (wrong["always valid"] <= 0.05).all() and (wrong["fixed horizon"] > 0.07).all()
    found = table[table["promise"] == coverage.POWER].set_index("interval")["coverage"]
    assert (found["always valid"] > 0.4).all() and (found["one look, at the end"] > found["always valid"].max()).all()


def test_a_room_that_a_part_does_not_rest_on_leaves_its_replications(monkeypatch, tmp_path):
    assert set(coverage.RESTS_ON) == set(coverage.PARTS) and set(coverage.FEWER) <= set(coverage.PARTS)
    before = {part: coverage.code_key(part) for part in coverage.PARTS}
    assert len(set(before.values())) == len(before)
    changed = tmp_path / "kernel.py"
    changed.write_text("x = 1")
    rooms = coverage.room_files
    monkeypatch.setattr(coverage, "room_files", lambda room: [changed] if room == "loyalty" else rooms(room))
    moved = {part for part, key in before.items() if coverage.code_key(part) != key}
    assert moved == {"path", "sizes", "link"}


def test_a_killed_run_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("RAPPORT_BUILD", str(tmp_path))
    drawn = []

    def counted(rng):
        drawn.append(float(rng.random()))
        return [trial("coin", "published", 0.0, drawn[-1], drawn[-1] - 0.5, drawn[-1] + 0.5)]

    monkeypatch.setitem(coverage.PARTS, "ate", counted)
    whole = coverage.replicate("ate", 6)
    (file,) = (tmp_path / "coverage").iterdir()
    cut = file.read_text().splitlines(keepends=True)
    file.write_text("".join(cut[:3]) + cut[3][:20])
    again = coverage.replicate("ate", 6)
    assert len(drawn) == 6 + 3 and drawn[6:] == drawn[3:6]
    pd.testing.assert_frame_equal(coverage.coverage_table(again), coverage.coverage_table(whole))
    assert len(file.read_text().splitlines()) == 6


def test_the_table_counts_and_judges():
    half = [{"trials": [("coin", "published", float(k % 2), 2.0, 0.1, 4.0)]} for k in range(100)]
    sure = [{"trials": [("coin", "sure", float(k > 4), 2.0, -0.1, 4.0)]} for k in range(100)]
    table = coverage.coverage_table(half + sure).set_index("interval")
    assert table.loc["published", "coverage"] == 0.5 and table.loc["published", "verdict"] != "inside"
    assert table.loc["published", "error"] == pytest.approx(1.96 * 0.05, rel=0.01)
    assert table.loc["sure", "coverage"] == 0.95 and table.loc["sure", "verdict"] == "inside"
    assert table.loc["sure", "bias"] == pytest.approx(-0.05) and table.loc["sure", "replications"] == 100
    alarms = [{"trials": [vars(coverage.alarm("", name, k < n, promise)).values()]} for name, n, promise in (
        ("kept", 7, coverage.FALSE_ALARM),
        ("close", 8, coverage.FALSE_ALARM),
        ("broken", 20, coverage.FALSE_ALARM),
        ("weak", 30, coverage.POWER),
    ) for k in range(100)]  # fmt: skip
    judged = coverage.coverage_table(alarms).set_index("interval")
    close = "within the error of so few replications"
    assert judged["verdict"].to_dict() == {
        "kept": "inside",
        "close": close,
        "broken": "no reason known",
        "weak": "power",
    }
    assert judged["coverage"].to_dict() == {"kept": 0.07, "close": 0.08, "broken": 0.2, "weak": 0.3}
    text = coverage.markdown(table.reset_index())
    assert "| coin | sure | 100 | 95.0% ± 4.3% | 4 | -5.0% | inside |" in text
