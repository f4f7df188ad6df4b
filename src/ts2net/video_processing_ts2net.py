"""Video processor that turns videos of any kind into normalised frames and a padding mask.

It needs torch and PyAV, not torchvision. Resizing works on uint8, as in PIL, so that pixels agree with those that CLIP
was trained on.
"""

import os
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from huggingface_hub.dataclasses import validate_typed_dict
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_transforms import get_resize_output_image_size
from transformers.image_utils import (
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    ChannelDimension,
    PILImageResampling,
    SizeDict,
    infer_channel_dimension_format,
)
from transformers.processing_utils import VideosKwargs
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import VideoMetadata

from .video_decoding_ts2net import DecodedVideo, decode_video, video_info
from .video_sampling_ts2net import FrameSampling
from .video_timing_ts2net import Timeline

Seconds = int | float | list[int | float | None] | tuple[int | float | None, ...] | None

_INTERPOLATION = {
    PILImageResampling.NEAREST: "nearest-exact",
    PILImageResampling.BILINEAR: "bilinear",
    PILImageResampling.BICUBIC: "bicubic",
}


class TS2NetVideoProcessorKwargs(VideosKwargs, total=False):  # type: ignore[call-arg]
    """Settings in addition to those of every video processor.

    Attributes:
        sampling: The candidates to keep when there are more than `num_frames`: `"uniform"`, `"first"`, `"last"`.
        clock: Definition of a second: `"seconds"`, as in players, or `"released"`, `int(rate of the video)` frames.
        pad_to: Length to which a batch is padded: its longest video (`"longest"`) or `"num_frames"`.
        start: Start of the processed part in seconds; a list has one entry per video.
        end: End of the processed part in seconds, inclusive; a list has one entry per video.
    """

    sampling: Literal["uniform", "first", "last"] | None
    clock: Literal["seconds", "released"] | None
    pad_to: Literal["longest", "num_frames"] | None
    start: Seconds
    end: Seconds


@dataclass
class TS2NetVideoMetadata(VideoMetadata):
    """Metadata of a video and its sampled frames. `timestamps` are the true presentation times."""

    frame_times: list[float] | None = None

    @property
    def timestamps(self) -> list[float]:
        """Seconds from the start of the file at which each frame comes on screen."""
        return list(self.frame_times or [])


