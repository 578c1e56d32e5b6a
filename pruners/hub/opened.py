"""Opens a folder in a fresh process, where this file is copied to: torch and transformers are all it imports."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch


def network() -> Any:
    """The model in the folder that the file beside this one names, as ``from_pretrained`` makes it."""
    os.environ["HF_MODULES_CACHE"] = str(Path(__file__).parent / "modules")  # where code of folders is copied to
    import transformers

    facts = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
    more = {"trust_remote_code": True} if facts["class"].startswith("Auto") else {}
    more |= {} if facts["experts"] is None else {"experts_implementation": facts["experts"]}
    return getattr(transformers, facts["class"]).from_pretrained(
        facts["folder"], dtype=getattr(torch, facts["dtype"]), attn_implementation=facts["attention"],
        local_files_only=True, **more,
    )  # fmt: skip
