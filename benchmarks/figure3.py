"""Figure 3 on real texts: does the map separate what is known to differ?

Four populations of RNNs on the snippets (see `dynamo plugins snippets` for where they come from):

    size         10 GRUs trained on 100 % of the sentences and 10 on 25 %
    architecture 10 GRUs and 10 vanilla RNNs
    task         10 GRUs for sentiment and 10 for the source of the text (two heads)
    epochs       4 GRUs, a checkpoint of every epoch

Each is fitted with three seeds of the meta-model. k-means has as many clusters as there are groups; nothing is chosen
by looking at the labels. Run it from the project's folder:

    python benchmarks/figure3.py --out figure3 --jobs 2

Populations and runs that are there already are used again, so an interrupted campaign goes on.
"""

import argparse
import csv
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

NETWORK = "hidden_size=48,embedding_size=32,dropout=0.3"
TEXTS = "max_length=24,vocabulary_size=1000"
SENTIMENT = f"snippets:task=sentiment,{TEXTS}"
SOURCE = f"snippets:task=source,{TEXTS}"
TRAIN = {
    "gru": f"-a gru:{NETWORK} -d {SENTIMENT} -f 1 -f 0.25 --seeds 10 --epochs 12 --learning-rate 3e-3",
    "rnn": f"-a rnn:{NETWORK} -d {SENTIMENT} --seeds 10 --epochs 12 --learning-rate 1e-3 --clip-norm 1",
    "source": f"-a gru:{NETWORK} -d {SOURCE} --seeds 10 --epochs 8 --learning-rate 3e-3",
    "epochs": f"-a gru:{NETWORK} -d {SENTIMENT} --seeds 4 --first-seed 20 --epochs 20 --learning-rate 1e-3"
    " --keep-epochs",
}
PANELS = {
    "size": ("fraction", ["task=sentiment", "architecture=gru", "checkpoints=false"]),
    "architecture": ("architecture", ["task=sentiment", "fraction=1", "checkpoints=false"]),
    "task": ("task", ["architecture=gru", "fraction=1", "checkpoints=false"]),
    "epochs": ("epoch", ["checkpoints=true"]),
}


def dynamo(*arguments: object) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dynamo.cli", *map(str, arguments), "--threads", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(" ".join(map(str, arguments[:2])), "|", (done.stdout or done.stderr).strip().splitlines()[0], flush=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def train(name: str, folder: Path) -> None:
    checkpoints = str("--keep-epochs" in TRAIN[name]).lower()
    dynamo("train", folder, *TRAIN[name].split(), "--skip-existing", "-l", f"checkpoints={checkpoints}")


def fit(panel: str, seed: int, options: list[str], out: Path) -> Path:
    run = out / f"{panel}-{seed}"
    if not (run / "run.toml").exists():
        label, where = PANELS[panel]
        conditions = [part for condition in where for part in ("--where", condition)]
        resume = ["--resume"] if (run / "checkpoint.pt").exists() else []
        chosen = ["--preset", "laptop", "--steps", "2000", "--seed", seed, "--colour-by", label]
        chosen += [*conditions, *options, *resume]
        dynamo("fit", out / "population", "-o", run, *chosen)
    return run


def measure(run: Path, panel: str) -> dict[str, str]:
    from dynamo import Fit
    from dynamo.analysis.clusters import group_agreement
    from dynamo.analysis.spectrum import spectrum
    from dynamo.report import read_fidelity

    found, fidelity = Fit.load(run), read_fidelity(run)
    theta = found.theta.double().numpy()
    label = PANELS[panel][0]
    groups = found.label(label)
    result = spectrum(theta)
    row = {"run": run.name, "models": str(len(groups)), "for 95 %": str(result.components_for())}
    for figure in ("hidden_r2", "agreement", "base_score", "emulator_score"):
        row[figure.replace("_", " ")] = f"{fidelity.mean(figure):.3f}"
    row["least agreement"] = f"{min(model.agreement for model in fidelity.models):.3f}"
    if panel == "epochs":
        epochs = np.log([float(str(group)) for group in groups])
        rhos = [float(spearmanr(result.coordinates[:, axis], epochs)[0]) for axis in range(3)]
        row["Spearman with log epoch, components 1 to 3"] = " ".join(f"{rho:+.2f}" for rho in rhos)
        return row
    agreement = group_agreement(theta, groups)
    row["ARI"], row["silhouette"] = f"{agreement.ari:.2f}", f"{agreement.silhouette:.2f}"
    rng = np.random.default_rng(0)
    shuffled = [group_agreement(theta, list(rng.permutation(np.array(groups, dtype=object)))) for _ in range(100)]
    row["ARI shuffled"] = f"{np.mean([item.ari for item in shuffled]):+.2f}"
    row["silhouette shuffled"] = f"{np.mean([item.silhouette for item in shuffled]):+.2f}"
    return row


def draw(runs: list[Path], panels: list[str], path: Path) -> None:
    """One column a panel: the map above its spectrum, for the first seed."""
    from matplotlib.figure import Figure

    from dynamo import Fit
    from dynamo.analysis.spectrum import spectrum
    from dynamo.plots.map import draw_points, draw_spectrum

    figure = Figure(figsize=(4.4 * len(panels), 6.4), layout="constrained")
    rows = figure.subplots(2, len(panels), height_ratios=[2.4, 1], squeeze=False)
    for run, panel, top, bottom in zip(runs, panels, rows[0], rows[1], strict=True):
        fit = Fit.load(run)
        label = PANELS[panel][0]
        result = spectrum(fit.theta.double().numpy())
        draw_points(top, result, label, fit.label(label))
        draw_spectrum(bottom, result)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("figure3"), help="folder of populations and runs")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, one thread each")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the meta-model")
    parser.add_argument("--panels", nargs="*", choices=PANELS, default=list(PANELS))
    parser.add_argument("options", nargs="*", help="further options of `dynamo fit`, after --")
    given = parser.parse_args()
    # One folder per call of `dynamo train`, so that they can run side by side; then one population of them all.
    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda name: train(name, given.out / "parts" / name), TRAIN))
    if not (given.out / "population" / "population.toml").exists():
        from dynamo import Population

        parts = [Population.load(given.out / "parts" / name) for name in TRAIN]
        Population([base for part in parts for base in part]).save(given.out / "population")
    todo = [(panel, seed) for panel in given.panels for seed in range(given.seeds)]
    with ThreadPoolExecutor(given.jobs) as pool:
        runs = list(pool.map(lambda job: fit(*job, given.options, given.out), todo))
    rows = [measure(run, panel) for run, (panel, _) in zip(runs, todo, strict=True)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns) + "\n"
    table += "".join("| " + " | ".join(row.get(column, "") for column in columns) + " |\n" for row in rows)
    print(table)
    draw(runs[:: given.seeds], given.panels, given.out / "figure3.png")
    (given.out / "table.md").write_text(table)
    with (given.out / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
