/* SPDX-License-Identifier: MIT */
/* What the command lines of all these programs have in common. */
#ifndef COMMON_COMMAND_H
#define COMMON_COMMAND_H
#include "fail.h"

/* What getopt_long() returned ('?' or ':', with opterr 0 and the short options ":h") as a sentence that names the option. -1. */
int command_refused(char error[FAIL_SIZE], int option, char *const argv[]);

/* The value of an option that may have one, also as the next word: --json FILE as well as --json=FILE. NULL: none. */
const char *command_optional(int argc, char *const argv[]);

/* "migbuf-guard 0.1.0": the program, and the library it runs with. */
void command_version(const char *program);

/*
 * Can this file be written? To be asked before anything begins; nothing is emptied by it. NULL and "-" (standard output)
 * always can. -1: the sentence names option and file.
 */
int command_check_output(const char *option, const char *path, char error[FAIL_SIZE]);
#endif
