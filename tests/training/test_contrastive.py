"""The contrastive loss over processes, in real processes over gloo."""

from typing import Any

import pytest
import torch
import torch.distributed as dist

from support.contrastive_steps import Case, assert_same_step, reference_step, step_in_process
from support.processes import run_in_processes
from support.tiny_models import random_inputs, tiny_model
from ts2net.training import contrastive_loss_over_processes

pytestmark = pytest.mark.spread

CASES = {
    "tanh": Case(),
    "softmax": Case({"selection_activation": "softmax"}),
    "released padding, mean matching": Case({"padding_mode": "released", "matching_kind": "mean"}),
    "words": Case({"matching_kind": "wti"}),
    "words, selection loss, same videos": Case({"matching_kind": "wti"}, same_videos=True, selection_weight=0.7),
    "adapters": Case(adapters=True),
    "same videos": Case(same_videos=True),
    "selection loss": Case(selection_weight=0.7),
    "selection loss, same videos": Case(selection_weight=0.7, same_videos=True),
    "float32": Case(dtype=torch.float32),
    "float32, same videos": Case(same_videos=True, dtype=torch.float32),
}


@pytest.fixture(scope="module", params=(1, 2))
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_in_processes(all_work, request.param, tmp_path_factory.mktemp("processes"))


def all_work() -> dict[str, Any]:
    """All results that the tests below check, from one start of the processes, which takes seconds."""
    steps = {name: step_in_process(case) for name, case in CASES.items()}
    return {"steps": steps, "uneven": error_of_uneven_batches()}


def error_of_uneven_batches() -> str:
    pairs = 2 + dist.get_rank()
    try:
        contrastive_loss_over_processes(
            tiny_model(), torch.randn(pairs, 32), torch.randn(pairs, 6, 32), torch.tensor(1.0)
        )
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", CASES)
def test_processes_together_take_the_step_of_one(results: list[dict[str, Any]], name: str) -> None:
    """Loss, accuracies and averaged gradients of P processes are those of one process with the whole batch."""
    expected = reference_step(CASES[name])
    for result in results:
        assert_same_step(result["steps"][name], expected, 1e-5 if CASES[name].dtype == torch.float32 else 1e-11)


def test_uneven_batches_are_an_error_everywhere(results: list[dict[str, Any]]) -> None:
    """A collective over different shapes would hang or mix up the embeddings."""
    expected = "" if len(results) == 1 else "got [[2, 6, 32], [3, 6, 32]] in order of rank"
    for result in results:
        assert expected in result["uneven"]
        assert bool(result["uneven"]) == bool(expected)


def test_same_videos_are_no_negatives() -> None:
    """Two captions of one video are not negatives of each other; the rest of the batch still is."""
    model = tiny_model()
    texts, videos = torch.randn(3, 32), torch.randn(2, 6, 32)[[0, 0, 1]]
    scale = torch.tensor(5.0)
    together = contrastive_loss_over_processes(model, texts, videos, scale, video_keys=torch.tensor([7, 7, 8]))
    logits = model.similarity(texts, videos, logit_scale=scale)
    third = (logits[2, 2] - logits[2].logsumexp(0)) + (logits[2, 2] - logits[:, 2].logsumexp(0))
    pairs = [
        (logits[one, one] - logits[one, [one, 2]].logsumexp(0))
        + (logits[one, one] - logits[[one, 2], one].logsumexp(0))
        for one in (0, 1)
    ]
    torch.testing.assert_close(together.loss, -(third + sum(pairs)) / 6)


def test_without_a_weight_the_selection_loss_changes_no_bit() -> None:
    model, texts, videos = tiny_model(), torch.randn(4, 32), torch.randn(4, 6, 32)
    arguments = (model, texts, videos, torch.tensor(5.0))
    plain = contrastive_loss_over_processes(*arguments)
    off = contrastive_loss_over_processes(*arguments, selected_tokens=torch.randn(4, 6, 3, 32), selection_weight=0.0)
    assert torch.equal(off.loss, plain.loss)
    assert off.selection_loss is plain.selection_loss is None


def test_a_tie_is_a_miss() -> None:
    """A model that gives every pair the same score has accuracy 0, not the accuracy of a lucky guess."""
    result = contrastive_loss_over_processes(tiny_model(), torch.ones(4, 32), torch.ones(4, 6, 32), torch.tensor(5.0))
    assert result.text_to_video_accuracy == result.video_to_text_accuracy == 0


def test_the_model_gives_the_scale_of_its_logits() -> None:
    """The loss takes the scale from the model output, so that its gradient reaches a sharded parameter."""
    model, inputs = tiny_model(), random_inputs(2)
    outputs = model(**inputs)
    torch.testing.assert_close(outputs.logit_scale, model.logit_scale.exp())
    doubled = model.similarity(outputs.text_embeds, outputs.video_embeds, logit_scale=2 * outputs.logit_scale)
    torch.testing.assert_close(doubled, 2 * outputs.logits_per_text)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"video_embeds": torch.randn(3, 6, 32)}, r"got \(2, 32\) and \(3, 6, 32\)"),
        ({"text_embeds": torch.randn(2, 6, 32)}, r"text_embeds must have shape \(n, D\)"),
        ({"padding_mask_videos": torch.ones(2, 5)}, r"padding_mask_videos must have shape \(2, 6\), got \(2, 5\)"),
        ({"video_keys": torch.ones(3, dtype=torch.int64)}, r"video_keys must have shape \(2,\), got \(3,\)"),
        ({"video_keys": torch.ones(2)}, "video_keys must be int64, got torch.float32"),
        ({"selection_weight": 0.5}, "selection_weight=0.5 needs selected_tokens"),
        (
            {"selected_tokens": torch.randn(2, 6, 0, 32), "selection_weight": 0.5},
            r"selected_tokens must have shape \(2, 6, K, 32\) with K of at least 1, got \(2, 6, 0, 32\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_named(overrides: dict[str, torch.Tensor], message: str) -> None:
    arguments = {
        "text_embeds": torch.randn(2, 32),
        "video_embeds": torch.randn(2, 6, 32),
        "logit_scale": torch.tensor(1.0),
    }
    with pytest.raises(ValueError, match=message):
        contrastive_loss_over_processes(tiny_model(), **(arguments | overrides))
