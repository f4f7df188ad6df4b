"""Annotation files of the benchmarks: published formats give the rows of the protocol, anything else a clear error."""

import ast
import json
import logging
import pickle
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ts2net.benchmarks
from ts2net.benchmarks import BENCHMARKS as ALL_BENCHMARKS
from ts2net.benchmarks import AnnotatedBenchmark, CaptionReader, Row

BENCHMARKS = {
    name: benchmark for name, benchmark in ALL_BENCHMARKS.items() if isinstance(benchmark, AnnotatedBenchmark)
}

FILM = "1006_Slumdog_Millionaire_01.25.49.077-01.25.54.718"
OTHER_FILM = "3011_BLIND_DATING_01.11.23.496-01.11.25.853"
TIMES = "01.25.49.077\t01.25.54.718\t01.25.49.077\t01.25.54.718"

MSRVTT_DATA = {
    "info": {"year": "2016", "version": "1.0"},
    "videos": [
        {"id": 0, "video_id": "video0", "category": 9, "url": "https://www.youtube.com/watch?v=9lZi22qLlEo"}
        | {"start time": 137.72, "end time": 149.44, "split": "train"},
    ],
    # The captions of a video may be scattered over the file.
    "sentences": [
        {"sen_id": 0, "video_id": "video0", "caption": "a car is shown"},
        {"sen_id": 1, "video_id": "video7020", "caption": "a woman makes a flower"},
        {"sen_id": 2, "video_id": "video0", "caption": "someone drives  a car "},
        {"sen_id": 3, "video_id": "video1", "caption": "a dog runs"},
    ],
}
VATEX_CAPTIONS = {
    "-abc_DEF123_000010_000020": [f"Caption {number} of the first." for number in range(10)],
    "Qf3ch_x4Y-0_000179_000189": [f"Caption {number} of the second." for number in range(10)],
}
EVENTS = {
    "v_QOlSCBRmfWY": {
        "duration": 82.73,
        "timestamps": [[0.83, 19.86], [17.37, 60.81]],
        "sentences": ["A young woman is seen in a room.", " She dances around."],
    },
    "v_ehGHCYKzyZ8": {"duration": 61.7, "timestamps": [[0, 61.7]], "sentences": ["The man mows."]},
}
MSVD_CAPTIONS = {
    "-4wsuPCjDBc_5_15": [["a", "squirrel", "is", "eating", "a", "peanut"], ["a", "squirrel", "eats"]],
    "-7KMZQEsJW4_205_208": [["bathing", "a", "dog"]],
    "-8y1Q0rA3n8_108_115": [["a", "man", "runs"], ["a", "man", "runs"]],
}
DIDEMO_MOMENTS = [
    {"annotation_id": 1, "video": "12@N02_34_ef.mov", "description": "the dog jumps", "times": [[0, 0], [0, 1]]}
    | {"num_segments": 6, "dl_link": "https://www.flickr.com/video_download.gne?id=34"},
    {"annotation_id": 2, "video": "56@N00_78_ab.avi", "description": "first time we see the sea", "times": [[4, 4]]},
    {"annotation_id": 3, "video": "12@N02_34_ef.mov", "description": "it runs away\n", "times": [[3, 3]]},
    {"annotation_id": 4, "video": "90@N01_12_cd.mpg", "description": "in no list", "times": [[1, 2]]},
]


def lsmdc_line(clip_id: str, sentence: str) -> str:
    return f"{clip_id}\t{TIMES}\t{sentence}\n"


