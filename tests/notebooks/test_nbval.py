"""The committed outputs are what the notebooks give: each is run again, cell by cell, in a temporary data folder."""

import os
import subprocess
import sys

import pytest

from analysis import keys, paths, run
from analysis import study as studies
from analysis.execute import plain_run
from analysis.steps import STEPS, upstream

SANITIZE = """\
[pictures]
regex: iVBORw0KGgo[A-Za-z0-9+/=\\n]+
replace: PICTURE
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A data folder with what the notebooks read from notebooks that are committed on another study."""
    folder = tmp_path_factory.mktemp("nbval")
    shown = run.committed_studies()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAPPORT_DATA", str(folder))
        for step, name in shown.items():
            for before in upstream(STEPS[step], studies.load(name)):
                if shown[before] != name:
                    plain_run(before, name)
    (folder / "sanitize.cfg").write_text(SANITIZE, encoding="utf-8")
    return folder


def test_the_committed_outputs_reproduce(prepared):
    # Pictures differ in a few pixels between processors; the numbers in them stand in the texts and tables, which must not.
    notebooks = [str(keys.notebook_path(step)) for step in STEPS]
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-sanitize-with", str(prepared / "sanitize.cfg")]
    command += ["-q", "-p", "no:cacheprovider", "--nbval-cell-timeout", "300", *notebooks]
    ran = subprocess.run(
        command,
        env=os.environ | {"RAPPORT_DATA": str(prepared)},
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, "run make notebooks, and look at what changed:\n" + ran.stdout[-6000:]
