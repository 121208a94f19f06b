/* SPDX-License-Identifier: MIT */
/* The most that any policy could have delivered; the relaxation stands in bound.h. */
#include "bound.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define STEPS 300

struct bound {
    uint32_t vms;
    double omega;
    double *most; /* [interval][vm] */
    size_t intervals, room;
};

struct bound *bound_new(uint32_t vms, double omega)
{
    struct bound *b = calloc(1, sizeof *b);

    if (b)
        *b = (struct bound){ .vms = vms, .omega = omega };
    return b;
}

void bound_free(struct bound *b)
{
    if (b)
        free(b->most);
    free(b);
}

int bound_interval(struct bound *b, const double *most_growth)
{
    if (b->intervals == b->room) {
        size_t room = b->room ? 2 * b->room : 64;
        double *more = realloc(b->most, room * b->vms * sizeof *more);

        if (!more)
            return -1;
        b->most = more;
        b->room = room;
    }
    memcpy(b->most + b->intervals++ * b->vms, most_growth, b->vms * sizeof *most_growth);
    return 0;
}

/* The best answer of one VM to given prices, and what it then has at each event. Later growth is never dearer: take
 * that first. after[m]: price of growth in interval m, the sum over the events it lives to see. */
static double answer(const struct bound *b, uint32_t j, double full, const double *price, double *used, double *taken)
{
    double cost = 0, left = full, value = 0, sum = 0;
    size_t first = 0;

    for (size_t m = b->intervals; m-- > 0;) {
        double most = b->most[m * b->vms + j], take = 0;

        if (most > 0) {
            cost += price[m];
            first = m;
            if (cost * full < 1) {
                take = fmin(most, left);
                value += take * (1 / full - cost);
                left -= take;
            }
        }
        taken[m] = take;
    }
    for (size_t m = first; m < b->intervals; m++)
        if (b->most[m * b->vms + j] > 0) {
            sum += taken[m];
            used[m] += sum;
        }
    return value;
}

double bound_value(struct bound *b, const double *full, uint32_t counted)
{
    double *price = calloc(3 * (b->intervals + 1), sizeof *price), *used = NULL, *taken = NULL;
    double best = 0, scale = 0;
    uint32_t writers = 0;

    for (uint32_t j = 0; j < b->vms; j++)
        if (full[j] > 0) {
            scale += 1 / full[j];
            writers++;
        }
    best = writers;
    if (!price)
        return 1;
    used = price + b->intervals + 1;
    taken = used + b->intervals + 1;
    for (int step = 1; step <= STEPS && writers; step++) {
        double value = 0, rate = scale / writers / sqrt(step);

        memset(used, 0, b->intervals * sizeof *used);
        for (uint32_t j = 0; j < b->vms; j++)
            if (full[j] > 0)
                value += answer(b, j, full[j], price, used, taken);
        for (size_t m = 0; m < b->intervals; m++) {
            value += price[m] * b->omega;
            price[m] = fmax(0, price[m] + 0.5 * rate * fmin(1, (used[m] - b->omega) / b->omega));
        }
        best = fmin(best, value);
    }
    free(price);
    return counted ? fmin(1, (best + counted - writers) / counted) : 1;
}
