"""`accelerate launch -m ts2net.training ...`: train from a recipe, save a folder for the Hub, push it if asked to.

Notable here: it runs as well without accelerate's launcher, as one process. What a person can mend is said in one
line, by the first process that finds it; what is our mistake comes with its stack trace.
"""

import hashlib
import os
import sys
from collections.abc import Sequence

from ..errors import needs_extra, one_line, report_error


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: The command line; `None` takes the process's own.

    Returns:
        The exit code: 0, 1 if it failed, 2 if the command line or the recipe is wrong.
    """
    try:
        with needs_extra("train", "training"):
            import accelerate  # noqa: F401  without it transformers would fail later, in words of its own
            from datasets.exceptions import DatasetsError
            from safetensors import SafetensorError

            from .command_line import parse
            from .trainer import TS2NetTrainer
    except ImportError as error:
        return _fail(str(error))
    from ..data.lanes import DataLoadingError
    from ..parallel.distributed import MainProcessError
    from .monitoring import EvaluationError, NonFiniteError, TooManyBrokenVideosError
    from .preparation import prepare_run

    try:
        settings = parse(sys.argv[1:] if args is None else args)
    except Exception as error:  # whatever library looks at a setting: a person gets one line
        return _fail(one_line(error), exit_code=2)
    try:
        trainer: TS2NetTrainer = prepare_run(settings)
    except (ValueError, TypeError, OSError, ImportError, DatasetsError, SafetensorError) as error:
        return _fail(one_line(error))
    try:
        trainer.train(settings.training.resume_from_checkpoint)
    except (NonFiniteError, TooManyBrokenVideosError, DataLoadingError, EvaluationError) as error:
        return _fail(str(error))
    except MainProcessError:  # which says why itself
        return 1
    if settings.training.push_to_hub:
        trainer.push_to_hub()
    else:
        trainer.save_model()
    if trainer.is_world_process_zero():
        print(f"the model is in {settings.training.output_dir}", file=sys.stderr)
    return 0


def _fail(message: str, exit_code: int = 1) -> int:
    if _is_first_to_say(message):
        report_error(message)
    return exit_code


def _is_first_to_say(message: str) -> bool:
    """Whether no other process has said the same: what all of them find should stand there once.

    Before processes know of each other, it is the first one of each machine.
    """
    from ..parallel.distributed import is_distributed, is_first_process_to

    if not is_distributed():
        return os.environ.get("LOCAL_RANK", "0") == "0"
    return is_first_process_to(f"report {hashlib.sha256(message.encode()).hexdigest()}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
