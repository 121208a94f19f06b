/* SPDX-License-Identifier: MIT */
/* slots: sorting and a heap in scratch that the caller has anyway. What the slots stand for is not known here. */
#include "slots.h"
#include "number.h"
#include <string.h>

/* Sorting */

#define DIGITS 8
#define VALUES 256
#define FEW 48 /* so many are sorted sooner than the digits are counted */

static int goes_behind(const struct migbuf_planner_slot *x, const struct migbuf_planner_slot *y, migbuf__tie_break *tie,
                       const void *items)
{
    return x->number[SLOT_KEY] > y->number[SLOT_KEY] ||
           (x->number[SLOT_KEY] >= y->number[SLOT_KEY] && tie && tie(items, y->index[SLOT_ITEM], x->index[SLOT_ITEM]));
}

static int is_sorted(const struct migbuf_planner_slot *slots, size_t count, migbuf__tie_break *tie, const void *items)
{
    for (size_t k = 1; k < count; k++)
        if (goes_behind(&slots[k - 1], &slots[k], tie, items))
            return 0;
    return 1;
}

static void put_item(struct migbuf_planner_slot *to, double key, uint64_t item)
{
    to->number[SLOT_KEY] = key;
    to->index[SLOT_ITEM] = item;
}

static void insertion(struct migbuf_planner_slot *slots, size_t count, migbuf__tie_break *tie, const void *items)
{
    for (size_t k = 1; k < count; k++) {
        struct migbuf_planner_slot moving = slots[k];
        size_t at = k;

        for (; at && goes_behind(&slots[at - 1], &moving, tie, items); at--)
            put_item(&slots[at], slots[at - 1].number[SLOT_KEY], slots[at - 1].index[SLOT_ITEM]);
        put_item(&slots[at], moving.number[SLOT_KEY], moving.index[SLOT_ITEM]);
    }
}

/* Bits of a key that is not below 0 ascend as it does. */
static unsigned digit(double key, int d)
{
    uint64_t bits;

    key += 0.0; /* -0 is 0 */
    memcpy(&bits, &key, sizeof bits);
    return (unsigned)(bits >> 8 * d) % VALUES;
}

/* Lowest digit first, to and fro between a slot's two keys; each pass keeps the order of those before it. No comparison, so
 * ten times as many cost ten times as much. A digit that all have alike needs no pass. */
_Static_assert(!SLOT_KEY && SLOT_KEY_ASIDE == 1 && !SLOT_ITEM && SLOT_ITEM_ASIDE == 1, "each is the other's `!`");

static void by_digits(struct migbuf_planner_slot *slots, size_t count)
{
    uint32_t next[DIGITS][VALUES];
    int from = SLOT_KEY;

    memset(next, 0, sizeof next);
    for (size_t k = 0; k < count; k++)
        for (int d = 0; d < DIGITS; d++)
            next[d][digit(slots[k].number[SLOT_KEY], d)]++;
    for (int d = 0; d < DIGITS; d++) {
        uint32_t sum = 0;

        if (next[d][digit(slots[0].number[from], d)] == count)
            continue;
        for (int v = 0; v < VALUES; v++) {
            uint32_t here = next[d][v];

            next[d][v] = sum;
            sum += here;
        }
        for (size_t k = 0; k < count; k++) {
            struct migbuf_planner_slot *to = &slots[next[d][digit(slots[k].number[from], d)]++];

            to->number[!from] = slots[k].number[from];
            to->index[!from] = slots[k].index[from];
        }
        from = !from;
    }
    for (size_t k = 0; k < count && from != SLOT_KEY; k++)
        put_item(&slots[k], slots[k].number[SLOT_KEY_ASIDE], slots[k].index[SLOT_ITEM_ASIDE]);
}

