"""Reading of any registered data set, with one line for each mistake in it."""

import os
import traceback
import warnings
from collections.abc import Iterable, Sequence

from fastreid.data.datasets import CUHK03, DATASET_REGISTRY, MSMT17, DukeMTMC, Market1501, VeRi

from igoas_plugin.core.errors import InputError, require_choice
from igoas_plugin.core.extensions import constructing
from igoas_plugin.fastreid_fixes.labels import CAMERA, IDENTITY, Label, as_plain, in_order

from .market_style import Item

# Data sets of fast-reid whose error does not name the missing folder: that folder, then what can lie in its place
FOLDERS = {Market1501: ("Market-1501-v15.09.15", "bounding_box_train"), MSMT17: ("MSMT17_V2", "MSMT17_V1")}
FROM_ONE = (Market1501, DukeMTMC, MSMT17, CUHK03, VeRi)  # file names count cameras from 1, these classes from 0


def open_data(name: str, root: str | None = None, **kwargs):
    """Returns the registered data set of a name.

    Args:
        name: registered name.
        root: folder of the data sets; None for FASTREID_DATASETS.
        kwargs: arguments of the data set.

    Raises:
        InputError: no such data set is registered, or its folder is missing or damaged.
    """
    root = os.getenv("FASTREID_DATASETS", "datasets") if root is None else root
    require_choice(
        "each of DATASETS.NAMES and DATASETS.TESTS", name, sorted(DATASET_REGISTRY._obj_map), registered=True
    )
    try:
        registered = DATASET_REGISTRY.get(name)
        with constructing("DATASETS", registered, ", ".join(["root=...", *(f"{key}=..." for key in kwargs)])):
            with warnings.catch_warnings():  # a missing folder is no "deprecated structure"
                warnings.filterwarnings("ignore", "The current data structure is deprecated")
                return registered(root=root, **kwargs)
    except InputError:
        raise
    except AttributeError as error:  # fast-reid's Market1501 fails at a file name of its training set
        raise unreadable_name(name, "a split", error) from error
    except (RuntimeError, OSError, AssertionError) as error:  # fast-reid's data sets raise these if a folder is missing
        folders = next((each for kind, each in FOLDERS.items() if issubclass(registered, kind)), ())
        reason = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
        if folders and not any(os.path.isdir(os.path.join(root, each)) for each in folders):
            reason = f"there is no folder {os.path.join(root, folders[0])}"
        raise InputError(
            f"data set {name}: {reason}; put it there, or set the environment variable FASTREID_DATASETS (now {root}) "
            "to the folder that holds the data sets; docs/data.md shows each layout"
        ) from None


def read_split(name: str, data, split: str) -> list[Item]:
    """Returns the images of a split with plain labels: see plain_label().

    Raises:
        InputError: a data set of fast-reid fails at a file name, or an image has no identity or camera.
    """
    try:
        items = getattr(data, split)
    except (AttributeError, AssertionError) as error:
        raise unreadable_name(name, f"its {split}", error) from error
    return as_plain(items)


def read_training(names: Iterable[str], **kwargs) -> list[Item]:
    """Returns the images on which a run with these DATASETS.NAMES trains: see kept_apart().

    Args:
        names: registered names.
        kwargs: arguments of each data set, such as `combineall`.

    Raises:
        InputError: as open_data() and read_split().
    """
    return kept_apart([(name, read_split(name, open_data(name, **kwargs), "train")) for name in names])


