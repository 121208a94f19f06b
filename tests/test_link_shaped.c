/* SPDX-License-Identifier: MIT */
/*
 * U of a link that is known: two network namespaces, a veth pair between them, tc's token bucket on it. The connection
 * belongs to another process and is found by its addresses; estimates are compared with what the bucket lets through, or,
 * where the machine may be slower than the bucket, with what the receiver counted. LINK_REPORT=1: prints them.
 */
#include "migbuf/link.h"
#include "process.h"
#include "unit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT 7070
#define NEAR "10.77.0.1"
#define FAR "10.77.0.2"
#define WINDOW_MS 250
#define CONNECTIONS 512 /* more than all trials make: each has its own counter */

/* What the receiver has counted, per connection; shared with it. */
static volatile uint64_t *received;
static pid_t receiver;

static bool command(const char *text)
{
    char words[256], error[FAIL_SIZE], *rest = words;
    const char *argv[32];
    size_t n = 0;

    snprintf(words, sizeof words, "%s", text);
    while (rest && n < 31)
        argv[n++] = strsep(&rest, " ");
    argv[n] = NULL;
    if (!process_run(argv, PATIENCE_MS, error))
        return true;
    fprintf(stderr, "%s\n", error);
    return false;
}

/* Swallows what comes, in the other namespace, a process per connection. */
static void receive(int listener)
{
    static char block[1 << 18];

    signal(SIGCHLD, SIG_IGN);
    for (uint32_t k = 0;; k++) {
        int fd = accept(listener, NULL, NULL);
        ssize_t n;

        if (fd < 0 || fork())
            continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        while ((n = read(fd, block, sizeof block)) > 0)
            received[k % CONNECTIONS] += (uint64_t)n;
        _exit(0);
    }
}

static const char *set_up(void)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };
    int ready[2], go[2], listener;
    char text[128], c = 0;

    if (geteuid())
        return "namespaces of our own need root";
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("sysfs", "/sys", "sysfs", 0, NULL)) /* which shows the network it was mounted in */
        return "no namespaces of our own";
    received = mmap(NULL, CONNECTIONS * sizeof *received, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pipe(ready) || pipe(go))
        return "no pipe";
    receiver = fork();
    if (!receiver) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWNET) || write(ready[1], "r", 1) != 1 || read(go[0], &c, 1) != 1 ||
            !command("ip addr add " FAR "/24 dev there") || !command("ip link set there up"))
            _exit(1);
        listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 64) || write(ready[1], "r", 1) != 1)
            _exit(1);
        receive(listener);
    }
    if (read(ready[0], &c, 1) != 1)
        return "no second network namespace";
    snprintf(text, sizeof text, "ip link add here type veth peer name there netns %d", receiver);
    if (!command(text) || !command("ip addr add " NEAR "/24 dev here") || !command("ip link set here up") ||
        !command("ip link set lo up") || write(go[1], "g", 1) != 1 || read(ready[0], &c, 1) != 1)
        return "no veth pair: ip (iproute2) is needed, and a kernel with veth";
    for (int k = 0; k < 2; k++)
        close(ready[k]), close(go[k]);
    return NULL;
}

static void shape(const char *rate)
{
    char text[200];

    snprintf(text, sizeof text, "tc qdisc replace dev here root tbf rate %s burst 64kb latency 50ms", rate);
    ck_assert_msg(command(text), "tc does not shape");
}

static uint64_t sum_received(void)
{
    uint64_t sum = 0;

    for (int k = 0; k < CONNECTIONS; k++)
        sum += received[k];
    return sum;
}

static int count_receiving(void)
{
    int n = 0;

    for (int k = 0; k < CONNECTIONS; k++)
        n += received[k] > 0;
    return n;
}

/* A process that sends; with `on_ms` it pauses as long after each such time, with `per_s` it is that slow. */
static pid_t send_for_ever(uint32_t on_ms, uint64_t per_s)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };
    static char block[65536];
    pid_t pid = fork();
    uint64_t start;
    int fd;

    ck_assert_int_ge(pid, 0);
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    inet_pton(AF_INET, FAR, &a.sin_addr);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a))
        _exit(1);
    start = now_ns();
    for (uint64_t sent = 0;; sent += sizeof block) {
        uint64_t ms = (now_ns() - start) / 1000000;

        if (on_ms && ms / on_ms % 2)
            poll(NULL, 0, (int)(on_ms - ms % on_ms));
        while (per_s && sent * 1000 / per_s > (now_ns() - start) / 1000000)
            poll(NULL, 0, 5);
        if (write(fd, block, sizeof block) < 0)
            _exit(0);
    }
}

