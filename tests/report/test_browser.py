"""The page in a real browser."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine: the page is not tested in a real browser")
    return found


def test_a_real_browser_draws_every_figure_and_logs_no_error(page, tmp_path):
    text = page.read_text()
    # Asks the browser itself, after layout, for the size of every chart.
    probe = (
        "<script>addEventListener('load',()=>{document.title='sizes '+[...document.querySelectorAll('svg')]"
        ".map(s=>{const b=s.getBoundingClientRect();return Math.round(b.width)+'x'+Math.round(b.height)}).join(' ')"
        "+' overflow '+(document.documentElement.scrollWidth>innerWidth)})</script></body>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", probe))
    names = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "enable-logging=stderr"]
    names += ["disable-background-networking", "disable-component-update", "disable-sync", "window-size=900,1200"]
    names += [f"user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [chromium(), *(f"--{name}" for name in names), "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = done.stdout.split("<title>")[1].split("</title>")[0]
    sizes, overflow = title.removeprefix("sizes ").split(" overflow ")
    boxes = [tuple(map(int, size.split("x"))) for size in sizes.split()]
    assert len(boxes) == 8
    assert all(width > 200 and height > 100 for width, height in boxes)
    assert overflow == "false"
    assert "CONSOLE" not in done.stderr
