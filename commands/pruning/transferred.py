"""``--transfer``: what is usual, and what can't be."""

from __future__ import annotations

from ...pruners.errors import UsageError
from ...pruners.transfer import TRANSFERS, require_images


def usual_transfer(search: str, per: str, with_data: bool) -> str:
    """Slices are what ``bayesian`` judges and retrains width by width; other searches leave what images can mend."""
    return "lstsq" if with_data and (search != "bayesian" or per == "stage") else "slice"


def check_transfer(name: str, with_data: bool, images: int | None = None) -> None:
    """Refuse an unknown strategy, one that needs images where there are none, and a number of images that can't be."""
    require_images(name, with_data)
    if images is not None and not TRANSFERS.find(name).images:
        raise UsageError(f"--calibration {images}: --transfer {name} looks at no images; leave the option out")
    if images is not None and images < 1:
        raise UsageError(f"--calibration {images}: must be 1 or more")
