"""Recordings that several fits have in common."""

import os
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest
import torch

from dynamo import DynamoError, FitOptions, Population, Trainer
from dynamo.population.recording import record
from dynamo.population.recording_cache import SUFFIX, RecordingCache
from dynamo_rnn.models import GRU
from problems import base_model, dataset
from test_population import on_digits

OPTIONS = FitOptions(meta_model="gru:hidden_size=6,embedding_size=3", theta_dim=3, models_per_step=2, steps=3)


@pytest.fixture
def runs(monkeypatch):
    """How often a base model has been run."""
    seen, run = [], GRU.trajectory
    monkeypatch.setattr(GRU, "trajectory", lambda self, inputs: seen.append(len(inputs)) or run(self, inputs))
    return seen


@pytest.fixture
def population(tmp_path):
    Population([on_digits(f"m{seed}", seed) for seed in range(3)]).save(tmp_path / "population")
    return Population.load(tmp_path / "population")


def cache(tmp_path, most=2**30):
    return RecordingCache(tmp_path / "cache", most)


def same(one, other):
    for first, second in zip(one, other, strict=True):
        parts = zip(
            (*first.trajectory.states, first.trajectory.outputs, first.trajectory.mask),
            (*second.trajectory.states, second.trajectory.outputs, second.trajectory.mask),
            strict=True,
        )
        if not all(torch.equal(a, b) and a.dtype == b.dtype for a, b in parts):
            return False
    return True


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").glob(f"*{SUFFIX}"))


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_second_fit_runs_no_base_model_and_sees_the_same(population, tmp_path, runs, precision):
    wanted = record(population, precision=precision)
    record(population, precision=precision, cache=cache(tmp_path))
    runs.clear()
    again = record(population, tmp_path / "disk", precision=precision, cache=cache(tmp_path))
    assert runs == []
    assert same(again, wanted)
    assert len(kept(tmp_path)) == 3


def test_fits_of_several_seeds_are_those_without_a_cache(population, tmp_path, runs):
    for seed in range(2):
        fits = []
        for folder in (None, str(tmp_path / "cache")):
            trainer = Trainer(population, attrs.evolve(OPTIONS, seed=seed, recording_cache=folder))
            trainer.record()
            runs.clear()
            trainer.run()
            fits.append(trainer.emulator.state_dict())
        assert all(torch.equal(tensor, fits[1][name]) for name, tensor in fits[0].items())


def test_other_weights_data_and_precision_are_recorded_anew(population, tmp_path):
    own = cache(tmp_path)
    base = population[0]
    data = population.data_fingerprint(base)
    first = own.key(base, data, "float32", None)
    assert first == own.key(base, data, "float32", torch.device("cpu"))
    others = [
        own.key(population[1], data, "float32", None),
        own.key(base, "other", "float32", None),
        own.key(base, data, "float16", None),
        own.key(base, data, "float32", torch.device("cuda")),
        own.key(attrs.evolve(base, architecture="gru:hidden_size=9,dropout=0.5"), data, "float32", None),
    ]
    assert len({first, *others}) == 6
    assert own.key(base_model("live", dataset()), data, "float32", None) is None
    renamed = attrs.evolve(base, name="other", metadata={"seed": 7})
    assert own.key(renamed, data, "float32", None) == first


def test_what_is_damaged_is_recorded_again(population, tmp_path, runs):
    wanted = record(population, cache=cache(tmp_path))
    paths = [tmp_path / "cache" / name for name in kept(tmp_path)]
    contents = [path.read_bytes() for path in paths]
    paths[0].write_bytes(contents[0][:-1])
    paths[1].write_bytes(contents[1][:90] + b"x" + contents[1][91:])
    paths[2].write_bytes(b"")
    runs.clear()
    assert same(record(population, cache=cache(tmp_path)), wanted)
    assert len(runs) == 6  # of each: a check of its first batch, and the rest
    assert [path.read_bytes() for path in paths] == contents


def test_what_was_not_used_for_longest_gives_way(population, tmp_path):
    record(population, cache=cache(tmp_path))
    one, other, last = kept(tmp_path)
    size = (tmp_path / "cache" / one).stat().st_size
    for age, name in enumerate((other, one, last)):
        os.utime(tmp_path / "cache" / name, ns=(age, age))
    cache(tmp_path).read(other.removesuffix(SUFFIX))  # used now
    cache(tmp_path, 2 * size).trim()
    assert kept(tmp_path) == sorted([other, last])
    small = cache(tmp_path, size // 2)
    record(population, cache=small)
    assert kept(tmp_path) == []


def test_many_fits_may_use_a_folder_at_a_time(population, tmp_path):
    size = 3 * 10**5
    wanted = record(population)

    def once(_):
        return record(Population.load(tmp_path / "population"), cache=cache(tmp_path, size))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(once, range(8)))
    assert all(same(own, wanted) for own in found)
    assert not list((tmp_path / "cache").glob(".dynamo-*"))


def test_what_killed_fits_left_half_written_is_taken_away_and_what_others_write_is_not(tmp_path):
    own = cache(tmp_path)
    old, new = (tmp_path / "cache" / f".dynamo-{digit * 16}.partial" for digit in "01")
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    own.trim()
    assert (old.exists(), new.exists()) == (False, True)


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(DynamoError, match="live models are not recorded"):
        FitOptions(recording="live", recording_cache=str(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(DynamoError, match="cannot write"):
        RecordingCache(tmp_path / "file", 1)
