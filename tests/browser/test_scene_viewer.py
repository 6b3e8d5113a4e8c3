"""A scene as a visitor meets it: opened from the disk in Chromium, looked around in, listened to, played.

Needs playwright and Debian's chromium, which the course itself does not: `pip install playwright` to run it.
"""

import io
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

from aigc_lib.applications.binaural import binaural
from aigc_lib.applications.panorama import direction
from aigc_lib.applications.scene import scene

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
# WebGL by the processor, where there is no graphics card.
GRAPHICS = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
FLAGS = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", *GRAPHICS]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]

KEYS = {
    "left": {"up": "w", "left": "a", "down": "s", "right": "d"},
    "right": {cut: f"Arrow{cut.capitalize()}" for cut in ("up", "left", "down", "right")},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewer")
    return scene(folder / "scene.html", light="day", sounds=("bell",), seconds=8.0, height=256, progress=False)


@pytest.fixture(scope="module")
def driver():
    with playwright.sync_playwright() as driver:
        yield driver


@pytest.fixture
def visit(file, driver):
    """Opens the scene; at the end nothing may have been asked of a network, and no error said."""
    browsers, wrong = [], []

    def open_page(*, flags=FLAGS, **options):
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        browsers.append(browser)
        page = browser.new_context(viewport={"width": 960, "height": 600}, **options).new_page()
        known = ("data:", file.as_uri())
        page.on("request", lambda request: request.url.startswith(known) or wrong.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(file.as_uri())
        return page

    yield open_page
    for browser in browsers:
        browser.close()
    assert wrong == []


def wait(page, condition, seconds=60):
    """Playwright's own wait evaluates text in the page, which the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.05)


def pixels(page):
    image = Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")
    return torch.from_numpy(np.array(image.resize((96, 60)))) / 255


def test_a_frame_is_not_black_and_keys_turn_the_view(visit):
    page = visit()
    wait(page, "viewer.ready")
    page.keyboard.press("Home")
    before = pixels(page)
    assert before.std() > 0.05
    assert before[5:25].mean() > 0.3  # the sky of a day
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    wait(page, "Math.abs(viewer.look.azimuth - 50 / 180 * Math.PI) < 0.01")
    assert "Looking 50° right" in page.inner_text("#status")
    time.sleep(0.3)
    assert (pixels(page) - before).abs().mean() > 0.02


def test_dragging_turns_and_buttons_lead_to_things(visit):
    page = visit()
    wait(page, "viewer.ready")
    page.mouse.move(500, 300)
    page.mouse.down()
    page.mouse.move(400, 300, steps=3)
    page.mouse.up()
    assert page.evaluate("viewer.look.azimuth") > 0.1
    page.click("#things summary")
    page.get_by_role("button", name="bell").click()
    assert "at: bell" in page.inner_text("#status")


def play_until(page, condition, seconds=30):
    """Press the right key for every block, as soon as it is near enough."""
    end = time.monotonic() + seconds
    near = "viewer.game.notes.find((note) => !note.state && Math.abs(note.time - viewer.time()) < 0.08)"
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        if note := page.evaluate(near):
            page.keyboard.press(KEYS[note["hand"]][note["cut"]])


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_a_block_is_hit_and_counted_with_and_without_motion(visit, motion):
    page = visit(reduced_motion=motion)
    wait(page, "viewer.ready")
    assert page.is_checked("#calm") == (motion == "reduce")
    page.click("#play")
    wait(page, "viewer.game.on && viewer.time() > -1")
    still = pixels(page)
    play_until(page, "viewer.game.hits >= 2")
    assert int(page.inner_text("#score")) >= 100
    assert (pixels(page) - still).abs().mean() > 0.002
    page.keyboard.press("Escape")
    assert "Stopped" in page.inner_text("#said")
    assert page.evaluate("viewer.game.on") is False


def test_a_wrong_cut_is_no_hit_unless_any_direction_counts(visit):
    page = visit()
    wait(page, "viewer.ready")
    cut = """(any) => {
      document.getElementById("any").checked = any;
      const note = viewer.game.notes.find((each) => !each.state), up = note.cut === "up";
      viewer.game.start += viewer.time() - note.time;
      const code = note.hand === "left" ? (up ? "KeyS" : "KeyW") : up ? "ArrowDown" : "ArrowUp";
      dispatchEvent(new KeyboardEvent("keydown", { code })); return [note.state, viewer.game.hits]; }"""
    page.click("#play")
    wait(page, "viewer.game.on")
    assert page.evaluate(cut, False) == ["missed", 0]
    assert page.evaluate(cut, True) == ["hit", 1]


def test_the_browsers_ears_are_those_of_the_library(visit):
    page = visit()
    rate = 48_000
    noise = 0.2 * torch.randn(4096, generator=torch.Generator().manual_seed(0))
    for degrees in (-90, 20, 130):
        place = direction(torch.tensor(degrees).deg2rad().item(), 0.0)
        heard = page.evaluate(
            """async ([samples, rate, right]) => {
              const context = new OfflineAudioContext(2, samples.length + 96, rate);
              const buffer = context.createBuffer(1, samples.length, rate);
              buffer.copyToChannel(Float32Array.from(samples), 0);
              const source = new AudioBufferSourceNode(context, { buffer });
              viewer.ears(context, source, context.destination)(right, false); source.start();
              const made = await context.startRendering();
              return [0, 1].map((i) => Array.from(made.getChannelData(i))); }""",
            [noise.tolist(), rate, place[0].item()],
        )
        spectra = [torch.fft.rfft(ears.double()) for ears in (torch.tensor(heard), binaural(noise, place, rate))]
        low = torch.fft.rfftfreq(len(noise) + 96, 1 / rate) < 5000  # above, delays between samples and filters differ
        error = (spectra[0] - spectra[1])[:, low].norm(dim=1) / spectra[1][:, low].norm(dim=1)
        assert (error < 0.05).all(), (degrees, error)


def test_without_webgl_there_is_a_message_and_the_picture(visit):
    page = visit(flags=[*FLAGS[:4], "--disable-gpu", "--disable-3d-apis"])
    assert page.locator("#fallback h2").inner_text().startswith("No WebGL 2")
    assert page.locator("#fallback img").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 512
