/* SPDX-License-Identifier: MIT */
/* --history: a file with what became of each VM's attempts (migbuf/history.h), one line each. A host keeps such a text with
 * each VM; here all VMs' lines share a file. */
#ifndef EVACUATE_ATTEMPTS_H
#define EVACUATE_ATTEMPTS_H
#include "loop.h"

/* Says which attempt this will be of whom, where that is known. -1: the file is there and cannot be read. */
int attempts_tell(const char *path, uint32_t vms, struct picture *picture, char error[FAIL_SIZE]);

/* What the lines of one VM say of its next attempt; `attempts` is 0 where there is none, or path NULL. -1: as above. */
int attempts_believe(const char *path, uint32_t index, uint64_t ram_bytes, struct migbuf_prior *prior, char error[FAIL_SIZE]);

/* Adds a line for each VM that began to move. The file is replaced as a whole. -1: it is as it was. */
int attempts_append(const char *path, const struct run *run, char error[FAIL_SIZE]);
#endif
