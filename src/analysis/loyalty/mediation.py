"""Mediation: through which constructs does one work on another, and is that all it does?"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from .moments import Array
from .path_model import BootstrapResults, EstimationError
from .resampling import IntervalMethod
from .specification import Specification

DIRECT, SPECIFIC, INDIRECT, TOTAL = "direct", "specific indirect", "total indirect", "total"
COMPLEMENTARY, COMPETITIVE = "complementary", "competitive"
INDIRECT_ONLY, DIRECT_ONLY, NO_EFFECT = "indirect-only", "direct-only", "no effect"
UNTESTED = "no direct path to compare with"


def mediation(
    bootstrap: BootstrapResults,
    source: str,
    target: str,
    confidence: float = 0.95,
    method: IntervalMethod = "percentile",
) -> pd.DataFrame:
    """Every route from `source` to `target`, what it carries, and the type of mediation.

    Parameters
    ----------
    method : intervals by which a type is decided: an effect is there if its interval leaves out zero

    Returns
    -------
    One row a route, strongest first, between the direct path and the sums: effect ("direct", "specific indirect", "total
    indirect", "total"), route, through (the constructs between), estimate, low, high (percentile), bca_low, bca_high, and type
    of the indirect effects (null for the others):

    complementary, competitive : indirect and direct effect, of the same sign, or of opposite ones
    indirect-only, direct-only, no effect : only one of them, or neither
    no direct path to compare with : the model has no such arrow, so the data were not asked

    Rows of effects that the model does not have are left out.

    Raises
    ------
    SpecificationError
        If a construct is unknown.
    EstimationError
        If no route leads from one to the other.

    Source: Zhao, Lynch & Chen (2010), J. Consum. Res. 37, 197-206, figure 2; Nitzl, Roldan & Cepeda (2016), Ind. Manag. Data
    Syst. 116, for path models.
    """
    results = bootstrap.results
    specification = results.specification
    routes = routes_between(specification, source, target)
    if not routes:
        raise EstimationError(f"no route leads from {source} to {target} in this model: add the arrows of one")
    arrows = {(p.source, p.target): k for k, p in enumerate(specification.paths)}
    steps = [[arrows[step] for step in itertools.pairwise(route)] for route in routes]

    def carried(quantity: dict[str, Array]) -> Array:
        each = np.stack([quantity["paths"][:, along].prod(axis=1) for along in steps], axis=1)
        indirect = each[:, [len(along) > 1 for along in steps]].sum(axis=1)
        return np.column_stack([each, indirect, each.sum(axis=1)])

    limits = {name: bootstrap.interval_of(carried, confidence, name) for name in ("percentile", "bca")}
    frame = pd.DataFrame(
        {
            "effect": [*(DIRECT if len(along) == 1 else SPECIFIC for along in steps), INDIRECT, TOTAL],
            "route": [*(" → ".join(route) for route in routes), f"{source} → … → {target}", f"{source} → {target}"],
            "through": [*(", ".join(route[1:-1]) for route in routes), "", ""],
            "estimate": carried(results.point)[0],
            "low": limits["percentile"][0],
            "high": limits["percentile"][1],
            "bca_low": limits["bca"][0],
            "bca_high": limits["bca"][1],
        }
    )
    return _ordered(frame.assign(type=_types(frame, *limits[method])))


def routes_between(specification: Specification, source: str, target: str) -> list[tuple[str, ...]]:
    """All routes along the arrows from `source` to `target`, the direct one first."""
    for name in (source, target):
        specification.composite(name)
    found, waiting = [], [(target,)]
    while waiting:
        route = waiting.pop()
        if route[0] == source and len(route) > 1:
            found.append(route)
            continue
        waiting.extend((before, *route) for before in specification.sources_of(route[0]))
    return sorted(found, key=len)


def _types(frame: pd.DataFrame, low: Array, high: Array) -> list[str | None]:
    there = (low > 0) | (high < 0)
    direct = np.flatnonzero(frame["effect"] == DIRECT)
    types: list[str | None] = []
    for k, effect in enumerate(frame["effect"]):
        if effect not in (SPECIFIC, INDIRECT):
            types.append(None)
        elif not len(direct):
            types.append(UNTESTED)
        else:
            same = frame["estimate"].iloc[k] * frame["estimate"].iloc[direct[0]] > 0
            both = COMPLEMENTARY if same else COMPETITIVE
            one = {(True, True): both, (True, False): INDIRECT_ONLY, (False, True): DIRECT_ONLY}
            types.append(one.get((bool(there[k]), bool(there[direct[0]])), NO_EFFECT))
    return types


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Direct, routes from strong to weak, sums; a model without routes through others has only the direct path."""
    rank = frame["effect"].map({DIRECT: 0, SPECIFIC: 1, INDIRECT: 2, TOTAL: 3})
    size = -frame["estimate"].abs()
    frame = frame.assign(_rank=rank, _size=size).sort_values(["_rank", "_size"], kind="stable")
    if not (frame["effect"] == SPECIFIC).any():
        frame = frame[frame["effect"] != INDIRECT]
    return frame.drop(columns=["_rank", "_size"]).reset_index(drop=True)
