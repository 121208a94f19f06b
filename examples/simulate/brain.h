/* SPDX-License-Identifier: MIT */
/*
 * What decides, as a host would embed it: one brain per host and Ω. `paper` and `literal` are the library's buffer;
 * `planner` is put together here from the library's rooms forecast, planner, link and throttle, in the order planner.h
 * and buffer.h describe.
 */
#ifndef SIMULATE_BRAIN_H
#define SIMULATE_BRAIN_H
#include "model.h"
#include "migbuf/buffer.h"

struct brain;

/* What is set in QEMU for one guest. */
struct order {
    uint64_t id;
    bool changed, paused;
    double units_per_s; /* INFINITY: not limited by units */
    double bytes_per_s; /* INFINITY: not limited by bytes */
};

struct member {
    uint64_t id;
    double disk_bytes;
    double rate_before; /* unit bytes/s, measured before the start */
    double flow;        /* most it gets on the link */
    struct migbuf_geometry geometry;
};

struct measured {
    uint64_t id;
    double file_bytes, written_bytes, writes, left_bytes;
    bool draining;
    uint32_t drains_ahead;
};

/* NULL when there is no memory. */
struct brain *brain_new(const struct run *run, uint32_t most_members);
void brain_free(struct brain *b);
/* 0, 1 when it does not fit now, -1 when something is wrong. */
int brain_add(struct brain *b, const struct member *m);
int brain_remove(struct brain *b, uint64_t id);
int brain_sample(struct brain *b, const struct measured *m);
/* U now and its mean over the last minute. */
int brain_link(struct brain *b, double now, double mean);
/* Orders for all members in order of start; returns how many, or -1. */
int brain_tick(struct brain *b, double now_s, struct order *orders);
/* Until when its file is there, s from now as planned; INFINITY when the policy does not plan. */
double brain_release(const struct brain *b, uint64_t id);
#endif
