import shutil
import sys
from pathlib import Path

import matplotlib
import pytest
import torch

from devices import GPU, NO_GPU, Fake

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

matplotlib.use("Agg")
torch.set_num_threads(1)  # small tensors are faster so, and the tests do not disturb one another


def pytest_collection_modifyitems(items):
    """Leave out what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=NO_GPU))


@pytest.fixture(params=["fake-cuda", "fake-mps", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """A device that is not the CPU."""
    kind = request.param
    with GPU() if kind == "cuda" else Fake(kind.removeprefix("fake-")) as held:
        yield held


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium on this machine")
    with api.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


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
