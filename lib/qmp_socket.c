/* SPDX-License-Identifier: MIT */
/*
 * qmp_socket: carries the engine's bytes over a unix socket, with deadlines. The only QMP file with system calls, and
 * nothing but system calls: what the bytes mean is qmp.c's.
 *
 * Reads and writes use MSG_DONTWAIT rather than O_NONBLOCK, because an adopted descriptor's flags may be shared.
 */
#include "migbuf/qmp_socket.h"
#include "memory.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES 16384
#define READS_PER_STEP 16
#define RETRY_CONNECT_MS 5
#define NS_PER_MS 1000000

struct migbuf_qmp_socket {
    struct migbuf_allocator allocator;
    struct migbuf_qmp *engine;
    int fd;
    int passing;       /* a descriptor that has to go with the next byte, -1: none */
    bool closed;       /* the peer sent its last byte, or what counts as such */
    bool write_broken; /* the peer takes no more bytes; what it has sent by then may still be read */
    int unread;        /* so many bytes are left of that */
    size_t held;       /* bytes that were read but not fed, for want of memory */
    char bytes[READ_BYTES];
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t deadline_in(uint32_t timeout_ms)
{
    return now_ns() + (int64_t)timeout_ms * NS_PER_MS;
}

/* poll() that survives signals: > 0 ready, 0 the deadline has passed, ready or not. */
static int wait_ready(int fd, short events, int64_t deadline)
{
    struct pollfd p = { .fd = fd, .events = events };
    int64_t left;

    while ((left = deadline - now_ns()) > 0) {
        int64_t ms = (left + NS_PER_MS - 1) / NS_PER_MS; /* rounded up, so that it does not end before */
        int n = poll(&p, 1, ms > INT_MAX ? INT_MAX : (int)ms);

        if (n > 0 || (n < 0 && errno != EINTR))
            return n;
    }
    return 0;
}

static bool would_block(int e)
{
    return e == EAGAIN || e == EWOULDBLOCK;
}

static int fail_engine(struct migbuf_error *error, int code)
{
    switch (code) {
    case MIGBUF_E_PROTOCOL:
        return migbuf__fail(error, code, "the peer does not speak QMP");
    case MIGBUF_E_TOO_BIG:
        return migbuf__fail(error, code, "the peer sent a message longer than max_message_bytes");
    case MIGBUF_E_CLOSED:
        return migbuf__fail(error, code, "the peer closed the monitor connection");
    default:
        return migbuf__fail(error, code, migbuf_strerror(code));
    }
}

static int fail_timeout(const struct migbuf_qmp_socket *s, struct migbuf_error *error)
{
    if (migbuf_qmp_is_ready(s->engine) == 1)
        return migbuf__fail(error, MIGBUF_E_TIMEOUT, "no answer before the deadline");
    return migbuf__fail(error, MIGBUF_E_TIMEOUT,
                        "connected, but no greeting before the deadline: most likely another client holds the monitor");
}

/* ---- moving bytes ---- */

static int send_failed(struct migbuf_qmp_socket *s, struct migbuf_error *error)
{
    if (would_block(errno))
        return 0;
    if (errno != EPIPE && errno != ECONNRESET)
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "cannot send to the monitor", errno);
    s->write_broken = true;
    if (ioctl(s->fd, FIONREAD, &s->unread) < 0)
        s->unread = 0;
    return 0;
}

/* Sends the first bytes of the output together with fd. Returns 1 when they left, 0 when there is no room. */
static int send_with_fd(struct migbuf_qmp_socket *s, int fd, struct migbuf_error *error)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    const char *bytes = NULL;
    uint64_t count = 0;
    struct iovec part;
    struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes };
    ssize_t n;
    int rc = migbuf_qmp_output(s->engine, &bytes, &count);

    if (rc < 0)
        return fail_engine(error, rc);
    part = (struct iovec){ .iov_base = (char *)(uintptr_t)bytes, .iov_len = (size_t)count };
    m.msg_controllen = sizeof control.bytes;
    control.header =
        (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    do
        n = sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return send_failed(s, error);
    migbuf_qmp_sent(s->engine, (uint64_t)n);
    return 1;
}

