"""What the core checks of plugins' objects itself: every fault that was accepted before, told with the model's name."""

import attrs
import numpy as np
import pytest
import torch

from dynamo import (
    Component,
    Divergence,
    DynamicalModel,
    DynamoError,
    FitOptions,
    InputSpace,
    OutputSpace,
    Population,
    Trainer,
    Trajectory,
    record,
    register,
)
from dynamo import registry as registry_module
from dynamo.contracts import InvalidValueError, PluginError, WrongTypeError, check_divergence_values, check_trajectory
from dynamo.contracts.protocols import RecurrentModel
from dynamo.population.recording import Recording, live
from dynamo.registry import Registry, make, registry
from dynamo.testing import example_inputs
from problems import dataset, population
from sound import SoundBlocks, SoundModel

DATA = dataset()


def model(**changes):
    """A sound model of the data set's spaces, with methods replaced."""
    made = type("Mine", (SoundModel,), {"__module__": __name__, **changes})(DATA.inputs, DATA.outputs)
    return made.eval()


def given(change):
    """A trajectory that is changed before it is returned."""

    def trajectory(self, inputs):
        return change(SoundModel.trajectory(self, inputs))

    return {"trajectory": trajectory}


def some(steps):
    return lambda t: Trajectory(tuple(s[:, :steps] for s in t.states), t.outputs[:, :steps], t.mask[:, :steps])


class ModelOutput(dict):
    """As the models of a well-known library answer."""


FAULTS = {
    "three of its steps": (given(some(3)), "mask: it is neither that of the inputs nor one real step"),
    "states of fewer steps": (
        given(lambda t: attrs.evolve(t, states=(t.states[0][:, :3],))), "shape: states at site 0 have shape"
    ),
    "fewer examples": (given(lambda t: t[:2]), "mask: it is neither"),
    "all steps real": (given(lambda t: attrs.evolve(t, mask=torch.ones_like(t.mask))), "mask: it is neither"),
    "a tensor of states": (
        given(lambda t: attrs.evolve(t, states=t.states[0])), "type: the states are a Tensor; give a tuple"
    ),
    "a list of states": (given(lambda t: attrs.evolve(t, states=list(t.states))), "type: the states are a list"),
    "two sites": (
        given(lambda t: attrs.evolve(t, states=t.states * 2)), "sites: the trajectory has 2; state_shapes declares 1"
    ),
    "another state": (
        given(lambda t: attrs.evolve(t, states=(t.states[0][..., :4],))), r"the contract says \(\d+, \d+, 5\)"
    ),
    "another output": (given(lambda t: attrs.evolve(t, outputs=t.outputs[..., :1])), "shape: outputs have shape"),
    "whole numbers": (given(lambda t: attrs.evolve(t, outputs=t.outputs.long())), "dtype: outputs are torch.int64"),
    "a ModelOutput": (given(lambda t: ModelOutput(states=t.states)), "gives a ModelOutput; return a dynamo.Trajectory"),
    "a tuple": (given(lambda t: (t.states, t.outputs)), r"trajectory\(inputs\) gives a tuple"),
    "no argument": (
        {"trajectory": lambda self: None}, r"fails when trajectory\(inputs\) is called: TypeError: .* takes 1"
    ),
    "an exception": (
        {"encode": lambda self, values: {}["input_ids"]}, r"fails when trajectory\(inputs\) is called: KeyError"
    ),
    "another step": (
        {**given(lambda t: t), "step": lambda self, x, h: torch.tanh(2 * x + self.recurrent(h)),
         "run": lambda self, inputs: _sound_states(self, inputs)},
        "iteration: step, iterated from initial_state on encode.* differs from the trajectory's states",
    ),
    "another readout": (
        {"trajectory": lambda self, inputs: Trajectory(
            (self.run(inputs),), 2 * self.head(self.run(inputs)), inputs.mask
        )},
        "readout: readout.* differs from the outputs",
    ),
    "a step of three arguments": (
        {"step": lambda self, theta, x, h: h, "run": lambda self, inputs: _sound_states(self, inputs)},
        "fails when encode, initial_state, step or readout is called: TypeError",
    ),
    "a state of another size": (
        {"initial_state": lambda self, batch: torch.zeros(batch, 3),
         "run": lambda self, inputs: _sound_states(self, inputs)},
        r"shape: initial_state gives \(2, 3\); the contract says \(2, 5\)",
    ),
}  # fmt: skip


def _sound_states(own, inputs):
    h, states = torch.zeros(len(inputs), 5), []
    for x in own.embedding(inputs.values).unbind(1):
        h = torch.tanh(x + own.recurrent(h))
        states.append(h)
    return torch.stack(states, 1)


