"""Motion shapes: its splits keep apart, its captions are true of one clip, and its diagnostics isolate one thing."""

import io
import subprocess
import sys
from itertools import combinations, groupby, pairwise, product

import av
import numpy as np
import pytest

from ts2net.benchmarks.motion_shapes import (
    DEFAULT_COUNTS,
    DRAWING,
    FRAME_SIZE,
    FRAMES_PER_SECOND,
    GROUP_SIZE,
    NUM_FRAMES,
    PAINT,
    SPLITS,
    Scene,
    Setting,
    Thing,
    photos,
    render,
    render_mp4,
    render_photo,
    scenes,
    settings,
)
from ts2net.benchmarks.motion_shapes.drawing import DOT_PIXELS
from ts2net.benchmarks.motion_shapes.scenes import BACKGROUNDS, COLOURS, DOT_COLOURS, MOTIONS, SHAPES

pytestmark = pytest.mark.slow

# For each of `MOTIONS` in turn, the last of the test scenes summed up.
SUMS = [
    *(-40714, -58012, -61591, -66945, -11972, -42955, -24613, -57671, -56919),
    *(-18137, -41452, -78379, -28873, -50637, -27847, -43042, -22940, -19386),
]
SAMPLED = range(0, NUM_FRAMES, FRAMES_PER_SECOND)  # the frames that one a second are


def scene(motion: str = "stay", dot: str | None = None, look: int = 3, shape: str = "square") -> Scene:
    return Scene("a", Setting(Thing("blue", shape), None, "plain"), motion, dot, look)


