/* SPDX-License-Identifier: MIT */
/* link_linux: what the kernel knows about a link. The only file of this room with system calls. */
#include "migbuf/link.h"
#include "memory.h"
#include <string.h>

#if defined(__linux__)
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
/* glibc's <netinet/tcp.h> has an old struct tcp_info without the fields that count. */
#include <linux/tcp.h>

int migbuf_link_tcp(int fd, struct migbuf_link_tcp *tcp, struct migbuf_error *error)
{
    struct tcp_info info;
    socklen_t length = sizeof info;

    if (!tcp)
        return migbuf__fail(error, MIGBUF_E_INVALID, "no place for the result");
    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) {
        int e = errno;

        return migbuf__fail_errno(error, e == ENOPROTOOPT || e == EOPNOTSUPP ? MIGBUF_E_UNSUPPORTED : MIGBUF_E_SYSTEM,
                                  "the kernel has no TCP information about this descriptor", e);
    }
    if (length < offsetof(struct tcp_info, tcpi_delivery_rate) + sizeof info.tcpi_delivery_rate)
        return migbuf__fail(error, MIGBUF_E_UNSUPPORTED, "this kernel does not tell a connection's delivery rate");
    *tcp = (struct migbuf_link_tcp){
        .acked_bytes = info.tcpi_bytes_acked,
        .delivery_bytes_per_s = info.tcpi_delivery_rate,
        .unsent_bytes = info.tcpi_notsent_bytes,
        .flags = info.tcpi_delivery_rate_app_limited ? MIGBUF_LINK_AT_LEAST : 0,
    };
    return 0;
}

/* One number from a file of one line. 0, or -1 with errno. */
static int read_number(const char *card, const char *file, uint64_t *number)
{
    char path[96], text[32];
    ssize_t length;
    int fd, e;

    snprintf(path, sizeof path, "/sys/class/net/%s/%s", card, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    length = read(fd, text, sizeof text);
    e = errno;
    close(fd);
    errno = e;
    if (length <= 0)
        return -1;
    *number = 0;
    for (ssize_t k = 0; k < length && text[k] >= '0' && text[k] <= '9'; k++)
        *number = 10 * *number + (uint64_t)(text[k] - '0');
    return 0;
}

int migbuf_link_card(const char *name, uint64_t *tx_bytes, uint64_t *speed_bytes_per_s, struct migbuf_error *error)
{
    uint64_t tx, megabits = 0;

    if (!name || !*name || strlen(name) > 15 || strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
        return migbuf__fail(error, MIGBUF_E_INVALID, "this is no name of a network card");
    if (read_number(name, "statistics/tx_bytes", &tx)) {
        int e = errno;

        return migbuf__fail_errno(error, e == ENOENT || e == ENODEV ? MIGBUF_E_NOTFOUND : MIGBUF_E_SYSTEM,
                                  "the counters of this network card cannot be read", e);
    }
    /* Reading it fails with EINVAL where there is no carrier, and it shows -1 where the driver does not know. */
    if (read_number(name, "speed", &megabits))
        megabits = 0;
    if (tx_bytes)
        *tx_bytes = tx;
    if (speed_bytes_per_s)
        *speed_bytes_per_s = megabits * 125000;
    return 0;
}

#else

int migbuf_link_tcp(int fd, struct migbuf_link_tcp *tcp, struct migbuf_error *error)
{
    (void)fd;
    (void)tcp;
    return migbuf__fail(error, MIGBUF_E_UNSUPPORTED, "only on Linux");
}

int migbuf_link_card(const char *name, uint64_t *tx_bytes, uint64_t *speed_bytes_per_s, struct migbuf_error *error)
{
    (void)name;
    (void)tx_bytes;
    (void)speed_bytes_per_s;
    return migbuf__fail(error, MIGBUF_E_UNSUPPORTED, "only on Linux");
}
#endif
