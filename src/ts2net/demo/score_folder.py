"""Score texts against videos with a model's own code, as on a computer without ts2net.

This script runs in a separate process, which never imports ts2net. It reads `{"model", "texts", "videos"}` as JSON
from standard input and writes `{"model_class", "videos"}` to standard output: for each video its `scores`, one per
text, or the `error` that made it unreadable. If the model itself cannot be loaded, it writes `{"error"}`.
"""

import contextlib
import json
import sys
from typing import Any


def main() -> None:
    """Read the task, load the model with the code beside its weights, score, and write the result."""
    task = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # standard output must contain only the result
        try:
            answer = score(**task)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]  # the rest of a long message is advice
            answer = {"error": f"cannot load the model {task['model']!r}: {reason or type(error).__name__}"}
    json.dump(answer, sys.stdout)


def score(model: str, texts: list[str], videos: list[str]) -> dict[str, Any]:
    """Score every text against every video."""
    from transformers import pipeline

    scorer = pipeline("text-video-scoring", model=model, trust_remote_code=True)
    model_class = type(scorer.model)
    if not model_class.__module__.startswith("transformers_modules.") or "ts2net" in sys.modules:
        raise RuntimeError(f"its class comes from {model_class.__module__}, not from code beside the weights")
    answers: list[dict[str, Any]] = []
    for result in scorer.stream(videos, texts, on_error="skip"):
        error = result.error
        if isinstance(error, OSError) and error.filename:
            answers.append({"error": f"{error.filename}: {error.strerror}"})
        elif error is not None:
            answers.append({"error": str(error)})
        else:
            answers.append({"scores": result.scores})
    return {"model_class": f"{model_class.__module__}.{model_class.__name__}", "videos": answers}


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
