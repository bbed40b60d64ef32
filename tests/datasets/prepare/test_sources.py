"""Folders and archives as sources of images: what is seen, what is read, and what is refused in one line."""

import contextlib
import os
import random
import stat
import struct
import zipfile
import zlib

import pytest
import rarfile

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.prepare.sources import LARGEST_IMAGE, Archive, open_source

FILES = {"set/query/1.jpg": b"first", "set/query/2.png": b"second", "set/Readme.txt": b"text"}
LITTER = {"__MACOSX/set/query/1.jpg": b"x", "set/query/._1.jpg": b"x", "set/.DS_Store": b"x", ".hidden/3.jpg": b"x"}


def make_folder(folder, files=FILES):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def make_zip(path, files=FILES, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_rar(path, files=FILES, method=0x30, kind=stat.S_IFREG):
    """A RAR 3 archive; its contents are stored (0x30), whatever the method says."""

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


def refusal(path):
    """The line with which a source is refused, be it when it is opened or when it is read."""
    with pytest.raises(InputError) as caught, open_source(str(path)) as source:
        for image in source.images:
            source.read(image)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("make, name", [(make_folder, "a folder"), (make_zip, "a.zip"), (make_rar, "a.RAR")])
def test_the_images_of_every_kind_of_source_are_seen_and_read(make, name, tmp_path):
    with open_source(str(make(tmp_path / name, FILES | LITTER))) as source:
        assert {image: source.read(image) for image in source.images if not image.startswith("__")} == {
            "set/query/1.jpg": b"first",
            "set/query/2.png": b"second",
        }
        assert {image: size for image, (size, _) in source.images.items()}["set/query/2.png"] == 6


def test_backslashes_in_a_zip_are_slashes(tmp_path):
    with open_source(str(make_zip(tmp_path / "a.zip", {"set\\query\\1.jpg": b"first"}))) as source:
        assert [source.read(image) for image in source.images] == [b"first"]
        assert list(source.images) == ["set/query/1.jpg"]


@pytest.mark.parametrize("make", [make_zip, make_rar])
@pytest.mark.parametrize("outer", [make_zip, make_rar])
def test_an_archive_in_an_archive_is_opened_without_a_trace(make, outer, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    name = "inner.rar" if make is make_rar else "inner.zip"
    content = make(tmp_path / name).read_bytes()
    path = outer(tmp_path / ("a.rar" if outer is make_rar else "a.zip"), {f"set/{name}": content, f"._{name}": b"x"})
    with open_source(str(path)) as source:
        assert source.archives == [f"set/{name}"] and source.images == {}
        with source.inner(f"set/{name}") as inner:
            assert inner.title == f"{path}/set/{name}"
            assert {image: inner.read(image) for image in inner.images} == {
                image: content for image, content in FILES.items() if not image.endswith(".txt")
            }
    assert os.listdir(tmp_path / "temporary") == []


def test_linked_folders_are_not_entered_and_a_link_to_nothing_is_empty(tmp_path):
    outside = make_folder(tmp_path / "outside")
    folder = make_folder(tmp_path / "inside", {"query/1.jpg": b"first"})
    (folder / "linked").symlink_to(outside)
    (folder / "up").symlink_to(folder)
    (folder / "query" / "2.jpg").symlink_to(tmp_path / "nowhere")
    with open_source(str(folder)) as source:
        assert {image: size for image, (size, _) in source.images.items()} == {"query/1.jpg": 5, "query/2.jpg": 0}


# Refusals


def test_a_source_that_is_not_there_or_of_another_kind_is_refused(tmp_path):
    assert refusal(tmp_path / "absent.zip").startswith(f"there is no {tmp_path / 'absent.zip'}: give the folder")
    other = tmp_path / "a.tar.gz"
    other.write_bytes(b"x")
    assert refusal(other) == f"{other} is neither a folder nor a .zip or .rar archive: unpack it and give the folder"


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
    assert line.startswith(f"{path}: query/2.jpg ") and "damaged" in line


def test_no_damage_of_a_zip_ends_in_anything_but_an_image_or_one_line(tmp_path):
    whole, generator = make_zip(tmp_path / "a.zip").read_bytes(), random.Random(0)
    outcomes = set()
    for _ in range(300):
        packed = bytearray(whole)
        packed[generator.randrange(len(packed))] = generator.randrange(256)
        (tmp_path / "b.zip").write_bytes(packed)
        try:
            with open_source(str(tmp_path / "b.zip")) as source:
                outcomes.add(all(isinstance(source.read(image), bytes) for image in source.images))
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.add("refused")
    assert outcomes == {True, "refused"}


def test_a_name_with_a_line_break_is_refused_in_one_line(tmp_path):
    path = make_zip(tmp_path / "a.zip", {"Icon\r": b"macOS has such files", "set/1\n2.jpg": b"x"})
    line = f"{path}: the name of the entry 'set/1\\n2.jpg' is damaged: get the archive anew"
    assert refusal(path) == line


def test_a_rar_with_a_time_that_cannot_be_is_refused(tmp_path, monkeypatch):
    def damaged(*_, **__):
        raise ValueError("microsecond must be in 0..999999")  # seen when bytes of an archive were changed at random

    monkeypatch.setattr(rarfile, "RarFile", damaged)
    line = f"{tmp_path / 'a.rar'} is damaged (microsecond must be in 0..999999): get the archive anew"
    assert refusal(make_rar(tmp_path / "a.rar")) == line


@pytest.mark.parametrize("make, name", [(make_zip, "a.zip"), (make_rar, "a.rar")])
def test_an_entry_that_leads_out_of_the_archive_is_refused(make, name, tmp_path):
    for entry in ("../1.jpg", "set/../../1.jpg", "/1.jpg", "..\\1.jpg", "\\1.jpg", "C:\\1.jpg"):
        path = make(tmp_path / name, FILES | {entry: b"x"})
        line = refusal(path)
        assert line.startswith(f"{path}: the entry '"), entry
        assert line.endswith("leads out of the archive: nothing is unpacked"), entry


def test_a_link_in_a_zip_is_refused(tmp_path):
    link = zipfile.ZipInfo("set/query")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc")
    assert refusal(tmp_path / "a.zip").endswith("the entry 'set/query' is a link: nothing is unpacked")


@pytest.mark.parametrize("kind", [stat.S_IFBLK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_device_in_an_archive_is_refused(kind, tmp_path):
    device = zipfile.ZipInfo("set/1.jpg")
    device.external_attr = (kind | 0o666) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(device, b"x")
    rar = make_rar(tmp_path / "a.rar", {"set/1.jpg": b"x"}, kind=kind)
    for path in (tmp_path / "a.zip", rar):
        assert refusal(path) == f"{path}: the entry 'set/1.jpg' is no file or folder: nothing is unpacked"


def test_a_link_in_a_rar_is_refused(tmp_path):
    path = make_rar(tmp_path / "a.rar", {"set/1.jpg": b"/etc/passwd"}, kind=stat.S_IFLNK)
    assert refusal(path) == f"{path}: the entry 'set/1.jpg' is a link: nothing is unpacked"


def test_an_image_that_is_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"set/1.jpg": bytes(LARGEST_IMAGE + 1)})
    assert path.stat().st_size < 2**17
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("something was unpacked"))
    line = f"{path}: set/1.jpg has 67,108,865 bytes, more than 67,108,864, as no image of a person has: "
    assert refusal(path) == line + "nothing is unpacked"


@pytest.mark.parametrize("names", [[f"set/{number}.jpg" for number in range(20)], ["set/inner.zip"]])
def test_entries_that_are_a_bomb_together_are_refused_before_they_are_unpacked(names, tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", dict.fromkeys(names, bytes(2**22)))
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("something was unpacked"))
    assert "unpacked, more than 100 times as many, as no images have: nothing is unpacked" in refusal(path)


@pytest.mark.parametrize("archives, images", [(1, 4), (3, 1)])
def test_archives_in_an_archive_are_held_together_to_the_size_of_the_outermost(archives, images, tmp_path):
    """Each of them is smaller than 100 times the one around it: of 2 MiB images, and of half a MiB of zeros, stored."""
    make_zip(tmp_path / "inner.zip", {f"set/{number}.jpg": bytes(2**21) for number in range(images)})
    with zipfile.ZipFile(tmp_path / "inner.zip", "a") as inner:
        inner.writestr("zeros.txt", bytes(2**19))
    noise, packed = random.Random(0).randbytes(2**16), (tmp_path / "inner.zip").read_bytes()
    path = make_zip(tmp_path / "a.zip", {"noise.txt": noise, **{f"{name}.zip": packed for name in range(archives)}})
    with contextlib.ExitStack() as opened:
        source = opened.enter_context(open_source(str(path)))
        *before, last = source.archives
        for name in before:
            opened.enter_context(source.inner(name))
        with pytest.raises(InputError, match="unpacked, more than 100 times as many") as caught:
            opened.enter_context(source.inner(last))
    assert str(caught.value).startswith(f"{path} has {path.stat().st_size:,} bytes, and ")


def test_an_entry_that_is_larger_than_it_tells_is_damaged_and_no_more_than_that_is_unpacked(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "a.zip", {"set/1.jpg": bytes(2**24)})
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 2**24), struct.pack("<I", 1000)))
    read, given = zipfile.ZipExtFile._read1, []

    def counted(file, size):
        given.append(len(data := read(file, size)))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "_read1", counted)
    assert refusal(path).startswith(f"{path}: set/1.jpg is damaged")
    assert sum(given) <= 2**16


