/* SPDX-License-Identifier: MIT */
/* slots: merge sort and a heap in scratch that the caller has anyway. What the slots stand for is not known here. */
#include "slots.h"
#include "number.h"

/* Sorting */

static int in_order(const struct migbuf_planner_slot *x, const struct migbuf_planner_slot *y, migbuf__tie_break *tie,
                    const void *items)
{
    return x->number[SLOT_KEY] < y->number[SLOT_KEY] ||
           (x->number[SLOT_KEY] <= y->number[SLOT_KEY] && tie(items, x->index[SLOT_ITEM], y->index[SLOT_ITEM]));
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

        for (; at && !in_order(&slots[at - 1], &moving, tie, items); at--)
            put_item(&slots[at], slots[at - 1].number[SLOT_KEY], slots[at - 1].index[SLOT_ITEM]);
        put_item(&slots[at], moving.number[SLOT_KEY], moving.index[SLOT_ITEM]);
    }
}

/* Two sorted runs, [0 .. half) and [half .. count), become one by way of what is aside. */
static void merge(struct migbuf_planner_slot *slots, size_t half, size_t count, migbuf__tie_break *tie, const void *items)
{
    size_t left = 0, right = half;

    if (in_order(&slots[half - 1], &slots[half], tie, items))
        return;
    for (size_t k = 0; k < count; k++) {
        int is_left = right >= count || (left < half && in_order(&slots[left], &slots[right], tie, items));
        size_t from = is_left ? left++ : right++;

        slots[k].number[SLOT_KEY_ASIDE] = slots[from].number[SLOT_KEY];
        slots[k].index[SLOT_ITEM_ASIDE] = slots[from].index[SLOT_ITEM];
    }
    for (size_t k = 0; k < count; k++)
        put_item(&slots[k], slots[k].number[SLOT_KEY_ASIDE], slots[k].index[SLOT_ITEM_ASIDE]);
}

/* Merge sort, bottom up: the order hardly changes from tick to tick, and sorted runs cost one comparison. */
void migbuf__slots_sort(struct migbuf_planner_slot *slots, size_t count, migbuf__tie_break *tie, const void *items)
{
    for (size_t at = 0; at < count; at += 8)
        insertion(slots + at, count - at < 8 ? count - at : 8, tie, items);
    for (size_t run = 8; run < count; run *= 2)
        for (size_t at = 0; at + run < count; at += 2 * run)
            merge(slots + at, run, count - at < 2 * run ? count - at : 2 * run, tie, items);
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
