"""The key of a step's results: a hash of everything that they depend on, so that only what changed runs again."""

import ast
import functools
import hashlib
import json
import sys
from pathlib import Path

from analysis import notebook_files, paths, sources, store
from analysis.steps import STEPS, TRUTH, StepSpec, parameters_of, upstream
from analysis.study import Study, overrides

_PACKAGE = Path(__file__).resolve().parent
_SENTENCES = _PACKAGE / "reporting" / "sentences"


def notebook_path(step: str) -> Path:
    return paths.NOTEBOOKS / f"{step}.ipynb"


def step_key(parts: dict[str, str]) -> str:
    """The key of a step: 16 hexadecimal digits of what :func:`key_parts` says it depends on."""
    return _digest(parts)


def key_parts(spec: StepSpec, study: Study, inputs: dict[str, str]) -> dict[str, str]:
    """What the key of ``spec`` on ``study`` is made of, by name; a changed part tells why a step ran again.

    Parameters
    ----------
    inputs : step -> key, at least for every step upstream.

    Returns
    -------
    Digests of the notebook's cells, the package code and sentences that they reach, parameters, study, lock, Python version,
    and inputs: for the first step the content of every source, for others the keys upstream; and of the truth where a step
    reads it.
    """
    parameters = parameters_of(spec, {**overrides(study.name, spec.name), "study": study.name})
    before = upstream(spec, study)
    parts = {
        "notebook": _digest(cell_sources(spec.name)),
        "package": _code_digest(spec),
        "parameters": _digest(parameters.model_dump(mode="json")),
        "study": study.digest,
        "lock": _file_digest(paths.LOCK),
        "python": ".".join(map(str, sys.version_info[:2])),
        "inputs": _digest({name: inputs[name] for name in before}),
    }
    if not before:
        parts["data"] = data_digest(study)
    if TRUTH in spec.needs:
        parts["truth"] = store.tree_digest(paths.truth(study.name))
    return parts


def freshness(step: str) -> str:
    """What the outputs of a committed notebook were made from: its cells and the code and sentences that they reach."""
    return _digest([cell_sources(step), _code_digest(STEPS[step])])


def data_digest(study: Study) -> str:
    """A hash of the content of every source that the study's tables are made from."""
    prints = {n: sources.fingerprint(study.sources[n], study.name) for n in sources.needed(study, study.tables)}
    # Another key makes other ids of the same rows.
    return _digest([prints, sources.key_mark()] if any(map(study.hashed, study.sources)) else prints)


def cell_sources(step: str) -> list[tuple[str, str]]:
    """Kind and source of each cell; prose counts too, since the page shows it."""
    notebook = notebook_files.read(notebook_path(step))
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def _code_digest(spec: StepSpec) -> str:
    code = [source for kind, source in cell_sources(spec.name) if kind == "code"]
    wanted = {f"{spec.room}.parameters"} | {name for source in code for name in _imports(source)}
    files = {str(_file(m).relative_to(_PACKAGE)): _file_digest(_file(m)) for m in reached(wanted)}
    for path in _SENTENCES.rglob("*.yaml"):
        if path.stem == spec.name or path.stem not in STEPS:
            files[str(path.relative_to(_PACKAGE))] = _file_digest(path)
    return _digest(files)


def reached(names: set[str]) -> set[str]:
    """The modules of ``analysis`` that are loaded, now or when called, by importing ``names``."""
    found: set[str] = set()
    todo = {module for name in names for module in _modules(name)}
    while todo:
        module = todo.pop()
        found.add(module)
        imported = {m for name in _module_imports(module) for m in _modules(name)}
        todo |= imported - found
    return found


@functools.cache
def _module_imports(module: str) -> frozenset[str]:
    path = _file(module)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return frozenset(_imports(path.read_text(encoding="utf-8"), package))


def _imports(code: str, package: str = "") -> set[str]:
    """The names below ``analysis`` that ``code``, a module of ``package``, imports."""
    names = set()
    # Magics are no Python; what they do is not ours to follow.
    lines = ["" if line.lstrip().startswith(("%", "!")) else line for line in code.splitlines()]
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{source}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "analysis"}


def _modules(name: str) -> set[str]:
    """The modules that importing ``name`` loads: each package on the way, and the module itself if it is one."""
    parts = name.split(".")
    prefixes = [".".join(parts[: i + 1]) for i in range(len(parts))]
    return {p for p in prefixes if _file(p).is_file()}


def _file(module: str) -> Path:
    path = _PACKAGE.joinpath(*module.split(".")[1:])
    package = path / "__init__.py"
    return package if package.is_file() else path.with_suffix(".py")


@functools.cache
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
