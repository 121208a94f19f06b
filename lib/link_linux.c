/* SPDX-License-Identifier: MIT */
/* link_linux: what the kernel knows about a link. The only file of this room with system calls. */
#include "migbuf/link.h"
#include "memory.h"
#include <string.h>

#if defined(__linux__)
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
/* glibc's <netinet/tcp.h> has an old struct tcp_info without the fields that count. */
#include <linux/tcp.h>

#define ESTABLISHED 1 /* TCP_ESTABLISHED, which the kernel's headers keep to themselves */
#define ANSWER_WITHIN_S 1

/* <linux/mptcp.h> of 5.16, which is newer than the headers of some systems. */
#define PROTOCOL_MPTCP 262
#define LEVEL_MPTCP 284
#define SUBFLOWS_INFO 2  /* MPTCP_TCPINFO */
#define SUBFLOWS_MOST 16 /* the kernel has 8 */
struct subflows {
    uint32_t head_bytes, count, kernel_bytes, info_bytes; /* struct mptcp_subflow_data */
    struct tcp_info info[SUBFLOWS_MOST];
};

static const char old_kernel[] = "this kernel does not tell a connection's rate and busy time";

/* From a tcp_info of which the kernel filled `length` bytes. */
static int read_info(const struct tcp_info *info, size_t length, struct migbuf_link_tcp *tcp, struct migbuf_error *error)
{
    if (length < offsetof(struct tcp_info, tcpi_busy_time) + sizeof info->tcpi_busy_time)
        return migbuf__fail(error, MIGBUF_E_UNSUPPORTED, old_kernel);
    *tcp = (struct migbuf_link_tcp){
        .acked_bytes = info->tcpi_bytes_acked,
        .delivery_bytes_per_s = info->tcpi_delivery_rate,
        .unsent_bytes = info->tcpi_notsent_bytes,
        .busy_us = info->tcpi_busy_time,
        .flags = info->tcpi_delivery_rate_app_limited ? MIGBUF_LINK_AT_LEAST : 0,
    };
    return 0;
}

/* The sum of a multipath connection's subflows: TCP_INFO tells about the first one only. 0 where it is a plain one. */
static int read_subflows(int fd, struct migbuf_link_tcp *tcp, struct migbuf_error *error)
{
    struct subflows s = { .head_bytes = offsetof(struct subflows, info), .info_bytes = sizeof s.info[0] };
    struct migbuf_link_tcp sum = { .flags = MIGBUF_LINK_AT_LEAST }, one = { .flags = 0 };
    socklen_t length = sizeof s, protocol_bytes = sizeof(int);
    int protocol = 0;

    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &protocol_bytes) < 0 || protocol != PROTOCOL_MPTCP ||
        getsockopt(fd, LEVEL_MPTCP, SUBFLOWS_INFO, &s, &length) < 0 || s.count == 0)
        return 0; /* a peer that speaks TCP only is served by one flow, which has no subflows */
    for (uint32_t i = 0; i < s.count && i < SUBFLOWS_MOST; i++) {
        int rc =
            read_info(&s.info[i], s.kernel_bytes < sizeof s.info[i] ? s.kernel_bytes : sizeof s.info[i], &one, error);

        if (rc < 0)
            return rc;
        sum.acked_bytes += one.acked_bytes;
        sum.delivery_bytes_per_s += one.delivery_bytes_per_s;
        sum.unsent_bytes += one.unsent_bytes;
        sum.busy_us = one.busy_us > sum.busy_us ? one.busy_us : sum.busy_us;
        sum.flags &= one.flags; /* one that waits for the link says that the link is the limit */
    }
    *tcp = sum;
    return 1;
}

int migbuf_link_tcp(int fd, struct migbuf_link_tcp *tcp, struct migbuf_error *error)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    int rc;

    if (!tcp)
        return migbuf__fail(error, MIGBUF_E_INVALID, "no place for the result");
    rc = read_subflows(fd, tcp, error);
    if (rc)
        return rc < 0 ? rc : 0;
    memset(&info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0) {
        int e = errno;

        return migbuf__fail_errno(error, e == ENOPROTOOPT || e == EOPNOTSUPP ? MIGBUF_E_UNSUPPORTED : MIGBUF_E_SYSTEM,
                                  "the kernel has no TCP information about this descriptor", e);
    }
    return read_info(&info, length, tcp, error);
}

/* ---- connections of others ---- */

/* An address and a port as one looks for them; IPv4 is kept as ::ffff:a.b.c.d. */
struct end {
    uint8_t address[16];
    uint32_t zone; /* the interface of a link-local address; 0: any */
    uint16_t port; /* 0: any */
    uint8_t any;   /* any address */
};

