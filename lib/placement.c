/* SPDX-License-Identifier: MIT */
/* placement: shares of Ω, pouring over bins, and the paper's own rules for comparison. Pure: amounts in, amounts out; the
 * ledger that uses them is bins.c. */
#include "migbuf/placement.h"
#include "number.h"
#include "migbuf/bins.h"
#include "sort.h"

/* part * weight / weights, rounded down, though the product needs up to 72 bits: part < weights <= 2^32 * 10^6 < 2^52. */
static uint64_t part_of(uint64_t part, uint64_t weight, uint64_t weights)
{
    uint64_t high = part * (weight >> 10);

    return (high / weights << 10) + ((high % weights << 10) + part * (weight & 1023)) / weights;
}

int migbuf_placement_shares(uint64_t capacity_bytes, const uint32_t *weight, size_t n, uint64_t *share_bytes)
{
    uint64_t weights = n, given = 0, whole, part;

    if (!n || !share_bytes)
        return MIGBUF_E_INVALID;
    if (capacity_bytes > MIGBUF_BYTES_MAX || weights > UINT64_C(1) << 32)
        return MIGBUF_E_RANGE;
    if (weight) {
        weights = 0;
        for (size_t i = 0; i < n; i++) {
            if (weight[i] < 1 || weight[i] > 1000000)
                return MIGBUF_E_RANGE;
            weights += weight[i];
        }
    }
    /* capacity * w / W = (capacity / W) * w + (capacity % W) * w / W */
    whole = capacity_bytes / weights;
    part = capacity_bytes % weights;
    for (size_t i = 0; i < n; i++) {
        uint64_t w = weight ? weight[i] : 1;

        share_bytes[i] = whole * w + (weights <= UINT64_C(1) << 40 ? part * w / weights : part_of(part, w, weights));
        given += share_bytes[i];
    }
    /* Rounding down loses less than one byte per bin. */
    for (size_t i = 0; given < capacity_bytes; i++, given++)
        share_bytes[i]++;
    return 0;
}

int migbuf_placement_pour(const double *used_bytes, const double *share_bytes, size_t n, double amount_bytes,
                          size_t *scratch, double *placed_bytes, double *rest_bytes)
{
    int rc = migbuf__finite(amount_bytes);

    if ((n && (!used_bytes || !share_bytes || !scratch || !placed_bytes)) || !rest_bytes)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < n && !rc; i++) {
        rc = migbuf__finite(used_bytes[i]);
        if (!rc)
            rc = migbuf__finite(share_bytes[i]);
    }
    if (rc)
        return rc;

    migbuf__sort(used_bytes, NULL, scratch, n);
    for (size_t k = 0; k < n; k++) {
        size_t i = scratch[k];

        placed_bytes[i] = fmin(amount_bytes, fmax(0, share_bytes[i] - used_bytes[i]));
        amount_bytes -= placed_bytes[i];
    }
    *rest_bytes = amount_bytes;
    return 0;
}

int migbuf_placement_literal_halving(const double *free_bytes, size_t n, double amount_bytes, uint32_t max_halvings)
{
    int rc = migbuf__finite(amount_bytes);

    if (n && !free_bytes)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < n && !rc; i++)
        rc = migbuf__finite(free_bytes[i]);
    if (!rc && max_halvings > 40)
        rc = MIGBUF_E_RANGE;
    if (rc)
        return rc;

    for (uint32_t k = 0; k <= max_halvings; k++) {
        double parts = ldexp(1, (int)k), part = amount_bytes / parts, slots = 0;

        for (size_t i = 0; i < n && part > 0; i++)
            slots += floor(free_bytes[i] / part);
        if (part <= 0 || slots >= parts)
            return (int)k;
    }
    return MIGBUF_E_NOSPACE;
}

int migbuf_placement_literal_reclaim(const double *shard_bytes, size_t n, double home_room_bytes)
{
    double sum = 0;
    int rc = migbuf__finite(home_room_bytes);

    if (!shard_bytes || !n)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < n && !rc; i++) {
        rc = migbuf__finite(shard_bytes[i]);
        if (!rc && i && shard_bytes[i] < shard_bytes[i - 1])
            rc = MIGBUF_E_INVALID;
    }
    if (rc)
        return rc;

    for (size_t k = 0; k < n; k++) {
        sum += shard_bytes[k];
        if (sum > home_room_bytes)
            return k ? (int)k : MIGBUF_E_NOSPACE;
    }
    return (int)n;
}
