"""One dataclass per verb: its fields are the flags, `run` calls the verb's function and says what came out.

Nothing here imports torch; each verb imports what it needs when it runs, so that `--help` and `list` start at once.
"""

from __future__ import annotations

from braindino.verbs.answers import Analyze, Demo, Paper, Report, Score
from braindino.verbs.data import Check, List, Prepare, Synthesize
from braindino.verbs.learning import Encode, Fit, Predict, Pretrain, Split

VERBS: dict[str, type] = {
    "prepare": Prepare,
    "pretrain": Pretrain,
    "encode": Encode,
    "split": Split,
    "fit": Fit,
    "predict": Predict,
    "score": Score,
    "analyze": Analyze,
    "report": Report,
    "paper": Paper,
    "demo": Demo,
    "synthesize": Synthesize,
    "check": Check,
    "list": List,
}
