/* SPDX-License-Identifier: MIT */
/* One token bucket, flows that take turns. Deficit round robin with equal quanta; see link.h for what is counted. */
#include "link.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define QUANTUM 65536u
#define BUFFER 131072u
#define RUN_BYTES (8u << 20)  /* over the link in one link_run() */
#define SCAN_BYTES (4u << 20) /* of zero blocks looked at, for one copy in one link_run() */
#define BACK_BYTES (1u << 20) /* the way back, for one proxy in one link_run() */
#define CONNECT_RETRY_MS 5

/* One direction of a proxy. Bytes [begin, end) wait to be written. */
struct direction {
    uint8_t *buffer;
    uint32_t begin, end;
    bool eof;     /* nothing more comes in */
    bool done;    /* and what came has gone out, or cannot */
    bool blocked; /* the receiver's buffer was full: poll for it */
};

struct flow {
    bool proxy;
    enum link_phase phase;
    struct link_flow_state state;
    char error[FAIL_SIZE];

    /* copy; the block is data read from [position, position + length) of which `gone` bytes are sent, or a hole */
    int source, target;
    uint64_t size, position, length, gone, data_end;
    bool hole;
    uint32_t scanned;
    uint8_t *block;

    /* proxy */
    int listener, client, server;
    struct sockaddr_un listen_at, connect_to;
    struct direction forward, back;
};

struct link {
    struct link_config config;
    double level;  /* tokens, in bytes */
    uint64_t last; /* when they were last counted; 0: never */
    uint64_t sent, waited;
    struct flow **flow;
    size_t capacity;
    size_t turn; /* whose turn it is, and how much of it is left */
    uint32_t turn_left;
    double need; /* > 0: the flow whose turn it is waits for that many tokens */
    bool more;   /* work is left that needs no waiting */
};

static double burst(const struct link *link)
{
    double bytes = link->config.burst_bytes ? (double)link->config.burst_bytes : (double)link->config.bytes_per_s / 50;

    return bytes < 4096 ? 4096 : bytes;
}

/* The smallest piece worth a wake-up: half a burst, so that the other half can build up while we are late. */
static double piece(const struct link *link)
{
    double half = burst(link) / 2;

    return half > QUANTUM ? QUANTUM : half;
}

static uint32_t quantum(const struct link *link)
{
    return link->config.bytes_per_s ? (uint32_t)piece(link) : QUANTUM;
}

struct link *link_new(const struct link_config *config)
{
    struct link *link = calloc(1, sizeof *link);

    if (!link)
        return NULL;
    link->config = *config;
    link->turn_left = quantum(link);
    return link;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_flow(struct flow *f)
{
    if (f->listener >= 0)
        unlink(f->listen_at.sun_path);
    close_fd(&f->source), close_fd(&f->target), close_fd(&f->listener), close_fd(&f->client), close_fd(&f->server);
    free(f->block), free(f->forward.buffer), free(f->back.buffer);
    f->block = f->forward.buffer = f->back.buffer = NULL;
}

static void finish(struct flow *f, enum link_phase phase)
{
    close_flow(f);
    f->phase = phase;
}

void link_remove(struct link *link, int flow)
{
    if (flow < 0 || (size_t)flow >= link->capacity || !link->flow[flow])
        return;
    close_flow(link->flow[flow]);
    free(link->flow[flow]);
    link->flow[flow] = NULL;
    link->need = 0; /* it may have been the one that waited; the next run finds out who does now */
    link->more = true;
}

void link_free(struct link *link)
{
    if (!link)
        return;
    for (size_t i = 0; i < link->capacity; i++)
        link_remove(link, (int)i);
    free(link->flow);
    free(link);
}

void link_set_rate(struct link *link, uint64_t bytes_per_s)
{
    link->config.bytes_per_s = bytes_per_s;
    if (link->level > burst(link))
        link->level = burst(link);
    if (link->turn_left > quantum(link))
        link->turn_left = quantum(link);
    link->need = 0;
    link->more = true;
}

/* A place for one more flow. */
static int place(struct link *link, struct flow *f, char error[FAIL_SIZE])
{
    struct flow **grown;
    size_t i = 0, more = link->capacity ? link->capacity * 2 : 16;

    while (i < link->capacity && link->flow[i])
        i++;
    if (i == link->capacity) {
        grown = realloc(link->flow, more * sizeof(struct flow *));
        if (!grown)
            return fail(error, "out of memory");
        memset(grown + i, 0, (more - i) * sizeof(struct flow *));
        link->flow = grown;
        link->capacity = more;
    }
    link->flow[i] = f;
    link->more = true;
    return (int)i;
}

static struct flow *new_flow(bool proxy)
{
    struct flow *f = calloc(1, sizeof *f);

