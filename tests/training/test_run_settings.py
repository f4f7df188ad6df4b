"""Settings that decide a run's result are compared on resuming; changes that are allowed are applied and recorded."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from support.streamed_data import stream
from support.tiny_models import tiny_model, tiny_processor
from support.training_run import tiny_arguments, training_rows
from ts2net import TS2NetModel, TS2NetProcessor
from ts2net.training import TS2NetTrainer, TS2NetTrainingArguments
from ts2net.training.run_settings import CHANGEABLE, CHANGEABLE_ARGUMENTS, FIXED_ARGUMENTS, changes_since

# Arguments that don't change the result (where, when and how fast a run computes, logs and saves), or that are refused
# or have no effect. Checkpoints record the adapters themselves instead of the arguments that created them.
OTHER_ARGUMENTS = """
    output_dir per_device_train_batch_size gradient_accumulation_steps average_tokens_across_devices
    label_smoothing_factor bf16_full_eval fp16_full_eval activation_checkpointing activation_checkpointing_kwargs
    gradient_checkpointing gradient_checkpointing_kwargs torch_compile torch_compile_backend torch_compile_mode
    use_liger_kernel liger_kernel_config use_cache torch_empty_cache_steps auto_find_batch_size logging_strategy
    logging_steps logging_first_step log_on_each_node logging_nan_inf_filter include_num_input_tokens_seen log_level
    log_level_replica disable_tqdm report_to run_name project trackio_space_id trackio_bucket_id
    trackio_static_space_id eval_strategy eval_steps eval_delay per_device_eval_batch_size prediction_loss_only
    eval_on_start eval_do_concat_batches eval_use_gather_object eval_accumulation_steps include_for_metrics
    batch_eval_metrics save_only_model save_strategy save_steps save_on_each_node save_total_limit
    enable_jit_checkpoint push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision
    load_best_model_at_end greater_is_better ignore_data_skip restore_callback_states_from_checkpoint full_determinism
    use_cpu accelerator_config parallelism_config dataloader_drop_last dataloader_num_workers dataloader_pin_memory
    dataloader_persistent_workers dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order
    remove_unused_columns label_names train_sampling_strategy length_column_name ddp_find_unused_parameters
    ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph ddp_backend ddp_timeout fsdp fsdp_config deepspeed debug
    skip_memory_metrics do_train do_eval do_predict resume_from_checkpoint local_rank gradient_cache_chunk_size
    max_broken_share early_stopping_patience logging_dir changed_settings lora_r lora_target peft_config
    learning_rate_range_test trunk_cache trunk_cache_gb
