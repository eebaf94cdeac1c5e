"""Coupons against a simulated company in which each customer's purchases with and without the offer are known."""

import datetime as dt

import ibis
import numpy as np
import pandas as pd
import pytest

from analysis.campaigns.coupons import (
    arm_face_values,
    customer_profit,
    face_value_by_spend,
    face_value_slope,
    margin_after_face_value,
    offset,
    redemption_rates,
    run_coupons,
    subsidised_share,
    taken_off,
    weekly_effects,
    weekly_spend,
)
from analysis.campaigns.effects import EstimationError


def offer(n=6000, seed=1):
    """Half are sent a coupon: 30 % buy anyway, 10 % more with it; the brought redeem in 8 of 10 cases, others in 5."""
    rng = np.random.default_rng(seed)
    kind = rng.random(n)
    anyway, brought = kind < 0.3, (kind >= 0.3) & (kind < 0.4)
    treated = rng.random(n) < 0.5
    bought = anyway | (treated & brought)
    redeemed = treated & bought & (rng.random(n) < np.where(anyway, 0.5, 0.8))
    return bought, treated, redeemed, anyway


def test_redemption_rates_by_hand():
    found = redemption_rates(["b", "b", "a", "a", "control", "a"], [True, False, True, True, None, None],
                             {"a": 5, "b": 2})  # fmt: skip
    assert found["arm"].tolist() == ["b", "a"]
    assert found["sent"].tolist() == [2, 2]
    assert found["rate"].tolist() == [0.5, 1]
    assert (found["low"] < found["rate"]).all()


def test_subsidised_share_brackets_the_truth():
    hits, rounds = 0, 100
    for seed in range(rounds):
        bought, treated, redeemed, _ = offer(3000, seed)
        found = subsidised_share(bought, treated, redeemed)
        hits += found.low <= 0.15 / 0.23 <= found.high
    assert hits / rounds > 0.95 - 4 * np.sqrt(0.95 * 0.05 / rounds)
    big = subsidised_share(*offer(200_000)[:3])
    assert big.least == pytest.approx(1 - 0.1 / 0.23, abs=0.02)
    assert big.most == 1
    assert big.proportional == pytest.approx(0.75, abs=0.02)
    assert big.proportional_low < 0.75 < big.proportional_high


def test_an_offer_that_brings_nobody_is_all_subsidy():
    rng = np.random.default_rng(2)
    bought, treated = rng.random(4000) < 0.5, rng.random(4000) < 0.5
    found = subsidised_share(bought, treated, bought & treated & (rng.random(4000) < 0.3))
    assert found.least > 0.7
    assert found.most == 1
    with pytest.raises(EstimationError, match="nobody redeemed"):
        subsidised_share(bought, treated, np.zeros(4000))
    with pytest.raises(EstimationError, match="control"):
        subsidised_share(bought, np.ones(4000), bought)


def test_weekly_spend_is_counted_in_its_week(company):
    start = dt.date(2024, 8, 1)
    days = [0, 6, 7, 27, 28, -1]
    rows = [("a", start + dt.timedelta(days=k), 10.0 + i) for i, k in enumerate(days)] + [("z", start, 5.0)]
    found = weekly_spend(company.order_lines(rows), ["b", "a"], start, 4)
    assert found.tolist() == [[0, 0, 0, 0], [21, 12, 0, 13]]


def test_weekly_effects_and_pull_forward():
    rng = np.random.default_rng(3)
    n = 20_000
    treated, level = rng.random(n) < 0.5, rng.gamma(2, 5, n)
    y = level[:, None] + rng.normal(0, 5, (n, 8))
    y[treated, :4] += 2.0  # 8 in all, of which 6 come back from the weeks after
    y[treated, 4:] -= 1.5
    table = weekly_effects(y, treated, level)
    assert len(table) == 8
    assert table["cumulative"].iloc[-1] == pytest.approx(table["effect"].sum())
    last = table.iloc[-1]
    assert abs(last["cumulative"] - 2) < 4 * (last["cumulative_high"] - last["cumulative"]) / 1.96
    plain = weekly_effects(y, treated)
    assert (table["high"] - table["low"]).mean() < (plain["high"] - plain["low"]).mean()
    found = offset(y[:, :4].sum(axis=1), y[:, 4:].sum(axis=1), treated, level)
    assert found.low < 0.75 < found.high
    assert found.net.effect == pytest.approx(found.gain.effect + found.loss.effect)
    nothing = offset(rng.normal(size=n), rng.normal(size=n), treated)
    assert nothing.share is None


def test_coverage_of_the_share_lost():
    hits, rounds = 0, 200
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        treated, shared = rng.random(400) < 0.5, rng.normal(size=400)
        gain = 2 * treated + shared + rng.normal(size=400)
        found = offset(gain, -1.0 * treated + shared + rng.normal(size=400), treated)
        hits += found.low <= 0.5 <= found.high
    assert abs(hits / rounds - 0.95) < 4 * np.sqrt(0.95 * 0.05 / rounds)