    if (!f)
        return NULL;
    f->proxy = proxy;
    f->source = f->target = f->listener = f->client = f->server = -1;
    if (proxy) {
        f->forward.buffer = malloc(BUFFER);
        f->back.buffer = malloc(BUFFER);
    } else {
        f->block = malloc(QUANTUM);
    }
    if (proxy ? f->forward.buffer && f->back.buffer : f->block != NULL)
        return f;
    close_flow(f);
    free(f);
    return NULL;
}

/* --- copies ------------------------------------------------------------------------------------------------------- */

/* The next extent of data at or after `at`: false when there is none. A file system without holes has one extent. */
static bool next_extent(int fd, uint64_t at, uint64_t size, uint64_t *begin, uint64_t *end)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA), hole;

    if (data < 0 && errno == ENXIO)
        return false;
    hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
    *begin = data < 0 ? at : (uint64_t)data;
    *end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
    return *begin < size;
}

static uint64_t data_bytes(int fd, uint64_t size)
{
    uint64_t begin, end, sum = 0;

    for (uint64_t at = 0; at < size && next_extent(fd, at, size, &begin, &end); at = end)
        sum += end - begin;
    return sum;
}

int link_add_copy(struct link *link, int source_fd, int target_fd, char error[FAIL_SIZE])
{
    struct flow *f;
    struct stat s;
    int id;

    if (fstat(source_fd, &s))
        return fail(error, "fstat of the file to copy: %s", strerror(errno));
    if (ftruncate(target_fd, 0) || ftruncate(target_fd, s.st_size))
        return fail(error, "making the copy %lld bytes long: %s", (long long)s.st_size, strerror(errno));
    f = new_flow(false);
    id = f ? place(link, f, error) : fail(error, "out of memory");
    if (id < 0) {
        if (f)
            close_flow(f);
        free(f);
        return -1;
    }
    f->source = source_fd;
    f->target = target_fd;
    f->phase = LINK_ACTIVE;
    f->size = (uint64_t)s.st_size;
    f->state.remaining_bytes = link->config.count_holes ? f->size : data_bytes(source_fd, f->size);
    return id;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    return !*bytes && !memcmp(bytes, bytes + 1, n - 1);
}

/* Bytes of the file that need not be sent: passed by, or (count_holes) sent without being there. */
static void pass_hole(const struct link *link, struct flow *f, uint64_t bytes, bool was_data)
{
    f->state.skipped_bytes += bytes;
    if (link->config.count_holes) {
        f->length = bytes, f->gone = 0, f->hole = true;
        return;
    }
    if (was_data)
        f->state.remaining_bytes -= bytes < f->state.remaining_bytes ? bytes : f->state.remaining_bytes;
    f->position += bytes;
}

static int read_block(struct flow *f)
{
    uint64_t want = f->data_end - f->position < QUANTUM ? f->data_end - f->position : QUANTUM;
    ssize_t n;

    do
        n = pread(f->source, f->block, (size_t)want, (off_t)f->position);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        fail(f->error, "reading the file to copy at %llu: %s", (unsigned long long)f->position,
             n < 0 ? strerror(errno) : "it became shorter");
        finish(f, LINK_FAILED);
        return -1;
    }
    f->length = (uint64_t)n, f->gone = 0, f->hole = false;
    return 0;
}

/* No data from here on: because the rest is a hole, not because somebody cut the file. */
static int rest_is_hole(struct flow *f)
{
    struct stat s;

    if (!fstat(f->source, &s) && (uint64_t)s.st_size >= f->size)
        return 0;
    fail(f->error, "reading the file to copy at %llu: it became shorter", (unsigned long long)f->position);
    finish(f, LINK_FAILED);
    return -1;
}

