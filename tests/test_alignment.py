"""Maps of the same models laid over one another: planted rotations, planted moves, invariances."""

import csv
from copy import deepcopy

import attrs
import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.spatial.distance import pdist

import problems
from dynamo import DynamoError
from dynamo.analysis.geometry.alignment import align, maps_of
from dynamo.cli import main
from dynamo.report.plots.alignment import plot_alignment


def rotation(dimensions, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dimensions, dimensions)))[0]


def noisy_maps(runs=3, models=14, dimensions=4, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    places = rng.standard_normal((models, dimensions))
    return [places + noise * rng.standard_normal(places.shape) for _ in range(runs)]


def test_planted_rotations_reflections_translations_and_scales_are_undone():
    places = noisy_maps(1)[0]
    mirrored = places * [-1, 1, 1, 1]
    found = align([places, 3 + 2 * mirrored @ rotation(4, 1), 0.5 * places @ rotation(4, 2) - 1], permutations=19)
    np.testing.assert_allclose(found.distances, 0, atol=1e-9)
    np.testing.assert_allclose(found.residuals, 0, atol=1e-9)
    np.testing.assert_allclose(found.correlations, 1)
    assert found.p_value == 1 / 20
    for number in range(3):
        np.testing.assert_allclose(found.places[number], found.places[0], atol=1e-9)
    assert pdist(found.places[0]) / pdist(places) == pytest.approx(np.full(91, 3.5 / 3))  # the mean of 1, 2 and 1/2


def test_without_scale_a_larger_map_stays_larger():
    places = noisy_maps(1)[0]
    found = align([places, 3 * places @ rotation(4, 1)], scale=False, permutations=1)
    centred = np.linalg.norm(places - places.mean(axis=0), axis=1)
    np.testing.assert_allclose(found.distances[0], 2 * centred / found.spread)
    assert found.spread == pytest.approx(2 * np.sqrt((centred**2).mean()))


def test_two_maps_are_aligned_as_by_scipy():
    """Of two maps of one size, the optimum is that of ordinary Procrustes."""
    first, second = noisy_maps(2)
    found = align([first, second], permutations=1)
    standard, _, disparity = procrustes(first, second)
    # SciPy also shrinks the second map by s, the sum of singular values: disparity = 1 - s²; ours = 2 - 2 s.
    unit = np.linalg.norm(found.places[0])
    ours = np.linalg.norm((found.places[0] - found.places[1]) / unit) ** 2
    assert np.linalg.norm(standard) == pytest.approx(1)
    assert ours == pytest.approx(2 - 2 * np.sqrt(1 - disparity))


def test_residuals_are_the_distances_to_the_mean_place():
    found = align(noisy_maps(), permutations=1)
    mean = found.places.mean(axis=0)
    np.testing.assert_allclose(found.mean.coordinates, mean, atol=1e-9)
    assert found.spread == pytest.approx(np.sqrt((mean**2).sum(axis=1).mean()))
    pairs = [np.linalg.norm(found.places[a] - found.places[b], axis=1) / found.spread for a, b in found.pairs]
    assert found.pairs == ((0, 1), (0, 2), (1, 2))
    np.testing.assert_allclose(found.distances, pairs)
    # The mean square distance to the mean is that of all pairs over 2 R², here 2 · 3 / (2 · 9).
    np.testing.assert_allclose(found.residuals**2, (found.distances**2).sum(axis=0) / 9)
    assert found.distance == pytest.approx(np.median(pairs))
    np.testing.assert_allclose(found.model_distances, np.median(pairs, axis=0))


def test_a_moved_model_has_the_largest_residual():
    maps = noisy_maps(noise=0.05)
    maps[1][5] += 2
    turned = [item @ rotation(4, seed) for seed, item in enumerate(maps)]
    found = align(turned, permutations=1)
    assert found.residuals.argmax() == 5
    assert found.residuals[5] > 3 * np.sort(found.residuals)[-2]
    assert found.model_distances.argmax() == 5


def test_nothing_changes_with_rotation_reflection_translation_and_scale_of_a_run():
    maps = noisy_maps()
    first = align(maps, permutations=5)
    for run in range(3):
        others = list(maps)
        others[run] = 5 - 0.2 * others[run] @ rotation(4, run)
        second = align(others, permutations=5)
        for name in ("distances", "residuals", "correlations"):
            np.testing.assert_allclose(getattr(second, name), getattr(first, name), rtol=1e-6)
        np.testing.assert_allclose(second.mean.shares, first.mean.shares)
        np.testing.assert_allclose(second.shuffled, first.shuffled, rtol=1e-3)


def test_fewer_dimensions_are_filled_with_zeros():
    plane = noisy_maps(1, dimensions=2)[0]
    inside = np.hstack([plane, np.zeros((14, 3))]) @ rotation(5, 0)
    found = align([plane, inside], permutations=1)
    assert found.places.shape == (2, 14, 5)
    np.testing.assert_allclose(found.distances, 0, atol=1e-9)


def test_few_models_in_many_dimensions_fit_by_chance_and_the_shuffles_show_it():
    rng = np.random.default_rng(6)
    p_values, distances = [], []
    for seed in range(12):
        found = align(list(rng.standard_normal((2, 6, 12))), permutations=19, seed=seed)
        p_values.append(found.p_value)
        distances.append(found.distance)
    assert np.mean(distances) < 0.8  # unrelated places would be √2 apart
    assert 0.27 < np.mean(p_values) < 0.78  # nominally 0.525, with a standard error of 0.083


def test_one_dimension_and_the_picture():
    line = np.arange(5.0)[:, None]
    found = align([line, -line], permutations=1)
    np.testing.assert_allclose(found.distances, 0, atol=1e-9)
    left, right = plot_alignment(found, list("abcde")).axes
    assert len(left.collections) == 5  # lines and places of two runs, and the mean places
    assert [text.get_text() for text in right.get_yticklabels()] == list("edcba")


def test_the_picture_shows_the_least_stable_of_many():
    maps = noisy_maps(models=40)
    maps[0][7] += 3
    found = align(maps, permutations=1)
    names = [f"m{number}" for number in range(40)]
    left, right = plot_alignment(found, names, "half", [number % 2 for number in range(40)]).axes
    assert [text.get_text() for text in right.get_yticklabels()][-1] == "m7"
    assert len(right.get_yticklabels()) == 24
    np.testing.assert_allclose(left.collections[1].get_offsets(), found.places[0][:, :2])


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ([np.eye(4)], "at least two maps; got 1"),
        ([np.eye(4), np.eye(5)], r"these have \[4, 5\]"),
        ([np.eye(2), np.eye(2)], "3 or more models"),
        ([np.eye(4), np.ones((4, 4))], "map 2 has all models at one place"),
        ([np.eye(4), np.full((4, 4), 0.1)], "map 2 has all models at one place"),
        ([np.eye(4), np.full((4, 4), np.nan)], "map 2 has NaN"),
    ],
)
def test_maps_that_cannot_be_aligned_are_told(maps, message):
    with pytest.raises(DynamoError, match=message):
        align(maps)
    with pytest.raises(DynamoError, match="at least one shuffle"):
        align(noisy_maps(), permutations=0)


