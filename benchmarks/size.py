"""How do time and memory grow with the number of base models? DYNAMO's, and those of the rivals that compare all pairs.

    python benchmarks/size.py --models 20 100                   # less than two minutes of one core
    python benchmarks/size.py --models 20 100 300 1000 --recordings memory disk --rivals all
    python benchmarks/size.py --tiny 10000                      # very many models, by two processes: ten minutes

The populations are nested: small GRUs on the rows of digits, see ``small_networks.py``. Every fit is `dynamo fit` in a
process of its own, with a clock around its parts; every base model takes part in equally many steps, whatever N is.
Every rival has a process of its own too, reads 512 examples and compares all pairs. Times are processor seconds of one
thread. What is there already is not measured again: remove its file in ``figures/`` to do so.
"""

import argparse
import io
import json
import resource
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout, suppress
from functools import partial
from multiprocessing import active_children, get_context
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, process_time
from typing import Any

import numpy as np
from scipy.optimize import nnls
from small_networks import save_populations, save_random

#: Base models in a batch, and examples.
TOGETHER, BATCH = 20, 240
#: The rivals' times are measured for these numbers of models, up to the first that takes so many processor seconds.
PARTS, ENOUGH = (20, 50, 100, 200), 40.0
EXAMPLES = 512
FAR = (1000, 10000)

Figures = dict[str, Any]


def peak_memory() -> float:
    """The most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held_memory() -> float:
    """The memory that this process holds now and that no file backs, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


# DYNAMO. -------------------------------------------------------------------------------------------------------------


