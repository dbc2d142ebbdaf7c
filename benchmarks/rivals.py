"""Does DYNAMO's map tell groups apart better than established measures of similarity? Finished runs, one table.

Every run is compared with all rivals on its own population, by `dynamo.analysis.rivals.compare`. Settings, fixed before
looking: rivals see 512 examples from the unlabelled half, the data of the meta-model; AUPRC and violation rate as in
the ReSi benchmark; the vote of the 3 nearest neighbours; five clusterers, all of them shown: average, complete and
single linkage, spectral clustering on a Gaussian kernel as wide as the median distance, k-means on all classical
coordinates; 999 permutations of the labels for p; seed 0; maps by classical scaling. Each rival's time is measured for
all models, a half and a quarter of them.

    python benchmarks/rivals.py figure3/size-0:fraction figure3/architecture-0:architecture figure3/task-0:task
"""

import argparse
from pathlib import Path

from dynamo import Fit
from dynamo.analysis.rivals import RIVALS
from dynamo.analysis.rivals.compare import Comparison, compare
from dynamo.analysis.table import Table
from dynamo.report.plots.compare import plot_compare
from dynamo.report.run import write_figure


def cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else value


def records(table: Table) -> list[dict[str, object]]:
    columns, rows = table
    return [dict(zip(columns, row, strict=True)) for row in rows]


def lines(run: str, result: Comparison) -> list[str]:
    """The rows of one run; the first line names the columns."""
    rows = [
        {"run": run, "models": str(len(result.names)), **found, **cost}
        for found, cost in zip(records(result.table()), records(result.costs_table()), strict=True)
    ]
    head = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return head + ["| " + " | ".join(cell(value) for value in row.values()) + " |" for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN:LABEL", help="a run folder and the label that names its groups")
    parser.add_argument("--rivals", nargs="*", choices=RIVALS, default=None, help="all unless some are named")
    parser.add_argument(
        "--population", type=Path, default=None, help="where the base models are, if not where they were"
    )
    parser.add_argument("--out", type=Path, default=Path("rivals"), help="folder of the pictures and the table")
    given = parser.parse_args()
    table: list[str] = []
    for number, text in enumerate(given.runs):
        folder, _, label = text.rpartition(":")
        run = Path(folder)
        fit = Fit.load(run)
        result = compare(fit, fit.open_population(given.population), label, methods=given.rivals)
        write_figure(plot_compare(result, f"{run} by {label}"), given.out, f"{number}-{run.name}-{label}")
        rows = lines(f"{run} by {label}", result)
        table += rows[2:] if table else rows
        print("\n".join(rows), flush=True)
    (given.out / "table.md").write_text("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
