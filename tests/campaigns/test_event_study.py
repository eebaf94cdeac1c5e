"""Event studies: equal to a Poisson regression, right about known effects, honest about trends and selection."""

import dataclasses
import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from analysis.campaigns import outcomes
from analysis.campaigns.effects import EstimationError
from analysis.campaigns.event_study import (
    EventSettings,
    Stack,
    bought_before,
    event_study,
    matched_bounds,
    placebo_dates,
    reached_nearby,
    run_event_study,
    side_by_side,
    spend_by_period,
    trend_bounds,
    unpromoted_lines,
)


def stack(rng, customers=400, before=8, after=4, effect=0.0, share=0.4, times=3.0, trend=0.0, during=3):
    """Customers of very unequal size; the targeted buy ``times`` as much and grow by ``trend`` a period more."""
    treated = rng.random(customers) < share
    periods = np.arange(-before, after)
    level = rng.gamma(1.5, 10, customers) * np.where(treated, times, 1)
    season = 1 + 0.3 * np.sin(np.arange(before + after))
    inside = (periods >= 0) & (periods < during)
    mean = level[:, None] * season * np.exp(np.outer(treated, trend * periods + effect * inside))
    outcome = rng.poisson(0.6, mean.shape) * rng.gamma(2, mean / 1.2)
    names = np.array([f"c{i}" for i in range(customers)], dtype=object)
    return Stack("a", outcome, treated, names, periods, during)


def test_equals_a_poisson_regression_with_errors_clustered_by_customer():
    s = stack(np.random.default_rng(1), customers=150, before=1, after=4, effect=0.3)
    found = event_study([s])
    n, k = s.outcome.shape
    d = np.repeat(s.treated, k).astype(float)
    weeks = np.tile(np.eye(k)[:, 1:], (n, 1))
    x = np.column_stack([np.ones(n * k), d, weeks, weeks * d[:, None]])
    groups = np.repeat(np.arange(n), k)
    options = {"groups": groups, "use_correction": False}
    fitted = sm.GLM(s.outcome.ravel(), x, family=sm.families.Poisson()).fit(cov_type="cluster", cov_kwds=options)
    assert found.log_ratio[1:] == pytest.approx(fitted.params[-4:], abs=1e-8)
    assert found.se[1:] * np.sqrt((n - 1) / n) == pytest.approx(fitted.bse[-4:], rel=1e-6)
    assert found.log_ratio[0] == pytest.approx(0, abs=1e-12)
    assert found.se[0] == pytest.approx(0, abs=1e-12)


def test_known_effect_intervals_band_and_pre_trend_keep_their_levels():
    rng = np.random.default_rng(11)
    truth, runs = 0.25, 150
    covered = banded = caught = in_money = 0
    for _ in range(runs):
        s = stack(rng, effect=truth)
        found = event_study([s])
        _, low, high = found.relative()
        covered += low <= np.expm1(truth) <= high
        table = found.table()
        true = np.expm1(truth * ((s.periods >= 0) & (s.periods < 3)))
        banded += ((table["band_low"] <= true) & (true <= table["band_high"])).all()
        caught += found.pre_trend()[2] < 0.05
        expected = s.outcome[s.treated][:, 8:11].sum() * (1 - np.exp(-truth)) / s.treated.sum()
        low, high = found.effect.interval()
        in_money += low <= expected <= high
    error = 4 * np.sqrt(0.05 * 0.95 / runs)
    assert covered / runs >= 0.95 - error
    assert banded / runs >= 0.95 - error
    assert caught / runs <= 0.05 + error
    assert in_money / runs >= 0.95 - error


def test_trends_that_part_are_found_and_stop_a_claim():
    s = stack(np.random.default_rng(2), customers=2_000, trend=0.08)
    found = event_study([s])
    assert found.pre_trend()[2] < 1e-3
    dates = placebo_dates([s])
    assert (dates["p_value"] < 0.05).all()
    assert dates["weeks_before"].tolist() == [3.0]
    even = stack(np.random.default_rng(2), customers=2_000)
    assert event_study([even]).pre_trend()[2] > 0.01
    assert (placebo_dates([even])["p_value"] > 0.01).all()


