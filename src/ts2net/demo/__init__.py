"""The whole way once: clips, a CLIP, a TS2-Net on the Hub's terms, and scores, with no network.

Notable here: the scores come from a second process that loads the folder as a stranger would, with the code beside the
weights (`score_folder.py`). If the folder lacked anything, the demo would fail.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from ..errors import report_error
from ..scoring import check_source
from ..tables import best_first, score_matrix
from .checkpoint import build_from_clip, make_clip_checkpoint
from .clips import ALL_SCENES, DEMO_SCENES, render_clips


def run_demo(
    console: Console,
    out: Path,
    model: str | None = None,
    videos: list[str] | None = None,
    texts: list[str] | None = None,
) -> bool:
    """Make what is not given, score every text against every video, and print the table.

    Args:
        console: Where to print.
        out: Folder for what is made: `clips`, `clip` (a CLIP checkpoint), `model` (a TS2-Net folder).
        model: A folder or repository of a TS2-Net with its code.
        videos: Paths or addresses.
        texts: Sentences.

    Returns:
        Whether every video could be scored.

    Raises:
        NotADirectoryError: If `out` or `model` is a file.
        FileNotFoundError: If `model` is no folder of a model and can't be a repository.
        ValueError: If the model can't be loaded with its own code.
        RuntimeError: If the process that scores dies.
    """
    if out.exists() and not out.is_dir():
        raise NotADirectoryError(f"{out} is a file; expected a folder for what the demo makes")
    if model is not None:
        check_source(model)  # before clips are rendered for it
    untrained = model is None
    own_clips = videos is None
    offline = untrained and own_clips

    if videos is None:
        videos = [str(path) for path in render_clips(out / "clips")]
        console.print(f"rendered {len(videos)} clips to {out / 'clips'}", style="dim")
    texts = texts or [scene.caption for scene in DEMO_SCENES]
    if model is None:
        make_clip_checkpoint(out / "clip", (scene.caption for scene in ALL_SCENES))
        build_from_clip(out / "clip", out / "model")
        model = str(out / "model")
        console.print(f"made a small CLIP in {out / 'clip'}, and of it a TS2-Net in {model}", style="dim")

    answer = _score_in_new_process(out, {"model": model, "texts": texts, "videos": videos}, offline)
    console.print(f"loaded {model} in a process of its own, as {answer['model_class']}", style="dim")

    errors = [entry["error"] for entry in answer["videos"] if "error" in entry]
    for error in errors:
        report_error(error)
    scored = [
        (video, entry["scores"]) for video, entry in zip(videos, answer["videos"], strict=True) if "scores" in entry
    ]
    if scored:
        names = [video for video, _ in scored]
        scores = [[row[place] for _, row in scored] for place in range(len(texts))]  # one row a text
        console.print(score_matrix(console, texts, names, scores))
        if own_clips and texts == [scene.caption for scene in DEMO_SCENES]:
            found = sum(best_first(row)[0] == place for place, row in enumerate(scores))
            console.print(f"the right clip comes first for {found} of {len(texts)} texts; by chance it is 1")
        if untrained:
            console.print("The weights are untrained, so these scores mean nothing yet.", style="bold yellow")
        console.print(f"\nnext, try:\n  {_next_command(model, names[0])}", soft_wrap=True)
    return not errors


def _score_in_new_process(out: Path, task: dict[str, Any], offline: bool) -> dict[str, Any]:
    # Copies of models' code go to the demo's own folder: into the user's cache they would pile up. Downloads stay in
    # the user's cache, where they are of use again, and where the token is.
    modules = (out / "cache").absolute()
    modules.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"HF_MODULES_CACHE": str(modules)} | ({"HF_HUB_OFFLINE": "1"} if offline else {})
    script = Path(__file__).with_name("score_folder.py")
    child = subprocess.run(
        [sys.executable, script], input=json.dumps(task), stdout=subprocess.PIPE, text=True, env=environment
    )
    if child.returncode:
        raise RuntimeError(f"the process that loads {task['model']} ended with exit code {child.returncode}")
    answer = json.loads(child.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


def _next_command(model: str, video: str) -> str:
    # `make demo` runs in an environment of its own, whose programs a shell does not find by name.
    program = "ts2net" if shutil.which("ts2net") else os.path.relpath(Path(sys.executable).with_name("ts2net"))
    return shlex.join([program, "score", "--model", model, "--video", video, "--text", "a red circle moves up"])
