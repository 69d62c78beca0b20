"""The same networks and the same training step in PyTorch, as a worker process.

Needs torch and numpy alone. Names of parameters are those of this project's networks, so
that weights can be carried over; `to_torch` and `from_torch` convert the layouts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found,unused-ignore]
from equality import save
from torch import nn
from torch.nn import functional  # type: ignore[import-not-found,unused-ignore]
from workers import peak_memory, serve

MOMENTUM, WEIGHT_DECAY, LEARNING_RATE = 0.9, 1e-4, 0.1
BATCH_NORM_EPSILON, BATCH_NORM_UPDATE = 1e-5, 0.1
CLASSES = 10


class Layer(nn.Module):
    """3x3 convolution and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_UPDATE)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))


class Block(nn.Module):
    """Two layers, with shortcut A around them if residual."""

    def __init__(self, inputs: int, outputs: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.layer1 = Layer(inputs, outputs, stride)
        self.layer2 = Layer(outputs, outputs, 1)
        self.residual, self.stride, self.padding = residual, stride, (outputs - inputs) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer2(functional.relu(self.layer1(x), inplace=True))
        if self.residual:
            if self.padding:
                x = x[:, :, :: self.stride, :: self.stride]
                x = functional.pad(x, (0, 0, 0, 0, self.padding, self.padding))
            y = y + x
        return functional.relu(y, inplace=True)


class Network(nn.Module):
    """The CIFAR network of He et al. 2015, section 4.2, with 6n+2 weighted layers."""

    def __init__(self, depth: int, residual: bool, channels: int, width: int = 16) -> None:
        super().__init__()
        self.stem = Layer(channels, width, 1)
        blocks, inputs = [], width
        for stage in range(3):
            for block in range((depth - 2) // 6):
                outputs = width * 2**stage
                blocks.append(Block(inputs, outputs, 2 if stage and not block else 1, residual))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(functional.relu(self.stem(x), inplace=True))
        return self.head(x.mean((2, 3)))


def project_name(name: str) -> str:
    """This project's name of a parameter of `Network`.

    blocks.0.layer1.conv.weight is blocks.0.layer1.conv.kernel, and a weight of a
    normalisation is a scale.
    """
    owner, _, last = name.rpartition(".")
    if last == "weight":
        last = "scale" if owner.endswith("norm") else "kernel"
    return f"{owner}.{last}"


def to_torch(value: np.ndarray) -> np.ndarray:
    """Kernel (3, 3, in, out) to (out, in, 3, 3), matrix (in, out) to (out, in)."""
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def from_torch(value: np.ndarray) -> np.ndarray:
    """The opposite of `to_torch`."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


class Training:
    """A network, its optimiser and one batch.

    Args:
        network: depth, residual, channels of a `Network`.
        variant: channels_last (bool), optimizer (loop, foreach, fused), compile ("", "default"
            or "reduce-overhead").
        batch: file with images (uint8, NHWC), labels and pixel mean.
        device: cpu or cuda.
        precision: of convolutions, float32 or tf32.
        double: compute in float64.
    """

    def __init__(
        self,
        network: dict[str, Any],
        variant: dict[str, Any],
        batch: str,
        device: str,
        precision: str = "float32",
        double: bool = False,
    ) -> None:
        # The classifier is in float32 whatever the precision of the convolutions.
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        form = torch.channels_last if variant["channels_last"] else torch.contiguous_format
        kind = torch.float64 if double else torch.float32
        self.device = torch.device(device)
        self.network = Network(**network).to(self.device, kind, memory_format=form)
        way = variant["optimizer"]
        self.optimizer = torch.optim.SGD(
            self.network.parameters(),
            LEARNING_RATE,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
            foreach=way == "foreach",
            fused=way == "fused",
        )
        content = np.load(batch)
        # Ready made, while the other side normalises its bytes in every step.
        images = (torch.from_numpy(content["images"]).float() / 255).to(kind)
        images = images - torch.from_numpy(content["mean"]).to(kind)
        self.images = images.permute(0, 3, 1, 2).to(self.device).contiguous(memory_format=form)
        self.labels = torch.from_numpy(content["labels"]).long().to(self.device)
        self.loss_of = self.uncompiled
        if variant["compile"]:
            self.loss_of = torch.compile(self.uncompiled, mode=variant["compile"])

    def uncompiled(self) -> torch.Tensor:
        return functional.cross_entropy(self.network(self.images), self.labels)

    def step(self) -> torch.Tensor:
        """One training step; the loss before it."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def run(self, steps: int) -> float:
        """Seconds that so many steps take."""
        self.wait()
        began = time.perf_counter()
        for _ in range(steps):
            self.step()
        self.wait()
        return time.perf_counter() - began

    def load(self, weights: str) -> None:
        """Take these parameters, zero velocity, running mean 0 and variance 1."""
        content = np.load(weights)
        parameters = {project_name(n): p for n, p in self.network.named_parameters()}
        assert set(content) == set(parameters)
        with torch.no_grad():
            for name, parameter in parameters.items():
                value = to_torch(content[name])
                assert parameter.shape == value.shape, name
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
        self.optimizer.state.clear()

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def check(self, output: str) -> None:
        """Take two steps, the first at rate 0, and write what they computed; see `equality`."""
        found = {f"before.{name}": v for name, v in self.named(lambda p: p).items()}
        for number, rate in enumerate((0.0, LEARNING_RATE), 1):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            found[f"loss{number}"] = self.step().cpu().numpy().copy()
            velocity = self.named(lambda p: self.optimizer.state[p]["momentum_buffer"])
            found |= {f"velocity{number}.{name}": v for name, v in velocity.items()}
        found |= {f"after.{name}": v for name, v in self.named(lambda p: p).items()}
        for name, module in self.network.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                found[f"running.{name}.mean"] = module.running_mean.cpu().numpy()
                found[f"running.{name}.variance"] = module.running_var.cpu().numpy()
        save(output, found)

    def named(self, value: Callable[[nn.Parameter], torch.Tensor]) -> dict[str, np.ndarray]:
        """Copies of a value of each parameter, under this project's names and layouts."""
        return {
            project_name(name): from_torch(value(parameter).detach().cpu().numpy()).copy()
            for name, parameter in self.network.named_parameters()
        }


training: Training


def build(**arguments: Any) -> None:
    global training
    training = Training(**arguments)


def load(weights: str) -> None:
    training.load(weights)


def check(output: str) -> None:
    training.check(output)


def run(steps: int) -> float:
    return training.run(steps)


def choose(
    network: dict[str, Any],
    batch: str,
    device: str,
    precision: str,
    variants: list[dict[str, Any]],
    seconds: float,
) -> list[float]:
    """Median seconds of a step by variant, measured in turn in this process."""
    trainings = [Training(network, variant, batch, device, precision) for variant in variants]
    steps = [max(1, round(seconds / max(t.run(1), t.run(1), 1e-6))) for t in trainings]
    rounds = [[t.run(n) / n for t, n in zip(trainings, steps, strict=True)] for _ in range(3)]
    return [sorted(values)[1] for values in zip(*rounds, strict=True)]


def memory() -> int:
    """Peak bytes, on the accelerator if there is one."""
    if training.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return peak_memory()


def describe() -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": cuda,
        "threads": torch.get_num_threads(),
    }


HANDLERS = {f.__name__: f for f in (build, load, check, run, choose, memory, describe)}


def main() -> None:
    # XLA:CPU flushes subnormal numbers to zero too; without it they could slow PyTorch down.
    torch.set_flush_denormal(True)
    torch.backends.cudnn.benchmark = True
    serve(HANDLERS)


if __name__ == "__main__":
    main()
