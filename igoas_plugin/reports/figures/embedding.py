"""Figure of the descriptors of some identities, projected to two dimensions."""

from collections.abc import Sequence

import numpy as np
from fastreid.data.common import CommDataset
from fastreid.data.transforms import build_transforms
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor
from torch.nn.functional import normalize

from igoas_plugin.core.errors import InputError
from igoas_plugin.datasets.market_style import Item
from igoas_plugin.datasets.reading import open_data, read_split, shown_camera
from igoas_plugin.evaluation.descriptors import describe
from igoas_plugin.fastreid_fixes.labels import Label, in_order
from igoas_plugin.inference.trained import build_trained
from igoas_plugin.modeling.fast_inference import for_evaluation

from .figure_file import as_label, palette
from .pixel_images import drawn, first_test_set

METHODS = ("tsne", "pca")
MARKERS = {"gallery": "o", "query": "s"}
EDGES = {"gallery": "none", "query": "black"}
FEWEST = 3  # images of a projection
SIZE = 9, 8  # inches
TAG = 15  # points from a marker's middle to that of its identity's tag
PERPLEXITY = 30.0  # number of neighbours in t-SNE, if there are enough


def embedding_picture(cfg, words: Sequence[str], count: int, seed: int, method: str) -> Figure:
    """Draws the query and gallery images of some identities of the first of DATASETS.TESTS.

    Args:
        cfg: config of the model, checked by check_trained().
        words: identities as text: see named(). If empty, identities of the queries are drawn at random.
        count: number of random identities.
        seed: seed of the random choice and of t-SNE.
        method: one of METHODS.

    Raises:
        InputError: an identity has no image, there are fewer than 3 images, the data set is missing, or the weights
            do not fit.
    """
    name = first_test_set(cfg)
    data = open_data(name)
    parts = {part: read_split(name, data, part) for part in ("query", "gallery")}
    known = {part: {identity for _, identity, _ in items} for part, items in parts.items()}
    everyone = in_order(known["query"] | known["gallery"])
    identities = [named(word, everyone) for word in words]
    if None in identities:
        raise InputError(
            f"--identities {words[identities.index(None)]}: {name} has no such identity; it has {everyone[0]} to "
            f"{everyone[-1]}"
        )
    identities = identities or drawn(in_order(known["query"]), count, seed)
    items = [(part, item) for part, images in parts.items() for item in images if item[1] in identities]
    if len(items) < FEWEST:
        raise InputError(f"{name} has {len(items)} images of these identities, and a projection needs {FEWEST}")
    images = CommDataset([item for _, item in items], build_transforms(cfg, is_train=False), relabel=False)
    features = describe(cfg, for_evaluation(cfg, build_trained(cfg)), images)["feats"]
    features = normalize(features) if cfg.TEST.METRIC == "cosine" else features
    points, how = projected(features, seed, method)
    title = f"{name}: {len(items)} images of {len(set(identities))} identities; {how}\n{as_label(cfg.MODEL.WEIGHTS)}"
    shown = [(part, (path, identity, shown_camera(name, camera))) for part, (path, identity, camera) in items]
    return draw_embedding(points, shown, title)


def named(word: str, identities: Sequence[Label]) -> Label | None:
    """Returns the identity whose text is the word, or that is the number of the word (0003 is 3), or None."""
    of_text = {str(identity): identity for identity in identities}
    number = int(word) if word.isdecimal() else None
    return of_text.get(word, number if number in identities else None)


def projected(features: Tensor, seed: int, method: str) -> tuple[np.ndarray, str]:
    """Projects descriptors to two dimensions; the same seed gives the same points.

    Args:
        features: (N, D), N at least FEWEST, D at least 2.
        seed: seed of t-SNE.
        method: "tsne" (neighbours stay neighbours; distances between groups mean little) or "pca" (linear).

    Returns:
        Points of shape (N, 2), and a description of the projection.
    """
    from sklearn.decomposition import PCA  # slow to import, and only this figure needs it
    from sklearn.manifold import TSNE

    values = features.double().numpy()
    if method == "pca":
        pca = PCA(2, svd_solver="full")
        points = pca.fit_transform(values)
        return points, f"PCA, {100 * pca.explained_variance_ratio_.sum():.0f} % of the variance"
    perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(values)
    return points, f"t-SNE, perplexity {perplexity:.3g}, seed {seed}"


