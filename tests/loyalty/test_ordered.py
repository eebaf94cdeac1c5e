"""Ordered answers: the same numbers as statsmodels, weights and customers, Brant's test, rare answers."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.discrete.discrete_model import Logit
from statsmodels.miscmodels.ordinal_model import OrderedModel

from analysis import loyalty
from analysis.loyalty import EstimationError, OrderedLogit
from analysis.loyalty.ordered import _likelihood

BETA = np.array([0.9, 0.4, 0.0])
CUTS = np.array([-2.0, -0.7, 0.5, 1.8])


def survey(n, rng, uneven=0.0):
    """Answers 1 to 5; with `uneven`, the first driver counts for more the higher the cut."""
    x = rng.normal(size=(n, 3)) @ np.linalg.cholesky([[1, 0.5, 0.3], [0.5, 1, 0.2], [0.3, 0.2, 1]]).T
    u = rng.logistic(size=n)
    above = [x @ (BETA + uneven * k * np.eye(3)[0]) + u > cut for k, cut in enumerate(CUTS)]
    return pd.Series(1 + np.sum(above, axis=0), name="stay"), pd.DataFrame(x, columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def data():
    return survey(800, np.random.default_rng(1))


@pytest.fixture(scope="module")
def fit(data):
    return OrderedLogit(*data).fit()


def test_estimates_and_likelihood_are_those_of_statsmodels(fit):
    model = OrderedModel(fit.model.codes, fit.model.scores, distr="logit")
    other = model.fit(method="bfgs", disp=0, gtol=1e-8, maxiter=500)
    np.testing.assert_allclose(fit.params, other.params[:3], atol=1e-4)
    np.testing.assert_allclose(fit.thresholds, model.transform_threshold_params(other.params)[1:-1], atol=1e-4)
    assert fit.log_likelihood == pytest.approx(other.llf, abs=1e-6)
    np.testing.assert_allclose(fit.bse, other.bse[:3], rtol=0.1)


def test_gradient_and_curvature_are_those_of_the_likelihood(fit):
    theta, step = fit.estimate + 0.1, 1e-6
    arguments = fit.model.codes, fit.model.scores, np.linspace(0.2, 2, fit.nobs)
    _, gradient, hessian = _likelihood(theta, *arguments)
    for k in range(len(theta)):
        move = step * np.eye(len(theta))[k]
        up, down = _likelihood(theta + move, *arguments), _likelihood(theta - move, *arguments)
        assert gradient[:, k].sum() == pytest.approx((up[0] - down[0]) / (2 * step), rel=1e-4, abs=1e-4)
        numeric = (up[1].sum(axis=0) - down[1].sum(axis=0)) / (2 * step)
        np.testing.assert_allclose(hessian[k], numeric, rtol=1e-4, atol=1e-3)


def test_each_cut_is_the_logit_of_statsmodels(fit):
    by_cut = fit.by_cut()
    for cut, label in enumerate(fit.model.labels[:-1]):
        design = np.column_stack([np.ones(fit.nobs), fit.model.scores])
        other = Logit((fit.model.codes > cut).astype(float), design).fit(disp=0, cov_type="HC0")
        part = by_cut[by_cut["above"] == label]
        np.testing.assert_allclose(np.log(part["odds_ratio"]), other.params[1:], atol=1e-6)
        widths = (np.log(part["high"]) - np.log(part["low"])) / 2 / fit._quantile(0.95)
        np.testing.assert_allclose(widths, other.bse[1:], rtol=2e-3)


def test_weights_count_like_repeated_rows_and_customers_keep_the_errors_honest(data):
    answers, drivers = data
    weights = pd.Series(np.tile([1.0, 2.0, 0.0, 1.0], 200))
    at = answers.index.repeat(weights.astype(int))
    many, scores = answers.loc[at].reset_index(drop=True), drivers.loc[at].reset_index(drop=True)
    weighted = OrderedLogit(answers, drivers, weights=weights).fit()
    clustered = OrderedLogit(many, scores, customers=pd.Series(at.astype(str))).fit()
    naive = OrderedLogit(many, scores).fit()
    np.testing.assert_allclose(weighted.estimate, clustered.estimate, atol=1e-7)
    np.testing.assert_allclose(weighted.bse, clustered.bse, rtol=1e-6)
    assert (naive.bse < 0.93 * weighted.bse).all()
    assert weighted.proportional_odds()["p"][0] == pytest.approx(clustered.proportional_odds()["p"][0])
    assert (weighted.nobs, clustered.model.customers) == (600, 600)


def test_odds_are_recovered_and_intervals_cover_and_brant_keeps_its_level():
    rng = np.random.default_rng(7)
    covered, rejected = np.zeros(3), np.zeros(4)
    for _ in range(150):
        answers, drivers = survey(300, rng)
        found = OrderedLogit(answers, drivers, fewest=15).fit()
        truth = BETA * drivers.std(ddof=0).to_numpy()
        limits = found.conf_int()
        covered += ((limits["low"] <= truth) & (truth <= limits["high"])).to_numpy()
        rejected += (found.proportional_odds()["p"] < 0.05).to_numpy()
    assert (np.abs(covered / 150 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 150)).all()
    assert (rejected / 150 < 0.05 + 4 * np.sqrt(0.95 * 0.05 / 150)).all()


def test_brant_finds_the_driver_that_counts_for_more_at_the_top():
    answers, drivers = survey(2000, np.random.default_rng(8), uneven=0.35)
    found = OrderedLogit(answers, drivers).fit()
    test = found.proportional_odds().set_index("driver")
    assert test.loc["all", "p"] < 1e-4 and test.loc["a", "p"] < 1e-4 and test.loc["c", "p"] > 0.01
    assert test.loc["all", "df"] == 9 and test.loc["a", "df"] == 3
    slopes = found.by_cut().query("driver == 'a'")["odds_ratio"]
    assert slopes.is_monotonic_increasing


def test_rare_answers_are_merged_with_the_rarer_neighbour_and_told():
    rng = np.random.default_rng(9)
    answers = pd.Series(np.repeat([1, 2, 3, 4, 5, 9], [3, 10, 15, 100, 90, 40]), name="q")
    drivers = pd.DataFrame({"x": answers + rng.normal(0, 3, len(answers))})
    model = OrderedLogit(answers, drivers, fewest=25)
    assert model.labels == ["1 to 3", "4", "5", "9"] and model.merged == ["1 to 3"]
    assert OrderedLogit(answers, drivers, fewest=3).merged == []


def test_two_answers_are_a_plain_logit_and_have_nothing_to_compare(data):
    answers, drivers = data
    two = (answers > 3).astype(int)
    found = OrderedLogit(two, drivers).fit()
    z = (drivers - drivers.mean()) / drivers.std(ddof=0)
    other = Logit(two, np.column_stack([np.ones(800), z])).fit(disp=0)
    np.testing.assert_allclose(found.params, other.params.iloc[1:], atol=1e-6)
    assert found.proportional_odds()["p"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, d: (a[:1], d[:1]), "1 customers answered"),
        (lambda a, d: (a * 0 + 7, d), "fewer than two answers to 'stay'"),
        (lambda a, d: (a, d.assign(b=2.0)), "driver 'b' does not vary"),
        (lambda a, d: (a, d.assign(b=d["a"])), "determine each other"),
        (lambda a, d: (a, d.assign(b=a + 0.0)), "without error"),
    ],
)
def test_hopeless_data_say_what_is_wrong(data, change, message):
    with pytest.raises(EstimationError, match=message):
        OrderedLogit(*change(*data)).fit()


def test_mobi_ordered_answers_and_paths_agree_on_the_order(mobi, fitted, drawn):
    found = loyalty.ordered_logit(fitted, mobi["CUSL1"], "Loyalty")
    odds = found.odds_ratios()
    assert list(odds["driver"]) == ["Satisfaction", "Image", "Complaints"]
    assert (odds["low"] < odds["odds_ratio"]).all() and (odds["odds_ratio"] < odds["high"]).all()
    pairs = loyalty.ordered_pairs(found, drawn, "Loyalty")
    assert len(pairs) == 3 and pairs["agree"].all()
    first = pairs.iloc[0]
    assert first["difference"] == pytest.approx(found.params["Satisfaction"] - found.params["Image"])
    assert first["path_low"] < first["path_difference"] < first["path_high"]
    facts = loyalty.ordered_facts(found, pairs)
    assert facts["driver"] == "Satisfaction" and facts["agreeing"] == facts["pairs"] == 3
    assert facts["uneven"] == [] and facts["proportional_p"] > 0.05 and facts["merged"]


def test_one_driver_has_no_pairs_and_none_says_so(mobi, fitted, drawn):
    found = loyalty.ordered_logit(
        fitted, mobi["PERQ1"].astype(str).replace("3", "n/a"), "Quality", missing_codes=["n/a"]
    )
    pairs = loyalty.ordered_pairs(found, drawn, "Quality")
    assert pairs.empty and loyalty.ordered_facts(found, pairs)["driver"] == "Expectation"
    with pytest.raises(EstimationError, match="nothing leads to 'Image'"):
        loyalty.ordered_logit(fitted, mobi["IMAG1"], "Image")
