"""Prospects: people who have not bought, ranked by how much they resemble the best customers.

A classifier learns from customers alone what tells the best of them from the others, on the attributes that prospects have too. It
is tested on customers that it did not see. Prospects are never learnt from: having bought is the very thing that they lack, so
the score says "if they became customers, how likely among the best", and not how likely they become customers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import ibis
import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from analysis.consent import ASKED
from analysis.segmentation.classifier import TopClassifier
from analysis.segmentation.early import early_behaviour, person_attributes
from analysis.segmentation.high_potential import LEAST_TOP, top_threshold
from analysis.segmentation.judging import Calibration, Lifts, auc_interval, calibration, lifts
from analysis.valuation.concentration import Estimate
from analysis.valuation.facts import found_or_reason
from analysis.valuation.intervals import share_interval
from analysis.valuation.purchases import Array
from analysis.valuation.summary import customer_summary, to_frame

PREFIX = "prospect_"  # a prospects' column called prospect_region holds what customers call region
SCORE = "resemblance"
LEAST_CUSTOMERS = 200
WORTH_DAYS = (365, 182, 91)
BANDS = 5
FAR = 0.1  # standardised difference from which two groups are called apart (Austin 2009)
_TEST_SHARE = 0.4
_OF_PROSPECTS = ("source",)  # says where a prospect was found, which no customer has


@dataclass(frozen=True)
class Lookalikes:
    """Prospects by resemblance to the best customers.

    Attributes
    ----------
    attributes : columns that customers and prospects share.
    customers, tested, best : customers learnt from and tested on in all; those tested; those among the best.
    top_share : share of customers that is called the best. threshold : their least value, money.
    auc : Estimate, on the tested customers. tells : whether its interval lies above a half.
    lifts : Lifts of the tested customers. calibration : Calibration of the tested customers.
    bands : one row a fifth of the tested customers by score, best first: band, customers, prospects, lowest (least probability),
        observed (share of the best), low, high (Wilson).
    shift : one row an attribute: attribute, difference (largest standardised difference between prospects and customers), outside
        (share of prospects whose value no customer has), customers_known, prospects_known (shares that are not missing).
    outside : share of prospects who have some value that no customer has.
    frame : one row a prospect, best first; for export: prospect_id, probability, rank (1 is best; equal ones share it), band,
        band_low, band_high (share of the best among tested customers of this band), outside (bool).
    reachable : way to reach people -> prospects who agreed, None where consent is not recorded.
    """

    attributes: tuple[str, ...]
    customers: int
    tested: int
    best: int
    top_share: float
    threshold: float
    auc: Estimate
    tells: bool
    lifts: Lifts
    calibration: Calibration
    bands: pd.DataFrame
    shift: pd.DataFrame
    outside: float
    frame: pd.DataFrame
    reachable: dict[str, int | None]


def customer_worth(
    order_lines: ibis.Table, observed_to: date, *, entry: str = "first_purchase", margin_rate: float | None = None
) -> tuple[pd.DataFrame, str, int | None]:
    """What each customer was worth over the same time, so that those who came long ago are not the best for that alone.

    It is the margin of the first year, half year or quarter, the longest for which 400 customers were seen. Where there is none,
    or customers existed before the first observed day, it is the margin so far. Sales stand in where the margin of some line is
    not known.

    Parameters
    ----------
    order_lines, observed_to, entry, margin_rate : as in :func:`analysis.segmentation.find_high_potential`.

    Returns
    -------
    frame : customer_id, value (money). kind : "margin" or "sales". days : of the time, None for all so far.
    """
    for days in WORTH_DAYS if entry != "left_truncated" else ():
        frame = early_behaviour(order_lines, observed_to, days, 1, margin_rate=margin_rate)
        if len(frame) >= 2 * LEAST_CUSTOMERS:
            kind = frame.attrs["outcome"]
            return frame[["customer_id"]].assign(value=frame["margin" if kind == "margin" else "spend"]), kind, days
    summary = to_frame(customer_summary(order_lines, observed_to, margin_rate))
    kind = "margin" if summary["margin"].notna().all() else "sales"
    return summary[["customer_id"]].assign(value=summary["margin" if kind == "margin" else "spend"]), kind, None


def shared_attributes(customers: pd.DataFrame | None, prospects: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Attributes that both have, under the customers' names and of one kind.

    ``prospect_region`` of the prospects is ``region`` of the customers, unless they have a region too. A column that is a number in
    one table and text in the other is text.

    Parameters
    ----------
    customers, prospects : canonical tables.

    Returns
    -------
    Frames of customer_id and of prospect_id with the same attribute columns, in the customers' order.
    """
    names = {c: c.removeprefix(PREFIX) for c in prospects.columns if c.startswith(PREFIX) and c != "prospect_id"}
    renamed = prospects.rename(columns={c: n for c, n in names.items() if n not in prospects.columns})
    ours = person_attributes(customers)
    theirs = person_attributes(renamed.drop(columns=list(_OF_PROSPECTS), errors="ignore"), "prospect_id")
    shared = [c for c in ours.columns if c in theirs.columns]
    for column in shared:
        kinds = [pd.api.types.is_numeric_dtype(frame[column]) for frame in (ours, theirs)]
        if kinds[0] != kinds[1]:
            raw = customers[column], renamed[column]
            for frame, values in zip((ours, theirs), raw, strict=True):
                frame[column] = values.astype("str").to_numpy()
    return ours[["customer_id", *shared]], theirs[["prospect_id", *shared]]


