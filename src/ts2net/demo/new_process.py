"""Scores from a process of its own, which loads a model as a stranger would: with the code beside its weights."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Scores:
    """What the process answers.

    Args:
        model_class: The full name of the class that it found beside the weights.
        rows: For each video its scores, one a text, or in their place the error that kept it from being read.
    """

    model_class: str
    rows: list[list[float] | str]

    def one_row_a_text(self) -> list[list[float]]:
        """The scores with one row a text and one column a video.

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
        modules: Where the process keeps its copy of the code: in the user's cache such copies would pile up.
        offline: Whether all is on this machine, so that nothing has to be looked for on the Hub.

    Raises:
        ValueError: If the model can't be loaded with its own code.
        RuntimeError: If the process dies.
    """
    modules.mkdir(parents=True, exist_ok=True)
    # Downloads stay in the user's cache, where they are of use again, and where the token is.
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