static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

static int parse_port(const char *text, uint16_t *port)
{
    char *rest;
    unsigned long number = *text >= '0' && *text <= '9' ? strtoul(text, &rest, 10) : 0;

    if (!number || number > 65535 || *rest)
        return -1;
    *port = (uint16_t)number;
    return 0;
}

/* "eth0" or "2". */
static int parse_zone(const char *text, uint32_t *zone)
{
    char *rest = NULL;

    *zone = if_nametoindex(text);
    if (!*zone && *text >= '1' && *text <= '9')
        *zone = (uint32_t)strtoul(text, &rest, 10);
    return *zone && (!rest || !*rest) ? 0 : -1;
}

static int parse_end(const char *text, struct end *end)
{
    char address[MIGBUF_LINK_ADDRESS], *zone;
    const char *from = text, *to, *port;

    *end = (struct end){ .any = 1 };
    if (!text)
        return 0;
    if (*text == '[') {
        from = text + 1;
        to = strchr(text, ']');
        port = to ? to + 1 : NULL;
    } else {
        to = strchr(text, ':');
        if (to && strchr(to + 1, ':')) /* IPv6 without brackets has no port */
            to = NULL;
        to = to ? to : text + strlen(text);
        port = to;
    }
    if (!to || (*port && *port != ':') || (size_t)(to - from) >= sizeof address ||
        (*port && parse_port(port + 1, &end->port)) || (to == from && (!*port || *text == '[')))
        return -1;
    if (to == from)
        return 0;
    memcpy(address, from, (size_t)(to - from));
    address[to - from] = 0;
    end->any = 0;
    zone = strchr(address, '%');
    if (zone) {
        *zone = 0;
        return inet_pton(AF_INET6, address, end->address) == 1 ? parse_zone(zone + 1, &end->zone) : -1;
    }
    memcpy(end->address, mapped, sizeof mapped);
    return inet_pton(AF_INET, address, end->address + 12) == 1 || inet_pton(AF_INET6, address, end->address) == 1 ? 0 : -1;
}

/* One side of a socket as the kernel has it. Only for link-local addresses is the interface a part of them. */
static void take_end(int family, const __be32 *address, __be16 port, uint32_t interface, struct end *end)
{
    *end = (struct end){ .port = ntohs(port) };
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)address))
        end->zone = interface;
    if (family == AF_INET)
        memcpy(end->address, mapped, sizeof mapped);
    memcpy(end->address + (family == AF_INET ? 12 : 0), address, family == AF_INET ? 4 : 16);
}

static int matches(const struct end *wanted, const struct end *found)
{
    return (wanted->any || !memcmp(wanted->address, found->address, sizeof found->address)) &&
           (!wanted->zone || wanted->zone == found->zone) && (!wanted->port || wanted->port == found->port);
}

static void write_end(const struct end *end, char text[MIGBUF_LINK_ADDRESS])
{
    char address[INET6_ADDRSTRLEN] = "", zone[IF_NAMESIZE] = "";
    int v4 = !memcmp(end->address, mapped, sizeof mapped);

    inet_ntop(v4 ? AF_INET : AF_INET6, end->address + (v4 ? 12 : 0), address, sizeof address);
    if (v4)
        snprintf(text, MIGBUF_LINK_ADDRESS, "%s:%u", address, end->port);
    else if (end->zone && if_indextoname(end->zone, zone))
        snprintf(text, MIGBUF_LINK_ADDRESS, "[%.39s%%%.15s]:%u", address, zone, end->port);
    else
        snprintf(text, MIGBUF_LINK_ADDRESS, "[%s]:%u", address, end->port);
}

/* What is looked for, and what was found so far. */
struct search {
    struct end local, remote;
    struct migbuf_link_connection *list;
    uint64_t capacity, found;
    int untold; /* a kernel that leaves out what we need */
};

