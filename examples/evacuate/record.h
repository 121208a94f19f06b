/* SPDX-License-Identifier: MIT */
/*
 * The timeline of one run: what was measured and decided at every tick, and what happened in between. Filled by the
 * loop, read by picture.c and svg.c. Knows neither QEMU nor the library's handle.
 *
 * VM i of the record is migration i of the library: the id given to migbuf_buffer_add() must be the index here.
 */
#ifndef EVACUATE_RECORD_H
#define EVACUATE_RECORD_H
#include "numbers.h"
#include <stddef.h>
#include <stdint.h>

#define RECORD_NAME_SIZE 32
#define RECORD_TEXT_SIZE 128
#define RECORD_EVERYBODY UINT32_MAX /* the vm of an event that concerns the whole run */

enum phase {
    PHASE_WAITING,  /* not started: no overlay yet */
    PHASE_BASE,     /* the base image is being copied, writes go to the overlay */
    PHASE_MIRROR,   /* the overlay is being sent */
    PHASE_RAM,      /* memory is being sent, the disk is in step */
    PHASE_BACK,     /* given up: what was made for it is undone, its overlay merged back */
    PHASE_TARGET,   /* it runs at the target */
    PHASE_REVERTED, /* given up, it runs at the source as before */
    PHASE_FAILED,
    PHASE_COUNT
};

/* Where a guest is while its memory is being sent. */
enum frame_ram {
    FRAME_RAM_NONE,   /* it is not being sent */
    FRAME_RAM_RUNS,   /* it runs at the source */
    FRAME_RAM_STANDS, /* it stands at the source: QEMU would lose track of what it writes */
    FRAME_RAM_THERE   /* it runs at the target already: post-copy */
};

/* One VM at one tick. */
struct frame_vm {
    uint64_t overlay_bytes;     /* allocated bytes of its overlays in Ω */
    uint64_t limit_bytes_per_s; /* growth budget in force, UINT64_MAX: none; 0 while paused */
    uint64_t guest_bytes_per_s; /* what the guest got through since the last frame */
    uint64_t acked;             /* writes acknowledged to the guest so far */
    uint32_t progress_permille; /* of the phase it is in */
    int32_t phase;              /* enum phase */
    int32_t paused;             /* 1 while the guest is stopped because of Ω */
    int32_t action, reason;     /* of the last decision, MIGBUF_ACTION_… and MIGBUF_REASON_…; 0 before the first */
    int32_t ram;                /* enum frame_ram; where it is NONE the four below are 0 */
    uint32_t ram_throttle_percent; /* CPU throttle in force */
    uint32_t ram_limit_ms;      /* downtime-limit in force */
    uint64_t ram_left_bytes;    /* still to be sent, as QEMU knows it */
    uint64_t ram_bytes_per_s;   /* how fast it is sent */
};

/* One tick. */
struct frame {
    uint64_t t_ms;             /* since the start of the run; never falls */
    uint64_t used_bytes;       /* what the file system says (statvfs): the truth, whatever the ledger thinks */
    uint64_t reserve_bytes;    /* kept free for drains */
    uint64_t link_bytes_per_s; /* U as measured, 0: not known yet */
    struct frame_vm *vm;       /* vm_count of them */
};

/* Something that happened between ticks: "mirror ready", "paused", "Ω full: guest stopped". */
struct record_event {
    uint64_t t_ms;
    uint32_t vm; /* or RECORD_EVERYBODY */
    char text[RECORD_TEXT_SIZE];
};

/* What the run was: for captions only. */
struct record_setup {
    uint64_t omega_bytes;
    uint64_t link_bytes_per_s; /* as configured, 0: not limited */
    uint64_t seed;
    uint32_t vm_count; /* at least 1 */
    uint32_t tick_ms;
    const char *const *names; /* vm_count of them, or NULL: vm0, vm1, … */
    const char *policy;       /* "planner, shortest first"; NULL: nothing is said */
};

struct record {
    uint64_t omega_bytes, link_bytes_per_s, seed;
    uint32_t vm_count, tick_ms;
    char policy[64];
    char (*names)[RECORD_NAME_SIZE];
    struct frame *frames;
    size_t frame_count, frame_room;
    struct record_event *events;
    size_t event_count, event_room;
};

/* Everything is copied. NULL when there is no memory or vm_count is 0. */
struct record *record_new(const struct record_setup *setup);

/* NULL is fine. */
void record_free(struct record *record);

/* Appends a frame, frame->vm copied. A time before the last frame's counts as that one's. -1 when there is no memory.
 */
int record_add(struct record *record, const struct frame *frame);

/* Appends an event, the text as printf would make it (cut to RECORD_TEXT_SIZE). -1 when there is no memory. */
__attribute__((format(printf, 4, 5))) int record_event(struct record *record, uint64_t t_ms, uint32_t vm,
                                                       const char *format, ...);

/* The newest frame, NULL when there is none. */
const struct frame *record_last(const struct record *record);

/* The frame with the largest used_bytes, the first of them; NULL when there is none. */
const struct frame *record_peak(const struct record *record);

/*
 * Time until VM vm ends its phase, from its progress in the last 15 s; -1 when that cannot be told (no progress, not in
 * a phase that ends by itself).
 */
int64_t record_left_ms(const struct record *record, uint32_t vm);

/* "waiting", "base copy", "mirror", "RAM", "way back", "at target", "reverted", "failed"; "unknown" otherwise. Never NULL. */
const char *phase_text(int32_t phase);

/* Does it write to an overlay, under limits? */
bool phase_is_active(int32_t phase);

/* What is known of a VM's memory while it is being sent: "12.5 MB of memory left, 8 MB/s, throttle 80 %, stop up to
 * 500 ms", and where the guest is if it does not run at the source. "" while it is not. `text` is what is returned. */
#define RECORD_RAM_SIZE 128
const char *record_ram_text(const struct frame_vm *vm, char text[RECORD_RAM_SIZE]);

/* The reason of a decision in at most ten letters ("link share"); "" for 0. The library's sentence where there is no such
 * word for it. Never NULL. */
const char *reason_word(int32_t reason);

/* One letter per VM, the same in every picture: A … Z, a … z, then '+'. */
char vm_letter(uint32_t vm);
#endif
