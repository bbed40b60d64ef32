"""tools/prepare_data.py checks every name and image, and leaves nothing half-made behind."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import errno
import io
import multiprocessing
import os
import re
import shutil
import signal
import zipfile
from pathlib import Path

import pytest
from fastreid.data.datasets import DATASET_REGISTRY
from PIL import Image

from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.datasets.occluded_duke_names import official_names
from igoas_plugin.datasets.prepare import prepare, prepared_folder, recipes
from igoas_plugin.datasets.published import warn_once

SUBSETS = ("bounding_box_train", "query", "bounding_box_test")


def jpeg(seed=0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 8), (seed % 256, seed // 256 % 256, 9)).save(file, "JPEG")
    return file.getvalue()


# A few names of the official lists; the second query is in DukeMTMC-reID's query, the first in its bounding_box_test
FEW = {
    "bounding_box_train": ("0001_c2_f0046182.jpg", "0001_c2_f0046302.jpg", "0005_c8_f0001000.jpg"),
    "query": ("0019_c1_f0051230.jpg", "0019_c5_f0060626.jpg"),
    "bounding_box_test": ("0002_c1_f0044158.jpg", "0019_c1_f0051470.jpg", "7139_c4_f0000001.jpg"),
}
DUKE = {
    f"bounding_box_{part}/{name}": jpeg(index)
    for part, names in (("train", FEW["bounding_box_train"]), ("test", (*FEW["bounding_box_test"], FEW["query"][0])))
    for index, name in enumerate(names)
} | {f"query/{FEW['query'][1]}": jpeg(77), "query/0400_c3_f0000001.jpg": jpeg(78), "bounding_box_test/x.txt": b"text"}


@pytest.fixture
def few_names(monkeypatch):
    monkeypatch.setattr(recipes, "official_names", FEW.get)


def folder_of(path: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return str(path)


def zip_of(path: Path, files: dict[str, bytes], **kwargs) -> str:
    with zipfile.ZipFile(path, "w", **kwargs) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return str(path)


def tree(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def expected_duke() -> dict[str, bytes]:
    made = {f"{part}/{name}": DUKE.get(f"{part}/{name}") for part in SUBSETS for name in FEW[part]}
    made[f"query/{FEW['query'][0]}"] = DUKE[f"bounding_box_test/{FEW['query'][0]}"]
    return made


# Occluded-Duke


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_occluded_duke_is_made_from_a_folder_or_zip_of_any_name(kind, few_names, tmp_path):
    for number, inside in enumerate(("", "DukeMTMC-reID/", "some/where/deep/")):
        folder = tmp_path / str(number)
        folder.mkdir()
        files = {f"{inside}{name}": content for name, content in DUKE.items()}
        files |= {"__MACOSX/bounding_box_train/._0001_c2_f0046182.jpg": b"junk", "readme.txt": b""}
        source = folder_of(folder / "mine", files) if kind == "folder" else zip_of(folder / "mine.zip", files)
        line = prepare("occluded-duke", source, str(folder / "root"))
        assert tree(folder / "root" / "Occluded_Duke") == expected_duke(), inside
        assert line.endswith("images: 3 in bounding_box_train, 2 in query, 3 in bounding_box_test")
        assert os.listdir(folder / "root") == ["Occluded_Duke"]


@pytest.mark.slow
def test_the_official_lists_give_the_published_counts(tmp_path, host_log):
    image, first = jpeg(), tmp_path / "image.jpg"
    first.write_bytes(image)
    queries = official_names("query")
    places = {
        "bounding_box_train": official_names("bounding_box_train"),
        "query": queries[::2],
        "bounding_box_test": {*official_names("bounding_box_test"), *queries[1::2]},  # some are in both lists
    }
    for part, names in places.items():
        (tmp_path / "duke" / part).mkdir(parents=True)
        for name in names:
            os.link(first, tmp_path / "duke" / part / name)
    prepare("occluded-duke", str(tmp_path / "duke"), str(tmp_path / "root"), "symlink")
    data = DATASET_REGISTRY.get("OccludedDuke")(root=str(tmp_path / "root"))
    assert [len(items) for items in (data.train, data.query, data.gallery)] == [15618, 2210, 17661]
    assert host_log.records == []


def test_missing_and_empty_images_are_counted_and_the_first_is_named_before_anything_is_written(few_names, tmp_path):
    files = {name: content for name, content in DUKE.items() if "f0046302" not in name} | {
        "bounding_box_test/7139_c4_f0000001.jpg": b""
    }
    source = folder_of(tmp_path / "duke", files)
    with pytest.raises(
        InputError, match="duke: 2 of 8 images are missing or empty, the first is .*f0046302.jpg: get a"
    ):
        prepare("occluded-duke", source, str(tmp_path / "root"))
    assert os.listdir(tmp_path / "root") == []


# Again, and interrupted


def test_a_second_run_says_that_it_is_complete_and_touches_nothing(few_names, tmp_path):
    source, root = folder_of(tmp_path / "duke", DUKE), tmp_path / "root"
    prepare("occluded-duke", source, str(root))
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert "complete already" in prepare("occluded-duke", source, str(root))
    assert times == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_an_incomplete_target_is_refused_and_kept(few_names, tmp_path):
    source, root = folder_of(tmp_path / "duke", DUKE), tmp_path / "root"
    folder_of(root / "Occluded_Duke", {"query/0019_c1_f0051230.jpg": b"mine"})
    message = "Occluded_Duke differs from the source in 8 of 8 images, the first is .*: remove that folder or"
    with pytest.raises(InputError, match=message):
        prepare("occluded-duke", source, str(root))
    assert tree(root) == {"Occluded_Duke/query/0019_c1_f0051230.jpg": b"mine"}


def test_an_image_of_another_size_in_the_target_is_not_called_complete(few_names, tmp_path):
    source, root = folder_of(tmp_path / "duke", DUKE), tmp_path / "root"
    prepare("occluded-duke", source, str(root))
    (root / "Occluded_Duke" / "query" / "0019_c1_f0051230.jpg").write_bytes(b"cut off")
    with pytest.raises(
        InputError, match="in 1 of 8 images, the first is .*/Occluded_Duke/query/0019_c1_f0051230.jpg: remove"
    ):
        prepare("occluded-duke", source, str(root))


@pytest.mark.parametrize("link", ["copy", "hard", "symlink"])
def test_a_file_that_is_no_whole_image_is_named_and_nothing_is_left(link, few_names, tmp_path):
    contents = {"text": b"<html>404</html>", "cut off": jpeg(3)[:-200]}
    reasons = {"text": "it is no image, or of a kind that is not opened", "cut off": "Truncated"}
    for kind, content in contents.items():
        folder, files = tmp_path / kind, DUKE | {"query/0019_c1_f0051230.jpg": content}
        with pytest.raises(InputError, match=f"duke/query/0019_c1_f0051230.jpg cannot be read: {reasons[kind]}"):
            prepare("occluded-duke", folder_of(folder / "duke", files), str(folder / "root"), link)
        assert os.listdir(folder / "root") == []


def test_a_name_that_market_1501_cannot_have_is_refused(tmp_path):
    files = SETS["market-1501"][1] | {"query/person.jpg": jpeg()}
    with pytest.raises(InputError, match="query/person.jpg is not named as in Market1501: rename the file or take it"):
        prepare("market-1501", folder_of(tmp_path / "market", files), str(tmp_path / "root"))
    assert os.listdir(tmp_path / "root") == []


def test_folders_beside_the_data_set_with_parts_of_the_same_names_are_not_taken_for_it(tmp_path):
    files = SETS["partial-reid"][1]
    for number, companion in enumerate(("Partial-REID_Dataset/masks", "Partial-REID_Dataset_ps_label", "other/copy")):
        root, folders = tmp_path / f"root{number}", ("Partial-REID_Dataset", companion)
        inside = {f"{folder}/{path}": each for folder in folders for path, each in files.items()}
        prepare("partial-reid", folder_of(tmp_path / str(number) / "partial_reid", inside), str(root))
        assert len(tree(root / "Partial-REID_Dataset")) == len(files), companion


def test_what_was_not_looked_at_is_told(tmp_path):
    files = bodies(("query", "gallery"), "{p:03d}_{i:02d}.jpg")
    zip_of(tmp_path / "Occluded_REID.zip", files)
    folder_of(tmp_path / "x", files)
    with pytest.raises(InputError, match="the archive .*Occluded_REID.zip is not unpacked, but can be --source itself"):
        prepare("occluded-reid", str(tmp_path), str(tmp_path / "root"))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_an_interrupted_run_leaves_nothing_and_can_be_run_again(kind, few_names, tmp_path, monkeypatch):
    source = folder_of(tmp_path / "d", DUKE) if kind == "folder" else zip_of(tmp_path / "d.zip", DUKE)
    root, put, done = tmp_path / "root", prepared_folder.put, []

    def put_five(*args):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(args)
        put(*args)

    monkeypatch.setattr(prepared_folder, "put", put_five)
    with pytest.raises(KeyboardInterrupt):
        prepare("occluded-duke", source, str(root))
    assert os.listdir(root) == []
    monkeypatch.setattr(prepared_folder, "put", put)
    prepare("occluded-duke", source, str(root))
    assert tree(root / "Occluded_Duke") == expected_duke() and os.listdir(root) == ["Occluded_Duke"]


FORK = multiprocessing.get_context("fork")  # a spawned process would take seconds to import torch


def prepare_in_two_parts(source, root, begun, go_on) -> None:
    """Prepares Occluded-Duke, and waits for an event after the first image."""
    put = prepared_folder.put

    def put_and_wait(*args):
        put(*args)
        begun.set()
        go_on.wait(60)

    prepared_folder.put = put_and_wait
    prepare("occluded-duke", source, str(root))


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_what_a_killed_process_left_is_removed_by_the_next_one(kind, few_names, tmp_path):
    source = folder_of(tmp_path / "d", DUKE) if kind == "folder" else zip_of(tmp_path / "d.zip", DUKE)
    root, begun = tmp_path / "root", FORK.Event()
    process = FORK.Process(target=prepare_in_two_parts, args=(source, str(root), begun, FORK.Event()))
    process.start()
    assert begun.wait(60)
    process.kill()
    process.join(60)
    (left,) = os.listdir(root)
    assert left.endswith(".writing")
    prepare("occluded-duke", source, str(root))
    assert tree(root / "Occluded_Duke") == expected_duke() and os.listdir(root) == ["Occluded_Duke"]


@pytest.mark.fault
@pytest.mark.parametrize("killed", [False, True], ids=["both end", "the first is killed"])
def test_two_processes_at_once_leave_one_whole_data_set(few_names, tmp_path, killed):
    source, root, begun, go_on = folder_of(tmp_path / "duke", DUKE), tmp_path / "root", FORK.Event(), FORK.Event()
    first = FORK.Process(target=prepare_in_two_parts, args=(source, root, begun, go_on))
    first.start()
    assert begun.wait(60)
    assert not prepare("occluded-duke", source, str(root)).endswith("(complete already, nothing was written)")
    first.kill() if killed else go_on.set()
    first.join(60)
    assert first.exitcode == (-signal.SIGKILL if killed else 0)
    assert prepare("occluded-duke", source, str(root)).endswith("(complete already, nothing was written)")
    assert tree(root / "Occluded_Duke") == expected_duke()
    assert os.listdir(root) == ["Occluded_Duke"]


# The other sets

BODIES = ("occluded_body_images", "partial_body_images", "whole_body_images")


def bodies(parts, name="{p:03d}/{p:03d}_{i:02d}.tif", identities=3):
    return {
        f"{part}/{name.format(p=p, i=i)}": jpeg(p * 10 + i)
        for part in parts
        for p in range(1, identities + 1)
        for i in (1, 2)
    }


SETS = {
    "occluded-reid": ("Occluded_REID", bodies(("occluded_body_images", "whole_body_images")), ("OccludedREID", 6, 6)),
    "p-ethz": ("P_ETHZ", bodies(("occluded_body_images", "whole_body_images")), ("PETHZ", 6, 6)),
    "p-dukemtmc": (
        "P-DukeMTMC-reid",
        bodies([f"{half}/{part}" for half in ("train", "test") for part in BODIES[::2]]),
        ("PDukeMTMC", 6, 6),
    ),
    "partial-reid": ("Partial-REID_Dataset", bodies(BODIES, "{p:03d}_{i:03d}.jpg"), ("PartialREID", 6, 6)),
    "partial-ilids": (
        "Partial_iLIDS",
        bodies(("Probe", "Gallery", "partial_iLIDS_Probe_nocrop"), "{p}{i}.jpg"),
        ("PartialiLIDS", 6, 6),
    ),
    "market-1501": (
        "Market-1501-v15.09.15",
        {f"{part}/{p:04d}_c{c}s1_000001_00.jpg": jpeg(p) for part in SUBSETS for p in range(1, 4) for c in (1, 2)},
        ("Market1501", 6, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "zip", "zip in a zip"])
def test_every_set_is_made_and_read_and_its_counts_are_warned_of(kind, tmp_path, host_log):
    warn_once.cache_clear()  # the same line is said once in a process
    for name, (folder, files, (registered, queries, gallery)) in SETS.items():
        here = tmp_path / name
        here.mkdir()
        inside = {f"{folder}/{path}": content for path, content in files.items()} | {f"{folder}/.DS_Store": b""}
        if kind == "folder":
            source = folder_of(here / "mine", inside)
        else:
            source = zip_of(here / "mine.zip", inside)
        if kind == "zip in a zip":
            other = zip_of(here / "other.zip", {"Other/readme.txt": b""})
            both = {
                "mine.zip": Path(source).read_bytes(),
                "other.zip": Path(other).read_bytes(),
                "__MACOSX/._mine.zip": b"x",
            }
            source = zip_of(here / "dataset.zip", both)
        prepare(name, source, str(here / "root"))
        assert tree(here / "root" / folder) == files, name
        assert f"{registered}: " in " ".join(record.getMessage() for record in host_log.records)
        data = DATASET_REGISTRY.get(registered)(root=str(here / "root"))
        assert (len(data.query), len(data.gallery)) == (queries, gallery), name


def test_the_layout_of_another_project_becomes_that_of_the_authors(tmp_path):
    files = bodies(("query", "gallery"), "{p:03d}_{i:02d}.jpg")
    prepare("occluded-reid", folder_of(tmp_path / "OccludedREID", files), str(tmp_path / "root"))
    made = tree(tmp_path / "root" / "Occluded_REID")
    names = {"query": "occluded_body_images", "gallery": "whole_body_images"}
    assert made == {f"{names[path.split('/')[0]]}/{path.split('/')[1]}": content for path, content in files.items()}


def test_a_set_of_other_parts_of_one_name_is_not_taken_for_another(tmp_path):
    source = folder_of(tmp_path / "all", {f"P_ETHZ/{path}": each for path, each in SETS["p-ethz"][1].items()})
    with pytest.raises(
        InputError, match="no folder in it holds images of OccludedREID in occluded_body_images and whole_body_images"
    ):
        prepare("occluded-reid", source, str(tmp_path / "root"))


def test_folders_of_one_name_do_not_make_another_set_of_duke(tmp_path):
    source = folder_of(tmp_path / "DukeMTMC-reID", DUKE)
    for name in ("market-1501", "p-dukemtmc", "occluded-reid"):
        with pytest.raises(InputError, match="no folder in it holds images of"):
            prepare(name, source, str(tmp_path / "root"))
    assert os.listdir(tmp_path / "root") == []


def test_p_duke_in_market_style_becomes_readable(tmp_path, host_log):
    files = {f"{part}/{p:04d}_c1_00001_0{n}.jpg": jpeg(p) for part in SUBSETS for p in (1, 2) for n in (1, 2)}
    source = folder_of(tmp_path / "x", {f"P-DukeMTMC-reid/format/{path}": each for path, each in files.items()})
    prepare("p-dukemtmc", source, str(tmp_path / "root"))
    data = DATASET_REGISTRY.get("PDukeMTMC")(root=str(tmp_path / "root"))
    assert (len(data.train), len(data.query), len(data.gallery)) == (4, 4, 4)


def test_the_test_half_of_p_duke_is_made_and_the_other_one_missed(tmp_path, host_log):
    files = {path: each for path, each in SETS["p-dukemtmc"][1].items() if path.startswith("test/")}
    prepare("p-dukemtmc", folder_of(tmp_path / "half", files), str(tmp_path / "root"))
    assert tree(tmp_path / "root" / "P-DukeMTMC-reid") == files
    assert "PDukeMTMC: train (nothing in" in host_log.records[0].getMessage()


def test_an_inner_archive_that_is_named_after_another_set_is_not_even_opened(tmp_path):
    files = bodies(BODIES, "{p:03d}_{i:03d}.jpg")
    inner = Path(zip_of(tmp_path / "mine.zip", files)).read_bytes()
    source = zip_of(tmp_path / "all.zip", {"in/Partial_iLIDS.zip": b"damaged", "in/mine.zip": inner})
    prepare("partial-reid", source, str(tmp_path / "root"))
    assert tree(tmp_path / "root" / "Partial-REID_Dataset") == files


def test_a_hard_link_to_another_file_system_is_refused_and_leaves_nothing(few_names, tmp_path, monkeypatch):
    def across(image, path):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", across)
    message = "cannot write .*: Invalid cross-device link: choose another --root, or --link copy"
    with pytest.raises(OutputError, match=message):
        prepare("occluded-duke", folder_of(tmp_path / "duke", DUKE), str(tmp_path / "root"), "hard")
    assert os.listdir(tmp_path / "root") == []


def test_a_root_that_cannot_be_written_is_one_line(few_names, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write .*Occluded_Duke: Not a directory: choose another --root"):
        prepare("occluded-duke", folder_of(tmp_path / "duke", DUKE), str(tmp_path / "file" / "root"))


@pytest.mark.parametrize("link", ["hard", "symlink"])
def test_links_lead_to_the_images_from_anywhere(link, few_names, tmp_path, monkeypatch):
    folder_of(tmp_path / "duke", DUKE)
    monkeypatch.chdir(tmp_path)
    prepare("occluded-duke", "duke", "root", link)
    monkeypatch.chdir(tmp_path.parent)
    made = tmp_path / "root" / "Occluded_Duke"
    assert tree(made) == expected_duke()
    path, original = made / "query" / FEW["query"][1], tmp_path / "duke" / "query" / FEW["query"][1]
    assert path.is_symlink() == (link == "symlink") and os.path.samefile(path, original)


# Bad input


def damaged_zip(path):
    source = Path(zip_of(path, DUKE))
    content = bytearray(source.read_bytes())
    content[content.index(b"JFIF") + 20] ^= 0xFF  # within the first image, stored as it is
    source.write_bytes(content)
    return str(source)


def text_file(path):
    path = path.with_suffix(".txt")
    path.write_text("no archive")
    return str(path)


BAD = {
    "missing": (lambda path: str(path), "source.zip does not exist: give --source the folder or archive"),
    "no archive": (text_file, r"there is no folder or .zip or .rar archive .*source.txt: give what holds"),
    "no zip": (lambda path: path.write_text("text") and str(path), "source.zip cannot be unpacked"),
    "damaged image": (damaged_zip, r"source.zip: bounding_box_train/0001_c2_f0046182.jpg cannot be unpacked \(Bad CRC"),
    "leaves its folder": (
        lambda path: zip_of(path, {**DUKE, "../evil.jpg": b"x"}),
        "source.zip: ../evil.jpg leads out of the archive",
    ),
    "empty": (
        lambda path: zip_of(path, {}),
        "no folder in it holds images of OccludedDuke in bounding_box_train and query and",
    ),
    "no part of it": (lambda path: zip_of(path, {"a/b.jpg": b"x"}), "no folder in it holds images of OccludedDuke in"),
}


def test_a_mistake_is_one_line_and_leaves_nothing(few_names, tmp_path, call_tool):
    faults = {}
    for mistake, (make, message) in BAD.items():
        folder = tmp_path / mistake
        (folder / "in").mkdir(parents=True)
        root, source = folder / "out" / "root", make(folder / "in" / "source.zip")
        done = call_tool("prepare_data", "occluded-duke", "--source", source, "--root", root)
        line = done.stderr.strip()
        one_line = re.match(r"igoas_plugin \S+: ", line) and "\n" not in line and re.search(message, line)
        left = [*folder.rglob("*evil*"), *(root.iterdir() if root.exists() else ())]
        if done.returncode != 2 or not one_line or left:
            faults[mistake] = (done.returncode, line, left)
    assert faults == {}


def test_a_process_of_its_own_prints_what_the_tool_prints_in_the_process_of_the_tests(tmp_path, call_tool):
    source = folder_of(tmp_path / "x" / "Occluded_REID", SETS["occluded-reid"][1])
    words = ("prepare_data", "occluded-reid", "--source", source, "--root", tmp_path / "root")
    here = call_tool(*words)
    shutil.rmtree(tmp_path / "root")
    done = call_tool(*words, process=True)
    assert (done.returncode, here.returncode) == (0, 0)
    assert done.stdout == here.stdout and "Occluded_REID" in done.stdout
    assert done.stderr == here.stderr and "do not compare with published ones" in done.stderr


def test_two_folders_that_can_be_the_set_are_both_named(few_names, tmp_path):
    files = {f"{copy}/{name}": content for copy in ("one", "two") for name, content in DUKE.items()}
    with pytest.raises(InputError, match="(one|two) and .*(one|two) can both be OccludedDuke: give the right one"):
        prepare("occluded-duke", folder_of(tmp_path / "mine", files), str(tmp_path / "root"))


def test_a_name_that_cannot_be_read_is_refused_and_nothing_is_left(tmp_path):
    files = bodies(("occluded_body_images", "whole_body_images")) | {"occluded_body_images/person.tif": jpeg()}
    with pytest.raises(InputError, match="person.tif: neither name nor folder tells an identity"):
        prepare("occluded-reid", folder_of(tmp_path / "Occluded_REID", files), str(tmp_path / "root"))
    assert os.listdir(tmp_path / "root") == []


@pytest.mark.parametrize("link", ["hard", "symlink"])
def test_nothing_in_an_archive_can_be_linked_to(link, few_names, tmp_path):
    with pytest.raises(InputError, match="nothing in an archive can be linked to: take --link copy"):
        prepare("occluded-duke", zip_of(tmp_path / "d.zip", DUKE), str(tmp_path / "root"), link)


def test_a_full_disk_is_one_line_and_leaves_nothing(few_names, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepared_folder, "put", full)
    with pytest.raises(
        OutputError, match="cannot write .*Occluded_Duke: No space .*: make room, or choose another --root"
    ):
        prepare("occluded-duke", folder_of(tmp_path / "duke", DUKE), str(tmp_path / "root"))
    assert os.listdir(tmp_path / "root") == []


# What the tool writes, the data sets read

ODD = {
    "-1_c1s1_000051_00.jpg": None,  # junk
    "0000_c2s1_000076_00.JPEG": (0, 1),
    "0002_c1s1_000451_03.JPG": (2, 0),
    "0007_c6s3_077419_03 (copy).png": (7, 5),
    "1501_c3s3_000001_00[1].bmp": (1501, 2),
}


def test_the_reader_of_market_1501_sees_every_image_that_is_written(tmp_path):
    files = {f"{part}/{name}": jpeg(index) for part in SUBSETS for index, name in enumerate(ODD)}
    files |= {"query/deeper/0002_c1s1_000451_03.jpg": jpeg(), "query/._0002_c1s1_000451_03.jpg": b"junk"}
    source = folder_of(tmp_path / "run [1] 3_c4_" / "a*b" / "Market1501", files)
    root = tmp_path / "data sets [2] 5_c6_"
    line = prepare("market-1501", source, str(root))
    assert line.endswith("images: 5 in bounding_box_train, 5 in query, 5 in bounding_box_test")
    data = DATASET_REGISTRY.get("Market1501")(root=str(root))
    expected = [labels for labels in ODD.values() if labels]
    assert [tuple(labels) for _, *labels in data.query] == [tuple(labels) for _, *labels in data.gallery] == expected
    assert [labels for _, *labels in data.train] == [[f"market1501_{p}", f"market1501_{c}"] for p, c in expected]
    written = {name for name in tree(root) if "/query/" in name}
    assert {os.path.relpath(path, root) for path, *_ in data.query} == {name for name in written if "/-1_" not in name}


def test_the_readers_of_bodies_see_every_image_that_is_written(tmp_path, host_log):
    names = ("001.JPG", "002/01.png", "a [b]/003/003_c1.tiff", "a [b]/c/d/004.jpg")
    files = {f"{part}/{name}": jpeg(index) for part in BODIES[::2] for index, name in enumerate(names)}
    root = tmp_path / "data [2]"
    prepare("occluded-reid", folder_of(tmp_path / "[1]" / "Occluded_REID", files), str(root))
    data = DATASET_REGISTRY.get("OccludedREID")(root=str(root))
    assert {identity for _, identity, _ in data.query} == {1, 2, 3}  # the fourth lies too deep, for both
    assert sorted(path for path, *_ in data.query + data.gallery) == sorted(map(str, root.rglob("*.*")))


@pytest.mark.parametrize(
    "name, message",
    [
        ("2000_c1s1_000451_03.jpg", "query/2000_c1s1_000451_03.jpg does not tell identity and camera as"),
        ("0003_c7s1_000451_03.jpg", "query/0003_c7s1_000451_03.jpg does not tell identity and camera as"),
        ("0001_c1s1_000001_00.png", "query/0001_c1s1_000001_00.jpg and .*_00.png are one image twice: remove one"),
    ],
)
def test_what_the_reader_of_market_1501_does_not_take_is_not_written(name, message, tmp_path):
    files = SETS["market-1501"][1] | {f"query/{name}": jpeg()}
    with pytest.raises(InputError, match=message):
        prepare("market-1501", folder_of(tmp_path / "market", files), str(tmp_path / "root"))
    assert os.listdir(tmp_path / "root") == []


def test_a_data_set_is_named_in_any_case_and_an_unknown_one_with_those_that_are_known(tmp_path):
    for name in ("market-1501", "Market1501", "MARKET_1501"):
        with pytest.raises(InputError, match="there is no folder or .zip or .rar archive"):
            prepare(name, str(tmp_path / "absent"), str(tmp_path / "root"))
    with pytest.raises(InputError, match="^NAME .*duke"):
        prepare("duke", str(tmp_path), str(tmp_path / "root"))
