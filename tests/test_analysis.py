"""Spectrum and clusters against closed forms."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist, squareform

from dynamo import DynamoError
from dynamo.analysis.geometry.clusters import group_agreement
from dynamo.analysis.geometry.spectrum import placed, spectrum, spectrum_of_distances


def test_spectrum_of_points_with_a_known_covariance():
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((200, 3))
    scores -= scores.mean(0)
    scores, _ = np.linalg.qr(scores)
    axes, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    theta = 7 + scores @ np.diag([3.0, 2.0, 1.0]) @ axes[:, :3].T * np.sqrt(199)
    found = spectrum(theta)
    np.testing.assert_allclose(found.eigenvalues, [9, 4, 1, 0, 0], atol=1e-10)
    np.testing.assert_allclose(found.shares[:3], np.array([9, 4, 1]) / 14)
    assert (found.components_for(0.6), found.components_for(0.9), found.components_for()) == (1, 2, 3)
    assert found.participation_ratio == pytest.approx(14**2 / (81 + 16 + 1))
    np.testing.assert_allclose(np.abs(np.diag(found.components[:3] @ axes[:, :3])), 1)
    np.testing.assert_allclose(found.coordinates @ found.components + theta.mean(0), theta)


def test_spectrum_agrees_with_scikit_learn():
    from sklearn.decomposition import PCA

    theta = np.random.default_rng(1).standard_normal((7, 16))
    reference = PCA().fit(theta)
    np.testing.assert_allclose(spectrum(theta).eigenvalues, reference.explained_variance_[:6])


def test_one_model_and_equal_models_have_an_empty_and_a_flat_spectrum():
    alone = spectrum(np.ones((1, 4)))
    assert alone.eigenvalues.shape == (0,)
    assert alone.components_for() == 0
    same = spectrum(np.ones((3, 4)))
    np.testing.assert_allclose(same.eigenvalues, 0)
    assert np.isfinite(same.shares).all()


def test_groups_that_lie_apart_are_found_whatever_their_names():
    rng = np.random.default_rng(2)
    theta = rng.standard_normal((20, 4)) * 0.1 + np.repeat([[0.0], [5.0]], 10, axis=0)
    found = group_agreement(theta, ["b"] * 10 + ["a"] * 10)
    assert (found.groups, found.ari) == (2, 1.0)
    assert found.silhouette > 0.9


def test_shuffled_groups_agree_no_better_than_chance():
    rng = np.random.default_rng(3)
    theta = rng.standard_normal((20, 4)) * 0.1 + np.repeat([[0.0], [5.0]], 10, axis=0)
    groups = np.repeat(["b", "a"], 10)
    aris = [group_agreement(theta, rng.permutation(groups)).ari for _ in range(200)]
    assert abs(np.mean(aris)) < 0.02


def test_groups_that_cannot_be_compared_are_told():
    with pytest.raises(DynamoError, match="4 models in 1 groups"):
        group_agreement(np.zeros((4, 2)), ["a"] * 4)
    with pytest.raises(DynamoError, match="4 models in 4 groups"):
        group_agreement(np.zeros((4, 2)), list("abcd"))


def test_distances_between_points_have_their_principal_components():
    points = np.random.default_rng(0).normal(size=(12, 4)) * [4, 2, 1, 0.5]
    found, wanted = spectrum_of_distances(squareform(pdist(points))), spectrum(points)
    np.testing.assert_allclose(found.eigenvalues, wanted.eigenvalues)
    np.testing.assert_allclose(np.abs(found.coordinates), np.abs(wanted.coordinates), atol=1e-8)
    assert (found.coordinates.max(axis=0) == np.abs(found.coordinates).max(axis=0)).all()
    assert found.components_for() == wanted.components_for()


def test_distances_of_one_place_have_no_coordinates():
    for count in (1, 5):
        found = spectrum_of_distances(np.zeros((count, count)))
        assert found.coordinates.shape == (count, 0)
        assert found.components_for() == 0
        assert placed(found, np.zeros((2, count))).shape == (2, 0)


def test_further_points_are_projected_and_the_others_stay():
    old, new = np.random.default_rng(1).normal(size=(9, 3)), np.random.default_rng(2).normal(size=(4, 5))
    old = np.pad(old, ((0, 0), (0, 2)))  # in three of five dimensions
    places = spectrum_of_distances(squareform(pdist(old)))
    found = placed(places, cdist(np.vstack([new, old[:2]]), old))
    np.testing.assert_allclose(found[4:], places.coordinates[:2], atol=1e-9)
    new[:, 3:] = 0
    np.testing.assert_allclose(found[:4], placed(places, cdist(new, old)), atol=1e-9)
    np.testing.assert_allclose(cdist(found[:4], places.coordinates), cdist(new, old))
