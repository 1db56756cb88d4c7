"""The index of a folder of memories: nothing that it says is believed."""

import re
import zlib
from hashlib import sha256

import pytest

from export.memories.files import INDEX, files_of, read_memories
from export.memories.formats import MEMORY_FORMATS, read_memory, write_memory
from tests.helpers.memory_images import DIGEST, SMALL
from tsn_hw.core.errors import ArtifactError, FileError
from tsn_hw.hardware.memories import Field, MemoryLayout

CRC = f"{zlib.crc32(bytes([0x01, 0x1F, 0x0A])):08x}"
FILE_DIGEST = sha256("01 1f 0a ".replace(" ", "\n").encode()).hexdigest()


NOT_OURS = "memories.json: its SHA-256 does not match, or it is not written as the format asks"


def resealed(text):
    """An index with the digest that its entries have."""
    entries = text.partition('"memories": [\n')[2].rpartition("\n ]")[0]
    return re.sub('"sha256": "[0-9a-f]*",\n', f'"sha256": "{sha256(entries.encode()).hexdigest()}",\n', text, count=1)


@pytest.mark.parametrize(
    ("old", "new"), [("line", "lime"), ("code", "mode"), ("false", "true"), ('"sha256"', '"sha265"')]
)
def test_no_change_of_an_index_is_believed(tmp_path, old, new):
    """Names of axes and fields, and signs, stand in no file that they tell about."""
    files = files_of([SMALL], ["dat"])
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / INDEX).write_text(files[INDEX].decode().replace(old, new, 1))
    with pytest.raises(ArtifactError, match=r"^memories\.json: "):
        read_memories(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "[{", "memories.json: not JSON (Expecting ',' delimiter: line 9 column 1 (char 533))"),
        ('"version": 2', '"version": 1', "memories.json: is no index of memories of version 2"),
        ('"format"', '"form"', "memories.json: unknown key 'form'; known are format, version, sha256, memories"),
        ('"fc"', '"../x"', "memories.json: memories[0]: there is no memory '../x', 'words'"),
        (
            '"words"',
            '"word"',
            "memories.json: memories[0]: kind = 'word': must be one of 'words', 'codebook', 'mask', 'scales', 'task'",
        ),
        ('"depth": 3', '"depth": 4', NOT_OURS),
        ('"length": 3', '"length": 4', NOT_OURS),
        ('"signed": false', '"signed": 0', "memories.json: memories[0]: lane[0]: signed = 0: must be true or false"),
        ('"lanes": 1', '"lanes": 0', "memories.json: memories[0]: lanes = 0: must be 1..65536"),
        ('[{"name": "code", "bits": 5, "signed": false}]', "[]", "memories.json: memories[0]: its words have no bits"),
        (f'[{{"name": "fc.words.dat", "sha256": "{FILE_DIGEST}"}}]', "[]", "memories.json: memories[0]: has no file"),
        (
            "fc.words.dat",
            "../fc.words.dat",
            "memories.json: memories[0]: files: no file of 'fc.words' is '../fc.words.dat'",
        ),
        (DIGEST, "0", f"fc.words.dat: its words have SHA-256 {DIGEST}, must have 0"),
        (CRC, "0", f"memories.json: fc.words: CRC-32 0, its words have {CRC}"),
        (FILE_DIGEST, "0", f"memories.json: fc.words.dat: SHA-256 0, the file has {FILE_DIGEST}"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path, old, new, message):
    files = files_of([SMALL], ["dat"])
    text = files[INDEX].decode()
    assert old in text
    (tmp_path / INDEX).write_text(resealed(text.replace(old, new, 1)))
    (tmp_path / "fc.words.dat").write_bytes(files["fc.words.dat"])
    with pytest.raises(ArtifactError) as caught:
        read_memories(tmp_path)
    assert str(caught.value) == message


def test_an_index_that_is_no_json_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(ArtifactError, match=r"^memories\.json: not JSON \(Expecting property name"):
        read_memories(tmp_path)
    (tmp_path / INDEX).write_bytes(files_of([SMALL], ["dat"])[INDEX])
    with pytest.raises(FileError, match=r"^cannot read .*fc\.words\.dat: No such file or directory$"):
        read_memories(tmp_path)


def test_sizes_that_an_index_claims_are_not_believed(tmp_path):
    huge = MemoryLayout("fc", "words", (("line", 2**40),), 2**16, (Field("code", 64),))
    for form in MEMORY_FORMATS:
        with pytest.raises(ArtifactError, match=r"must be"):
            read_memory(form, huge, DIGEST, write_memory(form, SMALL))
