"""What the published corpora have in common: where the texts come from and how they become a data set."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dynamo import Dataset, DynamoError, OutputSpace
from dynamo_datasets.encodings import choose_readers
from dynamo_datasets.files import expand
from dynamo_datasets.labelled_texts import text_dataset
from dynamo_datasets.text import LabelledTexts, check_known, count_words, most_frequent, read_vocabulary

if TYPE_CHECKING:
    from dynamo_datasets import AGNewsOptions, IMDBOptions

PARTS = ("train", "test")

Reader = Callable[[Path, str], LabelledTexts]


def corpus(
    name: str,
    options: "IMDBOptions | AGNewsOptions",
    *,
    read: Reader,
    hub_name: str,
    outputs: OutputSpace,
    mend: Callable[[str], str] = str,
) -> Dataset:
    """A corpus as a data set, each part in a fixed random order (some corpora are sorted by class).

    Args:
        name: the data set's name, for messages.
        options: where the texts are, and the words to know.
        read: reads the part ``train`` or ``test`` from the corpus' folder.
        hub_name: what the ``datasets`` library calls the corpus.
        outputs: the output space.
        mend: done to every downloaded text; ``read`` does it to its own.

    Raises:
        DynamoError: neither or both of ``root`` and ``download`` are given, or the corpus cannot be had or read.
    """
    if options.download == bool(options.root):
        raise DynamoError(f"data set {name!r}: give either root=FOLDER or download=true")
    if options.download:
        train, test = download(hub_name, mend)
    else:
        train, test = (read(expand(options.root), part) for part in PARTS)
    if options.vocabulary:
        words = read_vocabulary(expand(options.vocabulary))
        check_known(words, count_words(train.texts))
    else:
        words = most_frequent(count_words(train.texts), options.vocabulary_size)
    dataset = text_dataset(
        mixed(train),
        mixed(test),
        readers=choose_readers(options.reads, options.encodings, train.texts, words, options.subwords),
        max_length=options.max_length,
        outputs=outputs,
    )
    dataset.check(name)
    return dataset


def mixed(part: LabelledTexts) -> LabelledTexts:
    """The same texts in a random order, always the same one."""
    order = np.random.default_rng(0).permutation(len(part.texts)).tolist()
    return LabelledTexts([part.texts[row] for row in order], [part.labels[row] for row in order])


def download(hub_name: str, mend: Callable[[str], str] = str) -> tuple[LabelledTexts, LabelledTexts]:
    """The training and test texts of a corpus, by way of the ``datasets`` library (which keeps a copy on disk).

    Raises:
        DynamoError: the library is not installed, or the corpus cannot be downloaded.
    """
    try:
        import datasets
    except ImportError:
        raise DynamoError(
            "downloading a corpus needs the library 'datasets': pip install 'dynamo-embedding[text]', "
            "or give root=FOLDER"
        ) from None
    try:
        parts = datasets.load_dataset(hub_name)
        train, test = (
            LabelledTexts([mend(text) for text in parts[part]["text"]], list(parts[part]["label"])) for part in PARTS
        )
    except Exception as error:  # the library lets through whatever its network layers raise
        raise DynamoError(
            f"cannot download {hub_name!r} ({type(error).__name__}: {error}): check the network, or give root=FOLDER"
        ) from error
    return train, test
