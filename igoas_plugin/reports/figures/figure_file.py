"""Parts that all figures share: panels with images, labels, colours, and the file of a figure."""

import io
import os
from collections.abc import Hashable, Iterable

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from igoas_plugin.core.errors import printable, require_choice
from igoas_plugin.core.files import check_output_file, write_atomically

DPI = 120
TITLE = 42  # letters of a title above a panel of 4 inches
KINDS = ("png", "pdf", "svg")


def suffix_of(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()


def check_picture(path: str) -> None:
    """Raises InputError if a picture cannot be written there: unknown suffix, or a folder that cannot be created."""
    require_choice(f"--output {path}: the end of its name", suffix_of(path), KINDS)
    check_output_file(path)


def rendered(figure: Figure, kind: str = "png") -> bytes:
    """Returns the content of a picture file of one of KINDS."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=DPI)
    return content.getvalue()


def save_figure(figure: Figure, path: str) -> None:
    """Writes a figure in the kind that the path ends with, and creates its folder."""
    content = rendered(figure, suffix_of(path))
    write_atomically(path, lambda file: file.write(content))


def as_label(name: str) -> str:
    r"""Escapes a file name, so that matplotlib does not read text between two dollars as a formula.

    Example:
        >>> as_label("runs/$a_b$/model.pth")
        'runs/\\$a_b\\$/model.pth'
    """
    return printable(name).replace("$", r"\$")


def palette(names: Iterable[Hashable]) -> dict[Hashable, tuple]:
    """Returns {name: colour}; up to 20 names have different colours."""
    names = list(names)
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"].colors
    return {name: colours[number % len(colours)] for number, name in enumerate(names)}


def pixels_of(figure: Figure) -> np.ndarray:
    """Returns a figure as an RGB image, (H, W, 3), uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def show_image(panel: Axes, image: np.ndarray) -> None:
    """Draws an image that fills a panel, without ticks.

    Args:
        image: (H, W, 3), uint8, or (H, W), grey in [0, 255].
    """
    panel.imshow(image, cmap="gray", vmin=0, vmax=255)
    panel.set(xticks=[], yticks=[])
