"""Survey beside behaviour: the join, the regressions, the purchase model, and whether planted effects come back."""

from __future__ import annotations

import datetime
from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from link_world import OBSERVED_TO, SmallCompany, value_of

from analysis.loyalty import (
    BOUGHT,
    PURCHASES,
    SPEND,
    CustomerLink,
    EstimationError,
    Histories,
    LinkRefused,
    PLSPathModel,
    Reliability,
    customer_link,
    doubt_facts,
    effect_shape,
    link_behaviour,
    run_link,
    run_return,
    satisfaction_persistence,
    window_effects,
    within_customer,
)
from analysis.loyalty.link import LINEAR, LOGIT, POISSON, dummies, effect_row, histories, independent, regression
from analysis.loyalty.link_model import EFFECTS
from analysis.simulate.clock import START
from analysis.valuation import pareto_nbd
from analysis.valuation.purchases import Cells

ATTRIBUTES = ["age_band", "acquisition_channel"]
DAY = datetime.date(2024, 1, 1)


def purchase_table(rows: pd.DataFrame) -> ibis.Table:
    return ibis.memtable(rows, schema={"customer_id": "string", "order_date": "date", "spend": "float64"})


def bought(*rows: tuple[str, int, float]) -> ibis.Table:
    """Customer, days from DAY, spend."""
    dated = [(who, DAY + datetime.timedelta(days=day), spend) for who, day, spend in rows]
    return purchase_table(pd.DataFrame(dated, columns=["customer_id", "order_date", "spend"]))


def answered(**columns) -> pd.DataFrame:
    n = len(columns["customer_id"])
    return pd.DataFrame({"response_id": [f"Q{k}" for k in range(n)], "satisfaction": 50.0} | columns)


def linked_of(company: SmallCompany, **options):
    days = purchase_table(company.days)
    return link_behaviour(company.answers, days, OBSERVED_TO, wave="wave", attributes=company.customers, **options)


def true_reliability(company: SmallCompany) -> Reliability:
    return Reliability(float(company.answers["satisfaction"].corr(company.answers["latent"]) ** 2))


@pytest.fixture(scope="module")
def company() -> SmallCompany:
    return SmallCompany.draw("company", 7_000, np.random.default_rng(11))


@pytest.fixture(scope="module")
def linked(company):
    return linked_of(company)


@pytest.fixture(scope="module")
def link(company, linked):
    return customer_link(linked, true_reliability(company), ATTRIBUTES)


# -- the join ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_hand():
    """Answers on day 100; one week of lag; the window of 4 weeks opens on day 108 and is over on day 135."""
    days = bought(
        ("a", 0, 5.0),
        ("a", 20, 7.0),
        ("a", 90, 9.0),
        ("a", 100, 11.0),  # on the day of the answer: before it
        ("a", 105, 100.0),  # between answer and window
        ("a", 108, 2.0),
        ("a", 135, 4.0),
        ("a", 136, 8.0),  # the day after the window
        ("b", 60, 3.0),
        ("c", 101, 3.0),  # bought for the first time after answering
    )
    when = pd.Timestamp(DAY) + pd.Timedelta(days=100)
    scores = answered(customer_id=["a", "b", "c", None], responded_on=[when] * 4, wave=[1] * 4)
    end = DAY + datetime.timedelta(days=149)
    return link_behaviour(scores, days, end, wave="wave", window_weeks=4, lag_weeks=1, minimum=1)


def test_behaviour_before_and_after_by_hand(by_hand):
    a, b = by_hand.frame.to_dict("records")
    assert by_hand.left_out == {"without a customer number": 1, "no purchase before the answer": 1}
    assert a["starts_on"] == pd.Timestamp(DAY) + pd.Timedelta(days=108)
    assert (a["occasions_13"], a["occasions_52"], a["occasions_before"]) == (3, 4, 3)
    assert a["recency_weeks"] == 0 and a["tenure_weeks"] == pytest.approx(100 / 7)
    assert a["mean_spend"] == pytest.approx(8.0)
    assert a["gap_occasions"] == 1
    assert (a["purchases"], a["spend"], a["spend_per_purchase"]) == (2, 6.0, 3.0)
    assert a["bought_again"] and not b["bought_again"] and np.isnan(b["spend_per_purchase"])
    assert a["watched_weeks"] == pytest.approx(42 / 7)
    # Periods before the window: days 80-107, 52-79, 24-51, -4-23. The first purchase and the gap count in none.
    assert [a[f"past_{k}"] for k in (1, 2, 3, 4)] == [2, 0, 0, 1]
    assert [b[f"past_{k}"] for k in (1, 2, 3, 4)] == [0, 0, 0, 0]
    assert [a[f"after_{k}"] for k in (0, 1)] == [2, 1]
    assert a["last_weeks"] == pytest.approx(28.5 / 7) and b["last_weeks"] == 0


