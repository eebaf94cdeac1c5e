"""How far forecasts of a base and of its groups go astray: tests at earlier days, groups judged together, endless futures."""

import datetime as dt
from dataclasses import replace

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis.reporting.numbers import Formatter
from analysis.valuation import (
    calibration_holdout,
    customer_summary,
    customer_value,
    earlier_holdouts,
    endless_facts,
    endless_value,
    evaluate_holdout,
    fit_models,
    origins_for_people,
    value_groups,
    with_group_limits,
)
from analysis.valuation.endless import endless_purchases
from analysis.valuation.lifetime import Doubt, best_first

START, WEEKS, AHEAD = dt.date(2020, 1, 1), 78, 26
END = START + dt.timedelta(weeks=WEEKS)


def history(customers=1200, seed=0, drift=None):
    """Order lines of WEEKS + AHEAD weeks. `drift` are the factors of buying by 13 weeks, from the first on."""
    rng = np.random.default_rng(seed)
    factor = np.ones(8) if drift is None else np.asarray(drift)
    rate = rng.gamma(0.8, 0.1, customers)
    lines = []
    for i in range(customers):
        first = rng.integers(0, 26)
        leaves = first + rng.exponential(1.0 / rng.gamma(2.0, 0.005))
        week = np.arange(first, min(leaves, WEEKS + AHEAD)).astype(int)
        pace = rate[i] * factor[np.minimum(week // 13, 7)]
        for w in np.r_[first, week[rng.random(len(week)) < -np.expm1(-pace)]]:
            day = START + dt.timedelta(days=int(w) * 7 + int(rng.integers(0, 7)))
            lines.append((f"{i:05d}", day, float(rng.gamma(4.0, 5.0))))
    frame = pd.DataFrame(lines, columns=["customer_id", "order_date", "net_amount"])
    table = ibis.memtable(frame)
    return table.mutate(net_amount=table.net_amount.cast("decimal(18,4)"), order_id=table.customer_id, is_return=False)


def valued(lines, several=True, **options):
    base = customer_summary(lines, END, 0.3).to_pandas().sort_values("customer_id", ignore_index=True)
    models = fit_models(base)
    split = calibration_holdout(lines, END - dt.timedelta(weeks=13), END)
    holdout = evaluate_holdout(split.drop(columns="litt"), 7 * (WEEKS - 13), replications=1)
    earlier = earlier_holdouts(lines, holdout, START, END) if several else ()
    value = customer_value(
        base, models, holdout, horizon_weeks=AHEAD, observed_from=START, observed_to=END, margin_rate=0.3, draws=8,
        earlier=earlier, **options,
    )  # fmt: skip
    return base, models, holdout, earlier, value


@pytest.fixture(scope="module")
def lines():
    return history()


@pytest.fixture(scope="module")
def steady(lines):
    return valued(lines, discount_rate=0.1)


def test_earlier_tests_know_nothing_later(lines, steady):
    *_, earlier, value = steady
    tests = value.doubt.tests
    assert len(earlier) == 2 and len(tests) == 3  # 65, 52 and 39 weeks to learn from, not 26 of 78
    assert tests["until"].iloc[-1] == END and (tests["until"].to_numpy()[:-1] == tests["origin"].to_numpy()[1:]).all()
    first = tests["origin"].iloc[0]
    known = customer_summary(lines, first, columns=["frequency"]).to_pandas()
    assert first == END - dt.timedelta(weeks=39) and len(earlier[-1].frame) == len(known)
    assert earlier[-1].frame["frequency"].sum() == known["frequency"].sum()
    assert tests["miss"].to_numpy() == pytest.approx((tests["came"] / tests["foreseen"] - 1).to_numpy())
    assert value.doubt.purchases == pytest.approx(np.sqrt((tests["beyond"] ** 2).mean()))
    shown = origins_for_people(value, Formatter("en", "USD"))
    assert shown["came"].tolist() == tests["came"].tolist()
    assert earlier_holdouts(lines, None, START, END) == ()


def test_a_lucky_quarter_does_not_hide_what_earlier_ones_missed():
    lines = history(800, seed=3, drift=[1.0, 1.0, 1.0, 1.5, 0.6, 1.0, 1.0, 1.0])
    one, several = valued(lines, several=False)[-1], valued(lines)[-1]
    assert several.purchases_doubt > 0.1 and several.purchases_doubt > one.purchases_doubt
    assert several.purchases.high - several.purchases.low > one.purchases.high - one.purchases.low


def test_a_drift_between_what_was_known_and_the_future_is_covered():
    """Buying moves by up to a quarter from one 13 weeks to the next, after the end as before."""
    base_in, groups_in, groups_of = 0, 0, 0
    for seed in range(4):
        drift = np.exp(np.random.default_rng(100 + seed).normal(0.0, 0.25, 8))
        lines = history(700, seed, drift)
        base, models, holdout, _, value = valued(lines)
        groups = with_group_limits(value_groups(value, groups=8), value, base, models, holdout)
        late = calibration_holdout(lines, END, END + dt.timedelta(weeks=AHEAD))["holdout_spend"].to_numpy() * 0.3
        base_in += value.residual.low <= late.sum() <= value.residual.high
        rank = best_first(value.frame["residual_value"], value.frame["customer_id"], 8)
        came = np.bincount(rank, late) / np.bincount(rank)
        groups_in += int(((groups["group_low"] <= came) & (came <= groups["group_high"])).sum())
        groups_of += len(groups)
    assert base_in >= 3
    assert groups_in / groups_of >= 0.85


def test_no_group_is_surer_than_the_total(steady):
    base, models, holdout, _, value = steady
    for doubt in (value.doubt, Doubt(0.2, 0.2, 0.1, value.doubt.tests)):
        of = doubt.of_groups(np.array([8.0, 1.0, 0.5, 0.1]))
        assert (of >= doubt.sales).all() and (np.diff(of) >= 0).all()
    lucky = replace(value, doubt=Doubt(0.2, 0.2, 0.0, value.doubt.tests))
    groups = with_group_limits(value_groups(value), lucky, base, models, holdout)
    assert ((groups["group_high"] / groups["residual_value"] - 1) > 1.95 * 0.2).all()


def test_the_endless_sum_is_that_of_a_very_long_horizon(steady):
    base, models, *_ = steady
    x, t_x, age = base["frequency"].to_numpy(float), base["recency"].to_numpy() / 7, base["T"].to_numpy() / 7
    for name, results in models.purchases.items():
        if results.model.can_leave:
            found = endless_purchases(results, x, t_x, age, 0.01).sum()
            assert found == pytest.approx(
                results.expected_purchases(1500.0, x, t_x, age, discount=0.01).sum(), rel=0.02
            ), name


def test_the_endless_value_has_a_range_or_says_why_not(steady):
    base, models, _, _, value = steady
    best = min((n for n, r in models.purchases.items() if r.model.can_leave), key=lambda n: models.purchases[n].aic)
    value = replace(value, forecast=best)
    endless = endless_value(value, base, models, 0.1)
    assert value.residual.value < endless.value and endless.low < endless.value < endless.high
    facts = endless_facts(endless, value)
    assert 0 < facts["within"] < 1 and facts["tested_weeks"] == 13
    wider = endless_value(replace(value, sales_doubt=0.5), base, models, 0.1)
    assert wider.value == endless.value and wider.high > endless.high
    for rate, entry, forecast, word in (
        (None, "first_purchase", best, "discount"),
        (0.1, "left_truncated", best, "before the data"),
        (0.1, "first_purchase", "same rate", "plain rule"),
        (0.1, "first_purchase", "NBD", "nobody ever leaves"),
    ):
        none = endless_value(replace(value, forecast=forecast), base, models, rate, entry)
        assert np.isnan(none.value) and word in none.reason
        assert endless_facts(none, value)["endless"] is None
