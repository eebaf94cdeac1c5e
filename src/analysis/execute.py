"""Execute one notebook with Papermill, whole or not at all."""

import contextlib
import importlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from analysis import notebook_files, paths, redaction, store
from analysis.errors import RapportError
from analysis.keys import notebook_path
from analysis.step import INPUTS_VARIABLE, STAGING_VARIABLE
from analysis.steps import STEPS

KERNEL = "python3"
QUIET = ["--IPKernelApp.log_level=ERROR"]  # that kernels talk over unencrypted TCP on this machine
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(
    r"^(?:File (?P<path>\S+):(?P<line>\d+)|\s*Cell In\[\d+\], line (?P<cell>\d+))(?:, in (?P<function>[\w.]+))?"
)
Progress = Callable[[int, int], None]


class NotebookError(RapportError):
    """A notebook that failed; the message names notebook, cell, error and where the copy is."""


def execute(
    study: str, step: str, parameters: dict[str, Any], inputs: dict[str, str], key: str, progress: Progress
) -> Path:
    """Run a step's notebook in a fresh kernel and publish its results under ``key``.

    Parameters
    ----------
    parameters : typed values for the notebook's ``parameters`` cell.
    inputs : step -> key of the editions that it reads.
    progress : called with the number of cells done and of all.

    Raises
    ------
    NotebookError
        A cell failed, or the notebook did not commit; nothing is published. The notebook as far as it ran is kept, without what
        may show values of the data (see :func:`without_values`); so is the message.
    """
    staging = store.stage(study, step)
    output = staging / "notebook.ipynb"
    environment = {STAGING_VARIABLE: str(staging), INPUTS_VARIABLE: json.dumps(inputs)} | _surroundings()
    saved = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        error = _papermill(step, output, parameters, progress)
        if error is None and not (staging / store.MANIFEST).is_file():
            error = "it ended without step.commit(), so it has no results to publish"
        if error is not None:
            kept = paths.build() / "failed" / study / output.with_stem(step).name
            kept.parent.mkdir(parents=True, exist_ok=True)
            if output.exists():
                notebook_files.write(kept, without_values(notebook_files.read(output), step))
            raise NotebookError(f"{study} · {step}: {error} · the notebook as far as it ran: {paths.shown(kept)}")
        normalise_file(output)
        return store.publish(study, step, staging, key)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        for name, value in saved.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _papermill(step: str, output: Path, parameters: dict[str, Any], progress: Progress) -> str | None:
    """Run the notebook; None, or the failure as one line."""
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    class ObservedEngine(NBClientEngine):
        """Papermill's own engine, telling how far it is."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            finish, done, total = nb_man.cell_complete, [0], len(nb_man.nb.cells)

            def observed(*args: Any, **kwargs: Any) -> None:
                finish(*args, **kwargs)
                done[0] += 1
                progress(done[0], total)

            nb_man.cell_complete = observed
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("observed", ObservedEngine)
    try:
        papermill.execute_notebook(
            notebook_path(step),
            output,
            parameters=parameters,
            engine_name="observed",
            kernel_name=KERNEL,
            cwd=paths.NOTEBOOKS,
            progress_bar=False,
            extra_arguments=QUIET,
        )
    except papermill.PapermillExecutionError as error:
        notebook = notebook_files.read(output)
        return f"cell {_failed_cell(notebook)}: {_message(step, notebook, error.ename, error.evalue)}"
    except Exception as error:  # a kernel that died, a disk that is full
        return redaction.error_line(error)
    return None


def _surroundings() -> dict[str, str]:
    """What a kernel finds in its environment: this package, and one BLAS thread.

    A kernel starts in the folder of the notebooks, where a relative ``PYTHONPATH`` means nothing. With one thread results
    do not depend on the number of cores, and studies run side by side.
    """
    elsewhere = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(paths.ROOT / "src"), *([elsewhere] if elsewhere else [])])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return threads | {"PYTHONPATH": path}


def _message(step: str, notebook: notebook_files.NotebookNode, name: str, text: str) -> str:
    """An error of a cell as one line that shows no value of the data."""
    # Our errors are known by the classes that are loaded; where the room cannot be loaded, the error is not one of its own.
    with contextlib.suppress(Exception):
        importlib.import_module(STEPS[step].room)
    known = {word for cell in notebook.cells if cell.cell_type == "code" for word in re.findall(r"\w+", cell.source)}
    return redaction.message(name, text, known)


def _failed_cell(notebook: notebook_files.NotebookNode) -> str:
    for cell in notebook.cells:
        if any(o.get("output_type") == "error" for o in cell.get("outputs", [])):
            return repr(cell.get("id", "?"))
    return "?"


def without_values(notebook: notebook_files.NotebookNode, step: str) -> notebook_files.NotebookNode:
    """A failed notebook that can be kept and sent around: no raw value of the data is left in it.

    Figures, tables and sentences of the step stay. What was printed, and the results that cells show of themselves, go. Of an
    error its name, its message as far as it is ours or says nothing of the data, and the places in the code stay.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [_safe(output, step, notebook) for output in cell.outputs if _may_stay(output)]
    return notebook


