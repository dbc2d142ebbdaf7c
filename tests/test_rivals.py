"""Pairwise measures: numbers of the original codes, what they do and do not notice, and what they read."""

import json
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score

import problems
from dynamo import DynamoError, Inputs, OutputSpace, Trajectory, record
from dynamo.analysis.rivals import RIVALS, canonical, distance_matrix, predictor, rival
from dynamo.population.recording import Recording

PINNED = json.loads((Path(__file__).parent / "data" / "rivals.json").read_text())["numbers"]
PAIRS = {"equal": (0, 60, 8, 8), "wider": (1, 60, 8, 12), "few-examples": (2, 20, 30, 25)}
ON_STATES = [name for name, one in RIVALS.items() if one.reads == "states"]
FROM_ORIGINAL = {  # what the originals give, as a distance
    "svcca": lambda correlation: np.sqrt(2 - 2 * correlation),
    "pwcca": lambda similarity: 1 - similarity,
    "cka": lambda similarity: 1 - similarity,
    "cka-debiased": lambda similarity: 1 - similarity,
    "procrustes": lambda angle: angle,
    "gulp": np.sqrt,
    "rsa": lambda correlation: 1 - correlation,
    "dsa": lambda score: score,
    "output-disagreement": lambda share: share,
}


def matrices(pair):
    """The pair of feature matrices that a pinned number was made of."""
    seed, examples, first, second = PAIRS[pair]
    source = np.random.RandomState(seed)
    common = source.standard_normal((examples, 6))
    return tuple(
        common @ source.standard_normal((6, units)) + source.standard_normal((examples, units)) + shift
        for units, shift in ((first, 1), (second, -2))
    )


def sequences(seed, units, lengths):
    """Noisy linear dynamics, as the pinned numbers of dsa were made of."""
    source = np.random.RandomState(seed)
    law = source.standard_normal((units, units))
    law /= 1.1 * np.abs(np.linalg.eigvals(law)).max()
    found = []
    for steps in lengths:
        states = [source.standard_normal(units)]
        for _ in range(steps - 1):
            states.append(law @ states[-1] + 0.1 * source.standard_normal(units))
        found.append(np.array(states))
    return found


RAGGED = [4 + number % 9 for number in range(30)]
SEQUENCES = {
    "ragged": ((0, 4, RAGGED), (1, 4, RAGGED)),
    "ragged-wider": ((0, 4, RAGGED), (2, 6, RAGGED)),
    "even": ((0, 4, [10] * 30), (1, 4, [10] * 30)),
}


def distance(name, one, other):
    measure = RIVALS[name]
    return measure.distance(measure.prepare(one), measure.prepare(other))


def rotation(units, seed=0):
    return np.linalg.qr(np.random.RandomState(seed).standard_normal((units, units)))[0]


def recorded(states, lengths=None, outputs=None):
    """A recording of given states ``[B, T, *S]`` on inputs that depend on their number and lengths alone."""
    states = [torch.as_tensor(site, dtype=torch.float32) for site in states]
    examples, steps = states[0].shape[:2]
    lengths = torch.full((examples,), steps) if lengths is None else torch.as_tensor(lengths)
    mask = torch.arange(steps) < lengths[:, None]
    outputs = torch.zeros(examples, steps, 2) if outputs is None else outputs
    return Recording(
        Inputs(torch.arange(examples * steps).reshape(examples, steps), mask), _trajectory(states, outputs, mask)
    )


def _trajectory(states, outputs, mask):
    return Trajectory(tuple(states), outputs, mask)


def random_recordings(models=4, examples=30, steps=5, sites=1, units=6, seed=0):
    source = np.random.RandomState(seed)
    lengths = source.randint(2, steps + 1, examples)
    return [
        recorded([source.standard_normal((examples, steps, units + model)) for _ in range(sites)], lengths)
        for model in range(models)
    ]


# the original codes


