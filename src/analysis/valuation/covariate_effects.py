"""Do traits of customers say how often they buy and how soon they leave, and does knowing them improve the forecast.

The models are those of :mod:`analysis.valuation.covariates`; here are chosen the columns of the `customers` table that may
enter them, the effect of each value is told as a ratio, and the models with traits are held against the same models
without on the weeks that were held out. A trait may describe and yet not help: what a customer did before says most of
what the trait would say.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ibis
import numpy as np
import pandas as pd
from scipy import stats

from analysis.multiplicity import adjust_p_values
from analysis.reporting.numbers import Formatter
from analysis.valuation.acquisition import OTHERS
from analysis.valuation.bg_cnbd_k import MBGCNBDk
from analysis.valuation.concentration import Estimate
from analysis.valuation.covariates import BGNBDCovariates, CovariateModel, CovariateResults, ParetoNBDCovariates
from analysis.valuation.facts import found_or_reason
from analysis.valuation.figures import FORECAST_WORDS
from analysis.valuation.holdout import Holdout
from analysis.valuation.purchases import Array
from analysis.valuation.summary import in_weeks

NOT_STATED = "not stated"
LEVEL = 0.05
COVARIATE_COLUMNS = {
    "trait": ("Trait", "text"),
    "level": ("Value", "text"),
    "customers": ("Customers", "count"),
    "rate_words": ("Buys so many times as often", "text"),
    "dropout_words": ("Leaves so many times as readily", "text"),
}
_MODELS: tuple[type[CovariateModel], ...] = (BGNBDCovariates, ParetoNBDCovariates)
_SIDES = ("rate", "dropout")
_LEAST = 30  # customers of a level, of whom _LEAST_BACK came back
_LEAST_BACK = 5
_LEAST_KNOWN = 0.5  # share of customers for whom a column is known
_LEAST_OWN = 0.02  # smallest eigenvalue of the correlations of groups, below which one follows from the others
_MOST_LEVELS = 8
_QUANTITY_FROM = 10  # different numbers from which a column of numbers is a quantity, which is cut into quarters
_BACK_PER_COEFFICIENT = 10  # returning customers
_MOST_CUSTOMERS = 50_000  # more are drawn from: ratios are known well enough then
_KNOWN_LATER = 0.1  # difference in the share known between those who came back and the others
_HASH = re.compile(r"[0-9a-f]{32}")
_FIRST = ("acquisition_channel", "region")
_NO_TRAIT = {"customer_id", "household_id", "referred_by", "acquired_on", "consent_email", "consent_sms"}
# Words in a column's name for what customers did, or what was done to them, after they had come.
_LATER = {
    *("last", "latest", "recent", "total", "lifetime", "spend", "spent", "orders", "purchases", "revenue", "sales"),
    *("margin", "profit", "clv", "ltv", "rfm", "tier", "churn", "churned", "active", "lapsed", "points", "score"),
    *("nps", "satisfaction", "complaints", "holdout", "control", "treatment", "arm", "campaign", "contacted", "opened"),
    *("clicked", "unsubscribed", "consent"),
}


@dataclass(frozen=True)
class CovariateEffects:
    """What traits say of buying and leaving.

    Attributes
    ----------
    columns : DataFrame
        A row a column of the customers table that could be a trait: `column`, `used`, `levels`, `known` (share of customers),
        `reason` (why it is not used; else empty).
    effects : DataFrame
        A row a trait and level: `trait`, `level`, `reference` (the level that others are compared with), `customers`,
        `rate`, `rate_low`, `rate_high`, `rate_p`, and the same for `dropout`: ratios to the reference with 95 %
        intervals whose errors allow for more or less spread than the model has (Huber–White), and p values for all ratios
        together (Holm). Dropout is NaN where it cannot be told. No error mends a model that is wrong in kind: see `regular`.
    fits : DataFrame
        Two rows a model, `traits` "no" and "yes": `model`, `traits`, `coefficients`, `log_likelihood`, `aic`, `bic`, and
        `statistic`, `df`, `p_value` of the likelihood-ratio test in the second.
    model : str
        The plain model on which `effects` rest: of those that can be used, the one with the smallest AIC.
    sides : tuple of str
        What the traits move in it: "rate", or that and "dropout".
    gain : Estimate
        Typical error (RMSE, purchases a customer) in the holdout with traits less without, paired; below 0 they help.
    gain_on_best : Estimate
        The same less that of the forecast that won the holdout, `best`.
    best : str
        Empty without a holdout.
    error : float
        Typical error without traits.
    weeks : float
        Length of the holdout; NaN without one.
    customers, of : int
        Customers that the fits used, and all there are.
    truncated : bool
        Customers were there before the data begin: their leaving cannot be compared.
    regular : bool
        Before the holdout, a model of regular timing (MBG/CNBD-k, k > 1) fits better by AIC. Then the ratios of groups
        that leave at different paces are somewhat too far from 1: in simulations of customers who all buy at gamma(3)
        times, a ratio of 1.6 was found as about 1.85.
    """

    columns: pd.DataFrame
    effects: pd.DataFrame
    fits: pd.DataFrame
    model: str
    sides: tuple[str, ...]
    gain: Estimate
    gain_on_best: Estimate
    best: str
    error: float
    weeks: float
    customers: int
    of: int
    truncated: bool
    regular: bool

    @property
    def helps(self) -> bool:
        """Whether the forecast of the held-out weeks was better with traits, beyond chance."""
        return self.gain.high is not None and self.gain.high < 0.0

    @property
    def recommended(self) -> bool:
        """Whether they help, and the model with them came closer than the forecast that won the holdout without."""
        return self.helps and self.gain_on_best.value < 0.0


def run_covariates(
    base: pd.DataFrame,
    customers: pd.DataFrame | ibis.Table | None,
    holdout: Holdout | None,
    entry: str = "first_purchase",
    *,
    small_group: int = 10,
    later: Collection[str] = (),
    seed: int = 1,
) -> tuple[CovariateEffects | None, str]:
    """Fit BG/NBD and Pareto/NBD with and without the traits of customers, and compare both on the held-out weeks.

    Parameters
    ----------
    base : DataFrame
        The canonical `customer_summary` (days).
    customers : DataFrame or ibis.Table, optional
        The canonical table. Keys, dates, consent and hashed columns are never used.
    holdout : Holdout, optional
        From :func:`analysis.valuation.run_holdout`; without one nothing is recommended.
    entry : str
        The study's clock. With "left_truncated" ratios of the rate are among those who bought in the observed days, and
        ratios of leaving are not told: groups that had been there for longer would look like groups that stay.
    small_group : int
        Levels of fewer customers, and of fewer than 30, are joined.
    later : collection of str
        Columns that became known, or could change, after the first purchase.
    seed : int
        Of the sample that is taken of more than 50,000 customers.

    Returns
    -------
    found : CovariateEffects or None
    reason : str
        Why not; empty otherwise.
    """
    if customers is None:
        return None, "the study has no table of customers"
    if isinstance(customers, ibis.Table):
        customers = customers.to_pyarrow().to_pandas()
    names = _candidates(customers)
    if not names:
        return None, "the study holds nothing of customers but keys, dates and consent"
    settings = (holdout, entry == "left_truncated", max(small_group, _LEAST), set(later), seed)
    return found_or_reason(lambda: _measured(base, customers[["customer_id", *names]], *settings))


def _measured(
    base: pd.DataFrame,
    customers: pd.DataFrame,
    holdout: Holdout | None,
    truncated: bool,
    least: int,
    later: set[str],
    seed: int,
) -> CovariateEffects:
    frame = base.sample(_MOST_CUSTOMERS, random_state=seed) if len(base) > _MOST_CUSTOMERS else base
    if len(frame) < 2 * least:
        raise ValueError("covariates: there are too few customers to compare groups of them")
    traits = frame[["customer_id"]].merge(customers, on="customer_id", how="left", validate="one_to_one")
    levels, columns = _usable(traits.drop(columns="customer_id"), frame["frequency"].to_numpy(), least, later)
    if levels.empty:
        raise ValueError(f"covariates: nothing known of customers can be used ({set_aside(columns)})")
    dummies = _dummies(levels)
    fitted = {model: _fitted(model, frame, dummies) for model in _MODELS}
    fitted = {model: found for model, found in fitted.items() if found is not None}
    if not fitted:
        raise ValueError("covariates: neither BG/NBD nor Pareto/NBD holds for these customers, with traits or without")
    best = min(fitted, key=lambda model: fitted[model].aic)
    sides = _SIDES if fitted[best].model.dropout_names else _SIDES[:1]
    gain, gain_on_best, error = _gains(best, holdout, frame["customer_id"], dummies, sides, least)
    return CovariateEffects(
        columns=columns,
        effects=_ratios(fitted[best], levels, _SIDES[:1] if truncated else sides),
        fits=pd.concat([_compared(found) for found in fitted.values()], ignore_index=True),
        model=best.base.name,
        sides=_SIDES[:1] if truncated else sides,
        gain=gain,
        gain_on_best=gain_on_best,
        best=holdout.best if holdout else "",
        error=error,
        weeks=holdout.weeks if holdout else float("nan"),
        customers=len(frame),
        of=len(base),
        truncated=truncated,
        regular=_is_regular(holdout, best.base.name),
    )


# -- which columns ------------------------------------------------------------------------------------------------------


def _candidates(customers: pd.DataFrame) -> list[str]:
    """Columns that may be traits, channel and region first; dates, keys and consent are none."""
    names = [c for c in customers.columns if c not in _NO_TRAIT]
    kinds = {c: pd.api.types.infer_dtype(customers[c], skipna=True) for c in names}
    names = [c for c in names if kinds[c] not in ("date", "datetime", "datetime64")]
    return [c for c in _FIRST if c in names] + [c for c in names if c not in _FIRST]


def _usable(traits: pd.DataFrame, frequency: Array, least: int, later: set[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Levels of the columns that can be used, shape (customers, used), and what became of each column."""
    back = frequency > 0
    room = int(back.sum()) // (_BACK_PER_COEFFICIENT * len(_SIDES))
    used, rows, design = {}, [], np.zeros((len(traits), 0))
    for name in traits:
        reason, levels = _unfit(name, traits[name], back, later), None
        if not reason:
            levels = _levels(traits[name], least)
            reason = _unfit_levels(levels, back, least)
        if not reason:
            wider = np.hstack([design, _dummies(pd.DataFrame({name: levels})).to_numpy()])
            if wider.shape[1] > room:
                reason = "too few customers came back to tell so many groups apart"
            elif np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(wider, rowvar=False)))[0] < _LEAST_OWN:
                reason = "it says nearly the same as the columns before it"
            else:
                used[name], design = levels, wider
        rows.append(
            {
                "column": name,
                "used": name in used,
                "levels": levels.nunique() if name in used else 0,
                "known": float(traits[name].notna().mean()),
                "reason": reason,
            }
        )
    return pd.DataFrame(used, index=traits.index), pd.DataFrame(rows)