/* The same, returning when the receiver has got something of it. */
static pid_t start_sender(uint32_t on_ms, uint64_t per_s)
{
    uint64_t until = now_ns() + PATIENCE_S * UINT64_C(1000000000);
    int before = count_receiving();
    pid_t pid = send_for_ever(on_ms, per_s);

    while (count_receiving() == before) {
        ck_assert_msg(now_ns() < until, "nothing is received");
        poll(NULL, 0, 5);
    }
    return pid;
}

/* `connections` of others stay. */
static void stop(pid_t pid, int connections)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (uint64_t until = now_ns() + PATIENCE_S * UINT64_C(1000000000);;) { /* its connection is gone a little later */
        struct migbuf_link_connection c[8];

        if (migbuf_link_connections(NULL, FAR, c, 8, NULL) == connections)
            return;
        ck_assert_msg(now_ns() < until, "its connection does not go");
        poll(NULL, 0, 10);
    }
}


/* What a host does: finds the connections, sums their rates, keeps U. */
struct meter {
    struct migbuf_link link, card;
    struct migbuf_link_tcp_flow flow[8];
    struct migbuf_link_flow card_flow;
    uint64_t cookie[8];
    uint32_t counted, ignored, connections;
    uint64_t at_ms; /* of the last look; 0: none yet */
    double seconds, sum, card_sum; /* U over time: the mean of it is what ticks get */
};

static void meter_init(struct meter *m)
{
    *m = (struct meter){ .counted = 0 };
    migbuf_link_init(&m->link, 0);
    migbuf_link_init(&m->card, 0);
    migbuf_link_flow_init(&m->card_flow);
}

static void look(struct meter *m)
{
    struct migbuf_link_connection c[8];
    uint64_t now = now_ns() / 1000000, tx;
    uint32_t all = 0, flags;
    double sum = 0, rate;
    int n = migbuf_link_connections(NEAR, FAR ":7070", c, 8, NULL), rated = 0;

    ck_assert_int_ge(n, 0);
    m->connections = (uint32_t)n;
    for (int k = 0; k < n; k++) {
        int slot = 0;

        while (slot < 7 && m->cookie[slot] && m->cookie[slot] != c[k].cookie)
            slot++;
        if (m->cookie[slot] != c[k].cookie)
            migbuf_link_tcp_flow_init(&m->flow[slot]);
        m->cookie[slot] = c[k].cookie;
        if (migbuf_link_tcp_update(&m->flow[slot], now, &c[k].tcp, &rate, &flags) == 1)
            sum += rate, all |= flags, rated++;
    }
    if (rated && migbuf_link_update(&m->link, now, sum, all) == 1)
        m->counted++;
    else
        m->ignored += rated > 0;
    ck_assert_int_eq(migbuf_link_card("here", &tx, NULL, NULL), 0);
    if (migbuf_link_flow_update(&m->card_flow, now, tx, &rate) == 1)
        migbuf_link_update(&m->card, now, rate, 0);
    if (migbuf_link_now(&m->link) > 0 && migbuf_link_now(&m->card) > 0) {
        double seconds = m->at_ms ? (double)(now - m->at_ms) / 1000 : 0;

        m->seconds += seconds;
        m->sum += seconds * migbuf_link_now(&m->link);
        m->card_sum += seconds * migbuf_link_now(&m->card);
    }
    m->at_ms = now;
}

/* Looks for a while and gives what the receiver got meanwhile, bytes/s. */
static double watch(struct meter *m, uint32_t ms)
{
    uint64_t from = now_ns(), before = sum_received();

    m->at_ms = 0;
    m->seconds = m->sum = m->card_sum = 0;
    look(m);
    while (now_ns() - from < ms * UINT64_C(1000000)) {
        poll(NULL, 0, WINDOW_MS);
        look(m);
    }
    return (double)(sum_received() - before) * 1e9 / (double)(now_ns() - from);
}

static double mean_u(const struct meter *m)
{
    return m->sum / m->seconds;
}

static double mean_card(const struct meter *m)
{
    return m->card_sum / m->seconds;
}

static void report(const char *what, double truth, const struct meter *m)
{
    if (getenv("LINK_REPORT"))
        printf("# %-34s goodput %10.0f  U %10.0f  off %+5.1f %%  card %10.0f  (%u samples counted, %u said nothing)\n", what,
               truth, mean_u(m), 100 * (mean_u(m) / truth - 1), mean_card(m), m->counted, m->ignored);
}

static char wrong[160];

static bool within(const char *what, double value, double truth, double part)
{
    snprintf(wrong, sizeof wrong, "%s is %.0f, %.1f %% off %.0f", what, value, 100 * (value - truth) / truth, truth);
    return fabs(value - truth) <= part * truth;
}

/*
 * The bucket's rate is known, but a machine that is busy, or whose host is, holds up sender and bucket alike, and what was
 * not sent in time is lost to them. Such a trial says nothing. An estimator that is wrong is wrong in each.
 */
