"""The classifiers of torchvision as base models."""

from typing import TYPE_CHECKING, Any

from torch import nn

from dynamo.contracts.errors import DynamoError, InvalidValueError, UnknownNameError, did_you_mean
from dynamo.contracts.spaces import InputSpace, OutputSpace
from dynamo_resnet.images import check_space
from dynamo_resnet.taps import TappedModel

try:
    from torchvision import models  # type: ignore[import-untyped]
except ImportError as error:
    raise DynamoError(f"the architecture 'taps' needs torchvision ({error}): pip install torchvision") from None

if TYPE_CHECKING:
    from dynamo_resnet import TapsOptions

#: Without their auxiliary classifiers these give one tensor also in training.
_WITH_AUXILIARY = ("googlenet", "inception_v3")


def taps(options: "TapsOptions", inputs: InputSpace, outputs: OutputSpace) -> TappedModel:
    """A classifier of torchvision with new weights, tapped; its first convolution fits the channels of the images.

    Raises:
        DynamoError: an unknown model, images that it cannot take, or what :class:`TappedModel` finds.
    """
    check_space(inputs, "the architecture 'taps'")
    known = models.list_models(module=models)
    if options.model not in known:
        raise UnknownNameError(f"torchvision has no classifier {options.model!r}: {did_you_mean(options.model, known)}")
    settings: dict[str, Any] = {}
    if options.model.startswith("vit_"):
        settings["image_size"] = inputs.shape[1]
    elif options.model in _WITH_AUXILIARY:
        settings.update(aux_logits=False, init_weights=True)
    try:
        module = models.get_model(options.model, weights=None, num_classes=outputs.size, **settings)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InvalidValueError(f"torchvision cannot build {options.model!r} for {inputs}: {error}") from None
    _fit_channels(module, inputs.shape[0])
    return TappedModel(inputs, outputs, module, options.points.split("+"))


def _fit_channels(module: nn.Module, channels: int) -> None:
    """Replace the first convolution by one for that many channels; it has the same name."""
    name, conv = next((name, part) for name, part in module.named_modules() if isinstance(part, nn.Conv2d))
    if conv.in_channels == channels:
        return
    fitting = nn.Conv2d(
        channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
    )
    parent, _, own_name = name.rpartition(".")
    setattr(module.get_submodule(parent), own_name, fitting)
