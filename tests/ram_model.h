/* SPDX-License-Identifier: MIT */
/* ram_model: what two QEMUs do with a migration of memory, written from QEMU's sources and from what was measured of 7.2 and
 * 10.0, and from nothing of the library but its records. Sources: migration/migration.c (states, cancel, pause, post-copy),
 * ram.c (two bitmaps, rates, auto-converge), options.c (checks).
 *
 * Memory is a fluid: three classes of pages, each written at random. a is the part of a class that is still to be sent in
 * this round, b the part that was written since the last sync. */
#ifndef MIGBUF_TESTS_RAM_MODEL_H
#define MIGBUF_TESTS_RAM_MODEL_H
#include "migbuf/ram.h"

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

#define MODEL_CAPS 12
#define MODEL_PARS 14

struct model_side {
    int alive, running, listening;
    char status[24]; /* query-status, where it does not run */
    int32_t phase;
    int caps[MODEL_CAPS];
    uint64_t pars[MODEL_PARS];
    int unaware;     /* target, link broken in post-copy: it has not noticed */
    int recovering;  /* target: it listens for the source again */
};

struct ram_model {
    struct model_side side[2];
    struct model_memory memory;
    double link_bytes_per_s, throttle_percent;
    int link_up, is_new;  /* is_new: as QEMU 10, else as 7.2 */
    int no_userfaultfd;   /* the target's kernel */
    int hangs, stuck;     /* a cancel waits for migrate-continue; it does */
    int was_running, post_asked, continued, high, load_fails, late_failure;
    double downtime_s, stopped_s;
    uint64_t total_ms;
    const char *complaint;
    /* events since they were taken, as bits: 1 MIGRATION, 2 PASS, 4 STOP, 8 RESUME */
    int events[2];
};

extern const char *const model_cap[MODEL_CAPS];
extern const char *const model_par[MODEL_PARS];
int model_cap_index(const char *name);
int model_par_index(const char *name);

void model_begin(struct ram_model *m);
/* 0, or -1 and `complaint`. Queries are answered by the caller. */
int model_execute(struct ram_model *m, int side, const char *name, const char *arguments);
void model_run(struct ram_model *m, double seconds);
void model_report(const struct ram_model *m, int side, struct migbuf_ram_report *r);
void model_kill(struct ram_model *m, int side);
void model_link(struct ram_model *m, int up);
#endif