@pytest.mark.parametrize(("name", "pair"), sorted({(one["rival"], one["pair"]) for one in PINNED}))
def test_the_numbers_of_the_original_codes(name, pair):
    if name == "dsa":
        pytest.importorskip("DSA", reason="dsa-metric is not installed")
    values = {one["quantity"]: one["value"] for one in PINNED if (one["rival"], one["pair"]) == (name, pair)}
    if name == "output-disagreement":
        x, y = matrices(pair)
        decisions = distance(name, x[:, :4].argmax(1), y[:, :4].argmax(1))
        assert decisions == pytest.approx(values["share of different decisions"], abs=1e-12)
        found, wanted = distance(name, x[:, :4], x[:, :4] + 0.3 * y[:, :4]), values["harmonic mean of 1 - R²"]
    else:
        inputs = [sequences(*one) for one in SEQUENCES[pair]] if name == "dsa" else matrices(pair)
        found, wanted = distance(name, *inputs), np.mean([FROM_ORIGINAL[name](value) for value in values.values()])
    assert found == pytest.approx(wanted, rel=1e-5 if name == "dsa" else 1e-11)


def test_every_measure_is_pinned_and_described():
    assert {one["rival"] for one in PINNED} == set(RIVALS) == set(FROM_ORIGINAL)
    assert all(len(one["how"]) > 40 for one in PINNED)
    for name, measure in RIVALS.items():
        assert measure.name == name
        assert measure.help
        assert measure.source
        assert "O(" in measure.cost


# what is noticed, and what is not


@pytest.mark.parametrize("name", ON_STATES)
@pytest.mark.parametrize("pair", PAIRS)
def test_equals_are_at_distance_zero_exactly(name, pair):
    x, _ = matrices(pair)
    assert distance(name, x, x.copy()) == 0


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(
    ("change", "blind"),
    [
        (lambda x: x[:, ::-1] + 3, ON_STATES),  # the order and the means of units
        (lambda x: 7 * x, ON_STATES),
        (lambda x: np.hstack([x, np.full((len(x), 2), 5.0)]), ON_STATES),  # units that never change
        (lambda x: x @ rotation(x.shape[1]), [name for name in ON_STATES if name != "pwcca"]),
    ],
    ids=["order", "scale", "constant-units", "rotation"],
)
def test_what_they_do_not_notice(pair, change, blind):
    x, y = matrices(pair)
    for name in blind:
        assert distance(name, change(x), y) == pytest.approx(distance(name, x, y), abs=1e-7), name
        assert distance(name, x, change(x)) == pytest.approx(0, abs=1e-7), name


def test_canonical_correlations_do_not_notice_linear_maps_before_truncation(monkeypatch):
    x, y = matrices("wider")
    mixed = x @ np.random.RandomState(5).standard_normal((8, 8))
    assert distance("pwcca", x, mixed) == pytest.approx(0, abs=1e-7)
    assert distance("svcca", mixed, y) != pytest.approx(distance("svcca", x, y), abs=1e-3)
    monkeypatch.setattr(canonical, "KEPT", 1.0)
    assert distance("svcca", mixed, y) == pytest.approx(distance("svcca", x, y), abs=1e-7)


@pytest.mark.parametrize("name", ON_STATES)
def test_what_they_notice(name):
    x, y = matrices("equal")
    shuffled = np.random.RandomState(6).permutation(x)
    assert distance(name, x, shuffled) > distance(name, x, y) > distance(name, x, x + 0.1 * y) > 1e-4
    stretched = x * np.array([30.0] + [1.0] * 7)  # one unit outshines the others
    assert abs(distance(name, stretched, y) - distance(name, x, y)) > 0.01


def test_the_debiased_estimate_tells_noise_from_likeness():
    source = np.random.RandomState(7)
    one, other = source.standard_normal((2, 40, 400))
    assert distance("cka", one, other) < 0.2
    assert distance("cka-debiased", one, other) == pytest.approx(1, abs=0.1)


def test_procrustes_keeps_the_triangle_inequality():
    source = np.random.RandomState(8)
    for _ in range(20):
        x, y, z = (source.standard_normal((12, units)) @ source.standard_normal((units, 5)) for units in (2, 3, 4))
        assert distance("procrustes", x, z) <= distance("procrustes", x, y) + distance("procrustes", y, z) + 1e-9


