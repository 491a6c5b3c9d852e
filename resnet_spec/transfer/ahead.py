"""The next array is read while one is written: reading, checking and writing wait for each other half as long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise

from resnet_spec.formats.tensors import Tensor
from resnet_spec.weights import Array


@contextmanager
def ahead(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The same tensors, for reading each once, best in order: two at most are in memory, one read and one on its way."""
    names = list(tensors)
    following = dict(pairwise(names))
    begun: dict[str, Future[Array]] = {}
    with ThreadPoolExecutor(1) as thread:

        def read(name: str) -> Array:
            found = begun.pop(name, None) or thread.submit(tensors[name].read)
            array = found.result()
            after = following.get(name)
            if after is not None and not begun:
                begun[after] = thread.submit(tensors[after].read)
            return array

        try:
            yield {name: replace(tensor, read=partial(read, name)) for name, tensor in tensors.items()}
        finally:
            thread.shutdown(cancel_futures=True)
