"""The books of cleaning: every raw row and every cent is kept, merged or set aside, and for each the reason."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import pandas as pd

from analysis.cleaning.rules import BITS, REASONS, TREATMENTS, Severity
from analysis.errors import RapportError

ZERO = Decimal(0)
_MONEY = ("amount_in", "amount_kept", "amount_set_aside")


class ConservationError(RapportError):
    """Rows or money that went in and did not come out."""


def assert_conserved(ledger: pd.DataFrame, written: dict[str, int] | None = None) -> None:
    """Rows in = rows kept + rows set aside, and so for money, to the row and to the cent.

    Parameters
    ----------
    ledger : as in :class:`analysis.cleaning.Cleaned`.
    written : table -> rows that the finished file holds, where it is written.

    Raises
    ------
    ConservationError
        One line with the table and the difference.
    """
    for row in ledger.itertuples():
        lost = row.rows_in - row.rows_kept - row.rows_merged - row.rows_set_aside
        if lost:
            raise ConservationError(
                f"table {row.table}: {lost} rows of source {row.source} are neither kept nor set aside"
            )
        if written and row.table in written and written[row.table] != row.rows_out:
            raise ConservationError(
                f"table {row.table}: {row.rows_out} rows were made but {written[row.table]} written"
            )
        if row.amount_in is not None and row.amount_in != row.amount_kept + row.amount_set_aside:
            difference = row.amount_in - row.amount_kept - row.amount_set_aside
            raise ConservationError(
                f"table {row.table}: {difference} of source {row.source} is neither kept nor set aside"
            )


def codes_of(mask: int) -> list[str]:
    """The reasons whose bits are set, in their order."""
    return [code for code, bit in BITS.items() if mask & bit]


class Books:
    """Collects what happened to the rows of each table."""

    def __init__(self, severities: dict[str, Severity]) -> None:
        self.severities = severities
        self._ledger: list[dict] = []
        self._reasons: list[dict] = []
        self._waterfall: list[dict] = []

    def enter(
        self,
        table: str,
        source: str,
        rows_in: int,
        kept: int,
        aside: int,
        out: int,
        merged: int = 0,
        **amounts: Decimal,
    ) -> None:
        """One line of the ledger."""
        counts = {
            "rows_in": rows_in,
            "rows_kept": kept,
            "rows_merged": merged,
            "rows_set_aside": aside,
            "rows_out": out,
        }
        self._ledger.append({"table": table, "source": source, **counts, **dict.fromkeys(_MONEY), **amounts})

    def reasons(
        self, table: str, masks: Iterable[tuple[int, int, Decimal | None]], at_fault: dict[str, str], **values: int
    ) -> None:
        """Reasons and waterfall of a table.

        Parameters
        ----------
        masks : for each set of reasons: bits, rows, money (None where the table has none).
        at_fault : reason -> the columns it was found in. values : reason -> values put right at the door.
        """
        rows: dict[str, int] = dict(values)
        money: dict[str, Decimal | None] = {}
        first: dict[str, tuple[int, Decimal]] = {}
        total = [0, ZERO]
        has_money = False
        for mask, n, amount in [entry for entry in masks if entry[1]]:
            codes = codes_of(mask)
            has_money |= amount is not None
            for code in codes:
                rows[code] = rows.get(code, 0) + n
                if amount is not None:
                    money[code] = (money.get(code) or ZERO) + amount
            aside = [code for code in codes if self.severities[code] == "set_aside"]
            if aside:
                so_far = first.get(aside[0], (0, ZERO))
                first[aside[0]] = (so_far[0] + n, so_far[1] + (amount or ZERO))
            total[0] += n
            total[1] += amount or ZERO
        for code in [code for code in REASONS if rows.get(code)]:
            self._reason(table, code, rows[code], money.get(code), at_fault.get(code, ""))
        steps = [("raw", *total), *((code, -first[code][0], -first[code][1]) for code in REASONS if code in first)]
        steps.append(("clean", sum(n for _, n, _ in steps), sum((m for _, _, m in steps), ZERO)))
        self._waterfall += [
            {"table": table, "step": step, "rows": n, "amount": float(amount) if has_money else None}
            for step, n, amount in steps
        ]

    def _reason(self, table: str, code: str, rows: int, amount: Decimal | None, columns: str = "") -> None:
        reason, severity = REASONS[code], self.severities[code]
        sentence = f"{reason.sentence.rstrip('.')}: {columns}." if columns else reason.sentence
        self._reasons.append(
            {
                "table": table,
                "reason": code,
                "severity": severity,
                "sentence": sentence,
                "treatment": TREATMENTS[severity],
                "rows": rows,
                "amount": None if amount is None else float(amount),
            }
        )

    @property
    def ledger(self) -> pd.DataFrame:
        return pd.DataFrame(self._ledger).astype(dict.fromkeys(_MONEY, object))

    @property
    def found(self) -> pd.DataFrame:
        return pd.DataFrame(
            self._reasons, columns=["table", "reason", "severity", "sentence", "treatment", "rows", "amount"]
        )

    @property
    def waterfall(self) -> pd.DataFrame:
        return pd.DataFrame(self._waterfall, columns=["table", "step", "rows", "amount"])
