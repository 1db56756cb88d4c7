"""Every error a user can meet. All of them mean "one clear line and exit code 2", never a traceback.

TsnError
├── NetworkError    a PackedNetwork would contradict itself
├── ArtifactError   a .tsn or exported file is damaged, of another version, or contradicts itself
├── FileError       a file or folder cannot be read or written
├── DataError       a data set is missing or not what it claims to be
├── SettingsError   a settings file or a command line asks for something that does not exist
├── TrainingError   training went wrong: no finite loss, or a checkpoint of another run
├── BodyError       a module or model of another tool cannot become a body
├── ExportError     a back end cannot hold this network exactly
├── FoldingError    a folding does not fit the layer that it is for
└── EngineError     an engine cannot run here (a package or a checkpoint is missing)

A message names the place, the rule and the value: "layer 'fc1': mask has shape (3, 2), the weights (2, 3)".
"""

import sys


class TsnError(Exception):
    """Base of all errors that tsn-hw raises on purpose."""


class NetworkError(TsnError, ValueError):
    """A packed network contradicts itself."""


class ArtifactError(TsnError, ValueError):
    """A .tsn or exported file cannot be read: damaged, of another version, or contradictory."""


class FileError(TsnError, OSError):
    """A file or folder cannot be read or written."""


class DataError(TsnError, ValueError):
    """A data set is missing, or not what it claims to be."""


class SettingsError(TsnError, ValueError):
    """A setting is unknown, missing, or out of its range."""


class TrainingError(TsnError, RuntimeError):
    """Training went wrong, or cannot be resumed."""


class BodyError(TsnError, ValueError):
    """A module or model of another tool cannot become a body; the message lists everything that has no counterpart."""


class ExportError(TsnError, ValueError):
    """A back end cannot hold this network exactly."""


class FoldingError(TsnError, ValueError):
    """A folding does not fit the layer that it is for."""


class EngineError(TsnError, RuntimeError):
    """An engine cannot run here."""


def brief(text: str, most: int = 160) -> str:
    """A text as part of a message: in one line, its end cut off where it is long.

    >>> brief("Expecting value:\\n  line 1"), brief("x" * 20, most=10)
    ('Expecting value: line 1', 'xxxxxxx...')
    """
    line = " ".join(text[: 8 * most].split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def shown(value: object) -> str:
    """A value as part of a message."""
    try:
        return brief(repr(value), most=80)
    except ValueError:  # of an integer that Python does not write out
        return "a number of thousands of digits"


def warn(text: str) -> None:
    """Tell what goes on although it is not as it should be: one line beside the result, on standard error."""
    sys.stderr.write(f"warning: {text}\n")
