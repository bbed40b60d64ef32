import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import inspect
import json
import multiprocessing
import os
import random
import re
import shutil
import sys
import time
from collections import Counter
from dataclasses import astuple

import numpy as np
import pytest
import torch
from fastreid.data.data_utils import read_image
from fastreid.data.datasets import DATASET_REGISTRY

from igoas_plugin.core.errors import InputError, OutputError
from igoas_plugin.datasets import ToyOccluded, drawn_folder
from igoas_plugin.datasets.drawn_folder import MANIFEST
from igoas_plugin.datasets.toy import camera, picture, toy_occluded
from igoas_plugin.datasets.toy.camera import CAMERAS
from igoas_plugin.datasets.toy.clutter import CLUTTER
from igoas_plugin.datasets.toy.picture import LEAST_COVERED, MOST_COVERED, draw_picture, pedestrian, share_covered
from igoas_plugin.datasets.toy.scene_source import source
from igoas_plugin.datasets.toy.toy_occluded import VERSION, Plan

SHOTS = Plan().shots()
SUBSETS = ("bounding_box_train", "query", "bounding_box_test")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Makes it five identities and 34 images, instead of 116 and 840."""
    monkeypatch.setattr(ToyOccluded, "plan", Plan(train=2, test=2, distractors=1))


def of(subset):
    return [shot for shot in SHOTS if shot.subset == subset]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What it holds


def test_the_host_finds_it_by_its_name():
    assert DATASET_REGISTRY.get("ToyOccluded") is ToyOccluded


def test_the_counts_are_those_of_the_docstring():
    for subset, label in zip(SUBSETS, ("train", "query", "gallery"), strict=True):
        row = re.search(rf"^{label} +(\d+) +(\d+) +(\d+) ", inspect.getdoc(ToyOccluded), re.MULTILINE)
        images, identities, cameras = map(int, row.groups())
        shots = of(subset)
        assert len(shots) == images
        assert len({shot.identity for shot in shots}) == identities
        assert len({shot.camera for shot in shots}) == cameras


def test_it_is_large_enough_to_learn_from():
    assert len({shot.identity for shot in of("bounding_box_train")}) >= 60
    assert len({shot.identity for shot in of("query")}) >= 40
    assert len(CAMERAS) >= 4
    assert set(Counter(shot.identity for shot in of("bounding_box_train")).values()) == {8}


def test_no_training_identity_is_tested():
    train = {shot.identity for shot in of("bounding_box_train")}
    assert not train & {shot.identity for shot in of("query") + of("bounding_box_test")}


def test_no_two_images_have_one_path_or_one_seed():
    assert len({shot.path for shot in SHOTS}) == len(SHOTS)
    assert len({(shot.identity, shot.camera, shot.index) for shot in SHOTS}) == len(SHOTS)


def test_each_query_has_three_right_answers_in_other_cameras():
    gallery = of("bounding_box_test")
    for query in of("query"):
        cameras = {shot.camera for shot in gallery if shot.identity == query.identity} - {query.camera}
        assert len(cameras) == 3


def test_each_camera_has_queries():
    assert Counter(shot.camera for shot in of("query")) == dict.fromkeys(range(4), 30)


def test_the_gallery_has_identities_that_nobody_looks_for():
    queried = {shot.identity for shot in of("query")}
    assert len({shot.identity for shot in of("bounding_box_test")} - queried) == 12


def test_the_items_are_of_the_form_that_the_host_takes(tmp_path):
    data = ToyOccluded(root=str(tmp_path))
    train, query, gallery = (tmp_path / "ToyOccluded" / subset for subset in SUBSETS)
    assert data.train[:3] == [
        (str(train / "0001_c1_000.png"), "toyoccluded_1", "toyoccluded_0"),
        (str(train / "0001_c1_001.png"), "toyoccluded_1", "toyoccluded_0"),
        (str(train / "0001_c2_000.png"), "toyoccluded_1", "toyoccluded_1"),
    ]
    # identity 3 is in no query of camera 3 (counted from 0), so its first three cameras are
    assert data.query[:3] == [(str(query / f"0003_c{camera + 1}_000.png"), 3, camera) for camera in range(3)]
    assert data.gallery[-1] == (str(gallery / "0005_c4_001.png"), 5, 3)
    assert (len(data.train), len(data.query), len(data.gallery)) == (16, 6, 12)


def test_the_host_reads_every_image_as_rgb_of_64_by_128(tmp_path):
    data = ToyOccluded(root=str(tmp_path))
    for path, _, _ in data.train + data.query + data.gallery:
        image = read_image(path)
        assert (image.mode, image.size) == ("RGB", (64, 128))


def test_training_and_test_images_can_be_combined(tmp_path):
    data = ToyOccluded(root=str(tmp_path), combineall=True)
    assert data.get_num_pids(data.train) == 5


# What is drawn


def test_every_query_is_occluded_within_the_stated_range():
    assert (LEAST_COVERED, MOST_COVERED) == (0.2, 0.5)
    for shot in of("query"):
        drawn = draw_picture(shot.identity, shot.camera, shot.index, shot.occluded)
        assert LEAST_COVERED <= share_covered(drawn.person, drawn.clutter) <= MOST_COVERED, shot


def test_half_of_the_training_images_are_occluded():
    shots = of("bounding_box_train")
    assert Counter((shot.index, shot.occluded) for shot in shots) == {(0, False): 256, (1, True): 256}
    for shot in shots[::17]:
        assert draw_picture(shot.identity, shot.camera, shot.index, shot.occluded).clutter.any() == shot.occluded


def test_a_third_of_the_gallery_is_occluded():
    assert np.mean([shot.occluded for shot in of("bounding_box_test")]) == pytest.approx(1 / 3, abs=0.01)


def test_clutter_changes_the_picture_only_where_it_stands(monkeypatch):
    """Compares pictures without the camera's light, in which pixels away from the clutter are equal."""
    monkeypatch.setattr(camera.Camera, "expose", lambda self, image, rng: image)
    whole, hidden = (draw_picture(70, 1, 0, occluded) for occluded in (False, True))
    changed = (np.asarray(whole.image) != np.asarray(hidden.image)).any(axis=2)
    coarse = hidden.clutter.reshape(128, picture.OVERSAMPLING, 64, picture.OVERSAMPLING).any(axis=(1, 3))
    assert changed.any()
    assert not (changed & ~coarse).any()


