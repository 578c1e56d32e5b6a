"""Mixed precision, parts and several processes, by the library Accelerate. Imported only when one of them is wanted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import GradientAccumulationPlugin, broadcast
from torch import Tensor, nn

from ..data import Split
from .execution import Engine, Execution
from .loop import Score, device_of, fitting, score_of, totals
from .objective import Criterion


class Accelerated(Engine):
    """Every process has the whole network and a part of each batch; all take the same step."""

    def __init__(self, execution: Execution, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.passes = model, execution.accumulate
        self.accelerator = Accelerator(
            mixed_precision=execution.amp or "no",
            cpu=device_of(model).type == "cpu",
            # a batch is cut here, not in a loader
            gradient_accumulation_plugin=GradientAccumulationPlugin(
                num_steps=self.passes, sync_with_dataloader=False, adjust_scheduler=False
            ),
        )
        self.part = (self.accelerator.process_index, self.accelerator.num_processes)
        # the library changes the forward of what it is given: not that of the network, which is measured as it is
        self.network = self.accelerator.prepare_model(_WithObjective(model))
        self.optimizer = self.accelerator.prepare_optimizer(optimizer, device_placement=False)

    def step(self, images: Tensor, labels: Tensor, objective: Criterion, seed: Callable[[int], None]) -> float:
        images = fitting(images, self.model)
        labels = labels.to(images.device)
        whole = self._sum(len(labels))
        loss, value = torch.zeros((), device=images.device), 0.0
        for number, (x, y) in enumerate(zip(images.chunk(self.passes), labels.chunk(self.passes), strict=True)):
            with self.accelerator.accumulate(self.network):
                seed(self.part[0] * self.passes + number)
                mean = self.network(x, y, objective)
                # gradients are averaged over passes and processes, which need not have equally many images
                self.accelerator.backward(mean * (len(y) / whole * self.passes * self.part[1]))
                loss += mean.detach() * (len(y) / whole)
                if self.accelerator.sync_gradients:
                    value = self._sum(loss)
                    if math.isfinite(value):
                        self.optimizer.step()
                    self.optimizer.zero_grad()
        return value

    def evaluate(self, split: Split, batch_size: int) -> Score:
        for buffer in self.model.buffers():
            # statistics of batch norm differ from process to process until the next step
            buffer.copy_(broadcast(buffer))
        loss, *counts = (self._sum(s) for s in totals(self.model, split, batch_size=batch_size, part=self.part))
        return score_of(loss, *map(int, counts))

    def any(self, wish: bool) -> bool:
        return self._sum(float(wish)) > 0

    def state(self) -> Mapping[str, Any]:
        scaler = self.accelerator.scaler
        return {} if scaler is None else {"scaler": scaler.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def close(self) -> None:
        self.accelerator.free_memory()
        self.accelerator.end_training()
        # the library keeps the settings of the first run for the whole process
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()

    def _sum(self, value: float | Tensor) -> float:
        tensor = torch.as_tensor(value, dtype=torch.float64, device=device_of(self.model))
        return self.accelerator.reduce(tensor, reduction="sum").item()


class _WithObjective(nn.Module):
    """The network with its loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, labels: Tensor, objective: Criterion) -> Tensor:
        return objective(self.model, images, labels)
