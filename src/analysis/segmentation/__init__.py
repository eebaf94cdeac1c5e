"""Which kinds of customers there are, where in their life with us, and how to treat each."""

from analysis.segmentation.clusters import (
    BehaviourScaler,
    CustomerSegmenter,
    Segments,
    find_segments,
    profile,
    search_clusters,
    segment_stability,
)
from analysis.segmentation.features import behaviour_features, steady_shares
from analysis.segmentation.figures import (
    fading_facts,
    profile_figure,
    stability_figure,
    stages_figure,
    tiers_figure,
    top_row,
)
from analysis.segmentation.findings import (
    cell_finding,
    cluster_finding,
    customer_segment,
    cut_facts,
    falling_facts,
    marks,
    named,
    relationship_finding,
    relationship_table,
    segment_table,
    stage_definitions,
    stage_finding,
    tier_finding,
    tiers_by_stage,
)
from analysis.segmentation.life_stage import (
    StageRules,
    life_stages,
    purchase_habit,
    stage_inputs,
    stage_table,
)
from analysis.segmentation.privacy import hide_small, merge_small
from analysis.segmentation.relationship import RelationshipRule, relationship_levels
from analysis.segmentation.tiers import assign_tiers, share_held, tier_cuts, tier_table
from analysis.segmentation.words import Words

__all__ = [
    "BehaviourScaler",
    "CustomerSegmenter",
    "RelationshipRule",
    "Segments",
    "StageRules",
    "Words",
    "assign_tiers",
    "behaviour_features",
    "cell_finding",
    "cluster_finding",
    "customer_segment",
    "cut_facts",
    "fading_facts",
    "falling_facts",
    "find_segments",
    "hide_small",
    "life_stages",
    "marks",
    "merge_small",
    "named",
    "profile",
    "profile_figure",
    "purchase_habit",
    "relationship_finding",
    "relationship_levels",
    "relationship_table",
    "search_clusters",
    "segment_stability",
    "segment_table",
    "share_held",
    "stability_figure",
    "stage_definitions",
    "stage_finding",
    "stage_inputs",
    "stage_table",
    "stages_figure",
    "steady_shares",
    "tier_cuts",
    "tier_finding",
    "tier_table",
    "tiers_by_stage",
    "tiers_figure",
    "top_row",
]
