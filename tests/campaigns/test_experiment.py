"""The declarative call: the same numbers as the estimators, with the right family of tests, and reasons for gaps."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

from analysis.campaigns.effects import (
    CUPED,
    DifferenceInMeans,
    EstimationError,
    LinAdjustment,
    RatioOfMeans,
    fieller,
    tail_sensitivity,
)
from analysis.campaigns.experiment import Experiment, Mean, Ratio, Share
from analysis.errors import RapportError
from analysis.multiplicity import adjust_p_values


def customers(n=900, seed=1, effect=3.0):
    rng = np.random.default_rng(seed)
    arm = rng.choice(["control", "mail", "sms"], n)
    before = rng.gamma(2, 10, n)
    orders = rng.poisson(1 + 0.3 * (arm == "mail"), n)
    spend = np.where(rng.random(n) < 0.6, 0, 0.8 * before + rng.gamma(2, 5, n)) + effect * (arm == "mail")
    return pd.DataFrame(
        {"arm": arm, "before": before, "orders": orders, "spend": spend, "bought": (orders > 0), "visits": orders + 1}
    )


METRICS = {
    "Spend": Mean("spend", "before"),
    "Spend by Lin": Mean("spend", "before", "lin"),
    "Bought": Share("bought"),
    "Orders a visit": Ratio("orders", "visits"),
}


def test_rows_are_the_estimators_numbers():
    frame = customers()
    results = Experiment(METRICS).analyse(frame)
    rows = results.table.set_index(["metric", "arm"])
    assert len(rows) == 8
    two = frame[frame["arm"].isin(("control", "mail"))]
    expected = CUPED(two["spend"], two["arm"] == "mail", two["before"]).fit()
    found = rows.loc[("Spend", "mail")]
    assert (found.effect, found.effect_low, found.effect_high) == (expected.effect, *expected.interval())
    assert found.variance_ratio == expected.diagnostics["variance_ratio"] < 1
    assert found.arm_value == pytest.approx(found.control_value + found.effect)
    assert found.relative_low < found.relative_effect < found.relative_high
    assert np.isnan(rows.loc[("Bought", "mail")].variance_ratio)
    assert results.estimates["Spend", "mail"].effect == found.effect
    assert results.summary().shape == (8, 13)


def test_families_hold_every_arm_and_metric():
    results = Experiment(METRICS).analyse(customers())
    table = results.table
    np.testing.assert_allclose(table["p_holm"], adjust_p_values(table["p_value"]))
    np.testing.assert_allclose(table["p_benjamini_hochberg"], adjust_p_values(table["p_value"], "bh"))
    assert results.between[["arm", "control"]].drop_duplicates().values.tolist() == [["sms", "mail"]]
    assert len(results.between) == 4


def test_a_customer_twice_is_one_customer():
    frame = customers().assign(customer_id=lambda f: np.arange(len(f)))
    twice = pd.concat([frame, frame])
    once = Experiment({"Spend": Mean("spend")}).analyse(frame).table.iloc[0]
    naive = Experiment({"Spend": Mean("spend")}).analyse(twice).table.iloc[0]
    known = Experiment({"Spend": Mean("spend")}, cluster="customer_id").analyse(twice).table.iloc[0]
    assert naive.standard_error < 0.75 * once.standard_error
    assert known.standard_error == pytest.approx(once.standard_error, rel=0.01)
    assert known.relative_high == pytest.approx(once.relative_high, rel=0.01)


def test_missing_values_are_left_out_and_counted():
    frame = customers()
    frame.loc[frame.index[:50], "spend"] = np.nan
    row = Experiment({"Spend": Mean("spend")}).analyse(frame).table.set_index("arm").loc["mail"]
    assert row.missing == frame.iloc[:50]["arm"].isin(("control", "mail")).sum()
    assert row.arm_customers + row.control_customers + row.missing == frame["arm"].isin(("control", "mail")).sum()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda f: f.assign(spend=5.0), "no_variation"),
        (lambda f: pd.concat([f[f["arm"] != "mail"], f[f["arm"] == "mail"].iloc[:1]]), "no_treated"),
        (lambda f: f.assign(spend=np.nan), "no_treated"),
    ],
)
def test_no_estimate_has_a_reason(changed, reason):
    row = Experiment({"Spend": Mean("spend")}).analyse(changed(customers())).table.set_index("arm").loc["mail"]
    assert row.reason == reason and np.isnan(row.effect) and np.isnan(row.p_holm)


def test_what_cannot_be_analysed_is_refused():
    frame = customers()
    with pytest.raises(RapportError, match="no column clicks"):
        Experiment({"Clicks": Mean("clicks")}).analyse(frame)
    with pytest.raises(RapportError, match="nobody is in the arm 'none'"):
        Experiment(METRICS, control="none").analyse(frame)
    with pytest.raises(RapportError, match="nothing to compare"):
        Experiment(METRICS).analyse(frame[frame["arm"] == "control"])
    with pytest.raises(RapportError, match="only 0 and 1"):
        Experiment({"Orders": Share("orders")}).analyse(frame)
    with pytest.raises(ValueError, match="adjustment must be one of"):
        Mean("spend", "before", "ancova")


def test_lin_is_the_interacted_regression_with_hc2():
    rng = np.random.default_rng(6)
    x = rng.normal(size=(300, 2))
    d = rng.random(300) < 0.3
    y = 1 + x @ [1, -2] + d * (2 + x[:, 0]) + rng.normal(size=300) * (1 + d)
    centred = x - x.mean(axis=0)
    design = np.column_stack([np.ones(300), d, centred, centred * d[:, None]])
    fitted = sm.OLS(y, design).fit(cov_type="HC2")
    found = LinAdjustment(y, d, x).fit()
    assert found.effect == pytest.approx(fitted.params[1], rel=1e-9)
    assert found.se == pytest.approx(fitted.bse[1], rel=1e-9)
    assert found.baseline == pytest.approx(fitted.params[0], rel=1e-9)
    assert LinAdjustment(y, d, np.column_stack([x, x[:, 0]])).fit().se == pytest.approx(found.se, rel=1e-6)
    with pytest.raises(EstimationError, match="no more customers than the 3 terms"):
        LinAdjustment(y[:6], [1, 1, 1, 0, 0, 0], x[:6]).fit()


def test_adjusted_intervals_cover_the_effect_and_the_relative_effect():
    rng, covered = np.random.default_rng(12), np.zeros((200, 4))
    for i in range(200):
        x = rng.gamma(2, 1, 400)
        d = rng.random(400) < 0.4
        y = np.where(rng.random(400) < 0.5, 0, 2 * x) + rng.normal(size=400) + 1.0 * d + 2
        for k, model in enumerate((CUPED, LinAdjustment)):
            found = model(y, d, x).fit()
            low, high = found.interval()
            # E[y without] = 0.5 · 2 · 2 + 2 = 4, so the relative effect is a quarter.
            relative_low, relative_high = found.relative_interval()
            covered[i, 2 * k : 2 * k + 2] = low <= 1 <= high, relative_low <= 0.25 <= relative_high
    assert (np.abs(covered.mean(axis=0) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)).all()


def test_fieller_limits_are_where_the_test_of_the_ratio_turns():
    low, high = fieller(3.0, 10.0, 0.5, 0.8, -0.3, 1.96)
    for limit in (low, high):
        z = (3 - limit * 10) / np.sqrt(0.5 - 2 * limit * -0.3 + limit**2 * 0.8)
        assert abs(z) == pytest.approx(1.96)
    assert fieller(3.0, 0.5, 0.5, 0.8, 0.0, 1.96) == (-np.inf, np.inf)


def test_delta_and_fieller_agree_in_large_samples_and_nothing_is_no_baseline():
    frame = customers(9000)
    found = DifferenceInMeans(frame["spend"], frame["arm"] == "mail").fit()
    np.testing.assert_allclose(found.relative_interval(), found.relative_interval(method="delta"), atol=0.01)
    with pytest.raises(ValueError, match="fieller or delta"):
        found.relative_interval(method="boot")
    nothing = DifferenceInMeans([0, 0, 0, 1, 2, 3], [0, 0, 0, 1, 1, 1]).fit()
    assert np.isnan(nothing.relative_interval()).all()


def test_ratio_of_means_is_the_ratio_with_the_delta_methods_error():
    rng = np.random.default_rng(3)
    s = rng.poisson(5, 800) + 1.0
    y = rng.binomial(s.astype(int), 0.3).astype(float)
    d = rng.random(800) < 0.5
    found = RatioOfMeans(y, s, d).fit()
    assert found.effect == pytest.approx(y[d].sum() / s[d].sum() - y[~d].sum() / s[~d].sum())
    variance = 0.0
    for arm in (d, ~d):
        ratio, c = y[arm].mean() / s[arm].mean(), np.cov(y[arm], s[arm])
        variance += (c[0, 0] - 2 * ratio * c[0, 1] + ratio**2 * c[1, 1]) / s[arm].mean() ** 2 / arm.sum()
    assert found.se == pytest.approx(np.sqrt(variance))
    with pytest.raises(EstimationError, match="zero on average"):
        RatioOfMeans(y, s * ~d, d).fit()


def test_tails_show_an_effect_that_one_customer_made():
    y = np.r_[np.tile([0.0, 1.0, 2.0], 300), 50_000.0]
    d = np.r_[np.tile([0, 1], 450), 1]
    table = tail_sensitivity(y, d).set_index("tail")
    assert table.loc["as_measured", "effect"] > 100
    assert abs(table.loc["without_largest", "effect"]) < 0.2
    assert table.loc["winsorised", "changed"].tolist() == [1, 1]
    assert tail_sensitivity(np.r_[np.zeros(999), 5.0], np.tile([0, 1], 500))["reason"].tolist() == [
        None, "cap_zero", None, None
    ]  # fmt: skip
    frame = customers()
    tails = Experiment(METRICS).tails(frame)
    assert set(tails["metric"]) == {"Spend", "Spend by Lin"} and len(tails) == 16
    spend = Experiment(METRICS).analyse(frame).table.set_index(["metric", "arm"])
    as_is = tails[tails["tail"] == "as_measured"].set_index(["metric", "arm"])
    assert as_is.loc[("Spend", "mail"), "effect"] == pytest.approx(spend.loc[("Spend", "mail"), "effect"])


def test_welch_of_scipy():
    frame = customers()
    row = Experiment({"Spend": Mean("spend")}).analyse(frame).table.set_index("arm").loc["sms"]
    groups = [frame.loc[frame["arm"] == arm, "spend"] for arm in ("sms", "control")]
    assert row.p_value == pytest.approx(stats.ttest_ind(*groups, equal_var=False).pvalue)


def test_weights_undo_an_uneven_sample():
    frame = customers()
    heavy = frame["before"] > frame["before"].median()
    frame["weight"] = np.where(heavy, 0.5, 1.5)
    one = Experiment({"Spend": Mean("spend")}, weight="weight").analyse(frame).table.set_index("arm").loc["mail"]
    rows = frame[frame["arm"] == "mail"]
    assert one.arm_value == pytest.approx(np.average(rows["spend"], weights=rows["weight"]))
    plain = Experiment({"Spend": Mean("spend", "before")}).analyse(frame).table
    same = Experiment({"Spend": Mean("spend", "before")}, weight="weight").analyse(frame.assign(weight=7.0)).table
    pd.testing.assert_frame_equal(plain, same)
    # A weight of zero is an absent row; so is none at all.
    frame["weight"] = np.where(heavy, 1.0, np.where(frame["orders"] > 1, np.nan, 0.0))
    left = Experiment({"Spend": Mean("spend")}, weight="weight").analyse(frame).table
    half = Experiment({"Spend": Mean("spend")}).analyse(frame[heavy]).table
    np.testing.assert_allclose(left["standard_error"], half["standard_error"])
    with pytest.raises(RapportError, match="lin knows no weights"):
        Experiment({"Spend": Mean("spend", "before", "lin")}, weight="weight").analyse(frame)
    with pytest.raises(RapportError, match="ratio knows no weights"):
        Experiment({"Orders": Ratio("orders", "visits")}, weight="weight").analyse(frame)


def test_weighted_interval_covers():
    rng, covered = np.random.default_rng(21), []
    for _ in range(200):
        group = rng.random(600) < 0.5
        d, w = rng.random(600) < 0.5, np.where(group, 0.4, 1.6)
        y = 3.0 * group + (1.0 + group) * d + rng.normal(size=600)
        low, high = DifferenceInMeans(y, d, w).fit().interval()
        covered.append(low <= 1.2 <= high)  # a fifth of the weighted customers have the larger effect
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)
    with pytest.raises(ValueError, match="weights must be finite"):
        DifferenceInMeans(y, d, -w).fit()
