"""Satisfaction and loyalty: is the scale sound, what drives what, how well do we do.

>>> from analysis import loyalty
>>> specification = loyalty.ecsi(blocks)
>>> model = loyalty.PLSPathModel(answers, specification)
>>> results = model.fit()
>>> draws = results.bootstrap(5000, seed=1)
>>> loyalty.assess_blocks(results, draws)
>>> loyalty.loyalty_drivers(results, draws, scale=(1, 10))
"""

from .drivers import loyalty_drivers
from .measurement import (
    USABLE,
    HaloCheck,
    Repair,
    Thresholds,
    assess_blocks,
    halo_check,
    htmt_pairs,
    repair_blocks,
)
from .path_model import BootstrapResults, EstimationError, PLSPathModel, PLSResults
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
    "construct_scores",
    "customer_loyalty",
    "delivered_value",
    "drives",
    "ecsi",
    "halo_check",
    "htmt_pairs",
    "index_composition",
    "index_level",
    "item_weights",
    "loyalty_drivers",
    "loyalty_index",
    "nps_groups",
    "numbered",
    "performance",
    "repair_blocks",
    "specify",
]
