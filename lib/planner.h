/* SPDX-License-Identifier: MIT */
/* planner, inside: what others ask of it. */
#ifndef MIGBUF_LIB_PLANNER_H
#define MIGBUF_LIB_PLANNER_H
#include "migbuf/planner.h"

/* What one that drains may write, of its share of the link: while somebody is cut, and otherwise. */
#define DRAIN_SHORT 0.5
#define DRAIN 0.9

/* A speed above 0, and a flow above 0 or INFINITY. */
int migbuf__planner_check_link(const struct migbuf_planner_link *l);
#endif
