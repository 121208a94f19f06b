/* SPDX-License-Identifier: MIT */
/* Carries commands and answers between the machine for memory and two monitors. */
#include "memory.h"
#include "migbuf/report.h"
#include <stdio.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define LOOK_MS 100 /* events say most of it; this is how late a word that was missed may be */

static void read_info(struct memory *x)
{
    x->info.size = sizeof x->info;
    migbuf_ram_info(x->ram, &x->info);
    if (x->info.state >= MIGBUF_RAM_STATE_MOVED && !x->restoring) /* after that its limit is the host's */
        migbuf_ram_attempt(x->ram, &x->attempt);
}

int memory_new(struct memory *x, const struct migbuf_agreement *agreement, bool host_decides, char error[FAIL_SIZE])
{
    struct migbuf_ram_options options;
    struct migbuf_ram *ram;
    int rc = migbuf_ram_options_init(&options, sizeof options);

    options.host_decides = host_decides;
    if (!rc)
        rc = migbuf_ram_new(agreement, &options, NULL, &ram);

    if (rc)
        return fail(error, "the machine for memory: %s", migbuf_strerror(rc));
    *x = (struct memory){ .ram = ram, .monitor = { x->monitor[0], x->monitor[1] },
                          .settings = { { x->settings[0][0], x->settings[0][1] }, { 0, 0 } } };
    migbuf_attempt_init(&x->attempt);
    migbuf_ram_learn(ram);
    read_info(x);
    return 0;
}

int memory_load(struct memory *x, const char *text, size_t length, char error[FAIL_SIZE])
{
    int rc = migbuf_ram_load(text, length, NULL, &x->ram);

    if (rc)
        return fail(error, "the machine for memory: %s", migbuf_strerror(rc));
    migbuf_attempt_init(&x->attempt);
    read_info(x);
    x->revision = x->info.text_revision;
    return 0;
}

uint64_t memory_checksum(const char *text, uint64_t bytes)
{
    uint64_t sum = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

    for (uint64_t k = 0; k < bytes; k++)
        sum = (sum ^ (unsigned char)text[k]) * UINT64_C(0x100000001b3);
    return (sum & INT64_MAX) | 1; /* a JSON integer, and none that means nothing */
}

/* What was set before anything of ours was. */
static void note_settings(struct memory *x, const struct call *call)
{
    uint64_t *settings = &x->settings[x->side][x->kind == MIGBUF_RAM_GET_PARAMETERS];

    if ((x->kind == MIGBUF_RAM_GET_CAPABILITIES || x->kind == MIGBUF_RAM_GET_PARAMETERS) && !*settings)
        *settings = memory_checksum(call->text, call->text_bytes);
}

static void take_answer(struct memory *x)
{
    struct monitor *monitor = x->monitor[x->side];
    const struct call *call = &monitor->call[CALL_RAM];
    int result = call->state == CALL_ANSWERED ? 0 : call->state == CALL_REFUSED ? MIGBUF_E_PEER : MIGBUF_E_CLOSED;

    if (call->state == CALL_REFUSED)
        snprintf(x->refusal, sizeof x->refusal, "%s", call->text);
    if (!result)
        note_settings(x, call);
    if (!result && x->kind == MIGBUF_RAM_GET_MIGRATION && x->side == MIGBUF_RAM_SOURCE) {
        struct migbuf_ram_report report;

        if (!migbuf_report_ram(call->text, call->text_bytes, &report, NULL) && report.has_ram)
            x->last = report;
    }
    migbuf_report_to_ram(x->ram, x->kind, result, call->text, call->text_bytes, NULL); /* what follows from it tells info */
    x->kind = 0;
    monitor_taken(monitor, CALL_RAM);
}

/* Events reach the machine while there is one. */
static void listen(const struct memory *x)
{
    for (int32_t side = 0; side < 2; side++) {
        x->monitor[side]->ram = x->ram;
        x->monitor[side]->ram_side = side;
    }
}

static bool has_answer(const struct memory *x)
{
    const struct monitor *monitor = x->monitor[x->side];

    return monitor->lost || !monitor->socket || monitor->call[CALL_RAM].state != CALL_WAITING;
}

bool memory_drive(struct memory *x, bool recorded, uint64_t now)
{
    struct migbuf_ram_command command;

    if (!x->ram)
        return false;
    listen(x);
    if (x->kind && !has_answer(x))
        return true;
    if (x->kind)
        take_answer(x);
    if (now >= x->looked_ns + LOOK_MS * MS) {
        x->looked_ns = now;
        x->looks++;
        migbuf_ram_look(x->ram, now / MS);
    }
    if (migbuf_ram_next(x->ram, &command) != 1) {
        read_info(x);
        return false;
    }
    read_info(x); /* which command is under way is part of what the record must know before it is sent */
    x->unrecorded = recorded && x->info.text_revision != x->revision;
    if (x->unrecorded)
        return true;
    x->kind = command.kind;
    x->side = command.side;
    monitor_send(x->monitor[x->side], CALL_RAM, command.name, command.arguments, now);
    return true;
}

void memory_gone(struct memory *x, int32_t side)
{
    if (!x->ram || x->gone[side])
        return;
    x->gone[side] = true;
    migbuf_ram_gone(x->ram, side);
    if (x->kind && x->side == side)
        x->kind = 0;
    read_info(x);
}

void memory_recorded(struct memory *x)
{
    x->unrecorded = false;
    x->revision = x->info.text_revision;
}

void memory_end(struct memory *x)
{
    if (!x->ram)
        return;
    for (int side = 0; side < 2; side++) {
        x->monitor[side]->ram = NULL;
        monitor_taken(x->monitor[side], CALL_RAM);
    }
    migbuf_ram_free(x->ram);
    x->ram = NULL;
    x->kind = 0;
    x->unrecorded = false;
}
