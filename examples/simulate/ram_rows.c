/* SPDX-License-Identifier: MIT */
/* See ram_rows.h. */
#include "ram_rows.h"
#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double quantile(double *value, size_t n, double part)
{
    size_t at = (size_t)(part * (double)n);

    qsort(value, n, sizeof *value, compare);
    return n ? value[at < n ? at : n - 1] : NAN;
}
