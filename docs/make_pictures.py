"""Make the pictures of the pages under `questions/`: small populations, their maps, and every question to them.

    python docs/make_pictures.py

It takes some minutes on one core. What it trains is kept in `build/pictures`, so an interrupted run goes on; remove
that folder to start anew. The pictures are written to `docs/pictures`, each with at most 128 colours, so that the
repository stays small.
"""

from pathlib import Path

from PIL import Image

from dynamo.cli import main

ROOT = Path(__file__).parent.parent
WORK, PICTURES = ROOT / "build" / "pictures", ROOT / "docs" / "pictures"
WIDTH = 1200

#: Folder of a population, and how it is trained.
POPULATIONS = {
    "digits": "-a gru:hidden_size=24 -d digits-rows -f 1 -f 0.1 --seeds 8 --epochs 30 --batch-size 32"
    " --learning-rate 3e-3",
    "new": "-a gru:hidden_size=24 -d digits-rows -f 1 -f 0.3 --seeds 3 --first-seed 100 --epochs 30 --batch-size 32"
    " --learning-rate 3e-3",
    "epochs": "-a gru:hidden_size=24 -d digits-rows --seeds 3 --epochs 12 --keep-epochs --batch-size 32"
    " --learning-rate 3e-3",
    "sentences": "-a gru:hidden_size=24,embedding_size=16 -d synthetic-sentiment -f 1 -f 0.1 --seeds 8 --epochs 30"
    " --learning-rate 3e-3",
    "memory": "-a gru:hidden_size=48 -d flip-flop --seeds 4 --epochs 40 --batch-size 32 --learning-rate 5e-3",
}

#: Folder of a run, and how it is fitted.
RUNS = {
    "digits-0": "digits --preset laptop --colour-by fraction",
    "digits-1": "digits --preset laptop --colour-by fraction --seed 1",
    "digits-2": "digits --preset laptop --colour-by fraction --seed 2",
    "epochs-0": "epochs --preset laptop --colour-by epoch",
    "sentences-0": "sentences --preset laptop --colour-by fraction",
    "memory-0": "memory --preset laptop --steps 100",
}

#: Name of a picture, the command that draws it, and the file that the command leaves.
QUESTIONS = {
    "distances": ("analyse distances digits-0 --colour-by fraction", "neighbours.png"),
    "clusters": ("analyse clusters digits-0 --by fraction", "clusters.png"),
    "order": ("analyse order epochs-0 --by epoch --distance states", "order.png"),
    "alignment": ("analyse alignment digits-0 digits-1 digits-2 --colour-by fraction", "alignment.png"),
    "averages": ("analyse averages digits-0 --between fraction=1 fraction=0.1 --geodesic", "ways.png"),
    "landscape": ("analyse landscape digits-0 --colour-by fraction", "landscape.png"),
    "search": ("analyse search digits-0 --colour-by fraction", "search.png"),
    "few-labels": ("analyse few-labels digits-0 --labels 100 --balanced --colour-by fraction", "few-labels.png"),
    "embed": ("embed digits-0 new --colour-by fraction --distance states", "embedding.png"),
    "compare": ("analyse compare digits-0 --by fraction --methods cka,procrustes,rsa,svcca", "compare.png"),
    "fixed-points": ("analyse fixed-points memory-0 --at flip-flop-gru-100-s0 --base", "fixed-points.png"),
    "attractors": (
        "analyse attractors sentences-0 --between fraction=0.1 fraction=1 --slow nearest --seen --points 7",
        "points.png",
    ),
    "words": (
        "analyse words sentences-0 --positive positive* --negative negative* --neutral neutral* --colour-by fraction",
        "words.png",
    ),
    "conjugacy": ("analyse conjugacy sentences-0 --by fraction", "conjugacy.png"),
}


def run(command: str, *more: str) -> None:
    """A command of dynamo, with folders relative to the working folder."""
    words = [str(WORK / word) if word in (*POPULATIONS, *RUNS) else word for word in command.split()]
    print("dynamo", command, flush=True)
    main([*words, *more])


def shrink(source: Path, target: Path) -> None:
    """A picture of at most `WIDTH` pixels across and 128 colours."""
    picture = Image.open(source).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    colours = picture.quantize(128, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    colours.save(target, optimize=True)


def make() -> None:
    """Train and fit what is not there yet, ask every question, and copy the pictures."""
    PICTURES.mkdir(exist_ok=True)
    for name, options in POPULATIONS.items():
        run(f"train {name} {options}", "--skip-existing")
    for name, options in RUNS.items():
        if not (WORK / name / "run.toml").exists():
            run(f"fit {options}", "--out", str(WORK / name))
    shrink(WORK / "digits-0" / "map.png", PICTURES / "map.png")
    for name, (command, picture) in QUESTIONS.items():
        folder = WORK / f"answer-{name}"
        if not (folder / picture).exists():
            run(command, "--out", str(folder))
        shrink(folder / picture, PICTURES / f"{name}.png")


if __name__ == "__main__":
    make()
