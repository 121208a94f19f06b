/* SPDX-License-Identifier: MIT */
/* slots: sorting and a heap in the caller's scratch, for planner, admission_queue and throttle. No memory of its own. Knows nothing of
 * migrations: a slot is numbers and indices, and whoever has it at the moment says what they are. */
#ifndef MIGBUF_LIB_SLOTS_H
#define MIGBUF_LIB_SLOTS_H
#include "migbuf/planner.h"

/* Of a slot that is sorted: its key and its item. Sorting needs the other number and the other index of these two, too. */
enum { SLOT_KEY, SLOT_KEY_ASIDE };
enum { SLOT_ITEM, SLOT_ITEM_ASIDE };

/* Of a slot in a heap: a group's level, and the weights in it. Its other numbers and both indices are left alone. */
enum { SLOT_LEVEL, SLOT_WEIGHT, SLOT_OTHER, SLOT_LAST };

/* Whether item i comes before item j, where both have the same key. */
typedef int migbuf__tie_break(const void *items, uint64_t i, uint64_t j);

/* Ascending by key, which is not NaN and not below 0; ties by `tie`, which is asked for the slots' items, or where that is
 * NULL as they stand. O(count), and O(count log count) for ties out of order. */
void migbuf__slots_sort(struct migbuf_planner_slot *slots, size_t count, migbuf__tie_break *tie, const void *items);

/* Groups that share one level, the tallest on top. */
struct migbuf__heap {
    struct migbuf_planner_slot *slots;
    size_t groups;
    double sum; /* of what all have now: the caller keeps it when it adds */
};

void migbuf__heap_add(struct migbuf__heap *h, double level, double weight);

/* Takes the tallest away. The sum is the caller's business. */
void migbuf__heap_drop_top(struct migbuf__heap *h);

/* Lowers the tallest until the sum is `most`. Returns the new level. */
double migbuf__heap_cut(struct migbuf__heap *h, double most);
#endif
