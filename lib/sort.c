/* SPDX-License-Identifier: MIT */
/* sort: indices in the order of their keys. In place: no memory, no recursion, no key is moved. */
#include "sort.h"

static int before(const double *key, const double *weight, size_t a, size_t b)
{
    double x = weight ? key[a] / weight[a] : key[a], y = weight ? key[b] / weight[b] : key[b];

    return x < y || (x <= y && a < b);
}

static void sift_down(const double *key, const double *weight, size_t *order, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(key, weight, order[child], order[child + 1]))
            child++;
        if (!before(key, weight, order[i], order[child]))
            return;
        size_t t = order[i];
        order[i] = order[child];
        order[child] = t;
    }
}

void migbuf__sort(const double *key, const double *weight, size_t *order, size_t n)
{
    for (size_t i = 0; i < n; i++)
        order[i] = i;
    for (size_t i = n / 2; i-- > 0;)
        sift_down(key, weight, order, i, n);
    for (size_t end = n; end > 1;) {
        size_t t = order[--end];
        order[end] = order[0];
        order[0] = t;
        sift_down(key, weight, order, 0, end);
    }
}
