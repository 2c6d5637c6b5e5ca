"""BrainDINO: from brain MRI to a frozen encoder, light heads and honest numbers.

import braindino as bd

encoder = bd.load_encoder("braindino", weights="encoder.safetensors")
tokens = encoder.tokens(bd.read_volume("sub-01_T1w.nii.gz"))

task = bd.load_task("brain_age", root="cohort/", cohort="bids")
features = bd.encode(task.cases, encoder)
head = bd.fit(task, features, fraction=0.4, seed=0)
table = bd.predict(task, features, head)
print(bd.score(table.table).metrics)
"""

from __future__ import annotations

import importlib
import os
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "2000")
"""How long threads of torch's OpenMP spin for the next piece of work before they sleep; read when torch is imported.

By default 300 000 rounds: beside another such job threads spin while those that they wait for have no core, which makes
both eight times slower than sharing the cores does (benchmarks/two_jobs.py). Alone, this costs nothing that shows.
"""

_PUBLIC = {
    "analyze": "braindino.pipeline.analyze",
    "encode": "braindino.pipeline.encode",
    "encode_folder": "braindino.pipeline.encode",
    "export_hugging_face": "braindino.model.hugging_face",
    "from_pretrained": "braindino.model.pretrained",
    "fit": "braindino.pipeline.fit",
    "load_encoder": "braindino.pipeline.loading",
    "load_task": "braindino.pipeline.fit",
    "predict": "braindino.pipeline.predict",
    "prepare": "braindino.pipeline.prepare",
    "pretrain": "braindino.pipeline.pretrain",
    "read_case": "braindino.volume.io",
    "read_features": "braindino.pipeline.features",
    "read_patches": "braindino.pipeline.features",
    "read_foreign": "braindino.model.foreign",
    "read_split": "braindino.pipeline.split",
    "read_volume": "braindino.volume.io",
    "report": "braindino.pipeline.report",
    "save_pretrained": "braindino.model.pretrained",
    "score": "braindino.pipeline.score",
    "synthesize": "braindino.pipeline.synthesize",
    "BrainEncoder": "braindino.pipeline.estimator",
    "EncoderChoice": "braindino.pipeline.loading",
    "How": "braindino.pipeline.encoding",
    "Perturbation": "braindino.pipeline.perturbing",
    "HeadClassifier": "braindino.pipeline.head_estimators",
    "HeadRegressor": "braindino.pipeline.head_estimators",
    "write_split": "braindino.pipeline.split",
    "Recipe": "braindino.volume.recipe",
    "SynthesisConfig": "braindino.synthesis.config",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import braindino` takes no time."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'braindino' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
