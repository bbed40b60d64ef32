"""Images from a broken disk, a broken download or an attacker."""

import functools
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from hostile import Target
from hypothesis import strategies as st
from PIL import Image

from igoas_plugin.fastreid_fixes.images import read_image

WIDTH, HEIGHT = 24, 40


def picture(mode: str = "RGB", shift: int = 0) -> Image.Image:
    ramp = np.add.outer(np.arange(HEIGHT) * 3 + shift, np.arange(WIDTH) * 5) % 256
    noise = np.random.default_rng(shift).integers(0, 60, (HEIGHT, WIDTH, 3))
    return Image.fromarray(((ramp[..., None] + noise) % 256).astype(np.uint8)).convert(mode)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, **options)
    return file.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a camera"
    return exif


def sixteen_bits() -> Image.Image:
    return Image.fromarray((np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) * 60).astype(np.uint16))


@functools.cache
def whole() -> dict[str, bytes]:
    """Returns {name: content} of valid files in every format and mode that cameras and tools write."""
    frames = {"save_all": True, "append_images": [picture(shift=9)], "duration": 50}
    return {
        "jpeg": saved(picture(), "JPEG"),
        "jpeg, progressive, turned": saved(picture(), "JPEG", progressive=True, exif=turned()),
        "jpeg, CMYK": saved(picture("CMYK"), "JPEG"),
        "jpeg, grey": saved(picture("L"), "JPEG", icc_profile=bytes(300)),
        "png": saved(picture(), "PNG", exif=turned()),
        "png, palette": saved(picture("P"), "PNG", transparency=bytes(range(200))),
        "png, 16 bits": saved(sixteen_bits(), "PNG"),
        "png, alpha": saved(picture("RGBA"), "PNG", compress_level=0),
        "tiff": saved(picture(), "TIFF", exif=turned()),
        "tiff, lzw": saved(picture(), "TIFF", compression="tiff_lzw"),
        "tiff, deflate": saved(picture("L"), "TIFF", compression="tiff_adobe_deflate"),
        "tiff, jpeg": saved(picture(), "TIFF", compression="jpeg"),
        "tiff, fax": saved(picture("1"), "TIFF", compression="group4"),
        "tiff, 16 bits": saved(sixteen_bits(), "TIFF"),
        "gif": saved(picture("P"), "GIF", transparency=3),
        "gif, two frames": saved(picture(), "GIF", **frames),
        "webp": saved(picture(), "WEBP", exif=turned()),
        "webp, lossless": saved(picture("RGBA"), "WEBP", lossless=True),
        "webp, two frames": saved(picture(), "WEBP", **frames),
        "bmp": saved(picture(), "BMP"),
        "bmp, palette": saved(picture("P"), "BMP"),
    }


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def zeros(count: int) -> bytes:
    """Returns zeros, deflated to a thousandth of their size."""
    deflate = zlib.compressobj(6)
    step = bytes(2**20)
    return b"".join(deflate.compress(step[: count - at]) for at in range(0, count, 2**20)) + deflate.flush()


