"""Where the processes of a search run: on this machine, or on a cluster that is looked for before anything is begun."""

from __future__ import annotations

import importlib.util
import socket
from urllib.parse import urlsplit

from .errors import NotGivenError, OptionError, PackageError, UnknownNameError

LOCAL = "loky"
PACKAGES = {LOCAL: "joblib", "ray": "ray", "dask": "distributed"}
SECONDS = 5.0


def check_cluster(jobs: int, backend: str = LOCAL, address: str | None = None) -> None:
    """Raises UsageError for a backend that isn't known or installed, and where nobody answers at the address."""
    if jobs < 1:
        raise OptionError(f"--jobs {jobs}: must be 1 or more")
    if backend not in PACKAGES:
        raise UnknownNameError(f"--backend {backend}: known are {', '.join(PACKAGES)}")
    if address is not None and backend == LOCAL:
        raise NotGivenError(f"--address {address}: say of what, --backend ray or dask")
    if backend == LOCAL:
        return
    if jobs == 1:
        raise NotGivenError(f"--backend {backend}: say how many processes it is to run, --jobs N with 2 or more")
    if importlib.util.find_spec(PACKAGES[backend]) is None:
        raise PackageError(f"--backend {backend}: it isn't installed; pip install 'secateur[{backend}]'")
    if address is not None:
        _knock(address)


def _knock(address: str) -> None:
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise OptionError(f"--address {address}: write HOST:PORT")
    try:
        socket.create_connection((host, port), SECONDS).close()
    except OSError as error:
        raise OptionError(f"--address {address}: nobody answers there ({error.strerror or error})") from None