"""


def test_every_argument_is_known_to_decide_the_result_or_not():
    """Each argument that a new version of transformers adds has to be added to one of the lists."""
    names = [*CHANGEABLE_ARGUMENTS, *FIXED_ARGUMENTS, *OTHER_ARGUMENTS.split()]
    assert len(names) == len(set(names))
    assert {field.name for field in dataclasses.fields(TS2NetTrainingArguments)} == set(names)


def test_a_difference_is_refused_with_both_values():
    saved = {"learning_rate": 1e-3, "seed": 1, "older": 5}
    with pytest.raises(ValueError, match=r"c-4 was written with seed=1 and this run has seed=2: .* --model c-4"):
        changes_since("c-4", saved, saved | {"seed": 2}, accepted=["seed"])
    with pytest.raises(ValueError, match="learning_rate=0.001 and this run has .*=0.0002: .*--changed_settings learn"):
        changes_since("c-4", saved, saved | {"learning_rate": 2e-4})
    with pytest.raises(ValueError, match="max_words=1 .*=2; with max_steps=3 .*_settings max_words max_steps"):
        changes_since("c-4", {"max_words": 1, "max_steps": 3}, {"max_words": 2, "max_steps": 4})
    changes = changes_since("c-4", saved, {"learning_rate": 2e-4, "newer": 3}, accepted=["learning_rate"])
    assert changes == {"learning_rate": (1e-3, 2e-4)}, "and what one of the two doesn't have is not compared"


def test_only_what_can_change_can_be_named(tmp_path: Path):
    with pytest.raises(ValueError, match=f"changed_settings: 'seed' can't be taken over, only {CHANGEABLE[0]}"):
        tiny_arguments(tmp_path, changed_settings=["seed"])


def trainer_for(
    folder: Path, model: TS2NetModel | None = None, processor: TS2NetProcessor | None = None, **settings: Any
) -> TS2NetTrainer:
    data_settings = settings.pop("data_settings", None)
    # With 2 warm-up steps of 8, the schedule's factor at step 2 is 1.
    defaults = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2, "warmup_steps": 2}
    return TS2NetTrainer(
        model or tiny_model(),
        tiny_arguments(folder, **(defaults | settings)),
        train_dataset=stream(training_rows()),
        processing_class=processor or tiny_processor(),
        data_settings=data_settings,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trainer_for(folder, data_settings={"train_data": "here"}, save_total_limit=None).train()
    return folder / "checkpoint-2"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 5e-4}, "learning_rate=0.001 and this run has learning_rate=0.0005"),
        ({"clip_learning_rate": 5e-4}, "clip_learning_rate=0.0001 and this run has clip_learning_rate=0.0005"),
        ({"lr_scheduler_type": "linear"}, "lr_scheduler_type=cosine and this run has lr_scheduler_type=linear"),
        ({"max_steps": 16}, "max_steps=8 and this run has max_steps=16"),
        ({"weight_decay": 0.0}, "weight_decay=0.2 and this run has weight_decay=0.0"),
        ({"num_frames": 4}, "num_frames=6 and this run has num_frames=4"),
        ({"max_words": 8}, "max_words=16 and this run has max_words=8"),
        ({"global_batch_size": 4}, "global_batch_size=8 and this run has global_batch_size=4"),
        ({"freeze_text_layers": -1}, "freeze_text_layers=null and this run has freeze_text_layers=-1"),
        ({"optim": "adafactor"}, "optim=adamw_torch.* and this run has optim=adafactor"),
        ({"data_settings": {"train_data": "there"}}, "train_data=here and this run has train_data=there"),
    ],
)
def test_a_run_does_not_resume_with_other_settings(
    checkpoint: Path, settings: dict[str, Any], message: str, tmp_path: Path
):
    """Changed settings are refused before the first step; Trainer would ignore them, but the card would state them."""
    with pytest.raises(ValueError, match=f"checkpoint-2 was written with {message}"):
        trainer_for(tmp_path, **settings).check(str(checkpoint))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: tiny_model(seed=1),
            r"model\.weights=\w{16} and this run has model\.weights=\w{16}: .*--model /",
        ),
        (lambda: tiny_model(num_frames=4), r"model\.num_frames=6 and this run has model\.num_frames=4"),
        (
            lambda: tiny_model(shift_kind="none"),
            r"shift_kind=token and this run has model.vision_config.shift_kind=no",
        ),
    ],
    ids=["other weights", "other frames", "other shift"],
)
def test_a_run_does_not_resume_with_another_model(checkpoint: Path, model: Any, message: str, tmp_path: Path):
    with pytest.raises(ValueError, match=message):
        trainer_for(tmp_path, model(), num_frames=4).check(str(checkpoint))


def test_a_run_does_not_resume_with_another_tokenizer(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A tokenizer of the same size with other token ids is refused."""
    processor = tiny_processor()
    vocabulary = processor.tokenizer.get_vocab()
    first, second = sorted(vocabulary)[5:7]
    swapped = vocabulary | {first: vocabulary[second], second: vocabulary[first]}
    monkeypatch.setattr(processor.tokenizer, "get_vocab", lambda: swapped)
    with pytest.raises(ValueError, match=r"tokenizer=\w{16} and this run has tokenizer=\w{16}: resume with the same"):
        trainer_for(tmp_path, processor=processor).check(str(checkpoint))


@pytest.mark.slow
def test_what_does_not_change_the_result_may_differ(checkpoint: Path, tmp_path: Path):
    """Settings for saving and logging come from the resumed run; Trainer would use the checkpoint's."""
    settings = {"gradient_cache_chunk_size": 4, "save_steps": 3, "logging_steps": 5, "save_total_limit": None}
    trainer = trainer_for(tmp_path, **settings)
    trainer.train(str(checkpoint))
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-3", "checkpoint-6", "checkpoint-8"}
    assert [entry["step"] for entry in trainer.state.log_history if "loss" in entry] == [1, 2, 5]


@pytest.mark.slow
def test_a_change_that_is_named_is_taken_over_and_shows(checkpoint: Path, tmp_path: Path):
    """The new schedule applies from the first resumed step; the card and later checkpoints record the change."""
    changes = {"learning_rate": 5e-4, "clip_learning_rate": 1e-5, "max_steps": 12, "weight_decay": 0.1}
    trainer = trainer_for(tmp_path, changed_settings=[*changes], **changes)
    trainer.train(str(checkpoint))
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry and entry["step"] > 2]
    assert rates == pytest.approx([0.25e-3 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])
    decays = {group["weight_decay"] for group in trainer.optimizer.param_groups}
    assert decays == {0.0, 0.1}
    card = trainer.model_card().text
    assert "changed on resuming: " in card
    assert "learning\\_rate from 0.001 to 0.0005 after step 2" in card

    again = trainer_for(tmp_path, **changes)
    again.check("auto")
    assert [change["name"] for change in again.changes] == [name for name in CHANGEABLE_ARGUMENTS if name in changes]


def test_a_checkpoint_of_another_model_is_refused_with_the_first_weight(checkpoint: Path, tmp_path: Path):
    """Weights of other shapes are reported by the first mismatch instead of 200 lines of shapes."""
    trainer = trainer_for(tmp_path)
    with torch.no_grad():
        trainer.model.text_projection.weight = torch.nn.Parameter(torch.ones(32, 16))
    with pytest.raises(ValueError, match=r"checkpoint-2 has weights of another model: text_projection.weight has the"):
        trainer.train(str(checkpoint))
