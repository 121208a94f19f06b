/* SPDX-License-Identifier: MIT */
/* See svg_columns.h. */
#include "svg_columns.h"
#include <stdlib.h>

int columns_new(struct columns *c, const struct record *record, uint64_t duration_ms)
{
    size_t most = 2000 / record->vm_count, frame = 0;

    most = most > 600 ? 600 : most < 60 ? 60 : most;
    *c = (struct columns){ .record = record, .count = most };
    c->first = calloc(most + 1, sizeof *c->first);
    if (!c->first)
        return -1;
    for (size_t i = 0; i < most; i++) {
        double end = (double)duration_ms * (double)(i + 1) / (double)most;

        c->first[i] = frame;
        while (frame < record->frame_count && ((double)record->frames[frame].t_ms < end || i + 1 == most))
            frame++;
    }
    c->first[most] = record->frame_count;
    return 0;
}

bool column_empty(const struct columns *c, size_t i)
{
    return c->first[i] == c->first[i + 1];
}

const struct frame *column_fullest(const struct columns *c, size_t i)
{
    const struct frame *best = &c->record->frames[c->first[i]];

    for (size_t k = c->first[i]; k < c->first[i + 1]; k++)
        if (c->record->frames[k].used_bytes > best->used_bytes)
            best = &c->record->frames[k];
    return best;
}
