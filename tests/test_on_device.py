"""Everything that runs on another device than the CPU: on one that is not there, and on a GPU where there is one.

Both draw the same base models and rows, since these are drawn by numpy, and have the same first weights, since these
are made on the CPU: what differs is rounding alone.
"""

import csv
from contextlib import nullcontext
from math import isnan, nan

import pytest
import torch

from command_line import dynamo
from dynamo import Dataset, DynamoError, Examples, FitOptions, Inputs, InputSpace, OutputSpace, Population, Trainer
from dynamo.contracts.protocols import DynamicalModel
from dynamo.fit.distance_kinds import KINDS
from dynamo.fit.distances import distances
from dynamo.fit.fidelity import measure_fidelity
from dynamo.fit.fit import Fit
from dynamo.population.recording import record
from dynamo.registry import make
from dynamo.system.devices import device_of
from dynamo.testing import example_inputs
from dynamo.training.presets import PRESETS

TOKENS, IMAGES, CLASSES = InputSpace("tokens", (11,)), InputSpace("image", (3, 8, 8)), OutputSpace("classes", 4)
SIZES = "hidden_size=6,embedding_size=5"
PAPER_CNN = {name: PRESETS["paper-cnn"][name] for name in ("optimizer", "state_map", "hidden_divergence", "recording")}
FITS = {
    "gru": {"meta_model": f"gru:{SIZES}"},
    "algorithm-1": {"meta_model": f"gru:{SIZES}", "models_per_step": 1},
    "muon": {"meta_model": f"gru:{SIZES}", "optimizer": "muon", "scale_hidden": True, "models_per_step": 2},
    "mingru": {"meta_model": f"mingru:{SIZES},layers=2"},
    "live": {"meta_model": f"gru:{SIZES}", "recording": "live"},
    "there": {"meta_model": f"gru:{SIZES}", "recording": "device", "optimizer": "muon", "models_per_step": 2},
    "half": {"meta_model": f"gru:{SIZES}", "recording_precision": "float16"},
    "block-outputs": {"meta_model": "gru:hidden_size=4,embedding_size=5", "block_outputs": True},
    "resnet": {"meta_model": "resnet:layers=1+1+1,width=4", **PAPER_CNN},
    "resnet-muon": {
        "meta_model": "resnet:layers=1+1+1,width=4",
        "state_map": "conv",
        "hidden_divergence": "l1:reduction=mean",
        "optimizer": "muon",
        "channels_last": True,
    },
}


def quick(cases, *names):
    """The cases as parameters: these ones, and those that are left to `make test-slow` and `make test-gpu`."""
    assert set(names) <= set(cases)
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in cases]


def population(images: bool = False, count: int = 3) -> Population:
    space, architecture = (IMAGES, "cifar-resnet:depth=8,width=4") if images else (TOKENS, "gru:hidden_size=4")

    def part(seed: int) -> Examples:
        inputs = example_inputs(space, batch=32, steps=7, seed=seed)
        values = inputs.values.to(torch.get_default_dtype()) if images else inputs.values
        return Examples(Inputs(values, inputs.mask), torch.arange(32) % 4)

    models = {}
    for number in range(count):
        torch.manual_seed(number)
        models[f"m{number}"] = make("architecture", architecture, DynamicalModel, space, CLASSES).eval()
    return Population.of(models, Dataset(space, CLASSES, part(0), part(1)), {name: {"kind": name} for name in models})


def trainer_for(name: str, device: str, **changes) -> Trainer:
    options = {"theta_dim": 4, "models_per_step": None, "batch_size": 24, "steps": 8, "learning_rate": 1e-2}
    options = {**options, **FITS[name], "device": device, **changes}
    return Trainer(population("resnet" in name), FitOptions(**options))


