"""Adapters in a run: which are trained, and the model that they are for."""

from pathlib import Path

from ..hub.adapters import add_adapters, check_pushable, has_adapters, lora_config, read_lora_config
from ..hub.saving import save_hub_folder
from ..modeling_ts2net import TS2NetModel
from ..processing_ts2net import TS2NetProcessor
from .arguments import TS2NetTrainingArguments
from .checkpoints import checkpoints_in

BASE_MODEL = "base_model"
"""Folder of a run that holds the model before its training, where no other folder or repository does."""


def adapt(model: TS2NetModel, processor: TS2NetProcessor, args: TS2NetTrainingArguments) -> None:
    """Put adapters into a model as the arguments say. All processes must call it.

    Adapters name the model that they are for. One that was started from a CLIP, or whose own adapters were merged, is
    in no folder: it is saved in the folder of the run.

    Args:
        model: The model, which is changed.
        processor: Its processor.
        args: The run's arguments.

    Raises:
        ImportError: If peft is missing.
        OSError: If the configuration can't be read or the model can't be saved.
        ValueError: If the arguments don't fit the model, or adapters would be pushed whose model is on this machine
            alone.
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
