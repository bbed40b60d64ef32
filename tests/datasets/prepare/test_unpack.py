"""Archives are unpacked, or refused in one line."""

import io
import random
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import rarfile

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.prepare.unpack import unpack

FILES = {"set/query/1.jpg": b"first", "set/query/2.png": b"second", "set/Readme.txt": b"text"}
LITTER = {"__MACOSX/set/query/1.jpg": b"x", "set/query/._1.jpg": b"x", "set/.DS_Store": b"x", ".hidden/3.jpg": b"x"}
IMAGES = {path: content for path, content in FILES.items() if not path.endswith(".txt")}


def make_zip(path, files=FILES, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_rar(path, files=FILES, method=0x30, kind=stat.S_IFREG):
    """Writes a RAR 3 archive; its contents are stored (0x30), whatever the method says."""

    def block(kind, flags, body):
        header = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
        return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header

    packed = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for name, content in files.items():
        sizes = (len(content), len(content))
        body = struct.pack("<IIBIIBBHI", *sizes, 3, zlib.crc32(content), 0, 20, method, len(name), kind | 0o644)
        packed += block(0x74, 0x8000, body + name.encode()) + content
    path.write_bytes(packed + block(0x7B, 0x4000, b""))
    return path


def unpacked(path, passed_over=()) -> dict[str, bytes]:
    """Unpacks an archive beside itself; returns the files."""
    folder = path.parent / "unpacked"
    unpack(str(path), str(folder), set(passed_over))
    return {each.relative_to(folder).as_posix(): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def refusal(path) -> str:
    """Returns the line with which an archive is refused."""
    with pytest.raises(InputError) as caught:
        unpacked(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make, name", [(make_zip, "a.zip"), (make_rar, "a.RAR")])
def test_the_images_of_an_archive_are_unpacked_and_nothing_else(make, name, tmp_path):
    assert unpacked(make(tmp_path / name, FILES | LITTER)) == IMAGES


def test_backslashes_in_a_zip_are_slashes(tmp_path):
    assert unpacked(make_zip(tmp_path / "a.zip", {"set\\query\\1.jpg": b"first"})) == {"set/query/1.jpg": b"first"}


@pytest.mark.parametrize("make", [make_zip, make_rar])
@pytest.mark.parametrize("outer", [make_zip, make_rar])
def test_an_archive_in_an_archive_becomes_a_folder_of_its_name(make, outer, tmp_path):
    name = "inner.rar" if make is make_rar else "inner.zip"
    content = make(tmp_path / name).read_bytes()
    path = outer(tmp_path / ("a.rar" if outer is make_rar else "a.zip"), {f"set/{name}": content, f"._{name}": b"x"})
    images = {f"set/inner/{image}": content for image, content in IMAGES.items()}
    assert unpacked(path) == {f"set/{name}": content, **images}


def test_an_inner_archive_that_is_passed_over_is_not_opened(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"set/other.zip": b"damaged"})
    assert unpacked(path, ["other"]) == {"set/other.zip": b"damaged"}


# Refusals


@pytest.mark.parametrize("name", ["a.zip", "a.rar"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>"])
def test_a_file_that_is_no_archive_is_refused(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert refusal(tmp_path / name).startswith(f"{tmp_path / name} ")


@pytest.mark.parametrize("make, name", [(make_zip, "a.zip"), (make_rar, "a.rar")])
def test_an_archive_that_is_cut_off_is_refused(make, name, tmp_path):
    path = make(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-60])
    assert str(path) in refusal(path)


@pytest.mark.parametrize("make, name", [(make_zip, "a.zip"), (make_rar, "a.rar")])
def test_a_damaged_image_in_an_archive_is_named(make, name, tmp_path):
    content = random.Random(0).randbytes(1000)  # cannot be compressed: lies in the zip as it is
    path = make(tmp_path / name, {"query/1.jpg": b"first", "query/2.jpg": content})
    packed = bytearray(path.read_bytes())
    packed[packed.index(content[500:520])] ^= 0xFF
    path.write_bytes(packed)
    line = refusal(path)
    assert line.startswith(f"{path}: query/2.jpg cannot be unpacked (")


def test_no_damage_of_a_zip_ends_in_anything_but_files_or_one_line(tmp_path):
    whole, generator = make_zip(tmp_path / "a.zip").read_bytes(), random.Random(0)
    outcomes = set()
    for number in range(300):
        packed = bytearray(whole)
        packed[generator.randrange(len(packed))] = generator.randrange(256)
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "b.zip"
        path.write_bytes(packed)
        try:
            unpacked(path)
            outcomes.add("unpacked")
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {"unpacked", "refused"}


def test_a_rar_with_a_time_that_cannot_be_is_refused(tmp_path, monkeypatch):
    def damaged(*_, **__):
        raise ValueError("microsecond must be in 0..999999")  # seen when bytes of an archive were changed at random

    monkeypatch.setattr(rarfile, "RarFile", damaged)
    line = (
        f"{tmp_path / 'a.rar'} cannot be unpacked (microsecond must be in 0..999999): get the archive anew, or unpack"
    )
    assert refusal(make_rar(tmp_path / "a.rar")).startswith(line)


@pytest.mark.parametrize("make, name", [(make_zip, "a.zip"), (make_rar, "a.rar")])
def test_an_entry_that_leads_out_of_the_archive_is_refused(make, name, tmp_path):
    for number, entry in enumerate(("../1.jpg", "set/../../1.jpg", "/1.jpg", "..\\1.jpg", "\\1.jpg")):
        (tmp_path / str(number)).mkdir()
        path = make(tmp_path / str(number) / name, {entry: b"x"})
        line = refusal(path)
        assert line.startswith(f"{path}: "), entry
        assert line.endswith("leads out of the archive: nothing is unpacked"), entry
        assert [each for each in tmp_path.rglob("*.jpg")] == [] and not Path("/1.jpg").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFBLK, stat.S_IFIFO])
def test_a_link_or_a_device_in_an_archive_becomes_a_plain_file(kind, tmp_path):
    entry = zipfile.ZipInfo("set/1.jpg")
    entry.external_attr = (kind | 0o666) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(entry, b"/etc/passwd")
    assert unpacked(tmp_path / "a.zip") == {"set/1.jpg": b"/etc/passwd"}
    assert not (tmp_path / "unpacked" / "set" / "1.jpg").is_symlink()


def test_a_link_in_a_rar_becomes_a_plain_file(tmp_path):
    path = make_rar(tmp_path / "a.rar", {"set/1.jpg": b"/etc/passwd"}, kind=stat.S_IFLNK)
    assert unpacked(path) == {"set/1.jpg": b"/etc/passwd"}
    assert not (tmp_path / "unpacked" / "set" / "1.jpg").is_symlink()


@pytest.mark.parametrize("names", [[f"set/{number}.jpg" for number in range(20)], ["set/inner.zip"]])
def test_a_bomb_is_refused_before_it_is_unpacked(names, tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", dict.fromkeys(names, bytes(2**22)))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("something was unpacked"))
    line = f"{path} has {len(names) * 2**22:,} bytes unpacked, far more than images have: nothing is unpacked"
    assert refusal(path) == line


@pytest.mark.parametrize("archives, images", [(1, 4), (3, 1)])
def test_archives_in_an_archive_are_held_together_to_the_size_of_the_outermost(archives, images, tmp_path):
    """Packs 2 MiB images and half a MiB of zeros, so that each archive has less than 100 times the one around it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as inner:
        for number in range(images):
            inner.writestr(f"set/{number}.jpg", bytes(2**21))
        inner.writestr("zeros.txt", bytes(2**19), zipfile.ZIP_STORED)
    path = make_zip(tmp_path / "a.zip", {f"{name}.zip": packed.getvalue() for name in range(archives)})
    assert "bytes unpacked, far more than images have" in refusal(path)


def test_an_entry_that_is_larger_than_it_tells_is_damaged_and_no_more_than_that_is_unpacked(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"set/1.jpg": bytes(2**24)})
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 2**24), struct.pack("<I", 1000)))
    assert refusal(path).startswith(f"{path}: set/1.jpg cannot be unpacked (")
    assert (tmp_path / "unpacked" / "set" / "1.jpg").stat().st_size <= 1000


def test_an_encrypted_zip_is_refused(tmp_path):
    packed = bytearray(make_zip(tmp_path / "a.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags in both headers of the first entry
        packed[packed.index(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(packed)
    line = refusal(tmp_path / "a.zip")
    assert "password required" in line and line.endswith("or unpack it elsewhere and give the folder")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_image_that_is_in_an_archive_twice_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("set/1.jpg", b"one")
        archive.writestr("set/1.jpg", b"other")
    assert "set/1.jpg cannot be unpacked (File exists)" in refusal(tmp_path / "a.zip")


def test_without_a_tool_that_unpacks_rar_one_line_says_what_to_install(tmp_path, monkeypatch):
    """Reads an archive that says that it is compressed, for which rarfile calls a tool. No tool is tested."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rarfile, "CURRENT_SETUP", None)
    path = make_rar(tmp_path / "a.rar", method=0x33)
    assert refusal(path).startswith(f"{path}: set/query/1.jpg: nothing here unpacks .rar: install unar or unrar")