def test_time_between_answer_and_window_is_watched_by_neither_side(by_hand):
    made, _ = histories(by_hand_with_spread(by_hand))
    # 108 days of tenure, of which the 8 from the answer to the window are not watched.
    assert made.tenure[0].sum() * 28 == pytest.approx(108)
    assert made.past_time[0].sum() * 28 == pytest.approx(100)
    assert made.past[0] == 3
    assert made.time[0].sum() * 28 == pytest.approx(42)


def by_hand_with_spread(linked):
    linked.frame["score"] = [40.0, 60.0]
    return linked


def test_without_waves_every_answer_has_its_own_window():
    when = [pd.Timestamp(DAY), pd.Timestamp(DAY) + pd.Timedelta(days=30)]
    scores = answered(customer_id=["a", "a"], responded_on=when)
    days, end = bought(("a", 0, 5.0), ("a", 40, 5.0)), DAY + datetime.timedelta(days=99)
    found = link_behaviour(scores, days, end, window_weeks=4, lag_weeks=1, minimum=1).frame
    assert list(found["starts_on"] - pd.Timestamp(DAY)) == [pd.Timedelta(days=8), pd.Timedelta(days=38)]
    assert list(found["purchases"]) == [0, 1]


def test_a_window_that_is_not_over_is_left_out():
    when = [pd.Timestamp(DAY), pd.Timestamp(DAY) + pd.Timedelta(days=30)]
    scores = answered(customer_id=["a", "a"], responded_on=when, wave=[1, 2])
    days = bought(("a", 0, 5.0))
    end = DAY + datetime.timedelta(days=35)
    found = link_behaviour(scores, days, end, wave="wave", window_weeks=4, lag_weeks=1, minimum=1)
    assert len(found) == 1 and found.left_out == {"window not over": 1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"customer_id": [None, None]}, "no customer numbers"),
        ({"responded_on": [pd.NaT, pd.NaT]}, "no dates"),
        ({"responded_on": [pd.Timestamp(DAY) + pd.Timedelta(days=300)] * 2}, "nothing that followed can be seen yet"),
        ({}, "takes at least 200"),
    ],
)
def test_refusals_say_why(change, reason):
    columns = {"customer_id": ["a", "b"], "responded_on": [pd.Timestamp(DAY)] * 2} | change
    with pytest.raises(LinkRefused, match=reason):
        link_behaviour(answered(**columns), bought(("a", 0, 1.0)), DAY + datetime.timedelta(days=300))


def test_later_purchases_leave_what_came_before_alone(company):
    """Controls must not know the future: dropping every purchase after the windows opened changes none of them."""
    early = company.days[pd.to_datetime(company.days["order_date"]) < pd.Timestamp("2024-01-01")]
    first = company.answers[company.answers["wave"] == 1]
    before = [
        "occasions_13",
        "occasions_52",
        "occasions_before",
        "recency_weeks",
        "tenure_weeks",
        "mean_spend",
        "past_1",
    ]
    frames = [link_behaviour(first, purchase_table(d), OBSERVED_TO, wave="wave").frame for d in (company.days, early)]
    pd.testing.assert_frame_equal(frames[0][before], frames[1][before])
    assert frames[1]["purchases"].sum() == 0 < frames[0]["purchases"].sum()


# -- regressions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "peer"),
    [(LOGIT, sm.families.Binomial()), (POISSON, sm.families.Poisson()), (LINEAR, sm.families.Gaussian())],
)
def test_regressions_are_those_of_statsmodels(family, peer):
    rng = np.random.default_rng(3)
    x = pd.DataFrame(rng.normal(size=(400, 2)), columns=["a", "b"])
    eta = 0.2 + x["a"] * 0.5
    y = {
        LOGIT: rng.random(400) < 1 / (1 + np.exp(-eta)),
        POISSON: rng.poisson(np.exp(eta)),
        LINEAR: eta + rng.normal(size=400),
    }
    frame = pd.DataFrame({"weight": 1.0, "customer_id": np.repeat(np.arange(200), 2)})
    ours = regression(frame, np.asarray(y[family], float), family, x)
    theirs = sm.GLM(np.asarray(y[family], float), sm.add_constant(x), family=peer).fit(
        cov_type="cluster", cov_kwds={"groups": frame["customer_id"].to_numpy(), "use_correction": False}
    )
    np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-7)
    np.testing.assert_allclose(ours.covariance, theirs.cov_params() * 200 / 199, rtol=1e-6)
    if family != LINEAR:
        assert ours.deviance == pytest.approx(theirs.deviance)


