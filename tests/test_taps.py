"""Networks as base models by taps at their modules: what is read, and that nothing is left behind."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from dynamo import DynamoError, Inputs, InputSpace, OutputSpace
from dynamo.testing import check_component, check_model, example_inputs
from dynamo_resnet import dynamo_components
from dynamo_resnet.taps import TappedModel

TAPS = next(component for component in dynamo_components() if component.name == "taps")
IMAGES, OUTPUTS = InputSpace("image", (3, 8, 8)), OutputSpace("classes", 4)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Odd(nn.Module):
    """Modules that give several outputs, run twice, never run, or give no state."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.pair = Returning(lambda x: (x, x))
        self.table = Returning(lambda x: {"x": x})
        self.first = Returning(lambda x: x[0])
        self.total = Returning(lambda x: x.sum())
        self.numbers = Returning(lambda x: torch.zeros(len(x), 2, dtype=torch.int64))
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4, 4)

    def forward(self, images):
        x = self.act(self.norm(self.act(self.conv(images))))
        for probe in (self.pair, self.table, self.first, self.total, self.numbers):
            probe(x)
        return self.head(x.mean((2, 3)))


class Returning(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def network():
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 5, 3, stride=2, padding=1),
            norm=nn.BatchNorm2d(5),
            act=nn.ReLU(inplace=True),
            second=nn.Sequential(nn.Conv2d(5, 6, 3, padding=1), nn.ReLU(inplace=True)),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            head=nn.Linear(6, 4),
        )
    )


def hooks(module):
    return [
        name
        for name, part in module.named_modules()
        if any((part._forward_hooks, part._forward_pre_hooks, part._backward_hooks))
    ]


def named(model, inputs, **options):
    return TAPS.make({"model": model} | options, inputs, OUTPUTS).eval()


def test_contract_of_the_component():
    check_component(TAPS)


def test_contract_of_a_live_module():
    check_model(TappedModel(IMAGES, OUTPUTS, network(), ["act", "second", "flat"]))


def test_states_are_what_the_modules_give_in_the_order_of_the_points():
    module = network().eval()
    made = TappedModel(IMAGES, OUTPUTS, module, ["flat", "second.0", "norm"]).eval()
    assert made.state_shapes == ((6,), (6, 4, 4), (5, 4, 4))
    images = torch.randn(2, 3, 8, 8)
    trajectory = made.trajectory(Inputs(images, torch.ones(2, 1, dtype=torch.bool)))
    normed = module.norm(module.conv(images)).clone()
    second = module.second[0](normed.relu()).clone()
    for state, wanted in zip(trajectory.states, (second.relu().mean((2, 3)), second, normed), strict=True):
        torch.testing.assert_close(state[:, 0], wanted)
    torch.testing.assert_close(trajectory.outputs[:, 0], module(images))


def test_an_activation_in_place_does_not_reach_back_into_a_state():
    made = TappedModel(IMAGES, OUTPUTS, network(), ["norm", "act"]).eval()
    before, after = made.trajectory(example_inputs(IMAGES)).states
    assert before.min() < 0
    assert torch.equal(before.relu(), after)


def test_hooks_are_there_during_a_call_alone():
    module = network()
    module.conv.register_forward_hook(lambda m, a, output: None)
    made = TappedModel(IMAGES, OUTPUTS, module, ["act", "second"])
    assert hooks(module) == ["conv"]  # the user's own stays
    made.trajectory(example_inputs(IMAGES))
    assert hooks(module) == ["conv"]


@pytest.mark.parametrize("fails", ["network", "tap"])
def test_hooks_are_removed_after_an_exception(fails):
    module = Odd()
    made = TappedModel(IMAGES, OUTPUTS, module, ["conv", "norm"])
    if fails == "network":
        module.pair.function = lambda x: 1 / 0
        error = ZeroDivisionError
    else:
        made.points = ("conv", "pair")
        error = DynamoError
    with pytest.raises(error):
        made.trajectory(example_inputs(IMAGES))
    assert hooks(module) == []


@pytest.mark.parametrize("point", ["pair", "table", "act", "unused", "total", "numbers"])
def test_hooks_are_removed_where_a_point_is_refused(point):
    module = Odd()
    with pytest.raises(DynamoError, match=f"module '{point}'"):
        TappedModel(IMAGES, OUTPUTS, module, ["conv", point])
    assert hooks(module) == []


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (["pair"], "gives a tuple, not one tensor"),
        (["table"], "gives a dict, not one tensor"),
        (["act"], "runs several times in one pass"),
        (["unused"], "does not run when the network does"),
        (["total"], r"gives torch.float32 \(\) for 2 images"),
        (["first"], r"gives torch.float32 \(4, 8, 8\) for 2 images"),
        (["numbers"], "gives torch.int64"),
        (["nrom"], "has no module 'nrom': did you mean 'norm'"),
        (["qqqq"], "at its top it has conv, norm, act, pair"),
        ([""], "has no module ''"),
        ([], "at least one; got none"),
        (["conv", "conv"], "points are different names"),
    ],
)
def test_points_that_cannot_be_states(points, message):
    with pytest.raises(DynamoError, match=message):
        TappedModel(IMAGES, OUTPUTS, Odd(), points)


