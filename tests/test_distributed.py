"""Fits by several processes: threads stand in for them where that is enough."""

import contextlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import attrs
import pytest
import torch

from command_line import dynamo
from dynamo import DynamoError, Fit, FitOptions, Population, Trainer, measure_fidelity
from dynamo.cli import main
from dynamo.contracts.errors import Interrupted
from dynamo.contracts.trajectory import Trajectory
from dynamo.fit import torch_processes
from dynamo.fit.distributed import fit
from dynamo.fit.ranks import Ranks
from dynamo.fit.torch_processes import joined
from dynamo.population.recording import Recording
from dynamo.system.process_group import ProcessGroup, share_step
from dynamo.system.storage import load_plain
from dynamo.training import checkpoint
from dynamo.training.checkpoint import gather_emulator, read_checkpoint
from dynamo.training.randomness import Randomness
from dynamo_rnn.models import GRU
from problems import base_model, dataset

SMALL = FitOptions(
    meta_model="gru:hidden_size=6,embedding_size=3",
    theta_dim=3,
    models_per_step=None,
    batch_size=15,
    steps=8,
    learning_rate=0.01,
)


class Threads(ProcessGroup):
    """Ranks that are threads of one process."""

    def __init__(self, rank, size, barrier, values):
        self.rank, self.size, self.stop, self._barrier, self._values = rank, size, False, barrier, values

    @classmethod
    def of(cls, size):
        barrier, values = threading.Barrier(size, timeout=60), [None] * size
        return [cls(rank, size, barrier, values) for rank in range(size)]

    def exchange(self, value):
        self._values[self.rank] = value
        self._barrier.wait()
        found = list(self._values)
        self._barrier.wait()
        return found

    def add(self, values):
        values.copy_(sum(self.exchange(values.clone())))

    def any(self, flag):
        return any(self.exchange(flag or self.stop))

    def gather(self, value):
        found = self.exchange(value)
        return found if self.rank == 0 else []


def together(work, ranks):
    """What ``work`` gives for each rank, all at once."""
    with ThreadPoolExecutor(len(ranks)) as pool:
        return [future.result() for future in [pool.submit(work, rank) for rank in ranks]]


def models():
    """Five networks of two tasks, so that there are two heads."""
    tasks = {"a": dataset(classes=3, group="a"), "b": dataset(classes=2, group="b", steps=4)}
    return Population([base_model(f"m{n}", tasks["aabab"[n]], hidden=3 + n, seed=n) for n in range(5)])


def in_float64(trainer):
    trainer.emulator.double()
    trainer._recordings = [
        Recording(
            source.inputs.with_values(source.inputs.values.double()),
            Trajectory(
                tuple(state.double() for state in source.trajectory.states),
                source.trajectory.outputs.double(),
                source.trajectory.mask,
            ),
        )
        if isinstance(source, Recording)
        else source
        for source in trainer.recordings
    ]
    return trainer


def small(**changes):
    return attrs.evolve(SMALL, **changes)


def start(options, size):
    """A float64 trainer for each of ``size`` ranks."""
    return [in_float64(Trainer(models(), options, processes=group)) for group in Threads.of(size)]


def alone(options, **how):
    trainer = in_float64(Trainer(models(), options))
    trainer.run(**how)
    return trainer


def finish(trainer):
    trainer.run()
    return gather_emulator(trainer.emulator.float(), trainer._processes)


