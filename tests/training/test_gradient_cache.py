"""The gradient cache: for any chunks and processes, the gradients equal the gradients of the undivided batch."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from support.contrastive_steps import (
    BATCH,
    Case,
    assert_same_gradients,
    assert_same_step,
    gradients,
    part_of,
    reference_step,
    step_in_process,
    take_step,
)
from support.processes import run_in_processes
from ts2net.training import GradientCache

pytestmark = pytest.mark.spread

CASES = {
    "tanh": Case(),
    "softmax": Case({"selection_activation": "softmax"}),
    "released padding, mean matching": Case({"padding_mode": "released", "matching_kind": "mean"}),
    "random selection": Case({"selection_kind": "random"}),
    "words": Case({"matching_kind": "wti"}),
    "words, selection loss, same videos": Case({"matching_kind": "wti"}, same_videos=True, selection_weight=0.7),
    "adapters": Case(adapters=True),
    "same videos": Case(same_videos=True),
    "own noise": Case(own_noise=True),
    "own noise, same videos": Case(own_noise=True, same_videos=True),
    "checkpointing, own noise": Case(own_noise=True, checkpointing=True),
    "selection loss": Case(selection_weight=0.7),
    "selection loss, same videos, own noise": Case(selection_weight=0.7, same_videos=True, own_noise=True),
    "float32": Case(dtype=torch.float32),
    "float32, softmax, same videos": Case({"selection_activation": "softmax"}, same_videos=True, dtype=torch.float32),
    "float32, own noise": Case(own_noise=True, dtype=torch.float32),
}
SHARDED = Case(selection_weight=0.7)
# Processes have 8 clips, or 4 each: with a chunk size of 3 the last chunk is smaller, with 8 there is only one chunk.
STEPS = [(name, 3) for name in CASES] + [
    (name, size) for name in ("tanh", "own noise", "float32") for size in (1, BATCH)
]


@pytest.fixture(scope="module", params=(1, 2))
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run_in_processes(all_work, request.param, tmp_path_factory.mktemp("processes"))


def all_work() -> dict[str, Any]:
    """All results that the tests below check, from one start of the processes, which takes seconds."""
    return {
        "steps": {(name, chunk_size): step_in_process(CASES[name], chunk_size) for name, chunk_size in STEPS},
        "reductions": [reductions(chunk_size) for chunk_size in (None, 1)],
        "accumulated": [accumulated_gradients(chunk_size) for chunk_size in (None, 1)],
        "sharded": [sharded_gradients(chunk_size) for chunk_size in (None, 3)],
    }


def own_inputs() -> dict[str, torch.Tensor]:
    return part_of(Case().batch(), dist.get_rank(), dist.get_world_size())


def reductions(chunk_size: int | None) -> int:
    """Number of gradient reductions by DDP in a step."""
    wrapped = DistributedDataParallel(Case().model())
    handed_over = []

    def reduce(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        handed_over.append(bucket.index())
        done = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    wrapped.register_comm_hook(None, reduce)
    take_step(wrapped, own_inputs(), chunk_size=chunk_size)
    return len(handed_over)


def accumulated_gradients(chunk_size: int | None) -> dict[str, torch.Tensor]:
    """Gradients of two batches, reduced with the second one."""
    model = Case().model()
    wrapped = DistributedDataParallel(model)
    with wrapped.no_sync():
        take_step(wrapped, own_inputs(), chunk_size=chunk_size)
    take_step(wrapped, own_inputs(), chunk_size=chunk_size)
    return gradients(model)


def sharded_gradients(chunk_size: int | None) -> dict[str, torch.Tensor]:
    """Gradients of a model whose parameters are sharded over the processes."""
    model = SHARDED.model()
    model.logit_scale = torch.nn.Parameter(model.logit_scale.detach()[None])  # a scalar can't be sharded
    for layer in model.vision_model.encoder.layers:
        fully_shard(layer)
    fully_shard(model)
    take_step(model, own_inputs(), chunk_size=chunk_size, selection_weight=SHARDED.selection_weight)
    whole = {name: gradient.full_tensor() for name, gradient in gradients(model).items()}
    return whole | {"logit_scale": whole["logit_scale"][0]}


@pytest.mark.parametrize(("name", "chunk_size"), STEPS)
def test_chunks_and_processes_together_take_the_step_of_one(
    results: list[dict[str, Any]], name: str, chunk_size: int
) -> None:
    """Loss, accuracies and gradients equal plain autograd over the whole batch, noise and dropout included."""
    case = CASES[name]
    expected = reference_step(case, len(results), chunk_size)
    for result in results:
        assert_same_step(result["steps"][name, chunk_size], expected, 1e-5 if case.dtype == torch.float32 else 1e-11)


def test_gradients_are_handed_over_once_a_step(results: list[dict[str, Any]]) -> None:
    """Only the last chunk reduces gradients; otherwise communication would grow with the number of chunks."""
    for result in results:
        plain, in_chunks = result["reductions"]
        assert in_chunks == plain > 0


def test_batches_accumulate(results: list[dict[str, Any]]) -> None:
    """A cached step inside an outer `no_sync` reduces nothing and adds to the existing gradients."""
    twice = {name: 2 * gradient for name, gradient in reference_step(Case())["gradients"].items()}
    for result in results:
        for actual in result["accumulated"]:
            assert_same_gradients(actual, twice, 1e-11)


def test_sharded_parameters_get_the_same_gradients(results: list[dict[str, Any]]) -> None:
    expected = reference_step(SHARDED)["gradients"]
    for result in results:
        for actual in result["sharded"]:
            assert_same_gradients(actual, expected, 1e-11)


def test_a_scaled_loss_scales_the_gradients() -> None:
    """The loss scaling of float16 mixed precision is applied once a step, not once a chunk."""
    model = Case().model()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    cache = GradientCache(model, 3, backward=lambda loss: scaler.scale(loss).backward())
    cache.step(Case().batch())
    unscaled = {name: gradient / 1024 for name, gradient in gradients(model).items()}
    assert_same_gradients(unscaled, reference_step(Case())["gradients"], 1e-11)


def test_autocast_does_not_cut_the_weights_off() -> None:
    """Autocast caches converted weights: the second pass must not reuse weights converted under `no_grad`."""
    case = Case(dtype=torch.float32)
    in_one_piece, in_chunks = case.model(), case.model()
    with torch.autocast("cpu", torch.bfloat16):
        take_step(in_one_piece, case.batch())
        take_step(in_chunks, case.batch(), chunk_size=3)
    assert_same_gradients(gradients(in_chunks), gradients(in_one_piece), 0.1)  # bfloat16 has a significand of 8 bits


def test_random_numbers_go_on_as_after_one_pass() -> None:
    """The second pass repeats the random numbers of the first and leaves the generator in the same state."""
    case = Case(own_noise=True)
    model, batch = case.model(), case.batch()
    torch.manual_seed(0)
    for start in range(0, BATCH, 3):
        model(**{name: value[start : start + 3] for name, value in batch.items()})
    expected = torch.get_rng_state()
    torch.manual_seed(0)
    GradientCache(model, 3).step(batch)
    assert torch.equal(torch.get_rng_state(), expected)


def test_a_frozen_tower_stays_without_gradient() -> None:
    """Frozen parameters get no gradient, and the gradients of the other parameters don't change."""
    model = Case().model()
    model.text_model.requires_grad_(False)
    model.text_projection.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    GradientCache(model, 3).step(Case().batch())
    expected = reference_step(Case())["gradients"]
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert_same_gradients(gradients(model), {name: expected[name] for name in expected if name in learning}, 1e-11)


