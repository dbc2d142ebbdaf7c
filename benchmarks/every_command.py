"""Every command on degenerate populations, hostile metadata and narrow streams: an answer, or one line that says why.

    python benchmarks/every_command.py

Each call runs in this process. What counts as a fault: an exception that reaches the top, an error of more than one
line, a warning of a library, a control character on a stream, or an exit status other than 0, 2 (an error that the user
can mend) and 1 (click's). Calls are counted with how they ended.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from dynamo import BaseModel, Dataset, Population, Spec
from dynamo.cli import main
from dynamo.contracts.errors import DynamoWarning, has_control_characters
from dynamo.contracts.protocols import DynamicalModel
from dynamo.registry import make

ARCHITECTURE, DATA = Spec("gru", {"hidden_size": 4}), Spec("synthetic-sentiment", {"train_size": 160, "test_size": 40})
FIT = "--meta-model gru:hidden_size=8,embedding_size=8 --theta-dim 3 --steps 6 --models-per-step none --threads 1"

#: Each command with arguments that make it short; RUN, KEY, ONE and OTHER are replaced.
COMMANDS = (
    "show RUN --colour-by KEY",
    "embed RUN POPULATION --steps 3 --map-steps 3 --colour-by KEY",
    "analyse distances RUN --colour-by KEY",
    "analyse clusters RUN --by KEY --draws 19 --permutations 9",
    "analyse order RUN --by KEY --permutations 9",
    "analyse order RUN --by number --permutations 9",
    "analyse averages RUN --between ONE OTHER",
    "analyse averages RUN --of all",
    "analyse landscape RUN --size 3 --colour-by KEY",
    "analyse search RUN --method random --budget 4 --colour-by KEY",
    "analyse few-labels RUN --labels 16 --draws 2 --steps 2 --folds 2 --colour-by KEY",
    "analyse compare RUN --by KEY --methods cka,output-disagreement",
    "analyse fixed-points RUN --at ONE --starts 8",
    "analyse attractors RUN --by KEY --starts 8",
    "analyse words RUN --positive positive* --negative negative* --neutral neutral* --size 2 --starts 4",
    "analyse conjugacy RUN --by KEY --steps 1",
)
VALUES = ("$x_{", "<b>&amp;", "=1+1", "[/red]", "😀", "שלום", "a" * 200, "_base", "007", "-@+", "", " ", "\\n\\x00")
KEYS = ("kind", "name", "theta_1", "pc_1", "$x$", "_base", "=k", "[/k]", "ключ", "k" * 120)


def networks(count: int, change: Callable[[torch.Tensor, int], torch.Tensor]) -> list[DynamicalModel]:
    """Random networks with changed weights."""
    dataset = make("dataset", DATA, Dataset)
    made = []
    for number in range(count):
        torch.manual_seed(number)
        model = make("architecture", ARCHITECTURE, DynamicalModel, dataset.inputs, dataset.outputs)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(change(parameter, number))
        made.append(model.eval())
    return made


def save(folder: Path, models: Sequence[DynamicalModel], metadata: Callable[[int], Mapping[str, str | int]]) -> Path:
    bases = [BaseModel(f"m{n}", model, DATA, metadata(n), ARCHITECTURE) for n, model in enumerate(models)]
    Population(bases).save(folder)
    return folder


def same(parameter: torch.Tensor, number: int) -> torch.Tensor:
    return parameter


def two_kinds(number: int) -> dict[str, str | int]:
    return {"kind": "ab"[number % 2], "number": number}


def populations(root: Path) -> Iterator[tuple[str, Path]]:
    """Degenerate populations."""
    changes: dict[str, tuple[int, Callable[[torch.Tensor, int], torch.Tensor]]] = {
        "one": (1, same),
        "two": (2, same),
        "three": (3, same),
        "zero": (4, lambda parameter, number: torch.zeros_like(parameter)),
        "huge": (4, lambda parameter, number: parameter * 1e4),
        "one-zero": (4, lambda parameter, number: parameter * (number > 0)),
    }
    for name, (count, change) in changes.items():
        yield name, save(root / name, networks(count, change), two_kinds)
    copy = networks(1, same) * 4
    yield "copies", save(root / "copies", copy, two_kinds)


class Campaign:
    """Calls, how they ended, and faults."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []

    def call(self, what: str, words: Sequence[str], encoding: str = "utf-8") -> bool:
        """Run a command; whether it gave an answer."""
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2)]
        status: object = 0
        with (
            contextlib.redirect_stdout(streams[0]),
            contextlib.redirect_stderr(streams[1]),
            warnings.catch_warnings(record=True) as told,
        ):
            warnings.simplefilter("always")
            try:
                main(list(words))
            except SystemExit as error:
                status = error.code or 0
            except BaseException as error:
                status = f"{type(error).__name__}: {error}"
        out, err = (stream.buffer.getvalue().decode(encoding, errors="replace") for stream in streams)  # type: ignore[attr-defined]
        where = f"{what}: dynamo {' '.join(words)[:140]}"
        errors = [line for line in err.splitlines() if line.startswith("error:")]
        if status not in (0, 1, 2):
            self.faults.append(f"{where}: {status}")
        elif status == 2 and len(errors) != 1 and "Usage:" not in err:
            self.faults.append(f"{where}: {err[-300:]}")
        for line in (out + err).splitlines():
            if has_control_characters(line.replace("\r", "").replace("\t", "")):
                self.faults.append(f"{where}: control characters in {line!r}")
        self.faults += [
            f"{where}: warning: {item.message}"
            for item in told
            if not issubclass(item.category, DynamoWarning | DeprecationWarning | FutureWarning)
        ]
        self.ends["answers" if status == 0 else "refused in one line" if status in (1, 2) else "faults"] += 1
        return status == 0


