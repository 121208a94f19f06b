/* SPDX-License-Identifier: MIT */
/* The file a VM's own limits are kept in: its name says whose they are, whatever characters those names hold. */
#ifndef GUARD_SAVED_H
#define GUARD_SAVED_H
#include "migbuf/lxd.h"
#include <stdbool.h>

#define SAVED_NAME 1024

/* "PROJECT:VM.limits", with %XX for all but letters, digits, "-", "_" and ".". */
void saved_name(const char *project, const char *vm, char out[SAVED_NAME]);

/* The way back. False: no such file, or one that somebody else made. */
bool saved_whose(const char *file, char project[MIGBUF_LXD_NAME], char vm[MIGBUF_LXD_NAME]);
#endif
