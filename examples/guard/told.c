/* SPDX-License-Identifier: MIT */
/* Sentences, and the numbers that go with them for programs. See told.h. */
#include "told.h"
#include "numbers.h"
#include "past.h"
#include "tell.h"
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const fate_names[FATES] = { "moved", "stayed", "unknown" };

/* A peer's text need not be UTF-8, which jansson asks for. */
static json_t *text_of(const char *text)
{
    char clean[4 * FAIL_SIZE];

    migbuf_printable(text, clean, sizeof clean);
    return json_string(clean);
}

static json_t *object_of(const struct guarded *g, const char *event, const char *sentence)
{
    char when[32];
    time_t now = time(NULL);
    struct tm t;
    json_t *o = json_object();

    gmtime_r(&now, &t);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &t);
    json_object_set_new(o, "time", json_string(when));
    json_object_set_new(o, "event", json_string(event));
    if (g) {
        json_object_set_new(o, "project", text_of(g->project));
        json_object_set_new(o, "vm", text_of(g->name));
        json_object_set_new(o, "state_volume_bytes", json_integer((json_int_t)g->state_bytes));
        json_object_set_new(o, "buffer_bytes", json_integer((json_int_t)g->omega_bytes));
        json_object_set_new(o, "overlay_bytes", json_integer((json_int_t)g->overlay_bytes));
        json_object_set_new(o, "overlay_peak_bytes", json_integer((json_int_t)g->peak_bytes));
        json_object_set_new(o, "limit_bytes_per_s",
                            g->limit_bytes_per_s == UINT64_MAX ? json_null() : json_integer((json_int_t)g->limit_bytes_per_s));
    }
    json_object_set_new(o, "text", text_of(sentence));
    return o;
}

/* Guests are held on: nobody who does not read ends that. */
static void check_output(void)
{
    static bool is_said;

    if (ferror(stdout) && !is_said)
        tell(stderr, "migbuf-guard: standard output: %s; it goes on guarding", strerror(errno));
    is_said |= ferror(stdout) != 0;
    clearerr(stdout);
}

/* Out at once, whole; what is given is given back. */
static void put(json_t *o)
{
    json_dumpf(o, stdout, JSON_COMPACT);
    fputc('\n', stdout);
    fflush(stdout);
    check_output();
    json_decref(o);
}

void told(bool json, const struct guarded *g, const char *event, const char *format, ...)
{
    char text[2 * FAIL_SIZE], name[300] = "";
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (json) {
        put(object_of(g, event, text));
        return;
    }
    if (g)
        past_name(g->project, g->name, name);
    tell(stdout, "%s%s%s", name, g ? ": " : "", text);
    check_output();
}

void told_decision(bool json, const struct guarded *g)
{
    char rate[HUMAN_SIZE], size[HUMAN_SIZE], text[FAIL_SIZE];
    json_t *o;

    if (g->limit_bytes_per_s)
        snprintf(text, sizeof text, "%s to %s of growth, overlay %s: %s", migbuf_action_text(g->action),
                 human_rate(g->limit_bytes_per_s, rate), human_binary(g->overlay_bytes, size), migbuf_reason_text(g->reason));
    else
        snprintf(text, sizeof text, "%s, overlay %s: %s", migbuf_action_text(g->action), human_binary(g->overlay_bytes, size),
                 migbuf_reason_text(g->reason));
    if (!json) {
        told(false, g, "", "%s", text);
        return;
    }
    o = object_of(g, "decision", text);
    json_object_set_new(o, "action", json_string(migbuf_action_text(g->action)));
    json_object_set_new(o, "reason", json_string(migbuf_reason_text(g->reason)));
    put(o);
}

static const char *sentence_of(enum fate fate, bool there)
{
    switch (fate) {
    case FATE_MOVED:
        return "it has moved";
    case FATE_STAYED:
        return "it is still here, and runs";
    default:
        return there ? "the server still has it, and it does not run: has it moved?" : "what became of it is not known";
    }
}

void told_end(bool json, const struct guarded *g, enum fate fate, bool there, bool given_back)
{
    char peak[HUMAN_SIZE], room[HUMAN_SIZE], text[2 * FAIL_SIZE], span[HUMAN_SIZE], stood[64] = "";
    json_t *o;

    if (g->pauses)
        snprintf(stood, sizeof stood, ", stopped %llu times for %.1f s", (unsigned long long)g->pauses, (double)g->paused_ms / 1000);
    human_time((int64_t)g->watched_ms, span);
    snprintf(text, sizeof text, "%s. %s under guard, %llu decisions%s, overlay %s at most of %s",
             !given_back ? "over"
             : g->gone   ? "its QEMU has ended"
             : g->dry    ? "over"
                         : "over, its own limits are in force",
             span, (unsigned long long)g->decisions, stood, human_binary(g->peak_bytes, peak), human_binary(g->omega_bytes, room));
    if (!given_back)
        told(json, g, "left", "its own limits are NOT in force: %s. They are kept in %s for the next guard", g->error, g->saved);
    if (!json) {
        told(false, g, "", "%s", text);
        if (g->gone || g->carried_out)
            told(false, g, "", "%s", sentence_of(fate, there));
        return;
    }
    o = object_of(g, "over", text);
    json_object_set_new(o, "outcome", json_string(fate_names[fate]));
    json_object_set_new(o, "limits_given_back", json_boolean(given_back));
    json_object_set_new(o, "decisions", json_integer((json_int_t)g->decisions));
    json_object_set_new(o, "pauses", json_integer((json_int_t)g->pauses));
    json_object_set_new(o, "paused_ms", json_integer((json_int_t)g->paused_ms));
    json_object_set_new(o, "watched_ms", json_integer((json_int_t)g->watched_ms));
    json_object_set_new(o, "written_bytes",
                        g->written_last >= g->written_first ? json_integer((json_int_t)(g->written_last - g->written_first)) : json_null());
    put(o);
}
