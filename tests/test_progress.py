"""Progress in Python: silent unless it is asked for, bars where there is a terminal or a notebook."""

import sys
from html.parser import HTMLParser
from types import ModuleType, SimpleNamespace

import attrs
import pytest

import problems
from dynamo import DynamoError, EmbedOptions, Trainer, embed, fit_population, measure_fidelity, train_population
from dynamo.contracts import InvalidValueError
from dynamo.fit.distances import distances
from dynamo.system import bars
from dynamo.training.base_models import BaseTrainingOptions


@pytest.fixture(scope="module")
def made():
    return problems.fitted(count=3, steps=2)


def works(made, folder):
    """All that takes ``progress``, with the steps that each counts last."""
    fit, population = made
    fidelity, small = measure_fidelity(fit, population), EmbedOptions(steps=2, map_steps=1)
    return {
        "run": (lambda **how: Trainer(population, fit.options).run(**how), 2),
        "record": (lambda **how: Trainer(population, fit.options).record(**how), 3),
        "fit_population": (lambda **how: fit_population(population, fit.options, folder / "run", **how), 3),
        "train_population": (
            lambda **how: train_population(
                folder / "models", ["gru:hidden_size=3"], "digits-rows", options=BaseTrainingOptions(epochs=1), **how
            ),
            1,
        ),
        "embed": (lambda **how: embed(fit, population, fidelity, small, **how), 4),
        "distances": (lambda **how: distances(fit, **how), 12),
        "measure_fidelity": (lambda **how: measure_fidelity(fit, population, **how), 3),
    }


NAMES = ("run", "record", "fit_population", "train_population", "embed", "distances", "measure_fidelity")


@pytest.mark.parametrize("how", [{}, {"progress": False}], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_it_is_silent_unless_asked(made, name, how, tmp_path, capfd):
    works(made, tmp_path)[name][0](**how)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_on_the_terminal(made, name, tmp_path, capfd):
    work, last = works(made, tmp_path)[name]
    work(progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert f"{last}/{last}" in err.splitlines()[0 if name == "train_population" else -1]


@pytest.mark.parametrize("name", NAMES)
def test_a_function_is_told(made, name, tmp_path):
    work, last = works(made, tmp_path)[name]
    told = []

    def tick(done, total, note="", /):
        told.append((done, total))

    def stages(description, total, /):
        return tick

    work(progress=stages if name in ("fit_population", "train_population") else tick)
    assert (last, last) in told
    assert all(done <= total for done, total in told)


@pytest.mark.parametrize("setting", ["bar", 1, None, 0.5])
@pytest.mark.parametrize("name", NAMES)
def test_another_setting_is_refused(made, name, setting, tmp_path):
    with pytest.raises(InvalidValueError, match="give True, False, 'notebook' or a function"):
        works(made, tmp_path)[name][0](progress=setting)


class Notebook:
    """What IPython shows: one page for each display, changed in its place."""

    def __init__(self, monkeypatch, kernel):
        self.pages = []
        ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
        shell = SimpleNamespace(kernel=None) if kernel else SimpleNamespace()
        ipython.get_ipython = lambda: shell
        display.HTML, display.display = str, self.display
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def display(self, page, *, display_id):
        assert display_id
        self.pages.append([page])
        return SimpleNamespace(update=self.pages[-1].append)


@pytest.mark.parametrize(("kernel", "setting"), [(True, True), (True, "notebook"), (False, "notebook")])
@pytest.mark.parametrize("name", NAMES)
def test_a_bar_in_a_notebook(made, name, kernel, setting, tmp_path, capfd, monkeypatch):
    notebook = Notebook(monkeypatch, kernel)
    work, last = works(made, tmp_path)[name]
    work(progress=setting)
    assert capfd.readouterr() == ("", "")
    assert f'<progress value="{last}" max="{last}">' in "".join(page[-1] for page in notebook.pages)
    assert len(notebook.pages) == {"fit_population": 3, "train_population": 2}.get(name, 1)


def test_a_shell_without_a_kernel_is_no_notebook(made, tmp_path, capfd, monkeypatch):
    notebook = Notebook(monkeypatch, kernel=False)
    works(made, tmp_path)["run"][0](progress=True)
    assert not notebook.pages
    assert "2/2" in capfd.readouterr().err


def test_a_notebook_without_ipython(made, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(InvalidValueError, match="progress='notebook' is for notebooks"):
        works(made, tmp_path)["run"][0](progress="notebook")


def test_a_bar_is_shown_some_times_a_second_and_at_its_end(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(bars, "monotonic", lambda: now[0])
    shown = []
    bar = bars.NotebookBar("fitting", shown.append)
    for step in range(1, 101):
        now[0] = step * 0.01
        bar(step, 100, 0.5)
    assert 5 <= len(shown) <= 7  # a second's worth
    assert "100/100 1 s loss 0.5000" in shown[-1]


def test_what_a_bar_says_is_escaped():
    seen = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attributes):
            seen.append(tag)

    Tags().feed(bars.bar_html("<b>", 1, 2, "<script>", 0.0))
    assert seen == ["div", "progress"]


def test_an_error_ends_the_bar(made, capfd):
    fit, population = made
    trainer = Trainer(population, attrs.evolve(fit.options, learning_rate=1e30, steps=50))
    with pytest.raises(DynamoError, match="the hidden loss of model"):
        trainer.run(progress=True)
    capfd.readouterr()
    Trainer(population, fit.options).run(progress=True)  # rich allows one display at a time
    assert "2/2" in capfd.readouterr().err
