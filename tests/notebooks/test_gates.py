"""A committed notebook is fresh, short-celled, free of functions, of absolute paths, and its figures can be read aloud."""

import ast
import re

import nbformat
import pytest

from analysis import keys, paths
from analysis.execute import normalise
from analysis.steps import STEPS, parameters_of

NAMES = list(STEPS)
CELL_LINES = 12


def notebook(name):
    return nbformat.read(keys.notebook_path(name), as_version=4)


def code(name):
    return [cell for cell in notebook(name).cells if cell.cell_type == "code"]


def outputs(name):
    return [(cell.id, output) for cell in code(name) for output in cell.outputs]


@pytest.mark.parametrize("name", NAMES)
def test_no_function_is_defined_in_a_notebook(name):
    for cell in code(name):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert not [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, kinds)], f"{name} cell {cell.id}"


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_short(name):
    for cell in code(name)[1:]:  # the first holds the parameters, a line each
        assert len(cell.source.splitlines()) <= CELL_LINES, f"{name} cell {cell.id}"


@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_cell_agrees_with_the_typed_parameters(name):
    tagged = [cell for cell in code(name) if "parameters" in cell.metadata.get("tags", [])]
    assert [cell.id for cell in tagged] == [code(name)[0].id], "the first code cell is tagged parameters, and only it"
    written = {}
    for node in ast.parse(tagged[0].source).body:
        assert isinstance(node, ast.Assign), f"{name}: only plain assignments belong into the parameters cell"
        written[node.targets[0].id] = ast.literal_eval(node.value)
    assert written == parameters_of(STEPS[name], {}).model_dump()


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_imports_only_the_package(name):
    for cell in code(name):
        for node in ast.walk(ast.parse(cell.source)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert all(n.split(".")[0] in ("analysis", "pandas") for n in names), f"{name} cell {cell.id}: {names}"


@pytest.mark.parametrize("name", NAMES)
def test_no_absolute_path(name):
    text = keys.notebook_path(name).read_text(encoding="utf-8")
    # Pictures are base64, in which a slash means nothing.
    text = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not re.search(r"(?<![\w.])/(home|root|tmp|Users|work|var|mnt|opt|usr)/", text)
    assert not re.search(r"[A-Z]:\\\\", text)
    assert str(paths.ROOT) not in text


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_alt_text(name):
    pictures = [(i, o) for i, o in outputs(name) if "image/png" in o.get("data", {})]
    assert pictures, f"{name} shows no figure"
    for cell_id, output in pictures:
        alt = output.metadata.get("image/png", {}).get("alt", "")
        assert len(alt) > 20, f"{name} cell {cell_id}"
        assert "No description" not in alt


@pytest.mark.parametrize("name", NAMES)
def test_outputs_hold_no_warning_and_no_error(name):
    for cell_id, output in outputs(name):
        assert output.output_type != "error", f"{name} cell {cell_id}"
        assert not (output.output_type == "stream" and output.name == "stderr"), f"{name} cell {cell_id}: {output.text}"


@pytest.mark.parametrize("name", NAMES)
def test_it_is_executed_and_normalised(name):
    text = keys.notebook_path(name).read_text(encoding="utf-8")
    fresh = nbformat.writes(normalise(notebook(name))) + "\n"
    assert text == fresh, f"{name} is not normalised; run make notebooks"
    assert any(output for _, output in outputs(name)), f"{name} has no outputs; run make notebooks"


@pytest.mark.parametrize("name", NAMES)
def test_it_follows_the_spine(name):
    cells = notebook(name).cells
    assert cells[0].source.startswith("# "), "the first cell is the title"
    assert "?" in cells[0].source, "and asks the question"
    headings = [
        line for c in cells if c.cell_type == "markdown" for line in c.source.splitlines() if line.startswith("## ")
    ]
    assert "## What could be wrong" in headings
    assert headings[-1] == "## What was written"
    assert sum("step.commit()" in cell.source for cell in code(name)) == 1
    assert "step.commit()" in code(name)[-1].source


@pytest.mark.parametrize("name", NAMES)
def test_it_is_not_stale(name):
    made_from = notebook(name).metadata.get("rapport", {}).get("made_from")
    assert made_from == keys.freshness(name), f"{name} or the code it reaches has changed; run make notebooks"
