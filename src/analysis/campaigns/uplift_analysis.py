"""From the panel to whom a randomised campaign moves: learners and simple rules on one campaign, judged side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor

from analysis.campaigns import qini
from analysis.campaigns.effects import EstimationError
from analysis.campaigns.evaluation import Settings, covariates
from analysis.campaigns.heterogeneity import HeterogeneityTest, heterogeneity_test, segment_effects
from analysis.campaigns.uplift import (
    CONTROL,
    DRLearner,
    RLearner,
    SLearner,
    TLearner,
    XLearner,
    cross_fit_effects,
    cross_fit_scores,
    customer_folds,
    rule_scores,
)
from analysis.multiplicity import adjust_p_values

Array = NDArray[np.float64]

CHOSEN = "t_logistic"
"""The learner that the target list uses, named before results are seen: the best on real campaigns, and the fastest."""
OUTCOMES = ("spend", "bought", "purchase_days")
FOLDS = 5
MOST_LEVELS = 20
DEPTH = 0.3
"""Share of customers at which uplift at a depth is printed."""


OVERVIEW_COLUMNS = {
    "label": ("Campaign", "text"),
    "arm": ("Arm", "text"),
    "effect": ("Sales each", "money"),
    "p_adjusted": ("p, all alike", "ratio"),
    "qini": ("Qini", "money"),
    "low": ("Low", "money"),
    "high": ("High", "money"),
    "over_rule": ("Over the best rule", "money"),
}


@dataclass(frozen=True)
class UpliftAnalysis:
    """One randomised campaign: effects on each customer and what each way of ranking customers is worth.

    Attributes
    ----------
    campaign_id, label, outcome. arms : treatment arms, the columns of everything of shape (n, arms).
    customers, assigned : shape (n,), customer and the arm they got. features : (n, k) frame, known before the campaign.
    fold : shape (n,), of the cross-fitting. gamma : shape (n, arms), cross-fitted Γ.
    predicted : learner to shape (n, arms), out-of-fold effects, in the outcome's unit (``t_logistic``: chance to buy).
    scores : learner or rule to shape (n, arms), what ranks customers, the higher the sooner.
    test : whether effects differ at all. segments : effects by named segment, one row an arm × segmentation × level.
    confidence : of every interval.
    """

    campaign_id: str
    label: str
    outcome: str
    arms: list[str]
    customers: NDArray = field(repr=False)
    assigned: NDArray = field(repr=False)
    features: pd.DataFrame = field(repr=False)
    fold: NDArray[np.int64] = field(repr=False)
    gamma: Array = field(repr=False)
    predicted: Mapping[str, Array] = field(repr=False)
    scores: Mapping[str, Array] = field(repr=False)
    test: HeterogeneityTest
    segments: pd.DataFrame = field(repr=False)
    confidence: float

    def differs(self) -> bool:
        """Whether effects differ between customers beyond chance; if not, treat all alike."""
        return self.test.differs(1 - self.confidence)

    def table(self) -> pd.DataFrame:
        """What each ranking is worth.

        Returns
        -------
        One row an arm × score, best Qini first within kind: arm, score, kind (``learner`` or ``rule``), qini, low, high,
        p_value, uplift_at (mean effect on the top ``DEPTH``), uplift_low, uplift_high, over_rule (Qini less that of the
        arm's best rule), over_low, over_high (paired; missing for that rule itself).
        """
        rows = []
        for j, arm in enumerate(self.arms):
            best = self.best_rule(arm)
            for name, score in self.scores.items():
                rows.append({"arm": arm, "score": name, **self._worth(name, score[:, j], best, j)})
        found = pd.DataFrame(rows).sort_values("qini", ascending=False, kind="stable")
        order = found["arm"].map({arm: j for j, arm in enumerate(self.arms)})
        return (
            found.assign(_arm=order)
            .sort_values(["_arm", "kind"], kind="stable", ignore_index=True)
            .drop(columns="_arm")
        )

    def _worth(self, name: str, score: Array, best: str, j: int) -> dict[str, object]:
        gamma, rule = self.gamma[:, j], self.scores[best][:, j]
        own, top = (
            qini.qini_coefficient(score, gamma, self.customers),
            qini.uplift_at(score, gamma, DEPTH, self.customers),
        )
        over = qini.compare_rankings(score, rule, gamma, self.customers)
        low, high = own.interval(self.confidence)
        top_low, top_high = top.interval(self.confidence)
        over_low, over_high = over.interval(self.confidence)
        is_best = name == best
        return {
            "kind": "learner" if name in self.predicted else "rule",
            "qini": own.estimate,
            "low": low,
            "high": high,
            "p_value": own.pvalue,
            "uplift_at": top.estimate,
            "uplift_low": top_low,
            "uplift_high": top_high,
            "over_rule": np.nan if is_best else over.estimate,
            "over_low": np.nan if is_best else over_low,
            "over_high": np.nan if is_best else over_high,
        }

    def best_rule(self, arm: str) -> str:
        """The simple rule with the highest Qini in this arm."""
        j = self.arms.index(arm)
        rules = [name for name in self.scores if name not in self.predicted]
        return max(rules, key=lambda name: qini.qini_coefficient(self.scores[name][:, j], self.gamma[:, j]).estimate)

    def curve(self, arm: str, score: str = CHOSEN) -> pd.DataFrame:
        """Gain against depth with a band: see :func:`analysis.campaigns.qini.qini_curve`."""
        j = self.arms.index(arm)
        return qini.qini_curve(self.scores[score][:, j], self.gamma[:, j], self.customers, self.confidence)

    def calibration(self, arm: str, learner: str = "dr", bins: int = 10) -> pd.DataFrame:
        """Predicted against observed effect by decile, for a learner that predicts in the outcome's unit."""
        j = self.arms.index(arm)
        return qini.effect_calibration(
            self.predicted[learner][:, j],
            self.gamma[:, j],
            self.customers,
            self.confidence,
            bins,
            self.scores[learner][:, j],
        )

    def average(self) -> pd.DataFrame:
        """Average effect an arm: arm, effect, low, high."""
        everybody, rows = np.zeros(len(self.gamma)), []
        for arm, gamma in zip(self.arms, self.gamma.T, strict=True):
            found = qini.uplift_at(everybody, gamma, 1.0, self.customers)
            rows.append((arm, found.estimate, *found.interval(self.confidence)))
        return pd.DataFrame(rows, columns=["arm", "effect", "low", "high"])


def uplift_features(rows: pd.DataFrame, periods: int, attributes: pd.DataFrame | None = None) -> pd.DataFrame:
    """What is known of each customer before the campaign, as numbers.

    Parameters
    ----------
    rows : panel of one campaign. periods : before the start to look at.
    attributes : frame with customer_id and columns known before the campaign; numbers and flags enter as they are
    (missing at the median), text of at most ``MOST_LEVELS`` levels as one column a level, the rest is left out.

    Returns
    -------
    (n, k) frame without missing values or constant columns.
    """
    found = covariates(rows, periods).reset_index(drop=True)
    if attributes is not None:
        joined = rows[["customer_id"]].merge(attributes.drop_duplicates("customer_id"), on="customer_id", how="left")
        extra = joined.drop(columns="customer_id")
        for name in extra:
            column = extra[name]
            if pd.api.types.is_bool_dtype(column) or pd.api.types.is_numeric_dtype(column):
                numbers = column.astype("Float64").astype(float)
                found[name] = numbers.fillna(numbers.median() if numbers.notna().any() else 0.0)
            elif not pd.api.types.is_datetime64_any_dtype(column) and column.nunique() <= MOST_LEVELS:
                levels = pd.get_dummies(column.astype(object), prefix=name, dtype=float).iloc[:, 1:]
                found = pd.concat([found, levels], axis=1)
    return found.loc[:, found.std() > 0]


def _learners(outcome: str) -> dict[str, tuple[object, str]]:
    """Learners and the outcome that each learns from; the first ranks money by the chance to buy, which is less noisy."""
    found = {CHOSEN: (TLearner(), "bought")}
    if outcome != "bought":
        found["t"] = (TLearner(), outcome)
    kinds = {"s": SLearner, "x": XLearner, "dr": DRLearner, "r": RLearner}
    return found | {name: (kind(), outcome) for name, kind in kinds.items()}


def run_uplift(
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    settings: Settings,
    campaign_id: str | None = None,
    attributes: pd.DataFrame | None = None,
    segments: pd.DataFrame | None = None,
    outcome: str = "spend",
    seed: int = 1,
) -> tuple[UpliftAnalysis | None, str | None]:
    """Learners and simple rules on one randomised campaign, or why there is nothing to learn from.

    Parameters
    ----------
    panel : from :func:`analysis.campaigns.outcomes.campaign_panel`. spans : from :func:`analysis.campaigns.outcomes.windows`.
    campaign_id : the randomised campaign with the most customers by default.
    attributes : see :func:`uplift_features`. segments : frame with customer_id and columns of named segments.
    outcome : ``spend``, ``purchase_days`` or ``bought`` (any purchase day).

    Returns
    -------
    The analysis and None, or None and a reason: ``not_randomised``, ``no_outcome``, ``no_history``, ``no_comparison``,
    ``no_treated``, ``too_few``.
    """
    if outcome not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(OUTCOMES)}, not {outcome}")
    randomised = spans[(spans["design"] == "randomised") & spans["campaign_id"].isin(panel["campaign_id"])]
    if campaign_id is None and len(randomised):
        sizes = panel["campaign_id"].value_counts()[randomised["campaign_id"]]
        campaign_id = sizes.index[sizes.to_numpy().argmax()]
    span = randomised[randomised["campaign_id"] == campaign_id]
    if span.empty:
        return None, "not_randomised"
    rows = panel[panel["campaign_id"] == campaign_id].reset_index(drop=True)
    try:
        return _analyse(rows, span.iloc[0], settings, attributes, segments, outcome, seed), None
    except EstimationError as error:
        return None, error.code


