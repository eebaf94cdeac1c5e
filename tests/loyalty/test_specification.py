"""The language of path models and what it refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.loyalty import (
    Path,
    SpecificationError,
    commitment_trust,
    composite,
    drives,
    ecsi,
    higher_order,
    moderated,
    numbered,
    specify,
)


def test_a_model_reads_back_as_written():
    model = specify(composite("A", numbered("a", 3, first=2)), composite("B", "b", mode="B"), drives("A", "B"))
    assert model.constructs == ("A", "B")
    assert model.items == ("a2", "a3", "b")
    assert model.blocks == {"A": ("a2", "a3"), "B": ("b",)}
    assert model.paths == (Path("A", "B"),)
    assert model.sources_of("B") == ("A",)
    assert model.endogenous() == ("B",)


def test_drives_crosses_sources_with_targets():
    assert drives(["A", "B"], ["C", "D"]) == (Path("A", "C"), Path("A", "D"), Path("B", "C"), Path("B", "D"))


def test_the_ecsi_model_has_seven_constructs_and_twelve_paths(ecsi_model):
    assert len(ecsi_model.constructs) == 7
    assert len(ecsi_model.paths) == 12
    assert len(ecsi_model.items) == 24


def test_ecsi_keeps_the_paths_among_the_blocks_that_a_survey_has():
    model = ecsi({"Quality": ["q1", "q2"], "Satisfaction": ["s1"], "Loyalty": ["l1"], "NPS": ["n"]})
    assert model.constructs == ("Quality", "Satisfaction", "Loyalty")
    assert model.paths == (Path("Quality", "Satisfaction"), Path("Satisfaction", "Loyalty"))


@pytest.mark.parametrize(
    "blocks", [{"Quality": ["q"]}, {"Satisfaction": ["s"]}, {"Satisfaction": ["s"], "Other": ["o"]}]
)
def test_ecsi_needs_satisfaction_and_a_neighbour(blocks):
    with pytest.raises(SpecificationError, match="needs a block Satisfaction"):
        ecsi(blocks)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([composite("A", "a"), composite("A", "b"), drives("A", "A")], "declared twice"),
        ([composite("A", []), composite("B", "b"), drives("A", "B")], "no items"),
        ([composite("A", "a"), composite("B", "a"), drives("A", "B")], "one construct only"),
        ([composite("A", "a", "C"), composite("B", "b"), drives("A", "B")], "mode 'C'"),
        ([composite("A", "a"), composite("B", "b"), drives("A", "C")], "no composite defines"),
        ([composite("A", "a"), composite("B", "b"), drives("A", "B"), drives("B", "A")], "cycle"),
        ([composite("A", "a"), composite("B", "b"), drives("A", "A"), drives("A", "B")], "cycle"),
        ([composite("A", "a"), composite("B", "b"), drives("A", "B"), Path("A", "B")], "path is declared twice"),
        ([composite("A", "a"), composite("B", "b"), composite("C", "c"), drives("A", "B")], "no path leads"),
    ],
)
def test_mistakes_are_named(parts, message):
    with pytest.raises(SpecificationError, match=message):
        specify(*parts)


def test_leaving_out_items(ecsi_model):
    smaller = ecsi_model.without_items(["CUSL2"])
    assert smaller.blocks["Loyalty"] == ("CUSL1", "CUSL3")
    assert len(ecsi_model.blocks["Loyalty"]) == 3
    with pytest.raises(SpecificationError, match="not items of the model"):
        ecsi_model.without_items(["CUSL9"])
    with pytest.raises(SpecificationError, match="no items"):
        ecsi_model.without_items(["CUSCO"])
    with pytest.raises(SpecificationError, match="no construct 'Trust'"):
        ecsi_model.composite("Trust")


@given(st.integers(2, 6), st.data())
def test_a_model_is_recursive_or_refused(size, data):
    names = [f"C{k}" for k in range(size)]
    pairs = data.draw(
        st.lists(st.tuples(st.sampled_from(names), st.sampled_from(names)), unique=True, min_size=1, max_size=12)
    )
    try:
        model = specify(*(composite(n, n.lower()) for n in names), [Path(*pair) for pair in pairs])
    except SpecificationError:
        return
    order, remaining = [], list(model.constructs)
    while remaining:
        ready = [n for n in remaining if set(model.sources_of(n)) <= set(order)]
        assert ready, "an accepted model has a cycle"
        order += ready
        remaining = [n for n in remaining if n not in ready]


RELATIONSHIP = {name: [name.lower()] for name in ("Image", "Value", "Satisfaction", "Trust", "Commitment", "Loyalty")}


def test_ecsi_takes_relationship_blocks_in_only_when_asked():
    assert ecsi(RELATIONSHIP).constructs == ("Image", "Value", "Satisfaction", "Loyalty")
    model = ecsi(RELATIONSHIP | {"Switching": ["switching"]}, relationship=True)
    assert model.sources_of("Trust") == ("Satisfaction",)
    assert model.sources_of("Commitment") == ("Satisfaction", "Trust")
    assert model.sources_of("Loyalty") == ("Image", "Satisfaction", "Trust", "Commitment", "Switching")
    assert ecsi(RELATIONSHIP, relationship=True).sources_of("Loyalty") == (
        "Image",
        "Satisfaction",
        "Trust",
        "Commitment",
    )


def test_commitment_and_trust_stand_between():
    model = commitment_trust(RELATIONSHIP)
    assert model.constructs == ("Image", "Value", "Satisfaction", "Trust", "Commitment", "Loyalty")
    assert model.sources_of("Trust") == ("Image", "Value", "Satisfaction")
    assert model.sources_of("Commitment") == ("Image", "Value", "Satisfaction", "Trust")
    assert set(model.sources_of("Loyalty")) == set(model.constructs) - {"Loyalty"}


def test_the_cost_of_leaving_is_its_own_way_to_loyalty():
    model = commitment_trust(RELATIONSHIP | {"Switching": ["s1", "s2"], "Complaints": ["c"], "NPS": ["n"]})
    assert [p.target for p in model.paths if p.source == "Switching"] == ["Loyalty"]
    assert model.sources_of("Switching") == ()
    assert "Switching" not in model.sources_of("Complaints") and "NPS" not in model.constructs
    without_loyalty = {k: v for k, v in RELATIONSHIP.items() if k != "Loyalty"} | {"Complaints": ["c"]}
    assert "Switching" not in commitment_trust(without_loyalty | {"Switching": ["s"]}).constructs


@pytest.mark.parametrize("absent", [["Trust"], ["Commitment"], ["Loyalty"], ["Image", "Value", "Satisfaction"]])
def test_commitment_trust_says_what_it_needs(absent):
    with pytest.raises(SpecificationError, match="needs blocks Trust and Commitment"):
        commitment_trust({name: items for name, items in RELATIONSHIP.items() if name not in absent})


def test_stages_of_a_model():
    model = specify(
        *(composite(n, n.lower()) for n in ("A", "B", "X", "Y")),
        higher_order("H", ["A", "B"], "B"),
        drives("X", "H"),
        drives(["H", "X", moderated("H", by="X")], "Y"),
    )
    assert model.constructs == ("X", "Y", "H", "H × X")
    assert model.items == ("x", "y", "A", "B", "H × X")
    assert model.columns == ("x", "y", "a", "b")
    assert model.composite("H").mode == "B"
    assert model.main_effects.constructs == ("X", "Y", "H")
    assert set(model.first_stage.paths) == {
        *drives("X", ["A", "B", "Y"]),
        *drives(["A", "B"], "Y"),
    }
    assert model.staged and not model.first_stage.staged
