/* SPDX-License-Identifier: MIT */
/*
 * Which guest gets an overlay in Ω, and which is mirrored from the start: asked when it is its turn. A mirrored one takes no
 * room of Ω; it counts on its link all the same (migbuf/outlook.h).
 */
#ifndef EVACUATE_HYBRID_H
#define EVACUATE_HYBRID_H
#include "control.h"
#include "migbuf/mirror.h"

/* Link and guest as a mirror has to know them; `flows`: so many share the link. What was never seen is 0. */
struct migbuf_mirror_load hybrid_load(const struct control *c, const struct throttle *t, size_t flows);

/* So many of the migrations under control leave over this link. */
size_t hybrid_flows(const struct control *c, uint32_t route);

/* Does QEMU know block-job-change? `text`: what it answered to query-commands; what cannot be read is no. */
bool hybrid_can_change(const char *text, size_t text_bytes);

/* Is it better mirrored, if it starts now? 1: yes, 0: no, -1: failed. */
int hybrid_mirrors(const struct control *c, const struct throttle *t, char error[FAIL_SIZE]);
#endif