static int send_pending(struct migbuf_qmp_socket *s, struct migbuf_error *error)
{
    const char *bytes;
    uint64_t count;
    int rc;

    if (s->passing >= 0 && !s->write_broken) {
        rc = send_with_fd(s, s->passing, error);
        if (rc != 1)
            return rc;
        close(s->passing);
        s->passing = -1;
    }
    while ((rc = migbuf_qmp_output(s->engine, &bytes, &count)) == 0 && count && !s->write_broken) {
        ssize_t n = send(s->fd, bytes, (size_t)count, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return send_failed(s, error);
        migbuf_qmp_sent(s->engine, (uint64_t)n);
    }
    return rc < 0 ? fail_engine(error, rc) : 0;
}

static int feed(struct migbuf_qmp_socket *s, size_t count, struct migbuf_error *error)
{
    int rc = migbuf_qmp_feed(s->engine, s->bytes, count);

    s->held = rc == MIGBUF_E_NOMEM ? count : 0;
    return rc < 0 ? fail_engine(error, rc) : 0;
}

/* A short read means that the socket is empty: no second system call to find that out. */
static int receive(struct migbuf_qmp_socket *s, struct migbuf_error *error)
{
    int rc = s->held ? feed(s, s->held, error) : 0;
    bool empty = false;

    for (int i = 0; i < READS_PER_STEP && rc == 0 && !s->closed && !empty; i++) {
        ssize_t n = recv(s->fd, s->bytes, sizeof s->bytes, MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) /* the caller looks at its deadline and comes back */
            return 0;
        if (n < 0 && !would_block(errno) && errno != ECONNRESET)
            return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "cannot read from the monitor", errno);
        if (n > 0)
            rc = feed(s, (size_t)n, error);
        else
            s->closed = n == 0 || !would_block(errno);
        empty = n < (ssize_t)sizeof s->bytes;
        s->unread -= n > 0 ? (int)n : 0;
    }
    if (s->write_broken && (empty || s->unread <= 0)) /* nobody is there to talk to, even if it goes on talking */
        s->closed = true;
    return rc;
}

static bool has_output(const struct migbuf_qmp_socket *s)
{
    const char *bytes;
    uint64_t count;

    return !s->write_broken && migbuf_qmp_output(s->engine, &bytes, &count) == 0 && count;
}

/* One round: send, wait until something happens, receive. */
static int turn(struct migbuf_qmp_socket *s, int64_t deadline, struct migbuf_error *error)
{
    int rc = s->closed ? fail_engine(error, MIGBUF_E_CLOSED) : send_pending(s, error);

    if (rc < 0)
        return rc;
    rc = s->held || s->write_broken ? now_ns() < deadline
                                    : wait_ready(s->fd, (short)migbuf_qmp_socket_wanted(s), deadline);
    if (rc == 0)
        return fail_timeout(s, error);
    if (rc < 0)
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "cannot wait for the monitor", errno);
    return receive(s, error);
}

/* ---- opening and closing ---- */

static int set_address(struct sockaddr_un *address, const char *path, struct migbuf_error *error)
{
    size_t bytes = strlen(path) + 1;

    *address = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (!*path) /* the kernel would take it for an abstract address made of NULs */
        return migbuf__fail(error, MIGBUF_E_INVALID, "the path is empty");
    if (bytes > sizeof address->sun_path)
        return migbuf__fail_numbers(error, MIGBUF_E_TOO_BIG, "the path is longer than a unix socket's address can hold",
                                    bytes, sizeof address->sun_path);
    memcpy(address->sun_path, path, bytes);
    return 0;
}

/* A unix connect() does not wait for its turn when non-blocking: EAGAIN means that the queue of the listener is full,
 * and nothing tells when it is not. */
