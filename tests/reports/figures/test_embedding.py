import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from igoas_plugin.core.errors import InputError
from igoas_plugin.reports.figures.embedding import (
    MARKERS,
    TAG,
    draw_embedding,
    embedding_picture,
    named,
    projected,
    tag_places,
)

ITEMS = [("query", ("a.png", 7, 0)), ("gallery", ("b.png", 7, 1)), ("gallery", ("c.png", 12, 2))]


@pytest.fixture(scope="module")
def groups():
    """Two groups of 10 descriptors, far apart."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(20, 8, generator=generator) + 20 * (torch.arange(20) >= 10).view(-1, 1)


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_groups_stay_apart_and_the_same_seed_gives_the_same_points(groups, method):
    points, how = projected(groups, seed=0, method=method)
    assert points.shape == (20, 2) and ("PCA" in how) == (method == "pca")
    middles = points[:10].mean(0), points[10:].mean(0)
    own = np.linalg.norm(points - np.repeat(middles, 10, axis=0), axis=1)
    assert own.max() < np.linalg.norm(middles[0] - middles[1]) / 2
    np.testing.assert_array_equal(projected(groups, seed=0, method=method)[0], points)


@pytest.mark.parametrize("count", [3, 7])
def test_small_sets_have_a_small_perplexity(groups, count):
    points, how = projected(groups[:count], seed=0, method="tsne")
    assert np.isfinite(points).all() and f"perplexity {(count - 1) / 3:.3g}" in how


def test_colour_and_label_tell_the_identity_shape_the_part_and_number_the_camera():
    figure = draw_embedding(np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]]), ITEMS, "a title")
    [panel] = figure.axes
    colours = [to_rgb(each.get_facecolor()[0]) for each in panel.collections]
    assert colours[0] == colours[1] != colours[2]
    corners = [len(each.get_paths()[0].vertices) for each in panel.collections]
    assert corners[0] != corners[1] == corners[2] and MARKERS["query"] != MARKERS["gallery"]
    assert [text.get_text() for text in panel.texts] == ["0", "1", "2", "7", "12"]
    assert [to_rgb(text.get_bbox_patch().get_edgecolor()) for text in panel.texts[3:]] == [colours[0], colours[2]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gallery", "query"]


def test_a_tag_stands_beside_an_image_of_its_identity_and_away_from_all_others():
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [10.0, 10.0]])  # 1 lies between the others of the corner
    places = tag_places(points, ["a", "b", "b", "c"])
    assert {identity: index for identity, (index, _) in places.items()}["a"] == 0
    assert places["b"][0] in (1, 2) and places["c"][0] == 3
    assert min(places["a"][1]) < 0 and max(places["a"][1]) < 1  # away from those of b
    assert [np.hypot(*offset) for _, offset in places.values()] == pytest.approx([TAG] * 3)
    far = tag_places(np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 1.0], [9.0, 9.0]]), ["a"] * 4)
    assert far["a"][0] != 3
    shown = np.array([index for index, _ in tag_places(np.zeros((3, 2)), ["a", "b", "c"]).values()])
    assert shown.tolist() == [0, 1, 2]  # also where all images are in one place


def test_identities_and_cameras_that_are_no_numbers_are_written_as_they_are():
    items = [
        ("query", ("a.png", "anna", "left")),
        ("gallery", ("b.png", "anna", "$right$")),
        ("gallery", ("c.png", 3, 0)),
        ("gallery", ("d.png", ("s", 2), ("s", 4))),
    ]
    points = np.array([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0], [9.0, 9.0]])
    [panel] = draw_embedding(points, items, "a title").axes
    texts = ["left", r"\$right\$", "0", "('s', 4)", "3", "anna", "('s', 2)"]
    assert [text.get_text() for text in panel.texts] == texts


def test_an_identity_is_named_by_its_text_or_by_its_number():
    everyone = [2, 10, "0003", ("scene", 4)]
    assert [named(word, everyone) for word in ("2", "0010", "0003", "('scene', 4)")] == everyone
    assert [named(word, everyone) for word in ("3", "anna", "\u00b2", "-1")] == [None] * 4


@pytest.mark.parametrize(
    "keys, identities, message",
    [
        ({}, ["9"], "--identities 9: TinyReID has no such identity; it has 0 to 3"),
        ({"DATASETS.TESTS": ()}, [], "DATASETS.TESTS is empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_model_is_built(igoas_cfg, monkeypatch, keys, identities, message):
    igoas_cfg.merge_from_list([word for pair in keys.items() for word in pair])
    monkeypatch.setattr("igoas_plugin.reports.figures.embedding.build_trained", None)
    with pytest.raises(InputError, match=message):
        embedding_picture(igoas_cfg, identities, 2, 0, "tsne")