def _unfit(name: str, values: pd.Series, back: np.ndarray, later: set[str]) -> str:
    """Why a column is no trait, from its name and from whom it is known of; empty where it may be one."""
    known = values.notna().to_numpy()
    if name in later or _LATER & set(re.split(r"[^a-z]+", name.lower())):
        return "it tells what customers did, or what was done, after they had come"
    if known.mean() < _LEAST_KNOWN:
        return f"it is known of fewer than {_LEAST_KNOWN:.0%} of customers"
    if values[known].astype(str).map(_HASH.fullmatch).notna().any():
        return "it is personal and hashed"
    if known.all() or not 0 < back.sum() < len(back):
        return ""
    shares = [known[back].mean(), known[~back].mean()]
    counts = np.array([[(group & known).sum(), (group & ~known).sum()] for group in (back, ~back)])
    if abs(shares[0] - shares[1]) > _KNOWN_LATER and stats.chi2_contingency(counts).pvalue < 0.001:
        return "of those who came back it is known more often or less often than of others, so it was learnt after they came"
    return ""


def _levels(values: pd.Series, least: int) -> pd.Series:
    """A level a customer: quarters of a quantity, small levels joined, missing values a level of their own."""
    known = values.dropna()
    if pd.api.types.infer_dtype(known) == "boolean":
        text = known.map({True: "yes", False: "no"})
    elif (numbers := pd.to_numeric(known, errors="coerce")).notna().all() and numbers.nunique() >= _QUANTITY_FROM:
        text = _quarters(numbers.astype(float))
    else:
        text = known.astype(str)
    levels = text.reindex(values.index).fillna(NOT_STATED).astype(str)
    sizes = levels.value_counts()
    sizes = sizes.sort_index().sort_values(ascending=False, kind="stable")
    small = (sizes < least) | (np.arange(len(sizes)) >= _MOST_LEVELS)
    if small.any() and sizes[small].sum() < least:
        small[sizes[~small].index[-1:]] = True
    return levels.where(~levels.map(small).astype(bool), OTHERS)