/* Two sorted runs, [0 .. half) and [half .. count), become one by way of what is aside. */
static void merge(struct migbuf_planner_slot *slots, size_t half, size_t count, migbuf__tie_break *tie, const void *items)
{
    size_t left = 0, right = half;

    if (!goes_behind(&slots[half - 1], &slots[half], tie, items))
        return;
    for (size_t k = 0; k < count; k++) {
        int is_left = right >= count || (left < half && !goes_behind(&slots[left], &slots[right], tie, items));
        size_t from = is_left ? left++ : right++;

        slots[k].number[SLOT_KEY_ASIDE] = slots[from].number[SLOT_KEY];
        slots[k].index[SLOT_ITEM_ASIDE] = slots[from].index[SLOT_ITEM];
    }
    for (size_t k = 0; k < count; k++)
        put_item(&slots[k], slots[k].number[SLOT_KEY_ASIDE], slots[k].index[SLOT_ITEM_ASIDE]);
}

/* Merge sort, bottom up. */
static void by_ties(struct migbuf_planner_slot *slots, size_t count, migbuf__tie_break *tie, const void *items)
{
    for (size_t at = 0; at < count; at += 8)
        insertion(slots + at, count - at < 8 ? count - at : 8, tie, items);
    for (size_t run = 8; run < count; run *= 2)
        for (size_t at = 0; at + run < count; at += 2 * run)
            merge(slots + at, run, count - at < 2 * run ? count - at : 2 * run, tie, items);
}

void migbuf__slots_sort(struct migbuf_planner_slot *slots, size_t count, migbuf__tie_break *tie, const void *items)
{
    if (is_sorted(slots, count, tie, items)) /* often: the order of a plan changes little from tick to tick */
        return;
    if (count <= FEW) {
        insertion(slots, count, tie, items);
        return;
    }
    by_digits(slots, count);
    for (size_t k = 0, end; tie && k < count; k = end) {
        for (end = k + 1; end < count && slots[end].number[SLOT_KEY] <= slots[k].number[SLOT_KEY]; end++)
            ;
        if (end > k + 1 && !is_sorted(slots + k, end - k, tie, items))
            by_ties(slots + k, end - k, tie, items);
    }
}

/* The heap */

static double level_of(const struct migbuf__heap *h, size_t at)
{
    return h->slots[at].number[SLOT_LEVEL];
}

static void put_group(struct migbuf__heap *h, size_t at, double level, double weight)
{
    h->slots[at].number[SLOT_LEVEL] = level;
    h->slots[at].number[SLOT_WEIGHT] = weight;
}

static void move_group(struct migbuf__heap *h, size_t to, size_t from)
{
    put_group(h, to, level_of(h, from), h->slots[from].number[SLOT_WEIGHT]);
}

void migbuf__heap_add(struct migbuf__heap *h, double level, double weight)
{
    size_t at = h->groups++;

    for (; at && level_of(h, (at - 1) / 2) < level; at = (at - 1) / 2)
        move_group(h, at, (at - 1) / 2);
    put_group(h, at, level, weight);
}

static void replace_top(struct migbuf__heap *h, double level, double weight)
{
    size_t at = 0;

    for (size_t child; (child = 2 * at + 1) < h->groups; at = child) {
        if (child + 1 < h->groups && level_of(h, child + 1) > level_of(h, child))
            child++;
        if (level_of(h, child) <= level)
            break;
        move_group(h, at, child);
    }
    put_group(h, at, level, weight);
}

void migbuf__heap_drop_top(struct migbuf__heap *h)
{
    const struct migbuf_planner_slot *last = &h->slots[--h->groups];

    if (h->groups)
        replace_top(h, last->number[SLOT_LEVEL], last->number[SLOT_WEIGHT]);
}

static double level_of_second(const struct migbuf__heap *h)
{
    if (h->groups < 2)
        return 0;
    return h->groups > 2 && level_of(h, 2) > level_of(h, 1) ? level_of(h, 2) : level_of(h, 1);
}

/* Groups that meet become one, so each is met once. */
double migbuf__heap_cut(struct migbuf__heap *h, double most)
{
    for (;;) {
        double level = level_of(h, 0), weight = h->slots[0].number[SLOT_WEIGHT], next = level_of_second(h);
        double lower = migbuf__most(0, level - (h->sum - most) / weight);

        if (lower >= next || h->groups < 2) {
            replace_top(h, lower, weight);
            h->sum = most;
            return lower;
        }
        h->sum -= weight * (level - next);
        migbuf__heap_drop_top(h);
        h->slots[0].number[SLOT_WEIGHT] += weight;
    }
}
