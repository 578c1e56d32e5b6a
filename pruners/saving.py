"""Tensors into a file. Of a full disk torch's writer tells in numbers; here it is the system's own error."""

from __future__ import annotations

from typing import Any, cast

import torch


class _Watched:
    """A file that remembers why it could not be written."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            written: int = self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        return written

    def flush(self) -> None:
        self.file.flush()


def save(content: object, file: Any) -> None:
    """``torch.save`` into an open file. Raises OSError where it can't be written."""
    watched = _Watched(file)
    try:
        torch.save(content, cast(Any, watched))
    except RuntimeError:
        if watched.error is not None:
            raise watched.error from None
        raise