def test_growth_in_ratios_is_not_taken_for_an_effect_in_money():
    """All grow by half, and the targeted are six times as large: in money they gain more, in ratios nothing."""
    rng = np.random.default_rng(4)
    s = stack(rng, customers=3_000, before=8, after=3, times=6)
    grown = dataclasses.replace(s, outcome=s.outcome * np.where(s.periods >= 0, 1.5, 1.0))
    table = side_by_side([grown]).set_index("method")
    assert table.loc["did", "low"] > 0
    assert table.loc["did_ratio", "low"] < 0 < table.loc["did_ratio", "high"]
    assert table.loc["naive", "low"] > table.loc["did", "high"]
    assert bought_before([grown]) == pytest.approx(6, rel=0.15)


def selected(rng, customers=1_500, effect=0.0):
    """Those who happened to buy much lately are targeted, and fall back to their own mean afterwards."""
    periods = np.arange(-8, 4)
    level = rng.gamma(3, 10, customers)
    outcome = rng.poisson(0.8, (customers, 12)) * level[:, None]
    score = outcome[:, 4:8].sum(axis=1) / (3.2 * level.mean()) - 1
    treated = rng.random(customers) < 1 / (1 + np.exp(1 - score))
    outcome[:, 8:] = outcome[:, 8:] * np.where(treated, np.exp(effect), 1)[:, None]
    return Stack("a", outcome, treated, np.arange(customers).astype(str).astype(object), periods, 4)


def test_weights_of_the_same_history_undo_targeting_by_recent_spend():
    rng = np.random.default_rng(5)
    runs, truth, plain, weighted = 40, 0.2, 0, 0
    for _ in range(runs):
        s = selected(rng, effect=truth)
        _, low, high = event_study([s]).relative()
        plain += low <= np.expm1(truth) <= high
        _, low, high = event_study([s.weighted()]).relative()
        weighted += low <= np.expm1(truth) <= high
    assert plain / runs < 0.8
    assert weighted / runs >= 0.95 - 4 * np.sqrt(0.05 * 0.95 / runs)


def test_the_same_campaign_twice_is_no_more_certain():
    s = stack(np.random.default_rng(6), effect=0.2)
    once, twice = event_study([s]), event_study([s, dataclasses.replace(s, campaign_id="b")])
    assert twice.log_effect == pytest.approx(once.log_effect)
    assert twice.se == pytest.approx(once.se)
    assert twice.effect.effect == pytest.approx(once.effect.effect)
    assert twice.effect.se == pytest.approx(once.effect.se)
    assert (twice.campaigns, once.campaigns) == (2, 1)
    weighted = s.weighted()
    assert event_study([weighted, weighted]).se == pytest.approx(event_study([weighted]).se)


def test_stacked_campaigns_add_observed_and_expected():
    first = stack(np.random.default_rng(7), effect=0.2)
    second = dataclasses.replace(stack(np.random.default_rng(8), times=0.2), campaign_id="b")
    both = event_study([first, second])
    found = []
    for s in (first, second):
        y, d, late = s.outcome, s.treated, slice(8, 11)
        growth = y[~d][:, late].sum() / y[~d][:, :8].sum()
        found.append((y[d][:, late].sum(), y[d][:, :8].sum() * growth))
    seen, would = np.sum(found, axis=0)
    assert both.log_effect == pytest.approx(np.log(seen / would))
    assert both.effect.effect == pytest.approx((seen - would) / both.treated)
    assert both.effect.relative() == pytest.approx(seen / would - 1)


