"""`accelerate launch -m ts2net.training ...`: train from a recipe, save a Hub folder, and push it if requested.

It also runs without a launcher, as one process. An error that the user can fix is reported in one line, by the first
process that detects it. A bug of this package is reported with its stack trace.
"""

import sys
from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        args: The command line; `None` uses that of the process.

    Returns:
        The exit code: 0 on success, 1 on failure, 2 if the command line or the recipe is wrong. For the exit code of
        one of several processes, see [`fail`].
    """
    from ..errors import one_line
    from ..parallel.failing import fail, fail_in_silence, has_failed

    try:
        import accelerate  # noqa: F401  otherwise transformers would fail later, with another message
        from datasets.exceptions import DatasetsError
        from safetensors import SafetensorError

        from ..data.lanes import DataLoadingError
        from ..parallel.distributed import MainProcessError
        from .checkpoints import SavingError
        from .command_line import parse
        from .evaluating import EvaluationError
        from .monitoring import NonFiniteError, TooManyBrokenVideosError
        from .preparation import prepare_run
        from .pushing import PushError
    except ImportError as error:
        return fail(one_line(error))
    try:
        settings = parse(sys.argv[1:] if args is None else args)
    except Exception as error:  # any library may refuse a setting, with any type of error
        return fail(one_line(error), exit_code=2)
    try:
        trainer = prepare_run(settings)
    except (ValueError, TypeError, OSError, ImportError, DatasetsError, SafetensorError) as error:
        return fail(one_line(error))
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
        return fail(str(error))
    except (SavingError, PushError, ConnectionError) as error:
        return fail(str(error))
    except MainProcessError:  # the main process reports it
        return fail_in_silence()
    except RuntimeError:
        if has_failed():  # a failed process closes its connections, which raises here
            return fail_in_silence()
        raise
    if trainer.is_world_process_zero():
        print(f"the model is in {settings.training.output_dir}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        from ..interruption import ctrl_c_noticed

        with ctrl_c_noticed():
            sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
