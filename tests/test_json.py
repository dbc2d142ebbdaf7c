"""Every command with --json: one document on the output that has what the command says without it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch

from command_line import dynamo
from dynamo.cli import cli
from dynamo.report.answer import Answer, collected, collecting, plain

TRAIN = ["-a", "gru:hidden_size=6", "--epochs", "1"]
SENTENCES = "synthetic-sentiment:train_size=200,test_size=60"
SMALL = ["--preset", "laptop", "--meta-model", "gru:hidden_size=8", "--theta-dim", "3", "--steps", "4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("json")
    assert dynamo("train", root / "models", *TRAIN, "-d", SENTENCES, "-f", 1, "-f", 0.5, "--seeds", 2) == 0
    for name in ("run", "other"):
        assert dynamo("fit", root / "models", "-o", root / name, *SMALL, "--seed", len(name)) == 0
    np.savez(root / "recordings.npz", states=np.random.default_rng(0).normal(size=(2, 6, 5, 3)))
    return root


#: A call of each command, in a folder with a population and two runs.
CALLS = {
    "train": f"new {' '.join(TRAIN)} -d {SENTENCES}",
    "fit": f"models -o another {' '.join(SMALL)}",
    "show": "run",
    "import": "recordings.npz --recordings --out recorded",
    "report": "run --no-network",
    "embed": "run models --steps 2 --map-steps 2",
    "plugins": "gru",
    "doctor": "",
    "analyse alignment": "run other --permutations 19",
    "analyse attractors": "run --between fraction=0.5 fraction=1 --starts 10 --rounds 1 --points 3",
    "analyse averages": "run --of all",
    "analyse clusters": "run --by fraction --draws 19 --permutations 19",
    "analyse compare": "run --by fraction --methods cka --examples 32",
    "analyse conjugacy": "run --by fraction --examples 16 --starts 4",
    "analyse distances": "run",
    "analyse few-labels": "run --labels 10 --draws 2 --steps 2",
    "analyse fixed-points": "run --at mean --starts 32 --sequences 32 --slow-tolerance 1000",
    "analyse landscape": "run --size 3 --examples 50",
    "analyse order": "run --by score --permutations 19",
    "analyse search": "run --budget 20",
    "analyse words": "run --positive pos* --negative neg* --neutral neu* --size 2 --starts 4",
}


def all_commands():
    found = {}
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            found |= {f"{name} {own}": command.get_command(click.Context(command), own)
                      for own in command.list_commands(click.Context(command))}  # fmt: skip
        else:
            found[name] = command
    return found


def test_every_command_is_tested_and_has_the_option():
    found = all_commands()
    assert set(found) == set(CALLS) | {"serve"}  # which has no end
    for command in found.values():
        assert sum("--json" in parameter.opts for parameter in command.params) == 1


@pytest.mark.parametrize("name", CALLS)
def test_a_command_answers_in_json(name, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert dynamo("--json", *name.split(), *CALLS[name].split()) == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["command"] == name
    assert set(answer) == {"command", "tables", "figures", "files", "text"}
    assert "{" not in told.err
    tables = answer["tables"]
    assert tables or name in ("train", "fit", "import", "report")
    assert any(tables.values()) or not tables  # one of many may be empty, as numbers of clusters of few models are
    for rows in tables.values():
        assert all(row.keys() == rows[0].keys() for row in rows)
    assert all(Path(file).exists() for file in answer["files"])
    for path in map(Path, answer["files"]):
        if path.suffix == ".csv" and path.stem in tables and name != "show":  # its table of fidelity ends with means
            with path.open() as file:
                written = list(csv.DictReader(file))
            assert len(written) == len(tables[path.stem])
            assert not written or list(written[0]) == list(tables[path.stem][0])


def test_it_goes_before_or_behind_the_command(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    answers = []
    for arguments in (["--json", "show", "run"], ["show", "run", "--json"], ["--json", "show", "run", "--json"]):
        assert dynamo(*arguments) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1] == answers[2]
    assert dynamo("show", "run") == 0  # and does not stick
    assert not capsys.readouterr().out.startswith("{")
    assert dynamo("analyse", "distances", "run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["command"] == "analyse distances"


def test_figures_are_those_of_the_files(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert dynamo("--json", "show", "run") == 0
    answer = json.loads(capsys.readouterr().out)
    with (folder / "run" / "fidelity.csv").open() as file:
        *models, mean = csv.DictReader(file)
    assert list(mean) == list(answer["tables"]["fidelity"][0])
    for row, own in zip(models, answer["tables"]["fidelity"], strict=True):
        assert row.pop("name") == own.pop("name")
        assert [float(cell) if cell else None for cell in row.values()] == list(own.values())
    assert answer["figures"]["mean_agreement"] == pytest.approx(float(mean["agreement"]))
    assert answer["figures"]["models"] == 4
    assert "run/map.png" in answer["files"]


def test_an_error_leaves_the_output_empty(tmp_path, capsys):
    assert dynamo("--json", "show", tmp_path / "nothing") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "there is no finished run" in told.err
    assert collected() is None


def test_long_tables_are_whole(capsys):
    from dynamo.commands._shared import SHOWN, show

    table = (["n"], [[n] for n in range(3 * SHOWN)])
    with collecting() as (answer, printed):
        show(table, "numbers")
        show(table, "numbers")
    assert printed.getvalue() == ""
    assert [row["n"] for row in answer.tables["numbers"]] == list(range(3 * SHOWN))
    assert list(answer.tables) == ["numbers", "numbers 2"]
    show(table)
    assert f"… {2 * SHOWN} more rows" in capsys.readouterr().out


def test_values_that_json_lacks():
    values = [float("nan"), float("inf"), np.float32(0.5), np.int64(3), np.bool_(True), torch.tensor(2), Path("a/b")]
    assert plain(values) == [None, None, 0.5, 3, True, 2, "a/b"]
    assert plain({1: (np.arange(2),)}) == {"1": [[0, 1]]}
    answer = Answer()
    answer.add("t", ["a"], [[float("nan")]])
    assert json.loads(answer.document("c", "one\n\n  two  \n"))["text"] == ["one", "  two"]


@pytest.mark.parametrize(
    ("shell", "words", "index", "expected"),
    [
        ("bash", "dynamo an", 1, "plain,analyse"),
        ("bash", "dynamo analyse cl", 2, "plain,clusters"),
        ("zsh", "dynamo show --j", 2, "--json"),
        ("fish", "dynamo fit --theta-d", 2, "--theta-dim"),
    ],
)
def test_shell_completion(shell, words, index, expected):
    last = words.split()[-1]
    environment = {"_DYNAMO_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(index)}
    if shell == "fish":
        environment["COMP_CWORD"] = last
    done = subprocess.run(
        [sys.executable, "-m", "dynamo.cli"], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert expected in done.stdout, done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_the_completion(shell):
    environment = {"_DYNAMO_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        [sys.executable, "-m", "dynamo.cli"], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert "_DYNAMO_COMPLETE" in done.stdout
    assert "dynamo" in done.stdout