def test_weeks_that_the_choice_looked_at_are_shown_but_not_compared_with():
    s = stack(np.random.default_rng(9))
    bent = dataclasses.replace(s, outcome=np.where((s.periods == -1) & s.treated[:, None], 5, 1) * s.outcome)
    assert event_study([bent], anticipation=1).log_effect == pytest.approx(event_study([s], anticipation=1).log_effect)
    assert event_study([bent]).log_effect < event_study([s]).log_effect
    with pytest.raises(EstimationError) as error:
        event_study([s], anticipation=8)
    assert error.value.code == "no_history"


def test_longer_and_earlier_periods():
    s = stack(np.random.default_rng(10), before=9, after=5, during=3)
    longer = s.in_longer_periods(4)
    assert longer.periods.tolist() == [-2, -1, 0]
    assert longer.days == 28
    assert longer.during == 1
    assert longer.outcome[:, 1] == pytest.approx(s.outcome[:, 5:9].sum(axis=1))
    earlier = s.before_start(4)
    assert earlier.periods.tolist() == [-5, -4, -3, -2, -1, 0, 1, 2, 3] and earlier.during == 3
    assert earlier.outcome.shape[1] == 9
    brief = stack(np.random.default_rng(11), before=9, after=5, during=1)
    assert len(placebo_dates([s, brief])) > 0, "campaigns of different lengths stand together"


def test_hidden_differences_and_trends_on_a_clear_effect_and_on_none():
    clear = stack(np.random.default_rng(12), customers=3_000, effect=1.2, times=1, before=16, during=4)
    nothing = stack(np.random.default_rng(13), customers=600, times=1, before=16, during=4)
    assert matched_bounds([clear]).gamma > 1.3
    assert matched_bounds([clear]).direction == 1
    assert matched_bounds([nothing]).gamma < 1.2
    assert trend_bounds([clear]).breakdown > 1
    assert trend_bounds([nothing]).breakdown < 1
    assert (trend_bounds([clear]).table["low"].diff()[1:] < 0).all()


def test_what_cannot_be_estimated_says_why():
    s = stack(np.random.default_rng(14))
    empty = s.outcome.copy()
    empty[~s.treated, 9] = 0
    with pytest.raises(EstimationError) as error:
        event_study([dataclasses.replace(s, outcome=empty)])
    assert error.value.code == "no_sales"
    with pytest.raises(EstimationError) as error:
        dataclasses.replace(s, treated=np.zeros(400, dtype=bool))
    assert error.value.code == "no_treated"
    with pytest.raises(EstimationError):
        event_study([])
    with pytest.raises(ValueError, match="same periods"):
        event_study([s, s.in_longer_periods(2)])
    with pytest.raises(ValueError, match="missing"):
        dataclasses.replace(s, outcome=np.full_like(s.outcome, np.nan))
    with pytest.raises(ValueError, match="row a customer"):
        dataclasses.replace(s, outcome=s.outcome[:5])
    with pytest.raises(ValueError, match="a week after"):
        EventSettings(pre_weeks=4, anticipation_weeks=4)
    alike = dataclasses.replace(s, outcome=np.ones_like(s.outcome))
    assert event_study([alike]).log_effect == pytest.approx(0)
    assert event_study([alike]).relative() == pytest.approx((0, 0, 0))
    one = event_study([stack(np.random.default_rng(1), before=1)])
    assert np.isnan(one.pre_trend()[2])


def test_spend_by_period_at_the_edges(company):
    start = dt.date(2024, 3, 4)
    rows = [("a", start - dt.timedelta(days=k), 1.0) for k in (1, 7, 8, 14, 15)]
    rows += [("a", start + dt.timedelta(days=k), 10.0) for k in (0, 6, 7, 14)] + [("b", start, -4.0)]
    found = spend_by_period(company.order_lines(rows), start, 2, 2)
    a = found[found["customer_id"] == "a"].set_index("period")["spend"].to_dict()
    assert a == {-2: 2.0, -1: 2.0, 0: 20.0, 1: 10.0}
    assert found.loc[found["customer_id"] == "b", "spend"].tolist() == [-4.0]


