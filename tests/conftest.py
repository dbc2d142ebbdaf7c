import matplotlib
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # small tensors are faster so, and the tests do not disturb one another


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)
