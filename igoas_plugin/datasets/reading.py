"""Reading of any registered data set, with one line for each mistake in it."""

import os
import traceback

from fastreid.data.datasets import DATASET_REGISTRY

from igoas_plugin.core.errors import InputError, require_choice

from .market_style import Item


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
    require_choice("each of DATASETS.NAMES and DATASETS.TESTS", name, sorted(DATASET_REGISTRY._obj_map))
    try:
        return DATASET_REGISTRY.get(name)(root=root, **kwargs)
    except InputError:
        raise
    except AttributeError as error:  # fast-reid's Market1501 fails at a file name of its training set
        raise unreadable_name(name, "a split", error) from error
    except (RuntimeError, OSError, AssertionError) as error:  # fast-reid's data sets raise these if a folder is missing
        reason = str(error) or traceback.extract_tb(error.__traceback__)[-1].line
        raise InputError(
            f"data set {name}: {reason}; put it there, or set the environment variable FASTREID_DATASETS (now {root}) "
            "to the folder that holds the data sets; docs/data.md shows each layout"
        ) from None


def read_split(name: str, data, split: str) -> list[Item]:
    """Returns the images of a split; raises InputError if a data set of fast-reid fails at a file name."""
    try:
        return getattr(data, split)
    except (AttributeError, AssertionError) as error:
        raise unreadable_name(name, f"its {split}", error) from error


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
    for _, identity, camera in gallery:
        cameras.setdefault(identity, set()).add(camera)
    own = ({camera} if camera_rule else set() for _, _, camera in query)
    return [item[0] for item, out in zip(query, own, strict=True) if not cameras.get(item[1], set()) - out]
