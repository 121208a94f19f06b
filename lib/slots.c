/* SPDX-License-Identifier: MIT */
/* slots: see the private header. */
#include "number.h"
#include "slots.h"

static int in_order(const struct migbuf_planner_slot *x, const struct migbuf_planner_slot *y, migbuf__tie_break *tie, const void *items)
{
    return x->a < y->a || (x->a <= y->a && tie(items, x->i, y->i));
}

static void insertion(struct migbuf_planner_slot *s, size_t n, migbuf__tie_break *tie, const void *items)
{
    for (size_t m = 1; m < n; m++) {
        struct migbuf_planner_slot moving = { .a = s[m].a, .i = s[m].i };
        size_t at = m;

        for (; at && !in_order(&s[at - 1], &moving, tie, items); at--) {
            s[at].a = s[at - 1].a;
            s[at].i = s[at - 1].i;
        }
        s[at].a = moving.a;
        s[at].i = moving.i;
    }
}

/* Two sorted runs, s[0 .. half) and s[half .. n), become one by way of b and j. */
static void merge(struct migbuf_planner_slot *s, size_t half, size_t n, migbuf__tie_break *tie, const void *items)
{
    size_t x = 0, y = half;

    if (in_order(&s[half - 1], &s[half], tie, items))
        return;
    for (size_t m = 0; m < n; m++) {
        size_t from = y >= n || (x < half && in_order(&s[x], &s[y], tie, items)) ? x++ : y++;

        s[m].b = s[from].a;
        s[m].j = s[from].i;
    }
    for (size_t m = 0; m < n; m++) {
        s[m].a = s[m].b;
        s[m].i = s[m].j;
    }
}

/* Merge sort, bottom up: the order hardly changes from tick to tick, and sorted runs cost one comparison. */
void migbuf__slots_sort(struct migbuf_planner_slot *s, size_t n, migbuf__tie_break *tie, const void *items)
{
    for (size_t at = 0; at < n; at += 8)
        insertion(s + at, n - at < 8 ? n - at : 8, tie, items);
    for (size_t run = 8; run < n; run *= 2)
        for (size_t at = 0; at + run < n; at += 2 * run)
            merge(s + at, run, n - at < 2 * run ? n - at : 2 * run, tie, items);
}

void migbuf__heap_add(struct migbuf__heap *h, double level, double weight)
{
    size_t at = h->groups++;

    for (; at && h->s[(at - 1) / 2].a < level; at = (at - 1) / 2) {
        h->s[at].a = h->s[(at - 1) / 2].a;
        h->s[at].b = h->s[(at - 1) / 2].b;
    }
    h->s[at].a = level;
    h->s[at].b = weight;
}

void migbuf__heap_replace_top(struct migbuf__heap *h, double level, double weight)
{
    size_t at = 0;

    for (size_t child; (child = 2 * at + 1) < h->groups; at = child) {
        if (child + 1 < h->groups && h->s[child + 1].a > h->s[child].a)
            child++;
        if (h->s[child].a <= level)
            break;
        h->s[at].a = h->s[child].a;
        h->s[at].b = h->s[child].b;
    }
    h->s[at].a = level;
    h->s[at].b = weight;
}

static double heap_second(const struct migbuf__heap *h)
{
    if (h->groups < 2)
        return 0;
    return h->groups > 2 && h->s[2].a > h->s[1].a ? h->s[2].a : h->s[1].a;
}

/* Lowers the tallest until the sum is `most`; groups that meet become one, so each is met once. Returns the new level.
 */
double migbuf__heap_cut(struct migbuf__heap *h, double most)
{
    for (;;) {
        double level = h->s[0].a, weight = h->s[0].b, next = heap_second(h);
        double lower = migbuf__most(0, level - (h->sum - most) / weight);

        if (lower >= next || h->groups < 2) {
            migbuf__heap_replace_top(h, lower, weight);
            h->sum = most;
            return lower;
        }
        h->sum -= weight * (level - next);
        h->groups--;
        migbuf__heap_replace_top(h, h->s[h->groups].a, h->s[h->groups].b);
        h->s[0].b += weight;
    }
}
