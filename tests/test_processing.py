"""The processor: text tokenization, and the inputs for both halves of the model."""

import json

import pytest
import torch
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from support.tiny_models import WORDS, tiny_clip, tiny_config, tiny_model, tiny_processor, tiny_tokenizer
from support.video_files import write_video
from ts2net import TS2NetProcessor, TS2NetVideoProcessor
from ts2net.data.collating import text_tensors
from ts2net.encoding.texts import encode_texts
from ts2net.text_cleaning_ts2net import clean_text


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("videos") / "clip.mp4", frames=30, fps=10)


def test_gives_what_the_model_reads(clip):
    inputs = tiny_processor()(text=["a dog", "two cats"], videos=clip)
    assert set(inputs) == {"input_ids", "attention_mask", "pixel_values_videos", "padding_mask_videos"}
    assert inputs["pixel_values_videos"].shape == (1, 3, 3, 32, 32)
    assert tiny_model()(**inputs).logits_per_text.shape == (2, 1)


def test_texts_are_lowered_padded_and_cut_with_the_end_kept():
    processor = tiny_processor()
    loud, quiet = (processor(text=text)["input_ids"] for text in ("A  DOG", "a dog"))
    assert torch.equal(loud, quiet)
    inputs = processor(text=["a dog", "x" * 100])
    assert inputs["input_ids"].shape == (2, WORDS)
    end = processor.tokenizer.eos_token_id
    assert inputs["input_ids"][1, 0] == processor.tokenizer.bos_token_id
    assert inputs["input_ids"][1, -1] == end
    assert (inputs["input_ids"][1] == end).sum() == 1
    assert inputs["attention_mask"].sum(1).tolist() == [6, WORDS]
    assert processor(text="x" * 100, max_length=8)["input_ids"][0].tolist()[-1] == end


def test_one_half_alone(clip):
    processor = tiny_processor()
    assert set(processor(text="a dog")) == {"input_ids", "attention_mask"}
    assert set(processor(videos=clip)) == {"pixel_values_videos", "padding_mask_videos"}
    with_times = processor(videos=clip, return_metadata=True, num_frames=2)
    assert with_times["video_metadata"][0].timestamps == [0.0, 2.0]


def test_fits_the_model(tmp_path):
    config = tiny_config(num_frames=5, padding_mode="released")
    clip_model, tokenizer = tiny_clip(), tiny_tokenizer()
    tokenizer.model_max_length = 10**9
    clip_model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    processor = TS2NetProcessor.from_clip(tmp_path, config)
    assert isinstance(processor.tokenizer, CLIPTokenizer)
    assert processor.tokenizer.model_max_length == WORDS
    video_processor = processor.video_processor
    assert (video_processor.num_frames, video_processor.pad_to) == (5, "num_frames")
    assert (video_processor.size.shortest_edge, video_processor.crop_size.height) == (32, 32)


@pytest.mark.parametrize("file", ["preprocessor_config.json", "processor_config.json"])
def test_takes_the_mean_and_deviation_of_the_clips_images(tmp_path, file):
    """Some CLIPs use a mean and deviation other than OpenAI's. Older folders store them in a separate file."""
    tiny_tokenizer().save_pretrained(tmp_path)
    images = {
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.4, 0.4, 0.4],
        "image_processor_type": "CLIPImageProcessor",
    }
    content = images if file.startswith("pre") else {"image_processor": images}
    (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    video_processor = TS2NetProcessor.from_clip(tmp_path, tiny_config()).video_processor
    assert tuple(video_processor.image_mean) == (0.5, 0.5, 0.5)
    assert tuple(video_processor.image_std) == (0.4, 0.4, 0.4)


def test_survives_a_round_trip(tmp_path, clip):
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    again = TS2NetProcessor.from_pretrained(tmp_path)
    assert type(again.video_processor) is TS2NetVideoProcessor
    for name, value in processor(text="a dog", videos=clip).items():
        assert torch.equal(again(text="a dog", videos=clip)[name], value)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a dog’s “ball”", 'a dog\'s "ball"'),  # curly quotes
        ("a dogâ€™s ball", "a dog's ball"),  # UTF-8 read as Windows-1252
        ("cats &amp;amp; dogs", "cats & dogs"),
        (" two\u00a0cats \n run ", "two cats run"),
        ("ﬁsh", "fish"),
    ],
)
def test_texts_are_cleaned_as_openais_clip_and_the_released_code_do(raw, clean):
    processor = tiny_processor()
    assert clean_text(raw) == clean
    assert torch.equal(processor(text=raw)["input_ids"], processor(text=[clean])["input_ids"])


def test_evaluation_and_training_clean_texts_too():
    processor, raw, clean = tiny_processor(), "a dogâ€™s ball", "a dog's ball"
    model = tiny_model()
    assert torch.equal(*(encode_texts(model, processor, [text], max_words=9) for text in (raw, clean)))
    assert torch.equal(*(text_tensors(text, processor, 9)["input_ids"] for text in (raw, clean)))


def test_a_tokenizer_keeps_the_padding_that_it_was_saved_with(tmp_path):
    tiny_processor().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"padding": "max_length"}), encoding="utf-8")
    processor = TS2NetProcessor.from_pretrained(tmp_path)
    assert processor(text="a dog")["input_ids"].shape == (1, WORDS)
    assert processor(text="a dog", padding=True)["input_ids"].shape == (1, 6)


def test_an_explicit_none_reaches_the_video_processor(clip):
    processor = tiny_processor()
    assert TS2NetVideoProcessor(do_resize=None).to_dict()["do_resize"] is None
    assert processor(videos=clip)["pixel_values_videos"].shape[1] == 3  # one frame a second
    assert processor(videos=clip, fps=None)["pixel_values_videos"].shape[1] == 6  # all frames, reduced to the maximum
    assert processor(videos=clip, fps=None, num_frames=None)["pixel_values_videos"].shape[1] == 30


def test_bad_input_is_named(clip):
    processor = tiny_processor()
    with pytest.raises(ValueError, match="at least one input"):
        processor()
    with pytest.raises(ValueError, match="empty list"):
        processor(text=[])
    with pytest.raises(ValueError, match="str"):
        processor(text=[1])
    other = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer, pad_token="<|endoftext|>")
    with pytest.raises(ValueError, match=r"the text 'a \\ud800 dog' holds half of a surrogate pair"):
        TS2NetProcessor.for_model(other, tiny_config())(text=["a \ud800 dog"])
    with pytest.raises(TypeError, match="video_processor must be a TS2NetVideoProcessor, got CLIPTokenizer"):
        TS2NetProcessor(tiny_tokenizer(), tiny_tokenizer())
