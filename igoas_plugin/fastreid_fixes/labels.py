"""Identities and cameras of any kind, as labels that samplers and tensors can hold."""

from collections.abc import Collection, Hashable, Iterable, Sequence

from fastreid.data.common import CommDataset

from igoas_plugin.core.errors import InputError

from .fix import fix

Label = Hashable  # a number or text, or an object such as a date or a tuple
IDENTITY, CAMERA = 1, 2  # positions in an item: (path, identity, camera)
INT64 = range(-(2**63), 2**63)
original_init = CommDataset.__init__


def plain_label(label) -> Label:
    """Returns a label that is equal to those of the same identity or camera.

    This is the value of a numpy scalar or tensor, the text of an object without a hash, and every other label itself.

    Example:
        >>> import numpy as np
        >>> plain_label(np.int64(3)), plain_label("0003"), plain_label(3.0), plain_label(("scene", 3)), plain_label([3])
        (3, '0003', 3, ('scene', 3), '[3]')
    """
    if type(label) in (int, str):
        return label
    label = label.item() if hasattr(label, "item") else label
    if isinstance(label, float) and label.is_integer():
        return int(label)
    try:
        hash(label)
    except TypeError:
        return str(label)
    return label


def as_plain(items: Sequence[Sequence]) -> Sequence[Sequence]:
    """Returns (path, identity, camera) items with plain labels; the same object if all labels are plain already.

    Raises:
        InputError: an identity or camera is None or NaN.
    """
    if all(type(item[IDENTITY]) in (int, str) and type(item[CAMERA]) in (int, str) for item in items):
        return items
    plain = []
    for path, identity, camera, *rest in items:
        labels = plain_label(identity), plain_label(camera)
        for kind, label in zip(("identity", "camera"), labels, strict=True):
            if label is None or label != label:
                raise InputError(f"{path} has no {kind} ({label}): leave the image out, or give it one")
        plain.append((path, *labels, *rest))
    return plain


def in_order(labels: Collection[Label]) -> list[Label]:
    """Sorts plain labels; if they cannot be compared, numbers come first, then text, then other objects by their text.

    Example:
        >>> in_order([("s", 10), ("s", 2)]), in_order(["b", 10, "a", 2])
        ([('s', 2), ('s', 10)], [2, 10, 'a', 'b'])
    """
    try:
        return sorted(labels)
    except TypeError:
        return sorted(labels, key=rank_of)


def rank_of(label: Label) -> tuple[int, int | float | str]:
    """Returns the sort key of a plain label among labels of several kinds."""
    if isinstance(label, int | float):
        return 0, label
    return (1, label) if isinstance(label, str) else (2, str(label))


def are_texts(labels: Iterable[Label]) -> bool:
    """Returns whether all labels are text."""
    return all(isinstance(label, str) for label in labels)


def fit_tensors(labels: Iterable[Label]) -> bool:
    """Returns whether all labels are integers of 64 bits."""
    return all(isinstance(label, int) and label in INT64 for label in labels)


def numbered(*splits: Sequence[Sequence], texts: bool = False) -> list[Sequence[Sequence]]:
    """Numbers identities and cameras that tensors cannot hold, in their order from 0.

    Args:
        splits: (path, identity, camera) items, such as those of query and gallery. A label has one number in all.
        texts: whether text stays, because fast-reid numbers it.

    Returns:
        The splits; the same objects if no label changes.

    Raises:
        InputError: an identity or camera is None or NaN.
    """
    splits = [as_plain(items) for items in splits]
    numbers = {}
    for column in (IDENTITY, CAMERA):
        labels = {item[column] for items in splits for item in items}
        if not fit_tensors(labels) and not (texts and are_texts(labels)):
            numbers[column] = {label: number for number, label in enumerate(in_order(labels))}
    return [replaced(items, numbers) for items in splits] if numbers else splits


def replaced(items: Sequence[Sequence], numbers: dict[int, dict]) -> list[tuple]:
    """Returns the items with other labels.

    Args:
        numbers: {IDENTITY or CAMERA: {label: other label}}; the labels of a missing column stay.
    """
    return [
        tuple(numbers[column][value] if column in numbers else value for column, value in enumerate(item))
        for item in items
    ]


def init_with_numbers(self, img_items, transform=None, relabel=True):
    """Replaces CommDataset.__init__; labels that samplers or tensors cannot hold become numbers."""
    (img_items,) = numbered(img_items, texts=relabel)
    original_init(self, img_items, transform, relabel)


@fix
def number_labels_of_any_kind() -> None:
    """A run ends at its first evaluation if identities or cameras of query or gallery are text.

    Cause: fast-reid puts these labels into tensors as they are. Only training labels are numbered. Labels longer than
    64 bits, such as time stamps, fail too, and numbers beside text cannot be sorted. NaiveIdentitySampler rounds a
    mixture of negative numbers and numbers over 2**63 - 1, and then draws the images of another identity.
    """
    CommDataset.__init__ = init_with_numbers
