"""How often intervals of 95 % hold the truth: long simulations of what the notebooks publish.

    python benchmarks/coverage.py        (REPLICATIONS=2000, ONLY=value, ate, path, sizes or link, SEED=1)

Every replication draws new customers of the simulator's textbook world. It is written to ``build/coverage`` at once, under a
key of the code and the seed, so that a run that was killed goes on where it was. The table goes to the terminal and, when no part
was left out, to ``benchmarks/results/coverage.md`` and ``coverage.csv``.
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
from types import SimpleNamespace

import ibis
import numpy as np
import pandas as pd
import scipy
from rich.progress import track
from scipy.special import expit

from analysis import campaigns, loyalty, paths, valuation
from analysis.campaigns import effects, evaluation
from analysis.loyalty import kernel
from analysis.scorecard.loyalty import Limit, limit
from analysis.simulate import campaigns as planted
from analysis.simulate import people, purchases, satisfaction
from analysis.simulate.clock import FUTURE_DAYS, LAST_DAY, OBSERVED_DAYS, PERIODS, START
from analysis.simulate.small import OBSERVED_TO, SmallCompany
from analysis.simulate.world import TEXTBOOK

SEED = int(os.environ.get("SEED") or 1)
LOWEST, HIGHEST = 0.93, 0.97
RESULTS = paths.ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Trial:
    """One interval in one replication.

    Attributes
    ----------
    covered : whether it held the truth; the share that did, where there is one a customer. error : estimate less truth. width :
    high less low.
    """

    quantity: str
    interval: str
    covered: float
    truth: float
    error: float
    width: float


def trial(quantity: str, interval: str, truth, estimate, low, high) -> Trial:
    """Hold an interval, or one a customer, against the truth."""
    truth, estimate, low, high = (np.asarray(v, dtype=float) for v in (truth, estimate, low, high))
    covered = (low <= truth) & (truth <= high)
    return Trial(quantity, interval, covered.mean(), truth.mean(), (estimate - truth).mean(), (high - low).mean())


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
    frame["recent_repeats"] = between(cut - length, cut, days[repeat])["size"]
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
def true_effects() -> tuple[float, float]:
    """Mean effect on all members, and on those of the targeted whom 05 finds comparable, in a company of a million."""
    rng, usual = np.random.default_rng(SEED), evaluation.Settings()
    crowd = pd.concat([members(20_000, rng) for _ in range(50)], ignore_index=True)
    effect, reached = crowd["spend_with"] - crowd["spend_without"], targeted(crowd, rng)
    known = evaluation.covariates(crowd, usual.pre_periods)
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

LINKED, ATTRIBUTES, CONFOUNDING = 4_000, ("age_band", "region", "acquisition_channel"), 0.5


def link(rng: np.random.Generator) -> list[Trial]:
    """What satisfaction does to the rate of buying and the hazard of leaving; and the alarm for a common cause, on and off."""
    trials = []
    for confounding in (0.0, CONFOUNDING):
        company = SmallCompany.draw("company", LINKED, rng, confounding=confounding)
        seen = np.corrcoef(company.answers["satisfaction"], company.answers["latent"])[0, 1] ** 2
        days = ibis.memtable(company.days, schema={"customer_id": "string", "order_date": "date", "spend": "float64"})
        clock = SimpleNamespace(observed_from=START, observed_to=OBSERVED_TO)
        given = company.answers, company.answers, days, clock, loyalty.Reliability(seen)
        found, reason = loyalty.run_link(*given, wave="wave", customers=company.customers, attributes=ATTRIBUTES)
        if found is None:
            raise RuntimeError(reason)
        warned = float(found.warning["warns"])
        if not confounding:
            for name, planted in (("rate", company.plan.rate_effect), ("hazard", company.plan.hazard_effect)):
                told = found.link.effect(name)
                trials.append(trial(f"link, {name}", "sandwich", planted, told["value"], told["low"], told["high"]))
        name = "common cause, alarm" if confounding else "no common cause, no alarm"
        trials.append(trial(name, "alarm", float(confounding > 0), warned, warned, warned))
    return trials


# -- the table ---------------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[np.random.Generator], list[Trial]]] = {
    "value": value,
    "ate": ate,
    "path": path,
    "sizes": sizes,
    "link": link,
}
SMALL = f"effect, random arms, {MEMBERS // 10:,}"
REASONS = {  # why an interval is outside, as far as it is known
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
}


def code_key() -> str:
    """Changes with everything that a replication rests on."""
    rooms = [path for room in ("valuation", "campaigns", "loyalty", "simulate") for path in room_files(room)]
    here, _, _ = Path(__file__).read_text(encoding="utf-8").partition("# -- the table")
    return hashlib.sha256(b"".join(path.read_bytes() for path in rooms) + here.encode()).hexdigest()[:12]


def room_files(room: str) -> list[Path]:
    """The modules of a room of the package."""
    return sorted((paths.ROOT / "src" / "analysis" / room).glob("*.py"))


def replicate(part: str, replications: int) -> list[dict]:
    """The replications of one part, those of an earlier run first: seconds, trials."""
    file = paths.build() / "coverage" / f"{part}-{SEED}-{code_key()}.jsonl"
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
    """One row an interval: quantity, interval, replications (that have it), coverage with its Monte-Carlo error (95 %),
    truth, width, bias (share of the truth), verdict.
    """
    trials = pd.DataFrame(
        [one for each in replications for one in each["trials"]], columns=[field.name for field in fields(Trial)]
    )
    by = trials.groupby(["quantity", "interval"], sort=False)
    table = by.agg(replications=("covered", "size"), coverage=("covered", "mean"), spread=("covered", "std"))
    table["error"] = 1.96 * table.pop("spread") / np.sqrt(table["replications"])
    table[["truth", "width"]] = by[["truth", "width"]].mean()
    table["bias"] = by["error"].mean() / table["truth"].where(table["truth"] != 0)
    table = table.reset_index()
    inside = table["coverage"].between(LOWEST, HIGHEST)
    why = [REASONS.get(key, "no reason known") for key in zip(table["quantity"], table["interval"], strict=True)]
    return table.assign(verdict=np.where(inside, "inside", why))


def markdown(table: pd.DataFrame) -> str:
    """The table for people."""
    head = ["quantity", "interval", "replications", "coverage", "mean width", "bias", "93–97 %?"]
    rows = [
        f"| {row.quantity} | {row.interval.replace('_', ' ')} | {row.replications:,} | {row.coverage:.1%} ± {row.error:.1%} "
        f"| {row.width:,.3g} | {'–' if row.bias != row.bias else f'{row.bias:+.1%}'} | {row.verdict} |"
        for row in table.itertuples()
    ]
    return "\n".join(["| " + " | ".join(head) + " |", "| --- " * len(head) + "|", *rows])


def main() -> None:
    """Run, print, and write where all parts were asked for."""
    replications, only = int(os.environ.get("REPLICATIONS") or 2_000), os.environ.get("ONLY")
    if only and only not in PARTS:
        raise SystemExit(f"ONLY={only}: there are {', '.join(PARTS)}")
    tables, seconds = [], 0.0
    for part in [only] if only else PARTS:
        done = replicate(part, replications)
        seconds += sum(one["seconds"] for one in done)
        tables.append(coverage_table(done))
        print(markdown(tables[-1]), flush=True)
    if only:
        return
    table = pd.concat(tables, ignore_index=True)
    machine = (
        f"{os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}, SciPy {scipy.__version__}"
    )
    text = f"""# How often intervals of 95 % hold the truth

`make coverage REPLICATIONS={replications}`: {seconds / 60:.0f} CPU minutes on one of {machine}.

Each replication draws new customers of the simulator's textbook world: {CUSTOMERS:,} of them for purchases and sales
(observed for {OBSERVED_DAYS // 7} weeks, {HORIZON // 7} ahead), about {MEMBERS:,} for a campaign, {RESPONDENTS} answers
for the survey, or as many as stated; their items are normal, or of five points and skewed ({SKEWED.answer_shares[-1]:.0%} at
the top). A path is held against what the same estimator finds in the whole population, a consistent one against what was
planted. Coverage is given with its Monte-Carlo error (95 %), bias as a share of the truth, width in the quantity's
own unit. "Published" is what the notebook states.
Bootstrap intervals rest on {DRAWS} draws here and on 5,000 in the notebook.

{markdown(table)}
"""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "coverage.md").write_text(text, encoding="utf-8")
    table.to_csv(RESULTS / "coverage.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    main()
