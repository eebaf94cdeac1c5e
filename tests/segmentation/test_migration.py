"""Migration: everybody moves once, money adds up exactly and as in the audit, chance in closed form, coverage, edges."""

from datetime import timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.segmentation.migration import (
    BEFORE,
    GROUPS,
    expected_moves,
    migrate,
    migration_period,
    movement,
)
from analysis.valuation.audit import customer_base_audit
from analysis.valuation.nbd import NBD
from tests.segmentation.people import TO, order_lines

FROM = TO - timedelta(days=3 * 182 - 1)


def random_lines(n, rng, mean=4.0, change=1.0, returns=0.0):
    """Everybody buys once before the last period; then steady buyers, whose rate is multiplied by ``change``."""
    rate = rng.gamma(0.9, mean / 0.9, n)
    rows = []
    for i in range(n):
        rows.append((f"c{i}", rng.integers(364, 546), round(rng.uniform(5, 60), 2)))
        for begin, factor in ((182, 1.0), (0, change)):
            count = min(rng.poisson(rate[i] * factor), 182)
            for ago in rng.choice(182, size=count, replace=False):
                amount = round(rng.uniform(5, 60), 2)
                rows.append((f"c{i}", begin + ago, amount))
                if rng.random() < returns:
                    rows.append((f"c{i}", max(begin + ago - 20, 0), -amount))
    return order_lines(rows)


def test_every_pair_of_groups_is_one_movement():
    made = {(b, a): movement(b, a) for b in BEFORE for a in GROUPS}
    assert made["new", "light"] == "new"
    assert made["none", "heavy"] == "won_back"
    assert made["light", "heavy"] == made["medium", "heavy"] == "up"
    assert made["heavy", "light"] == "down"
    assert made["medium", "none"] == "lapsed"
    assert made["medium", "medium"] == "same"
    assert made["none", "none"] == made["new", "none"] == "absent"


def test_a_small_base_by_hand():
    rows = [("old", 400, 10), ("old", 200, 20), ("old", 190, 20), ("old", 5, 30)]
    rows += [("gone", 300, 50)]
    rows += [("back", 500, 10), ("back", 3, 8.25)]
    rows += [("fresh", 4, 7), ("fresh", 2, -3)]
    rows += [("late", 400, 9), ("late", 10, -9)]
    rows += [("steady", 220, 5), ("steady", 20, 5.5)]
    found = migrate(order_lines(rows), FROM, TO, period="half_year", measure="spend")
    # Of last period's three buyers two bought once, so light is one day and medium up to two.
    assert (found.light_to, found.medium_to) == (1, 2)
    table = found.movements.set_index("movement")
    assert table["customers"].to_dict() == {
        "new": 1, "won_back": 1, "up": 0, "same": 1, "down": 1, "lapsed": 1, "absent": 1,
    }  # fmt: skip
    assert table["change"].to_dict() == {
        "new": Decimal("4"), "won_back": Decimal("8.25"), "up": 0, "same": Decimal("0.5"), "down": Decimal("-10"),
        "lapsed": Decimal("-50"), "absent": Decimal("-9"),
    }  # fmt: skip
    assert (found.previous, found.current) == (Decimal("95"), Decimal("38.75"))
    assert found.chance is None and found.chance_reason == "few"


@pytest.mark.parametrize("measure", ["spend", "margin"])
def test_movements_add_up_exactly_to_the_change_and_as_in_the_audit(measure):
    lines = random_lines(150, np.random.default_rng(1), change=0.8, returns=0.2)
    found = migrate(lines, FROM, TO, period="half_year", measure=measure, margin_rate=0.3333)
    audit = customer_base_audit(lines, FROM, TO, period="half_year", measure=measure, margin_rate=0.3333)
    assert sum(found.movements["change"]) == found.current - found.previous == audit.current - audit.previous
    assert (found.previous, found.current) == (audit.previous, audit.current)
    assert found.flows["customers"].sum() == lines.customer_id.nunique().execute()
    bridge, moved = audit.bridge.set_index("component"), found.movements.set_index("movement")
    for ours, theirs in (("new", "new"), ("won_back", "won_back"), ("lapsed", "lost")):
        assert moved.loc[ours, "customers"] == bridge.loc[theirs, "customers"]
        assert moved.loc[ours, "change"] == bridge.loc[theirs, "change"]


