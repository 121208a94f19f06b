/* SPDX-License-Identifier: MIT */
/* What came of it, for who reads: sentences, a table and a timeline, none wider than `width`. */
#ifndef PLAN_WORDS_H
#define PLAN_WORDS_H
#include "search.h"
#include <stdio.h>

#define SPAN_SIZE 48
/* "42 s", "5 min 20 s", "3 h 20 min"; "never" for INFINITY. Returns `text`. */
const char *words_span(double s, char text[SPAN_SIZE]);

/* The sentences of one answer. To be freed; NULL: no memory. */
char *words_answer(const struct answer *a, double deadline_s);
/* What the numbers in brackets are. To be freed; NULL: no memory. */
char *words_bars(const struct question *q);

/* Breaks at blanks. */
void words_wrap(const char *text, int width, FILE *out);
void words_table(const struct answer *a, int width, FILE *out);
void words_timeline(const struct answer *a, int width, bool colour, FILE *out);
#endif
