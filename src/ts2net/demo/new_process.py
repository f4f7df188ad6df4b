"""Scores from a separate process, which loads a model as any user would: with the code beside its weights."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scores:
    """Result of the process.

    Args:
        model_class: Full name of the model class, which comes from the code beside the weights.
        rows: For each video its scores, one per text, or the error message if the video could not be read.
    """

    model_class: str
    rows: list[list[float] | str]

    def one_row_a_text(self) -> list[list[float]]:
        """Return the scores with one row per text and one column per video.

        Raises:
            ValueError: If a video could not be read.
        """
        for row in self.rows:
            if isinstance(row, str):
                raise ValueError(row)
        return [list(scores) for scores in zip(*self.rows, strict=True)]


def score_in_new_process(
    model: str, texts: list[str], videos: list[str], *, modules: Path, offline: bool = False
) -> Scores:
    """Score every text against every video.

    Args:
        model: A folder or repository of a TS2-Net with its code.
        texts: Sentences.
        videos: Paths or addresses.
        modules: Folder for the process's copy of the code, because such copies would accumulate in the user's cache.
        offline: Whether the process must not access the Hub, because all files are local.

    Raises:
        ValueError: If the model can't be loaded with its own code.
        RuntimeError: If the process dies.
    """
    modules.mkdir(parents=True, exist_ok=True)
    # Only the modules are redirected. Downloads stay in the user's cache, for reuse and because the token
    # is stored there.
    environment = os.environ | {"HF_MODULES_CACHE": str(modules.absolute())}
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    script = Path(__file__).with_name("score_folder.py")
    task = json.dumps({"model": model, "texts": texts, "videos": videos})
    child = subprocess.run([sys.executable, script], input=task, stdout=subprocess.PIPE, text=True, env=environment)
    if child.returncode:
        raise RuntimeError(f"the process that loads {model} ended with exit code {child.returncode}")
    answer = json.loads(child.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    return Scores(answer["model_class"], [entry.get("scores", entry.get("error")) for entry in answer["videos"]])
