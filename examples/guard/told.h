/* SPDX-License-Identifier: MIT */
/* What the guard tells on standard output: sentences for people, or one JSON object a line (--json) with the same sentence. */
#ifndef GUARD_TOLD_H
#define GUARD_TOLD_H
#include "guarded.h"

/* What became of a migration. Unknown: nobody could say, or the VM's QEMU has ended and the server still has the VM. */
enum fate { FATE_MOVED, FATE_STAYED, FATE_UNKNOWN, FATES };
extern const char *const fate_names[FATES];

/* `event` is a word for programs; g NULL: it is of no VM. */
__attribute__((format(printf, 4, 5))) void told(bool json, const struct guarded *g, const char *event, const char *format, ...);

/* A decision that changed something, and the end with all that was done. `there`: the server still has one whose QEMU has ended. */
void told_decision(bool json, const struct guarded *g);
void told_end(bool json, const struct guarded *g, enum fate fate, bool there, bool given_back);
#endif