def assert_equal(found, wanted, **tolerance):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, **tolerance)


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        (2, {}),
        (5, {}),
        (2, {"models_per_step": 2, "steps": 20}),  # in some steps both models are one rank's
        (3, {"models_per_step": 1, "weight_decay": 0.1}),
        (2, {"scale_hidden": True, "optimizer": "sgd", "theta_learning_rate": 0.1}),
        (2, {"optimizer": "muon", "models_per_step": 2}),
        (2, {"sites": "learned", "meta_model": "gru-stack:hidden_size=6,embedding_size=3,layers=3"}),
    ],
)
def test_many_ranks_fit_as_one_does(size, changes):
    options = small(**changes)
    wanted, ranks = alone(options), start(options, size)
    if size > 1 and options.models_per_step == 2:
        owners = [{number % 2 for number in ranks[0].draw(step)[0]} for step in range(20)]
        assert {0} in owners
        assert {1} in owners
    before = in_float64(Trainer(models(), options)).emulator.state_dict()
    for rank, trainer in enumerate(ranks):
        for name, tensor in trainer.emulator.state_dict().items():
            if name.startswith(("state_maps.", "readings.")) and trainer.emulator.number_of(name) % size != rank:
                assert tensor.is_meta  # another rank's
            else:
                assert torch.equal(tensor, before[name]), name
    found = together(finish, ranks)[0]
    assert_equal(found.state_dict(), wanted.emulator.float().state_dict(), rtol=1e-6, atol=1e-7)
    for trainer in ranks:
        expected = torch.tensor(wanted.history, dtype=torch.float64)
        torch.testing.assert_close(torch.tensor(trainer.history, dtype=torch.float64), expected, rtol=1e-9, atol=0)
        moments = trainer._annealed.optimizer.state
        assert not any(parameter.is_meta for parameter in moments)


def test_a_rank_records_only_its_own_models():
    trainer = Trainer(models(), SMALL, processes=Threads.of(2)[1])
    assert [type(source).__name__ for source in trainer.recordings] == ["Elsewhere", "Recording"] * 2 + ["Elsewhere"]
    assert [len(source) for source in trainer.recordings] == [12] * 5


def test_a_step_adds_gradients_and_averages_changes_of_buffers():
    def work(group):
        weights = [torch.zeros(2, dtype=torch.float64, requires_grad=True) for _ in range(3)]
        weights[0].grad = torch.tensor([1.0, 10.0], dtype=torch.float64) * (group.rank + 1)
        if group.rank == 1:
            weights[1].grad = torch.full((2,), 5.0, dtype=torch.float64)
        old = [torch.tensor([0.1, 0.2]), torch.tensor(7), torch.tensor([float("-inf"), 0.3])]
        new = [tensor.clone() for tensor in old]
        if group.rank < 2:  # rank 2 had no model to work on
            new[0] += torch.tensor([1.0, 2.0]) * (group.rank + 1)
            new[1] += 1
        figures = torch.eye(3, dtype=torch.float64)[group.rank]
        share_step(group, weights, list(zip(new, old, strict=True)), [0.25, 0.75, 0.0][group.rank], figures)
        return [weight.grad for weight in weights], new, figures

    for gradients, buffers, figures in together(work, Threads.of(3)):
        assert gradients[0].tolist() == [1 + 2 + 3, 10 + 20 + 30]
        assert gradients[2] is None
        assert gradients[1].tolist() == [5, 5]
        torch.testing.assert_close(buffers[0], torch.tensor([0.1 + 1.75, 0.2 + 3.5]))
        assert int(buffers[1]) == 8
        assert torch.equal(buffers[2], torch.tensor([float("-inf"), 0.3]))
        assert figures.tolist() == [1, 1, 1]


def test_random_numbers_differ_between_ranks_and_steps_and_are_the_same_again(monkeypatch):
    drawn = []
    monkeypatch.setattr(Randomness, "seed", lambda self, seed: drawn.append(seed))
    ranks = start(small(steps=3), 2)
    drawn.clear()
    together(lambda trainer: trainer.run(), ranks)
    first = set(drawn)
    assert len(first) == 6
    again = start(small(steps=3), 2)
    drawn.clear()
    together(lambda trainer: trainer.run(), again)
    assert set(drawn) == first


def test_a_loss_that_is_not_finite_ends_all_ranks_with_one_message():
    ranks = start(SMALL, 2)
    ranks[1].recordings[3].trajectory.states[0][:] = float("nan")

    def work(trainer):
        with pytest.raises(DynamoError) as error:
            trainer.run()
        return str(error.value)

    messages = together(work, ranks)
    assert messages[0] == messages[1]
    assert "the hidden loss of model 'm3' is nan at step 1: its own states or outputs" in messages[0]


