"""The minGRU meta-model and its recurrence against their defining equations."""

import pytest
import torch

import dynamo_mingru.recurrence
from dynamo import DynamoError, FitOptions, Inputs, InputSpace, Trainer
from dynamo.contracts.protocols import MetaModel
from dynamo.registry import make
from dynamo.testing import check_meta_model, example_inputs
from dynamo_mingru.recurrence import in_pairs, recurrence, step_by_step
from problems import population

REAL, TOKENS = InputSpace("real", (2,)), InputSpace("tokens", (7,))
SOLVERS = [step_by_step, in_pairs]


@pytest.fixture(params=SOLVERS, ids=["step_by_step", "in_pairs"])
def solver(request, monkeypatch):
    """Makes the recurrence use either way on the CPU."""
    monkeypatch.setattr(dynamo_mingru.recurrence, "step_by_step", request.param)


def build(options="", inputs=REAL, theta_dim=3):
    torch.manual_seed(0)
    spec = "mingru:hidden_size=4,embedding_size=5" + options
    return make("meta-model", spec, MetaModel, inputs, theta_dim).eval()


def coefficients(steps, dtype=torch.float64, batch=3, units=2):
    generator = torch.Generator().manual_seed(steps)
    a = torch.rand(batch, steps, units, generator=generator, dtype=dtype)
    return a, torch.randn(batch, steps, units, generator=generator, dtype=dtype)


def by_definition(a, b):
    """h_t = Σ_s b_s Π_{s<r≤t} a_r, every state from the inputs alone."""
    steps = range(a.shape[1])
    return torch.stack([sum(b[:, s] * a[:, s + 1 : t + 1].prod(1) for s in range(t + 1)) for t in steps], dim=1)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 9, 33])
def test_the_recurrence_is_the_sum_of_all_decayed_inputs(solver, steps):
    a, b = coefficients(steps)
    before = a.clone(), b.clone()
    torch.testing.assert_close(recurrence(a, b), by_definition(a, b), rtol=1e-12, atol=1e-12)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


@pytest.mark.parametrize("steps", [1, 2, 5, 8])
def test_its_gradients_are_those_of_finite_differences(solver, steps):
    given = [tensor[:2].requires_grad_() for tensor in coefficients(steps)]
    assert torch.autograd.gradcheck(recurrence, given)
    assert torch.autograd.gradgradcheck(recurrence, given)


def test_its_gradients_are_those_of_the_definition(solver):
    found, wanted = coefficients(33), coefficients(33)
    weights = torch.randn(3, 33, 2, dtype=torch.float64)
    for function, given in ((recurrence, found), (by_definition, wanted)):
        (function(*(tensor.requires_grad_() for tensor in given)) * weights).sum().backward()
    torch.testing.assert_close([part.grad for part in found], [part.grad for part in wanted], rtol=1e-10, atol=1e-10)


def test_gates_that_forget_all_or_nothing_stay_exact_over_long_times(solver):
    """Where a logarithm or a quotient would fail: a = 0 and a = 1 in single precision, over 4,000 steps."""
    b = torch.ones(1, 4000, 3)
    a = torch.tensor([0.0, 1.0, 1e-30]).expand_as(b).clone().requires_grad_()
    h = recurrence(a, b)
    h.sum().backward()
    count = torch.arange(1.0, 4001)
    assert torch.equal(h[0].T, torch.stack([torch.ones(4000), count, torch.ones(4000)]))
    assert torch.equal(a.grad[0, 1:, 0], torch.ones(3999))
    assert bool(a.grad.isfinite().all())


def test_the_round_of_pairs_is_shallow(monkeypatch):
    """It calls itself log₂ T times, where the loop takes T steps."""
    calls, original = [], in_pairs
    monkeypatch.setattr(dynamo_mingru.recurrence, "in_pairs", lambda *given: calls.append(1) or original(*given))
    a, b = coefficients(1024)
    dynamo_mingru.recurrence.in_pairs(a[:, 1:], b)
    assert len(calls) == 11


@pytest.mark.parametrize(("device", "way"), [("cpu", "step_by_step"), ("meta", "in_pairs")])
def test_the_device_chooses_the_way(device, way, monkeypatch):
    calls = []
    for solve in SOLVERS:
        name = solve.__name__
        monkeypatch.setattr(dynamo_mingru.recurrence, name, lambda *given, name=name: calls.append(name) or given[1])
    a, b = (tensor.to(device) for tensor in coefficients(9))
    assert recurrence(a, b).device.type == device
    assert calls == [way]


