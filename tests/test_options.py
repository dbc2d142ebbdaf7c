"""Specs and options: every form reads, and every error says which option, what is allowed and what was meant."""

from contextlib import suppress
from typing import Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamo import DynamoError, Spec, option
from dynamo.contracts.errors import did_you_mean
from dynamo.contracts.options import NoOptions, build_options, fraction, positive, type_name


@attrs.frozen
class Options:
    size: int = positive(8, "an integer")
    rate: float = option(0.1, "a number")
    dropout: float = fraction(0.0, "a fraction")
    bias: bool = option(True, "a switch")
    reduction: Literal["sum", "mean"] = option("sum", "a choice")
    path: str = option("", "a text")
    limit: int | None = positive(None, "an integer or nothing")


def build(**values) -> Options:
    return build_options(Options, values, where="state-map 'test'")


class TestSpec:
    @pytest.mark.parametrize(
        ("text", "name", "options"),
        [
            ("linear", "linear", {}),
            ("linear:", "linear", {}),
            ("low-rank:rank=8", "low-rank", {"rank": "8"}),
            ("mlp:hidden_size=8,depth=2", "mlp", {"hidden_size": "8", "depth": "2"}),
            ("mlp:hidden-size=8", "mlp", {"hidden_size": "8"}),
            (" mlp : depth = 2 , bias = no ", "mlp", {"depth": "2", "bias": "no"}),
            ("data:path=a=b", "data", {"path": "a=b"}),
            ("data:path=", "data", {"path": ""}),
            ("data:path=C:x", "data", {"path": "C:x"}),
        ],
    )
    def test_text(self, text, name, options):
        assert Spec.parse(text) == Spec.of(text) == Spec(name, options)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("low-rank:8", "cannot read '8' in 'low-rank:8': write NAME:OPTION=VALUE,OPTION=VALUE"),
            ("low-rank:=8", "cannot read '=8'"),
            ("low-rank:rank=8,bias", "cannot read 'bias'"),
            ("", "no component is named in ''"),
            (":rank=8", "no component is named in ':rank=8'"),
        ],
    )
    def test_text_that_cannot_be_read(self, text, message):
        with pytest.raises(DynamoError) as error:
            Spec.parse(text)
        assert str(error.value).startswith(message)

    def test_table(self):
        assert Spec.of({"name": "low-rank", "rank": 8}) == Spec("low-rank", {"rank": 8})

    def test_a_spec_is_itself(self):
        spec = Spec("low-rank", {"rank": 8})
        assert Spec.of(spec) is spec

    @pytest.mark.parametrize("value", [{"rank": 8}, {"name": 3}, 7, None], ids=str)
    def test_what_names_no_component(self, value):
        with pytest.raises(DynamoError, match="names no component: give a table with the key 'name'"):
            Spec.of(value)

    def test_the_table_spells_none_which_toml_has_not(self):
        assert Spec("data", {"limit": None, "seed": 1}).table() == {"name": "data", "limit": "none", "seed": 1}

    def test_an_option_given_twice_is_refused(self):
        with pytest.raises(DynamoError, match="gives the option 'rank' twice"):
            Spec.parse("low-rank:rank=1,rank=2")

    def test_str(self):
        assert str(Spec("mlp")) == "mlp"
        assert str(Spec("mlp", {"depth": 2, "bias": False})) == "mlp:depth=2,bias=False"