def test_every_kind_of_clutter_comes_up_in_the_queries(monkeypatch):
    seen = Counter()

    def counted(kind):
        def draw(*args):
            seen[kind.__name__] += 1
            kind(*args)

        return draw

    monkeypatch.setattr("igoas_plugin.datasets.toy.clutter.CLUTTER", tuple(map(counted, CLUTTER)))
    for shot in of("query")[::2]:
        draw_picture(shot.identity, shot.camera, shot.index, shot.occluded)
    assert set(seen) == {kind.__name__ for kind in CLUTTER}
    assert len(seen) >= 6


def test_a_pedestrian_fills_a_fair_part_of_the_picture():
    shares = [
        draw_picture(shot.identity, shot.camera, shot.index, False).person.mean()
        for shot in of("bounding_box_train")[::13]
    ]
    assert min(shares) > 0.12 and max(shares) < 0.6


def test_no_two_identities_look_alike_but_neighbours_share_their_colours():
    people = [pedestrian(identity) for identity in sorted({shot.identity for shot in SHOTS})]
    assert len({astuple(person)[2:] for person in people}) == len(people) == 116
    for one, other in zip(people[::2], people[1::2], strict=True):
        assert (one.top_colour, one.bottom_colour) == (other.top_colour, other.bottom_colour)
    assert len({person.top_colour for person in people}) >= 6


def test_the_cameras_differ_in_place_and_light():
    plain = [np.asarray(camera.background(each, (64, 128), source("shot", 1, 0, 0)), float) for each in range(4)]
    lit = [
        np.asarray(CAMERAS[each].expose(draw_picture(1, 0, 0, False).image, source("shot", 1, 0, 0)), float)
        for each in range(4)
    ]
    for one in range(4):
        for other in range(one):
            assert np.abs(plain[one] - plain[other]).mean() > 10
            assert np.abs(lit[one] - lit[other]).mean() > 3


# The same on every run


