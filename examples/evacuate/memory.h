/* SPDX-License-Identifier: MIT */
/*
 * Memory of one VM on its way: the library's machine (migbuf/ram.h) says which command comes next, and this carries it to
 * the monitor of the source or of the target, and the answer back. Knows no step of a migration, and decides nothing.
 */
#ifndef EVACUATE_MEMORY_H
#define EVACUATE_MEMORY_H
#include "monitor.h"

struct memory {
    struct migbuf_ram *ram; /* NULL: nothing was begun, or everything is as it was */
    struct monitor *monitor[2];
    int32_t kind, side; /* of the command under way; kind 0: none */
    bool gone[2], cancelled, restoring; /* what the machine was told */
    bool unrecorded;    /* the record does not know yet what the machine would tell a program after this one */
    uint64_t revision;  /* of what it knows */
    uint64_t looked_ns; /* when it was last asked how it stands */
    uint32_t looks;     /* since the guest has arrived */
    char refusal[200];  /* what QEMU said last when it refused something */
    /* These stay when the machine is gone. */
    struct migbuf_ram_info info;
    struct migbuf_ram_report last;  /* the source's last figures */
    struct migbuf_attempt attempt;  /* valid once info.state is that of an end */
    uint64_t settings[2][2];        /* checksums of each side's own capabilities and parameters; 0: not read */
};

/* A machine for one migration, which first asks what is set. The monitors stay the caller's. */
int memory_new(struct memory *x, const struct migbuf_agreement *agreement, bool host_decides, char error[FAIL_SIZE]);

/* The same from what the record kept. */
int memory_load(struct memory *x, const char *text, size_t length, char error[FAIL_SIZE]);

/* Moves on as far as it can without waiting, and looks at the migration from time to time. True: it waits for an answer, or
 * for the record; else `info` is of now. Fine without a machine. */
bool memory_drive(struct memory *x, bool recorded, uint64_t now);

/* That QEMU has ended. */
void memory_gone(struct memory *x, int32_t side);

/* The record tells of everything now. */
void memory_recorded(struct memory *x);

/* The machine is no longer needed. Nothing is sent. */
void memory_end(struct memory *x);

/* The checksum of one side's settings, as QEMU tells them. Never 0. */
uint64_t memory_checksum(const char *text, uint64_t bytes);
#endif
