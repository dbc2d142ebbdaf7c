"""The command line, as a user meets it: the way through, and every wrong turn."""

import csv
import os
import signal
import subprocess
import sys
import time
import tomllib

import pytest
import tomli_w
import torch

from command_line import dynamo
from dynamo import Population
from dynamo.cli import main
from dynamo.commands._shared import matching, read_metadata
from problems import base_model, dataset

TRAIN = ["-a", "gru:hidden_size=6", "-d", "digits-rows", "--epochs", "1"]
FIT = ["--meta-model", "gru:hidden_size=8", "--theta-dim", "3", "--models-per-step", "none", "--steps", "4"]


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "population"
    assert (
        dynamo("train", folder, *TRAIN, "-a", "rnn:hidden_size=5", "--seeds", 2, "-l", "site=lab", "-l", "rank=3") == 0
    )
    return folder


def test_train_fit_show(population, tmp_path, capsys):
    run = tmp_path / "run"
    assert dynamo("fit", population, "-o", run, *FIT, "--colour-by", "architecture") == 0
    told = capsys.readouterr().out
    assert f"run folder   {run}" in told
    assert "groups by architecture: k-means ARI" in told
    assert sorted(path.name for path in run.iterdir()) == [
        "embedding.csv", "fidelity.csv", "fit.safetensors", "history.csv", "map.png", "map.svg",
        "probes.safetensors", "run.toml",
    ]  # fmt: skip
    assert len(list(csv.DictReader((run / "embedding.csv").open()))) == 4
    before = (run / "map.svg").read_bytes()
    assert dynamo("show", run, "--colour-by", "seed") == 0
    assert "digits-gru-100-s1" in capsys.readouterr().out
    assert (run / "map.svg").read_bytes() != before


def test_the_manifest_says_what_was_trained(population):
    models = tomllib.loads((population / "population.toml").read_text())["models"]
    assert [model["name"] for model in models] == [
        f"digits-{kind}-100-s{seed}" for kind in ("gru", "rnn") for seed in (0, 1)
    ]
    labels = models[2]["metadata"]
    assert (labels["architecture"], labels["fraction"], labels["seed"], labels["task"]) == ("rnn", 1.0, 0, "digits")
    assert (labels["site"], labels["rank"]) == ("lab", 3)


def test_keep_epochs_and_skip_existing(tmp_path, capsys):
    folder = tmp_path / "population"
    epochs = [*TRAIN[:-1], 3, "--keep-epochs"]

    def names():
        return [model["name"] for model in tomllib.loads((folder / "population.toml").read_text())["models"]]

    assert dynamo("train", folder, *epochs) == 0
    assert names() == [f"digits-gru-100-s0-e00{epoch}" for epoch in (1, 2, 3)]
    assert dynamo("train", folder, *epochs) == 2
    assert "has 'digits-gru-100-s0-e001' already: use --skip-existing" in capsys.readouterr().err
    assert dynamo("train", folder, *epochs, "--seeds", 2, "--skip-existing") == 0
    assert "6 models in" in capsys.readouterr().out
    # A run that was stopped after its first epoch is made whole.
    table = tomllib.loads((folder / "population.toml").read_text())
    whole, table["models"] = table["models"], table["models"][:1]
    del table["digest"]
    (folder / "population.toml").write_text(tomli_w.dumps(table))
    assert dynamo("train", folder, *epochs, "--skip-existing") == 0
    again = tomllib.loads((folder / "population.toml").read_text())["models"]
    assert [model["sha256"] for model in again] == [model["sha256"] for model in whole[:3]]


