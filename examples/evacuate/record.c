/* SPDX-License-Identifier: MIT */
/* The timeline of one run, and the few words and numbers every picture of it needs. */
#include "record.h"
#include "migbuf/buffer.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int name_vms(struct record *record, const char *const *names)
{
    record->names = calloc(record->vm_count, sizeof *record->names);
    if (!record->names)
        return -1;
    for (uint32_t i = 0; i < record->vm_count; i++) {
        if (names && names[i])
            snprintf(record->names[i], RECORD_NAME_SIZE, "%s", names[i]);
        else
            snprintf(record->names[i], RECORD_NAME_SIZE, "vm%" PRIu32, i);
    }
    return 0;
}

struct record *record_new(const struct record_setup *setup)
{
    struct record *record;

    if (!setup->vm_count)
        return NULL;
    record = calloc(1, sizeof *record);
    if (!record)
        return NULL;
    record->omega_bytes = setup->omega_bytes;
    record->link_bytes_per_s = setup->link_bytes_per_s;
    record->seed = setup->seed;
    record->vm_count = setup->vm_count;
    record->tick_ms = setup->tick_ms;
    snprintf(record->policy, sizeof record->policy, "%s", setup->policy ? setup->policy : "");
    if (name_vms(record, setup->names)) {
        free(record);
        return NULL;
    }
    return record;
}

void record_free(struct record *record)
{
    if (!record)
        return;
    for (size_t i = 0; i < record->frame_count; i++)
        free(record->frames[i].vm);
    free(record->frames);
    free(record->events);
    free(record->names);
    free(record);
}

/* Room for one more; NULL when there is no memory, the old array is still good then. */
static void *grow(void *array, size_t count, size_t *room, size_t item)
{
    size_t more = *room ? 2 * *room : 64;
    void *larger;

    if (count < *room)
        return array;
    larger = reallocarray(array, more, item);
    if (larger)
        *room = more;
    return larger;
}

int record_add(struct record *record, const struct frame *frame)
{
    struct frame *frames = grow(record->frames, record->frame_count, &record->frame_room, sizeof *frames);
    struct frame *copy;

    if (!frames)
        return -1;
    record->frames = frames;
    copy = &frames[record->frame_count];
    *copy = *frame;
    if (record->frame_count && copy->t_ms < copy[-1].t_ms)
        copy->t_ms = copy[-1].t_ms;
    copy->vm = calloc(record->vm_count, sizeof *copy->vm);
    if (!copy->vm)
        return -1;
    memcpy(copy->vm, frame->vm, record->vm_count * sizeof *copy->vm);
    record->frame_count++;
    return 0;
}

int record_event(struct record *record, uint64_t t_ms, uint32_t vm, const char *format, ...)
{
    struct record_event *events = grow(record->events, record->event_count, &record->event_room, sizeof *events);
    struct record_event *event;
    va_list args;

    if (!events)
        return -1;
    record->events = events;
    event = &events[record->event_count];
    event->t_ms = t_ms;
    event->vm = vm;
    va_start(args, format);
    vsnprintf(event->text, sizeof event->text, format, args);
    va_end(args);
    record->event_count++;
    return 0;
}

const struct frame *record_last(const struct record *record)
{
    return record->frame_count ? &record->frames[record->frame_count - 1] : NULL;
}

const struct frame *record_peak(const struct record *record)
{
    const struct frame *peak = NULL;

    for (size_t i = 0; i < record->frame_count; i++)
        if (!peak || record->frames[i].used_bytes > peak->used_bytes)
            peak = &record->frames[i];
    return peak;
}

int64_t record_left_ms(const struct record *record, uint32_t vm)
{
    const struct frame *last = record_last(record), *first = last;
    const struct frame_vm *now;
    uint64_t done, ms;

    if (!last || vm >= record->vm_count)
        return -1;
    now = &last->vm[vm];
    if (now->phase < PHASE_BASE || now->phase > PHASE_RAM || now->progress_permille > 1000)
        return -1;
    while (first > record->frames && first[-1].vm[vm].phase == now->phase && last->t_ms - first[-1].t_ms <= 15000)
        first--;
    ms = last->t_ms - first->t_ms;
    if (ms < 500 || now->progress_permille <= first->vm[vm].progress_permille)
        return -1;
    done = now->progress_permille - first->vm[vm].progress_permille;
    return (int64_t)((1000 - now->progress_permille) * ms / done);
}

const char *phase_text(int32_t phase)
{
    static const char *const text[PHASE_COUNT] = { "waiting",  "base copy", "mirror",   "RAM",
                                                   "way back",  "at target", "reverted", "failed" };

    return phase >= 0 && phase < PHASE_COUNT ? text[phase] : "unknown";
}

bool phase_is_active(int32_t phase)
{
    return phase >= PHASE_BASE && phase <= PHASE_BACK;
}

const char *record_ram_text(const struct frame_vm *vm, char text[RECORD_RAM_SIZE])
{
    static const char *const where[] = { "", "", ", the guest stands", ", the guest is there" };
    char left[HUMAN_SIZE], rate[HUMAN_SIZE];

    *text = 0;
    if (vm->ram > FRAME_RAM_NONE && vm->ram <= FRAME_RAM_THERE)
        snprintf(text, RECORD_RAM_SIZE, "%s of memory left, %s, throttle %" PRIu32 " %%, stop up to %" PRIu32 " ms%s",
                 human_bytes(vm->ram_left_bytes, left), human_rate(vm->ram_bytes_per_s, rate), vm->ram_throttle_percent,
                 vm->ram_limit_ms, where[vm->ram]);
    return text;
}

const char *reason_word(int32_t reason)
{
    switch (reason) {
    case 0:
        return "";
    case MIGBUF_REASON_RATE:
        return "curve";
    case MIGBUF_REASON_SHARE:
        return "link share";
    case MIGBUF_REASON_ROOM:
        return "bin room";
    case MIGBUF_REASON_LENDER:
        return "its host";
    case MIGBUF_REASON_FLOOR:
        return "floor";
    case MIGBUF_REASON_SPACE:
        return "free space";
    case MIGBUF_REASON_RESERVE:
        return "reserve";
    case MIGBUF_REASON_WAIT:
        return "min. pause";
    case MIGBUF_REASON_WHOLE:
        return "fits whole";
    case MIGBUF_REASON_PLAN:
        return "the plan";
    case MIGBUF_REASON_FREE:
        return "no need";
    default:
        return migbuf_reason_text(reason);
    }
}

char vm_letter(uint32_t vm)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    return vm < sizeof letters - 1 ? letters[vm] : '+';
}