def test_gulp_is_the_difference_of_ridge_regressions_over_all_targets():
    source = np.random.RandomState(10)
    x, y = matrices("wider")
    n = len(x)
    smoothers = []
    for states in (x, y):
        states = states - states.mean(0)
        states *= np.sqrt(n) / np.linalg.norm(states)
        ridge = np.linalg.inv(states.T @ states / n + predictor.RIDGE * np.eye(states.shape[1]))
        smoothers.append(states @ ridge @ states.T / n)
    difference = smoothers[0] - smoothers[1]
    assert distance("gulp", x, y) == pytest.approx(np.linalg.norm(difference))
    targets = source.standard_normal((n, 20_000))
    assert distance("gulp", x, y) ** 2 == pytest.approx(np.square(difference @ targets).sum(0).mean(), rel=0.02)


def test_gulp_of_two_single_units_is_known():
    x = np.array([1.0, 1, -1, -1])[:, None]
    for y, correlation in (([1.0, -1, 1, -1], 0.0), ([2.0, 1, -1, -2], 3 / np.sqrt(10)), ([-3.0, -3, 3, 3], 1.0)):
        wanted = np.sqrt(2 * (1 - correlation**2)) / (1 + predictor.RIDGE)
        assert distance("gulp", x, np.array(y)[:, None]) == pytest.approx(wanted, abs=1e-7)


def test_gulp_keeps_the_triangle_inequality():
    source = np.random.RandomState(8)
    for _ in range(20):
        x, y, z = (source.standard_normal((12, units)) @ source.standard_normal((units, 5)) for units in (2, 3, 4))
        assert distance("gulp", x, z) <= distance("gulp", x, y) + distance("gulp", y, z) + 1e-9


def awkward():
    source = np.random.RandomState(9)
    x = source.standard_normal((10, 4))
    return {
        "few examples": source.standard_normal((10, 50)),
        "constant units": np.hstack([x, np.full((10, 3), 1e6)]),
        "all constant": np.full((10, 3), 0.1),
        "other constant": np.full((10, 5), -2.0),
        "twice": np.vstack([x[:5], x[:5]]),
        "dependent units": np.hstack([x, x @ source.standard_normal((4, 4))]),
        "one unit": x[:, :1],
        "one-hot": np.eye(10),
        "huge": 1e18 * x,
        "tiny": 1e-18 * x,
        "half": x.astype(np.float16),
    }


@pytest.mark.parametrize("name", ON_STATES)
def test_awkward_models_have_finite_distances(name):
    for first, x in awkward().items():
        assert distance(name, x, x.copy()) == 0, first
        for second, y in awkward().items():
            found = distance(name, x, y)
            assert 0 <= found <= (np.sqrt(20) if name == "gulp" else 2), (first, second)
            assert found == pytest.approx(distance(name, y, x), abs=1e-7), (first, second)
    largest = {"svcca": np.sqrt(2), "procrustes": np.pi / 2, "gulp": 1 / 1.01}.get(name, 1)
    assert distance(name, awkward()["all constant"], awkward()["one unit"]) == pytest.approx(largest)
    assert distance(name, awkward()["all constant"], awkward()["other constant"]) == 0


# what is read


@pytest.mark.parametrize("name", ON_STATES)
def test_the_matrix_holds_the_distances_of_real_steps(name):
    recordings = random_recordings()
    found = distance_matrix(name, recordings, examples=None)
    real = [one.trajectory.states[0][one.trajectory.mask].double().numpy() for one in recordings]
    assert found[1, 3] == pytest.approx(distance(name, real[1], real[3]), abs=1e-12)
    assert found.shape == (4, 4)
    assert found.dtype == np.float64
    assert np.array_equal(found, found.T)
    assert not found.diagonal().any()
    assert (found + np.eye(4) > 0).all()
    for one in recordings:
        one.trajectory.states[0][~one.trajectory.mask] = float("nan")
    assert np.array_equal(distance_matrix(name, recordings, examples=None), found)


