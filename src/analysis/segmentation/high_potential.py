"""High potential: who will be among the best, told from a customer's first weeks, and whether that beats a plain rule.

Three rankings see the same first days of the same customers: what they spent, the product of their RFM scores, and a
model. They are held against what these customers brought over a fixed time afterwards. The model learns only from customers
acquired earlier. The split is strict where the data are long enough: whatever the model learns from was over when the first
tested customer was scored. Where it is not, customers are still split by the day on which they came, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import ibis
import numpy as np
import pandas as pd

from analysis.segmentation.classifier import Calibrator, TopClassifier, choose_calibrator
from analysis.segmentation.early import KEYS, early_behaviour, first_days, person_attributes
from analysis.segmentation.judging import Calibration, Lifts, auc, auc_interval, calibration, lifts
from analysis.valuation.concentration import Estimate
from analysis.valuation.facts import found_or_reason
from analysis.valuation.purchases import Array
from analysis.valuation.rfm import edges_from_counts

SPEND, RFM, MODEL = "early_spend", "rfm", "model"
METHODS = (SPEND, RFM, MODEL)  # simplest first
AGES = (30, 60, 90)
HORIZONS = (365, 273, 182)  # days of outcome, longest first; for a strict split the shortest is half a year
SHORTEST = 91  # days of outcome that are taken where no longer ones leave enough customers
PLENTY = 1000  # customers on either side from which a longer horizon is preferred to more customers
LEAST_LEARN, LEAST_TEST, LEAST_TOP = 200, 100, 20
_LEARN_SHARE = 0.6  # of the customers, in a split that is not strict
_MOST = 50_000  # customers that a model learns from; of more every k-th
_YEAR = 365


@dataclass(frozen=True)
class Split:
    """Who is learnt from, who is tested, and over which time.

    Attributes
    ----------
    ages : days after which a customer is judged. horizon : days of outcome that follow.
    learn_until : last day on which a customer came who is learnt from. test_from, test_until : days on which the tested came.
    strict : whether all outcomes that are learnt from were over when the first tested customer was scored.
    learn, test : customers.
    """

    ages: tuple[int, ...]
    horizon: int
    learn_until: date
    test_from: date
    test_until: date
    strict: bool
    learn: int
    test: int


def plan_split(
    first_days: pd.Series, observed_to: date, ages: Sequence[int] = AGES, horizon: int | None = None
) -> Split:
    """Split customers by the day on which they came, strictly in time where the data allow it.

    All ages share customers and split, so that they can be compared; a customer counts who was seen for the largest age and
    the horizon. Strict means: ``learn_until`` + horizon ≤ ``test_from``, so that the last learnt outcome ended on the day on
    which the first tested customer reached the age, or before. Where no horizon is asked for, it is the longest of 365, 273
    and 182 days whose strict split has 1,000 customers on either side; else the one whose strict split is best balanced; and
    without any strict split the longest, 91 days at least, that leaves enough customers.

    Parameters
    ----------
    first_days : shape (n,), datetime64, first purchase of each customer.
    observed_to : last observed day.
    ages, horizon : days.

    Raises
    ------
    ValueError
        Too few customers were seen for long enough, or they all came on one day.
    """
    came = (pd.Timestamp(observed_to) - pd.to_datetime(pd.Series(first_days))).dt.days.to_numpy()
    oldest = max(ages)

    def usable(days: int) -> Array:
        return came[came >= oldest + days - 1]

    strict = [
        _split(came, observed_to, ages, days, cut, cut + days)
        for days in (HORIZONS if horizon is None else (horizon,))
        if (cut := _strict_cut(usable(days), days)) is not None
    ]
    if strict:
        plenty = (split for split in strict if min(split.learn, split.test) >= PLENTY)
        return next(plenty, max(strict, key=lambda split: _balance(split.learn, split.test)))
    tried = (*HORIZONS, SHORTEST) if horizon is None else (horizon,)
    for days in tried:
        if (cut := _loose_cut(usable(days))) is not None:
            return _split(came, observed_to, ages, days, cut, cut + 1)
    n = len(usable(tried[-1]))
    if n >= LEAST_LEARN + LEAST_TEST:
        raise ValueError(
            f"high potential: the {n} customers came on too few days to be split into earlier and later ones"
        )
    raise ValueError(
        f"high potential: {n} customers were seen for {oldest} + {tried[-1]} days; {LEAST_LEARN + LEAST_TEST} are needed"
    )


def _balance(learn: Array, test: Array) -> Array:
    return learn * test / (learn + test)


def _strict_cut(came: Array, horizon: int) -> int | None:
    """Days before the end at which testing starts that balance both sides; None where there are too few."""
    if len(came) == 0:
        return None
    ordered = np.sort(came)
    starts = np.unique(came)
    test = np.searchsorted(ordered, starts, side="right")
    learn = len(ordered) - np.searchsorted(ordered, starts + horizon, side="left")
    fits = (test >= LEAST_TEST) & (learn >= LEAST_LEARN)
    if not fits.any():
        return None
    balance = np.where(fits, _balance(learn, np.maximum(test, 1)), -1.0)
    return int(starts[balance.argmax()])


def _loose_cut(came: Array) -> int | None:
    starts = np.unique(came)[:-1]
    if len(starts) == 0:
        return None
    test = np.searchsorted(np.sort(came), starts, side="right")
    fits = (test >= LEAST_TEST) & (len(came) - test >= LEAST_LEARN)
    if not fits.any():
        return None
    apart = np.where(fits, np.abs(test / len(came) - (1 - _LEARN_SHARE)), np.inf)
    return int(starts[apart.argmin()])


def _split(came: Array, end: date, ages: Sequence[int], horizon: int, test_age: int, learn_age: int) -> Split:
    youngest = max(ages) + horizon - 1
    learn, test = came >= learn_age, (came <= test_age) & (came >= youngest)
    # The learnt are the youngest that the plan allows; where the split is strict they came a horizon before the tested.
    return Split(
        ages=tuple(ages),
        horizon=horizon,
        learn_until=end - timedelta(days=int(came[learn].min())),
        test_from=end - timedelta(days=int(came[test].max())),
        test_until=end - timedelta(days=int(came[test].min())),
        strict=bool(came[learn].min() >= came[test].max() + horizon),
        learn=int(learn.sum()),
        test=int(test.sum()),
    )


@dataclass(frozen=True)
class AtAge:
    """What could be told of the tested customers at one age.

    Attributes
    ----------
    age : days.
    threshold : least outcome of a tested customer of the best, money. top_share : the share that reached it.
    lifts : Lifts of the methods. aucs : one row a method: method, auc, low, high, reason.
    auc_gain : Estimate, the model's AUC less the RFM score's (DeLong).
    calibration : Calibration of the model.
    winner : the simplest method that no other clearly beats.
    model : TopClassifier, learnt from earlier customers only.
    """

    age: int
    threshold: float
    top_share: float
    lifts: Lifts
    aucs: pd.DataFrame
    auc_gain: Estimate
    calibration: Calibration
    winner: str
    model: TopClassifier

    def lift(self, method: str) -> Estimate:
        """Lift of a method's best-ranked tenth."""
        row = self.lifts.top.set_index("method").loc[method]
        return Estimate(float(row["lift"]), float(row["low"]), float(row["high"]))

    def against(self, other: str) -> tuple[Estimate, str]:
        """The model's lift less another method's, and the verdict: "better", "worse" or "tie"."""
        pairs = self.lifts.differences
        row = pairs[(pairs["method"] == MODEL) & (pairs["against"] == other)].iloc[0]
        return Estimate(float(row["difference"]), float(row["low"]), float(row["high"])), str(row["verdict"])


