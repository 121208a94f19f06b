/* SPDX-License-Identifier: MIT */
/*
 * The decision log: every call of the library with its inputs and results, one JSON object per line, and the replay
 * that feeds the inputs through the library again and compares. Each wrapper calls the function of the same name in
 * migbuf/buffer.h and returns what it returned; only reading functions (view, stats, bins) need no wrapper.
 *
 * A log that cannot be written never changes what the buffer does: the calls go on, trace_close() tells. Every line is
 * handed to the system at once, so that a crash loses none.
 *
 * Numbers are exact: up to 2^63-1 as JSON integers, larger ones (MIGBUF_UNLIMITED, wild ids) as decimal strings.
 */
#ifndef EVACUATE_TRACE_H
#define EVACUATE_TRACE_H
#include "fail.h"
#include "migbuf/buffer.h"
#include <stdio.h>

struct trace;

/* Creates or empties the file. path NULL: nothing is written, the wrappers only call the library. -1: see error. */
int trace_open(const char *path, struct trace **trace, char error[FAIL_SIZE]);

/* Closes the file. -1 with a sentence when any line could not be written. NULL is fine. The buffer is not freed. */
int trace_close(struct trace *trace, char error[FAIL_SIZE]);

/* migbuf_buffer_new(), with malloc. options NULL: defaults. */
int trace_new(struct trace *trace, uint64_t capacity_bytes, const struct migbuf_buffer_options *options,
              struct migbuf_buffer **out);
/* migbuf_buffer_load(), with malloc: a log may begin with a buffer that another process saved. */
int trace_load(struct trace *trace, const char *text, size_t length, uint64_t now_ms, struct migbuf_buffer **out);
int trace_add(struct trace *trace, struct migbuf_buffer *b, const struct migbuf_migration *m,
              const struct migbuf_geometry *disks, size_t disk_count, struct migbuf_error *error);
int trace_phase(struct trace *trace, struct migbuf_buffer *b, uint64_t id, int32_t phase, uint32_t drains_ahead);
int trace_weight(struct trace *trace, struct migbuf_buffer *b, uint64_t id, uint32_t weight);
int trace_sample(struct trace *trace, struct migbuf_buffer *b, uint64_t now_ms, const struct migbuf_sample *samples,
                 size_t count);
int trace_link(struct trace *trace, struct migbuf_buffer *b, uint64_t link, uint64_t bytes_per_s);
int trace_tick(struct trace *trace, struct migbuf_buffer *b, uint64_t now_ms, struct migbuf_decision *out,
               size_t capacity);
int trace_outcome(struct trace *trace, struct migbuf_buffer *b, uint64_t id, int32_t outcome);
int trace_found(struct trace *trace, struct migbuf_buffer *b, uint64_t id, const struct migbuf_limits *limits,
                int32_t running);
int trace_remove(struct trace *trace, struct migbuf_buffer *b, uint64_t id);
int trace_resize(struct trace *trace, struct migbuf_buffer *b, uint64_t capacity_bytes, struct migbuf_error *error);

/*
 * Replays a log and prints one line about it to `out`:
 *   run.jsonl: 812 calls, 640 decisions, identical
 *   run.jsonl: 40 calls, 31 decisions alike, first difference at line 42: tick at 12000 ms, id 3: growth_bytes_per_s
 * 65536 was recorded, now it is 131072 run.jsonl: line 7: not JSON: ... Returns 0 when identical, 1 at a difference, -1
 * when the file is no log (unreadable, cut off, not JSON, another version).
 */
int trace_replay(const char *path, FILE *out);
#endif
