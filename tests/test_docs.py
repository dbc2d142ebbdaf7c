"""What the documents say is so: every block of the docs runs, and all there is to document is documented."""

import importlib
import re
import shlex
import shutil
from functools import partial
from pathlib import Path

import attrs
import pytest
from click import Context

from command_line import dynamo as command
from dynamo.cli import cli
from dynamo.contracts import hookspecs
from dynamo.contracts.components import KINDS, SIGNATURES
from dynamo.registry import registry
from dynamo.training import presets, train_population
from dynamo.training.base_models import BaseTrainingOptions

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README, *sorted(path for path in DOCS.rglob("*.md"))]

#: A block of code, with the comment before it that says why it cannot run in a test.
BLOCK = re.compile(
    r"(?:<!-- no-run: (?P<reason>[^\n]+?) -->\n\n?)?^```(?P<language>python|sh)\n(?P<code>.*?)^```$", re.M | re.S
)
#: So many blocks of the docs have such a comment; a page of its own counts all its blocks.
NOT_RUN = 19

#: What pages may ask for with `<!-- needs: NAME -->`: the commands that make it.
PREPARED = {
    "population": "train population -a gru:hidden_size=6 -d digits-rows -f 1 -f 0.25 --seeds 4",
    "run": "fit population --out run --preset laptop",
    "sentences": "train sentences -a gru:hidden_size=6 -d synthetic-sentiment:train_size=200,test_size=60 --seeds 4",
    "sentences-run": "fit sentences --out sentences-run --preset laptop",
}
#: What a test adds to the commands of the docs, so that it takes seconds.
SMALLER = {
    "train": "--epochs 1",
    "embed": "--steps 2 --map-steps 2",
    "clusters": "--draws 19 --permutations 19",
    "order": "--permutations 19",
    "alignment": "--permutations 19",
    "averages": "--points 3",
    "landscape": "--size 3 --examples 50",
    "search": "--budget 20",
    "few-labels": "--draws 2 --steps 2",
    "compare": "--examples 32",
    "fixed-points": "--starts 32 --sequences 32",
    "attractors": "--starts 10 --rounds 1 --points 3",
    "words": "--size 2 --starts 4",
    "conjugacy": "--examples 16 --starts 4",
}


@attrs.frozen
class Block:
    """A block of code in a page."""

    language: str
    code: str
    line: int
    reason: str | None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    for included in re.findall(r"```\{include\} (\S+)", text):
        text += (page.parent / included).read_text()
    whole = re.search(r"<!-- no-run-page: (.+?) -->", text)
    return [
        Block(
            found["language"],
            found["code"],
            text.count("\n", 0, found.start("code")),
            whole[1] if whole else found["reason"],
        )
        for found in BLOCK.finditer(text)
    ]


def commands(code: str) -> list[list[str]]:
    lines = code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


@pytest.fixture
def _small(monkeypatch):
    """Presets and base models that train in a moment, and no components of other pages."""
    for name, small in (("laptop", "gru:hidden_size=8"), ("laptop-cnn", "resnet:layers=1+1+1,width=4")):
        monkeypatch.setitem(presets.PRESETS, name, {**presets.PRESETS[name], "meta_model": small, "steps": 4})
    monkeypatch.setattr(train_population, "BaseTrainingOptions", partial(BaseTrainingOptions, epochs=1))
    registry.cache_clear()
    yield
    registry.cache_clear()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with all that is prepared."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setitem(
            presets.PRESETS, "laptop", {**presets.PRESETS["laptop"], "meta_model": "gru:hidden_size=8", "steps": 4}
        )
        for line in PREPARED.values():
            assert command(*line.split(), *(["--epochs", "1"] if line.startswith("train") else [])) == 0
    return folder


def run_command(words: list[str]) -> None:
    assert words[0] == "dynamo", f"{words}: mark the block with <!-- no-run: REASON -->"
    name = words[2] if words[1] == "analyse" else words[1]
    assert command(*words[1:], *SMALLER.get(name, "").split()) == 0