def tables(company, effect, **more):
    campaigns, lines, contacts = company.simulate("observational", effect, **more)
    spans = outcomes.windows(campaigns, company.FROM, company.TO)
    panel = outcomes.campaign_panel(lines, contacts, spans, 4)
    return lines, contacts, panel, spans


def test_from_tables_to_a_verdict(company):
    lines, contacts, panel, spans = tables(company, 30.0)
    report, reason = run_event_study(lines, contacts, panel, spans, company.FROM, company.TO, unpromoted=lines)
    assert reason is None
    facts = report.facts()
    assert facts["money"] == pytest.approx(30, abs=6)
    assert facts["campaigns"] == 1
    assert facts["weeks"] == 4
    assert facts["other"] == pytest.approx(facts["value"])
    assert facts["verdict"] == "placebo"  # the "unpromoted" lines are the promoted ones
    clean, _ = run_event_study(lines, contacts, panel, spans, company.FROM, company.TO)
    assert clean.facts()["verdict"] in ("raised", "pre_trend", "placebo")
    assert clean.results.periods.tolist() == list(range(-16, 8))


def test_reasons_instead_of_a_report(company):
    lines, contacts, panel, spans = tables(company, 0.0, customers=120)
    given = (lines, contacts, panel, spans)
    late = run_event_study(*given, dt.date(2024, 7, 1), company.TO)
    assert late == (None, "no_history")
    assert run_event_study(*given, company.FROM, dt.date(2024, 9, 1)) == (None, "window_not_over")
    many = EventSettings(min_targeted=1_000)
    assert run_event_study(*given, company.FROM, company.TO, many) == (None, "too_few")
    lot = spans.assign(design="randomised")
    assert run_event_study(lines, contacts, panel, lot, company.FROM, company.TO) == (None, "no_observational")


def test_customers_of_a_campaign_at_the_same_time_are_left_out(company):
    contacts = company.contact_table(
        [("x", "a", "mail", None), ("y", "a", "mail", None), ("y", "b", "control", None), ("z", "c", "mail", None)]
    )
    day = dt.date(2024, 5, 1)
    spans = pd.DataFrame(
        {
            "campaign_id": ["x", "y", "z"],
            "starts_on": [day, day - dt.timedelta(days=40), day + dt.timedelta(days=100)],
            "ends_on": [day + dt.timedelta(days=20), day - dt.timedelta(days=30), day + dt.timedelta(days=110)],
        }
    )
    weeks = dt.timedelta(weeks=8)
    assert reached_nearby(contacts, spans, "x", day - weeks, day + weeks) == {"a"}
    assert reached_nearby(contacts, spans, "x", day - weeks / 4, day + weeks) == set()
    assert reached_nearby(contacts, spans, "x", day, day + 2 * weeks) == {"c"}


def test_what_no_campaign_promoted():
    lines = ibis.memtable({"order_id": ["1", "2", "3"], "product_id": ["milk", "soap", "odd"]})
    products = ibis.memtable(
        {
            "product_id": ["milk", "soap", "odd"],
            "name": ["drug", "drug", "drug"],
            "department": ["grocery", "drug", None],
            "category": ["dairy", "care", "care"],
        }
    )
    named = {"campaign_id": ["a", "b", "c"], "category": ["drug", "dairy", None]}
    offers = ibis.memtable(named, schema=dict.fromkeys(named, "string"))
    kept = unpromoted_lines(lines, products, offers, ["a"]).to_pandas()["product_id"]
    assert sorted(kept) == ["milk", "odd"]
    both = unpromoted_lines(lines, products, offers, ["a", "b"]).to_pandas()["product_id"]
    assert both.tolist() == ["odd"]
    assert unpromoted_lines(lines, products, offers, ["a", "c"]) is None
    assert unpromoted_lines(lines, products, offers, ["z"]) is None
