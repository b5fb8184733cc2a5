"""The page in a real browser: it loads without a word on the console, and shows every section."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_rows import sample_report

from clickmill.report.page import SECTIONS, render

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


def load(browser: str, folder: Path, html: str) -> tuple[str, list[str]]:
    """The page's DOM after loading, and what the console said."""
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--log-level=0",
        "--dump-dom",
    ]
    done = subprocess.run(
        [browser, *flags, f"--user-data-dir={folder / 'profile'}", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HOME": str(folder)},
        check=True,
    )
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def test_the_page_loads_silently_and_shows_every_section(browser, tmp_path):
    dom, console = load(browser, tmp_path, render(sample_report()))
    assert console == []
    for anchor, head in SECTIONS:
        assert f'id="{anchor}"' in dom
        assert f">{head}</h2>" in dom
    assert dom.count("<svg") == 5


def test_the_browser_would_have_told(browser, tmp_path):
    """What the test above relies on: a page that fetches or runs something is refused, loudly."""
    broken = render(sample_report()).replace(
        "</main>", '<img src="https://example.org/x.png"><script>1</script></main>'
    )
    _, console = load(browser, tmp_path, broken)
    assert len(console) == 2
    assert all("Content Security Policy" in line for line in console)
