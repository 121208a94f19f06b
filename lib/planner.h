/* SPDX-License-Identifier: MIT */
/* planner, inside: what planner and admission_queue both ask of a link. */
#ifndef MIGBUF_LIB_PLANNER_H
#define MIGBUF_LIB_PLANNER_H
#include "migbuf/planner.h"

/* A speed above 0, and a flow above 0 or INFINITY. */
int migbuf__planner_check_link(const struct migbuf_planner_link *l);
#endif
