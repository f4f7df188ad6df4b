"""Reading of tensors from untrusted checkpoint files, without running any code in them.

safetensors holds nothing but tensors. Every other format, including TorchScript archives, is read with torch's
restricted unpickler.
"""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

# Keys under which training scripts store the weights, next to the optimiser's state and the like.
WRAPPERS = ("state_dict", "model_state_dict", "model")

# The records of an archive that torch.load reads, in addition to `data/`.
PLAIN_RECORDS = ("data.pkl", "version", "byteorder", ".format_version", ".storage_alignment")


def read_state_dict(source: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[dict[str, Tensor], str]:
    """Read a checkpoint as a flat dictionary of tensors.

    A wrapping dictionary (`{"state_dict": ...}`) and the prefix `module.` of DistributedDataParallel are removed.

    Args:
        source: A file (safetensors, or a file of `torch.save` or `torch.jit.save`), or its contents.

    Returns:
        The tensors by name, and the name of the source for error messages.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the source contains anything but tensors, or a tensor whose values are not all stored.
    """
    if isinstance(source, Mapping):
        state, origin = source, "the state dict"
    else:
        state, origin = _read_file(Path(source)), str(source)
    for wrapper in WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{origin}: holds no named tensors")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{origin}: {name!r} should name a tensor, got a {type(value).__name__}")
        # A few bytes can claim to be a tensor of any size, with strides of 0 or on the meta device.
        if (
            value.layout != torch.strided
            or value.is_nested
            or value.is_meta
            or value.nbytes > value.untyped_storage().nbytes()
        ):
            raise ValueError(f"{origin}: {name} isn't a plain tensor with all its numbers")
    prefix = "module." if all(name.startswith("module.") for name in state) else ""  # of DistributedDataParallel
    return {name.removeprefix(prefix): tensor for name, tensor in state.items()}, origin


def _read_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if path.suffix == ".safetensors" or head[8:] == b"{":
            return load_file(path)
        if head.startswith(b"PK"):
            return _read_archive(path)
        if head.startswith(b"\x80"):  # a pickle: the format of torch.save before version 1.6
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Torch's own message goes on to explain how to load such a file unsafely.
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        culprit = f" ({name[1]})" if name else ""
        raise ValueError(f"{path}: refused, it isn't made of tensors alone{culprit} and could run code") from None
    except Exception as error:
        # A broken or hostile file can fail anywhere in a reader, with any type of error.
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path}: no whole checkpoint: {reason}") from error
    raise ValueError(f"{path}: no checkpoint; expected safetensors, or what torch.save or torch.jit.save writes")


def _read_archive(path: Path) -> Any:
    """Read the tensors of an archive of torch.save or torch.jit.save."""
    if not zipfile.is_zipfile(path):
        raise ValueError("the end of its archive is missing, so it was cut short")
    with zipfile.ZipFile(path) as archive:
        names = [record.filename.partition("/")[2] for record in archive.infolist()]  # below the archive's folder
        kept = [
            record
            for name, record in zip(names, archive.infolist(), strict=True)
            if name.startswith("data/") or name in PLAIN_RECORDS
        ]
        if "data.pkl" not in names:
            raise ValueError("a zip archive, but without the data.pkl of torch.save and torch.jit.save")
        # Both store tensors uncompressed, so records that are larger than the file are a decompression bomb.
        if sum(record.file_size for record in kept) > path.stat().st_size:
            raise ValueError("its records claim to be larger than the file")
        if "constants.pkl" not in names:
            return torch.load(path, map_location="cpu", weights_only=True)
        # torch.load recognises TorchScript by constants.pkl and then refuses `weights_only`. Without that record and
        # the code, the archive is one of torch.save, except for the classes of the modules.
        plain = io.BytesIO()
        with zipfile.ZipFile(plain, "w") as copy:
            for record in kept:
                copy.writestr(record.filename, archive.read(record))

    plain.seek(0)
    stand_ins: list[Any] = []
    for name in get_unsafe_globals_in_checkpoint(plain):
        if name.startswith("__torch__."):
            stand_ins.append((_Module, name))
        elif name.startswith("torch.jit._pickle."):  # annotations of a list's element type
            stand_ins.append((_first, name))
    with safe_globals(stand_ins):
        plain.seek(0)
        module = torch.load(plain, map_location="cpu", weights_only=True)
    return module.state_dict()


def _first(value: Any, *_: Any) -> Any:
    return value


class _Module:
    """Replacement for every class of a TorchScript archive. It holds attributes and runs no code."""

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        self.attributes = attributes

    def state_dict(self) -> dict[str, Tensor]:
        """Return every tensor by its attribute path. A module that is used twice is listed once."""
        tensors, visited, waiting = {}, set(), [("", self)]
        while waiting:
            prefix, module = waiting.pop()
            if id(module) in visited:
                continue
            visited.add(id(module))
            for name, value in module.attributes.items():
                if isinstance(value, Tensor):
                    tensors[prefix + name] = value.detach()
                elif isinstance(value, _Module):
                    waiting.append((f"{prefix}{name}.", value))
        return tensors