def _quarters(numbers: pd.Series) -> pd.Series:
    """Quarters named by where they are cut: the smallest and the largest value belong to somebody."""
    edges = np.unique(np.quantile(numbers, [0.25, 0.5, 0.75], method="inverted_cdf"))
    between = [f"over {a:g}, up to {b:g}" for a, b in pairwise(edges)]
    names = np.array([f"up to {edges[0]:g}", *between, f"over {edges[-1]:g}"])
    return pd.Series(names[np.searchsorted(edges, numbers, side="left")], index=numbers.index)


def _unfit_levels(levels: pd.Series, back: np.ndarray, least: int) -> str:
    sizes = levels.value_counts()
    if len(sizes) < 2:
        return "all are alike" if OTHERS not in sizes.index else f"no {least} customers share a value"
    if sizes.get(OTHERS, 0) > len(levels) / 2:
        return "most of its values are rare"
    if levels[back].value_counts().reindex(sizes.index, fill_value=0).min() < _LEAST_BACK:
        return "hardly anybody of one of its groups came back"
    return ""


def _reference(levels: pd.Series) -> str:
    """The level that others are compared with: the largest that says something, the first of equals."""
    sizes = levels.value_counts().sort_index()
    named = sizes.drop([NOT_STATED, OTHERS], errors="ignore")
    return str((named if len(named) else sizes).idxmax())


