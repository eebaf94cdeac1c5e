"""Can this campaign be judged at all: split, duplicates, balance, overlap with other campaigns, comparability."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from analysis.campaigns.outcomes import COMPARISON_ARMS


@dataclass(frozen=True)
class SampleRatio:
    """Result of the sample-ratio test: ``statistic``, ``dof``, ``p_value`` and, an arm, ``observed`` and
    ``expected``."""

    statistic: float
    dof: int
    p_value: float
    observed: dict[str, int]
    expected: dict[str, float]

    def fails(self, level: float = 0.001) -> bool:
        """True when so uneven a split would come about by chance less often than ``level``."""
        return self.p_value < level


def sample_ratio(counts: Mapping[str, int], planned: Mapping[str, float]) -> SampleRatio:
    """Joint χ² test that the arms have the sizes that the plan gave them.

    Parameters
    ----------
    counts : customers an arm. planned : planned share (or weight) of each of the same arms.

    Source: Fabijan et al. (2019), KDD, Diagnosing sample ratio mismatch; Pearson's χ².
    """
    if set(counts) != set(planned):
        raise ValueError(
            f"planned split names {sorted(planned)}, the data hold {sorted(counts)}; give a share for each arm"
        )
    if any(share <= 0 for share in planned.values()) or len(planned) < 2:
        raise ValueError("a planned split needs at least two arms, each with a positive share")
    arms = sorted(counts)
    observed = np.array([counts[a] for a in arms], dtype=float)
    weights = np.array([planned[a] for a in arms], dtype=float)
    expected = weights / weights.sum() * observed.sum()
    statistic = float(((observed - expected) ** 2 / expected).sum()) if observed.sum() else 0.0
    p_value = float(stats.chi2.sf(statistic, len(arms) - 1))
    return SampleRatio(
        statistic,
        len(arms) - 1,
        p_value,
        {a: int(counts[a]) for a in arms},
        dict(zip(arms, expected.tolist(), strict=True)),
    )


def arm_sizes(contacts: ibis.Table) -> pd.DataFrame:
    """Customers in each campaign's arms: campaign_id, arm, customers, counted in the engine."""
    counted = contacts.group_by("campaign_id", "arm").aggregate(customers=lambda t: t.customer_id.nunique())
    return counted.to_pandas().sort_values(["campaign_id", "arm"], ignore_index=True)


def in_two_arms(contacts: ibis.Table) -> int:
    """How many campaign × customer pairs are in more than one arm (0 when each was assigned once)."""
    pairs = contacts.group_by("campaign_id", "customer_id").aggregate(arms=lambda t: t.arm.nunique())
    return int(pairs.filter(pairs.arms > 1).count().to_pyarrow().as_py())


def standardised_differences(
    covariates: pd.DataFrame, treated: ArrayLike, weights: ArrayLike | None = None
) -> pd.DataFrame:
    """How far the arms differ before the campaign, before and after weighting.

    Parameters
    ----------
    covariates : (n, k) frame, measured before the campaign. treated : shape (n,), 0 or 1.
    weights : shape (n,), weights of the comparison (ignored for the treated), or None.

    Returns
    -------
    One row a covariate: ``before`` and ``after``, differences of means in standard deviations of the treated.

    Source: Rosenbaum & Rubin (1985), American Statistician 39:33; scaled by the treated, as befits an effect on them.
    """
    x, d = covariates.to_numpy(float), np.asarray(treated).astype(bool)
    spread = x[d].std(axis=0, ddof=1) if d.sum() > 1 else np.ones(x.shape[1])
    spread = np.where(spread > 0, spread, np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0))
    before = (x[d].mean(axis=0) - x[~d].mean(axis=0)) / spread
    w = np.ones(len(d)) if weights is None else np.asarray(weights, dtype=float)
    after = (x[d].mean(axis=0) - np.average(x[~d], axis=0, weights=w[~d])) / spread
    return pd.DataFrame({"covariate": covariates.columns, "before": before, "after": after})


def effective_size(weights: ArrayLike) -> float:
    """How many equally weighted customers are worth as much: (Σw)² / Σw² (Kish 1965, section 8.2)."""
    w = np.asarray(weights, dtype=float)
    squares = float(w @ w)
    return float(w.sum() ** 2 / squares) if squares > 0 else 0.0


def campaign_overlap(panel: pd.DataFrame) -> pd.DataFrame:
    """Share of each campaign's targeted and compared customers whom another campaign reached in the same window.

    Returns
    -------
    One row a campaign: campaign_id, targeted, compared (shares between 0 and 1).
    """
    if "overlapping_contacts" not in panel:
        return pd.DataFrame(columns=["campaign_id", "targeted", "compared"])
    other = panel.assign(other=(panel["overlapping_contacts"] > 0).astype(float))
    shares = other.pivot_table(index="campaign_id", columns="treated", values="other", aggfunc="mean")
    shares = shares.reindex(columns=[1, 0]).set_axis(["targeted", "compared"], axis=1)
    return shares.rename_axis(columns=None).reset_index()


def is_comparison(arm: str) -> bool:
    """True for the arms that received nothing."""
    return arm in COMPARISON_ARMS
