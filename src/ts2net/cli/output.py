"""Output of commands for programs."""

import codecs
import json
import sys
from typing import Any


def print_json(value: Any) -> None:
    """Print JSON to standard output, with escapes for non-ASCII characters if the output is not UTF-8."""
    is_utf8 = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    print(json.dumps(value, ensure_ascii=not is_utf8, indent=2))
