/* SPDX-License-Identifier: MIT */
/* throttle: the paper's rate and its clamps. Formulas and reasons stand in the header. Pure; when which clamp is used is
 * said in policy_paper.c and space.c. */
#include "throttle.h"
#include "number.h"
#include "memory.h"
#include "slots.h"
#include "sort.h"
#include <string.h>

#define CONSTANTS_FIRST MIGBUF__FIRST(struct migbuf_throttle_constants, epsilon_bytes_per_s)

static const struct migbuf_throttle_constants defaults = {
    .tau_s = 1, .epsilon_bytes = 10000, .epsilon_bytes_per_s = 10000
};

int migbuf_throttle_constants_init(struct migbuf_throttle_constants *c, uint64_t size)
{
    return migbuf__struct_init(c, size, &defaults, sizeof defaults, CONSTANTS_FIRST);
}

static int take_constants(const struct migbuf_throttle_constants *given, struct migbuf_throttle_constants *c)
{
    int rc;

    if (!given)
        return MIGBUF_E_INVALID;
    *c = defaults;
    rc = migbuf__struct_take(c, sizeof *c, given, CONSTANTS_FIRST);
    if (!rc)
        rc = migbuf__positive(c->tau_s);
    if (!rc)
        rc = migbuf__positive(c->epsilon_bytes);
    return rc ? rc : migbuf__finite(c->epsilon_bytes_per_s);
}

int migbuf_throttle_rate(double capacity_bytes, double used_bytes, double priority,
                         const struct migbuf_throttle_constants *constants, double *rate_bytes_per_s)
{
    struct migbuf_throttle_constants c;
    int rc = take_constants(constants, &c);

    if (!rc)
        rc = migbuf__finite(capacity_bytes);
    if (!rc)
        rc = migbuf__finite(used_bytes);
    if (!rc)
        rc = migbuf__number(priority, 1, MIGBUF__MOST);
    if (rc)
        return rc;
    if (!rate_bytes_per_s)
        return MIGBUF_E_INVALID;

    *rate_bytes_per_s = migbuf__throttle_rate(capacity_bytes, used_bytes, priority, &c);
    return 0;
}

int migbuf_throttle_literal(double bin_bytes, double file_bytes, double priority, double link_share_bytes_per_s,
                            const struct migbuf_throttle_constants *constants, double *rate_bytes_per_s)
{
    struct migbuf_throttle_constants c;
    double rate;
    int rc = take_constants(constants, &c);

    if (!rc)
        rc = migbuf__finite(bin_bytes);
    if (!rc)
        rc = migbuf__finite(file_bytes);
    if (!rc)
        rc = migbuf__number(priority, 1, MIGBUF__MOST);
    if (!rc)
        rc = migbuf__amount(link_share_bytes_per_s);
    if (rc)
        return rc;
    if (!rate_bytes_per_s)
        return MIGBUF_E_INVALID;

    rate = bin_bytes * exp(-priority * file_bytes / (bin_bytes - file_bytes + c.epsilon_bytes)) + c.epsilon_bytes_per_s;
    /* The pole itself is 0 / 0 for an empty bin of size 0: no number, hence no throttle, as beyond the pole. */
    *rate_bytes_per_s = isnan(rate) ? link_share_bytes_per_s : fmin(rate, link_share_bytes_per_s);
    return 0;
}

int migbuf_throttle_hard_cap(double free_bytes, double amplification, double interval_s, double burst_s,
                             double request_bytes, double *rate_bytes_per_s)
{
    int rc = migbuf__amount(free_bytes);

    if (!rc)
        rc = migbuf__positive(amplification);
    if (!rc)
        rc = migbuf__positive(interval_s);
    if (!rc)
        rc = migbuf__finite(burst_s);
    if (!rc)
        rc = migbuf__finite(request_bytes);
    if (rc)
        return rc;
    if (!rate_bytes_per_s)
        return MIGBUF_E_INVALID;
    *rate_bytes_per_s = migbuf__hard_cap(free_bytes, amplification, interval_s, burst_s, request_bytes);
    return 0;
}

int migbuf_throttle_pending(double rate_bytes_per_s, double device_bytes_per_s, double amplification, double lag_s,
                            double burst_s, double request_bytes, double *bytes)
{
    int rc = migbuf__amount(rate_bytes_per_s);

    if (!rc)
        rc = migbuf__amount(device_bytes_per_s);
    if (!rc)
        rc = migbuf__positive(amplification);
    if (!rc)
        rc = migbuf__finite(lag_s);
    if (!rc)
        rc = migbuf__finite(burst_s);
    if (!rc)
        rc = migbuf__finite(request_bytes);
    if (rc)
        return rc;
    if (!bytes)
        return MIGBUF_E_INVALID;
    *bytes = lag_s > 0
                 ? amplification * (fmin(rate_bytes_per_s, device_bytes_per_s) * (lag_s + burst_s) + request_bytes)
                 : 0;
    return 0;
}

