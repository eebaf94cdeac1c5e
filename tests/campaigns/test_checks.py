"""A broken assignment is found, an honest one passes as often as it should."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.campaigns import checks
from analysis.campaigns.checks import check_campaigns, check_design, omnibus_balance, verdict_table
from analysis.campaigns.outcomes import campaign_panel, windows
from analysis.errors import RapportError

PLAN = {"control": 0.5, "mail": 0.25, "call": 0.25}


def assigned(n=1200, seed=3):
    rng = np.random.default_rng(seed)
    arms = rng.choice(list(PLAN), size=n, p=list(PLAN.values()))
    contacts = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "arm": arms})
    day = pd.Timestamp("2024-03-04")
    contacts["contacted_on"] = [pd.NaT if a == "control" else day for a in arms]
    contacts["redeemed"] = np.where(arms == "control", None, rng.random(n) < 0.1)
    spend = pd.DataFrame({"spend": rng.lognormal(3, 1.5, n), "orders": rng.poisson(2, n)})
    return contacts, spend


def verdict(contacts, spend, **changes):
    given = {"starts_on": "2024-03-04", "holdout": ["h1"]} | changes
    return check_design(contacts, given.pop("planned", PLAN), spend, **given)


def test_an_honest_design_passes_every_check():
    found = verdict(*assigned())
    assert found.passes and found.reasons == () and found.unchecked == ()
    assert found.summary()["passed"].all()
    assert sum(found.arms.values()) == 1200
    assert set(found.differences["arm"]) == {"call", "mail"} and found.worst_difference < 0.3


@pytest.mark.parametrize(
    ("broken", "reason", "count"),
    [
        (lambda c: pd.concat([c, c.iloc[[0, 0, 5]]]), "duplicates", 2),
        (lambda c: pd.concat([c, c[c["arm"] == "mail"].iloc[:3].assign(arm="control", contacted_on=pd.NaT, redeemed=None)]),
         "two_arms", 3),
        (lambda c: c.assign(contacted_on=c["contacted_on"].where(c.index != c.index[c["arm"] == "mail"][0],
                                                                pd.Timestamp("2024-03-03"))), "contacted_early", 1),
        (lambda c: c.assign(redeemed=c["redeemed"].where(c.index != c.index[c["arm"] == "control"][0], True)),
         "control_reached", 1),
        (lambda c: c.assign(contacted_on=pd.Timestamp("2024-03-04")), "control_reached", None),
    ],
)  # fmt: skip
def test_each_leak_is_named_and_counted(broken, reason, count):
    contacts, spend = assigned()
    rows = broken(contacts)
    found = verdict(rows, spend.reindex(rows.index))
    assert found.reasons == (reason,)
    check = next(c for c in found.checks if c.passed is False)
    assert check.count == (count or (contacts["arm"] == "control").sum())


def test_a_held_out_customer_in_an_arm_is_a_leak():
    contacts, spend = assigned()
    mailed = contacts.loc[contacts["arm"] == "mail", "customer_id"].iloc[:2]
    assert verdict(contacts, spend, holdout=mailed).reasons == ("holdout_reached",)


def test_a_split_that_the_plan_does_not_explain_fails_over_all_arms_together():
    contacts, spend = assigned()
    lost = contacts.drop(contacts.index[contacts["arm"] == "call"][:80])
    found = verdict(lost, spend.loc[lost.index])
    assert found.reasons == ("split_fails",)
    arms = list(PLAN)
    counts = np.array([found.arms[a] for a in arms])
    expected = counts.sum() * np.array([PLAN[a] for a in arms])
    assert found.checks[0].p_value == pytest.approx(stats.chisquare(counts, expected).pvalue)
    assert verdict(contacts, spend, planned={"control": 1, "mail": 1}).reasons[0] == "arm_not_planned"


def test_an_arm_of_big_spenders_is_unbalanced():
    contacts, spend = assigned()
    spend.loc[contacts["arm"] == "mail", "spend"] *= 4
    assert verdict(contacts, spend).reasons == ("unbalanced",)


def test_what_is_not_known_is_said_and_does_not_fail():
    contacts, _ = assigned()
    found = check_design(contacts[["customer_id", "arm"]])
    assert found.passes and np.isnan(found.worst_difference)
    assert found.unchecked == (
        "no_planned_split", "no_contact_dates", "no_contact_records", "no_universal_holdout", "no_covariates"
    )  # fmt: skip
    assert check_design(contacts[contacts["arm"] != "control"]).reasons == ("no_control",)


def test_a_single_customer_and_constant_covariates_have_a_reason():
    one = pd.DataFrame({"customer_id": ["a"], "arm": ["control"]})
    assert "one_arm" in check_design(one, covariates=pd.DataFrame({"x": [1.0]})).unchecked
    contacts, spend = assigned()
    assert "covariates_constant" in verdict(contacts, spend * 0 + 3).unchecked


def test_bad_input_is_refused():
    contacts, spend = assigned()
    with pytest.raises(RapportError, match="needs a customer_id and an arm"):
        check_design(contacts.iloc[:0])
    with pytest.raises(RapportError, match="covariates have 1199 rows"):
        check_design(contacts, covariates=spend.iloc[1:])
    with pytest.raises(ValueError, match="no missing"):
        omnibus_balance([[np.nan], [1.0]], [0, 1])


@pytest.mark.parametrize("small", [True, False])
def test_omnibus_test_has_its_size_with_heavy_tails(monkeypatch, small):
    if small:
        monkeypatch.setattr(checks, "PERMUTATIONS", 99)
    rng, n, level = np.random.default_rng(5), 90 if small else 2400, 0.1
    p_values = []
    for _ in range(200):
        x = rng.lognormal(0, 1.5, (n, 3))
        p_values.append(omnibus_balance(np.column_stack([x, x[:, 0]]), rng.integers(0, 3, n)).p_value)
    assert abs(np.mean(np.array(p_values) <= level) - level) < 4 * np.sqrt(level * (1 - level) / 200)


def test_omnibus_statistic_is_pillais_trace_and_knows_no_scale():
    rng = np.random.default_rng(8)
    x, arms = rng.normal(size=(3000, 2)), rng.integers(0, 3, 3000)
    found = omnibus_balance(x, arms)
    centred = x - x.mean(axis=0)
    between = sum((arms == a).sum() * np.outer(m, m) for a in range(3) for m in [centred[arms == a].mean(axis=0)])
    assert found.statistic == pytest.approx(2999 * np.trace(np.linalg.solve(centred.T @ centred, between)))
    assert omnibus_balance(x * [1e9, 1e-9], arms).p_value == pytest.approx(found.p_value)
    assert (found.dof, found.method) == (4, "chi_square")


def test_every_randomised_campaign_is_checked_from_the_tables(company):
    campaigns, lines, contacts = company.simulate("randomised", 5.0)
    spans = windows(campaigns, company.FROM, company.TO)
    panel = campaign_panel(lines, contacts, spans, 4)
    found = check_campaigns(contacts, panel, spans, {"mail": 1, "control": 1})
    table = verdict_table(found).iloc[0]
    assert (table.campaign_id, table.customers, table.arms, table.passes) == ("summer", 400, 2, True)
    assert 0.001 < table.balance_p_value <= 1 and 0.001 < table.split_p_value <= 1
    # A plan for other arms says nothing of this campaign; without history there is no balance.
    other = check_campaigns(contacts, panel.iloc[:0], spans, {"sms": 1, "control": 1})["summer"]
    assert {"no_planned_split", "no_covariates"} <= set(other.unchecked)
    observational = spans.assign(design="observational")
    assert check_campaigns(contacts, panel, observational) == {}
    assert verdict_table({}).empty
