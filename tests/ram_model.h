/* SPDX-License-Identifier: MIT */
/* ram_model: what two QEMUs do with a migration of memory, written from QEMU's sources and from what was measured of 7.2,
 * 10.0 and 11.1, and from nothing of the library but its records. Sources: migration/migration.c (states, cancel, pause, post-copy),
 * ram.c (two bitmaps, rates, auto-converge), options.c (checks).
 *
 * Memory itself is a fluid: examples/simulate/pages.h. */
#ifndef MIGBUF_TESTS_RAM_MODEL_H
#define MIGBUF_TESTS_RAM_MODEL_H
#include "migbuf/ram.h"
#include "../examples/simulate/pages.h"

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
    int link_up;
    int is_new;           /* 0: as QEMU 7.2; 1: as 10.0; 2: as 11.1, whose source waits in postcopy-device for the target */
    double device_s;      /* how long */
    int waits_for_target; /* it does; the target's guest runs already */
    int let_two_run;      /* its link broke then, and it let its own guest run again */
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
