"""The state map between feature maps: closed forms."""

import pytest
import torch

from dynamo import DynamoError
from dynamo.testing import check_component, check_state_map
from dynamo_resnet import dynamo_components

CONV = next(component for component in dynamo_components() if component.kind == "state-map")
SIZES = [(4, 6, 6), (3, 6, 6), (4, 3, 3), (5, 9, 8), (3, 3, 9)]
OPTIONS = [{}, {"bias": False}, {"rank": 2}, {"rank": 2, "bias": False}]


def conv(meta_shape=(4, 6, 6), base_shape=(3, 6, 6), **options):
    return CONV.make(options, meta_shape, base_shape).double()


def states(shape=(4, 6, 6)):
    return torch.randn(2, 3, *shape, dtype=torch.float64)


def matrix(made):
    """W [C', C] and b [C'] of the map of the channels, from unit vectors."""
    channels = made.meta_shape[0]
    with torch.no_grad():
        ones = torch.ones(*made.meta_shape[1:], dtype=torch.float64)
        units = torch.eye(channels, dtype=torch.float64)[None, :, :, None, None] * ones
        b = made(torch.zeros_like(units))[0, 0, :, 0, 0]
        return (made(units)[0, :, :, 0, 0] - b).T, b


@pytest.mark.parametrize("options", [*OPTIONS, {"per_channel": True}], ids=str)
def test_contract(options):
    check_component(CONV, options)


@pytest.mark.parametrize("base_shape", SIZES, ids=str)
def test_contract_where_sizes_differ(base_shape):
    made = conv(base_shape=base_shape)
    check_state_map(made, rebuild=lambda: conv(base_shape=base_shape))
    assert made(states()).shape == (2, 3, *base_shape)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_at_every_pixel_the_channels_go_through_one_affine_map(options):
    made, x = conv(**options), states()
    w, b = matrix(made)
    torch.testing.assert_close(made(x), torch.einsum("kc,btcij->btkij", w, x) + b[:, None, None])
    assert bool((b != 0).any()) == options.get("bias", True)


def test_rank_bounds_the_map_of_the_channels():
    for rank in (1, 2, 3):
        w, _ = matrix(conv(rank=rank))
        assert int(torch.linalg.matrix_rank(w)) == rank
    assert int(torch.linalg.matrix_rank(matrix(conv(rank=50))[0])) == 3


@pytest.mark.parametrize(("options", "parameters"), [({}, 4 * 3 + 3), ({"rank": 2}, 2 * (4 + 3) + 3)], ids=str)
def test_parameters_are_counted_by_hand(options, parameters):
    assert sum(parameter.numel() for parameter in conv(**options).parameters()) == parameters


def test_per_channel_starts_as_the_identity_and_scales_each_channel():
    made, x = conv((4, 6, 6), (4, 6, 6), per_channel=True), states()
    torch.testing.assert_close(made(x), x)
    scale = torch.randn(4, dtype=torch.float64)
    with torch.no_grad():
        made.map.weight.copy_(scale[:, None, None, None])
    torch.testing.assert_close(made(x), x * scale[:, None, None])


def test_smaller_states_are_means_over_the_pixels_that_become_one():
    made, x = conv((4, 6, 6), (4, 3, 2), per_channel=True), states()
    blocks = x.reshape(2, 3, 4, 3, 2, 2, 3).mean((4, 6))
    torch.testing.assert_close(made(x), blocks)


def test_larger_states_are_interpolated_linearly():
    """A plane stays a plane, away from the border; so does each dimension by itself where one grows and one shrinks."""
    made = conv((1, 4, 4), (1, 8, 2), per_channel=True)
    row, column = torch.arange(4.0, dtype=torch.float64)[:, None], torch.arange(4.0, dtype=torch.float64)
    got = made((2 * row + 10 * column)[None, None, None])[0, 0, 0]
    rows = (torch.arange(8.0, dtype=torch.float64) + 0.5) / 2 - 0.5
    wanted = 2 * rows[:, None] + 10 * torch.tensor([0.5, 2.5], dtype=torch.float64)
    torch.testing.assert_close(got[1:-1], wanted[1:-1])


@pytest.mark.parametrize("base_shape", SIZES, ids=str)
def test_resampling_keeps_constants(base_shape):
    made = conv(base_shape=base_shape)
    w, b = matrix(made)
    level = torch.randn(4, dtype=torch.float64)
    got = made(level[None, None, :, None, None].expand(1, 1, 4, 6, 6))
    torch.testing.assert_close(got[0, 0], (w @ level + b)[:, None, None].expand(base_shape))


@pytest.mark.parametrize("base_shape", SIZES, ids=str)
def test_resampling_commutes_with_the_map_of_the_channels(base_shape):
    made, x = conv(base_shape=base_shape), states()
    w, b = matrix(made)
    resampled = conv(base_shape=(4, *base_shape[1:]), per_channel=True)(x)
    torch.testing.assert_close(made(x), torch.einsum("kc,btcij->btkij", w, resampled) + b[:, None, None])


def test_it_recovers_the_map_that_made_the_states():
    x, planted = torch.randn(64, 1, 4, 6, 6, dtype=torch.float64), conv()
    made = conv()
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = (made(x) - planted(x).detach()).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    torch.testing.assert_close(matrix(made), matrix(planted), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shapes", [((6,), (4, 6, 6)), ((4, 6, 6), (6,)), ((5, 6), (4, 6, 6))], ids=str)
def test_states_that_are_no_feature_maps_are_refused(shapes):
    with pytest.raises(DynamoError, match=r"maps features \(channels, height, width\).*'affine'"):
        conv(*shapes)


def test_per_channel_needs_as_many_channels_and_no_rank():
    with pytest.raises(DynamoError, match="the meta-model has 4 and the base model 3"):
        conv(per_channel=True)
    with pytest.raises(DynamoError, match="'rank' bounds a matrix"):
        conv(base_shape=(4, 6, 6), per_channel=True, rank=2)
