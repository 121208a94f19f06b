/* SPDX-License-Identifier: MIT */
/*
 * The monitor of one QEMU inside our event loop: commands leave and answers arrive when the socket is ready, nothing
 * here waits. Six parties may each have one command under way at a time; what QEMU tells on its own account is kept as
 * facts.
 */
#ifndef EVACUATE_MONITOR_H
#define EVACUATE_MONITOR_H
#include "fail.h"
#include "migbuf/qmp_socket.h"
#include "migbuf/ram.h"
#include <stdbool.h>

/* Who asks. */
enum { CALL_STEP, CALL_DISK, CALL_GUEST, CALL_LOOK, CALL_RAM, CALL_MIRROR, CALL_COUNT };

enum call_state {
    CALL_IDLE,
    CALL_WAITING,
    CALL_ANSWERED, /* text is the value of "return" */
    CALL_REFUSED   /* text is what QEMU said */
};

struct call {
    enum call_state state;
    uint64_t id, deadline_ns;
    char command[40];
    char *text;
    uint64_t text_bytes;
};

/* What events told of one block job. */
struct job {
    char name[64]; /* "": none yet */
    bool ready, ended, cancelled;
    bool stopped;    /* by a write that failed; it does not end by itself */
    char error[256]; /* of one that ended badly, or stopped */
};
#define MONITOR_JOBS 2

/* What events told. */
struct facts {
    bool running;        /* STOP and RESUME; true at the start */
    bool no_space;       /* stopped because a write found no room, until the next RESUME */
    uint32_t overflows;  /* times the guest was stopped or refused for lack of room */
    uint32_t io_errors;  /* other failed writes: the guest was told */
    char io_error[160];  /* the first of them */
    uint32_t thresholds; /* files that reached their threshold */
    struct job job[MONITOR_JOBS];
    uint64_t stop_ns, resume_ns; /* when STOP and RESUME last came; 0: not yet */
    uint32_t exports_deleted;
    char version[24]; /* of QEMU, as it greeted */
};

struct monitor {
    char path[108];
    struct migbuf_qmp_socket *socket; /* NULL before the connection and after the end */
    uint64_t connect_by_ns;           /* 0 once connected */
    struct call call[CALL_COUNT];
    struct facts facts;
    struct migbuf_ram *ram; /* the machine for memory, which hears of events as ram_side's; NULL: none */
    int32_t ram_side;
    bool lost; /* QEMU hung up, a deadline passed, or an answer cannot be read: nothing more is taken */
    uint64_t lost_ns;
    char error[FAIL_SIZE]; /* why */
};

/*
 * How long QEMU may take to answer. It answers from the loop that also drains and flushes: on a host whose disks are busy
 * that took more than 10 s, and a guest must not be given up for it.
 */
#define MONITOR_ANSWER_MS 60000

/* Begins to connect; QEMU may need a moment until its socket is there. */
void monitor_open(struct monitor *m, const char *path, uint64_t now);

/* Hangs up. Fine when it was never opened. */
void monitor_close(struct monitor *m);

/* Connected and negotiated? */
bool monitor_ready(const struct monitor *m);

/* What to poll for; 0: nothing now. */
short monitor_poll(const struct monitor *m, int *fd);

/* Nobody looked for so long: deadlines are so much later. */
void monitor_slept(struct monitor *m, uint64_t ns);

/* Moves what can be moved and looks at the deadlines; sets `lost`. Call it after every poll. */
void monitor_step(struct monitor *m, uint64_t now);

/* Queues a command of one party, whose call must be idle. `arguments` NULL: none. Failure sets `lost`. */
void monitor_send(struct monitor *m, int who, const char *command, const char *arguments, uint64_t now);

/*
 * The same with a descriptor that travels along. QEMU keeps only the newest one it was sent, so nothing else may be
 * under way: false, and nothing was sent, while something is.
 */
bool monitor_send_fd(struct monitor *m, int who, const char *command, const char *arguments, int fd,
                     uint64_t now);

/* The answer was read. */
void monitor_taken(struct monitor *m, int who);

/* A new block job begins, one of MONITOR_JOBS: forget what was told of the last one there. */
void monitor_new_job(struct monitor *m, uint32_t which, const char *name);
#endif
