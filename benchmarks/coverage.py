"""How often intervals of 95 % hold the truth: long simulations of what the notebooks publish.

    python benchmarks/coverage.py        (REPLICATIONS=2000, ONLY=value, ate, path, sizes, link, effects, uplift or peeking, SEED=1)

Every replication draws new customers. It is written to ``build/coverage`` at once, under a key of the code that its part rests on
and the seed, so that a run that was killed goes on where it was. The table goes to the terminal and, when no part was left out,
to ``benchmarks/results/coverage.md`` and ``coverage.csv``.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields, replace
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path

import ibis
import numpy as np
import pandas as pd
import scipy
from rich.progress import track
from scipy.special import expit

from analysis import campaigns, loyalty, paths, valuation
from analysis.campaigns import effects, evaluation, uplift_analysis
from analysis.loyalty import kernel
from analysis.loyalty.link import allowing_for_mood, effect_row
from analysis.scorecard.loyalty import Limit, limit
from analysis.simulate import campaigns as planted
from analysis.simulate import people, purchases, satisfaction
from analysis.simulate.clock import FUTURE_DAYS, LAST_DAY, OBSERVED_DAYS, PERIOD_DAYS, PERIODS, START
from analysis.simulate.small import ITEMS, OBSERVED_TO, SmallCompany
from analysis.simulate.world import TEXTBOOK

SEED = int(os.environ.get("SEED") or 1)
LOWEST, HIGHEST, MOST_ALARMS = 0.93, 0.97, 0.07
INTERVAL, FALSE_ALARM, POWER = "interval", "false alarm", "power"
RESULTS = paths.ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Trial:
    """One interval in one replication.

    Attributes
    ----------
    covered : whether it held the truth; the share that did, where there is one a customer. error : estimate less truth. width :
    high less low. promise : what the share of ones should be: ``INTERVAL``, near 95 %; ``FALSE_ALARM``, of a test whose hypothesis
    is true, 5 % at most; ``POWER``, of one whose hypothesis is false, nothing certain.
    """

    quantity: str
    interval: str
    covered: float
    truth: float
    error: float
    width: float
    promise: str = INTERVAL


def trial(quantity: str, interval: str, truth, estimate, low, high) -> Trial:
    """Hold an interval, or one a customer, against the truth."""
    truth, estimate, low, high = (np.asarray(v, dtype=float) for v in (truth, estimate, low, high))
    covered = (low <= truth) & (truth <= high)
    return Trial(quantity, interval, covered.mean(), truth.mean(), (estimate - truth).mean(), (high - low).mean())


def alarm(quantity: str, test: str, rejected: bool, promise: str) -> Trial:
    """Whether a test at 5 % rejected its hypothesis, which is true (``FALSE_ALARM``) or false (``POWER``)."""
    return Trial(quantity, test, float(rejected), 0.0, np.nan, np.nan, promise)


# -- what customers will buy -------------------------------------------------------------------------------------------------

CUSTOMERS, HORIZON, HELD_OUT = 1_000, FUTURE_DAYS, 91  # customers; days
PARETO, GAMMA = valuation.ParetoNBD.name, valuation.GammaGamma.name
PLAN = TEXTBOOK.people
PARAMETERS = {
    (PARETO, "r"): PLAN.r,
    (PARETO, "alpha"): PLAN.alpha / 7,
    (PARETO, "s"): PLAN.s,
    (PARETO, "beta"): PLAN.beta / 7,
    (GAMMA, "p"): PLAN.p,
    (GAMMA, "q"): PLAN.q,
    (GAMMA, "gamma"): PLAN.gamma,
}


@dataclass(frozen=True)
class Company:
    """Customers, the day on which each lapses, and their orders, the future included."""

    who: people.People
    lapsed: np.ndarray
    orders: purchases.Occasions

    @classmethod
    def draw(cls, n: int, rng: np.random.Generator) -> Company:
        """``n`` customers of the textbook world."""
        who, steady = people.draw(PLAN, 1, n, rng), np.ones((n, PERIODS))
        lapsed = purchases.lapses(who, steady, rng)
        return cls(who, lapsed, purchases.simulate(who, lapsed, steady, PLAN.p, TEXTBOOK.purchases, rng))


def purchase_days(orders: purchases.Occasions) -> pd.DataFrame:
    """One row a customer and day with an order: owner, day, spend."""
    code, at = np.unique(orders.owner * np.int64(LAST_DAY) + orders.day.astype(int), return_inverse=True)
    return pd.DataFrame({"owner": code // LAST_DAY, "day": code % LAST_DAY, "spend": np.bincount(at, orders.paid)})


def split(days: pd.DataFrame, cut: int, length: int) -> pd.DataFrame:
    """What ``valuation.calibration_holdout`` makes of purchase days: the past before ``cut``, and the ``length`` days after it.

    The columns of ``customer_summary`` are there too, at a margin of 1.
    """
    seen, repeat = days[days["day"] < cut], days["owner"].duplicated()
    by = seen.groupby("owner")
    first, count, spend = by["day"].min(), by.size(), by["spend"].sum()
    frame = pd.DataFrame(
        {
            "customer_id": count.index.astype(str).str.zfill(8),
            "frequency": count - 1,
            "recency": (by["day"].max() - first).astype(float),
            "T": (cut - 1 - first).astype(float),
            "orders": count,
            "spend": spend,
            "margin": spend,
        }
    )

    def between(start: int, stop: int, rows: pd.DataFrame = days) -> pd.DataFrame:
        inside = rows[(rows["day"] >= start) & (rows["day"] < stop)].groupby("owner")["spend"]
        return inside.agg(["size", "sum"]).reindex(frame.index, fill_value=0)

    repeats = between(0, cut, days[repeat])
    frame["monetary_value"] = repeats["sum"] / repeats["size"].clip(lower=1)
    gaps = np.log(by["day"].diff()).groupby(seen["owner"]).sum()
    frame["litt"] = gaps.reindex(frame.index, fill_value=0.0)
    frame[["recent_frequency", "recent_spend"]] = between(cut - length, cut)
    frame[["recent_repeats", "recent_repeat_spend"]] = between(cut - length, cut, days[repeat])
    frame[["holdout_frequency", "holdout_spend"]] = between(cut, cut + length)
    frame.attrs["holdout_days"] = length
    return frame


def value(rng: np.random.Generator) -> list[Trial]:
    """Purchases and sales of a base, sales of its customers, parameters of its models."""
    days = purchase_days(Company.draw(CUSTOMERS, rng).orders)
    base, cut = split(days, OBSERVED_DAYS, HORIZON), OBSERVED_DAYS - HELD_OUT
    bought, sales = base["holdout_frequency"].sum(), base["holdout_spend"].to_numpy()
    models = valuation.fit_models(base)
    holdout = valuation.evaluate_holdout(split(days, cut, HELD_OUT), cut, replications=2)
    asked = {
        "horizon_weeks": HORIZON // 7,
        "observed_from": START,
        "observed_to": START + timedelta(days=OBSERVED_DAYS - 1),
        "recent": split(days, OBSERVED_DAYS, HELD_OUT),
    }
    published = valuation.customer_value(base, models, holdout, **asked)
    each, past = published.frame, published.frame["existing_value"]
    low, high = each["clv_low"] - past, each["clv_high"] - past
    trials = [
        trial("purchases of the base", "published", bought, *published.purchases.interval),
        trial("sales of the base", "published", sales.sum(), *published.expected_sales.interval),
        trial("sales of one customer", "published", sales, each["residual_value"], low, high),
    ]
    if PARETO in models.purchases:
        alone = replace(models, purchases={PARETO: models.purchases[PARETO]})
        found = valuation.customer_value(base, alone, None, **asked, draws=8).purchases
        trials.insert(1, trial("purchases of the base", PARETO, bought, *found.interval))
    for row in models.parameters.itertuples():
        if (row.model, row.parameter) in PARAMETERS:
            truth = PARAMETERS[row.model, row.parameter]
            trials.append(trial(f"{row.model}, {row.parameter}", "published", truth, row.estimate, row.low, row.high))
    return trials


# -- what a campaign changes -------------------------------------------------------------------------------------------------

MEMBERS, PRE_DAYS, PRE_PERIODS = 1_500, 28, 5
_LONG_LETTER = TEXTBOOK.campaigns[0].arms[0]
LETTER = replace(TEXTBOOK.campaigns[0], arms=(replace(_LONG_LETTER, share=1.0),), eligible_share=1.0, largest=None)


def members(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """About ``n`` customers of a campaign: what each spends in its days with the letter and without, and what came before.

    Returns
    -------
    spend_with, spend_without, and the columns of ``campaigns.campaign_panel`` that hold the past.
    """
    company = Company.draw(round(n / 0.75), rng)  # three in four have arrived by then and may be contacted
    size, plan = len(company.who), LETTER
    run = planted.run((plan,), company.who, company.orders, company.lapsed, size, rng, PLAN.p)
    who = run.effects["owner"].to_numpy()
    spend, _ = _window(purchase_days(run.occasions), plan.start, plan.end, size)
    frame = {"spend_with": spend[who], "spend_without": spend[who] - run.effects["spend_effect"].to_numpy()}
    before = purchase_days(company.orders)
    for k in range(1, PRE_PERIODS + 1):
        spend, days = _window(before, plan.start - k * PRE_DAYS, plan.start - (k - 1) * PRE_DAYS, size)
        frame |= {f"spend_before_{k}": spend[who], f"purchase_days_before_{k}": days[who]}
    others = dict.fromkeys(("earlier_contacts", "running_contacts", "earlier_redeemed"), 0)
    return pd.DataFrame(frame).assign(**others)


def _window(days: pd.DataFrame, start: int, stop: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Spend and purchase days of each of ``n`` customers from day ``start`` up to ``stop``."""
    rows = days[(days["day"] >= start) & (days["day"] < stop)]
    return np.bincount(rows["owner"], rows["spend"], n), np.bincount(rows["owner"], minlength=n)


