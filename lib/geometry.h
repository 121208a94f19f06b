/* SPDX-License-Identifier: MIT */
/* geometry: one with what is not known at its worst, and what is known to be none as 0. Checked before. */
#ifndef MIGBUF_LIB_GEOMETRY_H
#define MIGBUF_LIB_GEOMETRY_H
#include "migbuf/limits.h"

struct migbuf_geometry migbuf__geometry_known(const struct migbuf_geometry *g);
#endif
