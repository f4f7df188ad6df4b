"""`TextVideoScorer` gives the pipeline's scores with the installed classes."""

from pathlib import Path

import pytest
import torch

from support.tiny_models import tiny_model, tiny_processor
from support.video_files import write_video
from ts2net import TextVideoScorer
from ts2net.hub import ModelLoadingError, save_hub_folder

TEXTS = ["a dog runs", "two cats"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{index}.mp4", frames=20 + 10 * index, fps=10) for index in range(2)]


def test_a_folder_scores_as_its_model_does(clips: list[Path], tmp_path: Path) -> None:
    folder = save_hub_folder(tiny_model(), tiny_processor(), tmp_path / "model")
    (folder / "modeling_ts2net.py").write_text("raise SystemExit('code beside the weights ran')")
    with torch.no_grad():
        logits = tiny_model()(**tiny_processor()(text=TEXTS, videos=clips)).logits_per_video
    scorer = TextVideoScorer(folder, device="cpu")
    videos = scorer.score(clips, TEXTS)
    assert [video.video for video in videos] == [str(clip) for clip in clips]
    for video, expected in zip(videos, logits, strict=True):
        assert video.texts == TEXTS
        assert video.scores == pytest.approx(expected.tolist(), abs=1e-4)
        assert all(0 <= second < 3 for second in video.seconds)
    assert scorer.score(clips[0], TEXTS[0])[0].scores == pytest.approx(logits[0, :1].tolist(), abs=1e-4)


def test_a_broken_video_is_an_error_or_a_result(clips: list[Path], tmp_path: Path) -> None:
    scorer = TextVideoScorer(tiny_model(), tiny_processor())
    videos = [tmp_path / "missing.mp4", clips[0]]
    missing, scored = scorer.score(videos, TEXTS, on_error="skip")
    assert isinstance(missing.error, OSError)
    assert (missing.scores, len(scored.scores), scored.error) == ([], 2, None)
    with pytest.raises(OSError, match=r"missing\.mp4"):
        scorer.score(videos, TEXTS)
    stream = scorer.stream(iter([clips[0], *videos]), TEXTS)
    assert next(stream) == scored


def test_what_does_not_go_together_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs its processor"):
        TextVideoScorer(tiny_model())
    with pytest.raises(ValueError, match="this one is loaded"):
        TextVideoScorer(tiny_model(), tiny_processor(), device="cpu")
    with pytest.raises(ValueError, match="is loaded with it"):
        TextVideoScorer(tmp_path, tiny_processor())
    with pytest.raises(ModelLoadingError, match="cannot load the model"):
        TextVideoScorer(tmp_path)