def targeted(who: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Who is sent the letter when those who bought much lately are likelier to be: log-odds in what 05 adjusts for."""
    known = evaluation.covariates(who, evaluation.Settings().pre_periods)
    return rng.random(len(who)) < expit(-2.0 + 0.2 * known["log_spend"] + 0.25 * known["log_latest_spend"])


@cache
def crowd() -> pd.DataFrame:
    """A million members, for what is true of all."""
    rng = np.random.default_rng(SEED)
    return pd.concat([members(20_000, rng) for _ in range(50)], ignore_index=True)


@cache
def true_effects() -> tuple[float, float]:
    """Mean effect on all members, and on those of the targeted whom 05 finds comparable, in a company of a million."""
    everybody, usual = crowd(), evaluation.Settings()
    effect = everybody["spend_with"] - everybody["spend_without"]
    reached = targeted(everybody, np.random.default_rng(SEED))
    known = evaluation.covariates(everybody, usual.pre_periods)
    kept = effects.overlap_region(reached, known, usual.highest_propensity)
    return effect.mean(), effect[reached & kept].mean()


def estimated(who: pd.DataFrame, reached: np.ndarray, design: str) -> dict[str, effects.EffectResults]:
    """The effects that 05 finds, by method."""
    panel = who.drop(columns=["spend_with", "spend_without"]).assign(
        campaign_id=LETTER.campaign_id,
        customer_id=np.arange(len(who)).astype(str),
        arm=np.where(reached, "letter", "control"),
        treated=reached.astype(int),
        spend=np.where(reached, who["spend_with"], who["spend_without"]),
    )
    span = {"campaign_id": LETTER.campaign_id, "label": LETTER.name, "design": design, "reason": None}
    span |= {"days": LETTER.days, "pre_days": PRE_DAYS, "complete_periods": LETTER.start // PRE_DAYS}
    sizes = panel.groupby(["campaign_id", "arm"]).size().rename("customers").reset_index()
    (found,) = campaigns.estimate_campaigns(panel, pd.DataFrame([span]), sizes, evaluation.Settings())
    return found.others


def ate(rng: np.random.Generator) -> list[Trial]:
    """Effects of a letter on spend: on everybody, by random arms, and on the targeted, without them."""
    on_all, on_targeted = true_effects()
    trials = []
    for size in (MEMBERS, MEMBERS // 10):
        who = members(size, rng)
        found = estimated(who, rng.random(len(who)) < 0.5, "randomised")
        for method in ("difference_in_means", "cuped"):
            effect = found[method]
            trials.append(trial(f"effect, random arms, {size:,}", method, on_all, effect.effect, *effect.interval()))
    who = members(MEMBERS, rng)
    effect = estimated(who, targeted(who, rng), "observational")["doubly_robust"]
    trials.append(trial("effect, targeted", "doubly_robust", on_targeted, effect.effect, *effect.interval()))
    return trials


# -- what drives loyalty -----------------------------------------------------------------------------------------------------

RESPONDENTS, DRAWS, SCALE, LINK = 300, 1_000, (1, 10), ("Satisfaction", "Loyalty")
ASKED = [item for item in TEXTBOOK.satisfaction.items if not item.name.startswith(("dv_", "nps"))]
MODEL = loyalty.ecsi({i.construct: [j.name for j in ASKED if j.construct == i.construct] for i in ASKED})


@cache
def true_limit() -> Limit:
    """The same estimator on a million respondents."""
    return limit(TEXTBOOK.satisfaction, MODEL, "path", SCALE, 1_000_000, SEED)


def two_waves(n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.Series]:
    """Answers of ``n`` customers to both waves of the survey, and whose they are."""
    plan, (first, last) = TEXTBOOK.satisfaction, satisfaction.WAVES
    scores = satisfaction.latents(n, plan, rng, rng.standard_normal(n), last - first + 1)
    waves = [
        satisfaction.answers({name: score[:, k] for name, score in scores.items()}, plan, rng)
        for k in (0, last - first)
    ]
    return pd.concat([pd.DataFrame(wave) for wave in waves], ignore_index=True), pd.Series(np.tile(np.arange(n), 2))


def path(rng: np.random.Generator) -> list[Trial]:
    """The path from satisfaction to loyalty and the level of satisfaction, asked of different people and of the same twice."""
    asked = satisfaction.respondents(RESPONDENTS, TEXTBOOK.satisfaction, rng)
    trials = path_trials(", asked once", asked, None, ("percentile", "bca"), rng)
    again, who = two_waves(RESPONDENTS // 2, rng)
    trials += path_trials(", asked twice, by rows", again, None, ("bca",), rng)
    return trials + path_trials(", asked twice", again, who, ("bca",), rng)


def path_trials(
    name: str, answers: pd.DataFrame, customers: pd.Series | None, methods: tuple, rng: np.random.Generator
) -> list[Trial]:
    """The intervals of 04 for one survey."""
    truth = true_limit()
    results = loyalty.PLSPathModel(answers, MODEL, customers=customers).fit()
    drawn = results.bootstrap(DRAWS, rng)
    trials = []
    for method in methods:
        low, high = drawn.conf_int(method=method).loc[LINK]
        trials.append(trial(f"path{name}", method, truth.paths[LINK], results.params[LINK], low, high))
    level = loyalty.performance(results, drawn, SCALE).set_index("construct").loc["Satisfaction"]
    ends = level["score"], level["low"], level["high"]
    return [*trials, trial(f"satisfaction{name}", "percentile", truth.levels["Satisfaction"], *ends)]


# -- how much of that a small or a skewed survey still tells --------------------------------------------------------------------

SIZES, ROUTE = (100, 250, 1_000), ("Quality", "Satisfaction", "Loyalty")
PLANTED = {(source, target): value for source, target, value in TEXTBOOK.satisfaction.paths}
SKEWED = replace(
    TEXTBOOK.satisfaction, answer_shares=(0.03, 0.07, 0.15, 0.30, 0.45)
)  # of five scale points, most at the top


def normal_answers(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Answers that are not cut into scale points."""
    scores = satisfaction.latents(n, TEXTBOOK.satisfaction, rng, rng.standard_normal(n), periods=1)
    noise = rng.standard_normal((len(ASKED), n))
    return pd.DataFrame(
        {
            item.name: item.loading * scores[item.construct][:, 0] + np.sqrt(1 - item.loading**2) * e
            for item, e in zip(ASKED, noise, strict=True)
        }
    )


def skewed_answers(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Answers of which nearly half are at the top of a scale of five points."""
    return satisfaction.respondents(n, SKEWED, rng)


@cache
def normal_limit() -> pd.Series:
    """Paths that plain PLS finds in the population's own correlations."""
    between, _ = satisfaction.implied_correlations(TEXTBOOK.satisfaction)
    known = {item.name: item for item in ASKED}
    loadings = np.array([known[name].loading for name in MODEL.items])
    owners = [known[name].construct for name in MODEL.items]
    correlations = between.loc[owners, owners].to_numpy() * np.outer(loadings, loadings)
    np.fill_diagonal(correlations, 1.0)
    found = kernel.estimate(correlations[None], kernel.Layout.of(MODEL)).paths[0]
    return pd.Series(found, pd.MultiIndex.from_tuples([(p.source, p.target) for p in MODEL.paths]))


@cache
def skewed_limit() -> pd.Series:
    """Paths that plain PLS finds in a million skewed answers."""
    return limit(SKEWED, MODEL, "path", (1, len(SKEWED.answer_shares)), 1_000_000, SEED).paths


SURVEYS = {"normal": (normal_answers, normal_limit), "skewed": (skewed_answers, skewed_limit)}


def sizes(rng: np.random.Generator) -> list[Trial]:
    """A path, the indirect effect that goes through it, and that path freed of measurement error, by size and kind of survey."""
    return [one for kind in SURVEYS for n in SIZES for one in size_trials(kind, n, rng)]


def size_trials(kind: str, n: int, rng: np.random.Generator) -> list[Trial]:
    """The intervals of one survey."""
    draw, truth = SURVEYS[kind]
    results = loyalty.PLSPathModel(draw(n, rng), MODEL).fit()
    drawn, arrow, name = results.bootstrap(DRAWS, rng), ROUTE[:2], f", {kind}, {n:,}"
    through = np.prod([truth()[step] for step in pairwise(ROUTE)])
    trials = []
    for method in ("percentile", "bca"):
        low, high = drawn.conf_int(method=method).loc[arrow]
        trials.append(trial(f"path{name}", method, truth()[arrow], results.params[arrow], low, high))
        trials.append(trial(f"indirect effect{name}", method, through, *drawn.indirect_effect(*ROUTE, method=method)))
    corrected = loyalty.consistent_paths(results, drawn).set_index(["source", "target"]).loc[arrow]
    if np.isfinite(corrected["estimate"]):
        ends = corrected["estimate"], corrected["low"], corrected["high"]
        trials.append(trial(f"consistent path{name}", "percentile", PLANTED[arrow], *ends))
    return trials


# -- from satisfaction to buying and leaving ----------------------------------------------------------------------------------

LINKED, ATTRIBUTES, CONFOUNDING, SPENDING = 4_000, ("age_band", "region", "acquisition_channel"), 0.5, 0.10


def link(rng: np.random.Generator) -> list[Trial]:
    """What satisfaction does to the rate of buying, the hazard of leaving and the spend of a purchase, with the reliability of the
    score known, and as answers tell of it that one mood colours; and the alarm for a common cause, on and off.
    """
    trials = []
    for confounding in (0.0, CONFOUNDING):
        company = SmallCompany.draw("company", LINKED, rng, confounding=confounding)
        known = loyalty.Reliability(company.answers["satisfaction"].corr(company.answers["latent"]) ** 2)
        linked = linked_company(company, company.days)
        found = loyalty.customer_link(linked, known, ATTRIBUTES)
        warned = bool(loyalty.lasting_cause(loyalty.past_placebo(linked, found, ATTRIBUTES))["warns"])
        if not confounding:
            plan, persistence = company.plan, found.persistence["error"]
            planted = {"rate": plan.rate_effect, "hazard": plan.hazard_effect, loyalty.SPEND: 0.0}
            trials += link_trials("", found.effects, planted)
            richer = linked_company(company, spending_more(company, SPENDING))
            spend = loyalty.spend_link(richer, found.results, persistence, ATTRIBUTES)
            row = effect_row(
                loyalty.SPEND, spend.fitted.value, spend.fitted.error, found.spread, known, spend.explained
            )
            trials += link_trials(", planted", pd.DataFrame([row]), {loyalty.SPEND: SPENDING})
            agreed, told = answered_reliability(plan, len(linked), rng)
            for name, reliability in (
                (", reliability by agreement alone", agreed),
                (", reliability from answers", told),
            ):
                trials += link_trials(name, loyalty.customer_link(linked, reliability, ATTRIBUTES).effects, planted)
        name = "a common cause, called one" if confounding else "no common cause, called one"
        trials.append(alarm(name, "placebo", warned, POWER if confounding else FALSE_ALARM))
    return trials


def linked_company(company: SmallCompany, days: pd.DataFrame) -> loyalty.Linked:
    """Its answers beside its purchase days."""
    table = ibis.memtable(days, schema={"customer_id": "string", "order_date": "date", "spend": "float64"})
    return loyalty.link_behaviour(company.answers, table, OBSERVED_TO, wave="wave", attributes=company.customers)


def spending_more(company: SmallCompany, effect: float) -> pd.DataFrame:
    """Its purchase days, had the spend of a purchase answered to the satisfaction of the quarter before, as the rate does."""
    quarter = (pd.to_datetime(company.days["order_date"]) - pd.Timestamp(START)).dt.days // PERIOD_DAYS
    owner = pd.Index(company.who.customer_id).get_indexer(company.days["customer_id"])
    score = company.latents["Satisfaction"][owner, np.maximum(quarter - 1, 0)]
    return company.days.assign(spend=company.days["spend"] * np.exp(effect * score))


def answered_reliability(
    plan: satisfaction.SatisfactionPlan, n: int, rng: np.random.Generator
) -> tuple[loyalty.Reliability, loyalty.Reliability]:
    """What `n` questionnaires tell of the reliability of the mean of the satisfaction items: by the agreement of these items, which
    a mood passes for, and allowing for one.
    """
    seen, k = satisfaction.respondents(n, plan, rng).astype(float), len(ITEMS)
    total = float(seen[ITEMS].corr().to_numpy().sum())
    agreed = k / (k - 1) * (1 - k / total)
    error = (1 - agreed) * np.sqrt(2 * k / (k - 1) / n)
    # The parts of delivered value are questions on their own, as in the notebook.
    blocks = [item.name if item.name.startswith("dv_") else item.construct for item in plan.items]
    moments = loyalty.moments.Moments(seen.to_numpy(), gaps="pairwise")
    mood = loyalty.link.largest_mood(moments, blocks, loyalty.moments.Resamples(n, DRAWS, rng))
    return loyalty.Reliability(agreed, error), allowing_for_mood(agreed, error, mood, k**2 / total)


def link_trials(name: str, effects: pd.DataFrame, planted: dict[str, float]) -> list[Trial]:
    """The effects by a standard deviation of satisfaction against what is planted."""
    rows = effects.set_index("outcome")
    quantities = {outcome: outcome.partition("_")[0] for outcome in planted}
    return [
        trial(
            f"link, {quantities[outcome]}{name}",
            "sandwich",
            truth,
            *rows.loc[outcome, ["true", "true_low", "true_high"]],
        )
        for outcome, truth in planted.items()
    ]


# -- the same letter, by every estimator of random arms ---------------------------------------------------------------------------

ARM_SIZES = (3_000, 300)  # members of both arms together; nine in ten of those left alone spend nothing
PAST = [f"spend_before_{k}" for k in range(1, evaluation.Settings().pre_periods + 1)]


def outcomes(who: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Each outcome with the letter and without it."""
    spend = who["spend_with"].to_numpy(), who["spend_without"].to_numpy()
    return {"spend": spend, "buying at all": tuple((one > 0).astype(float) for one in spend)}


@cache
def true_means() -> dict[str, tuple[float, float]]:
    """Mean of each outcome with the letter and without it, in a company of a million."""
    return {name: (with_it.mean(), without.mean()) for name, (with_it, without) in outcomes(crowd()).items()}


def campaign_effects(rng: np.random.Generator) -> list[Trial]:
    """The effect of a letter on spend and on buying at all, and as a share of what there is without it."""
    return [one for size in ARM_SIZES for one in estimator_trials(members(size, rng), size, rng)]


def estimator_trials(who: pd.DataFrame, size: int, rng: np.random.Generator) -> list[Trial]:
    """The intervals of one campaign."""
    d, past, trials = rng.random(len(who)) < 0.5, who[PAST].to_numpy(), []
    for name, (with_it, without) in outcomes(who).items():
        treated, control = true_means()[name]
        y = np.where(d, with_it, without)
        plain = effects.DifferenceInMeans(y, d).fit()
        adjusted = effects.CUPED(y, d, past).fit()
        for found in (plain, adjusted, effects.LinAdjustment(y, d, past).fit()):
            given = treated - control, found.effect, *found.interval()
            trials.append(trial(f"effect on {name}, {size:,}", found.method, *given))
        for found in (plain, adjusted):
            given = treated / control - 1, found.relative(), *found.relative_interval()
            trials.append(trial(f"relative effect on {name}, {size:,}", f"Fieller, {found.method}", *given))
    return trials


# -- whom a campaign moves ------------------------------------------------------------------------------------------------------

SHOPPERS, MEAN_SPEND, KEPT, LETTER_COST, EXTRA = 1_500, 30.0, 0.4, 0.8, 0.08  # KEPT : margin as a share of spend


@dataclass(frozen=True)
class Shoppers:
    """Customers of a randomised letter: features (n, 4), chance to buy without it, and what it adds to that chance, both (n,)."""

    x: np.ndarray
    anyway: np.ndarray
    extra: np.ndarray

    @classmethod
    def draw(cls, n: int, rng: np.random.Generator, alike: bool = False) -> Shoppers:
        """Buying hangs on the first feature, the effect of the letter on the second; where ``alike``, on nothing."""
        x = rng.standard_normal((n, 4))
        extra = np.full(n, EXTRA) if alike else 0.3 * expit(2 * x[:, 1]) - 0.07
        return cls(x, 0.1 + 0.5 * expit(x[:, 0]), extra)

    @property
    def effect(self) -> np.ndarray:
        """True effect on expected spend."""
        return MEAN_SPEND * self.extra

    def campaign(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Arm and spend of each."""
        treated = rng.random(len(self.x)) < 0.5
        buys = rng.random(len(self.x)) < self.anyway + self.extra * treated
        spend = buys * rng.gamma(2.0, MEAN_SPEND / 2, len(self.x))
        return np.where(treated, "letter", campaigns.uplift.CONTROL), spend


@cache
def all_shoppers() -> Shoppers:
    """A hundred thousand, for what a ranking or a policy is truly worth."""
    return Shoppers.draw(100_000, np.random.default_rng(SEED))


def rule(x: np.ndarray) -> np.ndarray:
    """A ranking that somebody had before the campaign; half right."""
    return x[:, 1] + x[:, 2]


WORTH = {
    "Qini": campaigns.qini_coefficient,
    "AUUC": campaigns.auuc,
    f"uplift at {uplift_analysis.DEPTH:.0%}": lambda s, g: campaigns.uplift_at(s, g, uplift_analysis.DEPTH),
}


@cache
def rule_worth() -> dict[str, float]:
    """What the rule is truly worth."""
    every = all_shoppers()
    return {name: measure(rule(every.x), every.effect).estimate for name, measure in WORTH.items()}


@cache
def policy_worth() -> tuple[float, float]:
    """Profit a customer of writing to the upper half by the rule, and of writing to all."""
    every = all_shoppers()
    gain = KEPT * every.effect - LETTER_COST
    return (gain * (rule(every.x) > 0)).mean(), gain.mean()


def uplift(rng: np.random.Generator) -> list[Trial]:
    """What a rule and a learnt ranking are worth, the profit of a policy, and whether the effects differ at all."""
    who = Shoppers.draw(SHOPPERS, rng)
    arm, spend = who.campaign(rng)
    fold = campaigns.customer_folds(arm, folds=uplift_analysis.FOLDS, random_state=int(rng.integers(2**31)))
    gamma = campaigns.cross_fit_scores(who.x, arm, spend, fold)[:, 0]
    score, worth = learnt(who, arm, spend > 0, fold)
    trials = []
    for name, measure in WORTH.items():
        for label, ranking, truth in (("rule", rule(who.x), rule_worth()[name]), ("learner", score, worth[name])):
            found = measure(ranking, gamma)
            trials.append(trial(f"{name} of a {label}", "influence function", truth, found.estimate, *found.interval()))
    over = campaigns.compare_rankings(score, rule(who.x), gamma)
    given = worth["Qini"] - rule_worth()["Qini"], over.estimate, *over.interval()
    trials.append(trial("Qini of the learner over the rule", "paired", *given))
    profit = KEPT * spend - LETTER_COST * (arm == "letter")
    gains, policy = campaigns.cross_fit_scores(who.x, arm, profit, fold), np.where(rule(who.x) > 0, 0, campaigns.NOBODY)
    own, all_alike = policy_worth()
    for name, rival, truth in (("", None, own), (" over a letter to all", np.zeros(len(policy), int), own - all_alike)):
        found = campaigns.policy_value(gains, policy, rival)
        trials.append(trial(f"profit of a policy{name}", "doubly robust", truth, found.effect, *found.interval()))
    trials.append(alarm("effects differ, found", "sequential", differ(who, arm, spend), POWER))
    same = Shoppers.draw(SHOPPERS, rng, alike=True)
    trials.append(
        alarm("effects alike, called different", "sequential", differ(same, *same.campaign(rng)), FALSE_ALARM)
    )
    return trials


def learnt(who: Shoppers, arm: np.ndarray, bought: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The ranking of the target list, as 05 makes it, and what the rankings of its folds are truly worth on average."""
    every, y = all_shoppers(), bought.astype(float)
    score, worth = np.empty(len(arm)), []
    for k in np.unique(fold):
        held = fold == k
        learner = campaigns.TLearner().fit(who.x[~held], arm[~held], y[~held])
        score[held] = learner.predict(who.x[held])[:, 0]
        told = learner.predict(every.x)[:, 0]
        worth.append([measure(told, every.effect).estimate for measure in WORTH.values()])
    return campaigns.ranks_within(score, fold), dict(zip(WORTH, np.mean(worth, axis=0), strict=True))


def differ(who: Shoppers, arm: np.ndarray, spend: np.ndarray) -> bool:
    """The verdict of 05 on whether effects differ."""
    learner, bought = campaigns.TLearner(), (spend > 0).astype(float)
    return campaigns.heterogeneity_test(who.x, arm, spend, learner=learner, learn_from=bought).differs()


# -- who looks again and again ----------------------------------------------------------------------------------------------------

LOOKS, WATCHED, RISE = 10, 1_000, 0.4  # RISE : of sales, where there is an effect
LIMITS = {"always valid": ("low", "high"), "fixed horizon": ("fixed_low", "fixed_high")}


def peeking(rng: np.random.Generator) -> list[Trial]:
    """Ten looks at a campaign, by the always-valid interval and as if each look were the only one."""
    trials = []
    for name, draw in (("followed", followed), ("arriving", arriving)):
        nothing, something = (campaigns.sequential_looks(*draw(rng, rise)) for rise in (0.0, RISE))
        quantity = f"ten looks at customers {name}, no effect, called one"
        for method, limits in LIMITS.items():
            trials.append(alarm(quantity, method, excludes_zero(nothing, *limits).any(), FALSE_ALARM))
        quantity = f"ten looks at customers {name}, an effect, called"
        trials.append(alarm(quantity, "always valid", excludes_zero(something, *LIMITS["always valid"]).any(), POWER))
        once = excludes_zero(something, *LIMITS["fixed horizon"]).iloc[-1]
        trials.append(alarm(quantity, "one look, at the end", once, POWER))
    return trials


def excludes_zero(table: pd.DataFrame, low: str, high: str) -> pd.Series:
    """Whether each look would be called an effect."""
    return (table[low] > 0) | (table[high] < 0)


def followed(rng: np.random.Generator, rise: float) -> tuple[np.ndarray, np.ndarray]:
    """Sales of the same customers up to each look, shape (n, looks), and their arms."""
    treated = rng.random(WATCHED) < 0.5
    rate = rng.gamma(0.5, 0.4, WATCHED) * (1 + rise * treated)  # purchases between two looks; most make none
    orders = rng.poisson(rate[:, None], (WATCHED, LOOKS))
    return np.cumsum(rng.gamma(2.0 * orders, MEAN_SPEND / 2), axis=1), treated.astype(int)


def arriving(rng: np.random.Generator, rise: float) -> tuple[np.ndarray, np.ndarray]:
    """Spend of customers who come one after another, missing before they are there, and their arms."""
    treated = rng.random(WATCHED) < 0.5
    spend = rng.gamma(2.0 * rng.poisson(0.5 * (1 + rise * treated)), MEAN_SPEND / 2)
    there = np.arange(WATCHED)[:, None] < np.linspace(WATCHED / LOOKS, WATCHED, LOOKS)
    return np.where(there, spend[:, None], np.nan), treated.astype(int)


# -- the table ---------------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[np.random.Generator], list[Trial]]] = {
    "value": value,
    "ate": ate,
    "path": path,
    "sizes": sizes,
    "link": link,
    "effects": campaign_effects,
    "uplift": uplift,
    "peeking": peeking,
}
REPLICATIONS = 2_000
FEWER = {"sizes": 500, "link": 500, "uplift": 1_000}  # parts of which so many take too long
RESTS_ON = {  # the rooms of a part, and the sections of this file beside its first
    "value": (("valuation", "simulate"), (value,)),
    "ate": (("campaigns", "simulate"), (value, ate)),
    "path": (("loyalty", "simulate"), (path,)),
    "sizes": (("loyalty", "simulate"), (path, sizes)),
    "link": (("loyalty", "valuation", "simulate"), (link,)),
    "effects": (("campaigns", "simulate"), (value, ate, campaign_effects)),
    "uplift": (("campaigns",), (uplift,)),
    "peeking": (("campaigns",), (uplift, peeking)),
}
SMALL = f"effect, random arms, {MEMBERS // 10:,}"
MOOD = "a mood that colours all answers passes for agreement; shown for comparison, the notebook allows for one"
REASONS = {  # why an interval is outside, as far as it is known
    **{(f"link, {name}, reliability by agreement alone", "sandwich"): MOOD for name in ("rate", "hazard")},
    (
        f"{PARETO}, s",
        "published",
    ): "so small a base tells little of how lapsing differs, as the width says, and only fits with "
    "a finite s are published: the others are missing from the replications",
    (
        SMALL,
        "cuped",
    ): "half of so few customers are an arm and most buy nothing; a normal interval of so skewed a mean is short",
    (SMALL, "difference_in_means"): "as for cuped",
    (
        "satisfaction, asked twice, by rows",
        "percentile",
    ): "it takes two answers of a customer for those of two; shown for comparison, the notebook draws customers",
    **{
        (
            f"ten looks at customers {kind}, no effect, called one",
            "fixed horizon",
        ): "the usual interval is meant for one look; shown for comparison, the notebook draws the always-valid one"
        for kind in ("followed", "arriving")
    },
    **{
        (
            f"{name} of a learner",
            "influence function",
        ): "the rankings of the folds are learnt from one another's customers, so "
        "their errors go together, which an interval that takes the ranking as given leaves out: it is some 5 % short"
        for name in WORTH
    },
}


def code_key(part: str) -> str:
    """Changes with everything that a replication of a part rests on."""
    rooms, within = RESTS_ON[part]
    head, *sections = Path(__file__).read_text(encoding="utf-8").split("\n# -- ")
    wanted = [text for text in sections if any(f"\ndef {one.__name__}(" in text for one in within)]
    files = [path.read_bytes() for room in rooms for path in room_files(room)]
    return hashlib.sha256(b"".join(files) + "".join([head, *wanted]).encode()).hexdigest()[:12]


def room_files(room: str) -> list[Path]:
    """The modules of a room of the package."""
    return sorted((paths.ROOT / "src" / "analysis" / room).glob("*.py"))


def replicate(part: str, replications: int) -> list[dict]:
    """The replications of one part, those of an earlier run first: seconds, trials."""
    file = paths.build() / "coverage" / f"{part}-{SEED}-{code_key(part)}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    text = file.read_text() if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]  # a kill may have cut the last line
    file.write_text(whole)
    done = [json.loads(line) for line in whole.splitlines()]
    number = list(PARTS).index(part)
    with file.open("a") as out:
        for k in track(range(len(done), replications), description=part):
            started = time.process_time()
            trials = PARTS[part](np.random.default_rng([SEED, number, k]))
            done.append({"seconds": time.process_time() - started, "trials": [astuple(one) for one in trials]})
            out.write(json.dumps(done[-1]) + "\n")
            out.flush()
    return done[:replications]


def coverage_table(replications: list[dict]) -> pd.DataFrame:
    """One row an interval or a test: quantity, interval, promise, replications (that have it), coverage (of a test, how often
    it rejected) with its Monte-Carlo error (95 %), truth, width, bias (share of the truth), verdict.
    """
    trials = pd.DataFrame(
        [astuple(Trial(*one)) for each in replications for one in each["trials"]],
        columns=[field.name for field in fields(Trial)],
    )
    by = trials.groupby(["quantity", "interval", "promise"], sort=False)
    table = by.agg(replications=("covered", "size"), coverage=("covered", "mean"), spread=("covered", "std"))
    table["error"] = 1.96 * table.pop("spread") / np.sqrt(table["replications"])
    table[["truth", "width"]] = by[["truth", "width"]].mean()
    table["bias"] = by["error"].mean() / table["truth"].where(table["truth"] != 0)
    table = table.reset_index()
    known = pd.Series([REASONS.get(key) for key in zip(table["quantity"], table["interval"], strict=True)], dtype="str")
    lowest = np.where(table["promise"] == INTERVAL, LOWEST, 0.0)
    highest = np.where(table["promise"] == INTERVAL, HIGHEST, MOST_ALARMS)
    off = np.maximum(lowest - table["coverage"], table["coverage"] - highest)
    kept = [table["promise"] == POWER, off <= 0.0, known.notna(), off <= table["error"]]
    verdicts = ["power", "inside", known, "within the error of so few replications"]
    return table.assign(verdict=np.select(kept, verdicts, "no reason known"))


def markdown(table: pd.DataFrame) -> str:
    """The table for people."""
    head = ["quantity", "interval", "replications", "coverage", "mean width", "bias", "as promised?"]
    rows = [
        f"| {row.quantity} | {row.interval.replace('_', ' ')} | {row.replications:,} | {row.coverage:.1%} ± {row.error:.1%} "
        f"| {_or_dash(row.width, ',.3g')} | {_or_dash(row.bias, '+.1%')} | {row.verdict} |"
        for row in table.itertuples()
    ]
    return "\n".join(["| " + " | ".join(head) + " |", "| --- " * len(head) + "|", *rows])


def _or_dash(number: float, form: str) -> str:
    return format(number, form) if np.isfinite(number) else "–"


def main() -> None:
    """Run, print, and write where all parts were asked for."""
    asked, only = int(os.environ.get("REPLICATIONS") or 0), os.environ.get("ONLY")
    if only and only not in PARTS:
        raise SystemExit(f"ONLY={only}: there are {', '.join(PARTS)}")
    tables, seconds = [], 0.0
    for part in [only] if only else PARTS:
        done = replicate(part, asked or FEWER.get(part, REPLICATIONS))
        seconds += sum(one["seconds"] for one in done)
        tables.append(coverage_table(done))
        print(markdown(tables[-1]), flush=True)
    if only:
        return
    table = pd.concat(tables, ignore_index=True)
    machine = (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}"
    )
    command = "make coverage" + (f" REPLICATIONS={asked}" if asked else "")
    text = f"""# How often intervals of 95 % hold the truth

`{command}`: {seconds / 60:.0f} CPU minutes on one of {machine}.

Each replication draws new customers of the simulator's textbook world: {CUSTOMERS:,} of them for purchases and sales
(observed for {OBSERVED_DAYS // 7} weeks, {HORIZON // 7} ahead), about {MEMBERS:,} for a campaign, {RESPONDENTS} answers
for the survey, or as many as stated; their items are normal, or of five points and skewed ({SKEWED.answer_shares[-1]:.0%} at
the top). A path is held against what the same estimator finds in the whole population, a consistent one against what was
planted. Coverage is given with its Monte-Carlo error (95 %), bias as a share of the truth, width in the quantity's
own unit. "Published" is what the notebook states. An interval should hold the truth {LOWEST:.0%} to {HIGHEST:.0%} of the time.
A test at 5 % that finds what is not there should do so {MOST_ALARMS:.0%} of the time at most; how often it finds what is there
is its power. Rankings and policies are learnt and judged on {SHOPPERS:,} customers whose true effects have a closed form,
looks taken at {WATCHED:,} others. A ranking is held against what it is worth with the true effects; a learnt one, fold by fold.
Bootstrap intervals rest on {DRAWS} draws here and on 5,000 in the notebook.

{markdown(table)}
"""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "coverage.md").write_text(text, encoding="utf-8")
    table.to_csv(RESULTS / "coverage.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    main()
