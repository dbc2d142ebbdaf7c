"""Figure 7: what can be learned from a few labels by moving θ alone, and what could the same labels do otherwise?

Takes finished run folders, for example of meta-models that were fitted to 20, 10 and 1 base models of one population:

    dynamo fit population -o run-20
    dynamo fit population -o run-10 --where fraction=0.5
    dynamo fit population -o run-1 --where fraction=0.5 --where seed=0
    python benchmarks/few_labels.py run-20 run-10 run-1 --labels 0.01 0.05

The paper's figures are test accuracies of 86.4, 85.4 and 81.6 % with 20, 10 and 1 base models on IMDB with 1 % of the
labels, against 80.3 % of the best base model; it gives no intervals. The base models should have been trained on less
than the whole labelled half, so that the labels are new to all of them; a star marks runs where they are not.
"""

import argparse
from pathlib import Path

import torch

from dynamo import Fit
from dynamo.analysis.networks.few_labels import Estimate, FewLabels, MethodScores, few_labels


def cell(item: MethodScores) -> str:
    if item.score is None or item.difference is None:
        return "none"
    return told(item.score, ".3f") + ("" if item.name == "θ-learning" else f" ({told(item.difference, '+.3f')})")


def told(estimate: Estimate, form: str) -> str:
    half = estimate.high - estimate.mean
    return f"{estimate.mean:{form}}" + (f" ± {half:.3f}" if half else "")


def row(run: Path, found: FewLabels, models: int) -> list[str]:
    star = "*" if found.seen else ""
    return [
        run.name,
        str(models),
        f"{found.labels}{star}",
        *map(cell, found.methods),
    ]


def tell(cells: list[str]) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="finished run folders")
    parser.add_argument("--population", type=Path, default=None, help="their base models, where they have moved")
    parser.add_argument("--labels", type=float, nargs="+", default=[0.01, 0.05], help="counts, or shares below 1")
    parser.add_argument("--draws", type=int, default=10, help="draws of the labels")
    parser.add_argument("--balanced", action="store_true", help="equally many labels of each class")
    parser.add_argument("--start", default="all", help="where θ starts: zero, all, a model, KEY=VALUE")
    parser.add_argument("--head", default=None, help="needed where a run has several")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    head: list[str] = []
    for run in given.runs:
        fit = Fit.load(run)
        population = fit.open_population(given.population)
        for labels in given.labels:
            options = {"balanced": given.balanced, "start": given.start, "head": given.head}
            found = few_labels(fit, population, labels, draws=given.draws, **options)
            if not head:
                head = ["run", "base models", "labels", *(item.name for item in found.methods)]
                tell(head)
                tell(["---"] * len(head))
            tell(row(run, found, len(fit.names)))
    print("Mean test score ± 95 % over draws of the labels (in parentheses: minus θ-learning, paired by draw).")


if __name__ == "__main__":
    main()
