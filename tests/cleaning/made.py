"""Small tables and books made by hand for the tests of what is said about them."""

import datetime
from types import SimpleNamespace

import ibis
import pandas as pd
import pyarrow as pa

from analysis import engine
from analysis.cleaning import Words
from analysis.reporting.numbers import Formatter
from analysis.tables import CONTRACTS

CONNECTION = engine.connect()
WORDS = Words(Formatter("en", "EUR"))


def lines(rows: list[tuple], **columns: list) -> ibis.Table:
    """Order lines of (customer, day, net amount), one order a customer and day; ``columns`` come beside them."""
    frame = pd.DataFrame(rows, columns=["customer_id", "order_date", "net_amount"]).assign(**columns)
    frame["order_date"] = [datetime.date.fromisoformat(day) for day in frame.order_date]
    frame["order_id"] = frame.customer_id + "-" + frame.order_date.astype(str)
    frame["line_number"] = range(1, len(frame) + 1)
    frame["is_return"] = frame.net_amount < 0
    frame["quantity"] = [1 if amount >= 0 else -1 for amount in frame.net_amount]
    return table("order_lines", frame)


def table(name: str, frame: pd.DataFrame) -> ibis.Table:
    """A frame as a table of the engine, with the types of its contract."""
    made = ibis.memtable(pa.Table.from_pandas(frame, preserve_index=False))
    contract = CONTRACTS[name].columns
    made = made.mutate(**{c: made[c].cast(contract[c].dtype) for c in frame.columns if c in contract})
    return CONNECTION.create_table(ibis.util.gen_name(name), made, temp=True)


def books(**frames: list[tuple]) -> SimpleNamespace:
    """What cleaning says beside its tables; the frames that are not given are empty."""
    columns = {
        "ledger": "table source rows_in rows_kept rows_merged rows_set_aside rows_out amount_in amount_kept amount_set_aside",
        "reasons": "table reason severity sentence treatment rows amount",
        "columns": "table column source raw_column rows blank bad repaired",
        "periods": "table period column rows blank bad",
        "set_aside": "table period rows set_aside",
        "waterfall": "table step rows amount",
    }
    made = {name: pd.DataFrame(frames.get(name, []), columns=names.split()) for name, names in columns.items()}
    return SimpleNamespace(tables={}, **made)