class TS2NetVideoProcessor(VideoProcessorMixin):
    """Turn videos into the inputs of [`TS2NetModel`].

    By default one frame per second is sampled, at most `num_frames`, spread evenly. Frames are resized (short side,
    bicubic, antialiased), cropped at the centre, rescaled and normalised. The constructor's settings are the defaults
    of each call. Seconds count from the start of the file, as in players, even if its video stream starts later.

    Args:
        num_frames (`int`, defaults to 12): Maximum number of frames per video.
        fps (`float`, defaults to 1.0): Frames sampled per second.
        sampling (`str`, defaults to `"uniform"`): Frames to keep of more: `"uniform"`, `"first"` or `"last"`.
        clock (`str`, defaults to `"seconds"`):
            Definition of a second. `"seconds"` samples the frames on screen at `start`, `start + 1 / fps`, ... at any
            frame rate. `"released"` samples like the released TS2-Net, with which converted checkpoints were trained:
            a second is `int(rate of the video)` frames. At a constant whole rate the two agree.
        pad_to (`str`, defaults to `"longest"`):
            Pad to the longest video of the batch, or to `"num_frames"`, which a model with
            `padding_mode="released"` was trained with.
        kwargs: `do_sample_frames` (False takes every frame, once), `do_resize`, `size`, `resample`, `do_center_crop`,
            `crop_size`, `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean`, `image_std`, `do_convert_rgb`,
            `do_pad`, `device`, ... as for every video processor of transformers.
    """

    _auto_class = "AutoVideoProcessor"
    valid_kwargs = TS2NetVideoProcessorKwargs
    model_input_names = ["pixel_values_videos", "padding_mask_videos"]  # noqa: RUF012

    do_sample_frames = True
    num_frames = 12
    fps = 1.0
    sampling = "uniform"
    clock = "seconds"
    do_convert_rgb = True
    do_resize = True
    size = {"shortest_edge": 224}  # noqa: RUF012
    default_to_square = False
    resample = PILImageResampling.BICUBIC
    do_center_crop = True
    crop_size = {"height": 224, "width": 224}  # noqa: RUF012
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    do_pad = True
    pad_to = "longest"
    return_tensors = "pt"

    def __init__(self, **kwargs: Any) -> None:
        settings = {
            name: _plain(kwargs.pop(name)) for name in list(kwargs) if name in self.valid_kwargs.__annotations__
        }
        validate_typed_dict(self.valid_kwargs, settings)
        super().__init__(**kwargs)
        self._set_attributes(**settings)
        for name, value in settings.items():
            if value is None:  # the library would replace None by its default
                setattr(self, name, None)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings, without those that only apply to a single call."""
        per_call = (
            "video_metadata",
            "start",
            "end",
            "device",
            "return_metadata",
            "return_tensors",
            "input_data_format",
        )
        return {name: value for name, value in super().to_dict().items() if name not in per_call}

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Process one video or a list of them.

        A video is a path, an http(s) URL, bytes, a binary file object, an array or tensor of shape
        `(frames, H, W, channels)` or `(frames, channels, H, W)` (uint8, or floats from 0 to 1), a list of frames (PIL
        images, arrays or tensors), or a value of a datasets `Video` column, decoded or not.

        Arrays have no times. With `video_metadata` (`{"fps": ...}` for each) they are sampled like files. Without it,
        their frames count as already sampled, and at most `num_frames` of them are kept.

        Args:
            videos: The video or videos.
            kwargs: Settings for this call; see the class and [`TS2NetVideoProcessorKwargs`].

        Returns:
            `pixel_values_videos` of shape `(videos, frames, 3, H, W)` and `padding_mask_videos` of shape
            `(videos, frames)`, True for real frames. With `return_metadata=True` also `video_metadata`, a list of
            [`TS2NetVideoMetadata`]. With `do_pad=False` there is no mask, and `pixel_values_videos` is a list of
            tensors `(frames, 3, H, W)`.

        Raises:
            TypeError: If a setting is unknown or a video is of another kind.
            ValueError: If a video can't be decoded (as `VideoDecodingError`) or a setting is invalid.
        """
        settings = self._settings(kwargs)
        values = as_videos(videos)
        if isinstance(settings["video_metadata"], (list, tuple)):
            settings["video_metadata"] = _flat(settings["video_metadata"])
        moments = list(zip(*(_one_each(name, settings[name], len(values)) for name in ("start", "end")), strict=True))
        metadata = _one_each("video_metadata", settings["video_metadata"], len(values))
        decoded = [
            self._decode(value, start, end, video_metadata, settings)
            for value, (start, end), video_metadata in zip(values, moments, metadata, strict=True)
        ]
        pixels = [self._pixels(video.frames, settings) for video in decoded]

        data: dict[str, Any] = {"pixel_values_videos": pixels}
        if settings["do_pad"]:
            longest = max(len(video) for video in pixels)
            length = max(longest, settings["num_frames"]) if settings["pad_to"] == "num_frames" else longest
            data = _pad(pixels, length)
        if settings["return_metadata"]:
            data["video_metadata"] = [_metadata(video) for video in decoded]
        tensor_type = settings["return_tensors"] if settings["do_pad"] else None
        return BatchFeature(data, tensor_type=tensor_type, skip_tensor_conversion=["video_metadata"])

    def _settings(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Merge the settings of a call with the defaults, and check them."""
        names = self.valid_kwargs.__annotations__
        unknown = sorted(set(kwargs) - set(names))
        if unknown:
            raise TypeError(f"unknown video setting {unknown[0]!r}; expected one of {', '.join(sorted(names))}")
        kwargs = {name: _plain(value) for name, value in kwargs.items()}
        validate_typed_dict(self.valid_kwargs, kwargs)
        settings = {name: kwargs[name] if name in kwargs else getattr(self, name, None) for name in names}
        settings |= self._standardize_kwargs(**settings)
        self._validate_preprocess_kwargs(**settings)
        if settings["data_format"] not in (None, ChannelDimension.FIRST):
            raise ValueError(
                f"data_format must be 'channels_first', as the model reads, got {settings['data_format']!r}"
            )
        if settings["resample"] not in _INTERPOLATION:
            expected = ", ".join(filter.name for filter in _INTERPOLATION)
            raise ValueError(f"resample must be one of {expected}, got {settings['resample']!r}")
        return settings

    def sample_frames(
        self,
        metadata: VideoMetadata | dict[str, Any],
        num_frames: int | None = None,
        fps: float | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Sample frames of a video from its metadata alone, as a call does for an array with that metadata.

        Args:
            metadata: `total_num_frames` and `fps` of the video.
            num_frames: Maximum number of frames. `None`: the processor's setting.
            fps: Frames sampled per second. `None`: the processor's setting.
            kwargs: `sampling`, `clock`, `start` and `end` for this video. Other settings are ignored.

        Returns:
            The indices of the frames, of shape `(frames,)`, in order.

        Raises:
            ValueError: If a setting is out of range, or the video ends before `start`.
        """
        overrides = {"num_frames": num_frames, "fps": fps}
        overrides |= {name: kwargs.get(name) for name in ("sampling", "clock", "start", "end")}
        settings = {name: getattr(self, name, None) if value is None else value for name, value in overrides.items()}
        rate, count = metadata["fps"], metadata["total_num_frames"]
        indices = self._sampling(
            settings, settings["start"], settings["end"], None if rate is None else settings["fps"]
        )
        return np.array(indices.choose(Timeline.even(count, rate or 1.0)))

    @staticmethod
    def _sampling(
        settings: dict[str, Any], start: float | None, end: float | None, fps: float | None
    ) -> FrameSampling:
        return FrameSampling(settings["num_frames"], fps, settings["sampling"], start, end, settings["clock"])

    def _decode(
        self, value: Any, start: float | None, end: float | None, metadata: Any, settings: dict[str, Any]
    ) -> DecodedVideo:
        """Return the sampled frames of one video, uint8 RGB, `(frames, H, W, 3)`."""

        def sampling(fps: float | None) -> FrameSampling:
            if not settings["do_sample_frames"]:
                return FrameSampling(num_frames=None, fps=None, start=start, end=end)
            return self._sampling(settings, start, end, fps)

        source = _encoded(value)
        if source is not None:
            return decode_video(source, sampling(settings["fps"]))

        frames = _frames(value, settings["input_data_format"], settings["do_convert_rgb"])
        fps = metadata.get("fps") if metadata is not None else None
        if fps is not None and not fps > 0:
            raise ValueError(f"the fps of video_metadata must be a positive number, got {fps}")
        if fps is None and (start is not None or end is not None):
            raise ValueError("start and end are seconds, and these frames have no times: pass video_metadata with fps")
        indices = sampling(None if fps is None else settings["fps"]).choose(Timeline.even(len(frames), fps or 1.0))
        timeline = Timeline.even(len(frames), fps or settings["fps"])
        return DecodedVideo(frames[indices], timeline.times[indices].tolist(), indices, video_info(timeline, frames))

    def _pixels(self, frames: torch.Tensor, settings: dict[str, Any]) -> torch.Tensor:
        """Resize, crop, rescale and normalise uint8 frames `(T, H, W, C)` to `(T, C, H, W)`."""
        frames = frames.to(settings["device"]) if settings["device"] is not None else frames
        frames = frames.permute(0, 3, 1, 2)  # (T, C, H, W), channels last in memory: torch's fast path for uint8
        if settings["do_resize"]:
            frames = _resize(frames, settings["size"], _INTERPOLATION[settings["resample"]])
        if settings["do_center_crop"]:
            frames = _center_crop(frames, settings["crop_size"].height, settings["crop_size"].width)
        pixels = frames.to(torch.float32).contiguous()
        if settings["do_rescale"]:
            pixels = pixels * settings["rescale_factor"]
        if settings["do_normalize"]:
            mean = torch.tensor(settings["image_mean"], device=pixels.device).view(-1, 1, 1)
            std = torch.tensor(settings["image_std"], device=pixels.device).view(-1, 1, 1)
            pixels = (pixels - mean) / std
        return pixels


def _plain(value: Any) -> Any:
    """Convert a setting to plain Python: numbers and arrays of NumPy, torch and others become numbers and lists."""
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)):
        return value.tolist()
    if isinstance(value, Real) and not isinstance(value, (int, float)):
        return float(value)
    if type(value) in (list, tuple):
        return type(value)(_plain(entry) for entry in value)
    if type(value) is dict:
        return {name: _plain(entry) for name, entry in value.items()}
    return value


