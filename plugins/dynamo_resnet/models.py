"""Residual base models."""

from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from dynamo.contracts.errors import InvalidValueError
from dynamo.contracts.protocols import DynamicalModel
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo.contracts.trajectory import Inputs, Trajectory
from dynamo_resnet.images import check_space, checked, trial, undisturbed
from dynamo_resnet.residual import ResidualNetwork, Sites, check_size, new_stem, readout, states

if TYPE_CHECKING:
    from dynamo_resnet import CifarResNetOptions, ResNetOptions

_PARTS = ("conv1", "bn1", "relu", "maxpool", "layer1", "avgpool", "fc")


@final
class ResNet(DynamicalModel):
    """A residual network as a base model: its states are what its stages or blocks give (appendix A), its outputs the
    logits. (Equation 5 also calls the output of each block b_t; those are the states, which equation 6 compares.)

    A trained ``ResNet`` of torchvision becomes a base model with ``ResNet(inputs, outputs, module)``; the module is
    shared, not copied.

    Args:
        inputs: the space of its images.
        outputs: the output space.
        module: torchvision's ``ResNet``, or a network with parts of the same names.
        sites: read states after each stage (``layers``) or after every block (``blocks``).

    Raises:
        DynamoError: inputs that are no images or have other channels, a module without those parts or that does more
        with them than ``ResNet`` does, outputs of another size.
    """

    def __init__(self, inputs: InputSpace, outputs: OutputSpace, module: nn.Module, sites: Sites = "layers") -> None:
        super().__init__()
        check_space(inputs, "a residual network")
        missing = [name for name in _PARTS if not hasattr(module, name)]
        if missing:
            raise InvalidValueError(
                f"the {type(module).__name__} is no ResNet of torchvision's form, it has no {', '.join(missing)}: "
                "use the architecture 'taps' (TappedModel)"
            )
        channels = getattr(module.conv1, "in_channels", inputs.shape[0])
        if channels != inputs.shape[0]:
            raise InvalidValueError(f"the network takes images of {channels} channels; these have {inputs.shape[0]}")
        self.inputs, self.outputs, self.module, self.sites = inputs, outputs, module, sites
        read, logits = trial(module, inputs, self._run, f"this {type(module).__name__}")
        if logits.shape[1:] != (outputs.size,):
            raise InvalidValueError(f"the network has outputs of shape {tuple(logits.shape[1:])}, not {outputs}")
        self.state_shapes = tuple(tuple(state.shape[1:]) for state in read)
        self._check_form()

    def trajectory(self, inputs: Inputs) -> Trajectory:
        """States ``[B, 1, C, H, W]`` at each site, outputs ``[B, 1, K]``.

        Raises:
            DynamoError: images of another shape, or one image where batch normalisation needs several.
        """
        with checked(inputs, self.inputs):
            read, outputs = self._run(inputs.values)
        return Trajectory(tuple(state.unsqueeze(1) for state in read), outputs.unsqueeze(1), inputs.mask)

    def _run(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        read = states(self.module, images, self.sites)
        return read, readout(self.module, read[-1])

    def _check_form(self) -> None:
        """Check that the module's own answer is the same."""
        like = next(self.module.parameters())
        noise = torch.randn(2, *self.inputs.shape, generator=torch.Generator().manual_seed(0)).to(like)
        with undisturbed(self.module):
            same = torch.allclose(self.module(noise), self._run(noise)[1], rtol=1e-3, atol=1e-4, equal_nan=True)
        if not same:
            raise InvalidValueError(
                f"the {type(self.module).__name__} does more than its stem, stages and readout: use the architecture "
                "'taps' (TappedModel), which runs it as it is"
            )


def resnet(options: "ResNetOptions", inputs: InputSpace, outputs: OutputSpace) -> ResNet:
    """One of torchvision's ResNets with new weights; its first convolution fits the stem and the channels.

    Raises:
        DynamoError: inputs that are no images, or too small ones.
    """
    from torchvision import models  # type: ignore[import-untyped]

    check_space(inputs, "the architecture 'resnet'")
    check_size(inputs, options.stem, 4, "the architecture 'resnet'")
    module = models.get_model(options.variant, weights=None, num_classes=outputs.size)
    module.conv1, module.maxpool = new_stem(inputs.shape[0], module.conv1.out_channels, options.stem)
    return ResNet(inputs, outputs, module, options.states)


def cifar_resnet(options: "CifarResNetOptions", inputs: InputSpace, outputs: OutputSpace) -> ResNet:
    """The network of 6n + 2 layers of He et al. 2016, section 4.2: three stages of n basic blocks, with new weights.

    Where the width changes, the shortcut is a 1x1 convolution, as in torchvision's blocks (option B of that paper).

    Raises:
        DynamoError: inputs that are no images, or too small ones.
    """
    check_space(inputs, "the architecture 'cifar-resnet'")
    check_size(inputs, "small", 3, "the architecture 'cifar-resnet'")
    count = (options.depth - 2) // 6
    module = ResidualNetwork(inputs.shape[0], "basic", [count] * 3, options.width, "small", outputs.size)
    return ResNet(inputs, outputs, module, options.states)
