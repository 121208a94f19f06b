/* SPDX-License-Identifier: MIT */
/* Tables for a terminal: what does not fit its width goes on below, with the same rows. */
#ifndef COMMON_TABLE_H
#define COMMON_TABLE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_CELL 64 /* bytes of a cell's text, its end included */

struct table_column {
    const char *title;
    int width; /* and a space before it; a cell stands at its right */
    void (*cell)(const void *row, char text[TABLE_CELL]);
};

struct table {
    const struct table_column *columns;
    size_t column_count;
    const char *title; /* of the first column, which each block of columns has; it is as wide as its widest text */
    void (*name)(const void *row, char text[TABLE_CELL]);
    const void *rows;
    size_t row_bytes, row_count;
    bool (*gap)(const void *before, const void *row); /* an empty line between these two? NULL: never */
};

/* A cell of a number; "-" for one that is none, or has no end. */
#define TABLE_NUMBER(text, format, value) snprintf(text, TABLE_CELL, isfinite(value) ? format : "-", value)

void table_write(const struct table *t, int width, FILE *out);

/* Columns of the terminal; 100 where `out` is none. */
int table_width(FILE *out);
#endif