# Every file of every split in the published format, shortened.
GENUINE: dict[str, dict[str, Any]] = {
    "msrvtt": {
        "MSRVTT_data.json": MSRVTT_DATA,
        "MSRVTT_train.9k.csv": "video_id\nvideo0\nvideo1\n",
        "MSRVTT_train.7k.csv": "video_id\r\nvideo1\r\n",
        "MSRVTT_JSFUSION_test.csv": "key,vid_key,video_id,sentence\n"
        'ret0,msr9770,video9770,a person is connecting something to system\nret1,msr7020,video7020,"well, a flower"\n',
    },
    "vatex": {
        "ref_captions.json": VATEX_CAPTIONS,
        "train_list.txt": "-abc_DEF123_000010_000020\n",
        "test_list.txt": "Qf3ch_x4Y-0_000179_000189",
    },
    "lsmdc": {
        "LSMDC16_annos_training.csv": lsmdc_line(FILM, 'SOMEONE says "yes.')  # a lone quotation mark is not quoting
        + lsmdc_line(OTHER_FILM, "SOMEONE,\u2028smiling, leaves.")  # a Unicode separator is not a line end
        + lsmdc_line(FILM, "He runs."),
        "LSMDC16_annos_val.csv": lsmdc_line(OTHER_FILM, "A caf\u00e9."),
        "LSMDC16_challenge_1000_publictect.csv": lsmdc_line(OTHER_FILM, "Rain.") + lsmdc_line(FILM, "He sits."),
    },
    "activitynet": {
        "train_ids.json": ["v_QOlSCBRmfWY", "v_ehGHCYKzyZ8"],
        "train.json": EVENTS,
        "val_ids.json": ["v_ehGHCYKzyZ8"],
        "val_1.json": EVENTS,
    },
    "didemo": {
        "train_list.txt": "56@N00_78_ab.avi\n12@N02_34_ef.mov\n",
        "train_data.json": DIDEMO_MOMENTS,
        "val_list.txt": "12@N02_34_ef.mov\n",
        "val_data.json": DIDEMO_MOMENTS,
        "test_list.txt": "56@N00_78_ab.avi\n",
        "test_data.json": DIDEMO_MOMENTS,
    },
    "msvd": {
        "train_list.txt": "-4wsuPCjDBc_5_15\n",
        "val_list.txt": "-7KMZQEsJW4_205_208",
        "test_list.txt": "-8y1Q0rA3n8_108_115\n",
        "raw-captions.pkl": pickle.dumps(MSVD_CAPTIONS),
    },
}

EXPECTED: dict[tuple[str, str], list[Row]] = {
    ("msrvtt", "train"): [Row("video0", ("a car is shown", "someone drives a car")), Row("video1", ("a dog runs",))],
    ("msrvtt", "train_7k"): [Row("video1", ("a dog runs",))],
    ("msrvtt", "test"): [
        Row("video9770", ("a person is connecting something to system",)),
        Row("video7020", ("well, a flower",)),
    ],
    ("vatex", "train"): [
        Row("-abc_DEF123_000010_000020", tuple(f"Caption {number} of the first." for number in range(10)))
    ],
    ("vatex", "test"): [
        Row("Qf3ch_x4Y-0_000179_000189", tuple(f"Caption {number} of the second." for number in range(10)))
    ],
    ("lsmdc", "train"): [
        Row(FILM, ('SOMEONE says "yes.', "He runs.")),
        Row(OTHER_FILM, ("SOMEONE, smiling, leaves.",)),
    ],
    ("lsmdc", "val"): [Row(OTHER_FILM, ("A caf\u00e9.",))],
    ("lsmdc", "test"): [Row(OTHER_FILM, ("Rain.",)), Row(FILM, ("He sits.",))],
    ("activitynet", "train"): [
        Row("v_QOlSCBRmfWY", ("A young woman is seen in a room. She dances around.",)),
        Row("v_ehGHCYKzyZ8", ("The man mows.",)),
    ],
    ("activitynet", "val"): [Row("v_ehGHCYKzyZ8", ("The man mows.",))],
    ("didemo", "train"): [
        Row("56@N00_78_ab.avi", ("first time we see the sea",), 0.0, 31.0),
        Row("12@N02_34_ef.mov", ("the dog jumps it runs away",), 0.0, 31.0),
    ],
    ("didemo", "val"): [Row("12@N02_34_ef.mov", ("the dog jumps it runs away",), 0.0, 31.0)],
    ("didemo", "test"): [Row("56@N00_78_ab.avi", ("first time we see the sea",), 0.0, 31.0)],
    ("msvd", "train"): [Row("-4wsuPCjDBc_5_15", ("a squirrel is eating a peanut", "a squirrel eats"))],
    ("msvd", "val"): [Row("-7KMZQEsJW4_205_208", ("bathing a dog",))],
    ("msvd", "test"): [Row("-8y1Q0rA3n8_108_115", ("a man runs", "a man runs"))],
}


