"""The loyalty index with behaviour in it: scores, composition, level with limits, track record."""

import ibis
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from analysis.loyalty import (
    EstimationError,
    PLSPathModel,
    construct_scores,
    customer_loyalty,
    dealings_scores,
    ecsi,
    index_composition,
    index_level,
    index_track_record,
    loyalty_index,
    numbered,
    service_outcome,
)

SCALE = (1, 10)
USABLE = ["Image", "Quality", "Value", "Satisfaction", "Complaints", "Loyalty"]


def day(k):
    return pd.Timestamp("2024-01-01") + pd.Timedelta(days=k)


def lines_of(pairs):
    frame = pd.DataFrame(pairs, columns=["customer_id", "order_date"])
    frame["order_date"] = frame["order_date"].map(day)
    table = ibis.memtable(frame.assign(spend=1.0))
    return table.mutate(order_date=table.order_date.cast("date"))


def cases_of(customers, opened, days, resolved=True):
    opened = pd.Series([day(k) for k in opened])
    frame = pd.DataFrame({"customer_id": list(customers), "kind": "complaint", "channel": "phone"})
    return frame.assign(opened_at=opened, opened_on=opened.dt.normalize(), days=days, resolved=resolved)


# -- scores from behaviour ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base():
    """Customer k of forty buys first on day 0 and then k times more, one day after the other."""
    return lines_of([(str(k), n) for k in range(40) for n in range(k + 1)])


def test_dealings_are_percentiles_of_the_base(base):
    answers = pd.DataFrame({"customer_id": ["0", "20", "39", "nobody", None], "on": day(100)}, index=[5, 6, 7, 8, 9])
    found = dealings_scores(base, answers)
    assert found["purchase_days"].tolist() == [0, 20, 39, 0, 0], "the first purchase is where counting begins"
    np.testing.assert_allclose(found["dealings"], [50 / 40, 20.5 / 40 * 100, 39.5 / 40 * 100, np.nan, np.nan])


def test_only_what_came_before_the_answer_counts():
    lines = lines_of([(str(k), 0) for k in range(40)] + [("a", 0), ("a", 10), ("a", 100), ("a", 101)])
    cases = cases_of("aa", [50, 100], 1.0)
    found = dealings_scores(lines, pd.DataFrame({"customer_id": ["a"], "on": [day(100)]}), cases)
    assert found.loc[0, ["purchase_days", "contacts", "exposure"]].tolist() == [1, 1, 100]
    assert found.loc[0, "dealings"] > 98


def test_a_fixed_base_gives_two_waves_one_yardstick(base):
    answers = pd.DataFrame({"customer_id": ["20", "20"], "on": [day(100), day(300)]})
    found = dealings_scores(base, answers)
    assert found.loc[1, "dealings"] < found.loc[0, "dealings"], "nothing bought since: fewer dealings a day"
    alone = dealings_scores(base, answers[1:], base_on=day(100).date())
    assert alone["dealings"].item() == pytest.approx(found.loc[1, "dealings"])


def test_a_small_base_has_no_percentiles():
    lines = lines_of([("a", 0), ("a", 5), ("b", 1)])
    found = dealings_scores(lines, pd.DataFrame({"customer_id": ["a"], "on": [day(10)]}))
    assert found["dealings"].isna().all() and found.loc[0, "purchase_days"] == 1


