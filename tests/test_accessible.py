"""Report, explorer and the map of a notebook can be used by all: axe-core finds nothing on them, light or dark, wide or
narrow.
"""

import pytest

pytest.importorskip("axe_playwright_python", reason="the package axe-playwright-python is not installed")

from axe_playwright_python.sync_playwright import Axe

from dynamo import write_report
from dynamo.system.storage import write_csv
from reports import DIGITS, SENTENCES, save_run
from test_report_page import NARROW, WIDE

LOOKS = [(form, scheme) for form in (WIDE, NARROW) for scheme in ("light", "dark")]


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]['width']}-{look[1]}")
def page(request, browser):
    """An empty page of a size, light or dark."""
    form, scheme = request.param
    context = browser.new_context(viewport=form, color_scheme=scheme)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module", params=[SENTENCES, DIGITS], ids=lambda spec: spec.name)
def root(request, tmp_path_factory):
    """A run to which a question was asked."""
    root = tmp_path_factory.mktemp("accessible")
    save_run(root, request.param)
    (root / "run" / "averages").mkdir()
    rows = [[f"way {number}", number / 7, number] for number in range(40)]
    for name in ("ways", "averages"):
        write_csv(root / "run" / "averages" / f"{name}.csv", ["way", "score", "number"], rows)
    return root


def found(page):
    """What axe-core finds, in words."""
    violations = Axe().run(page).response["violations"]
    return [f"{one['id']} ({one['impact']}): {[node['html'][:120] for node in one['nodes'][:4]]}" for one in violations]


def choose(page):
    """Bring out what is hidden until something is chosen: the tip, the selection, a sorted table, a folded part."""
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    for head in page.locator("#models-table thead button").all()[:1]:
        head.click()


def test_the_report(root, page):
    page.goto(write_report(root / "run").resolve().as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert found(page) == []
    choose(page)
    assert found(page) == []


def test_the_explorer(root, page):
    pytest.importorskip("starlette", reason="the package starlette is not installed")
    pytest.importorskip("uvicorn", reason="the package uvicorn is not installed")
    from serving import serving
    from test_serve_page import settled

    with serving(root / "run", uploads=root) as served:
        served.ask("/api/points", {"name": "one", "theta": [0.0] * 4, "place": [0.0, 0.0]})
        page.goto(served.url)
        page.wait_for_selector("html[data-ready=yes]")
        page.wait_for_selector("#points li")
        settled(page)
        choose(page)
        page.click("#points button[aria-label^=the]")
        page.wait_for_selector("#lines:not([hidden])")
        page.click("#save-point")  # without a name, which is told
        page.wait_for_selector("#points-told:not(:empty)")
        assert found(page) == []
        served.ask("/api/points/one", method="DELETE")


def test_the_map_of_a_notebook(root, page):
    pytest.importorskip("anywidget", reason="the package anywidget is not installed")
    from dynamo import Fit
    from test_notebook import show

    page.set_content("<!doctype html><html lang=en><title>notebook</title><main><h1>A notebook</h1></main></html>")
    show(page, Fit.load(root / "run").map(), "main")
    choose(page)
    assert found(page) == []
