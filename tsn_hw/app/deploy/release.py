"""The command release: what goes out with a network, in one folder that is the same whenever it is made.

Beside the network and its exports: a model card that people read, a bill of materials in CycloneDX that tools read, the
licence of what tsn-hw put into the exports, and the digests of everything.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import files, requires, version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import tsn_hw
from export.project.folder import exported_files, write_folder
from tsn_hw.app.output import CommandResult, Note, Section, Table
from tsn_hw.app.output.markdown import markdown
from tsn_hw.app.report import costs, sections
from tsn_hw.app.report.run import gather
from tsn_hw.app.report.sections import Subject
from tsn_hw.core.errors import SettingsError, shown

FORMAT = "tsn-hw release 1"
NETWORK, CARD, BILL, SUMS, LICENSE = "net.tsn", "MODEL_CARD.md", "sbom.cdx.json", "SHA256SUMS", "LICENSE.tsn-hw"
OURS = "Apache-2.0"
LICENSE_NAME = re.compile(r"[A-Za-z0-9.+() -]{1,200}", re.ASCII)
"""Letters of SPDX expressions."""
LIMITS = (
    "Each task classifies inputs that are like its training data, into the classes that it was trained with; of any "
    "other input it names one of them all the same. Whoever calls it says which task an input belongs to. Accuracies "
    "are of the test data of the run, and say nothing about other data."
)
"""What every network of this kind cannot do."""


def write_release(source: Path, exports: Sequence[Path], out: Path, license: str | None) -> CommandResult:
    """Write a folder with the network of a .tsn file or of a run's folder, and with exports of it.

    license: SPDX name of the licence that the network is given under, or None. Raises ExportError for a folder of an
    export that is empty or not as it was written, or that is named like another.
    """
    if license is not None and not LICENSE_NAME.fullmatch(license):
        raise SettingsError(f"--license: must be an SPDX name such as CC-BY-4.0, found {shown(license)}")
    subject = gather(source, None, None)
    content = {NETWORK: subject.data, LICENSE: _our_license()}
    for folder in exports:
        name = folder.resolve().name
        if any(path.split("/")[0] == name for path in content):
            raise SettingsError(f"{folder}: another part of the release has the name {name!r}; rename the folder")
        content |= {f"{name}/{path}": data for path, data in sorted(exported_files(folder).items())}
    content[CARD] = model_card(subject, content, license).encode()
    content[BILL] = bill_of_materials(subject, content, license).encode()
    content[SUMS] = "".join(f"{_sha256(data)}  {path}\n" for path, data in sorted(content.items())).encode()
    write_folder(out, content, FORMAT)
    told = f"{out}: {len(content)} files, {sum(map(len, content.values())):,} bytes; read {CARD}\nsha256sum -c {SUMS}"
    return CommandResult([Note(f"{told} checks them, in {out}")], {"folder": str(out), "files": sorted(content)})


def model_card(subject: Subject, content: Mapping[str, bytes], license: str | None) -> str:
    """What the network is, from whom it can be told, and what it cannot do; ``content``: what goes out with it."""
    net, shape = subject.net, " x ".join(map(str, subject.net.input_shape))
    about = [
        f"{len(net.tasks)} tasks in one network, each a subnetwork of its own; input {shape} of {net.input.bits} bits",
        f"licence of the network: {license or 'not said'}; of what tsn-hw put into the exports: {OURS} ({LICENSE})",
        f"made with tsn-hw {tsn_hw.__version__}",
    ]
    sizes = [[name, len(part), sum(map(len, part))] for name, part in _parts(content).items()]
    files = Table.of_rows(["part", "files", "bytes"], sizes)
    parts = [
        Section("about", "What this is", [Note("\n".join(about))]),
        sections.summary(subject),
        Section("limits", "What it cannot do", [Note(LIMITS)]),
        sections.tasks(subject),
        costs.memory(subject),
        Section("files", "Files", [files, Note(f"{SUMS} has the digest of each, {BILL} what they are made of")]),
        sections.verification(subject),
        sections.provenance(subject),
    ]
    return f"# {subject.title}\n\n{markdown(parts)}"


def _parts(content: Mapping[str, bytes]) -> dict[str, list[bytes]]:
    """The files of every export, and those beside them each for itself."""
    found: dict[str, list[bytes]] = {}
    for path, data in content.items():
        found.setdefault(path.split("/")[0], []).append(data)
    return found


def bill_of_materials(subject: Subject, content: Mapping[str, bytes], license: str | None) -> str:
    """CycloneDX 1.6 as JSON: every file with its digest, and, as excluded, the packages that made them.

    Without a time and a serial number, so that it says the same whenever it is made.
    """
    network: dict[str, Any] = {
        "bom-ref": "network",
        "type": "machine-learning-model",
        "name": subject.title,
        "version": _sha256(subject.data)[:16],
        "hashes": _hashes(subject.data),
    }
    if license is not None:
        network["licenses"] = [{"license": {"name": license}}]
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": network},
        "components": [
            *({"type": "file", "name": path, "hashes": _hashes(data)} for path, data in sorted(content.items())),
            *_packages(),
        ],
    }
    return json.dumps(bill, indent=1) + "\n"


def _packages() -> Iterator[dict[str, Any]]:
    """tsn-hw and what it is built on, as it is installed: none of it is in the release."""
    ours = {"type": "library", "name": "tsn-hw", "version": tsn_hw.__version__, "scope": "excluded"}
    yield ours | {"licenses": [{"license": {"id": OURS}}], "purl": f"pkg:pypi/tsn-hw@{tsn_hw.__version__}"}
    for name in sorted(re.split(r"[^\w.-]", need)[0] for need in requires("tsn-hw") or () if "extra ==" not in need):
        found = version(name)
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(found)}"
        yield {"type": "library", "name": name, "version": found, "scope": "excluded", "purl": purl}


def _our_license() -> bytes:
    """The licence of tsn-hw, as it was installed."""
    ours = next(path for path in files("tsn-hw") or () if path.name == "LICENSE")
    return ours.read_binary()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _hashes(data: bytes) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": _sha256(data)}]