class TestConversions:
    def test_defaults(self):
        assert build() == Options()

    @pytest.mark.parametrize(
        ("name", "value", "read"),
        [
            ("size", "12", 12),
            ("size", 12, 12),
            ("size", 12.0, 12),
            ("rate", "1e-3", 1e-3),
            ("rate", 2, 2.0),
            ("bias", "false", False),
            ("bias", "No", False),
            ("bias", "1", True),
            ("bias", False, False),
            ("reduction", "mean", "mean"),
            ("path", "12", "12"),
            ("limit", "none", None),
            ("limit", "None", None),
            ("limit", None, None),
            ("limit", "3", 3),
        ],
    )
    def test_values_are_read(self, name, value, read):
        result = getattr(build(**{name: value}), name)
        assert result == read
        assert type(result) is type(read)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("size", "many", "it must be int"),
            ("size", "1.5", "it must be int"),
            ("size", 1.5, "it must be int"),
            ("size", True, "it must be int"),
            ("size", None, "it must be int"),
            ("size", float("inf"), "it must be int"),
            ("size", float("nan"), "it must be int"),
            ("rate", "fast", "it must be float"),
            ("rate", False, "it must be float"),
            ("bias", "maybe", "it must be bool"),
            ("bias", 1, "it must be bool"),
            ("path", 3, "it must be str"),
            ("limit", "few", "it must be int"),
            ("reduction", "man", "did you mean 'mean'? known: mean, sum"),
            ("reduction", 3, "known: mean, sum"),
        ],
    )
    def test_a_wrong_type_names_the_option_and_what_it_takes(self, name, value, message):
        with pytest.raises(DynamoError) as error:
            build(**{name: value})
        assert str(error.value) == f"state-map 'test': option {name!r} is {value!r}: {message}"

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("size", 0, "above 0"),
            ("size", "-3", "above 0"),
            ("limit", 0, "above 0"),
            ("dropout", 1.0, "at least 0 and below 1"),
            ("dropout", "-0.1", "at least 0 and below 1"),
            ("dropout", "nan", "at least 0 and below 1"),
        ],
    )
    def test_a_broken_rule_names_the_option_and_the_rule(self, name, value, rule):
        with pytest.raises(DynamoError, match=rf"^state-map 'test': option '{name}' is .*: it must be {rule}$"):
            build(**{name: value})

    def test_rules_also_hold_in_python(self):
        with pytest.raises(DynamoError, match="option 'size' is 0: it must be above 0"):
            Options(size=0)

    def test_an_unknown_option_gets_the_nearest_and_all(self):
        with pytest.raises(DynamoError) as error:
            build(sise=3)
        known = "bias, dropout, limit, path, rate, reduction, size"
        assert str(error.value) == f"state-map 'test' has no option 'sise': did you mean 'size'? known: {known}"

    def test_no_options_take_none(self):
        assert build_options(NoOptions, {}, where="x") == NoOptions()
        with pytest.raises(DynamoError, match="x has no option 'size': known: none"):
            build_options(NoOptions, {"size": 1}, where="x")

    def test_options_are_frozen(self):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            Options().size = 3


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int, "int"),
        (Literal["sum", "mean"], "one of 'sum', 'mean'"),
        (int | None, "int or none"),
        (bool, "bool"),
    ],
    ids=str,
)
def test_type_name(kind, words):
    assert type_name(kind) == words


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("gruu", ["lstm", "gru"], "did you mean 'gru'? known: gru, lstm"),
        ("zzz", ["lstm", "gru"], "known: gru, lstm"),
        ("gru", [], "known: none"),
    ],
)
def test_did_you_mean(name, known, hint):
    assert did_you_mean(name, known) == hint


PLAIN = st.text(st.characters(codec="utf-8"), max_size=20).map(str.strip)
OPTIONS = st.builds(
    Options,
    size=st.integers(1, 10**9),
    rate=st.floats(allow_nan=False),
    dropout=st.floats(0, 1, exclude_max=True),
    bias=st.booleans(),
    reduction=st.sampled_from(["sum", "mean"]),
    path=PLAIN,
    limit=st.none() | st.integers(1, 10**9),
)


@given(OPTIONS)
def test_options_survive_their_text(options):
    text = str(Spec("test", attrs.asdict(options)))
    assert build(**Spec.parse(text).options) == options


@given(OPTIONS)
def test_options_survive_their_table(options):
    table = Spec("test", attrs.asdict(options)).table()
    assert build(**Spec.of(table).options) == options


@given(st.from_regex(r"[a-z][a-z0-9-]*", fullmatch=True), st.dictionaries(st.sampled_from("abc"), PLAIN))
def test_specs_survive_their_text(name, options):
    spec = Spec(name, options)
    assert Spec.parse(str(spec)) == spec


@pytest.mark.parametrize("value", ["C:\\data\\", "\\", "\\,", "a,b", "a\\\\,", ",", ",,\\"])
def test_backslashes_and_commas_survive(value):
    for options in ({"a": value}, {"a": value, "b": "x"}, {"a": "x", "b": value}, {"a": value, "b": value}):
        assert Spec.parse(str(Spec("name", options))).options == options
    assert Spec.parse(r"arrays:path=C:\data\x.npz,batch=3").options == {"path": r"C:\data\x.npz", "batch": "3"}


@given(st.text(), st.dictionaries(st.sampled_from([field.name for field in attrs.fields(Options)]), st.text()))
def test_any_text_is_read_or_refused_with_a_dynamo_error(text, values):
    for attempt in (lambda: Spec.parse(text), lambda: build(**values)):
        with suppress(DynamoError):
            attempt()


@attrs.frozen
class Awkward:
    level: Literal[1, 2] = option(1, "a literal of numbers")
    size: "int | None" = option(5, "an annotation that is text")  # noqa: RUF009
    either: int | str = option(1, "a number, or a word")


def test_awkward_types_are_read_from_text_and_survive_none():
    made = build_options(Awkward, {"level": "2", "size": "none", "either": "seven"}, where="test")
    assert made == Awkward(level=2, size=None, either="seven")
    table = Spec("test", attrs.asdict(made)).table()
    assert build_options(Awkward, Spec.of(table).options, where="test") == made
    with pytest.raises(DynamoError, match="option 'level' is True"):
        build_options(Awkward, {"level": True}, where="test")


def test_a_comma_in_a_value_is_written_with_a_backslash_and_read_back():
    spec = Spec("arrays", {"path": "one,two.npz", "batch": "3"})
    assert str(spec) == r"arrays:path=one\,two.npz,batch=3"
    assert Spec.parse(str(spec)) == spec
    assert Spec.parse(r"arrays:path=C:\data\x.npz").options == {"path": r"C:\data\x.npz"}


def test_the_plugin_that_a_table_names_is_text():
    with pytest.raises(TypeError, match="the plugin of component 'gru' is"):
        Spec.of({"name": "gru", "plugin": {"name": "gru"}})