/* Those that would be left with less than their floors lack more than those leave that want no more than their part. */
static int floors_come_first(const double *amount, const double *weight, const double *floor, const size_t *those_left,
                             size_t count, double level)
{
    double lack = 0, leave = 0;

    for (size_t k = 0; k < count; k++) {
        size_t i = those_left[k];
        double part = (weight ? weight[i] : 1) * level;

        lack += migbuf__most(floor[i] - part, 0);
        leave += migbuf__most(part - amount[i], 0);
    }
    return lack > leave;
}

/* Whoever wants no more than its part, if the rest were divided among all that are left, is satisfied, and leaves the others
 * more: until nobody is. Whoever has to have more gets that, and leaves the others less; of these two whichever is more goes
 * first, so that nobody who was put aside has to be asked again. What all are left with is summed anew each time: of a sum
 * taken apart little is sure in the end. */
static double level_of(const double *amount, const double *weight, const double *floor, size_t n, double left, size_t *those_left)
{
    double weights = 0, level = INFINITY;

    for (size_t i = 0; i < n; i++) {
        those_left[i] = i;
        weights += weight ? weight[i] : 1;
    }
    for (size_t count = n; count;) {
        int to_floors = floor && floors_come_first(amount, weight, floor, those_left, count, left / weights);
        double still = 0, taken = 0;
        size_t kept = 0;

        level = floor ? left / weights : INFINITY;
        for (size_t k = 0; k < count; k++) {
            size_t i = those_left[k];
            double w = weight ? weight[i] : 1, bytes = to_floors ? floor[i] : amount[i];
            int stays = to_floors ? bytes * weights <= left * w : bytes * weights > left * w;

            those_left[kept] = i;
            kept += (size_t)stays;
            still += stays ? w : 0;
            taken += stays ? 0 : bytes;
        }
        if (kept == count)
            return left / weights;
        left = migbuf__most(left - taken, 0);
        weights = still;
        count = kept;
    }
    return level;
}

int migbuf_throttle_shave(const double *amount, const double *weight, size_t n, double total, size_t *scratch,
                          double *level)
{
    double left = fmax(total, 0), sum = 0;
    int rc = migbuf__number(total, -INFINITY, INFINITY);

    if ((n && (!amount || !scratch)) || !level)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < n && !rc; i++) {
        rc = migbuf__amount(amount[i]);
        if (!rc && weight)
            rc = migbuf__positive(weight[i]);
        sum += amount[i];
    }
    if (rc)
        return rc;
    *level = sum <= left ? INFINITY : level_of(amount, weight, NULL, n, left, scratch);
    return 0;
}

double migbuf__shave(const double *amount, const double *weight, const double *floor, size_t n, double total, size_t *scratch)
{
    double left = migbuf__most(total, 0), sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += amount[i];
    return sum <= left ? INFINITY : level_of(amount, weight, floor, n, left, scratch);
}

/* Lowest first: the rate of each binds all who are, through any chain, its borrowers, unless something lower did already.
 * order[0 .. lenders) are those that lend; y begins as x. */
static void bind_borrowers(const size_t *order, size_t lenders, const double *x, const size_t *first, const size_t *borrower,
                           size_t *stack, double *y)
{
    for (size_t k = 0; k < lenders; k++) {
        double rate = x[order[k]];
        size_t height = 0;

        if (y[order[k]] < rate)
            continue;
        stack[height++] = order[k];
        while (height) {
            size_t host = stack[--height];

            for (size_t e = first[host]; e < first[host + 1]; e++) {
                if (y[borrower[e]] <= rate)
                    continue;
                y[borrower[e]] = rate;
                stack[height++] = borrower[e];
            }
        }
    }
}

int migbuf_throttle_lenders(const double *x, size_t n, const size_t *first, const size_t *borrower, size_t *scratch,
                          double *y)
{
    if (!n)
        return 0;
    if (!x || !first || !scratch || !y || first[0] != 0)
        return MIGBUF_E_INVALID;
    for (size_t i = 0; i < n; i++) {
        int rc = first[i + 1] < first[i] ? MIGBUF_E_INVALID : migbuf__amount(x[i]);

        if (rc)
            return rc;
    }
    if (first[n] && !borrower)
        return MIGBUF_E_INVALID;
    for (size_t e = 0; e < first[n]; e++)
        if (borrower[e] >= n)
            return MIGBUF_E_RANGE;

    memmove(y, x, n * sizeof *y);
    if (!first[n])
        return 0;
    migbuf__sort(x, NULL, scratch, n);
    bind_borrowers(scratch, n, x, first, borrower, scratch + n, y);
    return 0;
}

void migbuf__lenders(const double *x, size_t n, const size_t *first, const size_t *borrower, size_t *scratch,
                     struct migbuf_planner_slot *slots, double *y)
{
    size_t lenders = 0;

    memcpy(y, x, n * sizeof *y);
    for (size_t i = 0; i < n; i++)
        if (first[i + 1] > first[i]) {
            slots[lenders].number[SLOT_KEY] = x[i];
            slots[lenders++].index[SLOT_ITEM] = i;
        }
    migbuf__slots_sort(slots, lenders, NULL, NULL);
    for (size_t k = 0; k < lenders; k++)
        scratch[k] = (size_t)slots[k].index[SLOT_ITEM];
    bind_borrowers(scratch, lenders, x, first, borrower, scratch + n, y);
}