def test_expected_moves_are_the_joint_negative_binomial():
    rng = np.random.default_rng(2)
    x, n = np.unique(rng.poisson(rng.gamma(0.8, 4.0, 3000)), return_counts=True)
    fitted = NBD(x, np.minimum(x, 1), np.ones(len(x)), weights=n).fit()
    table = expected_moves(fitted, x, n, 2, 5, draws=50).set_index(["before", "after"])
    r, alpha = fitted.params
    edges = {"none": (0, 0), "light": (1, 2), "medium": (3, 5), "heavy": (6, 400)}
    for before, (b0, b1) in edges.items():
        for after, (a0, a1) in edges.items():
            later = np.arange(a0, a1 + 1)
            expected = sum(
                count * stats.nbinom.pmf(later, r + k, (alpha + 1) / (alpha + 2)).sum()
                for k, count in zip(x, n)
                if b0 <= k <= b1
            )
            assert table.loc[(before, after), "expected"] == pytest.approx(expected, rel=1e-9)
    # Under no change as many move up as down, in expectation and up to the fit.
    assert table.loc[("none", "light"), "expected"] == pytest.approx(table.loc[("light", "none"), "expected"], rel=0.1)


def test_intervals_of_chance_hold_what_an_unchanged_base_does():
    rng, inside, runs = np.random.default_rng(3), [], 200
    for _ in range(runs):
        rate = rng.gamma(0.9, 3.0, 600)
        first, second = rng.poisson(rate), rng.poisson(rate)
        x, n = np.unique(first, return_counts=True)
        fitted = NBD(x, np.minimum(x, 1), np.ones(len(x)), weights=n).fit()
        table = expected_moves(fitted, x, n, 2, 5, draws=200)
        group = [np.searchsorted([1, 3, 6], v, side="right") for v in (first, second)]
        seen = np.zeros((4, 4))
        np.add.at(seen, tuple(group), 1)
        inside.append((table["low"] <= seen.ravel()) & (seen.ravel() <= table["high"]))
    covered = np.mean(inside, axis=0)
    # Counts are whole, so intervals hold a little more than they claim, never less.
    assert (covered > 0.95 - 4 * np.sqrt(0.95 * 0.05 / runs)).all(), covered
    assert covered.mean() < 0.985


def test_a_fall_is_told_from_luck():
    rng = np.random.default_rng(4)
    steady = migrate(random_lines(500, rng), FROM, TO, period="half_year", measure="spend")
    falling = migrate(random_lines(500, rng, change=0.5), FROM, TO, period="half_year", measure="spend")
    assert steady.chance.beyond <= 3
    assert falling.chance.beyond > 6
    row = falling.chance.table.set_index(["before", "after"]).loc[("heavy", "heavy")]
    assert row["beyond"] == "fewer" and row["customers"] < row["low"]
    assert steady.chance.bought_expected == pytest.approx(steady.chance.bought_before, rel=0.02)
    # Luck alone leaves many heavy buyers lighter.
    kept = steady.chance.table.set_index(["before", "after"]).loc[("heavy", "heavy")]
    assert kept["expected"] < 0.9 * kept["total"]


def test_small_flows_are_hidden_and_small_movements_joined():
    found = migrate(random_lines(150, np.random.default_rng(5)), FROM, TO, period="half_year", measure="spend")
    flows = found.shown_flows(10)
    assert (flows["customers"] >= 10).all()
    shown = found.shown(10)
    assert (shown["customers"] >= 10).all()
    assert shown["change"].sum() == pytest.approx(float(found.current - found.previous))
    assert shown["customers"].sum() == found.movements["customers"].sum()


def test_edges_have_an_answer_or_one_clear_line():
    assert migration_period(FROM, TO) == "half_year"
    with pytest.raises(ValueError, match="three periods of four weeks"):
        migration_period(TO - timedelta(days=60), TO)
    one = migrate(order_lines([("a", 400, 5), ("a", 200, 5), ("a", 10, 5)]), FROM, TO, measure="spend")
    assert one.movements["customers"].sum() == 1
    with pytest.raises(ValueError, match="nobody bought"):
        migrate(order_lines([("a", 3, 5)]), FROM, TO, measure="spend")
    with pytest.raises(ValueError, match="before the data do"):
        migrate(order_lines([("a", 200, 5)]), FROM, TO, period="52_weeks")
    with pytest.raises(ValueError, match="unknown period"):
        migrate(order_lines([("a", 200, 5)]), FROM, TO, period="week")
    with pytest.raises(ValueError, match="margin of some lines"):
        migrate(order_lines([("a", 200, 5)]), FROM, TO, measure="margin")
    # Everybody bought once in each period: no spread of rates for NBD to learn, and no failure.
    alike = [(f"c{i}", ago, 5) for i in range(60) for ago in (400, 200, 10)]
    found = migrate(order_lines(alike), FROM, TO, measure="spend")
    assert found.chance is None and found.chance_reason == "no_model"
    assert found.movements.set_index("movement").loc["same", "customers"] == 60
    assert pd.isna(found.shown(10)["change"]).sum() == 0
