"""Where a fit ends: at the maximum of all customers, whatever was left out on the way; and bad rows are still found."""

import numpy as np
import pytest

from analysis.valuation import BGNBD, MBGNBD, ParetoNBD
from analysis.valuation.purchases import Cells


@pytest.fixture(scope="module")
def base():
    """60,000 Pareto/NBD customers in days, who enter over twelve weeks: enough for two samples before the whole."""
    rng = np.random.default_rng(4)
    size, end = 60_000, 540
    entry = rng.integers(0, 84, size)
    rate, leave = rng.gamma(0.6, 1 / 95.0, size), rng.gamma(0.3, 1 / 43.0, size)
    active = np.minimum(rng.exponential(1.0, size) / np.maximum(leave, 1e-12), end - entry)
    x = rng.poisson(rate * active)
    last = np.where(x > 0, np.ceil(active * rng.random(size) ** (1 / np.maximum(x, 1))), 0.0)
    return x.astype(float), last, (end - entry).astype(float)


@pytest.mark.parametrize("model", [BGNBD, MBGNBD, ParetoNBD])
def test_the_gradient_of_all_customers_is_zero_where_the_fit_ends(model, base):
    data = model(*base)
    found = data.fit()
    params = found.params.to_numpy()
    assert found.verdict.usable
    assert np.abs(data.score(params) * params / data.nobs).max() < 1e-11
    assert data.loglike(params) == pytest.approx(found.llf, rel=1e-13)


@pytest.mark.parametrize("model", [BGNBD, ParetoNBD])
def test_the_gradient_adds_up_over_cells(model, base):
    data = model(*base)
    params = data.fit().params.to_numpy() * [1.1, 0.9, 1.05, 0.95]
    by_cell = data.loglike_cells(params, data.cells)
    assert data.cells.grid.shared
    assert data.loglike(params) == pytest.approx(float(by_cell[0] @ data.cells.count), rel=1e-12)
    assert data.score(params) == pytest.approx(by_cell[1] @ data.cells.count, rel=1e-9)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (1, np.nan, "missing"),
        (2, np.nan, "missing"),
        (2, np.inf, "missing"),
        (0, 1.5, "row 50001: frequency must be a whole number"),
        (1, -1.0, "row 50001: recency must lie between 0 and T"),
        (1, 2_000.0, "row 50001: recency must lie between 0 and T"),
    ],
)
def test_one_bad_row_far_down_is_named(base, column, value, message):
    columns = [v.copy() for v in base]
    columns[0][50_001], columns[1][50_001], columns[2][50_001] = 3.0, 20.0, 500.0
    columns[column][50_001] = value
    with pytest.raises(ValueError, match=message):
        Cells.of(*columns)


def test_a_repeat_buyer_without_recency_is_named(base):
    columns = [v.copy() for v in base]
    columns[0][7], columns[1][7] = 2.0, 0.0
    with pytest.raises(ValueError, match="row 7: recency must be above 0 where frequency is"):
        Cells.of(*columns)
    columns[0][7], columns[1][7] = 0.0, 3.0
    with pytest.raises(ValueError, match="row 7: recency must be 0 where frequency is 0"):
        Cells.of(*columns, index=False)
