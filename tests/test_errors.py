"""Errors are caught by their kind, by their built-in kind, and as a DynamoError; their messages stay plain."""

import pickle

import pytest
import torch

from dynamo import Component, DynamoError, InputSpace, OutputSpace, Spec, hookimpl
from dynamo.contracts import (
    InvalidValueError,
    MissingFileError,
    PluginError,
    UnknownNameError,
    UnusableFileError,
    WrongTypeError,
    build_options,
)
from dynamo.registry import Registry, component, registry

KINDS = {
    InvalidValueError: ValueError,
    WrongTypeError: TypeError,
    UnknownNameError: KeyError,
    UnusableFileError: OSError,
    MissingFileError: FileNotFoundError,
}


@pytest.mark.parametrize(("kind", "builtin"), KINDS.items())
def test_an_error_is_of_its_builtin_kind_and_says_what_it_was_given(kind, builtin):
    error = kind("the size is 'x'")
    assert isinstance(error, DynamoError)
    assert isinstance(error, builtin)
    assert str(error) == "the size is 'x'"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    there = error.at("run.toml")
    assert type(there) is kind
    assert str(there) == "run.toml: the size is 'x'"


RAISED = {
    "an option's value": (lambda: component("divergence", "huber").make({"delta": 0}), ValueError, InvalidValueError),
    "an option's type": (
        lambda: component("head", "mlp").configure({"hidden_size": "x"}),
        ValueError,
        InvalidValueError,
    ),
    "an option's name": (lambda: component("head", "mlp").configure({"size": 1}), KeyError, UnknownNameError),
    "a component": (lambda: component("head", "nothing"), KeyError, UnknownNameError),
    "a spec's text": (lambda: Spec.parse("gru:hidden"), ValueError, InvalidValueError),
    "a spec": (lambda: Spec.of(3), TypeError, WrongTypeError),
    "a space": (lambda: OutputSpace("class", 2), ValueError, InvalidValueError),
    "a shape": (lambda: InputSpace("real", 3), TypeError, WrongTypeError),
    "a builder": (lambda: Component("head", "x", 3, "help"), TypeError, WrongTypeError),
}


@pytest.mark.parametrize(("call", "builtin", "kind"), RAISED.values(), ids=RAISED)
def test_what_is_raised_is_caught_by_all_three(call, builtin, kind):
    for caught in (builtin, kind, DynamoError):
        with pytest.raises(caught):
            call()


class TestSpaces:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: OutputSpace("class", 2),
             "the kind is 'class': did you mean 'classes'? known: classes, none, real"),
            (lambda: OutputSpace("real", 2, "evry"), "the readout is 'evry': did you mean 'every'? known: every, last"),
            (lambda: OutputSpace("real", 0), "the size of an output space is at least 1, not 0"),
            (lambda: OutputSpace("real", 2.0), "a size is a whole number, not 2.0"),
            (lambda: OutputSpace("real", True), "a size is a whole number, not True"),
            (lambda: InputSpace("token", (3,)), "the kind is 'token': did you mean 'tokens'? known: image, real, "
             "tokens"),
            (lambda: InputSpace("real", 3), "a shape is a tuple of sizes, such as (3,), not 3"),
            (lambda: InputSpace("real", (3, 4)), "an input space of kind 'real' has a shape of one size, each at least "
             "1, not (3, 4)"),
            (lambda: InputSpace("image", (3,)), "an input space of kind 'image' has a shape of (channels, height, "
             "width), each at least 1, not (3,)"),
            (lambda: InputSpace("tokens", (0,)), "an input space of kind 'tokens' has a shape of one size, each at "
             "least 1, not (0,)"),
        ],
    )  # fmt: skip
    def test_one_that_there_is_not_is_refused_when_it_is_made(self, call, message):
        with pytest.raises(DynamoError) as error:
            call()
        assert str(error.value) == message

    def test_sizes_of_numpy_and_torch_become_ints(self):
        sizes = torch.arange(5).numpy()
        assert OutputSpace("classes", sizes[3]).table() == OutputSpace("classes", 3).table()
        assert type(OutputSpace("classes", sizes[3]).size) is int
        assert InputSpace("image", list(sizes[1:4])) == InputSpace("image", (1, 2, 3))
        assert InputSpace("image", torch.zeros(3, 4, 5).shape).shape == (3, 4, 5)


