"""Edges and survivors against plain-Python versions of the same rules, and on hard shapes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import clusters
from filters.clusters import Edges, Removals

SLOTS = 10


class Corpus:
    """Documents with made signatures: addresses are ascending numbers."""

    def __init__(self, signatures: np.ndarray, priority: list[int]) -> None:
        self.signatures = signatures.astype(np.uint64)
        self.priority = np.array(priority, np.uint64)
        self.compared = 0

    def equal(self, a: int, b: int) -> int:
        return int((self.signatures[a] == self.signatures[b]).sum())

    def better(self, a: int) -> tuple[int, int]:
        return -int(self.priority[a]), a

    def compare(self, member: np.ndarray, centre: np.ndarray) -> np.ndarray:
        self.compared += len(member)
        return clusters.count_equal(
            self.signatures, member.astype(np.int64), centre.astype(np.int64)
        )

    def priority_of(self, address: np.ndarray) -> np.ndarray:
        return self.priority[address.astype(np.int64)]

    def signatures_of(self, address: np.ndarray) -> np.ndarray:
        assert (np.diff(address.astype(np.int64)) > 0).all()
        return self.signatures[address.astype(np.int64)]


def edges(rows: list[tuple[int, int, int]]) -> Edges:
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    return Edges(
        columns[0].astype(np.uint64), columns[1].astype(np.uint64), columns[2].astype(np.int32)
    )


def as_rows(found: Edges) -> list[tuple[int, int, int]]:
    return list(
        zip(found.member.tolist(), found.centre.tolist(), found.equal.tolist(), strict=True)
    )


def as_dict(removals: Removals) -> dict[int, tuple[int, int, bool]]:
    assert (np.diff(removals.address.astype(np.int64)) > 0).all()
    values = zip(
        removals.survivor.tolist(), removals.equal.tolist(), removals.exact.tolist(), strict=True
    )
    return dict(zip(removals.address.tolist(), values, strict=True))


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    count = draw(st.integers(1, 14))
    # Few values, so that many pairs are on either side of any threshold.
    values = st.lists(st.integers(0, 2), min_size=SLOTS, max_size=SLOTS)
    signatures = np.array(draw(st.lists(values, min_size=count, max_size=count)))
    return Corpus(signatures, draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))


def plain_near_edges(
    buckets: list[list[int]], corpus: Corpus, least: int
) -> tuple[list[tuple[int, int, int]], int]:
    found = set()
    unresolved = 0
    for bucket in buckets:
        alive = sorted(bucket, key=corpus.better)
        for _ in range(clusters.ROUNDS):
            if len(alive) < 2:
                break
            centre, *members = alive
            counts = {m: corpus.equal(m, centre) for m in members}
            found |= {(m, centre, c) for m, c in counts.items() if c >= least}
            alive = [m for m in members if counts[m] < least]
        if len(alive) > 1:
            unresolved += len(alive)
    return sorted(found), unresolved


@settings(max_examples=100)
@given(data=st.data(), corpus=corpora(), least=st.integers(1, SLOTS))
def test_near_edges_equal_the_plain_rule(data: st.DataObject, corpus: Corpus, least: int) -> None:
    documents = range(len(corpus.priority))
    bands = []
    buckets: list[list[int]] = []
    for _ in range(data.draw(st.integers(0, 3))):
        keys = data.draw(
            st.lists(st.integers(0, 3), min_size=len(documents), max_size=len(documents))
        )
        buckets += [[d for d in documents if keys[d] == key] for key in sorted(set(keys))]
        order = data.draw(st.permutations(documents))
        bands.append(
            (
                np.array([keys[d] for d in order], np.uint64),
                corpus.priority[order],
                np.array(order, np.uint64),
            )
        )
    found, counted = clusters.near_edges(bands, corpus.compare, least)
    expected, unresolved = plain_near_edges(buckets, corpus, least)
    assert as_rows(found) == expected
    assert counted == {"candidates": corpus.compared, "unresolved": unresolved}


def plain_survivors(
    exact: list[tuple[int, int, int]], near: list[tuple[int, int, int]], corpus: Corpus, least: int
) -> dict[int, tuple[int, int, bool]]:
    original = {member: centre for member, centre, _ in exact}
    links: dict[int, dict[int, int]] = {}
    for member, centre, equal in near:
        a, b = original.get(member, member), original.get(centre, centre)
        if a != b:
            a, b = sorted((a, b), key=corpus.better)
            links.setdefault(b, {})[a] = equal
    removed: dict[int, tuple[int, int, bool]] = {}
    for u in sorted(links, key=corpus.better):
        centres = sorted(links[u], key=corpus.better)
        options = [(v, links[u][v]) for v in centres if v not in removed]
        if not options:
            heads = list(dict.fromkeys(removed[v][0] for v in centres))[: clusters.FALLBACKS]
            options = [(s, corpus.equal(u, s)) for s in heads]
            options = [(s, equal) for s, equal in options if equal >= least]
        if options:
            removed[u] = (*max(options, key=lambda option: option[1]), False)
    for member, centre, _ in exact:
        removed[member] = removed.get(centre, (centre, SLOTS, True))
    return removed


@settings(max_examples=100)
@given(data=st.data(), corpus=corpora(), least=st.integers(1, SLOTS))
def test_survivors_equal_the_plain_rule(data: st.DataObject, corpus: Corpus, least: int) -> None:
    count = len(corpus.priority)
    # Copies: some documents have the text, and so the signature, of another one.
    copy_of = [data.draw(st.integers(0, i)) for i in range(count)]
    copy_of = [i if data.draw(st.booleans()) else root for i, root in enumerate(copy_of)]
    for i, root in enumerate(copy_of):
        copy_of[i] = copy_of[root]
        corpus.signatures[i] = corpus.signatures[copy_of[i]]
    groups: dict[int, list[int]] = {}
    for i, root in enumerate(copy_of):
        groups.setdefault(root, []).append(i)
    exact = []
    for group in groups.values():
        best, *rest = sorted(group, key=corpus.better)
        exact += [(m, best, SLOTS) for m in rest]
    pairs = st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=25)
    near = set()
    for a, b in data.draw(pairs):
        a, b = sorted((a, b), key=corpus.better)
        if a != b and corpus.equal(a, b) >= least:
            near.add((b, a, corpus.equal(a, b)))
    found, _ = clusters.choose_survivors(
        edges(exact), edges(sorted(near)), corpus.priority_of, corpus.signatures_of, least
    )
    removed = as_dict(found)
    assert removed == plain_survivors(exact, sorted(near), corpus, least)
    sizes: dict[int, int] = {}
    for survivor, _, _ in removed.values():
        sizes[survivor] = sizes.get(survivor, 1) + 1
    assert found.size.tolist() == [sizes[s] for s in found.survivor.tolist()]
    for address, (survivor, equal, _) in removed.items():
        assert survivor not in removed
        assert corpus.equal(address, survivor) == equal >= min(least, SLOTS)


def test_exact_edges_equal_plain_grouping() -> None:
    generator = np.random.default_rng(1)
    high, low = (generator.integers(0, 30, 400).astype(np.uint64) for _ in range(2))
    priority = generator.integers(0, 3, 400).astype(np.uint64)
    address = generator.permutation(400).astype(np.uint64)
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i in range(400):
        key = int(high[i]), int(low[i])
        groups.setdefault(key, []).append((-int(priority[i]), int(address[i])))
    expected = []
    for group in groups.values():
        best, *rest = sorted(group)
        expected += [(member, best[1], SLOTS) for _, member in rest]
    found = clusters.exact_edges(high, low, priority, address, SLOTS)
    assert sorted(as_rows(found)) == sorted(expected)


@pytest.mark.parametrize("slots", [1, 3, 10, 112, 128])
def test_least_equal_is_the_threshold(slots: int) -> None:
    for percent in range(1, 101):
        threshold = percent / 100
        least = clusters.least_equal(threshold, slots)
        assert least / slots >= threshold > (least - 1) / slots


def chain(length: int) -> Corpus:
    """Each document agrees with the next in 9 of 10 slots, with the one after in 8, ..."""
    signatures = np.arange(length)[:, None] + np.arange(SLOTS) + SLOTS
    return Corpus(signatures // SLOTS * SLOTS + np.arange(SLOTS), [1] * length)


def test_a_chain_does_not_collapse_onto_one_document() -> None:
    corpus = chain(400)
    links = [(b, a, corpus.equal(a, b)) for a, b in pairwise(range(400))]
    assert {equal for _, _, equal in links} == {9}
    found, counted = clusters.choose_survivors(
        edges([]), edges(links), corpus.priority_of, corpus.signatures_of, 7
    )
    removed = as_dict(found)
    # A document within three steps of a survivor goes because of it; the fourth stays.
    assert sorted(set(range(400)) - set(removed)) == list(range(0, 400, 4))
    assert counted == {"spared": 99}


def bucket_of(count: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    same = np.zeros(count, np.uint64)
    return [(same, same, np.arange(count, dtype=np.uint64))]


@pytest.mark.parametrize(
    ("make", "at_most"),
    [
        (lambda n: np.zeros((n, SLOTS)), 1),  # all alike: one star
        (lambda n: np.arange(n)[:, None] + np.zeros(SLOTS), clusters.ROUNDS),  # none alike
    ],
    ids=["identical", "a template with nothing else in common"],
)
def test_a_huge_bucket_costs_a_bounded_number_of_comparisons_a_member(
    make: Callable[[int], np.ndarray], at_most: int
) -> None:
    count = 200_000
    corpus = Corpus(make(count), [0] * count)
    found, counted = clusters.near_edges(bucket_of(count), corpus.compare, 7)
    assert counted["candidates"] <= at_most * count
    if at_most == 1:
        removals, _ = clusters.choose_survivors(
            edges([]), found, corpus.priority_of, corpus.signatures_of, 7
        )
        assert len(removals.address) == count - 1
        assert set(removals.survivor.tolist()) == {0}
    else:
        assert counted["unresolved"] == count - clusters.ROUNDS


def test_large_components_are_decided_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = chain(300)
    links = [(b, a, corpus.equal(a, b)) for a, b in pairwise(range(300)) if b % 10 != 0]
    results = []
    for bound in (1 << 16, 25, 1):
        monkeypatch.setattr(clusters, "BATCH_NODES", bound)
        found, _ = clusters.choose_survivors(
            edges([]), edges(links), corpus.priority_of, corpus.signatures_of, 7
        )
        results.append(as_dict(found))
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 30 * 7  # of ten, those at 0, 4 and 8 stay
