/* SPDX-License-Identifier: MIT */
/* A guest's memory as QEMU sends it, written from QEMU's sources (ram.c: two bitmaps, rates) and from nothing of the library
 * but its records.
 *
 * Memory is a fluid: three classes of pages, each written at random. a is the part of a class that is still to be sent in
 * this round, b the part that was written since the last sync. */
#ifndef SIMULATE_PAGES_H
#define SIMULATE_PAGES_H
#include "migbuf/convergence.h"

#define MODEL_CLASSES 3

/* A guest's memory, and how it is being sent. */
struct model_memory {
    double set[MODEL_CLASSES], rate[MODEL_CLASSES]; /* bytes, bytes/s */
    double a[MODEL_CLASSES], b[MODEL_CLASSES];
    double fresh;                                   /* dirtied since the rates were refreshed */
    double zero_bytes;                              /* pages of zeros: 9 bytes each */
    double sent_bytes, sent_then;
    double time_s, sync_s;                          /* since it began; of the last refresh */
    uint64_t sync_count, dirty_pages_per_s;
};

void memory_begin(struct model_memory *m);
/* The guest runs for dt with this throttle, and so many bytes may be sent. */
void memory_step(struct model_memory *m, double dt, double throttle_percent, int runs, double budget_bytes);
double memory_left(const struct model_memory *m);
/* With what was written since the last sync. */
double memory_exact(const struct model_memory *m);
/* Returns 1 when the rates were refreshed; *dirty and *sent are of the time since. */
int memory_sync(struct model_memory *m, double *dirty, double *sent);
/* As query-migrate has it in "active". */
void memory_report(const struct model_memory *m, struct migbuf_ram_report *r);
#endif
