"""Divergences against values worked out by hand and against scipy."""

from math import e, log, sqrt

import numpy as np
import pytest
import torch
from scipy import special
from scipy.spatial import distance

from dynamo import Divergence, DynamoError
from dynamo.registry import make, registry

A = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
B = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
NAMES = ["cosine", "huber", "js", "kl", "l1", "l2"]
ALL = [*NAMES, "l2:squared=false", "l1:reduction=mean", "l2:reduction=mean", "kl:temperature=3"]


def d(text: str) -> Divergence:
    return make("divergence", text, Divergence)


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_all_are_registered():
    assert set(NAMES) <= set(registry().names("divergence"))


# Values by hand: differences 3, -4, 0.
HAND = {
    "l1": 7.0,
    "l1:reduction=mean": 7 / 3,
    "l2": 25.0,
    "l2:reduction=mean": 25 / 3,
    "l2:squared=false": 5.0,
    "l2:squared=false,reduction=mean": 5 / sqrt(3),
    "huber": 2.5 + 3.5,  # |x| - 1/2 beyond 1
    "huber:delta=3": 4.5 + 3 * (4 - 1.5),  # x²/2 up to 3
    "huber:delta=10,reduction=mean": 12.5 / 3,
}


@pytest.mark.parametrize(("text", "value"), HAND.items())
def test_vectors_by_hand(text, value):
    a, b = vector(1, -2, 5), vector(-2, 2, 5)
    assert float(d(text)(a, b)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ((1, 0), (5, 0), 0),
        ((1, 0), (0, 2), 1),
        ((1, 1), (-2, -2), 2),
        ((1, 0), (1, 1), 1 - 1 / sqrt(2)),
        ((0, 0), (0, 0), 0),
        ((0, 0), (3, 4), 1),
        ((3, 4), (0, 0), 1),
    ],
)
def test_cosine_by_hand(a, b, value):
    assert float(d("cosine")(vector(*a), vector(*b))) == pytest.approx(value, abs=1e-12)


def test_cosine_of_close_vectors_keeps_its_digits():
    assert float(d("cosine")(vector(1, 0), vector(1, 1e-9))) == pytest.approx(5e-19, rel=1e-6)


def test_kl_by_hand():
    # softmax(log 1, log 3) = (1/4, 3/4): KL((1/2, 1/2) || (1/4, 3/4))
    prediction, target = vector(0, log(3)), vector(0, 0)
    assert float(d("kl")(prediction, target)) == pytest.approx(0.5 * log(2) + 0.5 * log(2 / 3))
    # and the other way round
    assert float(d("kl")(target, prediction)) == pytest.approx(0.25 * log(1 / 2) + 0.75 * log(3 / 2))


def test_kl_temperature_divides_logits_and_multiplies_by_its_square():
    assert torch.allclose(d("kl:temperature=4")(4 * A, 4 * B), 16 * d("kl")(A, B))


def test_kl_at_high_temperature_keeps_its_scale():
    # For T → ∞, T² KL tends to the variance of the difference of logits over K, halved.
    limit = (A - B).var(-1, unbiased=False) / 2
    assert torch.allclose(d("kl:temperature=1e4")(A, B), limit, rtol=1e-3)


def test_js_by_hand():
    # Distributions without overlap are ln 2 apart.
    assert float(d("js")(vector(0, 800), vector(800, 0))) == pytest.approx(log(2))
    p, q = 0.5, e / (1 + e)
    m = (p + q) / 2
    terms = [x * log(x / y) for x, y in ((p, m), (1 - p, 1 - m), (q, m), (1 - q, 1 - m))]
    assert float(d("js")(vector(0, 0), vector(1, 0))) == pytest.approx(sum(terms) / 2)


def test_kl_against_scipy():
    p, q = special.softmax(B.numpy(), -1), special.softmax(A.numpy(), -1)
    assert np.allclose(d("kl")(A, B).numpy(), special.rel_entr(p, q).sum(-1), rtol=1e-10)


def test_js_against_scipy():
    p, q = special.softmax(B.numpy(), -1), special.softmax(A.numpy(), -1)
    assert np.allclose(d("js")(A, B).numpy(), distance.jensenshannon(p, q, axis=-1) ** 2, rtol=1e-8)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("cosine", distance.cosine),
        ("l1", distance.cityblock),
        ("l2", distance.sqeuclidean),
        ("l2:squared=false", distance.euclidean),
        ("huber:delta=0.7", lambda a, b: special.huber(0.7, a - b).sum()),
    ],
)
def test_vectors_against_scipy(text, reference):
    expected = [
        [reference(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(A.numpy(), B.numpy(), strict=True)
    ]
    assert np.allclose(d(text)(A, B).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("text", ALL)
def test_gradient_between_equals_is_zero(text):
    a = A.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(d(text)(a, A).sum(), a)
    assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-12)


@pytest.mark.parametrize(
    ("text", "change", "invariant"),
    [
        ("cosine", lambda x: 3 * x, True),
        ("cosine", lambda x: x + 1, False),
        ("l2", lambda x: 3 * x, False),
        ("kl", lambda x: x + 1, True),
        ("kl", lambda x: 3 * x, False),
        ("js", lambda x: x + 1, True),
        ("js", lambda x: 3 * x, False),
    ],
)
def test_what_changes_a_divergence_and_what_does_not(text, change, invariant):
    assert torch.allclose(d(text)(change(A), B), d(text)(A, B)) == invariant


@pytest.mark.parametrize("text", ["l1", "l2", "huber", "l2:squared=false", "cosine"])
def test_vectors_turn_with_their_units(text):
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert torch.allclose(d(text)(A[..., order], B[..., order]), d(text)(A, B))
    assert not torch.allclose(d(text)(A[..., order], B), d(text)(A, B))


DECLARED = {
    "l1": ("any", True, True),
    "l1:reduction=mean": ("any", True, True),
    "l2": ("any", True, False),
    "l2:squared=false": ("any", True, True),
    "huber": ("any", True, False),
    "cosine": ("any", True, False),
    "kl": ("logits", False, False),
    "js": ("logits", True, False),
}


@pytest.mark.parametrize(("text", "declared"), DECLARED.items())
def test_declarations(text, declared):
    made = d(text)
    assert (made.domain, made.is_symmetric, made.is_metric) == declared


@pytest.mark.parametrize("text", ["l2", "huber", "kl", "js"])
def test_what_is_declared_no_metric_breaks_the_triangle_inequality(text):
    a, b = 0.1 * A, 0.1 * B
    direct, detour = d(text)(a, b), d(text)(a, (a + b) / 2) + d(text)((a + b) / 2, b)
    assert (direct > detour).any()


def test_the_root_of_js_keeps_the_triangle_inequality():
    c = A.flip(-1)
    for middle in (c, (A + B) / 2):
        assert (d("js")(A, B).sqrt() <= d("js")(A, middle).sqrt() + d("js")(middle, B).sqrt() + 1e-12).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("huber:delta=0", "divergence 'huber': option 'delta' is 0.0: it must be above 0"),
        ("kl:temperature=-1", "divergence 'kl': option 'temperature' is -1.0"),
        ("l1:reduction=man", "divergence 'l1': option 'reduction' is 'man': did you mean 'mean'"),
        ("js:temperature=2", "divergence 'js' has no option 'temperature'"),
    ],
)
def test_wrong_options_are_named(text, message):
    with pytest.raises(DynamoError) as error:
        d(text)
    assert str(error.value).startswith(message)
