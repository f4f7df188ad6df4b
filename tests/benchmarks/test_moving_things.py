"""Moving things: splits share no composition, a caption fits one clip, and candidates differ in one property."""

import hashlib
import io
import subprocess
import sys
from itertools import combinations, groupby

import av
import numpy as np
import pytest

from ts2net.benchmarks.moving_things import (
    DRAWING,
    FRAME_SIZE,
    FRAMES_PER_SECOND,
    GROUP_SIZE,
    MOTIONS,
    NUM_FRAMES,
    SEEN_FRAMES,
    SPLITS,
    THINGS,
    Scene,
    covered_pixels,
    patch_shares,
    photos,
    phrase,
    render,
    render_mp4,
    render_photo,
    scenes,
)
from ts2net.benchmarks.moving_things.drawing import LARGEST_SMALL_THING
from ts2net.benchmarks.moving_things.scenes import ORDER, STRAIGHT, TOGETHER, may_show

# For each of `MOTIONS`, the sum of one scene's pixels with random signs.
SUMS = [48829, 81024, 66423, 58040, 95448, 61539, 106760, 85784, 29902, 77578]


def scene(motion: str = "stay", small: str | None = None, look: int = 3) -> Scene:
    return Scene("a", "cat", motion, "dog" if motion in TOGETHER else None, small, look)


def centres(mask: np.ndarray) -> np.ndarray:
    """Return the centre (column, row) of a thing in each frame, `(T, 2)`."""
    y, x = np.mgrid[:FRAME_SIZE, :FRAME_SIZE]
    return np.array([(x[frame].mean(), y[frame].mean()) for frame in mask])


def groups(split: str, count: int) -> list[list[Scene]]:
    return [list(group) for _, group in groupby(scenes(split, count), key=lambda each: each.group)]


# ----------------------------------------------------------------------------------------------------------------
# Splits
# ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_scenes_depend_on_the_seed_alone(split: str) -> None:
    """A smaller count gives the first scenes of a larger one."""
    some = scenes(split, 40)
    assert scenes(split, 60)[:40] == some
    assert scenes(split, 40, seed=1) != some
    assert len({each.video_id for each in some}) == 40


@pytest.mark.slow
def test_scenes_and_files_are_the_same_in_another_process() -> None:
    """Scenes must not depend on Python's string hash, which differs between processes."""
    program = (
        "import hashlib; from ts2net.benchmarks.moving_things import render_mp4, scenes\n"
        "some = scenes('test', 3); print([each.caption for each in some])\n"
        "print(hashlib.sha256(b''.join(map(render_mp4, some))).hexdigest())"
    )
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    some = scenes("test", 3)
    digest = hashlib.sha256(b"".join(map(render_mp4, some))).hexdigest()
    assert child.stdout.splitlines() == [str([each.caption for each in some]), digest]


def test_no_composition_is_in_two_splits() -> None:
    """No combination of thing, motion and small thing is allowed in two splits, or drawn in two."""
    for thing, small in (("cat", "key"), ("key", None), ("bus", "owl")):
        for motion in MOTIONS:
            assert sum(may_show(split, thing, motion, small) for split in SPLITS) <= 1
    drawn = {
        split: {(each.thing, each.motion, each.small) for seed in (0, 1) for each in scenes(split, 40, seed)}
        for split in SPLITS
    }
    for one, other in combinations(SPLITS, 2):
        assert not drawn[one] & drawn[other]


def test_unseen_combinations_are_in_no_other_split() -> None:
    """The combinations of thing and motion in `unseen` are in no other split."""
    unseen = {(each.thing, each.motion) for each in scenes("unseen", 40)}
    others = {(each.thing, each.motion) for split in SPLITS if split != "unseen" for each in scenes(split, 200)}
    assert len(unseen) == 40
    assert not unseen & others


@pytest.mark.parametrize("split", ["validation", "test", "unseen"])
def test_a_caption_is_true_of_one_clip(split: str) -> None:
    """A caption fits only its own clip, even if it omits the companion or the small thing."""

    def is_true(caption_of: Scene, clip: Scene) -> bool:
        if caption_of.motion in TOGETHER:
            things = {caption_of.thing, caption_of.companion}
            return caption_of.motion == clip.motion and things == {clip.thing, clip.companion}
        does = {clip.thing: clip.motion}
        if clip.companion:
            does[clip.companion] = clip.motion if clip.motion in TOGETHER else "stay"
        return does.get(caption_of.thing) == caption_of.motion

    clips = scenes(split, 40)
    assert [sum(is_true(one, other) for other in clips) for one in clips] == [1] * len(clips)


