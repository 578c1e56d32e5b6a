"""Measured times in a file, so that the next run need not measure again.

    {"schema": 1, "machines": {"<hash>": {"facts": {"cpu": ..., "threads": 2, ...}, "seconds": {"<what ran>": 0.0012}}}}

Times of one machine are never taken on another: each has its own part of the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BundleError, OutputError
from ..outputs import held, replaced

SCHEMA = 1
_PATIENCE = 30.0  # seconds for which others may write


class DamagedError(Exception):
    """The file is no table; the text says why."""


def default_path() -> Path:
    """In the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "secateur" / "latency.json"


class Table:
    """What ran -> seconds, on one machine.

    A file that the user named (``path``) must be a table or not exist; the default one is only a cache, so a damaged
    one is set aside and begun anew. Raises ``UsageError`` or ``OutputError``. ``remark`` says what is of interest.
    """

    def __init__(self, machine: Mapping[str, Any], path: Path | None = None) -> None:
        self.path = path or default_path()
        self.machine = dict(machine)
        self._key = hashlib.sha256(json.dumps(self.machine, sort_keys=True).encode()).hexdigest()[:16]
        self.remark = ""
        try:
            parts = _read(self.path)
        except DamagedError as error:
            if path is not None:
                raise BundleError(f"--latency-table {path}: {error}; remove it, or name another file") from None
            self._set_aside(error)
            parts = {}
        self.seconds: dict[str, float] = dict(parts.get(self._key, {}).get("seconds", {}))
        if parts and self._key not in parts:
            self.remark = f"{self.path} holds times of other machines or threads only: measuring anew"

    def _set_aside(self, error: DamagedError) -> None:
        kept = self.path.with_suffix(".damaged")
        try:
            os.replace(self.path, kept)
        except OSError as failed:
            raise OutputError(f"{self.path}: {error}, and it can't be moved away ({failed.strerror})") from None
        self.remark = f"{self.path}: {error}; it is now {kept.name}, and times are measured anew"

    def save(self) -> None:
        """Write what is known beside what others have written by now, in one rename."""
        try:
            with held(self.path, wait=_PATIENCE), replaced(self.path) as file:
                file.write(self._with_what_is_there().encode())
        except (OSError, OutputError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OutputError(
                f"{self.path}: measured times can't be written ({reason}); name a file with --latency-table"
            ) from None

    def _with_what_is_there(self) -> str:
        try:
            parts = _read(self.path)
        except DamagedError:
            parts = {}
        others = parts.get(self._key, {}).get("seconds", {})
        parts[self._key] = {"facts": self.machine, "seconds": {**others, **self.seconds}}
        return json.dumps({"schema": SCHEMA, "machines": parts}, indent=1, sort_keys=True) + "\n"


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """The parts of the file by machine; none where there is no file."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"can't be read ({getattr(error, 'strerror', None) or 'not a text'})") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DamagedError("not a JSON text") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA or not isinstance(found.get("machines"), dict):
        raise DamagedError("not a table of measured times of this version")
    parts: dict[str, dict[str, Any]] = found["machines"]
    for part in parts.values():
        if not isinstance(part, dict) or not isinstance(part.get("seconds"), dict):
            raise DamagedError("not a table of measured times of this version")
        wrong = next((name for name, n in part["seconds"].items() if not _is_time(n)), None)
        if wrong is not None:
            raise DamagedError(f"{part['seconds'][wrong]!r} is no time, for {wrong[:60]}")
    return parts


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0