def kept_apart(sets: Sequence[tuple[str, Sequence[Item]]]) -> list[Item]:
    """Joins training sets, so that identity 1 of one and identity 1 of another are two classes, and cameras likewise.

    Labels of two sets are one exactly if an image has both: OccludedMarket1501 has the training images of Market1501.
    Labels stay as they are if they tell the classes apart, as those of fast-reid's own data sets do
    (``market1501_2``). Otherwise they become numbers: set by set, and in the order of the labels within a set.

    Args:
        sets: (registered name, images) of each set.

    Example:
        >>> kept_apart([("A", [("a/1.jpg", 1, 0), ("a/2.jpg", 2, 0)]), ("B", [("b/1.jpg", 1, 0), ("a/2.jpg", 5, 0)])])
        [('a/1.jpg', 0, 0), ('a/2.jpg', 1, 0), ('b/1.jpg', 2, 0), ('a/2.jpg', 1, 0)]
    """
    sets = [(name, as_plain(items)) for name, items in sets]
    joined = [item for _, items in sets for item in items]
    for column in (IDENTITY, CAMERA):
        numbers = class_numbers(sets, column)
        classes = [numbers[name, item[column]] for name, items in sets for item in items]
        labels = [item[column] for item in joined]
        if not len(set(classes)) == len(set(labels)) == len(set(zip(classes, labels, strict=True))):
            joined = [
                (*item[:column], number, *item[column + 1 :]) for item, number in zip(joined, classes, strict=True)
            ]
    return joined


def class_numbers(sets: Sequence[tuple[str, Sequence[Item]]], column: int) -> dict[tuple[str, Label], int]:
    """Numbers the identities or cameras of training sets; labels of two sets have one number if an image has both.

    An image that a set holds under several labels joins none.

    Args:
        sets: (registered name, images) of each set, with plain labels.
        column: IDENTITY or CAMERA.

    Returns:
        {(registered name, label): number from 0}.
    """
    above, owners = {}, {}  # trees of (name, label), each of them a class; the first (name, label) of each path

    def root(label):
        while above.setdefault(label, label) != label:
            above[label] = label = above[above[label]]  # halves the way of the next search
        return label

    for name, items in sets:
        labels_of = {}
        for item in items:
            labels_of.setdefault(item[0], set()).add(item[column])
        for path, labels in labels_of.items():
            if len(labels) == 1:
                label = (name, *labels)
                above[root(label)] = root(owners.setdefault(path, label))
    numbers, of_roots = {}, {}
    for name, items in sets:
        for label in in_order({item[column] for item in items}):
            numbers[name, label] = of_roots.setdefault(root((name, label)), len(of_roots))
    return numbers


def shown_camera(name: str, camera: Label) -> Label:
    """Returns a camera as file names and readers of text, tables and pictures know it.

    The class of a data set tells what its file names call camera 0: `first_camera`, or 1 for the classes of fast-reid
    that count cameras from 0 and whose names count from 1. Without it a number stays as the class gives it. None means
    that the plugin made the cameras up.

    Args:
        name: registered name of the data set.
        camera: plain label from query or gallery.

    Returns:
        The number in file names, "-" for a camera that is made up, and every other label itself.

    Example:
        >>> shown_camera("Market1501", 2), shown_camera("PartialREID", 1), shown_camera("MyData", "left")
        (3, '-', 'left')
    """
    kind = DATASET_REGISTRY._obj_map.get(name)
    of_fastreid = isinstance(kind, type) and issubclass(kind, FROM_ONE)
    first = getattr(kind, "first_camera", 1 if of_fastreid else 0)
    if first is None:
        return "-"
    return camera + first if isinstance(camera, int) else camera


def unreadable_name(name: str, split: str, error: Exception) -> InputError:
    """Returns the error for a file name that a data set of fast-reid cannot parse, with the path if it is known."""
    frame = error.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    path = frame.tb_frame.f_locals.get("img_path", split)
    return InputError(
        f"data set {name}: the name of {path} does not tell identity and camera as 0001_c1s1_000151_01.jpg does; "
        "rename the file or take it out of the folder"
    )


def unmatched(query: list[Item], gallery: list[Item], camera_rule: bool = True) -> list[str]:
    """Returns the queries without a gallery image of their identity in another camera, which no metric counts.

    Args:
        camera_rule: TEST.CAMERA_RULE; False takes an image in the query's own camera too.
    """
    cameras = {}
    for _, identity, camera, *_ in as_plain(gallery):
        cameras.setdefault(identity, set()).add(camera)
    return [
        path
        for path, identity, camera, *_ in as_plain(query)
        if not cameras.get(identity, set()) - ({camera} if camera_rule else set())
    ]