def _analyse(
    rows: pd.DataFrame,
    span: pd.Series,
    settings: Settings,
    attributes: pd.DataFrame | None,
    segments: pd.DataFrame | None,
    outcome: str,
    seed: int,
) -> UpliftAnalysis:
    periods = min(settings.pre_periods, int(span["complete_periods"]))
    if periods < 1:
        raise EstimationError("no_history", "no whole period before the campaign to learn from")
    rows = rows[rows["arm"].map(rows["arm"].value_counts()) >= settings.min_targeted]
    rows = rows.assign(bought=(rows["purchase_days"] > 0).astype(float)).reset_index(drop=True)
    y = {name: rows[name].to_numpy(float) for name in ("bought", outcome)}
    if len(rows) == 0:
        raise EstimationError("too_few", "no arm has enough customers")
    if np.ptp(y[outcome]) == 0:
        raise EstimationError("no_outcome", "everybody did the same")
    arm, who = rows["arm"].to_numpy(str), rows["customer_id"].to_numpy(object)
    features = uplift_features(rows, periods, attributes)
    x = features.to_numpy()
    fold = customer_folds(arm, who, FOLDS, seed)
    gamma = cross_fit_scores(x, arm, y[outcome], fold)
    learners = _learners(outcome)
    predicted = {n: cross_fit_effects(one, x, arm, y[of], fold, who) for n, (one, of) in learners.items()}
    scores = {
        n: np.column_stack([qini.ranks_within(column, fold) for column in found.T]) for n, found in predicted.items()
    }
    scores |= {n: np.tile(rule[:, None], gamma.shape[1]) for n, rule in _rules(rows, periods).items()}
    learner, of = learners[CHOSEN]
    test = heterogeneity_test(x, arm, y[outcome], who, learner, gamma, FOLDS, seed, y[of])
    arms = [a for a in np.unique(arm).tolist() if a != CONTROL]
    named = _segments(rows, segments, gamma, arms, settings)
    return UpliftAnalysis(
        span["campaign_id"],
        span["label"],
        outcome,
        arms,
        who,
        arm,
        features,
        fold,
        gamma,
        predicted,
        scores,
        test,
        named,
        settings.confidence,
    )


