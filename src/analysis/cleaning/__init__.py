"""The cleaning room: raw text in, canonical tables and a list of every row set aside out."""

from analysis.cleaning.clean import Cleaned, ConservationError, assert_conserved, clean, examples
from analysis.cleaning.figures import days_covered, kept_and_set_aside, silence_title
from analysis.cleaning.quality import (
    COMPLETENESS_COLUMNS,
    LEDGER_COLUMNS,
    REASON_COLUMNS,
    assumptions,
    completeness,
    converted_from,
    day_profile,
    emptiest,
    lacking,
    main_table,
    observation_checks,
    silent_days,
)
from analysis.cleaning.rules import REASONS

__all__ = [
    "COMPLETENESS_COLUMNS",
    "LEDGER_COLUMNS",
    "REASONS",
    "REASON_COLUMNS",
    "Cleaned",
    "ConservationError",
    "assert_conserved",
    "assumptions",
    "clean",
    "completeness",
    "converted_from",
    "day_profile",
    "days_covered",
    "emptiest",
    "examples",
    "kept_and_set_aside",
    "lacking",
    "main_table",
    "observation_checks",
    "silence_title",
    "silent_days",
]