@pytest.mark.parametrize("name", ON_STATES)
def test_sites_are_averaged(name):
    recordings = random_recordings(models=3, sites=2)
    alone = [
        distance_matrix(
            name,
            [
                Recording(
                    one.inputs, _trajectory([one.trajectory.states[site]], one.trajectory.outputs, one.trajectory.mask)
                )
                for one in recordings
            ],
        )
        for site in range(2)
    ]
    np.testing.assert_allclose(distance_matrix(name, recordings), np.mean(alone, axis=0), atol=1e-12)
    assert not np.allclose(*alone, atol=1e-3)


def test_the_seed_draws_the_same_examples_for_all_models():
    recordings = random_recordings(models=3, examples=60)
    state = torch.get_rng_state()
    some = distance_matrix("cka", recordings, examples=20)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(distance_matrix("cka", recordings, examples=20), some)
    assert not np.allclose(distance_matrix("cka", recordings, examples=20, seed=1), some)
    np.testing.assert_array_equal(
        distance_matrix("cka", recordings, examples=60), distance_matrix("cka", recordings, examples=None)
    )
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:20].sort().values
    chosen = [Recording(one.inputs[rows], one.trajectory[rows]) for one in recordings]
    np.testing.assert_allclose(distance_matrix("cka", chosen), some, atol=1e-12)


def test_rsa_draws_positions_where_there_are_many(monkeypatch):
    source = np.random.RandomState(0)
    states = [source.standard_normal((300, 4, 3)) for _ in range(2)]
    states[1] += 2 * states[0]
    recordings = [recorded([one]) for one in states]
    seen = []
    monkeypatch.setattr(
        "dynamo.analysis.rivals.dissimilarity.pdist", lambda x, how: seen.append(len(x)) or np.arange(3.0)
    )
    distance_matrix("rsa", recordings)
    assert seen == [1000, 1000]


def test_half_precision_recordings():
    recordings = random_recordings(models=3)
    half = [
        Recording(
            one.inputs, _trajectory([one.trajectory.states[0].half()], one.trajectory.outputs, one.trajectory.mask)
        )
        for one in recordings
    ]
    for name in ON_STATES:
        np.testing.assert_allclose(distance_matrix(name, half), distance_matrix(name, recordings), atol=5e-3)


def test_maps_of_convolutions_are_pooled():
    source = np.random.RandomState(0)
    maps = [source.standard_normal((25, 1, 3, 8, 8)) for _ in range(3)]
    images = Inputs(torch.zeros(25, 1, 2, 2), torch.ones(25, 1, dtype=torch.bool))

    def on_images(states):
        return Recording(images, _trajectory([torch.as_tensor(states)], torch.zeros(25, 1, 2), images.mask))

    def flat(states):
        return states.reshape(25, -1)

    wanted = [one.reshape(25, 3, 4, 2, 4, 2).mean((3, 5)) for one in maps]
    for name in ON_STATES:
        pooled = distance_matrix(name, [on_images(one) for one in maps])
        assert pooled[0, 1] == pytest.approx(distance(name, flat(wanted[0]), flat(wanted[1])), abs=1e-9)
        whole = distance_matrix(name, [on_images(one) for one in maps], pooling=None)
        assert whole[0, 1] == pytest.approx(distance(name, flat(maps[0]), flat(maps[1])), abs=1e-9)
        small = distance_matrix(name, [on_images(one[:, None]) for one in wanted], pooling=7)
        np.testing.assert_allclose(small, pooled, atol=1e-9)
    with pytest.raises(DynamoError, match="dsa compares how states move over steps, and these models take images"):
        distance_matrix("dsa", [on_images(one) for one in maps])


@pytest.mark.parametrize("name", ON_STATES)
def test_models_with_one_origin_are_closer(name):
    source = np.random.RandomState(0)
    origins = [source.standard_normal((20, 4, 6)) for _ in range(2)]
    turned = [origins[model % 2] @ rotation(6, model) for model in range(6)]
    found = distance_matrix(name, [recorded([one + 0.1 * source.standard_normal(one.shape)]) for one in turned])
    alike = np.equal.outer(np.arange(6) % 2, np.arange(6) % 2)
    assert found[alike].max() < found[~alike].min()


# answers


