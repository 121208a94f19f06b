/* SPDX-License-Identifier: MIT */
/* What came of it, for programs: JSON. */
#ifndef PLAN_DATA_H
#define PLAN_DATA_H
#include "search.h"
#include <stdio.h>

/* -1: no memory, or `out` cannot be written to. */
int data_write(const struct question *q, const struct answer *answers, size_t count, double deadline_s, FILE *out);
#endif