def _rules(rows: pd.DataFrame, periods: int) -> dict[str, Array]:
    """Rules on the same history as the learners."""
    later = [c for c in rows if "_before_" in c and int(c.rsplit("_", 1)[1]) > periods]
    scores = rule_scores(rows.drop(columns=later))
    return {name: scores[name].to_numpy() for name in scores}


def _segments(
    rows: pd.DataFrame, segments: pd.DataFrame | None, gamma: Array, arms: list[str], settings: Settings
) -> pd.DataFrame:
    if segments is None:
        return pd.DataFrame()
    joined = rows[["customer_id"]].merge(segments.drop_duplicates("customer_id"), on="customer_id", how="left")
    named, who = joined.drop(columns="customer_id"), rows["customer_id"].to_numpy(object)
    tables = [
        segment_effects(gamma[:, j], named, who, settings.confidence, settings.min_targeted).assign(arm=arm)
        for j, arm in enumerate(arms)
    ]
    return pd.concat(tables, ignore_index=True)


def run_uplifts(
    panel: pd.DataFrame, spans: pd.DataFrame, chosen: Sequence[str], settings: Settings, seed: int = 1
) -> tuple[dict[str, UpliftAnalysis], dict[str, str]]:
    """:func:`run_uplift` on each of the chosen campaigns: the analyses, and why there is none, both by campaign_id."""
    found, reasons = {}, {}
    for name in chosen:
        analysis, reason = run_uplift(panel, spans, settings, campaign_id=name, seed=seed)
        if analysis is None:
            reasons[name] = reason
        else:
            found[name] = analysis
    return found, reasons


