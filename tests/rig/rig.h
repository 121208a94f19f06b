/* SPDX-License-Identifier: MIT */
/* The rig's parts, as rig.c puts them together: faults (inject.c), the log of the buffer's calls (recording.c), what
 * policies are compared by (window.c), what hosts do today (hosts.c), and other people's rules for memory (others.c). */
#ifndef RIG_H
#define RIG_H
#include "loop.h"
#include <jansson.h>

/* The options whose values are kept, at these places of options->added. */
enum { RIG_INJECT, RIG_INJECT_AFTER, RIG_TRACE, RIG_REPLAY, RIG_RAM_POLICY, RIG_HOST, RIG_VALUES };

/* --inject: is it a fault, at a step there is? */
bool inject_known(const char *what);

void inject_begin(void);
void inject_turn(struct run *r, const struct migration *m, uint64_t now);
void inject_check(const struct run *r, const struct migration *m, uint32_t disk, const struct writer_params *w, int fd);
void inject_end(void);

/*
 * Every call that the program makes of a buffer goes into the log from recording_open() on, while it is on. The program
 * knows nothing of that: the linker leads its calls here (--wrap). path NULL: there is no log.
 */
int recording_open(const char *path, char error[FAIL_SIZE]);
void recording_on(bool on);
int recording_close(char error[FAIL_SIZE]);

/* --ram-policy: is it one, and what it decides. */
bool others_known(const char *text);
void others_begin(void);
void others_turn(struct run *r, struct migration *m, uint64_t now);

/* --policy: is it one of other hosts, and what they do. */
bool hosts_read(struct options *o, const char *text);
void hosts_begin(void);
void hosts_turn(const struct run *r, struct migration *m);

/* --window, in the order of calls; a summary of the run (m NULL) or of one of its VMs. */
void window_begin(const struct run *r);
void window_turn(const struct run *r, const struct migration *m, uint64_t now);
void window_summary(const struct run *r, const struct migration *m, json_t *o);
void window_tell(const struct run *r, FILE *out);
#endif
