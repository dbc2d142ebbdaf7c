"""AG News: 127,600 news in four topics: world, sports, business, science and technology.

X. Zhang, J. Zhao and Y. LeCun, 2015, Character-level Convolutional Networks for Text Classification, NeurIPS. The
official files ``train.csv`` and ``test.csv`` have the columns class (1 to 4), title and description, and no header.
"""

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dynamo import Dataset, DynamoError, OutputSpace
from dynamo.contracts.files import read_text
from dynamo_datasets.corpora import corpus
from dynamo_datasets.text import LabelledTexts

if TYPE_CHECKING:
    from dynamo_datasets import AGNewsOptions

CLASSES = ("world", "sports", "business", "science and technology")

# The corpus has lost the ampersand of its entities, and has a blank before them: "China #39;s", " quot;yes quot;".
_ENDING = re.compile(r" #39;(?=(?:s|t|d|m|re|ve|ll)\b)")
_ENTITY = re.compile(r"(?<![&\w])(#\d+|quot|amp|lt|gt|nbsp);")


def ag_news(options: "AGNewsOptions") -> Dataset:
    """Titles and descriptions as token ids; four classes, read at the last step.

    Raises:
        DynamoError: a file or the vocabulary is missing, a row is malformed, or the download fails.
    """
    outputs = OutputSpace("classes", len(CLASSES), group="topic")
    return corpus("ag-news", options, read=read, hub_name="fancyzhx/ag_news", outputs=outputs, mend=repair_entities)


def read(root: Path, part: str) -> LabelledTexts:
    """One part, ``train`` or ``test``, from the folder with the official csv files. A header row and blank lines are
    passed over.

    Raises:
        DynamoError: there is no such file, or a row has not three columns or no class from 1 to 4.
    """
    path = root / f"{part}.csv"
    if not path.exists():
        raise DynamoError(
            f"data set 'ag-news': cannot read {path} (there is no such file); root must be the folder with the "
            "official train.csv and test.csv"
        )
    texts: list[str] = []
    labels: list[int] = []
    number = 0
    try:
        for number, row in enumerate(csv.reader(io.StringIO(read_text(path), newline=""), strict=True), start=1):
            if not row or (number == 1 and row[0].strip().lower().startswith("class")):
                continue
            labels.append(_label(row, f"{path}, row {number}"))
            texts.append(" ".join(row[1:]))
    except csv.Error as error:
        raise DynamoError(
            f"{path}, row {number + 1}: {error}; a quotation mark may be missing, or one inside a text not be doubled: "
            "mend or remove the row"
        ) from None
    if not texts:
        raise DynamoError(f"data set 'ag-news': {path} has no rows")
    return LabelledTexts([repair_entities(text) for text in texts], labels)


def repair_entities(text: str) -> str:
    """Make the corpus' broken HTML entities whole: ``China #39;s`` is ``China's`` and ``quot;`` is ``&quot;``."""
    return _ENTITY.sub(r"&\1;", _ENDING.sub("'", text))


def _label(row: list[str], where: str) -> int:
    if len(row) != 3:
        raise DynamoError(f"{where} has {len(row)} columns; it must have 3: class, title and description")
    name = row[0].strip()
    if name not in ("1", "2", "3", "4"):
        raise DynamoError(f"{where} has the class {row[0]!r}; it must be 1, 2, 3 or 4")
    return int(name) - 1
