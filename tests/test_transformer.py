"""The Transformer meta-model against torch's own layers and its equations."""

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from dynamo import Dataset, DynamoError, Examples, Fit, FitOptions, Inputs, InputSpace, OutputSpace, Population, Trainer
from dynamo.contracts.protocols import DynamicalModel, MetaModel
from dynamo.registry import make
from dynamo.testing import check_meta_model, example_inputs
from dynamo_transformer.meta import Conditioned
from problems import population

REAL, TOKENS = InputSpace("real", (2,)), InputSpace("tokens", (7,))
KINDS = ["bias", "film", "prefix"]


def build(options="", inputs=TOKENS, theta_dim=3, dtype=torch.float64):
    torch.manual_seed(0)
    layers = "" if "layers=" in options else ",layers=2"
    spec = f"transformer:hidden_size=8,heads=2{layers}{options}"
    return make("meta-model", spec, MetaModel, inputs, theta_dim).to(dtype).eval()


def given(space=TOKENS, batch=5, steps=7, seed=0):
    inputs = example_inputs(space, batch=batch, steps=steps, seed=seed)
    values = inputs.values.double() if space.kind == "real" else inputs.values
    return Inputs(values, inputs.mask)


def thetas(batch=5, size=3):
    return torch.randn(batch, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("space", [REAL, TOKENS], ids=["real", "tokens"])
@pytest.mark.parametrize("causal", ["", ",causal=true"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_contract(kind, causal, space):
    options = f",conditioning={kind}{causal}"
    check_meta_model(
        build(options, space, dtype=torch.float32), rebuild=lambda: build(options, space, dtype=torch.float32)
    )


@pytest.mark.parametrize("options", [",positions=learned", ",sites=1", ",layers=3,sites=2,widening=1"])
def test_the_contract_with_other_options(options):
    check_meta_model(build(options, dtype=torch.float32))


def as_torch(block):
    """torch's own encoder layer with the weights of a block."""
    size = block.attention.leaving.in_features
    inner = block.perceptron[0].out_features
    layer = nn.TransformerEncoderLayer(
        size, block.attention.heads, inner, 0.0, "gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    pairs = {
        "self_attn.in_proj_": block.attention.entering,
        "self_attn.out_proj.": block.attention.leaving,
        "linear1.": block.perceptron[0],
        "linear2.": block.perceptron[2],
        "norm1.": block.before_attention.norm,
        "norm2.": block.before_perceptron.norm,
    }
    layer.load_state_dict(
        {f"{name}{part}": value for name, own in pairs.items() for part, value in own.state_dict().items()}
    )
    return layer


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["bias", "film"])
def test_at_theta_zero_the_blocks_are_torchs_encoder_layers(kind, causal):
    model, inputs = build(f",conditioning={kind},causal={causal}"), given()
    for parameter in model.parameters():  # torch's biases of attention start at 0
        nn.init.normal_(parameter, std=0.5)
    states = model.states(inputs, torch.zeros(5, 3, dtype=torch.float64))
    x = model.encode(inputs.values)
    x = x + model.positions(x)
    later = torch.ones(7, 7, dtype=torch.bool).triu(1) if causal else None
    for block, state in zip(model.blocks, states, strict=True):
        x = as_torch(block)(x, src_mask=later, src_key_padding_mask=None if causal else ~inputs.mask)
        torch.testing.assert_close(state[inputs.mask], x[inputs.mask], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.features(states), model.norm(states[-1]))


def test_theta_scales_and_shifts_what_is_normalised():
    x, theta = torch.randn(5, 4, 6, dtype=torch.float64), thetas()
    normalised = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    for kind in ("bias", "film"):
        part = Conditioned(6, 3, kind).double()
        shift = (theta @ part.shift.weight.T)[:, None]
        scale = 1 + (theta @ part.scale.weight.T)[:, None] if kind == "film" else 1.0
        torch.testing.assert_close(part(x, theta), scale * normalised + shift)
    assert torch.equal(Conditioned(6, 3, "prefix").double()(x, theta), Conditioned(6, 3, "prefix").double().norm(x))


@pytest.mark.parametrize("causal", [False, True])
def test_a_prefix_is_one_more_step_that_all_see(causal):
    model, inputs, theta = build(f",conditioning=prefix,causal={causal}"), given(), thetas()
    attention = model.blocks[0].attention
    u = torch.randn(5, 7, 8, dtype=torch.float64)
    found = attention(u, theta, model._seen(inputs.mask))
    query, key, value = (u @ part.T + bias for part, bias in _parts(attention))
    before = attention.prefix(theta)
    keys = torch.cat([(before @ _parts(attention)[1][0].T + _parts(attention)[1][1])[:, None], key], dim=1)
    values = torch.cat([(before @ _parts(attention)[2][0].T + _parts(attention)[2][1])[:, None], value], dim=1)
    wanted = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = query[..., head] @ keys[..., head].mT / 2  # the root of 4 units
        allowed = torch.ones(7, 7, dtype=torch.bool).tril() if causal else inputs.mask[:, None]
        scores[:, :, 1:] = scores[:, :, 1:].masked_fill(~allowed, -torch.inf)
        wanted.append(scores.softmax(-1) @ values[..., head])
    wanted = attention.leaving(torch.cat(wanted, dim=-1))
    torch.testing.assert_close(found, wanted)


def _parts(attention):
    return list(zip(attention.entering.weight.chunk(3), attention.entering.bias.chunk(3), strict=True))


def test_sinusoidal_positions_are_the_published_ones():
    x = torch.zeros(1, 30, 8, dtype=torch.float64)
    found = build().positions(x)
    for step in (0, 1, 29):
        for pair in range(4):
            angle = torch.tensor(step / 10_000 ** (2 * pair / 8))
            torch.testing.assert_close(found[step, pair].float(), angle.sin(), rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(found[step, 4 + pair].float(), angle.cos(), rtol=1e-5, atol=1e-6)


def test_sequences_longer_than_the_table_are_refused_and_sines_go_on():
    inputs = given(steps=9)
    learned = build(",positions=learned,longest=8")
    assert learned.states(given(steps=8), thetas())[0].shape == (5, 8, 8)
    with pytest.raises(DynamoError, match="learnt positions for 8 steps, and a sequence has 9: raise longest"):
        learned.states(inputs, thetas())
    assert build(",longest=8").states(inputs, thetas())[0].shape == (5, 9, 8)


def test_under_autocast_the_states_keep_single_precision():
    model, inputs, theta = build("", REAL, dtype=torch.float32), example_inputs(REAL), torch.randn(5, 3)
    wanted = model.states(inputs, theta)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.states(inputs, theta)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert not torch.equal(one, other)
        torch.testing.assert_close(one[inputs.mask], other[inputs.mask], rtol=0, atol=0.05)


def test_a_fit_to_sequences_that_are_too_long_is_refused_before_anything_is_recorded():
    models = population(steps=6)
    assert max(int(part.inputs.mask.sum(1).max()) for part in (models[0].data.train, models[0].data.test)) == 6
    spec = "transformer:hidden_size=8,heads=2,layers=1,positions=learned,longest="
    with pytest.raises(DynamoError, match=r"the data of model 'm0': .* positions for 5 steps, and a sequence has 6"):
        Trainer(models, FitOptions(meta_model=spec + "5"))
    assert Trainer(models, FitOptions(meta_model=spec + "6")).step == 0


def changed_last(inputs):
    values = inputs.values.clone()
    values[0, -1] = (values[0, -1] + 1) % 7
    return inputs.with_values(values)


@pytest.mark.parametrize("kind", KINDS)
def test_a_later_token_changes_no_earlier_state_of_a_decoder_and_those_of_an_encoder(kind):
    inputs = given()
    assert bool(inputs.mask[0].all())
    for causal in (True, False):
        model = build(f",conditioning={kind},causal={causal}")
        one, other = (model.states(each, thetas())[-1][0] for each in (inputs, changed_last(inputs)))
        assert torch.equal(one[:-1], other[:-1]) == causal
        assert not torch.equal(one[-1], other[-1])


@pytest.mark.parametrize("options", [",causal=false", ",causal=true", ",conditioning=prefix", ",positions=learned"])
def test_padding_reaches_no_real_step_and_no_gradient(options):
    model, inputs = build(options, REAL), given(REAL)
    other = inputs.with_values(torch.where(inputs.mask[:, :, None], inputs.values, 1e3))
    found = []
    for each in (inputs, other):
        model.zero_grad()
        states = torch.stack(model.states(each, thetas()))[:, inputs.mask]
        states.square().sum().backward()
        found.append([states, *(part.grad.clone() for part in model.parameters() if part.grad is not None)])
    assert len(found[0]) > 10
    for one, another in zip(*found, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-10, atol=1e-10)


def test_sites_are_spread_over_the_blocks_and_the_last_is_one():
    inputs = given()
    every = build(",layers=5").states(inputs, thetas())
    for sites, blocks in ((1, [5]), (2, [2, 5]), (4, [1, 2, 3, 5]), (5, [1, 2, 3, 4, 5])):
        model = build(f",layers=5,sites={sites}")
        assert len(model.state_shapes) == sites
        for state, block in zip(model.states(inputs, thetas()), blocks, strict=True):
            assert torch.equal(state, every[block - 1])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_finite_differences(kind):
    torch.manual_seed(0)
    spec = f"transformer:hidden_size=4,heads=2,layers=1,widening=1,conditioning={kind}"
    model, inputs = make("meta-model", spec, MetaModel, REAL, 2).double(), given(REAL, batch=2, steps=3)
    names, weights = zip(*model.named_parameters(), strict=True)

    def states(values, theta, *weights):
        held = dict(zip(names, weights, strict=True))
        found = torch.func.functional_call(
            _States(model), {f"model.{name}": held[name] for name in names}, (values, theta)
        )
        return found[inputs.mask]

    class _States(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, values, theta):
            return self.model.features(self.model.states(inputs.with_values(values), theta))

    at = [inputs.values.clone(), thetas(2, 2), *(weight.detach().clone() for weight in weights)]
    assert torch.autograd.gradcheck(states, [tensor.requires_grad_() for tensor in at])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("hidden_size=10,heads=4", "'heads' is 4: it must divide hidden_size, 10"),
        ("hidden_size=9,heads=3", "sinusoidal positions come in pairs"),
        ("layers=2,sites=3", "after 2 blocks only"),
        ("conditioning=gain", "conditioning"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said):
    with pytest.raises(DynamoError, match=said):
        make("meta-model", f"transformer:{options}", MetaModel, TOKENS, 2)


def test_images_are_refused():
    with pytest.raises(DynamoError, match="reads sequences of tokens or of real vectors, not image"):
        make("meta-model", "transformer", MetaModel, InputSpace("image", (3, 8, 8)), 2)


@pytest.mark.parametrize("meta_model", ["transformer:hidden_size=8,heads=2,layers=2", "gru-stack:hidden_size=4"])
def test_a_model_at_a_place_leaves_for_other_runtimes(meta_model):
    def part(seed):
        return Examples(example_inputs(TOKENS, batch=16, seed=seed), torch.arange(16) % 4)

    classes = OutputSpace("classes", 4)
    base = make("architecture", "gru:hidden_size=6,embedding_size=5", DynamicalModel, TOKENS, classes).eval()
    models = Population.of({"a": base.requires_grad_(False)}, Dataset(TOKENS, classes, part(0), part(1)))
    trainer = Trainer(models, FitOptions(meta_model=meta_model, sites="pool", theta_dim=3, batch_size=8, steps=2))
    trainer.run()
    model = Fit.of(trainer).model_at("a")
    inputs = example_inputs(TOKENS, batch=3)
    batch = {0: Dim("batch")}
    program = export(model, (inputs.values, inputs.mask), dynamic_shapes={"values": batch, "mask": batch})
    for count in (2, 9):
        other = example_inputs(TOKENS, batch=count, seed=5)
        wanted = model(other.values, other.mask)
        torch.testing.assert_close(program.module()(other.values, other.mask), wanted, rtol=0, atol=1e-5)
