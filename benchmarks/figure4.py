"""Figures 4 and 10 on images: what tells residual networks apart, with and without the outputs, in L1 and in L2?

ResNet-8s of width 8, five panels:

    size          8 networks trained on 100 % of the images and 8 on 25 %, λ = 1
    augmentation  8 networks with weak augmentation and 8 with strong, λ = 1
    size-states, augmentation-states   the same with λ = 0: hidden states alone
    augmentation-l1   λ = 1, with the L1 distance between hidden states

Each is fitted with three seeds of the meta-model. The environment variable DYNAMO_IMAGES names the images: an .npz
file (see `dynamo plugins image-arrays`), or the folder of Fashion-MNIST's four files, of which 6,000 images are used.
Run it from the project's folder:

    DYNAMO_IMAGES=cifar10.npz python benchmarks/figure4.py --out figure4-cifar --jobs 2
    DYNAMO_IMAGES=fashion-mnist python benchmarks/figure4.py --out figure4-fashion --jobs 2
"""

import os

from campaign import Panel, run_campaign

PATH = os.environ.get("DYNAMO_IMAGES", "fashion-mnist")
if PATH.endswith(".npz"):
    IMAGES, EPOCHS = f"image-arrays:path={PATH},group=images", 15
else:
    IMAGES, EPOCHS = f"fashion-mnist:root={PATH},train_size=6000,test_size=2000", 10
NETWORK = "cifar-resnet:depth=8,width=8"
TRAIN = f"-a {NETWORK} -d {IMAGES} --seeds 8 --epochs {EPOCHS} --optimizer sgd --learning-rate 0.05"
PARTS = {
    "weak": f"{TRAIN} -f 1 -f 0.25 --augmentation weak --prefix weak",
    "strong": f"{TRAIN} -f 1 --augmentation strong --prefix strong",
}
OPTIONS = "--preset laptop-cnn --steps 600 --channels-last true --output-weight"
PANELS = {
    "size": Panel("fraction", "augmentation=weak", f"{OPTIONS} 1"),
    "augmentation": Panel("augmentation", "fraction=1", f"{OPTIONS} 1"),
    "size-states": Panel("fraction", "augmentation=weak", f"{OPTIONS} 0"),
    "augmentation-states": Panel("augmentation", "fraction=1", f"{OPTIONS} 0"),
    "augmentation-l1": Panel("augmentation", "fraction=1", f"{OPTIONS} 1 --hidden-divergence l1:reduction=mean"),
}

if __name__ == "__main__":
    run_campaign(__doc__, PARTS, PANELS, "figure4")
