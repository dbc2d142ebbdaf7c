"""What the benchmarks of maps share: train populations, fit panels with several seeds, measure, draw.

Populations and runs that are there already are used again, so an interrupted campaign goes on.
"""

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import numpy as np
from scipy.stats import spearmanr


@attrs.frozen
class Panel:
    """One map: which models, what tells them apart, how it is fitted.

    Attributes:
        label: the label with the known groups.
        where: which models, as `dynamo fit --where` takes it.
        options: options of `dynamo fit`.
        ordered: whether the label is a number that should lie in order along the map, rather than groups.
    """

    label: str
    where: str
    options: str = ""
    ordered: bool = False


def dynamo(*arguments: object) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dynamo.cli", *map(str, arguments), "--threads", "1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(" ".join(map(str, arguments[:4])), "|", (done.stdout or done.stderr).strip().splitlines()[0], flush=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def train(command: str, folder: Path) -> None:
    checkpoints = str("--keep-epochs" in command).lower()
    dynamo("train", folder, *command.split(), "--skip-existing", "-l", f"checkpoints={checkpoints}")


def fit(name: str, panel: Panel, seed: int, options: list[str], out: Path) -> Path:
    run = out / f"{name}-{seed}"
    if not (run / "run.toml").exists():
        conditions = [part for condition in panel.where.split() for part in ("--where", condition)]
        resume = ["--resume"] if (run / "checkpoint.pt").exists() else []
        chosen = ["--seed", seed, "--colour-by", panel.label, *conditions, *panel.options.split(), *options]
        dynamo("fit", out / "population", "-o", run, *chosen, *resume)
    return run


def measure(run: Path, panel: Panel) -> dict[str, str]:
    from dynamo import Fit
    from dynamo.analysis.geometry.clusters import group_agreement
    from dynamo.analysis.geometry.spectrum import spectrum
    from dynamo.fit.fidelity import read_fidelity

    found, fidelity = Fit.load(run), read_fidelity(run)
    theta, groups = found.theta.double().numpy(), found.values_of(panel.label)
    result = spectrum(theta)
    row = {"run": run.name, "models": str(len(groups)), "for 95 %": str(result.components_for())}
    row["first share"] = f"{result.shares[0]:.2f}"
    for figure in ("hidden_r2", "agreement", "base_score", "emulator_score"):
        row[figure.replace("_", " ")] = f"{fidelity.mean(figure):.3f}"
    if panel.ordered:
        order = np.log([float(str(group)) for group in groups])
        rhos = [float(spearmanr(result.coordinates[:, axis], order)[0]) for axis in range(3)]
        row[f"Spearman with log {panel.label}, components 1 to 3"] = " ".join(f"{rho:+.2f}" for rho in rhos)
        return row
    agreement = group_agreement(theta, groups)
    row["ARI"], row["silhouette"] = f"{agreement.ari:.2f}", f"{agreement.silhouette:.2f}"
    rng = np.random.default_rng(0)
    shuffled = [group_agreement(theta, list(rng.permutation(np.array(groups, dtype=object)))) for _ in range(100)]
    row["ARI shuffled"] = f"{np.mean([item.ari for item in shuffled]):+.2f}"
    row["silhouette shuffled"] = f"{np.mean([item.silhouette for item in shuffled]):+.2f}"
    return row


def draw(runs: Mapping[str, Path], panels: Mapping[str, Panel], path: Path) -> None:
    """One column a panel: the map above its spectrum."""
    from matplotlib.figure import Figure

    from dynamo import Fit
    from dynamo.analysis.geometry.spectrum import spectrum
    from dynamo.report.plots.map import draw_points, draw_spectrum

    figure = Figure(figsize=(4.4 * len(runs), 6.4), layout="constrained")
    rows = figure.subplots(2, len(runs), height_ratios=[2.4, 1], squeeze=False)
    for (name, run), top, bottom in zip(runs.items(), rows[0], rows[1], strict=True):
        found, label = Fit.load(run), panels[name].label
        result = spectrum(found.theta.double().numpy())
        draw_points(top, result, label, found.values_of(label))
        draw_spectrum(bottom, result)
        top.set_title(name)
    figure.savefig(path, dpi=110)


def run_campaign(description: str | None, parts: Mapping[str, str], panels: Mapping[str, Panel], name: str) -> None:
    """Run a benchmark from its command line.

    Args:
        description: what --help says.
        parts: name to arguments of `dynamo train`; all become one population.
        panels: name to panel.
        name: of the benchmark; its folder and its picture are called so.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(name), help="folder of populations and runs")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once, one thread each")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the meta-model")
    parser.add_argument("--panels", nargs="*", choices=panels, default=list(panels))
    parser.add_argument("options", nargs="*", help="further options of `dynamo fit`, after --")
    given = parser.parse_args()
    # One folder per call of `dynamo train`, so that they can run side by side; then one population of them all.
    with ThreadPoolExecutor(given.jobs) as pool:
        list(pool.map(lambda part: train(parts[part], given.out / "parts" / part), parts))
    if not (given.out / "population" / "population.toml").exists():
        from dynamo import Population

        loaded = [Population.load(given.out / "parts" / part) for part in parts]
        Population([base for population in loaded for base in population]).save(given.out / "population")
    todo = [(panel, seed) for panel in given.panels for seed in range(given.seeds)]
    with ThreadPoolExecutor(given.jobs) as pool:
        runs = list(pool.map(lambda job: fit(job[0], panels[job[0]], job[1], given.options, given.out), todo))
    rows = [measure(run, panels[panel]) for run, (panel, _) in zip(runs, todo, strict=True)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = "| " + " | ".join(columns) + " |\n|" + "---|" * len(columns) + "\n"
    table += "".join("| " + " | ".join(row.get(column, "") for column in columns) + " |\n" for row in rows)
    print(table)
    first = {panel: run for run, (panel, seed) in zip(runs, todo, strict=True) if seed == 0}
    draw(first, panels, given.out / f"{name}.png")
    (given.out / "table.md").write_text(table)
    with (given.out / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