def test_a_weight_of_two_is_two_rows_of_a_customer(linked):
    frame = linked.frame.head(300).reset_index(drop=True)
    twice = frame.assign(weight=np.where(np.arange(300) < 100, 2.0, 1.0))
    repeated = pd.concat([frame, frame.head(100)], ignore_index=True).assign(weight=1.0)
    fits = [regression(f, f[PURCHASES].to_numpy(float), POISSON, f[["score"]]) for f in (twice, repeated)]
    np.testing.assert_allclose(fits[0].params, fits[1].params, rtol=1e-8)
    assert fits[0].bse["score"] == pytest.approx(fits[1].bse["score"])


def test_a_regression_without_an_estimate_says_so():
    frame = pd.DataFrame({"weight": 1.0, "customer_id": range(20), "x": [0.0] * 10 + [1.0] * 10})
    with pytest.raises(EstimationError, match="no estimate"):
        regression(frame, frame["x"].to_numpy(), LOGIT, frame[["x"]])


def test_without_error_nothing_is_corrected():
    row = effect_row("rate", 0.1, 0.02, 20.0, Reliability(1.0), 0.0)
    assert row["seen"] == row["true"] == 0.1
    assert row["ten"] == pytest.approx(np.exp(0.05)) == pytest.approx(row["true_ten"])
    assert row["seen_low"] == pytest.approx(0.1 - 1.959964 * 0.02)


def test_correction_undoes_what_error_does():
    """A linear outcome, a score that is 0.7 satisfaction, a control that explains part of satisfaction: the effect comes back."""
    rng = np.random.default_rng(0)
    n, reliability = 200_000, 0.7
    control = rng.standard_normal(n)
    true = 0.5 * control + np.sqrt(0.75) * rng.standard_normal(n)
    score = (np.sqrt(reliability) * true + np.sqrt(1 - reliability) * rng.standard_normal(n)) * 15
    y = 0.3 * true + 0.4 * control + rng.standard_normal(n)
    frame = pd.DataFrame({"weight": 1.0, "customer_id": np.arange(n)})
    columns = pd.DataFrame({"score": score / 15, "control": control})
    fitted = regression(frame, y, LINEAR, columns)
    explained = np.corrcoef(score, control)[0, 1] ** 2
    row = effect_row("rate", fitted.params["score"], fitted.bse["score"], 15.0, Reliability(reliability), explained)
    assert row["seen_high"] < 0.25
    assert row["true_low"] < 0.3 < row["true_high"] and row["true"] == pytest.approx(0.3, abs=0.02)


def test_rare_and_missing_levels_join_the_most_frequent():
    frame = pd.DataFrame({"place": ["a"] * 60 + ["b"] * 30 + ["c"] * 5 + [None] * 5})
    made = dummies(frame, ["place"])
    assert list(made) == ["place=b"] and made["place=b"].sum() == 30


def test_columns_that_follow_from_others_are_left_out():
    x = np.arange(10.0)
    columns = pd.DataFrame({"a": x, "flat": 3.0, "twice": 2 * x + 1, "b": x**2})
    assert list(independent(columns)) == ["a", "b"]


def test_satisfied_customers_buy_more_in_the_window(linked, company):
    table = window_effects(linked, true_reliability(company), ATTRIBUTES).set_index("outcome")
    assert table.loc[PURCHASES, "seen_low"] > 0
    assert (table["true"].abs() > table["seen"].abs()).all() and list(table.index) == [BOUGHT, PURCHASES]


