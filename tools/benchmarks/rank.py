"""Ranking, re-ranking, query expansion and approximate search, beside what the host does."""

import tempfile
import time
from collections.abc import Iterator

import numpy as np
import torch
from fastreid.evaluation.query_expansion import aqe
from fastreid.evaluation.rank import evaluate_rank
from fastreid.utils.compute_dist import build_dist
from torch import Tensor
from torch.nn.functional import normalize

from igoas_plugin.core.errors import InputError
from igoas_plugin.core.timing import Row, measure
from igoas_plugin.evaluation.cython_ranking import compile_helper
from igoas_plugin.evaluation.ranking import Distances, Labels, Reranked, expand, rank_in_blocks
from igoas_plugin.evaluation.ranking.memory import mapped as in_file
from igoas_plugin.evaluation.ranking.memory import whole_memory
from igoas_plugin.evaluation.ranking.neighbour_index import CODES, KINDS, VALUES_PER_BYTE, SearchIndex, recall

IDENTITIES, CAMERAS, DESCRIBED = 750, 6, 20_000  # of Market-1501; gallery images beyond that are of nobody
HOST_BYTES = 20  # that the host takes for a distance: its value, its position in the order, copies
NEIGHBOURS = 10  # of a search
DENSE = 6_000  # images up to which the host's (N, N) forms are run: they take minutes


def descriptors(queries: int, gallery: int, width: int, noise: float = 4.0) -> tuple[Tensor, Labels, Labels]:
    """Random descriptors (queries + gallery, width), and labels like Market-1501's.

    The deviation of a person's images is `noise` times that of the people: with 4 they overlap.
    """
    draw, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    pids = draw.integers(IDENTITIES, size=queries + gallery)
    pids[queries + DESCRIBED :] = IDENTITIES
    camids = draw.integers(CAMERAS, size=len(pids))
    centres = torch.randn(IDENTITIES + 1, width, generator=generator)
    centres[IDENTITIES] = 0
    features = torch.randn(len(pids), width, generator=generator).mul_(noise)
    for part in torch.arange(len(pids)).split(2**14):
        features[part] += centres[pids[part]]
    return features, Labels(pids[:queries], camids[:queries]), Labels(pids[queries:], camids[queries:])


def ranking(queries: int, galleries: list[int], width: int, repeats: int) -> Iterator[Row]:
    """CMC, mAP and mINP from descriptors: the host's way; in blocks; in blocks with the gallery in a file."""
    compile_helper()
    for images in galleries:
        features, query, gallery = descriptors(queries, images, width)
        mapped = in_file((images, width), torch.float32, tempfile.gettempdir()).copy_(features[queries:])
        found = {}

        def on_host(features=features, query=query, gallery=gallery, found=found):
            distances = build_dist(features[:queries], features[queries:], "cosine")
            found["host"] = evaluate_rank(distances, query.pids, gallery.pids, query.camids, gallery.camids)

        def blocked(features=features, query=query, gallery=gallery, found=found):
            found["blocked"] = rank_in_blocks(Distances(features[:queries], features[queries:]), query, gallery)

        def from_file(features=features, mapped=mapped, query=query, gallery=gallery, found=found):
            found["file"] = rank_in_blocks(Distances(features[:queries], mapped), query, gallery)

        ways = {"host": on_host, "blocked": blocked, "blocked, gallery in a file": from_file}
        if HOST_BYTES * queries * images > whole_memory() / 2:
            del ways["host"]
        rows = measure(ways, f"rank {queries} x {images} x {width}", repeats, work=queries * images, unit="distances")
        for row, (cmc, ap, _) in zip(rows, found.values(), strict=True):
            row.facts.update(gallery=images, rank_1=100 * float(cmc[0]), map=100 * float(np.mean(ap)))
        yield from rows


def reranking(queries: int, galleries: list[int], width: int, repeats: int) -> Iterator[Row]:
    """Distances after k-reciprocal re-ranking: the host's dense form (up to DENSE images) and blocks."""
    for images in galleries:
        features = descriptors(queries, images, width)[0]
        query, gallery = normalize(features[:queries]), normalize(features[queries:])

        def on_host(query=query, gallery=gallery):
            return 0.7 * build_dist(query, gallery, "jaccard", k1=20, k2=6) + 0.3 * build_dist(query, gallery, "cosine")

        def blocked(query=query, gallery=gallery):
            for _ in Reranked(Distances(query, gallery), torch.cat([query, gallery]), k1=20, k2=6, weight=0.3):
                pass

        ways = {"host": on_host, "blocked": blocked}
        if queries + images > DENSE:
            del ways["host"]
        yield from gallery_rows(images, measure(ways, f"re-rank {queries} x {images} x {width}", repeats))


def expansion(queries: int, galleries: list[int], width: int, repeats: int) -> Iterator[Row]:
    """Query expansion of all descriptors: the host's dense form (up to DENSE images) and blocks."""
    for images in galleries:
        features = descriptors(queries, images, width)[0]

        def on_host(features=features):
            return aqe(features[:queries], features[queries:])

        def blocked(features=features):
            return expand(features)

        ways = {"host": on_host, "blocked": blocked}
        if queries + images > DENSE:
            del ways["host"]
        yield from gallery_rows(images, measure(ways, f"expand {queries} + {images} x {width}", repeats))


def gallery_rows(images: int, rows: list[Row]) -> list[Row]:
    for row in rows:
        row.facts["gallery"] = images
    return rows


def searching(queries: int, galleries: list[int], width: int, repeats: int) -> Iterator[Row]:
    """The nearest NEIGHBOURS of each query in every kind of index; recall against the exact search.

    Raises:
        InputError: the sizes are none that every kind of index can have.
    """
    if min(galleries) < CODES or width % VALUES_PER_BYTE:
        raise InputError(f"--gallery must be {CODES} or more, and --width a multiple of {VALUES_PER_BYTE}")
    for images in galleries:
        features = descriptors(queries, images, width, noise=1.0)[0].numpy()  # else there is nothing to group
        exact = None
        for kind in KINDS:
            index = SearchIndex(width, kind, images)
            started = time.perf_counter()
            index.add(features[queries:])
            built = time.perf_counter() - started
            found = {}

            def search(index=index, found=found, features=features):
                found["positions"] = index.search(features[:queries], NEIGHBOURS)[1]

            [row] = measure(
                {kind: search}, f"search {queries} in {images} x {width}", repeats, work=queries, unit="queries"
            )
            exact = found["positions"] if kind == "flat" else exact
            row.facts.update(gallery=images, build_seconds=built, recall=recall(found["positions"], exact))
            yield row


COMMANDS = {"ranking": ranking, "reranking": reranking, "expansion": expansion, "search": searching}
