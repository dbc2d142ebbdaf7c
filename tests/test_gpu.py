"""What only a GPU can show; see also ``test_on_device.py``, whose tests run there too."""

import gc

import pytest
import torch

from devices import GPU
from dynamics_problems import scattered
from dynamo import DynamoError
from dynamo.analysis.dynamics.constant_input import ConstantInput
from dynamo.analysis.dynamics.fixed_points import find_fixed_points, sample_states
from dynamo.contracts.protocols import MetaModel
from dynamo.fit.distributed import fit
from dynamo.fit.fit import Fit
from dynamo.fit.ranks import Ranks
from dynamo.population.recording import record
from dynamo.registry import make
from dynamo.testing import example_inputs
from dynamo_mingru.recurrence import in_pairs, step_by_step
from test_on_device import FITS, population, trainer_for

pytestmark = pytest.mark.gpu


def allocated():
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


@pytest.mark.parametrize("name", ["gru", "resnet"])
def test_a_fit_gives_its_memory_back(name):
    trainer_for(name, "cuda").run()  # what libraries keep for themselves
    before = allocated()
    trainer = trainer_for(name, "cuda")
    trainer.run()
    assert allocated() > before
    del trainer
    assert allocated() <= before


@pytest.mark.parametrize("name", FITS)
def test_bfloat16_comes_near_to_single_precision(name):
    single, half = (trainer_for(name, "cuda", precision=precision) for precision in ("float32", "bfloat16"))
    single.run()
    half.run()
    one, other = (torch.tensor(trainer.history)[:, 2] for trainer in (single, half))
    torch.testing.assert_close(other, one, rtol=0.05, atol=0.02)
    assert all(theta.dtype == torch.float32 for theta in half.emulator.thetas)


@pytest.mark.parametrize("name", ["gru", "resnet"])
def test_two_fits_with_one_seed_are_alike(name):
    first, second = trainer_for(name, "cuda"), trainer_for(name, "cuda")
    first.run()
    second.run()
    torch.testing.assert_close(torch.tensor(first.history), torch.tensor(second.history), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spec", ["gru:hidden_size=24", "mingru:hidden_size=24,layers=2"])
def test_states_and_gradients_in_eval_mode_are_those_of_the_cpu(spec, device):
    if device.name != "cuda":
        pytest.skip("of a GPU")
    torch.manual_seed(0)
    inputs = example_inputs(population().inputs, batch=16, steps=12)
    model = make("meta-model", spec, MetaModel, population().inputs, 3).double().eval()
    theta = torch.randn(16, 3, dtype=torch.float64)
    found = []
    for name in ("cpu", "cuda"):
        moved, own = model.to(name), theta.detach().to(name).requires_grad_()
        states = moved.states(inputs.to(name), own)[0][inputs.mask.to(name)]
        states.square().sum().backward()
        found.append((states.detach().cpu(), own.grad.cpu()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-8)


def test_the_recurrence_in_pairs_is_that_step_by_step():
    torch.manual_seed(0)
    a, b = torch.rand(3, 40, 5, dtype=torch.float64), torch.randn(3, 41, 5, dtype=torch.float64)
    torch.testing.assert_close(in_pairs(a.cuda(), b.cuda()).cpu(), step_by_step(a, b), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["gru", "mingru"])
def test_jacobians_and_fixed_points_are_those_of_the_cpu(name):
    trainer = trainer_for(name, "cpu", steps=20)
    trainer.run()
    model = Fit.of(trainer).model_at("m0")
    size = model.state_shapes[0][0]
    x, states, found = torch.zeros(5, dtype=torch.float64), scattered(9, size, 0.5), []
    inputs = trainer.population.dataset(trainer.population[0]).test.inputs
    for there in ("cpu", "cuda"):
        dynamics = ConstantInput(model.to(there), x)
        points = find_fixed_points(model, x, sample_states(model, inputs, 16, seed=0))
        found.append([*(part.cpu() for part in dynamics.jacobians(dynamics.states(states))), points.states])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)


def test_a_model_on_the_gpu_is_exported():
    trainer = trainer_for("gru", "cuda")
    trainer.run()
    model = Fit.of(trainer).model_at("m1")
    inputs = trainer.population.dataset(trainer.population[0]).test.inputs.to("cuda")[:4]
    with GPU():  # cuDNN answers by TF32 else, and what is exported does not
        program = torch.export.export(model, (inputs.values, inputs.mask))
        found, wanted = program.module()(inputs.values, inputs.mask), model(inputs.values, inputs.mask)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("images", [False, True])
def test_what_is_measured_is_exact_though_torch_lets_cudnn_round(images):
    assert torch.backends.cudnn.allow_tf32
    models = population(images)
    wanted, found = record(models), record(models, device=torch.device("cuda"))
    for one, other in zip(found, wanted, strict=True):
        # cuDNN's own sigmoid and tanh move these states by 3.5e-6; weights rounded to TF32 do so by 1.1e-3.
        torch.testing.assert_close(one.trajectory.states[-1], other.trajectory.states[-1], rtol=0, atol=2e-5)
    assert torch.backends.cudnn.allow_tf32
    trainer = trainer_for("resnet" if images else "gru", "cpu")
    trainer.run()
    fit = Fit.of(trainer)
    here = fit.distances("states").matrix
    there = fit.to("cuda").distances("states").matrix
    assert abs(there - here).max() <= 1e-5 * here.max()


def test_processes_are_not_more_than_gpus():
    count = torch.cuda.device_count()
    options = trainer_for("gru", "cpu").options
    with pytest.raises(DynamoError, match=f"--devices {count + 1}: there are {count} CUDA devices here"):
        fit(population(count=count + 1), type(options)(device="cuda", models_per_step=None), Ranks(count + 1))
