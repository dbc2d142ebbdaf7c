"""Small populations whose truth is known by construction; see ``ground_truth.py``."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dynamo import Dataset, Examples, Inputs, InputSpace, OutputSpace, Population, RecurrentModel, Trajectory
from dynamo.population.base_model import BaseModel
from dynamo.population.scores import task_loss
from dynamo.registry import make
from dynamo_rnn.models import GRU, TanhRNN, TorchRecurrent

# Models. -------------------------------------------------------------------------------------------------------------


class SmallRNN(RecurrentModel):
    """h' = (1 − a) h + a φ(W x + U h), with φ = tanh, or the identity: then a linear RNN. The readout is linear."""

    def __init__(
        self,
        inputs: InputSpace,
        outputs: OutputSpace,
        weights: Sequence[Tensor],
        leak: float = 1.0,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.leak, self.activation = inputs, outputs, leak, activation
        self.from_input, self.from_state, self.to_output = (nn.Parameter(weight.float()) for weight in weights)
        self.state_shapes = ((len(self.from_state),),)

    def encode(self, values: Tensor) -> Tensor:
        return values

    def initial_state(self, batch: int) -> Tensor:
        return self.from_state.new_zeros(batch, len(self.from_state))

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        moved = self.activation(x @ self.from_input.T + h @ self.from_state.T)
        return (1 - self.leak) * h + self.leak * moved

    def readout(self, h: Tensor) -> Tensor:
        return h @ self.to_output.T

    def trajectory(self, inputs: Inputs) -> Trajectory:
        h, states = self.initial_state(len(inputs)), []
        for x in inputs.values.unbind(1):
            h = self.step(x, h)
            states.append(h)
        stacked = torch.stack(states, dim=1)
        return Trajectory((stacked,), self.readout(stacked), inputs.mask)


def identity(values: Tensor) -> Tensor:
    return values


def linear(inputs: InputSpace, outputs: OutputSpace, hidden: int) -> SmallRNN:
    weights = (torch.randn(hidden, inputs.size) / 4, 0.9 * nn.init.orthogonal_(torch.empty(hidden, hidden)))
    return SmallRNN(inputs, outputs, (*weights, torch.randn(outputs.size, hidden) / hidden**0.5), activation=identity)


def gru(inputs: InputSpace, outputs: OutputSpace, hidden: int) -> GRU:
    embedding = nn.Embedding(inputs.size, 32) if inputs.kind == "tokens" else None
    rnn = nn.GRU(inputs.size if embedding is None else 32, hidden, batch_first=True)
    return GRU(inputs, outputs, rnn, nn.Linear(hidden, outputs.size), embedding)


def tanh(inputs: InputSpace, outputs: OutputSpace, hidden: int) -> TanhRNN:
    return TanhRNN(inputs, outputs, nn.RNN(inputs.size, hidden, batch_first=True), nn.Linear(hidden, outputs.size))


MAKERS: dict[str, Callable[[InputSpace, OutputSpace, int], Any]] = {
    "tanh": tanh,
    "gru": gru,
    "linear": linear,
    "width": gru,
}


def trained(kind: str, data: Dataset, hidden: int, share: float, seed: int, steps: int = 150) -> Any:
    """A network after some steps of Adam on a share of the training half, all of it in every batch."""
    half = data.halves()[0]
    half = half[: round(share * len(half))]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MAKERS[kind](data.inputs, data.outputs, hidden)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(steps):
            outputs = model.trajectory(half.inputs).at_readout(model.outputs.readout)
            loss = task_loss(outputs, half.targets, half.inputs.mask, model.outputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


# Copies that compute the same. ---------------------------------------------------------------------------------------


@torch.no_grad()
def rewired(model: TorchRecurrent, source: Tensor, into: Tensor, out: Tensor) -> TorchRecurrent:
    """A network whose unit i is ``into[i]`` times the model's unit ``source[i]``, and is read with ``out[i]`` times the
    weight of that.

    It computes the same where, for every unit of the model, into · out sums to 1 over its copies. ``into`` is 0 or 1,
    and for tanh units −1 too.
    """
    copy = (tanh if isinstance(model, TanhRNN) else gru)(model.inputs, model.outputs, len(source))
    old, new = model.rnn, copy.rnn
    gates = len(old.weight_hh_l0) // old.hidden_size

    def rows(tensor: Tensor) -> Tensor:
        by_gate = tensor.reshape(gates, old.hidden_size, -1)[:, source] * into[:, None]
        return by_gate.reshape(gates * len(source), -1)

    new.weight_ih_l0.copy_(rows(old.weight_ih_l0))
    new.weight_hh_l0.copy_(rows(old.weight_hh_l0)[:, source] * out)
    new.bias_ih_l0.copy_(rows(old.bias_ih_l0)[:, 0])
    new.bias_hh_l0.copy_(rows(old.bias_hh_l0)[:, 0])
    copy.readout_layer.weight.copy_(model.readout_layer.weight[:, source] * out)
    copy.readout_layer.bias.copy_(model.readout_layer.bias)
    if model.embedding is not None and copy.embedding is not None:
        copy.embedding.load_state_dict(model.embedding.state_dict())
    return copy.eval().requires_grad_(False)


def permuted(model: TorchRecurrent, seed: int) -> TorchRecurrent:
    """Units in another order; of tanh units, about half are flipped in sign too."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randperm(model.rnn.hidden_size, generator=generator)
    signs = torch.ones(len(source))
    if isinstance(model, TanhRNN):
        signs = 2.0 * torch.randint(2, (len(source),), generator=generator) - 1
    return rewired(model, source, signs, signs)


def conjugated(model: SmallRNN, seed: int) -> SmallRNN:
    """A linear RNN in another orthonormal basis: Q W, Q U Qᵀ, C Qᵀ."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(*model.from_state.shape, generator=generator))[0]
    weights = (turn @ model.from_input, turn @ model.from_state @ turn.T, model.to_output @ turn.T)
    copy = SmallRNN(model.inputs, model.outputs, weights, activation=identity)
    return copy.eval().requires_grad_(False)


def widened(model: TorchRecurrent, dead: int, times: int) -> TorchRecurrent:
    """Every unit there several times, and dead units beside them."""
    units = torch.arange(model.rnn.hidden_size)
    source = torch.cat([units.repeat(times), torch.zeros(dead, dtype=torch.long)])
    into = torch.cat([torch.ones(len(units) * times), torch.zeros(dead)])
    return rewired(model, source, into, into / times)


# Populations. --------------------------------------------------------------------------------------------------------


def copies_of(kind: str, hidden: int = 16, originals: int = 4, dataset: str = "digits-rows") -> Population:
    """Networks with their twins and copies, labelled with ``original`` and ``copy``."""
    data = make("dataset", dataset, Dataset)
    models = []
    for number in range(originals):
        original = trained(kind, data, hidden, share=(1.0, 0.1)[number % 2], seed=number)
        if kind == "width":
            copies = [widened(original, dead, times) for dead, times in ((8, 1), (0, 2), (16, 2))]
        else:
            change = conjugated if kind == "linear" else permuted
            copies = [change(original, seed) for seed in (2 * number, 2 * number + 1)]
        for copy, model in enumerate([original, original, *copies]):
            labels = {"original": number, "copy": ("none", "twin")[copy] if copy < 2 else "copy"}
            models.append(BaseModel(f"{kind}-{number}-{copy}", model, data, labels))
    return Population(models)


def noise(features: int, outputs: int, steps: int, examples: int = 600) -> Dataset:
    """Sequences of noise, whose targets nobody reads."""
    generator = torch.Generator().manual_seed(0)

    def part(count: int) -> Examples:
        inputs = Inputs(torch.randn(count, steps, features, generator=generator), torch.ones(count, steps).bool())
        return Examples(inputs, torch.randn(count, steps, outputs, generator=generator))

    space = OutputSpace("real", outputs, "every", "noise")
    return Dataset(InputSpace("real", (features,)), space, part(examples), part(examples // 3))


def leaks(count: int = 16, hidden: int = 32, steps: int = 12) -> Population:
    """One leaky tanh RNN at several leaks."""
    data, generator = noise(2, 3, steps), torch.Generator().manual_seed(0)
    sizes = ((hidden, 2, 1.0), (hidden, hidden, 1.2 / hidden**0.5), (3, hidden, 1 / hidden**0.5))
    weights = [scale * torch.randn(rows, columns, generator=generator) for rows, columns, scale in sizes]
    return family(
        {
            leak: SmallRNN(data.inputs, data.outputs, weights, leak)
            for leak in np.linspace(0.1, 1, count).round(4).tolist()
        },
        data,
    )


def rotations(count: int = 16, hidden: int = 16, steps: int = 20) -> Population:
    """A damped rotation of the plane at several frequencies, each in a frame of its own."""
    data, generator = noise(1, 1, steps), torch.Generator().manual_seed(0)
    models = {}
    for angle in np.linspace(0.1, 1, count).round(4).tolist():
        frame = torch.linalg.qr(torch.randn(hidden, 2, generator=generator))[0]
        cosine, sine = np.cos(angle), np.sin(angle)
        turn = 0.95 * torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float32)
        weights = (frame @ torch.tensor([[1.0], [0.0]]), frame @ turn @ frame.T, torch.tensor([[1.0, 0.0]]) @ frame.T)
        models[angle] = SmallRNN(data.inputs, data.outputs, weights, activation=identity)
    return family(models, data)


def family(models: dict[float, SmallRNN], data: Dataset) -> Population:
    return Population(
        [
            BaseModel(f"at-{value:g}", model.eval().requires_grad_(False), data, {"parameter": value})
            for value, model in models.items()
        ]
    )
