"""The learner: data, task streams, and everything that trains subnetworks and freezes them into a packed network.

Names are imported when they are first used, because some of them load torch and Brevitas.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsn_hw.learn.codebook import fit_codebook, nearest_code
    from tsn_hw.learn.config import read_settings, stream_of
    from tsn_hw.learn.data.dataset import DataSet
    from tsn_hw.learn.data.images import load_data
    from tsn_hw.learn.data.tasks import Stream, TaskData, mixed, permuted, split
    from tsn_hw.learn.freezing import TaskLabel, freeze
    from tsn_hw.learn.models import SubnetModel
    from tsn_hw.learn.run import load_run, train
    from tsn_hw.learn.settings import (
        DataSettings,
        Formats,
        ModelSettings,
        PruneSettings,
        QuantizeSettings,
        RouteSettings,
        Settings,
        StreamSettings,
        TrainSettings,
    )
    from tsn_hw.learn.training import Evaluation, evaluate

_HOMES = {
    "codebook": ("fit_codebook", "nearest_code"),
    "config": ("read_settings", "stream_of"),
    "data.dataset": ("DataSet",),
    "data.images": ("load_data",),
    "data.tasks": ("Stream", "TaskData", "mixed", "permuted", "split"),
    "freezing": ("TaskLabel", "freeze"),
    "models": ("SubnetModel",),
    "run": ("load_run", "train"),
    "training": ("Evaluation", "evaluate"),
}
__all__ = [
    "DataSet",
    "DataSettings",
    "Evaluation",
    "Formats",
    "ModelSettings",
    "PruneSettings",
    "QuantizeSettings",
    "RouteSettings",
    "Settings",
    "Stream",
    "StreamSettings",
    "SubnetModel",
    "TaskData",
    "TaskLabel",
    "TrainSettings",
    "evaluate",
    "fit_codebook",
    "freeze",
    "load_data",
    "load_run",
    "mixed",
    "nearest_code",
    "permuted",
    "read_settings",
    "split",
    "stream_of",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "settings")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