/* Makes the next block ready. Returns whether something was done that may lead on to a block. */
static bool next_block(struct link *link, struct flow *f)
{
    uint64_t begin;

    if (f->position >= f->size) {
        f->state.remaining_bytes = 0;
        finish(f, LINK_DONE);
        return false;
    }
    if (f->position >= f->data_end) {
        if (!next_extent(f->source, f->position, f->size, &begin, &f->data_end)) {
            if (rest_is_hole(f))
                return false;
            begin = f->data_end = f->size;
        }
        if (begin > f->position) {
            pass_hole(link, f, begin - f->position, false);
            return true;
        }
    }
    if (f->scanned >= SCAN_BYTES) {
        link->more = true;
        return false;
    }
    if (read_block(f))
        return false;
    if (is_zero(f->block, (size_t)f->length)) {
        uint64_t bytes = f->length;

        f->length = 0;
        f->scanned += (uint32_t)bytes;
        pass_hole(link, f, bytes, true);
    }
    return true;
}

static uint64_t copy_pending(struct link *link, struct flow *f)
{
    while (f->phase == LINK_ACTIVE && f->gone == f->length) {
        f->position += f->length;
        f->length = f->gone = 0;
        if (!next_block(link, f))
            return 0;
    }
    return f->length - f->gone;
}

static uint64_t copy_send(struct flow *f, uint64_t bytes)
{
    ssize_t n = (ssize_t)bytes;

    if (!f->hole) {
        do
            n = pwrite(f->target, f->block + f->gone, (size_t)bytes, (off_t)(f->position + f->gone));
        while (n < 0 && errno == EINTR);
    }
    if (n <= 0) {
        fail(f->error, "writing the copy at %llu: %s", (unsigned long long)(f->position + f->gone), strerror(errno));
        finish(f, LINK_FAILED);
        return 0;
    }
    f->gone += (uint64_t)n;
    f->state.remaining_bytes -= (uint64_t)n < f->state.remaining_bytes ? (uint64_t)n : f->state.remaining_bytes;
    return (uint64_t)n;
}

/* --- proxies ------------------------------------------------------------------------------------------------------ */

static int set_address(struct sockaddr_un *address, const char *path, char error[FAIL_SIZE])
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (!*path || strlen(path) >= sizeof address->sun_path)
        return fail(error, "%s: too long (or empty) for a unix socket", path);
    memcpy(address->sun_path, path, strlen(path) + 1);
    return 0;
}

static int start_listening(struct flow *f, char error[FAIL_SIZE])
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fail(error, "socket: %s", strerror(errno));
    if (bind(fd, (const struct sockaddr *)&f->listen_at, sizeof f->listen_at) || listen(fd, 1)) {
        fail(error, "listening on %s: %s", f->listen_at.sun_path, strerror(errno));
        close(fd);
        return -1;
    }
    f->listener = fd;
    return 0;
}

int link_add_proxy(struct link *link, const char *listen_path, const char *connect_path, char error[FAIL_SIZE])
{
    struct flow *f = new_flow(true);
    int id = -1;

    if (!f)
        return fail(error, "out of memory");
    if (!set_address(&f->listen_at, listen_path, error) && !set_address(&f->connect_to, connect_path, error) &&
        !start_listening(f, error))
        id = place(link, f, error);
    if (id >= 0)
        return id;
    close_flow(f);
    free(f);
    return -1;
}

static void accept_client(struct flow *f)
{
    f->client = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (f->client < 0) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            fail(f->error, "accept on %s: %s", f->listen_at.sun_path, strerror(errno));
            finish(f, LINK_FAILED);
        }
        return;
    }
    unlink(f->listen_at.sun_path);
    close_fd(&f->listener);
    f->phase = LINK_ACTIVE;
}

static void connect_server(struct flow *f)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd >= 0 && !connect(fd, (const struct sockaddr *)&f->connect_to, sizeof f->connect_to)) {
        f->server = fd;
        return;
    }
    if (fd < 0 || (errno != EAGAIN && errno != EINTR)) { /* EAGAIN: the server's queue is full, try again */
        fail(f->error, "connecting to %s: %s", f->connect_to.sun_path, strerror(errno));
        finish(f, LINK_FAILED);
    }
    if (fd >= 0)
        close(fd);
}

/* The receiver is gone: what is on its way is lost, and nothing more is taken from the sender. */
static void break_off(struct flow *f, struct direction *d, int from, const char *who)
{
    if (!*f->error)
        fail(f->error, "%s hung up early: %s", who, strerror(errno));
    d->begin = d->end = 0;
    d->eof = d->done = true;
    shutdown(from, SHUT_RD);
}

