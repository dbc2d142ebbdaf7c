"""Residual base models and the residual meta-model, against torchvision's networks and appendix B.1."""

import copy

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck

from dynamo import DynamoError, Inputs, InputSpace, OutputSpace
from dynamo.testing import check_component, check_meta_model, check_model, example_inputs
from dynamo_resnet import dynamo_components
from dynamo_resnet.models import ResNet
from dynamo_resnet.residual import ResidualNetwork, run_shifted

COMPONENTS = {(component.kind, component.name): component for component in dynamo_components()}
IMAGES, TOKENS = InputSpace("image", (3, 12, 12)), InputSpace("tokens", (7,))
OUTPUTS = OutputSpace("classes", 5)
SMALL = {"depth": 8, "width": 4}
TINY = {"layers": "1+1+2", "width": 4}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def base(name="cifar-resnet", inputs=IMAGES, **options):
    return COMPONENTS["architecture", name].make(options, inputs, OUTPUTS).eval()


def meta(inputs=IMAGES, theta_dim=3, **options):
    return COMPONENTS["meta-model", "resnet"].make(TINY | options, inputs, theta_dim).eval()


def small_torchvision(block=BasicBlock, layers=(1, 1, 1, 1)):
    """A ResNet of torchvision whose running statistics and batch-norm parameters are not the initial ones."""
    return scrambled(models.ResNet(block, list(layers), num_classes=5)).eval()


def scrambled(module):
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                for tensor in (part.weight, part.running_var):
                    tensor.uniform_(0.5, 1.5)
                for tensor in (part.bias, part.running_mean):
                    tensor.normal_(std=0.3)
    return module


def tensors(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


# --- contracts


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("architecture", "cifar-resnet", SMALL),
        ("architecture", "cifar-resnet", SMALL | {"states": "blocks", "depth": 14}),
        ("meta-model", "resnet", TINY),
        ("meta-model", "resnet", TINY | {"block": "bottleneck"}),
        ("meta-model", "resnet", TINY | {"states": "blocks", "layers": "2+1"}),
    ],
    ids=str,
)
def test_contracts(kind, name, options):
    check_component(COMPONENTS[kind, name], options)


def test_contract_with_the_imagenet_stem():
    made = meta(InputSpace("image", (2, 17, 20)), stem="imagenet")
    check_meta_model(made, rebuild=lambda: meta(InputSpace("image", (2, 17, 20)), stem="imagenet"))


def test_contract_of_a_network_that_is_trained_already():
    network = scrambled(ResidualNetwork(3, "basic", [1, 1], 4, "small", 5))
    check_model(ResNet(IMAGES, OUTPUTS, network))


# --- base models


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ({}, [(64, 12, 12), (128, 6, 6), (256, 3, 3), (512, 2, 2)]),
        ({"states": "blocks"}, [*[(64, 12, 12)] * 2, *[(128, 6, 6)] * 2, *[(256, 3, 3)] * 2, *[(512, 2, 2)] * 2]),
    ],
    ids=["layers", "blocks"],
)
def test_state_shapes_of_a_standard_network(options, shapes):
    made = base("resnet", **options)
    assert list(made.state_shapes) == shapes
    trajectory = made.trajectory(example_inputs(IMAGES, batch=2))
    assert [tuple(state.shape) for state in trajectory.states] == [(2, 1, *shape) for shape in shapes]
    assert trajectory.outputs.shape == (2, 1, 5)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (56, 0.85)])
