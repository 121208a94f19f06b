/* SPDX-License-Identifier: MIT */
/* cow: what the kernel says of overlays and of the volume they lie on, by descriptor. Opens no path of the caller's, and keeps
 * no descriptor. Decides nothing. */
#include "migbuf/cow.h"
#include "memory.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ZFS_MAGIC 0x2fc12fc1 /* OpenZFS, include/os/linux/zfs/sys/zfs_vfsops_os.h; not in linux/magic.h */
/* In linux/magic.h of newer kernels, or in none. */
#ifndef XFS_MAGIC
#define XFS_MAGIC 0x58465342
#endif
#define BCACHEFS_MAGIC 0xca451a4e
#ifndef FUSE_MAGIC
#define FUSE_MAGIC 0x65735546
#endif
#ifndef CEPH_MAGIC
#define CEPH_MAGIC 0x00c36400
#endif
#define STEP_BYTES (UINT64_C(1) << 20)

/* An overlay by its descriptor. Of anything but a file the block count says 0, or what a directory takes. */
static int overlay_bytes(int fd, uint32_t flags, uint64_t *bytes, struct migbuf_error *error)
{
    struct stat st;

    if (fstat(fd, &st))
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "fstat of an overlay failed", errno);
    if (S_ISBLK(st.st_mode))
        return migbuf__fail(
            error, MIGBUF_E_UNSUPPORTED,
            "a block device has no allocated bytes: take file_highest_offset of migbuf_report_all_writes");
    if (!S_ISREG(st.st_mode))
        return migbuf__fail(error, MIGBUF_E_UNSUPPORTED,
                            "an overlay is a file: this is a directory, a pipe or a socket");
    *bytes = (uint64_t)st.st_blocks * 512;
    if (flags & MIGBUF_COW_LAGS && (uint64_t)st.st_size > *bytes)
        *bytes = (uint64_t)st.st_size;
    return 0;
}

int migbuf_cow_file_bytes(int fd, uint64_t *bytes, struct migbuf_error *error)
{
    if (!bytes)
        return migbuf__fail(error, MIGBUF_E_INVALID, "nowhere to write the size to");
    return overlay_bytes(fd, 0, bytes, error);
}

/* Whatever is not in the volume itself lies in a file system of the kernel's own: a device in that of /dev. */
static int check_volume(int fd, struct migbuf_error *error)
{
    struct stat st;

    if (fstat(fd, &st))
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "fstat of the buffer volume failed", errno);
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return migbuf__fail(error, MIGBUF_E_UNSUPPORTED, "the buffer volume is found by a directory or a file in it");
    return 0;
}

int migbuf_cow_volume(int fd, struct migbuf_volume *volume, struct migbuf_error *error)
{
    struct statvfs v;
    int rc;

    if (!volume)
        return migbuf__fail(error, MIGBUF_E_INVALID, "nowhere to write the sizes to");
    rc = check_volume(fd, error);
    if (rc < 0)
        return rc;
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
    full->free_bytes = fits * STEP_BYTES;
}

static int has_project(int fd)
{
    struct fsxattr attributes = { .fsx_projid = 0 };

    return !ioctl(fd, FS_IOC_FSGETXATTR, &attributes) && attributes.fsx_projid;
}

/* ext2 to ext4, and XFS: trying would take all there is from everybody else on it. */
static int is_ext_or_xfs(const struct statfs *type)
{
    return type->f_type == EXT4_SUPER_MAGIC || type->f_type == XFS_SUPER_MAGIC;
}

/* A file without a name to try it with. FUSE without FUSE_TMPFILE, older ZFS, NFS and others have none: fd -1 and 0, where
 * one may write there all the same. */
static int open_nameless(int dir_fd, int *fd, struct migbuf_error *error)
{
    *fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (*fd >= 0)
        return 0;
    if ((errno == EOPNOTSUPP || errno == EISDIR || errno == ENOSYS) && !faccessat(dir_fd, ".", W_OK | X_OK, AT_EACCESS))
        return 0;
    return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "a file in the buffer volume cannot be made", errno);
}

MIGBUF__SELDOM int migbuf_cow_when_full(int dir_fd, struct migbuf_full *full, struct migbuf_error *error)
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
    found.free_bytes = volume.free_bytes;
    if (fstatfs(dir_fd, &type))
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "statfs of the buffer volume failed", errno);
    rc = open_nameless(dir_fd, &fd, error);
    if (rc)
        return rc;
    if (type.f_type == TMPFS_MAGIC || (is_ext_or_xfs(&type) && !has_project(dir_fd)))
        found.kind = MIGBUF_FULL_STOPS;
    else if (type.f_type != ZFS_MAGIC && !is_ext_or_xfs(&type) && fd < 0)
        found.kind = MIGBUF_FULL_UNKNOWN;
    else if (type.f_type != ZFS_MAGIC && !is_ext_or_xfs(&type))
        probe(fd, volume.free_bytes, &found);
    if (fd >= 0)
        close(fd);
    *full = found;
    return 0;
}