/* One answer of the kernel's: a socket with its attributes. */
static void take_socket(struct search *s, const struct nlmsghdr *h)
{
    const struct inet_diag_msg *m = NLMSG_DATA(h);
    struct migbuf_link_connection c = { .cookie = m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32 };
    const char *at = (const char *)(m + 1), *end = (const char *)h + h->nlmsg_len;
    struct end local, remote;
    int told = 0;

    take_end(m->idiag_family, m->id.idiag_src, m->id.idiag_sport, m->id.idiag_if, &local);
    take_end(m->idiag_family, m->id.idiag_dst, m->id.idiag_dport, m->id.idiag_if, &remote);
    if (!matches(&s->local, &local) || !matches(&s->remote, &remote))
        return;
    while (at + sizeof(struct rtattr) <= end) {
        const struct rtattr *a = (const struct rtattr *)(const void *)at;

        if (a->rta_len < sizeof *a || at + a->rta_len > end)
            break;
        if (a->rta_type == INET_DIAG_INFO) {
            struct tcp_info info = { 0 };
            size_t length = a->rta_len - sizeof *a < sizeof info ? a->rta_len - sizeof *a : sizeof info;

            memcpy(&info, at + sizeof *a, length);
            told = !read_info(&info, length, &c.tcp, NULL);
        }
        at += RTA_ALIGN(a->rta_len);
    }
    s->untold |= !told;
    write_end(&local, c.local);
    write_end(&remote, c.remote);
    if (s->found < s->capacity)
        s->list[s->found] = c;
    s->found++;
}

/* Asks for all sockets of a family and takes them. 0, or -1 with errno. */
static int ask_family(int fd, uint8_t family, struct search *s)
{
    struct {
        struct nlmsghdr h;
        struct inet_diag_req_v2 r;
    } request = { .h = { .nlmsg_len = sizeof request, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
                  .r = { .sdiag_family = family,
                         .sdiag_protocol = IPPROTO_TCP,
                         .idiag_ext = 1 << (INET_DIAG_INFO - 1),
                         .idiag_states = 1 << ESTABLISHED } };
    union {
        struct nlmsghdr h;
        char bytes[32768];
    } answer;

    if (send(fd, &request, sizeof request, 0) < 0)
        return -1;
    for (;;) {
        ssize_t n = recv(fd, &answer, sizeof answer, 0);
        int64_t left; /* the last one's padding may be missing: below 0 then */

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        left = n;
        for (const struct nlmsghdr *h = &answer.h; left > 0 && NLMSG_OK(h, (size_t)left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR) {
                errno = h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr)) ? -((const struct nlmsgerr *)NLMSG_DATA(h))->error
                                                                             : EPROTO;
                return -1;
            }
            if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
                take_socket(s, h);
        }
    }
}

static int ask_kernel(struct search *s, struct migbuf_error *error)
{
    struct timeval limit = { .tv_sec = ANSWER_WITHIN_S };
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), rc, e;

    if (fd < 0)
        return migbuf__fail_errno(error, errno == EPROTONOSUPPORT ? MIGBUF_E_UNSUPPORTED : MIGBUF_E_SYSTEM,
                                  "the kernel does not tell about other processes' connections", errno);
    rc = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) || ask_family(fd, AF_INET, s);
    e = errno;
    if (!rc && ask_family(fd, AF_INET6, s) && errno != ENOENT) /* a kernel without IPv6 */
        rc = -1, e = errno;
    close(fd);
    if (!rc)
        return 0;
    return migbuf__fail_errno(error, e == EAGAIN || e == EWOULDBLOCK ? MIGBUF_E_TIMEOUT : e == ENOENT ? MIGBUF_E_UNSUPPORTED : MIGBUF_E_SYSTEM,
                              "the kernel does not tell about other processes' connections", e);
}

MIGBUF__SELDOM int migbuf_link_connections(const char *local, const char *remote, struct migbuf_link_connection *list,
                                           size_t capacity, struct migbuf_error *error)
{
    struct search s = { .list = NULL };
    int rc;

    if (!list && capacity)
        return migbuf__fail(error, MIGBUF_E_INVALID, "no place for the result");
    if (parse_end(local, &s.local) || parse_end(remote, &s.remote))
        return migbuf__fail(error, MIGBUF_E_INVALID, "this is no address: ADDRESS:PORT, ADDRESS or :PORT");
    rc = ask_kernel(&s, error); /* counts; the second time fills */
    if (rc)
        return rc;
    if (s.untold)
        return migbuf__fail(error, MIGBUF_E_UNSUPPORTED, old_kernel);
    if (s.found > capacity)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "there are more connections than places for them", s.found,
                                    capacity);
    s = (struct search){ .local = s.local, .remote = s.remote, .list = list, .capacity = capacity };
    rc = ask_kernel(&s, error);
    if (rc)
        return rc;
    return (int)(s.found < capacity ? s.found : capacity); /* one may have come in between */
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

int migbuf_link_connections(const char *local, const char *remote, struct migbuf_link_connection *list,
                            size_t capacity, struct migbuf_error *error)
{
    (void)local;
    (void)remote;
    (void)list;
    (void)capacity;
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
