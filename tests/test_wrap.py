"""Any module as a base model: states against hand-unrolled ones, and all the ways in which modules are called."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import dynamo
from dynamo import DynamicalModel, DynamoError, Inputs, InputSpace, OutputSpace, RecurrentModel
from dynamo.analysis import find_fixed_points
from dynamo.contracts import at_readout
from dynamo.population.wrapping.batches import as_batch
from dynamo.testing import check_model, check_recurrent_model, example_inputs
from dynamo_rnn.models import GRU, LSTM, TanhRNN

REAL = InputSpace("real", (3,))
TOKENS = InputSpace("tokens", (11,))


class Reader(nn.Module):
    """A recurrent network as people write them."""

    def __init__(self, layer=nn.GRU, last=True, tokens=False, packs=False, batch_first=True, **options):
        super().__init__()
        self.embedding = nn.Embedding(11, 3) if tokens else None
        self.rnn = layer(3, 5, batch_first=batch_first, **options)
        self.head = nn.Linear(
            (2 if options.get("bidirectional") and not last else 1) * (options.get("proj_size") or 5), 2
        )
        self.last, self.packs = last, packs

    def forward(self, x, lengths=None):
        x = x if self.embedding is None else self.embedding(x)
        if self.packs:
            x = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out, h = self.rnn(x)
        if self.packs:
            out, _ = pad_packed_sequence(out, batch_first=True)
        if self.last:
            h = h[0] if isinstance(h, tuple) else h
            return self.head(h[-1])
        return self.head(out)


def sequences(space=REAL):
    return example_inputs(space, batch=6, steps=7)


def unrolled(rnn, x):
    """All layers and directions of a recurrent layer of torch, step by step on one example ``[T, D]``."""
    cell = {"GRU": torch.gru_cell, "RNN_TANH": torch.rnn_tanh_cell, "RNN_RELU": torch.rnn_relu_cell}.get(rnn.mode)
    found = []
    for layer in range(rnn.num_layers):
        hidden = []
        for direction in range(1 + rnn.bidirectional):
            weights = rnn.all_weights[layer * (1 + rnn.bidirectional) + direction]
            h = c = torch.zeros(1, rnn.hidden_size)
            own = {}
            for t in range(len(x)) if direction == 0 else reversed(range(len(x))):
                if cell is None:
                    h, c = torch.lstm_cell(x[t : t + 1], (h, c), *weights)
                else:
                    h = cell(x[t : t + 1], h, *weights)
                own[t] = torch.cat([h, c], 1)[0] if cell is None else h[0]
            states = torch.stack([own[t] for t in range(len(x))])
            found.append(states)
            hidden.append(states[:, : rnn.hidden_size])
        x = torch.cat(hidden, 1)
    return torch.cat(found, 1)


@pytest.mark.parametrize("layer", [nn.GRU, nn.RNN, nn.LSTM])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True}],
    ids=["one", "layers", "directions", "both"],
)
@pytest.mark.parametrize("packs", [False, True])
def test_states_are_those_of_all_layers_and_directions_on_real_steps(layer, options, packs):
    torch.manual_seed(0)
    module, inputs = Reader(layer, last=False, packs=packs, **options), sequences()
    model = dynamo.wrap(module, inputs=REAL)
    run = model.trajectory(inputs)
    for example, length in enumerate(inputs.mask.sum(1).tolist()):
        expected = unrolled(module.rnn, inputs.values[example, :length])
        torch.testing.assert_close(run.states[0][example, :length], expected)
        alone = module(inputs.values[example : example + 1, :length], torch.tensor([length]))
        torch.testing.assert_close(run.outputs[example, :length], alone[0])
    assert isinstance(model, RecurrentModel) == (not options)
    check_model(model)


def test_a_module_that_packs_sorted_sequences_alone_is_run_length_by_length():
    class Sorted(Reader):
        def forward(self, x, lengths):
            packed = pack_padded_sequence(x, lengths, batch_first=True)  # enforces the order
            return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])

    torch.manual_seed(0)
    module, inputs = Sorted(last=False), sequences()
    run = dynamo.wrap(module, inputs=REAL).trajectory(inputs)
    for example, length in enumerate(inputs.mask.sum(1).tolist()):
        expected = unrolled(module.rnn, inputs.values[example, :length])
        torch.testing.assert_close(run.states[0][example, :length], expected)


def test_a_batch_of_one_long_sequence_among_short_ones_is_enough():
    mask = torch.zeros(5, 7, dtype=torch.bool)
    mask[:, 0] = mask[3] = True
    batch = (torch.randn(5, 7, 3), mask)
    assert isinstance(dynamo.wrap(Reader(), inputs=batch), RecurrentModel)
    assert dynamo.wrap(Reader(bidirectional=True), inputs=batch).plan.padding


@pytest.mark.parametrize(("layer", "plugin"), [(nn.GRU, GRU), (nn.RNN, TanhRNN), (nn.LSTM, LSTM)])
@pytest.mark.parametrize("space", [REAL, TOKENS], ids=["real", "tokens"])
@pytest.mark.parametrize("last", [True, False])
def test_a_network_is_the_same_wrapped_as_by_the_plugin(layer, plugin, space, last):
    torch.manual_seed(0)
    module, inputs = Reader(layer, last=last, tokens=space is TOKENS), sequences(space)
    outputs = OutputSpace("classes", 2, "last" if last else "every", group="same")
    wrapped = dynamo.wrap(module, inputs=space, outputs=outputs)
    own = plugin(space, outputs, module.rnn, module.head, module.embedding)
    with torch.no_grad():
        runs = wrapped.trajectory(inputs), own.trajectory(inputs)
        assert torch.equal(runs[0].states[0], runs[1].states[0])
        if layer is nn.LSTM and not last:  # the plugin runs the cell, the module the fused layer
            torch.testing.assert_close(runs[0].outputs[inputs.mask], runs[1].outputs[inputs.mask])
        else:
            assert torch.equal(runs[0].outputs, runs[1].outputs)
        x, h = own.encode(inputs.values), torch.randn(6, own.state_size)
        assert torch.equal(wrapped.encode(inputs.values), x)
        assert torch.equal(wrapped.step(x[:, 0], h), own.step(x[:, 0], h))
        torch.testing.assert_close(wrapped.readout(h), own.readout(h))
        assert torch.equal(wrapped.initial_state(6), own.initial_state(6))
    check_recurrent_model(wrapped)


def test_fixed_points_are_those_of_the_layer():
    torch.manual_seed(0)
    module = Reader(nn.RNN)
    model = dynamo.wrap(module, inputs=REAL).double()
    found = find_fixed_points(model, torch.zeros(3, dtype=torch.float64), torch.randn(8, 5, dtype=torch.float64))
    weight, bias = module.rnn.weight_hh_l0, module.rnn.bias_hh_l0 + module.rnn.bias_ih_l0
    assert bool(found.is_fixed.any())
    for point in found.states[found.is_fixed]:
        torch.testing.assert_close(torch.tanh(weight @ point + bias), point, atol=1e-6, rtol=0)


def test_a_learned_initial_state_is_the_first_state():
    class Learned(Reader):
        def __init__(self):
            super().__init__()
            self.h = nn.Parameter(torch.randn(5))

        def forward(self, x):
            return self.head(self.rnn(x, self.h.expand(1, len(x), -1).contiguous())[0])

    module = Learned()
    model = dynamo.wrap(module, inputs=REAL)
    assert torch.equal(model.initial_state(2)[1], module.h.detach())
    check_recurrent_model(model)


@pytest.mark.parametrize("options", [{"batch_first": False}, {"batch_first": False, "num_layers": 2}])
def test_the_order_of_the_axes_is_found_out(options):
    class TimeFirst(Reader):
        def forward(self, x):
            return self.head(self.rnn(x)[0])

    torch.manual_seed(0)
    module, inputs = TimeFirst(**options), sequences()
    model = dynamo.wrap(module, inputs=inputs.values)
    assert model.plan.feeding.layout == "time-batch"
    expected = unrolled(module.rnn, inputs.values[0])
    torch.testing.assert_close(model.trajectory(inputs).states[0][0], expected)
    check_model(model)


def test_convolutions_over_time_take_features_before_steps():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv1d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 5, 3, padding=1), nn.ReLU(inplace=True)
    )
    model, inputs = dynamo.wrap(module, inputs=REAL, states=["1", "2"]), sequences()
    run = model.trajectory(inputs)
    first = module[:2](inputs.values[:1].mT)
    torch.testing.assert_close(run.states[0][0], torch.cat([first, module[2](first)], 1)[0].mT)
    torch.testing.assert_close(run.outputs[0], module(inputs.values[:1].mT)[0].mT)
    check_model(model)  # a shorter sequence ends where it ends: padding does not reach it


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_and_its_padding_mask(batch_first):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first, dropout=0.3)
    module = nn.TransformerEncoder(layer, 3, enable_nested_tensor=batch_first)
    inputs = example_inputs(InputSpace("real", (8,)), batch=6, steps=7)
    model = dynamo.wrap(module, inputs=inputs.values)
    with torch.no_grad():
        run = model.eval().trajectory(inputs)
        both = dynamo.wrap(module, inputs=inputs.values, time="both").eval().trajectory(inputs)
        length = int(inputs.mask[1].sum())
        x = inputs.values[1:2, :length]
        for site, layer in enumerate(module.layers):
            x = layer(x if batch_first else x.transpose(0, 1))
            x = x if batch_first else x.transpose(0, 1)
            torch.testing.assert_close(both.states[site][1, :length], x[0])
    torch.testing.assert_close(run.states[0][1, :length], torch.cat([one[1, :length] for one in both.states], 1))
    assert not model.plan.padding  # the mask sees to it
    check_model(model)


class Blocks(nn.Module):
    """A network with like blocks, under the names of transformers."""

    def __init__(self, answers="output", blocks=3):
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(blocks))
        self.head, self.answers = nn.Linear(4, 2), answers

    def forward(self, input_ids, attention_mask=None, output_hidden_states=False, return_dict=True):
        x = self.embedding(input_ids)
        hidden = [x]
        for layer in self.encoder.layer:
            hidden.append(hidden[-1] + layer(hidden[-1]))
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        pooled = (hidden[-1] * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        logits = self.head(pooled)
        states = tuple(hidden) if output_hidden_states else None
        if self.answers == "named tuple":
            return namedtuple("Answer", "loss logits hidden_states")(None, logits, states)
        if self.answers == "dataclass":
            return Answered(logits, states)
        if self.answers == "dict":
            return {"hidden_states": states, "logits": logits}
        if self.answers == "ordered dict":
            return OrderedDict(logits=logits, hidden_states=states)
        return logits, states


@dataclass
class Answered:
    logits: torch.Tensor
    hidden_states: tuple | None = None


@pytest.mark.parametrize("answers", ["named tuple", "dataclass", "dict", "ordered dict"])
def test_answers_with_named_parts(answers):
    torch.manual_seed(0)
    module, inputs = Blocks(answers), sequences(TOKENS)
    model = dynamo.wrap(module, inputs=inputs)
    assert model.outputs == OutputSpace("classes", 2)
    assert model.inputs == TOKENS
    run = model.trajectory(inputs)
    assert model.state_shapes == ((12,),)
    short = int(inputs.mask[1].sum())
    alone = module(inputs.values[1:2, :short], output_hidden_states=True)
    logits, hidden = (
        (alone["logits"], alone["hidden_states"]) if "dict" in answers else (alone.logits, alone.hidden_states)
    )
    torch.testing.assert_close(run.states[0][1, :short], torch.cat(hidden[1:], -1)[0])
    torch.testing.assert_close(at_readout(run.outputs, run.mask, "last")[1], logits[0])
    check_model(model)


def test_globs_name_modules_by_part():
    module = Blocks()
    some = dynamo.wrap(module, inputs=TOKENS, states="encoder.layer.*", outputs="classes")
    assert some.plan.reading.names == ("encoder.layer.0", "encoder.layer.1", "encoder.layer.2")
    for pattern, wanted in (
        ("encoder.layer.[02]", ("encoder.layer.0", "encoder.layer.2")),
        ("**.1.1", ("encoder.layer.1.1",)),
        (["encoder.layer.1", "encoder.layer.0"], ("encoder.layer.0", "encoder.layer.1")),
        ("module.encoder.layer.1", ("encoder.layer.1",)),
        ("_orig_mod.encoder.layer.1", ("encoder.layer.1",)),
    ):
        assert dynamo.wrap(module, inputs=TOKENS, states=pattern).plan.reading.names == wanted


def test_blocks_as_time_are_averaged_over_real_steps():
    torch.manual_seed(0)
    module, inputs = Blocks(), sequences(TOKENS)
    model = dynamo.wrap(module, inputs=TOKENS, states="encoder.layer.*", time="blocks")
    run, steps = model.trajectory(inputs), dynamo.wrap(module, inputs=TOKENS, states="encoder.layer.*", time="both")
    states = steps.trajectory(inputs).states
    assert model.state_shapes == ((4,), (4,), (4,))
    assert run.mask.shape == (6, 1)
    for own, one in zip(run.states, states, strict=True):
        expected = torch.stack([one[n, : int(inputs.mask[n].sum())].mean(0) for n in range(6)])
        torch.testing.assert_close(own[:, 0], expected)
    check_model(model)


def test_a_function_gives_states_and_outputs():
    module, inputs = Blocks("dict"), sequences(TOKENS)
    model = dynamo.wrap(
        module,
        inputs=TOKENS,
        outputs="classes",
        call=lambda module, inputs: module(inputs.values, inputs.mask.long(), output_hidden_states=True),
        states=lambda answer: (answer["hidden_states"][-1], answer["logits"]),
    )
    run = model.trajectory(inputs)
    torch.testing.assert_close(run.states[0], module(inputs.values, output_hidden_states=True)["hidden_states"][-1])
    check_model(model)


def test_left_padding_is_right_padding():
    torch.manual_seed(0)
    inputs, model = sequences(TOKENS), dynamo.wrap(Blocks(), inputs=TOKENS, states="encoder.layer.*")
    lengths = inputs.mask.sum(1)
    left, mask = torch.full_like(inputs.values, 7), torch.zeros_like(inputs.mask)
    for row, length in enumerate(lengths.tolist()):
        left[row, 7 - length :], mask[row, 7 - length :] = inputs.values[row, :length], True
    turned = as_batch({"input_ids": left, "attention_mask": mask.long()}, "the batch")
    assert torch.equal(turned.mask, inputs.mask)
    assert torch.equal(turned.values * turned.mask, inputs.values)
    one, other = model.trajectory(turned), model.trajectory(inputs)
    assert torch.equal(one.states[0][inputs.mask], other.states[0][inputs.mask])
    torch.testing.assert_close(one.at_readout("last"), other.at_readout("last"))


def test_a_packed_batch_is_a_padded_one():
    inputs = sequences()
    packed = pack_padded_sequence(inputs.values, inputs.mask.sum(1), batch_first=True, enforce_sorted=False)
    turned = as_batch(packed, "the batch")
    assert torch.equal(turned.mask, inputs.mask)
    assert torch.equal(turned.values, inputs.values)


def test_a_module_that_takes_packed_sequences():
    class Packed(Reader):
        def forward(self, packed):
            out, _ = self.rnn(packed)
            return self.head(pad_packed_sequence(out, batch_first=True)[0])

    torch.manual_seed(0)
    module, inputs = Packed(last=False, bidirectional=True), sequences()
    model = dynamo.wrap(module, inputs=REAL)
    assert model.plan.feeding.layout == "packed"
    run = model.trajectory(inputs)
    for example, length in enumerate(inputs.mask.sum(1).tolist()):
        expected = unrolled(module.rnn, inputs.values[example, :length])
        torch.testing.assert_close(run.states[0][example, :length], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single_precision(dtype):
    module, inputs = Reader().to(dtype), sequences()
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    model = dynamo.wrap(module, inputs=REAL)
    single = Reader()
    single.load_state_dict({name: value.float() for name, value in weights.items()})
    assert torch.equal(
        model.trajectory(inputs).states[0], dynamo.wrap(single, inputs=REAL).trajectory(inputs).states[0]
    )
    assert all(value.dtype == dtype for value in module.state_dict().values())


def test_double_precision_stays_and_is_fitted_like_single():
    module = Reader().double()
    model = dynamo.wrap(module, inputs=REAL)
    assert model.trajectory(sequences()).states[0].dtype == torch.float64
    check_recurrent_model(model)


def test_what_training_tools_put_around_a_network_is_left_out():
    module = Reader()
    for outer in (nn.DataParallel(module), torch.compile(module), torch.compile(nn.DataParallel(module))):
        model = dynamo.wrap(outer, inputs=REAL, states="module.rnn")
        assert model.module is module
        assert torch.equal(model.trajectory(sequences()).states[0], module.rnn(sequences().values)[0])


def test_a_cell_that_is_called_once_a_step():
    class Loop(nn.Module):
        def __init__(self, cell):
            super().__init__()
            self.cell, self.head = cell, nn.Linear(5, 2)

        def forward(self, x):
            h, states = None, []
            for entering in x.unbind(1):
                h = self.cell(entering, h)
                states.append(h[0] if isinstance(h, tuple) else h)
            return self.head(torch.stack(states, 1))

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.take, self.keep = nn.Linear(3, 5), nn.Linear(5, 5)

        def forward(self, x, h):
            return torch.tanh(self.take(x) + (0 if h is None else self.keep(h)) + (self.keep.bias if h is None else 0))

    torch.manual_seed(0)
    for cell, step in ((nn.GRUCell(3, 5), None), (nn.LSTMCell(3, 5), None), (nn.RNNCell(3, 5), None), (Own(), "cell")):
        module = Loop(cell)
        model = dynamo.wrap(module, inputs=REAL, step=step)
        h, expected = None, []
        for entering in sequences().values.unbind(1):
            h = cell(entering, h)
            expected.append(torch.cat(h, 1) if isinstance(h, tuple) else h)
        torch.testing.assert_close(model.trajectory(sequences()).states[0], torch.stack(expected, 1))
        check_recurrent_model(model)


def test_vectors_and_images_go_through_blocks():
    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    x = torch.randn(6, 3)
    model = dynamo.wrap(mlp, inputs=x, states=["0", "1"])
    run = model.trajectory(Inputs(x[:, None], torch.ones(6, 1, dtype=torch.bool)))
    assert torch.equal(run.states[0][:, 0], mlp[0](x))  # and not what the activation in place makes of it
    assert torch.equal(run.outputs[:, 0], mlp(x))
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.randn(6, 1, 8, 8)
    model = dynamo.wrap(net, inputs=images, states=["1", "2"], outputs="classes")
    assert (model.inputs, model.state_shapes) == (InputSpace("image", (1, 8, 8)), ((4, 6, 6), (2, 4, 4)))
    assert torch.equal(model(images), net(images))
    check_model(model)


@pytest.mark.parametrize("time", ["steps", "blocks"])
def test_a_state_and_an_output_of_one_number_each(time):
    class Scalar(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.one = nn.Linear(3, 1), nn.Flatten(1)

        def forward(self, x):
            return self.one(self.layer(x)[..., 0]).cumsum(1)

    module, inputs = Scalar(), sequences()
    model = dynamo.wrap(module, inputs=REAL, states="one", time=time)
    assert (model.state_shapes, model.outputs.size) == (((1,),), 1)
    if time == "steps":
        torch.testing.assert_close(model.trajectory(inputs).outputs[..., 0], module(inputs.values))
    check_model(model)


def test_nothing_of_the_module_is_changed():
    module = Reader(nn.LSTM, num_layers=2, dropout=0.2)
    module.train()
    module.head.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    model = dynamo.wrap(module, inputs=REAL)
    model.trajectory(sequences())
    assert torch.equal(torch.get_rng_state(), random) or module.training
    assert [part.training for part in module.modules()] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    for part in module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
    with pytest.raises(RuntimeError):
        model.trajectory(Inputs(torch.zeros(2, 3, 9), torch.ones(2, 3, dtype=torch.bool)))
    assert not any(part._forward_hooks for part in module.modules())


def test_a_model_of_a_plugin_is_one_already():
    model = dynamo.component("architecture", "gru").make({}, REAL, OutputSpace("real", 2))
    assert dynamo.wrap(model, inputs=REAL) is model


def test_a_module_that_answers_once_answers_at_each_step_as_if_the_sequence_ended_there():
    torch.manual_seed(0)
    for options in ({}, {"num_layers": 2}):
        module, inputs = Reader(**options), sequences()
        outputs = dynamo.wrap(module, inputs=REAL).trajectory(inputs).outputs
        for steps in range(1, 8):
            torch.testing.assert_close(outputs[0, steps - 1], module(inputs.values[:1, :steps])[0])
    module = Reader(bidirectional=True)  # its states say nothing of that
    outputs = dynamo.wrap(module, inputs=REAL).trajectory(inputs).outputs
    torch.testing.assert_close(outputs[0], module(inputs.values[:1]).expand(7, -1))


class Mixes(nn.Module):
    """An example's answer depends on the others."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return self.layer(x - x.mean())