@pytest.fixture
def _double(device):
    """Double precision, where the device has it."""
    if device.name == "mps":
        yield
        return
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def close(device, found, wanted):
    """Equal but for rounding; half precision rounds recordings alike on both."""
    tolerance = 1e-4 if device.name == "mps" else 1e-8
    torch.testing.assert_close(torch.as_tensor(found).cpu(), torch.as_tensor(wanted), rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("name", quick(FITS, "gru", "muon", "live", "there", "resnet-muon"))
def test_a_fit_is_that_of_the_cpu(device, name):
    told = []
    cpu, there = trainer_for(name, "cpu"), trainer_for(name, device.name)
    cpu.run()
    with device.used():
        there.run(progress=lambda step, steps, loss: told.append((step, loss)))
    assert device_of(there.emulator).type == device.name
    assert told == [(row[0], row[2]) for row in there.history]
    assert [row[0] for row in there.history] == list(range(1, 9))
    close(device, torch.tensor(there.history), torch.tensor(cpu.history))
    for (_, found), (_, wanted) in zip(
        there.emulator.state_dict().items(), cpu.emulator.state_dict().items(), strict=True
    ):
        close(device, found, wanted)


@pytest.mark.parametrize("name", FITS)
def test_no_step_waits_for_the_device(device, name):
    if device.name == "mps":
        pytest.skip("what is sent there is not sent ahead")
    trainer = trainer_for(name, device.name)
    trainer.record()
    _ = trainer.scales
    trainer.emulator.train()
    with trainer._random.drawn():
        trainer._advance()  # what is made once may wait
        with device.no_waiting():
            for _ in range(3):
                trainer._advance()
    assert trainer.step == 4


def test_a_loss_that_is_not_finite_is_told_with_its_step_and_model(device):
    told = {}
    for name in ("cpu", device.name):
        trainer = trainer_for("algorithm-1", name)
        recordings = trainer.record()
        first = next(step for step in range(8) if trainer.draw(step)[0] == [1])
        recordings[1].trajectory.outputs.fill_(nan)
        with pytest.raises(DynamoError, match=rf"the output loss of model 'm1' is nan at step {first + 1}: ") as error:
            trainer.run()
        told[name] = str(error.value)
        assert [row[0] for row in trainer.history] == list(range(1, first + 1))
    assert len(set(told.values())) == 1


def test_a_fit_goes_on_from_its_checkpoint(device, tmp_path):
    whole, first = (trainer_for("muon", device.name, checkpoint_every=5) for _ in range(2))
    whole.run()

    def stop(step, steps, loss):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "checkpoint", progress=stop)
    second = trainer_for("muon", device.name, checkpoint_every=5)
    second.resume(tmp_path / "checkpoint")
    assert second.step == 5
    second.run()
    torch.testing.assert_close(torch.tensor(second.history), torch.tensor(whole.history), rtol=1e-4, atol=1e-5)
    for one, other in zip(second.emulator.thetas, whole.emulator.thetas, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_recordings_are_kept_on_the_device_where_that_is_asked(device):
    trainer = trainer_for("there", device.name)
    with device.used():
        recordings = trainer.record()
    kept = [recording.trajectory for recording in recordings]
    assert {part.device.type for trajectory in kept for part in (*trajectory.states, trajectory.outputs)} == {
        device.name
    }
    assert len({id(recording.room) for recording in recordings}) == 1
    wanted = record(population())
    for own, other in zip(kept, wanted, strict=True):
        torch.testing.assert_close(own.states[0].cpu(), other.trajectory.states[0], rtol=0, atol=2e-5)


def test_recordings_are_made_on_the_device_and_kept_on_the_cpu(device):
    models = population()
    wanted = record(models)
    with device.used():
        found = record(models, device=torch.device(device.name))
    for one, other in zip(found, wanted, strict=True):
        assert one.trajectory.outputs.device.type == "cpu"
        torch.testing.assert_close(one.trajectory.states[0], other.trajectory.states[0], rtol=1e-4, atol=1e-5)
    assert device_of(models[0].model).type == "cpu"


def test_fidelity_and_every_distance_are_those_of_the_cpu(device):
    trainer = trainer_for("gru", "cpu", steps=20)
    trainer.run()
    models, fit = trainer.population, Fit.of(trainer)
    here = measure_fidelity(fit, models), {kind: distances(fit, kind).matrix for kind in KINDS}
    fit.to(device.name)
    with device.used():
        there = measure_fidelity(fit, models)
    for one, other in zip(there.models, here[0].models, strict=True):
        assert one.hidden_r2 == pytest.approx(other.hidden_r2, abs=1e-4)
        assert one.output_divergence == pytest.approx(other.output_divergence, rel=1e-3, abs=1e-6)
        assert one.agreement == pytest.approx(other.agreement, abs=0.07)
    for kind, wanted in here[1].items():
        with nullcontext() if kind == "theta" else device.used():
            found = distances(fit, kind).matrix
        assert abs(found - wanted).max() <= 1e-3 * max(wanted.max(), 1e-6), kind


def test_a_population_on_the_device_is_copied_there_and_stays_as_it_is(device):
    models = population()
    moved = models.to(device.name)
    assert device_of(moved[0].model).type == device.name
    assert device_of(models[0].model).type == "cpu"
    assert moved.fingerprint == models.fingerprint
    assert moved.dataset(moved[0]) is models.dataset(models[0])


def test_a_model_at_a_theta_answers_on_the_device(device):
    trainer = trainer_for("gru", device.name)
    trainer.run()
    model = Fit.of(trainer).model_at("m0")
    inputs = trainer.population.dataset(trainer.population[0]).test.inputs
    answer = model(inputs.values.to(device.name), inputs.mask.to(device.name))
    assert answer.device.type == device.name
    wanted = model.cpu()(inputs.values, inputs.mask)
    torch.testing.assert_close(answer.cpu(), wanted, rtol=1e-4, atol=1e-5)


# Every command. ------------------------------------------------------------------------------------------------------

#: Commands whose numbers are means over all examples, so that rounding cannot change them by much.
SMOOTH = {
    "distances": "analyse distances RUN",
    "averages": "analyse averages RUN --between gru-100-s0 rnn-100-s0",
    "average": "analyse averages RUN --of all",
    "landscape": "analyse landscape RUN --size 3",
    "compare": "analyse compare RUN --by architecture --methods cka,output-disagreement",
}
#: Commands that search: from rounding alone they may come to other places.
SEARCHING = {
    "clusters": "analyse clusters RUN --by architecture --draws 19 --permutations 9",
    "geodesic": "analyse averages RUN --between gru-100-s0 rnn-100-s0 --geodesic",
    "search": "analyse search RUN --method random --budget 12",
    "few-labels": "analyse few-labels RUN --labels 16 --draws 2 --steps 2 --folds 2",
    "fixed-points": "analyse fixed-points RUN --at gru-100-s0 --starts 8",
    "fixed-points-of-a-base-model": "analyse fixed-points RUN --at gru-100-s0 --base --starts 8",
    "attractors": "analyse attractors RUN --by architecture --starts 10",
    "words": "analyse words RUN --positive positive* --negative negative* --neutral neutral* --size 2 --starts 4",
    "conjugacy": "analyse conjugacy RUN --by architecture --steps 1",
    "embed": "embed RUN POPULATION --steps 3 --map-steps 3",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A population and a run, made on the CPU."""
    root = tmp_path_factory.mktemp("run")
    train = "-a gru:hidden_size=4 -a rnn:hidden_size=4 --dataset synthetic-sentiment:train_size=160,test_size=40"
    assert dynamo("train", root / "population", *train.split(), "--seeds", 2, "--epochs", 1, "--prefix", "p") == 0
    fit = "--meta-model gru:hidden_size=8,embedding_size=8 --theta-dim 3 --steps 20 --models-per-step none"
    assert dynamo("fit", root / "population", "-o", root / "run", *fit.split()) == 0
    return root


def ask(root, command, out, device):
    words = command.replace("gru-100-s0", "p-gru-100-s0").replace("rnn-100-s0", "p-rnn-100-s0").split()
    places = {"RUN": str(root / "run"), "POPULATION": str(root / "population")}
    return dynamo(*(places.get(word, word) for word in words), "--out", out, "--device", device)


@pytest.mark.parametrize("command", SMOOTH)
def test_a_command_answers_as_on_the_cpu(device, run, tmp_path, command):
    assert ask(run, SMOOTH[command], tmp_path / "cpu", "cpu") == 0
    with device.used():
        assert ask(run, SMOOTH[command], tmp_path / "there", device.name) == 0
    tables = sorted(path.name for path in (tmp_path / "cpu").glob("*.csv"))
    assert tables
    for name in tables:
        if name in ("costs.csv", "growth.csv"):  # times
            continue
        wanted, found = (list(csv.reader((tmp_path / where / name).open())) for where in ("cpu", "there"))
        assert len(found) == len(wanted), name
        for cells, others in zip(found, wanted, strict=True):
            assert all(map(_alike, cells, others)), (name, cells, others)


def _alike(one: str, other: str) -> bool:
    try:
        first, second = float(one), float(other)
    except ValueError:
        return one == other or "second" in one
    return (isnan(first) and isnan(second)) or first == pytest.approx(second, rel=1e-2, abs=2e-2)


@pytest.mark.parametrize("command", quick(SEARCHING, "fixed-points", "embed"))
def test_a_command_that_searches_runs_on_the_device(device, run, tmp_path, command):
    with device.used():
        assert ask(run, SEARCHING[command], tmp_path / "there", device.name) == 0
    assert any((tmp_path / "there").iterdir())


def test_training_and_fitting_run_on_the_device(device, tmp_path):
    with device.used():
        train = "-a gru:hidden_size=4 --dataset synthetic-sentiment:train_size=160,test_size=40 --seeds 2 --epochs 1"
        assert dynamo("train", tmp_path / "population", *train.split(), "--device", device.name) == 0
    fit = "--meta-model mingru:hidden_size=8,embedding_size=8 --theta-dim 3 --steps 6 --recording disk"
    with device.used():
        out = ("-o", tmp_path / "run", "--device", device.name)
        assert dynamo("fit", tmp_path / "population", *fit.split(), *out) == 0
    assert dynamo("show", tmp_path / "run") == 0