def test_margin_after_face_value_by_hand():
    # Goods of 100 sold for 80 after a coupon of 20 cost 60: 80 − 60 = 20 are left, less 1 for handling and 2 for post.
    net = margin_after_face_value([80, 100], [1, 0], [20, 0], 0.4, [1, 0], 2, 1)
    assert net.tolist() == pytest.approx([17, 40])
    gross = margin_after_face_value([100], [1], [20], 0.4, net_of_coupon=False)
    assert gross.tolist() == pytest.approx([20])
    with pytest.raises(ValueError, match="30 %"):
        margin_after_face_value([1], [0], 0, 30)


def test_a_small_purchase_takes_off_less_than_the_face_value():
    assert taken_off([1, 1, 0], [50, 50, 50], [12, 80, 9]).tolist() == [12, 50, 0]
    assert taken_off([1, 0], [50, 50]).tolist() == [50, 0]


def test_profit_of_each_customer_and_cost_of_each_arm():
    members = pd.DataFrame(
        {
            "arm": ["control", "ten", "ten", "letter"],
            "spend": [50.0, 40.0, 0.0, 20.0],
            "redeemed": [None, True, False, None],
            "discount": [3.0, 12.0, 0.0, 0.0],
        }
    )
    found = customer_profit(members, {"ten": 10.0}, 0.4, 2.0, 1.0)
    assert found.profit.tolist() == pytest.approx([20, 0.4 * 50 - 10 - 1 - 2, -2, 6])
    assert found.sales.tolist() == [50, 50, 0, 20]
    assert found.costs.to_dict() == pytest.approx({"control": 0, "ten": (13 + 2) / 2, "letter": 2})
    plain = customer_profit(members[["arm", "spend"]], {}, 0.4, 2.0)
    assert plain.profit.tolist() == pytest.approx([20, 14, -2, 6])


def test_face_values_from_the_tables():
    contacts = ibis.memtable(
        pd.DataFrame(
            {
                "campaign_id": ["a"] * 4 + ["b"],
                "arm": ["one", "mix", "mix", "control", "one"],
                "offer_id": ["o1", "o1", "o2", None, "o3"],
            }
        )
    )
    offers = pd.DataFrame({"offer_id": ["o1", "o2", "o3"], "face_value": [10, 20, 99]})
    assert arm_face_values(contacts, offers, "a") == {"one": 10, "mix": 15}
    assert arm_face_values(contacts.drop("offer_id"), offers, "a") == {}
    assert arm_face_values(contacts, offers, "none") == {}


def test_slope_of_face_value():
    rng = np.random.default_rng(5)
    face = rng.choice([0, 10, 20, 40], 8000)
    y = np.where(face > 0, 3 + 0.1 * face, 0) + rng.normal(0, 3, 8000)
    found = face_value_slope(y, face)
    assert found.low < 0.1 < found.high
    assert found.bend_p_value > 0.001
    assert found.values == (10, 20, 40)
    bent = face_value_slope(np.sqrt(face) * 3 + rng.normal(0, 1, 8000), face)
    assert bent.bend_p_value < 0.001
    assert face_value_slope(y[face != 40], face[face != 40]).bend_p_value is None
    with pytest.raises(EstimationError):
        face_value_slope(y, np.where(face > 0, 10, 0))


def test_classic_rule():
    assert face_value_by_spend([5, 100, 20, 1, 50, 7], [50, 20, 100]).tolist() == [1, 2, 0, 1, 2, 0]
    assert len(set(face_value_by_spend(np.zeros(9), [1, 2, 3]))) == 1
    assert face_value_by_spend([3.0], [10]).tolist() == [0]


def test_whole_run_and_its_reasons():
    rng = np.random.default_rng(6)
    n = 9000
    arm = rng.choice(["control", "five", "ten"], n)
    face = {"five": 5.0, "ten": 10.0}
    level = rng.gamma(2, 10, n)
    used = (arm != "control") & (rng.random(n) < np.where(arm == "ten", 0.4, 0.2))
    value = pd.Series(arm).map(face).fillna(0).to_numpy()
    full = level + 12 * (arm != "control") + rng.normal(0, 5, n)
    weekly = np.column_stack([full / 2, full / 2, level - 6 * (arm != "control")])
    members = pd.DataFrame({"arm": arm, "spend": full - used * value, "redeemed": used})
    found, reason = run_coupons(members, face, 0.5, 1.0, 0.5, weekly, 2, level)
    assert reason is None
    truth = {"five": 6 - 0.2 * 5.5 - 1, "ten": 6 - 0.4 * 10.5 - 1}
    for row in found.margins.itertuples():
        assert row.low < truth[row.arm] < row.high
    assert len(found.weekly) == 6
    shifted = found.shifted.iloc[0]
    assert shifted["share_lost_low"] < 0.5 < shifted["share_lost_high"]
    facts = found.facts()
    assert (facts["arm"], facts["best_pays"]) == ("five", True)
    assert facts["profit_high"] < 0 < facts["redemption_low"]
    assert run_coupons(members, {}, 0.5)[1] == "no_coupon"
    assert run_coupons(members[arm != "control"], face, 0.5)[1] == "no_control"
    assert run_coupons(members.assign(redeemed=None), face, 0.5)[1] == "redemption_unknown"
    one, _ = run_coupons(members[arm != "ten"], face, 0.5)
    assert one.slopes.empty
    assert one.facts()["net"] is None
    nobody, _ = run_coupons(members.assign(redeemed=False), face, 0.5)
    assert nobody.facts()["least"] is None
