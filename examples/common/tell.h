/* SPDX-License-Identifier: MIT */
/*
 * What these programs print. Names and words of servers, QEMUs and VMs are their peers' and may hold anything: an escape
 * sequence, a line's end. They reach a terminal through these two alone.
 */
#ifndef COMMON_TELL_H
#define COMMON_TELL_H
#include <stdio.h>

/* One line, printable as a whole (migbuf_printable) and cut at 4095 bytes, and out at once. */
__attribute__((format(printf, 2, 3))) void tell(FILE *out, const char *format, ...);

/* A peer's text as a part of something else; returns `out`. */
#define PRINTABLE_SIZE 1024
const char *printable(const char *text, char out[PRINTABLE_SIZE]);
#endif
