"""The geometry of attractors, on sets of points whose shape and size are known."""

import numpy as np
import pytest
from scipy.stats import ortho_group

from dynamo import DynamoError
from dynamo.analysis.dynamics.attractor import attractor_geometry

RNG = np.random.default_rng(0)
SHARES = RNG.uniform(size=120)
ANGLES = 2 * np.pi * SHARES


def in_space(*coordinates, units=6):
    """Coordinates in the first dimensions of a space with more of them."""
    flat = np.stack(coordinates, axis=1)
    return np.pad(flat, ((0, 0), (0, units - flat.shape[1])))


SEGMENT = in_space(2 * SHARES)
STRIP = in_space(5 * SHARES, 0.25 * RNG.uniform(size=120))
RING = in_space(3 * np.cos(ANGLES), 3 * np.sin(ANGLES))
ARC = in_space(3 * np.cos(ANGLES / 2), 3 * np.sin(ANGLES / 2))
SQUARE = in_space(*RNG.uniform(size=(2, 200)))
CUBE = in_space(*RNG.uniform(size=(3, 300)))
CLUMPS = np.repeat(RNG.normal(size=(5, 6)), 30, axis=0) + 1e-4 * RNG.normal(size=(150, 6))


def test_a_segment_has_its_length_and_no_width():
    found = attractor_geometry(SEGMENT)
    assert found.kind == "line"
    assert found.length == pytest.approx(2 * np.ptp(SHARES), rel=1e-9)
    assert found.width == pytest.approx(0, abs=1e-9)
    assert found.turning == pytest.approx(0, abs=1e-5)
    assert found.elongation > 1e6
    assert found.dimension == pytest.approx(1)
    assert found.local_dimension == pytest.approx(1)
    np.testing.assert_allclose(found.arc, found.points[:, 0] - found.points[:, 0].min(), atol=1e-9)


def test_the_width_of_a_strip_is_its_breadth():
    found = attractor_geometry(STRIP)
    assert found.kind == "line"
    assert found.length == pytest.approx(5 * np.ptp(SHARES), rel=0.02)
    assert found.width == pytest.approx(0.25, rel=0.1)
    assert found.elongation == pytest.approx(20, rel=0.1)


def test_a_ring_has_its_circumference():
    found = attractor_geometry(RING)
    assert found.kind == "ring"
    assert found.length == pytest.approx(6 * np.pi, rel=0.02)
    assert found.turning == pytest.approx(2 * np.pi, rel=1e-3)
    assert found.curvature == pytest.approx(1 / 3, rel=0.02)
    assert found.dimension == pytest.approx(2, abs=0.1)
    assert found.local_dimension == pytest.approx(1, abs=0.1)
    angle = np.arctan2(found.points[:, 1], found.points[:, 0])
    around = np.exp(1j * (2 * np.pi * found.arc / found.length))
    turned = [np.abs(np.mean(around * np.exp(sign * 1j * angle))) for sign in (1, -1)]
    assert max(turned) > 0.99  # the position along the curve is the angle


def test_a_half_circle_is_a_line_that_turns_by_half_a_turn():
    found = attractor_geometry(ARC)
    assert found.kind == "line"
    assert found.length == pytest.approx(3 * np.pi * np.ptp(SHARES), rel=0.02)
    assert found.curvature == pytest.approx(1 / 3, rel=0.1)
    assert found.dimension > 1.2


def test_a_square_is_a_plane_and_a_cube_is_neither():
    square, cube = attractor_geometry(SQUARE), attractor_geometry(CUBE)
    assert (square.kind, cube.kind) == ("plane", "cloud")
    assert square.flatness == float("inf")
    assert cube.flatness == pytest.approx(1, abs=0.2)
    assert square.dimension == pytest.approx(2, abs=0.1)
    assert cube.dimension == pytest.approx(3, abs=0.2)


def test_clumps_are_points_as_many_as_there_are():
    found = attractor_geometry(CLUMPS)
    assert (found.kind, found.number) == ("discrete", 5)
    assert np.isnan(found.local_dimension)


def test_no_point_one_point_two_points():
    none = attractor_geometry(np.zeros((0, 4)))
    assert np.isnan(none.extent)
    assert (none.kind, none.number, none.points.shape) == ("none", 0, (0, 4))
    assert np.isnan([none.length, none.width, none.elongation, none.curvature, none.crossing_time]).all()
    one = attractor_geometry(np.ones((9, 4)))
    assert (one.kind, one.number, one.length, one.width, len(one.points)) == ("point", 1, 0, 0, 1)
    assert np.isnan(one.elongation)
    two = attractor_geometry(np.array([[0.0, 0], [3, 4]]), drift=np.array([[0.3, 0.4], [-3, -4]]))
    assert (two.kind, two.number, two.length, two.width) == ("discrete", 2, pytest.approx(5), pytest.approx(0))
    np.testing.assert_allclose(two.arc, [0, 5], atol=1e-12)
    np.testing.assert_allclose(two.drift, [0.5, -5])


