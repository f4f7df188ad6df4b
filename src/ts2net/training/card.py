"""Model card of a trained model: its base model, its training and its evaluation results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import ModelCard
from transformers import SchedulerType, TrainerState

from ..hub import Evaluation, make_model_card
from ..hub.adapters import adapter_base, adapter_config, has_adapters, trained_share
from ..modeling_ts2net import TS2NetModel
from .arguments import TS2NetTrainingArguments


@dataclass
class CardDetails:
    """Details for the card that are unknown to the trainer.

    Args:
        base_model: Hub id of the model that this model was initialised from.
        license: Licence of the weights, by its Hub identifier.
        language: Language of the captions, as an ISO 639-1 code.
        datasets: Hub ids of the training data.
        training_data: Display name of the training data, such as `"MSR-VTT train-9k"`.
        evaluation_name: Display name of the evaluation data, such as `"MSR-VTT"`.
        evaluation_type: Hub id or short name of the evaluation data, such as `"msrvtt"`.
        evaluation_split: Name of the evaluation split, such as `"test"`.
        evaluation_left_out: Number of videos of the split that the metrics leave out.
    """

    base_model: str | None = None
    license: str | None = None
    language: str | None = None
    datasets: Sequence[str] = ()
    training_data: str | None = None
    evaluation_name: str = "the evaluation data"
    evaluation_type: str = "custom"
    evaluation_split: str = "test"
    evaluation_left_out: int = 0


def figures_of_step(state: TrainerState, step: int, prefix: str = "eval_") -> dict[str, float]:
    """Return the retrieval metrics logged for the weights of a step, under the names used in tables."""
    directions = (f"{prefix}text_to_video_", f"{prefix}video_to_text_")
    return {
        name.removeprefix(prefix).replace("_to_", "-to-").replace("_", " "): value
        for entry in state.log_history
        if entry["step"] == step
        for name, value in entry.items()
        if name.startswith(directions)
    }


def counts_of_step(state: TrainerState, step: int, prefix: str = "eval_") -> dict[str, Any]:
    """Return the numbers of videos, queries and missing videos logged with the metrics of a step."""
    names = {"num_videos": "videos", "num_queries": "queries", "num_missing": "broken_videos"}
    return {
        count: entry[f"{prefix}{name}"]
        for entry in state.log_history
        for count, name in names.items()
        if entry["step"] == step and f"{prefix}{name}" in entry
    }


def training_card(
    model: TS2NetModel,
    details: CardDetails,
    args: TS2NetTrainingArguments,
    state: TrainerState,
    step: int,
    repo_id: str | None = None,
    *,
    eval_names: Sequence[str] = (),
    changes: Sequence[Mapping[str, Any]] = (),
) -> ModelCard:
    """Create the card for the weights of a step.

    Args:
        model: The model. Its weights may be shards.
        details: Details from the user.
        args: The training arguments.
        state: The trainer's state, with its log.
        step: The step.
        repo_id: Repository of the model.
        eval_names: Names of the evaluation sets, if there are several.
        changes: Settings that were changed on resuming; see [`DataState`].
    """
    sets = [(details.evaluation_name, details.evaluation_type, "eval_")]
    sets += [(name, name, f"eval_{name}_") for name in eval_names]
    evaluations = []
    for name, short_name, prefix in sets:
        figures = figures_of_step(state, step, prefix)
        if figures:
            counts = counts_of_step(state, step, prefix)
            evaluations.append(
                Evaluation(
                    name,
                    short_name,
                    details.evaluation_split,
                    figures,
                    num_frames=args.num_frames,
                    max_words=args.max_words,
                    num_left_out=details.evaluation_left_out,
                    **counts,
                )
            )
    return make_model_card(
        model.config,
        repo_id,
        base_model=details.base_model,
        license=details.license,
        language=details.language,
        datasets=details.datasets,
        evaluations=evaluations,
        training=_recipe(details, args, state, step, changes) | _adapters(model),
        adapters_for=adapter_base(model) if has_adapters(model) else None,
    )


def _recipe(
    details: CardDetails,
    args: TS2NetTrainingArguments,
    state: TrainerState,
    step: int,
    changes: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry and entry["step"] <= step]
    share = f", {args.warmup_steps:.0%} of it" if args.warmup_steps < 1 else f" for {args.warmup_steps:.0f} steps"
    rows: dict[str, Any] = {
        "data": details.training_data,
        "steps": f"{step} of {state.max_steps}, in {args.num_train_epochs:g} epochs at most",
        "batch": f"{args.global_batch_size} pairs over {args.world_size} process(es), each a negative of all others",
        "frames and words": f"{args.num_frames} and {args.max_words}" if args.num_frames else None,
        "learning rates": f"{args.learning_rate:g} for what CLIP does not have, {args.clip_learning_rate:g} for CLIP",
        "selection loss": _selection_loss(args),
        "schedule": f"{SchedulerType(args.lr_scheduler_type).value}, after a linear warm-up{share}",
        "optimiser": f"{args.optim.value}, betas {args.adam_beta1:g} and {args.adam_beta2:g}, epsilon "
        f"{args.adam_epsilon:g}, weight decay {args.weight_decay:g}, gradient norm at most {args.max_grad_norm:g}",
        "precision": args.mixed_precision if args.mixed_precision != "no" else "float32",
        "frozen": _frozen(args),
        "seed": args.seed,
        "changed on resuming": "; ".join(map(_change, changes)) or None,
        "last loss": f"{losses[-1]:.4f}" if losses else None,
    }
    return {name: value for name, value in rows.items() if value is not None}


def _adapters(model: TS2NetModel) -> dict[str, Any]:
    if not has_adapters(model):
        return {}
    config = adapter_config(model)
    trained, total = trained_share(model)
    beside = ", ".join(config.modules_to_save or ()) or "nothing"
    return {
        "adapters": f"LoRA, rank {config.r}, alpha {config.lora_alpha:g}; beside them {beside} is trained",
        "trained": f"{trained:,} of {total:,} parameters ({trained / total:.2%})",
    }


def _change(change: Mapping[str, Any]) -> str:
    return f"{change['name']} from {change['old']} to {change['new']} after step {change['step']}"


def _selection_loss(args: TS2NetTrainingArguments) -> str | None:
    steps = args.selection_loss_steps
    span = f"the first {steps:.0%} of the steps" if steps < 1 else f"the first {steps:.0f} steps"
    weight = args.selection_loss_weight
    return f"weight {weight:g}, falling to 0 over {span}" if weight else None


def _frozen(args: TS2NetTrainingArguments) -> str | None:
    parts = []
    for name, num_layers in [("text", args.freeze_text_layers), ("vision", args.freeze_vision_layers)]:
        num_layers = args.freeze_layers if num_layers is None else num_layers
        if num_layers:
            layers = "all layers" if num_layers < 0 else f"the lowest {num_layers} layers"
            parts.append(f"{layers} of the {name} transformer")
    return " and ".join(parts) or None
