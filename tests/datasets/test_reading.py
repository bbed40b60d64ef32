"""Several training sets: identities and cameras of two sets are never one."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import pytest
from fastreid.data import build_reid_train_loader
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.market_style import SUBSETS
from igoas_plugin.datasets.reading import kept_apart, open_data, read_split, read_training, shown_camera
from igoas_plugin.preflight import check_training_data


@pytest.fixture
def register(monkeypatch):
    """Registers a data set of 3 identities and 2 cameras in each split, 12 images a split, made of plain labels."""

    def one(name, label=int, **attributes):
        class Plain(ImageDataset):
            def __init__(self, root="datasets", **kwargs):
                splits = [
                    [
                        (f"{name}/{part}/{p}_{c}_{shot}.jpg", label(p), label(c))
                        for p in range(3)
                        for c in (0, 1)
                        for shot in (0, 1)
                    ]
                    for part in ("train", "query", "gallery")
                ]
                super().__init__(*splits, **kwargs)

        monkeypatch.setitem(DATASET_REGISTRY._obj_map, name, type(name, (Plain,), attributes))

    return one


def counted(cfg, combineall=False) -> tuple[int, int, int]:
    """Returns the identities, cameras and images of the loader, after a look at how its classes are made up."""
    data = build_reid_train_loader(cfg, combineall=combineall).dataset
    owners = {}
    for path, identity, camera in data.img_items:
        folder, part, name = path.split("/")
        part = "train" if part == "train" else "test"
        owners.setdefault((folder, part, name[0]), set()).add(identity)
        owners.setdefault((folder, part, "camera", name[2]), set()).add(camera)
    assert all(len(labels) == 1 for labels in owners.values())  # a person is one class, and a camera one number
    return data.num_classes, data.num_cameras, len(data)


def test_plain_numbers_and_text_of_several_sets_are_classes_of_their_own(baseline_cfg, register):
    for name, label in (("First", int), ("Second", int), ("Third", str)):
        register(name, label)
    baseline_cfg.DATALOADER.SAMPLER_TRAIN = "BalancedIdentitySampler"
    cases = {
        ("First",): (3, 2, 12),
        ("First", "Second"): (6, 4, 24),
        ("First", "Third"): (6, 4, 24),
        ("First", "Second", "Third"): (9, 6, 36),
        ("First", "First"): (3, 2, 24),  # a set that is named twice counts double
    }
    for names, expected in cases.items():
        baseline_cfg.DATASETS.NAMES = names
        assert counted(baseline_cfg) == expected, names
        assert check_training_data(baseline_cfg) == (expected[0], expected[2]), names


def test_query_and_gallery_are_classes_of_their_own_too(baseline_cfg, register):
    register("First")
    register("Second")  # neither has a dataset_name: fast-reid names the test images of both "Unknown_test_1"
    register("Named", dataset_name="named")
    for names, sets in ((("First",), 1), (("First", "Second"), 2), (("First", "Second", "Named"), 3)):
        baseline_cfg.DATASETS.NAMES, baseline_cfg.DATASETS.COMBINEALL = names, True
        assert counted(baseline_cfg, combineall=True) == (6 * sets, 4 * sets, 36 * sets), names
        assert check_training_data(baseline_cfg) == (6 * sets, 36 * sets), names


@pytest.mark.parametrize("sampler", ["NaiveIdentitySampler", "BalancedIdentitySampler"])
def test_an_identity_sampler_never_takes_two_people_for_one(sampler, baseline_cfg, register):
    register("First")
    register("Second")
    baseline_cfg.DATASETS.NAMES = ("First", "Second")
    baseline_cfg.DATALOADER.SAMPLER_TRAIN, baseline_cfg.DATALOADER.NUM_INSTANCE = sampler, 4
    loader = build_reid_train_loader(baseline_cfg)
    batches = iter(loader.batch_sampler)
    for _ in range(6):
        people = [loader.dataset.img_items[index][0].rsplit("_", 2)[0] for index, _ in next(batches)]
        assert len(set(people)) == 2 and all(people.count(person) == 4 for person in people)


def test_labels_that_carry_a_name_keep_their_classes():
    sets = [
        ("Market1501", [("m/1.jpg", "market1501_2", "market1501_0"), ("m/2.jpg", "market1501_10", "market1501_1")]),
        ("DukeMTMC", [("d/1.jpg", "dukemtmc_1", "dukemtmc_0")]),
    ]
    assert kept_apart(sets) == [item for _, items in sets for item in items]


def test_sets_with_the_same_images_share_their_people_and_copies_do_not():
    items = [("m/1.jpg", "market1501_2", "market1501_0"), ("m/2.jpg", "market1501_7", "market1501_1")]
    moved = [(f"copy/{path}", *labels) for path, *labels in items]
    assert kept_apart([("Market1501", items), ("OccludedMarket1501", items)]) == items * 2
    apart = kept_apart([("Market1501", items), ("Mine", moved), ("OccludedMarket1501", items)])
    assert [item[1:] for item in apart] == [(0, 0), (1, 1), (2, 2), (3, 3), (0, 0), (1, 1)]


def classes(*sets) -> list[tuple]:
    """Returns (path, class) of each image of joined sets, each of them (name, [(path, identity), ...])."""
    joined = kept_apart([(name, [(path, identity, 0) for path, identity in items]) for name, items in sets])
    return [(path, identity) for path, identity, _ in joined]


def test_labels_of_two_sets_are_one_exactly_if_they_share_an_image():
    a, b = ("1.jpg", "2.jpg"), ("3.jpg", "4.jpg")
    day, night, whole = (
        (name, [(path, label) for label, path in enumerate(paths, 1)])
        for name, paths in (("Day", a), ("Night", b), ("All", a + b))
    )
    for order in ((day, night, whole), (whole, day, night), (night, whole, day)):
        found = classes(*order)
        assert len(set(found)) == len({number for _, number in found}) == 4, order  # an image has one class
    halves = (
        ("SubA", [("10.jpg", 0), ("11.jpg", 1)]),
        ("SubB", [("10.jpg", 0), ("13.jpg", 1)]),
    )
    assert classes(*halves) == [("10.jpg", 0), ("11.jpg", 1), ("10.jpg", 0), ("13.jpg", 2)]
    # one person under two labels, and one label that joins two of the other set
    other = ("SubC", [("10.jpg", 7), ("11.jpg", 7), ("14.jpg", 1)])
    assert classes(halves[0], other) == [("10.jpg", 0), ("11.jpg", 0), ("10.jpg", 0), ("11.jpg", 0), ("14.jpg", 1)]


def test_cameras_of_two_sets_are_one_exactly_if_they_share_an_image():
    sets = [("A", [("1.jpg", 1, 0), ("2.jpg", 1, 1)]), ("B", [("1.jpg", 1, 0), ("3.jpg", 1, 1)])]
    assert [camera for *_, camera in kept_apart(sets)] == [0, 1, 0, 2]


def test_an_image_under_several_labels_of_one_set_joins_nobody():
    crops = [("1.jpg", 5, 0), ("1.jpg", 6, 0), ("2.jpg", 9, 0)]
    assert kept_apart([("Crops", crops)]) == crops
    assert kept_apart([("Crops", crops), ("Crops", crops)]) == crops * 2
    others = [("1.jpg", 3, 1), ("2.jpg", 4, 0)]
    assert [item[1] for item in kept_apart([("Crops", crops), ("Other", others)])] == [0, 1, 2, 3, 2]


def test_a_label_of_many_images_joins_long_chains_of_people():
    people = [(f"{number}.jpg", number, 0) for number in range(2000)]
    joined = kept_apart([("People", people), ("Crowd", [(path, 0, 0) for path, *_ in people])])
    assert {item[1] for item in joined} == {0}


def test_the_images_come_as_they_were_but_for_their_labels(register):
    register("First")
    register("Second", str)
    paths = [path for path, *_ in read_training(["First", "Second"])]
    assert paths[0] == "First/train/0_0_0.jpg" and paths[-1] == "Second/train/2_1_1.jpg" and len(paths) == 24


@pytest.mark.parametrize("name, folder, parts, file", [
    ("Market1501", "Market-1501-v15.09.15", SUBSETS, "0001_c3s1_000451_03.jpg"),
    ("DukeMTMC", "DukeMTMC-reID", SUBSETS, "0001_c3_f0046182.jpg"),
    ("VeRi", "veri", ("image_train", "image_query", "image_test"), "0002_c003_00030600_0.jpg"),
    ("OccludedDuke", "Occluded_Duke", SUBSETS, "0001_c3_f0046182.jpg"),
])  # fmt: skip
def test_a_shown_camera_is_that_of_the_file_name(tmp_path, name, folder, parts, file):
    for part in parts:
        path = tmp_path / folder / part / file
        path.parent.mkdir(parents=True)
        path.touch()
    [(_, _, camera)] = read_split(name, open_data(name, str(tmp_path)), "query")
    assert (camera, shown_camera(name, camera)) == (2, 3)


def test_cameras_of_other_data_sets_are_shown_as_they_are_and_those_that_are_made_up_as_a_dash(register):
    register("AsGiven")
    register("FromOne", first_camera=1)
    assert [shown_camera("AsGiven", label) for label in (0, 2, "left", ("s", 2))] == [0, 2, "left", ("s", 2)]
    assert [shown_camera("FromOne", label) for label in (0, "left")] == [1, "left"]
    for name in ("PartialREID", "OccludedREIDHalfSplit3", "PDukeMTMC", "PETHZ", "PartialiLIDS"):
        assert [shown_camera(name, label) for label in (0, 1)] == ["-", "-"], name
    for name in ("OccludedMarket1501S5", "ToyOccluded", "MSMT17", "CUHK03"):
        assert [shown_camera(name, label) for label in (0, 1)] == [1, 2], name


class WithoutRoot:
    """Data set whose constructor does not take the folder of the data sets."""

    def __init__(self):
        self.train = []


class FaultyData:
    """Data set with a fault inside its constructor."""

    def __init__(self, root, **kwargs):
        self.train = len(3)


def test_a_data_set_of_a_user_without_root_ends_in_one_line_and_a_fault_inside_keeps_its_traceback(monkeypatch):
    for registered in (WithoutRoot, FaultyData):
        monkeypatch.setitem(DATASET_REGISTRY._obj_map, registered.__name__, registered)
    with pytest.raises(InputError, match=r"^DATASETS: the class WithoutRoot .* WithoutRoot\(root=...\), which fails: "):
        open_data("WithoutRoot")
    with pytest.raises(TypeError, match="len"):
        open_data("FaultyData")
