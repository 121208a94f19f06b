/* SPDX-License-Identifier: MIT */
/*
 * One QEMU process with the writing guest, started the way LXD starts its own: a disk node lxd_root, a device
 * dev-lxd_root (and another of each for a second disk), a monitor on a unix socket, `-incoming defer` for the target of
 * a migration. Guest memory is a shared file, so that the guest's status block can be read without the monitor. Speaks
 * no QMP.
 */
#ifndef EVACUATE_VM_H
#define EVACUATE_VM_H
#include "process.h"
#include "writer.h"

enum vm_device { VM_VIRTIO_BLK, VM_VIRTIO_SCSI, VM_NVME };

struct vm_config {
    const char *directory;    /* made if missing; holds qmp, memory, log; socket paths must stay below 108 bytes */
    const char *image;        /* the disk */
    const char *second_image; /* of another disk, or NULL */
    enum vm_device device;    /* of the disks; the writing guest knows the first two */
    const char *format;       /* "raw" or "qcow2"; NULL: raw */
    const char *kernel;       /* the guest program */
    const char *append;       /* its arguments; source and target of a migration need the same */
    const char *program;      /* NULL: qemu-system-x86_64 */
    const char *werror;       /* NULL: QEMU's default, which pauses the guest when the disk is full */
    uint32_t ram_mib;         /* 0: 16; the same on both sides */
    bool kvm;                 /* else TCG */
    bool incoming;            /* waits for migrate-incoming */
    bool outlives;            /* us: vm_adopt() finds it again */
    bool no_merging;          /* request-merging=off: adjacent queued writes do not become one request */
    bool second_monitor;      /* for another hand: DIRECTORY/qmp2 */
    const char *const *extra; /* more arguments, NULL-terminated, or NULL */
};

struct vm {
    struct process process; /* process.pidfd becomes readable when QEMU has ended */
    int log_fd, memory_fd;  /* memory_fd: for writer_status() */
    char qmp[108];          /* path of the monitor's socket; it is there a few milliseconds after the start */
    char log[512], memory[512], life[512];
};

#define VM_DISKS_MAX GUEST_MAX_DISKS
#define VM_DISK_NODE "lxd_root" /* the first disk's */

/* The node of disk k; and its device as block_set_io_throttle wants it, which with virtio-blk is not the id given to
 * -device: that is a proxy without a backend of its own. */
const char *vm_disk_node(uint32_t disk);
const char *vm_disk_qdev(enum vm_device device, uint32_t disk);

/*
 * Before anything is begun: do QEMU (NULL: qemu-system-x86_64) and, where it is wanted, the qemu-img that belongs to it run,
 * and can QEMU be told these paths? Waits for both programs.
 */
int vm_check_programs(const char *program, bool image_tool, char error[FAIL_SIZE]);
int vm_check_path(const char *path, char error[FAIL_SIZE]);

/* The qemu-img that belongs to a QEMU stands beside it; else the one in PATH. */
#define VM_PROGRAM_SIZE 320
void vm_image_tool(const char *program, char path[VM_PROGRAM_SIZE]);

/* Starts QEMU; the thread rule of process_start() holds. Paths with a comma, a quote or a backslash are refused. */
int vm_start(struct vm *vm, const struct vm_config *config, char error[FAIL_SIZE]);

/* The VM that another program started with `outlives` in this directory. 1: it is there, 0: it is not, -1: failed. */
int vm_adopt(struct vm *vm, const char *directory, char error[FAIL_SIZE]);

/* Still there? When it has ended, `error` (if not NULL) says how, with the last of what QEMU printed. Never blocks. */
bool vm_runs(struct vm *vm, char *error);

/*
 * From the loop: vm_end_begin() once, then vm_end_step() until it says false. Or vm_end(), which waits and cleans up:
 * not while a connection of this VM goes through a proxy of ours (link.h), as QEMU says goodbye on it before it ends
 * and would wait for us until it is killed.
 */
void vm_end_begin(struct vm *vm, uint64_t now, uint32_t grace_ms);
bool vm_end_step(struct vm *vm, uint64_t now);
void vm_end(struct vm *vm, uint32_t grace_ms);

/* Ends QEMU at once if it still runs, closes descriptors, removes socket and memory file; the log stays. Twice is fine.
 */
void vm_release(struct vm *vm);

/* Processor time used so far, all threads; 0 when it cannot be read. */
uint64_t vm_cpu_ms(const struct vm *vm);
#endif