@pytest.mark.parametrize(("changes", "message"), FAULTS.values(), ids=FAULTS)
class TestTrajectories:
    def test_recording_names_the_model_and_its_class(self, changes, message):
        with pytest.raises(PluginError, match=message) as error:
            record(Population.of({"sound": SoundModel(DATA.inputs, DATA.outputs), "mine": model(**changes)}, DATA))
        assert str(error.value).startswith("model 'mine' (test_checks.Mine) ")

    def test_live_models_are_checked_before_the_first_step(self, changes, message):
        with pytest.raises(PluginError, match=message):
            live(Population.of({"mine": model(**changes)}, DATA), torch.device("cpu"))


@pytest.mark.parametrize("made", [SoundModel(DATA.inputs, DATA.outputs), SoundBlocks()], ids=["recurrent", "blocks"])
def test_sound_models_pass_also_in_double_precision(made):
    for dtype in (torch.float32, torch.float64):
        own = made.to(dtype).eval()
        inputs = example_inputs(own.inputs)
        inputs = inputs.with_values(inputs.values.to(dtype))
        check_trajectory(own, inputs, own.trajectory(inputs), where="it")


def test_what_is_nan_on_padded_steps_alone_is_no_fault():
    own = model()
    inputs = example_inputs(own.inputs)
    made = own.trajectory(inputs)
    made.states[0].data[~inputs.mask] = torch.nan
    check_trajectory(own, inputs, made, where="it")
    made.states[0].data[0, 0] = torch.nan
    with pytest.raises(InvalidValueError, match="it gives NaN or infinite states or outputs"):
        check_trajectory(own, inputs, made, where="it")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"state_shapes": (5,)}, r"state_shapes is \(5,\); set it to a tuple of shapes"),
        ({"state_shapes": [(5,)]}, "state_shapes is"),
        ({"state_shapes": ((5.0,),)}, "state_shapes is"),
        ({"state_shapes": None}, "state_shapes is None"),
        ({"inputs": None}, "inputs is None; set it to an InputSpace"),
        ({"outputs": 2}, "outputs is 2; set it to an OutputSpace"),
    ],
)
def test_what_a_model_declares_is_checked_when_it_joins_a_population(changes, message):
    made = SoundModel(DATA.inputs, DATA.outputs)
    for name, value in changes.items():
        setattr(made, name, value)
    with pytest.raises(PluginError, match=f"model 'mine' .*breaks the contract of base models: declaration: {message}"):
        Population.of({"mine": made}, DATA)


@pytest.fixture
def offer(monkeypatch):
    """Offers a component in this test alone, beside the installed ones."""
    own = Registry()
    own._owned.update(registry()._owned)
    monkeypatch.setattr(registry_module, "registry", lambda: own)
    return register


class TestBuilding:
    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda options, inputs, outputs: RecurrentModel(), "TypeError: Can't instantiate abstract class"),
            (lambda options: None, r"TypeError: .* it is called with \(options, inputs: InputSpace, outputs"),
            (lambda options, inputs, outputs: {}["x"], "KeyError: 'x'"),
            (lambda options, inputs, outputs: torch.nn.Linear(1, 1), "built a Linear, which is no DynamicalModel"),
        ],
    )
    def test_what_cannot_be_built_names_component_and_plugin(self, offer, build, message):
        offer(Component("architecture", "mine", build, "help"))
        with pytest.raises(PluginError, match=message) as error:
            make("architecture", "mine", DynamicalModel, InputSpace("real", (2,)), OutputSpace("real", 1))
        assert str(error.value).startswith("plugin 'registered in this session': architecture 'mine' ")

    def test_a_built_model_must_declare_its_states(self, offer):
        def build(options, inputs, outputs):
            made = SoundModel(inputs, outputs)
            made.state_shapes = (5,)
            return made

        offer(Component("architecture", "mine", build, "help"))
        with pytest.raises(PluginError, match=r"architecture 'mine' .*declaration: state_shapes is \(5,\)"):
            make("architecture", "mine", DynamicalModel, InputSpace("real", (2,)), OutputSpace("real", 1))


class Squared(Divergence):
    """The squared distance, and what is changed of it."""

    domain, is_symmetric, is_metric = "any", True, False

    def __call__(self, prediction, target):
        return (prediction - target).square().sum(-1)


class Scalar(Squared):
    def __call__(self, prediction, target):
        return super().__call__(prediction, target).mean()


class FalseMetric(Squared):
    is_metric = True


class Blind(Squared):
    """A distance between logits that a constant does not change."""

    domain, is_metric = "logits", True

    def __call__(self, prediction, target):
        return torch.linalg.vector_norm((prediction.log_softmax(-1) - target.log_softmax(-1)), dim=-1)


