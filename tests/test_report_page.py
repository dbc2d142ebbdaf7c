"""The page of a report in a real browser: what it shows is what Python gives, and it asks nobody for anything."""

import csv
import io
import json
import re

import attrs
import numpy as np
import pytest
import torch

from dynamo import write_report
from dynamo.contracts.trajectory import Inputs
from dynamo.report.content import content_of
from dynamo.report.coordinates import map_coordinates
from dynamo.report.html import html
from dynamo.report.section import Section
from reports import DIGITS, FLIP_FLOP, IMAGES, SENTENCES, save_run

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}
HOSTILE = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">'\"&\u202e"


@pytest.fixture(scope="module", params=[SENTENCES, DIGITS, FLIP_FLOP, IMAGES], ids=lambda spec: spec.name)
def made(request, tmp_path_factory):
    """A fit and the page of its run."""
    root = tmp_path_factory.mktemp("report")
    fit = save_run(root, request.param)
    return fit, write_report(root / "run")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    root = tmp_path_factory.mktemp("sentences")
    return save_run(root, SENTENCES), root / "run"


@attrs.frozen
class Opened:
    """A page with all that it said and asked for."""

    page: object
    said: list[str]
    asked: list[str]


@pytest.fixture
def visit(browser):
    """Open a file; afterwards no page may have said anything or asked for anything."""
    opened = []

    def go(path, viewport=WIDE, scheme="light"):
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True, accept_downloads=True)
        page = context.new_page()
        own = Opened(page, [], [])
        page.on("console", lambda message: own.said.append(message.text))
        page.on("pageerror", lambda error: own.said.append(str(error)))
        page.on("request", lambda request: own.asked.append(request.url))
        page.goto(path.resolve().as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        opened.append((context, own, path))
        return page

    yield go
    for context, own, path in opened:
        outside = [
            url for url in own.asked if not url.startswith(("data:", "blob:")) and url != path.resolve().as_uri()
        ]
        context.close()
        assert own.said == []
        assert outside == []


def on_screen(page, fit):
    """Where the models are on the flat map, ``[N, 2]``, in pixels of the canvas, and how places become pixels."""
    places = np.zeros((len(fit.names), 2))
    found = map_coordinates(fit).places.coordinates[:, :2]
    places[:, : found.shape[1]] = found
    width, height = page.locator("#map").evaluate("canvas => [canvas.clientWidth, canvas.clientHeight]")
    middle, half = (places.max(0) + places.min(0)) / 2, (places.max(0) - places.min(0)) / 2
    scale = min((width / 2 - 44) / half[0], (height / 2 - 44) / half[1])
    centre = np.array([width / 2, height / 2])
    return (
        places,
        centre + (places - middle) * scale * [1, -1],
        lambda pixel: middle + (pixel - centre) / scale * [1, -1],
    )


def click(page, point, **more):
    page.locator("#map").click(position={"x": float(point[0]), "y": float(point[1])}, **more)


def paste(page, text):
    """Put a long text into the page, which a browser would type letter by letter."""
    script = "(area, text) => { area.value = text; area.dispatchEvent(new Event('input')); }"
    page.locator("#input").evaluate(script, text)


def free_point(pixels):
    """A pixel in the middle of the map that is far from all models."""
    grid = np.stack(np.meshgrid(np.arange(60, 420, 7), np.arange(60, 420, 7)), -1).reshape(-1, 2) + 0.0
    return grid[np.linalg.norm(grid[:, None] - pixels, axis=2).min(1).argmax()]


def typed(fit, text):
    """What a text typed into the page is as inputs."""
    rows = [[float(cell) for cell in line.split()] for line in text.splitlines()]
    values = torch.tensor(rows)[None]
    if fit.emulator.blueprint.inputs.kind == "image":
        return Inputs(values[None], torch.ones(1, 1, dtype=torch.bool))
    return Inputs(values, torch.ones(values.shape[:2], dtype=torch.bool))


def inputs_of(fit, page):
    text = page.locator("#input").input_value()
    if fit.emulator.blueprint.inputs.kind != "tokens":
        return typed(fit, text)
    words = fit.open_population()
    tokens = words.dataset(words[0]).tokens
    values = torch.tensor([[tokens.index(word) for word in text.split()]])
    return Inputs(values, torch.ones_like(values, dtype=torch.bool))


def table_of(page, name):
    """The numbers of an answer, row by row."""
    rows = page.locator(f"#{name} tbody tr").all()
    return np.array(
        [[float(cell.get_attribute("data-value")) for cell in row.locator("td[data-value]").all()] for row in rows]
    )


def answers_of(fit, theta, inputs):
    """What Python gives at a θ after each step: probabilities, or real outputs."""
    outputs = fit.model_at(theta).trajectory(inputs).outputs[0]
    return (outputs.softmax(-1) if fit.emulator.blueprint.heads[0][1].kind == "classes" else outputs).detach().numpy()


def theta_of(page):
    return json.loads(re.search(r"\[.*\]", page.locator("#python").text_content())[0])


def test_the_network_at_a_model_answers_as_python_does(made, visit):
    fit, path = made
    page = visit(path)
    _, pixels, _ = on_screen(page, fit)
    for index in (3, 5):
        click(page, pixels[index])
        assert page.locator("#where").text_content() == f"At {fit.names[index]}: the network that imitates it."
        page.click("#example")
        inputs = inputs_of(fit, page)
        wanted = answers_of(fit, fit.names[index], inputs)
        if fit.emulator.blueprint.inputs.kind != "image":
            np.testing.assert_allclose(table_of(page, "steps"), wanted, atol=1e-3)
        np.testing.assert_allclose(table_of(page, "answers")[0], wanted[-1], atol=1e-3)
        assert torch.tensor(theta_of(page)).equal(fit.theta[index])


def test_the_network_between_models_is_that_of_the_mean_theta_of_the_nearest(made, visit):
    fit, path = made
    page = visit(path)
    places, pixels, place_at = on_screen(page, fit)
    point = free_point(pixels)
    click(page, point)
    place = place_at(point)
    far = np.linalg.norm(places - place, axis=1)
    order = np.argsort(far)
    parts = (1 / far[order[:6]] - 1 / far[order[6]]) ** 2  # Franke and Little's weights
    theta = parts / parts.sum() @ fit.theta.numpy()[order[:6]]
    np.testing.assert_allclose(theta_of(page), theta, rtol=1e-3, atol=1e-4)
    assert "Between the models" in page.locator("#where").text_content()
    inputs = inputs_of(fit, page)
    rows = table_of(page, "answers")
    np.testing.assert_allclose(rows[0], answers_of(fit, theta_of(page), inputs)[-1], atol=1e-3)
    shown = [row.text_content() for row in page.locator("#answers tbody th").all()]
    assert shown == ["here", *(fit.names[index] for index in order[:3])]
    for name, row in zip(shown[1:], rows[1:], strict=True):
        np.testing.assert_allclose(row, answers_of(fit, name, inputs)[-1], atol=1e-3)


def test_a_model_under_the_pointer_is_described(made, visit):
    fit, path = made
    page = visit(path)
    _, pixels, _ = on_screen(page, fit)
    measured = content_of([path.parent]).fidelity.models
    for index in (0, 6):
        page.locator("#map").hover(position={"x": float(pixels[index][0]), "y": float(pixels[index][1])})
        tip = page.locator("#tip")
        assert tip.locator("strong").text_content() == fit.names[index]
        keys = [key.text_content() for key in tip.locator("dt").all()]
        told = dict(zip(keys, [value.text_content() for value in tip.locator("dd").all()], strict=True))
        assert told["group"] == fit.metadata[index]["group"]
        assert told["note"] == f"no. {index}"
        assert float(told["agreement"]) == pytest.approx(measured[index].agreement, abs=5e-4)
        assert float(told["base score"]) == pytest.approx(measured[index].base_score, abs=5e-4)
    page.mouse.move(2, 2)
    assert not page.locator("#tip").is_visible()


def test_keys_lead_from_model_to_model(sentences, visit):
    fit, run = sentences
    page = visit(write_report(run))
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    seen = {page.locator("#tip strong").text_content()}
    for key in ["ArrowRight"] * 8 + ["ArrowLeft", "ArrowDown"] * 8 + ["ArrowUp"] * 8:
        page.keyboard.press(key)
        seen.add(page.locator("#tip strong").text_content())
    assert len(seen) > len(fit.names) / 2
    name = page.locator("#tip strong").text_content()
    page.keyboard.press("Enter")
    assert page.locator("#where b").text_content() == name
    page.keyboard.press(" ")
    assert page.locator("#selection-names li").all_text_contents() == [name]
    page.keyboard.press("Escape")
    assert not page.locator("#selection").is_visible()


def test_the_lasso_gives_names_and_a_table(sentences, visit, tmp_path):
    fit, run = sentences
    page = visit(write_report(run))
    places, pixels, _ = on_screen(page, fit)
    page.click("#lasso")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    cut = float(np.median(pixels[:, 0]))
    corners = [(2, 2), (cut, 2), (cut, box["height"] - 3), (2, box["height"] - 3), (2, 2)]
    page.mouse.move(box["x"] + corners[0][0], box["y"] + corners[0][1])
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=6)
    page.mouse.up()
    wanted = [name for name, (x, _) in zip(fit.names, pixels, strict=True) if x < cut]
    assert 0 < len(wanted) < len(fit.names)
    assert page.locator("#selection-names li").all_text_contents() == wanted
    assert page.locator("#selection-count").text_content() == f"{len(wanted)} models chosen"
    with page.expect_download() as download:
        page.click("#download")
    download.value.save_as(tmp_path / "models.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "models.csv").read_text())))
    assert [row["name"] for row in rows] == wanted
    numbers = [fit.names.index(name) for name in wanted]
    theta = [[float(row[f"theta_{k}"]) for k in range(1, 5)] for row in rows]
    np.testing.assert_allclose(theta, fit.theta.numpy()[numbers], rtol=1e-6)
    shown = [[float(row[f"coordinate_{k}"]) for k in (1, 2)] for row in rows]
    np.testing.assert_allclose(shown, places[numbers], rtol=1e-5, atol=1e-6)
    assert [row["group"] for row in rows] == [fit.metadata[number]["group"] for number in numbers]


@pytest.mark.parametrize("spec", [DIGITS, IMAGES], ids=lambda spec: spec.name)
def test_a_digit_is_drawn(spec, tmp_path, visit):
    fit = save_run(tmp_path, spec)
    page = visit(write_report(tmp_path / "run"))
    page.locator("#paint").scroll_into_view_if_needed()
    page.click("#clear")
    empty = {float(value) for value in page.locator("#input").input_value().split()}
    (paper,) = empty
    assert paper == pytest.approx(float(fit.probes.values.min()), rel=1e-3)
    box = page.locator("#paint").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.56, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.56, box["y"] + box["height"] * 0.9, steps=12)
    page.mouse.up()
    drawn = np.array([[float(v) for v in line.split()] for line in page.locator("#input").input_value().splitlines()])
    assert drawn.shape == (8, 8)
    assert (drawn[:, 4] > paper + 0.4).all()
    np.testing.assert_allclose(drawn[:, [0, 1, 7]], paper, atol=1e-3)
    wanted = answers_of(fit, fit.names[0], inputs_of(fit, page))
    np.testing.assert_allclose(table_of(page, "answers")[0], wanted[-1], atol=1e-3)


