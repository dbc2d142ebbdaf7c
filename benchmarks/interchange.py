"""Do V_m V_n⁺ carry what a network knows over to another one? States put into running networks, on runs.

What is kept of model n's answers when model m goes on, half-way, from five states (``dynamo.analysis.interchange``).
Also the same as a share of the way from the mean of the two lower bounds to the upper one. Fixed before the first run:
256 probe examples, half of them to fit, all pairs up to 400.

    python benchmarks/interchange.py RUN:KEY ...    # KEY: the metadata that names the groups
"""

import argparse
from pathlib import Path

from dynamo import Fit
from dynamo.analysis import interchange, transport
from dynamo.analysis.dynamics.interchange import STATES

COLUMNS = ["pairs", *STATES, "share carried", "share fitted", "unexplained by V_m V_n⁺"]


def rows(folder: Path, key: str) -> list[list[str]]:
    """All pairs, those within groups and those between them."""
    fit = Fit.load(folder)
    population, groups = fit.open_population(), fit.values_of(key)
    found, carried = interchange(fit, population, groups), transport(fit, population, groups)
    lines = []
    for title, within in (("all", None), ("within groups", True), ("between groups", False)):
        means = {state: found.mean(state, within) for state in STATES}
        low = (means["other input"] + means["mean"]) / 2
        shares = [(means[state] - low) / (means["own"] - low) for state in ("carried", "fitted")]
        missing = "" if within is None else f"{carried.mean(within):.3f}"
        lines.append([title, *(f"{value:.3f}" for value in (*means.values(), *shares)), missing])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN:KEY")
    for given in parser.parse_args().runs:
        folder, _, key = given.rpartition(":")
        print("| " + " | ".join([folder, *COLUMNS[1:]]) + " |\n" + "|---" * len(COLUMNS) + "|")
        for line in rows(Path(folder), key):
            print("| " + " | ".join(line) + " |", flush=True)


if __name__ == "__main__":
    main()
