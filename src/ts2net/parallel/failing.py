"""How the processes of a run fail: one of them says why, and the others end without a word.

The launcher of PyTorch, which accelerate's uses, lists every process of its machine that ends with an error. So only
the process that says why does, and the message stands at the end of the launcher's report.
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
    """Report why the run fails, unless another process has reported the same.

    Args:
        message: One line.
        exit_code: That of the process that reports.

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
    """Fail because of what another process reports.

    Returns:
        The exit code of this process: 0 if its launcher sees the other one fail.
    """
    # With a launcher on each of several machines, those of the others would take 0 for success.
    if "TORCHELASTIC_ERROR_FILE" not in os.environ or os.environ.get("GROUP_WORLD_SIZE") != "1":
        return exit_code
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher sends it to what hasn't ended yet, and would list it
    return 0


def has_failed() -> bool:
    """Whether a process of the run has reported why it fails, or is gone."""
    from .distributed import is_announced

    return is_announced(_FAILURE)


def _is_distributed() -> bool:
    if "torch.distributed" not in sys.modules:  # which takes seconds to import
        return False
    from .distributed import is_distributed

    return is_distributed()


def _is_first_to_report(message: str) -> bool:
    """Whether no other process, or none that this one can ask, has reported the same."""
    name = f"report {hashlib.sha256(message.encode()).hexdigest()}"
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if error_file is not None:
        # In a folder that the launcher makes for the processes of this machine, whether they have met yet or not.
        try:
            Path(error_file).parents[1].joinpath(name).touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # the disk is full: rather twice than never
            return True
        return True
    if _is_distributed():
        from .distributed import is_first_process_to

        return is_first_process_to(name)
    return os.environ.get("LOCAL_RANK", "0") == "0"
