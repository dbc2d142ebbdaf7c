"""The map in a notebook: what is chosen in the browser is what Python has, and the other way round."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("anywidget", reason="the package anywidget is not installed")

from traitlets import TraitError

from dynamo import DynamoError, Fit
from dynamo.report import notebook
from dynamo.report.content import content_of
from dynamo.report.page_data import page_data
from reports import SENTENCES, save_run
from test_report_page import click, free_point, on_screen

#: Stands for the notebook: it loads the widget's module as anywidget does, and keeps what is told to Python.
NOTEBOOK = """async ({ code, state, where }) => {
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const { render } = (await import(url)).default;
  const heard = new Map(), told = [];
  const model = {
    get: name => state[name],
    set(name, value) {
      state[name] = value;
      told.push(name);
      for (const act of heard.get(`change:${name}`) ?? []) act();
    },
    save_changes() { self.saved = Object.fromEntries(told.map(name => [name, state[name]])); },
    on(event, act) { heard.set(event, [...heard.get(event) ?? [], act]); },
    off(event, act) { heard.set(event, heard.get(event).filter(other => other !== act)); },
  };
  const el = document.createElement("div");
  document.querySelector(where).append(el);
  Object.assign(self, { model, heard, ended: await render({ model, el }) });
}"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("notebook")
    save_run(root, SENTENCES)
    return root / "run"


@pytest.fixture
def fit(run):
    return Fit.load(run)


@pytest.fixture
def shown(fit, browser):
    """A widget, and a page that shows it; the page may say nothing and ask nobody."""
    context = browser.new_context(viewport={"width": 900, "height": 900}, offline=True, accept_downloads=True)
    page, said, asked = context.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.set_content("<!doctype html><body></body>")
    widget = fit.map()
    show(page, widget)
    yield widget, page
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("blob:")] == []


def show(page, widget, where="body"):
    state = widget.get_state(["_data", "_spot", "_selected", "theta"])
    page.evaluate(NOTEBOOK, {"code": widget._esm, "state": json.loads(json.dumps(state)), "where": where})


def tell_python(widget, page):
    """What the page has told reaches Python."""
    widget.set_state(page.evaluate("self.saved"))


def tell_page(widget, page, name):
    """What Python has set reaches the page, from outside as in a notebook."""
    value = widget.get_state([name])[name]
    page.evaluate(
        "([name, value]) => { const before = model.save_changes; model.save_changes = () => { throw name; };"
        "model.set(name, value); model.save_changes = before; }",
        [name, value],
    )


def lasso_left_half(page, pixels):
    """Draw round all models left of the middle one; their numbers."""
    page.click("#lasso")
    box, cut = page.locator("#map").bounding_box(), float(np.median(pixels[:, 0]))
    corners = [(2, 2), (cut, 2), (cut, box["height"] - 3), (2, box["height"] - 3), (2, 2)]
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    page.mouse.down()
    for x, y in corners[1:]:
        page.mouse.move(box["x"] + x, box["y"] + y, steps=6)
    page.mouse.up()
    return np.flatnonzero(pixels[:, 0] < cut)


def test_what_is_chosen_has_one_value(fit):
    widget, seen = fit.map(), []
    assert (widget.chosen, widget.selected) == (fit.names[0], [])
    assert torch.tensor(widget.theta).equal(fit.theta[0])
    widget.observe(lambda change: seen.append((change.name, change.new)), ["selected", "chosen"])
    widget.selected = [fit.names[5], fit.names[1], fit.names[5]]
    assert widget._selected == [1, 5]
    assert widget.population.names == widget.selected == [fit.names[1], fit.names[5]]
    widget.chosen = fit.names[4]
    assert widget._spot == [4]
    assert torch.tensor(widget.theta).equal(fit.theta[4])
    widget.set_state({"_spot": [0.5, -1.5], "theta": [1.0, 2.0, 3.0, 4.0]})  # as the browser tells it
    assert (widget.chosen, widget.theta) == (None, [1.0, 2.0, 3.0, 4.0])
    widget.set_state({"_spot": [2], "_selected": [0, 7]})
    assert (widget.chosen, widget.selected) == (fit.names[2], [fit.names[0], fit.names[7]])
    assert torch.tensor(widget.theta).equal(fit.theta[2])
    assert seen == [
        ("selected", [fit.names[1], fit.names[5]]),
        ("chosen", fit.names[4]),
        ("chosen", None),
        ("chosen", fit.names[2]),
        ("selected", [fit.names[0], fit.names[7]]),
    ]