int migbuf_cow_sizes(const int32_t *fds, size_t count, uint32_t flags, uint64_t *bytes, struct migbuf_error *error)
{
    if (count && (!fds || !bytes))
        return migbuf__fail(error, MIGBUF_E_INVALID, "nowhere to write the sizes to");
    for (int pass = 0; pass < 2; pass++) /* the first only looks whether all can be asked */
        for (size_t k = 0; k < count; k++) {
            uint64_t allocated = 0;
            int rc = overlay_bytes(fds[k], flags, &allocated, error);

            if (rc < 0) {
                if (error)
                    error->need = k;
                return rc;
            }
            if (pass)
                bytes[k] = allocated;
        }
    return 0;
}

static const struct {
    uint32_t magic;
    char name[16];
    uint32_t flags;
} known[] = {
    { EXT4_SUPER_MAGIC, "ext4", 0 },
    { TMPFS_MAGIC, "tmpfs", 0 },
    { XFS_MAGIC, "xfs", MIGBUF_COW_PREALLOCATES },
    { BTRFS_SUPER_MAGIC, "btrfs", MIGBUF_COW_COPIES },
    { ZFS_MAGIC, "zfs", MIGBUF_COW_LAGS | MIGBUF_COW_COMPRESSES | MIGBUF_COW_COPIES },
    { BCACHEFS_MAGIC, "bcachefs", MIGBUF_COW_COMPRESSES | MIGBUF_COW_COPIES },
    { F2FS_SUPER_MAGIC, "f2fs", MIGBUF_COW_COMPRESSES },
    { OVERLAYFS_SUPER_MAGIC, "overlay", MIGBUF_COW_UNKNOWN },
    { FUSE_MAGIC, "fuse", MIGBUF_COW_UNKNOWN | MIGBUF_COW_LAGS },
    { NFS_SUPER_MAGIC, "nfs", MIGBUF_COW_UNKNOWN | MIGBUF_COW_LAGS },
    { CEPH_MAGIC, "ceph", MIGBUF_COW_UNKNOWN | MIGBUF_COW_LAGS },
};

/* The mount an open file came by: its line in /proc/self/mountinfo, with the options of mount and file system. */
static int find_mount(int fd, char *line, size_t size)
{
    char path[64];
    int id = -1, found = 0;
    FILE *f;

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    f = fopen(path, "re");
    while (f && id < 0 && fgets(line, (int)size, f))
        if (sscanf(line, "mnt_id: %d", &id) != 1)
            id = -1;
    if (f)
        fclose(f);
    f = id >= 0 ? fopen("/proc/self/mountinfo", "re") : NULL;
    while (f && !found && fgets(line, (int)size, f)) {
        int this_id;

        found = sscanf(line, "%d ", &this_id) == 1 && this_id == id;
    }
    if (f)
        fclose(f);
    return found;
}

static int btrfs_compresses(int fd)
{
    char line[4096];
    int attributes = 0;

    if (!ioctl(fd, FS_IOC_GETFLAGS, &attributes) && attributes & FS_COMPR_FL)
        return 1;
    return find_mount(fd, line, sizeof line) && (strstr(line, ",compress=") || strstr(line, ",compress-force="));
}

int migbuf_cow_filesystem(int fd, struct migbuf_filesystem *filesystem, struct migbuf_error *error)
{
    struct migbuf_filesystem f = { .flags = MIGBUF_COW_UNKNOWN };
    struct statfs s;
    int rc;

    if (!filesystem)
        return migbuf__fail(error, MIGBUF_E_INVALID, "nowhere to write it to");
    rc = check_volume(fd, error);
    if (rc < 0)
        return rc;
    while (fstatfs(fd, &s))
        if (errno != EINTR)
            return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "statfs of the buffer volume failed", errno);
    f.magic = (uint32_t)s.f_type;
    for (size_t k = 0; k < sizeof known / sizeof *known; k++)
        if (known[k].magic == f.magic) {
            memcpy(f.name, known[k].name, sizeof f.name);
            f.flags = known[k].flags;
        }
    if (!strcmp(f.name, "btrfs") && btrfs_compresses(fd))
        f.flags |= MIGBUF_COW_COMPRESSES;
    *filesystem = f;
    return 0;
}