def clocked(parts: Figures, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function; each call adds its times to a part, and notes the memory after it."""

    def timed(*args: Any, **kwargs: Any) -> Any:
        started, processor = perf_counter(), process_time()
        result = function(*args, **kwargs)
        part = parts.setdefault(name, {"wall": 0.0, "cpu": 0.0, "calls": 0})
        part["wall"] += perf_counter() - started
        part["cpu"] += process_time() - processor
        part |= {"calls": part["calls"] + 1, "peak": peak_memory(), "held": held_memory()}
        return result

    return timed


def clocked_fit(arguments: Sequence[str]) -> Figures:
    """`dynamo fit` with a clock around its parts."""
    import torch

    from dynamo import cli
    from dynamo.fit import fidelity, run_folder
    from dynamo.population.population import Population
    from dynamo.report import run as report
    from dynamo.report import terminal
    from dynamo.training.trainer import Trainer

    torch.set_num_threads(1)
    found: Figures = {"before": peak_memory()}
    parts: Figures = {}
    places: list[tuple[str, Any, str]] = [
        ("load", Population, "load"),
        ("build", Trainer, "__init__"),
        ("record", Trainer, "record"),
        ("fit", Trainer, "run"),
        ("checkpoints", Trainer, "save"),
        ("fidelity", fidelity, "measure_fidelity"),
        ("map", report, "write_map"),
        ("save", run_folder, "save_fit"),
        ("summary", terminal, "summary"),
    ]
    for name, owner, attribute in places:
        setattr(owner, attribute, clocked(parts, name, getattr(owner, attribute)))
    started, processor = perf_counter(), process_time()
    with redirect_stdout(io.StringIO()):
        cli.main(list(arguments))
    found |= {"parts": parts, "wall": perf_counter() - started, "cpu": process_time() - processor}
    return found | {"peak": peak_memory()}


def fit(count: int, recording: str, visits: int, out: Path) -> Figures:
    """Fit one population, every base model taking part in so many steps; its figures with those of the map."""
    from dynamo import Fit
    from dynamo.analysis.geometry.clusters import group_agreement
    from dynamo.fit.fidelity import read_fidelity

    run = out / f"run-{count}-{recording}-{visits}"
    shutil.rmtree(run, ignore_errors=True)
    together = min(TOGETHER, count)
    steps = -(-visits * count // together)
    options: dict[str, Any] = {"recording": recording, "models-per-step": together, "batch-size": BATCH, "steps": steps}
    arguments = ["fit", str(out / f"population-{count}"), "--out", str(run), "--preset", "laptop"]
    for name, value in {**options, "colour-by": "group", "threads": 1}.items():
        arguments += [f"--{name}", str(value)]
    found = apart(clocked_fit, arguments) | {"models": count, "recording": recording, "steps": steps}
    found["disk"] = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) / 2**20
    map_, measured = Fit.load(run), read_fidelity(run)
    for label in ("group", "fraction", "recurrence"):
        agreement = group_agreement(map_.theta.double().numpy(), map_.values_of(label))
        found[label] = {"ari": agreement.ari, "silhouette": agreement.silhouette}
    figures = ("hidden_r2", "agreement", "base_score", "emulator_score")
    return found | {figure: measured.mean(figure) for figure in figures}


# Rivals. -------------------------------------------------------------------------------------------------------------


def clocked_rival(name: str, population: Path, counts: Sequence[int]) -> list[Figures]:
    """A rival's times for all pairs of the first models, and the memory that it takes."""
    import torch

    from dynamo import Population
    from dynamo.analysis.rivals import distance_matrix, rival_named
    from dynamo.analysis.rivals.compare import common_recordings
    from dynamo.analysis.rivals.features import readers

    torch.set_num_threads(1)
    models = Population.load(population)[: max(counts)]
    started = process_time()
    recordings = common_recordings(Population(models), EXAMPLES)
    recording_seconds = (process_time() - started) / len(models)
    spaces = [base.outputs for base in models]
    distance_matrix(name, recordings[:2], examples=None, spaces=spaces[:2])  # loads the libraries
    read = readers(rival_named(name), recordings[:2], spaces[:2], examples=None, seed=0, pooling=4)[0]
    features = sum(part.nbytes for part in rival_named(name).prepare(read(0))) / 2**20
    found: list[Figures] = []
    for count in counts:
        before, started, processor = held_memory(), perf_counter(), process_time()
        distance_matrix(name, recordings[:count], examples=None, spaces=spaces[:count])
        wall, cpu = perf_counter() - started, process_time() - processor
        row = {"models": count, "wall": wall, "cpu": cpu, "before": before, "peak": peak_memory()}
        found.append(row | {"features": features, "recording": recording_seconds})
        if cpu > ENOUGH:
            break
    return found


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """What a function gives in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def kept(path: Path, measure: Callable[[], Any]) -> Any:
    """What a file holds, or what is measured now and kept in it."""
    if not path.exists():
        found = measure()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1))
    return json.loads(path.read_text())


# Very many models. ---------------------------------------------------------------------------------------------------


def tiny(count: int, recording: str, out: Path) -> list[Figures]:
    """The parts of a fit of very many networks by two processes, and what is asked of it: seconds, and the most memory
    that a process held.
    """
    from dynamo import DynamoError, Fit, Population, fit_population, preset
    from dynamo.contracts.files import sha256
    from dynamo.fit.ranks import Ranks
    from dynamo.report import fit_population as whole
    from dynamo.report import terminal

    population, run = out / f"tiny-{count}", out / f"tiny-run-{count}-{recording}"
    shutil.rmtree(run, ignore_errors=True)
    parts: Figures = {}
    stages: dict[str, list[float]] = {}

    def stage(name: str, total: int | None = None) -> Callable[..., None]:
        return lambda *_: stages.setdefault(name, []).append(perf_counter())

    for name, owner, attribute in [
        ("measure fidelity", whole, "measure_fidelity"),
        ("draw the map, write the tables", whole, "write_map"),
    ]:
        setattr(owner, attribute, clocked(parts, name, getattr(owner, attribute)))
    models = clocked(parts, "open the population", Population.load)(population)
    options = preset("laptop", models_per_step=64, batch_size=256, steps=50, recording=recording)
    with ChildMemory() as children:
        clocked(parts, "fit in all", fit_population)(models, options, run, ranks=Ranks(2), progress=stage)
    parts["fit in all"]["of a rank"] = children.most
    for name, moments in stages.items():
        if name != "measuring fidelity":
            parts[name] = {"wall": moments[-1] - moments[0], "peak": children.most}
    fit = clocked(parts, "open the fit", Fit.load)(run)
    with redirect_stdout(io.StringIO()) as told:
        clocked(parts, "summary", terminal.summary)(fit, None, run, "group")
    some = fit.sample(1000)
    clocked(parts, "combined distances of 1,000 models", some.distances)(examples=16)
    try:
        fit.distances()
    except DynamoError as error:
        print(f"{told.getvalue()}\ndistances of all pairs: {error}\nθ: {sha256(fit.theta.numpy().tobytes())[:8]}\n")
    return [{"part": name, **own} for name, own in parts.items()]


class ChildMemory:
    """The most memory that a child of this process has held, in MiB, as it was looked at every half second."""

    def __init__(self) -> None:
        self.most, self._done = 0.0, Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> "ChildMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.5):
            for child in active_children():
                with suppress(OSError, StopIteration):
                    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
                    held = next(float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
                    self.most = max(self.most, held)


def tiny_table(parts: Sequence[Figures]) -> str:
    rows = []
    for own in parts:
        ranks = f", {own['of a rank']:,.0f} of a rank" if "of a rank" in own else ""
        cpu = f"{own['cpu']:.1f}" if "cpu" in own else ""
        row = {"part": own["part"], "wall s": f"{own['wall']:.1f}", "processor s": cpu}
        rows.append(row | {"MiB at most": f"{own['peak']:,.0f}{ranks}"})
    return table(rows)


# Tables. -------------------------------------------------------------------------------------------------------------


def exponent(models: Sequence[float], seconds: Sequence[float]) -> float:
    """b of seconds ∝ models^b, by least squares on logarithms."""
    return float(np.polyfit(np.log(models), np.log(seconds), 1)[0]) if len(models) > 1 else float("nan")


def law(models: Sequence[float], values: Sequence[float], *powers: int) -> Callable[[float], float]:
    """Σ c_p N^p with c_p ≥ 0, by least squares of the relative errors."""

    def terms(count: float) -> list[float]:
        return [float(count) ** power for power in powers]

    shares = np.array([terms(count) for count in models]) / np.array(values)[:, None]
    weights = nnls(shares, np.ones(len(values)))[0]
    return lambda count: float(np.dot(weights, terms(count)))


def table(rows: Sequence[Mapping[str, str]]) -> str:
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row[column] for column in columns) + " |" for row in rows)])


def fits_table(fits: Sequence[Figures]) -> str:
    rows = []
    for found in fits:
        cpu = {name: part["cpu"] for name, part in found["parts"].items()}
        row = {"models": f"{found['models']:,}", "recording": found["recording"], "steps": f"{found['steps']:,}"}
        for name in ("load", "build", "record", "fit", "checkpoints", "fidelity"):
            row[name + (" (in fit)" if name == "checkpoints" else "")] = f"{cpu.get(name, 0.0):.2f}"
        row["map, save"] = f"{cpu['map'] + cpu['save'] + cpu['summary']:.2f}"
        row |= {"all": f"{found['cpu']:.0f}", "wall": f"{found['wall']:.0f}", "MiB at most": f"{found['peak']:,.0f}"}
        rows.append(row)
    return table(rows)


def maps_table(fits: Sequence[Figures]) -> str:
    rows = []
    for found in fits:
        row = {"models": f"{found['models']:,}", "recording": found["recording"]}
        for label in ("group", "fraction", "recurrence"):
            row[f"{label}: ARI, silhouette"] = f"{found[label]['ari']:.2f}, {found[label]['silhouette']:.2f}"
        for figure in ("hidden_r2", "agreement", "base_score", "emulator_score"):
            row[figure.replace("_", " ")] = f"{found[figure]:.3f}"
        rows.append(row | {"run folder, MiB": f"{found['disk']:.1f}"})
    return table(rows)


def far(count: float) -> str:
    """Seconds in words."""
    return f"{count:.0f} s" if count < 600 else f"{count / 60:.0f} min" if count < 36000 else f"{count / 3600:.0f} h"


def growth_table(fits: Sequence[Figures], rivals: Mapping[str, Sequence[Figures]]) -> str:
    """Processor seconds at every N, what they come to far away, and their growth: of the whole of `dynamo fit`, and of
    a rival's distances between all pairs, without recordings. Times in italics follow from a law fitted to the others:
    a + b N for the fit, b N + c N² for the rivals.
    """
    rows, fits = [], [found for found in fits if found["recording"] == fits[0]["recording"]]
    counts = sorted({row["models"] for found in (fits, *rivals.values()) for row in found} | set(FAR))
    ours = [(found["models"], found["cpu"], found["peak"]) for found in fits]
    of_fit = law([row[0] for row in ours], [row[1] for row in ours], 0, 1)
    memory = law([row[0] for row in ours], [row[2] for row in ours], 0, 1)

    def line(name: str, measured: Mapping[int, float], at: Callable[[float], float]) -> dict[str, str]:
        row = {"method": name}
        for count in counts:
            row[f"{count:,}"] = f"{measured[count]:.2f}" if count in measured else f"*{far(at(count))}*"
        growing = {count: seconds for count, seconds in measured.items() if seconds >= 0.01}
        return row | {"exponent": f"{exponent(list(growing), list(growing.values())):.2f}"}

    row = line("dynamo", {count: seconds for count, seconds, _ in ours}, of_fit)
    rows.append(row | {"as long as dynamo at": "", "MiB at 10,000": f"{memory(10000):,.0f}"})
    for name, found in rivals.items():
        measured = {part["models"]: max(part["cpu"], 1e-4) for part in found}
        at = law(list(measured), list(measured.values()), 1, 2)
        crossing = next((count for count in np.geomspace(20, 1e6, 400) if at(count) >= of_fit(count)), None)
        row = line(name, measured, at)
        row["as long as dynamo at"] = "" if crossing is None else f"N = {float(f'{crossing:.1g}'):,.0f}"
        rows.append(row | {"MiB at 10,000": f"{found[0]['features'] * 10000:,.0f} + {8 * 10000**2 / 2**20:,.0f}"})
    return table(rows)


def main() -> None:
    from dynamo.analysis.rivals import RIVALS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=int, default=[20, 100], help="sizes of the populations")
    parser.add_argument("--recordings", nargs="+", choices=["memory", "disk", "live"], default=["memory"])
    parser.add_argument("--visits", type=int, default=100, help="steps in which every base model takes part")
    parser.add_argument("--rivals", nargs="+", choices=["all", *RIVALS], default=["cka", "output-disagreement"])
    parser.add_argument("--parts", nargs="+", type=int, default=PARTS, help="models that the rivals compare")
    parser.add_argument("--out", type=Path, default=Path("size"), help="folder of populations, runs and figures")
    parser.add_argument(
        "--tiny", type=int, help="instead: so many GRUs of 4 units with random weights, fitted for 50 steps"
    )
    given = parser.parse_args()
    if given.tiny is not None:
        if not (given.out / f"tiny-{given.tiny}").exists():
            apart(save_random, given.tiny, 4, given.out / f"tiny-{given.tiny}")
        for recording in given.recordings:
            print(f"recording {recording}\n\n{tiny_table(apart(tiny, given.tiny, recording, given.out))}\n", flush=True)
        return
    save_populations(given.models, given.out)
    fits = [
        kept(
            given.out / f"figures/fit-{count}-{recording}-{given.visits}.json",
            partial(fit, count, recording, given.visits, given.out),
        )
        for recording in given.recordings
        for count in given.models
    ]
    print(f"{fits_table(fits)}\n\n{maps_table(fits)}\n", flush=True)
    parts = [count for count in given.parts if count <= max(given.models)]
    population = given.out / f"population-{min(count for count in given.models if count >= max(parts))}"
    rivals = {
        name: kept(given.out / f"figures/rival-{name}.json", partial(apart, clocked_rival, name, population, parts))
        for name in (RIVALS if given.rivals == ["all"] else given.rivals)
    }
    print(growth_table(fits, rivals))


if __name__ == "__main__":
    main()
