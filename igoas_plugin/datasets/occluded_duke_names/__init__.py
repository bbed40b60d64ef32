"""Official name lists of Occluded-Duke.

Origin: ``train.list``, ``query.list`` and ``gallery.list`` of the repository ``lightas/Occluded-DukeMTMC-Dataset``
(Miao et al., PGFA, ICCV 2019), unchanged but compressed and named after the folders that they fill.
"""

import functools
import gzip
from importlib.resources import files


@functools.cache
def official_names(subset: str) -> tuple[str, ...]:
    """Returns the file names of a folder of Occluded-Duke, in the order of the official list.

    Args:
        subset: ``bounding_box_train`` (15,618 names), ``query`` (2,210) or ``bounding_box_test`` (17,661).

    Example:
        >>> official_names("query")[0]
        '0019_c1_f0051230.jpg'
    """
    return tuple(gzip.decompress((files(__name__) / f"{subset}.list.gz").read_bytes()).decode().split())