class TestBounds:
    """No option can ask for a network or a task without end."""

    @staticmethod
    def whole_numbers():
        import attrs

        from dynamo import FitOptions
        from dynamo.training.base_models import BaseTrainingOptions

        classes = {str(item.component): item.component.options for item in registry().owned()}
        classes |= {"fit": FitOptions, "base training": BaseTrainingOptions}
        return [
            (where, options, field)
            for where, options in classes.items()
            for field in attrs.fields(options)
            if field.type in (int, int | None)
        ]

    def test_every_whole_number_is_bounded(self):
        numbers = self.whole_numbers()
        assert len(numbers) > 60
        for where, options, field in numbers:
            absurd = 2**64 if field.name == "seed" else 10**9
            with pytest.raises(InvalidValueError, match=f"{field.name}' is {absurd}: it must be"):
                build_options(options, {field.name: absurd}, where=where)

    def test_the_largest_seed_is_one_that_torch_takes(self):
        for where, options, field in self.whole_numbers():
            if field.name == "seed":
                made = build_options(options, {"seed": 2**63 - 1}, where=where)
                torch.Generator().manual_seed(made.seed)

    @pytest.mark.parametrize(
        ("kind", "spec", "message"),
        [
            ("meta-model", "mingru:layers=1000000000", "above 0 and at most 1,000"),
            ("meta-model", "resnet:layers=999+999+999", "2,997 blocks; 2,000 are the most"),
            ("dataset", "flip-flop:bits=1000,steps=100000", "2,500 examples of 100,000 steps are too many numbers"),
            ("dataset", "synthetic-sentiment:max_length=100000,train_size=10000000", "too many numbers"),
        ],
    )
    def test_products_are_bounded_too(self, kind, spec, message):
        spec = Spec.parse(spec)
        with pytest.raises(InvalidValueError, match=message):
            component(kind, spec.name).configure(spec.options)


class TestMissingComponents:
    def test_a_file_says_which_plugin_offered_what_is_missing(self):
        from dynamo.contracts.protocols import Head
        from dynamo.registry import full_spec, make

        spec = full_spec("head", "linear")
        assert spec.table() == {"name": "linear", "plugin": "heads (dynamo-embedding)", "bias": True}
        assert Spec.of(spec.table()) == Spec("linear", {"bias": True})
        gone = Spec.of({"name": "cosine", "plugin": "leaky (dynamo-leaky)", "bias": True})
        with pytest.raises(UnknownNameError) as error:
            make("head", gone, Head, 3, OutputSpace("real", 1))
        assert str(error.value).startswith("no head is called 'cosine': ")
        assert "it was offered by the plugin 'leaky (dynamo-leaky)': install that" in str(error.value)

    def test_the_plugin_in_a_file_cannot_speak_to_the_terminal(self):
        with pytest.raises(UnknownNameError) as error:
            Registry().find_owned("head", "x", "\x1b[2J" + "y" * 1000)
        assert "\x1b" not in str(error.value)
        assert len(str(error.value)) < 400

    def test_no_option_takes_the_name_of_a_tables_own_key(self):
        import attrs

        from dynamo import option

        for name in ("name", "plugin"):
            options = attrs.make_class("Options", {name: option("", "help")}, frozen=True)
            with pytest.raises(InvalidValueError, match=f"head 'x': an option cannot be called '{name}'"):
                Component("head", "x", lambda options: None, "help", options)


def test_plugins_name_says_that_a_plugin_is_broken_and_why(monkeypatch):
    from types import SimpleNamespace

    from click.testing import CliRunner

    from dynamo import registry as module
    from dynamo.commands.plugins import command

    found = Registry()
    found.add(SimpleNamespace(dynamo_components=hookimpl(lambda: 1 / 0)), "leaky (dynamo-leaky)")
    monkeypatch.setattr(module, "registry", lambda: found)
    for name in ("leaky", "leaky (dynamo-leaky)"):
        error = CliRunner().invoke(command, [name]).exception
        assert isinstance(error, PluginError)
        assert str(error) == (
            "plugin 'leaky (dynamo-leaky)' is broken, and none of its components can be used: ZeroDivisionError: "
            "division by zero"
        )
    error = CliRunner().invoke(command, ["film"]).exception
    assert "plugin 'leaky (dynamo-leaky)' was skipped: ZeroDivisionError" in str(error)