def draw_embedding(points: np.ndarray, items: Sequence[tuple[str, Item]], title: str) -> Figure:
    """Draws a marker for each image: colour for the identity, shape for the part, number for the camera.

    The image in the middle of an identity has lines to the others. The tag of the identity stands beside one of the
    more central images, where there is most room.

    Args:
        points: (N, 2).
        items: "query" or "gallery", and (path, identity, camera of shown_camera()), of each image.
    """
    figure = Figure(figsize=SIZE, layout="constrained")
    panel = figure.subplots()
    identities = [identity for _, (_, identity, _) in items]
    colours = palette(in_order(set(identities)))
    for (part, (_, identity, camera)), (x, y) in zip(items, points, strict=True):
        colour = colours[identity]
        panel.scatter(
            x, y, s=110, marker=MARKERS[part], color=[colour], edgecolors=EDGES[part], linewidths=1.2, zorder=2
        )
        text = "white" if np.dot(colour, (0.299, 0.587, 0.114)) < 0.6 else "black"
        panel.annotate(
            as_label(str(camera)), (x, y), ha="center", va="center_baseline", fontsize=6, color=text, zorder=3
        )
    places = tag_places(points, identities)
    for identity, colour in colours.items():
        own = points[[each == identity for each in identities]]
        middle = own[np.linalg.norm(own - np.median(own, axis=0), axis=1).argmin()]
        for point in own:
            panel.plot(*zip(middle, point, strict=True), "-", color=colour, alpha=0.35, linewidth=0.8, zorder=1)
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour, "alpha": 0.85}
        index, offset = places[identity]
        place = {"xytext": offset, "textcoords": "offset points", "ha": "center", "va": "center"}
        panel.annotate(as_label(str(identity)), points[index], **place, bbox=box, fontsize=8, zorder=4)
    panel.margins(0.08)  # room for tags at the edges
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize="small")
    look = {"linestyle": "", "color": "grey", "markersize": 9}
    handles = [
        Line2D([], [], marker=MARKERS[part], markeredgecolor=EDGES[part], label=part, **look) for part in MARKERS
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2, fontsize="small", title_fontsize="small",
        title="colour and label: identity; number: camera",
    )  # fmt: skip
    return figure


def tag_places(points: np.ndarray, identities: Sequence[Label]) -> dict[Label, tuple[int, tuple[float, float]]]:
    """Chooses for the tag of each identity the place beside an image, farthest from all others.

    The image is one of the more central half, not one that lies far from its identity.

    Args:
        points: (N, 2), of images with these identities.

    Returns:
        {identity: (index of the image, (x, y) from its marker to the middle of the tag, in points)}.
    """
    angles = np.arange(8) * np.pi / 4
    offsets = TAG * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    span = np.maximum(np.ptp(points, axis=0), np.finfo(float).tiny)
    taken = (points - points.min(0)) / span * 72 * 0.8 * np.array(SIZE)  # about where they are drawn, in points
    places = {}
    for identity in in_order(set(identities)):
        own = np.array([index for index, each in enumerate(identities) if each == identity])
        central = np.linalg.norm(points[own] - np.median(points[own], axis=0), axis=1).argsort(kind="stable")
        own = own[central[: (len(own) + 1) // 2]].tolist()
        candidates = [(index, offset, taken[index] + offset) for index in own for offset in offsets]
        room = [np.linalg.norm(np.delete(taken, index, 0) - place, axis=1).min() for index, _, place in candidates]
        index, offset, place = candidates[int(np.argmax(room))]
        places[identity] = index, (float(offset[0]), float(offset[1]))
        taken = np.vstack([taken, place])
    return places
