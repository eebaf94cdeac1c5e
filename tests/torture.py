"""Kill a run in the middle of every notebook in turn, run it again, and compare every byte with an undisturbed run.

python -m tests.torture
"""

import sys
import tempfile
from pathlib import Path

from tests.walk import STEPS, Company


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        company = Company(Path(folder))
        ran = company.run("reports", "tiny")
        if ran.returncode:
            print(ran.stderr)
            return 1
        undisturbed = company.files()
        print(f"undisturbed: {len(undisturbed)} files, {sum(map(len, undisturbed.values())):,} bytes", flush=True)
        bad = 0
        for step in STEPS:
            for later in STEPS:
                company.forget(later)
            company.kill_in(step, 7)
            company.run("reports", "tiny")
            found = company.files()
            same = found == undisturbed
            bad += not same
            different = [name for name in found | undisturbed if found.get(name) != undisturbed.get(name)]
            print(f"killed in {step}: {'the same bytes' if same else f'DIFFERENT: {different}'}", flush=True)
        return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
