"""The residual meta-model of appendix B.1 and its Algorithm 2."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, final

from torch import Tensor, nn

from dynamo.contracts.protocols import MetaModel
from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo_resnet.images import check_space, checked, trial
from dynamo_resnet.residual import Block, ResidualNetwork, Sites, Stem, check_size, run_shifted, states

if TYPE_CHECKING:
    from dynamo_resnet import MetaResNetOptions

#: Blocks and blocks per stage of the standard networks (He et al. 2016, table 1).
STANDARD: dict[str, tuple[Literal["basic", "bottleneck"], str]] = {
    "resnet18": ("basic", "2+2+2+2"),
    "resnet34": ("basic", "3+4+6+3"),
    "resnet50": ("bottleneck", "3+4+6+3"),
    "resnet101": ("bottleneck", "3+4+23+3"),
}
_NAME = "the meta-model 'resnet'"


@final
class MetaResNet(MetaModel):
    """A residual network in each of whose blocks θ is a bias: Wθ is added to the channels after the first batch norm,
    see :func:`~dynamo_resnet.residual.run_shifted`. Blocks of one width share W (appendix B.1).

    Its features are the means over the pixels of the last stage, what a ResNet's readout reads. Depth, width and image
    sizes need not be those of the base models, only the number of sites.

    Args:
        inputs: the space of its images.
        theta_dim: d.
        block: basic or bottleneck.
        layers: blocks of each stage.
        width: channels of the first stage; they double with each stage (a bottleneck gives four times as many).
        stem: imagenet or small.
        sites: states after each stage (``layers``) or after every block (``blocks``).

    Raises:
        DynamoError: inputs that are no images, or too small ones.
    """

    def __init__(
        self,
        inputs: InputSpace,
        theta_dim: int,
        block: Block,
        layers: Sequence[int],
        width: int,
        stem: Stem,
        sites: Sites,
    ) -> None:
        super().__init__()
        check_space(inputs, _NAME)
        check_size(inputs, stem, len(layers), _NAME)
        self.inputs, self.theta_dim, self.sites = inputs, theta_dim, sites
        self.network = ResidualNetwork(inputs.shape[0], block, layers, width, stem)
        widths = [width * 2**number for number in range(len(layers))]
        self.shifts = nn.ModuleDict({str(size): nn.Linear(theta_dim, size, bias=False) for size in widths})
        read = trial(self, inputs, lambda images: self._run(images, images.new_zeros(len(images), theta_dim)), _NAME)
        self.state_shapes = tuple(tuple(state.shape[1:]) for state in read)
        self.feature_size = self.state_shapes[-1][0]

    def states(self, inputs: Inputs, theta: Tensor) -> tuple[Tensor, ...]:
        """The features ``[B, 1, C, H, W]`` at each site; each image is run at its own θ.

        Raises:
            DynamoError: images of another shape, or one image where batch normalisation needs several.
        """
        with checked(inputs, self.inputs):
            return tuple(state.unsqueeze(1) for state in self._run(inputs.values, theta))

    def features(self, states: tuple[Tensor, ...]) -> Tensor:
        """The means over the pixels of the last stage: ``[B, 1, C]``."""
        return states[-1].mean((-2, -1))

    def _run(self, images: Tensor, theta: Tensor) -> list[Tensor]:
        shifts = {name: shift(theta) for name, shift in self.shifts.items()}

        def run(block: Any, x: Tensor) -> Tensor:
            return run_shifted(block, x, shifts[str(block.bn1.num_features)])

        return states(self.network, images, self.sites, run)


def meta_resnet(options: "MetaResNetOptions", inputs: InputSpace, theta_dim: int) -> MetaResNet:
    """The meta-model ``resnet``: a standard network, or blocks and layers of one's own."""
    block, layers = STANDARD[options.variant]
    counts = [int(count) for count in (options.layers or layers).split("+")]
    return MetaResNet(inputs, theta_dim, options.block or block, counts, options.width, options.stem, options.states)