static int connect_until(int fd, const struct sockaddr_un *address, int64_t deadline, struct migbuf_error *error)
{
    while (connect(fd, (const struct sockaddr *)address, sizeof *address) < 0) {
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "cannot connect to the monitor's socket", errno);
        if (now_ns() >= deadline)
            return migbuf__fail(error, MIGBUF_E_TIMEOUT,
                                "the monitor accepts no connection: most likely other clients hold it and wait for it");
        poll(NULL, 0, RETRY_CONNECT_MS);
    }
    return 0;
}

static int connect_path(const char *path, int64_t deadline, struct migbuf_error *error)
{
    struct sockaddr_un address;
    int rc = set_address(&address, path, error);
    int fd;

    if (rc < 0)
        return rc;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "cannot create a socket", errno);
    rc = connect_until(fd, &address, deadline, error);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

static int new_socket(int fd, const struct migbuf_qmp_options *options, const struct migbuf_allocator *allocator,
                      struct migbuf_qmp_socket **out)
{
    struct migbuf_allocator a = migbuf__allocator(allocator);
    struct migbuf_qmp *engine;
    struct migbuf_qmp_socket *s;
    int rc = migbuf_qmp_new(options, allocator, &engine);

    if (rc < 0)
        return rc;
    s = migbuf__resize(&a, NULL, 0, 1, sizeof *s);
    if (!s) {
        migbuf_qmp_free(engine);
        return MIGBUF_E_NOMEM;
    }
    s->allocator = a;
    s->engine = engine;
    s->fd = fd;
    s->passing = -1;
    s->closed = s->write_broken = false;
    s->unread = 0;
    s->held = 0;
    *out = s;
    return 0;
}

int migbuf_qmp_socket_open(const char *path, const struct migbuf_qmp_options *options,
                           const struct migbuf_allocator *allocator, uint32_t timeout_ms, struct migbuf_qmp_socket **s,
                           struct migbuf_error *error)
{
    int64_t deadline = deadline_in(timeout_ms);
    struct migbuf_qmp_socket *made;
    int fd, rc;

    if (!path || !s)
        return migbuf__fail(error, MIGBUF_E_INVALID, "path and the output must not be NULL");
    fd = connect_path(path, deadline, error);
    if (fd < 0)
        return fd;
    rc = new_socket(fd, options, allocator, &made);
    if (rc < 0) {
        close(fd);
        return fail_engine(error, rc);
    }
    while ((rc = migbuf_qmp_is_ready(made->engine)) == 0) {
        rc = turn(made, deadline, error);
        if (rc < 0)
            break;
    }
    if (rc < 0) {
        migbuf_qmp_socket_free(made);
        return rc;
    }
    *s = made;
    return 0;
}

int migbuf_qmp_socket_adopt(int32_t fd, const struct migbuf_qmp_options *options,
                            const struct migbuf_allocator *allocator, struct migbuf_qmp_socket **s,
                            struct migbuf_error *error)
{
    struct migbuf_qmp_socket *made;
    int flags, rc;

    if (!s)
        return migbuf__fail(error, MIGBUF_E_INVALID, "the output must not be NULL");
    flags = fcntl(fd, F_GETFD);
    if (flags < 0)
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "not an open descriptor", errno);
    rc = new_socket(fd, options, allocator, &made);
    if (rc < 0)
        return migbuf__fail(error, rc, migbuf_strerror(rc));
    fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    *s = made;
    return 0;
}

void migbuf_qmp_socket_free(struct migbuf_qmp_socket *s)
{
    struct migbuf_allocator a;

    if (!s)
        return;
    a = s->allocator;
    close(s->fd);
    if (s->passing >= 0)
        close(s->passing);
    migbuf_qmp_free(s->engine);
    migbuf__free(&a, s, sizeof *s);
}

/* ---- calls ---- */

