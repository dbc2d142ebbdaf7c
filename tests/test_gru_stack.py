"""Stacks of GRUs against torch's layers, and what a bidirectional one cannot do."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dynamo import (
    DynamicalModel,
    DynamoError,
    FitOptions,
    Inputs,
    InputSpace,
    Population,
    RecurrentMetaModel,
    Trainer,
    Trajectory,
    measure_fidelity,
)
from dynamo.analysis.dynamics.constant_input import recurrent
from dynamo.contracts.protocols import MetaModel
from dynamo.fit.fit import Fit
from dynamo.population.base_model import BaseModel
from dynamo.registry import make
from dynamo.testing import check_meta_model, example_inputs
from problems import dataset, population

REAL, TOKENS = InputSpace("real", (2,)), InputSpace("tokens", (7,))
BOTH = ",bidirectional=true"


def build(options="", inputs=REAL, theta_dim=3, name="gru-stack"):
    torch.manual_seed(0)
    return make("meta-model", f"{name}:hidden_size=4,embedding_size=5{options}", MetaModel, inputs, theta_dim).eval()


def given(space=REAL, dtype=torch.float64):
    inputs = example_inputs(space, batch=6)
    return Inputs(inputs.values.to(dtype) if space.kind == "real" else inputs.values, inputs.mask)


@pytest.mark.parametrize("space", [REAL, TOKENS], ids=["real", "tokens"])
@pytest.mark.parametrize("options", ["", ",layers=1", ",layers=3", BOTH, f",layers=3{BOTH}"])
def test_the_contract(options, space):
    check_meta_model(build(options, space), rebuild=lambda: build(options, space))


@pytest.mark.parametrize("space", [REAL, TOKENS], ids=["real", "tokens"])
def test_one_layer_in_one_direction_is_the_gru(space):
    stack, gru = build(",layers=1", space), build("", space, name="gru")
    gru.rnn.load_state_dict(stack.layers[0][0].state_dict())
    if gru.embedding is not None:
        gru.embedding.load_state_dict(stack.embedding.state_dict())
    inputs, theta = given(space, torch.float32), torch.randn(6, 3)
    found, wanted = (model.states(inputs, theta)[0][inputs.mask] for model in (stack, gru))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("both", [False, True])
def test_without_theta_the_layers_are_those_of_torch(both):
    stack, inputs = build(f",layers=3,bidirectional={both}").double(), given()
    below, lengths = inputs.values, inputs.mask.sum(1)
    states = stack.states(inputs, torch.zeros(6, 3, dtype=torch.float64))
    for layer, state in zip(stack.layers, states, strict=True):
        own = nn.GRU(below.shape[-1], 4, batch_first=True, bidirectional=both, dtype=torch.float64)
        for part, suffix in zip(layer, ("", "_reverse"), strict=False):
            weights = {f"{name}{suffix}": value for name, value in part.state_dict().items()}
            weights[f"weight_ih_l0{suffix}"] = weights[f"weight_ih_l0{suffix}"][:, :-3]  # without θ's share
            own.load_state_dict(weights, strict=False)
        packed = pack_padded_sequence(below, lengths, batch_first=True, enforce_sorted=False)
        below = pad_packed_sequence(own(packed)[0], batch_first=True)[0]
        torch.testing.assert_close(state[inputs.mask], below[inputs.mask])


def test_the_fast_way_gives_the_states_and_gradients_of_torchs_layer():
    stack, inputs, theta = build(BOTH).double(), given(), torch.randn(6, 3, dtype=torch.float64)
    found = []
    for is_plain in (False, True):
        stack.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_plain):  # autocast leaves double precision alone
            states = torch.stack(stack.states(inputs, theta))[:, inputs.mask]
        states.square().sum().backward()
        found.append([states, *(part.grad.clone() for part in stack.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("both", [False, True])
def test_a_later_step_changes_earlier_states_in_both_directions_only(both):
    stack, inputs, theta = build(f",bidirectional={both}").double(), given(), torch.randn(6, 3, dtype=torch.float64)
    values = inputs.values.clone()
    values[0, -1] += 1
    one, other = (stack.states(each, theta)[-1][0, :-1] for each in (inputs, inputs.with_values(values)))
    assert torch.equal(one, other) != both


@pytest.mark.parametrize("both", [False, True])
def test_padding_changes_nothing_real(both):
    stack, inputs, theta = build(f",bidirectional={both}").double(), given(), torch.randn(6, 3, dtype=torch.float64)
    other = inputs.with_values(torch.where(inputs.mask[:, :, None], inputs.values, 1e6))
    for one, another in zip(stack.states(inputs, theta), stack.states(other, theta), strict=True):
        torch.testing.assert_close(one[inputs.mask], another[inputs.mask], rtol=1e-12, atol=1e-12)


class Whole(DynamicalModel):
    """Its state at every step is the mean of the whole sequence, which no step knows before the last."""

    def __init__(self, data):
        super().__init__()
        self.inputs, self.outputs, self.state_shapes = data.inputs, data.outputs, ((2,),)
        self.readout = nn.Linear(2, 3)

    def trajectory(self, inputs):
        real = inputs.values * inputs.mask[:, :, None]
        mean = (real.sum(1) / inputs.mask.sum(1, keepdim=True))[:, None].expand_as(real)
        return Trajectory((mean,), self.readout(mean), inputs.mask)


@pytest.mark.parametrize(
    ("meta_model", "sees_all"),
    [
        ("gru:hidden_size=16", False),
        ("gru-stack:hidden_size=16,layers=1", False),
        ("gru-stack:hidden_size=12,layers=1,bidirectional=true", True),
        ("transformer:hidden_size=16,heads=2,layers=1,causal=true", False),
        ("transformer:hidden_size=16,heads=2,layers=1", True),
    ],
)
def test_only_a_meta_model_that_sees_later_steps_imitates_one_that_does(meta_model, sees_all):
    data = dataset(examples=400, steps=4)
    models = Population([BaseModel("whole", Whole(data).eval().requires_grad_(False), data)])
    options = FitOptions(meta_model=meta_model, theta_dim=2, batch_size=64, steps=250, learning_rate=1e-2)
    trainer = Trainer(models, options)
    trainer.run()
    (found,) = measure_fidelity(Fit.of(trainer), models).models
    # What the past tells of the whole is about half of its variance.
    assert found.hidden_r2 > 0.75 if sees_all else found.hidden_r2 < 0.65


@pytest.mark.parametrize("options", ["", BOTH])
def test_it_has_no_fixed_points_and_says_why(options):
    assert not isinstance(build(options), RecurrentMetaModel)
    spec = f"gru-stack:hidden_size=4{options}"
    trainer = Trainer(population(), FitOptions(meta_model=spec, sites="pool", theta_dim=2, steps=1))
    trainer.run()
    with pytest.raises(DynamoError, match=r"a MetaGRUStack has no step\(\) and so no fixed points"):
        recurrent(Fit.of(trainer).model_at("m0"))
