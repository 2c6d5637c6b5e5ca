"""What a model is called in the columns `encoder` and `head`, so that variants of one stand beside each other."""

from __future__ import annotations

import re

from braindino import catalog


def encoder_name(plugin: str, variant: str = "", pooling: str = "cls", fusion: str = "mean") -> str:
    """encoder[@variant][+mean_patch][+concat | +weighted]: what is not the plain way is named, in this order.

    Plain are the first variant of the plug-in ("" too, and one that it does not name, as of older records), the CLS
    token (or every patch token: pooling "none") and the mean over contrasts.
    """
    others = catalog.variants("encoders", plugin)[1:] if plugin in catalog.names("encoders") else ()
    at = f"@{variant}" if variant in others else ""
    return plugin + at + "+mean_patch" * (pooling == "mean_patch") + (f"+{fusion}" if fusion != "mean" else "")


def head_name(plugin: str, combat: bool = False, calibrate: str = "none") -> str:
    """head[+combat][+temperature | +isotonic]: what stands around the head and changes what it says, in this order."""
    return plugin + "+combat" * combat + (f"+{calibrate}" if calibrate != "none" else "")


def plugin_of(name: str) -> str:
    """The plug-in of a name of either function: `cox` of `cox+combat`, `pca` of `pca+weighted`."""
    return re.split("[@+]", name, maxsplit=1)[0]
