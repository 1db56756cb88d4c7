"""What every command of the command line has: the types of its options, and how they are read and refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import CoercionError, CycloptsError, MissingArgumentError, Parameter, Token

from tsn_hw.core.errors import SettingsError

if TYPE_CHECKING:
    from tsn_hw.app.hardware.platform import Platform

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def path(_type: object, tokens: Sequence[Token]) -> Path:
    """The file or folder that an option names."""
    text = tokens[0].value
    if not text or "\0" in text:
        raise SettingsError(f"must name a file or a folder, found {text!r}")
    return Path(text)


def paths(_type: object, tokens: Sequence[Token]) -> list[Path]:
    """All files and folders that are named."""
    return [path(None, [token]) for token in tokens]


def task(_type: object, tokens: Sequence[Token]) -> int | str:
    """The task that an option names, by its number or its name."""
    try:
        return int(tokens[0].value)
    except ValueError:
        return tokens[0].value


@dataclass(frozen=True)
class Number:
    """Reads a number within a range, its ends included; SettingsError beyond it.

    >>> Number(int, 1, 64)(int, [Token(value="7")])
    7
    """

    kind: type[int] | type[float]
    low: float
    high: float

    def __call__(self, _type: object, tokens: Sequence[Token]) -> float:
        text = tokens[0].value
        try:
            value: float = self.kind(text)
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            kind = "a whole number" if self.kind is int else "a number"
            raise SettingsError(f"must be {kind} within {self.low:.10g}..{self.high:.10g}, found {text[:40]}")
        return value


def whole(low: int, high: int) -> Parameter:
    """An option of whole numbers from ``low`` to ``high``."""
    return Parameter(converter=Number(int, low, high))


def real(low: float, high: float) -> Parameter:
    """An option of numbers from ``low`` to ``high``."""
    return Parameter(converter=Number(float, low, high))


File = Annotated[Path, Parameter(converter=path, metavar="FILE")]
Folder = Annotated[Path, Parameter(converter=path, metavar="FOLDER")]
Out = Annotated[Path, Parameter(converter=path, metavar="PATH", alias="-o")]
TaskName = Annotated[int | str, Parameter(converter=task, metavar="TASK")]
Rate = Annotated[float, real(1e-3, 1e9)]
Family = Literal["xc7", "ecp5", "ice40"]


@Parameter(name="*")
@dataclass(frozen=True)
class DeviceOptions:
    """The options that name a part."""

    device: Annotated[
        str | None, Parameter(metavar="NAME", help="part of the hardware; 'tsn-hw cost --devices' lists them")
    ] = None
    device_file: Annotated[File | None, Parameter(help="TOML file with further parts, or changes to ours")] = None

    def require_device(self, **options: object) -> None:
        """Refuse options about an accelerator where --device puts none on a part."""
        for name, value in ({"device_file": self.device_file} | options).items():
            if self.device is None and value is not None:
                raise SettingsError(f"{flag(name)}: is about an accelerator; name its part with --device")


@Parameter(name="*")
@dataclass(frozen=True)
class EstimatedDeviceOptions(DeviceOptions):
    """The options that name a part, and what area is estimated with."""

    coefficients: Annotated[
        File | None, Parameter(help="estimate area with this file of 'tsn-hw calibrate' instead of ours")
    ] = None

    def platform(self, default: str | None = None, part: str | None = None) -> Platform:
        """The part that is named, else the default, else that of ``part``, the full name of one."""
        from tsn_hw.app.hardware.platform import platform

        return platform(self.device or default, part, self.device_file, self.coefficients)


def flag(name: str) -> str:
    """A parameter as it is written on the command line.

    >>> flag("max_tasks")
    '--max-tasks'
    """
    return f"--{name.replace('_', '-')}"


def refusal(error: CycloptsError) -> SettingsError:
    """Our line for a command line that is none: option, rule and value, and where to read more."""
    told, argument = str(error), error.argument
    if argument is not None:
        names = "/".join(sorted(argument.names, key=len))
        name = names if names.startswith("-") else names.lower()
        if isinstance(error, MissingArgumentError):
            told = f"{name}: needs a value"
        elif isinstance(error, CoercionError) and error.msg is not None:
            told = f"{name}: {error.msg}"
        elif isinstance(error, CoercionError) and error.token is not None and argument.get_choices():
            told = f"{name}: must be one of {', '.join(argument.get_choices() or ())}, found {error.token.value!r}"
    program = " ".join(["tsn-hw", *(error.command_chain or ())])
    return SettingsError(f"{told} ('{program} --help' tells more)")
