/* SPDX-License-Identifier: MIT */
/* sort: indices in the order of their keys. In place: no memory, no recursion, no key is moved. Or, with twice the place,
 * digit by digit: no comparison, so ten times as many cost ten times as much. Both give the one order there is. */
#include "sort.h"
#include <string.h>

#define DIGITS 8
#define VALUES 256
#define FEW 48 /* so many are sorted sooner than the digits are counted */

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

uint64_t migbuf__key_bits(double key)
{
    uint64_t bits;

    key += 0.0; /* -0 is 0 */
    memcpy(&bits, &key, sizeof bits);
    return bits;
}

static unsigned digit(uint64_t bits, int d)
{
    return (unsigned)(bits >> 8 * d) % VALUES;
}

static void insertion(struct migbuf__key *keys, size_t n)
{
    for (size_t k = 1; k < n; k++) {
        struct migbuf__key moving = keys[k];
        size_t at = k;

        for (; at && keys[at - 1].bits > moving.bits; at--)
            keys[at] = keys[at - 1];
        keys[at] = moving;
    }
}

/* Lowest digit first; each pass keeps the order of those before it. A digit that all have alike needs none. */
const struct migbuf__key *migbuf__sort_keys(struct migbuf__key *keys, size_t n)
{
    struct migbuf__key *from = keys, *to = keys + n;
    uint32_t next[DIGITS][VALUES];

    if (n <= FEW) {
        insertion(keys, n);
        return keys;
    }
    memset(next, 0, sizeof next);
    for (size_t k = 0; k < n; k++)
        for (int d = 0; d < DIGITS; d++)
            next[d][digit(keys[k].bits, d)]++;
    for (int d = 0; d < DIGITS; d++) {
        struct migbuf__key *t = from;
        uint32_t sum = 0;

        if (next[d][digit(keys[0].bits, d)] == n)
            continue;
        for (int v = 0; v < VALUES; v++) {
            uint32_t count = next[d][v];

            next[d][v] = sum;
            sum += count;
        }
        for (size_t k = 0; k < n; k++)
            to[next[d][digit(from[k].bits, d)]++] = from[k];
        from = to;
        to = t;
    }
    return from;
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