def test_two_generations_are_equal_byte_for_byte(tmp_path):
    for name, seed in (("one", 1), ("two", 2)):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        camera._scene.cache_clear()
        ToyOccluded(root=str(tmp_path / name))
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert len(one) == 34 + 1
    assert one == two


def test_a_picture_does_not_depend_on_what_was_drawn_before():
    first = draw_picture(9, 2, 0, True)
    draw_picture(8, 1, 0, False)
    again = draw_picture(9, 2, 0, True)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.image.tobytes() != draw_picture(9, 2, 1, True).image.tobytes()


def test_the_global_random_generators_are_left_alone(tmp_path):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    ToyOccluded(root=str(tmp_path))
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_the_file_on_disk_is_the_picture_of_its_name(tmp_path):
    ToyOccluded(root=str(tmp_path))
    on_disk = read_image(str(tmp_path / "ToyOccluded" / "query" / "0003_c2_000.png"))
    assert on_disk.tobytes() == draw_picture(identity=3, camera=1, index=0, occluded=True).image.tobytes()


# Made once, and safely


def test_what_is_there_is_not_drawn_again(tmp_path, monkeypatch):
    ToyOccluded(root=str(tmp_path))
    monkeypatch.setattr(toy_occluded, "draw_picture", lambda *args: pytest.fail("drawn again"))
    assert len(ToyOccluded(root=str(tmp_path)).train) == 16


def test_nothing_but_the_data_set_is_left_beside_it(tmp_path):
    ToyOccluded(root=str(tmp_path / "new" / "root"))
    assert os.listdir(tmp_path / "new" / "root") == ["ToyOccluded"]
    assert sorted(os.listdir(tmp_path / "new" / "root" / "ToyOccluded")) == sorted([*SUBSETS, MANIFEST])


def test_a_folder_without_manifest_is_refused_and_kept(tmp_path):
    kept = tmp_path / "ToyOccluded" / "query" / "holiday.jpg"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"mine")
    with pytest.raises(InputError, match=rf"{re.escape(str(tmp_path / 'ToyOccluded'))} is not complete, or was"):
        ToyOccluded(root=str(tmp_path))
    assert contents(tmp_path) == {"ToyOccluded/query/holiday.jpg": b"mine"}


@pytest.mark.parametrize(
    "damage", ["an image", "a folder", "{bad", '{"version": 2, "images": []}', '{"version": 2, "images": {"": "16"}}']
)
def test_a_damaged_folder_is_refused(tmp_path, damage):
    ToyOccluded(root=str(tmp_path))
    folder = tmp_path / "ToyOccluded"
    if damage == "an image":
        (folder / "query" / "0003_c1_000.png").unlink()
    elif damage == "a folder":
        (folder / "query").rename(folder / "queries")
    else:
        (folder / MANIFEST).write_text(damage)
    with pytest.raises(
        InputError, match="ToyOccluded is not complete, or was drawn from other images: remove that folder"
    ):
        ToyOccluded(root=str(tmp_path))


def test_the_folder_of_another_version_is_refused_and_both_versions_are_named(tmp_path):
    ToyOccluded(root=str(tmp_path))
    manifest = tmp_path / "ToyOccluded" / MANIFEST
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": VERSION - 1}))
    with pytest.raises(InputError, match=f"version {VERSION - 1} of the drawing, .* is version {VERSION}: remove"):
        ToyOccluded(root=str(tmp_path))