def test_outputs_can_be_watched() -> None:
    """`watch` gets each clip's outputs once, not again in the second pass."""
    case, seen = Case(), []
    model, batch = case.model(), case.batch()
    expected = model(**batch).selected_token_indices
    GradientCache(model, 3, watch=lambda outputs: seen.append(outputs.selected_token_indices)).step(batch)
    assert torch.equal(torch.cat(seen), expected)


def test_settings_reach_every_chunk() -> None:
    """Arguments of `forward` that are not tensors are passed to every chunk unchanged."""
    model, batch = Case().model(), Case().batch()
    batch["pixel_values_videos"] = batch["pixel_values_videos"].repeat(1, 1, 1, 2, 2)
    with pytest.raises(ValueError, match="image size"):
        GradientCache(model, 3).step(batch)
    GradientCache(model, 3).step(batch | {"interpolate_pos_encoding": True})


def test_what_cannot_work_is_refused() -> None:
    model = Case().model()
    for chunk_size in (0, -1, 2.0):
        with pytest.raises(ValueError, match="chunk_size must be a positive whole number"):
            GradientCache(model, chunk_size)
    batch = Case().batch()
    with pytest.raises(ValueError, match="'input_ids': 7"):
        GradientCache(model, 3).step(batch | {"input_ids": batch["input_ids"][:7]})
    with pytest.raises(ValueError, match="backward must differentiate"):
        GradientCache(model, 3, backward=lambda loss: None).step(batch)