def test_what_cannot_be_chosen_changes_nothing(fit):
    widget = fit.map()
    widget.selected = fit.names[:2]
    with pytest.raises(TraitError, match="no base model is called 'net-9': did you mean"):
        widget.selected = ["net-9"]
    with pytest.raises(TraitError, match="no base model is called 'x'"):
        widget.chosen = "x"
    with pytest.raises(TraitError, match="read-only"):
        widget.theta = [0.0] * 4
    assert (widget.selected, widget.chosen) == (fit.names[:2], fit.names[0])
    with pytest.raises(DynamoError, match="no metadata is called 'grp': did you mean 'group'"):
        fit.map(colour_by="grp")


def test_it_is_the_map_of_the_report(fit, run):
    told = page_data(content_of([run], colour_by="epoch", with_network=False), [])
    assert fit.map(colour_by="epoch")._data == {key: told[key] for key in ("colour", "models")}


def test_without_anywidget_it_says_what_to_install(fit, monkeypatch):
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    with pytest.raises(DynamoError, match=r"pip install 'dynamo-embedding\[notebook\]'"):
        fit.map()


def test_the_lasso_gives_names_to_python(shown):
    widget, page = shown
    _, pixels, _ = on_screen(page, widget.fit)
    wanted = [widget.fit.names[number] for number in lasso_left_half(page, pixels)]
    tell_python(widget, page)
    assert widget.selected == page.locator("#selection-names li").all_text_contents() == wanted
    assert 0 < len(wanted) < len(widget.fit.names)
    page.click("#unselect")
    tell_python(widget, page)
    assert widget.selected == []


def test_a_click_gives_theta_to_python(shown):
    widget, page = shown
    fit = widget.fit
    places, pixels, place_at = on_screen(page, fit)
    click(page, pixels[3])
    tell_python(widget, page)
    assert widget.chosen == fit.names[3]
    assert torch.tensor(widget.theta).equal(fit.theta[3])
    point = free_point(pixels)
    click(page, point)
    tell_python(widget, page)
    assert widget.chosen is None
    place, pixel = np.array(widget._spot), np.abs(place_at(point + 1) - place_at(point))
    assert (np.abs(place - place_at(point)) <= pixel).all()
    far = np.linalg.norm(places - place, axis=1)
    order = np.argsort(far)
    parts = (1 / far[order[:6]] - 1 / far[order[6]]) ** 2
    np.testing.assert_allclose(widget.theta, parts / parts.sum() @ fit.theta.numpy()[order[:6]], rtol=1e-5, atol=1e-6)
    page.hover("#map", position={"x": float(pixels[5][0]), "y": float(pixels[5][1])})
    assert page.locator("#tip strong").text_content() == fit.names[5]


def test_what_python_chooses_is_shown(shown):
    widget, page = shown
    widget.selected = [widget.fit.names[6], widget.fit.names[2]]
    tell_page(widget, page, "_selected")
    assert page.locator("#selection-names li").all_text_contents() == [widget.fit.names[2], widget.fit.names[6]]
    before = page.locator("#map").screenshot()
    widget.chosen = widget.fit.names[7]
    tell_page(widget, page, "_spot")
    page.wait_for_timeout(100)
    assert page.locator("#map").screenshot() != before


def test_keys_choose_and_are_no_commands_of_the_notebook(shown):
    widget, page = shown
    page.locator("#map").focus()
    for key in ("ArrowRight", " ", "ArrowLeft", " ", "Enter"):
        page.keyboard.press(key)
    tell_python(widget, page)
    assert len(widget.selected) == 2
    assert widget.chosen == page.locator("#tip strong").text_content()
    assert page.locator("[data-lm-suppress-shortcuts] #map").count() == 1


def test_two_maps_in_one_notebook_do_not_meet(shown):
    widget, page = shown
    other = widget.fit.map(colour_by="epoch")
    first = page.evaluate("self.heard.get('change:_selected').length")
    show(page, other)
    legends = page.locator("#legend li.key")
    assert legends.all_text_contents() == ["group", "epoch"]
    page.locator("#map").nth(1).focus()
    page.keyboard.press(" ")
    assert page.locator("#selection:visible").count() == 1
    page.evaluate("self.ended()")  # its cell is run again
    assert (first, page.evaluate("self.heard.get('change:_selected').length")) == (1, 0)


def test_the_styles_of_the_notebook_and_of_the_map_do_not_meet(shown):
    _, page = shown
    page.evaluate("document.body.append(document.createElement('button'))")
    look = "button => [getComputedStyle(button).borderTopLeftRadius, getComputedStyle(button).minHeight]"
    assert page.locator("body > button").evaluate(look) != page.locator("#download").evaluate(look)
    page.add_style_tag(content="canvas { height: 3px !important; } .legend { display: none; }")
    assert page.locator("#map").bounding_box()["height"] > 300
    assert page.locator("#legend").is_visible()
