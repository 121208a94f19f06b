/* SPDX-License-Identifier: MIT */
/* What came of it as a picture, for a ticket or a wiki. */
#ifndef PLAN_PICTURE_H
#define PLAN_PICTURE_H
#include "search.h"
#include <stdio.h>

/* Runs the first seed of each size once more, for its files. -1: no memory, or `out` cannot be written to. */
int picture_write(const struct question *q, const struct answer *answers, size_t count, double deadline_s, FILE *out);
#endif
