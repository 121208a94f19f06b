/* SPDX-License-Identifier: MIT */
/* mirror: what its files share. Private. */
#ifndef MIGBUF_LIB_MIRROR_H
#define MIGBUF_LIB_MIRROR_H
#include "migbuf/mirror.h"

/* 0, MIGBUF_E_INVALID or MIGBUF_E_RANGE. */
int migbuf__mirror_load_check(const struct migbuf_mirror_load *load);
int migbuf__mirror_setting_check(const struct migbuf_mirror_setting *s);
#endif