def write(path: Path, content: Any) -> None:
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    path.write_bytes(content)


@pytest.fixture
def annotations(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a benchmark's annotation files, with some of them replaced."""

    def write_all(name: str, replaced: dict[str, Any] | None = None) -> Path:
        for file, content in (GENUINE[name] | (replaced or {})).items():
            write(tmp_path / file, content)
        return tmp_path

    return write_all


def the_error(folder: Path, name: str, split: str) -> str:
    """Return the error message of reading a split, without the folder."""
    with pytest.raises(ValueError, match=r".") as caught:
        list(BENCHMARKS[name].rows(folder, split))
    message = str(caught.value)
    assert message.startswith(str(folder)), "it doesn't begin with the file"
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


# Genuine files


def test_every_split_is_tried_below() -> None:
    """Every registered split has expected rows in this file."""
    assert {(name, split) for name in BENCHMARKS for split in BENCHMARKS[name].splits} == set(EXPECTED)


@pytest.mark.parametrize(("name", "split"), EXPECTED)
def test_genuine_files_give_the_rows_of_the_protocol(
    name: str, split: str, annotations: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """Captions, their order and the part of the video define a recall, so they must follow the protocol."""
    assert list(BENCHMARKS[name].rows(annotations(name), split)) == EXPECTED[name, split]
    assert not caplog.records


@pytest.mark.parametrize(("name", "split"), EXPECTED)
def test_a_split_needs_its_own_files_only(name: str, split: str, tmp_path: Path) -> None:
    """Evaluation works without the training files."""
    for file in BENCHMARKS[name].splits[split].files:
        write(tmp_path / file, GENUINE[name][file])
    assert list(BENCHMARKS[name].rows(str(tmp_path), split)) == EXPECTED[name, split]


@pytest.mark.parametrize(
    ("name", "frames", "words", "evaluation"),
    [
        ("msrvtt", 12, 32, "test"),
        ("vatex", 12, 32, "test"),
        ("lsmdc", 12, 32, "test"),
        ("activitynet", 64, 64, "val"),
        ("didemo", 64, 64, "test"),
        ("msvd", 12, 32, "test"),
        ("moving_things", 4, 32, "test"),
    ],
)
def test_defaults_are_those_of_the_recipe(name: str, frames: int, words: int, evaluation: str) -> None:
    """Recall is comparable with the paper only for the paper's lengths and split."""
    benchmark = ALL_BENCHMARKS[name]
    assert (benchmark.num_frames, benchmark.max_words) == (frames, words)
    assert benchmark.evaluation_split == evaluation
    assert benchmark.clock == ("seconds" if name == "moving_things" else "released")
    assert benchmark.name == name


def test_a_byte_order_mark_is_no_part_of_the_first_id(annotations: Callable[..., Path]) -> None:
    """Windows editors write a byte order mark, which must not become part of the first id."""
    folder = annotations("vatex", {"test_list.txt": b"\xef\xbb\xbfQf3ch_x4Y-0_000179_000189\r\n\r\n"})
    assert list(BENCHMARKS["vatex"].rows(folder, "test")) == EXPECTED["vatex", "test"]


def test_activitynet_videos_without_captions_are_left_out_and_logged(
    annotations: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """The published list includes videos without captions in the first caption file."""
    folder = annotations("activitynet", {"val_ids.json": ["v_ehGHCYKzyZ8", "v_nocaptions1"]})
    with caplog.at_level(logging.WARNING):
        assert list(BENCHMARKS["activitynet"].rows(folder, "val")) == EXPECTED["activitynet", "val"]
    (record,) = caplog.records
    assert "1 of 2 videos have no captions in val_1.json and are left out: ['v_nocaptions1']" in record.getMessage()


@pytest.mark.parametrize("name", ["train_list.npy", "trn_names.npy"])
@pytest.mark.parametrize("dtype", ["U", "S"])
def test_vatex_lists_may_be_numpy_arrays(name: str, dtype: str, annotations: Callable[..., Path]) -> None:
    """The split's authors distribute the lists as NumPy arrays."""
    folder = annotations("vatex")
    (folder / "train_list.txt").unlink()
    np.save(folder / name, np.array(["-abc_DEF123_000010_000020"], dtype=dtype))
    assert list(BENCHMARKS["vatex"].rows(folder, "train")) == EXPECTED["vatex", "train"]


def test_vatex_is_read_from_its_official_files(tmp_path: Path) -> None:
    """The training split is the whole training file. A list selects the test half of the validation file."""
    for split, file in [("train", "vatex_training_v1.0.json"), ("test", "vatex_validation_v1.0.json")]:
        entries = [
            {"videoID": row.video_id, "enCap": list(row.captions), "chCap": ["\u4e00"] * 10}
            for row in EXPECTED["vatex", split]
        ]
        if split == "test":
            write(tmp_path / "test_list.txt", f"{entries[0]['videoID']}\n")
            entries.append({"videoID": "other_half__000000_000010", "enCap": ["Not in the test."], "chCap": []})
        write(tmp_path / file, entries)
        assert list(BENCHMARKS["vatex"].rows(tmp_path, split)) == EXPECTED["vatex", split]


class Hostile:
    """An object whose unpickling writes a file."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("hostile"),)


HUGE = b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '<U26', 'fortran_order': False, 'shape': (1000000000000,)}".ljust(69)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.array([Hostile()], dtype=object), "holds Python objects, which are not read, because reading them could"),
        (np.zeros(3), "expected a row of strings, found float64 (3,)"),
        (np.array([["a"]]), "expected a row of strings, found <U1 (1, 1)"),
        (np.array([b"\xff"]), "not UTF-8"),
        (b"\x93NUMPY", "not a NumPy array"),
        (b"a\nb\n", "not a NumPy array"),
        (HUGE + b"\n", "not a NumPy array"),
    ],
    ids=["objects", "numbers", "table", "latin", "cut", "text", "too long"],
)
def test_an_array_that_is_no_list_is_refused(
    content: Any, message: str, annotations: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No code in the array is run, and no memory is allocated for a size that it only claims."""
    folder = annotations("vatex")
    monkeypatch.chdir(folder)
    (folder / "train_list.txt").unlink()
    if isinstance(content, bytes):
        (folder / "train_list.npy").write_bytes(content)
    else:
        np.save(folder / "train_list.npy", content, allow_pickle=True)
    assert message in the_error(folder, "vatex", "train")
    assert not (folder / "hostile").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_msvd_captions_are_read_from_any_kind_of_pickle(protocol: int, annotations: Callable[..., Path]) -> None:
    """MSVD captions are read from all pickle protocols and from JSON, as words or sentences."""
    folder = annotations("msvd", {"raw-captions.pkl": pickle.dumps(MSVD_CAPTIONS, protocol)})
    assert list(BENCHMARKS["msvd"].rows(folder, "train")) == EXPECTED["msvd", "train"]
    (folder / "raw-captions.pkl").unlink()
    sentences = {video_id: [" ".join(words) for words in captions] for video_id, captions in MSVD_CAPTIONS.items()}
    write(folder / "raw-captions.json", sentences | {"-7KMZQEsJW4_205_208": [["bathing", "a", "dog"]]})
    for split in ("train", "val", "test"):
        assert list(BENCHMARKS["msvd"].rows(folder, split)) == EXPECTED["msvd", split]


SHARED = ["word"] * 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"a": [Hostile()]}), "holds more than dictionaries, lists and texts (opcode "),
        (pickle.dumps({"a": defaultdict(list)}), "save it as JSON, raw-captions.json"),
        (pickle.dumps({"a": [SHARED] * 1000}), "not a pickle: a list or a dictionary is referenced more than once"),
        (pickle.dumps(MSVD_CAPTIONS)[:-20], "not a pickle: "),
        (b"\x80\x04\x8d\xff\xff\xff\xff\xff\x00\x00\x00a.", "not a pickle: "),
        (b"r\xff\xff\xff\xff.", "not a pickle: "),
        (b"]]e.", "not a pickle: "),
        (b"no pickle", "not a pickle: "),
        (b"", "not a pickle: "),
        (pickle.dumps([]), ": expected an object, found []"),
        (pickle.dumps({"-4wsuPCjDBc_5_15": [["a", None]]}), "[0]: expected a string, found None"),
    ],
)
def test_a_pickle_is_never_run(
    content: bytes, message: str, annotations: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A malformed or hostile pickle is refused, without running it or allocating the memory that it claims."""
    folder = annotations("msvd", {"raw-captions.pkl": content})
    monkeypatch.chdir(folder)
    assert message in the_error(folder, "msvd", "train")
    assert not (folder / "hostile").exists()


def test_didemo_ids_that_end_in_a_dot_are_ids(annotations: Callable[..., Path]) -> None:
    """Ids that end in a dot are accepted. DiDeMo has 193 of them."""
    moments = [{"video": "1234@N00_567_abc.", "description": "a cat"}]
    folder = annotations("didemo", {"test_list.txt": "1234@N00_567_abc.\n", "test_data.json": moments})
    assert list(BENCHMARKS["didemo"].rows(folder, "test")) == [Row("1234@N00_567_abc.", ("a cat",), 0.0, 31.0)]


@pytest.mark.parametrize(
    ("name", "split", "replaced", "left", "skipped"),
    [
        (
            *("msrvtt", "test", {"MSRVTT_JSFUSION_test.csv": "video_id,sentence\na,one\nb, \n"}),
            [Row("a", ("one",))],
            ["MSRVTT_JSFUSION_test.csv:3"],
        ),
        (
            *("lsmdc", "train", {"LSMDC16_annos_training.csv": lsmdc_line(FILM, "One.") + lsmdc_line(FILM, " ")}),
            [Row(FILM, ("One.",))],
            ["LSMDC16_annos_training.csv:2"],
        ),
        (
            *("vatex", "test", {"ref_captions.json": {"Qf3ch_x4Y-0_000179_000189": ["", "two"]}}),
            [Row("Qf3ch_x4Y-0_000179_000189", ("two",))],
            ["ref_captions.json: Qf3ch_x4Y-0_000179_000189[0]"],
        ),
    ],
)
def test_empty_captions_are_left_out_on_request(
    name: str, split: str, replaced: dict, left: list[Row], skipped: list[str], annotations: Callable[..., Path]
) -> None:
    """The location of each skipped caption is recorded, and a video without other captions is skipped."""
    captions = CaptionReader(skip_empty=True)
    folder = annotations(name, replaced)
    assert list(BENCHMARKS[name].rows(folder, split, captions)) == left
    assert [location.removeprefix(f"{folder}/") for location in captions.skipped] == skipped
    assert captions.videos_without == (["b"] if name == "msrvtt" else [])


# Invalid files


@pytest.mark.parametrize("name", BENCHMARKS)
def test_an_unknown_split_is_refused_at_once(name: str, tmp_path: Path) -> None:
    """The error lists the existing splits."""
    with pytest.raises(ValueError, match=r"has no split 'dev', only train, ") as caught:
        BENCHMARKS[name].rows(tmp_path, "dev")
    assert BENCHMARKS[name].title in str(caught.value)


@pytest.mark.parametrize(
    ("name", "split", "file"),
    [(name, split, file) for name, split in EXPECTED for file in BENCHMARKS[name].splits[split].files],
)
def test_a_missing_file_is_named_at_once(name: str, split: str, file: str, annotations: Callable[..., Path]) -> None:
    """A missing file, or a folder in its place, is reported before the first row, with all files of the split."""
    folder = annotations(name)
    (folder / file).unlink()
    (folder / file).mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        BENCHMARKS[name].rows(folder, split)
    assert str(caught.value).startswith(f"{folder / file}: no such file; split {split!r} of {BENCHMARKS[name].title}")
    assert all(needed in str(caught.value) for needed in BENCHMARKS[name].splits[split].files)


def with_id(name: str, video_id: str) -> tuple[str, dict[str, Any], str]:
    """Return a split with the given id as its second id, its files, and the location of that id."""
    if name == "msrvtt":
        return "train", {"MSRVTT_train.9k.csv": f'video_id\nvideo0\n"{video_id}"\n'}, "MSRVTT_train.9k.csv:3"
    if name == "msrvtt test":
        rows = f'ret0,msr0,video0,a car\nret1,msr1,"{video_id}",a dog\n'
        file = "MSRVTT_JSFUSION_test.csv"
        return "test", {file: f"key,vid_key,video_id,sentence\n{rows}"}, f"{file}:3"
    if name == "vatex":
        return "train", {"train_list.txt": f"-abc_DEF123_000010_000020\n{video_id}\n"}, "train_list.txt:2"
    if name == "lsmdc":
        file = "LSMDC16_annos_training.csv"
        return "train", {file: lsmdc_line(FILM, "He runs.") + lsmdc_line(video_id, "Rain.")}, f"{file}:2"
    if name == "lsmdc test":
        file = "LSMDC16_challenge_1000_publictect.csv"
        return "test", {file: lsmdc_line(FILM, "He runs.") + lsmdc_line(video_id, "Rain.")}, f"{file}:2"
    if name == "activitynet":
        return "train", {"train_ids.json": ["v_ehGHCYKzyZ8", video_id]}, "train_ids.json: [1]"
    first = {"didemo": "12@N02_34_ef.mov", "msvd": "-4wsuPCjDBc_5_15"}[name]
    return "train", {"train_list.txt": f"{first}\n{video_id}\n"}, "train_list.txt:2"


LISTS = ("msrvtt", "msrvtt test", "vatex", "lsmdc", "lsmdc test", "activitynet", "didemo", "msvd")


@pytest.mark.parametrize(
    "video_id",
    ["../x", "/etc/passwd", "a/b", "..\\x", "C:x", "..", ".", "a\0b", "a\x1b[2Jb", "a\u202eb"],
    ids=["parent", "absolute", "folder", "windows", "drive", "up", "here", "nul", "terminal", "direction"],
)
@pytest.mark.parametrize("listed", LISTS)
def test_an_id_never_leaves_its_folder(listed: str, video_id: str, annotations: Callable[..., Path]) -> None:
    """An id with a path is refused, because ids become file names later."""
    split, files, where = with_id(listed, video_id)
    name = listed.split()[0]
    message = the_error(annotations(name, files), name, split)
    assert message == f"{where}: video id {video_id!r} has to be a plain file name, without a folder"


@pytest.mark.parametrize("listed", [listed for listed in LISTS if listed != "lsmdc"])
def test_an_id_that_stands_twice_is_refused(listed: str, annotations: Callable[..., Path]) -> None:
    """Two rows of one video would be each other's negatives. The error names both locations."""
    first = {
        "msrvtt": "video0",
        "msrvtt test": "video0",
        "vatex": "-abc_DEF123_000010_000020",
        "lsmdc test": FILM,
        "activitynet": "v_ehGHCYKzyZ8",
        "didemo": "12@N02_34_ef.mov",
        "msvd": "-4wsuPCjDBc_5_15",
    }[listed]
    split, files, where = with_id(listed, first)
    name = listed.split()[0]
    folder = annotations(name, files)
    message = the_error(folder, name, split)
    assert message.startswith(f"{where}: video id {first!r} is repeated, first at {where.split(':')[0]}:")


@pytest.mark.parametrize(
    ("name", "split", "file", "content", "message"),
    [
        # MSR-VTT
        ("msrvtt", "train", "MSRVTT_train.9k.csv", "id\nvideo0\n", ":1: expected a column 'video_id', found ['id']"),
        ("msrvtt", "train", "MSRVTT_train.9k.csv", "", ":1: expected a column 'video_id', found []"),
        ("msrvtt", "train", "MSRVTT_train.9k.csv", "video_id\nvideo9\n", ":2: video 'video9' has no caption in"),
        ("msrvtt", "test", "MSRVTT_JSFUSION_test.csv", "video_id\nv\n", ":1: expected a column 'sentence'"),
        (
            "msrvtt",
            "test",
            "MSRVTT_JSFUSION_test.csv",
            "video_id,sentence\n",
            ": expected at least one video, found none",
        ),
        ("msrvtt", "train", "MSRVTT_train.9k.csv", "video_id\n", ": expected at least one video, found none"),
        ("activitynet", "val", "val_ids.json", [], ": expected at least one video, found none"),
        ("lsmdc", "val", "LSMDC16_annos_val.csv", "", ": expected at least one video, found none"),
        ("msrvtt", "test", "MSRVTT_JSFUSION_test.csv", "video_id,sentence\nv,a,b\n", ":2: expected 2 fields"),
        ("msrvtt", "test", "MSRVTT_JSFUSION_test.csv", "video_id,sentence\n\nv\n", ":3: expected 2 fields"),
        (
            "msrvtt",
            "test",
            "MSRVTT_JSFUSION_test.csv",
            "video_id,sentence\nv, \n",
            ":2: expected a caption, found ' '",
        ),
        ("msrvtt", "test", "MSRVTT_JSFUSION_test.csv", 'video_id,sentence\nv,"a\n', ":2: not CSV: "),
        ("msrvtt", "train", "MSRVTT_data.json", "[]", ": expected an object, found []"),
        ("msrvtt", "train", "MSRVTT_data.json", '{"info": {}}', ": expected a field 'sentences', found ['info']"),
        ("msrvtt", "train", "MSRVTT_data.json", {"sentences": ["a car"]}, ": sentences[0]: expected an object, found"),
        (
            *("msrvtt", "train", "MSRVTT_data.json"),
            {"sentences": [{"video_id": "video0", "caption": 3}]},
            ": sentences[0].caption: expected a string, found 3",
        ),
        (
            *("msrvtt", "train", "MSRVTT_data.json"),
            {"sentences": [{"video_id": "video0", "caption": ""}]},
            ": sentences[0]: expected a caption, found ''",
        ),
        # VATEX
        ("vatex", "test", "test_list.txt", "\nunknown\n", ":2: video 'unknown' has no caption in"),
        (
            *("vatex", "test", "ref_captions.json"),
            {"Qf3ch_x4Y-0_000179_000189": "one"},
            ".Qf3ch_x4Y-0_000179_000189: expected a list, found 'one'",
        ),
        (
            *("vatex", "test", "ref_captions.json"),
            {"Qf3ch_x4Y-0_000179_000189": ["one", None]},
            ": Qf3ch_x4Y-0_000179_000189[1]: expected a string, found None",
        ),
        ("vatex", "test", "ref_captions.json", '{"a": ["x"],\n "a": ["y"]}', ": 'a' appears twice in one object"),
        ("vatex", "test", "ref_captions.json", '{"a":\n oops}', ":2: not JSON: "),
        pytest.param(
            *("vatex", "test", "ref_captions.json"), "[" * 100_000, ": nested too deeply", id="nested too deeply"
        ),
        ("vatex", "test", "ref_captions.json", b'{\n"a": "caf\xe9"}', ":2: not UTF-8: "),
        ("vatex", "test", "test_list.txt", b"a\nb\n\xff\xfe\n", ":3: not UTF-8: "),
        # LSMDC
        (
            *("lsmdc", "val", "LSMDC16_annos_val.csv"),
            lsmdc_line(FILM, "He runs.") + f"{OTHER_FILM},01,02,03,04,Rain.\n",
            ":2: expected 6 fields parted by tabs (id, start aligned, end aligned, start extracted, end extracted, "
            "sentence), found 1",
        ),
        ("lsmdc", "val", "LSMDC16_annos_val.csv", lsmdc_line(FILM, "He\truns."), ":1: expected 6 fields"),
        ("lsmdc", "val", "LSMDC16_annos_val.csv", f"{FILM}\t{TIMES}\n", ":1: expected 6 fields"),
        ("lsmdc", "val", "LSMDC16_annos_val.csv", lsmdc_line(FILM, " "), ":1: expected a caption, found ''"),
        (
            *("lsmdc", "test", "LSMDC16_challenge_1000_publictect.csv"),
            lsmdc_line("", "Rain."),
            ":1: video id '' has to be a plain file name",
        ),
        # ActivityNet Captions
        ("activitynet", "val", "val_ids.json", {"v_a": 1}, ": expected a list, found {'v_a': 1}"),
        ("activitynet", "val", "val_ids.json", [7], ": [0]: expected a string, found 7"),
        ("activitynet", "val", "val_1.json", {"v_b": {}}, ": has no captions for any video of"),
        (
            *("activitynet", "val", "val_1.json"),
            {"v_ehGHCYKzyZ8": {"duration": 61.7}},
            ": v_ehGHCYKzyZ8: expected a field 'sentences', found ['duration']",
        ),
        (
            *("activitynet", "val", "val_1.json"),
            {"v_ehGHCYKzyZ8": {"sentences": [" ", ""]}},
            ": v_ehGHCYKzyZ8.sentences: expected a caption",
        ),
        (
            *("activitynet", "val", "val_1.json"),
            {"v_ehGHCYKzyZ8": {"sentences": ["a", ["b"]]}},
            ": v_ehGHCYKzyZ8.sentences[1]: expected a string, found ['b']",
        ),
        # DiDeMo
        ("didemo", "val", "val_list.txt", "12@N02_34_ef.mov\nother.mov\n", ":2: video 'other.mov' has no description"),
        ("didemo", "val", "val_data.json", {}, ": expected a list, found {}"),
        ("didemo", "val", "val_data.json", [{"description": "a"}], ": [0]: expected a field 'video'"),
        ("didemo", "val", "val_data.json", [{"video": "12@N02_34_ef.mov"}], ": [0]: expected a field 'description'"),
        (
            *("didemo", "val", "val_data.json"),
            [{"video": "12@N02_34_ef.mov", "description": " "}],
            ": 12@N02_34_ef.mov: expected a caption",
        ),
    ],
)
def test_a_wrong_file_is_named_with_the_place_in_it(
    name: str, split: str, file: str, content: Any, message: str, annotations: Callable[..., Path]
) -> None:
    """The error for an invalid file states the location in the file and what was expected there."""
    assert the_error(annotations(name, {file: content}), name, split).startswith(f"{file}{message}")


def test_benchmarks_know_nothing_else_of_the_package() -> None:
    """Reading annotation files needs neither torch nor the rest of the package, and NumPy only for its own format."""
    allowed = {*sys.stdlib_module_names, "numpy"}
    for path in Path(ts2net.benchmarks.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.level == 0 and node.module.split(".")[0] in allowed)
            elif isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] in allowed for alias in node.names)


def test_importing_the_benchmarks_needs_the_standard_library_alone() -> None:
    """The help of the commands lists the benchmarks, so importing them must be fast."""
    code = "import sys, ts2net.benchmarks; print(*(name for name in ('numpy', 'av', 'torch') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