def test_what_is_typed_wrong_is_told_and_the_page_goes_on(tmp_path, sentences, visit):
    fit, run = sentences
    page = visit(write_report(run))
    words = fit.open_population()
    tokens = words.dataset(words[0]).tokens
    page.fill("#input", f"{tokens[5].upper()} nonsense, {tokens[7]}!")
    steps = page.locator("#steps tbody th").all_text_contents()
    assert steps == [tokens[5], "nonsense (unknown)", tokens[7], "! (unknown)"]
    values = torch.tensor([[5, 1, 7, 1]])
    wanted = answers_of(fit, fit.names[0], Inputs(values, torch.ones_like(values, dtype=torch.bool)))
    np.testing.assert_allclose(table_of(page, "steps"), wanted, atol=1e-3)
    page.fill("#input", "")
    assert page.locator("#answer-problem").text_content() == "type a word"
    save_run(tmp_path, FLIP_FLOP)
    page = visit(write_report(tmp_path / "run"))
    page.fill("#input", "1 0 0\n1 x 0")
    assert page.locator("#answer-problem").text_content() == "line 2 must be 3 numbers"
    paste(page, "1 0 0\n" * 5000)
    assert page.locator("#answer-problem").text_content() == "only the first 200 of 5000 steps are read"
    assert table_of(page, "answers").shape == (4, 3)