def decode(video: bytes) -> np.ndarray:
    with av.open(io.BytesIO(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def painted(frames: np.ndarray, colour: str, tolerance: float = 60) -> np.ndarray:
    """Which pixels are of a colour."""
    return np.abs(frames.astype(float) - PAINT[colour]).max(axis=-1) < tolerance


def groups(split: str) -> list[list[Scene]]:
    return [list(group) for _, group in groupby(scenes(split), key=lambda each: each.group)]


# ----------------------------------------------------------------------------------------------------------------
# Splits
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_hang_on_the_seed_and_nothing_else(split: str) -> None:
    """A benchmark is the same wherever it is rendered; asked for fewer clips, it is the first of many."""
    default = scenes(split)
    assert len(default) == DEFAULT_COUNTS[split]
    assert scenes(split, 40) == default[:40]
    assert scenes(split, seed=1) != default
    assert len({each.video_id for each in default}) == len(default)


def test_scenes_are_the_same_in_another_process() -> None:
    """Python's own hash of a string differs from run to run: no split may hang on it."""
    program = "from ts2net.benchmarks.motion_shapes import scenes; print([scene.caption for scene in scenes('test')])"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == str([each.caption for each in scenes("test")])


def test_every_setting_belongs_to_one_split() -> None:
    """Whatever the seeds, a test scene's setting is never trained on, so neither is its caption."""
    everything = [setting.caption() for split in SPLITS for setting in settings(split)]
    alone, beside = len(COLOURS) * len(SHAPES), (len(COLOURS) - 1) * len(SHAPES)
    assert len(set(everything)) == len(everything) == alone * (1 + beside) * len(BACKGROUNDS)
    for split in SPLITS:
        own = set(settings(split))
        assert all(each.setting in own for seed in (0, 1) for each in scenes(split, seed=seed))


def test_no_caption_and_no_look_is_in_two_splits() -> None:
    """What the splits hold really is apart, captions as well as pictures."""
    captions = {split: {each.caption for each in scenes(split)} for split in SPLITS}
    looks = {split: {each.look for each in scenes(split)} for split in SPLITS}
    for one, other in combinations(SPLITS, 2):
        assert not captions[one] & captions[other]
        assert not looks[one] & looks[other]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_caption_is_true_of_one_clip(split: str) -> None:
    """What is left out counts too: a lone thing may be said of a clip that shows it beside another, which stays."""

    def is_true(caption_of: Scene, clip: Scene) -> bool:
        said, seen = caption_of.setting, clip.setting
        does = {seen.thing: clip.motion, seen.companion: "stay"}
        return said.background == seen.background and does.get(said.thing) == caption_of.motion

    found = scenes(split)
    assert [sum(is_true(one, other) for other in found) for one in found] == [1] * len(found)


def test_training_scenes_come_in_families() -> None:
    """Four neighbours differ in two motions times two dots: batches made of families can't be told apart by colour."""
    train = scenes("train", 400)
    for start in range(0, len(train), GROUP_SIZE):
        family = train[start : start + GROUP_SIZE]
        assert len({each.setting for each in family}) == 1
        assert len({each.motion for each in family}) == len({each.dot for each in family}) == 2
        assert len({(each.motion, each.dot) for each in family}) == GROUP_SIZE
        assert all(each.group is None for each in family)


def test_every_motion_and_thing_is_trained_on() -> None:
    """Nothing is asked for in test that training doesn't show in other company."""
    train = scenes("train")
    assert {each.motion for each in train} == set(MOTIONS)
    assert {each.setting.thing.colour for each in train} == set(COLOURS)
    assert {each.dot for each in train} == {None, *DOT_COLOURS}
    assert {each.setting.thing.shape for each in train} == set(SHAPES)
    assert {each.setting.background for each in train} == set(BACKGROUNDS)
    assert {each.setting.companion is None for each in train} == {True, False}


def test_no_circle_turns() -> None:
    """A circle that turns can't be told from one that stays."""
    turning = [each for split in SPLITS for each in scenes(split) if each.motion == "turn"]
    assert turning
    assert all(each.setting.thing.shape != "circle" for each in turning)


@pytest.mark.parametrize(
    ("split", "count", "message"),
    [
        ("dev", None, "no split 'dev', only train, validation, test, motion, small_object"),
        ("train", 0, "at least 1, got 0"),
        ("test", 10_000, "'test' of motion shapes has at most"),
        ("motion", 10, "groups of 4 scenes, got count=10"),
        ("small_object", 4000, "groups of 4 scenes, got count=4000"),
    ],
)
def test_scenes_that_are_not_there_are_refused(split: str, count: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenes(split, count)


def test_rows_are_those_of_every_benchmark() -> None:
    """What prepares the other benchmarks finds the same fields here."""
    row = scenes("motion")[5].row
    assert (row.video_id, row.group) == ("motion-0001-1", "motion-0001")
    assert row.captions == (scenes("motion")[5].caption,)
    assert (row.start, row.end) == (None, None)


# ----------------------------------------------------------------------------------------------------------------
# Diagnostics
# ----------------------------------------------------------------------------------------------------------------


def test_motion_candidates_differ_in_the_movement_only() -> None:
    for group in groups("motion"):
        assert len(group) == GROUP_SIZE
        assert len({each.motion for each in group}) == len({each.caption for each in group}) == GROUP_SIZE
        assert len({(each.setting, each.dot, each.look) for each in group}) == 1


def test_small_object_candidates_differ_in_the_dot_only() -> None:
    assert not set(DOT_COLOURS) & set(COLOURS)  # or whatever knows which colours there are would find the dot
    for group in groups("small_object"):
        assert len(group) == GROUP_SIZE
        assert len({each.dot for each in group}) == len({each.caption for each in group}) == GROUP_SIZE
        assert len({(each.setting, each.motion, each.look) for each in group}) == 1


@pytest.mark.parametrize(("motion", "reverse"), [("left", "right"), ("up, then left", "right, then down")])
def test_reversed_movements_show_the_same_frames(motion: str, reverse: str) -> None:
    """Only their order tells them apart, so whatever forgets the order can only guess."""
    forwards, backwards = (render(scene(name))[SAMPLED].astype(int) for name in (motion, reverse))
    assert np.abs(forwards - backwards[::-1]).max() <= 1  # rounding
    assert np.abs(forwards - backwards).max() > 50


def test_dot_covers_at_most_a_hundredth_of_the_frame() -> None:
    """The promise of the small-object split, for pixels that differ at all; and most frames have no dot."""
    for group in groups("small_object")[:8]:
        first, second = (render(each).astype(int) for each in group[:2])
        differing = (np.abs(first - second).max(axis=-1) > 0).mean(axis=(1, 2))
        assert differing.max() == pytest.approx(DOT_PIXELS / FRAME_SIZE**2)
        assert DOT_PIXELS / FRAME_SIZE**2 <= 0.01
        assert 0 < (differing > 0).mean() <= 0.25


def test_dot_survives_the_codec() -> None:
    """A dot that compression smears into its background couldn't be found by anyone."""
    for group in groups("small_object")[:8]:
        for each in group:
            frames = decode(render_mp4(each))[SAMPLED]
            without = decode(render_mp4(Scene(**{**vars(each), "dot": None})))[SAMPLED]
            new = painted(frames, each.dot or "") & ~painted(without, each.dot or "")
            assert (new.sum(axis=(1, 2)) >= 12).any(), each.caption


# ----------------------------------------------------------------------------------------------------------------
# Pictures
# ----------------------------------------------------------------------------------------------------------------


def test_clip_is_an_h264_file_of_the_drawn_frames() -> None:
    """Whatever reads videos reads these, and sees what was drawn."""
    drawn = scenes("train", 1)[0]
    video = render_mp4(drawn)
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", FRAMES_PER_SECOND)
        assert (stream.width, stream.height, stream.frames) == (FRAME_SIZE, FRAME_SIZE, NUM_FRAMES)
    error = np.abs(decode(video).astype(float) - render(drawn))
    assert error.mean() < 5


def test_a_changed_drawing_has_a_new_number() -> None:
    """Else what was prepared before would pass for current. After a change, raise `DRAWING` and note the sums here."""
    signs = np.random.default_rng(0).integers(0, 2, (NUM_FRAMES, FRAME_SIZE, FRAME_SIZE, 3)) * 2 - 1
    of_motion = {each.motion: each for each in scenes("test")}
    sums = [float((render(of_motion[motion]) * signs).sum()) for motion in MOTIONS]
    assert DRAWING == 3
    assert sums == pytest.approx(SUMS, abs=50)  # a level more or less in some pixels is another processor's rounding


def test_clip_has_the_same_bytes_each_time() -> None:
    """Shards that are made again after a kill have to be the same, in other processes too."""
    program = (
        "import hashlib; from ts2net.benchmarks.motion_shapes import render_mp4, scenes\n"
        "print(hashlib.sha256(b''.join(map(render_mp4, scenes('test', 3)))).hexdigest())"
    )
    runs = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1
    assert len(next(iter(runs)).strip()) == 64


@pytest.mark.parametrize(
    ("motion", "path"),
    [
        ("left", [(-1, 0)]),
        ("down", [(0, 1)]),
        ("up, then right", [(0, -1), (1, 0)]),
        ("left, then down", [(-1, 0), (0, 1)]),
        ("stay", [(0, 0)]),
    ],
)
def test_thing_moves_as_the_caption_says(motion: str, path: list[tuple[int, int]]) -> None:
    """The centre of the shape goes where the words say, one step after the other."""
    mask = painted(render(scene(motion)), "blue")
    y, x = np.mgrid[:FRAME_SIZE, :FRAME_SIZE]
    centres = np.array([(x[frame].mean(), y[frame].mean()) for frame in mask])
    ends = np.linspace(0, 24, len(path) + 1).astype(int)
    for (start, end), step in zip(pairwise(ends), path, strict=True):
        moved = centres[end] - centres[start]
        assert np.allclose(np.sign(moved) * (np.abs(moved) > 4), step)


def test_thing_changes_as_the_caption_says() -> None:
    """Growing, shrinking, turning, appearing and disappearing can be seen in the drawn area."""
    areas = {motion: painted(render(scene(motion)), "blue").sum(axis=(1, 2)) for motion in MOTIONS}
    assert areas["grow"][-1] > 3 * areas["grow"][0]
    assert areas["shrink"][0] > 3 * areas["shrink"][-1]
    assert areas["appear"][0] == 0 < areas["appear"][-1]
    assert areas["disappear"][-1] == 0 < areas["disappear"][0]
    turned, still = render(scene("turn")), render(scene("stay"))
    assert (turned[0] == still[0]).all()
    assert painted(turned, "blue")[14].sum() == pytest.approx(painted(still, "blue")[14].sum(), rel=0.1)
    assert (painted(turned, "blue")[10] != painted(still, "blue")[10]).sum() > 20


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_look_different(shape: str) -> None:
    """Each shape fills its bounding box to another degree."""
    mask = painted(render(scene(shape=shape))[0], "blue")
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    filled = mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1))
    low, high = {"circle": (0.7, 0.85), "square": (0.95, 1), "triangle": (0.45, 0.62), "cross": (0.38, 0.6)}[shape]
    assert low <= filled <= high


def test_things_stay_in_sight() -> None:
    """No movement carries its thing out of the frame, whatever the look."""
    for each in scenes("motion"):
        frames = render(each)[SAMPLED]
        assert painted(frames, each.setting.thing.colour).sum(axis=(1, 2)).min() > 30, each.caption


# ----------------------------------------------------------------------------------------------------------------
# Photos
# ----------------------------------------------------------------------------------------------------------------


def test_photos_show_training_settings_only() -> None:
    """A CLIP that is trained on them has seen nothing of what it is tested on."""
    own = set(settings("train"))
    found = [photo.setting for photo in photos(500)]
    assert all(setting in own for setting in found if setting.thing.colour in COLOURS)
    assert photos(500, seed=1)[:20] != photos(20) == photos(500)[:20]


def test_photos_teach_the_words_for_dots_on_large_things() -> None:
    """And on every shape, but for half of the photos no more: the colours of clips are learnt too."""
    in_colours_of_dots = [photo.setting.thing for photo in photos(500) if photo.setting.thing.colour in DOT_COLOURS]
    assert {(thing.colour, thing.shape) for thing in in_colours_of_dots} == set(product(DOT_COLOURS, SHAPES))
    assert 150 < len(in_colours_of_dots) < 250
    assert not any("dot" in photo.caption for photo in photos(500))


def test_photo_shows_what_its_caption_says() -> None:
    """The thing is where the words have it."""
    for photo in photos(40):
        picture = render_photo(photo)
        assert (picture.shape, picture.dtype) == ((FRAME_SIZE, FRAME_SIZE, 3), np.uint8)
        mask = painted(picture, photo.setting.thing.colour)
        y, x = np.mgrid[:FRAME_SIZE, :FRAME_SIZE]
        column, row = (x[mask].mean() - FRAME_SIZE / 2) / 15 + 1, (y[mask].mean() - FRAME_SIZE / 2) / 15 + 1
        assert (round(column), round(row)) == (photo.column, photo.row), photo.caption
        words = photo.caption
        assert ("left" in words, "right" in words) == (photo.column == 0, photo.column == 2)
        assert ("top" in words, "bottom" in words) == (photo.row == 0, photo.row == 2)
