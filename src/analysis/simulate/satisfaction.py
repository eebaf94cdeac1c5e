"""What customers feel, say and do about it: a latent satisfaction model, surveys, service contacts and referrals.

The latent model is the European Customer Satisfaction Index (Tenenhaus et al. 2005, Comput. Stat. Data Anal. 48,
159-205, figure 5) with trust and commitment behind satisfaction. Every construct has mean 0 and variance 1 in every
quarter, so that the planted paths are standardised ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

from analysis.errors import RapportError
from analysis.simulate.clock import OBSERVED_DAYS, PERIOD_DAYS, PERIODS
from analysis.simulate.people import People

WAVES = (3, 6)  # quarters, counted from 0, in which the two waves of the survey fall
FIELD_OPENS, FIELD_DAYS = 42, 21  # days into the quarter, and how long answers come in
REFERRAL_DAYS = 14  # at most between a referral and the first purchase that follows

Latents = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Item:
    """A question of the survey.

    Attributes
    ----------
    loading : correlation of the answer, before it is cut into scale points, with the construct; negative where the
    question asks for a cost, so that a high answer is a bad one and the scale is mirrored. level : standard deviations
    by which answers are better than those of an item of level 0.
    """

    name: str
    construct: str
    loading: float
    level: float = 0.0


@dataclass(frozen=True)
class Contact:
    """A reason to turn to the company's service.

    Attributes
    ----------
    rate : contacts a customer a quarter. satisfaction : log-change of that by a standard deviation of satisfaction.
    days : median time until it is resolved. spread : standard deviation of the logarithm of that time.
    unresolved : share that never is.
    """

    kind: str
    rate: float
    satisfaction: float
    days: float
    spread: float
    unresolved: float


def _block(construct: str, stem: str, level: float, *loadings: float) -> tuple[Item, ...]:
    return tuple(Item(f"{stem}{k}", construct, loading, level) for k, loading in enumerate(loadings, start=1))


PATHS = (
    ("Image", "Expectation", 0.52),
    ("Expectation", "Quality", 0.58),
    ("Expectation", "Value", 0.10),
    ("Quality", "Value", 0.55),
    ("Image", "Satisfaction", 0.22),
    ("Expectation", "Satisfaction", 0.06),
    ("Quality", "Satisfaction", 0.46),
    ("Value", "Satisfaction", 0.30),
    ("Satisfaction", "Complaints", 0.62),
    ("Image", "Loyalty", 0.18),
    ("Satisfaction", "Loyalty", 0.49),
    ("Complaints", "Loyalty", 0.12),
    ("Satisfaction", "Trust", 0.64),
    ("Satisfaction", "Commitment", 0.32),
    ("Trust", "Commitment", 0.42),
)

ITEMS = (
    *_block("Image", "imag", 0.10, 0.80, 0.75, 0.76, 0.82, 0.78),
    *_block("Expectation", "cuex", 0.15, 0.82, 0.80, 0.76),
    *_block("Quality", "perq", 0.05, 0.84, 0.78, 0.80, 0.82, 0.77, 0.81, 0.79),
    *_block("Value", "perv", -0.35, 0.84, 0.86),
    *_block("Satisfaction", "cusa", 0.00, 0.85, 0.80, 0.82),
    Item("cusco", "Complaints", 0.85, -0.25),
    *_block("Loyalty", "cusl", 0.00, 0.84, 0.76, 0.86),
    *_block("Trust", "trust", 0.20, 0.84, 0.80, 0.82),
    *_block("Commitment", "commit", -0.30, 0.82, 0.80, 0.78),
    Item("dv_product", "Quality", 0.75, 0.10),
    Item("dv_service", "Quality", 0.70, -0.10),
    Item("dv_personnel", "Quality", 0.65, 0.15),
    Item("dv_image", "Image", 0.75, 0.10),
    Item("dv_money", "Value", -0.75, -0.40),
    Item("dv_time", "Quality", -0.55, -0.20),
    Item("dv_energy", "Quality", -0.50, 0.00),
    Item("dv_psychic", "Value", -0.45, 0.20),
    Item("nps", "Loyalty", 0.82),
)

CONTACTS = (
    Contact("complaint", 0.06, -0.60, 2.5, 1.0, 0.12),
    Contact("question", 0.08, 0.0, 0.4, 0.8, 0.02),
    Contact("return_request", 0.04, -0.20, 4.0, 0.6, 0.04),
)


@dataclass(frozen=True)
class SatisfactionPlan:
    """What is planted about satisfaction and what follows from it.

    Attributes
    ----------
    paths : (source, target, standardised path), every target after all of its sources. persistence : lag-1
    autocorrelation of each disturbance from quarter to quarter. rate_effect, hazard_effect : log-change of the purchase
    rate, and of the hazard of lapsing, by a standard deviation of the last quarter's satisfaction. confounding :
    correlation of Image with the unobserved trait. age_effect : correlation of Image with age. halo : correlation of
    every answer with one mood of the respondent.
    answer_shares, nps_shares : shares of the scale points 1 … 10, and 0 … 10 of the item ``nps``, at level 0.
    skipped : share of single questions left out. response : share of the invited who answer, at mean satisfaction and
    in the first age band; response_satisfaction, response_age : change of its log-odds by a standard deviation, and
    from one age band to the next. contact_channels : (name, share). referral_effect : log-change of the chance to be
    the referrer by a standard deviation of loyalty. came_anyway : share of the referred who would have come without.
    """

    paths: tuple[tuple[str, str, float], ...] = PATHS
    items: tuple[Item, ...] = ITEMS
    persistence: float = 0.7
    rate_effect: float = 0.0
    hazard_effect: float = 0.0
    confounding: float = 0.0
    age_effect: float = 0.0
    halo: float = 0.0
    answer_shares: tuple[float, ...] = (0.01, 0.01, 0.02, 0.03, 0.08, 0.11, 0.20, 0.26, 0.16, 0.12)
    nps_shares: tuple[float, ...] = (0.02, 0.01, 0.02, 0.02, 0.03, 0.07, 0.08, 0.17, 0.23, 0.18, 0.17)
    skipped: float = 0.0
    response: float = 1.0
    response_satisfaction: float = 0.0
    response_age: float = 0.0
    contacts: tuple[Contact, ...] = CONTACTS
    contact_channels: tuple[tuple[str, float], ...] = (("phone", 0.4), ("chat", 0.3), ("email", 0.2), ("store", 0.1))
    referral_effect: float = 0.8
    came_anyway: float = 0.3


TEXTBOOK = SatisfactionPlan()
COMPANY = SatisfactionPlan(
    rate_effect=0.12,
    hazard_effect=-0.40,
    confounding=0.5,
    age_effect=0.3,
    halo=0.3,
    skipped=0.02,
    response=0.30,
    response_satisfaction=0.40,
    response_age=0.25,
)


def path_truth(plan: SatisfactionPlan) -> pd.DataFrame:
    """The planted standardised paths between latent constructs: source, target, path."""
    return pd.DataFrame(list(plan.paths), columns=["source", "target", "path"])


def _arrows(plan: SatisfactionPlan) -> dict[str, dict[str, float]]:
    """Sources and their paths by construct, in an order in which every source comes before its targets."""
    arrows: dict[str, dict[str, float]] = {}
    for source, target, path in plan.paths:
        arrows.setdefault(source, {})
        arrows.setdefault(target, {})[source] = path
    return arrows


def implied_correlations(plan: SatisfactionPlan) -> tuple[pd.DataFrame, pd.Series]:
    """Correlations of the latent constructs that the planted paths imply, by tracing the paths.

    Returns
    -------
    The correlations, and the share of variance explained of every construct (0 without sources).

    Raises
    ------
    RapportError
        If the paths into a construct explain its whole variance or more, or a target precedes one of its sources.
    """
    arrows = _arrows(plan)
    names = list(arrows)
    correlations = pd.DataFrame(np.eye(len(names)), names, names)
    explained = pd.Series(0.0, names)
    for j, (target, sources) in enumerate(arrows.items()):
        before = names[:j]
        if not set(sources) <= set(before):
            raise RapportError(f"the paths into {target} must come after those into its sources")
        path = pd.Series(sources, before, dtype=float).fillna(0.0)
        with_before = correlations.loc[before, before] @ path
        explained[target] = path @ with_before
        if explained[target] >= 1:
            raise RapportError(
                f"the paths into {target} explain {explained[target]:.2f} of its variance: it has only 1"
            )
        correlations.loc[target, before] = correlations.loc[before, target] = with_before
    return correlations, explained


def latents(
    n: int,
    plan: SatisfactionPlan,
    rng: np.random.Generator,
    trait: NDArray[np.float64],
    periods: int = PERIODS,
    age: NDArray[np.float64] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Every construct of every customer in every quarter, shape (n, periods) each.

    A construct is the weighted sum of its sources in the same quarter and a disturbance that follows a stationary AR(1)
    from quarter to quarter; so the planted paths hold in each quarter, and every construct keeps variance 1.

    Parameters
    ----------
    trait : shape (n,), standard normal; it enters Image, which has no source in the model.
    age : shape (n,), mean 0 and variance 1 over everybody; it enters Image too, unless it is left out.

    Raises
    ------
    RapportError
        If the paths are impossible, see :func:`implied_correlations`.
    """
    _, explained = implied_correlations(plan)
    scores: dict[str, NDArray[np.float32]] = {}
    for name, sources in _arrows(plan).items():
        own = _autoregression(n, periods, plan.persistence, rng)
        if name == "Image":
            lasting = plan.confounding * trait
            share = plan.confounding**2
            if age is not None:
                lasting, share = lasting + plan.age_effect * age, share + plan.age_effect**2
            own *= np.float32(np.sqrt(1 - share))
            own += lasting[:, None].astype(np.float32)
        own *= np.float32(np.sqrt(1 - explained[name]))
        for source, path in sources.items():
            own += np.float32(path) * scores[source]
        scores[name] = own
    return scores