def test_without_the_population_ids_are_typed(sentences, tmp_path, visit):
    fit, _ = sentences
    source = {key: value for key, value in fit.source.items() if key != "path"}
    attrs.evolve(fit, source=source).save(tmp_path / "run")
    page = visit(write_report(tmp_path / "run"))
    page.fill("#input", "5, 1 7")
    values = torch.tensor([[5, 1, 7]])
    wanted = answers_of(fit, fit.names[0], Inputs(values, torch.ones_like(values, dtype=torch.bool)))
    np.testing.assert_allclose(table_of(page, "steps"), wanted, atol=1e-3)
    page.fill("#input", "5 12345678")
    assert "no token id" in page.locator("#answer-problem").text_content()
    told = page.locator("#fidelity").text_content()
    assert "was not measured" in told


@pytest.mark.parametrize("form", [WIDE, NARROW], ids=["wide", "narrow"])
def test_colours_shapes_and_sides(sentences, visit, form):
    _, run = sentences
    page = visit(write_report(run), form, "dark")
    assert page.locator("#legend li").all_text_contents()[:1] == ["group"]
    for value in page.locator("#colour option").all():
        page.select_option("#colour", value.get_attribute("value"))
    page.select_option("#colour", label="hidden R²")
    assert page.locator("#legend .scale").count() == 1
    page.select_option("#shape", label="group")
    assert "group" in page.locator("#legend li").all_text_contents()
    before = page.locator("#map").screenshot()
    page.click("#turnable")
    page.locator("#map").focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert page.locator("#map").screenshot() != before
    assert page.evaluate("document.documentElement.scrollWidth") <= form["width"]
    page.emulate_media(media="print")