def is_one_video(videos: Any) -> bool:
    """Whether `videos` is one video rather than a list of videos. A list of images is one video."""
    if isinstance(videos, (list, tuple)):
        return bool(videos) and _is_frame(videos[0])
    return not (isinstance(videos, (np.ndarray, torch.Tensor)) and videos.ndim == 5)


def remembered_file(video: Any) -> Any:
    """Return the file behind a decoder of the datasets library, and any other video unchanged."""
    return getattr(video, "_hf_encoded", video)


def as_videos(videos: Any) -> list[Any]:
    """Convert one video or many to a list of videos. Lists of lists of videos are flattened.

    Raises:
        ValueError: If the list is empty.
    """
    if is_one_video(videos):
        return [videos]
    if not len(videos):
        raise ValueError("videos is an empty list: expected at least one video")
    return [each for video in videos for each in (as_videos(video) if isinstance(video, (list, tuple)) else [video])]


def _flat(values: list[Any] | tuple[Any, ...]) -> list[Any]:
    """Flatten a list of values, or of lists of values, into one list."""
    return [each for value in values for each in (value if isinstance(value, (list, tuple)) else [value])]


def _is_frame(value: Any) -> bool:
    return isinstance(value, Image.Image) or (isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim in (2, 3))


def _one_each(name: str, value: Any, count: int) -> list[Any]:
    """Convert a setting to a list with one entry per video. The setting may be such a list, or one value for all."""
    if not isinstance(value, (list, tuple)):
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries for {count} videos")
    return list(value)


