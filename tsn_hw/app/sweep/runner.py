"""Points to rows: those that are on disk are read, all others are evaluated on an engine and written down."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsn_hw import __version__
from tsn_hw.app.sweep.engines import Engine
from tsn_hw.app.sweep.evaluate import Base, evaluate, float_accuracy
from tsn_hw.app.sweep.pareto import betters
from tsn_hw.app.sweep.points import Point
from tsn_hw.app.sweep.results import Results, Row, check_row, identity, network_name
from tsn_hw.app.sweep.settings import DeviceBudget
from tsn_hw.core.files import write_atomically
from tsn_hw.learn.progress import stage

CHUNKS, CHUNK_POINTS = 8, 8
"""Points are handed out in that many chunks, or in more of at most so many points."""


@dataclass(frozen=True)
class Runner:
    """Evaluates points of some bases, each told by its keep ratio.

    The networks that no row known by then betters are written into the folder ``networks``, named by their digests.
    """

    bases: Mapping[float, Base]
    results: Results
    engine: Engine
    part: DeviceBudget | None
    networks: Path

    def rows(self, points: Sequence[Point]) -> list[Row]:
        """The row of every point."""
        known = self.results.rows
        missing = [point for point in dict.fromkeys(points) if self._identity(point) not in known]
        with stage("points", len(missing)) as told:
            chunks = _chunks(missing)
            calls = [(self._base(chunk[0]), [point.variant for point in chunk], self.part) for chunk in chunks]
            for number, found in self.engine(evaluate, calls):
                for point, (row, written) in zip(chunks[number], found, strict=True):
                    self._keep(row, written)
                    self.results.append(self._identity(point), row)
                    told.advance()
        rows = [known[self._identity(point)] for point in points]
        for row in rows:
            check_row(row, "results.jsonl")
        return rows

    def float_percent(self) -> float:
        """Mean test accuracy of the float weights, of the base where it is best."""
        known, bases = self.results.rows, list(self.bases.values())
        identities = [identity({"run": base.digest, "version": __version__, "weights": "float"}) for base in bases]
        missing = [number for number, one in enumerate(identities) if one not in known]
        for number, accuracy in self.engine(float_accuracy, [(bases[i],) for i in missing]):
            self.results.append(identities[missing[number]], {"accuracy_percent": accuracy})
        return max(float(known[one]["accuracy_percent"]) for one in identities)

    def keep_networks(self, points: Sequence[Point], rows: Sequence[Row]) -> list[Path]:
        """The files of the networks of some points; those of all others go."""
        paths = [self.networks / network_name(row) for row in rows]
        missing = [number for number, path in enumerate(paths) if not path.is_file()]
        calls = [(self._base(points[number]), [points[number].variant], self.part) for number in missing]
        for _, ((row, written),) in self.engine(evaluate, calls):
            write_atomically(self.networks / network_name(row), written)
        for path in set(self.networks.glob("*.tsn")) - set(paths):
            path.unlink()
        return paths

    def _keep(self, row: Row, written: bytes) -> None:
        """Write a network unless another one betters it, which one that is not kept at the end does not need."""
        rows = [other for other in self.results.rows.values() if "sha256" in other]
        if not any(betters(other, row) for other in rows):
            write_atomically(self.networks / network_name(row), written)

    def _base(self, point: Point) -> Base:
        return self.bases[point.keep_ratio]

    def _identity(self, point: Point) -> str:
        part = None if self.part is None else self.part.to_json()
        return identity({"run": self._base(point).digest, "version": __version__, "part": part, **point.to_json()})


def _chunks(points: Sequence[Point]) -> list[list[Point]]:
    """Points to hand out together: neighbours, which share results, all of one base."""
    size = min(CHUNK_POINTS, -(-len(points) // CHUNKS))
    of_bases = (list(group) for _, group in itertools.groupby(points, key=lambda point: point.keep_ratio))
    return [group[start : start + size] for group in of_bases for start in range(0, len(group), size)]
