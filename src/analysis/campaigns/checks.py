"""May a randomised campaign be believed: split, duplicates, leakage, balance, and what it could have found.

A check that fails stops the story: an effect from a broken assignment is no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.campaigns import design
from analysis.campaigns.evaluation import covariates as known_before
from analysis.campaigns.households import household_split
from analysis.errors import RapportError

Array = NDArray[np.float64]

LEVEL = 0.001
"""So rare must a split or an imbalance be before the assignment is called broken (Fabijan et al. 2019)."""
SMALL = 2_000
"""Up to so many customers the omnibus test permutes arms instead of trusting a χ² distribution."""
PERMUTATIONS = 1_999
REACTIONS = ("delivered", "opened", "clicked", "redeemed")


@dataclass(frozen=True)
class Check:
    """One question to the design.

    Attributes
    ----------
    name : ``split``, ``duplicates``, ``two_arms``, ``contacted_early``, ``control_reached``, ``holdout_reached``,
    ``balance`` or ``households``.
    passed : None when the data cannot say; ``reason`` then names why, and after a failure what failed.
    count : customers concerned. statistic, p_value : of the test, where there is one.
    """

    name: str
    passed: bool | None
    reason: str | None = None
    count: int = 0
    statistic: float = np.nan
    p_value: float = np.nan


@dataclass(frozen=True)
class DesignVerdict:
    """All checks of one campaign.

    Attributes
    ----------
    checks : one a question. arms : customers an arm. differences : standardised differences of each arm from the
    control, one row an arm × covariate (arm, covariate, difference).
    """

    checks: tuple[Check, ...]
    arms: dict[str, int]
    differences: pd.DataFrame

    @property
    def passes(self) -> bool:
        """True when no check failed; those that could not be made do not fail."""
        return all(check.passed is not False for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it fails."""
        return tuple(str(check.reason) for check in self.checks if check.passed is False)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Why some checks could not be made."""
        return tuple(str(check.reason) for check in self.checks if check.passed is None)

    @property
    def worst_difference(self) -> float:
        """Largest absolute standardised difference; nan without covariates."""
        return float(self.differences["difference"].abs().max()) if len(self.differences) else np.nan

    def summary(self) -> pd.DataFrame:
        """One row a check: name, passed, reason, count, statistic, p_value."""
        return pd.DataFrame([vars(check) for check in self.checks])


@dataclass(frozen=True)
class OmnibusBalance:
    """Result of :func:`omnibus_balance`: ``method`` is ``permutation`` or ``chi_square``."""

    statistic: float
    dof: int
    p_value: float
    method: str


def check_design(
    contacts: pd.DataFrame,
    planned: Mapping[str, float] | None = None,
    covariates: pd.DataFrame | None = None,
    *,
    control: str = "control",
    starts_on: object = None,
    holdout: ArrayLike | None = None,
    households: ArrayLike | None = None,
    level: float = LEVEL,
    seed: int = 1,
) -> DesignVerdict:
    """Check one randomised campaign before anybody looks at its outcome.

    Parameters
    ----------
    contacts : the campaign's rows of the canonical table: customer_id, arm and, if known, contacted_on, delivered,
    opened, clicked, redeemed.
    planned : planned share of each arm; None leaves the split unchecked.
    covariates : one row a row of ``contacts``, measured before the campaign; None leaves the balance unchecked.
    control : arm that was left alone. starts_on : first day of the campaign. holdout : ids of the universal holdout.
    households : shape (n,), household of each row of ``contacts``, which adds a check; missing ones live alone.
    level : of the split and balance tests. seed : of the permutations.

    Raises
    ------
    RapportError
        No row, a missing arm or customer, or covariates of another length.
    """
    if contacts.empty or contacts[["customer_id", "arm"]].isna().to_numpy().any():
        raise RapportError("a design needs a customer_id and an arm in every contact; drop the campaign or fill them")
    if covariates is not None and len(covariates) != len(contacts):
        raise RapportError(f"covariates have {len(covariates)} rows, the contacts {len(contacts)}; give one a contact")
    first = ~contacts["customer_id"].duplicated().to_numpy()
    arms = contacts["arm"].to_numpy(object)
    sizes = {str(a): int(n) for a, n in contacts[first]["arm"].value_counts(sort=False).items()}
    known = None if covariates is None else covariates[first]
    checks = (
        _split(sizes, planned, level),
        *_repeated(contacts),
        _early(contacts, starts_on),
        _control_reached(contacts, control),
        _holdout_reached(contacts, control, holdout),
        _balance(arms[first], known, level, seed),
        *(() if households is None else (_households(contacts, households),)),
    )
    return DesignVerdict(checks, sizes, arm_differences(arms[first], known, control))


def check_campaigns(
    contacts: ibis.Table,
    panel: pd.DataFrame,
    spans: pd.DataFrame,
    planned: Mapping[str, float] | None = None,
    periods: int = 4,
    holdout: ArrayLike | None = None,
    households: pd.Series | None = None,
) -> dict[str, DesignVerdict]:
    """Check every randomised campaign, by campaign_id, in order of start.

    Parameters
    ----------
    contacts : the canonical table. panel : from :func:`outcomes.campaign_panel`, for what was known before; campaigns that
    are not in it, and customers without history, leave the balance unchecked. spans : from :func:`outcomes.windows`.
    planned : planned share of each arm, for the campaigns that have these arms. periods : of history to compare.
    holdout : ids of the universal holdout. households : household by customer_id, from :func:`households.household_ids`.
    """
    found = {}
    for span in spans[spans["design"] == "randomised"].to_dict("records"):
        rows = contacts.filter(contacts.campaign_id == span["campaign_id"]).to_pandas()
        if rows.empty:
            continue
        mine = panel[panel["campaign_id"] == span["campaign_id"]]
        history = min(periods, span["complete_periods"])
        known = None
        if history and len(mine):
            before = known_before(mine.reset_index(drop=True), history).set_index(mine["customer_id"].to_numpy())
            before = before[~before.index.duplicated()].reindex(rows["customer_id"])
            known = before if before.notna().to_numpy().all() else None
        plan = planned if planned is not None and set(rows["arm"]) <= set(planned) else None
        homes = None if households is None else rows["customer_id"].map(households)
        found[span["campaign_id"]] = check_design(
            rows, plan, known, starts_on=span["starts_on"], holdout=holdout, households=homes
        )
    return found


def verdict_table(verdicts: Mapping[str, DesignVerdict]) -> pd.DataFrame:
    """One row a campaign: campaign_id, customers, arms, passes, reasons, split_p_value, balance_p_value,
    worst_difference, unchecked."""
    rows = []
    for campaign_id, verdict in verdicts.items():
        p_values = {check.name: check.p_value for check in verdict.checks}
        rows.append(
            {
                "campaign_id": campaign_id,
                "customers": sum(verdict.arms.values()),
                "arms": len(verdict.arms),
                "passes": verdict.passes,
                "reasons": ", ".join(verdict.reasons),
                "split_p_value": p_values["split"],
                "balance_p_value": p_values["balance"],
                "worst_difference": verdict.worst_difference,
                "unchecked": ", ".join(verdict.unchecked),
            }
        )
    columns = ["campaign_id", "customers", "arms", "passes", "reasons", "split_p_value", "balance_p_value"]
    return pd.DataFrame(rows, columns=[*columns, "worst_difference", "unchecked"])


def _split(sizes: dict[str, int], planned: Mapping[str, float] | None, level: float) -> Check:
    if planned is None:
        return Check("split", None, "no_planned_split", sum(sizes.values()))
    if set(sizes) - set(planned):
        return Check("split", False, "arm_not_planned", sum(n for a, n in sizes.items() if a not in planned))
    found = design.sample_ratio({arm: sizes.get(arm, 0) for arm in planned}, planned)
    failed = found.fails(level)
    return Check(
        "split", not failed, "split_fails" if failed else None, sum(sizes.values()), found.statistic, found.p_value
    )


def _counted(name: str, wrong: ArrayLike) -> Check:
    count = int(np.sum(wrong))
    return Check(name, count == 0, name if count else None, count)


def _repeated(contacts: pd.DataFrame) -> tuple[Check, Check]:
    """Customers listed twice in one arm, and customers in two arms."""
    pairs = contacts[["customer_id", "arm"]]
    once = pairs.drop_duplicates()
    in_two = once["customer_id"].duplicated()
    repeated = pairs[pairs.duplicated()]["customer_id"].nunique()
    return _counted("duplicates", repeated), _counted("two_arms", once["customer_id"][in_two].nunique())


def _early(contacts: pd.DataFrame, starts_on: object) -> Check:
    if starts_on is None or "contacted_on" not in contacts or contacts["contacted_on"].isna().all():
        return Check("contacted_early", None, "no_contact_dates")
    early = pd.to_datetime(contacts["contacted_on"]) < pd.Timestamp(starts_on)
    return _counted("contacted_early", early)


def _control_reached(contacts: pd.DataFrame, control: str) -> Check:
    """Customers of the control who were contacted, or who reacted to what they should never have got."""
    alone = contacts[contacts["arm"] == control]
    if alone.empty:
        return Check("control_reached", False, "no_control")
    reached = np.zeros(len(alone), dtype=bool)
    seen = [c for c in REACTIONS if c in alone]
    for column in seen:
        reached |= alone[column].fillna(False).astype(bool).to_numpy()
    if "contacted_on" in alone:
        reached |= alone["contacted_on"].notna().to_numpy()
    elif not seen:
        return Check("control_reached", None, "no_contact_records")
    return _counted("control_reached", reached)


def _holdout_reached(contacts: pd.DataFrame, control: str, holdout: ArrayLike | None) -> Check:
    if holdout is None:
        return Check("holdout_reached", None, "no_universal_holdout")
    inside = contacts["customer_id"].isin(np.asarray(holdout)) & (contacts["arm"] != control)
    return _counted("holdout_reached", inside)


def _balance(arms: NDArray, covariates: pd.DataFrame | None, level: float, seed: int) -> Check:
    if covariates is None or covariates.shape[1] == 0:
        return Check("balance", None, "no_covariates")
    if len(np.unique(arms.astype(str))) < 2:
        return Check("balance", None, "one_arm")
    found = omnibus_balance(covariates.to_numpy(float), arms, seed=seed)
    if found.dof == 0:
        return Check("balance", None, "covariates_constant")
    failed = found.p_value < level
    return Check(
        "balance", not failed, "unbalanced" if failed else None, len(arms), found.statistic, float(found.p_value)
    )


def _households(contacts: pd.DataFrame, households: ArrayLike) -> Check:
    """Arms that cut through households; a warning, since what leaks makes an effect too small and not false."""
    found = household_split(contacts["customer_id"], contacts["arm"], households)
    reason = {
        "alone": "no_shared_households",
        "split": "households_split",
        "unclear": "few_shared_households",
        "together": None,
    }[found.verdict]
    return Check("households", None if reason else True, reason, found.customers, found.share, found.p_value)


def arm_differences(arms: ArrayLike, covariates: pd.DataFrame | None, control: str = "control") -> pd.DataFrame:
    """Standardised differences of each arm from the control before the campaign: arm, covariate, difference."""
    labels, parts = np.asarray(arms, dtype=object), []
    alone = labels == control
    for arm in sorted(set(labels[~alone])) if covariates is not None and alone.any() else ():
        rows = alone | (labels == arm)
        found = design.standardised_differences(covariates[rows], (labels == arm)[rows])
        parts.append(found.rename(columns={"before": "difference"})[["covariate", "difference"]].assign(arm=arm))
    columns = ["arm", "covariate", "difference"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def omnibus_balance(covariates: ArrayLike, arms: ArrayLike, seed: int = 1) -> OmnibusBalance:
    """Do the arms differ in any covariate, or any sum of them, more than a random split would.

    The statistic sums, over customers, the squared Mahalanobis distance between their arm's mean and the grand mean: n − 1
    times Pillai's trace of the regression of the covariates on the arms. Its mean over all splits is its degrees of
    freedom, whatever the covariates' distribution.

    Parameters
    ----------
    covariates : shape (n, k), without missing values; constant and collinear columns count once or not at all.
    arms : shape (n,). seed : of the permutations, which replace the χ² distribution up to ``SMALL`` customers.

    Source: Hansen & Bowers (2008), Statistical Science 23:219, here for more than two arms.
    """
    x = np.asarray(covariates, dtype=float)
    x = x[:, None] if x.ndim == 1 else x
    labels, codes = np.unique(np.asarray(arms).astype(str), return_inverse=True)
    if x.shape[0] != len(codes) or not np.isfinite(x).all():
        raise ValueError("covariates need one row a customer and no missing or infinite value; fill them first")
    white = _whitened(x)
    dof = white.shape[1] * (len(labels) - 1)
    if dof == 0:
        return OmnibusBalance(0.0, 0, 1.0, "chi_square")
    sizes = np.bincount(codes).astype(float)
    statistic = _spread(white, codes, sizes)
    if len(codes) > SMALL:
        return OmnibusBalance(statistic, dof, float(stats.chi2.sf(statistic, dof)), "chi_square")
    rng = np.random.default_rng(seed)
    drawn = np.array([_spread(white, rng.permutation(codes), sizes) for _ in range(PERMUTATIONS)])
    at_least = int((drawn >= statistic * (1 - 1e-12)).sum())
    return OmnibusBalance(statistic, dof, (1 + at_least) / (1 + PERMUTATIONS), "permutation")


def _whitened(x: Array) -> Array:
    """Uncorrelated columns of variance one that span the covariates; directions without variance fall away."""
    centred = x - x.mean(axis=0)
    scale = centred.std(axis=0)
    keep = scale > 1e-12 * np.maximum(1.0, np.abs(x).max(axis=0, initial=0))
    if len(x) < 2 or not keep.any():
        return np.empty((len(x), 0))
    u, singular, _ = np.linalg.svd(centred[:, keep] / scale[keep], full_matrices=False)
    return u[:, singular > 1e-9 * singular[0]] * np.sqrt(len(x) - 1)


def _spread(white: Array, codes: NDArray[np.int64], sizes: Array) -> float:
    """Σ over arms of n_a · |mean_a|²."""
    sums = np.column_stack([np.bincount(codes, weights=column, minlength=len(sizes)) for column in white.T])
    return float((sums**2 / sizes[:, None]).sum())