static int judge(const struct migbuf_qmp_message *message, struct migbuf_error *error)
{
    if (message->kind == MIGBUF_QMP_RETURN)
        return 0;
    if (message->kind == MIGBUF_QMP_ERROR)
        return migbuf__fail(error, MIGBUF_E_PEER, "QEMU answered with an error: see the message");
    return migbuf__fail(error, MIGBUF_E_PROTOCOL, "QEMU's answer is not a QMP message");
}

static int pass_on(const struct migbuf_error *met, struct migbuf_error *error)
{
    if (error)
        *error = *met;
    return met->code;
}

/* Waits for the answer to id; if it does not come, it will not be taken for another one's either. */
static int await(struct migbuf_qmp_socket *s, uint64_t id, int64_t deadline, struct migbuf_qmp_message *message,
                 struct migbuf_error *error)
{
    struct migbuf_error met;
    int rc = 0;

    for (;;) {
        int got = migbuf_qmp_reply(s->engine, id, message);

        if (got == 1)
            return judge(message, error);
        if (rc == 0 && got < 0)
            rc = fail_engine(&met, got);
        if (rc < 0) {
            migbuf_qmp_forget(s->engine, id);
            return pass_on(&met, error);
        }
        rc = turn(s, deadline, &met);
    }
}

static int check_call(const struct migbuf_qmp_socket *s, uint32_t timeout_ms, const struct migbuf_qmp_message *message,
                      struct migbuf_error *error)
{
    if (!s || !message)
        return migbuf__fail(error, MIGBUF_E_INVALID, "the handle and the message must not be NULL");
    if (timeout_ms == 0)
        return migbuf__fail(error, MIGBUF_E_RANGE, "a call needs a timeout of at least 1 ms");
    return s->closed ? fail_engine(error, MIGBUF_E_CLOSED) : 0;
}

static int queue_command(struct migbuf_qmp_socket *s, const char *name, const char *arguments, uint64_t *id,
                         struct migbuf_error *error)
{
    int rc = migbuf_qmp_command(s->engine, name, arguments, id);

    if (rc == MIGBUF_E_INVALID)
        return migbuf__fail(error, rc, "not a command name, or the arguments are not one JSON object");
    if (rc == MIGBUF_E_TOO_BIG && migbuf_qmp_is_ready(s->engine) >= 0)
        return migbuf__fail(error, rc, "the arguments are too long, nested too deeply, or of too many values");
    return rc < 0 ? fail_engine(error, rc) : 0;
}

int migbuf_qmp_socket_call(struct migbuf_qmp_socket *s, const char *name, const char *arguments, uint32_t timeout_ms,
                           struct migbuf_qmp_message *message, struct migbuf_error *error)
{
    int64_t deadline = deadline_in(timeout_ms);
    uint64_t id;
    int rc = check_call(s, timeout_ms, message, error);

    if (rc == 0)
        rc = queue_command(s, name, arguments, &id, error);
    return rc < 0 ? rc : await(s, id, deadline, message, error);
}

/* Waits until every command so far has been answered. */
static int settle(struct migbuf_qmp_socket *s, int64_t deadline, struct migbuf_error *error)
{
    int rc;

    while ((rc = migbuf_qmp_is_ready(s->engine)) == 0 || (rc == 1 && migbuf_qmp_pending(s->engine))) {
        rc = turn(s, deadline, error);
        if (rc < 0)
            return rc;
    }
    return rc < 0 ? fail_engine(error, rc) : 0;
}

static int deliver_fd(struct migbuf_qmp_socket *s, int fd, int64_t deadline, struct migbuf_error *error)
{
    for (;;) {
        int rc = send_with_fd(s, fd, error);

        if (rc != 0)
            return rc < 0 ? rc : 0;
        if (s->write_broken)
            return fail_engine(error, MIGBUF_E_CLOSED);
        if (wait_ready(s->fd, POLLOUT, deadline) <= 0)
            return fail_timeout(s, error);
    }
}

