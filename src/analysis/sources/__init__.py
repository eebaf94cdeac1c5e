"""Readers that bring raw data in: any file or database becomes Parquet with every column as text.

Values are Unicode NFKC; ``row_number`` is the row that a person sees: in a file with a header line the header is
row 1, so the first data row is row 2, as in a spreadsheet; elsewhere rows are counted from 1.
"""

from analysis.sources.ingest import RawTable, SourceError, bring_in, fingerprint, key_mark, needed, peek, prepare, read

__all__ = ["RawTable", "SourceError", "bring_in", "fingerprint", "key_mark", "needed", "peek", "prepare", "read"]
