"""What is said of segments, rules, tastes and households agrees with what was found; every sentence has its facts."""

import numpy as np
import pandas as pd
import pytest

from analysis import segmentation
from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.segmentation import cluster_facts as facts
from analysis.segmentation import cluster_figures as figures
from analysis.segmentation.describe import describe_segments
from analysis.segmentation.households import pool_households
from analysis.segmentation.preferences import CategoryCounts, customer_preferences, segment_affinity
from analysis.segmentation.tree import segment_rules


@pytest.fixture(scope="module")
def words():
    return segmentation.Words(Formatter("en", "USD"), "households")


@pytest.fixture(scope="module")
def say():
    sentences = Sentences("03_segmentation", Formatter("en", "USD"))
    return lambda key, **given: sentences.render(key, customer="household", customers="households", **given)


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, 240)
    center = np.array([[3, 4.5, 2], [1.0, 3, 4.5], [3, 2.0, 4]])[kind]
    days, basket, recency = np.exp(center + rng.normal(0, 0.25, (240, 3))).T
    return pd.DataFrame(
        {
            "customer_id": [f"c{i:03d}" for i in range(240)],
            "spend": days * basket,
            "purchase_days": days.round() + 1,
            "basket": basket,
            "recency_days": recency.round(),
        }
    )


@pytest.fixture(scope="module")
def segments(features):
    return segmentation.find_segments(features, clusters_max=5, bootstrap_pairs=5)


@pytest.fixture(scope="module")
def preferences(segments):
    rng = np.random.default_rng(1)
    favour = np.where((segments.labels == "A").to_numpy()[:, None], [6.0, 2, 2], [2.0, 4, 4])
    counts = rng.multinomial(1 + rng.poisson(9, 240), [rng.dirichlet(row) for row in favour])
    n = counts.sum(axis=1)
    price = pd.DataFrame({"price_lines": n, "price_sum": n * 0.5, "price_squares": n * 0.3})
    ids = pd.Series([f"c{i:03d}" for i in range(240)], name="customer_id")
    names = ["fresh", "dry", "other"]
    return customer_preferences(CategoryCounts(ids, pd.DataFrame(counts, columns=names), price, "kind", 4, None))


def test_all_criteria_stand_in_one_table(segments, words, say):
    table = facts.criteria_table(segments, words)
    assert table["segments"].tolist() == [2, 3, 4, 5] and table["bic"].min() == 0
    assert table["verdict"].tolist().count("yes, used") == 1 and segments.search.found
    assert (table["stability"] <= segments.search.table["global_stability"]).all()
    assert "natural groups as well" in say("mixture_note", **facts.mixture_facts(segments))
    assert say("across_note", **facts.across_facts(segments)).startswith("Segment")
    none = segmentation.find_segments(segments.profiles.head(0).reindex(range(5)).assign(spend=1.0, purchase_days=1))
    assert facts.criteria_table(none, words).empty
    assert say("mixture_note", **facts.mixture_facts(none)) == "No normal mixture was tried."
    assert "not told" in say("across_note", **facts.across_facts(none))


def test_rules_are_plain_sentences(features, segments, words, say):
    rules = segment_rules(features, segments.labels)
    found = facts.rule_finding(rules, words)
    assert found["useful"] and found["low"] <= found["value"] <= found["high"]
    assert "place" in say("segment_rules", **found)
    table = facts.rule_table(rules, words)
    assert table["rule"].str.len().min() > 5 and not table["rule"].str.contains("None|nan").any()
    assert facts.rule_words([], words) == "everybody"
    assert (
        facts.condition_words("basket", 40.0, 120.0, words)
        == "Spend a purchase day: $40.00 or more, but less than $120"
    )
    assert facts.condition_words("weekend_share", None, 0.3, words) == "Weekend share: less than 30%"
    assert facts.condition_words("purchase_days", 12.0, None, words) == "Purchase days: 12 or more"
    assert facts.condition_words("stores", None, 1.0, words) == "Stores used: none"
    assert facts.condition_words("shoe size", 42.0, None, words) == "shoe size: 42 or more"
    none = facts.rule_finding(segment_rules(features, pd.Series([None] * 240)), words)
    assert none["value"] is None and "no segments" in none["reason"]
    say("segment_rules", **none)
    figure = figures.tree_figure(rules, words)
    assert str(len(rules.rules)) in figure.axes[0].get_title(loc="left")
    leaves = [t.get_text() for t in figure.axes[0].texts if t.get_text().endswith("right")]
    assert len(leaves) == len(rules.rules)


