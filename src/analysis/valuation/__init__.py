"""The valuation room: what each customer is worth, so far and from here on, and how sure we are."""

from analysis.valuation import figures
from analysis.valuation.bg_nbd import BGNBD, BGNBDResults
from analysis.valuation.concentration import Concentration, Estimate, concentration, gini, lorenz
from analysis.valuation.holdout import Holdout, by_frequency, evaluate_holdout
from analysis.valuation.lifetime import CustomerValue, customer_value, value_groups, weekly_discount
from analysis.valuation.models import FittedModels, fit_models
from analysis.valuation.parameters import Parameters
from analysis.valuation.pareto_nbd import ParetoNBD, ParetoNBDResults
from analysis.valuation.purchases import (
    ModelNotFitted,
    PurchaseModel,
    PurchaseResults,
    Verdict,
    expected_cumulative,
)
from analysis.valuation.rfm import add_rfm_scores, edges_table, empty_scores, rfm_edges, rfm_grid, score
from analysis.valuation.spend import GammaGamma, GammaGammaResults
from analysis.valuation.summary import (
    calibration_holdout,
    customer_summary,
    purchase_days,
    recent_activity,
    without_purchase,
)

__all__ = [
    "BGNBD",
    "BGNBDResults",
    "Concentration",
    "CustomerValue",
    "Estimate",
    "FittedModels",
    "GammaGamma",
    "GammaGammaResults",
    "Holdout",
    "ModelNotFitted",
    "Parameters",
    "ParetoNBD",
    "ParetoNBDResults",
    "PurchaseModel",
    "PurchaseResults",
    "Verdict",
    "add_rfm_scores",
    "by_frequency",
    "calibration_holdout",
    "concentration",
    "customer_summary",
    "customer_value",
    "edges_table",
    "empty_scores",
    "evaluate_holdout",
    "expected_cumulative",
    "figures",
    "fit_models",
    "gini",
    "lorenz",
    "purchase_days",
    "recent_activity",
    "rfm_edges",
    "rfm_grid",
    "score",
    "value_groups",
    "weekly_discount",
    "without_purchase",
]