def find_lookalikes(
    customers: pd.DataFrame | None,
    value: pd.DataFrame,
    prospects: pd.DataFrame | None,
    *,
    top: float = 0.20,
    small_group: int = 10,
    seed: int = 1,
    replications: int = 1000,
) -> Lookalikes:
    """Rank prospects by resemblance to the best customers.

    Parameters
    ----------
    customers : canonical customers, with attributes.
    value : customer_id, value (money): what each customer is worth; customers without a value are left out.
    prospects : canonical prospects, or None.
    top : share of customers that is called the best.
    small_group : smallest group in the tables.
    seed, replications : of split, folds, trees and bootstrap.

    Raises
    ------
    ValueError
        One line that says why it cannot be told: no prospects, no shared attribute, too few customers.
    """
    if prospects is None or prospects.empty:
        raise ValueError("prospects: the study has no prospects")
    ours, theirs = shared_attributes(customers, prospects)
    shared = list(ours.columns.drop("customer_id"))
    if not shared:
        raise ValueError("prospects: they have no attribute in common with customers")
    known = value.dropna(subset=["value"]).merge(ours, on="customer_id", validate="one_to_one")
    known = known[known[shared].notna().any(axis=1)].sort_values("customer_id", ignore_index=True)
    if len(known) < LEAST_CUSTOMERS:
        raise ValueError(
            f"prospects: {len(known)} customers with attributes are too few to learn from ({LEAST_CUSTOMERS} needed)"
        )
    y, threshold = _best(known["value"].to_numpy(float), top)
    model, rows, scored = _tested(known[shared], y, seed)
    tested = y[rows]
    auc = auc_interval(tested, scored["score"])
    bands, cuts = _bands(tested, scored["score"].to_numpy(), scored["probability"].to_numpy(), small_group)
    shift, outside = support_shift(ours, theirs, shared)
    frame = _scored(model, theirs, shared, bands, cuts, outside)
    bands["prospects"] = frame["band"].value_counts().reindex(bands["band"]).fillna(0).astype("int64").to_numpy()
    return Lookalikes(
        attributes=tuple(shared),
        customers=len(known),
        tested=len(tested),
        best=int(y.sum()),
        top_share=float(y.mean()),
        threshold=threshold,
        auc=auc,
        tells=auc.low is not None and auc.low > 0.5,
        lifts=lifts(tested, scored[["score"]].set_axis([SCORE], axis=1), seed=seed, replications=replications),
        calibration=calibration(tested, scored["probability"], small_group=small_group, seed=seed),
        bands=bands,
        shift=shift,
        outside=float(outside.mean()),
        frame=frame,
        reachable={way: _agreed(prospects, column) for way, column in ASKED.items()},
    )


def lookalikes_or_reason(*args: object, **kwargs: object) -> tuple[Lookalikes | None, str]:
    """:func:`find_lookalikes`, or None and the reason why it cannot be told."""
    return found_or_reason(lambda: find_lookalikes(*args, **kwargs))


def _best(value: Array, top: float) -> tuple[Array, float]:
    try:
        threshold = top_threshold(value, top)
    except ValueError:
        raise ValueError("prospects: no customers stand out by value, so there is nobody to resemble") from None
    y = (value >= threshold).astype(int)
    if min(y.sum(), len(y) - y.sum()) < 2 * LEAST_TOP:
        raise ValueError(f"prospects: {y.sum()} best customers are too few to learn from ({2 * LEAST_TOP} needed)")
    return y, threshold


