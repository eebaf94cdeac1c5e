"""Routes, what they carry, and the type of mediation."""

import numpy as np
import pandas as pd
import pytest

from analysis.loyalty import (
    EstimationError,
    PLSPathModel,
    SpecificationError,
    composite,
    drives,
    mediation,
    routes_between,
    specify,
)

SINGLE = specify(*(composite(n, n.lower()) for n in "XMY"), drives("X", ["M", "Y"]), drives("M", "Y"))


def draws_of(a, b, direct, n=400, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    m = a * x + rng.standard_normal(n)
    y = b * m + direct * x + rng.standard_normal(n)
    data = pd.DataFrame({"x": x, "m": m, "y": y})
    return PLSPathModel(data, SINGLE).fit().bootstrap(400, seed=seed)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        ((0.6, 0.6, 0.5), "complementary"),
        ((0.6, 0.6, -0.6), "competitive"),
        ((0.6, 0.6, 0.0), "indirect-only"),
        ((0.0, 0.6, 0.5), "direct-only"),
        ((0.0, 0.6, 0.0), "no effect"),
    ],
)
def test_types_of_mediation(planted, kind, method):
    found = mediation(draws_of(*planted), "X", "Y", method=method)
    assert found["effect"].tolist() == ["direct", "specific indirect", "total indirect", "total"]
    assert found["type"].isna().tolist() == [True, False, False, True]
    assert set(found["type"].dropna()) == {kind}


def test_effects_add_up(fitted, drawn):
    found = mediation(drawn, "Image", "Loyalty")
    parts = found.set_index("effect")["estimate"]
    assert parts["specific indirect"].sum() == pytest.approx(parts["total indirect"])
    assert parts["total"] == pytest.approx(fitted.total_effects.loc["Image", "Loyalty"])
    assert parts["direct"] == pytest.approx(fitted.params["Image", "Loyalty"])
    low, high = drawn.interval("total_effects")
    i, j = (list(fitted.specification.constructs).index(n) for n in ("Image", "Loyalty"))
    assert found.iloc[-1][["low", "high"]].tolist() == pytest.approx([low[i, j], high[i, j]])
    one = found[found["route"] == "Image → Satisfaction → Loyalty"].iloc[0]
    for method, names in (("percentile", ["low", "high"]), ("bca", ["bca_low", "bca_high"])):
        same = drawn.indirect_effect("Image", "Satisfaction", "Loyalty", method=method)
        assert [one["estimate"], *one[names]] == pytest.approx(list(same))


def test_all_routes_of_the_ecsi_model(ecsi_model):
    """Image, Expectation and Quality reach Satisfaction over 1 + 1 + 1 + 2 + 1 routes, each going on with Complaints or not."""
    routes = routes_between(ecsi_model, "Image", "Loyalty")
    assert routes[0] == ("Image", "Loyalty")
    assert len(routes) == len(set(routes)) == 1 + 2 * 5
    assert routes_between(ecsi_model, "Loyalty", "Image") == []


def test_a_model_that_has_no_direct_arrow_does_not_claim_full_mediation(drawn):
    found = mediation(drawn, "Quality", "Loyalty")
    assert "direct" not in set(found["effect"])
    assert set(found["type"].dropna()) == {"no direct path to compare with"}


def test_a_direct_path_alone_is_its_own_total(drawn):
    found = mediation(drawn, "Complaints", "Loyalty")
    assert found["effect"].tolist() == ["direct", "total"]
    assert found["estimate"].nunique() == 1


def test_no_route_and_no_construct_are_named(drawn):
    with pytest.raises(EstimationError, match="no route leads from Loyalty to Image"):
        mediation(drawn, "Loyalty", "Image")
    with pytest.raises(SpecificationError, match="no construct 'Trust'"):
        mediation(drawn, "Trust", "Loyalty")


def test_intervals_cover_the_planted_indirect_effect():
    """Standardised: a = .6 / √1.36, b = .6 · √1.36 / sd(y), with y of variance .36 · 1.36 + .09 + 2 · .6 · .3 · .6 + 1."""
    sd = np.sqrt(0.36 * 1.36 + 0.09 + 2 * 0.6 * 0.3 * 0.6 + 1)
    truth, replications = 0.36 / sd, 80
    hits = {"low": 0, "bca_low": 0}
    for k in range(replications):
        found = mediation(draws_of(0.6, 0.6, 0.3, n=100, seed=100 + k), "X", "Y", 0.9).iloc[1]
        for low in hits:
            hits[low] += found[low] <= truth <= found[low.replace("low", "high")]
    for number in hits.values():
        assert abs(number / replications - 0.9) < 4 * np.sqrt(0.9 * 0.1 / replications), hits
