"""The chain that the notebook walks, on good and on hopeless surveys: figures, facts, sentences."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.transforms import Bbox

from analysis import loyalty
from analysis.loyalty import figures
from analysis.reporting import theme
from analysis.reporting.numbers import Formatter
from analysis.reporting.sentences import Sentences
from analysis.simulate.satisfaction import COMPANY, respondents

FORMAT = Formatter("en", "EUR")
SCALE = (1, 10)


def walk(data, blocks):
    """Everything that the notebook computes."""
    model = loyalty.PLSPathModel(data, loyalty.ecsi(blocks))
    asked = model.fit()
    asked_draws = asked.bootstrap(200, seed=1)
    verdicts = loyalty.assess_blocks(asked, asked_draws)
    repair = loyalty.repair_blocks(model, data)
    results = loyalty.PLSPathModel(data, repair.specification).fit()
    boot = results.bootstrap(200, seed=1)
    usable = loyalty.usable_constructs(loyalty.assess_blocks(results, boot))
    levels = loyalty.performance(results, boot, SCALE)
    drivers = loyalty.loyalty_drivers(results, boot, SCALE, unusable=repair.unusable)
    composition = loyalty.index_composition(blocks, usable)
    return {
        "verdicts": verdicts,
        "repair": repair,
        "boot": boot,
        "usable": usable,
        "levels": levels[levels["construct"].isin(usable)],
        "drivers": drivers,
        "composition": composition,
        "index": loyalty.index_level(results, boot, SCALE, composition),
        "scores": loyalty.customer_loyalty(data, results, SCALE, usable, composition),
        "facts": loyalty.verdict_facts(verdicts, repair),
    }


def drawn_figures(found):
    top = loyalty.strongest_driver(found["drivers"])
    return {
        "reliability": figures.reliability_dots(found["verdicts"], FORMAT),
        "levels": figures.score_levels(found["levels"], FORMAT),
        "paths": figures.path_diagram(found["boot"], FORMAT),
        "drivers": figures.driver_effects(found["drivers"], top["target"], FORMAT),
        "map": figures.importance_performance(found["drivers"], loyalty.mapped_target(found["drivers"]), FORMAT),
    }


def noise(rows=120):
    rng = np.random.default_rng(3)
    items = [item for block in NOISE_BLOCKS.values() for item in block]
    data = pd.DataFrame(rng.integers(1, 11, (rows, len(items))), columns=items)
    return data.assign(response_id=[f"r{k}" for k in range(rows)])


ONE_EACH = {
    "Image": "imag1",
    "Expectation": "cuex1",
    "Quality": "perq2",
    "Value": "perv1",
    "Satisfaction": "cusa1",
    "Complaints": "cusco",
    "Loyalty": "cusl1",
}
NOISE_BLOCKS = {
    "Image": ("i1", "i2", "i3"),
    "Quality": ("q1", "q2", "q3"),
    "Satisfaction": ("s1", "s2", "s3"),
    "Loyalty": ("l1", "l2", "l3"),
}


@pytest.fixture(scope="module")
def good(mobi, blocks):
    return walk(mobi, blocks)


@pytest.fixture(scope="module")
def hopeless():
    return walk(noise(), NOISE_BLOCKS)


def test_every_figure_states_a_finding_and_draws(good):
    for name, figure in drawn_figures(good).items():
        assert len(theme.png(figure)) > 5_000, name
        (axes,) = figure.axes
        assert len(axes.get_title(loc="left")) > 20
        assert figure.get_size_inches()[0] == figures.WIDTH


def test_titles_follow_the_numbers(good):
    titles = {name: f.axes[0].get_title(loc="left") for name, f in drawn_figures(good).items()}
    assert titles["reliability"] == "Expectation and Loyalty cannot be summed up as asked"
    assert titles["drivers"].startswith("Quality counts most for satisfaction: 0.64")
    assert titles["paths"].startswith("9 of 12 paths are clear of zero")


def test_boxes_and_labels_of_the_path_diagram_do_not_overlap(good):
    (axes,) = figures.path_diagram(good["boot"], FORMAT).axes
    axes.figure.canvas.draw()
    extents = [text.get_window_extent() for text in axes.texts]
    page = axes.figure.bbox
    for k, one in enumerate(extents):
        assert page.x0 <= one.x0 and one.x1 <= page.x1, axes.texts[k].get_text()
        for other in extents[k + 1 :]:
            shared = figures._shared(one, other)
            assert shared <= 0.2 * min(one.width * one.height, other.width * other.height)


def crossed(diagram, boxes):
    """Which arrows pass through a box that is not one of their ends."""
    found = []
    for patch in diagram.patches:
        if isinstance(patch, FancyArrowPatch):
            line = np.array(figures._bezier(patch._path_original.vertices, np.linspace(0, 1, 200)))
            found += [name for name, extent in boxes.items() if figures._inside(line, extent).sum() > 3]
    return found


@pytest.mark.parametrize("extra", [{}, {"Trust": ("trust1",), "Commitment": ("commit1",)}, {"Switching": ("perq1",)}])
def test_no_arrow_of_the_index_passes_behind_a_box(extra):
    answers = respondents(400, COMPANY, np.random.default_rng(2))
    blocks = {name: (item,) for name, item in ONE_EACH.items()} | extra
    boot = loyalty.PLSPathModel(answers, loyalty.ecsi(blocks, relationship=True)).fit().bootstrap(50, seed=1)
    (axes,) = figures.path_diagram(boot, FORMAT).axes
    boxes = {
        patch.get_label() or k: Bbox.from_bounds(patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for k, patch in enumerate(axes.patches)
        if isinstance(patch, FancyBboxPatch)
    }
    assert len(boxes) == len(blocks) and crossed(axes, boxes) == []
    assert sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches) == len(boot.results.params)
    # No two boxes on one another.
    assert all(figures._shared(a, b) == 0 for a, b in combinations(boxes.values(), 2))


def test_a_block_is_called_by_what_it_asks(good):
    (axes,) = figures.path_diagram(good["boot"], FORMAT).axes
    texts = {text.get_text() for text in axes.texts}
    assert "Complaint\nhandling" in texts and "Complaints" not in texts
    assert loyalty.called("Image → Complaints → Loyalty") == "Image → Complaint handling → Loyalty"
    assert loyalty.called("Complaints handled well") == "Complaints handled well", "a question is no block"
    assert loyalty.called(["Complaints", 3, None]) == ["Complaint handling", 3, None]
    frame = pd.DataFrame({"driver": ["Complaints", None], "points": [0.5, 1.0]})
    assert (
        loyalty.called(frame)["driver"].tolist()[0] == "Complaint handling"
        and loyalty.called(frame)["points"].sum() == 1.5
    )
    assert frame["driver"][0] == "Complaints", "the data keep the name"
    assert (
        loyalty.called_score("complaints") == "complaint handling"
        and loyalty.called_score("loyalty_index") == "loyalty index"
    )


def test_money_and_certainty_are_not_overstated():
    sentences = Sentences("04_satisfaction_loyalty", FORMAT)
    common = {"customer": "customer", "customers": "customers"}
    worth = {"value": 1e5, "low": 5e4, "high": 2e5, "weeks": 52, "share": 0.1}
    text = sentences.render("ten_points_money", **common, **worth, each=27.0, each_low=14.0, each_high=42.0)
    assert "costs up to €14.00 a customer is safe" in text and "above €42.00 it does" in text
    doubtful = sentences.render("ten_points_money", **common, **worth, each=27.0, each_low=-1.0, each_high=42.0)
    assert "no cost is safe" in doubtful
    top = {
        "value": 5.0,
        "low": 4.0,
        "high": 6.0,
        "driver": "Quality",
        "target": "Satisfaction",
        "sound": True,
        "htmt": None,
    }
    for share, words in ((1.0, "more than 99%"), (0.999, "more than 99%"), (0.95, "In 95%"), (0.6, "60%")):
        assert words in sentences.render("strongest_driver", **common, **top, first_share=share)


def test_labels_of_the_map_do_not_overlap(good):
    (axes,) = figures.importance_performance(good["drivers"], "Loyalty", FORMAT).axes
    axes.figure.canvas.draw()
    extents = [text.get_window_extent() for text in axes.texts]
    assert len(extents) == 5 + 4  # drivers, and the names of the quarters
    for k, one in enumerate(extents):
        assert all(figures._shared(one, other) == 0 for other in extents[k + 1 :])


def test_a_diagram_of_other_constructs_is_laid_out_in_rows(mobi):
    model = loyalty.specify(
        *(loyalty.composite(f"Driver {k}", f"PERQ{k}") for k in range(1, 6)),
        loyalty.composite("Outcome", "CUSA1"),
        loyalty.drives([f"Driver {k}" for k in range(1, 6)], "Outcome"),
    )
    boot = loyalty.PLSPathModel(mobi, model).fit().bootstrap(200, seed=1)
    (axes,) = figures.path_diagram(boot, FORMAT).axes
    assert {f"Driver {k}" for k in range(1, 6)} < {text.get_text() for text in axes.texts}


def test_a_hopeless_survey_gives_reasons_not_scores(hopeless):
    assert hopeless["usable"] == [] and len(hopeless["repair"].unusable) == 4
    assert hopeless["facts"]["sound"] == 0
    assert hopeless["scores"]["loyalty_index"].isna().all()
    assert loyalty.level_of(hopeless["levels"], "Satisfaction", ["Satisfaction"])["value"] is None
    assert loyalty.stated(*hopeless["index"], "nothing is sound") == {"value": None, "reason": "nothing is sound"}
    assert loyalty.extremes(hopeless["levels"])["best"] is None
    assert loyalty.ten_points(hopeless["drivers"], "Satisfaction", "Loyalty")["value"] is None
    assert loyalty.strongest_driver(hopeless["drivers"])["sound"] is False
    for figure in drawn_figures(hopeless).values():
        assert len(theme.png(figure)) > 1_000


def test_two_single_questions_are_enough(mobi):
    found = walk(mobi, {"Satisfaction": ("CUSA1",), "Loyalty": ("CUSL1",)})
    assert found["usable"] == ["Satisfaction", "Loyalty"]
    assert found["facts"]["blocks"] == 0
    top = loyalty.strongest_driver(found["drivers"])
    assert (top["driver"], top["target"], top["sound"]) == ("Satisfaction", "Loyalty", True)
    assert loyalty.mapped_target(found["drivers"]) == "Loyalty"
    for figure in drawn_figures(found).values():
        assert len(theme.png(figure)) > 1_000


def test_ten_points_are_ten_times_a_point(good):
    row = good["drivers"].query("driver == 'Satisfaction' and target == 'Loyalty'").iloc[0]
    stated = loyalty.ten_points(good["drivers"], "Satisfaction", "Loyalty")
    assert stated == pytest.approx(
        {"value": 10 * row["points"], "low": 10 * row["points_low"], "high": 10 * row["points_high"]}
    )
    assert "no route" in loyalty.ten_points(good["drivers"], "Loyalty", "Image")["reason"]


def test_without_satisfaction_and_loyalty_the_drivers_are_those_of_commitment_or_it_is_an_error(mobi, blocks):
    def drivers(*names):
        model = loyalty.specify(
            *(loyalty.composite(name, blocks[of]) for name, of in zip(names, ["Image", "Quality"], strict=True)),
            loyalty.drives(names[0], names[1]),
        )
        results = loyalty.PLSPathModel(mobi, model).fit()
        return loyalty.loyalty_drivers(results, results.bootstrap(200, seed=1), (1, 10))

    assert list(drivers("Trust", "Commitment")["target"]) == ["Commitment"]
    assert list(drivers("Trust", "Satisfaction")["target"]) == ["Satisfaction"]
    with pytest.raises(loyalty.EstimationError, match="nothing leads to Satisfaction or"):
        drivers("Trust", "Warmth")


def test_items_that_tell_nobody_apart_are_left_out():
    answers = pd.DataFrame({"a": ["7", "7", "-9"], "b": ["1", "2", "3"], "c": ["-9", "", None]})
    kept, left_out = loyalty.telling_blocks(answers, {"One": ["a", "b"], "Two": ["c"]}, ["-9"])
    assert kept == {"One": ("b",)}
    assert left_out.to_dict("list") == {"construct": ["One", "Two"], "item": ["a", "c"], "answers": [2, 0]}


def test_labels_name_items_in_reasons(good, mobi, blocks):
    results = loyalty.PLSPathModel(mobi, loyalty.ecsi(blocks)).fit()
    verdicts = loyalty.assess_blocks(results, labels={"CUSL2": "Price gap"}).set_index("construct")
    assert verdicts.loc["Loyalty", "reason"].startswith("CUSL2 (“Price gap”) hardly belongs")


def test_survey_weights_are_all_or_none():
    assert loyalty.survey_weights(pd.DataFrame({"a": [1, 2]})) is None
    assert loyalty.survey_weights(pd.DataFrame({"weight": [None, None]})) is None
    assert loyalty.survey_weights(pd.DataFrame({"weight": [1, 2]})).tolist() == [1, 2]
    with pytest.raises(loyalty.EstimationError, match="1 respondents have no weight"):
        loyalty.survey_weights(pd.DataFrame({"weight": [1, None]}))


@pytest.mark.parametrize("survey", ["good", "hopeless"])
def test_sentences_hold_for_good_and_hopeless_surveys(survey, request):
    found = request.getfixturevalue(survey)
    sentences = Sentences("04_satisfaction_loyalty", FORMAT)
    common = {"customer": "customer", "customers": "customers", "low": None, "high": None}
    told = {
        "scales": {"value": found["facts"]["sound"], **found["facts"]},
        "satisfaction_score": loyalty.level_of(found["levels"], "Satisfaction", ["Satisfaction"]),
        "satisfaction_to_loyalty": loyalty.ten_points(found["drivers"], "Satisfaction", "Loyalty"),
        "levels.alt": loyalty.extremes(found["levels"]),
        "repair": {"changed": found["repair"].changed, "before": None, "after": None},
        "loyalty_index": loyalty.stated(*found["index"], "none") | {"absent": ["frequency"]},
        "explained": {"value": None, "target": "Satisfaction"},
    }
    for key, facts in told.items():
        text = sentences.render(key, **common | facts)
        assert text.endswith(".") and "method" not in text and "None" not in text, text
        assert "  " not in text and " ," not in text
