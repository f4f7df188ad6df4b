"""A model's weights as one line, to tell whether a query is of the model that an index was made with."""

import hashlib

import torch


def fingerprint(model: torch.nn.Module) -> str:
    """SHA-256 over the names, shapes, types and bytes of a model's state.

    The same checkpoint loaded in another dtype has another one: its embeddings differ too.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {(*tensor.shape,)}\n".encode())
        data = tensor.detach().cpu().contiguous()
        digest.update(memoryview(data.flatten().view(torch.uint8).numpy()))
    return digest.hexdigest()
