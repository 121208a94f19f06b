/* SPDX-License-Identifier: MIT */
/* What both tables of simulate-ram have: its options, a quantile, and a cell of a number. */
#ifndef SIMULATE_RAM_ROWS_H
#define SIMULATE_RAM_ROWS_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct options {
    uint32_t vms, seeds, history;
    uint64_t seed, link;
    const char *json;
};

/* Sorts them. NAN of none. */
double quantile(double *value, size_t n, double part);

/* The table of --history. -1: no memory. */
int compare_forecasts(const struct options *o, FILE *out);

#define RAM_CELL(name, type, format, value)                                                                            \
    static void name(const void *row, char text[TABLE_CELL])                                                           \
    {                                                                                                                  \
        const type *r = row;                                                                                           \
                                                                                                                       \
        TABLE_NUMBER(text, format, value);                                                                             \
    }
#endif
