/* SPDX-License-Identifier: MIT */
/* Frames of a record sorted into columns: what one point of a line stands for. So a picture stays small, whatever the number of VMs. */
#ifndef EVACUATE_SVG_COLUMNS_H
#define EVACUATE_SVG_COLUMNS_H
#include "record.h"
#include <stdbool.h>

struct columns {
    const struct record *record;
    size_t *first; /* count + 1 indices of frames; to be freed */
    size_t count;
};

/* -1 without memory. */
int columns_new(struct columns *c, const struct record *record, uint64_t duration_ms);
bool column_empty(const struct columns *c, size_t i);
/* The fullest frame of a column that is not empty: stacked areas are drawn from it, so that no peak is lost. */
const struct frame *column_fullest(const struct columns *c, size_t i);
#endif