@pytest.mark.parametrize(
    ("first", "second", "optimizer"), [(2, 1, "adamw"), (1, 2, "sgd"), (2, 3, "muon"), (2, 2, "adamw")]
)
def test_any_number_of_ranks_goes_on_from_a_checkpoint_of_any(first, second, optimizer, tmp_path):
    options, path = small(checkpoint_every=5, models_per_step=2, optimizer=optimizer), tmp_path / "checkpoint.pt"
    wanted = alone(options)
    together(lambda trainer: trainer.run(path), start(options, first))
    ranks = start(options, second)

    def go_on(trainer):
        trainer.resume(path)
        assert trainer.step == 5
        return finish(trainer)

    found = together(go_on, ranks)[0]
    assert_equal(found.state_dict(), wanted.emulator.float().state_dict(), rtol=1e-6, atol=1e-7)


def shares(path):
    return sorted(path.parent.glob(f"{path.name}-*"))


def step_to(ranks, step, path=None):
    """Advance all ranks to a step, and save there."""

    def work(trainer):
        trainer.emulator.train()
        while trainer.step < step:
            trainer._advance()
        if path:
            trainer.save(path)

    together(work, ranks)


def test_each_rank_writes_its_own_models_and_reads_no_others(tmp_path):
    path, options = tmp_path / "checkpoint.pt", SMALL
    ranks = start(options, 2)
    step_to(ranks, 3, path)
    first = shares(path)
    step_to(ranks, 4, path)
    assert len(first) == len(shares(path)) == 2
    assert not set(first) & set(shares(path))
    alone = read_checkpoint(path, lambda number: False)
    assert {name.split(".")[0] for name in alone["emulator"]} == {"meta_model", "heads"}
    assert {ranks[0].emulator.number_of(name) for name in read_checkpoint(path)["emulator"]} == {None, *range(5)}
    for share in shares(path):
        if 0 in load_plain(share.read_bytes()):
            share.write_bytes(b"")
    again = start(options, 2)
    again[1].resume(path)
    for name, tensor in ranks[1].emulator.state_dict().items():
        if ranks[1].emulator.number_of(name) in (None, 1, 3):
            assert torch.equal(again[1].emulator.state_dict()[name], tensor), name
    for trainer in (again[0], start(options, 3)[1], start(options, 1)[0]):
        with pytest.raises(DynamoError, match="is not the file that was saved") as error:
            trainer.resume(path)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("failing", ["share", "index"])
def test_a_save_that_is_cut_off_leaves_the_checkpoint_before_it(tmp_path, monkeypatch, failing):
    path, options = tmp_path / "checkpoint.pt", SMALL
    wanted, ranks, write = alone(options), start(options, 2), checkpoint.write_bytes
    step_to(ranks, 3, path)
    kept = {place: place.read_bytes() for place in (path, *shares(path))}
    step_to(ranks, 5)

    def cut(place, content):
        if (place == path) if failing == "index" else (place != path and 1 in load_plain(content)):
            raise DynamoError("the disk is full")
        write(place, content)

    def work(trainer):
        try:
            trainer.save(path)
        except (DynamoError, threading.BrokenBarrierError):
            trainer._processes._barrier.abort()

    monkeypatch.setattr(checkpoint, "write_bytes", cut)
    together(work, ranks)
    monkeypatch.undo()
    assert len(shares(path)) > 2
    assert all(place.read_bytes() == content for place, content in kept.items())
    again = start(options, 2)
    together(lambda trainer: trainer.resume(path), again)
    assert again[0].step == 3
    step_to(again, 6, path)
    assert len(shares(path)) == 2
    assert_equal(together(finish, again)[0].state_dict(), wanted.emulator.float().state_dict(), rtol=1e-6, atol=1e-7)


def test_one_process_that_goes_on_sweeps_the_shares_of_many_and_no_other_file(tmp_path):
    path, ranks = tmp_path / "checkpoint.pt", start(SMALL, 2)
    step_to(ranks, 2, path)
    step_to(ranks, 3, tmp_path / "other.pt")
    mine = tmp_path / "checkpoint.pt-mine"
    mine.write_text("precious")
    trainer = start(SMALL, 1)[0]
    trainer.resume(path)
    trainer.save(path)
    assert shares(path) == [mine]
    assert len(shares(tmp_path / "other.pt")) == 2
    checkpoint.remove_checkpoint(tmp_path / "other.pt")
    assert sorted(tmp_path.iterdir()) == [path, mine]


