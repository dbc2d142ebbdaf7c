"""The recurrent base models and the GRU meta-model against their defining equations."""

import pytest
import torch
from torch import nn

from dynamo import DynamoError, Inputs, InputSpace, OutputSpace, Population, record
from dynamo.contracts.protocols import DynamicalModel, MetaModel
from dynamo.registry import make
from dynamo_rnn.models import GRU, LSTM, TanhRNN

REAL, TOKENS = InputSpace("real", (2,)), InputSpace("tokens", (7,))
OUTPUTS = OutputSpace("classes", 3)


def build(kind, inputs=REAL, hidden=4):
    return make("architecture", f"{kind}:hidden_size={hidden},embedding_size=5", DynamicalModel, inputs, OUTPUTS).eval()


def test_gru_step_is_the_textbook_update():
    model, x, h = build("gru"), torch.randn(6, 2), torch.randn(6, 4)
    w, u, b, c = model.rnn.weight_ih_l0, model.rnn.weight_hh_l0, model.rnn.bias_ih_l0, model.rnn.bias_hh_l0
    (wr, wz, wn), (ur, uz, un), (br, bz, bn), (cr, cz, cn) = (part.chunk(3) for part in (w, u, b, c))
    r = torch.sigmoid(x @ wr.T + br + h @ ur.T + cr)
    z = torch.sigmoid(x @ wz.T + bz + h @ uz.T + cz)
    n = torch.tanh(x @ wn.T + bn + r * (h @ un.T + cn))
    torch.testing.assert_close(model.step(x, h), (1 - z) * n + z * h)


def test_tanh_step_is_the_textbook_update():
    model, x, h = build("rnn"), torch.randn(6, 2), torch.randn(6, 4)
    layer = model.rnn
    wanted = torch.tanh(x @ layer.weight_ih_l0.T + layer.bias_ih_l0 + h @ layer.weight_hh_l0.T + layer.bias_hh_l0)
    torch.testing.assert_close(model.step(x, h), wanted)


def test_lstm_trajectory_holds_what_torchs_layer_gives():
    model, values = build("lstm"), torch.randn(6, 9, 2)
    trajectory = model.trajectory(Inputs(values, torch.ones(6, 9, dtype=torch.bool)))
    hidden, (_, cell) = model.rnn(values)
    torch.testing.assert_close(trajectory.states[0][..., :4], hidden)
    torch.testing.assert_close(trajectory.states[0][:, -1, 4:], cell[0])
    torch.testing.assert_close(trajectory.outputs, model.readout_layer(hidden))


@pytest.mark.parametrize(("cls", "layer"), [(GRU, nn.GRU), (TanhRNN, nn.RNN), (LSTM, nn.LSTM)])
def test_a_users_own_modules_become_a_base_model(cls, layer):
    embedding, rnn, readout = nn.Embedding(7, 5), layer(5, 4, batch_first=True), nn.Linear(4, 3)
    model = cls(TOKENS, OUTPUTS, rnn, readout, embedding)
    tokens = torch.randint(7, (6, 9))
    torch.testing.assert_close(model(tokens), readout(rnn(embedding(tokens))[0][:, -1]))


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ((nn.LSTM(2, 4, batch_first=True), nn.Linear(4, 3)), "is a LSTM; this class takes a GRU"),
        ((nn.GRU(2, 4), nn.Linear(4, 3)), "must be batch-first"),
        ((nn.GRU(2, 4, 2, batch_first=True), nn.Linear(4, 3)), "one layer"),
        ((nn.GRU(3, 4, batch_first=True), nn.Linear(4, 3)), "takes 3 features a step; its inputs have 2"),
        ((nn.GRU(2, 4, batch_first=True), nn.Linear(4, 2)), "it must map 4 units to 3 outputs"),
    ],
)
def test_modules_that_do_not_fit_are_refused(modules, message):
    with pytest.raises(DynamoError, match=message):
        GRU(REAL, OUTPUTS, *modules)


def test_token_inputs_need_an_embedding_of_their_vocabulary():
    with pytest.raises(DynamoError, match="an embedding of 7 tokens"):
        GRU(TOKENS, OUTPUTS, nn.GRU(5, 4, batch_first=True), nn.Linear(4, 3), nn.Embedding(6, 5))
    with pytest.raises(DynamoError, match="not image input"):
        build("gru", InputSpace("image", (3, 8, 8)))


def test_dropout_acts_in_training_alone():
    spec = "gru:hidden_size=4,dropout=0.5"
    model = make("architecture", spec, DynamicalModel, REAL, OUTPUTS)
    values = torch.randn(6, 9, 2)
    assert not torch.equal(model(values), model(values))
    model.eval()
    assert torch.equal(model(values), model(values))


@pytest.mark.parametrize("space", [REAL, TOKENS])
def test_theta_is_a_bias_that_does_not_change_with_time(space):
    """B.1: the meta-model at θ is a GRU on x alone whose input bias is b + W_θ θ."""
    meta = make("meta-model", "gru:hidden_size=6,embedding_size=5", MetaModel, space, 3)
    theta = torch.randn(3)
    values = torch.randn(4, 8, 2) if space is REAL else torch.randint(7, (4, 8))
    x = meta.encode(values)
    plain = nn.GRU(x.shape[2], 6, batch_first=True)
    with torch.no_grad():
        weight = meta.rnn.weight_ih_l0
        plain.weight_ih_l0.copy_(weight[:, : x.shape[2]])
        plain.bias_ih_l0.copy_(meta.rnn.bias_ih_l0 + weight[:, x.shape[2] :] @ theta)
        plain.weight_hh_l0.copy_(meta.rnn.weight_hh_l0)
        plain.bias_hh_l0.copy_(meta.rnn.bias_hh_l0)
    inputs = Inputs(values, torch.ones(4, 8, dtype=torch.bool))
    torch.testing.assert_close(meta.states(inputs, theta.expand(4, -1))[0], plain(x)[0])


def test_the_meta_model_starts_where_theta_does_not_reach():
    meta = make("meta-model", "gru:hidden_size=6", MetaModel, REAL, 3)
    assert torch.equal(meta.initial_state(5), torch.zeros(5, 6))


def small_gru(readout: nn.Module) -> GRU:
    inputs, outputs = InputSpace("real", (8,)), OutputSpace("classes", 10, group="digits")
    return GRU(inputs, outputs, nn.GRU(8, 6, batch_first=True), readout)


def test_a_readout_may_be_any_module_and_is_checked_where_it_is_recorded():
    deep = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 10))
    (recording,) = record(Population.of({"a": small_gru(deep)}, data="digits-rows"))
    assert recording.trajectory.outputs.shape[-1] == 10
    narrow = nn.Sequential(nn.Linear(6, 7))
    with pytest.raises(DynamoError, match=r"model 'a'.*outputs have shape .*the contract says .*10\)"):
        record(Population.of({"a": small_gru(narrow)}, data="digits-rows"))


@pytest.mark.parametrize("precision", [torch.float64, torch.bfloat16, torch.float16])
def test_weights_of_another_precision_are_told_with_the_remedy(precision):
    model = small_gru(nn.Linear(6, 10)).to(precision)
    kind = str(precision).removeprefix("torch.")
    with pytest.raises(DynamoError, match=rf"model 'a'.*its weights are {kind}: give model\.float\(\)"):
        record(Population.of({"a": model}, data="digits-rows"))