@dataclass(frozen=True)
class HighPotential:
    """Who will be among the best, and how well that is told.

    Attributes
    ----------
    split : Split. by_age : age -> AtAge. top : share of customers that is called the best.
    outcome : "margin" or "sales". features : what the models may use.
    young : one row a customer whose outcome is not over, best first; for export: customer_id, age_used (days), days_seen,
        probability (of becoming one of the best, by the method that won at that age), future_top (bool: expected to, so that as
        many are as the probabilities add up to), rank (1 is best; equal probabilities share one), early_spend (money of the first
        days). Empty where nobody is young.
    """

    split: Split
    by_age: dict[int, AtAge]
    top: float
    outcome: str
    features: tuple[str, ...]
    young: pd.DataFrame


def top_threshold(outcome: Array, top: float = 0.20) -> float:
    """Least outcome of the best: the cut, above zero and between two different values, whose share is nearest to ``top``.

    Raises
    ------
    ValueError
        Nobody brought anything, or all who could be told apart brought the same.
    """
    values, counts = np.unique(np.asarray(outcome, dtype=float), return_counts=True)
    reached = np.cumsum(counts[::-1])[::-1]
    usable = (values > 0) & (reached < len(outcome))
    if not usable.any():
        nobody = not (values > 0).any()
        raise ValueError(
            "high potential: nobody bought again in the time that counts, so nobody is among the best"
            if nobody
            else "high potential: all customers brought the same, so nobody is among the best"
        )
    apart = np.abs(reached[usable] - top * len(outcome))
    # Of cuts that are equally near, the one of the fewer customers.
    return float(values[usable][len(apart) - 1 - int(apart[::-1].argmin())])