def test_a_folder_that_the_machines_do_not_share_is_told(tmp_path):
    ranks = start(SMALL, 2)
    (tmp_path / "other").mkdir()

    def work(trainer):
        if trainer._processes.rank == 1:
            trainer.save(tmp_path / "other" / "checkpoint.pt")
            return None
        with pytest.raises(DynamoError) as error:
            trainer.save(tmp_path / "checkpoint.pt")
        return str(error.value)

    assert re.search(
        "rank 1 has written its share .* must be a folder that all machines share", together(work, ranks)[0]
    )
    assert not (tmp_path / "checkpoint.pt").exists()


def test_one_rank_that_is_interrupted_stops_all_at_one_step(tmp_path):
    path, ranks = tmp_path / "checkpoint.pt", start(SMALL, 2)

    def work(trainer):
        def tick(step, steps, loss):
            trainer._processes.stop = step == 3 and trainer._processes.rank == 1

        with pytest.raises(Interrupted, match="stopped at step 3 of 8; saved in"):
            trainer.run(path, tick)

    together(work, ranks)
    resumed = Trainer(models(), SMALL)
    resumed.resume(path)
    assert resumed.step == 3


LAUNCHED = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1",
}  # fmt: skip


def test_a_launchers_variables_are_honoured():
    assert Ranks.plan(environment={}) == Ranks(1, 1, None, 0)
    assert Ranks.plan(3, environment={}) == Ranks(3, 1, None, 0)
    assert Ranks.plan(environment=LAUNCHED) == Ranks.plan(2, 2, LAUNCHED) == Ranks(2, 2, 3, 1)
    assert Ranks(2, 2, 3, 1).size == 4


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        ((2, 2), None, "started on each of them by torchrun: torchrun --nnodes 2 --nproc-per-node 2"),
        ((3, None), {}, "torchrun has started 2 processes on each of 2 machines, not 3"),
        ((None, 4), {}, "not 2 on each of 4"),
        ((None, None), {"RANK": "x"}, "RANK must be a whole number, not 'x'"),
        ((None, None), {"RANK": "4"}, "do not fit together"),
        ((None, None), {"MASTER_PORT": None}, r"but not MASTER_PORT: set all"),
    ],
)
def test_launches_that_do_not_fit_are_refused(arguments, changes, message):
    environment = {} if changes is None else {**LAUNCHED, **changes}
    environment = {name: value for name, value in environment.items() if value is not None}
    with pytest.raises(DynamoError, match=message):
        Ranks.plan(*arguments, environment)


@pytest.mark.parametrize(
    ("devices", "changes", "message"),
    [
        (6, {}, "6 processes cannot share 5 base models"),
        (2, {"models_per_step": 1}, "1 of 2 processes would be idle: raise models_per_step to 2"),
        (2, {"device": "mps"}, "2 processes cannot share the device 'mps'"),
        (2, {"device": "cuda:1"}, "cannot share the device 'cuda:1'"),
        (99, {"device": "cuda"}, "99 processes cannot share 5"),
    ],
)
def test_processes_that_cannot_share_a_fit_are_refused_before_any_work(devices, changes, message):
    with pytest.raises(DynamoError, match=message):
        fit(models(), small(**changes), Ranks(devices))


def test_missing_gpus_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DynamoError, match="--devices 2: there are 1 CUDA devices here"):
        fit(models(), small(device="cuda"), Ranks(2))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Ranks(2, 1, 1, 1).device(small(device="cuda")) == "cuda:1"


def test_a_model_that_cannot_be_given_to_other_processes_is_named():
    population = models()
    population[2].model.hook = lambda: None
    with pytest.raises(DynamoError, match=r"model 'm2' cannot be given to other processes: .*top level of a module"):
        fit(population, SMALL, Ranks(2))


