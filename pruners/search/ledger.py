"""``search.jsonl``: one line per event of a search, appended as it happens; a search resumes by replaying it. Other
long work (``what``) keeps its events in the same way.

The first line holds the settings and their hash. Every line is flushed to disk before the search goes on, so that
after a crash at most the last line is torn; it is dropped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import OutputError, ResumeError

SCHEMA = 1


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


class Ledger:
    """Events to replay (``recorded``), and where new ones go (``append``). Without a path nothing is kept.

    Raises ``UsageError`` when the file belongs to other settings, is damaged, or exists and ``resume`` is False;
    ``OutputError`` when it can't be written.
    """

    def __init__(
        self, path: Path | None, settings: Mapping[str, Any], resume: bool = False, *, what: str = "search"
    ) -> None:
        self.path, self.what = path, what
        self._file: FileIO | None = None
        self._pending: deque[dict[str, Any]] = deque()
        if path is None:
            return
        header = json.loads(canonical({"event": what, "schema": SCHEMA, "settings": dict(settings)}))
        header["hash"] = hashlib.sha256(canonical(header["settings"]).encode()).hexdigest()
        lines, length = _read(path, what)
        if lines and not resume:
            raise ResumeError(f"{path} already holds a {what}; continue it with --resume or remove the file")
        if lines:
            self._check(lines[0], header)
            self._pending.extend(lines[1:])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if length is not None:
                os.truncate(path, length)
            self._file = path.open("ab", buffering=0)  # nothing is left in a buffer when the disk is full
        except OSError as error:
            raise OutputError(f"{path}: can't be written ({error.strerror})") from None
        if not lines:
            self._write(header)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def recorded(self, event: str, **expected: Any) -> dict[str, Any] | None:
        """The next event to replay, or None when all are replayed. It must be the one the search expects."""
        if not self._pending:
            return None
        entry = self._pending.popleft()
        found = {name: entry.get(name) for name in ("event", *expected)}
        if found != {"event": event, **expected}:
            raise ResumeError(
                f"{self.path}: holds {canonical(found)} where this version expects "
                f"{canonical({'event': event, **expected})}; start the {self.what} anew without --resume"
            )
        return entry

    def append(self, event: str, fields: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._write({"event": event, **fields})

    def _write(self, entry: Mapping[str, Any]) -> None:
        assert self._file is not None
        try:
            line = (json.dumps(entry, allow_nan=False) + "\n").encode()
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path}: can't be written ({error.strerror}); make room and use --resume") from None

    def _check(self, found: Mapping[str, Any], header: Mapping[str, Any]) -> None:
        if found.get("event") != self.what or found.get("schema") != SCHEMA:
            raise ResumeError(
                f"{self.path}: does not begin like a {self.what} of this version; start anew without --resume"
            )
        if found.get("hash") == header["hash"]:
            return
        old, new = found.get("settings") or {}, header["settings"]
        name, before, now = _difference(old, new)
        values = f"{canonical(before)[:60]}, now {canonical(now)[:60]}"
        raise ResumeError(
            f"{self.path}: belongs to a {self.what} with other settings ({name} was {values}); "
            "use the same settings or start anew without --resume"
        )


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """The first setting that is another one, with both values; of settings that are made of parts, the part."""
    name = next((n for n in sorted({*old, *new}) if old.get(n) != new.get(n)), "hash")
    before, now = old.get(name), new.get(name)
    if not isinstance(before, dict) or not isinstance(now, dict):
        return name, before, now
    part, *values = _difference(before, now)
    return part if name == "fingerprint" else f"{name} {part}", values[0], values[1]


def _read(path: Path, what: str) -> tuple[list[dict[str, Any]], int | None]:
    """The events of all whole lines and the length of these lines; no length where there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return [], None
    except OSError as error:
        raise ResumeError(f"{path}: can't be read ({error.strerror})") from None
    length = data.rfind(b"\n") + 1
    entries = []
    for number, line in enumerate(data[:length].splitlines(), 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise ResumeError(f"{path}, line {number}: not a {what} event; start the {what} anew without --resume")
        entries.append(entry)
    return entries, length
