"""Design checks, response rates and the funnel."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.campaigns import design, response


def test_sample_ratio_is_the_joint_chi_square():
    found = design.sample_ratio({"a": 480, "b": 520, "control": 1000}, {"a": 0.25, "b": 0.25, "control": 0.5})
    assert (found.statistic, found.p_value) == (
        pytest.approx(1.6),
        pytest.approx(stats.chisquare([480, 520, 1000], [500, 500, 1000]).pvalue),
    )
    assert not found.fails()
    assert design.sample_ratio({"a": 600, "control": 400}, {"a": 1, "control": 1}).fails()


def test_sample_ratio_wants_the_same_arms():
    with pytest.raises(ValueError, match="give a share for each arm"):
        design.sample_ratio({"a": 1, "control": 1}, {"a": 0.5, "b": 0.5})
    with pytest.raises(ValueError, match="positive share"):
        design.sample_ratio({"a": 1, "control": 1}, {"a": 1.0, "control": 0.0})


def test_sample_ratio_rejects_as_often_as_it_says():
    rng = np.random.default_rng(2)
    p = [design.sample_ratio({"a": k, "c": 900 - k}, {"a": 2, "c": 1}).p_value for k in rng.binomial(900, 2 / 3, 2000)]
    assert abs(np.mean(np.array(p) < 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000)


def test_duplicates_and_sizes_are_counted_in_the_engine(company):
    contacts = company.contact_table(
        [("1", "a", "mail", None), ("1", "a", "control", None), ("1", "b", "mail", None), ("2", "a", "mail", None)]
    )
    assert design.in_two_arms(contacts) == 1
    assert design.arm_sizes(contacts)["customers"].tolist() == [1, 2, 1]


def test_weights_that_balance_leave_no_difference():
    x = pd.DataFrame({"spend": [10.0, 12.0, 10.0, 12.0, 2.0], "constant": 1.0})
    found = design.standardised_differences(x, [1, 1, 0, 0, 0], [9, 9, 1, 1, 0])
    assert found["before"].tolist() == pytest.approx([3 / np.sqrt(2), 0.0])
    assert found["after"].tolist() == pytest.approx([0.0, 0.0])
    assert design.effective_size([1, 1, 0]) == 2
    assert design.effective_size([0, 0]) == 0


def test_overlap_with_other_campaigns():
    panel = pd.DataFrame({"campaign_id": "1", "treated": [1, 1, 0, 0], "overlapping_contacts": [2, 0, 0, 0]})
    assert design.campaign_overlap(panel).loc[0, ["targeted", "compared"]].tolist() == [0.5, 0.0]
    assert design.campaign_overlap(panel.drop(columns="overlapping_contacts")).empty


@settings(max_examples=100)
@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.5, 0.999))
def test_wilson_holds_the_share_and_inverts_the_score_test(k, more, confidence):
    n = k + more
    low, high = (float(v) for v in response.wilson_interval(k, n, confidence))
    assert 0 <= low <= high <= 1
    if n:
        assert low <= k / n <= high
        z = stats.norm.ppf(0.5 + confidence / 2)
        for limit in (low, high):
            if 0 < limit < 1:
                assert abs(k / n - limit) == pytest.approx(z * np.sqrt(limit * (1 - limit) / n), rel=1e-6, abs=1e-9)


def test_wilson_covers():
    k = np.random.default_rng(1).binomial(200, 0.05, 4000)
    low, high = response.wilson_interval(k, 200)
    assert (
        abs(np.mean((low <= 0.05) & (high >= 0.05)) - stats.binom.cdf(17, 200, 0.05) + stats.binom.cdf(4, 200, 0.05))
        < 0.02
    )


def test_rates_use_only_those_whose_answer_is_known(company):
    contacts = company.contact_table(
        [
            ("1", "a", "targeted", True),
            ("1", "b", "targeted", False),
            ("1", "c", "targeted", None),
            ("1", "d", "untargeted", True),
            ("2", "a", "targeted", None),
        ]
    )
    counts = response.response_counts(contacts)
    rates = response.response_rates(counts)
    assert rates[["campaign_id", "targeted", "count", "rate"]].to_numpy().tolist() == [["1", 3, 1, 0.5]]
    unknown = company.contact_table([("1", "a", "targeted", None)])
    assert response.response_rates(response.response_counts(unknown)).empty


def test_funnel_counts_the_untargeted_who_bought_all_the_same():
    panel = pd.DataFrame(
        {"treated": [1, 1, 1, 0, 0], "spend": [5.0, 0.0, 2.0, 3.0, 0.0], "redeemed": [True, False, None, None, None]}
    )
    found = response.funnel(panel).set_index("stage")["contacts"].to_dict()
    assert found == {"targeted": 3, "bought": 2, "offered": 2, "redeemed": 1, "compared": 2, "compared_bought": 1}
    assert "redeemed" not in response.funnel(panel.assign(redeemed=None))["stage"].tolist()
