"""Consistent PLS: path coefficients between the constructs themselves, not between their composites.

A composite holds the measurement error of its items, so plain PLS finds paths that are too flat (or, where several
correlated constructs share a target, shifted between them), however many answers there are. Dividing the correlation
of two composites by the square root of the product of their reliabilities takes the error out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .kernel import Layout
from .moments import Array
from .path_model import BootstrapResults, PLSResults, quantities
from .reliability import COEFFICIENTS

_RHO_A = COEFFICIENTS.index("rho_a")
_SINGULAR = 1e-10


def consistent_paths(
    results: PLSResults, bootstrap: BootstrapResults | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """Path coefficients freed of measurement error, with percentile limits where resamples are given.

    A construct of a single item counts as measured without error: nothing in one item tells how much it has.

    Parameters
    ----------
    results : a model whose composites are all in mode A
    bootstrap : resamples of `results`; one that cannot be corrected (see below) is left out of the limits

    Returns
    -------
    One row an arrow: source, target, estimate, low, high; NaN where a reliability is not above zero, or where the corrected
    correlations cannot belong to any constructs. Without resamples there are no limits (NaN).

    Source: Dijkstra & Henseler (2015), MIS Quarterly 39, 297-316.
    """
    layout = results.model.layout
    point = _corrected(quantities(results.moments, results.estimates, layout), layout)[0]
    low = high = np.full(len(point), np.nan)
    if bootstrap is not None:
        low, high = bootstrap.interval_of(lambda values: _corrected(values, layout), confidence)
    arrows = results.params.index.to_frame(index=False)
    return arrows.assign(estimate=point, low=low, high=high)


def _corrected(values: dict[str, Array], layout: Layout) -> Array:
    """Paths (B, A) from the correlations of composites (B, J, J) and their reliabilities (B, J, 4)."""
    rho = values["reliability"][:, :, _RHO_A]
    scale = np.sqrt(np.where(rho > 0, rho, np.nan))
    latent = values["correlations"] / (scale[:, :, None] * scale[:, None, :])
    np.einsum("bjj->bj", latent)[:] = 1.0
    paths = np.full((len(latent), len(layout.arrow_source)), np.nan)
    for target, sources in enumerate(layout.sources):
        if not sources:
            continue
        together = np.array([*sources, target])
        matrices = latent[:, together[:, None], together]
        finite = np.isfinite(matrices).all(axis=(1, 2))
        proper = finite & (np.linalg.eigvalsh(np.where(finite[:, None, None], matrices, 0.0))[:, 0] > _SINGULAR)
        left, right = matrices[proper, :-1, :-1], matrices[proper, :-1, -1:]
        arrows = np.flatnonzero(layout.arrow_target == target)
        paths[np.ix_(proper, arrows)] = np.linalg.solve(left, right)[:, :, 0]
    return paths
