"""Adapters of a training run and their base model."""

from pathlib import Path

from ..hub.adapters import add_adapters, check_pushable, has_adapters, lora_config, read_lora_config
from ..hub.saving import save_hub_folder
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .arguments import TS2NetTrainingArguments
from .checkpoints import checkpoints_in

BASE_MODEL = "base_model"
"""Folder of a run for the model before training, if no other folder or repository contains that model."""


def adapt(model: TS2NetModel, processor: TS2NetProcessor, args: TS2NetTrainingArguments) -> None:
    """Add adapters to a model according to the arguments. All processes must call it.

    Adapters record their base model. A model that was started from a CLIP, or into which adapters were merged, is not
    stored in any folder, so it is saved in the folder of the run.

    Args:
        model: The model, changed in place.
        processor: The model's processor.
        args: The run's arguments.

    Raises:
        ImportError: If peft is missing.
        OSError: If the configuration can't be read or the model can't be saved.
        ValueError: If the arguments don't fit the model, or adapters are to be pushed and their base model is a local
            folder.
    """
    if args.lora_r is not None or args.peft_config is not None:
        if args.peft_config is not None:
            config = read_lora_config(args.peft_config)
        else:
            config = lora_config(args.lora_r or 0, args.lora_target)
        base, revision = model.name_or_path, model.commit
        if not base:
            base, revision = str(Path(args.output_dir) / BASE_MODEL), None
            with args.main_process_first(local=False, desc="saving the model that adapters are for"):
                is_resumed = Path(base).is_dir() and checkpoints_in(Path(args.output_dir))
                if args.process_index == 0 and not is_resumed:
                    save_hub_folder(model, processor, base)
        add_adapters(model, config, base, revision)
    if args.push_to_hub and has_adapters(model):
        check_pushable(model)
