/* SPDX-License-Identifier: MIT */
/* Leads the program's calls of a buffer through the decision log (trace.h). The log calls the library by the same names:
 * what it calls while a call goes through it is not led here again. */
#include "rig.h"
#include "trace.h"

static struct trace *trace; /* NULL: no log */
static char trace_path[300];
static bool on, inside;

int recording_open(const char *path, char error[FAIL_SIZE])
{
    snprintf(trace_path, sizeof trace_path, "%s", path ? path : "");
    return path ? trace_open(path, &trace, error) : 0;
}

void recording_on(bool wanted)
{
    on = wanted;
}

int recording_close(char error[FAIL_SIZE])
{
    char why[FAIL_SIZE];
    int rc = trace_close(trace, why);

    trace = NULL;
    return rc ? fail(error, "--trace %s: %.600s", trace_path, why) : 0;
}

/* A call without a buffer is refused and leaves nothing in one. */
static bool enter(const void *needed)
{
    return trace && on && !inside && needed && (inside = true);
}

static int leave(int rc)
{
    inside = false;
    return rc;
}

/* One for each call: RECORDED(name, types and names, names, what must be there). */
#define RECORDED(name, logged, parameters, logged_arguments, arguments, needed)                                        \
    int __real_migbuf_buffer_##name parameters;                                                                        \
    int __wrap_migbuf_buffer_##name parameters;                                                                        \
    int __wrap_migbuf_buffer_##name parameters                                                                         \
    {                                                                                                                  \
        return enter(needed) ? leave(trace_##logged logged_arguments) : __real_migbuf_buffer_##name arguments;         \
    }

/* clang-format off */
RECORDED(phase, phase, (struct migbuf_buffer *b, uint64_t id, int32_t phase, uint32_t drains_ahead),
         (trace, b, id, phase, drains_ahead), (b, id, phase, drains_ahead), b)
RECORDED(weight, weight, (struct migbuf_buffer *b, uint64_t id, uint32_t weight), (trace, b, id, weight), (b, id, weight), b)
RECORDED(sample, sample, (struct migbuf_buffer *b, uint64_t now_ms, const struct migbuf_sample *samples, size_t count),
         (trace, b, now_ms, samples, count), (b, now_ms, samples, count), b)
RECORDED(link, link, (struct migbuf_buffer *b, uint64_t link, uint64_t bytes_per_s), (trace, b, link, bytes_per_s),
         (b, link, bytes_per_s), b)
RECORDED(tick, tick, (struct migbuf_buffer *b, uint64_t now_ms, struct migbuf_decision *out, size_t capacity),
         (trace, b, now_ms, out, capacity), (b, now_ms, out, capacity), b)
RECORDED(outcome, outcome, (struct migbuf_buffer *b, uint64_t id, int32_t outcome), (trace, b, id, outcome),
         (b, id, outcome), b)
RECORDED(resync, found, (struct migbuf_buffer *b, uint64_t id, const struct migbuf_limits *limits, int32_t running),
         (trace, b, id, limits, running), (b, id, limits, running), b)
RECORDED(remove, remove, (struct migbuf_buffer *b, uint64_t id), (trace, b, id), (b, id), b)
RECORDED(resize, resize, (struct migbuf_buffer *b, uint64_t capacity_bytes, struct migbuf_error *error),
         (trace, b, capacity_bytes, error), (b, capacity_bytes, error), b)
RECORDED(add, add, (struct migbuf_buffer *b, const struct migbuf_migration *m, const struct migbuf_geometry *disks,
                    size_t disk_count, struct migbuf_error *error),
         (trace, b, m, disks, disk_count, error), (b, m, disks, disk_count, error), b)
RECORDED(new, new, (uint64_t capacity_bytes, const struct migbuf_buffer_options *options,
                    const struct migbuf_allocator *allocator, struct migbuf_buffer **out),
         (trace, capacity_bytes, options, out), (capacity_bytes, options, allocator, out), !allocator ? out : NULL)
RECORDED(load, load, (const char *text, size_t length, uint64_t now_ms, const struct migbuf_allocator *allocator,
                      struct migbuf_buffer **out),
         (trace, text, length, now_ms, out), (text, length, now_ms, allocator, out), !allocator ? out : NULL)
/* clang-format on */
