"""How much of the link an unseen common cause could explain, and whether there are traces of one.

E-value: VanderWeele & Ding (2017), Ann. Intern. Med. 167, 268-274. Robustness value and benchmarks: Cinelli & Hazlett (2020),
J. R. Stat. Soc. B 82, 39-67. Placebo: what was bought before the survey cannot follow from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy.stats import norm

from analysis import sensitivity
from analysis.sensitivity import partial_r2, robustness_value

from .link import (
    BOUGHT,
    LINEAR,
    POISSON,
    PURCHASES,
    SPEND,
    Link,
    Linked,
    behaviour_before,
    dummies,
    independent,
    outcome_rows,
    regression,
    standardised,
    waves,
)
from .link_model import EFFECTS, clustered
from .path_model import EstimationError

PAST_RATE, PAST_SPEND = "purchases before", "spend before"
ALARM = 0.05


def e_value(ratio: float, low: float | None = None, high: float | None = None) -> tuple[float, float | None]:
    """E-values of a risk or rate ratio and of the limit nearer to 1; 1 where the interval holds 1.

    An unseen cause would have to go with both satisfaction and behaviour by a ratio of at least this, each beyond the controls,
    to explain the effect away. RR + √(RR (RR − 1)) for a ratio above 1 and the same of its inverse below it (VanderWeele & Ding
    2017, p. 270).

    Raises EstimationError for a ratio that is not above 0.
    """
    if not ratio > 0:
        raise EstimationError(f"a ratio of {ratio} has no E-value: it must be above 0")
    limit = None if low is None or high is None else sensitivity.e_value_limit(low, high)
    return sensitivity.e_value(ratio), limit


def purchase_e_value(effects: pd.DataFrame) -> dict[str, float]:
    """E-value of what a standard deviation of the score goes with in purchases: value, limit (of the interval), ratio.

    effects : from :func:`analysis.loyalty.window_effects`
    """
    row = effects.set_index("outcome").loc[PURCHASES]
    ratio, low, high = np.exp([row["seen"], row["seen_low"], row["seen_high"]])
    value, limit = e_value(ratio, low, high)
    return {"value": value, "limit": float(limit), "ratio": float(ratio)}


def benchmark_bound(with_treatment: float, with_outcome: float, times: float = 1.0) -> tuple[float, float]:
    """How strong an unseen cause is that is `times` as strong as an observed control.

    Parameters
    ----------
    with_treatment : partial R² of the control with satisfaction, given the other controls. with_outcome : with the outcome, given
        satisfaction and the other controls.

    Returns
    -------
    Bounds of the unseen cause's partial R² with satisfaction, and with the outcome.

    Source: Cinelli & Hazlett (2020), section 4.4 and supplement, equations 55 to 57.
    """
    odds = with_treatment / (1 - with_treatment)
    treatment = min(times * odds, 0.999)
    shared = times * with_treatment**2 / ((1 - times * with_treatment) * (1 - with_treatment))
    if not 0 <= shared < 1:
        return treatment, 1.0
    factor = (np.sqrt(times) + np.sqrt(shared)) / np.sqrt(1 - shared)
    return float(treatment), float(min(factor**2 * with_outcome / (1 - with_outcome), 1.0))


def adjusted_effect(
    estimate: float, error: float, df: int, with_treatment: float, with_outcome: float
) -> tuple[float, float]:
    """The effect and its standard error had the unseen cause been held equal too, in the direction that takes away from it.

    Source: Cinelli & Hazlett (2020), equations 12 and 13.
    """
    bias = error * np.sqrt(df) * np.sqrt(with_outcome * with_treatment / (1 - with_treatment))
    new = error * np.sqrt((1 - with_outcome) / (1 - with_treatment) * df / (df - 1))
    return float(np.sign(estimate) * (abs(estimate) - bias)), float(new)


def sensitivity_table(linked: Linked, attributes: Sequence[str] = ()) -> pd.DataFrame:
    """How strong an unseen cause must be to undo each effect in the window, beside the strongest control that is seen.

    Returns
    -------
    outcome (bought_again; purchases, in square roots; spend_per_purchase, in logs), estimate (by a standard deviation of the
    score), t, robustness (to bring it to 0), robustness_significant (to bring it out of significance), benchmark (the control that
    takes most away), benchmark_treatment and benchmark_outcome (bounds for an unseen cause as strong as it), adjusted (the effect
    then), survives (whether it keeps its sign and is still significant). All by ordinary least squares.
    """
    rows = []
    for outcome in (BOUGHT, PURCHASES, SPEND):
        frame, values, _ = outcome_rows(linked.frame, outcome)
        if len(frame) < 50 or np.ptp(values) == 0:
            continue
        values = np.sqrt(values) if outcome == PURCHASES else values
        controls = independent(behaviour_before(frame).join(dummies(frame, attributes)))
        score = pd.Series(standardised(frame), frame.index, name="score")
        weight = frame["weight"].to_numpy()
        fitted = sm.WLS(values, sm.add_constant(controls.assign(score=score)), weights=weight).fit()
        treated = sm.WLS(score, sm.add_constant(controls), weights=weight).fit()
        estimate, error, df = fitted.params["score"], fitted.bse["score"], int(fitted.df_resid)
        found = []
        for name in controls:
            bounds = benchmark_bound(
                partial_r2(treated.tvalues[name], treated.df_resid), partial_r2(fitted.tvalues[name], fitted.df_resid)
            )
            found.append((*adjusted_effect(estimate, error, df, *bounds), name, *bounds))
        adjusted, new, name, *bounds = min(found, key=lambda row: row[0] * np.sign(estimate))
        rows.append(
            {
                "outcome": outcome,
                "estimate": float(estimate),
                "t": float(estimate / error),
                "robustness": robustness_value(estimate / error, df),
                "robustness_significant": robustness_value(estimate / error, df, alpha=ALARM),
                "benchmark": name,
                "benchmark_treatment": bounds[0],
                "benchmark_outcome": bounds[1],
                "adjusted": adjusted,
                # Without an error left, the cause explains all of the outcome, and nothing survives it.
                "survives": bool(new > 0 and adjusted * estimate > 0 and abs(adjusted) > new * norm.ppf(1 - ALARM / 2)),
            }
        )
    return pd.DataFrame(rows)


def past_placebo(linked: Linked, link: Link, attributes: Sequence[str] = (), confidence: float = 0.95) -> pd.DataFrame:
    """Does satisfaction go with what was bought before the survey more than it should?

    Spend a purchase: nothing in the chain makes it differ, so an association with earlier spend is the trace of something that
    lasts and moves both. Purchases: satisfaction persists, so earlier purchases follow earlier satisfaction; what the link and
    the persistence imply is taken off, and what is left should be nothing.

    Returns
    -------
    outcome ("spend before", "purchases before"); estimate, low, high (log-change by a standard deviation of the score, the implied
    part taken off); implied (that part); p_value; warns (at 5 % over both, Holm's way).

    The p-value of earlier purchases is one-sided, in the direction of the link, and against what the most persistent satisfaction
    that the data allow would imply: a cause that moves both the other way hides an effect and does not feign one.
    """
    frame = linked.frame
    score = pd.DataFrame({"score": standardised(frame)}, index=frame.index)
    known = independent(waves(frame).join(dummies(frame, attributes)).assign(tenure=np.log1p(frame["tenure_weeks"])))
    rows = [_past_spend(frame, score, known, confidence)]
    watched = frame[frame["tenure_weeks"] >= 1]
    if watched["occasions_before"].sum() > 0:
        rows.append(_past_rate(linked, link, watched, score, known, confidence))
    table = pd.DataFrame(rows)
    order = table["p_value"].rank(method="first")
    steps = table["p_value"] * (len(table) - order + 1)
    first = float(steps[order == 1].iloc[0]) <= ALARM
    return table.assign(warns=(steps <= ALARM) & first)


def _placebo_row(
    outcome: str, value: float, error: float, implied: float, p_value: float, confidence: float
) -> dict[str, object]:
    rest, reach = float(value - implied), float(norm.ppf((1 + confidence) / 2) * error)
    ends = {"estimate": rest, "low": rest - reach, "high": rest + reach}
    return {"outcome": outcome} | ends | {"implied": float(implied), "p_value": float(p_value)}


def _past_spend(frame: pd.DataFrame, score: pd.DataFrame, known: pd.DataFrame, confidence: float) -> dict[str, object]:
    """The effect on the spend of a past purchase, of which the link implies nothing."""
    fitted = regression(frame, np.log(frame["mean_spend"]), LINEAR, score.join(known))
    value, error = fitted.params["score"], fitted.bse["score"]
    return _placebo_row(PAST_SPEND, value, error, 0.0, 2 * norm.sf(abs(value / error)), confidence)


def _past_rate(
    linked: Linked, link: Link, frame: pd.DataFrame, score: pd.DataFrame, known: pd.DataFrame, confidence: float
) -> dict[str, object]:
    """The effect on the past rate, and what the link implies of it."""
    columns = score.join(known).loc[frame.index]
    exposure = frame["tenure_weeks"].to_numpy(float)
    fitted = regression(frame, frame["occasions_before"].to_numpy(float), POISSON, columns, exposure)
    # Purchases of the k-th period back answer to what is left of satisfaction k periods away.
    back = np.arange(linked.periods_before)
    purchases = frame[[f"past_{k + 1}" for k in back]].sum().to_numpy(float)
    rho, doubt = link.persistence["value"], norm.ppf((1 + confidence) / 2) * link.persistence["error"]
    left, most = (float(purchases @ r ** (back + 1.0) / purchases.sum()) for r in (rho, min(rho + doubt, 1.0)))
    effect, value = link.results.params[EFFECTS[0]], fitted.params["score"]
    # Both effects come from the same customers, so their errors are set beside each other row by row.
    at = link.results.params.index.get_loc(EFFECTS[0])
    difference = -left * link.results.influence[:, at]
    difference[frame.index] += fitted.influence[:, 1]
    error = np.sqrt(clustered(difference[:, None], pd.factorize(linked.frame["customer_id"])[0])[0, 0])
    p_value = norm.sf(np.sign(effect) * (value - most * effect) / error)
    return _placebo_row(PAST_RATE, value, float(error), left * effect, p_value, confidence)


def lasting_cause(placebo: pd.DataFrame) -> dict[str, object]:
    """Whether there are traces of a common cause: warns, outcome, estimate, low, high and p_value of the clearest one."""
    clearest = placebo.loc[placebo["p_value"].idxmin()]
    facts = clearest[["outcome", "estimate", "low", "high", "p_value"]].to_dict()
    return {"warns": bool(placebo["warns"].any())} | facts