def test_an_encrypted_zip_is_refused(tmp_path):
    packed = bytearray(make_zip(tmp_path / "a.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags in both headers of the first entry
        packed[packed.index(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(packed)
    line = f"{tmp_path / 'a.zip'} is encrypted: unpack it with its password and give the folder"
    assert refusal(tmp_path / "a.zip") == line


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_image_that_is_in_an_archive_twice_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("set/1.jpg", b"one")
        archive.writestr("set/1.jpg", b"other")
    assert "holds set/1.jpg twice" in refusal(tmp_path / "a.zip")


def test_without_a_tool_that_unpacks_rar_one_line_says_what_to_install(tmp_path, monkeypatch):
    """The archive says that it is compressed, which rarfile leaves to a tool. What a tool unpacks is not tested."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(rarfile, "CURRENT_SETUP", None)
    path = make_rar(tmp_path / "a.rar", method=0x33)
    assert refusal(path).startswith(f"{path}: nothing here unpacks .rar: install unar or unrar")


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "a folder")

    def forbidden(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", forbidden)
    assert refusal(folder) == f"cannot read {folder}: Permission denied"


def test_an_archive_that_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "a.zip").mkdir()
    with pytest.raises(InputError, match=f"cannot read {tmp_path / 'a.zip'}: Is a directory"):
        Archive(str(tmp_path / "a.zip"))
