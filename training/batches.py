"""Which pairs each optimizer step takes, on each process."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler


class PairBatches(Sampler[list[int]]):
    """Batches of pair numbers in random order; each process gets its part of the same global batch.

    Args:
        num_pairs: N. batch_size: pairs of a global batch. seed: of the order, together with the epoch.
        rank, world: this process of how many; a last batch that has not a pair for each of them is left out.
    """

    def __init__(self, num_pairs: int, batch_size: int, *, seed: int, rank: int = 0, world: int = 1) -> None:
        self.num_pairs, self.batch_size, self.seed = num_pairs, batch_size, seed
        self.rank, self.world = rank, world
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The order changes with the epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.num_pairs, self.batch_size)
        return whole + (rest >= self.world)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_pairs)
        for number in range(len(self)):
            batch = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield batch[self.rank :: self.world].tolist()


class Indices(Dataset[int]):
    """The numbers 0 to N - 1; the collator looks the pairs up."""

    def __init__(self, num_pairs: int) -> None:
        self.num_pairs = num_pairs

    def __len__(self) -> int:
        return self.num_pairs

    def __getitem__(self, index: int) -> int:
        return index


class EpochLoader(DataLoader):
    """Hands the epoch on to its batches."""

    def set_epoch(self, epoch: int) -> None:
        """The order changes with the epoch."""
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