def test_the_small_networks_have_the_parameters_of_the_paper(depth, millions):
    """He et al. 2016, table 6. (Their shortcuts have no parameters; those of option B have 2.5 thousand.)"""
    made = ResidualNetwork(3, "basic", [(depth - 2) // 6] * 3, 16, "small", 10)
    assert sum(parameter.numel() for parameter in made.parameters()) / 1e6 == pytest.approx(millions, abs=0.011)


def test_the_small_networks_halve_the_images_twice_and_have_a_block_each_two_layers():
    made = base(depth=14, width=4, states="blocks")
    assert made.state_shapes == (*[(4, 12, 12)] * 2, *[(8, 6, 6)] * 2, *[(16, 3, 3)] * 2)


@pytest.mark.parametrize(("block", "kind"), [("basic", BasicBlock), ("bottleneck", Bottleneck)])
def test_the_network_of_any_width_is_torchvisions_at_the_standard_one(block, kind):
    theirs = small_torchvision(kind)
    ours = ResidualNetwork(3, block, [1, 1, 1, 1], 64, "imagenet", 5).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 33, 40)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("sites", ["layers", "blocks"])
def test_a_users_own_resnet_becomes_a_base_model(sites):
    theirs = small_torchvision()
    read = []
    handles = [
        getattr(theirs, f"layer{k}").register_forward_hook(lambda m, a, output: read.append(output))
        for k in range(1, 5)
    ]
    images = torch.randn(2, 3, 32, 32)
    logits = theirs(images)
    for handle in handles:
        handle.remove()
    made = ResNet(InputSpace("image", (3, 32, 32)), OUTPUTS, theirs, sites)
    torch.testing.assert_close(made(images), logits)
    states = made.trajectory(Inputs(images, torch.ones(2, 1, dtype=torch.bool))).states
    for state, wanted in zip(states, read, strict=True):  # with one block a stage, stages and blocks are one
        torch.testing.assert_close(state[:, 0], wanted)


def test_a_module_that_does_more_than_a_resnet_is_refused():
    class Doubled(models.ResNet):
        def forward(self, images):
            return 2 * super().forward(images)

    with pytest.raises(DynamoError, match="Doubled does more than its stem"):
        ResNet(InputSpace("image", (3, 32, 32)), OUTPUTS, Doubled(BasicBlock, [1, 1, 1, 1], num_classes=5))


@pytest.mark.parametrize(
    ("inputs", "outputs", "module", "message"),
    [
        (TOKENS, OUTPUTS, lambda: ResidualNetwork(3, "basic", [1], 4, "small", 5), "not token ids below 7"),
        (IMAGES, OUTPUTS, lambda: ResidualNetwork(1, "basic", [1], 4, "small", 5), "images of 1 channels; .* have 3"),
        (IMAGES, OUTPUTS, lambda: ResidualNetwork(3, "basic", [1], 4, "small", 6), r"shape \(6,\), not 5 classes"),
        (IMAGES, OUTPUTS, lambda: nn.Linear(2, 2), "has no conv1, bn1, .*architecture 'taps'"),
    ],
)
def test_modules_that_do_not_fit_are_refused(inputs, outputs, module, message):
    with pytest.raises(DynamoError, match=message):
        ResNet(inputs, outputs, module())


def test_wrapping_leaves_each_part_in_its_mode():
    network = ResidualNetwork(3, "basic", [1, 1], 4, "small", 5).train()
    network.bn1.eval()
    before, state, random = [part.training for part in network.modules()], tensors(network), torch.get_rng_state()
    ResNet(IMAGES, OUTPUTS, network)
    assert [part.training for part in network.modules()] == before
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_running_statistics_move_in_training_alone():
    made, inputs = base(**SMALL), example_inputs(IMAGES, batch=4)
    before = tensors(made)
    made.trajectory(inputs)
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    made.train().trajectory(inputs)
    assert not torch.equal(made.module.bn1.running_mean, before["module.bn1.running_mean"])


def test_a_small_network_learns_which_half_of_an_image_is_bright():
    made = base(inputs=InputSpace("image", (1, 8, 8)), **SMALL).train()
    images, classes = torch.randn(64, 1, 8, 8), torch.arange(64) % 2
    images[classes == 1, :, :4] += 1
    images[classes == 0, :, 4:] += 1
    optimizer = torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(made(images), classes).backward()
        optimizer.step()
    assert (made.eval()(images).argmax(1) == classes).float().mean() > 0.95


def test_state_dict_round_trip():
    one, other, inputs = scrambled(base(**SMALL)), base(**SMALL), example_inputs(IMAGES, batch=2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.trajectory(inputs).outputs, other.trajectory(inputs).outputs)


@pytest.mark.parametrize("side", [4, 5])
def test_images_must_not_shrink_below_a_pixel(side):
    space = InputSpace("image", (3, side, 9))
    if side == 4:
        with pytest.raises(DynamoError, match="at least 5 x 5 pixels; these have 4 x 9"):
            base("resnet", space)
    else:
        assert base("resnet", space).state_shapes[-1] == (512, 1, 2)


def test_the_imagenet_stem_needs_larger_images_and_says_so():
    with pytest.raises(DynamoError, match=r"at least 17 x 17 pixels; these have 12 x 12: .*stem=small"):
        base("resnet", stem="imagenet")
    with pytest.raises(DynamoError, match=r"'resnet' with stem 'imagenet' and 3 stages .* at least 9 x 9"):
        meta(InputSpace("image", (3, 8, 8)), stem="imagenet")


@pytest.mark.parametrize("name", ["resnet", "cifar-resnet"])
def test_tokens_are_refused(name):
    with pytest.raises(DynamoError, match=f"'{name}' takes images .* not token ids"):
        base(name, TOKENS)
    with pytest.raises(DynamoError, match=r"'resnet' takes images .* not token ids"):
        meta(TOKENS)


def test_inputs_of_another_shape_are_refused_at_the_call():
    inputs = example_inputs(InputSpace("image", (1, 12, 12)))
    with pytest.raises(DynamoError, match=r"shape \(1, 12, 12\) each; the model takes image input"):
        base(**SMALL).trajectory(inputs)
    with pytest.raises(DynamoError, match=r"shape \(1, 12, 12\) each"):
        meta().states(inputs, torch.zeros(5, 3))


def test_one_image_of_one_pixel_cannot_train_batch_norm():
    space = InputSpace("image", (3, 4, 4))
    made, inputs = base(inputs=space, **SMALL).train(), example_inputs(space, batch=1)
    with pytest.raises(DynamoError, match="one image whose feature maps have shrunk to 1 x 1"):
        made.trajectory(inputs)
    with pytest.raises(DynamoError, match="one image whose feature maps have shrunk to 1 x 1"):
        meta(space).train().states(inputs, torch.zeros(1, 3))
    assert made.eval().trajectory(inputs).outputs.isfinite().all()


@pytest.mark.parametrize("depth", [2, 7, 21])
def test_depths_are_six_n_plus_two(depth):
    with pytest.raises(DynamoError, match=r"'depth' is \d+: it must be 6n \+ 2"):
        base(depth=depth)


# --- the meta-model


def block_of(kind):
    """A block that halves the images and widens them, and one that keeps both."""
    planes, features = 4, 4 * kind.expansion
    projection = nn.Sequential(nn.Conv2d(6, features, 1, stride=2, bias=False), nn.BatchNorm2d(features))
    return [(kind(6, planes, 2, projection), 6), (kind(features, planes), features)]


BLOCKS = [
    pytest.param(block, channels, id=f"{kind.__name__}-{'halving' if block.downsample else 'plain'}")
    for kind in (BasicBlock, Bottleneck)
    for block, channels in block_of(kind)
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(("block", "channels"), BLOCKS)
def test_at_theta_zero_the_block_is_the_plain_residual_block(block, channels, training):
    block = scrambled(copy.deepcopy(block)).double().train(training)
    x = torch.randn(3, channels, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(run_shifted(copy.deepcopy(block), x, torch.zeros(3, 4)), block(x))


@pytest.mark.parametrize(("block", "channels"), BLOCKS)
def test_theta_is_a_bias_after_the_first_batch_norm(block, channels):
    block = scrambled(copy.deepcopy(block)).double().eval()
    x, shift = torch.randn(3, channels, 6, 6, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    got = run_shifted(block, x, shift.expand(3, -1))
    with torch.no_grad():
        block.bn1.bias += shift
    torch.testing.assert_close(got, block(x))


def test_at_theta_zero_the_meta_model_is_a_resnet_and_at_any_theta_one_with_other_biases():
    made = meta(InputSpace("image", (3, 32, 32)), layers="2+1+1+1", width=64, stem="imagenet")
    theirs = small_torchvision(layers=(2, 1, 1, 1))
    theirs.fc = nn.Identity()
    made.network.load_state_dict(theirs.state_dict())
    inputs, theta = example_inputs(made.inputs, batch=2), torch.randn(3)
    for value in (torch.zeros(3), theta):
        plain = copy.deepcopy(theirs)
        with torch.no_grad():
            for number, width in enumerate((64, 128, 256, 512), start=1):
                for block in getattr(plain, f"layer{number}"):
                    block.bn1.bias += made.shifts[str(width)](value)
        features = made.features(made.states(inputs, value.expand(2, -1)))
        torch.testing.assert_close(features[:, 0], plain(inputs.values))


def test_blocks_of_one_width_share_one_matrix():
    made = meta(layers="1+3+2", theta_dim=7)
    shifts = {name: parameter.shape for name, parameter in made.named_parameters() if name.startswith("shifts")}
    assert shifts == {f"shifts.{width}.weight": (width, 7) for width in (4, 8, 16)}
    plain = ResidualNetwork(3, "basic", [1, 3, 2], 4, "small")
    extra = sum(p.numel() for p in made.parameters()) - sum(p.numel() for p in plain.parameters())
    assert extra == 7 * (4 + 8 + 16)


def test_a_matrix_acts_from_the_stage_of_its_width_on():
    made = meta(layers="1+2", theta_dim=2)
    first, _ = made.states(example_inputs(IMAGES, batch=2), torch.ones(2, 2))
    first.sum().backward()
    assert made.shifts["8"].weight.grad is None
    assert made.shifts["4"].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_a_batch_of_several_thetas_is_each_run_at_its_own(block):
    made = scrambled(meta(block=block)).double()
    inputs = example_inputs(IMAGES, batch=4)
    inputs, thetas = Inputs(inputs.values.double(), inputs.mask), torch.randn(4, 3, dtype=torch.float64)
    mixed = made.states(inputs, thetas)
    for row in range(4):
        alone = made.states(inputs[row : row + 1], thetas[row : row + 1])
        for state, wanted in zip(mixed, alone, strict=True):
            torch.testing.assert_close(state[row : row + 1], wanted)
    assert not torch.allclose(mixed[0], made.states(inputs, thetas[:1].expand(4, -1))[0])


@pytest.mark.parametrize(
    ("variant", "shape"), [("resnet34", (512, 2, 2)), ("resnet50", (2048, 2, 2))], ids=["resnet34", "resnet50"]
)
def test_the_meta_models_of_the_paper_by_name(variant, shape):
    """Their networks are torchvision's: the same names, and the same shapes but for the stem."""
    made = COMPONENTS["meta-model", "resnet"].make({"variant": variant}, IMAGES, 2)
    assert len(made.state_shapes) == 4
    assert (made.state_shapes[-1], made.feature_size) == (shape, shape[0])
    with torch.device("meta"):
        theirs = models.get_model(variant, weights=None).state_dict()
    ours = {name: tensor.shape for name, tensor in made.network.state_dict().items()}
    del theirs["fc.weight"], theirs["fc.bias"]
    assert ours == {name: tensor.shape for name, tensor in theirs.items()} | {"conv1.weight": (64, 3, 3, 3)}


def test_features_are_the_means_over_the_pixels():
    made = meta()
    states = made.states(example_inputs(IMAGES, batch=2), torch.randn(2, 3))
    torch.testing.assert_close(made.features(states), states[-1].mean((3, 4)))


@pytest.mark.parametrize("layers", ["", "2+", "0+1", "2,2", "two"])
def test_layers_are_numbers_of_blocks(layers):
    with pytest.raises(DynamoError, match=r"'layers' is .* such as 3"):
        meta(layers=layers)