def test_base_training_depends_on_its_seed_alone(tmp_path):
    weights = []
    for folder, noise in (("a", 1), ("b", 2)):
        torch.manual_seed(noise)
        assert dynamo("train", tmp_path / folder, *TRAIN) == 0
        weights.append((tmp_path / folder / "weights" / "digits-gru-100-s0.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_images_take_the_same_way(tmp_path, capsys):
    folder, run = tmp_path / "population", tmp_path / "run"
    train = ["-a", "cifar-resnet:depth=8,width=4", "-d", "digits:train_size=80", "--epochs", 1, "--optimizer", "sgd"]
    for policy in ("weak", "strong"):
        augmentation = ["--augmentation", f"{policy}:flip=false", "--prefix", policy]
        assert dynamo("train", folder, *train, "--seeds", 2, *augmentation) == 0
    fit = ["--preset", "laptop-cnn", "--meta-model", "resnet:layers=1+1+1,width=4", "--steps", 2]
    assert dynamo("fit", folder, "-o", run, *fit) == 0
    assert "groups by augmentation" in capsys.readouterr().out
    assert {row["augmentation"] for row in csv.DictReader((run / "embedding.csv").open())} == {"weak", "strong"}


def test_where_chooses_models(population, tmp_path):
    assert (
        dynamo("fit", population, "-o", tmp_path / "run", *FIT, "--where", "architecture=rnn", "--recording", "disk")
        == 0
    )
    rows = list(csv.DictReader((tmp_path / "run" / "embedding.csv").open()))
    assert [row["architecture"] for row in rows] == ["rnn", "rnn"]
    assert not (tmp_path / "run" / "recording").exists()


def test_one_model_only(population, tmp_path, capsys):
    where = ["--where", "architecture=rnn", "--where", "seed=0"]
    assert dynamo("fit", population, "-o", tmp_path / "run", *FIT, *where) == 0
    assert "models 1" in capsys.readouterr().out


def test_a_named_preset_and_the_flags_above_it(population, tmp_path):
    assert dynamo("fit", population, "-o", tmp_path / "run", "--preset", "laptop", "--steps", 2, "--theta-dim", 5) == 0
    options = tomllib.loads((tmp_path / "run" / "run.toml").read_text())["options"]
    assert (options["steps"], options["theta_dim"]) == (2, 5)
    assert "hidden_size=128" in options["meta_model"]


def test_help_of_every_command_names_its_options(capsys):
    for command, flags in (
        ("train", ["--learning-rate", "--keep-epochs"]),
        ("fit", ["--theta-dim", "--output-weight"]),
        ("show", ["--colour-by"]),
        ("plugins", []),
    ):
        assert dynamo(command, "--help") == 0
        told = capsys.readouterr().out
        assert all(flag in told for flag in flags)


def test_no_help_imports_what_is_slow():
    code = """
import sys
from click import Group
from dynamo.cli import cli, main

def paths(command, path):
    if isinstance(command, Group):
        for name in command.list_commands(None):
            yield from paths(command.get_command(None, name), [*path, name])
    yield path

slow = {"torch", "numpy", "scipy", "sklearn", "matplotlib", "rich"}
for path in paths(cli, []):
    try:
        main([*path, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
    assert not slow & {*sys.modules}, (path, slow & {*sys.modules})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_plugins_lists_every_kind_with_owners(capsys):
    assert dynamo("plugins") == 0
    told = capsys.readouterr().out
    for kind in ("architecture", "dataset", "meta-model", "state-map", "divergence", "head"):
        assert kind in told
    assert "rnn (dynamo-embedding)" in told
    assert dynamo("plugins", "low-rank") == 0
    assert "rank" in capsys.readouterr().out


WRONG_TRAIN = [
    (["-a", "gruu", "-d", "digits-rows"], "no architecture is called 'gruu': did you mean 'gru'"),
    (["-a", "gru:hiden_size=3", "-d", "digits-rows"], "no option 'hiden_size': did you mean 'hidden_size'"),
    (["-a", "gru:hidden_size=many", "-d", "digits-rows"], "option 'hidden_size' is 'many': it must be int"),
    (["-a", "gru:hidden_size", "-d", "digits-rows"], "write NAME:OPTION=VALUE"),
    (["-a", "gru", "-d", "digit-rows"], "no dataset is called 'digit-rows': did you mean 'digits-rows'"),
    (["-a", "gru", "-d", "digits-rows", "-f", "0"], "the fraction 0.0 must be above 0"),
    (["-a", "gru", "-d", "digits-rows", "-f", "0.00001"], "leaves none"),
    (["-a", "gru", "-a", "gru:hidden_size=3", "-d", "digits-rows"], "would have one name"),
    (["-a", "gru", "-d", "digits-rows", "--learning-rate", "-1"], "'learning_rate' is -1.0: it must be above 0"),
    (["-a", "gru", "-d", "digits-rows", "-l", "novalue"], "cannot read the metadata 'novalue'"),
    (["-a", "gru:hidden_size=6", "-d", "digits-rows", "--learning-rate", "1e30"], "lower --learning-rate"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_TRAIN, ids=[message for _, message in WRONG_TRAIN])
def test_what_train_refuses_leaves_nothing(arguments, message, tmp_path, capsys):
    assert dynamo("train", tmp_path / "population", *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


WRONG_FIT = [
    (["--preset", "lap"], "no preset is called 'lap': did you mean 'laptop'"),
    (["--meta-model", "gruu"], "no meta-model is called 'gruu'"),
    (["--theta-dim", "none"], "option 'theta_dim' is 'none': it must be int"),
    (["--hidden-divergence", "kl"], "compares logits"),
    (["--colour-by", "colour"], "no metadata is called 'colour'"),
    (["--where", "architecture=lstm"], "no model has the metadata"),
    (["--where", "arch=lstm"], "no metadata is called 'arch': did you mean 'architecture'"),
    (["--resume"], "has no checkpoint"),
    (["--learning-rate", "1e30"], "lower learning_rate"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_FIT, ids=[message for _, message in WRONG_FIT])
def test_what_fit_refuses_leaves_nothing(population, arguments, message, tmp_path, capsys):
    assert dynamo("fit", population, "-o", tmp_path / "run", *FIT, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_used(population, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert dynamo("train", tmp_path / "file" / "population", *TRAIN) == 2
    assert "cannot write" in capsys.readouterr().err
    assert dynamo("fit", population, "-o", tmp_path / "file" / "run", *FIT) == 2
    assert "cannot write" in capsys.readouterr().err
    assert dynamo("fit", tmp_path / "nothing") == 2
    assert "there is no population at" in capsys.readouterr().err
    assert dynamo("show", tmp_path / "nothing") == 2
    assert "there is no finished run at" in capsys.readouterr().err


def test_a_full_disk_is_told_and_leaves_no_half_file(population, tmp_path, monkeypatch, capsys):
    import errno

    from dynamo.contracts import files

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    assert dynamo("fit", population, "-o", tmp_path / "run", *FIT) == 2
    assert "No space left on device; free some room" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_finished_run_is_not_overwritten(population, tmp_path, capsys):
    run = tmp_path / "run"
    assert dynamo("fit", population, "-o", run, *FIT) == 0
    before = (run / "run.toml").read_bytes()
    assert dynamo("fit", population, "-o", run, *FIT) == 2
    assert "holds a finished run already" in capsys.readouterr().err
    assert (run / "run.toml").read_bytes() == before


def test_ctrl_c_and_resume_give_the_uninterrupted_run(population, tmp_path):
    """In processes of their own, with a real signal."""
    command = [sys.executable, "-m", "dynamo.cli", "fit", str(population)]
    options = ["--meta-model", "gru:hidden_size=8", "--theta-dim", "3", "--steps", "1000", "--threads", "1"]
    run = tmp_path / "run"
    started = subprocess.Popen([*command, "-o", str(run), *options, "--checkpoint-every", "5"], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (run / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    started.send_signal(signal.SIGINT)
    _, error = started.communicate(timeout=60)
    assert started.returncode == 130, error.decode()
    assert b"stopped at step" in error
    assert b"Traceback" not in error
    assert not (run / "run.toml").exists()
    subprocess.run([*command, "-o", str(run), *options, "--resume"], check=True, capture_output=True)
    whole = tmp_path / "whole"
    subprocess.run([*command, "-o", str(whole), *options], check=True, capture_output=True)
    for name in ("embedding.csv", "fidelity.csv", "history.csv", "fit.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    assert not (run / "checkpoint.pt").exists()


def test_a_broken_plugin_is_named_and_the_rest_work(tmp_path):
    """A third-party distribution whose module cannot be imported."""
    info = tmp_path / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[dynamo]\nbroken = broken_plugin\n")
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('bad day')\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [sys.executable, "-m", "dynamo.cli", "plugins"], env=environment, capture_output=True, text=True, check=True
    )
    assert "skipped plugin broken (broken-plugin): RuntimeError: bad day" in done.stderr
    assert "digits-rows" in done.stdout


def test_labels_keep_their_kind(tmp_path):
    labels = ["-l", "flag=true", "-l", "share=0.5", "-l", "word=a b"]
    assert dynamo("train", tmp_path / "population", *TRAIN, *labels) == 0
    table = tomllib.loads((tmp_path / "population" / "population.toml").read_text())["models"][0]["metadata"]
    assert (table["flag"], table["share"], table["word"]) == (True, 0.5, "a b")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_that_wait_give_their_core_away_unless_told_otherwise(monkeypatch, given, wanted):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that it is as before after the test
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    main(["--help"])
    assert os.environ.get("GOMP_SPINCOUNT") == wanted


def test_metadata_is_read_as_a_number_only_where_it_is_written_back_alike():
    given = {"7": 7, "-3": -3, "0.25": 0.25, "1e-05": 1e-05, "1e+30": 1e30, "true": True, "false": False}
    texts = ["007", "1_000", "1.50", "+7", "1e3", "nan", "inf", " 7", "True", "9" * 30]
    for text, value in {**given, **{text: text for text in texts}}.items():
        found = read_metadata([f"key={text}"])["key"]
        assert found == value
        assert type(found) is type(value)


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("subject=001", "a"), ("subject=1", "b"), ("subject=2", "c"), ("subject=2.0", "c"), ("subject=0.5", "d"),
        ("subject=5e-1", "d"), ("subject=true", "e"), ("subject=True", "e"), ("subject=1_000", "f"),
    ],
)  # fmt: skip
def test_where_finds_texts_as_they_are_written_and_numbers_however(condition, names):
    values = {"a": "001", "b": "1", "c": 2, "d": 0.5, "e": True, "f": "1_000", "g": 1000}
    data = dataset()
    models = Population([base_model(name, data, subject=value) for name, value in values.items()])
    assert [base.name for base in matching(models, [condition])] == list(names)


def test_who_stops_reading_is_no_traceback(population):
    command = f"{sys.executable} -m dynamo.cli plugins | head -n 1"
    found = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("prefix", ["a/b", "my run", "[/x]", "_x", "a" * 250])
def test_a_prefix_that_makes_no_name_is_told_before_anything_is_trained(tmp_path, capsys, prefix):
    folder = tmp_path / "population"
    assert dynamo("train", folder, "-a", "gru:hidden_size=4", "-d", "digits-rows", "--prefix", prefix) == 2
    told = capsys.readouterr().err
    assert "name" in told
    assert prefix[:40] in told
    assert not folder.exists()


def test_warnings_of_our_own_are_one_line_and_others_are_left_alone(monkeypatch, capsys):
    import warnings

    from dynamo.commands import plugins
    from dynamo.contracts.errors import DynamoWarning

    def warn(name):
        warnings.warn("[/red] 3 files", DynamoWarning, stacklevel=1)
        warnings.warn("of a library", UserWarning, stacklevel=1)

    monkeypatch.setattr(plugins.command, "callback", warn)
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        assert dynamo("plugins") == 0
    assert capsys.readouterr().err.splitlines() == ["warning: [/red] 3 files"]
    assert [str(other.message) for other in others] == ["of a library"]
