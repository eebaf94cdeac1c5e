"""What a rule of whom to treat with what is worth, on a randomised campaign, beside treating all alike.

A policy gives each customer one arm: shape (n,), the arm's number or ``NOBODY``; or, dealt at random, shape (n, arms),
the chance of each arm. ``gains`` are doubly robust scores, shape (n, arms): of each customer the gain of each arm over
being left alone, in money after the arm's cost, whose mean over any group is that group's effect. They, the policy and
the rules must come from models that did not see the customer's own outcome (cross-fitting).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.campaigns.effects import EffectResults, EstimationError

Array = NDArray[np.float64]

NOBODY = -1
"""The arm of a customer who is left alone."""


def policy_shares(policy: ArrayLike, arms: int) -> Array:
    """A policy as chances, shape (n, arms): arm numbers become zeros and ones, chances are checked and kept.

    Raises
    ------
    ValueError
        An arm that does not exist, or chances that are negative or sum to more than one.
    """
    given = np.asarray(policy)
    if given.ndim == 1:
        if len(given) and not (np.isin(given, np.arange(NOBODY, arms))).all():
            raise ValueError(f"a policy must hold arm numbers from 0 to {arms - 1}, or {NOBODY} for nobody")
        return (given[:, None] == np.arange(arms)).astype(float)
    if given.ndim != 2 or given.shape[1] != arms:
        raise ValueError(f"a policy must have shape (n,) or (n, {arms}), got {given.shape}")
    if not (given >= 0).all() or not (given.sum(axis=1) <= 1 + 1e-9).all():
        raise ValueError("chances of arms must not be negative and sum to at most 1 a customer")
    return given.astype(float)


def _scores(gains: ArrayLike) -> Array:
    found = np.asarray(gains, dtype=float)
    found = found[:, None] if found.ndim == 1 else found
    if not np.isfinite(found).all():
        raise ValueError("gains hold missing or infinite values; leave those customers out")
    if len(found) < 2:
        raise EstimationError("too_few", "fewer than two customers; the value of a policy needs at least two")
    return found


def policy_value(
    gains: ArrayLike, policy: ArrayLike, rival: ArrayLike | None = None, clusters: ArrayLike | None = None
) -> EffectResults:
    """Mean value a customer of a policy over nobody or, paired on the same customers, over a rival policy.

    Parameters
    ----------
    gains : shape (n, arms), doubly robust scores in money a customer. policy, rival : see the module.
    clusters : shape (n,), the household whose customers err together, or None.

    Returns
    -------
    Results whose ``contributions`` are the influence function, one a customer (or a cluster), and whose
    ``n_treated`` counts the customers whom the policy treats.

    Source: Dudík, Erhan, Langford & Li (2014), Statistical Science 29:485, equation (3.3); Athey & Wager (2021),
    Econometrica 89:133, section 2, for the cross-fitted scores.
    """
    scores = _scores(gains)
    shares = policy_shares(policy, scores.shape[1])
    treated = float(shares.sum())
    if rival is not None:
        shares = shares - policy_shares(rival, scores.shape[1])
    if len(shares) != len(scores):
        raise ValueError(f"the policy speaks of {len(shares)} customers, the gains of {len(scores)}")
    worth = (scores * shares).sum(axis=1)
    psi = (worth - worth.mean()) / len(worth)
    if clusters is not None:
        codes = pd.factorize(np.asarray(clusters, dtype=object))[0]
        psi = np.bincount(codes, weights=psi)
    groups = len(psi)
    if groups < 2:
        raise EstimationError("too_few", "fewer than two households; the value of a policy needs at least two")
    psi = psi * np.sqrt(groups / (groups - 1))
    return EffectResults(
        "policy_value",
        float(worth.mean()),
        float(np.sqrt(psi @ psi)),
        round(treated),
        len(worth) - round(treated),
        psi,
        float(groups - 1),
        0.0,
    )


def affordable(policy: ArrayLike, cost: ArrayLike, budget: float | None) -> Array:
    """The policy for a random part of its customers, so that it costs no more than the budget; shape (n, arms).

    Parameters
    ----------
    policy : see the module. cost : shape (n, arms), money a customer treated. budget : money in all, or None.
    """
    costs = np.asarray(cost, dtype=float)
    shares = policy_shares(policy, costs.shape[1])
    total = float((shares * costs).sum())
    return shares if budget is None or total <= budget else shares * (budget / total)


@dataclass(frozen=True)
class PolicyComparison:
    """A policy beside its rivals, and what to do.

    Attributes
    ----------
    table : one row a policy, in order of value: ``policy`` (its name), ``kind`` (policy, rule, arm, everybody,
    nobody), treated (share of the customers), cost, value, low, high (money a customer, over nobody), advantage,
    advantage_low, advantage_high (of the policy over that rival, paired).
    recommended : name of what to do. kind : its kind. arm : its number where all are treated alike, else ``NOBODY``.
    best_uniform, best_rule : names of the best of each kind by their estimate; None where there is none.
    runner_up : name of the second-best arm for all, or None. lead, lead_low, lead_high : of the best over it, paired.
    """

    table: pd.DataFrame
    recommended: str
    kind: str
    arm: int
    best_uniform: str
    best_rule: str | None
    customers: int
    confidence: float
    runner_up: str | None = None
    lead: float | None = None
    lead_low: float | None = None
    lead_high: float | None = None

    def row(self, name: str) -> pd.Series:
        """The row of one policy."""
        return self.table.set_index("policy").loc[name]

    def facts(self) -> dict[str, object]:
        """What the sentences need: the recommended policy's value with its interval, and the policy's advantages."""
        chosen, tested = self.row(self.recommended), self.row("policy")
        rivals = {"nobody": "nobody", "uniform": self.best_uniform, "rule": self.best_rule}
        found = {"recommended": self.recommended, "kind": self.kind, "customers": self.customers}
        found |= {"best_uniform": self.best_uniform, "best_rule": self.best_rule, "confidence": self.confidence}
        found |= {name: getattr(self, name) for name in ("runner_up", "lead", "lead_low", "lead_high")}
        found |= {name: float(chosen[name]) for name in ("value", "low", "high", "treated", "cost")}
        found |= {f"policy_{name}": float(tested[name]) for name in ("value", "low", "high", "treated")}
        for short, rival in rivals.items():
            for end in ("", "_low", "_high"):
                found[f"over_{short}{end}"] = None if rival is None else float(self.row(rival)[f"advantage{end}"])
        return found


def compare_policies(
    gains: ArrayLike,
    policy: ArrayLike,
    cost: ArrayLike,
    arms: Sequence[str],
    rules: Mapping[str, ArrayLike] | None = None,
    budget: float | None = None,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> PolicyComparison:
    """Value of a policy against nobody, each arm for all, arms dealt at random, and simple rules; and what to do.

    The policy is recommended only where the lower limit of its advantage over every rival lies above zero. That
    needs no allowance for asking several times, since all must hold (Berger 1982, Technometrics 24:295). Otherwise the
    best simple rule is, if it beats every uniform arm and nobody; else the best uniform arm, if it beats nobody; else
    nobody. The limits of the latter two allow for having picked the best (Bonferroni).

    Parameters
    ----------
    gains : shape (n, arms), money a customer after the cost of the arm. policy : see the module.
    cost : shape (arms,) or (n, arms), money a treated customer. arms : their names.
    rules : simple policies by name. budget : money in all for these n customers; a rival that costs more is given to a
    random part of its customers, so that all are compared at what they may spend. clusters : shape (n,) or None.
    """
    scores = _scores(gains)
    n, k = scores.shape
    if len(arms) != k:
        raise ValueError(f"{len(arms)} names of arms for {k} columns of gains")
    costs = np.broadcast_to(np.asarray(cost, dtype=float), (n, k))
    offered = {"policy": ("policy", policy), "nobody": ("nobody", np.full(n, NOBODY))}
    offered |= {f"all: {name}": ("arm", np.full(n, j)) for j, name in enumerate(arms)}
    if k > 1:
        offered["everybody"] = ("everybody", np.full((n, k), 1 / k))
    offered |= {name: ("rule", rule) for name, rule in (rules or {}).items()}
    shares = {name: affordable(p, costs, budget) for name, (_, p) in offered.items()}
    rows = []
    for name, (kind, _) in offered.items():
        own = policy_value(scores, shares[name], None, clusters)
        gap = policy_value(scores, shares["policy"], shares[name], clusters)
        rows.append(
            (
                name,
                kind,
                float(shares[name].sum() / n),
                float((shares[name] * costs).sum() / n),
                own.effect,
                *own.interval(confidence),
                gap.effect,
                *gap.interval(confidence),
            )
        )
    columns = ["policy", "kind", "treated", "cost", "value", "low", "high"]
    columns += ["advantage", "advantage_low", "advantage_high"]
    table = pd.DataFrame(rows, columns=columns).sort_values("value", ascending=False, kind="stable", ignore_index=True)
    best = {kind: table.loc[table["kind"] == kind, "policy"] for kind in ("arm", "rule")}
    uniform, rule = best["arm"].iloc[0], best["rule"].iloc[0] if len(best["rule"]) else None
    kind, chosen = _recommended(scores, shares, table, uniform, rule, clusters, confidence)
    arm = list(arms).index(uniform.removeprefix("all: ")) if kind == "arm" else NOBODY
    lead = (None, None, None, None)
    if k > 1:
        second = best["arm"].iloc[1]
        ahead = policy_value(scores, shares[uniform], shares[second], clusters)
        lead = (second, ahead.effect, *ahead.interval(confidence))
    return PolicyComparison(table, chosen, kind, arm, uniform, rule, n, confidence, *lead)


def _recommended(
    scores: Array,
    shares: Mapping[str, Array],
    table: pd.DataFrame,
    uniform: str,
    rule: str | None,
    clusters: ArrayLike | None,
    confidence: float,
) -> tuple[str, str]:
    def beats(name: str, rivals: Sequence[str], picked_from: int) -> bool:
        level = 1 - (1 - confidence) / picked_from
        return all(
            policy_value(scores, shares[name], shares[rival], clusters).interval(level)[0] > 0 for rival in rivals
        )

    plain = table.loc[table["kind"].isin(["arm", "everybody", "nobody"]), "policy"].tolist()
    rules = table.loc[table["kind"] == "rule", "policy"].tolist()
    if beats("policy", [*plain, *rules], 1):
        return "policy", "policy"
    if rule is not None and beats(rule, plain, len(rules)):
        return "rule", rule
    if beats(uniform, ["nobody"], int((table["kind"] == "arm").sum())):
        return "arm", uniform
    return "nobody", "nobody"