def test_against_the_scale_of_the_states_a_short_line_is_a_point():
    assert attractor_geometry(SEGMENT, scale=4.0).kind == "line"
    assert attractor_geometry(SEGMENT, scale=100.0).kind == "point"


def test_points_apart_are_a_piece_of_their_own():
    found = attractor_geometry(np.concatenate([in_space([9.0]), SEGMENT]))
    assert found.extent == pytest.approx(9 - SEGMENT[:, 0].min(), abs=0.02)
    assert (found.kind, found.number) == ("line", 2)
    assert found.length == pytest.approx(2 * np.ptp(SHARES), rel=0.02)
    assert found.piece[0] == 1
    assert np.isnan(found.arc[0])
    assert np.isnan(found.tangents[0]).all()
    assert set(found.piece[1:]) == {0}


@pytest.mark.parametrize(
    "points", [SEGMENT, STRIP, RING, ARC, CUBE, CLUMPS], ids=["segment", "strip", "ring", "arc", "cube", "clumps"]
)
def test_rotations_shifts_and_the_order_of_points_change_nothing(points):
    turned = points[np.random.default_rng(1).permutation(len(points))] @ ortho_group.rvs(6, random_state=2) + 7.0
    one, other = attractor_geometry(points), attractor_geometry(turned)
    assert (one.kind, one.number) == (other.kind, other.number)
    for figure in ("dimension", "local_dimension", "length", "turning", "width"):
        tolerance = 0.05 * one.length if figure == "width" else 0.05
        assert getattr(other, figure) == pytest.approx(getattr(one, figure), rel=0.05, abs=tolerance, nan_ok=True)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_lengths_grow_with_the_states_and_shapes_do_not(factor):
    one, other = attractor_geometry(STRIP), attractor_geometry(STRIP * factor)
    assert other.length == pytest.approx(one.length * factor)
    assert other.curvature == pytest.approx(one.curvature / factor)
    assert (other.kind, other.elongation, other.dimension) == (
        one.kind,
        pytest.approx(one.elongation),
        pytest.approx(one.dimension),
    )


def test_planted_drift_and_readout_are_found():
    along = np.array([1.0, 0, 0, 0, 0, 0])
    across = np.array([0, 1.0, 0, 0, 0, 0])
    drift = np.tile(0.02 * along + 0.5 * across, (len(SEGMENT), 1))
    readout = np.tile(np.stack([across + along, -across - along]), (len(SEGMENT), 1, 1))
    found = attractor_geometry(SEGMENT, drift, readout=readout)
    # The last readout falls where the first coordinate grows, so the curve runs the other way.
    np.testing.assert_allclose(found.drift, -0.02, atol=1e-9)
    assert found.arc[found.points[:, 0].argmax()] == pytest.approx(0, abs=1e-9)
    assert found.crossing_time == pytest.approx(found.length / 0.02)
    assert found.alignment == pytest.approx(np.sqrt(0.5))
    assert attractor_geometry(SEGMENT, readout=readout[:, :, [1, 0, 2, 3, 4, 5]]).alignment == pytest.approx(
        np.sqrt(0.5)
    )
    blind = attractor_geometry(SEGMENT, readout=np.tile(across, (len(SEGMENT), 1, 1)))
    assert blind.alignment == pytest.approx(0)
    assert attractor_geometry(SEGMENT, readout=np.tile(along, (len(SEGMENT), 1, 1))).alignment == pytest.approx(1)


def test_drift_around_a_ring_has_one_sign():
    turning = np.stack([-RING[:, 1], RING[:, 0]], axis=1) * 0.1
    found = attractor_geometry(RING, drift=in_space(*turning.T))
    assert len(np.unique(np.sign(found.drift))) == 1
    np.testing.assert_allclose(np.abs(found.drift), 0.3, rtol=0.02)


@pytest.mark.parametrize(
    ("points", "more", "message"),
    [
        (np.zeros(4), {}, r"points must be .* \[points, units\]"),
        (np.full((3, 2), np.nan), {}, "finite"),
        (SEGMENT, {"drift": SEGMENT[:4]}, "give one vector a point"),
        (SEGMENT, {"readout": SEGMENT}, r"\[P, K, H\]"),
        (SEGMENT, {"scale": 0.0}, "the scale is 0.0: it must be above 0"),
    ],
)
def test_what_is_no_set_of_points_is_refused(points, more, message):
    with pytest.raises(DynamoError, match=message):
        attractor_geometry(points, **more)
