"""The whole path on a simulated company: planted effects, placebo, reasons and verdicts."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from analysis.campaigns import design, evaluation, outcomes
from analysis.campaigns.evaluation import Settings
from analysis.campaigns.parameters import Parameters


def run(company, kind, effect, settings=None, planned=None, **kwargs):
    settings = settings or Settings()
    campaigns, lines, contacts = company.simulate(kind, effect, **kwargs)
    spans = outcomes.windows(campaigns, company.FROM, company.TO)
    panel = outcomes.campaign_panel(lines, contacts, spans, settings.pre_periods + 1)
    sizes = design.arm_sizes(contacts)
    found = evaluation.estimate_campaigns(panel, spans, sizes, settings)
    return found, evaluation.pooled_effect(found, settings, panel), panel, spans, sizes


@pytest.mark.parametrize("method", ["doubly_robust", "ipw"])
def test_observational_finds_the_planted_effect_that_naive_misses(company, method):
    _, pooled, *_ = run(company, "observational", 12.0, Settings(method=method), seed=3)
    low, high = pooled.effect.interval(0.9999)
    assert low <= 12.0 <= high
    assert pooled.by_method["naive"].interval(0.9999)[0] > 12.0
    assert pooled.verdict == "raised"
    assert 0 < pooled.robustness_limit < pooled.robustness < 1
    assert pooled.e_value > pooled.e_value_limit > 1


def test_placebo_gives_away_targeting_on_something_unseen(company):
    _, pooled, *_ = run(company, "observational", 0.0, Settings(method="did", pre_periods=1), seed=4, customers=600)
    assert pooled.verdict == "cannot_tell"  # difference in differences is right here: nothing is found
    campaigns, lines, contacts = company.simulate(
        "observational", 0.0, seed=4, customers=600, reacts_to_last_month=True
    )
    spans = outcomes.windows(campaigns, company.FROM, company.TO)
    panel = outcomes.campaign_panel(lines, contacts, spans, 5)
    panel = panel.assign(spend_before_3=0.0, spend_before_4=0.0, spend_before_5=0.0, spend_before_2=0.0)
    found = evaluation.estimate_campaigns(panel, spans, design.arm_sizes(contacts), Settings(pre_periods=2))
    blind = evaluation.pooled_effect(found, Settings(pre_periods=2))
    assert "placebo_fails" in blind.reasons
    assert blind.verdict == "cannot_tell"


def test_randomised_uses_cuped_and_finds_the_effect(company):
    found, pooled, *_ = run(company, "randomised", 6.0, seed=5)
    assert found[0].results.method == "cuped"
    assert found[0].results.diagnostics["variance_ratio"] < 0.2
    low, high = pooled.effect.interval(0.9999)
    assert low <= 6.0 <= high
    assert (pooled.design, pooled.verdict, pooled.robustness) == ("randomised", "raised", None)
    table = evaluation.credibility_table(pooled)
    assert table["row"].tolist() == ["difference_in_means", "cuped", "placebo"]


def test_randomised_without_history_is_the_difference_in_means(company):
    campaigns, lines, contacts = company.simulate("randomised", 6.0, seed=5)
    spans = outcomes.windows(campaigns, campaigns["starts_on"][0], company.TO)
    panel = outcomes.campaign_panel(lines, contacts, spans, 5)
    found = evaluation.estimate_campaigns(panel, spans, design.arm_sizes(contacts), Settings())
    assert found[0].results.method == "difference_in_means"
    assert found[0].placebo is None


def test_a_failed_split_withdraws_the_claim(company):
    found, *_ = run(company, "randomised", 6.0, seed=5)
    assert evaluation.pooled_effect(found, Settings(), split_fails=True).reasons == ("split_fails",)


def test_a_campaign_without_effect_is_seldom_said_to_have_one(company):
    verdicts = [
        run(company, kind, 0.0, seed=s, customers=150)[1].verdict
        for kind in ("randomised", "observational")
        for s in range(12)
    ]
    # 24 tests at 5 %: at most 1.2 + 4 standard errors of 1.07.
    assert sum(v != "cannot_tell" for v in verdicts) <= 5


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p[p["treated"] == 1], "no_comparison"),
        (lambda p: p[(p["treated"] == 0) | (p.index < 5)], "too_few"),
        (lambda p: p.assign(spend=7.0), "no_outcome"),
        (lambda p: p.assign(spend_before_1=p["treated"] * 1000.0 + p["spend_before_1"] % 1), "separation"),
        (lambda p: p.drop(columns="spend"), "no_outcome"),
    ],
)
def test_what_cannot_be_estimated_has_a_reason(company, change, reason):
    _, _, panel, spans, sizes = run(company, "observational", 5.0, seed=6)
    found = evaluation.estimate_campaigns(change(panel), spans, sizes, Settings())
    assert [c.reason for c in found] == [reason]
    pooled = evaluation.pooled_effect(found, Settings(), panel)
    assert (pooled.effect, pooled.verdict, pooled.reasons) == (None, "cannot_tell", ("nothing_estimated",))
    assert evaluation.effects_table(found, Settings())["estimate"].isna().all()
    assert evaluation.credibility_table(pooled).empty
    assert evaluation.balance_table(found).empty


def test_all_targeted_redeemed_does_no_harm(company):
    _, _, panel, spans, sizes = run(company, "observational", 5.0, seed=6)
    panel["redeemed"] = panel["treated"] == 1
    assert evaluation.estimate_campaigns(panel, spans, sizes, Settings())[0].results is not None


def test_too_short_a_history_has_a_reason(company):
    _, _, panel, spans, sizes = run(company, "observational", 5.0, seed=6)
    found = evaluation.estimate_campaigns(panel, spans.assign(complete_periods=3), sizes, Settings())
    assert found[0].reason == "no_history"
    no_placebo = evaluation.estimate_campaigns(panel, spans.assign(complete_periods=4), sizes, Settings())
    assert no_placebo[0].placebo is None
    assert evaluation.pooled_effect(no_placebo, Settings()).reasons == ("no_placebo",)


def test_tables_hold_every_campaign_and_method(company):
    found, pooled, panel, spans, sizes = run(company, "observational", 12.0, seed=3)
    table = evaluation.effects_table(found, Settings())
    assert table["p_adjusted"].tolist() == table["p_value"].tolist()  # one campaign: nothing to adjust for
    assert table.loc[0, "low"] < table.loc[0, "estimate"] < table.loc[0, "high"]
    assert evaluation.credibility_table(pooled)["row"].tolist() == [
        "naive",
        "did",
        "ipw",
        "doubly_robust",
        "placebo",
        "beyond_placebo",
    ]
    history = evaluation.history_table(panel, spans, sizes, Settings(), [1, 2, 4, 9])
    assert history["periods"].tolist() == [1, 2, 4]
    balance = evaluation.balance_table(found)
    assert balance["after"].max() < 0.1 < balance["before"].max()
    assert evaluation.unexplained_spread(panel, Settings()) < panel.loc[panel["treated"] == 1, "spend"].std()


def test_same_input_same_numbers(company):
    first, second = (
        evaluation.effects_table(run(company, "observational", 5.0, seed=7)[0], Settings()) for _ in range(2)
    )
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_parameters_are_typed():
    assert Parameters().model_dump()["method"] == "doubly_robust"
    for wrong in ({"method": "magic"}, {"confidence": 95}, {"unknown": 1}, {"window_days": 0}):
        with pytest.raises(ValidationError):
            Parameters(**wrong)
    assert np.isfinite(Parameters().confidence)