class Noisy(Reader):
    def forward(self, x):
        return self.rnn(x + torch.randn_like(x))[0]


class Writes(Reader):
    """Writes into its input."""

    def forward(self, x):
        return super().forward(x.mul_(2))


def broken():
    module = Reader()
    nn.init.constant_(module.rnn.weight_hh_l0, float("nan"))
    return module


def test_a_module_that_writes_into_its_input_gets_a_copy():
    torch.manual_seed(0)
    module, inputs = Writes(), sequences()
    before = inputs.values.clone()
    states = dynamo.wrap(module, inputs=REAL).trajectory(inputs).states[0]
    assert torch.equal(inputs.values, before)
    assert torch.equal(states, module.rnn(2 * before)[0])


def test_a_map_whose_input_depends_on_other_steps_is_not_the_one_map():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.GRU(3, 4, batch_first=True), nn.GRU(4, 5, batch_first=True)

        def forward(self, x):
            return self.second(self.first(x)[0])[0]

    class FedBack(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(5, 6), nn.Linear(6, 2)

        def forward(self, x):
            h, y, outputs = x.new_zeros(len(x), 6), x.new_zeros(len(x), 2), []
            for entering in x.unbind(1):
                h = self.cell(torch.cat([entering, y], 1), h)
                y = self.head(h)
                outputs.append(y)
            return torch.stack(outputs, 1)

    for model in (dynamo.wrap(Two(), inputs=REAL, states="second"), dynamo.wrap(FedBack(), inputs=REAL)):
        assert not isinstance(model, RecurrentModel)
        assert "depends on other steps" in model.why_no_map
        check_model(model)
    assert dynamo.wrap(Two(), inputs=REAL).state_shapes == ((9,),)


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 2, stride=2)

    def forward(self, x):
        return self.conv(x.mT).mT.mean(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dynamo.wrap({}, inputs=REAL), r"takes a torch module, not a dict; build the module and load_state"),
        (lambda: dynamo.wrap(Blocks(), inputs=TOKENS, states="encoder.layers.*"),
         r"the Blocks has no module 'encoder\.layers\.\*'.*in 'encoder' there is encoder\.layer"),
        (lambda: dynamo.wrap(Blocks(), inputs=TOKENS, states="haed"), "no module 'haed': did you mean 'head'"),
        (lambda: dynamo.wrap(Blocks(), inputs=TOKENS, states=[]), "name at least one"),
        (lambda: dynamo.wrap(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), inputs=REAL),
         r"not clear where the states of this Sequential are.*states='NAME'.*of 0, 1"),
        (lambda: dynamo.wrap(Noisy(), inputs=REAL), "answers differently when it is called again"),
        (lambda: dynamo.wrap(broken(), inputs=REAL), "gives NaN or infinite values"),
        (lambda: dynamo.wrap(torch.jit.script(nn.Sequential(nn.Linear(3, 4))), inputs=REAL, states="0"),
         "within a TorchScript program cannot be watched"),
        (lambda: dynamo.wrap(Mixes(), inputs=REAL, states="layer"), "answer depends on the other examples"),
        (lambda: dynamo.wrap(Strided(), inputs=REAL, states="conv", time="steps"), "3 steps for 7 of its"),
        (lambda: dynamo.wrap(Reader(), inputs=torch.randn(4, 7, 9)), r"cannot be run on inputs \(4, 7, 9\)"),
        (lambda: dynamo.wrap(Reader(), inputs=REAL, outputs=OutputSpace("classes", 3)), "2 outputs, not 3"),
        (lambda: dynamo.wrap(Reader(), inputs=REAL, outputs=OutputSpace("real", 2, "every")), "answers once"),
        (lambda: dynamo.wrap(Reader(), inputs=REAL, outputs="class"), "did you mean 'classes'"),
        (lambda: dynamo.wrap(Reader(), inputs=REAL, time="step"), "did you mean 'steps'"),
        (lambda: dynamo.wrap(Reader(), inputs=REAL, layout="batch"), "the layout is 'batch'"),
        (lambda: dynamo.wrap(Reader(num_layers=2), inputs=REAL, step="rnn"), "has 2 layers: fixed points are"),
        (lambda: dynamo.wrap(Reader(bidirectional=True), inputs=REAL, step="rnn"), "is bidirectional: fixed points"),
        (lambda: dynamo.wrap(Blocks(), inputs=TOKENS, step="head"), "runs 1 times for a sequence"),
        (lambda: dynamo.wrap(Blocks("dict"), inputs=TOKENS, answer="logit"), "no part 'logit': did you mean 'logits'"),
        (lambda: dynamo.wrap(Reader(), inputs={"frames": torch.zeros(2, 3, 3)}), "has frames; its inputs must"),
        (lambda: dynamo.wrap(Reader(), inputs=(torch.zeros(2, 4, 3), torch.tensor([[1, 0, 1, 1], [1, 1, 1, 1]]))),
         "example 0 has padding between real steps"),
        (lambda: dynamo.wrap(Reader(), inputs=[["a", "b"]]), "give a tensor or an array of numbers"),
    ],
)  # fmt: skip
def test_what_cannot_be_wrapped_says_what_and_how(call, message):
    with pytest.raises(DynamoError, match=message):
        call()


def test_two_layers_have_no_fixed_points_and_say_why():
    model = dynamo.wrap(Reader(num_layers=2), inputs=REAL)
    assert isinstance(model, DynamicalModel)
    assert not isinstance(model, RecurrentModel)
    with pytest.raises(DynamoError, match="the GRU 'rnn' has 2 layers: fixed points are those of one map"):
        find_fixed_points(model, torch.zeros(3), torch.zeros(2, 10))
