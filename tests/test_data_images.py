"""Images are converted by value, and refused where something would be lost."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from cifar_files import (
    encode,
)
from PIL import Image

from resnet_study.data import images

pytestmark = pytest.mark.usefixtures("nothing_from_outside")


def decoded(image: Image.Image, **options: object) -> np.ndarray:
    stream = io.BytesIO()
    image.save(stream, format="PNG", **options)
    return images.decode_image("x", stream.getvalue())[0]


def test_images_are_converted_by_value() -> None:
    grey = np.arange(1024, dtype=np.uint16).reshape(32, 32) % 256
    expected = np.repeat(grey.astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(decoded(Image.fromarray(grey.astype(np.uint8))), expected)
    np.testing.assert_array_equal(decoded(Image.fromarray(grey * 257)), expected)
    colours = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    colours = colours // 64 * 64 + 7  # 64 colours fit into a palette
    palette = Image.fromarray(colours).quantize(64, dither=Image.Dither.NONE)
    assert palette.mode == "P"
    exact = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decoded(palette), exact)
    black_and_white = Image.fromarray((grey > 100).astype(np.uint8) * 255).convert("1")
    assert set(np.unique(decoded(black_and_white))) == {0, 255}


def png16(colour_type: int) -> bytes:
    """A PNG file with 16 bits per channel, which Pillow cannot write in colour."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    channels = {0: 1, 2: 3}[colour_type]
    rows = (b"\0" + bytes(32 * channels * 2)) * 32
    header = struct.pack(">IIBBBBB", 32, 32, 16, colour_type, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def refused(content: bytes) -> str:
    with pytest.raises(images.DataError) as error:
        images.decode_image("x", content)
    return str(error.value)


def test_images_that_would_lose_something_are_refused() -> None:
    assert "16 bits in each of three channels" in refused(png16(2))
    assert images.decode_image("x", png16(0))[0].max() == 0
    rounded = np.full((32, 32), 257, np.uint16)
    rounded[3, 4] = 300
    assert "16 bits that 8 bits cannot hold" in refused(encode(Image.fromarray(rounded)))
    for mode in ("RGBA", "LA"):
        assert "alpha channel" in refused(encode(Image.new(mode, (32, 32))))
    assert "alpha channel" in refused(encode(Image.new("RGBA", (32, 32)), ".webp"))
    stream = io.BytesIO()
    Image.new("P", (32, 32)).save(stream, format="PNG", transparency=0)
    assert "alpha channel" in refused(stream.getvalue())
    stream = io.BytesIO()
    Image.new("CMYK", (32, 32)).save(stream, format="JPEG")
    assert "colours of mode CMYK" in refused(stream.getvalue())
    assert "more than 1024 KiB" in refused_file()


def refused_file() -> str:
    Path("large.png").write_bytes(bytes(images.FILE_BYTES + 1))
    with pytest.raises(images.DataError) as error:
        images.decode_image("x", Path("large.png"))
    return str(error.value)
