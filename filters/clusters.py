"""From band rows to removals: candidate pairs, verification, survivors.

Documents are addressed by uint64: task ordinal << 32 | row. The order of survival is (priority
descending, address ascending); "better" means earlier in it.

Every bucket (equal hash in one band) links its members to its best document only: a star, so that
a bucket of m documents costs m - 1 comparisons and not m * (m - 1) / 2. A link counts when the
signatures agree in enough slots. Members that fail try again among themselves, a bounded number of
rounds.

Survivors are then chosen greedily in the order of survival: a document goes only because of a
survivor that its own signature was compared with, never because both resemble a third one. All of
it depends on the set of documents and their order alone, not on how they are cut into tasks or
partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
I32 = npt.NDArray[np.int32]

ROUNDS = 8  # how often the members of a bucket that failed try again among themselves
FALLBACKS = 8  # survivors tried by a document all of whose star centres were removed
BATCH_NODES = 1 << 16  # documents whose signatures are in memory at once (57 MB at 112 slots)


@dataclass(frozen=True)
class Edges:
    """Verified links: uint64 addresses of a member and of the better document it resembles, and
    in how many slots their signatures agree (int32)."""

    member: U64
    centre: U64
    equal: I32

    def __len__(self) -> int:
        return len(self.member)

    @classmethod
    def join(cls, parts: Sequence[Edges]) -> Edges:
        """All of them, sorted by (member, centre), each pair once."""
        member = np.concatenate([np.empty(0, np.uint64), *(p.member for p in parts)])
        centre = np.concatenate([np.empty(0, np.uint64), *(p.centre for p in parts)])
        equal = np.concatenate([np.empty(0, np.int32), *(p.equal for p in parts)])
        order = np.lexsort((centre, member))
        member, centre, equal = member[order], centre[order], equal[order]
        first = np.ones(len(member), np.bool_)
        first[1:] = (member[1:] != member[:-1]) | (centre[1:] != centre[:-1])
        return cls(member[first], centre[first], equal[first])


@dataclass(frozen=True)
class Removals:
    """One entry a removed document, by ascending address.

    `equal` counts agreeing slots of the signatures of the two; `exact` says that the texts are
    equal too, `size` how many documents the survivor stands for, itself included.
    """

    address: U64
    survivor: U64
    equal: I32
    exact: npt.NDArray[np.bool_]
    size: I64


def least_equal(threshold: float, slots: int) -> int:
    """The smallest count with count / slots >= threshold, in correctly rounded division."""
    count = int(threshold * slots)
    while count > 0 and (count - 1) / slots >= threshold:
        count -= 1
    while count / slots < threshold:
        count += 1
    return count


def exact_edges(hashes: U64, low: U64, priority: U64, address: U64, slots: int) -> Edges:
    """Links all documents with the same 128-bit hash (hashes, low) to the best of them."""
    kept = _repeated(hashes)
    hashes, low, priority, address = hashes[kept], low[kept], priority[kept], address[kept]
    order = np.lexsort((address, ~priority, low, hashes))
    hashes, low, address = hashes[order], low[order], address[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (hashes[1:] != hashes[:-1]) | (low[1:] != low[:-1])
    centre = address[first][np.cumsum(first) - 1]
    member = ~first
    return Edges(address[member], centre[member], np.full(int(member.sum()), slots, np.int32))


def near_edges(
    bands: Sequence[tuple[U64, U64, U64]],
    compare: Callable[[U64, U64], I32],
    least: int,
) -> tuple[Edges, dict[str, int]]:
    """Verified star edges of the buckets of one or more bands.

    bands: for each its (hash, priority, address), equally long; rows in any order.
    compare: addresses of members and centres -> number of equal slots of each pair.
    least: the count from which on a pair is verified.
    Returns the edges and {"candidates": pairs compared, "unresolved": members left when the rounds
    were over}.
    """
    parts = []
    buckets = 0
    for hashes, priority, address in bands:
        kept = _repeated(hashes)
        values, bucket = np.unique(hashes[kept], return_inverse=True)
        parts.append((bucket + buckets, priority[kept], address[kept]))
        buckets += len(values)
    bucket = np.concatenate([np.empty(0, np.int64), *(p[0] for p in parts)])
    priority = np.concatenate([np.empty(0, np.uint64), *(p[1] for p in parts)])
    address = np.concatenate([np.empty(0, np.uint64), *(p[2] for p in parts)])
    order = np.lexsort((address, ~priority, bucket))
    bucket, address = bucket[order], address[order]

    verified = []
    candidates = 0
    for _ in range(ROUNDS):
        first = np.ones(len(bucket), np.bool_)
        first[1:] = bucket[1:] != bucket[:-1]
        if first.all():
            break
        centre = address[first][np.cumsum(first) - 1]
        bucket, address, centre = bucket[~first], address[~first], centre[~first]
        # The same pair meets in several buckets: compare it once.
        by_pair = np.lexsort((address, centre))
        new = np.ones(len(by_pair), np.bool_)
        new[1:] = (address[by_pair][1:] != address[by_pair][:-1]) | (
            centre[by_pair][1:] != centre[by_pair][:-1]
        )
        once = by_pair[new]
        equal_once = compare(address[once], centre[once])
        candidates += len(once)
        equal = np.empty(len(by_pair), np.int32)
        equal[by_pair] = equal_once[np.cumsum(new) - 1]
        good = equal_once >= least
        verified.append(Edges(address[once][good], centre[once][good], equal_once[good]))
        failed = equal < least
        bucket, address = bucket[failed], address[failed]
    left = np.bincount(bucket, minlength=1) if len(bucket) else np.zeros(1, np.int64)
    unresolved = int(left[left > 1].sum())
    return Edges.join(verified), {"candidates": candidates, "unresolved": unresolved}


def count_equal(signatures: U64, left: I64, right: I64) -> I32:
    """int32: in how many slots rows left[i] and right[i] of uint64[n, slots] agree."""
    out = np.empty(len(left), np.int32)
    _count_equal(signatures, left, right, out)
    return out


def choose_survivors(
    exact: Edges,
    near: Edges,
    priority_of: Callable[[U64], U64],
    signatures_of: Callable[[U64], U64],
    least: int,
) -> tuple[Removals, dict[str, int]]:
    """Removals from all edges of a corpus.

    priority_of, signatures_of: ascending addresses -> uint64[n] and uint64[n, slots].
    A copy of a removed document (equal text, so equal signature) goes because of the document's
    survivor, as a near duplicate. Returns the removals and {"spared": documents kept although they
    resemble a removed one, since they resemble none of the survivors tried}.
    """
    # Documents of equal text are one node: the best of them.
    by_member = np.argsort(exact.member)
    copies, originals = exact.member[by_member], exact.centre[by_member]
    member, centre = _original(near.member, copies, originals), _original(
        near.centre, copies, originals
    )  # fmt: skip
    nodes = np.unique(np.concatenate([member, centre]))
    order = np.lexsort((nodes, ~priority_of(nodes)))
    rank = np.empty(len(nodes), np.int64)
    rank[order] = np.arange(len(nodes))
    ends = rank[np.searchsorted(nodes, member)], rank[np.searchsorted(nodes, centre)]
    worse, better = np.maximum(*ends), np.minimum(*ends)
    by_rank = np.lexsort((better, worse))
    by_rank = by_rank[worse[by_rank] != better[by_rank]]
    worse, better, equal = worse[by_rank], better[by_rank], near.equal[by_rank]
    first = np.searchsorted(worse, np.arange(len(nodes) + 1))

    survivor = np.full(len(nodes), -1, np.int64)  # rank; -1: stays
    agree = np.zeros(len(nodes), np.int32)
    addresses = nodes[order]  # by rank
    row = np.full(len(nodes), -1, np.int64)
    tried = np.empty(FALLBACKS, np.int64)
    spared = 0
    for batch, compares in _batches(worse, better, first):
        signatures = np.empty((0, 0), np.uint64)
        if compares:
            by_address = batch[np.argsort(addresses[batch])]
            row[by_address] = np.arange(len(batch))
            signatures = signatures_of(addresses[by_address])
        spared += _greedy(
            batch, first, better, equal, row, signatures, least, tried, survivor, agree
        )

    # Of the copies, those of a removed document follow it.
    gone = np.flatnonzero(survivor >= 0)
    near_address, near_survivor = addresses[gone], addresses[survivor[gone]]
    near_equal = agree[gone]
    sort = np.argsort(near_address)
    near_address, near_survivor = near_address[sort], near_survivor[sort]
    near_equal = near_equal[sort]
    at = np.searchsorted(near_address, originals)
    follows = at < len(near_address)
    follows[follows] = near_address[at[follows]] == originals[follows]
    copy_survivor, copy_equal = originals.copy(), exact.equal[by_member].copy()
    copy_survivor[follows] = near_survivor[at[follows]]
    copy_equal[follows] = near_equal[at[follows]]

    address = np.concatenate([near_address, copies])
    kept = np.concatenate([near_survivor, copy_survivor])
    equal_slots = np.concatenate([near_equal, copy_equal])
    is_exact = np.concatenate([np.zeros(len(near_address), np.bool_), ~follows])
    sort = np.argsort(address)
    _, which, counts = np.unique(kept, return_inverse=True, return_counts=True)
    size = (counts[which] + 1).astype(np.int64)
    removals = Removals(address[sort], kept[sort], equal_slots[sort], is_exact[sort], size[sort])
    return removals, {"spared": spared}


def warm() -> None:
    """Compile (or load from cache) all kernels of this module."""
    pair = Edges(np.array([1], np.uint64), np.array([0], np.uint64), np.array([1], np.int32))
    none = Edges.join([])
    signatures = np.zeros((2, 1), np.uint64)
    count_equal(signatures, np.array([0]), np.array([1]))
    choose_survivors(none, pair, np.zeros_like, lambda a: signatures[: len(a)], 1)


def _repeated(values: U64) -> I64:
    """Positions of the values that occur more than once, ascending by value."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    again = ordered[1:] == ordered[:-1]
    several = np.zeros(len(values), np.bool_)
    several[1:] |= again
    several[:-1] |= again
    return order[several]


