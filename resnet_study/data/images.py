"""One image of 32x32 pixels from a file, by value: what cannot be kept exactly is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from resnet_study.data.originals import CHANNELS, SIDE, DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
FILE_BYTES = 1 << 20
"""Limit of a file; 3,072 bytes of pixels have a few thousand bytes in any format."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH = 24
"""Position of the bits per channel in a PNG file."""
_LEVELS_16 = 257
"""A value of 16 bits is the value v of 8 bits exactly if it is 257 v: 65535 / 255 = 257."""


def decode_image(where: object, content: bytes | Path) -> tuple[np.ndarray, str]:
    """Decode an image.

    Grey becomes three equal channels, a palette its colours, and 16 bits of grey 8 bits if
    no value is rounded.

    Args:
        where: for the message.
        content: the file or its content.

    Returns:
        uint8, shape (32, 32, 3), and the format, such as "PNG".

    Raises:
        DataError: for another size, transparency, 16 bits that are not 8, or damage.
    """
    from PIL import Image

    try:
        data = _read(content)
        # Opening reads the header only, so a huge picture is refused before it is decoded.
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "BMP")) as image:
            if image.size != (SIDE, SIDE):
                raise ValueError(f"{image.width}x{image.height} pixels instead of 32x32")
            if getattr(image, "n_frames", 1) > 1:
                raise ValueError("a moving picture")
            return _pixels(image, data), "WebP" if image.format == "WEBP" else str(image.format)
    except Exception as error:  # a damaged image can raise anything
        reason = str(error).split(" <_io.BytesIO")[0]
        raise DataError(where, f"is no image of 32x32 pixels in 8-bit colour ({reason})") from None


def _read(content: bytes | Path) -> bytes:
    if isinstance(content, bytes):
        return content
    with content.open("rb") as file:
        data = file.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise ValueError(f"more than {FILE_BYTES >> 10} KiB")
    return data


def _pixels(image: Any, data: bytes) -> np.ndarray:
    mode = image.mode
    if mode in ("RGBA", "LA", "PA", "RGBa", "La", "RGBX") or "transparency" in image.info:
        raise ValueError("it has an alpha channel; save it without transparency")
    deep = data.startswith(_PNG) and data[_PNG_DEPTH] == 16
    if mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if not deep or (values % _LEVELS_16).any():
            raise ValueError("16 bits that 8 bits cannot hold exactly; save it with 8 bits")
        grey = (values // _LEVELS_16).astype(np.uint8)
        return np.repeat(grey[:, :, None], CHANNELS, axis=2)
    if deep:
        # Pillow keeps the upper byte of each value and does not tell what the lower one was.
        raise ValueError("16 bits in each of three channels; save it with 8 bits")
    if mode not in ("RGB", "L", "P", "1"):
        raise ValueError(f"colours of mode {mode}; save it as RGB")
    return np.frombuffer(image.convert("RGB").tobytes(), np.uint8).reshape(SIDE, SIDE, CHANNELS)
