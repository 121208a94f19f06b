/* SPDX-License-Identifier: MIT */
/* decide: from a budget to an action. */
#ifndef MIGBUF_LIB_DECIDE_H
#define MIGBUF_LIB_DECIDE_H
#include "buffer.h"

/* is_short: files and reserves do not fit as it is, so everybody is to stop. */
void migbuf__decide(struct migbuf_buffer *b, struct entry *e, int is_short, struct migbuf_decision *out);
#endif