def png(side: int, content: bytes, extra: bytes = b"") -> bytes:
    """Returns a square black-and-white PNG."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def tiff(side: int, content: bytes) -> bytes:
    """Returns a square black-and-white TIFF in one deflated strip."""
    tags = [(256, side), (257, side), (258, 1), (259, 8), (262, 1), (273, 8 + 2 + 9 * 12 + 4), (277, 1), (278, side)]
    tags.append((279, len(content)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(4) + content


@functools.cache
def bomb(name: str) -> bytes:
    """Returns a small file that decodes to a huge image."""
    rows = {side: (side + 7) // 8 + 1 for side in (13_000, 9_400, 8)}
    if name == "png, 169 million pixels":
        return png(13_000, zeros(13_000 * rows[13_000]))
    if name == "png, 88 million pixels":
        return png(9_400, zeros(9_400 * rows[9_400]))
    if name == "png, text of 300 MB":
        return png(8, zeros(8 * rows[8]), chunk(b"zTXt", b"Comment\0\0" + zeros(300 * 2**20)))
    if name == "png, profile of 300 MB":
        return png(8, zeros(8 * rows[8]), chunk(b"iCCP", b"icc\0\0" + zeros(300 * 2**20)))
    return tiff(13_000, zeros(13_000 * (rows[13_000] - 1)))


BOMBS = (
    "png, 169 million pixels",
    "png, 88 million pixels",
    "png, text of 300 MB",
    "png, profile of 300 MB",
    "tiff, 169 million pixels",
)


def declare(content: bytes, width: int, height: int) -> bytes:
    """Returns the file with another width and height in its header and corrected checksums."""
    content = bytearray(content)
    if content.startswith(b"\x89PNG"):
        content[16:24] = struct.pack(">II", width % 2**31, height % 2**31)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    elif content.startswith(b"BM"):
        content[18:26] = struct.pack("<II", width, height)
    elif content.startswith(b"GIF"):
        content[6:10] = struct.pack("<HH", width % 2**16, height % 2**16)
    elif content.startswith(b"RIFF") and content[12:16] == b"VP8X":
        content[24:30] = (width % 2**24).to_bytes(3, "little") + (height % 2**24).to_bytes(3, "little")
    elif content.startswith(b"RIFF"):
        content[26:30] = struct.pack("<HH", width % 2**14, height % 2**14)
    elif content.startswith(b"\xff\xd8"):
        at = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
        content[at + 5 : at + 9] = struct.pack(">HH", height % 2**16, width % 2**16)
    elif content.startswith(b"II"):
        for tag, size in ((256, width), (257, height)):
            at = content.find(struct.pack("<HH", tag, 4), 4)
            at = at if at >= 0 else content.find(struct.pack("<HH", tag, 3), 4)
            content[at + 2 : at + 4] = struct.pack("<H", 4)
            content[at + 8 : at + 12] = struct.pack("<I", size)
    return bytes(content)


places = st.one_of(st.floats(0, 1), st.floats(0, 0.1))  # as a share of the file; headers are at its beginning
sizes = st.sampled_from([0, 1, 7, 40, 2**11, 9_400, 13_000, 2**14 - 1, 2**16 - 1, 2**24, 2**31 - 1, 2**32 - 1])
changes = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(1, 255)),
    st.tuples(st.just("set"), places, st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x01"])),
    st.tuples(st.just("truncate"), places),
    st.tuples(st.just("splice"), places, places, st.sampled_from(sorted(whole()))),
    st.tuples(st.just("remove"), places, st.integers(1, 64)),
    st.tuples(st.just("repeat"), places, st.integers(1, 64)),
    st.tuples(st.just("declare"), sizes, sizes),
)
mutated = st.tuples(st.sampled_from(sorted(whole())), st.lists(changes, max_size=4))
bombs = st.tuples(st.sampled_from(BOMBS), st.just([]))
rarely = st.integers(0, 49)  # bombs take a second each
cases = rarely.flatmap(lambda number: bombs if number == 49 else mutated)


def change(content: bytes, what: str, *how) -> bytes:
    if what == "declare":
        return declare(content, *how)
    at = int(how[0] * max(len(content) - 1, 0))
    if what == "flip":
        return content[:at] + bytes(byte ^ how[1] for byte in content[at : at + 1]) + content[at + 1 :]
    if what == "set":
        return content[:at] + how[1] + content[at + len(how[1]) :]
    if what == "truncate":
        return content[:at]
    if what == "splice":
        other = whole()[how[2]]
        return content[:at] + other[int(how[1] * len(other)) :]
    if what == "remove":
        return content[:at] + content[at + how[1] :]
    return content[:at] + content[at : at + how[1]] * 2 + content[at + how[1] :]


def put(case: tuple, folder: Path) -> str:
    name, changed = case
    content = bomb(name) if name in BOMBS else whole()[name]
    for each in changed:
        content = change(content, *each)
    path = folder / "image.jpg"
    path.write_bytes(content)
    return str(path)


def use(path: str) -> None:
    image = read_image(path)
    assert image.mode == "RGB" and min(image.size) > 0
    if image.width * image.height < 10**7:  # a large image would be copied three times
        assert np.asarray(image).shape == (image.height, image.width, 3)


TARGET = Target(cases, put, use)