static void take_in(struct flow *f, struct direction *d, int from, const char *who)
{
    ssize_t n;

    if (d->eof || d->begin < d->end)
        return;
    d->begin = d->end = 0;
    n = recv(from, d->buffer, BUFFER, MSG_DONTWAIT);
    if (n > 0) {
        d->end = (uint32_t)n;
    } else if (!n) {
        d->eof = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        if (!*f->error)
            fail(f->error, "reading from %s: %s", who, strerror(errno));
        d->eof = true;
    }
}

static uint32_t give_out(struct flow *f, struct direction *d, int from, int to, uint32_t bytes, const char *who)
{
    ssize_t n = send(to, d->buffer + d->begin, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

    d->blocked = n < 0 && errno == EAGAIN;
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        break_off(f, d, from, who);
    if (n <= 0)
        return 0;
    d->begin += (uint32_t)n;
    return (uint32_t)n;
}

/* Passes the end of a direction on once all before it has gone out. */
static void close_direction(struct direction *d, int to)
{
    if (d->done || !d->eof || d->begin < d->end)
        return;
    shutdown(to, SHUT_WR);
    d->done = true;
}

static void move_back(struct link *link, struct flow *f)
{
    struct direction *d = &f->back;
    uint32_t moved = 0;

    d->blocked = false;
    while (moved < BACK_BYTES && !d->done) {
        uint32_t n;

        take_in(f, d, f->server, "the server");
        if (d->begin == d->end)
            break;
        n = give_out(f, d, f->server, f->client, d->end - d->begin, "the client");
        if (!n)
            break;
        moved += n;
    }
    if (moved >= BACK_BYTES)
        link->more = true;
    f->state.back_bytes += moved;
    close_direction(d, f->client);
}

/* Everything about a proxy that costs no tokens. */
static void move_proxy(struct link *link, struct flow *f)
{
    if (f->phase == LINK_WAITING)
        accept_client(f);
    if (f->phase == LINK_ACTIVE && f->server < 0)
        connect_server(f);
    if (f->phase == LINK_ACTIVE && f->server >= 0)
        move_back(link, f);
    f->forward.blocked = false;
}

static uint64_t proxy_pending(struct flow *f)
{
    struct direction *d = &f->forward;

    if (f->phase != LINK_ACTIVE || f->server < 0 || d->done)
        return 0;
    take_in(f, d, f->client, "the client");
    close_direction(d, f->server);
    return d->blocked ? 0 : d->end - d->begin;
}

static void end_proxy(struct flow *f)
{
    if (f->proxy && f->phase == LINK_ACTIVE && f->forward.done && f->back.done)
        finish(f, LINK_DONE);
}

/* --- the bucket and the turns ------------------------------------------------------------------------------------- */

static double level_at(const struct link *link, uint64_t now)
{
    double level = link->level;

    if (link->last && now > link->last)
        level += (double)(now - link->last) / 1e9 * (double)link->config.bytes_per_s;
    return level > burst(link) ? burst(link) : level;
}

static void refill(struct link *link, uint64_t now)
{
    link->level = link->last ? level_at(link, now) : burst(link);
    if (link->last && link->need > 0 && now > link->last)
        link->waited += now - link->last;
    if (now > link->last)
        link->last = now;
    link->need = 0;
    link->more = false;
}

static void next_turn(struct link *link)
{
    link->turn = link->capacity ? (link->turn + 1) % link->capacity : 0;
    link->turn_left = quantum(link);
}

static uint64_t pending(struct link *link, struct flow *f)
{
    if (!f || (f->phase != LINK_ACTIVE))
        return 0;
    return f->proxy ? proxy_pending(f) : copy_pending(link, f);
}

static uint64_t send_some(struct flow *f, uint64_t bytes)
{
    uint64_t n;

    if (f->proxy)
        n = give_out(f, &f->forward, f->client, f->server, (uint32_t)bytes, "the server");
    else
        n = copy_send(f, bytes);
    f->state.sent_bytes += n;
    return n;
}

/* One piece for the flow whose turn it is. Returns bytes sent; 0 with link->need set: wait for the bucket. */
static uint64_t take_turn(struct link *link)
{
    struct flow *f = link->flow[link->turn];
    uint64_t ready = pending(link, f), bytes = ready < link->turn_left ? ready : link->turn_left, n;
    double enough = (double)bytes < piece(link) ? (double)bytes : piece(link);

    if (!bytes)
        return 0;
    if (link->config.bytes_per_s && link->level < enough) {
        link->need = enough;
        return 0;
    }
    if (link->config.bytes_per_s && (double)bytes > link->level)
        bytes = (uint64_t)link->level;
    n = send_some(f, bytes);
    link->sent += n;
    link->turn_left -= (uint32_t)n;
    if (link->config.bytes_per_s)
        link->level -= (double)n;
    return n;
}

static void share_out(struct link *link)
{
    uint64_t sent = 0;
    size_t idle = 0; /* turns in a row that had nothing to send */

    while (idle < link->capacity && sent < RUN_BYTES) {
        uint64_t n = take_turn(link);

        if (link->need > 0)
            break;
        sent += n;
        idle = n ? 0 : idle + 1;
        if (!n || !link->turn_left)
            next_turn(link);
    }
    if (sent >= RUN_BYTES)
        link->more = true;
}

void link_run(struct link *link, uint64_t now)
{
    refill(link, now);
    for (size_t i = 0; i < link->capacity; i++) {
        struct flow *f = link->flow[i];

        if (!f)
            continue;
        f->scanned = 0;
        if (f->proxy && f->phase <= LINK_ACTIVE)
            move_proxy(link, f);
    }
    share_out(link);
    for (size_t i = 0; i < link->capacity; i++)
        if (link->flow[i])
            end_proxy(link->flow[i]);
}

/* --- what the caller's loop sees ---------------------------------------------------------------------------------- */

struct wanted {
    struct pollfd *fds;
    size_t capacity, count;
    int *timeout_ms;
};

static void wake_in(struct wanted *w, int ms)
{
    if (*w->timeout_ms < 0 || *w->timeout_ms > ms)
        *w->timeout_ms = ms;
}

/* No entry without events: poll reports POLLHUP even when nothing was asked, and the loop would spin on it. */
static void want(struct wanted *w, int fd, short events)
{
    if (!events)
        return;
    if (w->count == w->capacity) {
        wake_in(w, 2);
        return;
    }
    w->fds[w->count++] = (struct pollfd){ .fd = fd, .events = events };
}

static void want_proxy(const struct link *link, const struct flow *f, struct wanted *w)
{
    bool stuck = link->need > 0; /* no tokens: then a ready receiver is no news */
    int client = 0, server = 0;

    if (f->phase == LINK_WAITING)
        want(w, f->listener, POLLIN);
    if (f->phase != LINK_ACTIVE)
        return;
    if (f->server < 0) {
        wake_in(w, CONNECT_RETRY_MS);
        return;
    }
    if (f->forward.begin < f->forward.end)
        server |= stuck ? 0 : POLLOUT;
    else if (!f->forward.eof)
        client |= stuck ? 0 : POLLIN;
    if (f->back.begin < f->back.end)
        client |= POLLOUT;
    else if (!f->back.eof)
        server |= POLLIN;
    want(w, f->client, (short)client);
    want(w, f->server, (short)server);
}

size_t link_poll_max(const struct link *link)
{
    size_t n = 0;

    for (size_t i = 0; i < link->capacity; i++)
        n += link->flow[i] && link->flow[i]->proxy ? 2 : 0;
    return n;
}

size_t link_poll_prepare(const struct link *link, struct pollfd *fds, size_t capacity, uint64_t now, int *timeout_ms)
{
    struct wanted w = { .fds = fds, .capacity = capacity, .timeout_ms = timeout_ms };

    for (size_t i = 0; i < link->capacity; i++)
        if (link->flow[i] && link->flow[i]->proxy)
            want_proxy(link, link->flow[i], &w);
    if (link->more) {
        wake_in(&w, 0);
    } else if (link->need > 0) {
        double missing = link->need - level_at(link, now);
        double ms = missing > 0 ? ceil(missing * 1000 / (double)link->config.bytes_per_s) : 0;

        wake_in(&w, ms > 1000 ? 1000 : (int)ms);
    }
    return w.count;
}

struct link_flow_state link_flow(const struct link *link, int flow)
{
    struct link_flow_state state = { .phase = LINK_FAILED, .error = "no such flow" };

    if (flow < 0 || (size_t)flow >= link->capacity || !link->flow[flow])
        return state;
    state = link->flow[flow]->state;
    state.phase = link->flow[flow]->phase;
    state.error = link->flow[flow]->error;
    return state;
}

uint64_t link_sent_bytes(const struct link *link)
{
    return link->sent;
}

uint64_t link_waited_ns(const struct link *link)
{
    return link->waited;
}