def find_high_potential(
    order_lines: ibis.Table,
    observed_to: date,
    *,
    entry: str = "first_purchase",
    customers: pd.DataFrame | None = None,
    products: pd.DataFrame | None = None,
    margin_rate: float | None = None,
    ages: Sequence[int] = AGES,
    horizon: int | None = None,
    top: float = 0.20,
    small_group: int = 10,
    seed: int = 1,
    replications: int = 1000,
) -> HighPotential:
    """Learn who becomes one of the best, test it on customers who came later, and score those who are young now.

    The best of the learnt, and of the tested, are the ``top`` share of each by what they brought in the horizon, so that later
    customers are compared with each other and not with another season. Probabilities of the young come from the method that won
    at their age, learnt anew from all whose outcome is known.

    Parameters
    ----------
    order_lines : canonical Ibis table.
    observed_to : last observed day.
    entry : the study's clock; with "left_truncated" the first days of nobody were seen.
    customers : attributes, or None.
    products : for the number of categories, or None.
    margin_rate : margin as a share of net sales, for lines whose cost is unknown.
    ages, horizon : days; see :func:`plan_split`.
    top : share of customers that is called the best.
    small_group : smallest group in the calibration table.
    seed, replications : of folds, trees and bootstrap.

    Raises
    ------
    ValueError
        One line that says why it cannot be told.
    """
    if entry == "left_truncated":
        raise ValueError(
            "high potential: customers existed before the first observed day, so the first days of nobody were seen"
        )
    if not 0 < top < 1 or not ages:
        raise ValueError(f"high potential: top ({top:g}) lies between 0 and 1, and there is one age at least")
    ages = tuple(sorted(set(ages)))
    came = first_days(order_lines, observed_to)
    split = plan_split(came, observed_to, ages, horizon)
    # A month of entry that was not seen cannot be learnt from.
    months = (pd.Timestamp(split.learn_until) - came.min()).days >= _YEAR
    attributes = person_attributes(customers)
    frames: dict[int, pd.DataFrame] = {}
    outcome = None
    for age in reversed(ages):  # the oldest sees the most lines, so it knows whether all have a margin
        frame = early_behaviour(
            order_lines,
            observed_to,
            age,
            split.horizon,
            margin_rate=margin_rate,
            products=products,
            measure=outcome,
        )
        outcome = frame.attrs["outcome"]
        frames[age] = _with_attributes(frame, attributes, months)
    by_age = {age: _at_age(frames[age], age, split, top, small_group, seed, replications) for age in ages}
    return HighPotential(
        split=split,
        by_age=by_age,
        top=top,
        outcome=outcome,
        features=tuple(c for c in frames[ages[0]].columns if c not in KEYS),
        young=_score_young(frames, by_age, top, seed),
    )


