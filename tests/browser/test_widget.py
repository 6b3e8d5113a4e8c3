"""The widget as a reader uses it: in a real JupyterLab in Chromium, with the keyboard.

Needs playwright and Debian's chromium, which the course itself does not: `pip install playwright` to run it.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]

CELL = """
import torch
from aigc_lib.teaching.widgets import Scrubber
frames = torch.linspace(-1, 1, 3).view(3, 1, 1, 1).expand(3, 1, 8, 8)
Scrubber(frames, ["dark", "grey", "bright"], "Grey rises.", "A square.")
"""


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab that shows a notebook with one Scrubber."""
    notebook = new_notebook(cells=[new_code_cell(CELL)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "widget.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", f"--IdentityProvider.token={token}"]
    folders = {f"JUPYTER{name}_DIR": str(tmp_path / name) for name in ("_RUNTIME", "LAB_SETTINGS", "LAB_WORKSPACES")}
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options, f"--ServerApp.root_dir={tmp_path}"],
        env=os.environ | folders,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/lab/tree/widget.ipynb?token={token}&reset"
    finally:
        server.terminate()
        server.wait(20)


def test_arrow_keys_move_the_slider_and_the_picture_follows(lab):
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(lab, wait_until="domcontentloaded")
        page.click(".jp-CodeCell .cm-content", timeout=90_000)
        page.keyboard.press("Control+Enter")
        picture = page.locator(".jp-OutputArea-output .widget-html img")
        picture.wait_for(timeout=300_000)  # the kernel starts and imports torch
        sources = [picture.get_attribute("src")]
        assert picture.get_attribute("alt") == "A square. (show: dark)"
        page.locator(".noUi-handle").focus()
        for label in ("grey", "bright"):
            page.keyboard.press("ArrowRight")
            page.wait_for_selector(f'.widget-html img[alt="A square. (show: {label})"]', timeout=30_000)
            sources.append(picture.get_attribute("src"))
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector('.widget-html img[alt="A square. (show: grey)"]', timeout=30_000)
        assert len(set(sources)) == 3
        assert picture.get_attribute("src") == sources[1]
        browser.close()
