"""Error reporting of a distributed run: one process reports the error, and the others end silently.

PyTorch's launcher, on which accelerate's launcher is based, lists every process of its machine that ends with an
error. So only the reporting process ends with an error, and the launcher's report ends with its message.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from ..errors import report_error

_FAILURE = "the run has failed"


def fail(message: str, exit_code: int = 1) -> int:
    """Report why the run fails, unless another process has reported the same message.

    Args:
        message: The reason, in one line.
        exit_code: Exit code of the reporting process.

    Returns:
        The exit code of this process.
    """
    if _is_distributed():
        from .distributed import announce

        announce(_FAILURE)
    if not _is_first_to_report(message):
        return fail_in_silence(exit_code)
    report_error(message)
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path is not None:
        report = {"message": f"error: {message}", "extraInfo": {"timestamp": str(int(time.time()))}}
        Path(path).write_text(json.dumps({"message": report}), encoding="utf-8")
    return exit_code


def fail_in_silence(exit_code: int = 1) -> int:
    """Prepare to end this process silently, because another process reports the error.

    Returns:
        The exit code of this process: 0 if a single launcher started all processes, and so sees the other one fail.
    """
    # With launchers on several machines, a launcher that sees only exit codes of 0 would report success.
    if "TORCHELASTIC_ERROR_FILE" not in os.environ or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return exit_code
    # The launcher sends SIGTERM to processes that haven't ended yet, and would list them as failed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return 0


def has_failed() -> bool:
    """Whether a process of the run has reported an error, or the process that hosts the store has ended."""
    from .distributed import is_announced

    return is_announced(_FAILURE)


def _is_distributed() -> bool:
    if "torch.distributed" not in sys.modules:  # the import takes seconds
        return False
    from .distributed import is_distributed

    return is_distributed()


def _is_first_to_report(message: str) -> bool:
    """Whether no other process that this one can reach has reported the same message."""
    name = f"report {hashlib.sha256(message.encode()).hexdigest()}"
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if error_file is not None:
        # The launcher creates this folder for the processes of its machine, before they join the process group.
        try:
            Path(error_file).parents[1].joinpath(name).touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # such as a full disk: reporting twice is better than not at all
            return True
        return True
    if _is_distributed():
        from .distributed import is_first_process_to

        return is_first_process_to(name)
    return os.environ.get("LOCAL_RANK", "0") == "0"
