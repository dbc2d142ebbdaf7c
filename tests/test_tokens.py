"""The state map from feature maps to tokens and flat states: closed forms, and networks that have such states."""

import pytest
import torch
from torch import nn
from torchvision.models import VGG, ConvNeXt, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.vgg import make_layers

from dynamo import Dataset, DynamoError, Examples, Fit, FitOptions, InputSpace, OutputSpace, Population, Trainer
from dynamo.fit.fidelity import measure_fidelity
from dynamo.testing import check_component, check_model, check_state_map, example_inputs
from dynamo_resnet import dynamo_components
from dynamo_resnet.maps import Conv
from dynamo_resnet.models import ResNet
from dynamo_resnet.residual import ResidualNetwork
from dynamo_resnet.taps import TappedModel
from dynamo_resnet.tokens import Tokens

TOKENS = next(component for component in dynamo_components() if component.name == "tokens")
META = (4, 6, 6)
SHAPES = [(5, 7), (4, 7), (10, 3), (1, 7), (2, 7), (50, 7), (7,)]
OPTIONS = [{}, {"bias": False}, {"rank": 2}, {"rank": 2, "bias": False}]
IMAGES, CLASSES = InputSpace("image", (3, 8, 8)), OutputSpace("classes", 4)


def tokens(base_shape, meta_shape=META, **options):
    return TOKENS.make(options, meta_shape, base_shape).double()


def states(shape=META, batch=2):
    return torch.randn(batch, 3, *shape, dtype=torch.float64)


def affine(module, size):
    """W [D, C] and b [D] of an affine map of vectors, from unit vectors."""
    with torch.no_grad():
        b = module(torch.zeros(size, dtype=torch.float64))
        return (module(torch.eye(size, dtype=torch.float64)) - b).T, b


def through_patches(made):
    """The map of the patches as a function of vectors ``[..., C]``, each the channels of an image of one colour."""

    def run(vectors):
        colours = vectors.reshape(1, -1, *META[:1], 1, 1).expand(1, -1, *META)
        return made.patches(colours)[0, :, :, 0, 0].reshape(*vectors.shape[:-1], -1)

    return run


# --- contract


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_contract(options):
    check_component(TOKENS, options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("base_shape", SHAPES, ids=str)
def test_contract_of_tokens_and_flat_states(base_shape, options):
    made = tokens(base_shape, **options)
    check_state_map(made, rebuild=lambda: tokens(base_shape, **options))
    assert made(states()).shape == (2, 3, *base_shape)


# --- closed forms


def test_a_square_of_patches_reads_means_over_its_pixels_row_by_row():
    made, x = tokens((9, 7)), states()
    w, b = affine(through_patches(made), 4)
    means = x.reshape(2, 3, 4, 3, 2, 3, 2).mean((4, 6)).flatten(3).transpose(2, 3)
    torch.testing.assert_close(made(x), means @ w.T + b)
    assert made.whole is None


def test_one_token_more_comes_first_and_reads_the_mean_through_a_map_of_its_own():
    made, x = tokens((10, 7)), states()
    got = made(x)
    w, b = affine(made.whole, 4)
    torch.testing.assert_close(got[:, :, 0], x.mean((3, 4)) @ w.T + b)
    patches, b = affine(through_patches(made), 4)
    assert not torch.allclose(w, patches)
    means = x.reshape(2, 3, 4, 3, 2, 3, 2).mean((4, 6)).flatten(3).transpose(2, 3)
    torch.testing.assert_close(got[:, :, 1:], means @ patches.T + b)


def test_a_flat_state_reads_the_mean_over_the_pixels():
    made, x = tokens((7,)), states()
    w, b = affine(made.whole, 4)
    torch.testing.assert_close(made(x), x.mean((3, 4)) @ w.T + b)


def test_more_patches_than_pixels_are_interpolated():
    """A plane stays a plane, away from the border."""
    made = tokens((64, 1), (1, 4, 4), bias=False)
    row = torch.arange(4.0, dtype=torch.float64)[:, None].expand(4, 4)
    got = made(row[None, None, None])[0, 0].reshape(8, 8)
    wanted = (torch.arange(8.0, dtype=torch.float64) + 0.5) / 2 - 0.5
    scale = made.patches.map.weight.item()
    torch.testing.assert_close(got[1:-1, 3], scale * wanted[1:-1])


@pytest.mark.parametrize(("base_shape", "side", "whole"), [((49, 2), 7, False), ((50, 2), 7, True), ((1, 2), 1, False)])
def test_the_layout_follows_from_the_number_of_tokens(base_shape, side, whole):
    made = tokens(base_shape)
    assert made.patches.base_shape == (2, side, side)
    assert (made.whole is not None) == whole


def test_rank_bounds_both_maps():
    made = tokens((10, 7), rank=2)
    for part in (made.whole, through_patches(made)):
        assert int(torch.linalg.matrix_rank(affine(part, 4)[0])) == 2


@pytest.mark.parametrize(
    ("base_shape", "options", "parameters"),
    [
        ((9, 7), {}, 4 * 7 + 7),
        ((10, 7), {}, 2 * (4 * 7 + 7)),
        ((10, 7), {"rank": 2, "bias": False}, 2 * 2 * (4 + 7)),
        ((7,), {"rank": 2}, 2 * (4 + 7) + 7),
    ],
    ids=str,
)
def test_parameters_are_counted_by_hand(base_shape, options, parameters):
    assert sum(parameter.numel() for parameter in tokens(base_shape, **options).parameters()) == parameters


def test_feature_maps_are_mapped_as_conv_does():
    made = tokens((5, 3, 3), rank=2, bias=False)
    assert isinstance(made, Conv)
    assert [tuple(parameter.shape) for parameter in made.parameters()] == [(2, 4, 1, 1), (5, 2, 1, 1)]


@pytest.mark.parametrize("base_shape", [(10, 3), (9, 3), (3,)], ids=str)
def test_it_recovers_the_map_that_made_the_states(base_shape):
    x, planted, made = states(batch=32), tokens(base_shape), tokens(base_shape)
    target = planted(x).detach()
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = (made(x) - target).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(parameter, planted.get_parameter(name), rtol=0, atol=2e-3)


# --- what it refuses


@pytest.mark.parametrize("count", [3, 6, 7, 12, 52])
def test_tokens_that_are_no_square_are_refused(count):
    with pytest.raises(DynamoError, match=rf"a square of patches, with or without one token more.* has {count} tokens"):
        tokens((count, 8))


@pytest.mark.parametrize(
    ("meta_shape", "base_shape", "message"),
    [
        ((6,), (5, 7), r"reads features .* meta-model have shape \(6,\): between flat states take 'affine'"),
        ((5, 7), (5, 7), r"reads features .* meta-model have shape \(5, 7\)"),
        (META, (2, 3, 4, 5), r"of the base model have shape \(2, 3, 4, 5\): tap another"),
        (META, (), r"of the base model have shape \(\)"),
    ],
)
def test_states_of_other_forms_are_refused(meta_shape, base_shape, message):
    with pytest.raises(DynamoError, match=message):
        tokens(base_shape, meta_shape)


# --- networks that have such states


def transformer(seed=0):
    torch.manual_seed(seed)
    module = VisionTransformer(
        image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=4
    )
    nn.init.normal_(module.heads.head.weight)  # torchvision starts it at zero
    layers = [f"encoder.layers.encoder_layer_{number}" for number in range(2)]
    return TappedModel(IMAGES, CLASSES, module, ["conv_proj", *layers]).eval().requires_grad_(False)


def convnext():
    module = ConvNeXt([CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)], num_classes=4)
    points = ["features.1", "features.3", "avgpool"]
    return TappedModel(IMAGES, CLASSES, module, points).eval().requires_grad_(False)


