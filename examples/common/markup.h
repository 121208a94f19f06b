/* SPDX-License-Identifier: MIT */
/* What all pictures (SVG) write: numbers and texts. */
#ifndef COMMON_MARKUP_H
#define COMMON_MARKUP_H
#include <stdio.h>

/* With one decimal at most, whatever the locale says about commas. */
void markup_number(FILE *out, double value);
/* Names come from a command line: anything may be in them. What XML does not allow becomes a question mark. */
void markup_text(FILE *out, const char *text);
#endif
