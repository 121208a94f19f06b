/* SPDX-License-Identifier: MIT */
/* A file with what became of VMs' earlier migrations (migbuf/history.h): the lines of all VMs, each by its id. */
#ifndef COMMON_PAST_H
#define COMMON_PAST_H
#include "fail.h"
#include "migbuf/history.h"

/* As the programs show a VM: its name, behind its project and a slash where that is not "default". */
void past_name(const char *project, const char *vm, char name[300]);

/* The id of its lines: the name as it is shown; where that has more than 64 bytes its beginning, "~" and 16 hex digits of a hash of
 * the whole, so that no two are one. past_id("", name, id) takes a name as it is shown. */
#define PAST_ID 65
void past_id(const char *project, const char *vm, char id[PAST_ID]);

/* The lines of one VM, to be freed; "" where the file is not there or has none of it. -1: it cannot be read. */
int past_lines(const char *path, const char *id, char **lines, size_t *length, char error[FAIL_SIZE]);

/* What this VM is believed to write, by what earlier attempts measured: 1; 0: none did; -1: see error. */
int past_write_rate(const char *path, const char *id, double *bytes_per_s, char error[FAIL_SIZE]);

/* Adds a line. The file is replaced as a whole; others' lines stay as they are. -1: it is as it was. */
int past_append(const char *path, const struct migbuf_attempt *a, char error[FAIL_SIZE]);
#endif
