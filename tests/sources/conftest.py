"""Bring a source of the small study in and look at what was stored."""

import pyarrow.parquet as pq

from analysis import sources
from analysis import study as studies


def bring_in(name="shop", source="orders"):
    return sources.bring_in(studies.load(name), source)


def rows(name="shop", source="orders"):
    return [row for path in bring_in(name, source).paths for row in pq.read_table(path).to_pylist()]


def read(project, content, name="orders.csv", **options):
    project.study(sources={"orders": {"file": name, **options}})
    project.raw("shop", name, content)
    return rows()
