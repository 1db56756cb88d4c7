"""Settings files: what they may say, and the one line that each mistake gives."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.helpers.tiny_run import TINY, TINY_TOML
from tsn_hw.core.errors import FileError, SettingsError, TsnError
from tsn_hw.learn.config import read_settings, settings_from_json, stream_of
from tsn_hw.learn.folder import settings_digest, settings_to_json
from tsn_hw.learn.ready import architecture_of
from tsn_hw.learn.settings import DataSettings, Settings, StreamSettings, TrainSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.toml"


def written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def message(file: Path, text: str) -> str:
    """The error that a settings file gives, without the file's name in front."""
    with pytest.raises(SettingsError) as error:
        read_settings(written(file, text))
    place, rest = str(error.value).split(": ", 1)
    assert place == str(file)
    assert "\n" not in rest
    return rest


def test_an_empty_file_means_the_defaults(file: Path) -> None:
    assert read_settings(written(file, "")) == Settings()


def test_every_table_lands_in_its_settings(file: Path) -> None:
    assert read_settings(written(file, TINY_TOML)) == TINY


def test_whole_numbers_may_stand_for_numbers(file: Path) -> None:
    lr = read_settings(written(file, "train.lr = 1")).train.lr
    assert lr == 1.0
    assert type(lr) is float


def test_one_data_set_may_be_a_table_or_a_list_of_one(file: Path) -> None:
    table = read_settings(written(file, "[data]\nlimit = 3"))
    assert table == read_settings(written(file, "[[data]]\nlimit = 3"))
    assert table.data == (DataSettings(limit=3),)


def test_several_data_sets_keep_their_order(file: Path) -> None:
    settings = read_settings(written(file, "[[data]]\nname = 'b'\n[[data]]\nname = 'a'"))
    assert [data.name for data in settings.data] == ["b", "a"]


def test_relative_paths_start_at_the_settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings").mkdir()
    file = written(tmp_path / "settings" / "run.toml", "[data]\nsource = 'npz'\npath = '../data/set.npz'")
    monkeypatch.chdir(tmp_path)
    for path in (file, file.relative_to(tmp_path)):
        assert read_settings(path).data[0].path == str(tmp_path / "data" / "set.npz")


