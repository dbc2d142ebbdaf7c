"""``check_component`` runs the check of each kind, checks options, and passes over spaces that a component refuses."""

import attrs
import pytest
import torch
from torch import nn

from dynamo import Component, DynamoError, InputSpace, option
from dynamo.testing import check_component, example_inputs
from sound import SoundDivergence, SoundHead, SoundMap, SoundMetaModel, SoundModel, breaks, sound_dataset


class NoTriangle(SoundDivergence):
    is_metric = True


class OtherReadout(SoundModel):
    def readout(self, h):
        return self.head(h) * h.ndim


def model(options, inputs, outputs):
    if inputs.kind == "image":
        raise DynamoError("no images")
    return SoundModel(inputs, outputs)


def meta_model(options, inputs, theta_dim, size=5):
    if inputs.kind != "tokens":
        raise DynamoError("tokens only")
    made = SoundMetaModel(inputs, size)
    made.theta_dim, made.bias = theta_dim, nn.Linear(theta_dim, size)
    return made


def state_map(options, meta_shape, base_shape):
    if len(meta_shape) > 1:
        raise DynamoError("flat states only")
    made = SoundMap()
    made.meta_shape, made.base_shape, made.map = meta_shape, base_shape, nn.Linear(*meta_shape, *base_shape)
    return made


def head(options, feature_size, outputs):
    made = SoundHead()
    made.feature_size, made.outputs, made.map = feature_size, outputs, nn.Linear(feature_size, outputs.size)
    return made


BUILDS = {
    "architecture": model,
    "meta-model": meta_model,
    "state-map": state_map,
    "head": head,
    "divergence": lambda options: SoundDivergence(),
    "dataset": lambda options: sound_dataset(),
}


def after(build, change):
    """A build function whose result is changed."""

    def changed(*args):
        made = build(*args)
        change(made)
        return made

    return changed


@pytest.mark.parametrize(("kind", "build"), BUILDS.items(), ids=BUILDS)
def test_sound_components_of_each_kind_pass(kind, build):
    check_component(Component(kind, "sound", build, "help"))


def declare(**attributes):
    return lambda made: [setattr(made, name, value) for name, value in attributes.items()]


def drop(made):
    made.unused = nn.Parameter(torch.ones(1))


MUTANTS = {
    "architecture of other inputs": (
        "architecture",
        after(model, declare(inputs=InputSpace("real", (9,)))),
        "declaration",
    ),
    "architecture": ("architecture", after(model, drop), "gradient: none reaches the parameter 'unused'"),
    "recurrent architecture": (
        "architecture",
        lambda options, inputs, outputs: OtherReadout(inputs, outputs),
        "readout",
    ),
    "meta-model": ("meta-model", after(meta_model, drop), "gradient: none reaches the parameter 'unused'"),
    "meta-model of other theta": ("meta-model", after(meta_model, declare(theta_dim=2)), "declaration"),
    "state map": ("state-map", after(state_map, drop), "gradient: none reaches the parameter 'unused'"),
    "state map of other shapes": ("state-map", after(state_map, declare(base_shape=(1,))), "declaration"),
    "head": ("head", after(head, drop), "gradient: none reaches the parameter 'unused'"),
    "head of other size": ("head", after(head, declare(feature_size=4)), "declaration"),
    "divergence": ("divergence", lambda options: NoTriangle(), "triangle inequality"),
    "data set": ("dataset", lambda options: attrs.evolve(sound_dataset(), tokens=("a",)), "tokens: "),
    "random data set": (
        "dataset",
        lambda options: attrs.evolve(sound_dataset(), train=sound_dataset().train[torch.randperm(10)]),
        "determinism: the data set differs",
    ),
}


@pytest.mark.parametrize(("kind", "build", "broken"), MUTANTS.values(), ids=MUTANTS)
def test_each_kind_is_checked(kind, build, broken):
    component = Component(kind, "broken", build, "help")
    with breaks(rf"{component} (\(.*\) )?breaks a contract: {broken}"):
        check_component(component)


def refuse(options, *args):
    raise DynamoError("not today")


def test_a_component_that_refuses_every_space_fails_with_its_reasons():
    with breaks("building: architecture 'shy' accepts none .* token ids below 11.*: not today"):
        check_component(Component("architecture", "shy", refuse, "help"))


