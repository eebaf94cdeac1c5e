"""The set of purchase models, fitted side by side, with a reason for each that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.valuation.bg_cnbd_k import MBGCNBDk
from analysis.valuation.bg_nbd import BGNBD
from analysis.valuation.mbg_nbd import MBGNBD
from analysis.valuation.nbd import NBD
from analysis.valuation.pareto_nbd import ParetoNBD
from analysis.valuation.purchases import ModelNotFitted, PurchaseModel, PurchaseResults, Verdict
from analysis.valuation.spend import GammaGamma, GammaGammaResults
from analysis.valuation.summary import DAYS_PER_WEEK

# Those whose probability of being alive says something of customers who bought once come first.
PURCHASE_MODELS: tuple[type[PurchaseModel], ...] = (ParetoNBD, MBGNBD, BGNBD, NBD)


@dataclass(frozen=True)
class FittedModels:
    """Every purchase model and the spend model on one base, times in weeks.

    Attributes
    ----------
    purchases : dict of PurchaseResults
        The usable fits, by model name.
    spend : GammaGammaResults or None
    verdicts : dict of Verdict
        By model name, the spend model included.
    weak_fits : dict of PurchaseResults
        Fits whose verdict forbids their use, kept for the table of parameters only.
    spend_correlation : float or None
        Spearman correlation of frequency and mean spend over customers with a repeat purchase: the spend model
        takes it to be zero.
    repeaters : int
        Customers behind that correlation.
    spend_left_out : int
        Customers with repeat purchases that the spend model could not use.
    """

    purchases: dict[str, PurchaseResults]
    spend: GammaGammaResults | None
    verdicts: dict[str, Verdict]
    weak_fits: dict[str, PurchaseResults]
    spend_correlation: float | None
    repeaters: int
    spend_left_out: int

    @property
    def parameters(self) -> pd.DataFrame:
        """One row a model and parameter: `model`, `parameter`, `estimate`, `std_err`, `low`, `high`."""
        frames = [r.summary().assign(model=name) for name, r in self.purchases.items()]
        if self.spend is not None:
            frames.append(self.spend.summary().assign(model=GammaGamma.name))
        columns = ["model", "parameter", "estimate", "std_err", "low", "high"]
        return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)

    @property
    def comparison(self) -> pd.DataFrame:
        """One row a model: `model`, `log_likelihood`, `aic`, `customers`, `usable`, `verdict`."""
        rows = []
        for name, verdict in self.verdicts.items():
            fit = self.purchases.get(name) or self.weak_fits.get(name)
            spend = self.spend if name == GammaGamma.name else None
            found = fit or spend
            rows.append(
                {
                    "model": name,
                    "log_likelihood": found.llf if found else np.nan,
                    "aic": found.aic if found else np.nan,
                    "customers": found.nobs if found else 0,
                    "usable": verdict.usable,
                    "verdict": f"no: {verdict.reason}" if verdict.reason else "yes",
                }
            )
        return pd.DataFrame(rows)


def fit_models(summary: pd.DataFrame) -> FittedModels:
    """Fit the purchase models and gamma-gamma; a model that the data cannot carry becomes a verdict, not an error.

    Parameters
    ----------
    summary : DataFrame
        `frequency`, `recency`, `T` (days) and `monetary_value`, one row a customer; with `litt` (see
        :func:`analysis.valuation.purchase_timing`) MBG/CNBD-k is fitted too, for customers who buy at regular times; at k = 1
        it is MBG/NBD, and not used beside it.
    """
    usable: dict[str, PurchaseResults] = {}
    unusable: dict[str, PurchaseResults] = {}
    verdicts: dict[str, Verdict] = {}
    recency, age = summary["recency"] / DAYS_PER_WEEK, summary["T"] / DAYS_PER_WEEK
    frequency = summary["frequency"]
    makers = {model.name: partial(model, frequency, recency, age) for model in PURCHASE_MODELS}
    if "litt" in summary:
        weeks = summary["litt"] - frequency * np.log(DAYS_PER_WEEK)
        makers[MBGCNBDk.name] = partial(MBGCNBDk, frequency, recency, age, litt=weeks)
    for name, make in makers.items():
        try:
            results = make().fit()
        except ModelNotFitted as error:
            verdicts[name] = Verdict("not fitted", str(error).partition(": ")[2])
            continue
        verdicts[name] = results.verdict
        if name == MBGCNBDk.name and results.model.k == 1:
            verdicts[name] = Verdict("boundary", f"purchases come at no regular times (k is 1), so it is {MBGNBD.name}")
        (usable if verdicts[name].usable else unusable)[name] = results
    spend_model = GammaGamma(summary["frequency"], summary["monetary_value"])
    try:
        spend = spend_model.fit()
        verdicts[GammaGamma.name] = spend.verdict
    except ModelNotFitted as error:
        spend = None
        verdicts[GammaGamma.name] = Verdict("not fitted", str(error).partition(": ")[2])
    repeaters = summary[(summary["frequency"] > 0) & (summary["monetary_value"] > 0)]
    varied = len(repeaters) > 2 and repeaters["frequency"].nunique() > 1 and repeaters["monetary_value"].nunique() > 1
    return FittedModels(
        purchases=usable,
        spend=spend if spend is not None and spend.verdict.usable else None,
        verdicts=verdicts,
        weak_fits=unusable,
        spend_correlation=float(repeaters["frequency"].corr(repeaters["monetary_value"], method="spearman"))
        if varied
        else None,
        repeaters=len(repeaters),
        spend_left_out=int(((summary["frequency"] > 0) & ~(summary["monetary_value"] > 0)).sum()),
    )
