"""Populations and the files of their data: opened from any folder, moved together, and as older versions wrote them."""

import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from dynamo import Population, Spec, train_population
from dynamo.population.data_paths import absolute, relative_paths, resolved
from dynamo.population.entries import MANIFEST
from dynamo.system.storage import write_toml
from dynamo.training.base_models import BaseTrainingOptions

QUICK = BaseTrainingOptions(epochs=1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with data and a population trained on them by a relative path."""
    home = tmp_path / "home"
    home.mkdir()
    x = np.random.default_rng(0).normal(size=(20, 4, 1)).astype("f4")
    y = (x.sum((1, 2)) > 0).astype(int)
    np.savez(home / "data.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.chdir(home)
    train_population("p", ["gru:hidden_size=3"], "arrays:path=data.npz", options=QUICK)
    monkeypatch.chdir(tmp_path)
    return home


def opens(folder):
    population = Population.load(folder)
    return len(population.dataset(population[0]).test)


def test_a_population_opens_from_anywhere_and_moves_with_its_data(place, tmp_path):
    assert opens(place / "p") == opens("home/p") == 20
    shutil.move(place, tmp_path / "elsewhere")
    assert opens("elsewhere/p") == 20
    Population.load("elsewhere/p").save("copy/q")  # the data stay where they are
    assert opens("copy/q") == 20
    shutil.move("elsewhere/p", "alone")
    shutil.move("elsewhere", place)  # and here they are again where the manifest says
    assert opens("alone") == 20


def test_more_models_are_added_where_data_and_population_have_been_moved(place, tmp_path, monkeypatch):
    shutil.move(place, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    train_population("p", ["gru:hidden_size=3"], "arrays:path=data.npz", seeds=[1], options=QUICK)
    population = Population.load("p")
    assert len(population) == 2
    assert len({str(base.data) for base in population}) == 1


def test_manifests_with_relative_paths_open_as_before_and_beside_their_data(place, monkeypatch):
    path = place / "p" / MANIFEST
    table = tomllib.loads(path.read_text())
    del table["digest"], table["models"][0]["data_paths"]
    table["models"][0]["dataset"]["path"] = "data.npz"
    write_toml(path, table)
    assert opens(place / "p") == 20
    monkeypatch.chdir(place)
    assert opens("p") == 20


def test_paths_by_hand(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "own.npz").touch()
    given = Spec("arrays", {"path": "p/../p/own.npz", "group": "p", "vocabulary_size": 3})
    data = absolute(given)
    assert data.options == {**given.options, "path": str(tmp_path / "p" / "own.npz")}
    assert relative_paths(data, Path("p")) == {"path": "own.npz"}
    assert resolved(Spec("arrays", {"path": "/gone.npz"}), {"path": "own.npz"}, Path("p")) == Spec(
        "arrays", {"path": str(tmp_path / "p" / "own.npz")}
    )
    far = Spec("arrays", {"path": "/etc/hostname"})
    assert relative_paths(far, Path("p")) == {}
    assert resolved(far, {"path": "../../../../etc/passwd"}, Path("p")) == far  # beside the population at most
    home = Spec("image-folder", {"root": "~/images"})
    assert absolute(home) == resolved(home, None, Path("p")) == home
