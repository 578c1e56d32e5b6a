"""``app.py doctor``: what is installed, what the machine offers, and whether it fits together."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from ..pruners.errors import PackageError
from .cli import CommonOptions
from .show import Voice, table

PACKAGES = (
    "torch", "torchvision", "libcst", "jinja2", "bayesian-optimization", "networkx", "click", "rich", "numpy",
    "scikit-learn", "scipy",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """``problem`` says what to do; empty if all is well."""

    name: str
    value: str
    problem: str = ""


def run(options: CommonOptions) -> None:
    findings = [*_versions(), _pair(), _machine(), _device(), _writing(Path("generated"))]
    shown = table("secateur", "what", "found", "problem")
    for f in findings:
        shown.add_row(f.name, f.value, f.problem)
    values = {"schema": 1, **{f.name: {"found": f.value, "problem": f.problem} for f in findings}}
    Voice(-1, options.json).result([shown], values)
    bad = [f for f in findings if f.problem]
    if bad:
        raise PackageError(f"{bad[0].name}: {bad[0].problem}")


def _versions() -> list[Finding]:
    findings = [Finding("python", platform.python_version())]
    for name in PACKAGES:
        try:
            findings.append(Finding(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "missing", "run pip install -e ."))
    return findings


def pair_problem(torch_version: str, requirements: list[str]) -> str:
    """Whether torchvision was built for this torch; it names the version it needs in its metadata."""
    wanted = next((m[1] for r in requirements if (m := re.match(r"torch\s*\(?==\s*([\w.+]+)", r))), None)
    if wanted is None or wanted.partition("+")[0] == torch_version.partition("+")[0]:
        return ""
    return f"torchvision needs torch {wanted}, not {torch_version}: run pip install torch torchvision together"


def _pair() -> Finding:
    try:
        needs = importlib.metadata.requires("torchvision") or []
        problem = pair_problem(importlib.metadata.version("torch"), needs)
        import torchvision  # noqa: F401
    except importlib.metadata.PackageNotFoundError:
        return Finding("torch and torchvision", "incomplete", "run pip install torch torchvision together")
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        return Finding("torch and torchvision", reason, "they don't fit: run pip install torch torchvision together")
    return Finding("torch and torchvision", "import together", problem)


def _machine() -> Finding:
    import torch

    return Finding("cores", f"{os.cpu_count()}, torch uses {torch.get_num_threads()}")


def _device() -> Finding:
    import torch

    return Finding("device", torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu")


def _writing(folder: Path) -> Finding:
    place = folder if folder.exists() else folder.parent
    fine = os.access(place, os.W_OK)
    return Finding("writing", str(place.resolve()), "" if fine else "can't be written: choose a folder with -o")
