"""Fast-reid's own data sets find their images whatever the folders and the suffixes are."""

import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import sys

from fastreid.data.datasets import DATASET_REGISTRY

from igoas_plugin.datasets.fastreid_readers import PACKAGE, images_like

# Class: (folder of two images, their names without suffix, the suffix that fast-reid looks for)
SETS = {
    "Market1501": ("Market-1501-v15.09.15/bounding_box_train", ("0002_c1s1_000451_03", "0007_c2s3_070952_01"), ".jpg"),
    "DukeMTMC": ("DukeMTMC-reID/bounding_box_train", ("0001_c2_f0046182", "0005_c8_f0001000"), ".jpg"),
    "VeRi": ("veri/image_train", ("0001_c001_00016450_0", "0002_c015_00016495_0"), ".jpg"),
    "WildTrackCrop": ("Wildtrack_crop_dataset/crop/12", ("0_00000000", "1_00000005"), ".png"),
    "cuhkSYSU": ("cuhk_sysu/cropped_images", ("p100_s12_n01", "p5575_s17_n02"), ".jpg"),
    "iLIDS": ("iLIDS/1", ("camera1_1", "camera2_2"), ".png"),
    "SAIVT": ("SAIVT-SoftBio/cropped_images/Subject001", ("0-0-C3-1", "0-0-C5-2"), ".jpeg"),
    "CAVIARa": ("CAVIARa", ("0001001", "0002001"), ".jpg"),
    "VIPeR": ("VIPeR/cam_a", ("000_45", "001_90"), ".bmp"),
    "GRID": ("underground_reid/images", ("0001_1_25004_107_32_106_221", "0002_2_25023_116_134_128_330"), ".jpeg"),
    "PRAI": ("PRAI-1581/images", ("00000001_0001_00000001", "00000002_0002_00000001"), ".jpg"),
    "PeS3D": ("3DPeS/1", ("1_a", "1_b"), ".bmp"),
    "SenseReID": ("SenseReID/test_gallery", ("00000_0", "00001_1"), ".jpg"),
    "PKU": ("PKUv1a_128x48", ("001_1_1", "002_2_1"), ".png"),
    "Thermalworld": ("thermalworld_rgb/1", ("a", "b"), ".jpg"),
    "SYSU_mm": ("SYSU-MM01/cam1/0001", ("0001", "0002"), ".jpg"),
    "LPW": ("pep_256x128/data_slim/scen1/view1/1", ("0001", "0002"), ".jpg"),
}
BESIDE = {
    "Market1501": ("query", "bounding_box_test"),
    "DukeMTMC": ("query", "bounding_box_test"),
    "VeRi": ("image_query", "image_test"),
    "VIPeR": ("cam_b",),
    "SenseReID": ("test_prob",),
    "SYSU_mm": ("../cam2", "../cam4", "../cam5"),
    "LPW": ("../../scen2", "../../scen3"),
}


def made(root, name, suffixes, folder_around="") -> list:
    """Makes the files of a data set, and returns the training items that the class reads."""
    folder, names, _ = SETS[name]
    place = root / folder_around / folder
    for each in BESIDE.get(name, ()):
        (place.parent / each).resolve().mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    for stem, suffix in zip(names, suffixes, strict=True):
        (place / f"{stem}{suffix}").write_bytes(b"image")
    return DATASET_REGISTRY.get(name)(root=str(root / folder_around)).train


def test_without_the_plugin_brackets_hide_images_and_the_folder_tells_the_identity(raw_host):
    assert raw_host["images_found_by_data_sets"] == {"brackets": 0, "numbers": [[7, 2]]}


def test_every_class_finds_images_of_any_suffix_in_folders_with_brackets_and_numbers(tmp_path):
    wrong = {}
    for name, (_, _, suffix) in SETS.items():
        plain = made(tmp_path / name, name, (suffix, suffix), "plain")
        odd = made(tmp_path / name, name, (".JPG", ".png"), "data [1] 3_c4_p6_s7")
        # the same identities and cameras, in the order of the names
        if len(plain) != 2 or [item[1:] for item in odd] != [item[1:] for item in plain]:
            wrong[name] = plain, odd
    assert wrong == {}


def test_every_class_that_lists_images_is_tested():
    listing = {
        name for name, module in sys.modules.items() if name.startswith(f"{PACKAGE}.") and hasattr(module, "glob")
    }
    assert listing == {DATASET_REGISTRY.get(name).__module__ for name in SETS}


def test_masks_beside_the_images_are_passed_over_and_so_are_hidden_files(tmp_path):
    for name in ("b.png", "b.jpg", "a.png", "._b.jpg", "c.txt", "d.jpg/e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert images_like(f"{tmp_path}/*.jpg") == [f"{tmp_path}/a.png", f"{tmp_path}/b.jpg"]
    assert images_like(f"{tmp_path}/missing/*.jpg") == []
