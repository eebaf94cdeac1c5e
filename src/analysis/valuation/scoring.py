"""Scoring at scale: parameters are fitted once, on counts of equal customers, and every customer is scored in batches.

What is fitted travels as JSON, so that a batch can be scored wherever its rows are: in this process, Arrow batch by
Arrow batch, or on the machines of a Spark cluster. A customer's row never waits for all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.valuation.purchases import PurchaseResults
from analysis.valuation.spend import GammaGammaResults

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

HISTORY = ("frequency", "recency", "T")
SCORES = pa.schema(
    [
        ("customer_id", pa.string()),
        ("probability_alive", pa.float64()),
        ("expected_purchases", pa.float64()),
        ("expected_spend", pa.float64()),
        ("residual_value", pa.float64()),
    ]
)
BATCH = 250_000


def equal_customers(summary: ibis.Table) -> pd.DataFrame:
    """How many customers have each purchase history: all that a purchase model needs to be fitted.

    Parameters
    ----------
    summary : ibis.Table
        One row a customer with `frequency`, `recency` and `T`, on any engine.

    Returns
    -------
    DataFrame
        `frequency`, `recency`, `T` and `customers`, sorted; for ``Model(frequency, recency, T, weights=customers)``.
    """
    counted = summary.group_by(list(HISTORY)).aggregate(customers=summary.count())
    return counted.to_pyarrow().to_pandas().sort_values(list(HISTORY), ignore_index=True)


def score_frame(
    frame: pd.DataFrame,
    purchases: PurchaseResults,
    spend: GammaGammaResults | None,
    horizon: float,
    discount: float = 0.0,
    margin: float = 1.0,
) -> pd.DataFrame:
    """Score the customers of one batch.

    Parameters
    ----------
    frame : DataFrame
        `customer_id`, `frequency`, `recency`, `T` (in the unit of time of `purchases`) and `monetary_value`.
    purchases : PurchaseResults
    spend : GammaGammaResults or None
        None leaves `expected_spend` and `residual_value` missing.
    horizon : float
        In the unit of time of `purchases`.
    discount : float
        Continuous rate per unit of time.
    margin : float
        Margin as a share of sales.

    Returns
    -------
    DataFrame
        The columns of :data:`SCORES`: `expected_purchases` within the horizon are not discounted, `residual_value` is.
    """
    history = [frame[name].to_numpy(float) for name in HISTORY]
    bought = purchases.expected_purchases(horizon, *history)
    discounted = purchases.expected_purchases(horizon, *history, discount=discount) if discount else bought
    each = np.full(len(frame), np.nan)
    if spend is not None:
        each = spend.expected_spend(history[0], frame["monetary_value"].to_numpy(float))
    return pd.DataFrame(
        {
            "customer_id": frame["customer_id"].astype("str"),
            "probability_alive": purchases.probability_alive(*history),
            "expected_purchases": bought,
            "expected_spend": each,
            "residual_value": discounted * each * margin,
        }
    )


def score_batches(
    batches: Iterable[pa.RecordBatch],
    purchases: PurchaseResults,
    spend: GammaGammaResults | None,
    horizon: float,
    discount: float = 0.0,
    margin: float = 1.0,
) -> Iterator[pa.RecordBatch]:
    """Score Arrow batches one after the other, each as :func:`score_frame` does; memory holds one of them at a time."""
    for batch in batches:
        if batch.num_rows:
            scored = score_frame(batch.to_pandas(), purchases, spend, horizon, discount, margin)
            yield pa.RecordBatch.from_pandas(scored, schema=SCORES, preserve_index=False)


def score_customers(
    summary: ibis.Table,
    purchases: PurchaseResults,
    spend: GammaGammaResults | None,
    horizon: float,
    discount: float = 0.0,
    margin: float = 1.0,
    batch: int = BATCH,
) -> pa.RecordBatchReader:
    """Score every customer of a table, in batches.

    Parameters
    ----------
    summary : ibis.Table
        On DuckDB, one row a customer, as in :func:`score_frame`; `recency` and `T` in the unit of time of `purchases`.
    batch : int
        Customers in memory at a time.

    Returns
    -------
    pyarrow.RecordBatchReader
        With :data:`SCORES` as schema; to be written to Parquet or read by DuckDB as it comes.
    """
    columns = summary.select("customer_id", *HISTORY, "monetary_value")
    # Ibis 12 calls a method for batches that DuckDB 2 no longer has.
    batches = summary.get_backend().con.sql(ibis.to_sql(columns, dialect="duckdb")).to_arrow_reader(batch)
    return pa.RecordBatchReader.from_batches(
        SCORES, score_batches(batches, purchases, spend, horizon, discount, margin)
    )


def score_on_spark(
    summary: DataFrame,
    purchases: PurchaseResults,
    spend: GammaGammaResults | None,
    horizon: float,
    discount: float = 0.0,
    margin: float = 1.0,
) -> DataFrame:
    """The same on Spark, where the rows are: by ``mapInPandas``, with the fits sent as JSON.

    The executors need this package. `summary` is a Spark data frame with the columns of :func:`score_frame`.
    """
    fitted = purchases.to_json("any")
    spent = None if spend is None else spend.to_json("any")

    def batches(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        bought = PurchaseResults.from_json(fitted)
        paid = None if spent is None else GammaGammaResults.from_json(spent)
        for frame in frames:
            yield score_frame(frame, bought, paid, horizon, discount, margin)

    schema = ", ".join(f"{field.name} {'string' if field.type == pa.string() else 'double'}" for field in SCORES)
    return summary.select("customer_id", *HISTORY, "monetary_value").mapInPandas(batches, schema)
