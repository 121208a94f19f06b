/* SPDX-License-Identifier: MIT */
/* sort: indices in ascending order of a key, ties by index. In place and without memory, which qsort() does not promise.
 * Private. */
#ifndef MIGBUF_LIB_SORT_H
#define MIGBUF_LIB_SORT_H
#include <stddef.h>
#include <stdint.h>

/* Writes the permutation of 0 .. n - 1 to order, ascending by key[i] / weight[i] (weight NULL: by key[i]). Keys are not
 * NaN, weights are positive. */
void migbuf__sort(const double *key, const double *weight, size_t *order, size_t n);

/* A key as its bits, and whose it is. */
struct migbuf__key {
    uint64_t bits;
    uint64_t index;
};

/* The bits of a key that is not NaN and not below 0: they ascend as it does. */
uint64_t migbuf__key_bits(double key);

/* The same order in O(n), for keys[0 .. n) that stand by ascending index, with keys[n .. 2 n) to work in. Returns where the
 * sorted ones are. */
const struct migbuf__key *migbuf__sort_keys(struct migbuf__key *keys, size_t n);
#endif
