/* SPDX-License-Identifier: MIT */
/* cow: sizes by descriptor. */
#include "migbuf/cow.h"
#include "memory.h"
#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

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