class Negative(Squared):
    def __call__(self, prediction, target):
        return -super().__call__(prediction, target)


class Away(Squared):
    def __call__(self, prediction, target):
        return 1 + super().__call__(prediction, target)


class Lopsided(Squared):
    def __call__(self, prediction, target):
        return (prediction - target).relu().sum(-1)


class OneArgument(Squared):
    def __call__(self, prediction):
        return prediction


class Number(Squared):
    def __call__(self, prediction, target):
        return float(super().__call__(prediction, target).mean())


class NoDomain(Squared):
    domain = "vectors"


DIVERGENCES = {
    Scalar: r"shape: \[8, 6\] gives \(\); the contract says \(8,\)",
    FalseMetric: "triangle inequality: it declares a metric",
    Blind: r"zero: it declares a metric, and is zero between a and a \+ 1",
    Negative: "non-negative: some values are below zero",
    Away: "zero: it is not zero between equals",
    Lopsided: "symmetry: it declares symmetry",
    OneArgument: r"fails when d\(prediction, target\) is called: TypeError",
    Number: "type: it gives a float; return a tensor",
    NoDomain: "declaration: domain is 'vectors'",
}


class TestDivergences:
    @pytest.mark.parametrize(("kind", "message"), DIVERGENCES.items())
    def test_a_fault_is_told_with_its_class(self, kind, message):
        vectors = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0))
        with pytest.raises(PluginError, match=message) as error:
            check_divergence_values(kind(), *vectors, where="the divergence 'mine'")
        assert str(error.value).startswith(f"the divergence 'mine' (test_checks.{kind.__name__}) ")

    def test_all_installed_divergences_pass_whatever_the_vectors(self):
        specs = [item.component.name for item in registry().owned() if item.component.kind == "divergence"]
        for name in [*specs, "l2:squared=no", "l2:squared=no,reduction=mean", "l1:reduction=mean"]:
            for seed in range(20):
                vectors = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(seed))
                for scale in (1e-3, 1.0, 1e2):
                    check_divergence_values(make("divergence", name, Divergence), *(scale * vectors), where=name)

    @pytest.mark.parametrize("option", ["hidden_divergence", "output_divergence"])
    def test_a_fit_tells_it_before_any_work(self, offer, option):
        offer(Component("divergence", "mine", lambda options: Scalar(), "help"))
        with pytest.raises(PluginError, match=r"the divergence 'mine' \(test_checks.Scalar\) breaks the contract"):
            Trainer(population(), FitOptions(steps=1, **{option: "m1=mine"}))


class TestRecordings:
    def test_one_that_is_too_short_is_refused(self):
        made = record(population())[0]
        for trajectory in (made.trajectory[:5], some(2)(made.trajectory)):
            with pytest.raises(InvalidValueError, match="a recording has 12 inputs of 5 steps"):
                Recording(made.inputs, trajectory)
        cut = attrs.evolve(made.trajectory, outputs=made.trajectory.outputs[:, :1])
        with pytest.raises(InvalidValueError, match="its trajectory has"):
            Recording(made.inputs, cut)


SPACES = {
    "tokens": SoundModel(InputSpace("tokens", (11,)), OutputSpace("classes", 4)),
    "real": SoundModel(InputSpace("real", (3,)), OutputSpace("classes", 4)),
    "image": SoundBlocks(),
}