def _original(address: U64, copies: U64, originals: U64) -> U64:
    """For each address the document that it is a copy of, or itself."""
    if not len(copies):
        return address
    at = np.minimum(np.searchsorted(copies, address), len(copies) - 1)
    return np.where(copies[at] == address, originals[at], address)


def _batches(worse: I64, better: I64, first: I64) -> list[tuple[I64, bool]]:
    """Ascending ranks of whole components, and whether signatures are needed for them.

    They are where a star's centre is in turn a member of another star. A component is never split.
    """
    count = len(first) - 1
    label = np.arange(count)
    _components(worse, better, label)
    chained = np.zeros(count, np.bool_)
    has_centre = first[1:] > first[:-1]
    chained[label[worse[has_centre[better]]]] = True
    deep = chained[label]
    batches = [(np.flatnonzero(~deep), False)]
    ranks = np.flatnonzero(deep)
    ranks = ranks[np.argsort(label[ranks], kind="stable")]
    if len(ranks):
        starts = np.flatnonzero(np.diff(label[ranks], prepend=-1))
        stops = np.append(starts[1:], len(ranks))
        begin = 0
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            if stop - begin > BATCH_NODES and start > begin:
                batches.append((np.sort(ranks[begin:start]), True))
                begin = start
        batches.append((np.sort(ranks[begin:]), True))
    return batches


