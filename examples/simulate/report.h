/* SPDX-License-Identifier: MIT */
/* What comes out of many runs: rows, a table, JSON, and the file from which an interrupted simulation goes on. */
#ifndef SIMULATE_REPORT_H
#define SIMULATE_REPORT_H
#include "model.h"
#include <stdio.h>

struct result {
    struct run run;
    struct outcome outcome;
    bool done;
};

/* All seeds of one scenario, policy and admission. */
struct row {
    const struct scenario *scenario;
    enum policy policy;
    enum admission admission;
    uint32_t seeds;
    uint64_t overflows;
    double failed_pct, delivered_pct, vm_delivered_pct, bound_pct, p99, completion_s, peak, stall_s;
    double pauses; /* per VM */
    struct held running, starting, waiting;
};

/* Rows in the order in which they first appear; returns how many. `rows` has room for count. */
size_t rows_of(const struct result *results, size_t count, struct row *rows);

/* No line is wider than `width`, at least 40: columns that do not fit go below the others. */
void report_table(const struct row *rows, size_t count, int width, FILE *out);
/* Paired by scenario, admission and seed: how often the planner is at least as good as the paper. */
void report_pairs(const struct result *results, size_t count, FILE *out);
void report_json(const struct row *rows, size_t count, FILE *out);

/* One finished run as a line, and all runs of such a file that are in `results` marked as done. Lines that are cut or
 * of other runs are passed over. Returns how many were found. */
void resume_write(const struct result *r, FILE *out);
size_t resume_read(struct result *results, size_t count, FILE *in);

/* Delivery and slowdown of the rows, and a run over time. 0, or -1. */
int picture_write(const struct row *rows, size_t count, const struct recording *timeline, const char *title, FILE *out);
#endif