def test_tastes_are_told_with_an_interval_or_a_reason(preferences, segments, words, say):
    found = facts.taste_finding(preferences, words)
    assert 0 < found["low"] < found["value"] < found["high"] < 1 and found["categories"] == 6
    assert "Tastes differ" in say("tastes", **found)
    affinity = segment_affinity(preferences.tastes, segments.labels)
    top = facts.affinity_finding(affinity, words)
    assert (top["segment"], top["category"]) == ("A", "fresh") and top["low"] > 1
    assert "Segment A goes for fresh" in say("affinity", **top)
    labels = pd.DataFrame({"customer_id": preferences.found.customers, "cluster": segments.labels})
    repertoire = facts.repertoire_table(preferences, labels, 10)
    assert repertoire["customers"].sum() == 240
    assert ((repertoire["low"] <= repertoire["ratio"]) & (repertoire["ratio"] <= repertoire["high"])).all()
    blank = customer_preferences(
        CategoryCounts(labels["customer_id"], pd.DataFrame(), pd.DataFrame(), None, 0, "no_products")
    )
    assert "no table of products" in facts.taste_finding(blank, words)["reason"]
    say("tastes", **facts.taste_finding(blank, words))
    assert facts.repertoire_table(blank, labels, 10).empty
    nothing = facts.affinity_finding(affinity.iloc[:0], words)
    assert nothing["value"] is None
    say("affinity", **nothing)
    figure = figures.affinity_figure(affinity, words)
    assert len(figure.axes[0].texts) == affinity["segment"].nunique() * 3
    assert figures.affinity_figure(affinity.iloc[:0], words).axes[0].get_title(loc="left").startswith("No segments")


def test_segments_through_solutions_are_all_drawn(segments, words):
    figure = figures.across_figure(segments, words)
    assert [int(t) for t in figure.axes[0].get_xticks()] == [2, 3, 4, 5]
    assert len(figure.axes[0].patches) == 2 + 3 + 4 + 5


def test_households_and_descriptors_say_what_they_found(features, segments, words, say):
    people = pd.DataFrame({"customer_id": features["customer_id"], "household_id": [f"h{i // 2}" for i in range(240)]})
    found = facts.household_finding(pool_households(features["customer_id"], features["spend"], people), 10, words)
    assert found["several"] == 120 and found["share_several"] == 1
    assert "120 of 120 households" in say("households", **found)
    alone = facts.household_finding(pool_households(features["customer_id"], features["spend"], None), 10, words)
    assert alone["value"] is None and alone["several"] is None
    say("households", **alone)
    outside = pd.DataFrame({"spend": features["spend"], "shoe": np.arange(240) % 7, "flat": 1})
    table = describe_segments(segments.labels, outside)
    told = facts.descriptor_finding(table, words)
    assert (told["variable"], told["differing"], told["tested"]) == ("Spend", 1, 2)
    assert "Most does Spend" in say("descriptors", **told)
    shown = facts.descriptor_table(table, words)
    assert set(shown["verdict"]) == {"yes", "not beyond chance", "the same for all"}
    none = facts.descriptor_finding(table[~table["differs"]], words)
    assert none["value"] is None and "none differs" in say("descriptors", **none)
