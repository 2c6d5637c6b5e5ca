"""Everything that can be set for `pretrain`: frozen dataclasses, a docstring under each field. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from braindino.model.config import ViTConfig


@dataclass(frozen=True)
class CropConfig:
    """Multi-crop for MR slices: geometry on foreground, intensities as scanners vary them, no colour."""

    global_px: int = 224
    """Side of the two global crops, in pixels."""
    local_px: int = 96
    """Side of the local crops, in pixels."""
    local_count: int = 8
    """Local crops per slice (0 switches the local term off)."""
    global_scale: tuple[float, float] = (0.32, 1.0)
    """Area of a global crop as a share of the slice."""
    local_scale: tuple[float, float] = (0.05, 0.32)
    """Area of a local crop as a share of the slice."""
    gram_px: int = 0
    """Side of the undistorted crops shown to the Gram teacher (same geometry as the global ones); 0: the same side."""
    sizes: tuple[tuple[int, int, int, float], ...] = ()
    """Mixed sizes: rows of global_px, local_px, gram_px and probability, one drawn per step in place of the three
    above (DINOv3's high-resolution stage); the probabilities sum to 1. Empty: the three above at every step."""
    least_foreground: float = 0.3
    """A crop with a smaller share of brain is drawn again (at most 10 times; the best draw is kept)."""
    flip: float = 0.5
    """Probability of a left-right flip."""
    gamma: float = 0.4
    """Intensities u in [0, 1] become u^g with ln g uniform in [-gamma, gamma]; 0 switches it off."""
    bias_field: float = 0.3
    """Largest relative change by a smooth random bias field; 0 switches it off."""
    noise: float = 0.05
    """Standard deviation of the noise, at most, as a share of the intensity range."""
    blur: tuple[float, float, float] = (0.0, 0.5, 0.3)
    """Probability of a Gaussian blur (sigma 0.1 to 2 px per 224 px) for global crop 1, global crop 2, local crops."""
    invert: float = 0.1
    """Probability, for global crop 2, that u becomes 1 - u inside the brain (in place of solarisation)."""
    ghosting: float = 0.0
    """Probability, for every crop, of a faint copy of the slice (5 to 25 % of the signal) shifted along one axis."""
    low_resolution: float = 0.0
    """Probability, for every crop, that its pixels are 1.5 to 4 times as long along one axis, before resizing."""

    def __post_init__(self) -> None:
        if self.sizes and (min(row[3] for row in self.sizes) <= 0 or abs(sum(row[3] for row in self.sizes) - 1) > 1e-6):
            raise ValueError(
                f"the last numbers of crops.sizes are probabilities, above 0 and with the sum 1, "
                f"got {[row[3] for row in self.sizes]}"
            )

    @property
    def shares(self) -> tuple[tuple[int, int, int, float], ...]:
        """Every size with its share of the steps: `sizes`, or the one fixed size."""
        return self.sizes or ((self.global_px, self.local_px, self.gram_px, 1.0),)


@dataclass(frozen=True)
class HeadConfig:
    """Projection head: D -> hidden -> hidden -> bottleneck, L2-normalised, -> prototypes."""

    hidden: int = 2048
    """Width of the two hidden layers."""
    bottleneck: int = 256
    """Width before the prototypes."""
    prototypes: int = 65536
    """Output units. With Sinkhorn-Knopp at most about 16 to 32 times 2 x batch_size (DINOv3 notes: entropy floor)."""
    unit_prototypes: bool = False
    """Divide each prototype by its length. Without it, targets stay uniform for the first thousands of steps."""


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms and the masks of iBOT."""

    dino: float = 1.0
    """Weight of the CLS agreement."""
    local: float = 1.0
    """Weight of the local crops' part within it (stage 2 of DINOv3: 0.5)."""
    ibot: float = 1.0
    """Weight of the masked-patch agreement."""
    koleo: float = 0.1
    """Weight of the spread of the student's CLS tokens; summed over the two global crops."""
    koleo_group: int = 0
    """Nearest neighbours are looked for among so many consecutive samples (DINOv3: 16); 0: the whole batch."""
    sigreg: float = 0.0
    """Weight of SIGReg, the alternative to KoLeo: each global crop's projected CLS tokens towards a normal
    distribution; summed over the two global crops."""
    gram: float = 0.0
    """Weight of the Gram anchor on patch similarities; above 0 it needs `initial`."""
    gram_refresh: int = 0
    """Steps between copies of the EMA teacher into the Gram teacher; 0: it stays what it was at first."""
    mask_probability: float = 0.5
    """Share of global crops that are masked for the student."""
    mask_ratio: tuple[float, float] = (0.1, 0.5)
    """Least and greatest share of hidden patches in a masked crop."""
    centring: Literal["sinkhorn", "ema"] = "sinkhorn"
    """How targets are balanced: Sinkhorn-Knopp within the batch, or a running mean of the logits (DINO)."""
    sinkhorn_iterations: int = 3
    """Rounds of Sinkhorn-Knopp on the teacher's outputs."""


@dataclass(frozen=True)
class TeacherConfig:
    """The EMA teacher."""

    momentum: tuple[float, float] = (0.992, 1.0)
    """EMA coefficient at the first and the last step (half cosine between)."""
    temperature: tuple[float, float] = (0.04, 0.07)
    """Teacher temperature at the first step and after `temperature_warmup`."""
    temperature_warmup: float = 0.3
    """Share of the steps over which the temperature rises linearly."""
    student_temperature: float = 0.1
    """Temperature of the student's softmax."""


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with a warm-up, a half cosine and layer-wise decay."""

    lr: float = 1e-3
    """Base learning rate; the peak is lr x 4 x sqrt(batch_size / 1024)."""
    end_lr: float = 1e-6
    """Learning rate at the last step."""
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises linearly from 0."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Coefficients of the moving averages of gradient and squared gradient."""
    weight_decay: tuple[float, float] = (0.04, 0.4)
    """Decoupled weight decay at the first and the last step (half cosine between)."""
    layer_decay: float = 0.9
    """Factor on the learning rate per block below the last."""
    patch_embed_factor: float = 0.2
    """Further factor on the learning rate of the patch embedding."""
    clip: float = 3.0
    """Largest gradient norm of each module (backbone, DINO head, iBOT head)."""
    freeze_last_layer: float = 0.01
    """Share of the steps in which the prototypes do not move."""
    freeze_backbone: float = 0.0
    """Share of the steps in which the backbone does not move, but for its patch embedding: heads first. Then its rate
    rises from 0 over as many steps as the warm-up has."""


@dataclass(frozen=True)
class ProbeConfig:
    """k-NN probe of the teacher on held-out subjects while it trains; see `pretraining.probe`."""

    every: int = 0
    """Steps between probes (also at the first and at the last step); 0: no probe, and nobody is held out."""
    target: Literal["age", "sex", "site", "contrast", "cohort"] = "age"
    """Column of the corpus's scans.tsv that the neighbours are asked for; scans without a value are left out."""
    share: float = 0.1
    """Share of the subjects that are held out for it, drawn by a hash of seed and name; they are not trained on."""

    def __post_init__(self) -> None:
        if self.every < 0 or not 0 < self.share < 1:
            raise ValueError(
                f"probe.every must be 0 or more and probe.share above 0 and below 1, got {self.every} and {self.share}"
            )


@dataclass(frozen=True)
class ComputeConfig:
    """How a run is computed: settings of the machine, no part of the run's identity. A resumed run may change them."""

    micro_batch: int = 0
    """Slices per forward pass of a process; 0: all of its share. Smaller passes add up to the same step."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """With several processes: every one holds the networks (`ddp`), or each holds a part of them (`fsdp`)."""
    precision: Literal["auto", "float32"] = "auto"
    """`auto`: bfloat16 products on GPUs that have them, float32 elsewhere."""
    checkpoint_activations: bool = False
    """Forget what blocks computed and compute it again for the gradient: less memory, a third more time."""
    compile: bool = False
    """Compile the blocks with torch.compile."""
    workers: int = 0
    """Processes that read slices and cut crops, per rank; 0: a thread beside the training."""
    threads: int = 0
    """CPU threads per rank; 0 leaves torch's choice."""
    checkpoint_every: int = 100
    """Steps between checkpoints; the last two are kept."""
    tensorboard: bool = False
    """Also write the log as TensorBoard events, to `tensorboard/` in the run folder (the extra `tensorboard`)."""

    def __post_init__(self) -> None:
        if self.checkpoint_every < 1 or min(self.micro_batch, self.workers, self.threads) < 0:
            raise ValueError(
                "compute.checkpoint_every must be at least 1, compute.micro_batch, .workers and .threads at least 0"
            )


@dataclass(frozen=True)
class PretrainConfig:
    """One pretraining run: stage 1 and stage 2 are the same verb with two files."""

    corpus: Path
    """Folder made by `braindino prepare`."""
    steps: int
    """Optimiser updates."""
    batch_size: int
    """Slices per step, each of another subject where there are enough subjects."""
    initial: Path | None = None
    """Run folder of the stage before, whose teacher with its heads starts student, teacher and Gram teacher; or a file
    of weights (encoder.safetensors, or DINOv3's in any dialect, see docs/model.md), which start them with new heads."""
    gram_initial: Path | None = None
    """Whose backbone is the Gram teacher: a checkpoint of a run (`run/checkpoints/0000100`, its EMA teacher), or what
    `initial` takes. DINOv3 takes an early one, from before the patch features decayed. None: that of `initial`."""
    model: ViTConfig = field(default_factory=ViTConfig)
    """The vision transformer; with `initial` it must be that run's."""
    crops: CropConfig = field(default_factory=CropConfig)
    """Multi-crop augmentation."""
    dino_head: HeadConfig = field(default_factory=HeadConfig)
    """Projection head on CLS tokens."""
    ibot_head: HeadConfig = field(default_factory=HeadConfig)
    """Projection head on patch tokens."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Terms of the loss."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """The EMA teacher."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimiser."""
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    """The probe that tells how good the features are while they are learned."""
    exclude: tuple[str, ...] = ()
    """Subjects ("cohort/subject") kept out of pretraining: the test subjects of later tasks."""
    sampling: Literal["subjects", "slices"] = "subjects"
    """`subjects`: a random slice of each of batch_size random subjects, so that a subject with many scans counts no
    more than another. `slices`: every slice once per epoch, in the order of `corpus.sampler`."""
    weights: tuple[tuple[str, float], ...] = ()
    """Cohort and how often its slices are seen per epoch (1 where it is not named); for `slices` only."""
    seed: int = 0
    """Everything random is a function of the seed and the step."""
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    """Processes, precision, memory: what does not decide the result."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 2:
            raise ValueError("steps must be at least 1 and batch_size at least 2")
        for global_px, local_px, gram_px, _ in self.crops.shares:
            self._check_side("global_px", global_px, least=self.model.patch_size)
            self._check_side("local_px", local_px, least=self.model.patch_size)
            self._check_side("gram_px", gram_px, least=0)
        if self.loss.gram > 0 and self.initial is None:
            raise ValueError("loss.gram is above 0 but there is no `initial` run whose teacher could anchor it")
        if self.gram_initial is not None and self.loss.gram <= 0:
            raise ValueError("gram_initial names a Gram teacher, but loss.gram is 0: set loss.gram, or leave it out")
        if self.weights and self.sampling != "slices":
            raise ValueError("weights need sampling = 'slices'; with 'subjects' every subject counts the same")
        group = self.loss.koleo_group or self.batch_size
        if self.loss.koleo > 0 and (group < 4 or self.batch_size % group):
            raise ValueError(
                f"loss.koleo looks for nearest neighbours in groups of {group}: that must be at least 4 and divide "
                f"batch_size {self.batch_size}; change loss.koleo_group or set loss.koleo to 0"
            )

    def _check_side(self, name: str, side: int, least: int) -> None:
        patch = self.model.patch_size
        if side % patch or side < least:
            zero = "" if least else "0 or "
            raise ValueError(f"crops.{name} is {side}, expected {zero}a multiple of model.patch_size {patch}")
