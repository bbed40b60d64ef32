"""Benchmarks of ranking, re-ranking, query expansion and approximate search, beside fast-reid's."""

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
from igoas_plugin.evaluation.ranking import Distances, Labels, Reranked, expand, rank_in_blocks
from igoas_plugin.evaluation.ranking.memory import allocate_in_file, total_memory
from igoas_plugin.evaluation.ranking.neighbour_index import CODES, KINDS, VALUES_PER_BYTE, SearchIndex, recall

IDENTITIES, CAMERAS, LABELLED = 750, 6, 20_000  # of Market-1501; gallery images beyond these are distractors
BYTES_PER_DISTANCE = 20  # of fast-reid: the value, its position in the order, copies
NEIGHBOURS = 10  # of a search
DENSE = 6_000  # number of images up to which fast-reid's (N, N) forms are run; with more they take minutes


def descriptors(queries: int, gallery: int, width: int, noise: float = 4.0) -> tuple[Tensor, Labels, Labels]:
    """Returns random descriptors (queries + gallery, width), and labels like Market-1501's.

    The standard deviation of a person's images is `noise` times that of the people; with 4, people overlap.
    """
    draw, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    pids = draw.integers(IDENTITIES, size=queries + gallery)
    pids[queries + LABELLED :] = IDENTITIES
    camids = draw.integers(CAMERAS, size=len(pids))
    centres = torch.randn(IDENTITIES + 1, width, generator=generator)
    centres[IDENTITIES] = 0
    features = torch.randn(len(pids), width, generator=generator).mul_(noise)
    for part in torch.arange(len(pids)).split(2**14):
        features[part] += centres[pids[part]]
    return features, Labels(pids[:queries], camids[:queries]), Labels(pids[queries:], camids[queries:])


def ranking(queries: int, galleries: list[int], width: int, repeats: int) -> Iterator[Row]:
    """Times CMC, mAP and mINP of descriptors: by fast-reid, in blocks, and in blocks with the gallery in a file."""
    for images in galleries:
        features, query, gallery = descriptors(queries, images, width)
        mapped = allocate_in_file((images, width), torch.float32, tempfile.gettempdir()).copy_(features[queries:])
        found = {}

        def by_fastreid(features=features, query=query, gallery=gallery, found=found):
            distances = build_dist(features[:queries], features[queries:], "cosine")
            found["fast-reid"] = evaluate_rank(distances, query.pids, gallery.pids, query.camids, gallery.camids)

        def blocked(features=features, query=query, gallery=gallery, found=found):
            found["blocked"] = rank_in_blocks(Distances(features[:queries], features[queries:]), query, gallery)

        def from_file(features=features, mapped=mapped, query=query, gallery=gallery, found=found):
            found["file"] = rank_in_blocks(Distances(features[:queries], mapped), query, gallery)

        ways = {"fast-reid": by_fastreid, "blocked": blocked, "blocked, gallery in a file": from_file}
        if BYTES_PER_DISTANCE * queries * images > total_memory() / 2:
            del ways["fast-reid"]
        rows = measure(ways, f"rank {queries} x {images} x {width}", repeats, work=queries * images, unit="distances")
        for row, (cmc, ap, _) in zip(rows, found.values(), strict=True):
            row.facts.update(gallery=images, rank_1=100 * float(cmc[0]), map=100 * float(np.mean(ap)))
        yield from rows


def reranking(queries: int, galleries: list[int], width: int, repeats: int) -> Iterator[Row]:
    """Times k-reciprocal re-ranking: by fast-reid (up to DENSE images) and in blocks."""
    for images in galleries:
        features = descriptors(queries, images, width)[0]
        query, gallery = normalize(features[:queries]), normalize(features[queries:])

        def by_fastreid(query=query, gallery=gallery):
            return 0.7 * build_dist(query, gallery, "jaccard", k1=20, k2=6) + 0.3 * build_dist(query, gallery, "cosine")

        def blocked(query=query, gallery=gallery):
            for _ in Reranked(Distances(query, gallery), torch.cat([query, gallery]), k1=20, k2=6, weight=0.3):
                pass

        ways = {"fast-reid": by_fastreid, "blocked": blocked}
        if queries + images > DENSE:
            del ways["fast-reid"]
        yield from gallery_rows(images, measure(ways, f"re-rank {queries} x {images} x {width}", repeats))


def expansion(queries: int, galleries: list[int], width: int, repeats: int) -> Iterator[Row]:
    """Times query expansion of all descriptors: by fast-reid (up to DENSE images) and in blocks."""
    for images in galleries:
        features = descriptors(queries, images, width)[0]

        def by_fastreid(features=features):
            return aqe(features[:queries], features[queries:])

        def blocked(features=features):
            return expand(features)

        ways = {"fast-reid": by_fastreid, "blocked": blocked}
        if queries + images > DENSE:
            del ways["fast-reid"]
        yield from gallery_rows(images, measure(ways, f"expand {queries} + {images} x {width}", repeats))


def gallery_rows(images: int, rows: list[Row]) -> list[Row]:
    """Notes the size of the gallery in the rows."""
    for row in rows:
        row.facts["gallery"] = images
    return rows


def searching(queries: int, galleries: list[int], width: int, repeats: int) -> Iterator[Row]:
    """Times the search for the nearest NEIGHBOURS of each query in every kind of index, with its recall.

    Raises:
        InputError: a kind of index cannot have these sizes.
    """
    if min(galleries) < CODES or width % VALUES_PER_BYTE:
        raise InputError(f"--gallery must be {CODES} or more, and --width a multiple of {VALUES_PER_BYTE}")
    for images in galleries:
        features = descriptors(queries, images, width, noise=1.0)[0].numpy()  # low noise: ivf needs groups
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