def test_disagreement_of_decisions():
    outputs = torch.zeros(3, 4, 2, 3)
    outputs[0, :, 1, 0] = outputs[1, :2, 1, 0] = outputs[1, 2:, 1, 2] = outputs[2, :, 1, 1] = 1
    outputs[:, :, 0] = outputs[:1, :, 1]  # at the first step they agree
    recordings = [recorded([np.zeros((4, 2, 1))], outputs=one) for one in outputs]
    last = distance_matrix("output-disagreement", recordings, spaces=[OutputSpace("classes", 3)] * 3)
    assert last.tolist() == [[0, 0.5, 1], [0.5, 0, 1], [1, 1, 0]]
    every = distance_matrix("output-disagreement", recordings, spaces=[OutputSpace("classes", 3, "every")] * 3)
    np.testing.assert_allclose(every, last / 2)


def test_disagreement_of_real_outputs():
    source = np.random.RandomState(0)
    states, lengths = [np.zeros((30, 3, 1))], source.randint(1, 4, 30)
    outputs = [torch.as_tensor(source.standard_normal((30, 3, 2))) for _ in range(2)]
    outputs += [torch.ones(30, 3, 2), torch.zeros(30, 3, 2)]
    recordings = [recorded(states, lengths, one) for one in outputs]
    mask = recordings[0].trajectory.mask
    real = [one[mask] for one in outputs]
    found = distance_matrix("output-disagreement", recordings, spaces=[OutputSpace("real", 2, "every")] * 4)
    both = [1 - r2_score(*parts, multioutput="variance_weighted") for parts in (real[:2], real[1::-1])]
    assert found[0, 1] == pytest.approx(2 / (1 / both[0] + 1 / both[1]))
    assert 0 < found[0, 2] < 10  # one of the two is constant
    assert np.isfinite(found).all()


# dynamics


def test_dsa_reads_real_steps_and_leaves_out_examples_with_one(monkeypatch):
    seen = []

    class Law:
        def __init__(self, sequences, rank_explained_variance):
            assert rank_explained_variance == 0.99
            seen.append([len(steps) for steps in sequences])
            self.A_v = torch.diag(torch.tensor([0.5, float(len(seen))]))

        def fit(self):
            pass

    class Score:
        def __init__(self, score_method):
            assert score_method == "wasserstein"

        def fit_score(self, one, other):
            return abs(one - other).max()

    monkeypatch.setitem(sys.modules, "DSA", SimpleNamespace(DMD=Law, SimilarityTransformDist=Score))
    lengths = [1, 3, 5, 2, 1]
    source = np.random.RandomState(0)
    recordings = [recorded([source.standard_normal((5, 5, 4))], lengths) for _ in range(3)]
    assert distance_matrix("dsa", recordings).tolist() == [[0, 1, 2], [1, 0, 1], [2, 1, 0]]
    assert seen == [[3, 5, 2]] * 3
    with pytest.raises(DynamoError, match="no example has two steps"):
        distance_matrix("dsa", [recorded([source.standard_normal((5, 5, 4))], [1] * 5) for _ in range(2)])


def test_dsa_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "DSA", None)
    with pytest.raises(DynamoError, match="pip install dsa-metric"):
        distance_matrix("dsa", random_recordings())


def test_dsa_properties():
    pytest.importorskip("DSA", reason="dsa-metric is not installed")
    x, y = (sequences(*one) for one in SEQUENCES["ragged"])
    turned = [7 * steps @ rotation(4) for steps in x]
    assert distance("dsa", x, [steps.copy() for steps in x]) == 0
    assert distance("dsa", x, turned) == pytest.approx(0, abs=1e-5)
    assert distance("dsa", x, y) > 0.1
    still = [np.hstack([steps, np.ones((len(steps), 3))]) for steps in x]
    wide = [steps[:1] @ np.ones((4, 60)) * np.linspace(1, 2, len(steps))[:, None] for steps in x]
    nothing = [np.zeros((len(steps), 2)) for steps in x]
    for one in (still, wide, nothing, [steps[:, :1] for steps in x]):
        assert np.isfinite(distance("dsa", one, y))
        assert distance("dsa", one, y) == pytest.approx(distance("dsa", y, one), abs=1e-5)