def test_a_bend_is_found_where_there_is_one_and_not_elsewhere(linked):
    assert not effect_shape(linked, PURCHASES, ATTRIBUTES).bent
    frame = linked.frame.copy()
    rng = np.random.default_rng(2)
    # Only above 85 points does satisfaction count.
    frame["purchases"] = rng.poisson(np.exp(0.05 * np.maximum(frame["score"] - 85, 0)))
    bent = effect_shape(type(linked)(frame, 13, 4, linked.periods_before, linked.periods_after, {}), PURCHASES)
    assert bent.bent and bent.p_value < 0.01
    curve = bent.curve.set_index("score")["ratio"]
    assert curve.iloc[-1] > 1.3 and abs(curve.iloc[0] - 1) < 0.35


# -- the purchase model ------------------------------------------------------------------------------------------------------


def plain_histories(x, t_x, T, score) -> Histories:
    n = len(x)
    none = np.zeros((n, 1))
    one = np.zeros((n, 1), dtype=int)
    return Histories(
        score=np.asarray(score, float),
        past=np.zeros(n),
        past_time=none,
        tenure=none,
        counts=np.asarray(x, float)[:, None],
        time=np.asarray(T, float)[:, None],
        last=np.asarray(t_x, float),
        level=one,
        rate=np.zeros((n, 0)),
        hazard=np.zeros((n, 0)),
        weight=np.ones(n),
        cluster=np.arange(n),
    )


def test_without_past_and_satisfaction_it_is_the_pareto_nbd():
    x, t_x, T = np.array([2.0, 0, 1, 4, 0]), np.array([0.6, 0, 0.3, 0.9, 0]), np.array([1.0, 1, 0.8, 1, 0.5])
    model = CustomerLink(plain_histories(x, t_x, T, [-1, 0, 1, 0.5, -0.5]), 0.7)
    params = np.array([0.6, 1.3, 0.8, 2.1])
    ours, _ = model.loglike(np.append(np.log(params), [0, 0]))
    cells = Cells.of(x, t_x, T)
    theirs = pareto_nbd.likelihood(params, cells.apart).by_cell()[0][cells.index]
    np.testing.assert_allclose(ours, theirs, atol=1e-8)


def test_satisfaction_scales_rate_and_hazard_as_covariates_do():
    """One period, no past: γ z and δ z divide α and β of the plain model by exp(γ z) and exp(δ z), times the density's own."""
    x, t_x, T, z = np.array([2.0, 0, 3]), np.array([0.6, 0, 0.9]), np.ones(3), np.array([-1.0, 0.4, 1.5])
    model = CustomerLink(plain_histories(x, t_x, T, z), 0.7)
    r, alpha, s, beta, g, d = 0.6, 1.3, 0.8, 2.1, 0.3, -0.4
    ours, _ = model.loglike(np.append(np.log([r, alpha, s, beta]), [g, d]))
    cells = Cells(x, t_x, T, np.ones(3))
    params = (r, alpha * np.exp(-g * z), s, beta * np.exp(-d * z))
    np.testing.assert_allclose(ours, pareto_nbd.likelihood(params, cells.apart).by_cell()[0], atol=1e-8)


def test_gradient_is_the_slope_of_the_likelihood(linked):
    made, names = histories(linked, ["age_band"])
    model = CustomerLink(made, 0.7, 0.0, (names, names))
    params = model._start() + 0.2 * np.random.default_rng(1).standard_normal(len(model.names))
    gradient = model.loglike(params)[1].sum(axis=1)
    for j in range(len(params)):
        step = np.zeros(len(params))
        step[j] = 1e-5
        slope = (model.loglike(params + step)[0].sum() - model.loglike(params - step)[0].sum()) / 2e-5
        assert gradient[j] == pytest.approx(slope, rel=1e-5, abs=1e-4), model.names[j]


def test_planted_effects_come_back(link):
    """Within 3.5 standard errors, and clear of nothing where the data can tell."""
    for which, planted in (("rate", 0.12), ("hazard", -0.40)):
        found = link.effect(which)
        error = (found["high"] - found["low"]) / (2 * 1.959964)
        assert abs(found["value"] - planted) < 3.5 * error
    assert link.effect("rate")["low"] > 0
    assert set(link.results.params.index[4:6]) == set(EFFECTS)


def test_nothing_planted_nothing_found():
    quiet = SmallCompany.draw("company", 4_000, np.random.default_rng(5), rate_effect=0.0, hazard_effect=0.0)
    found = customer_link(linked_of(quiet), true_reliability(quiet), ["age_band"])
    for which in ("rate", "hazard"):
        effect = found.effect(which)
        error = (effect["high"] - effect["low"]) / (2 * 1.959964)
        assert abs(effect["value"]) < 3.5 * error