def _dummies(levels: pd.DataFrame) -> pd.DataFrame:
    """A 0/1 column a level that is no reference, named (trait, level)."""
    columns = {
        (name, level): (levels[name] == level).astype(float)
        for name in levels
        for level in sorted(levels[name].unique())
        if level != _reference(levels[name])
    }
    return pd.DataFrame(columns, index=levels.index)


# -- fits ---------------------------------------------------------------------------------------------------------------


def _fitted(
    model: type[CovariateModel], frame: pd.DataFrame, dummies: pd.DataFrame, sides: tuple[str, ...] = _SIDES
) -> CovariateResults | None:
    """A usable fit with the traits in both sides, else in the rate alone; None without one."""
    design = _named(dummies)
    for given in dict.fromkeys((sides, _SIDES[:1])):
        try:
            found = model(*in_weeks(frame), **dict.fromkeys(given, design)).fit()
        except ValueError:  # the data cannot carry the model, or the groups are not all there
            return None
        if found.verdict.usable:
            return found
    return None


def _named(dummies: pd.DataFrame) -> pd.DataFrame:
    return dummies.set_axis([f"{trait}: {level}" for trait, level in dummies.columns], axis=1)


def _compared(found: CovariateResults) -> pd.DataFrame:
    plain = found.model.plain.fit()
    df = len(found.params) - len(plain.params)
    statistic = 2.0 * (found.llf - plain.llf)
    rows = [
        {
            "model": plain.name,
            "traits": words,
            "coefficients": len(fit.params) - len(plain.params),
            "log_likelihood": fit.llf,
            "aic": fit.aic,
            "bic": fit.bic,
        }
        for words, fit in (("no", plain), ("yes", found))
    ]
    rows[1] |= {"statistic": statistic, "df": df, "p_value": float(stats.chi2.sf(statistic, df))}
    return pd.DataFrame(rows)


def _robust_errors(found: CovariateResults) -> pd.Series:
    """Standard errors of the coefficients that hold where customers vary more, or less, than the model says.

    Source: White, H. (1982). Maximum likelihood estimation of misspecified models. Econometrica 50(1), 1–25, theorem 3.2.
    """
    plain = len(found.model.base.parameter_names)
    params, cells = found.params.to_numpy(), found.model.cells
    slopes = np.where(np.arange(len(params)) < plain, params, 1.0)
    scores = found.model.loglike_cells(params, cells)[1] * slopes[:, None]
    covariance = found.log_cov @ ((scores * cells.count) @ scores.T) @ found.log_cov
    return pd.Series(np.sqrt(np.diag(covariance)), index=found.params.index)[plain:]


