/* SPDX-License-Identifier: MIT */
/*
 * The buffer volume: a real file system of fixed size, on which a full disk is a full disk (ENOSPC, as QEMU's default
 * needs it; a quota would give EDQUOT). Nothing of it outlives the program and its children, however they end.
 */
#ifndef EVACUATE_VOLUME_H
#define EVACUATE_VOLUME_H
#include "fail.h"
#include <stdbool.h>
#include <sys/types.h>

enum volume_kind { VOLUME_NONE, VOLUME_EXT4, VOLUME_TMPFS, VOLUME_GIVEN };

struct volume {
    enum volume_kind kind;
    uint64_t
        size_bytes;  /* what files could take when it was new: less than was asked for with ext4, exact with tmpfs */
    char path[256];  /* where files go */
    char image[256]; /* the file below an ext4 */
    uint64_t total_bytes;  /* of its file system, when looked at last */
    bool fails;            /* a write that finds no room is an error to the guest: a quota, not a full disk */
    uint64_t others_bytes; /* given: what was free when it was taken, beside its size */
};

/*
 * Moves this process, and every child started later, to a mount namespace of its own: what is mounted in it goes away
 * with the last process in it, also after SIGKILL (and is not seen from outside; `nsenter -t PID -m` looks in). Without
 * the right to do so, a user namespace is tried, in which only tmpfs can be mounted. Call it once, before any thread.
 */
int volume_private_mounts(char error[FAIL_SIZE]);

/*
 * Moves this process to where another one is: after it, the volume that process sees is seen here. For a program that
 * comes back to the children of one that died. The working directory stays. Call it once, before any thread.
 */
int volume_join_mounts(pid_t pid, char error[FAIL_SIZE]);

/*
 * Makes DIRECTORY/volume: ext4 (no journal, nothing reserved for root) on a file DIRECTORY/volume.img whose blocks are
 * all allocated, or, where there are no loop devices or the directory's disk is too small for that file, a tmpfs. Takes
 * some tens of milliseconds and waits for mkfs and mount. `kind` asks for one of them; VOLUME_NONE: the best.
 */
int volume_make(struct volume *volume, const char *directory, uint64_t bytes, enum volume_kind kind,
                char error[FAIL_SIZE]);

/* The volume that volume_make() made there, with this kind and size: joined mounts have it already. */
int volume_adopt(struct volume *volume, const char *directory, enum volume_kind kind, uint64_t size_bytes,
                 char error[FAIL_SIZE]);

/*
 * Takes a directory that is there already, on whatever it is; DIRECTORY/volume is a link to it. Where a quota bounds
 * it, its size is that less a sixteenth, at least 2 MiB: what the file system itself adds counts against a quota as
 * well.
 */
int volume_use(struct volume *volume, const char *directory, const char *given, char error[FAIL_SIZE]);

/* Used + free is size_bytes (used counts from the empty volume). About 1 us. */
int volume_usage(const struct volume *volume, uint64_t *used_bytes, uint64_t *free_bytes, char error[FAIL_SIZE]);

/* Has somebody made it larger since? Then its size says so from now on. */
bool volume_has_grown(struct volume *volume);

/* Unmounts and removes. Files still open keep their space until they are closed. Fine when there is nothing. */
void volume_remove(struct volume *volume);

/* At the start: unmounts and removes what a killed earlier run left in this directory. Only our two names are touched.
 */
void volume_clean(const char *directory);
#endif