def _encoded(value: Any) -> Any:
    """Return the source to decode if the value is an encoded video of some kind, else None."""
    value = remembered_file(value)  # this package's decoder reads less of the file
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path") is None:
            raise TypeError(f"a video given as a dict needs 'bytes' or 'path', got the keys {sorted(value)}")
        return value["path"] if value.get("bytes") is None else value["bytes"]
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    is_file = isinstance(value, (str, os.PathLike, bytes)) or hasattr(value, "read")
    return value if is_file else None


def _frames(value: Any, input_data_format: Any, convert_rgb: bool) -> torch.Tensor:
    """Convert pixels of any kind to uint8 frames of shape `(frames, H, W, channels)`."""
    if hasattr(value, "get_frames_in_range"):  # a torchcodec decoder
        value = value.get_frames_in_range(0, len(value)).data
    elif isinstance(value, (list, tuple)) and value and all(_is_frame(frame) for frame in value):
        value = _stacked(value)
    if not isinstance(value, (np.ndarray, torch.Tensor)):
        raise TypeError(
            f"a video must be a path, URL, bytes, file object, array, tensor, list of images or a value of a datasets "
            f"Video column, got {type(value).__name__}"
        )
    frames = _as_tensor(value)
    if frames.ndim != 4 or not len(frames):
        raise ValueError(f"a video's pixels must have 4 axes and at least one frame, got shape {(*frames.shape,)}")
    if frames.is_floating_point():
        if not bool(((frames >= 0) & (frames <= 1)).all()):
            low, high = frames.min().item(), frames.max().item()
            raise ValueError(f"floating-point pixels must lie between 0 and 1, got {low:g} to {high:g}")
        frames = (frames * 255).round()
    elif frames.dtype != torch.uint8 and (frames.min() < 0 or frames.max() > 255):
        raise ValueError(f"whole-number pixels must lie between 0 and 255, got {frames.min()} to {frames.max()}")
    layout = input_data_format or infer_channel_dimension_format(frames, num_channels=(1, 3, 4))
    if ChannelDimension(layout) == ChannelDimension.FIRST:
        frames = frames.permute(0, 2, 3, 1)
    if convert_rgb and frames.shape[-1] != 3:
        # Grey is repeated, transparency is dropped.
        frames = frames[..., :1].expand(*frames.shape[:-1], 3) if frames.shape[-1] == 1 else frames[..., :3]
    return frames.to(torch.uint8)


def _as_tensor(value: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Convert pixels to a tensor, also from arrays of any stride and byte order."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "uif":
            raise TypeError(f"a video's pixels must be whole numbers or floats, got {value.dtype}")
        plain = np.uint8 if value.dtype == np.uint8 else np.int64 if value.dtype.kind in "ui" else np.float32
        return torch.from_numpy(np.array(value, dtype=plain, order="C"))
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"a video's pixels must be whole numbers or floats, got {value.dtype}")
    return value


