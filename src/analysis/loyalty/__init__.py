"""Satisfaction and loyalty: is the scale sound, what drives what, how well do we do.

>>> from analysis import loyalty
>>> specification = loyalty.ecsi(blocks)
>>> model = loyalty.PLSPathModel(answers, specification)
>>> results = model.fit()
>>> draws = results.bootstrap(5000, seed=1)
>>> loyalty.assess_blocks(results, draws)
>>> loyalty.loyalty_drivers(results, draws, scale=(1, 10))
"""

from .consistent import consistent_paths
from .drivers import loyalty_drivers
from .facts import (
    extremes,
    level_of,
    mapped_target,
    money_gap,
    stated,
    strongest_driver,
    ten_points,
    too_close,
    verdict_facts,
)
from .measurement import (
    USABLE,
    HaloCheck,
    Repair,
    Thresholds,
    assess_blocks,
    halo_check,
    htmt_pairs,
    repair_blocks,
    usable_constructs,
)
from .path_model import BootstrapResults, EstimationError, PLSPathModel, PLSResults, survey_weights
from .scores import (
    LOYALTY_PARTS,
    IndexPart,
    construct_scores,
    customer_loyalty,
    delivered_value,
    index_composition,
    index_level,
    item_weights,
    loyalty_index,
    nps_groups,
    performance,
)
from .specification import (
    Composite,
    Path,
    Specification,
    SpecificationError,
    composite,
    drives,
    ecsi,
    numbered,
    specify,
)

__all__ = [
    "LOYALTY_PARTS",
    "USABLE",
    "BootstrapResults",
    "Composite",
    "EstimationError",
    "HaloCheck",
    "IndexPart",
    "PLSPathModel",
    "PLSResults",
    "Path",
    "Repair",
    "Specification",
    "SpecificationError",
    "Thresholds",
    "assess_blocks",
    "composite",
    "consistent_paths",
    "construct_scores",
    "customer_loyalty",
    "delivered_value",
    "drives",
    "ecsi",
    "extremes",
    "halo_check",
    "htmt_pairs",
    "index_composition",
    "index_level",
    "item_weights",
    "level_of",
    "loyalty_drivers",
    "loyalty_index",
    "mapped_target",
    "money_gap",
    "nps_groups",
    "numbered",
    "performance",
    "repair_blocks",
    "specify",
    "stated",
    "strongest_driver",
    "survey_weights",
    "ten_points",
    "too_close",
    "usable_constructs",
    "verdict_facts",
]
