"""A short version of the demo."""

import io
from pathlib import Path

from rich.console import Console

from ts2net.demo.run import run_demo

# Few clips and few steps, otherwise as in `make demo`.
SHORT = {
    "training_clips": 16,
    "test_clips": 6,
    "group_clips": 16,
    "workers": 0,
    "max_steps": 30,
    "global_batch_size": 8,
    "save_steps": 10,
    "save_total_limit": 9,
    "dataloader_num_workers": 0,
}


def run_short(out: Path, texts: list[str] | None = None) -> str:
    """Run the short demo, and return its output."""
    printed = io.StringIO()
    page = run_demo(Console(file=printed, width=100), out, texts, **SHORT)
    assert page == out / "index.html"
    return printed.getvalue()