def vgg():
    with torch.device("meta"):  # its own classifier has a hundred million weights
        module = VGG(nn.Identity(), num_classes=4, init_weights=False)
    module.features = make_layers([6, "M", 8, "M"], batch_norm=True)
    module.classifier = nn.Sequential(nn.Linear(8 * 7 * 7, 10), nn.ReLU(inplace=True), nn.Linear(10, 4))
    points = ["features.2", "features.7", "classifier.0"]
    return TappedModel(IMAGES, CLASSES, module, points).eval().requires_grad_(False)


def residual():
    return ResNet(IMAGES, CLASSES, ResidualNetwork(3, "basic", [1, 1, 1], 4, "small", 4)).eval().requires_grad_(False)


def data():
    def part(seed):
        inputs = example_inputs(IMAGES, batch=24, seed=seed)
        return Examples(inputs, torch.arange(24) % 4)

    return Dataset(IMAGES, CLASSES, part(0), part(1))


@pytest.mark.parametrize(
    ("network", "shapes"),
    [
        (transformer, ((8, 2, 2), (5, 8), (5, 8))),
        (convnext, ((8, 2, 2), (12, 1, 1), (12, 1, 1))),
        (vgg, ((6, 8, 8), (8, 2, 2), (10,))),
    ],
)
def test_networks_of_torchvision_are_sound_and_have_states_of_all_forms(network, shapes):
    made = network()
    assert made.state_shapes == shapes
    check_model(made)


def test_one_state_map_serves_a_population_of_all_forms(tmp_path):
    """Sites of feature maps, tokens and flat states in one fit: the map is built for each site by itself."""
    models = {"vit": transformer(), "convnext": convnext(), "vgg": vgg(), "resnet": residual()}
    population = Population.of(models, data())
    settings = FitOptions(
        meta_model="resnet:layers=1+1+1,width=4",
        state_map="tokens",
        theta_dim=2,
        models_per_step=None,
        batch_size=24,
        steps=30,
        learning_rate=1e-2,
    )
    trainer = Trainer(population, settings)
    trainer.run()
    fit = Fit.of(trainer)
    kinds = [[type(site) for site in trainer.emulator.maps_of(number)] for number in range(4)]
    assert kinds == [[Conv, Tokens, Tokens], [Conv, Conv, Conv], [Conv, Conv, Tokens], [Conv, Conv, Conv]]
    assert trainer.history[-1][3] < trainer.history[0][3]
    fit.save(tmp_path / "run")
    measured, again = measure_fidelity(fit, population), measure_fidelity(Fit.load(tmp_path / "run"), population)
    assert [model.hidden_r2 for model in measured.models] == [model.hidden_r2 for model in again.models]


def test_conv_alone_cannot_serve_tokens_and_says_what_can():
    settings = FitOptions(meta_model="resnet:layers=1+1+1,width=4", state_map="conv", batch_size=8, steps=1)
    with pytest.raises(DynamoError, match=r"'conv' maps features .* base model have shape \(5, 8\).* 'tokens'"):
        Trainer(Population.of({"vit": transformer()}, data()), settings)