def test_the_dry_run_leaves_everything_as_it_was():
    module = network().train()
    module.norm.eval()
    module.flat = nn.Sequential(nn.Flatten(), Returning(lambda x: x + torch.rand_like(x)))
    modes, random = [part.training for part in module.modules()], torch.get_rng_state()
    state = copy.deepcopy(module.state_dict())
    TappedModel(IMAGES, OUTPUTS, module, ["act"])
    assert [part.training for part in module.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in module.parameters())


def test_calls_in_eval_mode_leave_buffers_and_calls_in_training_do_not():
    made = TappedModel(IMAGES, OUTPUTS, network(), ["act"]).eval()
    before = copy.deepcopy(made.state_dict())
    made.trajectory(example_inputs(IMAGES))
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.state_dict().items())
    made.train().trajectory(example_inputs(IMAGES))
    assert not torch.equal(made.module.norm.running_mean, before["module.norm.running_mean"])


def test_gradients_flow_from_states_to_the_module():
    made = TappedModel(IMAGES, OUTPUTS, network(), ["second"])
    made.trajectory(example_inputs(IMAGES)).states[0].sum().backward()
    assert made.module.conv.weight.grad.abs().sum() > 0
    assert made.module.head.weight.grad is None


@pytest.mark.parametrize(
    ("model", "points", "side", "shapes"),
    [
        ("vgg11", "features.2+features.20", 32, [(64, 16, 16), (512, 1, 1)]),
        ("convnext_tiny", "features.1+features.3+features.7", 32, [(96, 8, 8), (192, 4, 4), (768, 1, 1)]),
        (
            "vit_b_16",
            "encoder.layers.encoder_layer_0+encoder.layers.encoder_layer_11",
            32,
            [(5, 768), (5, 768)],
        ),
        ("densenet121", "features.denseblock1+features.denseblock4", 32, [(256, 8, 8), (1024, 1, 1)]),
    ],
)
def test_torchvisions_classifiers(model, points, side, shapes, monkeypatch):
    # torchvision cuts off the tails of normal weights, which takes seconds
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, **how: nn.init.normal_(tensor, std=0.02))
    space = InputSpace("image", (3, side, side))
    made = named(model, space, points=points)
    assert list(made.state_shapes) == shapes
    inputs = example_inputs(space, batch=2)
    with torch.no_grad():
        trajectory = made.trajectory(inputs)
        torch.testing.assert_close(trajectory.outputs[:, 0], made.module(inputs.values))
    assert [tuple(state.shape[1:]) for state in trajectory.states] == [(1, *shape) for shape in shapes]
    assert hooks(made.module) == []


def test_the_first_convolution_fits_the_channels():
    space = InputSpace("image", (1, 16, 16))
    made = named("mobilenet_v3_small", space, points="features.0+features.5")
    assert made.module.features[0][0].weight.shape == (16, 1, 3, 3)
    assert made(torch.randn(2, 1, 16, 16)).shape == (2, 4)
    assert made.state_shapes[0] == (16, 8, 8)


def test_several_outputs_in_training_are_refused():
    class Auxiliary(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = network()

        def forward(self, images):
            return (self.body(images), None) if self.training else self.body(images)

    made = TappedModel(IMAGES, OUTPUTS, Auxiliary(), ["body.act"])
    with pytest.raises(DynamoError, match=r"gives a tuple; .* switch auxiliary outputs off"):
        made.train().trajectory(example_inputs(IMAGES))


def test_images_that_are_too_small_are_told_the_least_size():
    module = nn.Sequential(
        nn.Conv2d(3, 2, 5), nn.MaxPool2d(3), nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    with pytest.raises(DynamoError, match=r"Sequential cannot run on image .* at least 13 x 13 pixels"):
        TappedModel(InputSpace("image", (3, 12, 30)), OutputSpace("classes", 2), module, ["0"])
    TappedModel(InputSpace("image", (3, 13, 30)), OutputSpace("classes", 2), module, ["0"])


def test_channels_that_do_not_fit_are_an_error_without_a_least_size():
    with pytest.raises(DynamoError, match=r"cannot run on image input of shape \(1, 8, 8\) \(.*3 channels"):
        TappedModel(InputSpace("image", (1, 8, 8)), OUTPUTS, network(), ["act"])


def test_other_errors():
    with pytest.raises(DynamoError, match=r"takes images .* not token ids"):
        TappedModel(InputSpace("tokens", (5,)), OUTPUTS, network(), ["act"])
    with pytest.raises(DynamoError, match=r"outputs of shape \(4,\), not 5 classes"):
        TappedModel(IMAGES, OutputSpace("classes", 5), network(), ["act"])
    with pytest.raises(DynamoError, match="no classifier 'vgg12': did you mean 'vgg1"):
        named("vgg12", IMAGES)
    with pytest.raises(DynamoError, match=r"cannot build 'vit_b_16' for image input .*indivisible"):
        named("vit_b_16", IMAGES, points="encoder")
    with pytest.raises(DynamoError, match=r"shape \(3, 9, 9\) each"):
        TappedModel(IMAGES, OUTPUTS, network(), ["act"]).trajectory(example_inputs(InputSpace("image", (3, 9, 9))))


def test_batch_norm_on_one_image_of_one_pixel_is_explained():
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 4))
    made = TappedModel(IMAGES, OUTPUTS, module, ["1"]).train()
    with pytest.raises(DynamoError, match="batches of at least 2"):
        made.trajectory(example_inputs(IMAGES, batch=1))
