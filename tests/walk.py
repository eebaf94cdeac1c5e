"""A company made up for the tests, hostile names included, and the commands run on it as a person runs them."""

import csv
import datetime
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from analysis import paths

HOSTILE_PRODUCT = "<script>alert(1)</script>"
HOSTILE_CUSTOMER = "=cmd|' /C calc'!A0"
CUSTOMERS = [HOSTILE_CUSTOMER, *(f"Kunde-{n:03d}-GmbH" for n in range(59))]
STEPS = (
    "01_data_cleaning",
    "02_customer_valuation",
    "03_segmentation",
    "04_satisfaction_loyalty",
    "05_campaign_evaluation",
)
BLOCKS = {
    "Image": ["image1", "image2"],
    "Quality": ["quality1", "quality2", "quality3"],
    "Satisfaction": ["satisfaction1", "satisfaction2", "satisfaction3"],
    "Loyalty": ["loyalty1", "loyalty2"],
}


class Company:
    """A temporary project with one study, ``tiny``: sixty customers, a year of orders, one randomised campaign, a survey."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw = root / "data" / "raw" / "tiny"
        self.folder = root / "studies" / "tiny"
        self.reports = root / "reports"
        self.raw.mkdir(parents=True)
        self.folder.mkdir(parents=True)
        self._write_data(random.Random(7))
        (self.folder / "study.yaml").write_text(yaml.safe_dump(study(), sort_keys=False), encoding="utf-8")

    def environment(self) -> dict[str, str]:
        folders = {"STUDIES": "studies", "DATA": "data", "REPORTS": "reports", "BUILD": "build"}
        return os.environ | {f"RAPPORT_{name}": str(self.root / folder) for name, folder in folders.items()}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "analysis.run", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            cwd=paths.ROOT / "src",
            capture_output=True,
            text=True,
            timeout=600,
        )

    def kill_in(self, step: str, cells: int) -> None:
        """Start a run and kill it, kernels and all, once ``cells`` cells of ``step`` are done."""
        process = subprocess.Popen(
            self.command("study", "tiny"),
            env=self.environment() | {"RAPPORT_EVENTS": "1"},
            cwd=paths.ROOT / "src",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        wanted = f'"arguments": ["tiny", "{step}", {cells},'
        for line in process.stdout:
            if wanted in line:
                break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        time.sleep(0.5)  # kernels have sessions of their own and end when they see that their parent is gone

    def forget(self, step: str) -> None:
        """Remove a step's results, as if it had never run."""
        shutil.rmtree(self.root / "data" / "processed" / "tiny" / step)

    def files(self) -> dict[str, bytes]:
        """Every published file and every finished result, by name."""
        data = self.root / "data" / "processed" / "tiny"
        found = {p: p.read_bytes() for p in self.reports.rglob("*") if p.is_file()}
        for step in STEPS:
            key = (data / step / "current").read_text(encoding="utf-8").strip()
            found |= {p: p.read_bytes() for p in (data / step / key).rglob("*") if p.is_file()}
        return {str(p.relative_to(self.root)): content for p, content in found.items()}

    def _write_data(self, rng: random.Random) -> None:
        first = datetime.date(2024, 1, 1)
        orders = []
        for customer in CUSTOMERS:
            day, rate = rng.randrange(60), rng.uniform(0.01, 0.15)
            while day < 365:
                for product in rng.sample(["p1", "p2", "p3", "p4"], rng.randint(1, 3)):
                    amount = round(rng.lognormvariate(2.5, 0.5), 2)
                    orders.append((f"o{day}-{customer}", customer, first + datetime.timedelta(day), product, 1, amount))
                day += 1 + int(rng.expovariate(rate))
        orders.append(("bad", "Kunde-001-GmbH", "2024-13-45", "p1", 1, 5))
        self._csv("orders.csv", ["order", "customer", "day", "sku", "pieces", "amount"], orders)
        products = [
            ("p1", HOSTILE_PRODUCT, HOSTILE_PRODUCT),
            ("p2", "Tea", "Drinks"),
            ("p3", "Rice", "Food"),
            ("p4", "Salt", "Food"),
        ]
        self._csv("products.csv", ["sku", "name", "department"], products)
        self._csv("campaigns.csv", ["id", "name", "start", "end"], [("1", HOSTILE_PRODUCT, "2024-07-01", "2024-07-28")])
        arms = [("1", customer, rng.choice(["control", "mail"])) for customer in CUSTOMERS]
        self._csv("mailings.csv", ["id", "customer", "arm"], arms)
        answers = []
        for customer in CUSTOMERS:
            mood = rng.gauss(6.5, 1.5)
            row = [min(10, max(1, round(mood + rng.gauss(0, 1)))) for block in BLOCKS.values() for _ in block]
            answers.append((customer, *row))
        self._csv("survey.csv", ["customer", *(item for block in BLOCKS.values() for item in block)], answers)

    def _csv(self, name: str, header: list[str], rows: list[tuple]) -> None:
        with (self.raw / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([header, *rows])


def study() -> dict:
    return {
        "title": "Tiny & Söhne <b>",
        "currency": "EUR",
        "timezone": "Europe/Berlin",
        "clock": {"observed_from": "2024-01-01", "observed_to": "2024-12-31"},
        "money": {"margin": {"value": 0.3, "low": 0.25, "high": 0.35}, "discount_rate": 0.1, "contact_cost": 0.5},
        "sources": {
            name: {"file": f"{name}.csv"} for name in ("orders", "products", "campaigns", "mailings", "survey")
        },
        "survey": {
            "scale": [1, 10],
            "blocks": BLOCKS,
            "labels": {item: f"{HOSTILE_PRODUCT} {item}" for block in BLOCKS.values() for item in block},
        },
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
            },
            "products": {
                "source": "products",
                "columns": {"product_id": "sku", "name": "name"},
                "attributes": {"department": "department"},
            },
            "campaigns": {
                "source": "campaigns",
                "columns": {
                    "campaign_id": "id",
                    "name": "name",
                    "starts_on": "start",
                    "ends_on": "end",
                    "design": {"constant": "randomised"},
                },
            },
            "survey_responses": {
                "source": "survey",
                "columns": {"response_id": {"row_number": True}, "customer_id": "customer"}
                | {item: item for block in BLOCKS.values() for item in block},
            },
            "contacts": {
                "source": "mailings",
                "columns": {"campaign_id": "id", "customer_id": "customer", "arm": "arm"},
            },
        },
    }
