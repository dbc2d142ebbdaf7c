"""The network of a fit to images as a page can run it: a small residual network of basic blocks, whose batch
normalisation is folded into its convolutions.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dynamo.fit.fit import Fit

#: The most multiplications for one image, which take a page a fraction of a second.
WORK = 100_000_000

_BLOCK = re.compile(r"network\.layer(\d+)\.(\d+)\.conv1\.weight")


def image_weights(fit: Fit) -> dict[str, NDArray[Any]] | None:
    """The weights by the names that the page knows; None where the meta-model is not of that form."""
    state = {name: tensor.detach().cpu() for name, tensor in fit.emulator.meta_model.state_dict().items()}
    blocks = _blocks(state)
    if "network.conv1.weight" not in state or not blocks or any(".conv3." in name for name in state):
        return None
    if state["network.conv1.weight"].shape[-1] != 3:  # a stem for large images, with pooling
        return None
    weights: dict[str, Tensor] = {}
    weights["stem"], weights["stem_bias"] = _folded(state, "network.conv1", "network.bn1")
    for number, block in enumerate(blocks):
        for conv in (1, 2):
            name = f"block_{number}_{conv}"
            weights[name], weights[f"{name}_bias"] = _folded(state, f"{block}.conv{conv}", f"{block}.bn{conv}")
        if f"{block}.downsample.0.weight" in state:
            name = f"block_{number}_down"
            weights[name], weights[f"{name}_bias"] = _folded(state, f"{block}.downsample.0", f"{block}.downsample.1")
    for name, tensor in state.items():
        if name.startswith("shifts."):
            weights[f"shift_{name.split('.')[1]}"] = tensor
    return {name: tensor.float().numpy() for name, tensor in weights.items()}


def image_table(fit: Fit, weights: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """What else the page must know: the shape of an image, and the stride of every block."""
    state, blocks = fit.emulator.meta_model.state_dict(), []
    for block in _blocks(state):
        stage, number = block.removeprefix("network.layer").split(".")
        blocks.append({"stride": 2 if stage != "1" and number == "0" else 1})
    return {"shape": list(fit.emulator.blueprint.inputs.shape), "blocks": blocks}


def work_of(weights: Mapping[str, NDArray[Any]], table: Mapping[str, Any]) -> int:
    """The multiplications for one image."""
    _, height, width = table["shape"]
    done = weights["stem"].size * height * width
    for number, block in enumerate(table["blocks"]):
        height, width = -(-height // block["stride"]), -(-width // block["stride"])
        kernels = (name for name in weights if name.startswith(f"block_{number}_") and not name.endswith("bias"))
        done += sum(weights[name].size for name in kernels) * height * width
    return int(done)


def run_image(
    weights: Mapping[str, NDArray[Any]],
    blocks: Sequence[Mapping[str, int]],
    theta: NDArray[np.float64],
    image: NDArray[Any],
    head: int = 0,
) -> NDArray[np.float64]:
    """The outputs ``[1, K]`` for an image ``[C, H, W]``, as the page computes them."""
    own = {name: torch.from_numpy(np.asarray(weight, dtype=np.float64)) for name, weight in weights.items()}

    def convolved(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = own[name]
        return functional.conv2d(x, kernel, own[f"{name}_bias"], stride=stride, padding=kernel.shape[-1] // 2)

    x = convolved(torch.from_numpy(np.asarray(image, dtype=np.float64))[None], "stem").relu()
    for number, block in enumerate(blocks):
        z = convolved(x, f"block_{number}_1", block["stride"])
        shift = own[f"shift_{z.shape[1]}"] @ torch.from_numpy(theta)
        z = convolved((z + shift[:, None, None]).relu(), f"block_{number}_2")
        down = f"block_{number}_down"
        x = ((convolved(x, down, block["stride"]) if down in own else x) + z).relu()
    outputs = own[f"head_{head}"] @ x.mean((-2, -1))[0] + own[f"head_bias_{head}"]
    return np.asarray(outputs.numpy())[None]


def _blocks(state: Mapping[str, Tensor]) -> list[str]:
    """The names of the blocks, in order."""
    found = sorted((int(match[1]), int(match[2])) for match in map(_BLOCK.fullmatch, state) if match)
    return [f"network.layer{stage}.{number}" for stage, number in found]


def _folded(state: Mapping[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """A convolution with the batch normalisation after it: its kernel and its bias."""
    kernel, mean, variance = (
        state[name].double() for name in (f"{conv}.weight", f"{norm}.running_mean", f"{norm}.running_var")
    )
    scale = state[f"{norm}.weight"].double() / (variance + 1e-5).sqrt()
    return kernel * scale[:, None, None, None], state[f"{norm}.bias"].double() - mean * scale
