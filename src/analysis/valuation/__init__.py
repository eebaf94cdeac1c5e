"""The valuation room: what each customer is worth, so far and from here on, and how sure we are."""

from analysis.valuation import figures
from analysis.valuation.bg_nbd import BGNBD, BGNBDResults
from analysis.valuation.concentration import Concentration, Estimate, concentration, gini, lorenz
from analysis.valuation.facts import (
    EDGE_COLUMNS,
    MODEL_COLUMNS,
    PARAMETER_COLUMNS,
    SCORE_COLUMNS,
    assumed,
    base_facts,
    concentration_facts,
    edges_for_people,
    group_columns,
    holdout_facts,
    interval_width,
    margin_facts,
    model_facts,
    run_holdout,
    scores_for_people,
    value_facts,
)
from analysis.valuation.holdout import Holdout, by_frequency, evaluate_holdout
from analysis.valuation.lifetime import CustomerValue, customer_value, value_groups, weekly_discount
from analysis.valuation.models import FittedModels, fit_models
from analysis.valuation.nbd import NBD, NBDResults
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
    "EDGE_COLUMNS",
    "MODEL_COLUMNS",
    "NBD",
    "PARAMETER_COLUMNS",
    "SCORE_COLUMNS",
    "BGNBDResults",
    "Concentration",
    "CustomerValue",
    "Estimate",
    "FittedModels",
    "GammaGamma",
    "GammaGammaResults",
    "Holdout",
    "ModelNotFitted",
    "NBDResults",
    "Parameters",
    "ParetoNBD",
    "ParetoNBDResults",
    "PurchaseModel",
    "PurchaseResults",
    "Verdict",
    "add_rfm_scores",
    "assumed",
    "base_facts",
    "by_frequency",
    "calibration_holdout",
    "concentration",
    "concentration_facts",
    "customer_summary",
    "customer_value",
    "edges_for_people",
    "edges_table",
    "empty_scores",
    "evaluate_holdout",
    "expected_cumulative",
    "figures",
    "fit_models",
    "gini",
    "group_columns",
    "holdout_facts",
    "interval_width",
    "lorenz",
    "margin_facts",
    "model_facts",
    "purchase_days",
    "recent_activity",
    "rfm_edges",
    "rfm_grid",
    "run_holdout",
    "score",
    "scores_for_people",
    "value_facts",
    "value_groups",
    "weekly_discount",
    "without_purchase",
]