def test_a_hostile_name_is_a_name(sentences, visit, tmp_path):
    fit, run = sentences
    content = content_of([run])
    emulator = fit.emulator
    blueprint = emulator.blueprint
    subjects = [attrs.evolve(subject, name=f"{HOSTILE}{n}") for n, subject in enumerate(blueprint.subjects)]
    own = content_of([run]).fit
    own.emulator.blueprint = attrs.evolve(
        blueprint, subjects=tuple(subjects), heads=tuple((HOSTILE, space) for _, space in blueprint.heads)
    )
    metadata = [{**table, HOSTILE: f"{HOSTILE}{n % 2}", "__proto__": "x"} for n, table in enumerate(fit.metadata)]
    network = attrs.evolve(content.network, words=[f"{HOSTILE}{n}" for n in range(len(content.network.words))])
    section = Section(HOSTILE, HOSTILE, HOSTILE, [HOSTILE], [HOSTILE], tables=[(HOSTILE, ([HOSTILE], [[HOSTILE]]))])
    content = attrs.evolve(
        content,
        fit=attrs.evolve(own, metadata=metadata),
        colour=HOSTILE,
        network=network,
        sections=[*content.sections, section],
    )
    path = tmp_path / f"{'<img src=x onerror=alert(1)>'}.html"
    path.write_text(html(content))
    page = visit(path)
    shown = HOSTILE.replace("\u202e", "\\u202e")
    assert page.title() == f"8 networks on one map: {run.name}"
    assert page.locator("#where b").text_content() == f"{shown}0"
    assert page.locator("#legend bdi").all_text_contents() == [f"{shown}0", f"{shown}1"]
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    assert page.locator("#selection-names li").all_text_contents()[0].startswith(shown)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert "\u202e" not in path.read_text()


def test_the_page_forbids_itself_what_it_does_not_need(sentences, visit):
    _, run = sentences
    page = visit(write_report(run))
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"connect|https?:|\*", policy)
    text = write_report(run).read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|\beval\(|new Function|document\.write|fetch\(|\.src ?=", text
    )


@pytest.mark.slow
def test_a_thousand_models_are_there_in_two_seconds(tmp_path, visit):
    save_run(tmp_path, FLIP_FLOP, count=1000)
    path = write_report(tmp_path / "run")
    assert path.stat().st_size < 15e6
    page = visit(path)
    assert page.evaluate("performance.getEntriesByType('paint').at(-1).startTime") < 2000
    assert page.locator("#models tbody tr").count() == 1000