def _autoregression(n: int, periods: int, persistence: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Stationary AR(1) series of variance 1, shape (n, periods)."""
    series = rng.standard_normal((n, periods), dtype=np.float32)
    series[:, 1:] *= np.float32(np.sqrt(1 - persistence**2))
    for t in range(1, periods):
        series[:, t] += np.float32(persistence) * series[:, t - 1]
    return series


def rate_multiplier(scores: Latents, plan: SatisfactionPlan) -> NDArray[np.float64]:
    """What satisfaction multiplies the purchase rate by in each quarter, shape (n, PERIODS), mean 1 over everybody.

    It is the satisfaction of the quarter before that counts; in the first quarter, of that quarter itself.

    Parameters
    ----------
    scores : from :func:`latents`
    """
    return _multiplier(_quarter_before(scores["Satisfaction"]), plan.rate_effect)


def hazard_multiplier(scores: Latents, plan: SatisfactionPlan) -> NDArray[np.float64]:
    """The same as :func:`rate_multiplier` for the hazard of lapsing."""
    return _multiplier(_quarter_before(scores["Satisfaction"]), plan.hazard_effect)


def _quarter_before(score: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([score[:, :1], score[:, :-1]], axis=1)


def _multiplier(score: NDArray[np.float32], effect: float) -> NDArray[np.float64]:
    """exp(effect × score) over its mean for a standard normal score."""
    return np.exp(effect * score.astype(float) - effect**2 / 2)


def answers(
    scores: Mapping[str, NDArray[np.floating]], plan: SatisfactionPlan, rng: np.random.Generator
) -> dict[str, NDArray[np.int8]]:
    """Answers to every item by respondents with these construct scores.

    An item's response is loading × construct + halo × mood + noise, of variance 1; it is cut where a standard normal
    has the planted shares of scale points.

    Parameters
    ----------
    scores : shape (m,) a construct

    Returns
    -------
    Shape (m,) an item: 1 … 10, and 0 … 10 for ``nps``; one less than the lowest point where the item was skipped.

    Raises
    ------
    RapportError
        If an item's loading and the halo leave no room for noise.
    """
    m = len(next(iter(scores.values())))
    mood = rng.standard_normal(m, dtype=np.float32)
    given = {}
    for item in plan.items:
        noise = 1 - item.loading**2 - plan.halo**2
        if noise < 0:
            raise RapportError(f"item {item.name}: loading {item.loading} and halo {plan.halo} explain more than all")
        response = np.float32(np.sqrt(noise)) * rng.standard_normal(m, dtype=np.float32)
        response += np.float32(abs(item.loading)) * scores[item.construct] + np.float32(plan.halo) * mood
        shares, lowest = (plan.nps_shares, 0) if item.name == "nps" else (plan.answer_shares, 1)
        cuts = norm.ppf(np.cumsum(shares)[:-1]) - item.level
        point = np.searchsorted(cuts.astype(np.float32), response)
        if item.loading < 0:
            point = len(cuts) - point
        point[rng.random(m) < plan.skipped] = -1
        given[item.name] = (lowest + point).astype(np.int8)
    return given


def respondents(n: int, plan: SatisfactionPlan, rng: np.random.Generator) -> pd.DataFrame:
    """Answers of `n` independent people of the population, one row each, one column an item; skipped items are null."""
    scores = latents(n, plan, rng, rng.standard_normal(n), periods=1)
    return _questionnaires({name: score[:, 0] for name, score in scores.items()}, plan, rng)


def _questionnaires(scores: Mapping[str, NDArray], plan: SatisfactionPlan, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.arrays.IntegerArray(given, mask=given < (0 if name == "nps" else 1))
            for name, given in answers(scores, plan, rng).items()
        }
    )


def survey(
    people: People,
    scores: Latents,
    active: NDArray[np.bool_],
    plan: SatisfactionPlan,
    invited_share: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Questionnaires that came back, in both waves.

    Parameters
    ----------
    scores : from :func:`latents`. active : shape (n, PERIODS), who is a customer at the end of each quarter.
    invited_share : of the active who had arrived when the wave began.

    Returns
    -------
    One row a questionnaire: owner (index into people), wave (1, 2), answered_day, one column an item (null if skipped).
    """
    waves = []
    for wave, quarter in enumerate(WAVES, start=1):
        opens = quarter * PERIOD_DAYS + FIELD_OPENS
        reached = active[:, quarter] & (people.arrival < opens)
        odds = plan.response_satisfaction * scores["Satisfaction"][:, quarter] + plan.response_age * people.age_band
        chance = invited_share * expit(logit(plan.response) + odds)
        owner = np.flatnonzero(reached & (rng.random(len(people)) < chance))
        head = pd.DataFrame(
            {
                "owner": owner.astype(np.int32),
                "wave": np.full(len(owner), wave, dtype=np.int8),
                "answered_day": opens + FIELD_DAYS * rng.random(len(owner)),
            }
        )
        given = _questionnaires({name: score[owner, quarter] for name, score in scores.items()}, plan, rng)
        waves.append(pd.concat([head, given], axis=1))
    return pd.concat(waves, ignore_index=True)


def interactions(
    people: People, scores: Latents, active: NDArray[np.bool_], plan: SatisfactionPlan, rng: np.random.Generator
) -> pd.DataFrame:
    """Contacts with the company's service in the observed time, in order of time.

    Parameters
    ----------
    scores : from :func:`latents`. active : shape (n, PERIODS), who is a customer at the end of each quarter; a customer
    who came during the quarter has its contacts after that.

    Returns
    -------
    One row a contact: owner (index into people), opened_day, resolved_day (NaN while it is open, as some are at the end
    of the observed time), kind, channel, outcome (resolved, unresolved).
    """
    quarters = OBSERVED_DAYS // PERIOD_DAYS
    satisfaction, active = scores["Satisfaction"][:, :quarters], active[:, :quarters]
    names, shares = zip(*plan.contact_channels, strict=True)
    kinds = []
    for contact in plan.contacts:
        count = rng.poisson(contact.rate * _multiplier(satisfaction, contact.satisfaction) * active)
        owner, quarter = np.divmod(np.repeat(np.arange(count.size), count.ravel()), quarters)
        begin, end = np.maximum(PERIOD_DAYS * quarter, people.arrival[owner]), PERIOD_DAYS * (quarter + 1)
        opened = begin + rng.random(len(owner)) * (end - begin)
        resolved = opened + contact.days * np.exp(contact.spread * rng.standard_normal(len(owner)))
        unresolved = (rng.random(len(owner)) < contact.unresolved) | (resolved >= OBSERVED_DAYS)
        kinds.append(
            pd.DataFrame(
                {
                    "owner": owner.astype(np.int32),
                    "opened_day": opened,
                    "resolved_day": np.where(unresolved, np.nan, resolved),
                    "kind": pd.Series(contact.kind, index=range(len(owner)), dtype="str"),
                    "channel": pd.Series(rng.choice(names, len(owner), p=shares), dtype="str"),
                    "outcome": pd.Series(np.where(unresolved, "unresolved", "resolved"), dtype="str"),
                }
            )
        )
    return pd.concat(kinds).sort_values("opened_day", kind="stable", ignore_index=True)


def referrals(
    people: People,
    scores: Latents,
    came_by_referral: NDArray[np.bool_],
    plan: SatisfactionPlan,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Who brought whom: for each who came by referral, one of those who came before them, the loyal more often.

    Parameters
    ----------
    scores : from :func:`latents`. came_by_referral : shape (n,), whose acquisition channel is a referral; the first
    customer of all has nobody who could have brought them.

    Returns
    -------
    One row a referral: referrer, referred (indices into people), day (after the referrer's arrival, not after that of
    the referred), came_anyway (whether the referred would have come without it).
    """
    order = np.argsort(people.arrival, kind="stable")
    arrival = people.arrival[order]
    quarter = (people.arrival // PERIOD_DAYS).astype(int)
    earlier = np.searchsorted(arrival, people.arrival, side="left")
    referred = np.flatnonzero(came_by_referral & (earlier > 0))
    referrer = np.empty(len(referred), dtype=int)
    for t in np.unique(quarter[referred]):
        weight = np.cumsum(_multiplier(scores["Loyalty"][order, t], plan.referral_effect))
        now = np.flatnonzero(quarter[referred] == t)
        at = rng.random(len(now)) * weight[earlier[referred[now]] - 1]
        referrer[now] = order[np.searchsorted(weight, at, side="left")]
    gap = people.arrival[referred] - people.arrival[referrer]
    return pd.DataFrame(
        {
            "referrer": referrer.astype(np.int32),
            "referred": referred.astype(np.int32),
            "day": people.arrival[referred] - rng.random(len(referred)) * np.minimum(gap, REFERRAL_DAYS),
            "came_anyway": rng.random(len(referred)) < plan.came_anyway,
        }
    )
