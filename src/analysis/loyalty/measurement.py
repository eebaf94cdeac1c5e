"""Does each block of items measure one thing well enough to be summed up in a score?

A verdict a construct, with the reason and the weak item named, and a repair: the model without the items that
spoil an otherwise sound block. A block that fails stays out of every index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .path_model import BootstrapResults, PLSPathModel, PLSResults, read_answers, resampled
from .reliability import COEFFICIENTS
from .specification import Specification

PASS, CAUTION, FAIL = "pass", "caution", "fail"
USABLE = (PASS, CAUTION)

ALPHA_FLOOR, LOADING_FLOOR, AVE_FLOOR, HTMT_CEILING = 0.7, 0.5, 0.5, 0.9


@dataclass(frozen=True)
class Thresholds:
    """What a block must reach.

    alpha : Nunnally (1978), Psychometric Theory, 2nd ed., p. 245: .70
    loading : an item that shares less than a quarter of its variance with its construct is foreign to it: .50
    variance_extracted : Fornell & Larcker (1981): .50; below it a block whose reliability is sufficient is
        used with caution, as they allow (p. 46)
    htmt : Henseler, Ringle & Sarstedt (2015): .90; above it two constructs are hardly distinct (caution)
    """

    alpha: float = ALPHA_FLOOR
    loading: float = LOADING_FLOOR
    variance_extracted: float = AVE_FLOOR
    htmt: float = HTMT_CEILING


USUAL = Thresholds()


def telling_blocks(
    answers: pd.DataFrame, blocks: Mapping[str, Iterable[str]], missing_codes: Iterable = ()
) -> tuple[dict[str, tuple[str, ...]], pd.DataFrame]:
    """The blocks with the items that tell customers apart; and the others, which nobody answers or all answer alike.

    Returns
    -------
    Items by construct, without constructs of which none is left; and one row an item left out: construct, item, answers
    (how many gave one; above zero, all the same).
    """
    kept, left_out = {}, []
    for construct, items in blocks.items():
        given = read_answers(answers, list(items), missing_codes)
        telling = given.nunique() > 1
        left_out += [(construct, item, int(given[item].count())) for item in given.columns[~telling]]
        if telling.any():
            kept[construct] = tuple(given.columns[telling])
    return kept, pd.DataFrame(left_out, columns=["construct", "item", "answers"])


def assess_blocks(
    results: PLSResults,
    bootstrap: BootstrapResults | None = None,
    thresholds: Thresholds = USUAL,
    confidence: float = 0.95,
    labels: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """A verdict on every construct of an estimated model; `labels` names items in the reasons.

    Returns
    -------
    One row a construct: construct, items, mode, alpha, rho_a, rho_c, ave (each with _low and _high if a
    bootstrap is given), weakest_item, weakest_loading, closest_construct, closest_htmt, verdict ("pass",
    "caution", "fail") and reason. Coefficients are null for single items, which have no measurable
    reliability, and alpha, rho_a, rho_c and ave are null in mode B, where items need not agree.
    """
    specification = results.specification
    limits = None if bootstrap is None else bootstrap.interval("reliability", confidence)
    rows = []
    for j, composite in enumerate(specification.composites):
        reflective = len(composite.items) > 1 and composite.mode == "A"
        row = {"construct": composite.name, "items": len(composite.items), "mode": composite.mode}
        for k, coefficient in enumerate(COEFFICIENTS):
            value = results.reliability.loc[composite.name, coefficient]
            row[coefficient] = value if reflective else np.nan
            if limits is not None:
                row[f"{coefficient}_low"] = limits[0][j, k] if reflective else np.nan
                row[f"{coefficient}_high"] = limits[1][j, k] if reflective else np.nan
        loadings = results.loadings[composite.name]
        row["weakest_item"] = loadings.idxmin() if len(composite.items) > 1 else None
        row["weakest_loading"] = loadings.min() if len(composite.items) > 1 else np.nan
        neighbours = results.htmt.loc[composite.name].dropna()
        row["closest_construct"] = neighbours.idxmax() if len(neighbours) else None
        row["closest_htmt"] = neighbours.max() if len(neighbours) else np.nan
        rows.append(row | _verdict(row, results, thresholds, labels or {}))
    return pd.DataFrame(rows)


def _verdict(row: dict, results: PLSResults, limit: Thresholds, labels: Mapping[str, str]) -> dict:
    weights = results.weights[row["construct"]]
    if row["items"] == 1:
        return {"verdict": CAUTION, "reason": "one item: its reliability cannot be measured"}
    negative = weights[weights < 0]
    if len(negative):
        name = _named(negative.idxmin(), labels)
        return {"verdict": FAIL, "reason": f"{name} counts against the rest of its block"}
    if row["mode"] == "B":
        return {"verdict": CAUTION, "reason": "formed by its items: they need not agree"}
    faults = []
    if row["weakest_loading"] < limit.loading:
        name = _named(row["weakest_item"], labels)
        faults.append(f"{name} hardly belongs to it (loading {row['weakest_loading']:.2f})")
    if row["alpha"] < limit.alpha:
        faults.append(f"its items agree too little (alpha {row['alpha']:.2f})")
    if faults:
        return {"verdict": FAIL, "reason": "; ".join(faults)}
    doubts = []
    if row["ave"] < limit.variance_extracted:
        doubts.append(f"its items share less than half of their variance (AVE {row['ave']:.2f})")
    if row["closest_htmt"] > limit.htmt:
        doubts.append(f"hardly distinct from {row['closest_construct']} (HTMT {row['closest_htmt']:.2f})")
    return {"verdict": CAUTION if doubts else PASS, "reason": "; ".join(doubts) or "meets every threshold"}


def _named(item: str, labels: Mapping[str, str]) -> str:
    return f"{item} (“{labels[item]}”)" if item in labels else item


@dataclass(frozen=True)
class Repair:
    """A model whose failed blocks were mended where leaving out an item is enough.

    specification : the model without the items in `left_out`
    left_out : items by construct
    unusable : constructs that fail even so; they keep all their items and get no score
    """

    specification: Specification
    left_out: dict[str, tuple[str, ...]]
    unusable: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether any item was left out."""
        return bool(self.left_out)


