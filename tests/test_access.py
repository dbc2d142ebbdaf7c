"""Populations by name and mask, and fits as tables, pictures, networks and files."""

import json

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from safetensors import safe_open

import problems
from dynamo import BaseModel, DynamoError, Fit, Population, fit_population, measure_fidelity
from dynamo.contracts import InvalidValueError, UnknownNameError, WrongTypeError
from dynamo.population.recording import run
from dynamo.report.run import EMBEDDING

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def models():
    return problems.population(6)


@pytest.fixture(scope="module")
def made():
    return problems.fitted(count=6, steps=2)


def names(population):
    assert isinstance(population, Population)
    return [base.name for base in population]


def test_one_model(models):
    first = models[0]
    assert isinstance(first, BaseModel)
    assert models["m3"] is models[3] is models[np.int64(3)] is models[torch.tensor(3)] is models[-3]
    assert "m3" in models
    assert models[3] in models
    assert "m9" not in models
    assert models.names == names(models) == [f"m{n}" for n in range(6)]
    with pytest.raises(UnknownNameError, match="no model is called 'm9': did you mean"):
        models["m9"]
    with pytest.raises(IndexError):
        models[6]


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor, pandas.Series])
def test_some_models(models, kind):
    mask = [True, False, False, True, False, True]
    assert names(models[kind(mask)]) == ["m0", "m3", "m5"]
    assert names(models[kind([5, 0, -2])]) == ["m5", "m0", "m4"]


def test_slices_and_names(models):
    assert names(models[1:5:2]) == ["m1", "m3"]
    assert names(models[["m5", "m0"]]) == ["m5", "m0"]
    assert names(models[models.table()["number"] > 3]) == ["m4", "m5"]
    assert models[2:].dataset(models[2]) is models.dataset(models[2])  # built once for both


@pytest.mark.parametrize(
    ("which", "error", "told"),
    [
        ([True, False], InvalidValueError, "a mask of 2 truth values does not fit 6 models"),
        ([False] * 6, InvalidValueError, "no model is chosen"),
        (slice(0, 0), InvalidValueError, "no model is chosen"),
        ([], InvalidValueError, "no model is chosen"),
        ([0, 0], DynamoError, "two models are called 'm0'"),
        ([0, "m1"], WrongTypeError, "a list of truth values, numbers or names"),
        ([True, 1, 1, 1, 1, 1], WrongTypeError, "a list of truth values, numbers or names"),
        (1.5, WrongTypeError, "not for 1.5"),
        (None, WrongTypeError, "not for None"),
        (["m1", "n2"], UnknownNameError, "no model is called 'n2'"),
    ],
)
def test_what_is_no_choice_of_models(models, which, error, told):
    with pytest.raises(error, match=told):
        models[which]


def test_the_table_of_a_population():
    data = problems.dataset()
    network = problems.base_model("a", data).model
    metadata = {"a": {"size": 4, "name": "x"}, "b": {"kind": "gru"}}
    table = Population.of({"a": network, "b": network}, data, metadata).table()
    assert list(table.columns) == ["name", "size", "metadata_name", "kind"]
    assert table["name"].tolist() == ["a", "b"]
    assert table["size"].isna().tolist() == [False, True]


def test_the_table_of_a_fit(made):
    fit, population = made
    table = fit.table("theta", fidelity=measure_fidelity(fit, population))
    assert table["name"].tolist() == fit.names
    assert table["number"].tolist() == list(range(6))
    assert np.array_equal(table[[f"theta_{n}" for n in range(1, 5)]].to_numpy(), fit.theta.numpy())
    assert table["agreement"].tolist() == [model.agreement for model in measure_fidelity(fit, population).models]
    points = table[[f"pc_{n}" for n in range(1, 5)]].to_numpy()
    assert np.allclose(np.linalg.norm(points[0] - points[1]), float((fit.theta[0] - fit.theta[1]).norm()), rtol=1e-5)
    bare = fit.table()  # neither saved nor measured
    assert "agreement" not in bare
    points = bare[[f"combined_{n}" for n in range(1, 5)]].to_numpy()
    assert np.allclose(points, fit.distances().coordinates(4))


def test_a_fidelity_that_is_not_of_the_fit(made):
    fit, population = made
    other = measure_fidelity(fit, population)
    short = type(other)(other.models[1:])
    with pytest.raises(DynamoError, match="the fidelity of the base model 'm0' is missing"):
        fit.table("theta", fidelity=short)


