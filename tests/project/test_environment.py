"""What is asked for, what is locked and what conda users get are one list."""

import re
import tomllib

import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

from analysis import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIRED = [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["dev"]]
LOCK = (paths.ROOT / "requirements.lock").read_text(encoding="utf-8")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, list[tuple[Version, str]]]:
    found: dict[str, list[tuple[Version, str]]] = {}
    for name, version, marker in re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)(?: ; ([^\\\n]+))?", LOCK, re.MULTILINE):
        found.setdefault(normal(name), []).append((Version(version), marker.strip()))
    return found


def test_every_requirement_is_locked_within_its_bounds():
    there = locked()
    for text in REQUIRED:
        requirement = Requirement(text)
        versions = there.get(normal(requirement.name), [])
        assert versions, f"{text} is not in requirements.lock; run make lock"
        for version, _ in versions:
            assert version in requirement.specifier, f"{text}: locked {version}; run make lock"


def test_the_lock_installs_here():
    for name, versions in locked().items():
        here = [v for v, marker in versions if not marker or Marker(marker).evaluate()]
        assert len(here) <= 1, f"{name} is locked twice for one environment: {here}"


def test_every_locked_file_has_a_hash_and_no_host_is_named():
    entries = re.findall(r"^[A-Za-z0-9_.-]+==.*?(?=^[A-Za-z0-9_.-]+==|\Z)", LOCK, re.MULTILINE | re.DOTALL)
    assert len(entries) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in LOCK


def test_conda_users_get_the_same_requirements():
    content = yaml.safe_load((paths.ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, _, pip = content["dependencies"]
    assert python == "python" + PROJECT["project"]["requires-python"]
    assert pip["pip"] == REQUIRED


def test_the_pin_that_ibis_needs_holds():
    # Ibis 12 breaks with sqlglot 30.1.
    assert all(version < Version("30.1") for version, _ in locked()["sqlglot"])