def high_potential_or_reason(*args: object, **kwargs: object) -> tuple[HighPotential | None, str]:
    """:func:`find_high_potential`, or None and the reason why it cannot be told."""
    return found_or_reason(lambda: find_high_potential(*args, **kwargs))


def _with_attributes(frame: pd.DataFrame, attributes: pd.DataFrame, months: bool) -> pd.DataFrame:
    clashing = [c for c in attributes.columns if c in frame.columns and c != "customer_id"]
    joined = frame.merge(attributes.drop(columns=clashing), on="customer_id", how="left", validate="one_to_one")
    return joined.assign(entry_month=joined["first_day"].dt.month.astype("str")) if months else joined


def rfm_product(features: pd.DataFrame, among: pd.DataFrame | None = None) -> Array:
    """Product of the RFM scores (1 to 125) of the first days, shape (n,).

    Parameters
    ----------
    features : days_since_last, purchase_days, spend of the same first days.
    among : whose distribution sets the edges; the customers themselves by default.
    """
    among = features if among is None else among
    product = np.ones(len(features), dtype=np.int64)
    for column, best_is_low in (("days_since_last", True), ("purchase_days", False), ("spend", False)):
        values, counts = np.unique(among[column].to_numpy(float), return_counts=True)
        group = edges_from_counts(values, counts).group(features[column])
        product = product * (5 - group if best_is_low else group + 1)
    return product


def _sides(frame: pd.DataFrame, split: Split) -> tuple[pd.DataFrame, pd.DataFrame]:
    day, usable = frame["first_day"], frame["outcome"].notna()
    learn = frame[usable & (day <= pd.Timestamp(split.learn_until))]
    between = (day >= pd.Timestamp(split.test_from)) & (day <= pd.Timestamp(split.test_until))
    return learn.reset_index(drop=True), frame[usable & between].reset_index(drop=True)


def _inputs(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns=list(KEYS))


