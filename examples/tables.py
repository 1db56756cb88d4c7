"""Three tables in one network: scikit-learn's wine, breast cancer and iris sets, learned one after the other.

    python examples/tables.py build/tables
    tsn-hw verify build/tables/net.tsn

Rows become values of one length: features that a set does not have are 0, which is the mean of every other one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_iris, load_wine

from sim import Simulator
from tsn_hw import capacity
from tsn_hw.learn import (
    DataSet,
    Preparation,
    PruneSettings,
    QuantizeSettings,
    Settings,
    StreamSettings,
    TrainSettings,
    integers,
    mlp,
    own_data,
    own_stream,
    train,
)

FEATURES = 30
SETS = {"wine": load_wine, "cancer": load_breast_cancer, "iris": load_iris}
SETTINGS = Settings(
    stream=StreamSettings(validation_share=0.2),
    train=TrainSettings(epochs=30, batch=16, lr=1e-2, keep_ratio=0.3, inherit=0.1, threads=1),
    prune=PruneSettings(iterations=0),
    quantize=QuantizeSettings(min_bits=3, max_bits=4, qat_bits=4, qat_epochs=5),
)


def tables() -> list[DataSet]:
    """Every set, padded to the features of the widest; a quarter of each class is the test part."""
    found = []
    for name, load in SETS.items():
        rows, labels = load(return_X_y=True)
        padded = np.pad(rows, ((0, 0), (0, FEATURES - rows.shape[1])))
        prepared = Preparation(normalize=True, test_share=0.25)
        found.append(own_data(name, (padded, labels), preparation=prepared))
    return found


def main(folder: Path) -> None:
    """Learn all sets, and print what each reaches in integers."""
    stream = own_stream(tables(), valid_share=SETTINGS.stream.validation_share)
    net = train(mlp(stream.input_shape, (64, 32), batch_norm=True), stream, SETTINGS, folder).network
    for number, task in enumerate(net.tasks):
        data = stream.task(number)
        classes = Simulator(net, number).predict(integers(data.x_test, net.input))
        sys.stdout.write(f"{task.name}: {100 * (classes == data.y_test).mean():.1f} %\n")
    sys.stdout.write(f"{capacity(net).body_percent:.1f} % of one dense body\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
