"""Files as other hands change them: values of JSON, texts and bytes, at random from a seed."""

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tsn_hw.core.errors import TsnError

COUNT = 2000
"""Mutations of a kind of file."""
LONGEST = 300
"""Characters of a message, besides the path of its file."""
NONSENSE: tuple[Any, ...] = (
    None, True, False, 0,
    1, -1, 2, 7, 255, 2**31, 2**62, 2**63, 10**40, 0.5, -1e300, 1e300, "", "x", "x" * 5000, "../x",
    "\n", "\0", "\ud800", [], [[]], {}, {"x": 1}, [1, 2], "0" * 64,
)  # fmt: skip
TEXTS = (
    "0", "-1",
    "1e999", "nan", "true", "9" * 30, "4611686018427387904", "'x'", '"' + "x" * 5000 + '"', "[]", "{}", "[[1]]",
    "null", "", "[", '"\\ud800"',
)  # fmt: skip
_TOKEN = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'|[\w.+-]+|[\[\]{}=:,]")


def mutated(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value in which one place is another value, gone, there twice, or that of another place."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    holder, key = rng.choice(places)
    change = rng.randrange(6)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif change == 1:
        holder[rng.choice(["x", "format", "name", ""])] = rng.choice(NONSENSE)
    elif change == 2:
        other, at = rng.choice(places)
        holder[key] = copy.deepcopy(other[at])
    elif change == 3 and isinstance(holder[key], int | float):
        holder[key] += rng.choice([1, -1, 0.5, 64, 10**6])
    else:
        holder[key] = copy.deepcopy(rng.choice(NONSENSE))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def as_bytes(value: Any) -> bytes:
    """A JSON value as a file, whatever it holds."""
    return json.dumps(value).encode()


def changed_text(text: str, rng: random.Random) -> bytes:
    """A text in which one word is another."""
    words = list(_TOKEN.finditer(text))
    word = rng.choice(words)
    new = rng.choice(TEXTS) if rng.randrange(3) else rng.choice(words)[0]
    return (text[: word.start()] + new + text[word.end() :]).encode()


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bytes of which one is another, some are gone, or some are there twice."""
    place, change = rng.randrange(len(data)), rng.randrange(4)
    if change == 0:
        return data[:place]
    if change == 1:
        return data[:place] + data[place : place + rng.randrange(9)] + data[place:]
    if change == 2:
        return data[:place] + data[place + rng.randrange(1, 9) :]
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def judge(make: Callable[[random.Random], bytes], read: Callable[[bytes], object], path: Path | None = None) -> int:
    """Read many mutations: each must be right or refused in one line of ours. Gives how many were read."""
    was_read = 0
    for seed in range(COUNT):
        data = make(random.Random(seed))
        try:
            read(data)
            was_read += 1
        except TsnError as error:
            message = str(error) if path is None else str(error).replace(str(path), "FILE")
            assert "\n" not in message, (seed, message)
            assert len(message) <= LONGEST, (seed, message)
        except pytest.fail.Exception:
            raise
        except Exception as error:
            raise AssertionError(f"mutation {seed}: {data[:2000]!r}") from error
    return was_read
