/* SPDX-License-Identifier: MIT */
/*
 * lxd_lab: a real LXD or Incus for the tests of the room lxd and of the programs that use it.
 *
 * Everything happens in a mount and a network namespace of our own: the daemon's directory is a tmpfs, its mounts and
 * loop devices go with us, and nothing leaves the machine. For a VM's record LXD wants /dev/kvm, /dev/vsock and
 * modprobe; here they are names. No VM is started by the daemon.
 *
 * Environment: MIGBUF_INCUS, the root Incus was unpacked in (tests/incus.sh).
 */
#ifndef MIGBUF_TESTS_LXD_LAB_H
#define MIGBUF_TESTS_LXD_LAB_H
#include "migbuf/lxd.h"
#include "process.h"
#include "unit.h"
#include <stdbool.h>

enum daemon_kind { DAEMON_LXD, DAEMON_INCUS };

struct daemon {
    enum daemon_kind kind;
    struct process process;
    char directory[64], socket[96], log[64];
};

/* True when there is all it takes; else it has printed the SKIP line. `name` is "lxd" or "incus". */
bool lxd_lab_open(const char *name);
void lxd_lab_close(void);

/* A directory that is ours, on the tmpfs. */
const char *lxd_lab_directory(void);

/* The daemon of lxd_lab_open(), started by it. Ended and started again with the same directory. */
extern struct daemon lxd_lab_daemon;
void lxd_lab_end(void);
bool lxd_lab_start(void); /* false, with a word on stderr, when it does not answer */

bool lxd_lab_is_incus(void);

/* The record of a stopped VM with its root disk in the btrfs pool "b1", which must be there; `config` and `devices` (its root
 * disk first, or none) are JSON. 0, or the error; what the server said is in the handle. */
int lxd_lab_make_vm(struct migbuf_lxd *lxd, const char *name, const char *config, const char *devices);

/* Begins a migration of this VM, which waits for the other side and does not end: returns when the server lists it. The
 * process that asked for it still waits for its end; kill and reap it, or see by its exit status what the call came to:
 * the error's number without its sign. */
pid_t lxd_lab_begin_migration(struct migbuf_lxd *lxd, const char *name);

/* Runs a program to its end with `input` on stdin (NULL: none) and gives stdout and stderr together, at most 64 KiB, in
 * static storage. The exit status, or -1. */
int lxd_lab_run(const char *const argv[], const char *input, const char **output);

/* The tests as one TAP program: opens the lab, runs, closes. */
int lxd_lab_main(const char *suite, const char *daemon, const TTest *const *tests, int seconds);
#endif
