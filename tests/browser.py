"""Real pages in a real browser: what a reader's machine would see, fetch and read aloud."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

WIDE, PHONE = 1280, 390
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_LOOKS = ((WIDE, "light", True), (WIDE, "dark", False), (PHONE, "light", False), (PHONE, "dark", True))


@dataclass
class Visit:
    """What happened when a page was opened at one width and colour scheme.

    ``requests`` holds the addresses fetched beyond the page itself; ``overflow`` by how many CSS pixels the page
    is wider than the screen; ``violations`` axe-core's findings, one line a node.
    """

    page: Path
    width: int
    scheme: str
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    overflow: int = 0

    def problems(self) -> list[str]:
        """Everything wrong with it, one line each."""
        where = f"{self.page.name} at {self.width}px, {self.scheme}"
        found = {"request": self.requests, "console": self.console, "dialog": self.dialogs, "axe": self.violations}
        lines = [f"{where}: {kind}: {text}" for kind, texts in found.items() for text in texts]
        return [*lines, *([f"{where}: {self.overflow}px too wide"] if self.overflow > 0 else [])]


def skip_or_fail(reason: str) -> None:
    """Skip with the reason; where everything must run (``RAPPORT_NO_SKIP``), fail instead."""
    if os.environ.get("RAPPORT_NO_SKIP"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def browser() -> Iterator[object]:
    """The machine's own Chromium, headless; the test is skipped where it or Playwright is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("playwright is not installed; run make test once to set up the environment")
    if CHROMIUM is None:
        skip_or_fail("no Chromium on this machine; install chromium to test the pages in a browser")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()


def visit(opened: object, path: Path, width: int = WIDE, scheme: str = "light", *, show_code: bool = False) -> Visit:
    """Open a file and look: fetches, console, dialogs, axe-core and sideways scrolling.

    Parameters
    ----------
    opened : the browser.
    path : the page.
    width : of the window, in CSS pixels.
    scheme : ``"light"`` or ``"dark"``.
    show_code : press the page's button first.
    """
    from axe_playwright_python.sync_playwright import Axe

    seen = Visit(path, width, scheme)
    address = path.resolve().as_uri()
    context = opened.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        page = context.new_page()
        page.on("request", lambda request: _note_request(seen, request.url, address))
        page.on("console", lambda message: seen.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: seen.console.append(str(error)))
        page.on("dialog", lambda dialog: (seen.dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)
        if show_code and page.locator("#toggle-code").is_visible():
            page.click("#toggle-code")
        seen.overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        for violation in Axe().run(page).response["violations"]:
            seen.violations += [f"{violation['id']}: {node['html'][:160]}" for node in violation["nodes"]]
    finally:
        context.close()
    return seen


def check_pages(pages: list[Path]) -> list[str]:
    """The problems of pages in light and dark, on a desk and on a phone, with the code shown and hidden."""
    with browser() as opened:
        return [
            problem
            for path in pages
            for width, scheme, show_code in _LOOKS
            for problem in visit(opened, path, width, scheme, show_code=show_code).problems()
        ]


def _note_request(seen: Visit, url: str, address: str) -> None:
    if url != address and not url.startswith("data:"):
        seen.requests.append(url)
