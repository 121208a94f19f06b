/* SPDX-License-Identifier: MIT */
/* priority: the mean of positions in bins. Pure; where the positions come from is the ledger's business. */
#include "migbuf/priority.h"

int migbuf_priority_mean(const uint32_t *positions, size_t n, double *mean)
{
    double sum = 0;

    if (!positions || !n || !mean)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < n; i++) {
        if (!positions[i])
            return MIGBUF_E_RANGE;
        sum += positions[i];
    }
    *mean = sum / (double)n;
    return 0;
}