@njit(nogil=True, cache=True)
def _count_equal(signatures: U64, left: I64, right: I64, out: I32) -> None:
    for i in range(left.shape[0]):
        same = 0
        for k in range(signatures.shape[1]):
            same += signatures[left[i], k] == signatures[right[i], k]
        out[i] = same


@njit(nogil=True, cache=True)
def _components(worse: I64, better: I64, label: I64) -> None:
    """Union by smaller rank with path halving; at the end every label is a root."""
    for e in range(worse.shape[0]):
        a, b = worse[e], better[e]
        while label[a] != a:
            label[a] = label[label[a]]
            a = label[a]
        while label[b] != b:
            label[b] = label[label[b]]
            b = label[b]
        if a != b:
            label[max(a, b)] = min(a, b)
    for i in range(label.shape[0]):
        label[i] = label[label[i]]  # smaller ranks are done already


@njit(nogil=True, cache=True)
def _greedy(
    batch: I64, first: I64, better: I64, equal: I32, row: I64, signatures: U64, least: int,
    tried: I64, survivor: I64, agree: I32,
) -> int:  # fmt: skip
    """Decide the documents of a batch in order of rank. Returns how many were spared."""
    spared = 0
    for u in batch:
        begin, end = first[u], first[u + 1]
        best, most = -1, 0
        for e in range(begin, end):
            if survivor[better[e]] < 0 and equal[e] > most:
                best, most = better[e], equal[e]
        if best < 0 and end > begin:
            tries = 0  # `tried` is scratch memory
            for e in range(begin, end):
                s = survivor[better[e]]
                known = False
                for t in range(tries):
                    known |= tried[t] == s
                if known or tries == FALLBACKS:
                    continue
                tried[tries] = s
                tries += 1
                same = 0
                for k in range(signatures.shape[1]):
                    same += signatures[row[u], k] == signatures[row[s], k]
                if same >= least and same > most:
                    best, most = s, same
            spared += best < 0
        if best >= 0:
            survivor[u] = best
            agree[u] = most
    return spared
