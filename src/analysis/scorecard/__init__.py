"""The scorecard room: in a company whose truth is known, what was planted against what the notebooks found."""

from analysis.scorecard import figures
from analysis.scorecard.campaigns import (
    campaign_entries,
    effect_facts,
    effect_rows,
    profit_facts,
    profit_table,
    redemptions,
)
from analysis.scorecard.card import distances, entries, finding, join, tally, verdicts
from analysis.scorecard.cleaning import (
    cleaning_entries,
    fates,
    precision_table,
    recall_facts,
    recall_table,
    sales_facts,
    sales_table,
)
from analysis.scorecard.facts import answer_facts, dirt_last, for_people, missed
from analysis.scorecard.link import daily_discount, link_truth, raised_money, score_limit, score_shares
from analysis.scorecard.loyalty import (
    Limit,
    limit,
    loyalty_entries,
    path_facts,
    path_rows,
    plan_of,
    repaired,
    response_facts,
)
from analysis.scorecard.segments import kind_facts, segment_entries, stage_table, tier_facts
from analysis.scorecard.targeting import (
    TrueGains,
    list_entry,
    list_facts,
    list_for_people,
    list_table,
    ranking_table,
    score_list,
    true_gains,
)
from analysis.scorecard.value import alive_table, parameter_table, people_of, value_entries, value_facts
from analysis.scorecard.words import Words

__all__ = [
    "Limit",
    "TrueGains",
    "Words",
    "alive_table",
    "answer_facts",
    "campaign_entries",
    "cleaning_entries",
    "daily_discount",
    "dirt_last",
    "distances",
    "effect_facts",
    "effect_rows",
    "entries",
    "fates",
    "figures",
    "finding",
    "for_people",
    "join",
    "kind_facts",
    "limit",
    "link_truth",
    "list_entry",
    "list_facts",
    "list_for_people",
    "list_table",
    "loyalty_entries",
    "missed",
    "parameter_table",
    "path_facts",
    "path_rows",
    "people_of",
    "plan_of",
    "precision_table",
    "profit_facts",
    "profit_table",
    "raised_money",
    "ranking_table",
    "recall_facts",
    "recall_table",
    "redemptions",
    "repaired",
    "response_facts",
    "sales_facts",
    "sales_table",
    "score_limit",
    "score_list",
    "score_shares",
    "segment_entries",
    "stage_table",
    "tally",
    "tier_facts",
    "true_gains",
    "value_entries",
    "value_facts",
    "verdicts",
]
