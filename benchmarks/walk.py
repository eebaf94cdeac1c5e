"""What notebooks cost: CPU seconds of each executed notebook against those of the package's own work in it.

    python benchmarks/walk.py [STUDY ...]

The package's own work is the notebook's code cells run in a plain process, counted after the imports. The cost of a
kernel is that of a notebook which only imports what every notebook imports. Prints one line a notebook and

    OVERHEAD <study> <(CPU of notebooks − kernel starts) / CPU of own work>
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile

import nbformat

from analysis import keys, paths
from analysis import study as studies
from analysis.execute import KERNEL, QUIET, normalise, plain_run
from analysis.steps import STEPS, missing

_OWN = """
import resource, sys, nbformat
import analysis, IPython, {room}
analysis.open_step
own = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
cells = [c.source for c in nbformat.read({path!r}, 4).cells if c.cell_type == "code"]
cells = [c.replace('study = "sample"', 'study = "{study}"').replace('study = "ecsi_mobile"', 'study = "{study}"') for c in cells]
before = own()
for cell in cells:
    exec(compile(cell, "cell", "exec"), globals())
print("OWN", own() - before, file=sys.stderr)
"""


def children() -> float:
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def kernel_start(room: str) -> float:
    """CPU seconds of a kernel that imports a room and ends."""
    import nbclient

    notebook = normalise(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(f"import analysis, {room}\nanalysis.open_step")])
    )
    before = children()
    nbclient.NotebookClient(notebook, kernel_name=KERNEL, extra_arguments=QUIET).execute()
    return children() - before


def own_work(study: str, step: str) -> float:
    shutil.rmtree(paths.processed(study) / "raw", ignore_errors=True)  # both read the sources
    code = _OWN.format(room=STEPS[step].room, path=str(keys.notebook_path(step)), study=study)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(next(line for line in ran.stderr.splitlines() if line.startswith("OWN")).split()[1])


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RAPPORT_DATA"] = folder
        for name in names:
            study, spent, kernels, worked = studies.load(name), 0.0, 0.0, 0.0
            for spec in STEPS.values():
                if missing(spec, study):
                    continue
                shutil.rmtree(paths.processed(name) / "raw", ignore_errors=True)
                before = children()
                plain_run(spec.name, name)
                cpu, start, own = children() - before, kernel_start(spec.room), own_work(name, spec.name)
                spent, kernels, worked = spent + cpu, kernels + start, worked + own
                print(
                    f"{name} {spec.name}: notebook {cpu:.1f}, kernel and imports {start:.1f}, own work {own:.1f} CPU s",
                    flush=True,
                )
            print(f"OVERHEAD {name} {(spent - kernels) / worked:.2f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or studies.defaults())