def repair_blocks(model: PLSPathModel, data: pd.DataFrame, thresholds: Thresholds = USUAL, **options) -> Repair:
    """Leave out the weakest item of a failed block, if the rest of the block then holds.

    One item at a time, the lowest loading first, never more than a third of a block and never below two items.
    Items chosen on the same answers flatter the block a little; a new wave of the survey should confirm them.

    Parameters
    ----------
    model : the model as specified, with the data it was made from in `data`
    options : passed to `PLSPathModel` (missing, missing_codes, weights)
    """
    specification, left_out, unusable = model.specification, {}, []
    verdicts = assess_blocks(model.fit(), thresholds=thresholds).set_index("construct")
    for name in verdicts.index[verdicts["verdict"] == FAIL]:
        block = specification.composite(name)
        loadings = PLSPathModel(data, specification, scheme=model.scheme, **options).fit().loadings[name]
        for count in range(1, min(len(block.items) // 3, len(block.items) - 2) + 1):
            weakest = tuple(loadings.nsmallest(count).index)
            candidate = specification.without_items(weakest)
            mended = PLSPathModel(data, candidate, scheme=model.scheme, **options).fit()
            verdict = assess_blocks(mended, thresholds=thresholds).set_index("construct").loc[name, "verdict"]
            if verdict != FAIL:
                specification, left_out[name] = candidate, weakest
                break
        else:
            unusable.append(name)
    return Repair(specification, left_out, tuple(unusable))


def usable_constructs(verdicts: pd.DataFrame) -> list[str]:
    """Constructs whose measurement passes, with or without caution."""
    return list(verdicts.loc[verdicts["verdict"].isin(USABLE), "construct"])


def htmt_pairs(
    results: PLSResults, bootstrap: BootstrapResults | None = None, confidence: float = 0.95
) -> pd.DataFrame:
    """HTMT of every pair of constructs with limits, highest first: first, second, htmt, low, high."""
    names = results.specification.constructs
    above = np.triu_indices(len(names), 1)
    frame = pd.DataFrame(
        {
            "first": [names[i] for i in above[0]],
            "second": [names[j] for j in above[1]],
            "htmt": results.htmt.to_numpy()[above],
        }
    )
    if bootstrap is not None:
        low, high = bootstrap.interval("htmt", confidence)
        frame["low"], frame["high"] = low[above], high[above]
    return frame.sort_values("htmt", ascending=False, ignore_index=True)


@dataclass(frozen=True)
class HaloCheck:
    """Shares of the items' variance that their first two principal components hold, with limits."""

    first: float
    first_low: float
    first_high: float
    second: float
    second_low: float
    second_high: float
    items: int


def halo_check(results: PLSResults, bootstrap: BootstrapResults, confidence: float = 0.95) -> HaloCheck:
    """Do all answers move together, as one general attitude would make them?

    Eigenvalues of the items' correlation matrix over its trace (Harman's single-factor check, with the
    caution of Podsakoff et al. 2003, J. Appl. Psychol. 88, p. 889, that it can raise a doubt, not settle it).
    Limits come from at most 1,000 of the bootstrap's resamples.
    """

    def shares(correlations: np.ndarray) -> np.ndarray:
        values = np.linalg.eigvalsh(correlations)[:, ::-1]
        return values[:, :2] / correlations.shape[1]

    point = shares(results.moments.correlations)[0]
    subset = bootstrap.resamples.first(1000)
    draws = np.concatenate([shares(b.correlations) for b in resampled(results.model.moments, subset)])
    tail = (1 - confidence) / 2
    (low_1, low_2), (high_1, high_2) = np.quantile(draws, [tail, 1 - tail], axis=0)
    return HaloCheck(*(float(x) for x in (point[0], low_1, high_1, point[1], low_2, high_2)), len(results.loadings))