def test_newcomers_are_drawn_towards_the_base():
    lines = lines_of([(str(k), n * 30) for k in range(60) for n in range(k // 5)] + [("new", 198), ("new", 199)])
    answers = pd.DataFrame({"customer_id": ["new", "59"], "on": day(200)})
    found = dealings_scores(lines, answers, base_on=day(365).date())
    assert 50 < found.loc[0, "dealings"] < 100 and found.loc[0, "exposure"] == 2


def test_service_outcome_by_hand():
    cases = cases_of(
        "aabcde", [10, 20, 90, 95, 10, 99], [2.0, 14.0, 50.0, 3.0, 80.0, 0.5], [True, True, False, True, False, True]
    )
    answers = pd.DataFrame({"customer_id": [*"abcdef"], "on": day(100)})
    found = service_outcome(answers, cases, target_days=7)
    np.testing.assert_allclose(found["service_outcome"], [75, 0, 100, 0, 100, np.nan])
    assert found["judged"].tolist() == [2, 1, 1, 1, 1, 0]


def test_what_was_open_on_the_day_of_the_answer():
    """Solved later, but past the target by then: nothing to be pleased about yet; too young to be late: not judged."""
    cases = cases_of("ab", [80, 97], [40.0, 5.0])
    found = service_outcome(pd.DataFrame({"customer_id": [*"ab"], "on": day(100)}), cases, target_days=7)
    assert found.loc[0, "service_outcome"] == 0 and np.isnan(found.loc[1, "service_outcome"])


# -- composition and persons ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behaviour(mobi):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {"dealings": rng.uniform(0, 100, 250), "service_outcome": rng.uniform(0, 100, 250)}, index=mobi.index
    )
    return frame.mask(rng.random((250, 2)) < [0.1, 0.7])


@pytest.fixture(scope="module")
def composition(blocks, behaviour):
    return index_composition(blocks, USABLE, behaviour=behaviour)


def test_behaviour_carries_its_parts(composition, behaviour, blocks):
    parts = composition.set_index("part")
    assert parts["source"].to_dict() == {
        "trust": "survey", "frequency": "behaviour", "service": "behaviour", "satisfaction": "survey", "intention": "survey",
    }  # fmt: skip
    np.testing.assert_allclose(parts["weight"], 0.2)
    assert parts.loc["service", "coverage"] == behaviour["service_outcome"].notna().mean()
    none = index_composition(blocks, USABLE, behaviour=behaviour * np.nan).set_index("part")
    assert none.loc["frequency", "status"] == "not asked" and none.loc["service", "construct"] == "Quality"


def test_weights_are_rescaled_person_by_person(fitted, behaviour, composition):
    scores = construct_scores(fitted, SCALE, USABLE).join(behaviour)
    index = loyalty_index(scores, composition)
    parts = scores[["image", "dealings", "service_outcome", "satisfaction", "loyalty"]]
    np.testing.assert_allclose(index, parts.mean(axis=1))
    scores.loc[0, "satisfaction"] = np.nan
    assert np.isnan(loyalty_index(scores, composition)[0]), "what the survey lacks is not made up for"


def test_behaviour_is_in_the_table(mobi, fitted, behaviour, composition):
    table = customer_loyalty(mobi, fitted, SCALE, USABLE, composition, behaviour=behaviour)
    assert list(table)[-3:] == ["dealings", "service_outcome", "loyalty_index"]
    pd.testing.assert_series_equal(table["dealings"], behaviour["dealings"].reset_index(drop=True))


# -- level ----------------------------------------------------------------------------------------------------


def test_every_draw_is_the_mean_of_the_index_on_the_resample(mobi, behaviour, composition, ecsi_model):
    """A resample of customers with survey weights, estimated from scratch, gives the draw."""
    rng = np.random.default_rng(4)
    customers = pd.Series(np.arange(250) // 2, index=mobi.index).astype(str)
    weights = pd.Series(rng.uniform(0.5, 2, 250), index=mobi.index)
    results = PLSPathModel(mobi, ecsi_model, weights=weights, customers=customers).fit()
    indices = rng.integers(0, 125, (2, 125))
    boot = results.bootstrap(indices=indices)
    given = {"behaviour": behaviour, "weights": weights, "customers": customers}
    level, low, high = index_level(results, boot, SCALE, composition, 1.0, **given)
    means = []
    for chosen in (np.arange(125), *indices):
        rows = np.concatenate([np.flatnonzero(np.arange(250) // 2 == k) for k in chosen])
        data, mass = mobi.iloc[rows].reset_index(drop=True), weights.to_numpy()[rows]
        again = PLSPathModel(data, ecsi_model, weights=mass).fit()
        scores = construct_scores(again, SCALE, USABLE).join(behaviour.iloc[rows].reset_index(drop=True))
        means.append(np.average(loyalty_index(scores, composition), weights=mass))
    np.testing.assert_allclose([level, low, high], [means[0], min(means[1:]), max(means[1:])], rtol=1e-7)


def test_others_weights_or_customers_are_refused(mobi, fitted, drawn, behaviour, composition, blocks):
    given = (fitted, drawn, SCALE, composition)
    with pytest.raises(EstimationError, match="customers are not those"):
        index_level(*given, behaviour=behaviour, customers=pd.Series("one", index=mobi.index))
    with pytest.raises(EstimationError, match="weights are not those"):
        index_level(*given, behaviour=behaviour, weights=pd.Series(np.arange(250.0), index=mobi.index))
    nothing = index_composition(blocks, [])
    assert np.isnan(index_level(fitted, drawn, SCALE, nothing, behaviour=None)).all()


def test_limits_of_the_level_cover():
    """The index's mean over many samples of one population lies within the limits as often as they say."""
    rng = np.random.default_rng(15)
    blocks = {"Image": numbered("i", 2), "Satisfaction": numbered("s", 3), "Loyalty": numbered("l", 2)}
    model = ecsi(blocks)

    def sample(n):
        latent = rng.standard_normal((n, 1))
        answers = 7 + 1.2 * latent + 1.0 * rng.standard_normal((n, 7))
        spent = np.clip(50 + 15 * latent + 10 * rng.standard_normal((n, 1)), 0, 100)
        data = pd.DataFrame(np.clip(np.round(answers), 1, 10), columns=list(model.items))
        return data, pd.DataFrame({"dealings": spent[:, 0]}).mask(rng.random((n, 1)) < 0.3)

    data, behaviour = sample(30_000)
    composition = index_composition(blocks, list(blocks), behaviour=behaviour)
    whole = PLSPathModel(data, model).fit()
    truth = loyalty_index(construct_scores(whole, SCALE, list(blocks)).join(behaviour), composition).mean()
    covered = []
    for k in range(60):
        data, behaviour = sample(100)
        results = PLSPathModel(data, model).fit()
        _, low, high = index_level(results, results.bootstrap(200, k), SCALE, composition, behaviour=behaviour)
        covered.append(low <= truth <= high)
    assert np.mean(covered) >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 60)


# -- track record ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def purchases():
    rng = np.random.default_rng(16)
    rate = rng.gamma(1.0, 1.0, 600)
    predictors = pd.DataFrame(
        {"index": rate + rng.normal(0, 2, 600), "bought lately": rng.poisson(2 * rate).astype(float)}
    )
    return pd.Series(rng.poisson(rate)), predictors


def test_the_record_agrees_with_the_libraries(purchases):
    bought, predictors = purchases
    weights = pd.Series(np.random.default_rng(17).uniform(0.2, 3, 600))
    record = index_track_record(bought, predictors, weights=weights, draws=50).set_index("predictor")
    plain = index_track_record(bought, predictors, draws=50).set_index("predictor")
    for name in predictors:
        expected = roc_auc_score(bought > 0, predictors[name], sample_weight=weights)
        assert record.loc[name, "auc"] == pytest.approx(expected)
        assert plain.loc[name, "rank"] == pytest.approx(spearmanr(predictors[name], bought).statistic)


def test_the_rule_is_the_yardstick(purchases):
    bought, predictors = purchases
    owners = pd.Series(np.arange(600) // 2).astype(str)
    record = index_track_record(bought, predictors, customers=owners, draws=300).set_index("predictor")
    assert (record.loc["bought lately", ["gain", "gain_low", "gain_high"]] == 0).all()
    assert record.loc["index", "gain_high"] < 0, "a noisier number is clearly worse"
    assert (record["auc_low"] < record["auc"]).all() and (record["auc"] < record["auc_high"]).all()


def test_nothing_to_foretell(purchases):
    bought, predictors = purchases
    assert index_track_record(bought * 0, predictors, draws=20)["auc"].isna().all()
    few = index_track_record(bought, predictors.where(predictors.index.to_series() < 5), draws=20)
    assert few["answers"].tolist() == [0, 0] and few["auc"].isna().all()
    with pytest.raises(EstimationError, match="no column 'habit'"):
        index_track_record(bought, predictors, rule="habit")
