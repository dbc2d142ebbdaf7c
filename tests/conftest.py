import sys
from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)  # small tensors are faster so, and the tests do not disturb one another


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A population and a run with its recordings on disk, as benchmarks/faults.py makes them, neither interrupted."""
    sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
    import faults

    root = tmp_path_factory.mktemp("faults")
    assert faults.run(faults.training().arguments(root / "population")) == 0
    assert faults.run(faults.fitting(root / "population", "disk").arguments(root / "disk")) == 0
    return root
