"""`accelerate launch -m ts2net.training ...`: train from a recipe, save a folder for the Hub, push it if asked to.

It also runs without a launcher, as one process. An error that the user can mend is reported in one line, by the first
process that finds it; a mistake of this package comes with its stack trace.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import one_line, report_error

_FAILURE = "training has failed"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: The command line; `None` takes the process's own.

    Returns:
        The exit code: 0, 1 if it failed, 2 if the command line or the recipe is wrong.
    """
    try:
        import accelerate  # noqa: F401  without it transformers would fail later, with another message
        from datasets.exceptions import DatasetsError
        from safetensors import SafetensorError

        from ..data.lanes import DataLoadingError
        from ..parallel.distributed import MainProcessError, is_announced
        from .checkpoints import SavingError
        from .command_line import parse
        from .evaluating import EvaluationError
        from .monitoring import NonFiniteError, TooManyBrokenVideosError
        from .preparation import prepare_run
        from .pushing import PushError
    except ImportError as error:
        return _fail(one_line(error))
    try:
        settings = parse(sys.argv[1:] if args is None else args)
    except Exception as error:  # any library may refuse a setting, with any type of error
        return _fail(one_line(error), exit_code=2)
    try:
        trainer = prepare_run(settings)
    except (ValueError, TypeError, OSError, ImportError, DatasetsError, SafetensorError) as error:
        return _fail(one_line(error))
    try:
        if settings.training.learning_rate_range_test is not None:
            from .learning_rate_range import learning_rate_range_test

            table = learning_rate_range_test(trainer)
            if trainer.is_world_process_zero():
                print(table)
            return 0
        trainer.train(settings.training.resume_from_checkpoint)
        if settings.training.push_to_hub:
            trainer.push_to_hub()
        else:
            trainer.save_model()
    except (NonFiniteError, TooManyBrokenVideosError, DataLoadingError, EvaluationError) as error:
        return _fail(str(error))
    except (SavingError, PushError, ConnectionError) as error:
        return _fail(str(error))
    except MainProcessError:  # the main process reports it
        return 1
    except RuntimeError:
        if is_announced(_FAILURE):  # a process that stops closes its connections
            return 1
        raise
    if trainer.is_world_process_zero():
        print(f"the model is in {settings.training.output_dir}", file=sys.stderr)
    return 0


def _fail(message: str, exit_code: int = 1) -> int:
    from ..parallel.distributed import announce

    announce(_FAILURE)
    _report_to_launcher(message)
    if _is_first_to_report(message):
        report_error(message)
    return exit_code


def _report_to_launcher(message: str) -> None:
    """Have the report of torchrun, which accelerate's launcher uses, show the message as the cause."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is not None:
        report = {"message": f"error: {message}", "extraInfo": {"timestamp": str(int(time.time()))}}
        Path(path).write_text(json.dumps({"message": report}), encoding="utf-8")


def _is_first_to_report(message: str) -> bool:
    """Whether no other process has reported the same.

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
