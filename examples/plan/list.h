/* SPDX-License-Identifier: MIT */
/* The guests that are to leave, as an administrator lists them: a line or a word of the command line each, or JSON. */
#ifndef PLAN_LIST_H
#define PLAN_LIST_H
#include "fail.h"
#include "model.h"
#include <stdio.h>

#define LIST_MOST 1000
#define LIST_NAME 127 /* characters: a project, a slash and a name */
#define LIST_LINKS 16

struct list {
    struct guest guests[LIST_MOST];
    char names[LIST_MOST][LIST_NAME + 1];
    size_t count;
    const char *history; /* a file that knows what a VM writes for which nobody says it (past.h); NULL: none */
};

/* What --help says of a line. */
extern const char list_help[];

/* One guest: `name disk=SIZE write=RATE ...`. `where` begins the message: "list.txt, line 3". -1: see error. */
int list_line(struct list *l, const char *where, const char *line, char error[FAIL_SIZE]);
/* A whole text; JSON when it is said, or begins with [ or {. `path` is for messages. Lines may be empty, or comments (#). */
int list_read(struct list *l, const char *path, FILE *in, bool json, char error[FAIL_SIZE]);
/* The list as lines that list_read() reads. */
int list_write(const struct list *l, FILE *out);
/* All links that are named must be there. */
int list_check(const struct list *l, size_t links, char error[FAIL_SIZE]);
#endif
