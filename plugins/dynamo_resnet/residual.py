"""Residual networks (He et al. 2016) of torchvision's blocks, and the states they pass through.

Everything here goes by the names in torchvision's ``ResNet``: ``conv1``, ``bn1``, ``relu``, ``maxpool``, ``layer1``,
``layer2`` and so on, ``avgpool``, ``fc``.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

from torch import Tensor, nn
from torch.nn import functional

from dynamo.contracts.errors import DynamoError, InvalidValueError
from dynamo.contracts.spaces import InputSpace

try:
    from torchvision.models.resnet import BasicBlock, Bottleneck  # type: ignore[import-untyped]
except ImportError as error:
    raise DynamoError(f"residual networks need torchvision ({error}): pip install torchvision") from None

Block = Literal["basic", "bottleneck"]
Sites = Literal["layers", "blocks"]
Stem = Literal["imagenet", "small"]
RunBlock = Callable[[nn.Module, Tensor], Tensor]


class ResidualNetwork(nn.Module):
    """A network like torchvision's ``ResNet`` with any number of stages and any width.

    Weights are initialised as torchvision does. Convolutions of stride 2 halve the images at the first block of every
    stage but the first.

    Args:
        channels: of the images.
        block: basic, or bottleneck, which gives four times the channels.
        layers: blocks of each stage.
        width: channels of the first stage; they double with each stage.
        stem: see :func:`new_stem`.
        classes: outputs of the readout; without them, what comes out is the mean over the pixels of the last stage.
    """

    def __init__(
        self,
        channels: int,
        block: Block,
        layers: Sequence[int],
        width: int,
        stem: Stem,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.conv1, self.maxpool = new_stem(channels, width, stem)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        kind = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
        features = width
        for number, count in enumerate(layers):
            stage = _new_stage(kind, features, width * 2**number, count, stride=1 if number == 0 else 2)
            self.add_module(f"layer{number + 1}", stage)
            features = width * 2**number * kind.expansion
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Identity() if classes is None else nn.Linear(features, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, K]``."""
        return readout(self, states(self, images, "layers")[-1])


def _new_stage(kind: Any, features: int, planes: int, count: int, stride: int) -> nn.Sequential:
    """Blocks of one width; the first may halve the images and change the channels."""
    widened: int = planes * kind.expansion
    projection = None
    if stride != 1 or features != widened:
        projection = nn.Sequential(Projection(features, widened, stride), nn.BatchNorm2d(widened))
    first = kind(features, planes, stride, projection)
    return nn.Sequential(first, *(kind(widened, planes) for _ in range(count - 1)))


class Projection(nn.Conv2d):
    """The 1x1 convolution of a shortcut. It picks the pixels that its stride asks for and then convolves them with
    stride 1, which is the same.

    The gradient of a 1x1 convolution with stride 2 of fewer than 8 channels, kept last in memory, writes beyond its
    memory in oneDNN on processors without AVX-512 (torch 2.14).
    """

    def __init__(self, features: int, widened: int, stride: int) -> None:
        super().__init__(features, widened, 1, stride=stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, C', H / stride, W / stride]``."""
        down, across = self.stride
        return functional.conv2d(images[..., ::down, ::across], self.weight)


def new_stem(channels: int, width: int, stem: Stem) -> tuple[nn.Conv2d, nn.Module]:
    """The first convolution and the pooling: ``imagenet`` quarters the images, ``small`` keeps their size."""
    if stem == "imagenet":
        conv = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        pool: nn.Module = nn.MaxPool2d(3, stride=2, padding=1)
    else:
        conv, pool = nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.Identity()
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv, pool


def check_size(inputs: InputSpace, stem: Stem, stages: int, who: str) -> None:
    """Check that images are so large that no stride of 2 meets a single pixel."""
    halvings = stages - 1 + (2 if stem == "imagenet" else 0)
    least = 2 ** (halvings - 1) + 1 if halvings else 1
    if min(inputs.shape[1:]) < least:
        instead = "stem=small" if stem == "imagenet" else "a network of fewer stages"
        raise InvalidValueError(
            f"{who} with stem {stem!r} and {stages} stages halves its images {halvings} times and needs at least "
            f"{least} x {least} pixels; these have {inputs.shape[1]} x {inputs.shape[2]}: use larger images or "
            f"{instead}"
        )


def stages(network: nn.Module) -> list[nn.Sequential]:
    """``layer1``, ``layer2`` and so on."""
    found: list[nn.Sequential] = []
    while hasattr(network, name := f"layer{len(found) + 1}"):
        found.append(cast(nn.Sequential, getattr(network, name)))
    return found


def states(
    network: Any, images: Tensor, sites: Sites, run: RunBlock = lambda block, x: cast(Tensor, block(x))
) -> list[Tensor]:
    """The features ``[B, C, H, W]`` after each stage or every block (appendix A); the last are those of the last stage.

    Args:
        network: of torchvision's form.
        images: ``[B, C, H, W]``.
        sites: where to read.
        run: how to run a block.
    """
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    read: list[Tensor] = []
    for stage in stages(network):
        for block in stage:
            x = run(block, x)
            if sites == "blocks":
                read.append(x)
        if sites == "layers":
            read.append(x)
    return read


def readout(network: Any, features: Tensor) -> Tensor:
    """From the features of the last stage to the outputs: ``[B, C, H, W] -> [B, K]``."""
    outputs: Tensor = network.fc(network.avgpool(features).flatten(1))
    return outputs


def run_shifted(block: Any, x: Tensor, shift: Tensor) -> Tensor:
    """The residual block of Algorithm 2: Wθ is added to the channels after the first batch norm, before its ReLU.

    As printed, the second convolution of the algorithm reads x. The first convolution and Wθ would then have no effect
    on what the block returns, and θ none on the network; so it must read z, as in every residual block (He et al. 2016)
    and as section B.1 says in words ("θ serving as a bias term in each residual block"). At θ = 0 this is
    torchvision's block.

    Args:
        block: torchvision's ``BasicBlock`` or ``Bottleneck``.
        x: features ``[B, C, H, W]``.
        shift: Wθ ``[B, C']``, one row for each image; C' are the channels of the block's first convolution.
    """
    z = block.bn1(block.conv1(x)) + shift[:, :, None, None]
    z = block.bn2(block.conv2(block.relu(z)))
    if hasattr(block, "conv3"):
        z = block.bn3(block.conv3(block.relu(z)))
    shortcut = x if block.downsample is None else block.downsample(x)
    result: Tensor = block.relu(shortcut + z)
    return result