def test_a_port_in_use_is_told(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        monkeypatch.setenv("MASTER_ADDR", "localhost")
        monkeypatch.setenv("MASTER_PORT", str(taken.getsockname()[1]))
        with (
            pytest.raises(DynamoError, match=r"rank 0 cannot meet the others at localhost:\d+: the port is in use"),
            joined(Ranks(2, 1, 0, 0), "env://", "cpu"),
        ):
            pass


def test_the_command_refuses_before_anything_is_written(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["fit", str(tmp_path / "population"), "--nodes", "2"])
    assert "error: a fit on 2 machines is started on each of them by torchrun" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Mortal(GRU):
    """Kills its process at the tenth batch for as long as a file is there."""

    marker: Path
    batches = 0

    def trajectory(self, inputs):
        self.batches += 1
        if self.batches == 10 and self.marker.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().trajectory(inputs)


class Restless(GRU):
    """Leaves a thread behind that computes for ever."""

    def trajectory(self, inputs):
        threading.Thread(target=self.compute, args=(torch.ones(10),), daemon=True).start()
        return super().trajectory(inputs)

    def compute(self, values):
        while True:
            values + values


def test_threads_that_a_library_leaves_behind_do_not_spoil_a_fit_that_is_done():
    population = models()
    population[3].model.__class__ = Restless
    assert fit(population, small(steps=1), Ranks(2)).history


class Slow(GRU):
    """Takes its time."""

    def trajectory(self, inputs):
        sleep(0.2)
        return super().trajectory(inputs)


def test_each_rank_measures_its_own_models():
    population = models()
    trained = Trainer(population, small())
    trained.run()
    found = Fit.of(trained)
    wanted = measure_fidelity(found, population)

    def measured(group):
        ticks = []
        return measure_fidelity(found, population, lambda *now: ticks.append(now), processes=group), ticks

    (whole, ticks), (own, _) = together(measured, Threads.of(2))
    assert whole == wanted
    assert own.models == wanted.models[1::2]
    assert ticks == [(2, 5), (4, 5), (5, 5)]


def test_the_fidelity_of_a_saved_fit_is_measured_by_all_ranks(tmp_path):
    population, ticks = models(), []
    found = fit(population, small(), Ranks(2), out=tmp_path / "run", measured=lambda *now: ticks.append(now[:2]))
    assert ticks[-1] == (5, 5)
    again = measure_fidelity(found, population)
    assert [model.name for model in found.fidelity.models] == found.names
    for own, wanted in zip(found.fidelity.models, again.models, strict=True):
        assert attrs.astuple(own)[1:] == pytest.approx(attrs.astuple(wanted)[1:], abs=1e-5)


def test_ctrl_c_while_ranks_measure_keeps_the_fit_that_is_saved(tmp_path):
    data = dataset()
    population = Population([base_model(f"m{n}", data, seed=n) for n in range(12)])
    for base in population:
        base.model.__class__ = Slow
    with pytest.raises(Interrupted, match=r"the fit is saved in .*run: --resume measures and draws it"):
        fit(
            population,
            small(steps=1),
            Ranks(2),
            out=tmp_path / "run",
            measured=lambda *now: os.kill(os.getpid(), signal.SIGINT),
        )
    saved = Fit.load(tmp_path / "run")
    assert saved.names == [base.name for base in population]
    assert saved.fidelity is None


@pytest.fixture
def killed(tmp_path):
    """A population, options, the checkpoint that two processes left when rank 1 died, and the fit of one process."""
    options, path = small(checkpoint_every=4, steps=12, recording="live"), tmp_path / "checkpoint.pt"
    population = models()
    wanted = Trainer(population, options)
    wanted.run()
    mortal = population[3].model
    mortal.__class__, mortal.marker = Mortal, tmp_path / "marker"
    mortal.marker.touch()
    with pytest.raises(DynamoError, match=r"rank 1 was killed by SIGKILL.*go on from .*checkpoint\.pt with --resume"):
        fit(population, options, Ranks(2), path)
    assert not multiprocessing.active_children()
    mortal.marker.unlink()
    return population, options, path, wanted


def test_a_process_that_dies_ends_the_fit_and_one_process_goes_on(killed):
    population, options, path, wanted = killed
    again = Trainer(population, options)
    again.resume(path)
    assert again.step == 8
    again.run()
    assert_equal(again.emulator.state_dict(), wanted.emulator.state_dict(), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_two_processes_go_on_where_one_was_killed(killed):
    population, options, path, wanted = killed
    steps = []
    found = fit(population, options, Ranks(2), path, resume=True, progress=lambda step, *rest: steps.append(step))
    assert steps[-1] == 12
    assert found.options == options
    assert [row[0] for row in found.history] == list(range(1, 13))
    assert_equal(found.emulator.state_dict(), wanted.emulator.state_dict(), rtol=1e-4, atol=1e-6)
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_ctrl_c_on_the_command_saves_and_another_number_of_processes_goes_on(tmp_path):
    train = ["train", "population", "-a", "gru:hidden_size=6", "-d", "digits-rows", "--seeds", "2", "--epochs", "1"]
    command = ["fit", "population", "-o", "run", "--meta-model", "gru:hidden_size=6,embedding_size=3"]
    command += ["--models-per-step", "none", "--steps", "2000", "--checkpoint-every", "20"]
    with contextlib.chdir(tmp_path):
        main(train)
        start = [sys.executable, "-m", "dynamo.cli", *command, "--devices", "2"]
        process = subprocess.Popen(start, stderr=subprocess.PIPE, text=True)
        while not Path("run/checkpoint.pt").exists():
            assert process.poll() is None, process.stderr.read()
            sleep(0.1)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=200)[1]
        assert process.returncode == 130
        assert re.search(r"^stopped at step \d+ of 2000; saved in run/checkpoint\.pt$", errors, re.MULTILINE)
        assert "Traceback" not in errors
        main([*command, "--resume"])
        assert Path("run/run.toml").exists()
        assert not list(Path("run").glob("checkpoint*"))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer"), "rank 1 has lost contact"),
        (torch.distributed.DistBackendError("NCCL error: remote process exited"), "rank 1 has lost contact"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            r"rank 1 has run out of memory .*2 GiB",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "rank 1 has run out of memory"),
        (torch.distributed.DistBackendError("NCCL error: CUDA out of memory"), "rank 1 has run out of memory"),
    ],
)
def test_only_what_is_lost_contact_is_called_so(error, message, monkeypatch):
    monkeypatch.setattr(torch_processes, "PATIENCE", {"lost": 0.0, "failed": 0.0})
    with pytest.raises(DynamoError, match=message), torch_processes.memory(1), torch_processes.contact(1):
        raise error