@pytest.fixture(scope="module")
def fit():
    return problems.fitted(6)[0]


def again(fit, change):
    """The same fit with other thetas, saved as another."""
    folder = change.pop("folder")
    other = attrs.evolve(fit, emulator=deepcopy(fit.emulator), **change)
    for theta in other.emulator.thetas:
        theta.data = theta.data @ torch.as_tensor(rotation(4, 3), dtype=theta.dtype)
    other.save(folder)
    return other


def test_maps_of_runs_come_in_the_order_of_the_first(fit, tmp_path):
    other = again(fit, {"folder": tmp_path / "other"})
    order = [3, 0, 5, 1, 2, 4]
    blueprint = other.emulator.blueprint
    other.emulator.blueprint = attrs.evolve(blueprint, subjects=tuple(blueprint.subjects[n] for n in order))
    other.emulator.thetas = torch.nn.ParameterList([other.emulator.thetas[n] for n in order])
    maps = maps_of([fit, other], "theta")
    np.testing.assert_allclose(maps[0], fit.theta)
    np.testing.assert_allclose(align(maps, permutations=1).distances, 0, atol=1e-5)


def test_maps_are_the_coordinates_of_what_emulators_do(fit):
    """Emulators that read θ in other coordinates do the same, and so have the same map, though not the same thetas."""
    other = attrs.evolve(fit, emulator=deepcopy(fit.emulator))
    change = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)) + 2 * torch.eye(4)
    with torch.no_grad():
        weight = other.emulator.meta_model.rnn.weight_ih_l0
        weight[:, -4:] = weight[:, -4:] @ torch.linalg.inv(change)
        for theta in other.emulator.thetas:
            theta.copy_(change @ theta)
    np.testing.assert_allclose(align(maps_of([fit, other]), permutations=1).distances, 0, atol=1e-3)
    assert align(maps_of([fit, other], "theta"), permutations=1).distance > 0.1
    (own, _) = maps_of([fit, other], "states")
    np.testing.assert_allclose(own, fit.distances("states").coordinates(4))


def test_runs_of_other_models_are_told(fit, tmp_path):
    with pytest.raises(DynamoError, match="run 1 has 'm5', run 2 lacks it"):
        maps_of([fit, problems.fitted(5)[0]])
    with pytest.raises(DynamoError, match="run 3 has 'm6', run 1 lacks it"):
        maps_of([fit, fit, problems.fitted(7)[0]])
    changed = again(fit, {"folder": tmp_path / "other", "source": {"fingerprint": "another"}})
    with pytest.raises(DynamoError, match="same names with other weights"):
        maps_of([fit, changed])


def test_the_command(fit, tmp_path, capsys):
    first, second = tmp_path / "one", tmp_path / "two"
    fit.save(first)
    again(fit, {"folder": second})
    main(["analyse", "alignment", str(first), str(second), "--distance", "theta", "--permutations", "19"])
    assert "0.000 of the map's spread" in capsys.readouterr().out
    rows = list(csv.DictReader((first / "alignment" / "alignment.csv").open()))
    assert sorted(row["model"] for row in rows) == [f"m{n}" for n in range(6)]
    assert all(abs(float(row["1 to 2"])) < 1e-5 for row in rows)
    (pair,) = csv.DictReader((first / "alignment" / "runs.csv").open())
    assert float(pair["correlation of distances"]) == pytest.approx(1)
    assert (first / "alignment" / "alignment.png").stat().st_size > 0


def test_wrong_turns_of_the_command(fit, tmp_path, capsys):
    run = tmp_path / "run"
    fit.save(run)
    for arguments, message in (
        ([run], "two or more different runs"),
        ([run, tmp_path / "." / "run"], "two or more different runs"),
        ([run, tmp_path / "none"], "there is no finished run"),
        (
            [run, again(fit, {"folder": tmp_path / "b"}) and tmp_path / "b", "--colour-by", "nunber"],
            "did you mean 'num",
        ),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["analyse", "alignment", *map(str, arguments)])
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
