/* SPDX-License-Identifier: MIT */
/* What came of a run: one JSON object, and one line for people. Reads the run, changes nothing. */
#ifndef EVACUATE_SUMMARY_H
#define EVACUATE_SUMMARY_H
#include "loop.h"
#include <jansson.h>

/* Every VM moved, nothing was lost, nothing overflowed, and no guest was told of an I/O error. */
bool summary_good(const struct run *run);

/* Did no guest ever come to write? Then this machine cannot run it. */
bool summary_never_began(const struct run *run);

/* The object, `contrast` (may be NULL) under a key of its own. NULL: no memory. */
json_t *summary_json(const struct run *run, const struct run *contrast);

/* One sentence about the contrast, and the closing line. */
#define SUMMARY_LINE_SIZE 300
void summary_contrast(const struct run *contrast, FILE *out);
const char *summary_line(const struct run *run, char text[SUMMARY_LINE_SIZE]);

/* One line for each link where there are several: what went over it, and for whom. */
void summary_links(const struct run *run, FILE *out);

/* One line for each VM that did not move or lost something. */
void summary_failures(const struct run *run, FILE *out);

/* One line for each thing that was not as it should be although the VMs moved. */
void summary_warnings(const struct run *run, FILE *out);

/* One line for each VM that moved: how long it stood, what its memory took, and what it wrote meanwhile. */
void summary_memory(const struct run *run, FILE *out);

/* What holding the guests took: reserve, leaks, pauses, delays. */
void summary_throttle(const struct run *run, FILE *out);

/* Can QEMU migrate none of the VMs? */
bool summary_blocked(const struct run *run);
#endif
