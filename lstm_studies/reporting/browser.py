"""Chromium, where there is one: the report's page as a PDF."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
FLAGS = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class BrowserError(RuntimeError):
    """No browser, or one that wrote nothing. The message is one line."""


def find_browser() -> str:
    """The path of the first browser of NAMES. Raises BrowserError."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise BrowserError(f"expected a browser for the PDF, one of {', '.join(NAMES)}, found none on the path")
    return path


def flags(profile: Path) -> list[str]:
    """How to start the browser with an empty profile, which makes no requests of its own."""
    sandbox = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # it refuses to run as root else
    return [*FLAGS, *sandbox, f"--user-data-dir={profile}"]


def print_pdf(page: Path, path: Path, seconds: float = 120) -> Path:
    """Prints a page of HTML to a PDF and returns its path. Raises BrowserError."""
    browser = find_browser()
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *flags(Path(profile)), "--no-pdf-header-footer", f"--print-to-pdf={path.resolve()}"]
        try:
            ended = subprocess.run(
                [*command, page.resolve().as_uri()], capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            raise BrowserError(f"{browser}: expected a PDF within {seconds:g} seconds, found none") from None
    if not path.exists():
        reason = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise BrowserError(f"{browser}: expected a PDF, found status {ended.returncode}: {reason[:200]}")
    return path
