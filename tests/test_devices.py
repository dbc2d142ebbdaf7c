"""Which library multiplies matrices on the CPU, and that its products are as exact as before."""

import pytest
import torch

from dynamo.system import devices
from dynamo.system.devices import fast_products

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