def test_absolute_and_empty_paths_stay(file: Path) -> None:
    assert read_settings(written(file, "data.path = '/data/set'")).data[0].path == "/data/set"
    assert read_settings(written(file, "data.path = ''")).data[0].path == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sed = 1", "unknown key 'sed'; known are data, stream, model, formats, train, prune, quantize, route, seed"),
        ("[trian]\nepochs = 3", "unknown key 'trian'; known are data, stream, model, formats, train, prune, "
         "quantize, route, seed"),
        ("prune.itertions = 1", "prune: unknown key 'itertions'; known are iterations, share, tolerated_drop, by"),
        ("[[data]]\n[[data]]\nside = 1\nsize = 2",
         "data[1]: unknown key 'size'; known are source, path, name, side, limit, normalize, fill, test_share"),
        ("train = 3", "train: must be a table, found int"),
        ("train = [{epochs = 3}]", "train: must be a table, found list"),
        ("data = 3", "data = 3: must be a list"),
        ("data = [3]", "data[0]: must be a table, found int"),
        ("seed = true", "seed = True: must be a whole number"),
        ("seed = 1.0", "seed = 1.0: must be a whole number"),
        ("seed = '1'", "seed = '1': must be a whole number"),
        ("train.lr = true", "train: lr = True: must be a number"),
        ("train.lr = '1e-3'", "train: lr = '1e-3': must be a number"),
        ("train.transfer = 1", "train: transfer = 1: must be true or false"),
        ("data.path = 1979-05-27", "data[0]: path = datetime.date(1979, 5, 27): must be a text"),
        ('data.path = "a\\u0000b"', "data[0]: path = 'a\\x00b': must not hold a null character"),
        ("model.hidden = 100", "model: hidden = 100: must be a list"),
        ("model.hidden = [100, 2.5]", "model: hidden[1] = 2.5: must be a whole number"),
        ("model.hidden = [true]", "model: hidden[0] = True: must be a whole number"),
        ("train.keep_table = 0.5", "train: keep_table = 0.5: must be a table"),
        ("train.keep_table.fc1 = 'all'", "train: keep_table.fc1 = 'all': must be a number"),
        (
            "model.kind = 'resnet'",
            "model: kind = 'resnet': must be one of 'mlp', 'alexnet', 'tinynet', 'resnet18', 'layers', 'onnx'",
        ),
        ("formats.act_bits = 5", "formats: act_bits = 5: must be one of 4, 8, 16"),
        ("formats.headroom = inf", "formats: headroom = inf: must be finite"),
        ("route.threshold = nan", "route: threshold = nan: must be finite"),
        ("formats.act_bits = 8.0", "formats: act_bits = 8.0: must be one of 4, 8, 16"),
        ("stream.channels = true", "stream: channels = True: must be one of 1, 3"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_table_key_rule_and_value(file: Path, text: str, expected: str) -> None:
    assert message(file, text) == expected


@pytest.mark.parametrize(
    ("text", "key", "rule"),
    [
        ("stream.tasks = 0", "stream.tasks = 0", "1..4096"),
        ("stream.tasks = 4097", "stream.tasks = 4097", "1..4096"),
        ("train.threads = 257", "train.threads = 257", "0..256"),
        ("train.shift = 65", "train.shift = 65", "0..64"),
        ("model.hidden = [0]", "model.hidden = (0,)", "widths of 1..65536"),
        ("route.threshold = -1.0", "route.threshold = -1.0", "at least 0"),
        ("stream.validation_share = 1.0", "stream.validation_share = 1.0", "between 0 and 1"),
        ("model.dropout = 1.0", "model.dropout = 1.0", "0..0.9"),
        ("formats.centroid_bits = 3", "formats.centroid_bits = 3", "4..16"),
        ("train.epochs = 0", "train.epochs = 0", "at least 1"),
        ("train.batch = 1", "train.batch = 1", "at least 2"),
        ("train.lr = 0", "train.lr = 0.0", "above 0"),
        ("train.keep_ratio = 1.01", "train.keep_ratio = 1.01", "above 0, at most 1"),
        ("train.keep_table.fc1 = 0", "train.keep_table.fc1 = 0.0", "above 0, at most 1"),
        ("prune.share = -0.1", "prune.share = -0.1", "above 0, at most 1"),
        ("quantize.min_bits = 9", "quantize.min_bits, max_bits = (9, 8)", "ordered, within 1..8"),
        ("route.bits = 5", "route.bits = 5", "4, 8 or 16"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named_with_its_range(file: Path, text: str, key: str, rule: str) -> None:
    assert f"{key}: must be {rule}" in message(file, text)


def test_text_that_is_no_toml_is_refused(file: Path) -> None:
    assert message(file, "epochs: 3") == (
        "not a TOML file (Expected '=' after a key in a key/value pair (at line 1, column 7))"
    )
    assert message(file, f"a = {'[' * 100_000}").startswith("not a TOML file (")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"run\.toml: not a TOML file \('utf-8' codec"):
        read_settings(file)


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError) as error:
        read_settings(tmp_path / "nowhere.toml")
    assert str(error.value) == f"cannot read {tmp_path}/nowhere.toml: No such file or directory"
    with pytest.raises(FileError, match="Is a directory"):
        read_settings(tmp_path)


def test_settings_survive_their_json(file: Path) -> None:
    settings = dataclasses.replace(
        TINY,
        data=(DataSettings(path="/data/a", name="ä"), DataSettings(limit=2)),
        train=TrainSettings(keep_table={"fc1": 0.25}, lr=1 / 3),
        seed=2**62,
    )
    assert settings_from_json(written(file, settings_to_json(settings))) == settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
        ("[]", "must be a table, found list"),
        ('{"seed": "0"}', "seed = '0': must be a whole number"),
        ('{"prune": {"iterations": -1}}', "prune: prune.iterations = -1: must be at least 0"),
    ],
)
def test_damaged_json_settings_are_refused_with_their_own_message(file: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as error:
        settings_from_json(written(file, text))
    assert str(error.value) == f"{file}: {expected}"


def moved(settings: Settings) -> Settings:
    return dataclasses.replace(settings, data=(dataclasses.replace(settings.data[0], path="/elsewhere"),))


def test_the_digest_of_a_run_overlooks_where_the_data_lies() -> None:
    assert settings_digest(moved(TINY)) == settings_digest(TINY)


def leaves(values: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The places of all single values in nested JSON."""
    if isinstance(values, dict) and values:
        return [leaf for key, value in values.items() for leaf in leaves(value, (*path, key))]
    if isinstance(values, list) and path[-1] == "data":
        return [leaf for i, value in enumerate(values) for leaf in leaves(value, (*path, i))]
    return [path]


OTHER_VALUES = {
    "fill": 0.5, "input_exponent": -4, "start": "0" * 64, "source": "npz", "schedule": "plateau", "channels": 1,
    "precision": "bfloat16",
    "keep_policy": "equal_remaining", "act_bits": 4, "memory": "samples_act", "bits": 16,
    "method": "wsn", "inherit": 0.5, "by": "coded_size", "probe_bits": [3],
    "keep_table": {"fc1": 0.5}, "hidden": [13], "name": "other", "max_bits": 4, "min_bits": 1,
    "keep_ratio": 0.3, "dropout": 0.1, "ramp": 0.1, "share": 0.1, "decay": 0.2, "validation_share": 0.2,
}  # fmt: skip


@pytest.mark.parametrize("path", [p for p in leaves(json.loads(settings_to_json(TINY))) if p[-1] != "path"], ids=str)
def test_the_digest_of_a_run_sees_everything_else(path: tuple[str | int, ...], file: Path) -> None:
    values = json.loads(settings_to_json(TINY))
    table = values
    for key in path[:-1]:
        table = table[key]
    key, old = path[-1], table[path[-1]]
    new = OTHER_VALUES.get(str(key), not old if isinstance(old, bool) else None)
    if key == "kind":
        new = {"permuted": "split", "mlp": "alexnet"}[old]
    if path == ("model", "channels"):
        new = [1]
    if path == ("model", "layers"):
        new = [{"kind": "Flatten", "name": "flat"}]
    table[key] = old + 1 if new is None else new
    changed = settings_from_json(written(file, json.dumps(values)))
    assert settings_digest(changed) != settings_digest(TINY)


def test_a_run_that_routes_nothing_is_the_one_that_it_was_when_there_were_more_keys(file: Path) -> None:
    values = json.loads(settings_to_json(TINY))
    values["route"] |= {"estimator": "gaussian", "factor": 3.0, "floor": 0.05}
    assert settings_from_json(written(file, json.dumps(values))) == TINY
    assert settings_digest(TINY) == "584c72422fd8c863900e9bab899cecb0f9585b56c293312025b74cf71b14fdba"


def test_a_keep_ratio_for_a_layer_that_is_not_there_is_refused() -> None:
    train = dataclasses.replace(TINY.train, keep_policy="per_layer", keep_table={"fc1": 0.5, "fc9": 0.5})
    settings = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, hidden=(5, 4)), train=train)
    with pytest.raises(SettingsError) as error:
        architecture_of(settings, (1, 8, 8))
    assert str(error.value) == "train.keep_table.fc9: no such layer; there are fc1, fc2"


def stream_settings(data: tuple[DataSettings, ...], **stream: object) -> Settings:
    return Settings(data=data, stream=StreamSettings(**stream))  # type: ignore[arg-type]


def test_the_kinds_of_stream_deal_out_the_data() -> None:
    one = (DataSettings(limit=3),)
    two = (DataSettings(limit=3, name="a"), DataSettings(limit=3, name="b"))
    assert stream_of(stream_settings(one, tasks=2)).names == ("digits-permuted-0", "digits-permuted-1")
    split = stream_of(stream_settings(one, kind="split", classes_per_task=5))
    assert split.classes == (("0", "1", "2", "3", "4"), ("5", "6", "7", "8", "9"))
    mixed = stream_of(stream_settings(two, kind="mixed", side=16))
    assert (mixed.names, mixed.input_shape) == (("a", "b"), (3, 16, 16))


def test_a_stream_over_one_data_set_refuses_two() -> None:
    two = (DataSettings(limit=3, name="a"), DataSettings(limit=3, name="b"))
    with pytest.raises(SettingsError) as error:
        stream_of(stream_settings(two, kind="split"))
    assert str(error.value) == "stream.kind = 'split': needs exactly one data set, found 2"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (DataSettings(path="/x"), "data 'digits': the bundled digits take no path, not /x"),
        (DataSettings(source="npz"), "data 'npz': kind npz needs a path"),
        (DataSettings(limit=-1), "data 'digits': limit is -1, must be at least 1"),
        (
            DataSettings(source="tiles", path="/x"),
            "data 'tiles': kind tiles needs side, the side of one tile in pixels",
        ),
    ],
)
def test_data_that_cannot_be_is_refused(data: DataSettings, expected: str) -> None:
    with pytest.raises(TsnError) as error:
        stream_of(stream_settings((data,)))
    assert str(error.value) == expected
