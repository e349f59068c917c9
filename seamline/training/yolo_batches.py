"""The batches of an epoch: loaded while the batch before is in work."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Batch = TypeVar("Batch")


def one_ahead(batches: Iterator[Batch]) -> Generator[Batch]:
    """Each batch, while the next one is made in a thread; to be closed, so that none is made afterwards."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        following = pool.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = pool.submit(next, batches, None)
            yield batch


def draws_at_random(model: torch.nn.Module) -> bool:
    """Whether a model draws random numbers, which a thread that draws others for its batches would change."""
    dropout = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.AlphaDropout)
    return any(isinstance(module, dropout) and module.p > 0 for module in model.modules())