def test_a_data_set_that_cannot_be_had_is_the_users_error():
    with pytest.raises(DynamoError, match="not today"):
        check_component(Component("dataset", "absent", refuse, "help"))


def test_options_given_replace_defaults():
    @attrs.frozen
    class Options:
        metric: bool = option(False, "whether it claims to be a metric")

    component = Component(
        "divergence", "chosen", lambda options: NoTriangle() if options.metric else SoundDivergence(), "help", Options
    )
    check_component(component)
    with breaks("divergence 'chosen' breaks a contract: triangle inequality"):
        check_component(component, {"metric": True})


def test_the_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    check_component(Component("architecture", "sound", model, "help"))
    assert torch.equal(before, torch.random.get_rng_state())


class NotAttrs:
    pass


@attrs.define
class Mutable:
    size: int = option(1, "help")


@attrs.frozen
class Undocumented:
    size: int = 1


@attrs.frozen
class TypesAsText:
    size: "int" = option(1, "help")  # noqa: RUF009


@attrs.frozen
class RefusedDefault:
    size: int = option("many", "help")


@attrs.frozen
class RoundedDefault:
    size: float = option("1.0", "help")


@attrs.frozen
class BackslashBeforeTheNext:
    text: str = option("a\\", "help")
    size: int = option(1, "help")


@attrs.frozen
class SpacesInDefault:
    text: str = option(" b ", "help")


@attrs.frozen
class MisreadDefault:
    text: str | None = option("none", "help")


OPTIONS = {
    NotAttrs: "options: .* no attrs class",
    Mutable: "options: .* can be changed",
    Undocumented: "options: 'size' .* no help",
    TypesAsText: "options: 'size' .* type as text",
    RefusedDefault: "options: the defaults .* are refused when given",
    RoundedDefault: "options: the defaults .* change when given",
    SpacesInDefault: "options: the defaults .* change when written",
    MisreadDefault: "options: the defaults .* change when given",
}


@pytest.mark.parametrize(("options", "broken"), OPTIONS.items(), ids=[mutant.__name__ for mutant in OPTIONS])
def test_options_classes_are_checked(options, broken):
    with breaks(broken):
        check_component(Component("divergence", "l0", lambda options: SoundDivergence(), "help", options))


def test_a_default_may_end_with_a_backslash():
    check_component(Component("divergence", "l0", lambda options: SoundDivergence(), "help", BackslashBeforeTheNext))


def test_a_component_needs_a_line_of_help():
    with breaks("help: "):
        check_component(Component("divergence", "l0", lambda options: SoundDivergence(), " "))


class TestExampleInputs:
    @pytest.mark.parametrize("space", [InputSpace("tokens", (11,)), InputSpace("real", (3,))], ids=str)
    def test_sequences_have_several_lengths_and_padding_on_the_right(self, space):
        inputs = example_inputs(space, batch=6, steps=5, seed=2)
        lengths = inputs.mask.sum(1)
        assert lengths[0] == 5
        assert lengths[1] == 2
        assert lengths.min() >= 1
        assert torch.equal(inputs.mask, torch.arange(5) < lengths[:, None])
        assert (inputs.values[~inputs.mask] == 0).all()

    def test_images_have_one_step(self):
        inputs = example_inputs(InputSpace("image", (2, 4, 6)), batch=3, steps=9)
        assert inputs.values.shape == (3, 2, 4, 6)
        assert inputs.mask.shape == (3, 1)

    def test_the_seed_decides(self):
        space = InputSpace("real", (3,))
        same = [example_inputs(space, seed=seed).values for seed in (1, 1, 2)]
        assert torch.equal(same[0], same[1])
        assert not torch.equal(same[0], same[2])

    def test_every_token_comes_up_and_none_beyond(self):
        values = example_inputs(InputSpace("tokens", (11,)), batch=50).values
        assert set(values.unique().tolist()) == set(range(11))

    def test_it_draws_nothing_from_the_global_state(self):
        before = torch.random.get_rng_state()
        example_inputs(InputSpace("real", (3,)))
        assert torch.equal(before, torch.random.get_rng_state())


def test_the_contract_of_what_is_built_is_checked():
    with breaks("divergence 'nothing' breaks a contract: contract: NoneType is no Divergence"):
        check_component(Component("divergence", "nothing", lambda options: None, "help"))
