/* SPDX-License-Identifier: MIT */
/* A file with what became of VMs' earlier migrations (migbuf/history.h): the lines of all VMs, each by its id. */
#ifndef COMMON_PAST_H
#define COMMON_PAST_H
#include "fail.h"
#include "migbuf/history.h"
#include <limits.h>

/* As the programs show a VM: its name, behind its project and a slash where that is not "default". */
void past_name(const char *project, const char *vm, char name[300]);

/* The id of its lines: the name as it is shown; where that has more than 64 bytes its beginning, "~" and 16 hex digits of a hash of
 * the whole, so that no two are one. past_id("", name, id) takes a name as it is shown. */
#define PAST_ID 65
void past_id(const char *project, const char *vm, char id[PAST_ID]);

/* The file's text in memory. What is damaged in it is nobody's, and stays. */
struct past {
    char *text;
    size_t length;
    int fresh;           /* what is to take the file's place, locked; -1: it is only read */
    char path[PATH_MAX]; /* of the file itself, where a link leads to it */
};

/*
 * Reads the file; one that is not there is empty, one of more than 32 MiB is refused. past_begin() does so to change it: nobody
 * else who does changes it until past_write() or past_free(). One that is held for longer than 5 s by another program is an
 * error. 0, or -1, and then there is nothing to free.
 */
int past_read(struct past *p, const char *path, char error[FAIL_SIZE]);
int past_begin(struct past *p, const char *path, char error[FAIL_SIZE]);

/* The lines of one VM, a text to be freed; "" where there are none. NULL: out of memory. */
char *past_own(const struct past *p, const char *id, size_t *length);

/* Adds a line to those of its VM, in memory; others' lines stay as they are. -1: the text is as it was. */
int past_add(struct past *p, const struct migbuf_attempt *a, char error[FAIL_SIZE]);

/* The text takes the place of the file, which keeps its mode, and its owner where that may be set, and is freed. -1: the file is as it was. */
int past_write(struct past *p, char error[FAIL_SIZE]);

/* Without writing. */
void past_free(struct past *p);

/* What this VM is believed to write, by what earlier attempts measured: 1; 0: none did; -1: see error. */
int past_write_rate(const char *path, const char *id, double *bytes_per_s, char error[FAIL_SIZE]);

/* Adds one line to the file: past_begin(), past_add(), past_write(). */
int past_append(const char *path, const struct migbuf_attempt *a, char error[FAIL_SIZE]);
#endif