# memory, progress, errors


@pytest.mark.parametrize(("memory", "most"), [(1, 2), (6 * 800, 6), (None, 9)])
def test_blocks_of_models_give_the_same_matrix_in_less_memory(memory, most):
    alive, peaks, prepared = set(), [], []

    def prepare(model):
        array = np.full(100, float(model))
        alive.add(model)
        weakref.finalize(array, alive.discard, model)
        prepared.append(model)
        peaks.append(len(alive))
        return (array,)

    steps = []
    counted = rival.Rival("counted", "", prepare, lambda one, other: (other[0] - one[0]).max(), "", "")
    found = rival.pairwise(counted, lambda model: model, 9, step=lambda: steps.append(1), memory=memory)
    np.testing.assert_array_equal(found, np.abs(np.subtract.outer(np.arange(9.0), np.arange(9.0))))
    assert len(steps) == 36
    assert max(peaks) == most
    if memory is None:
        assert prepared == list(range(9))


def test_progress_counts_pairs_over_sites():
    told = []
    distance_matrix("cka", random_recordings(models=3, sites=2), progress=lambda *one: told.append(one))
    assert told == [(done, 6) for done in range(1, 7)]


def test_recordings_of_a_population():
    population = problems.population(4)
    recordings, spaces = record(population), [base.model.outputs for base in population]
    for name in set(RIVALS) - {"dsa"}:
        found = distance_matrix(name, recordings, spaces=spaces)
        assert found.shape == (4, 4)
        assert (found >= 0).all()
        assert found[np.triu_indices(4, 1)].max() > 0.01


def test_errors():
    recordings = random_recordings()
    with pytest.raises(DynamoError, match="did you mean 'svcca'"):
        distance_matrix("svca", recordings)
    for count in (0, 1):
        with pytest.raises(DynamoError, match=f"there are {count}: give at least two"):
            distance_matrix("cka", recordings[:count])
    with pytest.raises(DynamoError, match="0 examples leave nothing"):
        distance_matrix("cka", recordings, examples=0)
    with pytest.raises(DynamoError, match=r"cka-debiased needs at least 4 positions.*there are 3"):
        distance_matrix("cka-debiased", [recorded([np.ones((1, 3, 2))]) for _ in range(2)])
    sites = random_recordings(models=1, sites=2) + random_recordings(models=1)
    with pytest.raises(DynamoError, match="model 0 has 2 sites, model 1 has 1"):
        distance_matrix("cka", sites)


@pytest.mark.parametrize("other", [{"seed": 1}, {"examples": 29}, {"steps": 4}], ids=["lengths", "examples", "steps"])
def test_recordings_on_different_inputs(other):
    with pytest.raises(DynamoError, match="recordings 0 and 2 were made on different inputs"):
        distance_matrix("rsa", random_recordings(models=2) + random_recordings(models=1, **other))


def test_recordings_on_different_words():
    recordings = random_recordings(models=2)
    inputs = recordings[1].inputs
    for values in (inputs.values + 1, inputs.values.double()):
        with pytest.raises(DynamoError, match="recordings 0 and 1 were made on different inputs"):
            distance_matrix("cka", [recordings[0], Recording(inputs.with_values(values), recordings[1].trajectory)])
    copied = Recording(inputs.with_values(inputs.values.clone()), recordings[1].trajectory)
    assert distance_matrix("cka", [recordings[0], copied])[0, 1] > 0


def test_output_spaces_are_asked_for_and_must_agree():
    recordings = random_recordings(models=2)
    one, other = OutputSpace("classes", 2, group="one"), OutputSpace("classes", 2, group="other")
    for spaces in (None, [one]):
        with pytest.raises(DynamoError, match="needs the output space of each of the 2 models"):
            distance_matrix("output-disagreement", recordings, spaces=spaces)
    with pytest.raises(DynamoError, match=r"model 0 answers with 2 classes \(one\), model 1 with 2 classes \(other\)"):
        distance_matrix("output-disagreement", recordings, spaces=[one, other])