def _tested(inputs: pd.DataFrame, y: Array, seed: int) -> tuple[TopClassifier, Array, pd.DataFrame]:
    """The model learnt on six customers in ten, and what it says of the rest.

    The same model scores the prospects, so that the bands of its scores mean what they meant in the test.
    """
    learn, test = train_test_split(np.arange(len(y)), test_size=_TEST_SHARE, stratify=y, random_state=seed)
    learn, test = np.sort(learn), np.sort(test)
    try:
        model = TopClassifier(random_state=seed).fit(inputs.iloc[learn], y[learn])
    except ValueError as error:
        raise ValueError(f"prospects: {error}") from None
    part = inputs.iloc[test]
    scored = pd.DataFrame({"score": model.decision_function(part), "probability": model.predict_proba(part)[:, 1]})
    return model, test, scored


def _bands(y: Array, score: Array, probability: Array, small_group: int) -> tuple[pd.DataFrame, Array]:
    """Bands of the tested customers by score, best first, and the least score of each but the last.

    Equal scores stay together, so there are fewer bands where few scores differ; a small band joins the one above it.
    """
    edges = np.unique(np.quantile(score, np.linspace(1, 0, BANDS + 1)[1:-1], method="inverted_cdf"))[::-1]
    kept: list[float] = []
    taken = 0
    for edge in edges:
        here = int((score >= edge).sum())
        if here - taken >= small_group and len(score) - here >= small_group:
            kept.append(float(edge))
            taken = here
    cuts = np.array(kept)
    band = _band_of(score, cuts)
    grouped = pd.DataFrame({"band": band, "y": y, "probability": probability}).groupby("band")
    table = grouped.agg(customers=("y", "size"), lowest=("probability", "min"), observed=("y", "mean")).reset_index()
    table["low"], table["high"] = share_interval(grouped["y"].sum().to_numpy(), table["customers"])
    return table, cuts


def _band_of(score: Array, cuts: Array) -> Array:
    """1 for scores from the first cut up, 2 from the second, and so on."""
    return 1 + (score[:, None] < cuts[None, :] - 1e-12).sum(axis=1)


def _scored(
    model: TopClassifier, theirs: pd.DataFrame, shared: list[str], bands: pd.DataFrame, cuts: Array, outside: Array
) -> pd.DataFrame:
    inputs = theirs[shared]
    score = model.decision_function(inputs)
    frame = pd.DataFrame({"prospect_id": theirs["prospect_id"], "probability": model.predict_proba(inputs)[:, 1]})
    frame["rank"] = pd.Series(score.round(12)).rank(method="min", ascending=False).astype("int64")
    frame["band"] = _band_of(score, cuts)
    observed = bands.set_index("band")
    frame["band_low"] = observed["low"].reindex(frame["band"]).to_numpy()
    frame["band_high"] = observed["high"].reindex(frame["band"]).to_numpy()
    frame["outside"] = outside
    return frame.sort_values(["rank", "prospect_id"], ignore_index=True)


def support_shift(ours: pd.DataFrame, theirs: pd.DataFrame, shared: list[str]) -> tuple[pd.DataFrame, Array]:
    """How prospects differ from customers, attribute by attribute.

    Parameters
    ----------
    ours, theirs : frames of :func:`shared_attributes`. shared : attributes.

    Returns
    -------
    table : one row an attribute: attribute, difference (standardised, the largest over kinds), outside, customers_known,
        prospects_known. outside : shape (prospects,), whether some value of a prospect is one that no customer has.

    Source: standardised differences, Austin (2009), Communications in Statistics 38:1228, eq. 1 and 2.
    """
    rows, anywhere = [], np.zeros(len(theirs), dtype=bool)
    for column in shared:
        a, b = ours[column], theirs[column]
        if pd.api.types.is_numeric_dtype(a):
            outside = (b < a.min()) | (b > a.max())
            difference = _apart(b.mean() - a.mean(), np.sqrt((a.var() + b.var()) / 2))
        else:
            outside = b.notna() & ~b.isin(a.dropna().unique())
            p, q = (s.value_counts(normalize=True) for s in (a, b))
            p, q = p.align(q, fill_value=0.0)
            spread = np.sqrt((p * (1 - p) + q * (1 - q)) / 2)
            difference = max((_apart(x, s) for x, s in zip(q - p, spread, strict=True)), key=abs, default=0.0)
        outside = outside.to_numpy(bool)
        anywhere |= outside
        rows.append((column, difference, float(outside.mean()), float(a.notna().mean()), float(b.notna().mean())))
    table = pd.DataFrame(rows, columns=["attribute", "difference", "outside", "customers_known", "prospects_known"])
    return table, anywhere


def _apart(difference: float, spread: float) -> float:
    if not np.isfinite(difference) or difference == 0:
        return 0.0
    return float(difference / spread) if spread > 0 else float(np.sign(difference) * np.inf)


def _agreed(prospects: pd.DataFrame, column: str) -> int | None:
    return int(prospects[column].eq(True).fillna(False).sum()) if column in prospects else None
