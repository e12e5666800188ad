"""Weights that are shared, pruned and coded: Deep Compression without its retraining (Han, Mao & Dally 2016).

Stage 1 sets a layer's smallest weights to 0, stage 2 gives each other weight one of the layer's 2^bits values,
stage 3 codes them by Huffman. The default weights are at stage 2 already, with 8 bits. None of this speeds up dense
arithmetic: only the file shrinks.
"""

from __future__ import annotations

import heapq

import torch

from nstlab.network import in_double

ITERATIONS = 30  # of k-means; the codebooks hardly move any more
LARGEST_ALPHABET = 4096  # of a Huffman code; larger ones are counted as plain 32-bit numbers
GAP_BITS = 5  # a position is coded as its distance to the previous one, up to 2^5 (Han et al., figure 2)


def prune(weight: torch.Tensor, sparsity: float) -> torch.Tensor:
    """The weights with the fraction `sparsity`, in [0, 1), of smallest |w| set to 0.

    >>> prune(torch.tensor([3.0, -1.0, 2.0, -4.0]), 0.5)
    tensor([ 3.,  0.,  0., -4.])
    """
    count = round(sparsity * weight.numel())
    smallest = weight.abs().flatten().argsort(stable=True)[:count]
    pruned = weight.flatten().clone()
    pruned[smallest] = 0.0
    return pruned.view_as(weight)


def quantise(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """The weights, with each that is not 0 replaced by the nearest of at most 2^bits values, the codebook.

    k-means in one dimension from evenly spaced values, which Han et al. found best ("linear initialisation",
    section 3.2), with Lloyd's iterations computed exactly on the sorted weights. If there are no more distinct weights
    than codebook entries, they stay unchanged.

    >>> quantise(torch.tensor([0.0, 1.0, 1.2, 5.0, 5.4]), 1)
    tensor([0.0000, 1.1000, 1.1000, 5.2000, 5.2000])
    """
    kept = weight != 0
    exact = in_double(weight[kept])
    values = exact.sort().values
    if not len(values) or len(values.unique()) <= 2**bits:
        return weight.clone()
    sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
    centres = torch.linspace(float(values[0]), float(values[-1]), 2**bits, dtype=values.dtype, device=values.device)
    for _ in range(ITERATIONS):
        ends = torch.searchsorted(values, (centres[1:] + centres[:-1]) / 2)
        ends = torch.cat([ends.new_zeros(1), ends, ends.new_full((1,), len(values))])
        counts = ends.diff()
        means = sums[ends].diff() / counts.clamp_min(1)
        moved = torch.where(counts > 0, means, centres).sort().values
        if torch.equal(moved, centres):
            break
        centres = moved
    nearest = torch.bucketize(exact, (centres[1:] + centres[:-1]) / 2)
    shared = weight.clone()
    shared[kept] = centres[nearest].to(weight)
    return shared


def huffman_bits(counts: list[int]) -> int:
    """The length in bits of a text in Huffman's code, from how often each of its symbols occurs.

    It lies between the text's entropy and that plus one bit per symbol (Huffman 1952).

    >>> huffman_bits([4, 2, 1, 1])  # codes of 1, 2, 3 and 3 bits
    14
    """
    heap = [count for count in counts if count]
    if len(heap) < 2:
        return sum(heap)
    heapq.heapify(heap)
    total = 0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        total += both
        heapq.heappush(heap, both)
    return total


def coded_bytes(weights: list[torch.Tensor], biases: list[torch.Tensor]) -> int:
    """The bytes that these layers take without pruned weights, with both values and positions Huffman-coded.

    For each layer: its codebook and biases at 32 bits, one code per weight that is not 0 and, if there are zeros, one
    code for its distance to the previous one (more for a distance beyond 32). If a layer has too many distinct weights
    for a codebook, each takes 32 bits.
    """
    bits = sum(32 * bias.numel() for bias in biases)
    for weight in weights:
        flat = weight.flatten()
        places = torch.nonzero(flat).flatten()
        values, counts = flat[places].unique(return_counts=True)
        if len(values) > LARGEST_ALPHABET:
            bits += 32 * len(places)
        else:
            bits += 32 * len(values) + huffman_bits(counts.tolist())
        if 0 < len(places) < len(flat):
            gaps = torch.cat([places[:1] + 1, places.diff()]) - 1
            symbols = torch.bincount(gaps % 2**GAP_BITS, minlength=2**GAP_BITS).tolist()
            further = int((gaps // 2**GAP_BITS).sum())
            bits += huffman_bits([*symbols, further])
    return -(-bits // 8)