def run_all(campaign: Campaign, what: str, population: Path, key: str, values: Sequence[str], encoding: str) -> None:
    """Fit, and ask every question."""
    out = population.with_name(f"{population.name}-run-{len(list(population.parent.iterdir()))}")
    if not campaign.call(what, ["fit", str(population), "-o", str(out), *FIT.split(), "--colour-by", key], encoding):
        return
    one, other = (f"{key}={value}" for value in (values[0], values[-1]))
    swap = {"RUN": str(out), "POPULATION": str(population), "KEY": key, "ONE": one, "OTHER": other}
    for command in COMMANDS:
        campaign.call(what, [swap.get(word, word) for word in command.split()], encoding)


def campaigns(root: Path) -> Iterator[tuple[str, Campaign]]:
    """Degenerate populations, hostile metadata, narrow streams."""
    campaign = Campaign()
    for name, folder in populations(root):
        run_all(campaign, name, folder, "kind", "ab" if name != "one" else "a", "utf-8")
    yield "degenerate populations", campaign
    campaign, models = Campaign(), networks(4, same)
    for number, value in enumerate(VALUES):
        pair = (value, "other")
        folder = root / f"value-{number}"
        try:
            save(folder, models, lambda n, pair=pair: {"kind": pair[n % 2]})  # type: ignore[misc]
        except Exception as error:
            campaign.faults.append(f"metadata {value!r}: {error!r}")
            continue
        run_all(campaign, f"value {value!r}", folder, "kind", pair, "utf-8")
    for number, key in enumerate(KEYS):
        folder = save(root / f"key-{number}", models, lambda n, key=key: {key: "ab"[n % 2]})  # type: ignore[misc]
        run_all(campaign, f"key {key!r}", folder, key, "ab", "utf-8")
    yield "hostile metadata", campaign
    campaign = Campaign()
    folder = save(root / "streams", models, lambda n: {"kind": ("😀", "ключ")[n % 2]})
    for encoding in ("cp1252", "ascii"):
        run_all(campaign, encoding, folder, "kind", ("😀", "ключ"), encoding)
    yield "narrow streams", campaign


def report() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    os.environ.setdefault("COLUMNS", "200")
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        for title, campaign in campaigns(Path(name)):
            ends = ", ".join(f"{count} {end}" for end, count in sorted(campaign.ends.items()))
            print(f"{title}: {sum(campaign.ends.values())} calls: {ends}; {len(campaign.faults)} faults", flush=True)
            for fault in campaign.faults:
                print("  ", fault.encode("ascii", "backslashreplace").decode()[:400], flush=True)
            bad += len(campaign.faults)
    return bad


if __name__ == "__main__":
    sys.exit(report() > 0)
