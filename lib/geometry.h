/* SPDX-License-Identifier: MIT */
/* geometry, checked before: one with what is not known at its worst, and what is known to be none as 0. */
#ifndef MIGBUF_LIB_GEOMETRY_H
#define MIGBUF_LIB_GEOMETRY_H
#include "migbuf/limits.h"

struct migbuf_geometry migbuf__geometry_known(const struct migbuf_geometry *g);

/* Limits of so many units/s, which are so many bytes/s, of disks with this smallest unit; and whether one of them has no
 * iops_size. */
int migbuf__limits_of(uint64_t units, uint64_t bytes, uint64_t smallest, int no_iops_size, struct migbuf_limits *limits);
#endif
