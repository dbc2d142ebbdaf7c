"""Figures 3 and 9 on real texts: does the map separate what is known to differ?

Four populations of RNNs on the snippets (see `dynamo plugins snippets` for where they come from):

    size         10 GRUs trained on 100 % of the sentences and 10 on 25 %
    epochs       4 GRUs, a checkpoint of every one of 20 epochs
    architecture 10 GRUs and 10 vanilla RNNs
    task         10 GRUs for sentiment and 10 for the source of the text (two heads)

    size-states, architecture-states, task-states   the same with λ = 0: hidden states alone

Each is fitted with three seeds of the meta-model. k-means has as many clusters as there are groups and knows nothing
else of them. Run it from the project's folder:

    python benchmarks/figure3.py --out figure3 --jobs 2
"""

from attrs import evolve
from campaign import Panel, run_campaign

NETWORK = "hidden_size=48,embedding_size=32,dropout=0.3"
TEXTS = "max_length=24,vocabulary_size=1000"
SENTIMENT = f"snippets:task=sentiment,{TEXTS}"
SOURCE = f"snippets:task=source,{TEXTS}"
PARTS = {
    "gru": f"-a gru:{NETWORK} -d {SENTIMENT} -f 1 -f 0.25 --seeds 10 --epochs 12 --learning-rate 3e-3",
    "rnn": f"-a rnn:{NETWORK} -d {SENTIMENT} --seeds 10 --epochs 12 --learning-rate 1e-3 --clip-norm 1",
    "source": f"-a gru:{NETWORK} -d {SOURCE} --seeds 10 --epochs 8 --learning-rate 3e-3",
    "epochs": f"-a gru:{NETWORK} -d {SENTIMENT} --seeds 4 --first-seed 20 --epochs 20 --learning-rate 1e-3"
    " --keep-epochs",
}
OPTIONS = "--preset laptop"
PANELS = {
    "size": Panel("fraction", "task=sentiment architecture=gru checkpoints=false", OPTIONS),
    "epochs": Panel("epoch", "checkpoints=true", OPTIONS, ordered=True),
    "architecture": Panel("architecture", "task=sentiment fraction=1 checkpoints=false", OPTIONS),
    "task": Panel("task", "architecture=gru fraction=1 checkpoints=false", OPTIONS),
}
PANELS |= {
    f"{name}-states": evolve(PANELS[name], options=f"{OPTIONS} --output-weight 0")
    for name in ("size", "architecture", "task")
}

if __name__ == "__main__":
    run_campaign(__doc__, PARTS, PANELS, "figure3")
