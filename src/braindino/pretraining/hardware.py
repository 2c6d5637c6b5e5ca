"""What a run is planned for: the machine and how it is used, as plain data. No torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from braindino.pretraining.config import ComputeConfig

Gpu = Literal["v100", "a100", "h100", "h200", "l40s", "rtx4090"]
Precision = Literal["fp32", "bf16"]
PEAK: dict[str, dict[str, float]] = {
    "v100": {"fp32": 15.7},
    "a100": {"fp32": 19.5, "bf16": 312.0},
    "h100": {"fp32": 67.0, "bf16": 989.0},
    "h200": {"fp32": 67.0, "bf16": 989.0},
    "l40s": {"fp32": 91.6, "bf16": 362.0},
    "rtx4090": {"fp32": 82.6, "bf16": 165.0},
}
"""Dense peak in TFLOP/s, without TF32 and sparsity (NVIDIA's data sheets; V100 and H100: the SXM boards)."""


@dataclass(frozen=True)
class Hardware:
    """For --plan: the machine and how it is used. Nothing here changes a run.

    Raises:
        ValueError: a number out of its range, or a precision that the GPU does not have.
    """

    gpus: int = 1
    """For --plan: processes, one GPU each."""
    gpu_memory: float = 80.0
    """For --plan: memory of a GPU in GiB."""
    gpu: Gpu = "h100"
    """For --plan: its kind, for the peak rate."""
    peak: float | None = None
    """For --plan: peak rate in TFLOP/s in the chosen precision, in place of that of `gpu`."""
    efficiency: float = 0.4
    """For --plan: share of the peak that a run reaches, in (0, 1]: assumed, to be replaced by what is measured."""
    precision: Precision = "bf16"
    """For --plan. `bf16`: matrix products under autocast, everything else in fp32."""
    sharding: Literal["ddp", "fsdp"] | None = None
    """For --plan. `ddp`: every rank holds everything. `fsdp`: parameters, gradients and optimiser are split over the
    ranks. Default: compute.parallel of the config."""
    checkpointing: bool = False
    """For --plan: keep only the input of each block and compute the block again in the backward pass. Default: as in
    the config."""
    micro_batch: int = 0
    """For --plan: slices per rank that go through the student at once. Default: compute.micro_batch, or the largest
    that fits."""
    slices: int = 6_600_000
    """For --plan: slices of the corpus, for the number of epochs."""

    def __post_init__(self) -> None:
        if min(self.gpus, self.slices) < 1 or self.micro_batch < 0:
            raise ValueError("gpus and slices must be at least 1 and micro_batch at least 0")
        if self.gpu_memory <= 0 or not 0 < self.efficiency <= 1 or (self.peak is not None and self.peak <= 0):
            raise ValueError("gpu_memory and peak must be above 0 and efficiency in (0, 1]")
        if self.peak is None and self.precision not in PEAK[self.gpu]:
            raise ValueError(f"a {self.gpu} has no {self.precision}; use --precision fp32 or give its --peak")

    def used_by(self, compute: ComputeConfig) -> Hardware:
        """The same machine, used as the config says where no flag says otherwise."""
        return replace(
            self,
            sharding=self.sharding or compute.parallel,
            checkpointing=self.checkpointing or compute.checkpoint_activations,
            micro_batch=self.micro_batch or compute.micro_batch,
        )

    @property
    def peak_flops(self) -> float:
        """Peak rate of one GPU, FLOP/s."""
        return 1e12 * (PEAK[self.gpu][self.precision] if self.peak is None else self.peak)

    @property
    def shards(self) -> int:
        """Ranks over which the state is split."""
        return self.gpus if self.sharding == "fsdp" else 1
