"""Contracts of everything that runs over batches of inputs: base models, and meta-models at thetas."""

from collections.abc import Callable

import torch
from torch import Tensor

from dynamo.contracts.spaces import InputSpace
from dynamo.contracts.trajectory import Inputs
from dynamo.testing.claims import Answers, claim, claim_answers_close
from dynamo.testing.inputs import changed, padded, real_steps

#: From inputs and thetas ``[B, d]``, one a row, to tensors ``[B, T, ...]`` by name. Base models ignore the thetas.
Run = Callable[[Inputs, Tensor], Answers]


def check_arguments_unchanged(run: Run, inputs: Inputs, thetas: Tensor) -> None:
    """A run does not write into its inputs or thetas."""
    arguments = {"the values": inputs.values, "the mask": inputs.mask, "theta": thetas}
    before = {name: tensor.clone() for name, tensor in arguments.items()}
    run(inputs, thetas)
    for name, tensor in arguments.items():
        claim(torch.equal(before[name], tensor), f"purity: a call changes {name} it is given, in place")


def check_batch_independence(run: Run, inputs: Inputs, thetas: Tensor) -> None:
    """An example alone has the trajectory that it has in a batch."""
    together = run(inputs, thetas)
    for row in range(len(inputs)):
        rows = slice(row, row + 1)
        claim_answers_close(
            _real(run(inputs[rows], thetas[rows]), inputs[rows]),
            _real({name: tensor[rows] for name, tensor in together.items()}, inputs[rows]),
            "batch independence: an example alone differs from the same example in a batch",
        )


def check_padding(run: Run, inputs: Inputs, thetas: Tensor, space: InputSpace) -> None:
    """What stands in padded steps, and how many there are, changes nothing at real steps."""
    expected = _real(run(inputs, thetas), inputs)
    other = changed(inputs, ~inputs.mask, space)
    claim_answers_close(_real(run(other, thetas), other), expected, "padding: the values of padded steps matter")
    longer = padded(inputs, 3)
    claim_answers_close(_real(run(longer, thetas), longer), expected, "padding: the number of padded steps matters")


def check_causality(run: Run, inputs: Inputs, thetas: Tensor, space: InputSpace) -> None:
    """Inputs change nothing before their step."""
    steps = inputs.mask.shape[1]
    expected = run(inputs, thetas)
    for step in range(1, steps):
        later = (torch.arange(steps, device=inputs.mask.device) >= step).expand_as(inputs.mask)
        past = inputs.mask[:, :step]
        got = run(changed(inputs, later, space), thetas)
        claim_answers_close(
            {name: tensor[:, :step][past] for name, tensor in got.items()},
            {name: tensor[:, :step][past] for name, tensor in expected.items()},
            f"causality: the inputs from step {step} on change what was before it",
        )


def _real(answers: Answers, inputs: Inputs) -> Answers:
    return {name: real_steps(tensor, inputs) for name, tensor in answers.items()}
