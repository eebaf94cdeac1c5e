"""What moves satisfaction and loyalty, and how well the company does on it (importance and performance)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from .moments import Array
from .path_model import BootstrapResults, EstimationError, PLSResults, quantities
from .resampling import IntervalMethod
from .scores import Scale, item_shares, levels, scale_limits

TARGETS = ("Satisfaction", "Loyalty")
INSTEAD = ("Commitment", "Complaints")  # where the survey asks for neither


def loyalty_drivers(
    results: PLSResults,
    bootstrap: BootstrapResults,
    scale: Scale,
    *,
    targets: Sequence[str] = TARGETS,
    unusable: Iterable[str] = (),
    confidence: float = 0.95,
    method: IntervalMethod = "bca",
) -> pd.DataFrame:
    """The table `loyalty_drivers`: the total effect of every construct upstream of a target.

    Returns
    -------
    One row a target and driver, strongest first within a target:

    target, driver : constructs
    effect, low, high : standardised total effect (direct and through other constructs) with limits
    points, points_low, points_high : the same on 0-100 scores: points of the target that go with one point of
        the driver
    direct : the direct path alone, null if there is none
    performance, performance_low, performance_high : the driver's mean 0-100 score with percentile limits; null
        where its measurement fails
    first_share : share of the resamples in which this driver has the largest effect on the target
    measured, target_measured : whether the measurement of either end passes; if not, read the effect with caution

    Where nothing leads to any of `targets`, the drivers of commitment, or of how complaints are handled, stand instead.

    Raises
    ------
    EstimationError
        If nothing leads to these either.

    Effects are associations in one survey: what an intervention would do is for a later wave to show.
    Source: Hair et al. (2021), PLS-SEM Using R; Ringle & Sarstedt (2016), Ind. Manag. Data Syst. 116.
    """
    names = list(results.specification.constructs)
    low, high = scale_limits(results.specification.items, scale)
    starts = results.model.layout.starts[:-1]

    def points(quantity: dict[str, Array]) -> Array:
        _, spread = item_shares(quantity["weights"], quantity["deviations"], low, high, starts)
        return quantity["total_effects"] * spread[:, None, :] / spread[:, :, None]

    def level(quantity: dict[str, Array]) -> Array:
        return levels(quantity["means"], quantity["weights"], quantity["deviations"], low, high, starts)

    point = quantities(results.moments, results.estimates, results.model.layout)
    effect_low, effect_high = bootstrap.interval("total_effects", confidence, method)
    points_low, points_high = bootstrap.interval_of(points, confidence, method)
    level_low, level_high = bootstrap.interval_of(level, confidence)
    in_points, at_level = points(point)[0], level(point)[0]
    failed = set(unusable)
    rows = []
    leading = {target: _upstream(results, target) for target in (*targets, *INSTEAD) if target in names}
    driven = [target for target in targets if leading.get(target)] or [t for t in INSTEAD if leading.get(t)]
    if not driven:
        raise EstimationError(
            f"nothing leads to {' or '.join([*targets, *INSTEAD])} in this model: declare a block that drives it"
        )
    for target in driven:
        t = names.index(target)
        upstream = leading[target]
        ranking = bootstrap.values["total_effects"][:, [names.index(d) for d in upstream], t].argmax(axis=1)
        for k, driver in enumerate(upstream):
            d = names.index(driver)
            rows.append(
                {
                    "target": target,
                    "driver": driver,
                    "effect": results.estimates.total_effects[0, d, t],
                    "low": effect_low[d, t],
                    "high": effect_high[d, t],
                    "points": in_points[d, t],
                    "points_low": points_low[d, t],
                    "points_high": points_high[d, t],
                    "direct": results.params.get((driver, target), np.nan),
                    "performance": at_level[d] if driver not in failed else np.nan,
                    "performance_low": level_low[d] if driver not in failed else np.nan,
                    "performance_high": level_high[d] if driver not in failed else np.nan,
                    "first_share": float((ranking == k).mean()),
                    "measured": driver not in failed,
                    "target_measured": target not in failed,
                }
            )
    frame = pd.DataFrame(rows)
    key = frame["target"].map({target: k for k, target in enumerate(driven)})
    return (
        frame.assign(_target=key)
        .sort_values(["_target", "effect"], ascending=[True, False], kind="stable", ignore_index=True)
        .drop(columns="_target")
    )


def _upstream(results: PLSResults, target: str) -> list[str]:
    """Constructs from which a route of arrows leads to `target`, in the model's order."""
    specification = results.specification
    found: set[str] = set()
    waiting = list(specification.sources_of(target))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(specification.sources_of(name))
    return [name for name in specification.constructs if name in found]
