"""Choose an engine by name, with its own options."""

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:  # the engines import torch, which is not needed to check a name
    from .assembling import Engine


class EngineOptions(TypedDict):
    """Options of [`choose_engine`]."""

    batch_size: int
    workers: int | None
    device: str | None
    ray_address: str | None


def check_engine(
    name: str, *, batch_size: int, workers: int | None, device: str | None, ray_address: str | None
) -> None:
    """Check an engine's options, before anything is loaded; see [`choose_engine`]."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be at least 0, got {workers}")
    if name == "ray":
        for option, value in (("workers", workers), ("device", device)):
            if value is not None:
                raise ValueError(f"{option}={value!r} is for the local engine; Ray decides it by what its cluster has")
        from . import ray  # noqa: F401  its error names the extra
    elif name != "local":
        raise ValueError(f"engine must be 'local' or 'ray', got {name!r}")
    elif ray_address is not None:
        raise ValueError(f"ray_address={ray_address!r} is for engine='ray', got engine='local'")


def choose_engine(
    name: str, *, batch_size: int, workers: int | None, device: str | None, ray_address: str | None
) -> "Engine":
    """Return the engine of this name.

    Args:
        name: `"local"` or `"ray"`.
        batch_size: Number of windows that are encoded at a time.
        workers: Number of decoding processes, local engine only. 0 decodes in this process; `None` is one per core.
        device: Device of the model, local engine only; `None` is a GPU if there is one.
        ray_address: Address of the cluster, as for `ray.init`; `None` starts Ray on this machine only.

    Raises:
        ValueError: If the engine does not exist, an option is for the other engine, or a number is out of range.
        ImportError: If the engine's library isn't installed.
    """
    check_engine(name, batch_size=batch_size, workers=workers, device=device, ray_address=ray_address)
    if name == "ray":
        from .ray import RayEngine

        return RayEngine(batch_size=batch_size, address=ray_address)
    from .local import LocalEngine

    return LocalEngine(batch_size=batch_size, workers=workers, device=device)
