"""How long does the explorer take to answer? A run is served, and Chromium clicks, walks and types.

    python benchmarks/explorer.py RUN

Needs the packages starlette, uvicorn and playwright, and Chromium. A time begins with the press of a button and ends
when the answer is on the page: outputs, scores on up to 256 test examples, and the path of the state, of the network
there and of the three nearest.
"""

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from playwright.sync_api import Page, sync_playwright

CLICKS = 60

#: Resolves when the answer to what was just done is on the page, with the milliseconds since.
ANSWERED = """() => new Promise(done => {
  const begun = performance.now(), box = document.getElementById("answer");
  const look = () => box.hasAttribute("aria-busy") ? setTimeout(look, 1)
    : requestAnimationFrame(() => done(performance.now() - begun));
  self.act(); look();
})"""


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def wait_for(address: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urlopen(address, timeout=seconds).close()
        except URLError:
            time.sleep(0.1)
        else:
            return
    raise TimeoutError(f"nothing answers at {address}")


def timed(page: Page, acts: Sequence[str]) -> list[float]:
    """Milliseconds of each act, a piece of JavaScript."""
    found = []
    for act in acts:
        page.evaluate(f"() => {{ self.act = () => {{ {act} }}; }}")
        found.append(page.evaluate(ANSWERED))
    return found


def press(x: float, y: float, kinds: Sequence[str] = ("pointerdown", "pointerup")) -> str:
    """A press on the map at shares of its width and height."""
    return (
        "const map = document.getElementById('map'), box = map.getBoundingClientRect();"
        "map.setPointerCapture = () => {};"
        f"for (const kind of {list(kinds)}) map.dispatchEvent(new PointerEvent(kind, {{ bubbles: true, buttons: 1, "
        f"clientX: box.left + {x} * box.width, clientY: box.top + {y} * box.height }}));"
    )


def tell(name: str, times: Sequence[float]) -> None:
    ranked = sorted(times)
    print(f"| {name} | {statistics.median(ranked):.0f} | {ranked[int(0.95 * (len(ranked) - 1))]:.0f} |", flush=True)


def measure(page: Page) -> None:
    random = np.random.default_rng(0)
    places = random.uniform(0.1, 0.9, (CLICKS, 2))
    tell("click", timed(page, [press(*place) for place in places]))
    page.click("#walk")
    along = np.linspace((0.1, 0.2), (0.9, 0.8), CLICKS)
    walk = [press(*along[0], ["pointerdown", "pointermove"]), *(press(*place, ["pointermove"]) for place in along[1:])]
    tell("walk, each step", timed(page, walk))
    text = page.locator("#input").input_value()
    typed = [
        f"const area = document.getElementById('input'); area.value = {text[:size]!r} || 'a';"
        "area.dispatchEvent(new Event('input'));"
        for size in range(1, min(len(text), CLICKS))
    ]
    tell("type a letter", timed(page, typed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run, port = parser.parse_args().run, free_port()
    command = [sys.executable, "-m", "dynamo.cli", "serve", str(run), "--port", str(port), "--no-browser"]
    address = f"http://127.0.0.1:{port}/"
    served = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(address)
        with sync_playwright() as api:
            browser = api.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            begun = time.perf_counter()
            page.goto(address)
            page.wait_for_selector("html[data-ready=yes]")
            opened = 1000 * (time.perf_counter() - begun)
            page.wait_for_selector("#answer:not([aria-busy])")
            scored = page.locator("#scores caption")
            print(scored.text_content() if scored.count() else "Without scores.", end="\n\n")
            print("| | median, ms | 95 %, ms |\n|---|---|---|")
            tell("open the page, once", [opened])
            measure(page)
            browser.close()
    finally:
        served.terminate()
        served.wait(30)


if __name__ == "__main__":
    main()