def uplift_overview(analyses: Mapping[str, UpliftAnalysis]) -> pd.DataFrame:
    """Every randomised campaign in a line an arm: do effects differ, and what is the chosen ranking worth.

    Returns
    -------
    label, arm, customers, effect (average), p_value (that effects do not differ, adjusted over the campaign's arms),
    p_adjusted (Holm, over the campaigns as well), differs (by it), qini, low, high (of the chosen learner), best_rule,
    over_rule, over_low, over_high.
    """
    adjusted = adjust_p_values([found.test.p_value for found in analyses.values()]) if analyses else []
    rows = []
    for found, p_adjusted in zip(analyses.values(), adjusted, strict=True):
        table = found.table()
        for j, arm in enumerate(found.arms):
            own = table[(table["arm"] == arm) & (table["score"] == CHOSEN)].iloc[0]
            rows.append({
                "label": found.label,
                "arm": arm,
                "customers": len(found.customers),
                "effect": float(found.gamma[:, j].mean()),
                "p_value": found.test.p_value,
                "p_adjusted": float(p_adjusted),
                "differs": bool(p_adjusted < 1 - found.confidence),
                "best_rule": found.best_rule(arm),
                **own[["qini", "low", "high", "over_rule", "over_low", "over_high"]],
            })  # fmt: skip
    columns = ["label", "arm", "customers", "effect", "p_value", "p_adjusted", "differs", "qini", "low", "high"]
    return pd.DataFrame(rows, columns=[*columns, "best_rule", "over_rule", "over_low", "over_high"])


