"""What objects look like where they are evaluated: few lines whatever they hold, and nothing that a browser obeys."""

import importlib
import pkgutil
from html.parser import HTMLParser
from types import MemberDescriptorType

import attrs
import numpy as np
import pytest
import torch

import dynamo
import problems
from dynamo import Fit, Inputs, Population, Trainer, measure_fidelity
from dynamo.contracts.shown import COLUMNS, ITEMS, LINES, ROWS, WIDTH, brief, listed, result_html, short, table_html
from dynamo.fit.fidelity import Fidelity, ModelFidelity
from dynamo.population.base_model import BaseModel


def classes():
    """All attrs classes of the package, but for those of its insides."""
    found = []
    for module in pkgutil.walk_packages(dynamo.__path__, "dynamo."):
        if "commands" in module.name:
            continue
        for name, kind in vars(importlib.import_module(module.name)).items():
            if isinstance(kind, type) and kind.__module__ == module.name and attrs.has(kind) and name[0] != "_":
                found.append(kind)
    return found


def large(kind):
    """An instance whose every array, sequence and mapping is large, and whose every text is long."""
    made = object.__new__(kind)
    for field in attrs.fields(kind):
        text = str(field.type)
        if "Tensor" in text and "tuple" not in text:
            value = torch.zeros(300, 7)
        elif "ndarray" in text and "tuple[numpy" not in text:
            value = np.zeros((300, 7))
        elif "Mapping" in text or "dict" in text:
            value = {f"key {number}": torch.zeros(300) for number in range(500)}
        elif any(word in text for word in ("tuple", "Sequence", "list", "Collection")):
            value = tuple("a long name " * 40 for _ in range(500))
        elif "str" in text:
            value = "a long text\n" * 500
        else:
            value = 1 / 3
        object.__setattr__(made, field.name, value)
    return made


#: Classes of options, which are read to be typed again, and classes with a text of their own, which are tested below.
OWN = {"Fit", "Fidelity", "Distances", "Component", "Spec", "InputSpace", "OutputSpace"}


def holds_much(kind):
    containers = ("ndarray", "Tensor", "tuple", "Sequence", "Mapping", "list")
    return any(word in str(field.type) for field in attrs.fields(kind) for word in containers)


LARGE = [kind for kind in classes() if holds_much(kind) and kind.__name__ not in OWN]


@pytest.mark.parametrize("kind", LARGE, ids=lambda kind: kind.__name__)
def test_a_repr_is_short_whatever_an_object_holds(kind):
    told = repr(large(kind))
    assert len(told.splitlines()) < 10
    assert max(map(len, told.splitlines())) <= WIDTH
    assert told.startswith(kind.__name__)


@pytest.fixture(scope="module")
def made():
    return problems.fitted(count=40, steps=1)


def test_reprs_of_what_users_hold(made):
    fit, population = made
    dataset = population.dataset(population[0])
    run = fit.model_at("m3").trajectory(dataset.test.inputs)
    things = [
        population, population[0], dataset, dataset.train, dataset.train.inputs, run, fit, fit.emulator,
        fit.distances(), fit.model_at("m3"), measure_fidelity(fit, population), Trainer(population, fit.options),
    ]  # fmt: skip
    for thing in things:
        told = repr(thing)
        assert len(told.splitlines()) < 10, told
        assert len(told) < 900
    assert "Population of 40 models, real input of shape (2,)" in repr(population)
    assert "m0, m1, m2, … (40)" in repr(fit)
    assert "number (40)" in repr(population)  # so many values
    assert repr(dataset.train.inputs) == "Inputs(values=float32[24, 5, 2], mask=bool[24, 5])"
    assert "step 0 of 1" in repr(Trainer(population, fit.options))
    assert "0.5" in repr(Fidelity((ModelFidelity("a", 0.5, 1.0, 0.75, 1.0, 1.0),)))


def test_every_public_class_is_tested_or_holds_nothing():
    public = {getattr(dynamo, name) for name in dynamo.__all__ if isinstance(getattr(dynamo, name), type)}
    shown = {Population, BaseModel, Fit, Trainer, *classes()}
    rest = {kind.__name__ for kind in public - shown if not issubclass(kind, Exception)}
    # torch's own way of showing modules, scikit-learn's, and what holds no data
    assert rest <= {
        "Augmentation", "Divergence", "DynamicalModel", "Head", "MetaModel", "RecurrentMetaModel", "RecurrentModel",
        "StateMap", "MapEstimator", "Reencoded",
    }  # fmt: skip


def test_values_in_words():
    assert short(torch.tensor(2.5)) == "2.5"
    assert short(np.arange(6).reshape(2, 3)) == "int64[2, 3]"
    assert short(("a", ("b", "c"))) == "('a', (2 items))"
    assert short({"a": 1, "b": 2, "c": 3, "d": 4}) == "{a: 1, b: 2, c: 3, … 4 items}"
    assert short([]) == "[]"
    assert short(float("nan")) == "nan"
    assert short("\x1b[2J") == repr("\\x1b[2J")
    assert short(torch.nn.Linear(2, 2)) == "Linear(…)"
    assert short(range(9)).count(",") == ITEMS
    assert listed(["a"]) == "a"
    assert brief(Inputs(torch.zeros(1, 1, 1), torch.ones(1, 1, dtype=torch.bool))).count("\n") == 0
    assert LINES < 10


class Tags(HTMLParser):
    """Counts the elements of a page; a tag in a cell's text would be one."""

    def __init__(self, text):
        super().__init__()
        self.seen, self.open, self.texts = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert not attributes
        self.seen.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_html_is_escaped_and_small():
    evil = "<script>alert(1)</script>"
    page = table_html([evil, *map(str, range(50))], [[evil, *range(50)]] * 500, evil)
    tags = Tags(page)
    assert "script" not in tags.seen
    assert evil in tags.texts
    assert tags.seen.count("tr") == 1 + ROWS
    assert tags.seen.count("th") == COLUMNS + 1  # and one that says that there are more
    assert f"{500 - ROWS} more rows" in tags.texts


def test_html_of_what_users_hold(made):
    fit, population = made
    measured = measure_fidelity(fit, population)
    for thing in (population, fit, fit.distances(), measured):
        page = thing._repr_html_()
        assert Tags(page).seen.count("tr") == 1 + ROWS
        assert len(page) < 10_000
        assert "m19" in page


def test_every_result_with_a_table_of_its_own_has_html():
    for kind in classes():
        table = getattr(kind, "table", None)
        if table is None or isinstance(table, MemberDescriptorType) or kind in (Fit, *SPACES):
            continue
        needs = table.__code__.co_argcount - 1 - len(table.__defaults__ or ())
        assert hasattr(kind, "_repr_html_") == (needs == 0), kind


SPACES = (dynamo.InputSpace, dynamo.OutputSpace, dynamo.Spec)


def test_html_of_a_result():
    @attrs.frozen
    class Result:
        def table(self):
            return ["model", "figure"], [["<b>", 0.25], ["b", float("nan")]]

        def describe(self):
            return "what it says\nand more"

    tags = Tags(result_html(Result()))
    assert tags.texts == ["what it says", "model", "figure", "<b>", "0.25", "b"]
