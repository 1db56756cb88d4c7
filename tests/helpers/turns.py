"""Turns of a unit with lists in any order that is allowed, by a plain walk through its lines."""

import random
from typing import NamedTuple


class Turn(NamedTuple):
    """A turn of a team, from its first line to its last."""

    turn: int
    team: int
    begin: int
    end: int


def random_turns(lengths: list[int], teams: int, draw: random.Random) -> list[Turn]:
    """Turns of so many lines at least, in the order in which they end: no two in a line, nor a line between two."""
    waiting, working, found = draw.sample(range(len(lengths)), len(lengths)), dict[int, tuple[int, int]](), []
    for line in range(sum(lengths) + len(lengths)):
        for team in draw.sample(range(teams), teams):
            if team not in working and waiting:
                working[team] = waiting.pop(), line
        ready = [team for team, (turn, begin) in working.items() if line - begin + 1 >= lengths[turn]]
        if ready and (draw.random() < 0.9 or not waiting):
            team = draw.choice(ready)
            turn, begin = working.pop(team)
            found.append(Turn(turn, team, begin, line))
        if not working and not waiting:
            break
    assert len(found) == len(lengths)
    return found