def test_a_root_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write .*file.* environment variable FASTREID_DATASETS") as caught:
        ToyOccluded(root=str(tmp_path / "file"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_generation_that_breaks_off_leaves_nothing(tmp_path, monkeypatch, error):
    draw, calls = toy_occluded.draw_picture, []

    def breaks_off(*args):
        calls.append(args)
        if len(calls) == 3:
            raise error
        return draw(*args)

    monkeypatch.setattr(toy_occluded, "draw_picture", breaks_off)
    with pytest.raises(error):
        ToyOccluded(root=str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("module, name, reason", [
    (drawn_folder.json, "dump", "No space left on device"),
    (os, "rename", "Input/output error"),  # for another reason than that the folder is there
])  # fmt: skip
def test_writing_that_fails_is_one_clear_line_and_leaves_nothing(module, name, reason, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise OSError(5, reason)

    monkeypatch.setattr(module, name, fails)
    with pytest.raises(OutputError, match=f"cannot write .*ToyOccluded: {reason}"):
        ToyOccluded(root=str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_the_folder_of_a_process_that_was_faster_is_used(tmp_path, monkeypatch):
    rename, ours = drawn_folder.rename_finished, []

    def overtaken(folder, target):
        shutil.copytree(folder, target)
        ours.append(rename(folder, target))

    monkeypatch.setattr(drawn_folder, "rename_finished", overtaken)
    data = ToyOccluded(root=str(tmp_path))
    assert len(data.train) == 16
    assert os.listdir(tmp_path) == ["ToyOccluded"]
    assert ours == [False]


def test_a_foreign_folder_that_appears_meanwhile_is_refused_and_kept(tmp_path, monkeypatch):
    rename = drawn_folder.rename_finished

    def overtaken(folder, target):
        (tmp_path / "ToyOccluded").mkdir()
        (tmp_path / "ToyOccluded" / "note").write_text("mine")
        rename(folder, target)

    monkeypatch.setattr(drawn_folder, "rename_finished", overtaken)
    with pytest.raises(InputError, match="is not complete, or was"):
        ToyOccluded(root=str(tmp_path))
    assert contents(tmp_path) == {"ToyOccluded/note": b"mine"}


# Forked, as the drawing needs no torch: a spawned process would take seconds to import it.
forked = pytest.mark.skipif(sys.platform != "linux", reason="needs a safe fork")


@forked
def test_two_processes_at_once_both_succeed_and_leave_one_data_set(tmp_path, monkeypatch):
    ToyOccluded(root=str(tmp_path / "alone"))
    fork = multiprocessing.get_context("fork")
    both_have_drawn, rename = fork.Barrier(2), drawn_folder.rename_finished

    def wait_and_rename(*args):
        both_have_drawn.wait(600)
        return rename(*args)

    monkeypatch.setattr(drawn_folder, "rename_finished", wait_and_rename)
    root = tmp_path / "shared"
    processes = [fork.Process(target=ToyOccluded, kwargs={"root": str(root)}) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert os.listdir(root) == ["ToyOccluded"]
    assert contents(root) == contents(tmp_path / "alone")


@forked
def test_of_two_processes_one_killed_while_it_draws_the_other_finishes_and_tidies_up(tmp_path, monkeypatch):
    ToyOccluded(root=str(tmp_path / "alone"))
    root, fork, draw = tmp_path / "shared", multiprocessing.get_context("fork"), toy_occluded.draw_picture
    half_drawn = fork.Event()

    def draw_one_and_wait(*args):
        if half_drawn.is_set():
            time.sleep(600)
        half_drawn.set()
        return draw(*args)

    monkeypatch.setattr(toy_occluded, "draw_picture", draw_one_and_wait)
    killed = fork.Process(target=ToyOccluded, kwargs={"root": str(root)})
    killed.start()
    assert half_drawn.wait(600)
    (half,) = os.listdir(root)

    def kill_and_draw(*args):
        assert os.path.isdir(root / half)  # the folder of a running process is left alone
        killed.kill()
        killed.join(600)
        monkeypatch.setattr(toy_occluded, "draw_picture", draw)
        return draw(*args)

    monkeypatch.setattr(toy_occluded, "draw_picture", kill_and_draw)
    ToyOccluded(root=str(root))
    assert sorted(os.listdir(root)) == sorted([half, "ToyOccluded"])
    assert contents(root / "ToyOccluded") == contents(tmp_path / "alone" / "ToyOccluded")
    shutil.rmtree(root / "ToyOccluded")
    ToyOccluded(root=str(root))
    assert os.listdir(root) == ["ToyOccluded"]


# What it says


def test_a_generation_says_one_line_and_a_second_use_none(tmp_path, host_log):
    for _ in range(2):
        ToyOccluded(root=str(tmp_path))
    messages = [record.getMessage() for record in host_log.records]
    assert messages == [f"ToyOccluded: drawing 34 images into {tmp_path / 'ToyOccluded'}"]
