"""Registered data sets, the host's too, opened and read: what is wrong with them is one line."""

import os
import traceback

from fastreid.data.datasets import DATASET_REGISTRY

from igoas_plugin.core.errors import InputError, require_choice

from .market_style import Item


def open_data(name: str, root: str | None = None, **kwargs):
    """The registered data set of this name; raises InputError where there is none, or its folder is missing or damaged.

    Args:
        name: as registered.
        root: the folder that holds the data sets; None: FASTREID_DATASETS.
        kwargs: of the data set.
    """
    root = os.getenv("FASTREID_DATASETS", "datasets") if root is None else root
    require_choice("each of DATASETS.NAMES and DATASETS.TESTS", name, sorted(DATASET_REGISTRY._obj_map))
    try:
        return DATASET_REGISTRY.get(name)(root=root, **kwargs)
    except InputError:
        raise
    except AttributeError as error:  # of the host's Market1501, whose training set is read at once
        raise unreadable_name(name, "a split", error) from error
    except (RuntimeError, OSError, AssertionError) as error:  # how the host says that something is missing
        reason = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
        raise InputError(
            f"data set {name}: {reason}; put it there, or set the environment variable FASTREID_DATASETS (now {root}) "
            "to the folder that holds the data sets; README.md, section Data, shows each layout"
        ) from None


def read_split(name: str, data, split: str) -> list[Item]:
    """The images of a split; raises InputError where the host's data sets fail at a file name."""
    try:
        return getattr(data, split)
    except (AttributeError, AssertionError) as error:
        raise unreadable_name(name, f"its {split}", error) from error


def unreadable_name(name: str, split: str, error: Exception) -> InputError:
    """What a file name that a data set of the host cannot parse comes to, with the file's path where it is known."""
    frame = error.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    path = frame.tb_frame.f_locals.get("img_path", split)
    return InputError(
        f"data set {name}: the name of {path} does not tell identity and camera as 0001_c1s1_000151_01.jpg does; "
        "rename the file or take it out of the folder"
    )


def unmatched(query: list[Item], gallery: list[Item]) -> list[str]:
    """Paths of the queries that have no gallery image of their identity in another camera: no metric counts them."""
    cameras = {}
    for _, identity, camera in gallery:
        cameras.setdefault(identity, set()).add(camera)
    return [path for path, identity, camera in query if not cameras.get(identity, set()) - {camera}]
