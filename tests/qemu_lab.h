/* SPDX-License-Identifier: MIT */
/*
 * qemu_lab: real VMs with the writing guest (examples/evacuate), their throttle and their overlay, for the tests that
 * measure what QEMU does with our limits. Every failure here fails the check test that is running.
 *
 * All files are on a tmpfs of our own in a mount namespace of our own: whatever becomes of a test, nothing is left but
 * an empty directory. Environment: EVACUATE_GUEST names guest.elf, MIGBUF_QEMU another QEMU than the one in PATH.
 */
#ifndef MIGBUF_TESTS_QEMU_LAB_H
#define MIGBUF_TESTS_QEMU_LAB_H
#include "migbuf/buffer.h"
#include "migbuf/cow.h"
#include "migbuf/disk.h"
#include "migbuf/growth.h"
#include "migbuf/limits.h"
#include "migbuf/qmp_socket.h"
#include "migbuf/report.h"
#include "process.h"
#include "unit.h"
#include "vm.h"
#include "writer.h"

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1024) * 1024)
#define GIB (UINT64_C(1024) * 1024 * 1024)

/* How a VM and its overlay are to be. */
struct lab_wish {
    struct writer_params guest;
    uint64_t disk_bytes;
    uint64_t cluster_bytes; /* 0: 65536 */
    bool extended;          /* extended_l2: small writes allocate a 32nd of a cluster */
    bool by_fd;             /* the overlay goes to QEMU as a descriptor and its name away, as LXD does it */
    bool no_merging;
    bool zeroes;              /* written zeroes become write-zeroes in the overlay: counted at full length, no growth */
    const char *omega;        /* directory of the overlay; NULL: the VM's own */
    const char *const *extra; /* more arguments for QEMU */
};

struct lab_vm {
    struct lab_wish wish;
    struct vm vm;
    struct migbuf_qmp_socket *qmp;
    struct migbuf_qmp_message answer; /* to the last command */
    struct migbuf_disk *disk;
    struct migbuf_geometry geometry;
    struct migbuf_limits limits; /* last set */
    double set_s;                /* when */
    uint32_t sets, again;        /* how often; of that: the same once more */
    int overlay;                 /* a descriptor of its file, -1: none yet */
    uint64_t overlay_bytes;      /* its size as created */
    double overlay_s;            /* just before it began to fill */
    uint64_t mark;               /* the test's: growth up to some moment */
    char name[32], directory[160], image[192], file[256];
    char node[32]; /* the top one */
};

/* The library at work for one VM that has Ω to itself, as a host runs it: sample, tick, carry out. */
struct lab_loop {
    struct lab_vm *v;
    struct migbuf_buffer *buffer;
    double tick_s, next_s, last_s; /* lab_now() of the next and the last tick */
    double longest_s;              /* between two ticks, as it really was */
    uint32_t pauses;
    bool paused;
};

/* True when there is all it takes; else it has printed the SKIP line. */
bool lab_open(void);
void lab_close(void);
const char *lab_directory(void);
bool lab_can_mount(void);

/* The tests as one TAP program: opens the lab, runs, closes. */
int lab_run(const char *name, const TTest *const *tests, int seconds);

double lab_now(void);
void lab_sleep_until(double when_s);
static inline void lab_sleep(double seconds)
{
    lab_sleep_until(lab_now() + seconds);
}

/* A wish with everything at its default: 4 KiB random writes, depth 1, 1 GiB disk, 64 KiB clusters. */
struct lab_wish lab_wish(void);
void lab_start(struct lab_vm *v, const char *name, const struct lab_wish *wish);
void lab_end(struct lab_vm *v);

/* QEMU's major version. */
int lab_version(struct lab_vm *v);

/* One command that has to succeed; the answer is in v->answer. */
__attribute__((format(printf, 3, 4))) void lab_call(struct lab_vm *v, const char *name, const char *arguments, ...);
/* An event of this name (others are dropped), its data in v->answer; false when it does not come in time. */
bool lab_event(struct lab_vm *v, const char *name, uint32_t timeout_ms);
/* qemu-io on the device's own backend, that is through its throttle, without waiting for the end. */
void lab_io(struct lab_vm *v, const char *qdev, const char *command);

/* disk.h, carried out. */
void lab_pump(struct lab_vm *v);
void lab_learn(struct lab_vm *v);
void lab_limit(struct lab_vm *v, const struct migbuf_limits *limits);
void lab_again(struct lab_vm *v);
void lab_units(struct lab_vm *v, uint64_t units_per_s);
void lab_restore(struct lab_vm *v);
struct migbuf_disk_info lab_info(const struct lab_vm *v);
/* What query-block shows of this node; "" stands for the VM's top node. */
struct migbuf_block_report lab_block(struct lab_vm *v, const char *node);

/* Makes the overlay's file; puts it on top (blockdev-add, blockdev-snapshot), making it first where that is not done.
 */
void lab_make_overlay(struct lab_vm *v);
void lab_overlay(struct lab_vm *v);

/* Waits until it is so, however slow the machine is. */
#define lab_wait_until(v, condition)                                                                                    \
    do {                                                                                                                \
        double until_ = lab_now() + PATIENCE_S;                                                                         \
                                                                                                                        \
        while (!(condition)) {                                                                                          \
            ck_assert_msg(lab_now() < until_, "%s: never: %s", (v)->name, #condition);                                   \
            lab_sleep(0.005);                                                                                           \
        }                                                                                                               \
    } while (0)

/* Looking. lab_grown: bytes of the overlay's file beyond its size as created. */
uint64_t lab_grown(const struct lab_vm *v);
void lab_counters(struct lab_vm *v, uint64_t *writes, uint64_t *bytes);
struct guest_status lab_status(const struct lab_vm *v);
void lab_wait_acknowledged(const struct lab_vm *v, uint32_t writes);
/* Until that many writes wait at the device. */
void lab_wait_in_flight(const struct lab_vm *v, uint32_t writes);

/*
 * `growth_bytes_per_s` is the budget: the migration's share of its link while the base is copied; 0: what Ω allows. To be
 * called before the overlay is on top, with the guest running; sets the first limit. Then lab_loop_step(), first when the overlay
 * is there, as often as one likes: it ticks when it is time to, and returns whether it did.
 */
void lab_loop_begin(struct lab_loop *l, struct lab_vm *v, uint64_t omega_bytes, uint64_t growth_bytes_per_s, double tick_s,
                    uint32_t late_percent, uint32_t max_stall_ms);
bool lab_loop_step(struct lab_loop *l);
struct migbuf_buffer_view lab_loop_view(const struct lab_loop *l);
void lab_loop_end(struct lab_loop *l);

/* The guest's disk with its overlay committed into it holds every acknowledged write; the VM is over then. */
void lab_check_writes(struct lab_vm *v);
#endif
