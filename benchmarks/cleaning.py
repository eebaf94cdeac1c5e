"""What cleaning order lines costs, beside the same work by hand: SQL in DuckDB, pandas, and reading the files alone.

    python benchmarks/cleaning.py [LINES ...]        (default 1000000 10000000; SIZE=full adds 100000000)

Each way runs in a process of its own on the same CSV files; CPU and wall seconds are counted from when it has imported what
it needs. A peer runs up to the largest size that it finishes in two minutes. Prints for each case and peer

    RATIO cleaning-<size> <peer> <CPU seconds of the peer / ours>

and ``DIFFERS cleaning-<size> <peer> …`` where a peer's tables are not ours, row for row and in the same order, or its reasons
count differently. The table goes to the terminal and to ``benchmarks/results/cleaning.md``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import measure

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "cleaning.md"
PLACE = ROOT / "build" / "bench"
SIZES = (1_000_000, 10_000_000)
FULL = 100_000_000
MEMORY = "6.5GB"  # what DuckDB may hold at the largest size, so that the process stays under 8 GiB
LIMIT = 120.0  # seconds of wall time that a peer may take
PRODUCTS = 5_000
STUDY = "bench"
COLUMNS = {
    "order_id": "order_no", "line_number": "line_no", "customer_id": "customer_no", "ordered_at": "ordered_at",
    "product_id": "sku", "quantity": "qty", "unit_price": "unit_price", "discount": "discount", "net_amount": "amount",
    "cost": "cost", "channel": "channel", "store_id": "store",
}  # fmt: skip

# -- the files ---------------------------------------------------------------------------------------------------------

# A share of the lines in ten thousand, and what is wrong with them.
_DIRT = {
    "repeated": 10, "nobody": 10, "no_date": 5, "two_readings": 5, "day_first": 10, "too_early": 3, "too_late": 3,
    "negative_price": 5, "mismatch": 10, "sign": 10, "thousands": 5, "comma": 10, "padded": 10, "return_up": 5,
    "given_away": 5, "nothing": 2, "no_number": 2, "other_product": 3,
}  # fmt: skip

_LINES = """
WITH numbered AS (
    SELECT CASE WHEN hash(i, 'dirt') % 10000 < {repeated} AND i > 1000 THEN i - 1000 ELSE i END AS i FROM range({lines}) t(i)
), drawn AS (
    SELECT i, i * 2 // 7 AS o, hash(i, 'dirt') % 10000 AS dirt, hash(i, 'sku') % {products} AS sku,
        hash(i, 'returned') % 50 = 0 AS back, hash(i, 'cut') % 10 = 0 AS cut
    FROM numbered
), kinds AS (
    SELECT *, CASE {kinds} END AS kind, hash(o, 'who') AS who,
        TIMESTAMP '2023-01-02 08:00:00' + INTERVAL 1 SECOND * (o * 62800000 // ({lines} * 2 // 7 + 1)) AS moment,
        1 + (hash(i, 'qty') % 5)::BIGINT AS pieces
    FROM drawn
), priced AS (
    SELECT *, CASE kind WHEN 'given_away' THEN 0 WHEN 'thousands' THEN 1234550 ELSE 100 + (sku * 37 % 4900)::BIGINT END AS price,
        CASE WHEN kind = 'given_away' OR NOT cut THEN 0 ELSE 50 END AS off,
        CASE WHEN back OR kind = 'return_up' THEN -1 ELSE 1 END AS sign
    FROM kinds
), texts AS (
    SELECT *, (price / 100)::DECIMAL(18, 2)::VARCHAR AS price_text, (off / 100)::DECIMAL(18, 2)::VARCHAR AS off_text,
        (sign * (pieces * price - off + CASE kind WHEN 'mismatch' THEN 777 ELSE 0 END) / 100)::DECIMAL(18, 2)::VARCHAR
            AS amount_text
    FROM priced
)
SELECT 'B' || lpad(o::VARCHAR, 9, '0') AS order_no,
    i - (o * 7 + 1) // 2 + 1 AS line_no,
    CASE kind WHEN 'nobody' THEN NULL WHEN 'padded' THEN ' ' ELSE '' END || 'C'
        || lpad((who % ({lines} // 25 + 1))::VARCHAR, 8, '0') || CASE kind WHEN 'padded' THEN ' ' ELSE '' END AS customer_no,
    CASE kind
        WHEN 'no_date' THEN 'yesterday'
        WHEN 'two_readings' THEN '03/04/2023'
        WHEN 'day_first' THEN '2' || (i % 9)::VARCHAR || strftime(moment, '/%m/%Y %H:%M')
        WHEN 'too_early' THEN '2019-05-06 10:00:00'
        WHEN 'too_late' THEN '2026-05-06 10:00:00'
        ELSE strftime(moment, '%Y-%m-%d %H:%M:%S') END AS ordered_at,
    CASE kind WHEN 'other_product' THEN 'X1' ELSE 'P' || lpad(sku::VARCHAR, 6, '0') END AS sku,
    CASE WHEN kind = 'nothing' THEN 0 WHEN kind = 'return_up' THEN pieces ELSE sign * pieces END AS qty,
    CASE kind WHEN 'negative_price' THEN '-' || price_text WHEN 'sign' THEN '¥' || price_text
        WHEN 'thousands' THEN '12,345.50' WHEN 'comma' THEN replace(price_text, '.', ',') WHEN 'no_number' THEN 'n/a'
        ELSE price_text END AS unit_price,
    off_text AS discount, amount_text AS amount, (price * pieces * 7 // 1000 / 10)::DECIMAL(18, 2) AS cost,
    CASE hash(o, 'way') % 3 WHEN 0 THEN 'web' WHEN 1 THEN 'shop' ELSE 'app' END AS channel,
    'S' || lpad((hash(o, 'store') % 200)::VARCHAR, 3, '0') AS store
FROM texts
"""

_PRODUCTS = """
SELECT 'P' || lpad(i::VARCHAR, 6, '0') AS sku, 'Article ' || i AS name, 'D' || i % 20 AS department FROM range({products}) t(i)
"""


def make(lines: int, folder: Path) -> None:
    """Write the CSV files of a shop with about ``lines`` order lines: the same bytes for the same number."""
    import duckdb

    least, kinds = 0, []
    for kind, share in _DIRT.items():
        # A repeated line copies another, whose own number says what is wrong with it.
        kinds += [f"WHEN dirt >= {least} AND dirt < {least + share} THEN '{kind}'"] if kind != "repeated" else []
        least += share
    sql = {
        "orders": _LINES.format(lines=lines, products=PRODUCTS, kinds=" ".join(kinds) + " ELSE ''", **_DIRT),
        "products": _PRODUCTS.format(products=PRODUCTS),
    }
    for name, query in sql.items():
        duckdb.sql(f"COPY ({query}) TO '{folder / name}.partial' (FORMAT csv, HEADER)")
        (folder / f"{name}.partial").rename(folder / f"{name}.csv")


# -- ours --------------------------------------------------------------------------------------------------------------

_STUDY = f"""
title: A shop
about: Order lines made for a benchmark.
locale: en
currency: CNY
timezone: Asia/Shanghai
clock: {{observed_from: 2023-01-01, observed_to: 2024-12-31, entry: first_purchase}}
money: {{margin: 0.3, discount_rate: 0.1}}
sources:
  orders: {{file: orders.csv}}
  products: {{file: products.csv}}
tables:
  order_lines:
    source: orders
    columns: {{{", ".join(f"{ours}: {theirs}" for ours, theirs in COLUMNS.items())}}}
  products:
    source: products
    columns: {{product_id: sku, name: name}}
    attributes: {{department: department}}
"""


def settle(home: Path, files: Path) -> dict[str, str]:
    """A study on ``files`` under ``home``, as environment for the package."""
    places = {part: home / part for part in ("studies", "data", "reports", "build")}
    (places["studies"] / STUDY).mkdir(parents=True)
    (places["studies"] / STUDY / "study.yaml").write_text(_STUDY, encoding="utf-8")
    raw = places["data"] / "raw" / STUDY
    raw.mkdir(parents=True)
    for file in files.glob("*.csv"):
        (raw / file.name).symlink_to(file)
    return {f"RAPPORT_{part.upper()}": str(place) for part, place in places.items()}


def ours(files: Path, result: Path) -> None:
    """As the first notebook does it; into ``result`` the finished tables."""
    import analysis
    from analysis import cleaning, paths, sources

    step = analysis.open_step("01_data_cleaning", study=STUDY)
    clock = _Clock()
    for name in step.study.sources:
        sources.bring_in(step.study, name)
    clock.part("bring_in")
    cleaned = cleaning.clean(step.study, step.connection)
    clock.part("clean")
    for name, table in cleaned.tables.items():
        step.write(name, table)
    step.write("quarantine", cleaned.quarantine)
    cleaning.assert_conserved(cleaned.ledger, step.written)
    clock.part("write")
    lines = cleaned.reasons[cleaned.reasons.table == "order_lines"]
    clock.report(dict(zip(lines.reason, map(int, lines.rows), strict=True)))
    for table in (paths.processed(STUDY) / step.spec.name).glob(".staging-*/tables/*.parquet"):
        table.rename(result / table.name)


class _Clock:
    """Seconds of this process since it had imported what it needs: of CPU, also in parts, and on the wall."""

    def __init__(self) -> None:
        self.began = self.last = time.process_time()
        self.started = time.monotonic()
        self.parts: dict[str, float] = {}

    def part(self, name: str) -> None:
        now = time.process_time()
        self.parts[name], self.last = now - self.last, now

    def report(self, reasons: dict[str, int] | None = None) -> None:
        """Say what it took up to now, and how many rows have each reason."""
        cpu, wall = time.process_time() - self.began, time.monotonic() - self.started
        measure.report(cpu=cpu, wall=wall, parts=self.parts, reasons=reasons or {})


# -- the same by hand: SQL ---------------------------------------------------------------------------------------------

_TEXTS = ("order_no", "customer_no", "sku", "channel", "store")
_NUMBERS = {
    "qty": "quantity",
    "unit_price": "unit_price",
    "discount": "discount",
    "amount": "net_amount",
    "cost": "cost",
}
# Reason -> when it applies to a line that has been read; in the order in which they are named.
_ROW_REASONS = {
    "missing_customer_id": "customer_id IS NULL",
    "missing_value": "order_id IS NULL OR line_no IS NULL OR ordered_text IS NULL OR (quantity IS NULL AND qty_text IS NULL) "
    "OR (net_amount IS NULL AND amount_text IS NULL)",
    "ambiguous_date": "wall IS NULL AND ambiguous_day(ordered_text)",
    "ambiguous_number": "qty_form = 8 OR amount_form = 8",
    "unreadable_value": "(wall IS NULL AND ordered_text IS NOT NULL AND NOT ambiguous_day(ordered_text)) OR (line_number IS NULL "
    "AND line_no IS NOT NULL) OR (quantity IS NULL AND qty_text IS NOT NULL AND qty_form <> 8) OR (net_amount IS NULL "
    "AND amount_text IS NOT NULL AND amount_form <> 8)",
    "before_period": "order_date < DATE '2023-01-01'",
    "after_period": "order_date > DATE '2024-12-31'",
    "empty_line": "quantity = 0 AND net_amount = 0",
    "sign_conflict": "quantity < 0 AND net_amount > 0",
    "negative_price": "unit_price < 0 OR cost < 0",
    "amount_mismatch": "quantity <> 0 AND abs(abs(quantity)::DOUBLE * abs(unit_price)::DOUBLE - coalesce(abs(discount), 0)::DOUBLE "
    "- abs(net_amount)::DOUBLE) > abs(quantity)::DOUBLE * 0.00005 + 0.0050001",
    "currency_sign": "forms & 1 <> 0",
    "thousands_separator": "forms & 2 <> 0",
    "decimal_sign": "forms & 4 <> 0",
    "date_form": "wall IS NOT NULL AND plain_wall IS NULL",
    "return_quantity": "quantity > 0 AND net_amount < 0",
    "discount_sign": "discount < 0",
    "unreadable_optional": "(unit_price IS NULL AND unit_price_text IS NOT NULL) OR (discount IS NULL AND discount_text IS NOT "
    "NULL) OR (cost IS NULL AND cost_text IS NOT NULL)",
    "quantity_zero": "quantity = 0 AND net_amount <> 0",
    "zero_price": "quantity <> 0 AND net_amount = 0",
    "unknown_product": "product_id IS NOT NULL AND NOT product_known",
}
_ASIDE = (
    "missing_customer_id", "missing_value", "ambiguous_date", "ambiguous_number", "unreadable_value", "before_period",
    "after_period", "duplicate_key", "empty_line", "sign_conflict", "negative_price", "amount_mismatch",
)  # fmt: skip
_MACROS = r"""
CREATE MACRO tidied(t) AS CASE WHEN t LIKE ' %' OR t LIKE '% ' THEN nullif(trim(t), '') ELSE t END;
CREATE MACRO padded(t) AS coalesce(t LIKE ' %' OR t LIKE '% ', false)::BIGINT;
CREATE MACRO bare(t) AS trim(replace(replace(replace(replace(t, 'CN¥', ''), 'RMB', ''), '¥', ''), '元', ''));
CREATE MACRO shape(t) AS CASE
    WHEN regexp_full_match(t, '[+-]?[0-9]+(\.[0-9]*)?') THEN 0
    WHEN regexp_full_match(t, '[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]+|[+-]?[0-9]{1,3}(,[0-9]{3}){2,}') THEN 2
    WHEN regexp_full_match(t, '[+-]?(0,[0-9]+|[0-9]+,([0-9]{1,2}|[0-9]{4,})|[0-9]{4,},[0-9]{3})') THEN 4
    WHEN regexp_full_match(t, '[+-]?[1-9][0-9]{0,2},[0-9]{3}') THEN 8
    ELSE 16 END;
CREATE MACRO form(t) AS CASE shape(bare(t)) WHEN 16 THEN 16 WHEN 8 THEN 8
    ELSE shape(bare(t)) + CASE WHEN bare(t) <> t THEN 1 ELSE 0 END END;
CREATE MACRO mended(t) AS CASE shape(bare(t)) WHEN 0 THEN try_cast(bare(t) AS DECIMAL(18, 4))
    WHEN 2 THEN try_cast(replace(bare(t), ',', '') AS DECIMAL(18, 4))
    WHEN 4 THEN try_cast(replace(bare(t), ',', '.') AS DECIMAL(18, 4)) END;
CREATE MACRO day_part(t, n) AS nullif(regexp_extract(t, '^([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})( .*)?$', n), '')::BIGINT;
CREATE MACRO ambiguous_day(t) AS coalesce(day_part(t, 1) <= 12 AND day_part(t, 2) <= 12 AND day_part(t, 1) <> day_part(t, 2)
    AND NOT contains(t, '.'), false);
CREATE MACRO day_first(t) AS CASE WHEN ambiguous_day(t) THEN NULL ELSE coalesce(
    try_strptime(replace(t, '.', '/'), ['%d/%m/%Y', '%d/%m/%Y %H:%M', '%d/%m/%Y %H:%M:%S']),
    try_strptime(t, ['%m/%d/%Y', '%m/%d/%Y %H:%M', '%m/%d/%Y %H:%M:%S'])) END;
"""


def _sum_of_bits(conditions: dict[str, str]) -> str:
    return " + ".join(f"CASE WHEN {condition} THEN {1 << bit} ELSE 0 END" for bit, condition in conditions.items())


def sql(files: Path, result: Path) -> None:
    """As somebody who writes SQL well would do it in DuckDB."""
    import duckdb

    clock = _Clock()
    with tempfile.TemporaryDirectory(dir=result) as spill:
        connection = duckdb.connect(config={"temp_directory": spill})
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_MACROS)
        clock.report(_by_sql(connection, files, result))


def _by_sql(connection: duckdb.DuckDBPyConnection, files: Path, result: Path) -> dict[str, int]:
    read = "SELECT row_number() OVER () + 1 AS row_number, * FROM read_csv('{}', header = true, all_varchar = true)"
    run = connection.execute
    run(f"CREATE TABLE raw AS {read.format(files / 'orders.csv')}")
    run(f"CREATE TABLE products AS {read.format(files / 'products.csv')}")
    run("DELETE FROM products WHERE row_number NOT IN (SELECT min(row_number) FROM products GROUP BY sku)")
    codes = [*_ROW_REASONS, "duplicate_key", "outlier"]
    bits = {code: n for n, code in enumerate(codes)}
    given = ", ".join(f"{raw} AS {raw}_raw" for raw in _NUMBERS)
    plain = ", ".join(f"try_cast({raw} AS DECIMAL(18, 4)) AS {raw}_plain" for raw in _NUMBERS)
    texts = ", ".join(
        f"CASE WHEN {raw}_plain IS NULL THEN nullif(trim({raw}_raw), '') END AS {raw}_text" for raw in _NUMBERS
    )
    values = ", ".join(
        f"CASE WHEN {raw}_text IS NULL THEN {raw}_plain ELSE mended({raw}_text) END AS {ours}"
        for raw, ours in _NUMBERS.items()
    )
    forms = ", ".join(
        f"CASE WHEN {raw}_text IS NULL THEN 0 ELSE form({raw}_text) END AS {raw}_form" for raw in _NUMBERS
    )
    any_form = " | ".join(f"CASE WHEN {raw}_form < 8 THEN {raw}_form ELSE 0 END" for raw in _NUMBERS)
    run(f"""
    CREATE TABLE lines AS WITH plain AS (
        SELECT row_number, tidied(order_no) AS order_id, line_no, try_cast(line_no AS BIGINT) AS line_number,
            tidied(customer_no) AS customer_id, ordered_at AS ordered_text, try_cast(ordered_at AS TIMESTAMP) AS plain_wall,
            tidied(sku) AS product_id, {given}, {plain}, tidied(channel) AS channel, tidied(store) AS store_id
        FROM raw
    ), texts AS (
        SELECT *, CASE WHEN plain_wall IS NULL THEN day_first(ordered_text) ELSE plain_wall END AS wall, {texts} FROM plain
    ), read AS (
        SELECT *, {values}, {forms}, wall::DATE AS order_date FROM texts
    ), known AS (
        SELECT read.*, p.sku IS NOT NULL AS product_known, {any_form} AS forms
        FROM read LEFT JOIN products p ON p.sku = read.product_id
    )
    SELECT row_number, order_id, line_number, customer_id, timezone('Asia/Shanghai', wall) AS ordered_at, order_date, product_id,
        CASE WHEN quantity > 0 AND net_amount < 0 THEN -quantity ELSE quantity END AS quantity,
        unit_price, coalesce(abs(discount), 0)::DECIMAL(18, 4) AS discount, net_amount, cost, channel, store_id,
        ({_sum_of_bits({bits[code]: condition for code, condition in _ROW_REASONS.items()})})::BIGINT AS reasons
    FROM known""")
    gone = sum(1 << bits[code] for code in _ASIDE)
    # Few keys come twice; only their rows are put in order.
    run(f"""
    CREATE TABLE late AS WITH twice AS (
        SELECT order_id, line_number FROM lines WHERE reasons & {gone} = 0 GROUP BY ALL HAVING count(*) > 1
    ), nth AS (
        SELECT row_number, row_number() OVER (PARTITION BY order_id, line_number ORDER BY row_number) AS n
        FROM lines SEMI JOIN twice USING (order_id, line_number) WHERE reasons & {gone} = 0
    )
    SELECT row_number, {1 << bits["duplicate_key"]}::BIGINT AS more FROM nth WHERE n > 1""")
    far = _limits_by_sql(connection, gone)
    run(f"""
    INSERT INTO late SELECT row_number, {1 << bits["outlier"]} FROM lines ANTI JOIN late USING (row_number)
    WHERE reasons & {gone} = 0 AND ({far})""")
    run(f"""
    CREATE TABLE aside AS SELECT row_number, reasons | coalesce(more, 0) AS reasons
    FROM lines LEFT JOIN late USING (row_number) WHERE (reasons | coalesce(more, 0)) & {gone} <> 0""")
    run(f"""
    COPY (
        SELECT order_id, line_number, customer_id, ordered_at, order_date, product_id, quantity,
            CASE WHEN quantity <> 0 THEN unit_price END AS unit_price, discount, net_amount, cost, channel, store_id,
            net_amount < 0 OR quantity < 0 AS is_return
        FROM lines ANTI JOIN aside USING (row_number) ORDER BY order_id, line_number
    ) TO '{result}/order_lines.parquet' (FORMAT parquet, COMPRESSION zstd)""")
    words = " || ".join(f"CASE WHEN reasons & {1 << bits[code]} <> 0 THEN '{code} ' ELSE '' END" for code in _ASIDE)
    fields = ", ".join(f"'{raw}', coalesce({raw}, '')" for raw in COLUMNS.values())
    run(f"""
    COPY (
        SELECT 'orders' AS source, row_number, trim({words}) AS reasons, json_object({fields})::VARCHAR AS raw_values
        FROM raw JOIN aside USING (row_number) ORDER BY row_number
    ) TO '{result}/quarantine.parquet' (FORMAT parquet, COMPRESSION zstd)""")
    run(f"""
    COPY (
        SELECT customer_id, min(order_date) FILTER (net_amount > 0) AS acquired_on
        FROM lines ANTI JOIN aside USING (row_number) GROUP BY customer_id ORDER BY customer_id
    ) TO '{result}/customers.parquet' (FORMAT parquet, COMPRESSION zstd)""")
    run(f"""
    COPY (SELECT sku AS product_id, name, department FROM products ORDER BY sku)
    TO '{result}/products.parquet' (FORMAT parquet, COMPRESSION zstd)""")
    _conserved_by_sql(connection, result)
    counts = ", ".join(f"count(*) FILTER (reasons & {1 << bit} <> 0) AS {code}" for code, bit in bits.items())
    padded = " + ".join(f"padded({raw})" for raw in COLUMNS.values())
    found = run(f"""
    SELECT * FROM (SELECT {counts} FROM (
        SELECT reasons | coalesce(more, 0) AS reasons FROM lines LEFT JOIN late USING (row_number)
    )), (SELECT sum({padded})::BIGINT AS white_space FROM raw)""")
    names = [column[0] for column in found.description]
    return {name: n for name, n in zip(names, found.fetchone(), strict=True) if n}


def _limits_by_sql(connection: duckdb.DuckDBPyConnection, gone: int) -> str:
    """Which lines are outliers: a condition. Medians come from a histogram of logarithms, as the rule says."""
    conditions = []
    for column in ("net_amount", "unit_price", "quantity"):
        low, high = connection.execute(f"""
        WITH histogram AS (
            SELECT floor(ln(abs({column})::DOUBLE) * 20 + 1e-9)::BIGINT AS bucket, count(*) AS n
            FROM lines LEFT JOIN late USING (row_number)
            WHERE reasons & {gone} = 0 AND more IS NULL AND {column} <> 0 GROUP BY 1
        ), total AS (SELECT sum(n) AS n FROM histogram), middle AS (
            SELECT min(bucket) AS bucket FROM (
                SELECT bucket, sum(n) OVER (ORDER BY bucket) AS so_far FROM histogram
            ), total WHERE so_far >= total.n / 2
        ), spread AS (
            SELECT min(apart) AS apart FROM (
                SELECT abs(h.bucket - m.bucket) AS apart, sum(h.n) OVER (ORDER BY abs(h.bucket - m.bucket)) AS so_far
                FROM histogram h, middle m
            ), total WHERE so_far >= total.n / 2
        ), reach AS (
            SELECT (bucket + 0.5) / 20 AS centre, 6 * greatest(1.4826 * apart / 20, 0.5) AS reach FROM middle, spread
        )
        SELECT exp(centre - reach), exp(centre + reach) FROM reach""").fetchone()
        size = f"abs({column})::DOUBLE"
        conditions.append(f"({size} > 0 AND ({size} < {low!r} OR {size} > {high!r}))")
    return " OR ".join(conditions)


def _conserved_by_sql(connection: duckdb.DuckDBPyConnection, result: Path) -> None:
    """Rows and money of the files are those of the results."""
    # Not with coalesce: DuckDB would work out the second reading for every row.
    money = "sum(CASE WHEN plain IS NULL THEN mended(trim(amount)) ELSE plain END)"
    read = "SELECT amount, try_cast(amount AS DECIMAL(18, 4)) AS plain FROM"
    balance = connection.execute(f"""
    SELECT raw.n - kept.n - gone.n, raw.money - kept.money - gone.money FROM
        (SELECT count(*) AS n, {money} AS money FROM ({read} raw)) AS raw,
        (SELECT count(*) AS n, sum(net_amount) AS money FROM '{result}/order_lines.parquet') AS kept,
        (SELECT count(*) AS n, coalesce({money}, 0) AS money FROM ({read} (
            SELECT raw_values ->> 'amount' AS amount FROM '{result}/quarantine.parquet'))) AS gone""").fetchone()
    if any(balance):
        raise SystemExit(f"SQL: rows and money are not conserved: {balance}")


# -- the same by hand: pandas ------------------------------------------------------------------------------------------

_NUMBER_FORMS = {
    "thousands_separator": r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+|[+-]?[0-9]{1,3}(?:,[0-9]{3}){2,}",
    "decimal_sign": r"[+-]?(?:0,[0-9]+|[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})|[0-9]{4,},[0-9]{3})",
}
_TWO_READINGS = r"[+-]?[1-9][0-9]{0,2},[0-9]{3}"


def pandas(files: Path, result: Path) -> None:
    """As somebody who writes pandas well would do it: whole columns, and the few odd values apart."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    clock = _Clock()
    raw = pd.read_csv(files / "orders.csv", dtype=str, keep_default_na=False, engine="pyarrow")
    products = pd.read_csv(files / "products.csv", dtype=str, keep_default_na=False, engine="pyarrow")
    products = products.drop_duplicates("sku").rename(columns={"sku": "product_id"}).sort_values("product_id")
    reasons: dict[str, np.ndarray] = {}

    def note(code: str, where: pd.Series | np.ndarray) -> None:
        reasons[code] = np.asarray(where, bool) | reasons.get(code, False)

    clean, unread, doubtful = pd.DataFrame(index=raw.index), {}, {}
    padded = 0
    for column in _TEXTS:
        text = raw[column].str.strip()
        padded += int((text.str.len() != raw[column].str.len()).sum())
        clean[column] = text.where(text != "")
    for column in _NUMBERS:
        values = pd.to_numeric(raw[column], errors="coerce").astype("float64")
        odd = raw.loc[values.isna(), column].str.strip()
        odd = odd[odd != ""]
        bare = odd.str.replace("CN¥|RMB|¥|元", "", regex=True).str.strip()
        rewritten = bare.where(bare.str.fullmatch(r"[+-]?[0-9]+(?:\.[0-9]*)?"))
        for code, shape in _NUMBER_FORMS.items():
            fits = bare.str.fullmatch(shape)
            there = bare[fits].str.replace(",", "" if code == "thousands_separator" else ".")
            rewritten = rewritten.where(~fits, there)
            note(code, raw.index.isin(there.index))
        mended = pd.to_numeric(rewritten.dropna()).astype("float64")
        values.loc[mended.index] = mended
        note("currency_sign", raw.index.isin(mended.index[bare[mended.index] != odd[mended.index]]))
        doubtful[column] = raw.index.isin(bare.index[bare.str.fullmatch(_TWO_READINGS)])
        unread[column] = raw.index.isin(odd.index.difference(mended.index)) & ~doubtful[column]
        clean[column] = values
    clean["line_no"] = pd.to_numeric(raw["line_no"], errors="coerce")

    wall = pd.to_datetime(raw["ordered_at"], format="%Y-%m-%d %H:%M:%S", errors="coerce")
    odd = raw.loc[wall.isna(), "ordered_at"].str.strip()
    odd = odd[odd != ""]
    parts = odd.str.extract(
        r"^([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})(?: ([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?))?$"
    ).dropna(subset=2)
    first, second = parts[0].astype(int), parts[1].astype(int)
    both = (first <= 12) & (second <= 12) & (first != second) & ~odd[parts.index].str.contains(".", regex=False)
    day, month = first.where(second <= 12, second), second.where(second <= 12, first)
    iso = parts[2] + "-" + month.astype(str) + "-" + day.astype(str) + " " + parts[3].fillna("00:00")
    mended = pd.to_datetime(iso[~both], format="%Y-%m-%d %H:%M", errors="coerce").dropna()
    wall.loc[mended.index] = mended
    note("ambiguous_date", raw.index.isin(both.index[both]))
    note("date_form", raw.index.isin(mended.index))
    date = wall.dt.normalize()

    quantity, price, amount = clean["qty"], clean["unit_price"], clean["amount"]
    dateless = raw.index.isin(odd.index) & wall.isna().to_numpy() & ~reasons["ambiguous_date"]
    numberless = clean["line_no"].isna() & (raw["line_no"] != "")
    note("missing_customer_id", clean["customer_no"].isna())
    blank = [raw[c].str.strip() == "" for c in ("order_no", "line_no", "ordered_at", "qty", "amount")]
    note("missing_value", np.logical_or.reduce(blank))
    note("ambiguous_number", doubtful["qty"] | doubtful["amount"])
    note("unreadable_value", dateless | numberless | unread["qty"] | unread["amount"])
    note("before_period", date < "2023-01-01")
    note("after_period", date > "2024-12-31")
    note("empty_line", (quantity == 0) & (amount == 0))
    note("sign_conflict", (quantity < 0) & (amount > 0))
    note("negative_price", (price < 0) | (clean["cost"] < 0))
    off = (quantity.abs() * price.abs() - clean["discount"].abs().fillna(0) - amount.abs()).abs()
    note("amount_mismatch", (quantity != 0) & (off > quantity.abs() * 0.00005 + 0.0050001))
    back = (quantity > 0) & (amount < 0)
    note("return_quantity", back)
    note("discount_sign", clean["discount"] < 0)
    note(
        "unreadable_optional",
        np.logical_or.reduce([unread[c] | doubtful[c] for c in ("unit_price", "discount", "cost")]),
    )
    note("quantity_zero", (quantity == 0) & (amount != 0))
    note("zero_price", (quantity != 0) & (amount == 0))
    note("unknown_product", clean["sku"].notna() & ~clean["sku"].isin(products["product_id"]))
    clean["qty"] = quantity.where(~back, -quantity)
    clean["discount"] = clean["discount"].abs().fillna(0)

    gone = np.logical_or.reduce([reasons[code] for code in _ASIDE if code in reasons])
    repeated = clean.loc[~gone, ["order_no", "line_no"]].duplicated()
    note("duplicate_key", raw.index.isin(repeated.index[repeated]))
    gone |= reasons["duplicate_key"]
    note(
        "outlier",
        _far_in_pandas(clean.loc[~gone, ["amount", "unit_price", "qty"]]).reindex(raw.index, fill_value=False),
    )

    kept = clean[~gone]
    moments = (
        wall[~gone].dt.tz_localize("Asia/Shanghai", ambiguous=False, nonexistent="shift_forward").dt.tz_convert("UTC")
    )
    kept = kept.assign(ordered_at=moments, order_date=date[~gone].to_numpy("datetime64[D]"))
    kept["unit_price"] = kept["unit_price"].where(kept["qty"] != 0)
    kept["is_return"] = (kept["amount"] < 0) | (kept["qty"] < 0)
    kept = kept.rename(columns={theirs: name for name, theirs in COLUMNS.items()}).sort_values(
        ["order_id", "line_number"]
    )
    money, text = pa.decimal128(18, 4), pa.string()
    types = {
        "order_id": text, "line_number": pa.int64(), "customer_id": text, "ordered_at": pa.timestamp("us", "UTC"),
        "order_date": pa.date32(), "product_id": text, "quantity": money, "unit_price": money, "discount": money,
        "net_amount": money, "cost": money, "channel": text, "store_id": text, "is_return": pa.bool_(),
    }  # fmt: skip
    arrays = [pa.Array.from_pandas(kept[c]).cast(kind, safe=False) for c, kind in types.items()]
    pq.write_table(pa.table(arrays, names=list(types)), result / "order_lines.parquet", compression="zstd")

    aside = raw[gone]
    named = np.array([f"{code} " for code in _ASIDE], object)
    marks = np.column_stack([reasons[code][gone] for code in _ASIDE])
    quarantine = pd.DataFrame({
        "source": "orders", "row_number": aside.index + 2,
        "reasons": ["".join(named[row]).strip() for row in marks],
        "raw_values": [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in aside.to_dict("records")],
    })  # fmt: skip
    quarantine.to_parquet(result / "quarantine.parquet", compression="zstd", index=False)
    bought = kept["order_date"].where(kept["net_amount"] > 0).groupby(kept["customer_id"]).min()
    customers = bought.rename("acquired_on").reset_index().sort_values("customer_id")
    customers["acquired_on"] = customers["acquired_on"].astype(pd.ArrowDtype(pa.date32()))
    customers.to_parquet(result / "customers.parquet", compression="zstd", index=False)
    products.to_parquet(result / "products.parquet", compression="zstd", index=False)

    cents = (clean["amount"].fillna(0) * 10_000).round().astype("int64")
    written = pq.read_table(result / "order_lines.parquet", columns=["net_amount"])["net_amount"]
    total = int(pa.compute.sum(written).as_py() * 10_000) if len(written) else 0
    if len(raw) != len(written) + len(quarantine) or cents.sum() != total + cents[gone].sum():
        raise SystemExit("pandas: rows and money are not conserved")
    counts = {code: int(where.sum()) for code, where in reasons.items()} | {"white_space": padded}
    clock.report({code: n for code, n in counts.items() if n})


def _far_in_pandas(sizes: pd.DataFrame) -> pd.Series:
    """Whether a line is an outlier: see :func:`_limits_by_sql`."""
    import numpy as np

    far = None
    for column in sizes:
        size = sizes[column].abs()
        there = size[size > 0]
        bucket = np.floor(np.log(there) * 20 + 1e-9)
        middle = np.sort(bucket)[(len(bucket) - 1) // 2]
        spread = np.sort((bucket - middle).abs())[(len(bucket) - 1) // 2]
        centre, reach = (middle + 0.5) / 20, 6 * max(1.4826 * spread / 20, 0.5)
        beyond = (size > 0) & ((size < np.exp(centre - reach)) | (size > np.exp(centre + reach)))
        far = beyond if far is None else far | beyond
    return far


# -- reading alone -----------------------------------------------------------------------------------------------------


def scan(files: Path, result: Path) -> None:
    """Reading the files alone: every column is touched, nothing is kept."""
    import duckdb

    clock = _Clock()
    for name in ("orders", "products"):
        rows = duckdb.sql(f"SELECT * FROM read_csv('{files / name}.csv', header = true, all_varchar = true)")
        duckdb.sql(f"SELECT {', '.join(f'max(length({c}))' for c in rows.columns)} FROM rows").fetchall()
    clock.report()


# -- side by side ------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Path, Path], None]] = {"ours": ours, "scan": scan, "sql": sql, "pandas": pandas}
PEERS = ("scan", "sql", "pandas")
TABLES = ("order_lines", "quarantine", "customers", "products")


def differences(a: Path, b: Path) -> dict[str, str]:
    """Table -> what differs between two folders of results: columns, or rows; the order of rows counts."""
    import duckdb

    found = {}
    # A connection of its own: the one that all of a process share stays busy until a result is fetched to its end.
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    for table in TABLES:
        one, other = f"'{a / table}.parquet'", f"'{b / table}.parquet'"
        columns = [[row[:2] for row in connection.execute(f"DESCRIBE FROM {each}").fetchall()] for each in (one, other)]
        if columns[0] != columns[1]:
            found[table] = "columns"
            continue
        # Tables of different lengths are filled up with nulls.
        pairs = f"FROM {one} a POSITIONAL JOIN {other} b WHERE a IS DISTINCT FROM b"
        rows = connection.execute(f"SELECT count(*) {pairs}").fetchone()[0]
        if rows:
            found[table] = f"{rows:,} rows"
    connection.close()
    return found


def case_name(lines: int) -> str:
    """``cleaning-10m`` for ten million lines."""
    return f"cleaning-{measure.short(lines)}"


def _child(*words: object, environment: dict[str, str] | None = None, limit: float | None = None) -> measure.Cost:
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, words)]
    return measure.run(command, os.environ | (environment or {}), limit)


def _files(lines: int) -> Path:
    """The folder of CSV files of a size; made where they are not there yet."""
    recipe = hashlib.sha256(f"{_LINES}{_PRODUCTS}{_DIRT}{PRODUCTS}".encode()).hexdigest()[:12]
    folder = PLACE / f"cleaning-{lines}-{recipe}"
    if not (folder / "products.csv").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        if not _child("make", lines, folder).done:
            raise SystemExit(f"the files of {lines:,} lines could not be made")
    return folder


def one_size(lines: int, too_slow: set[str]) -> dict[str, measure.Cost]:
    """Way -> what it took, for all that are not in ``too_slow``; those that are too slow now are put into it."""
    case, files, costs = case_name(lines), _files(lines), {}
    with tempfile.TemporaryDirectory(dir=PLACE) as folder:
        home = Path(folder)
        environment = settle(home, files) | ({"RAPPORT_MEMORY": MEMORY} if lines >= FULL else {})
        for way in ("ours", *(peer for peer in PEERS if peer not in too_slow)):
            (home / way).mkdir()
            limit = None if way == "ours" else LIMIT
            costs[way] = cost = _child(way, files, home / way, environment=environment, limit=limit)
            if way == "ours" and not cost.done:
                raise SystemExit(f"{case}: ours failed")
            if cost.outcome == "too slow":
                too_slow.add(way)
            if cost.done and way != "ours":
                print(f"RATIO {case} {way} {cost.said['cpu'] / costs['ours'].said['cpu']:.2f}", flush=True)
            if cost.done and way not in ("ours", "scan"):
                _compare(case, way, home, costs)
    return costs


def _compare(case: str, way: str, home: Path, costs: dict[str, measure.Cost]) -> None:
    found = _child("compare", home / "ours", home / way).said.get("differences", {"tables": "could not be compared"})
    reasons = [costs[each].said["reasons"] for each in ("ours", way)]
    if reasons[0] != reasons[1]:
        found["reasons"] = ", ".join(sorted({code for code, _n in set(reasons[0].items()) ^ set(reasons[1].items())}))
    costs[way].said["differences"] = found
    for what, how in found.items():
        print(f"DIFFERS {case} {way} {what}: {how}", flush=True)


def rows_of(lines: int, costs: dict[str, measure.Cost]) -> list[str]:
    """The rows of the table for one size."""
    rows = []
    for way, cost in costs.items():
        if not cost.done:
            rows.append(f"| {lines:,} | {way} | {cost.outcome} | | | | |")
            continue
        ratio = "" if way == "ours" else f"{cost.said['cpu'] / costs['ours'].said['cpu']:.2f}"
        same = "" if "differences" not in cost.said else "no" if cost.said["differences"] else "yes"
        rows.append(
            f"| {lines:,} | {way} | {cost.said['cpu']:.1f} | {cost.said['wall']:.1f} | {cost.memory:.1f} | {ratio} | {same} |"
        )
        parts = cost.said["parts"].items()
        rows += [f"| {lines:,} | {way}: {part} | {cpu:.1f} | | | | |" for part, cpu in parts]
    return rows


def _lines(row: str) -> int | None:
    """The size that a row of the table is about; None for the rest of the file."""
    first = row.split("|")[1].strip().replace(",", "") if row.startswith("|") else ""
    return int(first) if first.isdigit() else None


def main(sizes: list[int]) -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    too_slow: set[str] = set()
    for lines in sorted(sizes):
        costs = one_size(lines, too_slow)
        rows += rows_of(lines, costs)
        print("\n".join(rows_of(lines, costs)), flush=True)
    before = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.is_file() else []
    kept = [row for row in before if _lines(row) not in (None, *sizes)]
    machine = measure.machine("duckdb", "ibis-framework", "pyarrow", "pandas")
    head = [
        f"`make bench ONLY=cleaning` (100,000,000 lines: `SIZE=full`), {machine}",
        "",
        "The same CSV files of order lines, about one in a hundred with a fault, cleaned into order lines, customers, products and",
        "a quarantine: by the first notebook's code (ours), by hand in SQL and in pandas; scan only reads the files in DuckDB. CPU",
        "and wall seconds count from when a process has imported what it needs. Ratio: CPU seconds of the peer / ours. Equal:",
        "all tables row for row and in the same order, and the same count of every reason.",
        "",
        "| lines | way | CPU s | wall s | peak GiB | ratio | equal |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join([*head, *sorted(kept + rows, key=_lines), ""]), encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", lines, folder]:
            make(int(lines), Path(folder))
        case ["compare", one, other]:
            measure.report(differences=differences(Path(one), Path(other)))
        case [way, files, result] if way in WAYS:
            WAYS[way](Path(files), Path(result))
        case given:
            main([int(word) for word in given] or [*SIZES, *([FULL] if os.environ.get("SIZE") == "full" else [])])
