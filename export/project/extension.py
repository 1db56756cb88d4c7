"""Whether a network is an earlier one with further tasks: what every patch of a device rests on."""

from __future__ import annotations

from tsn_hw.core import artifact
from tsn_hw.core.errors import ExportError
from tsn_hw.core.network import PackedNetwork


def check_extends(old: PackedNetwork, new: PackedNetwork) -> None:
    """ExportError where ``new`` is not ``old``, bit by bit, with further tasks."""
    count = len(old.tasks)
    if len(new.tasks) <= count:
        raise ExportError(f"the new network has {len(new.tasks)} tasks, the old one {count}: there is nothing to add")
    if artifact.to_bytes(new.first_tasks(count)) == artifact.to_bytes(old):
        return
    for number, task in enumerate(old.tasks):
        was, now = artifact.seal(old, number), artifact.seal(new, number)
        if was != now:
            raise ExportError(
                f"task {task.name!r}: has the seal {now[:12]} in the new network, {was[:12]} in the old one"
            )
    raise ExportError(f"the first {count} tasks of the new network are not the old one in what seals do not cover")