class TestCalls:
    """A model called as any module is: what fits is converted, what does not is told with both shapes."""

    @pytest.mark.parametrize("name", SPACES)
    def test_numpy_and_other_kinds_of_number_give_the_same_answer(self, name):
        own = SPACES[name].float().eval()
        inputs = example_inputs(own.inputs)
        expected = own(inputs.values, inputs.mask)
        others = [torch.int32, torch.int16, torch.uint8] if name == "tokens" else [torch.float64]
        for values in (inputs.values.numpy(), *(inputs.values.to(dtype) for dtype in others)):
            for mask in (inputs.mask, inputs.mask.numpy(), inputs.mask.long()):
                torch.testing.assert_close(own(values, mask), expected)
        if name != "tokens":
            whole = (10 * inputs.values).round()
            torch.testing.assert_close(own(whole.int(), inputs.mask), own(whole, inputs.mask))

    def test_numpys_byte_order_and_strides_do_not_matter(self):
        own = SPACES["real"].float().eval()
        values = np.random.default_rng(0).normal(size=(2, 6, 3))
        expected = own(torch.from_numpy(values).float())
        torch.testing.assert_close(own(values.astype(">f8")), expected)
        torch.testing.assert_close(own(np.repeat(values, 2, axis=1)[:, ::2]), expected)

    def test_a_model_in_double_precision_keeps_it(self):
        own = SPACES["real"].double().eval()
        assert own(torch.zeros(2, 5, 3)).dtype == torch.float64
        own.float()

    @pytest.mark.parametrize(
        ("name", "values", "kind", "message"),
        [
            ("real", torch.zeros(2, 8, 5), InvalidValueError, r"values are \[batch, steps, 3\], not \(2, 8, 5\)"),
            ("real", torch.zeros(8, 3), InvalidValueError, r"values are \[batch, steps, 3\], not \(8, 3\)"),
            ("real", torch.zeros(3), InvalidValueError, r"not \(3,\)"),
            ("real", torch.zeros(2, 8, 3, dtype=torch.complex64), WrongTypeError, "real numbers, not torch.complex64"),
            ("real", [[[0.0, 0.0, 0.0]]], WrongTypeError, "values must be a tensor or an array of numbers, not a list"),
            ("real", np.array([["a"]]), WrongTypeError, "not an array of <U1"),
            ("tokens", torch.zeros(2, 8), WrongTypeError, "whole numbers, not torch.float32"),
            ("tokens", torch.zeros(2, 8, 1).long(), InvalidValueError, r"values are \[batch, steps\], not \(2, 8, 1\)"),
            ("tokens", torch.tensor([[1, 11]]), InvalidValueError, "token ids below 11: 11 is none of them"),
            ("tokens", torch.tensor([[1, -1]]), InvalidValueError, "token ids below 11: -1 is none of them"),
            ("image", torch.zeros(2, 4, 4), InvalidValueError, r"values are \[batch, 2, 4, 4\], not \(2, 4, 4\)"),
            ("image", torch.zeros(2, 3, 4, 4), InvalidValueError, r"not \(2, 3, 4, 4\)"),
        ],
    )
    def test_what_does_not_fit_says_what_is_expected_and_given(self, name, values, kind, message):
        with pytest.raises(kind, match=message):
            SPACES[name].float()(values)

    def test_a_mask_that_does_not_fit_is_told(self):
        for mask in (torch.ones(2, 7, dtype=torch.bool), torch.ones(2), np.ones((3, 8), bool)):
            with pytest.raises(DynamoError, match="mask"):
                SPACES["real"].float()(torch.zeros(2, 8, 3), mask)


class TestDefaults:
    """What a recurrent class need not write: the step iterated."""

    @pytest.mark.parametrize("name", ["gru", "rnn", "lstm"])
    @pytest.mark.parametrize("space", [InputSpace("tokens", (11,)), InputSpace("real", (3,))], ids=str)
    def test_the_default_trajectory_is_that_of_the_fast_class_with_equal_gradients(self, name, space):
        torch.manual_seed(0)
        outputs = OutputSpace("real", 2)
        own = make("architecture", f"{name}:hidden_size=6,embedding_size=4", DynamicalModel, space, outputs).double()
        inputs = example_inputs(space)
        inputs = inputs if space.kind == "tokens" else inputs.with_values(inputs.values.double())
        found = []
        for run in (own.trajectory, lambda inputs: RecurrentModel.trajectory(own, inputs)):
            made = run(inputs)
            total = made.outputs.square()[made.mask].sum() + made.states[0][made.mask].sin().sum()
            found.append((made, torch.autograd.grad(total, list(own.parameters()))))
        (fast, fast_gradients), (plain, plain_gradients) = found
        torch.testing.assert_close(fast.states[0], plain.states[0], rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(fast.outputs, plain.outputs, rtol=1e-12, atol=1e-14)
        assert torch.equal(fast.mask, plain.mask)
        for one, other in zip(fast_gradients, plain_gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)

    @pytest.mark.parametrize("name", ["gru", "mingru"])
    @pytest.mark.parametrize("space", [InputSpace("tokens", (11,)), InputSpace("real", (3,))], ids=str)
    def test_the_default_states_of_a_meta_model_are_those_of_the_fast_class(self, name, space):
        from dynamo.contracts.protocols import RecurrentMetaModel

        torch.manual_seed(0)
        own = make("meta-model", f"{name}:hidden_size=6,embedding_size=4", RecurrentMetaModel, space, 3).double()
        inputs = example_inputs(space)
        inputs = inputs if space.kind == "tokens" else inputs.with_values(inputs.values.double())
        theta = torch.randn(len(inputs), 3, dtype=torch.float64, requires_grad=True)
        found = []
        for run in (own.states, lambda *given: RecurrentMetaModel.states(own, *given)):
            (states,) = run(inputs, theta)
            real = states[inputs.mask]
            found.append((real, torch.autograd.grad(real.sin().sum(), [theta, *own.parameters()])))
        torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-12, atol=1e-14)
        for one, other in zip(found[0][1], found[1][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)
