"""Consistent PLS: path coefficients between the constructs themselves, not between their composites.

A composite holds the measurement error of its items, so plain PLS finds paths that are too flat (or, where several
correlated constructs share a target, shifted between them), however many answers there are. Dividing the correlation
of two composites by the square root of the product of their reliabilities takes the error out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from .kernel import Layout
from .moments import Array
from .reliability import COEFFICIENTS

if TYPE_CHECKING:
    from .path_model import BootstrapResults, PLSResults

_RHO_A = COEFFICIENTS.index("rho_a")
_SINGULAR = 1e-10
_ROUNDING = 1e-9


class _Corrected(NamedTuple):
    """Quantities freed of measurement error; B samples, p items, J constructs, A arrows. Loadings and R² are as plain PLS
    has them where there is nothing to correct, NaN where the correction has no solution."""

    paths: Array
    """(B, A)."""
    loadings: Array
    """(B, p)."""
    r_squared: Array
    """(B, J); NaN for constructs without arrows into them."""
    correlations: Array
    """(B, J, J)."""
    reliability: Array
    """(B, J) rho_A; 1 for single items and for constructs formed by their items (mode B)."""


def consistent_paths(
    results: PLSResults, bootstrap: BootstrapResults | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """Path coefficients freed of measurement error, with percentile limits where resamples are given.

    A construct of a single item counts as measured without error: nothing in one item tells how much it has. So does one in
    mode B, which is what its items make of it.

    Parameters
    ----------
    bootstrap : resamples of `results`; one that cannot be corrected (see below) is left out of the limits

    Returns
    -------
    One row an arrow: source, target, estimate, low, high; NaN where a reliability is not above zero, or where the corrected
    correlations cannot belong to any constructs. Without resamples there are no limits (NaN).

    Source: Dijkstra & Henseler (2015), MIS Quarterly 39, 297-316.
    """
    return _frame(results.params.index, "paths", results, bootstrap, confidence)


def consistent_summary(
    results: PLSResults, bootstrap: BootstrapResults | None = None, confidence: float = 0.95
) -> dict[str, pd.DataFrame]:
    """Everything freed of measurement error, as frames by name; limits as in :func:`consistent_paths`.

    Returns
    -------
    paths : source, target, estimate, low, high
    items : construct, item, estimate (loading: weight · √rho_A / Σ weight²), low, high
    constructs : construct, estimate (R², of those with arrows into them), low, high, rho_a

    Source: Dijkstra & Henseler (2015), MIS Quarterly 39, equations 2 to 5.
    """
    names = pd.Index(results.specification.constructs, name="construct")
    constructs = _frame(names, "r_squared", results, bootstrap, confidence)
    rho = _corrected(results.point, results.model.layout).reliability[0]
    explained = constructs["construct"].isin(results.specification.endogenous())
    return {
        "paths": consistent_paths(results, bootstrap, confidence),
        "items": _frame(results.loadings.index, "loadings", results, bootstrap, confidence),
        "constructs": constructs.assign(rho_a=rho)[explained].reset_index(drop=True),
    }


def inadmissible(results: PLSResults) -> list[str]:
    """What no measurement could have produced once its error is taken out: a sentence each, empty if nothing.

    Such results mean that a block does not measure one thing, or that two constructs are one; plain PLS does not notice.
    """
    names, layout = results.specification.constructs, results.model.layout
    found = _corrected(results.point, layout)
    notes = []
    for name, rho in zip(names, found.reliability[0], strict=True):
        if not 0 < rho <= 1 + _ROUNDING:
            notes.append(f"the reliability of {name} comes out as {rho:.2f}, outside 0 to 1 (rho_A)")
    for (name, item), loading in zip(results.loadings.index, found.loadings[0], strict=True):
        if abs(loading) > 1 + _ROUNDING:
            notes.append(f"item {item} would correlate {loading:.2f} with {name} without measurement error, beyond 1")
    latent = found.correlations[0]
    first, second = np.triu_indices(len(names), 1)
    beyond = np.abs(latent[first, second]) > 1 + _ROUNDING
    for i, j in zip(first[beyond], second[beyond], strict=True):
        notes.append(
            f"{names[i]} and {names[j]} would correlate {latent[i, j]:.2f} without measurement error, beyond 1"
        )
    for j, sources in enumerate(layout.sources):
        if sources and not beyond.any() and np.isnan(found.r_squared[0, j]) and np.isfinite(latent).all():
            notes.append(f"{names[j]} would be explained by more than all of its variance without measurement error")
    return notes


def _frame(
    rows: pd.Index, part: str, results: PLSResults, bootstrap: BootstrapResults | None, confidence: float
) -> pd.DataFrame:
    layout = results.model.layout
    point = getattr(_corrected(results.point, layout), part)[0]
    low = high = np.full(len(point), np.nan)
    if bootstrap is not None:
        low, high = bootstrap.interval_of(lambda values: getattr(_corrected(values, layout), part), confidence)
    return rows.to_frame(index=False).assign(estimate=point, low=low, high=high)


def _corrected(values: dict[str, Array], layout: Layout) -> _Corrected:
    """Correct the correlations of composites (B, J, J) by their reliabilities (B, J, 4), and what follows from them."""
    rho = values["reliability"][:, :, _RHO_A].copy()
    rho[:, list(layout.mode_b)] = 1.0
    scale = np.sqrt(np.where(rho > 0, rho, np.nan))
    latent = values["correlations"] / (scale[:, :, None] * scale[:, None, :])
    np.einsum("bjj->bj", latent)[:] = 1.0
    paths = np.full((len(latent), len(layout.arrow_source)), np.nan)
    r_squared = np.full((len(latent), layout.width), np.nan)
    for target, sources in enumerate(layout.sources):
        if not sources:
            continue
        together = np.array([*sources, target])
        matrices = latent[:, together[:, None], together]
        finite = np.isfinite(matrices).all(axis=(1, 2))
        proper = finite & (np.linalg.eigvalsh(np.where(finite[:, None, None], matrices, 0.0))[:, 0] > _SINGULAR)
        left, right = matrices[proper, :-1, :-1], matrices[proper, :-1, -1:]
        arrows = np.flatnonzero(layout.arrow_target == target)
        solved = np.linalg.solve(left, right)
        paths[np.ix_(proper, arrows)] = solved[:, :, 0]
        r_squared[proper, target] = (solved * right).sum(axis=(1, 2))
    return _Corrected(paths, _loadings(values, scale, layout), r_squared, latent, rho)


def _loadings(values: dict[str, Array], scale: Array, layout: Layout) -> Array:
    """Weights times √rho_A over their squared length (B, p); plain loadings of single items and in mode B."""
    length = np.add.reduceat(values["weights"] ** 2, layout.starts[:-1], axis=1)
    consistent = values["weights"] * (scale / length)[:, layout.owner]
    uncorrected = np.isin(layout.owner, layout.mode_b) | (np.diff(layout.starts) == 1)[layout.owner]
    return np.where(uncorrected, values["loadings"], consistent)
