"""The contracts of meta-models."""

from collections.abc import Callable

import torch
from torch import Tensor

from dynamo.contracts.protocols import MetaModel, RecurrentMetaModel
from dynamo.contracts.trajectory import Inputs
from dynamo.testing.claims import Answers, claim, claim_answers_close, claim_close, claim_floats, gradients
from dynamo.testing.inputs import as_dtype, example_inputs, example_thetas, real_steps
from dynamo.testing.models import check_iteration
from dynamo.testing.modules import (
    check_calls,
    check_gradients,
    check_state_dict,
    double,
    evaluated,
    own_device,
    own_dtype,
    random_sum,
)
from dynamo.testing.runs import (
    check_arguments_unchanged,
    check_batch_independence,
    check_causality,
    check_padding,
)


def check_meta_model(
    meta_model: MetaModel, inputs: Inputs | None = None, *, rebuild: Callable[[], MetaModel] | None = None
) -> None:
    """Check the contract of :class:`dynamo.MetaModel`, and of :class:`dynamo.RecurrentMetaModel` where it is one.

    Args:
        meta_model: the meta-model, before training (afterwards a gradient may rightly vanish).
        inputs: what to run it on; see :func:`dynamo.testing.check_model`.
        rebuild: makes a new meta-model of the same options, to test that the state dict holds all that was learnt.

    Raises:
        AssertionError: a contract is broken; the message names it.

    Example:
        >>> from dynamo import InputSpace, component
        >>> from dynamo.testing import check_meta_model
        >>> check_meta_model(component("meta-model", "gru").make({"hidden_size": 4}, InputSpace("real", (3,)), 2))
    """
    claim(isinstance(meta_model, MetaModel), f"contract: {type(meta_model).__name__} is no MetaModel")
    inputs = (example_inputs(meta_model.inputs) if inputs is None else inputs).to(own_device(meta_model))
    thetas = example_thetas(len(inputs), meta_model.theta_dim).to(own_device(meta_model))

    def run(inputs: Inputs, thetas: Tensor) -> Answers:
        return _answers(meta_model, inputs, thetas)

    _check_native(evaluated(meta_model), as_dtype(inputs, own_dtype(meta_model)), thetas.to(own_dtype(meta_model)))

    inputs = as_dtype(inputs, torch.float64)
    meta_model = double(meta_model, lambda meta_model: _answers(meta_model, inputs, thetas))
    check_calls(meta_model, lambda meta_model: _answers(meta_model, inputs, thetas))
    _check_theta_per_example(meta_model, inputs, thetas)
    _check_theta_gradient(meta_model, inputs)
    check_batch_independence(run, inputs, thetas)
    if inputs.is_sequence:
        check_padding(run, inputs, thetas, meta_model.inputs)
    check_gradients(meta_model, lambda meta_model: _real_answers(meta_model, inputs, thetas))
    check_state_dict(meta_model, lambda meta_model: _answers(meta_model, inputs, thetas), rebuild)
    if isinstance(meta_model, RecurrentMetaModel):
        check_causality(run, inputs, thetas, meta_model.inputs)
        _check_recurrence(meta_model, inputs, thetas)


def _answers(meta_model: MetaModel, inputs: Inputs, thetas: Tensor) -> Answers:
    states = meta_model.states(inputs, thetas)
    named = {f"states at site {site}": tensor for site, tensor in enumerate(states)}
    return {**named, "features": meta_model.features(states)}


def _real_answers(meta_model: MetaModel, inputs: Inputs, thetas: Tensor) -> Answers:
    return {name: real_steps(tensor, inputs) for name, tensor in _answers(meta_model, inputs, thetas).items()}


def _check_native(meta_model: MetaModel, inputs: Inputs, thetas: Tensor) -> None:
    """Sites, shapes and dtypes are as the meta-model declares, with the steps of the inputs or one for all."""
    check_arguments_unchanged(lambda inputs, thetas: _answers(meta_model, inputs, thetas), inputs, thetas)
    states = meta_model.states(inputs, thetas)
    claim(
        len(states) == len(meta_model.state_shapes),
        f"sites: the meta-model has {len(states)}; state_shapes declares {len(meta_model.state_shapes)}",
    )
    steps = states[0].shape[1]
    claim(
        steps in (1, inputs.mask.shape[1]),
        f"shape: the states have {steps} steps, neither {inputs.mask.shape[1]} as the inputs nor one",
    )
    shapes = [*meta_model.state_shapes, (meta_model.feature_size,)]
    for (name, tensor), shape in zip(_answers(meta_model, inputs, thetas).items(), shapes, strict=True):
        claim_floats(tensor, (len(inputs), steps, *shape), own_dtype(meta_model), name)


def _check_theta_per_example(meta_model: MetaModel, inputs: Inputs, thetas: Tensor) -> None:
    """In a batch of several thetas each example answers to its own."""
    mixed = _answers(meta_model, inputs, thetas)
    for row in range(len(inputs)):
        uniform = _answers(meta_model, inputs, thetas[row].expand_as(thetas))
        claim_answers_close(
            {name: tensor[row] for name, tensor in mixed.items()},
            {name: tensor[row] for name, tensor in uniform.items()},
            "theta: an example in a batch of several thetas differs from the one in a batch of its theta alone",
        )


def _check_theta_gradient(meta_model: MetaModel, inputs: Inputs) -> None:
    """A gradient of the states reaches each component of theta at theta = 0, where training starts (Algorithm 1)."""
    zeros = torch.zeros(len(inputs), meta_model.theta_dim, dtype=torch.float64, device=own_device(meta_model))
    thetas = zeros.requires_grad_()
    states = meta_model.states(inputs, thetas)
    total = random_sum({str(site): real_steps(tensor, inputs) for site, tensor in enumerate(states)})
    (gradient,) = gradients(total, thetas)
    reached = gradient is not None and bool(gradient.isfinite().all() & (gradient != 0).any(0).all())
    claim(
        reached,
        "theta: at theta = 0, no finite gradient of the states reaches some component; it could never be learnt",
    )


def _check_recurrence(meta_model: RecurrentMetaModel, inputs: Inputs, thetas: Tensor) -> None:
    """One map at theta, iterated from an initial state that knows no theta, gives the states; they are the features."""
    states = meta_model.states(inputs, thetas)
    check_iteration(
        meta_model.encode(inputs.values),
        meta_model.initial_state(len(inputs)),
        lambda x, h: meta_model.step(thetas, x, h),
        states,
        inputs,
    )
    claim_close(meta_model.features(states), states[0], "features: those of a recurrent meta-model are its states")