def _may_stay(output: notebook_files.NotebookNode) -> bool:
    return output.output_type == "error" or "rapport" in output.get("metadata", {})


def _safe(
    output: notebook_files.NotebookNode, step: str, notebook: notebook_files.NotebookNode
) -> notebook_files.NotebookNode:
    if output.output_type != "error":
        return output
    line = _message(step, notebook, output.ename, output.evalue)
    text = line.removeprefix(f"{output.ename}: ")
    return notebook_files.from_dict({**output, "evalue": text, "traceback": [*_places(output.traceback), line]})


def _places(traceback: list[str]) -> Iterator[str]:
    """Where in the code an error came by: files and lines, without the messages between them."""
    for line in _ANSI.sub("", "\n".join(traceback)).splitlines():
        found = _FRAME.match(line)
        if found is None or (found["path"] and not Path(found["path"]).expanduser().is_file()):
            continue
        inside = f", in {found['function']}" if found["function"] else ""
        where = paths.shown(Path(found["path"]).expanduser()) if found["path"] else "this cell"
        yield f"{where}, line {found['line'] or found['cell']}{inside}"


def normalise(notebook: notebook_files.NotebookNode, made_from: str | None = None) -> notebook_files.NotebookNode:
    """Remove what differs between equal runs: times, counts of executions, the marks of the tools; outputs stay.

    Parameters
    ----------
    made_from : what :func:`analysis.keys.freshness` said when the outputs were made; kept if it is not given.
    """
    metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": KERNEL},
        "language_info": {"name": "python"},
    }
    made_from = made_from or notebook.metadata.get("rapport", {}).get("made_from")
    if made_from:
        metadata["rapport"] = {"made_from": made_from}
    notebook.metadata = notebook_files.from_dict(metadata)
    count = 0
    for cell in notebook.cells:
        tags = [tag for tag in cell.metadata.get("tags", []) if not tag.startswith("papermill")]
        cell.metadata = notebook_files.from_dict({"tags": tags} if tags else {})
        if "injected-parameters" in tags:
            cell["id"] = "injected-parameters"  # Papermill draws one at random
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
            for output in cell.outputs:
                if "execution_count" in output:
                    output["execution_count"] = count
    return notebook


def normalise_file(path: Path, made_from: str | None = None) -> None:
    notebook_files.write(path, normalise(notebook_files.read(path), made_from))


def plain_run(step: str, study: str) -> Path:
    """Run a notebook as an analyst would, on ``study``, and give the executed copy; its results become current there.

    Raises
    ------
    NotebookError
        A cell failed.
    """
    import nbclient

    notebook = notebook_files.read(notebook_path(step))
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    if f'study = "{study}"' not in cell.source:
        cell.source += f'\nstudy = "{study}"'
    client = nbclient.NotebookClient(
        notebook,
        kernel_name=KERNEL,
        resources={"metadata": {"path": str(paths.NOTEBOOKS)}},
        extra_arguments=QUIET,
    )
    output = paths.processed(study) / f"{step}.ipynb"
    try:
        client.execute(env=os.environ | _surroundings())
    except nbclient.exceptions.CellExecutionError as error:
        raise NotebookError(f"{study} · {step}: {_message(step, notebook, error.ename, error.evalue)}") from None
    notebook_files.write(output, notebook)
    return output
