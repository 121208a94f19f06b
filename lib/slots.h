/* SPDX-License-Identifier: MIT */
/* slots: sorting and a heap in the caller's scratch, for planner and admission_queue. No memory of its own. Knows nothing of
 * migrations: a slot is numbers and an index. */
#ifndef MIGBUF_LIB_SLOTS_H
#define MIGBUF_LIB_SLOTS_H
#include "migbuf/planner.h"

/* Whether item i comes before item j, where both have the same key. */
typedef int migbuf__tie_break(const void *items, uint64_t i, uint64_t j);

/* Ascending by a; ties by `tie`, which is asked for the items' indices i. Uses b and j. */
void migbuf__slots_sort(struct migbuf_planner_slot *s, size_t n, migbuf__tie_break *tie, const void *items);

/* Groups that share one level, the tallest on top. a: the level; b: the weights in the group. c and i are left alone. */
struct migbuf__heap {
    struct migbuf_planner_slot *s;
    size_t groups;
    double sum; /* of what all have now: the caller keeps it when it adds */
};

void migbuf__heap_add(struct migbuf__heap *h, double level, double weight);
void migbuf__heap_replace_top(struct migbuf__heap *h, double level, double weight);

/* Lowers the tallest until the sum is `most`. Returns the new level. */
double migbuf__heap_cut(struct migbuf__heap *h, double most);
#endif
