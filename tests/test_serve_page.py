"""The explorer in a real browser: click, type, walk, name, average, export, cancel; nothing leaves the machine."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("starlette", reason="the package starlette is not installed")
pytest.importorskip("uvicorn", reason="the package uvicorn is not installed")

from dynamo.analysis.networks.few_labels import few_labels
from dynamo.contracts.trajectory import Inputs
from dynamo.serve.points import POINTS
from reports import IMAGES, SENTENCES, save_run
from serving import serving
from test_report_page import NARROW, WIDE, answers_of, click, free_point, on_screen, paste, table_of, theta_of, typed


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    root = tmp_path_factory.mktemp("explorer")
    save_run(root, SENTENCES)
    with serving(root / "run", uploads=root) as served:
        yield served


@pytest.fixture
def visit(browser):
    """Open the explorer; afterwards no page may have said anything but what a test expects, or asked anybody else."""
    opened = []

    def go(served, viewport=WIDE, scheme="light", expected=()):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, accept_downloads=True)
        page, said, asked = context.new_page(), [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(served.url)
        page.wait_for_selector("html[data-ready=yes]")
        settled(page)
        opened.append((context, said, asked, served.url, expected))
        return page

    yield go
    for context, said, asked, url, expected in opened:
        context.close()
        assert [text for text in said if not any(one in text for one in expected)] == []
        assert [one for one in asked if not one.startswith((f"{url}/", "blob:", "data:"))] == []


def settled(page):
    """Wait until the newest question is answered."""
    page.wait_for_selector("#answer:not([aria-busy])", state="attached")


def ids_of(served, page):
    words = served.explorer.population.dataset(served.explorer.population[0]).tokens
    values = torch.tensor([[words.index(word) for word in page.locator("#input").input_value().split()]])
    return Inputs(values, torch.ones_like(values, dtype=torch.bool))


def test_click_type_and_slide(running, visit):
    fit, page = running.explorer.fit, visit(running)
    _, pixels, _ = on_screen(page, fit)
    click(page, pixels[3])
    settled(page)
    assert page.locator("#where b").text_content() == fit.names[3]
    page.fill("#input", " ".join(page.locator("#input").input_value().split()[:4]))
    settled(page)
    inputs = ids_of(running, page)
    wanted = answers_of(fit, fit.names[3], inputs)
    np.testing.assert_allclose(table_of(page, "steps"), wanted, atol=1e-6)
    np.testing.assert_allclose(table_of(page, "answers")[0], wanted[-1], atol=1e-6)
    assert page.locator("#path polyline").count() == 4
    assert page.locator("#scores tr").count() == 4

    click(page, free_point(pixels))
    settled(page)
    np.testing.assert_allclose(table_of(page, "answers")[0], answers_of(fit, theta_of(page), inputs)[-1], atol=1e-5)

    page.select_option("#from", label=fit.names[1])
    page.select_option("#to", label=fit.names[6])
    seen = []
    for share in (0, 35, 100):
        page.locator("#along").fill(str(share))
        settled(page)
        theta = ((100 - share) * fit.theta[1] + share * fit.theta[6]) / 100
        np.testing.assert_allclose(theta_of(page), theta, atol=1e-5)
        seen.append(table_of(page, "answers")[0])
        np.testing.assert_allclose(seen[-1], answers_of(fit, theta.tolist(), inputs)[-1], atol=1e-5)
    assert np.abs(seen[0] - seen[2]).max() > 1e-3
    page.locator("#along").press("ArrowLeft")
    assert page.locator("#along-told").text_content() == "99 %"


def test_walk_over_the_map(running, visit):
    page = visit(running)
    page.click("#walk")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    thetas = [theta_of(page)]
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    for step in range(4):
        page.mouse.move(box["x"] + 120 + 60 * step, box["y"] + 110 + 50 * step, steps=3)
        settled(page)
        thetas.append(theta_of(page))
    page.mouse.up()
    settled(page)
    assert len({tuple(theta) for theta in thetas}) == 5
    np.testing.assert_allclose(
        table_of(page, "answers")[0],
        answers_of(running.explorer.fit, theta_of(page), ids_of(running, page))[-1],
        atol=1e-5,
    )


def test_name_average_and_export(running, visit, tmp_path):
    (running.explorer.folder / POINTS).unlink(missing_ok=True)
    fit, page = running.explorer.fit, visit(running)
    page.fill("#point-name", "<b>mine</b>")
    page.click("#save-point")
    page.wait_for_selector("#points li")
    assert page.locator("#points .name").all_text_contents() == ["<b>mine</b>"]
    page.locator("#map").focus()
    for key in ("ArrowRight", " ", "ArrowLeft", " "):
        page.keyboard.press(key)
    chosen = page.locator("#selection-names li").all_text_contents()
    assert len(chosen) == 2
    page.fill("#point-name", "mean")
    page.click("#save-mean")
    page.wait_for_selector("#points li:nth-child(2)")
    settled(page)
    theta = fit.theta[[fit.names.index(name) for name in chosen]].mean(0)
    np.testing.assert_allclose(theta_of(page), theta, atol=1e-6)
    assert "the mean θ of 2 models" in page.locator("#where").text_content()
    with page.expect_download() as download:
        page.click("#points li:nth-child(2) a")
    download.value.save_as(tmp_path / "mean.safetensors")
    assert download.value.suggested_filename == "mean.safetensors"
    torch.testing.assert_close(load_file(tmp_path / "mean.safetensors")["theta"], theta)
    page.click("#points li:nth-child(2) button[aria-label^=the]")
    page.wait_for_selector("#lines:not([hidden])")
    assert "model_at(tensors['theta']" in page.locator("#lines").text_content()
    other = visit(running, NARROW, "dark")  # a second browser
    other.wait_for_selector("#points li:nth-child(2)")
    page.click("#points li:first-child button[aria-label^=remove]")
    page.wait_for_selector("#points li:nth-child(2)", state="detached")
    assert page.locator("#to option").count() == len(fit.names) + 1
    assert other.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_fixed_points_and_a_cancelled_job(running, visit):
    page = visit(running)
    page.fill("#folder", "population")
    page.click("#embed-start")
    page.wait_for_selector("#embed-stop:not([hidden])")
    page.click("#embed-stop")
    page.wait_for_selector("#embed-told:text-is('cancelled')")
    page.click("#fixed-points-start")
    page.wait_for_selector("#fixed-points-shown canvas", timeout=120_000)
    assert re.match(r"fixed points: \d+", page.locator("#fixed-points-told").text_content())
    page.locator("#fixed-points-shown canvas").press("ArrowLeft")
    assert page.locator("#fixed-points-shown li").count() >= 1


def test_theta_walks_by_a_few_labels(running, visit):
    fit, page = running.explorer.fit, visit(running, expected=["status of 400"])
    page.fill("#labels", "0")
    page.click("#few-labels-start")
    page.wait_for_selector("#few-labels-told:has-text('whole number from 1')")
    page.fill("#labels", "12")
    page.click("#few-labels-start")
    page.wait_for_selector("#few-labels-told:has-text('moving θ')", timeout=60_000)
    page.click("#few-labels-stop")
    page.wait_for_selector("#few-labels-told:text-is('cancelled')")
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    settled(page)
    name, before = page.locator("#where b").text_content(), page.locator("#map").screenshot()
    page.click("#few-labels-start")
    page.wait_for_selector("#few-labels-ends li", timeout=120_000)
    wanted = few_labels(fit, running.explorer.population, 12, draws=2, balanced=True, start=name)
    shown = page.locator("#methods tbody tr").all()
    assert [row.locator("th").text_content() for row in shown] == [method.name for method in wanted.methods]
    scores = [float(row.locator("td").first.text_content()) for row in shown if row.locator("td").first.text_content()]
    np.testing.assert_allclose(scores, [m.score.mean for m in wanted.methods if m.score is not None], atol=5.1e-4)
    assert page.locator("#map").screenshot() != before
    page.click("#few-labels-ends li:nth-child(2) button")
    settled(page)
    np.testing.assert_allclose(theta_of(page), wanted.learned[1], atol=1e-6)
    assert f"after {wanted.steps[1]} steps" in page.locator("#where").text_content()


def test_a_point_leaves_as_onnx(running, visit, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
    (running.explorer.folder / POINTS).unlink(missing_ok=True)
    fit, page = running.explorer.fit, visit(running)
    page.fill("#point-name", "my point")
    page.click("#save-point")
    with page.expect_download(timeout=120_000) as download:
        page.click("#points li button:text-is('ONNX')")
    assert download.value.suggested_filename == "my-point.onnx"
    download.value.save_as(tmp_path / "point.onnx")
    given = {"values": fit.probes[:3].values, "mask": fit.probes[:3].mask}
    run = runtime.InferenceSession(tmp_path / "point.onnx")
    (found,) = run.run(None, {name: value.numpy() for name, value in given.items()})
    np.testing.assert_allclose(found, fit.model_at(fit.names[0])(*given.values()).detach(), atol=1e-5)


def test_a_wrong_input_is_told_and_the_page_goes_on(running, visit):
    page = visit(running, expected=["status of 400"])
    before = page.locator("#input").input_value()
    page.fill("#input", "")
    assert page.locator("#answer-problem").text_content() == "type a word"
    page.fill("#input", before)
    settled(page)
    assert page.locator("#answers").count() == 1
    page.fill("#point-name", "")
    page.click("#save-point")
    page.wait_for_selector("#points-told:has-text('must be a text')")
    page.fill("#folder", "../..")
    page.click("#embed-start")
    page.wait_for_selector("#embed-told:has-text('outside')")


def test_a_huge_paste_is_cut_and_told(running, visit):
    page = visit(running)
    word = running.explorer.population.dataset(running.explorer.population[0]).tokens[5]
    paste(page, f"{word} " * 100_000)
    page.wait_for_selector("#answer-problem:text-is('only the first 200 of 100000 steps are read')")
    settled(page)
    values = torch.full((1, 200), 5)
    wanted = answers_of(running.explorer.fit, running.explorer.fit.names[0], Inputs(values, values > 0))[-1]
    np.testing.assert_allclose(table_of(page, "answers")[0], wanted, atol=1e-6)
    paste(page, word)
    settled(page)
    assert page.locator("#answer-problem").text_content() == ""
    assert table_of(page, "steps").shape[0] == 1


def test_a_theta_far_outside_is_told_and_the_page_goes_on(running, visit):
    (running.explorer.folder / POINTS).unlink(missing_ok=True)
    for name, size in (("far", 1e3), ("farther", 1e29)):
        assert running.ask("/api/points", {"name": name, "theta": [size, -size, size, size]})[0] == 201
    page = visit(running, expected=["status of 400"])
    for name in ("far", "farther"):
        page.click(f"#points .name:text-is('{name}')")
        page.wait_for_selector("#far:has-text('nothing was fitted there'), #answer-problem:has-text('too far outside')")
        settled(page)
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    settled(page)
    assert page.locator("#far").count() == 0
    assert page.locator("#answer-problem").text_content() == ""
    assert page.locator("#answers").count() == 1


def test_two_browsers_at_once_each_get_their_own_answers(running, visit):
    fit = running.explorer.fit
    pages = [visit(running), visit(running)]
    _, pixels, _ = on_screen(pages[0], fit)
    for one, two in ((1, 6), (4, 2), (7, 3)):
        for page, index in zip(pages, (one, two), strict=True):
            click(page, pixels[index])  # neither is waited for before the other
        for page, index in zip(pages, (one, two), strict=True):
            settled(page)
            assert page.locator("#where b").text_content() == fit.names[index]
            wanted = answers_of(fit, fit.names[index], ids_of(running, page))[-1]
            np.testing.assert_allclose(table_of(page, "answers")[0], wanted, atol=1e-6)


def test_all_of_it_is_done_with_the_keyboard(running, visit):
    (running.explorer.folder / POINTS).unlink(missing_ok=True)
    page = visit(running)
    reached = []
    for _ in range(200):
        page.keyboard.press("Tab")
        told = page.evaluate(
            "() => { const at = document.activeElement, look = getComputedStyle(at);"
            "return [at.id, look.outlineStyle !== 'none' && parseFloat(look.outlineWidth) > 0]; }"
        )
        if told[0] and told[0] == next(filter(None, reached), None):
            break  # once round
        reached.append(told[0])
        assert told[1] or not told[0], f"the focus on {told[0]} is not seen"
        if told[0] == "map":
            page.keyboard.press("ArrowRight")
            page.keyboard.press("Enter")
            settled(page)
            chosen = page.locator("#where b").text_content()
            page.keyboard.press(" ")
        elif told[0] == "input":
            page.keyboard.press("Control+a")
            page.keyboard.type("unheard")
            settled(page)
            assert page.locator("#steps tbody th").all_text_contents() == ["unheard (unknown)"]
        elif told[0] == "point-name":
            page.keyboard.type("by keys")
        elif told[0] == "save-point":
            page.keyboard.press("Enter")
            page.wait_for_selector("#points .name:text-is('by keys')")
        elif told[0] == "along":
            page.keyboard.press("ArrowRight")
            settled(page)
            assert "99 %" in page.locator("#where").text_content()
            ends = page.locator("#where b").all_text_contents()
    shown = "[...document.querySelectorAll('#map-part :is(button, input, select, textarea, canvas[tabindex])')]"
    wanted = page.evaluate(
        f"{shown}.filter(one => one.id && !one.disabled && one.checkVisibility()).map(one => one.id)"
    )
    assert {"lasso", "walk", "colour", "from", "fixed-points-start", "few-labels-start", "embed-start"} <= set(wanted)
    assert set(wanted) - set(reached) == set()
    (point,) = running.ask("/api/points")[1]["points"]
    fit = running.explorer.fit
    one, two = (fit.theta[fit.names.index(name)] for name in ends)
    assert (point["name"], ends[0]) == ("by keys", chosen)
    np.testing.assert_allclose(point["theta"], 0.99 * one + 0.01 * two, atol=1e-6)


def test_a_server_that_ends_is_told(visit, tmp_path):
    save_run(tmp_path, SENTENCES)
    with serving(tmp_path / "run") as served:
        page = visit(served, expected=["ERR_CONNECTION", "Failed to load"])
    page.fill("#input", "a word")
    page.wait_for_selector("#answer-problem:has-text('is `dynamo serve` still running?')")


def test_pictures_are_drawn_and_dropped(visit, tmp_path):
    fit = save_run(tmp_path, IMAGES)
    from matplotlib.image import imsave

    ramp = np.tile(np.linspace(0, 1, 8), (8, 1))
    imsave(tmp_path / "ramp.png", ramp, cmap="gray", vmin=0, vmax=1)
    (tmp_path / "no.png").write_bytes(b"no picture")
    with serving(tmp_path / "run") as served:
        page = visit(served)
        first = typed(fit, page.locator("#input").input_value())
        np.testing.assert_allclose(table_of(page, "answers")[0], answers_of(fit, fit.names[0], first)[-1], atol=1e-6)
        before = page.locator("#input").input_value()
        page.set_input_files("#picture", tmp_path / "ramp.png")
        while page.locator("#input").input_value() == before:
            page.wait_for_timeout(20)
        settled(page)
        shown = np.array([line.split() for line in page.locator("#input").input_value().splitlines()], dtype=float)
        low, high = float(fit.probes.values.min()), float(fit.probes.values.max())
        np.testing.assert_allclose(shown, low + (high - low) * ramp, atol=0.02 * (high - low))
        wanted = answers_of(fit, fit.names[0], typed(fit, page.locator("#input").input_value()))
        np.testing.assert_allclose(table_of(page, "answers")[0], wanted[-1], atol=1e-6)
        page.set_input_files("#picture", tmp_path / "no.png")
        page.wait_for_selector("#answer-problem:has-text('no picture')")
        page.click("#clear")
        settled(page)
        wiped = [float(value) for value in page.locator("#input").input_value().split()]
        assert wiped == pytest.approx([low] * 64, rel=1e-3)


def test_what_python_shows_is_what_the_line_gives(running, visit):
    page = visit(running)
    told = page.locator("#python").text_content()
    assert json.loads(re.search(r"\[.*\]", told)[0]) == pytest.approx(running.explorer.fit.theta[0].tolist(), rel=1e-6)