def _ratios(found: CovariateResults, levels: pd.DataFrame, sides: tuple[str, ...]) -> pd.DataFrame:
    errors = _robust_errors(found)
    shown = [name for name in errors.index if name.partition(": ")[0] in sides]
    z = found.params[shown] / errors[shown]
    p_values = pd.Series(adjust_p_values(2.0 * stats.norm.sf(z.abs())), index=shown)
    half = stats.norm.ppf(1.0 - LEVEL / 2.0) * errors
    rows = []
    for trait in levels:
        sizes, reference = levels[trait].value_counts(), _reference(levels[trait])
        for level in [reference, *sorted(set(sizes.index) - {reference})]:
            row = {"trait": trait, "level": level, "reference": level == reference, "customers": int(sizes[level])}
            for side in _SIDES:
                name = f"{side}: {trait}: {level}"
                if name in p_values.index:
                    ends = found.params[name] + np.array([0.0, -half[name], half[name]])
                    values = (*np.exp(ends), p_values[name])
                else:
                    values = (1.0 if level == reference and side in sides else np.nan, np.nan, np.nan, np.nan)
                row |= dict(zip([side, f"{side}_low", f"{side}_high", f"{side}_p"], values, strict=True))
            rows.append(row)
    return pd.DataFrame(rows)


def _is_regular(holdout: Holdout | None, name: str) -> bool:
    fits = {} if holdout is None else holdout.models.purchases
    timed, plain = fits.get(MBGCNBDk.name), fits.get(name)
    return bool(timed is not None and plain is not None and timed.model.k > 1 and timed.aic < plain.aic)


# -- the holdout --------------------------------------------------------------------------------------------------------


def _gains(
    model: type[CovariateModel],
    holdout: Holdout | None,
    customer_id: pd.Series,
    dummies: pd.DataFrame,
    sides: tuple[str, ...],
    least: int,
) -> tuple[Estimate, Estimate, float]:
    """Typical error in the holdout with traits less without, less the best forecast's, and the error without."""

    def none(reason: str) -> tuple[Estimate, Estimate, float]:
        missing = Estimate(float("nan"), reason=reason)
        return missing, missing, float("nan")

    if holdout is None:
        return none("no weeks could be held out")
    name = model.base.name
    if name not in holdout.models.purchases:
        return none(f"{name} could not be fitted before the held-out weeks")
    rows = pd.Series(np.arange(len(customer_id)), index=customer_id.to_numpy())
    known = holdout.frame["customer_id"].isin(rows.index).to_numpy()
    split = holdout.frame[known]
    seen = dummies.iloc[rows[split["customer_id"]].to_numpy()]
    # a group that had hardly come by then is taken to be like the reference
    seen = seen.loc[:, seen.sum() >= least]
    fit = _fitted(model, split, seen, sides) if seen.shape[1] else None
    if fit is None:
        return none(f"{name} could not be fitted with traits before the held-out weeks")
    design, actual = _named(seen), split["holdout_frequency"].to_numpy(float)
    errors = fit.expected_purchases(holdout.weeks, *in_weeks(split), rate=design, dropout=design) - actual
    before, best = (holdout.forecast(forecast)[known] - actual for forecast in (name, holdout.best))
    return paired_gain(errors, before), paired_gain(errors, best), float(np.sqrt(np.mean(before**2)))


def paired_gain(errors: Array, other: Array) -> Estimate:
    """Root mean squared error of a forecast less that of another one for the same customers, with its 95 % interval.

    Parameters
    ----------
    errors, other : arrays of shape (customers,)

    Notes
    -----
    By the delta method: the influence of a customer on √(mean e²) is (e² − mean e²) / (2 √(mean e²)).
    """
    sizes, influence = [], np.zeros(len(errors))
    for sign, e in ((1.0, errors), (-1.0, other)):
        sizes.append(float(np.sqrt(np.mean(e**2))))
        influence += sign * (e**2 - sizes[-1] ** 2) / (2.0 * sizes[-1]) if sizes[-1] > 0 else 0.0
    half = float(stats.norm.ppf(1 - LEVEL / 2) * np.std(influence) / np.sqrt(len(errors)))
    value = sizes[0] - sizes[1]
    return Estimate(value, value - half, value + half)


# -- words --------------------------------------------------------------------------------------------------------------


