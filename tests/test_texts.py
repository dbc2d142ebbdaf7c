"""Texts as people have them: byte order marks, blank lines, stray quotes, other vocabularies, many scripts."""

import os
import re
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamo import DynamoError
from dynamo_datasets import dynamo_components
from dynamo_datasets.ag_news import read
from dynamo_datasets.text import read_vocabulary, tokenise
from dynamo_images import dynamo_components as image_components
from test_datasets import make, save

WORDS = ["splendid", "bright", "dreary", "dull", "film"]
ROWS = '"1","Talks resume","Envoys met."\n"2","Home win","A late goal."\n'


@pytest.fixture
def reviews(tmp_path):
    for part in ("train", "test"):
        for name, text in (("neg", "dreary dull film"), ("pos", "splendid bright film")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(5):
                (tmp_path / part / name / f"{number}_1.txt").write_text(text)
    return tmp_path


def with_vocabulary(reviews, words, encoding="utf-8"):
    (reviews / "words.txt").write_text("".join(f"{word}\n" for word in words), encoding=encoding)
    return make("imdb", root=str(reviews), vocabulary=str(reviews / "words.txt"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_is_no_letter(reviews, encoding):
    dataset = with_vocabulary(reviews, WORDS, encoding)
    assert dataset.tokens[2:] == tuple(WORDS)
    assert int((dataset.train.inputs.values == 1).sum()) == 0


@pytest.mark.parametrize("other", [str.title, str.upper, "##{}".format, "Ġ{}".format, "x{}".format], ids=range(5))
def test_a_vocabulary_that_no_text_has_a_word_of_is_refused(reviews, other):
    words = [other(word) for word in WORDS]
    with pytest.raises(DynamoError, match=rf"no word of the vocabulary: .* such as '{words[0]}', .* such as 'film'"):
        with_vocabulary(reviews, words)


def test_many_unknown_words_are_told(reviews):
    with pytest.warns(UserWarning, match=r"83% of the words of the training texts are unknown.*'bright'.*'film'"):
        with_vocabulary(reviews, ["bright", "zebra"])


def test_files_of_macos_are_no_reviews(reviews):
    (reviews / "train" / "neg" / "._0_1.txt").write_bytes(b"\x00\x05\x16\x07\xff")
    assert len(make("imdb", root=str(reviews)).train) == 10


@pytest.mark.parametrize("place", ["train/pos/9_1.txt", "words.txt", "train.csv"])
@pytest.mark.parametrize("form", ["pipe", "device"])
def test_texts_are_regular_files(reviews, place, form):
    if form == "pipe":
        os.mkfifo(reviews / place)
    else:
        (reviews / place).symlink_to("/dev/zero")
    name = "ag-news" if place.endswith("csv") else "imdb"
    given = {"vocabulary": str(reviews / place)} if place == "words.txt" else {}
    with pytest.raises(DynamoError, match=rf"{place}: it is no regular file"):
        make(name, root=str(reviews), **given)


@pytest.mark.parametrize("name", ["snippets", "arrays", "image-arrays"])
def test_data_files_are_regular_files(tmp_path, name):
    path = tmp_path / "data"
    path.symlink_to("/dev/zero")
    components = {component.name: component for component in (*dynamo_components(), *image_components())}
    with pytest.raises(DynamoError, match=r"no regular file|there is no file"):
        components[name].make({"path": str(path)})


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (ROWS, "utf-8"),
        (ROWS, "utf-8-sig"),
        ("Class Index,Title,Description\n" + ROWS, "utf-8-sig"),
        ("Class Index,Title,Description\n" + ROWS, "utf-8"),
        (ROWS + "\n", "utf-8"),
        ("\n" + ROWS.replace("\n", "\n\n\n"), "utf-8"),
        (ROWS.replace("\n", "\r\n"), "utf-8"),
    ],
    ids=["plain", "mark", "mark and header", "header", "blank at the end", "blanks", "Windows"],
)
def test_news_are_read_as_they_were_meant(tmp_path, text, encoding):
    (tmp_path / "train.csv").write_bytes(text.encode(encoding))
    found = read(tmp_path, "train")
    assert found.texts == ["Talks resume Envoys met.", "Home win A late goal."]
    assert found.labels == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        '"1","Talks","Envoys met\n2,Home win,A late goal\n3,Shares,Oil rose\n',
        '1,"Talks,Envoys met\n2,"Home win",A late goal\n3,Shares,Oil rose\n',
        '"1","Talks","Envoys met\n"2","Home win","A late goal"\n"3","Shares","Oil rose"\n',
        '"1","He said "yes"","Envoys met"\n',
    ],
)
def test_a_stray_quotation_mark_does_not_merge_rows(tmp_path, text):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(DynamoError, match=r"train\.csv, row 1: .*a quotation mark may be missing"):
        read(tmp_path, "train")


