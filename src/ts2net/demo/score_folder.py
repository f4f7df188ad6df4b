"""Score texts against videos with a model's own code, as on a computer where ts2net was never installed.

Notable here: this is a script for a process of its own, in which nothing of ts2net has been imported. It reads
`{"model", "texts", "videos"}` as JSON from standard input and writes `{"model_class", "videos"}` to standard output:
for each video its `scores`, one a text, or the `error` that kept it from being read. If the model itself can't be
used, it writes `{"error"}`.
"""

import contextlib
import json
import sys
from typing import Any


def main() -> None:
    """Read the task, load the model with the code beside its weights, score, write the answer."""
    task = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # standard output carries the answer and nothing else
        try:
            answer = score(**task)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]  # the rest of a long explanation is advice
            answer = {"error": f"cannot load the model {task['model']!r}: {reason or type(error).__name__}"}
    json.dump(answer, sys.stdout)


def score(model: str, texts: list[str], videos: list[str]) -> dict[str, Any]:
    """Score every text against every video, one video at a time."""
    import torch
    from transformers import AutoModel, AutoProcessor

    processor = AutoProcessor.from_pretrained(model, trust_remote_code=True)
    network = AutoModel.from_pretrained(model, trust_remote_code=True).eval()
    home = type(network).__module__
    if not home.startswith("transformers_modules.") or "ts2net" in sys.modules:
        raise RuntimeError(f"its class comes from {home}, not from code beside the weights")

    answers: list[dict[str, Any]] = []
    for video in videos:
        try:
            inputs = processor(text=texts, videos=[video], return_tensors="pt")
        except OSError as error:
            answers.append({"error": f"{error.filename}: {error.strerror}" if error.filename else str(error)})
            continue
        except ValueError as error:
            answers.append({"error": str(error)})
            continue
        with torch.no_grad():
            logits_per_text = network(**inputs).logits_per_text  # (texts, 1)
        answers.append({"scores": logits_per_text[:, 0].tolist()})
    return {"model_class": f"{home}.{type(network).__name__}", "videos": answers}


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
