"""SGD on BaseCNN on a processor, with conv2 as Winograd's F(4x4, 3x3): a quarter of the multiplications.

The kernels of `winograd_kernels` do everything but three batched matrix products, which are PyTorch's, in the
step's precision; all else is float32. A batch is cut into chunks that stay in a core's caches; each core takes
the next chunk as it gets free and does all of it alone, so that cores meet twice a batch instead of once an
operator. The chunks' gradients are added in their order: who computed them doesn't change a bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hw2.common.constants import NUM_CLASSES
from hw2.common.image_spec import STUDY
from hw2.models.base_cnn import BaseCNN, flat_features
from hw2.models.net import ModelOutputs, preprocess
from hw2.train_step import winograd_kernels as kernels
from hw2.train_step.augment import Transform
from hw2.train_step.winograd_kernels import PLACES, TILES
from hw2.train_step.worker_pool import WorkerPool, raise_malloc_threshold

FLAT_FEATURES = flat_features(STUDY)
MICRO_BATCH = 8  # images; measured: 4 is as fast, 16 in float32 a seventh slower
_EVALUATION_CHUNK = 4  # taken by a core at a time
_WEIGHTS_1D = torch.tensor(kernels.WEIGHTS_TRANSFORM)
_WEIGHTS_2D = torch.kron(_WEIGHTS_1D, _WEIGHTS_1D)  # [36, 9]

_Array = np.ndarray[Any, Any]


class WinogradStep:
    """A `TrainStep` on the processor with all of PyTorch's threads at the time it is created."""

    def __init__(
        self, model: BaseCNN, *, lr: float, momentum: float, dtype: torch.dtype, batch_size: int
    ) -> None:
        self.lr = lr
        self._momentum = momentum
        self._dtype = dtype
        raise_malloc_threshold()
        self._team = WorkerPool(torch.get_num_threads(), -(-batch_size // MICRO_BATCH))
        state = model.state_dict()
        self._weights = {
            name: torch.zeros(_to_kernel_layout(name, tensor).shape) for name, tensor in state.items()
        }
        self._velocities = (
            {name: torch.zeros_like(tensor) for name, tensor in self._weights.items()} if momentum else {}
        )
        self._arrays = {name: _flat(tensor) for name, tensor in self._weights.items()}
        self._conv2 = torch.empty(PLACES, 32, 64, dtype=dtype)  # transformed
        self._conv2_across = self._conv2.transpose(1, 2)
        self._table = _flat(preprocess(torch.arange(256).repeat(28 * 28), model.spec).flatten()[:256].clone())
        self._workspaces = [_Workspace(MICRO_BATCH, dtype) for _ in range(self._team.num_workers)]
        self._batch = _Batch(batch_size, dtype)
        self._load_weights(state)
        self._load_kernels()

    def _load_kernels(self) -> None:
        """Load the kernels from the disk or compile them, so that no image's time has that in it."""
        image, index = torch.zeros(1, 28, 28, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
        self._gradients(0, _flat(image), index.numpy(), index.numpy())
        self.forward_features(image)

    def prepare(self, images: Tensor) -> Tensor:
        return images.contiguous()

    def __call__(
        self, prepared: Tensor, labels: Tensor, index: Tensor, transform: Transform | None = None
    ) -> tuple[Tensor, Tensor]:
        targets = _target_labels(prepared, labels, index)
        size = len(index)
        if transform is not None:
            prepared, index = transform(prepared[index]).contiguous(), torch.arange(size)
        images, indices = _flat(prepared), index.numpy()
        if size > len(self._batch.losses):
            self._batch = _Batch(size, self._dtype)
        chunks = -(-size // MICRO_BATCH)
        self._team.map(lambda i: self._gradients(i, images, indices, targets), chunks)
        slices = self._team.num_workers
        self._team.map(
            lambda i: self._update_fc1(i, slices, size) if i < slices else self._update_others(chunks, size),
            slices + 1,
        )
        losses, correct = self._batch.losses[:size], self._batch.correct[:size]
        return torch.from_numpy(losses).mean(), torch.from_numpy(correct).sum()

    def evaluate(self, prepared: Tensor, labels: Tensor, batch_size: int = 1000) -> tuple[float, float]:
        targets = _target_labels(prepared, labels, torch.arange(len(labels)))
        losses, correct = np.empty(len(labels), np.float32), np.empty(len(labels), np.bool_)

        def measure(work: "_Workspace", rows: slice) -> None:
            kernels.cross_entropy(work.logits, targets[rows], len(labels), losses[rows], correct[rows])

        self._map_chunks(prepared, measure)
        return float(losses.mean(dtype=np.float64)), float(correct.mean())

    def forward_features(self, prepared: Tensor) -> ModelOutputs:
        """Compute what `BaseCNN.forward_features` does, in the step's precision, for any number of images."""
        n = len(prepared)
        result = ModelOutputs(torch.empty(n, NUM_CLASSES), torch.empty(n, 32), torch.empty(n, 64))
        logits, early_features, late_features = (_flat(tensor) for tensor in result)

        def store(work: "_Workspace", rows: slice) -> None:
            count = rows.stop - rows.start
            logits[rows.start * NUM_CLASSES : rows.stop * NUM_CLASSES] = work.logits[: count * NUM_CLASSES]
            means = early_features[rows.start * 32 : rows.stop * 32]
            kernels.channel_sums(work.first, 30, 32, means, count)
            means /= 28 * 28  # the border is zeros
            means = late_features[rows.start * 64 : rows.stop * 64]
            kernels.channel_sums(work.pooled, 14, 64, means, count)
            means /= 14 * 14

        self._map_chunks(prepared, store)
        return result

    def _map_chunks(self, prepared: Tensor, use: Callable[["_Workspace", slice], None]) -> None:
        """Forward for all images, chunk by chunk; `use` gets the results and the rows they are of."""
        images, indices = _flat(prepared), np.arange(len(prepared))
        size = MICRO_BATCH * _EVALUATION_CHUNK

        def run_chunks(i: int) -> None:
            with self._workspace() as work:
                for start in range(i * size, min((i + 1) * size, len(indices)), MICRO_BATCH):
                    rows = slice(start, min(start + MICRO_BATCH, len(indices)))
                    self._forward(work, images, indices[rows], work.pooled, work.logits)
                    use(work, rows)

        self._team.map(run_chunks, -(-len(indices) // size))

    def state(self) -> dict[str, Tensor]:
        state = {name: _from_kernel_layout(name, tensor) for name, tensor in self._weights.items()}
        return state | {
            f"momentum.{name}": _from_kernel_layout(name, v) for name, v in self._velocities.items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        self._load_weights(state)
        for name, velocity in self._velocities.items():
            velocity.copy_(_to_kernel_layout(name, state[f"momentum.{name}"]))

    def _load_weights(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self._weights.items():
            tensor.copy_(_to_kernel_layout(name, state[name]))
        self._transform_conv2()

    def _transform_conv2(self) -> None:
        transformed = _WEIGHTS_2D @ self._weights["conv2.weight"].view(9, -1)
        self._conv2.copy_(transformed.view(PLACES, 32, 64))

    @contextmanager
    def _workspace(self) -> Iterator["_Workspace"]:
        workspace = self._workspaces.pop()
        try:
            yield workspace
        finally:
            self._workspaces.append(workspace)

    def _forward(
        self, work: "_Workspace", images: _Array, indices: _Array, pooled: _Array, logits: _Array
    ) -> None:
        weights, count = self._arrays, len(indices)
        conv1 = weights["conv1.weight"], weights["conv1.bias"]
        kernels.forward(images, indices, self._table, *conv1, work.pixels, work.first, work.transformed)
        inputs, _, outputs = work.matrices(count)
        torch.bmm(inputs, self._conv2, out=outputs)
        kernels.pool(work.products, weights["conv2.bias"], pooled, work.winners, count)
        kernels.logits(pooled, weights["fc1.weight"], weights["fc1.bias"], logits, count)

    def _gradients(self, chunk: int, images: _Array, indices: _Array, targets: _Array) -> None:
        """Compute one chunk's gradients into its place in the batch."""
        batch, size = self._batch, len(indices)
        rows = slice(chunk * MICRO_BATCH, min((chunk + 1) * MICRO_BATCH, size))
        count = rows.stop - rows.start
        logits = batch.flat_logits[rows.start * NUM_CLASSES : rows.stop * NUM_CLASSES]
        pooled = batch.flat_pooled[rows.start * FLAT_FEATURES : rows.stop * FLAT_FEATURES]
        with self._workspace() as work:
            self._forward(work, images, indices[rows], pooled, logits)
            kernels.cross_entropy(logits, targets[rows], size, batch.losses[rows], batch.correct[rows])
            weights = self._arrays["fc1.weight"]
            kernels.unpool(logits, weights, work.winners, work.products, batch.conv2_bias[chunk], count)
            inputs, across, outputs = work.matrices(count)
            torch.bmm(across, outputs, out=batch.conv2_chunks[chunk])
            torch.bmm(outputs, self._conv2_across, out=inputs)
            conv1 = batch.conv1[chunk], batch.conv1_bias[chunk]
            kernels.backward(work.transformed, work.first, work.pixels, work.d_first, *conv1, count)

    def _update_fc1(self, number: int, slices: int, size: int) -> None:
        """Update one of so many slices of the features."""
        columns = slice(number * FLAT_FEATURES // slices, (number + 1) * FLAT_FEATURES // slices)
        d_logits = self._batch.logits[:size].to(self._dtype)
        self._descend("fc1.weight", d_logits.t() @ self._batch.pooled[:size, columns], columns)

    def _update_others(self, chunks: int, size: int) -> None:
        batch = self._batch
        self._descend("fc1.bias", batch.logits[:size].sum(0))
        by_chunk = {
            "conv1.weight": batch.conv1,
            "conv1.bias": batch.conv1_bias,
            "conv2.bias": batch.conv2_bias,
        }
        for name, gradients in by_chunk.items():
            gradient = torch.from_numpy(gradients[:chunks]).sum(0)
            self._descend(name, gradient.view(self._weights[name].shape))
        transformed = batch.conv2[:chunks].sum(0, dtype=torch.float32)
        gradient = _WEIGHTS_2D.t() @ transformed.view(PLACES, -1)
        self._descend("conv2.weight", gradient.view(9, 32, 64))
        self._transform_conv2()

    def _descend(self, name: str, gradient: Tensor, columns: slice = slice(None)) -> None:
        if self._momentum:
            gradient = self._velocities[name][..., columns].mul_(self._momentum).add_(gradient)
        self._weights[name][..., columns].add_(gradient, alpha=-self.lr)


class _Workspace:
    """What a core needs for one chunk, allocated once; arrays of `winograd_kernels`, for `count` images at most."""

    def __init__(self, count: int, dtype: torch.dtype) -> None:
        self._inputs = torch.empty(PLACES * count * TILES * 32, dtype=dtype)
        self._outputs = torch.empty(PLACES * count * TILES * 64, dtype=dtype)
        self._matrices: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.transformed = _flat(self._inputs)
        self.products = _flat(self._outputs)
        self.pooled = _flat(torch.empty(count * FLAT_FEATURES, dtype=dtype))
        self.pixels = np.zeros(count * 30 * 30, np.float32)
        self.first = np.zeros(count * 30 * 30 * 32, np.float32)
        self.d_first = np.empty(30 * 30 * 32, np.float32)
        self.winners = np.empty(count * FLAT_FEATURES, np.uint8)
        self.logits = np.empty(count * NUM_CLASSES, np.float32)

    def matrices(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """`transformed` as [36, tiles, 32] and [36, 32, tiles], `products` as [36, tiles, 64]."""
        if count not in self._matrices:  # 10 microseconds each time otherwise
            inputs = self._inputs[: PLACES * count * TILES * 32].view(PLACES, -1, 32)
            outputs = self._outputs[: PLACES * count * TILES * 64].view(PLACES, -1, 64)
            self._matrices[count] = inputs, inputs.transpose(1, 2), outputs
        return self._matrices[count]


class _Batch:
    """What the chunks leave for the update."""

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        chunks = -(-size // MICRO_BATCH)
        self.losses = np.empty(size, np.float32)
        self.correct = np.empty(size, np.bool_)
        self.logits = torch.empty(size, NUM_CLASSES)  # then their gradient
        self.pooled = torch.empty(size, FLAT_FEATURES, dtype=dtype)
        self.flat_logits, self.flat_pooled = _flat(self.logits), _flat(self.pooled)
        self.conv1 = np.empty((chunks, 9 * 32), np.float32)
        self.conv1_bias = np.empty((chunks, 32), np.float32)
        self.conv2 = torch.empty(chunks, PLACES, 32, 64, dtype=dtype)  # transformed
        self.conv2_chunks = list(self.conv2)
        self.conv2_bias = np.empty((chunks, 64), np.float32)


def _flat(tensor: Tensor) -> _Array:
    """The same memory as an array of one dimension; bfloat16 as uint16, rows numpy knows."""
    array: _Array = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).view(-1).numpy()
    return array


def _target_labels(images: Tensor, labels: Tensor, index: Tensor) -> _Array:
    """Take the labels at `index`; `IndexError` for what the kernels, rows don't look, would read beyond an end."""
    targets: _Array = labels[: len(images)].index_select(0, index).numpy()
    if targets.min() < 0 or targets.max() >= NUM_CLASSES:
        raise IndexError(f"labels from {targets.min()} to {targets.max()}; expected 0 to {NUM_CLASSES - 1}")
    return targets


def _to_kernel_layout(name: str, tensor: Tensor) -> Tensor:
    """Lay a parameter out as the kernels read it: (y, x) of a window first, then channels in, channels out."""
    if name == "fc1.weight":
        return tensor.reshape(NUM_CLASSES, 64, -1).transpose(1, 2).reshape(NUM_CLASSES, -1)
    if name == "conv1.weight":
        return tensor.reshape(32, 9).t()
    if name == "conv2.weight":
        return tensor.reshape(64, 32, 9).permute(2, 1, 0)
    return tensor


def _from_kernel_layout(name: str, tensor: Tensor) -> Tensor:
    """Invert `_to_kernel_layout`, as a copy."""
    if name == "fc1.weight":
        tensor = tensor.reshape(NUM_CLASSES, -1, 64).transpose(1, 2).reshape(NUM_CLASSES, -1)
    elif name == "conv1.weight":
        tensor = tensor.t().reshape(32, 1, 3, 3)
    elif name == "conv2.weight":
        tensor = tensor.permute(2, 1, 0).reshape(64, 32, 3, 3)
    return tensor.clone(memory_format=torch.contiguous_format)
