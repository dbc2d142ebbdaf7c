"""One vocabulary for several corpora, so that one population can hold models of all of them.

``python -m dynamo_datasets.vocabulary OUT --imdb ROOT --ag-news ROOT --size N`` counts the words of the training texts
of the corpora given and writes the most frequent, one a line. Give the file to ``imdb`` and ``ag-news`` as the option
``vocabulary``.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dynamo import DynamoError
from dynamo.contracts.files import write_bytes
from dynamo_datasets import ag_news, imdb
from dynamo_datasets.files import expand
from dynamo_datasets.text import count_words, most_frequent


def write_vocabulary(out: Path, *, imdb_root: str = "", ag_news_root: str = "", size: int = 10000) -> tuple[str, ...]:
    """Write the ``size`` most frequent words, ``<pad>`` and ``<unk>`` among them, of the corpora's training texts.

    Raises:
        DynamoError: no corpus is given, one cannot be read, or the file cannot be written.
    """
    if size < 3:
        raise DynamoError(f"the size of a vocabulary is {size}: it must be at least 3")
    counts: Counter[str] = Counter()
    if imdb_root:
        counts += count_words(imdb.read(expand(imdb_root), "train").texts)
    if ag_news_root:
        counts += count_words(ag_news.read(expand(ag_news_root), "train").texts)
    if not (imdb_root or ag_news_root):
        raise DynamoError("no corpus is given: add --imdb ROOT, --ag-news ROOT or both")
    words = most_frequent(counts, size)
    write_bytes(out, "".join(f"{word}\n" for word in words).encode())
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dynamo_datasets.vocabulary", description="Make one vocabulary for IMDB and AG News."
    )
    parser.add_argument("out", metavar="OUT", help="the text file to write, one word a line")
    parser.add_argument("--imdb", metavar="ROOT", default="", help="the folder aclImdb")
    parser.add_argument("--ag-news", metavar="ROOT", default="", help="the folder with train.csv")
    parser.add_argument("--size", metavar="N", type=int, default=10000, help="words to keep (default: %(default)s)")
    given = parser.parse_args(arguments)
    out = expand(given.out)
    try:
        words = write_vocabulary(out, imdb_root=given.imdb, ag_news_root=given.ag_news, size=given.size)
    except DynamoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(words)} words to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