def test_doubt_about_persistence_widens_the_interval(linked):
    made, _ = histories(linked)
    sure, unsure = (CustomerLink(made, 0.7, error).fit() for error in (0.0, 0.15))
    np.testing.assert_allclose(sure.params, unsure.params)
    assert (unsure.bse[list(EFFECTS)] > sure.bse[list(EFFECTS)]).all()
    # The slope at which estimates move with persistence is that of fitting again.
    slope = (CustomerLink(made, 0.72).fit().params - CustomerLink(made, 0.68).fit().params)[EFFECTS[0]] / 0.04
    added = np.sqrt(unsure.covariance.loc[EFFECTS[0], EFFECTS[0]] - sure.covariance.loc[EFFECTS[0], EFFECTS[0]])
    assert added == pytest.approx(0.15 * abs(slope), rel=0.1)


def test_the_purchase_model_refuses_what_it_cannot_tell(linked):
    made, _ = histories(linked)
    flat = {name: getattr(made, name) for name in made.__dataclass_fields__}
    with pytest.raises(EstimationError, match="same for everybody"):
        CustomerLink(Histories(**flat | {"score": np.zeros(len(made))}), 0.7)
    with pytest.raises(EstimationError, match="nobody bought"):
        CustomerLink(Histories(**flat | {"counts": np.zeros_like(made.counts)}), 0.7)
    with pytest.raises(EstimationError, match="persistence"):
        CustomerLink(made, 1.5)


# -- customers asked twice ---------------------------------------------------------------------------------------------------


def test_persistence_is_found_from_customers_asked_twice():
    twice = SmallCompany.draw("company", 9_000, np.random.default_rng(8), response=0.9)
    linked = linked_of(twice)
    found = satisfaction_persistence(linked, true_reliability(twice))
    assert not found["assumed"] and found["periods"] == pytest.approx(3)
    assert abs(found["value"] - 0.7) < 4 * found["error"] and found["error"] < 0.06
    within = within_customer(linked, true_reliability(twice))
    assert within["low"] < 0.12 < within["high"] + 0.05
    assert within["informative"] <= within["customers"]


def test_one_wave_falls_back_to_the_usual_persistence_and_says_why(company):
    once = company.answers[company.answers["wave"] == 2]
    linked = link_behaviour(once, purchase_table(company.days), OBSERVED_TO, wave="wave")
    assert satisfaction_persistence(linked, Reliability(0.8))["assumed"]
    found = within_customer(linked, Reliability(0.8))
    assert found["value"] is None and "0 customers answered twice" in found["reason"]


# -- in one call -------------------------------------------------------------------------------------------------------------


def test_one_call_gives_all_or_the_reason(company, mobi, ecsi_model):
    days, reliability = purchase_table(company.days), Reliability(0.8, 0.01, lowest=0.7, agreed=0.9)
    clock = SimpleNamespace(observed_from=START, observed_to=OBSERVED_TO)
    options = {"wave": "wave", "customers": company.customers, "attributes": ["age_band", "shoe_size"]}
    found, reason = run_link(company.answers, company.answers, days, clock, reliability, **options)
    assert reason == "" and list(found.effects["outcome"]) == ["rate", "hazard", SPEND, BOUGHT, PURCHASES]
    assert found.e_value["value"] >= 1 and not found.warning["warns"]
    early = company.answers.assign(customer_id=None)
    assert run_link(early, early, days, clock, reliability) == (
        None,
        "the answers carry no customer numbers",
    )
    model = PLSPathModel(mobi, ecsi_model).fit()
    draws = model.bootstrap(200, seed=1)
    usable = ["Image", "Quality", "Value", "Satisfaction"]
    worth = {"scale": (1, 10), "usable": usable, "horizon_weeks": 52, "discount_rate": 0.1}
    chain, reason = run_return(model, draws, found.link, company.summary(), value_of(company), **worth)
    assert reason == "" and set(chain.what_if()["driver"]) == set(usable)
    doubts = doubt_facts(found, chain, "Satisfaction")
    assert (doubts["lowest"], doubts["agreed"]) == (0.7, 0.9) and not doubts["warns"]
    nothing, reason = run_return(
        model, draws, found.link, company.summary(), value_of(company).assign(residual_value=np.nan), **worth
    )
    assert nothing is None and "no expected margin" in reason
