"""What the documents say is so."""

import re
from pathlib import Path

import torch
from click import Context

from dynamo.cli import cli, main
from dynamo.contracts import hookspecs
from dynamo.contracts.components import KINDS, SIGNATURES
from dynamo.registry import registry

ROOT = Path(__file__).parent.parent
README, CONTRIBUTING = (Path(ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md"))


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["train", "population", "-a", "gru:hidden_size=6", "-d", "digits-rows", "--seeds", "2", "--epochs", "1"])
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1]
    shorter = code.replace("steps=1500", "steps=2").replace("hidden_size=128", "hidden_size=6")
    assert shorter != code
    names = {"values": torch.zeros(3, 8, 8), "mask": torch.ones(3, 8, dtype=torch.bool)}
    exec(compile(shorter, "README.md", "exec"), names)
    assert names["logits"].shape == (3, 10)
    assert torch.equal(names["fit"].theta, names["trainer"].emulator.thetas[0].new_tensor(names["fit"].theta.tolist()))


def test_every_command_is_in_the_readme():
    for command in cli.list_commands(Context(cli)):
        assert f"dynamo {command}" in README
    group = cli.get_command(Context(cli), "analyse")
    analyses = group.list_commands(Context(group))
    assert "clusters" in analyses
    for analysis in analyses:
        assert f"dynamo analyse {analysis}" in README


def test_every_component_is_in_the_readme():
    for owned in registry().owned():
        assert f"`{owned.component.name}`" in README, owned.component


def test_every_hook_and_kind_is_in_the_contributing_guide():
    hooks = [name for name in vars(hookspecs) if name.startswith("dynamo_")]
    assert hooks
    for name in hooks:
        assert f"`{name}`" in CONTRIBUTING
    for kind in KINDS:
        assert f"| `{kind}` |" in CONTRIBUTING
        arguments = [part.split(":")[0].strip() for part in SIGNATURES[kind].split(")")[0].strip("(").split(",")]
        assert f"`({', '.join(part for part in arguments if part.isidentifier())})`" in CONTRIBUTING


def test_every_file_that_the_documents_name_exists():
    for text in (README, CONTRIBUTING):
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            assert (ROOT / target).exists(), target
