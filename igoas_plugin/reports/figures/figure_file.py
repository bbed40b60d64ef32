"""What all pictures share: panels with images, and how a figure becomes a file."""

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
KINDS = ("png", "pdf", "svg")


def kind_of(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()


def check_picture(path: str) -> None:
    """Raises InputError where a path is none for a picture: of another kind, or in a folder that cannot be made."""
    require_choice(f"--output {path}: the end of its name", kind_of(path), KINDS)
    check_output_file(path)


def rendered(figure: Figure, kind: str = "png") -> bytes:
    """The content of a file of one of KINDS."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=DPI)
    return content.getvalue()


def save_figure(figure: Figure, path: str) -> None:
    """Writes a figure, in the kind that the path ends with; the file is replaced as a whole, its folder made."""
    content = rendered(figure, kind_of(path))
    write_atomically(path, lambda file: file.write(content))


def as_label(name: str) -> str:
    r"""The name of a file as matplotlib shows it letter by letter: what is between two dollars would be a formula.

    Example:
        >>> as_label("runs/$a_b$/model.pth")
        'runs/\\$a_b\\$/model.pth'
    """
    return printable(name).replace("$", r"\$")


def palette(names: Iterable[Hashable]) -> dict[Hashable, tuple]:
    """A colour for each name: up to 20 have different ones."""
    names = list(names)
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"].colors
    return {name: colours[number % len(colours)] for number, name in enumerate(names)}


def pixels_of(figure: Figure) -> np.ndarray:
    """A figure as an RGB image, (H, W, 3), uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def show_image(panel: Axes, image: np.ndarray) -> None:
    """An image that fills a panel, without ticks.

    Args:
        panel: is changed.
        image: (H, W, 3), uint8, or (H, W), grey in [0, 255].
    """
    panel.imshow(image, cmap="gray", vmin=0, vmax=255)
    panel.set(xticks=[], yticks=[])