def test_training_scenes_come_in_families() -> None:
    """Four neighbours combine two motions with two small things, so naming the thing does not distinguish them."""
    train = scenes("train", 400)
    for start in range(0, len(train), GROUP_SIZE):
        family = train[start : start + GROUP_SIZE]
        assert len({(each.thing, each.companion) for each in family}) == 1
        assert len({(each.motion, each.small) for each in family}) == GROUP_SIZE
        assert len({each.motion for each in family}) == len({each.small for each in family}) == 2


def test_everything_is_trained_on() -> None:
    train = scenes("train", 2000)
    assert {each.thing for each in train} == {each.small for each in train} - {None} == set(THINGS)
    assert {each.motion for each in train} == set(MOTIONS)


@pytest.mark.parametrize(
    ("split", "count", "message"),
    [
        ("dev", None, "no split 'dev', only train, validation, test, unseen, motion, small_object"),
        ("train", 0, "at least 1, got 0"),
        ("test", 10_000, "'test' of moving things has at most 500 clips, got count=10000"),
        ("motion", 10, "groups of 4 clips, got count=10"),
    ],
)
def test_counts_that_cannot_be_had_are_refused(split: str, count: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scenes(split, count)


def test_rows_are_those_of_every_benchmark() -> None:
    example = scenes("motion", 8)[5]
    assert (example.row.video_id, example.row.group) == ("motion-0001-1", "motion-0001")
    assert example.row.captions == (example.caption,)
    assert (example.row.start, example.row.end) == (None, None)


# ----------------------------------------------------------------------------------------------------------------
# Captions
# ----------------------------------------------------------------------------------------------------------------


def test_captions_tell_all_that_a_scene_shows() -> None:
    for each in scenes("train", 200):
        assert each.caption.startswith(phrase(each.thing))
        assert (each.companion or "") in each.caption
        assert (each.small or "") in each.caption
        assert each.caption == " ".join(each.caption.split())


def test_captions_vary_in_their_phrasing() -> None:
    """The phrasing varies, and depends only on the scene."""
    captions = {Scene("a", "cat", "left", None, "owl", look).caption for look in range(100)}
    assert {"a cat moves left; a small owl appears", "a cat goes left while a tiny owl shows up"} <= captions
    assert len(captions) == 27
    assert phrase("owl") == "an owl"
    assert phrase("owl", "tiny") == "a tiny owl"


# ----------------------------------------------------------------------------------------------------------------
# Diagnostics
# ----------------------------------------------------------------------------------------------------------------


def test_motion_candidates_differ_in_the_motion_alone() -> None:
    motion_groups = groups("motion", 40)
    assert {tuple(each.motion for each in group) for group in motion_groups} == {STRAIGHT, ORDER}
    for group in motion_groups:
        assert len({(each.thing, each.companion, each.small, each.look) for each in group}) == 1
        assert len({each.caption for each in group}) == GROUP_SIZE


def test_small_object_candidates_differ_in_the_small_thing_alone() -> None:
    for group in groups("small_object", 40):
        assert len({(each.thing, each.companion, each.motion, each.look) for each in group}) == 1
        assert len({each.small for each in group}) == len({each.caption for each in group}) == GROUP_SIZE


@pytest.mark.parametrize(
    ("motion", "reverse"), [("left", "right"), ("up", "down"), ("grow", "shrink"), ("meet", "part")]
)
def test_a_motion_and_its_reverse_show_the_same_frames(motion: str, reverse: str) -> None:
    """Only the order of the frames differs, so a model that ignores the order can only guess."""
    companion = "dog" if motion in ORDER else None
    forwards, backwards = (
        render(Scene("a", "cat", name, companion, None, look=3))[list(SEEN_FRAMES)].astype(int)
        for name in (motion, reverse)
    )
    shifted = np.abs(forwards - backwards[::-1]).mean()
    assert shifted < 1.5  # a position or size may be rounded up in one, down in the other
    assert np.abs(forwards - backwards).mean() > 3 * shifted


def test_small_things_are_small_and_seen() -> None:
    """Small things cover at most 3 % of the frame, are visible, and are absent from some frames."""
    for each in scenes("small_object", 40) + scenes("motion", 40):
        shares = covered_pixels(each)["small"].mean(axis=(1, 2))
        assert 0.003 < shares.max() <= LARGEST_SMALL_THING
        assert (shares == 0).any()


# ----------------------------------------------------------------------------------------------------------------
# Pictures
# ----------------------------------------------------------------------------------------------------------------


def test_clip_is_an_h264_file_of_the_drawn_frames() -> None:
    drawn = scenes("train", 1)[0]
    with av.open(io.BytesIO(render_mp4(drawn))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", FRAMES_PER_SECOND)
        assert (stream.width, stream.height, stream.frames) == (FRAME_SIZE, FRAME_SIZE, NUM_FRAMES)
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert np.abs(decoded.astype(float) - render(drawn)).mean() < 5


def test_a_changed_drawing_has_a_new_number() -> None:
    """If the drawing changes, raise `DRAWING`, so that old clips don't pass for current, and update the sums here."""
    signs = np.random.default_rng(0).integers(0, 2, (NUM_FRAMES, FRAME_SIZE, FRAME_SIZE, 3)) * 2 - 1
    sums = [int((render(scene(motion, "key")) * signs).sum()) for motion in MOTIONS]
    assert DRAWING == 2
    assert sums == pytest.approx(SUMS, abs=50)  # other versions of Pillow may round some pixels differently


@pytest.mark.parametrize(("motion", "step"), zip(STRAIGHT, [(-1, 0), (1, 0), (0, -1), (0, 1)], strict=True))
def test_a_thing_moves_as_its_caption_tells(motion: str, step: tuple[int, int]) -> None:
    path = centres(covered_pixels(scene(motion))["thing"])
    moved = path[-1] - path[0]
    assert np.allclose(np.sign(moved) * (np.abs(moved) > 4), step)


def test_a_thing_changes_as_its_caption_tells() -> None:
    areas = {motion: covered_pixels(scene(motion))["thing"].sum(axis=(1, 2)) for motion in MOTIONS}
    assert areas["grow"][-1] > 2.5 * areas["grow"][0]
    assert areas["shrink"][0] > 2.5 * areas["shrink"][-1]
    assert areas["stay"][0] == areas["stay"][-1]
    turned = render(scene("turn"))[list(SEEN_FRAMES)].astype(int)
    assert all(np.abs(one - other).mean() > 1 for one, other in combinations(turned, 2))
    for motion, sign in (("meet", -1), ("part", 1)):
        masks = covered_pixels(scene(motion))
        distance = np.abs(centres(masks["thing"]) - centres(masks["companion"]))[:, 0]
        assert sign * (distance[-1] - distance[0]) > 20


def test_patch_shares_add_up_to_the_pixels() -> None:
    """The shares add up to the covered pixels, and mark the patches that change with the thing."""
    with_small, without = scene("left", "key"), scene("left")
    shares = patch_shares(with_small, 7)
    pixels = covered_pixels(with_small)
    for part, each in shares.items():
        assert each.shape == (len(SEEN_FRAMES), 49)
        assert each.sum() * (FRAME_SIZE // 7) ** 2 == pytest.approx(pixels[part].sum())
    changed = (render(with_small) != render(without))[list(SEEN_FRAMES)].any(axis=-1)
    changed = changed.reshape(len(SEEN_FRAMES), 7, 16, 7, 16).any(axis=(2, 4)).reshape(len(SEEN_FRAMES), 49)
    assert (changed[shares["small"] > 0]).all()
    assert not (shares["companion"]).any()
    with pytest.raises(ValueError, match="must divide the frame's 112 pixels, got 5"):
        patch_shares(with_small, 5)


def test_photos_have_what_their_captions_tell() -> None:
    all_photos = photos(60)
    assert photos(20) == all_photos[:20]
    assert photos(20, seed=1) != all_photos[:20]
    photo = all_photos[0]
    assert photo.sizes == tuple(sorted(photo.sizes, reverse=True))
    assert photo.caption(with_location=True) == f"{phrase(photo.things[0])} {photo.location()}"
    several = next(each for each in all_photos if len(each.things) > 1)
    assert several.caption(with_location=False, also=(1,)).endswith(f" and {phrase(several.things[1])}")
    assert render_photo(photo).shape == (FRAME_SIZE, FRAME_SIZE, 3)
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        photos(0)