def uplift_facts(found: UpliftAnalysis | None, reason: str | None = None) -> dict[str, object]:
    """What the sentences need: the verdict, and the arm whose chosen ranking is worth most.

    Returns
    -------
    verdict (``unknown``, ``alike``, ``rule`` when effects differ but the learner does not beat the best rule, ``rule_alone``
    when no learner finds that they do, but the Qini of a simple rule is beyond chance, allowing for the number of rules and
    arms, or ``personalise``), reason, label, people, arms (how many), p_value, arm, average, qini, low, high, depth, uplift_at,
    uplift_low, uplift_high, best_rule, rule_qini, rule_low, rule_high, rule_p (None but for ``rule_alone``), over_rule,
    over_low, over_high, and gain (of the top ``depth``, as a share of what reaching everybody brings; None unless the average
    effect is clearly positive).
    """
    if found is None:
        return {"verdict": "unknown", "reason": reason}
    table = found.table()
    own = table[table["score"] == CHOSEN].sort_values("qini", ascending=False).iloc[0]
    rules = table[(table["kind"] == "rule") & table["p_value"].notna()]
    rules = rules.assign(p_adjusted=adjust_p_values(rules["p_value"].to_numpy(float)))
    sure = rules[(rules["p_adjusted"] < 1 - found.confidence) & (rules["qini"] > 0)]
    alone = None if found.differs() or sure.empty else sure.loc[sure["p_adjusted"].idxmin()]
    if alone is not None:
        own = table[(table["score"] == CHOSEN) & (table["arm"] == alone["arm"])].iloc[0]
    average = found.average().set_index("arm").loc[own["arm"]]
    verdict = "personalise" if own["over_low"] > 0 else "rule"
    if not found.differs():
        verdict = "alike" if alone is None else "rule_alone"
    names = ["arm", "qini", "low", "high", "uplift_at", "uplift_low", "uplift_high"]
    names += ["over_rule", "over_low", "over_high"]
    return {
        "verdict": verdict,
        "reason": None,
        "label": found.label,
        "people": len(found.customers),
        "arms": len(found.arms),
        "p_value": found.test.p_value,
        "average": float(average["effect"]),
        "depth": DEPTH,
        "best_rule": found.best_rule(own["arm"]) if alone is None else alone["score"],
        **{
            name: None if alone is None else float(alone[column])
            for name, column in (
                ("rule_qini", "qini"),
                ("rule_low", "low"),
                ("rule_high", "high"),
                ("rule_p", "p_adjusted"),
            )
        },
        "gain": float(DEPTH * own["uplift_at"] / average["effect"]) if average["low"] > 0 else None,
        **own[names].to_dict(),
    }


def against_truth(found: UpliftAnalysis, truth: pd.DataFrame, column: str) -> pd.DataFrame:
    """How well each ranking finds planted effects.

    Parameters
    ----------
    truth : frame with campaign_id, arm, customer_id and ``column``, each customer's true effect of the arm.

    Returns
    -------
    One row an arm × score: arm, score, correlation (Spearman, with the truth), oracle_share (true Qini as a share of the
    Qini of ranking by the truth), persuadables (share of customers with a positive effect who are in the top ``DEPTH``)
    and sleeping_dogs (share of those with a negative effect who are in the bottom ``DEPTH``); by chance both are
    ``DEPTH``, missing where there are none. The score ``told_truth`` is what the same features give to a model that learns from
    the true effects themselves, out of fold: about what a learner can reach, for chance is in each customer's true effect too.
    """
    rows = []
    of_campaign = truth[truth["campaign_id"] == found.campaign_id]
    for j, arm in enumerate(found.arms):
        effects = of_campaign[of_campaign["arm"] == arm].set_index("customer_id")[column]
        true_all = effects.reindex(found.customers).to_numpy(float)
        known = np.isfinite(true_all)
        if known.sum() < 2 * FOLDS:
            continue
        true = true_all[known]
        oracle = qini.qini_coefficient(true, true).estimate
        told = np.empty(len(found.customers))
        x = found.features.to_numpy()
        for k in np.unique(found.fold):
            held = found.fold == k
            model = HistGradientBoostingRegressor(max_depth=3, max_iter=60, random_state=0)
            told[held] = model.fit(x[known & ~held], true_all[known & ~held]).predict(x[held])
        told = qini.ranks_within(told, found.fold)
        for name, score in {**{n: s[:, j] for n, s in found.scores.items()}, "told_truth": told}.items():
            rows.append({"arm": arm, "score": name, **_found(score[known], true, oracle)})
    return pd.DataFrame(rows, columns=["arm", "score", "correlation", "oracle_share", "persuadables", "sleeping_dogs"])


def _found(score: Array, true: Array, oracle: float) -> dict[str, float]:
    place, varied = qini.mid_ranks(score), np.ptp(score) > 0 and np.ptp(true) > 0
    return {
        "correlation": float(stats.spearmanr(score, true).statistic) if varied else np.nan,
        "oracle_share": qini.qini_coefficient(score, true).estimate / oracle if oracle > 0 else np.nan,
        "persuadables": float((place[true > 0] <= DEPTH).mean()) if (true > 0).any() else np.nan,
        "sleeping_dogs": float((place[true < 0] >= 1 - DEPTH).mean()) if (true < 0).any() else np.nan,
    }