def _stacked(images: list[Any] | tuple[Any, ...]) -> np.ndarray:
    """Stack a list of images into one array with a frame axis."""
    arrays = [np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image) for image in images]
    arrays = [array[..., None] if array.ndim == 2 else array for array in arrays]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"the frames of a video must have one shape, got {' and '.join(map(str, sorted(shapes)))}")
    return np.stack(arrays)


def _resize(frames: torch.Tensor, size: SizeDict, mode: str) -> torch.Tensor:
    """Resize uint8 frames `(T, C, H, W)` like PIL: antialiased, rounded back to uint8."""
    if size.shortest_edge:
        height, width = get_resize_output_image_size(
            frames[0], size.shortest_edge, default_to_square=False, input_data_format=ChannelDimension.FIRST
        )
    elif size.height and size.width:
        height, width = size.height, size.width
    else:
        raise ValueError(f"size must have 'shortest_edge', or 'height' and 'width', got {dict(size)}")
    if frames.shape[-2:] == (height, width):
        return frames
    antialias = {} if mode == "nearest-exact" else {"antialias": True, "align_corners": False}
    if frames.device.type == "cpu":
        return torch.nn.functional.interpolate(frames, (height, width), mode=mode, **antialias)
    return _resize_as_floats(frames, height, width, mode=mode, **antialias).to(torch.uint8)


def _resize_as_floats(frames: torch.Tensor, height: int, width: int, **how: Any) -> torch.Tensor:
    """Resize on devices that can't resize uint8: first the width, then the height, with rounding after each."""
    resized = frames.float()
    for size in ((frames.shape[-2], width), (height, width)):
        resized = torch.nn.functional.interpolate(resized, size, **how).round_().clamp_(0, 255)
    return resized


def _center_crop(frames: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Crop frames `(T, C, H, W)` at the centre. Smaller frames are padded with black."""
    missing_height, missing_width = max(0, height - frames.shape[-2]), max(0, width - frames.shape[-1])
    if missing_height or missing_width:
        top, left = missing_height // 2, missing_width // 2
        sides = (left, missing_width - left, top, missing_height - top)
        frames = torch.nn.functional.pad(frames, sides)
    top, left = (frames.shape[-2] - height) // 2, (frames.shape[-1] - width) // 2
    return frames[..., top : top + height, left : left + width]


def _pad(pixels: list[torch.Tensor], length: int) -> dict[str, torch.Tensor]:
    """Stack videos `(T, C, H, W)` into a batch, padded with zero frames to `length`."""
    shapes = {video.shape[1:] for video in pixels}
    if len(shapes) > 1:
        raise ValueError(
            f"videos of different sizes can't be stacked: {' and '.join(str((*shape,)) for shape in sorted(shapes))}; "
            f"keep do_center_crop on, or give do_pad=False"
        )
    batch = pixels[0].new_zeros(len(pixels), length, *pixels[0].shape[1:])
    mask = torch.zeros(len(pixels), length, dtype=torch.bool, device=batch.device)
    for row, video in enumerate(pixels):
        batch[row, : len(video)] = video
        mask[row, : len(video)] = True
    return {"pixel_values_videos": batch, "padding_mask_videos": mask}


def _metadata(video: DecodedVideo) -> TS2NetVideoMetadata:
    info = video.info
    return TS2NetVideoMetadata(
        total_num_frames=info.num_frames,
        fps=info.fps,
        width=info.width,
        height=info.height,
        duration=info.duration,
        video_backend="pyav",
        frames_indices=video.indices,
        frame_times=video.timestamps,
    )


if __package__ == "ts2net":  # the installed package needs no trust_remote_code; a copy beside a checkpoint does
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING

    from .configuration_ts2net import TS2NetConfig

    # AutoVideoProcessor.register does the same, but requires torchvision, because its only backend has that name.
    VIDEO_PROCESSOR_MAPPING.register(TS2NetConfig, {"torchvision": TS2NetVideoProcessor}, exist_ok=True)

__all__ = ["TS2NetVideoMetadata", "TS2NetVideoProcessor"]
