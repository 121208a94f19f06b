/* SPDX-License-Identifier: MIT */
/*
 * What decides, as a host would embed it: one buffer per host and Ω. For the policies that are not the library's it
 * knows who runs and who may start next, and its limits are not asked for (what they do is a matter of the model).
 */
#ifndef SIMULATE_BRAIN_H
#define SIMULATE_BRAIN_H
#include "model.h"
#include "migbuf/outlook.h"

struct brain;

/* What is set in QEMU for one guest. */
struct order {
    uint64_t id;
    bool changed, paused;
    bool waits;         /* its room is not free yet: it may not begin */
    double units_per_s; /* INFINITY: not limited by units */
    double bytes_per_s; /* INFINITY: not limited by bytes */
};

struct member {
    uint64_t id;
    double rate_before; /* unit bytes/s, measured before the start; and plain bytes/s */
    double bytes_before;
    uint32_t link;
    double flow;        /* most it gets on the link */
    double left_bytes;  /* to be copied */
    enum mirror_way mirror; /* how it would be mirrored, and what its writes are like */
    double request, depth;
    struct migbuf_geometry geometry;
};

struct measured {
    uint64_t id;
    double file_bytes, written_bytes, writes, left_bytes;
    bool draining;
    uint32_t drains_ahead;
};

/* NULL when there is no memory. */
struct brain *brain_new(const struct run *run, uint32_t most_members, uint32_t links);
void brain_free(struct brain *b);
/* 0, 1 when it does not fit now, -1 when something is wrong. It begins when an order does not say that it waits. */
int brain_add(struct brain *b, const struct member *m);
int brain_remove(struct brain *b, uint64_t id);
/* Does it give orders? */
bool brain_limits(const struct brain *b);
int brain_sample(struct brain *b, uint64_t now_ms, const struct measured *s);
int brain_link(struct brain *b, uint32_t link, double bytes_per_s);
/* Returns the number of orders, in the order of the members; 0 for the policies that are not the library's; -1 when
 * something is wrong. */
int brain_tick(struct brain *b, double now_s, struct order *orders);
/* For the queue: who waits, and which of them start now. Returns how many, -1 when something is wrong. */
int brain_waiting(const struct brain *b, const struct member *m, struct migbuf_waiting *w);
int brain_turns(const struct brain *b, enum admission admission, const struct migbuf_waiting *w, size_t count,
                struct migbuf_admission_turn *turns);
/* Is a mirror recommended for one that starts now? 1, 0, or -1 when something is wrong. */
int brain_mirrors(struct brain *b, const struct member *m);
/* What is expected of one that runs. */
int brain_outlook(const struct brain *b, uint64_t id, struct migbuf_outlook *o);
/* And of one that waits, for so many seconds more. */
int brain_outlook_waiting(const struct brain *b, const struct migbuf_waiting *w, double start_s,
                          struct migbuf_outlook *o);
#endif
