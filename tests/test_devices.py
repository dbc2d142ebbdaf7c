"""Which library multiplies matrices on the CPU, and that its products are as exact as before."""

import pytest
import torch

from dynamo.population.recording import evaluating, trajectories
from dynamo.system import devices
from dynamo.system.devices import fast_products, without_tf32
from test_on_device import population

CPU = torch.device("cpu")


@pytest.fixture
def _chosen():
    """Whatever a test chooses, others find the default."""
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("_chosen")
@pytest.mark.parametrize("shape", [(1, 3, 2), (20, 30, 40), (128, 512, 256), (700, 900, 800)])
def test_products_keep_single_precision(shape):
    torch.manual_seed(0)
    left, right = torch.rand(*shape[:2]), torch.rand(*shape[1:])
    with fast_products(CPU):
        products = [left @ right, torch.zeros(shape[0], shape[2]).addmm_(left, right), (left[None] @ right[None])[0]]
    for product in products:
        torch.testing.assert_close(product.double(), left.double() @ right.double(), rtol=3e-6, atol=0)


@pytest.mark.usefixtures("_chosen")
def test_the_choice_ends_with_the_block_also_by_an_error(monkeypatch):
    monkeypatch.setattr(devices, "_keeps_single_precision", lambda: True)
    seen = []

    def fail():
        with fast_products(CPU):
            seen.append(torch.get_float32_matmul_precision())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == ["medium"]
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.usefixtures("_chosen")
def test_products_that_would_lose_precision_are_left_alone(monkeypatch):
    monkeypatch.setattr(devices, "_keeps_single_precision", lambda: False)
    with fast_products(CPU):
        assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.usefixtures("_chosen")
def test_another_device_and_a_choice_of_the_users_are_left_alone(monkeypatch):
    monkeypatch.setattr(devices, "_keeps_single_precision", lambda: True)
    with fast_products(torch.device("cuda")):
        assert torch.get_float32_matmul_precision() == "highest"
    torch.set_float32_matmul_precision("high")
    with fast_products(CPU):
        assert torch.get_float32_matmul_precision() == "high"


def test_what_is_measured_is_without_tf32_and_others_are_not():
    assert torch.backends.cudnn.allow_tf32
    with evaluating(torch.nn.Linear(1, 1)):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_two_models_that_are_run_by_turns_leave_tf32_as_it_was():
    models = population(count=2)
    inputs = models.dataset(models[0]).test.inputs
    for _ in zip(*(trajectories(base.model, inputs, 16) for base in models), strict=True):
        assert torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32


def test_precisions_chosen_for_layers_of_one_kind_are_kept(monkeypatch):
    class Cudnn:
        @property
        def allow_tf32(self):
            raise RuntimeError("a mix of the legacy and new APIs")

    monkeypatch.setattr(torch.backends, "cudnn", Cudnn())
    with without_tf32():
        pass
