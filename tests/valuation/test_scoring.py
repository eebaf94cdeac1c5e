"""Every customer gets the same score however the rows are cut into batches, and wherever they are."""

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.engine import Spark
from analysis.study import EngineSettings
from analysis.valuation import (
    BGNBD,
    GammaGamma,
    ParetoNBD,
    equal_customers,
    score_customers,
    score_frame,
    score_on_spark,
)


def made(customers=3000, seed=1):
    rng = np.random.default_rng(seed)
    age = rng.integers(20, 78, customers).astype(float)
    rate = rng.gamma(0.55, 1 / 10.6, customers)
    stay = np.minimum(rng.exponential(1.0, customers) / rng.gamma(0.61, 1 / 11.7, customers), age)
    frequency = rng.poisson(rate * stay).astype(float)
    recency = np.where(frequency > 0, np.maximum(np.ceil(stay * rng.random(customers)), 1.0), 0.0)
    value = np.where(frequency > 0, rng.gamma(6.2, 1.0, customers) * 15.4 / rng.gamma(3.7, 1.0, customers), 0.0)
    ids = [f"c{i:05}" for i in range(customers)]
    return pd.DataFrame(
        {"customer_id": ids, "frequency": frequency, "recency": recency, "T": age, "monetary_value": value}
    )


@pytest.fixture(scope="module")
def summary():
    return made()


@pytest.fixture(scope="module")
def fits(summary):
    purchases = ParetoNBD(summary["frequency"], summary["recency"], summary["T"]).fit()
    spend = GammaGamma(summary["frequency"], summary["monetary_value"]).fit()
    assert purchases.verdict.usable and spend.verdict.usable
    return purchases, spend


def test_a_fit_on_counts_is_the_fit_on_customers(summary, fits):
    cells = equal_customers(ibis.memtable(summary))
    assert cells["customers"].sum() == len(summary) > len(cells)
    counted = ParetoNBD(cells["frequency"], cells["recency"], cells["T"], weights=cells["customers"]).fit()
    assert counted.llf == pytest.approx(fits[0].llf, abs=1e-6)
    assert counted.params.to_numpy() == pytest.approx(fits[0].params.to_numpy(), rel=1e-5)
    assert counted.bse.to_numpy() == pytest.approx(fits[0].bse.to_numpy(), rel=1e-3)


@pytest.mark.parametrize("batch", [1, 700, 10_000])
def test_batches_change_nothing(summary, fits, batch):
    few = summary.head(40) if batch == 1 else summary
    whole = score_frame(few, *fits, horizon=52, discount=0.002, margin=0.3)
    table = ibis.duckdb.connect().create_table("s", ibis.memtable(few))
    found = score_customers(table, *fits, horizon=52, discount=0.002, margin=0.3, batch=batch).read_all().to_pandas()
    found = found.sort_values("customer_id", ignore_index=True)
    pd.testing.assert_frame_equal(found, whole, rtol=1e-12, check_dtype=False)
    assert (found["residual_value"] < found["expected_purchases"] * found["expected_spend"] * 0.3).all()
    assert found["probability_alive"].between(0, 1).all()


def test_without_a_spend_model_money_is_missing_and_purchases_are_not(summary):
    purchases = BGNBD(summary["frequency"], summary["recency"], summary["T"]).fit()
    found = score_frame(summary, purchases, None, horizon=26)
    assert found["residual_value"].isna().all() and found["expected_purchases"].notna().all()


def test_nobody_gives_an_empty_table(fits):
    nobody = ibis.duckdb.connect().create_table("s", ibis.memtable(made(1))).filter(ibis.literal(False))
    assert score_customers(nobody, *fits, horizon=52).read_all().num_rows == 0


def test_spark_scores_the_same(summary, fits, spark, tmp_path):
    engine = Spark(EngineSettings.model_validate(spark), ibis.duckdb.connect(), tmp_path / "scratch")
    path = tmp_path / "summary.parquet"
    few = summary.head(500)
    pa.parquet.write_table(pa.Table.from_pandas(few, preserve_index=False), path)
    frame = engine.backend._session.read.parquet(str(path))
    found = score_on_spark(frame, *fits, horizon=52, discount=0.002, margin=0.3).toPandas()
    found = found.sort_values("customer_id", ignore_index=True)
    pd.testing.assert_frame_equal(
        found, score_frame(few, *fits, horizon=52, discount=0.002, margin=0.3), rtol=1e-12, check_dtype=False
    )