def copy(prepared: Path, names: list[str], folder: Path) -> None:
    for name in names:
        shutil.copytree(prepared / name, folder / name)
        if (folder / name / "run.toml").exists():  # where it is a run, its population lies beside it
            text = (folder / name / "run.toml").read_text()
            moved = text.replace(str(prepared), str(folder))
            (folder / name / "run.toml").write_text(re.sub(r"^digest = .*\n", "", moved, flags=re.M))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("_small")
def test_every_block_of_a_page_runs(page, prepared, tmp_path, monkeypatch):
    found = blocks(page)
    needs = re.search(r"<!-- needs: ?(.*?) ?-->", page.read_text())
    copy(prepared, needs[1].split() if needs else [], tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "a_page_of_the_docs"}
    for block in found:
        if block.reason is not None:
            continue
        if block.language == "python":
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
        else:
            for words in commands(block.code):
                run_command(words)


def test_blocks_that_are_not_run_say_why_and_are_counted():
    marked = [block for page in PAGES for block in blocks(page) if block.reason is not None]
    assert all(len(block.reason) > 10 for block in marked)
    assert sum("no-run-page" not in page.read_text() for page in PAGES for b in blocks(page) if b.reason) == NOT_RUN


@pytest.mark.parametrize(
    ("page", "mark", "most"),
    [("own-models", "five lines", 5), ("recordings", "few lines", 5), ("new-parts", "few lines", 40)],
)
def test_what_people_come_for_takes_few_lines(page, mark, most):
    """From what they have to a map; an import is one command."""
    text = (DOCS / "how-to" / f"{page}.md").read_text().split(f"<!-- {mark} -->")[1]
    code = BLOCK.search(text)["code"]
    assert "fit_population(" in code
    assert len([line for line in code.splitlines() if line.strip()]) <= most


# What is documented. --------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 130
    assert max(map(len, lines)) <= 120
    assert any(line.startswith("![") for line in lines[:20])


def test_every_command_is_in_the_docs_and_every_question_has_a_page_with_its_picture():
    text = "\n".join(page.read_text() for page in PAGES)
    for name in cli.list_commands(Context(cli)):
        assert f"dynamo {name}" in text
    group = cli.get_command(Context(cli), "analyse")
    questions = group.list_commands(Context(group))
    assert "clusters" in questions
    index = (DOCS / "questions" / "index.md").read_text()
    for name in questions:
        page = (DOCS / "questions" / f"{name}.md").read_text()
        assert f"dynamo analyse {name} " in page
        assert f"(../pictures/{name}.png)" in page
        assert f"({name}.md)" in index


def test_every_component_is_in_the_docs():
    text = (DOCS / "components.md").read_text()
    for owned in registry().owned():
        assert f"`{owned.component.name}`" in text, owned.component


def test_every_hook_and_kind_is_in_the_tutorial_for_plugins():
    text = (DOCS / "plugins.md").read_text()
    hooks = [name for name in vars(hookspecs) if name.startswith("dynamo_")]
    assert hooks
    for name in hooks:
        assert f"`{name}`" in text
    for kind in KINDS:
        assert f"| `{kind}` |" in text
        arguments = [part.split(":")[0].strip() for part in SIGNATURES[kind].split(")")[0].strip("(").split(",")]
        assert f"`({', '.join(part for part in arguments if part.isidentifier())})`" in text


@pytest.mark.parametrize("module", ["dynamo", "dynamo.analysis", "dynamo.contracts", "dynamo.testing"])
def test_every_public_name_is_in_the_api_reference_and_has_a_docstring(module):
    reference = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    public = importlib.import_module(module)
    for name in public.__all__:
        assert re.search(rf"{re.escape(module)}\.{re.escape(name)}\b", reference), name
        thing = getattr(public, name)
        if callable(thing) and getattr(thing, "__module__", "").startswith("dynamo"):
            assert (thing.__doc__ or "").strip(), name


@pytest.mark.parametrize("page", [*PAGES, CONTRIBUTING], ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_document_names_exists(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_pictures_are_small_and_used():
    text = "\n".join(page.read_text() for page in PAGES)
    pictures = list((DOCS / "pictures").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 80_000, picture
        assert f"pictures/{picture.name})" in text, picture
