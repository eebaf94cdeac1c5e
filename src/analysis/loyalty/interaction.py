"""Moderation: how strongly a construct works at low, middle and high values of another.

>>> specification = specify(..., drives(["Satisfaction", "Image", moderated("Satisfaction", by="Image")], "Loyalty"))
>>> draws = PLSPathModel(answers, specification).fit().bootstrap(5000, seed=1)
>>> moderation(draws)
>>> simple_slopes(draws, "Satisfaction", by="Image", target="Loyalty")
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from .moments import Array
from .path_model import BootstrapResults
from .resampling import IntervalMethod
from .specification import Moderation, SpecificationError


def moderation(
    bootstrap: BootstrapResults, confidence: float = 0.95, method: IntervalMethod = "percentile"
) -> pd.DataFrame:
    """Every moderated path of a model: by how much the moderator changes it.

    The path from a product in `params` is that of the standardised product; the change is the same effect for the product of
    the standardised scores as it stands, so that it adds to the path it moderates.

    Returns
    -------
    One row a product and target: source, moderator, target; effect (the source's path at the moderator's mean), effect_low,
    effect_high; change (of that path, with one standard deviation more of the moderator), low, high; f_squared of the product.
    No rows if nothing is moderated.

    Source: Henseler & Chin (2010), Struct. Equ. Modeling 17, 82-109; Becker et al. (2018), J. Bus. Res. 69, on the scale of
    the product.
    """
    results = bootstrap.results
    rows = []
    for product in results.specification.products:
        for target in (p.target for p in results.specification.paths if p.source == product.name):
            lines = simple_slopes(bootstrap, product.source, product.moderator, target, (0.0,), confidence, method)
            middle = lines.iloc[0]
            low, high = bootstrap.interval_of(_change(bootstrap, product, target), confidence, method)
            rows.append(
                {
                    "source": product.source,
                    "moderator": product.moderator,
                    "target": target,
                    "effect": middle["slope"],
                    "effect_low": middle["low"],
                    "effect_high": middle["high"],
                    "change": float(_change(bootstrap, product, target)(results.point)[0]),
                    "low": float(low),
                    "high": float(high),
                    "f_squared": results.f_squared[product.name, target],
                }
            )
    columns = [
        "source",
        "moderator",
        "target",
        "effect",
        "effect_low",
        "effect_high",
        "change",
        "low",
        "high",
        "f_squared",
    ]
    return pd.DataFrame(rows, columns=columns)


def simple_slopes(
    bootstrap: BootstrapResults,
    source: str,
    by: str,
    target: str,
    at: Sequence[float] = (-1.0, 0.0, 1.0),
    confidence: float = 0.95,
    method: IntervalMethod = "percentile",
) -> pd.DataFrame:
    """The path from `source` to `target` at given values of the moderator `by`, with limits.

    Parameters
    ----------
    at : values of the moderator, in standard deviations from its mean

    Returns
    -------
    One row a value: moderator, slope, low, high (standard deviations of the target with one of the source).

    Raises
    ------
    SpecificationError
        If the model has no such product.

    Source: Aiken & West (1991), Multiple Regression, chapter 2.
    """
    specification = bootstrap.results.specification
    product = Moderation(source, by)
    known = product in specification.products and product.name in specification.sources_of(target)
    if not known:
        raise SpecificationError(
            f"{by} does not moderate {source} -> {target} in this model: add drives(moderated({source!r}, by={by!r}), {target!r})"
        )
    change = _change(bootstrap, product, target)
    arrow = bootstrap.results.params.index.get_loc((source, target))
    values = np.asarray(at, dtype=float)

    def slopes(quantity: dict[str, Array]) -> Array:
        return quantity["paths"][:, [arrow]] + change(quantity)[:, None] * values

    low, high = bootstrap.interval_of(slopes, confidence, method)
    point = slopes(bootstrap.results.point)[0]
    return pd.DataFrame({"moderator": values, "slope": point, "low": low, "high": high})


def _change(bootstrap: BootstrapResults, product: Moderation, target: str):
    arrow = bootstrap.results.params.index.get_loc((product.name, target))
    k = bootstrap.results.specification.products.index(product)

    def function(quantity: dict[str, Array]) -> Array:
        return quantity["paths"][:, arrow] / quantity["product_deviations"][:, k]

    return function
