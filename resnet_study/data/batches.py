"""Which examples each iteration sees. The order is a function of the key and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np


class BatchOrder:
    """One fresh permutation of the training set per epoch, end to end, cut into batches.

    Iteration i takes positions ``[i * B, (i + 1) * B)`` of the endless sequence, so every
    batch is full and no example is dropped; a batch may hold the end of one epoch and the
    start of the next. The permutation of epoch e comes from ``fold_in(key, e)``: any
    iteration can be asked for at any time, which is what makes resumption exact.

    Args:
        key: a jax random key.
        examples: training images.
        batch_size: images per iteration, from 1 to `examples`.

    Raises:
        ValueError: if the batch size is outside that range.
    """

    def __init__(self, key: jax.Array, examples: int, batch_size: int) -> None:
        if not 1 <= batch_size <= examples:
            raise ValueError(f"batch_size={batch_size} is not in 1..{examples}")
        self.key = key
        self.examples = examples
        self.batch_size = batch_size
        self._permutations: dict[int, np.ndarray] = {}

    def indices(self, iteration: int) -> np.ndarray:
        """Examples of one batch: int32, shape (batch_size,), positions in the training set."""
        start = iteration * self.batch_size
        epoch, offset = divmod(start, self.examples)
        batch = self._permutation(epoch)[offset : offset + self.batch_size]
        missing = self.batch_size - len(batch)
        if missing:
            batch = np.concatenate([batch, self._permutation(epoch + 1)[:missing]])
        return batch

    def _permutation(self, epoch: int) -> np.ndarray:
        if epoch not in self._permutations:
            # A batch touches two epochs at most, so two are enough to keep.
            if len(self._permutations) == 2:
                del self._permutations[next(iter(self._permutations))]
            number = jax.device_put(np.uint32(epoch))
            order = np.array(jax.device_get(epoch_order(self.key, number, self.examples)))
            order.flags.writeable = False  # batches are views of it
            self._permutations[epoch] = order
        return self._permutations[epoch]


def epoch_order(key: jax.Array, epoch: jax.Array | int, examples: int) -> jax.Array:
    """The permutation of one epoch: int32, shape (examples,)."""
    order = jax.random.permutation(jax.random.fold_in(key, epoch), examples)
    return order.astype(jnp.int32)


def epochs_touched(iterations: int, examples: int, batch_size: int) -> int:
    """Most epochs that so many consecutive iterations can take examples from."""
    return -(-(examples - 1 + iterations * batch_size) // examples)


def order_of_epochs(
    key: jax.Array, first: jax.Array | int, epochs: int, examples: int
) -> jax.Array:
    """The endless sequence of `BatchOrder` from the start of an epoch on, inside a program.

    Args:
        key: a jax random key.
        first: number of the first epoch; may be traced.
        epochs: how many.
        examples: training images.

    Returns:
        int32, shape (epochs * examples,), the values that `BatchOrder` cuts into batches.
    """
    numbers = first + jnp.arange(epochs)
    return jax.vmap(lambda epoch: epoch_order(key, epoch, examples))(numbers).reshape(-1)


def evaluation_batches(examples: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cover every example once, in order, with batches of one size.

    Args:
        examples: images to evaluate; 0 gives no batch.
        batch_size: at least 1.

    Yields:
        Positions, int32 of shape (batch_size,), and a mask, float32 of shape (batch_size,):
        1 for an example, 0 for the filling at the end of the last batch, which repeats
        position 0.
    """
    for start in range(0, examples, batch_size):
        positions = np.arange(start, start + batch_size, dtype=np.int32)
        mask = positions < examples
        yield np.where(mask, positions, np.int32(0)), mask.astype(np.float32)