#define TRIALS 12

static void try(bool (*trial)(void))
{
    bool good = false;

    for (int k = 0; k < TRIALS && !good; k++) {
        poll(NULL, 0, k ? 500 : 0);
        good = trial();
    }
    ck_assert_msg(good, "%s, %d times", wrong, TRIALS);
}

/* The bucket counts Ethernet frames: 1448 of 1514 bytes are ours. Measures with a sender that always has something to send,
 * and gives the truth. */
static double measure(const char *rate, double bits_per_s, uint32_t ms, struct meter *m)
{
    double goodput = bits_per_s / 8 * 1448 / 1514, got;
    pid_t sender;

    shape(rate);
    sender = start_sender(0, 0);
    poll(NULL, 0, 300); /* the bucket's first fill */
    meter_init(m);
    got = watch(m, ms);
    stop(sender, 0);
    if (bits_per_s > 5e8)
        goodput = got;
    report(rate, goodput, m);
    ck_assert_uint_eq(m->connections, 1);
    return goodput;
}

static bool measures_ten_megabits(void)
{
    struct meter m;
    double goodput = measure("10mbit", 1e7, 4000, &m);

    return within("U", mean_u(&m), goodput, 0.1) && within("the card's", mean_card(&m), 1e7 / 8, 0.1);
}

START_TEST(ten_megabits)
{
    try(measures_ten_megabits);
}
END_TEST

static bool measures_a_hundred_megabits(void)
{
    struct meter m;
    double goodput = measure("100mbit", 1e8, 3000, &m);

    return within("U", mean_u(&m), goodput, 0.1) && within("the card's", mean_card(&m), 1e8 / 8, 0.1);
}

START_TEST(a_hundred_megabits)
{
    try(measures_a_hundred_megabits);
}
END_TEST

static bool measures_a_thousand_megabits(void)
{
    struct meter m;
    double goodput = measure("1000mbit", 1e9, 2000, &m);

    return within("U", mean_u(&m), goodput, 0.1);
}

START_TEST(a_thousand_megabits_or_what_there_is)
{
    try(measures_a_thousand_megabits);
}
END_TEST

/* Half of the time it sends nothing, then at a tenth of the link: U stays what it was. */
static bool stays(void)
{
    double goodput = 1e8 / 8 * 1448 / 1514, before, half, slow;
    struct meter m;
    pid_t sender;

    shape("100mbit");
    sender = start_sender(0, 0);
    poll(NULL, 0, 300);
    meter_init(&m);
    watch(&m, 1500);
    stop(sender, 0);
    before = migbuf_link_now(&m.link);
    sender = start_sender(500, 0);
    watch(&m, 3000);
    report("100mbit, half of the time", goodput, &m);
    stop(sender, 0);
    half = mean_u(&m);
    sender = start_sender(0, 1200000);
    watch(&m, 2000);
    report("100mbit, a sender of 1.2 MB/s", goodput, &m);
    stop(sender, 0);
    slow = mean_u(&m);
    return within("U", before, goodput, 0.1) && within("U beside pauses", half, goodput, 0.1) &&
           within("U of a slow sender", slow, goodput, 0.1) && within("U after it", migbuf_link_now(&m.link), goodput, 0.15);
}

START_TEST(pauses_and_slow_senders_do_not_lower_it)
{
    try(stays);
}
END_TEST

/* A second connection takes its part: U is the sum of both. */
static bool sums(void)
{
    double goodput = 1e8 / 8 * 1448 / 1514, alone;
    pid_t first, second;
    struct meter m;

    shape("100mbit");
    first = start_sender(0, 0);
    poll(NULL, 0, 300);
    meter_init(&m);
    watch(&m, 1000);
    alone = migbuf_link_now(&m.link);
    second = start_sender(0, 0);
    watch(&m, 2000);
    report("100mbit, two of ours", goodput, &m);
    ck_assert_uint_eq(m.connections, 2);
    stop(second, 1);
    stop(first, 0);
    return within("U of one", alone, goodput, 0.1) && within("U of both", mean_u(&m), goodput, 0.15);
}

START_TEST(two_connections_are_one_link)
{
    try(sums);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { ten_megabits,
                                   a_hundred_megabits,
                                   a_thousand_megabits_or_what_there_is,
                                   pauses_and_slow_senders_do_not_lower_it,
                                   two_connections_are_one_link,
                                   NULL };
    const char *missing = set_up();
    int status = EXIT_SUCCESS;

    if (missing)
        printf("1..0 # SKIP %s\n", missing);
    fflush(stdout);
    if (!missing)
        status = unit_run("link_shaped", tests, WATCHDOG_S);
    if (receiver > 0) {
        kill(receiver, SIGKILL);
        waitpid(receiver, NULL, 0);
    }
    return status;
}