def _learn(learn: pd.DataFrame, top: float, seed: int) -> tuple[TopClassifier, Array]:
    outcome = learn["outcome"].to_numpy(float)
    y = (outcome >= top_threshold(outcome, top)).astype(int)
    if y.sum() < LEAST_TOP:
        raise ValueError(f"high potential: {y.sum()} of the best are too few to learn from ({LEAST_TOP} needed)")
    stride = max(1, -(-len(learn) // _MOST))
    model = TopClassifier(random_state=seed)
    model.fit(_inputs(learn).iloc[::stride], y[::stride])
    return model, y


def _at_age(
    frame: pd.DataFrame, age: int, split: Split, top: float, small_group: int, seed: int, replications: int
) -> AtAge:
    learn, test = _sides(frame, split)
    model, _ = _learn(learn, top, seed)
    outcome = test["outcome"].to_numpy(float)
    threshold = top_threshold(outcome, top)
    y = (outcome >= threshold).astype(int)
    if y.sum() < LEAST_TOP:
        raise ValueError(f"high potential: {y.sum()} of the best are too few to test on ({LEAST_TOP} needed)")
    inputs = _inputs(test)
    scores = pd.DataFrame(
        {
            SPEND: test["spend"].to_numpy(float),
            RFM: rfm_product(test).astype(float),
            MODEL: model.decision_function(inputs),
        }
    )
    found = lifts(y, scores[list(reversed(METHODS))], seed=seed, replications=replications)
    return AtAge(
        age=age,
        threshold=threshold,
        top_share=float(y.mean()),
        lifts=found,
        aucs=_aucs(y, scores),
        auc_gain=_auc_gain(y, scores),
        calibration=calibration(y, model.predict_proba(inputs)[:, 1], small_group=small_group, seed=seed),
        winner=_winner(found),
        model=model,
    )


def _winner(found: Lifts) -> str:
    """The simplest method whose top tenth no other clearly beats."""
    pairs = found.differences
    beaten = set(pairs.loc[pairs["verdict"] == "better", "against"]) | set(
        pairs.loc[pairs["verdict"] == "worse", "method"]
    )
    return next((m for m in METHODS if m not in beaten), MODEL)


def _aucs(y: Array, scores: pd.DataFrame) -> pd.DataFrame:
    found = {m: auc_interval(y, scores[m]) for m in METHODS}
    rows = [(m, e.value, e.low, e.high, e.reason or "") for m, e in found.items()]
    return pd.DataFrame(rows, columns=["method", "auc", "low", "high", "reason"])


def _auc_gain(y: Array, scores: pd.DataFrame) -> Estimate:
    areas, covariance = auc(y, scores[[MODEL, RFM]])
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    gain, reach = float(areas[0] - areas[1]), 1.959964 * float(np.sqrt(max(variance, 0.0)))
    return Estimate(gain, gain - reach, gain + reach)


@dataclass(frozen=True)
class _Scorer:
    """A method learnt from all customers whose outcome is known."""

    method: str
    known: pd.DataFrame
    model: TopClassifier | None
    calibrator: Calibrator | None

    def score(self, frame: pd.DataFrame) -> tuple[Array, Array]:
        """Ranking score and probability, shape (n,) each."""
        if self.model is not None:
            inputs = _inputs(frame)
            return self.model.decision_function(inputs), self.model.predict_proba(inputs)[:, 1]
        rule = _rule(self.method, frame, self.known)
        return rule, self.calibrator.probability(rule)


def _rule(method: str, frame: pd.DataFrame, among: pd.DataFrame) -> Array:
    """A plain rule on a scale that a sigmoid can follow."""
    if method == RFM:
        return np.log(rfm_product(frame, among))
    return np.log1p(np.maximum(frame["spend"].to_numpy(float), 0.0))


def _scorer(known: pd.DataFrame, method: str, top: float, seed: int) -> _Scorer:
    if method == MODEL:
        model, _ = _learn(known, top, seed)
        return _Scorer(method, known, model, None)
    outcome = known["outcome"].to_numpy(float)
    y = (outcome >= top_threshold(outcome, top)).astype(int)
    return _Scorer(method, known, None, choose_calibrator(_rule(method, known, known), y, seed=seed))


def _score_young(frames: dict[int, pd.DataFrame], by_age: dict[int, AtAge], top: float, seed: int) -> pd.DataFrame:
    """Score each customer whose outcome is not over at the largest age that they have reached."""
    parts, ages = [], sorted(frames)
    for age, following in zip(ages, [*ages[1:], None], strict=True):
        frame = frames[age]
        young = frame["outcome"].isna() & (True if following is None else frame["days_seen"] < following)
        if not young.any():
            continue
        part = frame[young].reset_index(drop=True)
        known = frame[frame["outcome"].notna()].reset_index(drop=True)
        score, probability = _scorer(known, by_age[age].winner, top, seed).score(part)
        parts.append(
            pd.DataFrame(
                {
                    "customer_id": part["customer_id"],
                    "age_used": age,
                    "days_seen": part["days_seen"].astype("int64"),
                    "probability": probability,
                    "score": score,
                    "early_spend": part["spend"],
                }
            )
        )
    if not parts:
        columns = ["customer_id", "age_used", "days_seen", "probability", "future_top", "rank", "early_spend"]
        return pd.DataFrame(columns=columns)
    table = pd.concat(parts, ignore_index=True)
    table = table.sort_values(
        ["probability", "age_used", "score", "customer_id"], ascending=[False, False, False, True], ignore_index=True
    )
    table["rank"] = table["probability"].rank(method="min", ascending=False).astype("int64")
    expected = round(float(table["probability"].sum()))
    table["future_top"] = table["rank"] <= expected
    return table[["customer_id", "age_used", "days_seen", "probability", "future_top", "rank", "early_spend"]]
