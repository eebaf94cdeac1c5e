"""Readers that bring raw data in: files, folders of files, archives and databases become Parquet with every column as text.

Values are Unicode NFKC; ``row_number`` is the row that a person sees: in a file with a header line the header is
row 1, so the first data row is row 2, as in a spreadsheet; elsewhere rows are counted from 1.
"""

from analysis.sources.comments import check_alone
from analysis.sources.errors import SourceError
from analysis.sources.ingest import (
    RESERVED,
    RawTable,
    bring_in,
    fingerprint,
    needed,
    peek,
    prepare,
    sampled,
)
from analysis.sources.profile import ColumnProfile
from analysis.sources.pseudonyms import key_mark

__all__ = [
    "RESERVED",
    "ColumnProfile",
    "RawTable",
    "SourceError",
    "bring_in",
    "check_alone",
    "fingerprint",
    "key_mark",
    "needed",
    "peek",
    "prepare",
    "sampled",
]
