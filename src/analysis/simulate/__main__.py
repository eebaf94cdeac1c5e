"""Write a simulated company into a folder."""

import argparse
import time
from pathlib import Path

from analysis.errors import RapportError
from analysis.simulate.company import Settings, generate
from analysis.simulate.world import WORLDS

parser = argparse.ArgumentParser(prog="python -m analysis.simulate", description=__doc__)
parser.add_argument("world", choices=sorted(WORLDS))
parser.add_argument("customers", type=int)
parser.add_argument("folder", type=Path)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--confounding", type=float, default=0.0)
given = parser.parse_args()
try:
    settings = Settings(given.world, given.customers, given.seed, given.confounding)
except RapportError as error:
    parser.error(str(error))
if given.folder.exists():
    parser.error(f"{given.folder} is already there; name a new folder")
started = time.monotonic()
generate(settings, given.folder)
print(f"{given.folder}: {given.customers:,} customers in {time.monotonic() - started:.1f} s")
