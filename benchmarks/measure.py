"""What a child process costs: CPU seconds with those of its own children, wall seconds, peak memory, and what it reports; and on
which machine."""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What one child process took.

    Attributes
    ----------
    cpu, wall : seconds. memory : the most that the process held, in GiB (``ru_maxrss``).
    outcome : ``done``, ``too slow`` or ``failed``. said : what the child reported with :func:`report`.
    """

    cpu: float
    wall: float
    memory: float
    outcome: str
    said: dict = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return self.outcome == "done"


def run(command: list[str], environment: dict[str, str], limit: float | None = None) -> Cost:
    """Run ``command`` and wait for it; after ``limit`` seconds of wall time it is stopped.

    The caller should be small: Linux hands its peak memory on to the child.
    """
    started = time.monotonic()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    slow = threading.Event()
    texts: dict[str, bytes] = {}
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as child:
        readers = [
            threading.Thread(target=lambda name=name: texts.update({name: getattr(child, name).read()}))
            for name in pipes
        ]
        for reader in readers:
            reader.start()
        timer = threading.Timer(
            limit or threading.TIMEOUT_MAX, lambda: (slow.set(), os.killpg(child.pid, signal.SIGKILL))
        )
        timer.daemon = True
        timer.start()
        # Not child.wait, which keeps the costs to itself.
        _, status, usage = os.wait4(child.pid, 0)
        timer.cancel()
        wall = time.monotonic() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        for reader in readers:
            reader.join()
    outcome = "done" if child.returncode == 0 else "too slow" if slow.is_set() else "failed"
    if outcome == "failed":
        print(texts["stderr"].decode(errors="replace").strip()[-3000:], file=sys.stderr)
    said = {}
    for line in texts["stdout"].decode().splitlines():
        said |= json.loads(line)
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / (1 << 20), outcome, said)


def interpreter(wanted: Sequence[str], place: Path) -> str:
    """The interpreter of an environment of its own at ``place`` that holds ``wanted``; made where it is not there yet."""
    mark, python = place / "wanted.txt", str(place / "bin" / "python")
    if not mark.is_file() or mark.read_text() != "\n".join(wanted):
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(place)], check=True)
        install = ["pip", "install", "--quiet", "--compile-bytecode", "--python", python]
        subprocess.run([uv, *install, *wanted], check=True)
        mark.write_text("\n".join(wanted))
    return python


def on_one_thread(python: str, script: str, *words: object, limit: float | None = None) -> Cost:
    """Run a script with ``words`` as its arguments, on one thread, and say what it took; see :func:`run`."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return run([python, str(Path(script).resolve()), *map(str, words)], os.environ | one, limit)


def report(**facts: object) -> None:
    """Tell the process that measures this one."""
    print(json.dumps(facts), flush=True)


def machine(*packages: str) -> str:
    """This machine in a few words, with Python and the versions of ``packages``."""
    gigabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{os.cpu_count()} cores, {gigabytes:.0f} GiB of memory, Python {platform.python_version()}, {versions}"


def short(size: int) -> str:
    """``10m`` for ten million, ``50k`` for fifty thousand."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k")):
        if size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)