@pytest.mark.parametrize("space", [REAL, TOKENS])
@pytest.mark.parametrize("options", ["", ",layers=1", ",layers=3"])
def test_the_contract(options, space, solver):
    check_meta_model(build(options, space), rebuild=lambda: build(options, space))


def test_a_layer_is_the_published_update():
    model = build(",layers=1")
    x, theta, h = torch.randn(6, 2), torch.randn(6, 3), torch.randn(6, 4)
    layer, u = model.layers[0], torch.cat([x, theta], dim=1)
    (w, v), (b, c) = layer.gates.weight.chunk(2), layer.gates.bias.chunk(2)
    keep, proposed = torch.sigmoid(u @ w.T + b), torch.tanh(u @ v.T + c)
    z = 1 - keep
    torch.testing.assert_close(model.step(theta, x, h), (1 - z) * h + z * proposed)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_steps_and_all_times_at_once_agree(solver, dtype, tolerance):
    model = build(",layers=3").to(dtype)
    values, theta = torch.randn(5, 200, 2, dtype=dtype), torch.randn(5, 3, dtype=dtype)
    states = model.states(Inputs(values, torch.ones(5, 200, dtype=torch.bool)), theta)[0]
    h = model.initial_state(5)
    assert torch.equal(h, torch.zeros(5, 12, dtype=dtype))
    for t, x in enumerate(model.encode(values).unbind(1)):
        h = model.step(theta, x, h)
        torch.testing.assert_close(states[:, t], h, rtol=0, atol=tolerance)


def test_one_layer_is_affine_in_its_own_past_and_two_are_not():
    for layers in (1, 2):
        model = build(f",layers={layers}").double()
        x, theta = torch.randn(1, 2, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)
        one, other = torch.randn(2, 1, 4 * layers, dtype=torch.float64)
        middle = model.step(theta, x, (one + other) / 2)
        mean = (model.step(theta, x, one) + model.step(theta, x, other)) / 2
        assert torch.allclose(middle[:, :4], mean[:, :4], rtol=0, atol=1e-12)
        assert torch.allclose(middle, mean, rtol=0, atol=1e-6) == (layers == 1)


def test_padding_reaches_no_real_step_and_no_gradient():
    model, inputs = build(), example_inputs(REAL)
    theta = torch.randn(len(inputs), 3)
    other = inputs.with_values(torch.where(inputs.mask[:, :, None], inputs.values, 1e6))
    found = []
    for given in (inputs, other):
        model.zero_grad()
        states = model.states(given, theta)[0][inputs.mask]
        states.square().sum().backward()
        found.append([states, *(parameter.grad.clone() for parameter in model.parameters())])
    torch.testing.assert_close(*found)


def test_bfloat16_does_not_stop_the_forgetting():
    """1 − z of 0.999 would round to 1 there; the state would grow without end instead of going to h̃."""
    model = build(",layers=1")
    with torch.no_grad():
        model.layers[0].gates.weight.zero_()
        model.layers[0].gates.bias.copy_(torch.tensor([7.0] * 4 + [1.0] * 4))
    inputs = Inputs(torch.zeros(1, 8000, 2), torch.ones(1, 8000, dtype=torch.bool))
    with torch.autocast("cpu", torch.bfloat16):
        states = model.states(inputs, torch.zeros(1, 3))[0]
    torch.testing.assert_close(states[0, -1], torch.tensor([1.0] * 4).tanh(), rtol=0, atol=0.01)


def test_it_is_fitted_and_held_at_a_theta():
    models = population()
    options = FitOptions(
        meta_model="mingru:hidden_size=8", models_per_step=None, batch_size=24, steps=60, learning_rate=1e-2
    )
    trainer = Trainer(models, options)
    trainer.run()
    losses = [row[2] for row in trainer.history]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mingru:layers=0", "meta-model 'mingru': option 'layers' is 0: it must be above 0"),
        ("mingru:hidden_size=1", "option 'hidden_size' is 1: it must be above 1"),
        ("mingru:hidden=5", "meta-model 'mingru' has no option 'hidden': did you mean 'hidden_size'"),
        ("mingru:layers=two", "option 'layers' is 'two': it must be int"),
    ],
)
def test_bad_options_are_refused(spec, message):
    with pytest.raises(DynamoError) as error:
        make("meta-model", spec, MetaModel, REAL, 3)
    assert message in str(error.value)


def test_images_are_refused():
    with pytest.raises(DynamoError, match="'mingru' reads sequences of tokens or of real vectors, not image input"):
        build(inputs=InputSpace("image", (3, 8, 8)))