def test_a_fit_in_a_folder_knows_its_fidelity(tmp_path, models):
    options = problems.fitted(count=6, steps=1)[0].options
    for fit in (fit_population(models, options, tmp_path / "run"), Fit.load(tmp_path / "run")):
        assert fit.folder == tmp_path / "run"
        assert fit.fidelity is not None
        table = fit.table()
        assert table["hidden_r2"].tolist() == [model.hidden_r2 for model in fit.fidelity.models]
    written = pandas.read_csv(tmp_path / "run" / EMBEDDING)
    assert np.allclose(written["theta_1"], table["theta_1"])
    assert fit_population(models, options).fidelity is None


def test_without_pandas(made, models, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    for table in (models.table, made[0].table):
        with pytest.raises(DynamoError, match=r"a data frame needs pandas .*pip install 'dynamo-embedding\[pandas\]'"):
            table()


def test_emulating_a_base_model_is_v_of_the_meta_model(made):
    fit, population = made
    inputs = population.dataset(population[0]).test.inputs
    found = fit.emulate("m4", inputs)
    bare = run(fit.model_at("m4"), inputs)
    assert torch.equal(found.outputs, bare.outputs)
    assert found.states[0].shape == population["m4"].model.trajectory(inputs).states[0].shape == (24, 5, 7)
    assert torch.allclose(found.states[0], fit.emulator.maps_of(4)[0](bare.states[0]))
    assert not found.states[0].requires_grad
    # The same θ without a name has no V: the meta-model's own states.
    assert torch.equal(fit.emulate(fit.theta[4], inputs).states[0], bare.states[0])
    assert torch.equal(fit.emulate(fit.theta[4].tolist(), inputs).outputs, bare.outputs)


def test_emulating_takes_arrays_and_refuses_what_does_not_fit(made):
    fit, population = made
    values = population.dataset(population[0]).test.inputs.values
    whole = fit.emulate("m0", values)
    assert torch.equal(fit.emulate("m0", values.double().numpy()).outputs, whole.outputs)
    assert bool(whole.mask.all())
    with pytest.raises(DynamoError, match=r"not \(24, 5, 3\)"):
        fit.emulate("m0", torch.zeros(24, 5, 3))
    with pytest.raises(DynamoError, match="the inputs has NaN or infinite values"):
        fit.emulate("m0", torch.full((24, 5, 2), float("nan")))
    with pytest.raises(DynamoError, match="no base model is called 'n0'"):
        fit.emulate("n0", values)


def test_what_it_emulates_is_what_fidelity_measures(made):
    fit, population = made
    test = population.dataset(population[0]).test
    true = population["m1"].model.trajectory(test.inputs)
    imitated = fit.emulate("m1", test.inputs)
    mask = test.inputs.mask
    error = (imitated.states[0] - true.states[0])[mask].square().sum()
    spread = (true.states[0][mask] - true.states[0][mask].mean(0)).square().sum()
    measured = measure_fidelity(fit, population).models[1].hidden_r2
    assert float(1 - error / spread) == pytest.approx(measured, abs=1e-4)


def test_plot(made):
    fit, _ = made
    axes = fit.plot(by="number")
    assert isinstance(axes, Axes)
    drawn = np.concatenate([part.get_offsets() for part in axes.collections])
    expected = fit.distances().coordinates(2)
    assert np.allclose(np.sort(np.abs(drawn[:, 0])), np.sort(np.abs(expected[:, 0])), atol=1e-6)
    again = fit.plot(by="number", ax=axes, distance="theta")
    assert again is axes
    with pytest.raises(DynamoError, match="no metadata is called 'sise'"):
        fit.plot(by="sise")


def test_safetensors(made, tmp_path):
    fit, _ = made
    fit.to_safetensors(tmp_path / "map.safetensors", "theta")
    with safe_open(tmp_path / "map.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("theta"), fit.theta)
        coordinates, header = file.get_tensor("coordinates"), file.metadata()
    assert torch.allclose(torch.cdist(coordinates, coordinates), torch.cdist(fit.theta, fit.theta).double(), atol=1e-5)
    assert json.loads(header["names"]) == fit.names
    assert json.loads(header["metadata"]) == [dict(table) for table in fit.metadata]
    assert header["distance"] == "theta"


def test_anndata(made):
    anndata = pytest.importorskip("anndata")
    fit, _ = made
    found = fit.to_anndata("theta")
    assert isinstance(found, anndata.AnnData)
    assert found.obs_names.tolist() == fit.names
    assert np.array_equal(found.X, fit.theta.numpy())
    assert found.obs["number"].tolist() == list(range(6))
    assert np.array_equal(found.obsp["distances"], fit.distances("theta").matrix)
    assert found.obsm["X_map"].shape == (6, 4)


def test_without_anndata(made, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anndata", None)
    with pytest.raises(DynamoError, match="this needs anndata"):
        made[0].to_anndata()
