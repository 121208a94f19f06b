/* SPDX-License-Identifier: MIT */
/* What the command lines of all these programs have in common: how options are read, what is said of a wrong one. */
#ifndef COMMON_COMMAND_H
#define COMMON_COMMAND_H
#include "fail.h"
#include <getopt.h>
#include <stdio.h>

/* The last of a program's options; its own have any other values. */
enum { COMMAND_VERSION = 255 };
#define COMMAND_OPTIONS { "version", no_argument, NULL, COMMAND_VERSION }, { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 }

struct command {
    const char *name;
    const struct option *options; /* ended by COMMAND_OPTIONS */
    void (*help)(FILE *out);
    /* Takes one; value NULL: it has none. -1: `error` says what is allowed. */
    int (*take)(void *program, int option, const char *value, char error[FAIL_SIZE]);
};

/*
 * Reads all options; words that are none begin at argv[optind]. An option that may have a value takes it also as the next
 * word: --json FILE as well as --json=FILE. 0; 1: that was all, --help and --version are answered; -1: see error.
 */
int command_read(const struct command *c, void *program, int argc, char *const argv[], char error[FAIL_SIZE]);

/* For programs that take options alone: -1 when a word is left. */
int command_no_words(int argc, char *const argv[], char error[FAIL_SIZE]);

/* A whole number within bounds. `of`: what is counted, for the message ("milliseconds"), or NULL. -1: not one. */
int command_number(const char *option, const char *text, uint64_t least, uint64_t most, const char *of, uint64_t *value,
                   char error[FAIL_SIZE]);
int command_number32(const char *option, const char *text, uint32_t least, uint32_t most, const char *of,
                     uint32_t *value, char error[FAIL_SIZE]);

/* One of these names, as its index. `more` ends the message: what else may be said (", or several ..."), or "". */
int command_choice(const char *option, const char *text, const char *const *names, size_t count, const char *more,
                   size_t *index, char error[FAIL_SIZE]);

/*
 * Can this file be written? To be asked before anything begins; nothing is emptied by it. NULL and "-" (standard output)
 * always can. -1: the sentence names option and file.
 */
int command_check_output(const char *option, const char *path, char error[FAIL_SIZE]);
#endif
