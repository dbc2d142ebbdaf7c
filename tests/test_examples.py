"""Every ``Example:`` in a docstring runs, and every question to a map has one."""

import doctest
import inspect
import shutil
from importlib import import_module
from pkgutil import walk_packages

import numpy as np
import pytest
import torch

import dynamo
from dynamo import analysis
from dynamo.training.base_models import BaseTrainingOptions

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def docstrings():
    """The doctests of all docstrings of the package that have an example."""
    finder = doctest.DocTestFinder()
    for found in walk_packages(dynamo.__path__, "dynamo."):
        yield from (test for test in finder.find(import_module(found.name)) if "Example:" in (test.docstring or ""))


EXAMPLES = list(docstrings())


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small population and a fit of it, as the examples name them."""
    root = tmp_path_factory.mktemp("examples")
    population = dynamo.train_population(
        root / "population",
        ["gru:hidden_size=8"],
        "digits-rows",
        fractions=[1.0, 0.5],
        seeds=[0, 1],
        options=BaseTrainingOptions(epochs=1),
    )
    settings = dynamo.preset("laptop", steps=20, meta_model="gru:hidden_size=16", theta_dim=4)
    dynamo.fit_population(population, settings, root / "run")
    return root


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_example(example, folders, tmp_path, monkeypatch):
    for name in ("population", "run"):  # an example that opens a folder finds it, one that makes it does not
        if f'load("{name}")' in example.docstring:
            shutil.copytree(folders / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    fit = dynamo.Fit.load(folders / "run")
    population = fit.open_population()
    names = {"fit": fit, "population": population, "dynamo": dynamo, "np": np, "torch": torch}
    told = []
    example.globs = {**example.globs, **names}
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    assert len(example.examples) > 0
    runner.run(example, out=told.append)
    assert runner.failures == 0, "".join(told)


@pytest.mark.parametrize("name", analysis.__all__)
def test_every_question_has_an_example(name):
    text = inspect.getdoc(getattr(analysis, name))
    assert "Example:" in text
    assert ">>> " in text