int migbuf_qmp_socket_call_fd(struct migbuf_qmp_socket *s, const char *name, const char *arguments, int32_t fd,
                              uint32_t timeout_ms, struct migbuf_qmp_message *message, struct migbuf_error *error)
{
    int64_t deadline = deadline_in(timeout_ms);
    uint64_t id;
    int rc = check_call(s, timeout_ms, message, error);

    if (rc == 0 && fcntl(fd, F_GETFD) < 0)
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "not an open descriptor", errno);
    if (rc == 0)
        rc = settle(s, deadline, error);
    if (rc == 0)
        rc = queue_command(s, name, arguments, &id, error);
    if (rc < 0)
        return rc;
    rc = deliver_fd(s, fd, deadline, error);
    if (rc == 0)
        return await(s, id, deadline, message, error);
    migbuf_qmp_forget(s->engine, id);
    return rc;
}

/* Nothing may be on its way: QEMU keeps only the newest descriptor, and takes it with the first byte it sees. */
int migbuf_qmp_socket_command_fd(struct migbuf_qmp_socket *s, const char *name, const char *arguments, int32_t fd,
                                 uint64_t *id, struct migbuf_error *error)
{
    int passing, rc;

    if (!s || !id)
        return migbuf__fail(error, MIGBUF_E_INVALID, "the handle and the id must not be NULL");
    if (s->closed)
        return fail_engine(error, MIGBUF_E_CLOSED);
    rc = migbuf_qmp_is_ready(s->engine);
    if (rc < 0)
        return fail_engine(error, rc);
    if (!rc || migbuf_qmp_pending(s->engine) || has_output(s))
        return migbuf__fail(error, MIGBUF_E_STATE, "not while another command is on its way");
    passing = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (passing < 0)
        return migbuf__fail_errno(error, MIGBUF_E_SYSTEM, "not an open descriptor", errno);
    rc = queue_command(s, name, arguments, id, error);
    if (rc < 0) {
        close(passing);
        return rc;
    }
    s->passing = passing;
    return send_pending(s, error);
}

int migbuf_qmp_socket_event(struct migbuf_qmp_socket *s, uint32_t timeout_ms, struct migbuf_qmp_message *message,
                            struct migbuf_error *error)
{
    int64_t deadline = deadline_in(timeout_ms);
    struct migbuf_error met;
    int rc;

    if (!s || !message)
        return migbuf__fail(error, MIGBUF_E_INVALID, "the handle and the message must not be NULL");
    rc = timeout_ms ? 0 : migbuf_qmp_socket_step(s, &met);
    for (;;) {
        int got = migbuf_qmp_event(s->engine, message);

        if (got != 0)
            return got == 1 ? 1 : fail_engine(error, got);
        if (rc == MIGBUF_E_TIMEOUT)
            return 0;
        if (rc < 0)
            return pass_on(&met, error);
        rc = turn(s, deadline, &met);
    }
}

/* ---- in the host's loop ---- */

int32_t migbuf_qmp_socket_fd(const struct migbuf_qmp_socket *s)
{
    return s ? s->fd : -1;
}

int32_t migbuf_qmp_socket_wanted(const struct migbuf_qmp_socket *s)
{
    if (!s || s->closed || migbuf_qmp_is_ready(s->engine) < 0)
        return 0;
    return has_output(s) ? POLLIN | POLLOUT : POLLIN;
}

int migbuf_qmp_socket_step(struct migbuf_qmp_socket *s, struct migbuf_error *error)
{
    int rc;

    if (!s)
        return migbuf__fail(error, MIGBUF_E_INVALID, "the handle must not be NULL");
    if (s->closed)
        return fail_engine(error, MIGBUF_E_CLOSED);
    rc = send_pending(s, error);
    if (rc == 0)
        rc = receive(s, error);
    if (rc == 0 && s->closed)
        rc = fail_engine(error, MIGBUF_E_CLOSED);
    return rc;
}

struct migbuf_qmp *migbuf_qmp_socket_engine(struct migbuf_qmp_socket *s)
{
    return s ? s->engine : NULL;
}
