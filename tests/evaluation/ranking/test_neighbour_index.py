import igoas_plugin  # noqa: F401  (first: it patches fast-reid)

# isort: split
import io

import faiss
import numpy as np
import pytest

from igoas_plugin.evaluation.ranking.neighbour_index import KINDS, SearchIndex, recall


def people(images: int, width: int = 32, identities: int = 40, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((identities, width))
    draw = np.random.default_rng(seed)
    noise = 0.3 * draw.standard_normal((images, width))
    return (centres[draw.integers(identities, size=images)] + noise).astype(np.float32)


def filled(kind: str, descriptors: np.ndarray) -> SearchIndex:
    index = SearchIndex(descriptors.shape[1], kind, len(descriptors))
    for part in np.array_split(descriptors, 3):
        index.add(part)
    return index


# Groups and graphs miss few. pq keeps a byte of eight values, too little to order the images of one person; by chance
# it would find 10 of 1500
@pytest.mark.parametrize("kind, least", [("flat", 1.0), ("ivf", 0.9), ("hnsw", 0.95), ("pq", 0.2)])
def test_every_kind_finds_the_neighbours_by_cosine_similarity(kind, least):
    gallery, query = people(1500), people(50, seed=1)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (query, gallery)]
    cosines = unit[0] @ unit[1].T
    exact = np.argsort(-cosines, axis=1)[:, :10]
    index = filled(kind, gallery)
    similarities, positions = index.search(query, 10)
    assert len(index) == 1500 and positions.shape == similarities.shape == (50, 10)
    assert recall(positions, exact) >= least
    assert np.all(np.diff(similarities) <= 0)
    if kind != "pq":
        np.testing.assert_allclose(similarities, np.take_along_axis(cosines, positions, 1), rtol=1e-5, atol=1e-5)


def test_what_is_given_is_not_changed_and_there_are_no_more_neighbours_than_descriptors():
    gallery = 7 * people(5)
    before = gallery.copy()
    assert filled("flat", gallery).search(gallery, 10)[1].shape == (5, 5)
    assert np.array_equal(gallery, before)


def test_a_search_leaves_the_number_of_threads_as_it_was():
    index, before = filled("flat", people(50)), faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        for queries in (0, 1, 5):
            assert index.search(people(5)[:queries], 3)[1].shape == (queries, 3)
            assert faiss.omp_get_max_threads() == 2
        with pytest.raises(AssertionError):
            index.search(people(1, width=31), 3)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("kind, least", [("ivf", 937), ("pq", 256)])
def test_too_few_descriptors_to_learn_from_are_refused(kind, least):
    index = SearchIndex(16, kind, 60_000)
    with pytest.raises(ValueError, match=f"is trained on the first descriptors: add at least {least} of them"):
        index.add(people(least - 1, width=16))
    index.add(people(least, width=16))
    index.add(people(1, width=16))
    assert len(index) == least + 1


def test_what_makes_no_index_is_refused():
    with pytest.raises(ValueError, match=f"kind must be one of {', '.join(KINDS)}, got lsh"):
        SearchIndex(8, "lsh", 10)
    with pytest.raises(ValueError, match="the width of pq must be a multiple of 8, got 12"):
        SearchIndex(12, "pq", 10)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_as_the_same_index_and_can_grow(kind):
    index, file = filled(kind, people(900)), io.BytesIO()
    index.write(file)
    file.seek(0)
    read = SearchIndex.read(file, kind)
    for ours, theirs in zip(read.search(people(5), 7), index.search(people(5), 7), strict=True):
        assert np.array_equal(ours, theirs)
    read.add(people(1, seed=2))
    assert len(read) == 901 and len(index) == 900


def test_another_file_is_no_index():
    with pytest.raises(RuntimeError):
        SearchIndex.read(io.BytesIO(b"no index of faiss"), "flat")


@pytest.mark.parametrize("kind", ["ivf", "pq"])
def test_little_to_learn_from_is_no_reason_for_a_warning_of_faiss(kind, capfd):
    SearchIndex(32, kind, 256).add(people(256))
    assert capfd.readouterr() == ("", "")