# Scripts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Cafe\u0301 café", ["café", "café"]),
        ("\u1e9b\u0323", ["\u1e9b\u0323"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("ภาษา ที่ดี", ["ภาษา", "ที่ดี"]),
        ("اللُّغَةُ العربيّة", ["اللُّغَةُ", "العربيّة"]),
        ("می‌خواهم بروم", ["می‌خواهم", "بروم"]),
        ("עִבְרִית", ["עִבְרִית"]),
        ("த‌மிழ்!", ["த‌மிழ்", "!"]),
        ("İstanbul'da", ["i̇stanbul'da"]),
        ("STRASSE Straße ẞ", ["strasse", "straße", "ß"]),
        ("ΟΔΟΣ ΣΟΦΙΑ", ["οδος", "σοφια"]),
        ("ﬁn ǅ ŉ", ["ﬁn", "ǆ", "ŉ"]),
        ("한국어 한국어", ["한국어", "한국어"]),
        ("中文,日本語!", ["中文", "日本語", "!"]),
        ("1️⃣ ❤️ good", ["1", "good"]),
        ("&#65;BC &Eacute;TAT &AMP;", ["abc", "état"]),
        ("a\u0301\u0302\u0303b c\u0301'd", ["á\u0302\u0303b", "ć'd"]),
        ("\u0301 alone", ["alone"]),
        ("lone \ud800 surrogate \udfff", ["lone", "surrogate"]),
        ("&#xD800; &#0; &#1114112;", []),
    ],
)
def test_words_of_the_worlds_scripts_stay_whole(text, words):
    wanted = [normalize("NFC", word) for word in words]
    assert tokenise(text) == wanted
    assert tokenise(normalize("NFD", text)) == wanted


@settings(deadline=None, max_examples=300)
@given(st.text())
def test_words_are_words_again_and_can_be_written(text):
    """So a vocabulary that was made of texts fits them, and is read from its file as it was."""
    for word in tokenise(text):
        assert tokenise(word) == [word] or "&" in text or "<" in text
        assert word.split() == [word]
        word.encode()


def test_a_vocabulary_in_another_form_of_unicode_is_the_same(tmp_path):
    (tmp_path / "w.txt").write_text(normalize("NFD", "café\nété\n"), encoding="utf-8")
    assert read_vocabulary(tmp_path / "w.txt")[2:] == ("café", "été")


# Numbers


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", ">f4", "<f8"])
def test_real_inputs_of_every_type_are_the_same(tmp_path, dtype):
    x = np.array([[[0.5, -2.0]], [[1.25, 3.0]]])
    given = {"x_train": x.astype(dtype), "x_test": x[:1], "y_train": np.array([0, 1]), "y_test": np.array([1])}
    given |= {"mask_train": np.ones((2, 1), dtype=bool), "mask_test": np.ones((1, 1), dtype=bool)}
    assert make("arrays", path=save(tmp_path / "a.npz", **given)).train.inputs.values.tolist() == x.tolist()


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", ">i4"])
def test_ids_and_classes_of_every_whole_type_are_the_same(tmp_path, dtype):
    changed = {"x_train": np.array([[1, 2, 0], [3, 0, 0]], dtype=dtype), "y_train": np.array([0, 2], dtype=dtype)}
    dataset = make("arrays", path=save(tmp_path / "a.npz", **changed))
    assert dataset.train.inputs.values.tolist() == [[1, 2, 0], [3, 0, 0]]
    assert dataset.train.targets.tolist() == [0, 2]


@pytest.mark.parametrize("dtype", ["c8", "c16", "?", "M8[s]", "m8[s]", "S1", "V2"])
@pytest.mark.parametrize("name", ["x_train", "y_train"])
def test_other_types_are_refused_by_name(tmp_path, dtype, name):
    shape = (2, 3) if name == "x_train" else (2,)
    path = save(tmp_path / "a.npz", **{name: np.zeros(shape, dtype=dtype)})
    with pytest.raises(DynamoError, match=re.escape(f"{name} is {np.dtype(dtype)} ")):
        make("arrays", path=path)


def test_values_that_would_not_survive_are_refused(tmp_path):
    ones = {"mask_train": np.ones((2, 3), bool), "x_test": np.zeros((1, 3, 1)), "y_test": np.zeros((1, 1))}
    x, y = np.zeros((2, 3, 1)), np.zeros((2, 1))
    for name, changed in (("x", {"x_train": np.full_like(x, 1e39)}), ("y", {"y_train": np.full_like(y, -1e39)})):
        path = save(tmp_path / "a.npz", **{"x_train": x, "y_train": y, **ones, **changed})
        with pytest.raises(DynamoError, match=rf"{name}_train has values beyond the range of float32"):
            make("arrays", path=path)
    path = save(tmp_path / "b.npz", x_train=np.full((2, 3), 2**64 - 1, dtype=np.uint64))
    with pytest.raises(DynamoError, match="x_train has the value 18446744073709551615, beyond 64 bits"):
        make("arrays", path=path)


def test_half_of_the_masks_is_refused(tmp_path):
    for missing, there in (("mask_train", "mask_test"), ("mask_test", "mask_train")):
        with pytest.raises(DynamoError, match=rf"has {there} alone of mask_train and mask_test: give both"):
            make("arrays", path=save(tmp_path / "a.npz", without=missing))


def test_a_mask_of_another_name_is_not_taken_for_none(tmp_path):
    path = save(tmp_path / "a.npz", attention_mask_train=np.ones((2, 3), dtype=bool))
    with pytest.raises(
        DynamoError, match=r"'attention_mask_train', which nothing would read.*did you mean 'mask_train'"
    ):
        make("arrays", path=path)
