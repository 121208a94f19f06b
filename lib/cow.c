/* SPDX-License-Identifier: MIT */
/* cow: sizes by descriptor. */
#include "migbuf/cow.h"
#include "memory.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ZFS_MAGIC 0x2fc12fc1 /* OpenZFS, include/os/linux/zfs/sys/zfs_vfsops_os.h; not in linux/magic.h */
#define STEP_BYTES (UINT64_C(1) << 20)

int migbuf_cow_file_bytes(int fd, uint64_t *bytes, struct migbuf_error *error)
{
    struct stat st;

    if (!bytes)
        return migbuf__fail(error, MIGBUF_E_INVALID, "nowhere to write the size to");
    if (fstat(fd, &st))
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "fstat of an overlay failed", errno);
    *bytes = (uint64_t)st.st_blocks * 512;
    return 0;
}

int migbuf_cow_volume(int fd, struct migbuf_volume *volume, struct migbuf_error *error)
{
    struct statvfs v;

    if (!volume)
        return migbuf__fail(error, MIGBUF_E_INVALID, "nowhere to write the sizes to");
    while (fstatvfs(fd, &v))
        if (errno != EINTR)
            return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "statvfs of the buffer volume failed", errno);
    *volume = (struct migbuf_volume){
        .size_bytes = (uint64_t)v.f_blocks * v.f_frsize,
        .free_bytes = (uint64_t)v.f_bavail * v.f_frsize,
        .used_bytes = (uint64_t)(v.f_blocks - v.f_bavail) * v.f_frsize,
    };
    return 0;
}

/* The whole of it at once or nothing; what was allocated is given back. */
static int try_size(int fd, uint64_t bytes)
{
    int rc, reason;

    do
        rc = fallocate(fd, 0, 0, (off_t)bytes);
    while (rc && errno == EINTR);
    reason = rc ? errno : 0;
    while (ftruncate(fd, 0) && errno == EINTR)
        ;
    return reason;
}

static int32_t kind_of(int reason)
{
    return reason == ENOSPC ? MIGBUF_FULL_STOPS : reason == EDQUOT ? MIGBUF_FULL_FAILS : MIGBUF_FULL_UNKNOWN;
}

/* The largest size that can be had, to a MiB, and what a larger one fails with. */
static void probe(int fd, uint64_t free_bytes, struct migbuf_full *full)
{
    uint64_t fits = 0, fails = free_bytes / STEP_BYTES + 1;
    int reason = try_size(fd, fails * STEP_BYTES);

    if (!reason || (reason != ENOSPC && reason != EDQUOT)) { /* no bound there, or no way to ask */
        full->kind = MIGBUF_FULL_UNKNOWN;
        return;
    }
    while (fails - fits > 1) {
        uint64_t middle = fits + (fails - fits) / 2;
        int why = try_size(fd, middle * STEP_BYTES);

        if (!why)
            fits = middle;
        else
            fails = middle, reason = why;
    }
    full->kind = kind_of(reason);
    full->room_bytes = fits * STEP_BYTES;
}

static int has_project(int fd)
{
    struct fsxattr attributes = { .fsx_projid = 0 };

    return !ioctl(fd, FS_IOC_FSGETXATTR, &attributes) && attributes.fsx_projid;
}

int migbuf_cow_when_full(int dir_fd, struct migbuf_full *full, struct migbuf_error *error)
{
    struct migbuf_full found = { .kind = MIGBUF_FULL_FAILS };
    struct migbuf_volume volume;
    struct statfs type;
    int rc, fd;

    if (!full)
        return migbuf__fail(error, MIGBUF_E_INVALID, "nowhere to write the answer to");
    rc = migbuf_cow_volume(dir_fd, &volume, error);
    if (rc)
        return rc;
    found.room_bytes = volume.free_bytes;
    if (fstatfs(dir_fd, &type))
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "statfs of the buffer volume failed", errno);
    fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0)
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "a file in the buffer volume cannot be made", errno);
    if (type.f_type == TMPFS_MAGIC)
        found.kind = MIGBUF_FULL_STOPS;
    else if (type.f_type != ZFS_MAGIC && !has_project(dir_fd))
        probe(fd, volume.free_bytes, &found);
    close(fd);
    *full = found;
    return 0;
}