def test_a_fault_of_the_program_keeps_its_own_message():
    with pytest.raises(RuntimeError, match="shapes differ"), torch_processes.memory(1), torch_processes.contact(1):
        raise RuntimeError("shapes differ")


def test_processes_on_the_cpu_touch_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: pytest.fail("a GPU was chosen"))
    with joined(Ranks(1, 1, 0, 3), f"file://{tmp_path}/meeting", "cpu") as group:
        assert group.size == 1


def test_the_one_gpu_that_a_launcher_shows_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert Ranks(4, 1, 2, 2).device(small(device="cuda")) == "cuda:0"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(DynamoError, match="there are 0 CUDA devices here"):
        Ranks(4, 1, 2, 2).device(small(device="cuda"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are ended as on Unix")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_fit_that_is_ended_leaves_no_temporary_folder(tmp_path, how):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    train = ["-a", "gru:hidden_size=3", "-d", "digits-rows", "--epochs", "1", "--seeds", "2"]
    assert dynamo("train", tmp_path / "p", *train) == 0
    fit = ["fit", tmp_path / "p", "--preset", "laptop", "--devices", "2", "--steps", "100000", "-o", tmp_path / "run"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dynamo.cli", *map(str, fit)],
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    assert until(lambda: list(temporary.glob("dynamo-*/meeting")))
    sleep(1)
    process.send_signal(how)
    process.communicate(timeout=120)
    assert process.returncode == (128 + how if how == signal.SIGTERM else -how)
    assert until(lambda: not list(temporary.glob("dynamo-*")))
    assert (tmp_path / "run").exists() == (how == signal.SIGKILL)


def until(holds, seconds=120):
    """Wait until something holds; whether it does."""
    for _ in range(seconds * 10):
        if holds():
            return True
        sleep(0.1)
    return False
