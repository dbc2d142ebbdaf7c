"""The report: its files and the choice of colours."""

import csv
from copy import deepcopy

import attrs
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from dynamo import DynamoError, Fit, FitOptions, Trainer, measure_fidelity
from dynamo.analysis.geometry.spectrum import spectrum
from dynamo.fit.fidelity import Fidelity, ModelFidelity, read_fidelity, write_fidelity
from dynamo.report import terminal
from dynamo.report.coordinates import map_coordinates
from dynamo.report.plots.map import draw_models, is_scale, plot_map
from dynamo.report.run import colouring, over_the_points, write_map
from problems import fitted as any_fit
from problems import population


@pytest.fixture(scope="module")
def fitted():
    trainer = Trainer(
        population(4), FitOptions(meta_model="gru:hidden_size=5", theta_dim=3, models_per_step=None, steps=3)
    )
    trainer.run()
    return trainer


def test_files_of_the_report(fitted, tmp_path):
    fit = Fit.of(fitted)
    result = write_map(fit, tmp_path, None)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "map.svg").read_bytes()
    with (tmp_path / "embedding.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == fit.names
    theta = np.array([[float(row[f"theta_{i + 1}"]) for i in range(3)] for row in rows])
    np.testing.assert_allclose(theta, fit.theta.numpy(), rtol=1e-6)
    places = np.array([[float(row[f"pc_{i + 1}"]) for i in range(3)] for row in rows])
    np.testing.assert_allclose(places, spectrum(fit.theta.numpy()).coordinates, atol=1e-6)
    drawn = np.array([[float(row[f"combined_{i + 1}"]) for i in range(3)] for row in rows])
    np.testing.assert_allclose(drawn, fit.distances().coordinates(3), atol=1e-12)
    shown = result.places.coordinates[:, :2]
    np.testing.assert_allclose(drawn[:, : shown.shape[1]], shown)
    assert "combined_4" not in rows[0]  # as many as θ has
    assert [row["number"] for row in rows] == ["0", "1", "2", "3"]


def test_the_thetas_draw_the_map_where_they_are_asked_for_or_nothing_else_can_be_had(fitted, tmp_path):
    fit = Fit.of(fitted)
    drawn = write_map(fit, tmp_path, None, "theta")
    assert (drawn.kind, drawn.instead) == ("theta", "")
    own = spectrum(fit.theta.numpy()).coordinates
    np.testing.assert_allclose(np.abs(drawn.places.coordinates[:, :2]), np.abs(own[:, :2]), atol=1e-6)
    head = (tmp_path / "embedding.csv").read_text().splitlines()[0].split(",")
    assert head[-6:] == ["theta_1", "theta_2", "theta_3", "pc_1", "pc_2", "pc_3"]
    old = map_coordinates(attrs.evolve(fit, probes=None))
    assert old.kind == "theta"
    assert "of an older version, has kept no inputs for the combined distance" in old.describe()
    broken = attrs.evolve(fit, emulator=deepcopy(fit.emulator))
    with torch.no_grad():
        next(broken.emulator.meta_model.parameters()).fill_(float("nan"))
    found = map_coordinates(broken)
    assert found.kind == "theta"
    assert "the combined distance could not be had (the emulator of 'm0' gives NaN" in found.describe()
    with pytest.raises(DynamoError, match="gives NaN or infinite states"):
        map_coordinates(broken, "states")


def test_many_models_and_large_states_are_compared_on_fewer_inputs(monkeypatch):
    fit, _ = any_fit(5, examples=60)
    everything = len(fit.probes)
    assert everything > 20
    assert map_coordinates(fit).distances.examples == everything
    states = 5 * 6 * 5  # models, units, steps
    for room, wanted in ((states * 20 + 1, 20), (1, 16)):
        monkeypatch.setattr("dynamo.report.coordinates.STATES", room)
        assert map_coordinates(fit).distances.examples == wanted
        assert map_coordinates(fit, "states").distances.examples == wanted


def test_a_map_of_many_numbers_joins_sequences_and_shows_their_trend():
    theta = np.stack([np.tile(np.arange(8.0), 2), np.repeat([0.0, 1.0], 8)], axis=1)
    fit, _ = any_fit(16, theta_dim=2)
    for own, place in zip(fit.emulator.thetas, torch.tensor(theta, dtype=torch.float32), strict=True):
        own.data = place
    metadata = [{"seed": n // 8, "epoch": n % 8} for n in range(16)]
    drawn = map_coordinates(attrs.evolve(fit, metadata=metadata), "theta")
    found = over_the_points(attrs.evolve(fit, metadata=metadata), drawn.places, "epoch")
    assert found["lines"] == [list(range(8)), list(range(8, 16))]
    assert abs(found["trend"].direction[0]) == pytest.approx(1)
    axes = plot_map(drawn.places, "epoch", [own["epoch"] for own in metadata], **found).axes[0]
    assert len(axes.lines) == 2
    assert len(axes.texts) == 1
    assert over_the_points(attrs.evolve(fit, metadata=metadata), drawn.places, "seed") == {}


def test_fidelity_survives_its_file(fitted, tmp_path):
    fit = Fit.of(fitted)
    fit.save(tmp_path)
    measured = measure_fidelity(fit, fitted.population)
    write_fidelity(measured, tmp_path)
    assert read_fidelity(tmp_path) == measured
    last = (tmp_path / "fidelity.csv").read_text().splitlines()[-1].split(",")
    assert last[0] == "(mean)"
    assert float(last[3]) == pytest.approx(measured.mean("agreement"))
    (tmp_path / "fidelity.csv").write_text("name,hidden_r2\nm0,zero\n")
    with pytest.raises(DynamoError, match="its checksum differs"):
        read_fidelity(tmp_path)
    (tmp_path / "run.toml").unlink()
    with pytest.raises(DynamoError, match="is damaged"):
        read_fidelity(tmp_path)


def test_the_label_that_colours_the_map():
    rows = [
        {"architecture": a, "fraction": f, "seed": s, "score": s / 10}
        for a in "xy"
        for f in (0.5, 1.0)
        for s in range(3)
    ]
    assert colouring(rows) == "architecture"
    assert colouring([{**row, "architecture": "x"} for row in rows]) == "fraction"
    assert colouring([{"seed": n} for n in range(3)]) == "seed"
    assert colouring([{"a": 1}, {"b": 2}]) is None
    assert colouring([{"a": 1}, {"a": 1}]) is None


def test_many_numbers_have_a_scale_and_everything_else_a_legend(fitted):
    assert is_scale(list(range(20)))
    assert not is_scale([1, 2, 1])
    assert not is_scale([True, False] * 10)
    assert not is_scale([str(n) for n in range(20)])
    result = spectrum(np.random.default_rng(0).standard_normal((20, 4)))
    scaled = plot_map(result, "epoch", list(range(20)))
    named = plot_map(result, "task", ["a", "b"] * 10)
    assert len(scaled.axes) == 3  # the third is the colour bar
    assert [text.get_text() for text in named.axes[0].get_legend().get_texts()] == ["a", "b"]
    assert sum(len(drawn.get_offsets()) for drawn in named.axes[0].collections) == 20


def test_one_model_can_be_drawn():
    assert len(plot_map(spectrum(np.zeros((1, 3))), None, None).axes) == 2


def test_of_many_models_those_that_are_imitated_worst_are_told(capsys):
    models = tuple(ModelFidelity(f"m{number:03d}", 0.5, 0.1, 1 - number / 100, 0.5, 0.5) for number in range(100))
    terminal.fidelity_table(Fidelity(models))
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines()[1:41]] == [f"m{number:03d}" for number in range(99, 59, -1)]
    assert "the 40 models with the least agreement, of 100" in told
    terminal.fidelity_table(Fidelity(models[:40]))
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [m.name for m in models[:40]]


@pytest.mark.parametrize("count", [200, 800])
def test_the_marks_of_many_models_cover_no_more_than_those_of_few(count):
    axes = Figure().subplots()
    draw_models(axes, np.zeros((count, 2)), None, None, size=50)
    assert axes.collections[0].get_sizes() == pytest.approx([50 * (200 / count) ** 0.5])
