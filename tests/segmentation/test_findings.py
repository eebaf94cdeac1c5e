"""What the notebook states agrees with the tables shown beside it; where it cannot, a reason instead of a failure."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import segmentation
from analysis.reporting.numbers import Formatter
from analysis.segmentation.parameters import Parameters
from analysis.segmentation.relationship import LEVELS
from analysis.tables import LIFE_STAGES, RELATIONSHIP_LEVELS, VALUE_TIERS

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "03_segmentation.ipynb"


@pytest.fixture(scope="module")
def words():
    return segmentation.Words(Formatter("en", "USD"), "households")


def base(protect=60, invest=180, let_go=50, too_early=0):
    tier = np.repeat(["protect", "invest", "let_go", "too_early"], [protect, invest, let_go, too_early])
    spend = np.repeat([400.0, 100.0, 10.0, 5.0], [protect, invest, let_go, too_early])
    return pd.DataFrame({"value_tier": tier, "spend": spend, "recency_days": 3.0, "margin": spend * 0.3})


def test_codes_of_this_room_are_those_of_the_contract(words):
    assert set(segmentation.tiers.TIERS) == set(VALUE_TIERS)
    assert set(segmentation.life_stage.STAGES) == set(LIFE_STAGES)
    assert set(LEVELS) == set(RELATIONSHIP_LEVELS)
    for kind, codes in (("tier", VALUE_TIERS), ("stage", LIFE_STAGES), ("level", RELATIONSHIP_LEVELS)):
        assert all(words.name(kind, code) != code for code in codes)
    for feature in (*segmentation.clusters.BASIS, "spend", "items"):
        assert words.name("feature", feature)
    for feature in segmentation.clusters.BASIS:
        assert words.segment([(feature, "high")]) != words.segment([(feature, "low")])


def test_tier_finding_is_the_share_with_its_interval(words):
    found = segmentation.tier_finding(base(), "protect", 10, words)
    total = 60 * 400 + 180 * 100 + 50 * 10
    assert found["value"] == pytest.approx(60 * 400 / total)
    assert found["low"] < found["value"] < found["high"]
    assert found["times"] == pytest.approx(400 / ((180 * 100 + 50 * 10) / 230))


def test_a_few_too_early_cannot_be_counted_from_the_rest(words):
    customers = base(too_early=3)
    last = segmentation.tier_finding(customers, "let_go", 10, words)
    assert (last["n"], last["joined"]) == (53, True)
    table = segmentation.merge_small(
        segmentation.tier_table(customers),
        "value_tier",
        10,
        means=("sales_per_customer", "mean_recency_days"),
        partners={"too_early": "let_go"},
    )
    assert dict(zip(table["value_tier"], table["customers"], strict=True))["let_go+too_early"] == 53
    _, cuts = segmentation.assign_tiers(np.arange(1, 101))
    assert segmentation.cut_facts(cuts, customers, 90, 10)["too_early"] is None


def test_small_or_missing_groups_give_a_reason(words):
    few = segmentation.tier_finding(base(protect=4), "protect", 10, words)
    assert few["value"] is None and "fewer than 10" in few["reason"]
    none = segmentation.tier_finding(base(protect=0), "protect", 10, words)
    assert none["value"] is None and "nobody" in none["reason"]


def test_cell_finding_agrees_with_the_cross_table(words):
    customers = base(too_early=4)
    customers["life_stage"] = "stability"
    customers.loc[:14, "life_stage"] = "decline"
    customers.loc[60:62, "life_stage"] = "ended"
    customers.loc[292:, "life_stage"] = None
    cells = segmentation.tiers_by_stage(customers, 10, words)
    assert list(cells["code"]) == ["protect", "invest", "let_go+too_early"]
    assert cells["total"].tolist() == [60, 180, 54]
    shown = cells.drop(columns=["tier", "code", "total"]).to_numpy(dtype=float)
    assert not ((shown > 0) & (shown < 10)).any()
    found = segmentation.cell_finding(cells, "protect", "decline", 10, words)
    assert (found["n"], found["total"]) == (15, 60)
    assert segmentation.cell_finding(cells, "invest", "ended", 10, words)["value"] is None
    assert segmentation.cell_finding(cells, "let_go", "decline", 10, words)["value"] is None


def test_advice_carries_its_numbers_or_a_reason(words):
    tier = pd.Series(["protect"] * 40 + ["invest"] * 100)
    stage = pd.Series(["stability"] * 140)
    _, grid = segmentation.relationship_levels(tier, stage, np.repeat([90.0, 10.0], [40, 100]))
    found = segmentation.relationship_finding(grid, 10, words)
    assert (found["value"], found["n"], found["band"]) == ("partnership", 40, "few")
    assert set(segmentation.relationship_table(grid, 10, words)["level"]) <= {"Partnership", "Accountable", "Reactive"}
    _, none = segmentation.relationship_levels(tier, stage, np.full(140, np.nan))
    assert "margin is not known" in segmentation.relationship_finding(none, 10, words)["reason"]


def test_figures_say_the_finding_in_their_title(words):
    tiers = segmentation.tiers_figure(segmentation.tier_table(base()), words)
    assert tiers.axes[0].get_title(loc="left") == "20.7% of households bring 56.5% of sales"


def test_pictures_of_segments_show_all_of_them(words):
    rng = np.random.default_rng(0)
    days = rng.integers(1, 60, 200)
    frame = pd.DataFrame({"customer_id": [f"c{i}" for i in range(200)], "spend": days * 3.0, "purchase_days": days})
    frame = frame.assign(basket=rng.gamma(5, 5, 200), recency_days=rng.integers(0, 90, 200))
    segments = segmentation.find_segments(frame, clusters_max=4, bootstrap_pairs=5)
    profile = segmentation.profile_figure(segments, words)
    panels = [ax.get_title(loc="left")[0] for ax in profile.axes if ax.get_visible()]
    assert panels == list(segments.sizes["segment"])
    stability = segmentation.stability_figure(segments, words)
    assert [int(t) for t in stability.axes[0].get_xticks()] == [2, 3, 4]
    table = segmentation.segment_table(segments, words)
    assert table["customers"].sum() == 200 and table["trust"].isin(["stable", "a hint only", "do not trust"]).all()
    verdict = segmentation.cluster_finding(segments, words)
    assert verdict["value"] == 0 and verdict["small_base"]
    few = segmentation.cluster_finding(segmentation.find_segments(frame.head(20)), words)
    assert few["value"] is None and "20 households are too few" in few["reason"]


def test_parameters_cell_equals_the_typed_parameters():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    source = next("".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", []))
    given: dict = {}
    exec(source, given)
    given.pop("__builtins__")
    assert given == Parameters().model_dump()
