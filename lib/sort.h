/* SPDX-License-Identifier: MIT */
/* sort: indices in ascending order of a key, ties by index. In place and without memory, which qsort() does not promise.
 * Private. */
#ifndef MIGBUF_LIB_SORT_H
#define MIGBUF_LIB_SORT_H
#include <stddef.h>

/* Writes the permutation of 0 .. n - 1 to order, ascending by key[i] / weight[i] (weight NULL: by key[i]). Keys are not
 * NaN, weights are positive. */
void migbuf__sort(const double *key, const double *weight, size_t *order, size_t n);
#endif