def covariate_facts(found: CovariateEffects) -> dict[str, Any]:
    """The facts of the sentences about traits.

    Returns
    -------
    dict
        `model`; `traits` (names, joined), `used`, `candidates` (counts of columns); `set_aside` ("columns: reason; …");
        `compared` (ratios told), `clear` (those beyond chance, all together); for the side "rate" and "dropout" the clearest
        ratio: `rate` (the ratio; None where none is clear), `rate_low`, `rate_high`, `rate_trait`, `rate_level`,
        `rate_reference`; `aic_gain` (AIC without less with; above 0 speaks for traits), `lr_p`; `tested`, `untested` (why
        not), `weeks`, `gain`, `gain_low`, `gain_high` (typical error with less without), `gain_share` (share of the error
        that they save), `error` (without), `helps`, `recommended`, `best` (the forecast that won the holdout); `truncated`,
        `regular`, `leaving` (whether ratios of leaving are told), `fitted` (customers), `sampled`, `total`.
    """
    fits = found.fits[found.fits["model"] == found.model].set_index("traits")
    told = found.effects[~found.effects["reference"]]
    p_values = told[[f"{side}_p" for side in _SIDES]].to_numpy(float)
    facts: dict[str, Any] = {
        "model": found.model,
        "traits": ", ".join(words_of(c) for c in found.columns.loc[found.columns["used"], "column"]),
        "used": int(found.columns["used"].sum()),
        "candidates": len(found.columns),
        "set_aside": set_aside(found.columns),
        "compared": int(np.isfinite(p_values).sum()),
        "clear": int((p_values < LEVEL).sum()),
        "aic_gain": float(fits.loc["no", "aic"] - fits.loc["yes", "aic"]),
        "lr_p": float(fits.loc["yes", "p_value"]),
        "tested": bool(np.isfinite(found.gain.value)),
        "untested": found.gain.reason or "",
        "weeks": found.weeks,
        "gain": found.gain.value,
        "gain_low": found.gain.low,
        "gain_high": found.gain.high,
        "gain_share": -found.gain.value / found.error if found.error > 0 else None,
        "error": found.error,
        "helps": found.helps,
        "recommended": found.recommended,
        "best": FORECAST_WORDS.get(found.best, found.best),
        "truncated": found.truncated,
        "regular": found.regular,
        "leaving": "dropout" in found.sides,
        "fitted": found.customers,
        "sampled": found.customers < found.of,
        "total": found.of,
    }
    for side in _SIDES:
        clear = clearest(found.effects, side)
        facts |= {
            side: None if clear is None else float(clear[side]),
            f"{side}_low": None if clear is None else float(clear[f"{side}_low"]),
            f"{side}_high": None if clear is None else float(clear[f"{side}_high"]),
            f"{side}_trait": "" if clear is None else words_of(clear["trait"]),
            f"{side}_level": "" if clear is None else clear["level"],
            f"{side}_reference": "" if clear is None else clear["against"],
        }
    return facts


def set_aside(columns: pd.DataFrame) -> str:
    """Columns that are not used, by reason: "columns: reason; …"; empty where all are."""
    unused = columns[~columns["used"]]
    return "; ".join(
        f"{', '.join(words_of(c) for c in part['column'])}: {reason}"
        for reason, part in unused.groupby("reason", sort=False)
    )


def words_of(column: str) -> str:
    """A column's name as words."""
    return column.replace("_", " ")


def clearest(effects: pd.DataFrame, side: str) -> pd.Series | None:
    """The row of the named level that differs most from its reference, of those beyond chance; `against` names that one."""
    told = effects[(effects[f"{side}_p"] < LEVEL) & ~effects["level"].isin([NOT_STATED, OTHERS])]
    if told.empty:
        return None
    row = told.loc[np.log(told[side]).abs().idxmax()]
    reference = effects[effects["reference"] & (effects["trait"] == row["trait"])]
    return pd.concat([row, pd.Series({"against": reference["level"].iloc[0]})])


def covariates_for_people(found: CovariateEffects, fmt: Formatter) -> pd.DataFrame:
    """A row a trait and level, ratios in words with their intervals; see `COVARIATE_COLUMNS`."""
    table = found.effects.assign(trait=found.effects["trait"].map(words_of))
    for side in _SIDES:
        table[f"{side}_words"] = [
            "compared with it"
            if reference
            else "not known"
            if np.isnan(value)
            else f"{fmt.number(value, 2)} ({fmt.interval(low, high, 'ratio')})"
            for reference, value, low, high in zip(
                table["reference"], *(table[f"{side}{end}"] for end in ("", "_low", "_high")), strict=True
            )
        ]
    return table[list(COVARIATE_COLUMNS)]
